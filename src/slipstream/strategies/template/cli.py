"""Commands of Template, run by the dispatcher ``scripts/strategies/run_backtest.py``."""

from __future__ import annotations

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
    run_handler,
    say,
    score_reader,
    whole_bars,
    write_scores,
)
from slipstream.errors import UsageError

if TYPE_CHECKING:
    from slipstream.core.panel import FloatArray, View

SLUG = "template"
REBALANCE_HOURS = 24.0
OUT = Path("data") / SLUG

Lookback = Annotated[float | None, Parameter(help="Hours of past return.")]
VolatilitySpan = Annotated[float | None, Parameter(help="Span of the volatility, hours.")]

_signals = command_app(f"{SLUG}-signals", "Write the scores of every bar and coin as a wide CSV file.")
_backtest = command_app(f"{SLUG}-backtest", "Trade this strategy alone through a file of returns.")


def compute_signals(argv: list[str]) -> int:
    """Run the signals command with these arguments and return its exit code."""
    return run_handler(_signals, argv)


def run_backtest(argv: list[str]) -> int:
    """Run the backtest command with these arguments and return its exit code."""
    return run_handler(_backtest, argv)


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
    returns_csv: ReturnsCsv = None,
    signals_csv: Annotated[Path | None, Parameter(help="Scores to trade, as the signals command writes them.")] = None,
    funding_csv: FundingCsv = None,
    volume_csv: VolumeCsv = None,
    lookback: Lookback = None,
    volatility_span: VolatilitySpan = None,
    top_n: Annotated[int | None, Parameter(help="Most longs.")] = None,
    bottom_n: Annotated[int | None, Parameter(help="Most shorts; as many as --top-n.")] = None,
    rebalance_hours: Annotated[
        float | None, Parameter(help="Hours between trades; 24, or every bar if longer.")
    ] = None,
    trading: Trading = Trading(),  # noqa: B008 - frozen, and how cyclopts spells a group of flags
    config: ConfigFile = None,
    env: Environment = None,
    output: Annotated[Path, Parameter(help="The file of returns to write.")] = OUT
    / "backtests"
    / "portfolio_returns.csv",
    as_json: AsJson = False,
) -> None:
    from slipstream.strategies.template import targets, weights_from_scores

    if signals_csv is not None and lookback is not None:
        raise UsageError("--signals-csv brings its own scores; leave out --lookback")
    flags = given(lookback=lookback, volatility_span=volatility_span, top_n=top_n, bottom_n=bottom_n)
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
        output=output,
        funding_given=funding_csv is not None,
        volume_given=volume_csv is not None,
        as_json=as_json,
    ).execute()
