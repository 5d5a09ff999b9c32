"""Carry's commands, run by the dispatcher ``scripts/strategies/run_backtest.py``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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

SLUG = "carry"

Holding = Annotated[float | None, Parameter(name="--H", help="Holding period and hours between trades.")]

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
    holding_hours: Holding = None,
    leverage: Annotated[float | None, Parameter(help="Sum of absolute weights.")] = None,
    output: Annotated[Path, Parameter(help="The file of returns to write.")] = Path(
        "data/carry/backtests/portfolio_returns.csv"
    ),
) -> None:
    job = common.job(SLUG, given(holding_hours=holding_hours, leverage=leverage))
    job.trade(whole_bars(holding_hours, job.parameters.holding_hours, job.panel.bar_hours), output)
