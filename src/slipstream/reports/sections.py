"""The tables and static bars of a federation report, as plain values a template only has to lay out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from slipstream.core.coverage import CoinCoverage
from slipstream.core.panel import FloatArray, IntArray, to_ms, utc
from slipstream.federation.result import PARTS, FederationResult
from slipstream.reports.formatting import MISSING, Dollars, counted, day, minute, month, number, percent, price, tiny
from slipstream.reports.series import DailyReturns, correlations

PART_NAMES = {"price": "Price", "funding": "Funding", "fees": "Fees", "impact": "Impact"}
EXTRACT_TRADES = 20
IDENTITY_TOLERANCE = 1e-9
CAUSALITY_TOLERANCE = 1e-9


@dataclass(frozen=True)
class Bar:
    """One row of a waterfall; positions are percentages of the row's width.

    Attributes:
        label: what the row is.
        text, share: the figure, and the same as a fraction of initial capital.
        kind: ``level`` (a mark), ``gain`` or ``loss`` (a bar from the level before to the level after).
        left, width: where the bar lies.
        before: where the level before it lies.
    """

    label: str
    text: str
    share: str
    kind: str
    left: float
    width: float
    before: float


@dataclass(frozen=True)
class Waterfall:
    """From an opening level through each part of the P&L to the closing level.

    ``zero`` is where an opening level of zero lies, in percent of the width; None if the opening is a capital.
    """

    name: str
    pod: int | None
    net: float
    bars: list[Bar]
    zero: float | None


def account_waterfall(result: FederationResult) -> Waterfall:
    """Initial capital to final equity of the whole account."""
    parts = result.pnl_usd.sum(axis=(0, 1))
    return capital_waterfall(parts, result.initial_capital_usd, float(result.total_equity_usd[-1]))


def capital_waterfall(parts: FloatArray, opening: float, closing: float) -> Waterfall:
    """From one level of capital to another; the scale shows the levels passed through, not zero.

    Args:
        parts: (4,) P&L by part in the order of ``PARTS``, USD.
        opening: USD.
        closing: USD.
    """
    usd = Dollars.beside(opening)
    levels = opening + np.concatenate([[0.0], np.cumsum(parts)])
    bars = _bars(parts, levels, (levels.min(), levels.max()), opening)
    place = bars[-1].left if parts[-1] < 0 else bars[-1].left + bars[-1].width
    bars.insert(0, Bar("Initial capital", usd(opening), "", "level", bars[0].before, 0.0, bars[0].before))
    bars.append(Bar("Final equity", usd(closing), _share(closing - opening, opening), "level", place, 0.0, place))
    return Waterfall("Account", None, closing - opening, bars, None)


def pod_waterfalls(result: FederationResult) -> list[Waterfall]:
    """Each pod's P&L from zero, all on one scale."""
    parts, usd = result.pnl_usd.sum(axis=0), Dollars.beside(result.initial_capital_usd)
    levels = np.concatenate([np.zeros((len(parts), 1)), np.cumsum(parts, axis=1)], axis=1)
    scale = (float(levels.min()), float(levels.max()))
    out = []
    for k, pod in enumerate(result.pods):
        bars = _bars(parts[k], levels[k], scale, result.initial_capital_usd)
        net = float(parts[k].sum())
        ends = sorted((bars[0].before, _place(net, scale)))
        kind = "loss" if net < 0 else "gain"
        share = _share(net, result.initial_capital_usd)
        net_bar = Bar("Net", usd(net, signed=True), share, kind, ends[0], ends[1] - ends[0], bars[0].before)
        out.append(Waterfall(pod, k, net, [*bars, net_bar], bars[0].before))
    return out


def _bars(parts: FloatArray, levels: FloatArray, scale: tuple[float, float], initial_usd: float) -> list[Bar]:
    out, usd = [], Dollars.beside(initial_usd)
    for k, key in enumerate(PARTS):
        before, after = _place(float(levels[k]), scale), _place(float(levels[k + 1]), scale)
        value = float(parts[k])
        kind = "loss" if value < 0 else "gain"
        left, width = min(before, after), abs(after - before)
        share = _share(value, initial_usd)
        out.append(Bar(PART_NAMES[key], usd(value, signed=True), share, kind, left, width, before))
    return out


def _place(level: float, scale: tuple[float, float]) -> float:
    """Percent of the width at which ``level`` lies, with a margin of two at either end."""
    low, high = scale
    return 50.0 if high <= low else round(2.0 + 96.0 * (level - low) / (high - low), 3)


def _share(value: float, initial_usd: float) -> str:
    return percent(value / initial_usd, signed=True) if initial_usd > 0 else ""


@dataclass(frozen=True)
class CostRow:
    """What trading cost one pod or the account; the bp are of the notional traded."""

    name: str
    pod: int | None
    trades: str
    notional: str
    fees: str
    fees_bp: str
    impact: str
    impact_bp: str
    cost: str
    cost_bp: str


def cost_rows(result: FederationResult) -> list[CostRow]:
    """One row per pod, then the total."""
    trades, size, usd = result.trades, len(result.pods), Dollars.beside(result.initial_capital_usd)
    count = np.bincount(trades.pod, minlength=size).astype(float)
    notional = np.bincount(trades.pod, np.abs(trades.notional_usd), size)
    fees = np.bincount(trades.pod, trades.fee_usd, size)
    impact = np.bincount(trades.pod, trades.impact_usd, size)

    def row(name: str, pod: int | None, n: float, traded: float, fee: float, moved: float) -> CostRow:
        def bp(cost: float) -> str:
            return number(1e4 * cost / traded, 2) if traded > 0 else MISSING

        cost = fee + moved
        return CostRow(name, pod, number(n), usd(traded), usd(fee), bp(fee), usd(moved), bp(moved), usd(cost), bp(cost))

    rows = [row(pod, k, count[k], notional[k], fees[k], impact[k]) for k, pod in enumerate(result.pods)]
    return [*rows, row("Total", None, count.sum(), notional.sum(), fees.sum(), impact.sum())]


@dataclass(frozen=True)
class Cell:
    """One correlation: its text, the days it rests on, its strength (0 to 100) and whether it is negative."""

    text: str
    days: int
    strength: int
    negative: bool


def correlation_cells(days: DailyReturns) -> list[list[Cell]]:
    """The correlation matrix of pods' daily returns, row by row."""
    matrix, shared = correlations(days.pods)
    return [
        [
            Cell(number(value, 2), n, round(100 * abs(value)) if np.isfinite(value) else 0, value < 0)
            for value, n in zip(line.tolist(), counts.tolist(), strict=True)
        ]
        for line, counts in zip(matrix, shared, strict=True)
    ]


@dataclass(frozen=True)
class TradeRow:
    """One trade as text."""

    time: str
    name: str
    pod: int
    coin: str
    side: str
    notional: str
    price: str
    fee: str
    impact: str


def largest_trades(result: FederationResult) -> list[TradeRow]:
    """The trades of the greatest notional, largest first; ties in order of time, pod and coin."""
    order = np.argsort(-np.abs(result.trades.notional_usd), kind="stable")[:EXTRACT_TRADES]
    return _trade_rows(result, order)


def latest_trades(result: FederationResult) -> list[TradeRow]:
    """The last trades of the run, latest first."""
    return _trade_rows(result, np.arange(len(result.trades.time_ms))[::-1][:EXTRACT_TRADES])


def _trade_rows(result: FederationResult, order: IntArray) -> list[TradeRow]:
    trades, usd = result.trades, Dollars.beside(result.initial_capital_usd)
    return [
        TradeRow(
            time=minute(int(trades.time_ms[i])),
            name=result.pods[int(trades.pod[i])],
            pod=int(trades.pod[i]),
            coin=result.coins[int(trades.coin[i])],
            side="buy" if trades.notional_usd[i] > 0 else "sell",
            notional=usd(float(trades.notional_usd[i]), signed=True),
            price=price(float(trades.price[i])),
            fee=number(float(trades.fee_usd[i]), 2),
            impact=number(float(trades.impact_usd[i]), 2),
        )
        for i in order.tolist()
    ]


@dataclass(frozen=True)
class CoverageRow:
    """One coin's data; ``left`` and ``width`` place its life on the strip, in percent."""

    coin: str
    left: float
    width: float
    first: str
    last: str
    bars: str
    gaps: str
    silent: str
    funding_missing: str
    ends_early: bool
    closed_positions: int
    remarkable: bool


@dataclass(frozen=True)
class Coverage:
    """All coins' data on one axis.

    Attributes:
        rows: every coin.
        ticks: (place in percent, label) of month starts.
        start: place of the run's first decision, in percent.
        gap_bars, funding_missing, early: totals over coins.
    """

    rows: list[CoverageRow]
    ticks: list[tuple[float, str]]
    start: float
    gap_bars: int
    funding_missing: int
    early: int

    @property
    def remarkable(self) -> list[CoverageRow]:
        return [row for row in self.rows if row.remarkable]


def coverage_section(result: FederationResult, coins: tuple[CoinCoverage, ...]) -> Coverage:
    """Coverage on an axis from the first bar of any coin, or of the run, to the last."""
    times = [int(result.time_ms[0]), int(result.time_ms[-1])]
    first = min([coin.first_ms for coin in coins] + times)
    last = max([coin.last_ms for coin in coins] + times)
    span = max(last - first, 1)

    def place(ms: int) -> float:
        return round(100.0 * (ms - first) / span, 3)

    closed: dict[str, int] = {}
    for _, _, column in result.delisted:
        closed[result.coins[column]] = closed.get(result.coins[column], 0) + 1
    rows = [
        CoverageRow(
            coin=coin.coin,
            left=place(coin.first_ms),
            width=max(round(place(coin.last_ms) - place(coin.first_ms), 3), 0.3),
            first=day(coin.first_ms),
            last=day(coin.last_ms),
            bars=number(coin.bars),
            gaps=number(coin.gap_bars),
            silent=number(coin.zero_volume_bars),
            funding_missing=number(coin.funding_missing),
            ends_early=coin.ends_early,
            closed_positions=closed.get(coin.coin, 0),
            remarkable=coin.ends_early or coin.gap_bars > 0 or coin.funding_missing > 1 or coin.coin in closed,
        )
        for coin in coins
    ]
    return Coverage(
        rows=rows,
        ticks=[(place(ms), label) for ms, label in _month_starts(first, last)],
        start=place(times[0]),
        gap_bars=sum(coin.gap_bars for coin in coins),
        funding_missing=sum(coin.funding_missing for coin in coins),
        early=sum(coin.ends_early for coin in coins),
    )


def _month_starts(first_ms: int, last_ms: int, most: int = 12) -> list[tuple[int, str]]:
    """Month starts inside the span, every second, third ... one if there would be more than ``most``."""
    starts = []
    year, number_of_month = utc(first_ms).year, utc(first_ms).month
    while True:
        year, number_of_month = (year + 1, 1) if number_of_month == 12 else (year, number_of_month + 1)
        moment = utc(first_ms).replace(year=year, month=number_of_month, day=1, hour=0, minute=0, second=0)
        ms = to_ms(moment.replace(microsecond=0))
        if ms > last_ms:
            break
        starts.append((ms, moment))
    step = next(k for k in (1, 2, 3, 6, 12, 24, 120, len(starts) + 1) if len(starts) <= k * most)
    return [(ms, month(moment)) for ms, moment in starts if (moment.year * 12 + moment.month - 1) % step == 0]


@dataclass(frozen=True)
class Check:
    """One check made on the run: what it is, the figure, and whether it holds (None: a count to know, no verdict)."""

    name: str
    figure: str
    holds: bool | None
    meaning: str


def checks(result: FederationResult) -> list[Check]:
    """The audits of the run and the counts a reader should know."""
    again = result.causality
    causal = None if again.decisions == 0 else again.max_difference <= CAUSALITY_TOLERANCE
    return [
        Check(
            "Accounting identity",
            f"largest error {tiny(result.accounting_max_error)} of initial capital",
            result.accounting_max_error <= IDENTITY_TOLERANCE,
            "In every hour, per pod and in total, the change of a ledger equals the sum of its P&L parts.",
        ),
        Check(
            "Causality",
            f"{counted(again.decisions, 'decision')} taken again, largest difference {tiny(again.max_difference)}"
            if again.decisions
            else "no decision was taken again",
            causal,
            "Decisions repeated from data cut at their own moment, against the run's; 0 is bit for bit equal.",
        ),
        Check(
            "Funding stamps missing",
            counted(result.funding_missing, "settlement"),
            None,
            "Due on a held position and not in the data; charged nothing.",
        ),
        Check(
            "Positions closed by a delisting",
            number(len(result.delisted)),
            None,
            "Sold or bought back at the last known price because the coin's data ended.",
        ),
        Check(
            "Allocations not solved",
            number(result.failed_allocations),
            None,
            "Cycles in which the allocator's programme found no answer and every grant was kept as it was.",
        ),
        Check(
            "Trade fingerprint",
            result.trade_fingerprint,
            None,
            "SHA-256 of all trades; the same data, configuration and seed must give the same one.",
        ),
    ]


def delisted_lines(result: FederationResult) -> list[str]:
    """One line per position closed because its coin's data ended."""
    return [f"{result.coins[coin]} in {result.pods[pod]}, {minute(ms)}" for ms, pod, coin in result.delisted]


def config_rows(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Configuration flattened to dotted names, in the order given."""
    rows: list[tuple[str, str]] = []
    for key, value in config.items():
        if isinstance(value, Mapping):
            rows.extend((f"{key}.{name}", text) for name, text in config_rows(value))
        elif isinstance(value, list | tuple):
            rows.append((str(key), ", ".join(_plain(item) for item in value)))
        else:
            rows.append((str(key), _plain(value)))
    return rows


def _plain(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.10g}" if isinstance(value, float) else str(value)
