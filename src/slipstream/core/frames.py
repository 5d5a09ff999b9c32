"""The edge between wide pandas frames and the panel: one column per coin, rows labelled by known-at.

Research and CSV files speak in frames of log returns; decisions speak in panels. A panel needs prices, so each coin
gets an index that is 1 at the row before its first return. What a frame does not say stays unknown: a missing return is
a gap, never a zero, and a volume that was not given is NaN, which leaves the volume rule and market impact unjudged.

A column that begins with returns of exactly zero is a coin whose file was padded before its listing, or that had not
traded yet. Those rows are no observations and become NaN: as zeros they would pull down its volatility and push it to
the top of every ranking.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from slipstream.core.panel import HOUR_MS, FloatArray, IntArray, Panel, UniverseRule, utc
from slipstream.errors import DataError

if TYPE_CHECKING:
    import pandas as pd


class FrameError(DataError):
    """A frame that cannot become a panel; the message names the frame and the row or column."""


def panel_from_returns(
    log_returns: pd.DataFrame,
    funding: pd.DataFrame | None = None,
    volume_usd: pd.DataFrame | None = None,
    *,
    rule: UniverseRule | None = None,
    source: str = "log returns",
) -> Panel:
    """A panel of price indices whose log returns are those of a frame.

    The panel has one row more than the frame's span, at its top: the close from which the first returns are measured.
    Missing rows become rows of gaps. The return after a gap is taken as the whole move since the last close, which is
    how ``slipstream data export`` writes it.

    Args:
        log_returns: index = known-at (timezone-aware, or naive and read as UTC), one column per coin; row t is the log
            return of the bar that ends at t. The bar length is the least positive step, whole hours.
        funding: same labels; row t is the sum of the rates settled in the bar that ends at t. None: no funding is
            known and every rate is 0. A missing cell, row or coin is a settlement that was due and not recorded.
        volume_usd: same labels; USD traded in the bar that ends at t. None, or a missing cell: unknown.
        rule: which coins may be held (default :class:`~slipstream.core.panel.UniverseRule`).
        source: where the frame comes from, for messages and reports.

    Returns:
        A panel whose open, high, low and close are the same index; columns of other frames that are not in
        ``log_returns`` are left out.

    Raises:
        FrameError: an index or a cell that cannot be used, frames of different bar lengths, or no coin in common.
    """
    coins = tuple(sorted(str(name) for name in log_returns.columns))
    times = index_ms(log_returns, source)
    step = bar_ms(times, source)
    if step % HOUR_MS:
        raise FrameError(f"{source}: rows are {step / HOUR_MS:g} h apart; a panel's bars are whole hours")
    grid = np.arange(times[0] - step, times[-1] + step, step)
    returns = unpadded(_on_grid(log_returns, coins, times, grid, source))
    close = _price_index(returns)
    rates = np.zeros_like(close)
    if funding is not None:
        rates = _companion(funding, coins, grid, step, f"funding beside {source}")
        rates[0] = 0.0
    volume = np.full_like(close, np.nan)
    if volume_usd is not None:
        volume = _companion(volume_usd, coins, grid, step, f"volume beside {source}")
        if (volume < 0.0).any():
            row, column = np.argwhere(volume < 0.0)[0]
            raise FrameError(
                f"volume beside {source}: {coins[column]} traded {volume[row, column]:g} USD at "
                f"{_at(int(grid[row]))}; volumes are at least 0"
            )
    return Panel.build(
        grid,
        coins,
        step // HOUR_MS,
        open=close,
        high=close,
        low=close,
        close=close,
        volume_usd=volume,
        funding=rates,
        rule=rule,
        source=source,
    )


def index_ms(frame: pd.DataFrame, name: str) -> IntArray:
    """The known-at times of a frame, shape (T,), Unix ms, strictly increasing.

    Raises:
        FrameError: fewer than two rows, no column, labels that are not times, or times that repeat or run backwards.
    """
    import pandas as pd

    if frame.shape[0] < 2 or frame.shape[1] < 1:
        raise FrameError(
            f"{name}: {frame.shape[0]} rows of {frame.shape[1]} coins; at least two rows of one are needed"
        )
    if not isinstance(frame.index, pd.DatetimeIndex):
        raise FrameError(f"{name}: the index holds {frame.index.dtype}, not times; label rows by known-at")
    if frame.columns.has_duplicates:
        twice = frame.columns[frame.columns.duplicated()][0]
        raise FrameError(f"{name}: column {twice} is there twice; keep one")
    index = frame.index if frame.index.tz is not None else frame.index.tz_localize("UTC")
    if index.hasnans:
        raise FrameError(f"{name}: row {int(np.argmax(index.isna()))} has no time")
    times = np.asarray(index.tz_convert("UTC").tz_localize(None).to_numpy().astype("datetime64[ms]").astype(np.int64))
    wrong = np.flatnonzero(np.diff(times) <= 0)
    if len(wrong):
        row = int(wrong[0]) + 1
        fault = "is there twice" if times[row] == times[row - 1] else "comes before the row above it"
        raise FrameError(
            f"{name}: row {row}, {_at(int(times[row]))}, {fault}; sort the rows by known-at and keep one each"
        )
    return times


def bar_ms(times: IntArray, name: str) -> int:
    """The bar length of increasing times: their least step, Unix ms.

    Raises:
        FrameError: a time lies off the grid of that step.
    """
    step = int(np.diff(times).min())
    off = np.flatnonzero((times - times[0]) % step)
    if len(off):
        raise FrameError(
            f"{name}: row {int(off[0])}, {_at(int(times[off[0]]))}, lies off the grid of {step / HOUR_MS:g} h bars; "
            "resample to one bar length"
        )
    return step


def cells(frame: pd.DataFrame, name: str) -> FloatArray:
    """The numbers of a frame, shape (T, N), NaN where missing.

    Raises:
        FrameError: a cell that is no number, or infinite.
    """
    try:
        values = frame.to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError) as problem:
        raise FrameError(f"{name}: a cell is not a number ({problem})") from problem
    if np.isinf(values).any():
        row, column = np.argwhere(np.isinf(values))[0]
        raise FrameError(f"{name}: row {row} of {frame.columns[column]} is infinite; leave the cell empty if unknown")
    return values


def unpadded(returns: FloatArray) -> FloatArray:
    """Returns with each column's leading zeros as NaN, shape (T, N): before its first move a coin is unseen."""
    moved = np.maximum.accumulate(np.nan_to_num(returns) != 0.0, axis=0)
    return np.where(moved, returns, np.nan)


def _price_index(returns: FloatArray) -> FloatArray:
    """Closes whose log returns are ``returns``, shape (T, N): 1 at the row before each column's first return."""
    seen = ~np.isnan(returns)
    close = np.where(seen, np.exp(np.cumsum(np.where(seen, returns, 0.0), axis=0)), np.nan)
    listed = np.flatnonzero(seen.any(axis=0))
    close[np.argmax(seen[:, listed], axis=0) - 1, listed] = 1.0
    return close


def _companion(frame: pd.DataFrame, coins: tuple[str, ...], grid: IntArray, step: int, name: str) -> FloatArray:
    times = index_ms(frame, name)
    if bar_ms(times, name) != step:
        raise FrameError(
            f"{name}: its bars are {bar_ms(times, name) / HOUR_MS:g} h long and the returns' {step / HOUR_MS:g} h; "
            "export both with the same --interval"
        )
    if (times[0] - grid[0]) % step:
        raise FrameError(
            f"{name}: its first row, {_at(int(times[0]))}, lies off the returns' grid of {step / HOUR_MS:g} h"
        )
    shared = tuple(coin for coin in coins if coin in set(map(str, frame.columns)))
    if not shared:
        raise FrameError(f"{name}: no column is named as a coin of the returns; names are case-sensitive")
    out = np.full((len(grid), len(coins)), np.nan)
    out[:, [coins.index(coin) for coin in shared]] = _on_grid(frame, shared, times, grid, name)
    return out


def _on_grid(frame: pd.DataFrame, coins: tuple[str, ...], times: IntArray, grid: IntArray, name: str) -> FloatArray:
    """Cells of the coins at the grid's times, shape (G, N); NaN where the frame has no row."""
    values = cells(frame, name)
    place = {str(column): index for index, column in enumerate(frame.columns)}
    rows = np.searchsorted(grid, times)
    inside = (rows < len(grid)) & (grid[np.minimum(rows, len(grid) - 1)] == times)
    out = np.full((len(grid), len(coins)), np.nan)
    out[rows[inside]] = values[inside][:, [place[coin] for coin in coins]]
    return out


def _at(ms: int) -> str:
    return f"{utc(ms):%Y-%m-%d %H:%M} UTC"
