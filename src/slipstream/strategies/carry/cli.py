"""Carry's commands, run by the dispatcher ``scripts/strategies/run_backtest.py``."""

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
    whole_bars,
    write_scores,
)
from slipstream.errors import UsageError

if TYPE_CHECKING:
    from slipstream.core.panel import FloatArray, View

SLUG = "carry"

Holding = Annotated[float | None, Parameter(name="--H", help="Holding period and hours between trades.")]

_signals = command_app("carry-signals", "Write the funding carry expects per bar of every coin as a wide CSV file.")
_backtest = command_app("carry-backtest", "Trade carry alone through files of returns and funding.")


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
    returns_csv: ReturnsCsv = None,
    funding_csv: FundingCsv = None,
    volume_csv: VolumeCsv = None,
    holding_hours: Holding = None,
    leverage: Annotated[float | None, Parameter(help="Sum of absolute weights.")] = None,
    trading: Trading = Trading(),  # noqa: B008 - frozen, and how cyclopts spells a group of flags
    config: ConfigFile = None,
    env: Environment = None,
    output: Annotated[Path, Parameter(help="The file of returns to write.")] = Path(
        "data/carry/backtests/portfolio_returns.csv"
    ),
    as_json: AsJson = False,
) -> None:
    from slipstream.strategies.carry import targets

    flags = given(holding_hours=holding_hours, leverage=leverage)
    settings = load_settings(SLUG, {**flags, **trading.overrides()}, config, env)
    parameters = settings.strategy_config()
    panel = load_market(returns_csv, funding_csv, volume_csv)

    def decide(view: View) -> FloatArray:
        return targets(view, parameters)

    BacktestJob(
        settings,
        panel,
        decide,
        rebalance_hours=whole_bars(holding_hours, parameters.holding_hours, panel.bar_hours),
        output=output,
        funding_given=funding_csv is not None,
        volume_given=volume_csv is not None,
        as_json=as_json,
    ).execute()
