"""Gradient's commands: ``gradient-signals`` and ``gradient-backtest``, also run by the dispatcher."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from slipstream.cli.bar_strategy import (
    BacktestFlags,
    ConfigFile,
    Environment,
    ReturnsCsv,
    command_app,
    given,
    handler,
    load_market,
    load_settings,
    noting_warnings,
    say,
    whole_bars,
    write_scores,
)
from slipstream.core.signals.spans import Normalization
from slipstream.errors import UsageError
from slipstream.strategies.gradient.config import RiskMethod

SLUG = "gradient"
REBALANCE_HOURS = 4.0

Lookbacks = Annotated[
    tuple[float, ...] | None, Parameter(consume_multiple=True, negative="", help="Horizons of the score, hours.")
]
Normalized = Annotated[Normalization | None, Parameter(help="Estimator of the volatility behind the score.")]

_signals = command_app("gradient-signals", "Write gradient's trend scores of every bar and coin as a wide CSV file.")
_backtest = command_app("gradient-backtest", "Trade gradient alone through a file of returns.")
compute_signals = handler(_signals)
run_backtest = handler(_backtest)


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
    common: BacktestFlags = BacktestFlags(),  # noqa: B008 - frozen, and how cyclopts spells a group of flags
    signals_csv: Annotated[Path | None, Parameter(help="Scores to trade, as gradient-signals writes them.")] = None,
    lookbacks: Lookbacks = None,
    normalization: Normalized = None,
    top_n: Annotated[int | None, Parameter(help="Most longs.")] = None,
    bottom_n: Annotated[int | None, Parameter(help="Most shorts; as many as --top-n.")] = None,
    vol_span: Annotated[float | None, Parameter(help="Span of the sizing volatility, hours.")] = None,
    risk_method: Annotated[RiskMethod | None, Parameter(help="How a side is sized.")] = None,
    target_side_dollar_vol: Annotated[float | None, Parameter(help="A side's volatility per root year.")] = None,
    max_gross: Annotated[float | None, Parameter(help="Cap on the sum of absolute weights.")] = None,
    rebalance_hours: Annotated[float | None, Parameter(help="Hours between trades; 4, or every bar if longer.")] = None,
    returns_output: Annotated[Path, Parameter(help="The file of returns to write.")] = Path(
        "data/gradient/backtests/portfolio_returns.csv"
    ),
) -> None:
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
    job = common.job(SLUG, flags)
    every_hours = whole_bars(rebalance_hours, REBALANCE_HOURS, job.panel.bar_hours)
    job.trade(every_hours, returns_output, signals_csv=signals_csv)
