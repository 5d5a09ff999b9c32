"""What a position in each coin earns per bar, the series whose covariance is the risk: price return minus funding.

A long position pays the funding rate, so its net return over a bar is ``r - f`` and the covariance of net returns is

    S_net = S_price + S_funding - C - C',    C = cov(r, f).

Estimating it from the net series itself counts every term and cannot leave the positive semi-definite cone the way a
sum of four separate estimates can.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from slipstream.core.backtest.frames import Asset, Grid, Table, make_grid, place, read_table
from slipstream.core.panel import HOUR_MS, BoolArray, FloatArray, IntArray, forward_fill
from slipstream.core.portfolio.covariance import CovarianceError


@dataclass(frozen=True)
class NetSeries:
    """Net simple returns on an even clock.

    Attributes:
        values: (T, N), fractions per bar, NaN where the return or a funding settlement that was due is missing.
        coins: N labels; positions where bare arrays were given.
        time_ms: (T,) known-at of each row, Unix ms; hours since the epoch where bare arrays were given.
        bar_hours: length of a bar.
    """

    values: FloatArray = field(repr=False)
    coins: tuple[Asset, ...]
    time_ms: IntArray = field(repr=False)
    bar_hours: float

    def bars(self, name: str, hours: float) -> int:
        """Whole bars in a span.

        Raises:
            CovarianceError: the span is shorter than one bar.
        """
        if not hours >= self.bar_hours:
            raise CovarianceError(f"{name} is {hours:g} h, shorter than one bar of {self.bar_hours:g} h")
        return int(hours // self.bar_hours)

    def lookback(self, lookback_hours: float, min_hours: float) -> tuple[int, int]:
        """Rows of the lookback, and the least rows of it a coin needs (two at least).

        Raises:
            CovarianceError: the lookback is shorter than a bar or than ``min_hours``.
        """
        if not 0.0 <= min_hours <= lookback_hours:
            raise CovarianceError(
                f"min_hours is {min_hours:g}; it lies between 0 and lookback_hours, {lookback_hours:g}"
            )
        return self.bars("lookback_hours", lookback_hours), max(2, math.ceil(min_hours / self.bar_hours))

    def moves(self) -> BoolArray:
        """Where a coin's return is there and differs from its last one, shape (T, N)."""
        seen = ~np.isnan(self.values)
        last = self.values if seen.all() else forward_fill(self.values)
        out = np.zeros(self.values.shape, dtype=bool)
        np.not_equal(self.values[1:], last[:-1], out=out[1:])
        out[1:] &= seen[1:] & ~np.isnan(last[:-1])
        return out


def varies(values: FloatArray) -> BoolArray:
    """Columns of (T, N) values, NaN where missing, that hold two different numbers, shape (N,).

    A coin whose returns do not has no variance to speak of: its file was padded, or its market is halted.
    """
    # fmax and fmin pass over NaN, and give NaN, which is not above 0, for a column that has nothing else
    return np.asarray(np.fmax.reduce(values, axis=0) - np.fmin.reduce(values, axis=0) > 0.0)


def net_series(returns: Any, funding: Any = None, bar_hours: float | None = None) -> NetSeries:
    """Returns and funding on one clock, as one series per coin.

    Args:
        returns: simple returns per bar, time x coin: a pandas frame with a time index, a polars frame whose first
            column is the time, or a bare array (T, N). Row t is the bar that ends at t; NaN where there is none.
            Labelled rows left out count as missing.
        funding: the sum of the rates settled in each bar, laid out like ``returns``; None leaves funding out. Coins
            without returns are ignored. An empty cell is 0 where no settlement was due and unknown where one was,
            which leaves out that bar of that coin (:mod:`slipstream.core.settlements`).
        bar_hours: length of a bar; inferred from labels as the least step, 1 for bare arrays.

    Raises:
        BacktestInputError: a table that cannot be read; its message names the argument, and row and coin.
        CovarianceError: a return of -1 or less, or a coin without a column in ``funding``.
    """
    table = read_table("returns", returns)
    grid = make_grid(table, [], bar_hours)
    gone = np.argwhere(table.values <= -1.0)
    if len(gone):
        row, column = (int(i) for i in gone[0])
        raise CovarianceError(
            f"{place(table, row, column)} is {table.values[row, column]:g}; a simple return is above -1. "
            "Convert log returns with numpy.expm1"
        )
    values = grid.lay(table)
    if funding is not None:
        values = values - _settled(read_table("funding", funding), grid)
    return NetSeries(np.ascontiguousarray(values), grid.assets, grid.time_ms, grid.bar_ms / HOUR_MS)


def _settled(table: Table, grid: Grid) -> FloatArray:
    """Funding of the grid's coins, (T, N), 0 where no settlement was due."""
    from slipstream.core.settlements import missing_settlements_marked

    if (table.assets is None) != grid.bare:
        raise CovarianceError("returns and funding must both be labelled frames or both bare arrays")
    if table.assets is not None:
        absent = [asset for asset in grid.assets if asset not in table.assets]
        if absent:
            raise CovarianceError(f"funding lacks {absent[0]!r}; add its column, or leave the coin out of returns")
        columns = [table.assets.index(asset) for asset in grid.assets]
        table = replace(table, assets=grid.assets, values=np.ascontiguousarray(table.values[:, columns]))
    return missing_settlements_marked(grid.lay(table), grid.time_ms, grid.bar_ms)
