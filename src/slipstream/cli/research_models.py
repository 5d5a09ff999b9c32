"""``slipstream research train`` and ``predict``: models of price and funding, and what they say of the last bar."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from slipstream.cli.backtest import moment
from slipstream.cli.bar_strategy import noting_warnings, say
from slipstream.cli.research_data import DataDir, DataPath, Interval, interval_hours, research_panel
from slipstream.cli.research_factors import Weights
from slipstream.cli.research_runs import DEFAULT_REGISTRY
from slipstream.errors import DataError, SlipstreamError, UsageError

if TYPE_CHECKING:
    import polars as pl

    from slipstream.core.forecast.dated_models import DatedModels
    from slipstream.core.forecast.model import JointModel
    from slipstream.core.panel import Panel
    from slipstream.research.training import TrainingSettings

AsJson = Annotated[bool, Parameter(name="--json", negative="", help="Print JSON and nothing else.")]
Holding = Annotated[int, Parameter(name="--H", help="Holding period, hours.")]
SPANS = (2.0, 4.0, 8.0, 16.0, 32.0, 64.0)


def train(
    *,
    h: Holding = 8,
    data: DataPath = None,
    data_dir: DataDir = Path("data"),
    interval: Interval = "4h",
    until: Annotated[str | None, Parameter(help="Train as of this moment, ISO, UTC. Default: the last close.")] = None,
    retrain: Annotated[str | None, Parameter(help="Also train at the end of every such period, e.g. 30d.")] = None,
    out: Annotated[Path, Parameter(help="Folder of the models; made if absent.")] = Path("data/models"),
    k: Annotated[int, Parameter(name="--K", help="Bars of H hours per factor window.")] = 30,
    pca_method: Annotated[Weights, Parameter(help="What a coin's USD volume becomes as its weight.")] = "sqrt",
    spans: Annotated[tuple[float, ...], Parameter(consume_multiple=True, help="Spans of the features, hours.")] = SPANS,
    vol_span: Annotated[float, Parameter(help="Span of the deviations, hours.")] = 128.0,
    n_bootstrap: Annotated[int, Parameter(help="Draws for standard errors; 0: none, and no scores.")] = 1000,
    seed: Annotated[int, Parameter(help="Seed of the draws.")] = 42,
    executor: Annotated[str, Parameter(help="Where models are trained: serial, local, ray, ray://host:port.")] = (
        "serial"
    ),
    registry: Annotated[Path, Parameter(help="Where the run is recorded.")] = DEFAULT_REGISTRY,
    as_json: AsJson = False,
) -> None:
    """Train the joint model of price and funding on all that was known at a moment, and keep it in a folder.

    Each model is written with its card. With --retrain the folder also gets a model for the end of every period since
    the first that had enough data: what a backtest needs, since it may use no model trained later than its decision.

    Examples:
      slipstream research train --data panel.parquet --H 8 --out models
      slipstream research train --data data/lake --H 24 --until 2025-04-01 --retrain 30d --out models
    """
    from slipstream.cli.clock import wall_clock_ms
    from slipstream.core.panel import to_ms
    from slipstream.research.content import content_hash
    from slipstream.research.dataset import FeatureSettings
    from slipstream.research.model_store import save_models
    from slipstream.research.registry import Registry
    from slipstream.research.training import TrainingSettings

    moment_until = moment(until, "--until")
    every = None if retrain is None else float(interval_hours(retrain, "--retrain"))
    features = FeatureSettings(spans_hours=spans, vol_span_hours=vol_span, K=k, pca_method=pca_method)
    settings = TrainingSettings(h, features, n_bootstrap=n_bootstrap, seed=seed)
    panel = research_panel(data, data_dir, interval)
    until_ms = None if moment_until is None else to_ms(moment_until)
    config = {"settings": settings, "until_ms": until_ms, "retrain_hours": every}
    with (
        Registry(registry, wall_clock_ms) as book,
        book.run("train", config, data_hash=content_hash(panel), seed=seed) as record,
        noting_warnings() as notes,
    ):
        models = _trained(panel, settings, until_ms, every, executor)
        files = save_models(models, out)
        record.finish({"models": [_described(model, None) for model in models]})
    if as_json:
        body = [_described(model, file) for model, file in zip(models, files, strict=True)]
        say(json.dumps({"models": body, "notes": notes}, indent=2, allow_nan=False))
        return
    for model, file in zip(models, files, strict=True):
        _print_model(model, file)
    for note in notes:
        say(f"note: {note}")


def predict(
    *,
    models: Annotated[Path, Parameter(help="Folder of trained models, or one model's file.")],
    out: Annotated[Path, Parameter(help="The file to write: .csv or .parquet.")],
    data: DataPath = None,
    data_dir: DataDir = Path("data"),
    at: Annotated[str | None, Parameter(help="As of the last bar closed by then, ISO, UTC. Default: the last.")] = None,
    h: Annotated[int | None, Parameter(name="--H", help="Use the models of this H, where the folder has several.")] = (
        None
    ),
    as_json: AsJson = False,
) -> None:
    """Forecast every coin as of the last closed bar, in money: fractions of notional over the next H hours.

    The latest model that may be used at that close forecasts; one trained later never does. Columns: known_at, coin,
    alpha_price (residual return), alpha_funding (what a long pays), alpha_total (their difference), beta. Coins that
    may not be held, or lack a feature, are left out.

    Example: slipstream research predict --data data/lake --models models --out forecasts.csv --json
    """
    from slipstream.core.panel import to_ms, utc
    from slipstream.research.model_store import load_models

    if out.suffix not in (".csv", ".parquet"):
        raise UsageError(f"--out {out}: name a .csv or a .parquet file")
    asked = moment(at, "--at")
    dated = load_models(models, h)
    panel = research_panel(data, data_dir, f"{dated.bar_hours}h")
    row = panel.rows - 1 if asked is None else panel.row_at(to_ms(asked))
    if row < 0:
        raise UsageError(f"--at {at}: the data begin later, at {panel.times[0]:%Y-%m-%d %H:%M} UTC")
    known = int(panel.known_at_ms[row])
    model = dated.as_of(known)
    frame = forecast_table(model, panel, row)
    if frame.is_empty():
        raise DataError(
            f"{panel.source}: no coin can be forecast at {utc(known):%Y-%m-%d %H:%M} UTC; load more history"
        )
    _write_table(frame, out)
    described = {"known_at": utc(known).isoformat(), "coins": frame.height, "file": str(out)}
    if as_json:
        rows = frame.drop("known_at").to_dicts()
        say(json.dumps({**described, "model": _described(model, None), "forecasts": rows}, indent=2, allow_nan=False))
        return
    say(f"{panel.source}: {frame.height} coins as of {utc(known):%Y-%m-%d %H:%M} UTC, next {model.H} h, basis points")
    say(f"  model usable from {_described(model, None)['usable_from']}, content {model.content_hash[:16]}")
    say(f"  {'coin':12} {'price':>9} {'funding':>9} {'total':>9} {'beta':>7}")
    for coin in frame.sort("alpha_total", descending=True).iter_rows(named=True):
        price, paid, total = (1e4 * coin[name] for name in ("alpha_price", "alpha_funding", "alpha_total"))
        say(f"  {coin['coin']:12} {price:9.2f} {paid:9.2f} {total:9.2f} {coin['beta']:7.2f}")
    say(f"  written: {out}")


def forecast_table(model: JointModel, panel: Panel, row: int) -> pl.DataFrame:
    """A model's forecasts at a row of a panel, one line per coin that can be forecast, in the panel's order."""
    import numpy as np
    import polars as pl

    from slipstream.core.forecast.model_inputs import betas_as_of, forecast_as_of

    view = panel.view(row)
    forecast, beta = forecast_as_of(model, view), betas_as_of(model, view)
    known = np.flatnonzero(np.isfinite(forecast.alpha_total) & np.isfinite(beta))
    return pl.DataFrame(
        {
            "known_at": pl.Series([view.known_at_ms] * len(known), dtype=pl.Int64).cast(pl.Datetime("ms", "UTC")),
            "coin": pl.Series([panel.coins[i] for i in known], dtype=pl.String),
            "alpha_price": forecast.alpha_price[known],
            "alpha_funding": forecast.funding[known],
            "alpha_total": forecast.alpha_total[known],
            "beta": beta[known],
        }
    )


def walk_forward_in_run(panel: Panel, holding_hours: float, retrain_hours: float) -> DatedModels:
    """Models trained as a backtest goes along, each on what was known at its moment; no scores, no standard errors.

    Without any volume the market factor weighs all coins alike.

    Raises:
        UsageError: the holding period is not a whole number of hours.
        NotEnoughData: the data are too short for one model.
    """
    import numpy as np

    from slipstream.research.dataset import FeatureSettings
    from slipstream.research.training import TrainingSet, TrainingSettings, walk_forward_models

    if holding_hours != int(holding_hours):
        raise UsageError(f"a model's holding period is a whole number of hours, not {holding_hours:g}; choose another")
    volume_known = bool(np.nan_to_num(panel.volume_usd).any())
    spans = tuple(span for span in SPANS if span >= panel.bar_hours)
    features = FeatureSettings(spans_hours=spans, pca_method="sqrt" if volume_known else "none")
    settings = TrainingSettings(int(holding_hours), features, n_bootstrap=0)
    return walk_forward_models(TrainingSet.of(panel, settings), retrain_hours)


def _trained(
    panel: Panel, settings: TrainingSettings, until_ms: int | None, every: float | None, executor: str
) -> list[JointModel]:
    from slipstream.core.forecast.dated_models import usable_from_ms
    from slipstream.research.executor import executor_from
    from slipstream.research.training import TrainingSet, model_as_of, train_model, walk_forward_models

    if every is None:
        return [train_model(panel, settings, until_ms=until_ms)]
    row = panel.rows - 1 if until_ms is None else panel.row_at(until_ms)
    training = TrainingSet.of(panel.until(max(row, 0)), settings)
    with executor_from(executor) as workers:
        found = list(walk_forward_models(training, every, executor=workers).models)
    last = model_as_of(training, row)
    return found if usable_from_ms(found[-1]) == usable_from_ms(last) else [*found, last]


def _described(model: JointModel, file: Path | None) -> dict[str, Any]:
    from slipstream.core.forecast.dated_models import usable_from_ms
    from slipstream.core.panel import utc

    where = {} if file is None else {"file": str(file)}
    return {
        **where,
        "H": model.H,
        "bar_hours": model.bar_hours,
        "usable_from": utc(usable_from_ms(model)).isoformat(),
        "trained_through": utc(model.trained_through_ms).isoformat(),
        "observations": model.alpha.observations,
        "coins": len(model.card.coins),
        "content_hash": model.content_hash,
        **{f"r2_{name}": None if value != value else value for name, value in model.r2.items()},
    }


def _print_model(model: JointModel, file: Path) -> None:
    described = _described(model, file)
    say(f"{file}")
    say(
        f"  H = {model.H} h, usable from {described['usable_from']}, {model.alpha.observations} observations of "
        f"{described['coins']} coins, penalties {model.alpha.penalty:g} and {model.funding.penalty:g}"
    )
    if model.r2:
        price, paid, both = (model.r2[f"{name}_money"] for name in ("alpha", "funding", "combined"))
        say(f"  R2 out of sample, in money: price {price:.4f}, funding {paid:.4f}, both {both:.4f}")


def _write_table(frame: pl.DataFrame, out: Path) -> None:
    """Write beside the place and rename: the old file or the new, never a part."""
    draft = out.with_name(f".{out.name}.new")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        try:
            if out.suffix == ".csv":
                frame.write_csv(draft, datetime_format="%Y-%m-%dT%H:%M:%SZ")
            else:
                frame.write_parquet(draft)
            draft.replace(out)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as problem:
        raise SlipstreamError(f"{out}: cannot be written ({problem.strerror}); choose another --out") from problem
