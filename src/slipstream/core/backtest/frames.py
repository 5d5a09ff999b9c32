"""Wide frames of any make as plain arrays on one clock.

A table is time x asset: a pandas frame with a time index, a polars frame whose first column is the time, or a bare
array. Row t holds what is known at t. The returns set the clock: an even grid from their first to their last row (a
row left out is a row without returns) and the least positive step as its bar. Other tables are laid on that grid.

pandas and polars are recognised by their methods, so a caller who uses neither imports neither.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from slipstream.core.backtest.config import BacktestInputError
from slipstream.core.panel import HOUR_MS, FloatArray, IntArray, utc

Asset = Hashable


@dataclass(frozen=True)
class Table:
    """A wide table as read.

    Attributes:
        name: the argument it came from, for messages.
        time_ms: shape (T,), ascending, Unix ms; None for a bare array.
        assets: column labels; None for a bare array.
        values: shape (T, N), float64, NaN where missing, never infinite.
    """

    name: str
    time_ms: IntArray | None
    assets: tuple[Asset, ...] | None
    values: FloatArray


def read_table(name: str, frame: Any) -> Table:
    """A wide frame or array as a :class:`Table`.

    Raises:
        BacktestInputError: not a two-dimensional numeric table, times unsorted or repeated, a column twice, or an
            infinite number.
    """
    if hasattr(frame, "get_columns"):
        times, labels, values = _from_polars(name, frame)
    elif hasattr(frame, "columns") and hasattr(frame, "index"):
        times, labels = _index_ms(name, frame.index), tuple(frame.columns)
        values = _numbers(name, lambda: frame.to_numpy(dtype="float64", na_value=np.nan))
    else:
        times, labels, values = None, None, _numbers(name, lambda: np.asarray(frame, dtype=np.float64))
    if values.ndim != 2:
        raise BacktestInputError(f"{name} has shape {values.shape}; expected time x asset")
    if labels is not None and len(set(labels)) != len(labels):
        twice = next(label for k, label in enumerate(labels) if label in labels[:k])
        raise BacktestInputError(f"{name} has the column {twice!r} twice; keep one")
    table = Table(name, times, labels, np.ascontiguousarray(values))
    _require_ascending(table)
    infinite = np.argwhere(np.isinf(table.values))
    if len(infinite):
        row, column = (int(i) for i in infinite[0])
        raise BacktestInputError(f"{place(table, row, column)} is infinite; a missing number is NaN")
    return table


def place(table: Table, row: int, column: int) -> str:
    """Where an entry of a table stands, in words."""
    asset = column if table.assets is None else table.assets[column]
    when = f"row {row}" if table.time_ms is None else f"row {row} ({utc(int(table.time_ms[row])):%Y-%m-%d %H:%M} UTC)"
    return f"{table.name} {when}: the value for {asset}"


def _from_polars(name: str, frame: Any) -> tuple[IntArray, tuple[Asset, ...], FloatArray]:
    first, *rest = frame.get_columns()
    if not first.dtype.is_temporal():
        raise BacktestInputError(f"{name}: the first column of a polars frame must be the time; {first.name!r} is not")
    times = first.to_numpy().astype("datetime64[ms]").astype(np.int64)
    values = np.empty((len(times), len(rest)))
    for k, column in enumerate(rest):
        values[:, k] = _numbers(name, partial(np.asarray, column.to_numpy(), dtype=np.float64))
    return times, tuple(column.name for column in rest), values


def _numbers(name: str, read: Callable[[], FloatArray]) -> FloatArray:
    try:
        return read()
    except (TypeError, ValueError) as error:
        raise BacktestInputError(f"{name} holds something that is not a number ({error})") from error


def _index_ms(name: str, index: Any) -> IntArray:
    if not hasattr(index, "tz"):
        import pandas as pd

        try:
            index = pd.to_datetime(index, utc=True) if index.dtype.kind not in "iuf" else None
        except ValueError as error:
            raise BacktestInputError(f"{name}: its index cannot be read as times ({error})") from error
        if index is None:
            raise BacktestInputError(f"{name}: its index holds numbers; give it a time index")
    naive = index if index.tz is None else index.tz_convert("UTC").tz_localize(None)
    if naive.hasnans:
        raise BacktestInputError(f"{name}: its index has a missing time at row {int(np.argmax(naive.isna()))}")
    return np.asarray(naive.to_numpy().astype("datetime64[ms]").astype(np.int64))


def _require_ascending(table: Table) -> None:
    if table.time_ms is None:
        return
    wrong = np.flatnonzero(np.diff(table.time_ms) <= 0)
    if len(wrong):
        row = int(wrong[0]) + 1
        when = f"{utc(int(table.time_ms[row])):%Y-%m-%d %H:%M} UTC"
        why = "repeats a time" if table.time_ms[row] == table.time_ms[row - 1] else "is earlier than the row before"
        raise BacktestInputError(f"{table.name} row {row} ({when}) {why}; sort the rows and keep one per time")


@dataclass(frozen=True)
class Grid:
    """The clock and the assets every array is laid on.

    Attributes:
        time_ms: shape (T,), an even grid of known-at times, Unix ms.
        bar_ms: its step.
        assets: N labels.
        bare: whether the clock was made up for bare arrays (hourly from the Unix epoch).
    """

    time_ms: IntArray
    bar_ms: int
    assets: tuple[Asset, ...]
    bare: bool

    def lay(self, table: Table) -> FloatArray:
        """The table's values on this grid, shape (T, N), NaN where it has none.

        Raises:
            BacktestInputError: a bare array of another shape, or a row between two rows of the grid.
        """
        shape = (len(self.time_ms), len(self.assets))
        if table.time_ms is None or table.assets is None:
            if table.values.shape != shape:
                raise BacktestInputError(
                    f"{table.name} has shape {table.values.shape} and no labels; expected that of the returns, {shape}"
                )
            return table.values
        columns = [self.assets.index(asset) for asset in table.assets] if table.assets != self.assets else None
        if columns is None and np.array_equal(table.time_ms, self.time_ms):
            return table.values
        offset = table.time_ms - self.time_ms[0]
        inside = (offset >= 0) & (table.time_ms <= self.time_ms[-1])
        astray = np.flatnonzero(inside & (offset % self.bar_ms != 0))
        if len(astray):
            row = int(astray[0])
            raise BacktestInputError(
                f"{table.name} row {row} ({utc(int(table.time_ms[row])):%Y-%m-%d %H:%M} UTC) lies between two rows of "
                f"realized_returns, which step by {self.bar_ms / HOUR_MS:g} h; label both by the same clock"
            )
        out = np.full(shape, np.nan)
        rows = (offset[inside] // self.bar_ms).astype(np.intp)
        out[rows[:, None], np.arange(shape[1]) if columns is None else columns] = table.values[inside]
        return out


def make_grid(returns: Table, others: Sequence[Table], bar_hours: float | None) -> Grid:
    """The clock of the returns and the union of all tables' assets: the returns' first, then others as they appear.

    Raises:
        BacktestInputError: no rows or columns, labels on some tables only, or steps that are no multiple of the bar.
    """
    if not returns.values.size:
        raise BacktestInputError(f"{returns.name} is empty: shape {returns.values.shape}")
    if returns.time_ms is None or returns.assets is None:
        labelled = next((table.name for table in others if table.time_ms is not None), None)
        if labelled is not None:
            raise BacktestInputError(f"{returns.name} is a bare array and {labelled} a labelled frame; label both")
        bar_ms = round((bar_hours or 1.0) * HOUR_MS)
        rows, columns = returns.values.shape
        return Grid(np.arange(rows, dtype=np.int64) * bar_ms, bar_ms, tuple(range(columns)), bare=True)
    assets = list(returns.assets)
    known = set(assets)
    for table in others:
        fresh = [asset for asset in table.assets or () if asset not in known]
        assets += fresh
        known.update(fresh)
    steps = np.diff(returns.time_ms)
    bar_ms = round(bar_hours * HOUR_MS) if bar_hours is not None else int(steps.min()) if len(steps) else HOUR_MS
    uneven = np.flatnonzero(steps % bar_ms)
    if len(uneven):
        row = int(uneven[0]) + 1
        raise BacktestInputError(
            f"{returns.name} row {row} ({utc(int(returns.time_ms[row])):%Y-%m-%d %H:%M} UTC) is off the "
            f"{bar_ms / HOUR_MS:g} h grid of the rows before it; resample to one step"
        )
    grid = np.arange(returns.time_ms[0], returns.time_ms[-1] + bar_ms, bar_ms, dtype=np.int64)
    return Grid(grid, bar_ms, tuple(assets), bare=False)
