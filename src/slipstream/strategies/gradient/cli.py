"""Gradient's commands: ``gradient-signals`` and ``gradient-backtest``, also run by the dispatcher."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from slipstream.cli.bar_strategy import (
    AsJson,
    BacktestJob,
    ConfigFile,
    Environment,
    FundingCsv,
    ReturnsCsv,
    Trading,
    VolumeCsv,
    command_app,
    given,
    load_market,
    load_settings,
    noting_warnings,
    run_handler,
    say,
    score_reader,
    whole_bars,
    write_scores,
)
from slipstream.core.signals.spans import Normalization
from slipstream.errors import UsageError
from slipstream.strategies.gradient.config import RiskMethod

if TYPE_CHECKING:
    from slipstream.core.panel import FloatArray, View

SLUG = "gradient"
REBALANCE_HOURS = 4.0

Lookbacks = Annotated[
    tuple[float, ...] | None, Parameter(consume_multiple=True, negative="", help="Horizons of the score, hours.")
]
Normalized = Annotated[Normalization | None, Parameter(help="Estimator of the volatility behind the score.")]

_signals = command_app("gradient-signals", "Write gradient's trend scores of every bar and coin as a wide CSV file.")
_backtest = command_app("gradient-backtest", "Trade gradient alone through a file of returns.")


def compute_signals(argv: list[str]) -> int:
    """Run ``gradient-signals`` with these arguments and return its exit code."""
    return run_handler(_signals, argv)


def run_backtest(argv: list[str]) -> int:
    """Run ``gradient-backtest`` with these arguments and return its exit code."""
    return run_handler(_backtest, argv)


def signals() -> int:
    """Entry point of the console script ``gradient-signals``."""
    return compute_signals(sys.argv[1:])


def backtest() -> int:
    """Entry point of the console script ``gradient-backtest``."""
    return run_backtest(sys.argv[1:])


@_signals.default
def _compute_signals(
    *,
    returns_csv: ReturnsCsv = None,
    output: Annotated[Path, Parameter(help="The file to write.")] = Path("data/gradient/signals/trend_strength.csv"),
    lookbacks: Lookbacks = None,
    normalization: Normalized = None,
    config: ConfigFile = None,
    env: Environment = None,
) -> None:
    from slipstream.strategies.gradient import scores

    settings = load_settings(SLUG, given(lookbacks=lookbacks, normalization=normalization), config, env)
    parameters = settings.strategy_config()
    panel = load_market(returns_csv)
    with noting_warnings() as notes:
        trend = scores(panel.view(), parameters)
    write_scores(panel, trend, output)
    say(f"{output}: {panel.rows - 1} rows, {len(panel.coins)} coins")
    for note in notes:
        say(f"  note: {note}")


@_backtest.default
def _run_backtest(
    *,
    returns_csv: ReturnsCsv = None,
    signals_csv: Annotated[Path | None, Parameter(help="Scores to trade, as gradient-signals writes them.")] = None,
    funding_csv: FundingCsv = None,
    volume_csv: VolumeCsv = None,
    lookbacks: Lookbacks = None,
    normalization: Normalized = None,
    top_n: Annotated[int | None, Parameter(help="Most longs.")] = None,
    bottom_n: Annotated[int | None, Parameter(help="Most shorts; as many as --top-n.")] = None,
    vol_span: Annotated[float | None, Parameter(help="Span of the sizing volatility, hours.")] = None,
    risk_method: Annotated[RiskMethod | None, Parameter(help="How a side is sized.")] = None,
    target_side_dollar_vol: Annotated[float | None, Parameter(help="A side's volatility per root year.")] = None,
    max_gross: Annotated[float | None, Parameter(help="Cap on the sum of absolute weights.")] = None,
    rebalance_hours: Annotated[float | None, Parameter(help="Hours between trades; 4, or every bar if longer.")] = None,
    trading: Trading = Trading(),  # noqa: B008 - frozen, and how cyclopts spells a group of flags
    config: ConfigFile = None,
    env: Environment = None,
    returns_output: Annotated[Path, Parameter(help="The file of returns to write.")] = Path(
        "data/gradient/backtests/portfolio_returns.csv"
    ),
    as_json: AsJson = False,
) -> None:
    from slipstream.strategies.gradient import targets, weights_from_scores

    if signals_csv is not None and (lookbacks is not None or normalization is not None):
        raise UsageError("--signals-csv brings its own scores; leave out --lookbacks and --normalization")
    flags = given(
        lookbacks=lookbacks,
        normalization=normalization,
        top_n=top_n,
        bottom_n=bottom_n,
        vol_span=vol_span,
        risk_method=risk_method,
        target_side_dollar_vol=target_side_dollar_vol,
        max_gross=max_gross,
    )
    settings = load_settings(SLUG, {**flags, **trading.overrides()}, config, env)
    parameters = settings.strategy_config()
    panel = load_market(returns_csv, funding_csv, volume_csv)
    read = None if signals_csv is None else score_reader(signals_csv, panel)

    def decide(view: View) -> FloatArray:
        return targets(view, parameters) if read is None else weights_from_scores(read(view), view, parameters)

    BacktestJob(
        settings,
        panel,
        decide,
        rebalance_hours=whole_bars(rebalance_hours, REBALANCE_HOURS, panel.bar_hours),
        output=returns_output,
        funding_given=funding_csv is not None,
        volume_given=volume_csv is not None,
        as_json=as_json,
    ).execute()
