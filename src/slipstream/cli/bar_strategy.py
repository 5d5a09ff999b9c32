"""What the commands of every bar strategy share: reading the market, running one book, printing and writing it.

A strategy's own ``cli`` module adds its parameters and says how often it trades; the decision is its package's, and
``handler`` turns the outcome into an exit code.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from slipstream.cli.errors import run
from slipstream.errors import DataError, SlipstreamError, UsageError

if TYPE_CHECKING:
    import pandas as pd

    from slipstream.core.decision import Decide
    from slipstream.core.panel import FloatArray, Panel, View
    from slipstream.strategies import CliHandler
    from slipstream.strategies.bar_backtest import BarBacktest, BarBacktestConfig
    from slipstream.strategies.config_layers import LayeredConfig

DEFAULT_RETURNS = Path("data/market_data/log_returns_4h.csv")
MAKE_RETURNS = (
    "hl-load --all --days 180 --interval 4h --out-prefix data "
    "(or, from a file: slipstream data export --data FILE --interval 4h)"
)

AsJson = Annotated[bool, Parameter(name="--json", negative="", help="Print JSON and nothing else.")]
ReturnsCsv = Annotated[
    Path | None,
    Parameter(help=f"Wide CSV of log returns, first column known-at. Default: {DEFAULT_RETURNS}."),
]
FundingCsv = Annotated[
    Path | None, Parameter(help="Wide CSV of funding sums per bar, fractions. Without it funding P&L is 0.")
]
VolumeCsv = Annotated[
    Path | None, Parameter(help="Wide CSV of USD volume per bar. Without it impact is 0 and no volume rule applies.")
]
ConfigFile = Annotated[Path | None, Parameter(name="--config", help="Read in place of config/SLUG.yml.")]
Environment = Annotated[str | None, Parameter(name="--env", help="Also read config/environments/NAME/SLUG.yml.")]


@Parameter(name="*")
@dataclass(frozen=True)
class BacktestFlags:
    """The flags of every strategy's backtest; what is not given comes from the configuration layers."""

    returns_csv: ReturnsCsv = None
    funding_csv: FundingCsv = None
    volume_csv: VolumeCsv = None
    capital: Annotated[float | None, Parameter(help="Initial equity, USD.")] = None
    fee_bps: Annotated[float | None, Parameter(help="Exchange fee, basis points of notional.")] = None
    half_spread_bps: Annotated[float | None, Parameter(help="Half the spread, basis points: an assumption.")] = None
    config: ConfigFile = None
    env: Environment = None
    as_json: AsJson = False

    def job(self, slug: str, flags: Mapping[str, Any]) -> BacktestJob:
        """The backtest these flags and a strategy's own ask for.

        Raises:
            UsageError: a layer of the configuration cannot be used.
            DataError: a file is absent or cannot be used.
        """
        trading = given(capital_usd=self.capital, fee_bps=self.fee_bps, half_spread_bps=self.half_spread_bps)
        settings = load_settings(slug, {**flags, "backtest": trading}, self.config, self.env)
        parameters = settings.strategy_config()
        panel = load_market(self.returns_csv, self.funding_csv, self.volume_csv)
        return BacktestJob(self, settings, parameters, panel)


def handler(app: App) -> CliHandler:
    """What a strategy registers for a command: run it with these arguments, return its exit code.

    A literal ``--`` before the flags is dropped.
    """

    def handle(argv: Sequence[str]) -> int:
        words = list(argv)
        return run(app, words[1:] if words[:1] == ["--"] else words)

    return handle


def command_app(name: str, help_text: str) -> App:
    """An application whose outcome :func:`handler` turns into an exit code."""
    return App(name=name, help=help_text, version_flags=[], suppress_keyboard_interrupt=False)


def given(**values: Any) -> dict[str, Any]:
    """Those of the values that are not None: the flags a user typed."""
    return {name: value for name, value in values.items() if value is not None}


def load_settings(slug: str, flags: Mapping[str, Any], file: Path | None, env: str | None) -> LayeredConfig:
    """The layered configuration of a strategy with a command's flags on top.

    Raises:
        UsageError: a layer cannot be used.
    """
    from slipstream.strategies.config_layers import load_layered_config

    return load_layered_config(slug, env, flags, file=file)


def load_market(returns_csv: Path | None, funding_csv: Path | None = None, volume_csv: Path | None = None) -> Panel:
    """The panel of the CSV files a command was given.

    Raises:
        DataError: a file is absent or cannot be used; for the default file the message holds the command that makes it.
    """
    from slipstream.core.frames import panel_from_returns
    from slipstream.lake.wide_csv import read_wide_csv

    if returns_csv is None and not DEFAULT_RETURNS.is_file():
        raise DataError(f"{DEFAULT_RETURNS}: no such file; give --returns-csv, or create it with: {MAKE_RETURNS}")
    source = returns_csv or DEFAULT_RETURNS
    funding, volume = (None if file is None else read_wide_csv(file) for file in (funding_csv, volume_csv))
    returns = read_wide_csv(source)
    panel = panel_from_returns(returns, funding, volume, source=str(source))
    if funding_csv is not None:
        _require_rates(panel, funding_csv)
    return panel


def _require_rates(panel: Panel, file: Path) -> None:
    """Refuse funding no market sustains: it is in percent or basis points."""
    import numpy as np

    from slipstream.core.panel import utc
    from slipstream.lake.schema import FUNDING_BASE_PER_HOUR, FUNDING_CAP_PER_HOUR, FUNDING_MEDIAN_BOUND_PER_HOUR

    size = np.abs(np.nan_to_num(panel.funding)) / panel.bar_hours
    row, column = np.unravel_index(int(size.argmax()), size.shape)
    median = float(np.median(size[size > 0.0])) if size.any() else 0.0
    if size[row, column] > FUNDING_CAP_PER_HOUR or median > FUNDING_MEDIAN_BOUND_PER_HOUR:
        raise DataError(
            f"{file}: funding of {panel.coins[column]} at {utc(int(panel.known_at_ms[row])):%Y-%m-%d %H:%M} UTC is "
            f"{panel.funding[row, column]:g} and the median size {median:.3g} per hour, "
            f"{median / FUNDING_BASE_PER_HOUR:.0f} times the venue's base rate; "
            "write fractions of notional, not percent or basis points"
        )


def score_reader(file: Path, panel: Panel) -> Callable[[View], FloatArray]:
    """``scores(view) -> (N,)`` from a wide CSV file: the row known at the view's close, NaN where there is none.

    Raises:
        DataError: the file cannot be used, or has no coin or no time in common with the panel.
    """
    import numpy as np

    from slipstream.core.frames import cells, index_ms
    from slipstream.lake.wide_csv import read_wide_csv

    frame = read_wide_csv(file)
    values = cells(frame, str(file))
    row_of = {ms: row for row, ms in enumerate(index_ms(frame, str(file)).tolist())}
    columns = [(i, frame.columns.get_loc(coin)) for i, coin in enumerate(panel.coins) if coin in frame.columns]
    if not columns or not set(row_of).intersection(panel.known_at_ms.tolist()):
        what = "coin" if not columns else "time"
        raise DataError(
            f"{file}: has no {what} in common with {panel.source}; compute the scores from the same returns"
        )
    into, out_of = zip(*columns, strict=True)

    def scores(view: View) -> FloatArray:
        found = np.full(len(view.coins), np.nan)
        if view.known_at_ms in row_of:
            found[list(into)] = values[row_of[view.known_at_ms], list(out_of)]
        return found

    return scores


@contextmanager
def noting_warnings() -> Iterator[list[str]]:
    """Collect warnings as lines for the output; each is said once."""
    import warnings

    notes: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield notes
    notes += dict.fromkeys(str(warning.message) for warning in caught)


@dataclass(frozen=True)
class BacktestJob:
    """One strategy's backtest as its command asked for it.

    Attributes:
        flags: what every strategy's backtest was given.
        settings: the layered configuration.
        parameters: the strategy's part of it, its configuration dataclass.
        panel: the market.
    """

    flags: BacktestFlags
    settings: LayeredConfig
    parameters: Any
    panel: Panel

    def trade(
        self,
        rebalance_hours: float,
        output: Path,
        *,
        signals_csv: Path | None = None,
        decide: Decide | None = None,
        remarks: Sequence[str] = (),
    ) -> None:
        """Run, write the returns, and print what came of it.

        Args:
            rebalance_hours: hours between decisions.
            output: the file of returns.
            signals_csv: scores to trade in place of the strategy's own.
            decide: the decision to trade; None: the strategy's ``targets``.
            remarks: what else the output is to say.

        Raises:
            DataError: the scores cannot be used.
            SlipstreamError: the backtest cannot be run or its returns not written.
        """
        from slipstream.strategies.bar_backtest import run_bar_backtest

        decision, config = decide or self._decision(signals_csv), self.settings.backtest_config()
        with noting_warnings() as notes:
            result = run_bar_backtest(self.panel, decision, rebalance_hours=rebalance_hours, config=config)
        _write_returns(result, output)
        notes += [*remarks, *self._remarks(result, config)]
        summary = summary_of(result)
        if self.flags.as_json:
            context = {"strategy": self.settings.strategy, "source": self.panel.source, "coins": len(self.panel.coins)}
            parameters = {**asdict(self.parameters), "backtest": asdict(config)}
            timing = {"rebalance_hours": rebalance_hours}
            print_json({**context, **timing, **summary, "config": parameters, "notes": notes})
            return
        first, last = self.panel.times[-len(result.net_return)], self.panel.times[-1]
        say(
            f"{self.settings.strategy} on {self.panel.source}: {len(self.panel.coins)} coins, "
            f"{len(result.decision_ms)} decisions every {rebalance_hours:g} h, "
            f"{len(result.net_return)} bars of {result.bar_hours} h, {first:%Y-%m-%d} to {last:%Y-%m-%d}"
        )
        _print_figures(result)
        for note in notes:
            say(f"  note: {note}")
        say(f"  written: {output}")

    def _decision(self, signals_csv: Path | None) -> Decide:
        """The strategy's ``targets``, or its ``weights_from_scores`` on the scores of a file."""
        from slipstream.strategies import load_strategy

        strategy = load_strategy(self.settings.strategy)
        if signals_csv is None:
            return partial(strategy.targets, config=self.parameters)
        scores = score_reader(signals_csv, self.panel)

        def decide(view: View) -> FloatArray:
            weights: FloatArray = strategy.weights_from_scores(scores(view), view, self.parameters)
            return weights

        return decide

    def _remarks(self, result: BarBacktest, config: BarBacktestConfig) -> list[str]:
        remarks = [] if len(result.decision_ms) else ["no decision held anything: every return is 0"]
        remarks += [f"costs: fee {config.fee_bps:g} bp and half-spread {config.half_spread_bps:g} bp of what is traded"]
        if self.flags.volume_csv is None:
            remarks.append("no volume was given: impact is 0 and no volume rule applies")
        elif result.unpriced_trades:
            remarks.append(f"{result.unpriced_trades} trades without known volume or volatility: their impact is 0")
        if self.flags.funding_csv is None:
            remarks.append("no funding was given: funding P&L is 0")
        elif result.funding_missing:
            remarks.append(f"{result.funding_missing} settlements were due on a position and not recorded: charged 0")
        return remarks


def summary_of(result: BarBacktest) -> dict[str, Any]:
    """The figures of a backtest: fractions, USD, and Sharpe ratios per square-root year."""
    price, funding, fees, impact = (float(part) for part in result.pnl_usd.sum(axis=0))
    return {
        "sharpe": result.sharpe(),
        "sharpe_se": result.sharpe_error(),
        "sharpe_gross": result.sharpe(gross=True),
        "total_return": result.total_return(),
        "max_drawdown": result.drawdown(),
        "turnover_per_year": result.turnover_per_year(),
        "average_gross": result.average_gross(),
        "pnl_usd": {"price": price, "funding": funding, "fees": fees, "impact": impact},
        "bar_hours": result.bar_hours,
        "bars": len(result.net_return),
        "decisions": len(result.decision_ms),
        "funding_missing": result.funding_missing,
        "accounting_error": result.accounting_error,
    }


def _print_figures(result: BarBacktest) -> None:
    figures = summary_of(result)
    parts = ", ".join(f"{name} {value:,.0f}" for name, value in figures["pnl_usd"].items())
    say(f"  Sharpe (net)    {figures['sharpe']:8.2f} +- {figures['sharpe_se']:.2f}")
    say(f"  Sharpe (gross)  {figures['sharpe_gross']:8.2f}")
    say(f"  return          {figures['total_return']:8.2%}")
    say(f"  drawdown        {figures['max_drawdown']:8.2%}")
    say(f"  turnover        {figures['turnover_per_year']:8.1f} times equity a year")
    say(f"  average gross   {figures['average_gross']:8.2f}")
    say(f"  P&L, USD        {parts}")


def print_json(body: Mapping[str, Any]) -> None:
    """Standard output as one JSON object."""
    say(json.dumps(body, indent=2, allow_nan=False))


def _write_returns(result: BarBacktest, file: Path) -> None:
    import pandas as pd

    frame = pd.DataFrame(
        {"portfolio_return": result.net_return, "portfolio_return_gross": result.gross_return},
        index=pd.to_datetime(result.known_at_ms, unit="ms", utc=True),
    )
    write_wide_csv(frame, file)


def write_scores(panel: Panel, scores: FloatArray, file: Path) -> None:
    """Write scores of every row and coin of a panel made from returns; its first row, which has none, is left out."""
    import pandas as pd

    frame = pd.DataFrame(
        scores[1:], index=pd.to_datetime(panel.known_at_ms[1:], unit="ms", utc=True), columns=list(panel.coins)
    )
    write_wide_csv(frame, file)


def write_wide_csv(frame: pd.DataFrame, file: Path) -> None:
    """Write a frame with a known-at index beside its place and rename it: the old file or the new, never a part.

    Raises:
        SlipstreamError: it cannot be written.
    """
    text = frame.to_csv(index_label="known_at", date_format="%Y-%m-%dT%H:%M:%SZ")
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
        raise SlipstreamError(f"{file}: cannot be written ({problem})") from problem


def whole_bars(rebalance_hours: float | None, default_hours: float, bar_hours: int) -> float:
    """The rebalance period: what was asked for, else the default, or every bar where bars are longer than that.

    Raises:
        UsageError: what was asked for is not positive.
    """
    if rebalance_hours is None:
        return max(default_hours, float(bar_hours))
    if not rebalance_hours > 0.0:
        raise UsageError(f"--rebalance-hours is {rebalance_hours}; it must be positive")
    return rebalance_hours


def say(line: str) -> None:
    """One line of the command's own output."""
    sys.stdout.write(f"{line}\n")
