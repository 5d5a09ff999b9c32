"""Trained models in a folder: one JSON text each, with its card in words beside it.

    joint_model_H8_20250401T0000Z.json    all a forecast takes; named by the first close that may use it
    joint_model_H8_20250401T0000Z.md      the card, for people

A file appears complete and synced, or not at all; a model never takes the place of another one of the same moment. Any
``joint_model*.json`` is read, so a folder written by the horizon search serves as well. What is read carries its own
hash: a file that was edited or cut is refused.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from slipstream.core.forecast.dated_models import DatedModels, usable_from_ms
from slipstream.core.forecast.errors import ModelError
from slipstream.core.forecast.model import JointModel
from slipstream.core.forecast.model_inputs import model_inputs
from slipstream.core.panel import FloatArray, Panel, utc
from slipstream.errors import SlipstreamError

if TYPE_CHECKING:
    from slipstream.core.factors.pca import PCAResult

PATTERN = "joint_model*.json"


class StoreError(SlipstreamError):
    """A model could not be written."""


def load_joint_model(path: str | Path) -> JointModel:
    """The model of a file.

    Raises:
        ModelError: the file is absent or cannot be used as a model.
    """
    place = Path(path)
    try:
        text = place.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        reason = problem.strerror if isinstance(problem, OSError) else "it is not text"
        raise ModelError(f"{place}: cannot be read ({reason}); train a model with: slipstream research train") from None
    return JointModel.from_json(text, str(place))


def predict_joint(model: JointModel, panel: Panel, pca: PCAResult | None = None) -> tuple[FloatArray, FloatArray]:
    """Forecasts of every row: (alpha_price, alpha_funding), each (T, N), fractions of notional per holding period.

    Row t is what the model says at the close t of what was known then. It says nothing of *when* it was trained: use
    :class:`~slipstream.core.forecast.dated_models.DatedModels` where rows before its training must not be forecast.

    Args:
        model: the model.
        panel: bars of the model's length.
        pca: the factor, already estimated with the model's settings; None: estimated from the panel.

    Raises:
        ForecastError: the bars are not the model's, or ``pca`` is of another factor.
    """
    inputs = model_inputs(model, panel.view(), pca)
    forecast = model.predict(inputs.features, inputs.sigma, inputs.funding_sigma)
    return forecast.alpha_price, forecast.funding


def save_models(models: Iterable[JointModel], folder: Path) -> list[Path]:
    """Write models and their cards into a folder, which is made if absent; the paths of the models' files.

    A model that is there already, content for content, is left as it is.

    Raises:
        ModelError: another model of the same horizon and moment is there.
        StoreError: a file cannot be written.
    """
    pending = [(folder / f"{file_stem(model)}.json", model) for model in models]
    for file, model in pending:
        if file.exists() and load_joint_model(file).content_hash != model.content_hash:
            raise ModelError(
                f"{file}: another model of this moment is there, of other data, settings or code; "
                "choose another folder or move it away"
            )
    for file, model in pending:
        if not file.exists():
            _write(file.with_suffix(".md"), card_text(model))
            _write(file, model.to_json() + "\n")
    return [file for file, _ in pending]


def load_models(path: Path, horizon_hours: int | None = None) -> DatedModels:
    """The models of a folder, or of one file.

    Args:
        path: a folder of ``joint_model*.json``, or a file.
        horizon_hours: keep those of this H; None: all, which must be of one H.

    Raises:
        ModelError: there is none, one cannot be used, or they do not go together.
    """
    files = sorted(path.glob(PATTERN)) if path.is_dir() else [path]
    if not files:
        raise ModelError(f"{path}: holds no {PATTERN}; train one with: slipstream research train --out {path}")
    models = [load_joint_model(file) for file in files]
    if horizon_hours is not None:
        there = sorted({model.H for model in models})
        models = [model for model in models if horizon_hours == model.H]
        if not models:
            told = ", ".join(str(H) for H in there)
            raise ModelError(f"{path}: no model of H = {horizon_hours} h; there are H = {told} h")
    return DatedModels(models)


def file_stem(model: JointModel) -> str:
    """A model's file name without its suffix."""
    return f"joint_model_H{model.H}_{utc(usable_from_ms(model)):%Y%m%dT%H%MZ}"


def card_text(model: JointModel) -> str:
    """A model's card in Markdown."""
    card = model.card
    scores = [f"| R2 {name.replace('_', ', ')} | {value:.5f} |" for name, value in sorted(model.r2.items())]
    lines = [
        f"# Joint model, H = {model.H} h",
        "",
        "Forecasts the residual price return and the funding of the next H hours, in fractions of notional.",
        "",
        "| | |",
        "|---|---|",
        f"| may be used from | {utc(usable_from_ms(model)):%Y-%m-%d %H:%M} UTC |",
        f"| taught rows | {utc(card.data_first_ms):%Y-%m-%d %H:%M} to {utc(model.trained_through_ms):%Y-%m-%d %H:%M} "
        f"UTC, {model.alpha.observations} observations |",
        f"| last data taught | {utc(card.data_last_ms):%Y-%m-%d %H:%M} UTC |",
        f"| data | {card.data_source}, content {card.data_hash[:16]} |",
        f"| universe | {card.universe}; {len(card.coins)} coins |",
        f"| bars, spans | {model.bar_hours} h; {', '.join(f'{span:g}' for span in model.spans)} h |",
        f"| market factor | K = {model.K}, weights {model.pca_method} |",
        f"| penalties | {model.alpha.penalty:g} price, {model.funding.penalty:g} funding; "
        f"{card.folds[1]} inner folds |",
        f"| scored on | {card.folds[0]} blocks, walk-forward, purged |",
        *scores,
        f"| bootstrap | {card.n_bootstrap} draws, seed {card.seed} |",
        f"| versions | {', '.join(f'{name} {found[:16]}' for name, found in sorted(card.versions.items()))} |",
        f"| content | {model.content_hash[:16]} |",
        "",
        "R2 in sigma units measures how persistent funding is; R2 in money, what can be earned. Read the second.",
        "",
        "Coins: " + ", ".join(card.coins),
        "",
    ]
    return "\n".join(lines)


def _write(file: Path, text: str) -> None:
    draft = file.with_name(f".{file.name}.new")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            with draft.open("w", encoding="utf-8", newline="") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            draft.replace(file)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as problem:
        raise StoreError(f"{file}: cannot be written ({problem.strerror}); choose another --out") from problem
