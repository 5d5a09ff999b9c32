"""Models trained one after another, and which of them a decision may use.

A model may be used at a close once every target it was taught had ended *before* that close: the settlement stamped at
a close is published after it, so a target that ends at the very close is not known there yet. Of the models that
qualify the latest one counts. A model trained later than the moment is never handed out, whatever file it came in.
"""

from __future__ import annotations

from collections.abc import Iterable

from slipstream.core.decision import NotEnoughHistory
from slipstream.core.forecast.errors import ModelError
from slipstream.core.forecast.model import JointModel
from slipstream.core.panel import HOUR_MS, utc


class NoModelYet(NotEnoughHistory):
    """Every model was trained on data later than the moment of the decision."""


def usable_from_ms(model: JointModel) -> int:
    """The first close at which a model may decide, Unix ms: a bar after its last training target ended."""
    return model.trained_through_ms + (model.H + model.bar_hours) * HOUR_MS


class DatedModels:
    """Models of one horizon in the order in which they may be used.

    Args:
        models: at least one, of one H and one bar length, no two usable from the same close.

    Raises:
        ModelError: there is none, they are of different horizons or bars, or two are of one moment.
    """

    def __init__(self, models: Iterable[JointModel]) -> None:
        self.models: tuple[JointModel, ...] = tuple(sorted(models, key=usable_from_ms))
        if not self.models:
            raise ModelError("there is no model; train one with: slipstream research train")
        kinds = sorted({(model.H, model.bar_hours) for model in self.models})
        if len(kinds) > 1:
            told = ", ".join(f"H = {H} h on bars of {bar} h" for H, bar in kinds)
            raise ModelError(f"models of different kinds cannot follow one another: {told}; keep one folder for each")
        self.usable_from: tuple[int, ...] = tuple(usable_from_ms(model) for model in self.models)
        for earlier, later in zip(self.usable_from, self.usable_from[1:], strict=False):
            if earlier == later:
                raise ModelError(f"two models are both usable from {utc(earlier):%Y-%m-%d %H:%M} UTC; keep one of them")

    def __len__(self) -> int:
        return len(self.models)

    @property
    def H(self) -> int:  # noqa: N802 - the holding period is H everywhere
        """Holding period, hours."""
        return self.models[0].H

    @property
    def bar_hours(self) -> int:
        return self.models[0].bar_hours

    def as_of(self, ms: int) -> JointModel:
        """The latest model that may be used at a close.

        Raises:
            NoModelYet: none was trained by then; the message says from when on there is one.
        """
        usable = [model for model, start in zip(self.models, self.usable_from, strict=True) if start <= ms]
        if not usable:
            raise NoModelYet(
                f"no model may be used at {utc(ms):%Y-%m-%d %H:%M} UTC: the earliest was taught targets that end just "
                f"before {utc(self.usable_from[0]):%Y-%m-%d %H:%M} UTC; train with --until at or before the moment"
            )
        return usable[-1]
