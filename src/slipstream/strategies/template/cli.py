"""Commands of Template, run by the dispatcher ``scripts/strategies/run_backtest.py``."""

from __future__ import annotations

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
    say,
    whole_bars,
    write_scores,
)
from slipstream.errors import UsageError

SLUG = "template"
REBALANCE_HOURS = 24.0
OUT = Path("data") / SLUG

Lookback = Annotated[float | None, Parameter(help="Hours of past return.")]
VolatilitySpan = Annotated[float | None, Parameter(help="Span of the volatility, hours.")]

_signals = command_app(f"{SLUG}-signals", "Write the scores of every bar and coin as a wide CSV file.")
_backtest = command_app(f"{SLUG}-backtest", "Trade this strategy alone through a file of returns.")
compute_signals = handler(_signals)
run_backtest = handler(_backtest)


@_signals.default
def _compute_signals(
    *,
    returns_csv: ReturnsCsv = None,
    output: Annotated[Path, Parameter(help="The file to write.")] = OUT / "signals" / "scores.csv",
    lookback: Lookback = None,
    volatility_span: VolatilitySpan = None,
    config: ConfigFile = None,
    env: Environment = None,
) -> None:
    from slipstream.strategies.template import scores

    flags = given(lookback=lookback, volatility_span=volatility_span)
    parameters = load_settings(SLUG, flags, config, env).strategy_config()
    panel = load_market(returns_csv)
    write_scores(panel, scores(panel.view(), parameters), output)
    say(f"{output}: {panel.rows - 1} rows, {len(panel.coins)} coins")


@_backtest.default
def _run_backtest(
    *,
    common: BacktestFlags = BacktestFlags(),  # noqa: B008 - frozen, and how cyclopts spells a group of flags
    signals_csv: Annotated[Path | None, Parameter(help="Scores to trade, as the signals command writes them.")] = None,
    lookback: Lookback = None,
    volatility_span: VolatilitySpan = None,
    top_n: Annotated[int | None, Parameter(help="Most longs.")] = None,
    bottom_n: Annotated[int | None, Parameter(help="Most shorts; as many as --top-n.")] = None,
    rebalance_hours: Annotated[
        float | None, Parameter(help="Hours between trades; 24, or every bar if longer.")
    ] = None,
    output: Annotated[Path, Parameter(help="The file of returns to write.")] = OUT
    / "backtests"
    / "portfolio_returns.csv",
) -> None:
    if signals_csv is not None and lookback is not None:
        raise UsageError("--signals-csv brings its own scores; leave out --lookback")
    flags = given(lookback=lookback, volatility_span=volatility_span, top_n=top_n, bottom_n=bottom_n)
    job = common.job(SLUG, flags)
    every_hours = whole_bars(rebalance_hours, REBALANCE_HOURS, job.panel.bar_hours)
    job.trade(every_hours, output, signals_csv=signals_csv)
