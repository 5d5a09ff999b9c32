"""Carry's commands, run by the dispatcher ``scripts/strategies/run_backtest.py``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from slipstream.cli.bar_strategy import (
    BacktestFlags,
    ConfigFile,
    Environment,
    FundingCsv,
    ReturnsCsv,
    command_app,
    given,
    handler,
    load_market,
    load_settings,
    say,
    whole_bars,
    write_scores,
)
from slipstream.errors import UsageError

if TYPE_CHECKING:
    from slipstream.cli.bar_strategy import BacktestJob
    from slipstream.core.forecast.dated_models import DatedModels
    from slipstream.strategies.carry.joint import FactorBetas

SLUG = "carry"

Holding = Annotated[float | None, Parameter(name="--H", help="Holding period and hours between trades.")]
ModelFile = Annotated[
    Path | None,
    Parameter(help="A trained model or a folder of them. Default: models are trained as the run goes along."),
]
PcaCsv = Annotated[
    Path | None,
    Parameter(help="Betas the book is neutral to, as research factors writes them. Default: the models' own factor."),
]
Form = Annotated[
    Literal["auto", "ewma", "joint"] | None,
    Parameter(help="What is expected: trained models of price and funding (joint, auto), or past funding (ewma)."),
]

_signals = command_app("carry-signals", "Write the funding carry expects per bar of every coin as a wide CSV file.")
_backtest = command_app("carry-backtest", "Trade carry alone through files of returns and funding.")
compute_signals = handler(_signals)
run_backtest = handler(_backtest)


@_signals.default
def _compute_signals(
    *,
    returns_csv: ReturnsCsv = None,
    funding_csv: FundingCsv = None,
    output: Annotated[Path, Parameter(help="The file to write.")] = Path("data/carry/signals/expected_funding.csv"),
    config: ConfigFile = None,
    env: Environment = None,
) -> None:
    from slipstream.core.forecast.funding import expected_funding

    if funding_csv is None:
        raise UsageError("carry's signal is expected funding; give --funding-csv")
    parameters = load_settings(SLUG, {}, config, env).strategy_config()
    panel = load_market(returns_csv, funding_csv)
    expected = panel.view().feature(expected_funding, span_hours=parameters.funding_span)
    write_scores(panel, expected, output)
    say(f"{output}: {panel.rows - 1} rows, {len(panel.coins)} coins; fractions of notional per {panel.bar_hours} h bar")


@_backtest.default
def _run_backtest(
    *,
    common: BacktestFlags = BacktestFlags(),  # noqa: B008 - frozen, and how cyclopts spells a group of flags
    model: Form = None,
    model_json: ModelFile = None,
    pca_csv: PcaCsv = None,
    holding_hours: Holding = None,
    leverage: Annotated[float | None, Parameter(help="Sum of absolute weights, or its cap.")] = None,
    output: Annotated[Path, Parameter(help="The file of returns to write.")] = Path(
        "data/carry/backtests/portfolio_returns.csv"
    ),
) -> None:
    job = common.job(SLUG, given(model=model, holding_hours=holding_hours, leverage=leverage))
    if job.parameters.model == "ewma":
        refused = [flag for flag, given_file in (("--model-json", model_json), ("--pca-csv", pca_csv)) if given_file]
        if refused:
            raise UsageError(f"{refused[0]} is of no use to the form without models; drop it, or use --model joint")
        job.trade(whole_bars(holding_hours, job.parameters.holding_hours, job.panel.bar_hours), output)
        return
    _trade_joint(job, model_json, pca_csv, holding_hours, output)


def _trade_joint(
    job: BacktestJob, model_json: Path | None, pca_csv: Path | None, holding_hours: float | None, output: Path
) -> None:
    """Trade trained models, each from its own moment on."""
    from slipstream.core.panel import utc
    from slipstream.strategies.carry.joint import JointCarry, rebalance_hours

    betas = None if pca_csv is None else _factor_betas(pca_csv)
    models, whence = _models(job, model_json)
    first, last_decision = models.usable_from[0], int(job.panel.known_at_ms[-2])
    if first > last_decision:
        raise UsageError(
            f"{model_json}: may be used from {utc(first):%Y-%m-%d %H:%M} UTC, after the last decision of the data; "
            "leave --model-json out to train on the way, or train with --until an earlier moment"
        )
    remarks = [f"{len(models)} models, {whence}, usable from {utc(first):%Y-%m-%d %H:%M} UTC: nothing is held before"]
    if job.flags.funding_csv is None:
        remarks.append("no funding was given: funding features are off and no funding is expected")
    if job.flags.volume_csv is None and model_json is None:
        remarks.append("no volume was given: the market factor weighs all coins alike")
    decide = JointCarry(models, job.parameters, job.settings.backtest_config().costs, betas)
    job.trade(rebalance_hours(models, holding_hours), output, decide=decide, remarks=remarks)


def _models(job: BacktestJob, model_json: Path | None) -> tuple[DatedModels, str]:
    """The models to trade, and where they are from in words."""
    if model_json is not None:
        from slipstream.research.model_store import load_models

        return load_models(model_json), f"from {model_json}"
    from slipstream.cli.research_models import walk_forward_in_run

    how = job.parameters
    hours = max(how.holding_hours, float(job.panel.bar_hours))
    return walk_forward_in_run(job.panel, hours, how.retrain_hours), f"trained on the way every {how.retrain_hours:g} h"


def _factor_betas(file: Path) -> FactorBetas:
    """The betas of a factor file: one column per coin, or ``<coin>_pc1`` ... where there is more than one component.

    Raises:
        DataError: the file is absent or cannot be read.
        UsageError: it has no column of betas, or not every component of every coin.
    """
    import re

    import numpy as np

    from slipstream.core.frames import cells, index_ms
    from slipstream.lake.wide_csv import read_wide_csv
    from slipstream.strategies.carry.joint import FactorBetas

    frame = read_wide_csv(file)
    frame = frame[[name for name in frame.columns if not name.startswith("_")]]
    matches = [re.fullmatch(r"(.+)_pc([123])", name) for name in frame.columns]
    several = bool(matches) and all(matches)
    coins = tuple(
        dict.fromkeys(m[1] if m and several else name for name, m in zip(frame.columns, matches, strict=True))
    )
    components = 1 + max((int(m[2]) - 1 for m in matches if m and several), default=0)
    if not coins or len(frame.columns) != len(coins) * components:
        raise UsageError(f"{file}: has no betas of every coin; write it with: slipstream research factors")
    values = cells(frame, str(file)).reshape(len(frame), -1)
    beta = np.full((len(frame), len(coins), components), np.nan)
    for column, (name, m) in enumerate(zip(frame.columns, matches, strict=True)):
        coin, component = (m[1], int(m[2]) - 1) if m and several else (name, 0)
        beta[:, coins.index(coin), component] = values[:, column]
    return FactorBetas.of(index_ms(frame, str(file)), coins, beta)
