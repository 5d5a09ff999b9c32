"""What the page of one walk-forward backtest draws and tabulates, computed from its result."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from slipstream.core.backtest.parts import FEES, FUNDING, IMPACT, PRICE
from slipstream.core.backtest.result import BacktestResult
from slipstream.core.panel import HOURS_PER_YEAR, FloatArray, IntArray, utc
from slipstream.reports.formatting import Dollars
from slipstream.reports.lines import chart, drawdown, interval, line, main_line, rolling_sharpe, thin

DAY_HOURS = 24.0
ROLLING_DAYS = 90
FEWEST_IN_WINDOW = 20
"""A Sharpe ratio of fewer returns is noise: where holding periods are long the window grows to so many of them."""
NO_EXPOSURE = 1e-9
"""A neutral book's exposure is a rounding error; drawn as zero, so that an axis does not magnify it."""


@dataclass(frozen=True)
class Window:
    """The rolling Sharpe ratio's sample: returns of whole days, or of holding periods where those are longer.

    Attributes:
        rows: (M + 1,) rows of the equity between which the M returns are taken.
        returns: (M,) simple.
        periods_per_year: of such returns.
        size: returns in a window.
        days: what that is in days, rounded.
    """

    rows: IntArray = field(repr=False)
    returns: FloatArray = field(repr=False)
    periods_per_year: float
    size: int
    days: int


def rolling_window(result: BacktestResult) -> Window:
    """The returns and the window of the rolling Sharpe ratio."""
    bar = bar_hours(result)
    stride = max(round(result.config.H / bar), int(np.ceil(DAY_HOURS / bar)))
    rows = np.arange(0, len(result.time_ms), stride)
    equity = result.equity_usd[rows]
    size = max(round(ROLLING_DAYS * DAY_HOURS / (stride * bar)), FEWEST_IN_WINDOW)
    days = round(size * stride * bar / DAY_HOURS)
    return Window(rows, equity[1:] / equity[:-1] - 1.0, HOURS_PER_YEAR / (stride * bar), size, days)


def bar_hours(result: BacktestResult) -> float:
    """Length of a bar, hours; a run has two rows at least."""
    return float(result.time_ms[1] - result.time_ms[0]) / 3_600_000


def chart_data(result: BacktestResult, window: Window) -> dict[str, Any]:
    """Everything the page's script needs: ``span`` and ``grids`` in Unix seconds, ``charts`` by element id."""
    bar_rows, by_bar = _bar_charts(result)
    decision_rows, by_decision = _decision_charts(result)
    decided = np.append(result.time_ms[result.decision_index], result.time_ms[-1])
    sharpe = _sharpe_chart(window)
    return {
        "usd_places": Dollars.beside(result.config.initial_capital).places,
        "span": [int(result.time_ms[0]) // 1000, int(result.time_ms[-1]) // 1000],
        "grids": {
            "bars": (result.time_ms[bar_rows] // 1000).tolist(),
            "decisions": (decided[decision_rows] // 1000).tolist(),
            "returns": (result.time_ms[window.rows[1:]] // 1000).tolist(),
        },
        "charts": {**by_bar, **by_decision, **sharpe},
    }


def _bar_charts(result: BacktestResult) -> tuple[IntArray, dict[str, Any]]:
    parts = np.cumsum(result.pnl_usd, axis=0)
    costs = -parts[:, [FEES, IMPACT]]
    table = np.column_stack(
        [
            result.equity_usd,
            drawdown(result.equity_usd),
            parts.sum(axis=1),
            parts[:, PRICE],
            parts[:, FUNDING],
            costs.sum(axis=1),
            costs,
        ]
    )
    rows, thinned = thin(table)
    equity, fall, net, price, funding, paid, fees, impact = thinned.T
    return rows, {
        "equity": chart("bars", "usd", [main_line("Equity", equity)]),
        "drawdown": chart("bars", "percent", [main_line("Drawdown", fall)], highest=0.0),
        "parts": chart(
            "bars",
            "usd",
            [main_line("Net", net), line("Price", 0, price), line("Funding", 2, funding), line("Costs", 1, -paid)],
        ),
        "costs": chart(
            "bars",
            "usd",
            [main_line("All costs", paid), line("Fees, spread", 4, fees), line("Impact", 3, impact)],
            lowest=0.0,
        ),
    }


def _decision_charts(result: BacktestResult) -> tuple[IntArray, dict[str, Any]]:
    """Books just after each decision's trades; the last one's figures are drawn on to the run's end."""
    held = result.weights
    beta = np.where(np.abs(result.beta_exposure) < NO_EXPOSURE, 0.0, result.beta_exposure)
    table = np.column_stack(
        [
            np.abs(held).sum(axis=1),
            np.maximum(held, 0.0).sum(axis=1),
            np.minimum(held, 0.0).sum(axis=1),
            held.sum(axis=1),
            beta,
            result.turnover,
            (held != 0.0).sum(axis=1),
        ]
    )
    rows, thinned = thin(np.vstack([table, table[-1:]]))
    gross, bought, sold, net, exposed, turnover, positions = thinned.T
    return rows, {
        "leverage": chart(
            "decisions",
            "percent",
            [main_line("Gross", gross), line("Long", 2, bought), line("Net", 0, net), line("Short", 1, sold)],
            kind="step",
        ),
        "beta": chart("decisions", "percent", [main_line("Beta", exposed)], kind="step"),
        "turnover": chart("decisions", "percent", [line("Turnover", 0, turnover)], kind="step", lowest=0.0),
        "positions": chart("decisions", "count", [line("Positions", 0, positions)], kind="step", lowest=0.0),
    }


def _sharpe_chart(window: Window) -> dict[str, Any]:
    """Rolling Sharpe ratio with its interval; none is drawn if the run is shorter than one window."""
    if len(window.returns) < window.size:
        return {}
    sharpe, error = rolling_sharpe(window.returns, window.size, window.size, window.periods_per_year)
    return {"sharpe": chart("returns", "ratio", [*interval(sharpe, error), main_line("Sharpe", sharpe)])}


@dataclass(frozen=True)
class Year:
    """Returns by calendar month, fractions.

    Attributes:
        year: its number.
        months: twelve entries; NaN where the run has no bar.
        total: compounded over the months there are.
    """

    year: int
    months: tuple[float, ...]
    total: float


@dataclass(frozen=True)
class Calendar:
    """Monthly returns, and which of them are not of a whole month.

    Attributes:
        years: in order.
        partial: (year, month) of first and last months cut by the run's ends, month from 0.
    """

    years: list[Year]
    partial: frozenset[tuple[int, int]]


def monthly_returns(time_ms: IntArray, equity_usd: FloatArray) -> Calendar:
    """Return of each calendar month (UTC) on the equity it began with.

    A bar belongs to the month it ends in; one that ends at midnight of the first belongs to the month before.

    Args:
        time_ms: (R,) ends of bars, Unix ms; the first is the start of the run.
        equity_usd: (R,) USD.
    """
    inside = (time_ms[1:] - 1).astype("datetime64[ms]").astype("datetime64[M]").astype(np.int64)
    last = np.append(np.flatnonzero(np.diff(inside)), len(inside) - 1)
    ends = equity_usd[last + 1]
    begins = np.append(equity_usd[:1], ends[:-1])
    growth = dict(zip((inside[last] + 12 * 1970).tolist(), (ends / begins).tolist(), strict=True))
    first_year, last_year = min(growth) // 12, max(growth) // 12
    years = []
    for year in range(first_year, last_year + 1):
        factors = [growth.get(12 * year + month, np.nan) for month in range(12)]
        years.append(Year(year, tuple(f - 1.0 for f in factors), float(np.nanprod(factors)) - 1.0))
    opened, closed = utc(int(time_ms[0])), utc(int(time_ms[-1]))
    cut = set()
    if not _begins_a_month(opened):
        cut.add(divmod(min(growth), 12))
    if not _begins_a_month(closed):
        cut.add(divmod(max(growth), 12))
    return Calendar(years, frozenset(cut))


def _begins_a_month(moment: Any) -> bool:
    return (moment.day, moment.hour, moment.minute, moment.second) == (1, 0, 0, 0)
