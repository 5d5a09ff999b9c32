"""The tables and checks on the page of one walk-forward backtest, as plain values a template only has to lay out."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from slipstream.core.backtest.parts import FEES, FUNDING, IMPACT, PRICE
from slipstream.core.backtest.result import BacktestResult
from slipstream.core.metrics import sharpe_standard_error
from slipstream.core.panel import HOURS_PER_YEAR
from slipstream.reports.backtest_series import Calendar, bar_hours
from slipstream.reports.formatting import MISSING, Dollars, counted, number, percent, tiny
from slipstream.reports.sections import IDENTITY_TOLERANCE, Cell, Check, config_rows

LARGEST_HOLDINGS = 15


@dataclass(frozen=True)
class Figures:
    """The headline of a run: fractions, ratios, USD; ``turnover_per_year`` is in multiples of equity."""

    total_return: float
    sharpe: float
    sharpe_se: float
    max_drawdown: float
    turnover_per_year: float
    final_usd: float
    net_usd: float
    years: float


def figures(result: BacktestResult) -> Figures:
    """The figures of :meth:`BacktestResult.summary` that head the page, and what goes with them."""
    years = float(result.time_ms[-1] - result.time_ms[0]) / 3_600_000 / HOURS_PER_YEAR
    sharpe = result.sharpe_ratio()
    periods, per_year = len(result.period_returns), HOURS_PER_YEAR / result.config.H
    return Figures(
        total_return=result.total_return(),
        sharpe=sharpe,
        sharpe_se=sharpe_standard_error(sharpe, periods, per_year) if periods > 1 else np.nan,
        max_drawdown=result.max_drawdown(),
        turnover_per_year=float(result.turnover.sum()) / years,
        final_usd=float(result.equity_usd[-1]),
        net_usd=float(result.equity_usd[-1] - result.equity_usd[0]),
        years=years,
    )


def further_figures(result: BacktestResult) -> list[tuple[str, str]]:
    """What one asks next, as names and texts."""
    returns, gross = result.period_returns, np.abs(result.weights).sum(axis=1)
    sigma = float(returns.std(ddof=1)) if len(returns) > 1 else np.nan
    moved = returns[returns != 0.0]
    return [
        ("Volatility a year", percent(sigma * float(np.sqrt(HOURS_PER_YEAR / result.config.H)))),
        ("Best period", percent(float(returns.max()), signed=True)),
        ("Worst period", percent(float(returns.min()), signed=True)),
        ("Periods with a gain", percent(float((moved > 0.0).mean()), 1) if len(moved) else MISSING),
        ("Longest time below a high", _longest_below_high(result)),
        ("Average gross exposure", percent(float(gross.mean()), 1)),
        ("Average positions", number(float((result.weights != 0.0).sum(axis=1).mean()), 1)),
        ("Average turnover a period", percent(float(result.turnover.mean()), 1)),
    ]


def _longest_below_high(result: BacktestResult) -> str:
    """Longest stretch from a high to its recovery, or to the end, in days."""
    equity = result.equity_usd
    at_high = np.flatnonzero(equity >= np.maximum.accumulate(equity))
    gaps = np.diff(np.append(at_high, len(equity)))
    return f"{number(float(gaps.max(initial=1) - 1) * bar_hours(result) / 24.0, 1)} days"


@dataclass(frozen=True)
class CostLine:
    """One kind of cost; bp are of the notional traded, the share is of the profit before costs."""

    name: str
    usd: str
    bp: str
    a_year: str
    share: str


def cost_lines(result: BacktestResult, years: float) -> tuple[str, list[CostLine]]:
    """Notional traded, and its costs by kind with their sum."""
    usd = Dollars.beside(result.config.initial_capital)
    parts = result.pnl_usd.sum(axis=0)
    traded = float(np.abs(result.notional_usd).sum() + result.closed_usd.sum())
    gross = float(parts[PRICE] + parts[FUNDING])
    average = float(result.equity_usd.mean())

    def cost_line(name: str, cost: float) -> CostLine:
        bp = number(1e4 * cost / traded, 2) if traded > 0.0 else MISSING
        share = percent(cost / gross, 1) if gross > 0.0 else MISSING
        return CostLine(name, usd(cost), bp, percent(cost / average / years) if average > 0.0 else MISSING, share)

    fees, impact = -float(parts[FEES]), -float(parts[IMPACT])
    rows = [cost_line("Fees and half-spread", fees), cost_line("Impact", impact), cost_line("All", fees + impact)]
    return usd(traded), rows


@dataclass(frozen=True)
class HoldingRow:
    """One asset: how often and how much of it was held, and what was traded."""

    asset: str
    held: str
    gross: str
    net: str
    largest: str
    traded: str
    orders: str


def holdings(result: BacktestResult) -> list[HoldingRow]:
    """The assets of the greatest average size, largest first; ties in the order of the columns."""
    usd, size = Dollars.beside(result.config.initial_capital), np.abs(result.weights)
    order = np.argsort(-size.mean(axis=0), kind="stable")[:LARGEST_HOLDINGS]
    traded = np.abs(result.notional_usd)
    return [
        HoldingRow(
            asset=str(result.assets[i]),
            held=percent(float((size[:, i] > 0.0).mean()), 0),
            gross=percent(float(size[:, i].mean())),
            net=percent(float(result.weights[:, i].mean()), signed=True),
            largest=percent(float(result.weights[size[:, i].argmax(), i]), 1, signed=True),
            traded=usd(float(traded[:, i].sum())),
            orders=number(int((traded[:, i] > 0.0).sum())),
        )
        for i in order.tolist()
        if size[:, i].any()
    ]


@dataclass(frozen=True)
class CalendarRow:
    """One year of the calendar: twelve cells, None where there is no bar, and the year's return."""

    year: int
    cells: list[tuple[Cell, bool] | None]
    total: Cell


def calendar_rows(calendar: Calendar) -> list[CalendarRow]:
    """The calendar with each month coloured by its size beside the largest; the flag marks a month cut short."""
    months = np.array([year.months for year in calendar.years])
    scale = float(np.nanmax(np.abs(months), initial=0.0))

    def cell(value: float) -> Cell:
        strength = round(100 * abs(value) / scale) if scale > 0.0 else 0
        return Cell(percent(value, 1, signed=True), 0, min(strength, 100), value < 0.0)

    return [
        CalendarRow(
            year.year,
            [
                None if np.isnan(value) else (cell(value), (year.year, month) in calendar.partial)
                for month, value in enumerate(year.months)
            ],
            cell(year.total),
        )
        for year in calendar.years
    ]


def checks(result: BacktestResult) -> list[Check]:
    """The audit of the run and the counts a reader should know."""
    counts = result.counts
    return [
        Check(
            "Accounting identity",
            f"largest error {tiny(result.accounting_max_error)} of initial capital",
            result.accounting_max_error <= IDENTITY_TOLERANCE,
            "In every bar the change of the equity equals the sum of its P&L parts.",
        ),
        Check(
            "Decisions solved",
            "all of them" if counts.n_failed == 0 else f"{counted(counts.n_failed, 'decision')} not solved",
            counts.n_failed == 0,
            "Where the optimiser finds no certified answer the book is held as it is.",
        ),
        Check(
            "Solvency",
            "equity fell to zero or below and the run stopped" if result.ruined else "equity stayed above zero",
            not result.ruined,
            "A ruined book is not carried on.",
        ),
        Check(
            "Funding stamps missing",
            counted(counts.n_funding_missing, "settlement"),
            None,
            "Due on a held position and not in the data; charged nothing.",
        ),
        Check(
            "Positions frozen",
            counted(counts.n_frozen, "coin-bar"),
            None,
            "Bars in which a position stood without a return: its mark stood still and it could not be traded.",
        ),
        Check(
            "Positions closed by a delisting",
            number(counts.n_delisted),
            None,
            "Closed at the last known mark and at taker cost after a coin fell silent.",
        ),
        *_lots_check(result),
        Check(
            "Trade fingerprint",
            result.trade_fingerprint,
            None,
            "SHA-256 over the bits of all trades; the same data and configuration must give the same one.",
        ),
    ]


def _lots_check(result: BacktestResult) -> list[Check]:
    if not result.config.use_discrete_lots:
        return []
    return [
        Check(
            "Hedged in whole lots",
            counted(result.counts.n_lots_missed, "decision") + " beyond tolerance",
            result.counts.n_lots_missed == 0,
            "Decisions at which whole lots could not bring beta within its tolerance.",
        )
    ]


def settings(result: BacktestResult) -> list[tuple[str, str]]:
    """The configuration as names and texts."""
    return config_rows(asdict(result.config))
