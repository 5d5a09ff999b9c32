"""Books of positions kept in double entry: units and cash on one side, P&L split into parts on the other.

A book holds units of each coin and cash; a trade at price p moves cash by minus the notional and minus its costs, a
settlement moves cash, and equity is cash plus units at their marks. The P&L parts are accumulated on their own, so
"equity moved by the sum of the parts" is a check and not a definition. B books are kept side by side; loops run in a
fixed order, so the same input gives the same bits.

Funding of a bar is charged on the position at the bar's open: units times the previous mark times the bar's rate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from slipstream.core.backtest.parts import FUNDING, PRICE
from slipstream.core.panel import FloatArray, IntArray, Panel


@njit(cache=True, nogil=True)
def _trade(
    units: FloatArray,
    cash: FloatArray,
    target_usd: FloatArray,
    price: FloatArray,
    linear_rate: FloatArray,
    impact_rate: FloatArray,
    min_order_usd: float,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    books, coins = units.shape
    notional = np.zeros((books, coins))
    fee = np.zeros((books, coins))
    impact = np.zeros((books, coins))
    for b in range(books):
        for i in range(coins):
            if np.isnan(price[i]):
                continue
            held = units[b, i] * price[i]
            order = target_usd[b, i] - held
            closing = target_usd[b, i] == 0.0 and units[b, i] != 0.0
            if order == 0.0 or (abs(order) < min_order_usd and not closing):
                continue
            size = abs(order)
            notional[b, i] = order
            fee[b, i] = size * linear_rate[i]
            impact[b, i] = impact_rate[i] * size * np.sqrt(size)
            units[b, i] = 0.0 if closing else units[b, i] + order / price[i]
            cash[b] -= order + fee[b, i] + impact[b, i]
    return notional, fee, impact


@njit(cache=True, nogil=True)
def _hold(
    units: FloatArray,
    cash: FloatArray,
    mark: FloatArray,
    funding: FloatArray,
    row: int,
    pnl: FloatArray,
) -> int:
    """Carry every book over the bar that ends at ``row``; returns held coins whose due settlement is missing."""
    books, coins = units.shape
    missing = 0
    for i in range(coins):
        held = False
        for b in range(books):
            held = held or units[b, i] != 0.0
        if not held:
            continue
        before = mark[row - 1, i]
        move = mark[row, i] - before
        rate = funding[row, i]
        if np.isnan(rate):
            missing += 1
            rate = 0.0
        for b in range(books):
            if units[b, i] == 0.0:
                continue
            paid = units[b, i] * before * rate
            pnl[b, PRICE] += units[b, i] * move
            pnl[b, FUNDING] -= paid
            cash[b] -= paid
    return missing


@dataclass(frozen=True)
class Fills:
    """Trades of one moment, each array of shape (B, N), USD; zero where nothing traded."""

    notional_usd: FloatArray
    fee_usd: FloatArray
    impact_usd: FloatArray

    def cost_parts(self) -> tuple[FloatArray, FloatArray]:
        """Fee and impact of each book, shape (B,), USD."""
        return self.fee_usd.sum(axis=1), self.impact_usd.sum(axis=1)


class Ledger:
    """B books over the coins of one panel.

    Args:
        panel: supplies marks and funding; its NaN funding (due, not recorded) is charged 0 and counted.
        cash_usd: shape (B,), opening cash of each book.
        linear_rate: shape (N,), fee and half-spread, fraction of notional.
        min_order_usd: smaller changes are left undone unless they close a position.
        close_after_bars: a position whose coin has had no bar for this many rows is closed at its last price.
    """

    def __init__(
        self,
        panel: Panel,
        cash_usd: FloatArray,
        linear_rate: FloatArray,
        *,
        min_order_usd: float,
        close_after_bars: int,
    ) -> None:
        coins = len(panel.coins)
        self._panel = panel
        self._linear_rate = linear_rate
        self._min_order_usd = min_order_usd
        self._close_after_bars = close_after_bars
        self._silent = bars_since_close(panel.close)
        self.cash_usd = np.array(cash_usd, dtype=np.float64)
        self.units = np.zeros((len(cash_usd), coins))
        self.funding_missing = 0

    def positions_usd(self, row: int) -> FloatArray:
        """Signed notional at the marks of ``row``, shape (B, N)."""
        return np.where(self.units == 0.0, 0.0, self.units * self._panel.mark[row])

    def equity_usd(self, row: int) -> FloatArray:
        """Cash plus marked positions, shape (B,)."""
        return np.asarray(self.cash_usd + self.positions_usd(row).sum(axis=1))

    def trade_to(self, target_usd: FloatArray, row: int, impact_rate: FloatArray) -> Fills:
        """Move every book to its targets at the closes of ``row``; coins without a close are left as they are.

        Args:
            target_usd: shape (B, N), signed notional wanted.
            row: the decision's row.
            impact_rate: shape (N,), k of the impact cost k * notional**1.5, known at ``row``.
        """
        price = self._panel.close[row]
        return Fills(
            *_trade(
                self.units,
                self.cash_usd,
                target_usd,
                price,
                self._linear_rate,
                impact_rate,
                self._min_order_usd,
            )
        )

    def hold(self, row: int) -> FloatArray:
        """Carry the books over the bar ending at ``row``; its price and funding P&L, shape (B, 4), costs zero."""
        pnl = np.zeros((len(self.cash_usd), 4))
        self.funding_missing += _hold(self.units, self.cash_usd, self._panel.mark, self._panel.funding, row, pnl)
        return pnl

    def close_delisted(self, row: int, impact_rate: FloatArray) -> Fills | None:
        """Close positions in coins silent for ``close_after_bars`` rows at their last price, or None if there are none.

        The end of a coin's data is not known beforehand: the position is carried, frozen, until then.
        """
        gone = (self._silent[row] >= self._close_after_bars) & (self.units != 0.0).any(axis=0)
        if not gone.any():
            return None
        price = np.where(gone, self._panel.mark[row], np.nan)
        target = np.where(gone, 0.0, self.positions_usd(row))
        return Fills(*_trade(self.units, self.cash_usd, target, price, self._linear_rate, impact_rate, 0.0))


def bars_since_close(close: FloatArray) -> IntArray:
    """Rows since each coin's last bar, shape (T, N): 0 where there is one; counts from the top before the first."""
    rows = np.arange(len(close))[:, None]
    last = np.maximum.accumulate(np.where(np.isnan(close), -1, rows), axis=0)
    return np.asarray(rows - last, dtype=np.int64)
