"""One book through the bars: positions drift, pay funding, and close when their coin's data ends.

The arithmetic of a trade and of a bar is the ledger's (:mod:`slipstream.core.backtest.ledger`); here it is driven by
returns and not by prices: a position's mark is the compounded return of its coin since the first row, 1.0 before any.
Where a return is missing the mark stands still and the coin cannot be traded.

Clock: row t of the equity is the book at the close t before the trades made there; a trade's cost is booked in the row
after, that of a forced close in its own row.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numba import njit

from slipstream.core.backtest.ledger import _hold, _trade, bars_since_close
from slipstream.core.backtest.parts import FEES, IMPACT
from slipstream.core.panel import FloatArray, IntArray


@dataclass(frozen=True)
class Market:
    """What a book lives in; T rows, N coins.

    Attributes:
        mark: (T, N) compounded returns, finite and positive.
        price: (T, N) the same, NaN where the coin cannot be traded.
        funding: (T, N) sum of the rates settled in each bar; NaN where one was due and is missing.
        silent: (T, N) rows since the coin's last return.
    """

    mark: FloatArray = field(repr=False)
    price: FloatArray = field(repr=False)
    funding: FloatArray = field(repr=False)
    silent: IntArray = field(repr=False)

    @classmethod
    def of_returns(cls, simple_returns: FloatArray, funding: FloatArray) -> Market:
        """Marks that follow simple returns, NaN where there is none.

        Args:
            simple_returns: (T, N), above -1; row t is the bar that ends at t.
            funding: (T, N), see the class.
        """
        missing = np.isnan(simple_returns)
        mark = np.asarray(np.cumprod(np.where(missing, 0.0, simple_returns) + 1.0, axis=0), dtype=np.float64)
        silent = bars_since_close(simple_returns)
        return cls(mark, np.where(missing, np.nan, mark), np.ascontiguousarray(funding), silent)

    @property
    def rows(self) -> int:
        return len(self.mark)

    @property
    def coins(self) -> int:
        return int(self.mark.shape[1])


@dataclass(frozen=True)
class Prices:
    """What trading costs, per coin: the same at every row (one row of rates, or a vector), or row by row.

    Attributes:
        linear_rate: (1, N) or (T, N) fee and half-spread, fraction of notional.
        closing_rate: the same for a forced close.
        impact_rate: k of the impact cost k * notional**1.5, USD**-0.5. A rate may be NaN (unknown) in rows in which
            its coin is neither held nor traded.
        min_order_usd: smaller changes are left undone unless they close a position.
    """

    linear_rate: FloatArray
    closing_rate: FloatArray
    impact_rate: FloatArray
    min_order_usd: float = 0.0

    def __post_init__(self) -> None:
        for name in ("linear_rate", "closing_rate", "impact_rate"):
            object.__setattr__(self, name, np.ascontiguousarray(np.atleast_2d(getattr(self, name))))

    def at(self, row: int) -> tuple[FloatArray, FloatArray]:
        """Linear and impact rates in force at a row, each (N,)."""
        linear, impact = self.linear_rate, self.impact_rate
        return linear[min(row, len(linear) - 1)], impact[min(row, len(impact) - 1)]


@dataclass(frozen=True)
class Fill:
    """One rebalance, arrays of shape (N,), USD; zero where nothing traded."""

    notional_usd: FloatArray
    fee_usd: FloatArray
    impact_usd: FloatArray


class Book:
    """One ledger over a market.

    Attributes:
        equity: (T,) USD, NaN in rows not yet reached.
        pnl: (T, 4) P&L of the bar that ends at each row: price, funding, fees, impact; costs are negative.
        closed_usd: (T,) notional of forced closes.
        counts: settlements due on a position and missing; coin-bars a position stood frozen; forced closes.
    """

    def __init__(self, market: Market, prices: Prices, capital_usd: float, first: int, delist_after_bars: int) -> None:
        self._market, self._prices, self._delist_after_bars = market, prices, delist_after_bars
        self._units = np.zeros((1, market.coins))
        self._cash = np.array([capital_usd])
        self.equity = np.full(market.rows, np.nan)
        self.equity[first] = capital_usd
        self.pnl = np.zeros((market.rows, 4))
        self.closed_usd = np.zeros(market.rows)
        self.counts = np.zeros(3, dtype=np.int64)

    @property
    def units(self) -> FloatArray:
        """Positions in units of mark, shape (N,)."""
        return np.asarray(self._units[0])

    def positions_usd(self, row: int) -> FloatArray:
        """Signed notional at the marks of ``row``, shape (N,)."""
        return np.asarray(self._units[0] * self._market.mark[row])

    def trade_to(self, target_units: FloatArray, row: int) -> Fill:
        """Trade to a number of units at the close of ``row``; coins that cannot be traded there are left as they are.

        A coin whose target equals its units bit for bit is not traded. Costs are booked in the row after.
        """
        target_usd = (target_units * self._market.mark[row])[None, :]
        linear, impact_rate = self._prices.at(row)
        notional, fee, impact = _trade(
            self._units,
            self._cash,
            target_usd,
            self._market.price[row],
            linear,
            impact_rate,
            self._prices.min_order_usd,
        )
        self.pnl[row + 1, FEES] -= fee.sum()
        self.pnl[row + 1, IMPACT] -= impact.sum()
        return Fill(notional[0], fee[0], impact[0])

    def carry(self, after: int, until: int) -> int:
        """Hold over the rows after ``after`` up to and including ``until``; returns the row at which it stopped.

        That is ``until``, or the first row at which nothing was left (equity at or below zero).
        """
        market, prices = self._market, self._prices
        return int(
            _carry(
                self._units,
                self._cash,
                market.mark,
                market.funding,
                market.silent,
                self._delist_after_bars,
                prices.closing_rate,
                prices.impact_rate,
                after,
                until,
                self.equity,
                self.pnl,
                self.closed_usd,
                self.counts,
            )
        )


@njit(cache=True, nogil=True)
def _carry(
    units: FloatArray,
    cash: FloatArray,
    mark: FloatArray,
    funding: FloatArray,
    silent: IntArray,
    delist_after_bars: int,
    closing_rate: FloatArray,
    impact_rate: FloatArray,
    after: int,
    until: int,
    equity: FloatArray,
    pnl: FloatArray,
    closed_usd: FloatArray,
    counts: IntArray,
) -> int:
    coins = units.shape[1]
    for row in range(after + 1, until + 1):
        counts[0] += _hold(units, cash, mark, funding, row, pnl[row : row + 1])
        total = 0.0
        gone = 0
        for i in range(coins):
            if units[0, i] == 0.0:
                continue
            if silent[row, i] > 0:
                counts[1] += 1
                if silent[row, i] >= delist_after_bars:
                    gone += 1
            total += units[0, i] * mark[row, i]
        if gone > 0:
            price, target = np.full(coins, np.nan), np.zeros((1, coins))
            for i in range(coins):
                if units[0, i] != 0.0 and silent[row, i] >= delist_after_bars:
                    price[i] = mark[row, i]
            linear, steep = closing_rate[min(row, len(closing_rate) - 1)], impact_rate[min(row, len(impact_rate) - 1)]
            notional, fee, impact = _trade(units, cash, target, price, linear, steep, 0.0)
            pnl[row, FEES] -= fee.sum()
            pnl[row, IMPACT] -= impact.sum()
            closed_usd[row] += np.abs(notional).sum()
            counts[2] += gone
            total = 0.0
            for i in range(coins):
                total += units[0, i] * mark[row, i]
        equity[row] = cash[0] + total
        if equity[row] <= 0.0:
            return row
    return until


def simulate_weights(
    market: Market,
    prices: Prices,
    weights: FloatArray,
    rows: IntArray,
    capital_usd: float,
    *,
    delist_after_bars: int = 6,
) -> tuple[FloatArray, FloatArray, int]:
    """Trade given weights at given rows, compiled from end to end: simulation without decisions.

    Args:
        market: T rows, N coins.
        prices: what trading costs.
        weights: (K, N) fractions of the equity at each row; NaN leaves a coin as it is.
        rows: (K,) ascending rows of the trades, the last below T - 1.
        capital_usd: opening cash.
        delist_after_bars: as in :class:`Book`.

    Returns:
        equity (T,), USD, NaN before the first of ``rows`` and after ruin; P&L (T, 4); number of orders traded.
    """
    book = Book(market, prices, capital_usd, int(rows[0]), delist_after_bars)
    orders = _simulate(
        book._units,
        book._cash,
        market.mark,
        market.price,
        market.funding,
        market.silent,
        delist_after_bars,
        prices.linear_rate,
        prices.closing_rate,
        prices.impact_rate,
        prices.min_order_usd,
        np.ascontiguousarray(weights),
        np.append(rows, market.rows - 1),
        book.equity,
        book.pnl,
        book.closed_usd,
        book.counts,
    )
    return book.equity, book.pnl, int(orders)


@njit(cache=True, nogil=True)
def _simulate(
    units: FloatArray,
    cash: FloatArray,
    mark: FloatArray,
    price: FloatArray,
    funding: FloatArray,
    silent: IntArray,
    delist_after_bars: int,
    linear_rate: FloatArray,
    closing_rate: FloatArray,
    impact_rate: FloatArray,
    min_order_usd: float,
    weights: FloatArray,
    rows: IntArray,
    equity: FloatArray,
    pnl: FloatArray,
    closed_usd: FloatArray,
    counts: IntArray,
) -> int:
    orders = 0
    coins = units.shape[1]
    target = np.empty((1, coins))
    for k in range(len(weights)):
        row = rows[k]
        for i in range(coins):
            held = units[0, i] * mark[row, i]
            target[0, i] = held if np.isnan(weights[k, i]) else weights[k, i] * equity[row]
        linear, steep = linear_rate[min(row, len(linear_rate) - 1)], impact_rate[min(row, len(impact_rate) - 1)]
        notional, fee, impact = _trade(units, cash, target, price[row], linear, steep, min_order_usd)
        pnl[row + 1, FEES] -= fee.sum()
        pnl[row + 1, IMPACT] -= impact.sum()
        for i in range(coins):
            orders += notional[0, i] != 0.0
        stopped = _carry(
            units,
            cash,
            mark,
            funding,
            silent,
            delist_after_bars,
            closing_rate,
            impact_rate,
            row,
            rows[k + 1],
            equity,
            pnl,
            closed_usd,
            counts,
        )
        if stopped < rows[k + 1] or equity[stopped] <= 0.0:
            break
    return orders
