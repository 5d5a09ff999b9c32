"""The wide files: one row per known-at time, one column per coin.

They are what research and backtests read, and have no room for a count of settlements beside a sum. So a cell of
``funding_sum`` is a number only where it is known to be the whole sum: 0 where no settlement was due, empty where one
was due and is missing, which is how :func:`slipstream.core.frames.panel_from_returns` reads it. The sum of what exists,
with its count, stands in the coin's own files.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from slipstream.core.panel import HOUR_MS, BoolArray, FloatArray, IntArray
from slipstream.core.settlements import missing_settlements_marked
from slipstream.lake.export.folder import FileDamaged
from slipstream.lake.export.tables import ISO, iso_times, read_strictly, require_ascending, settled_in

WIDE = ("log_returns", "funding_sum", "volume_usd")


@dataclass(frozen=True)
class Column:
    """Values on the grid of bars: the first bar opens at ``first_ms``; NaN where nothing is known."""

    first_ms: int
    values: FloatArray


@dataclass(frozen=True)
class FundingCells:
    """Sums of a refresh: NaN where a due settlement is missing, and how many settlements each is made of."""

    sums: Column
    counts: IntArray


@dataclass(frozen=True)
class Wide:
    """A wide file: ``values`` has shape (bars, coins), its first row is known at ``first_ms`` + the bar length."""

    first_ms: int
    coins: tuple[str, ...]
    values: FloatArray

    def column(self, coin: str, opened: IntArray, bar_ms: int) -> FloatArray:
        """A coin's cells at bars that open at ``opened``; NaN where the file has none."""
        out = np.full(len(opened), np.nan)
        if coin in self.coins:
            row = (opened - self.first_ms) // bar_ms
            inside = (row >= 0) & (row < len(self.values))
            out[inside] = self.values[row[inside], self.coins.index(coin)]
        return out


EMPTY = Wide(0, (), np.empty((0, 0)))


def wide_from_csv(content: bytes, file: Path, bar_ms: int) -> Wide:
    """The cells of a file.

    Raises:
        FileDamaged: naming the line that cannot be read.
    """
    header = content.partition(b"\n")[0]
    try:
        names = pl.read_csv(io.BytesIO(header + b"\n"), has_header=False, infer_schema=False).row(0)
    except pl.exceptions.PolarsError as problem:
        raise FileDamaged(f"{file} line 1: cannot be read as CSV; restore the file from a backup") from problem
    coins = tuple(str(name) for name in names[1:])
    if names[0] != "known_at" or not coins or len(set(coins)) < len(coins) or None in names:
        raise FileDamaged(f"{file} line 1: known_at and one column per coin expected; restore the file from a backup")
    frame = read_strictly(content, file, {"known_at": pl.String(), **dict.fromkeys(coins, pl.Float64())})
    known = frame["known_at"].str.to_datetime(ISO, time_unit="ms", strict=False).dt.timestamp("ms")
    if known.null_count() or not len(known):
        row = int(known.is_null().arg_true()[0]) if len(known) else 0
        raise FileDamaged(f"{file} line {row + 2}, column known_at: no time; restore the file from a backup")
    opened = known.to_numpy() - bar_ms
    require_ascending(opened, bar_ms, file)
    rows = (opened - opened[0]) // bar_ms
    if rows[-1] >= _MOST_ROWS:
        raise FileDamaged(f"{file}: spans {rows[-1]} bars; restore the file from a backup")
    values = np.full((int(rows[-1]) + 1, len(coins)), np.nan)
    values[rows] = frame.drop("known_at").to_numpy()
    return Wide(int(opened[0]), coins, values)


def wide_to_csv(table: Wide, bar_ms: int) -> bytes:
    """The file of a table."""
    known = table.first_ms + np.arange(1, len(table.values) + 1, dtype=np.int64) * bar_ms
    columns = [pl.Series(coin, table.values[:, place], nan_to_null=True) for place, coin in enumerate(table.coins)]
    stream = io.BytesIO()
    pl.DataFrame([iso_times(known).alias("known_at"), *columns]).write_csv(stream)
    return stream.getvalue()


def merged_wide(held: Wide, coming: Mapping[str, Column], bar_ms: int) -> tuple[Wide, dict[str, str]]:
    """The table with some coins' columns replaced, and why others were left as they were.

    A column may not lose a number. Columns of coins that are not coming stay, and so do rows.
    """
    if not coming:
        return held, {}
    coins = tuple(sorted({*held.coins, *coming}))
    spans = [(column.first_ms, column.first_ms + len(column.values) * bar_ms) for column in coming.values()]
    if held.coins:
        spans.append((held.first_ms, held.first_ms + len(held.values) * bar_ms))
    first, end = min(span[0] for span in spans), max(span[1] for span in spans)
    opened = np.arange(first, end, bar_ms, dtype=np.int64)
    values, refused = np.full((len(opened), len(coins)), np.nan), {}
    for place, coin in enumerate(coins):
        before = held.column(coin, opened, bar_ms)
        values[:, place] = before
        if coin not in coming:
            continue
        column = coming[coin]
        after, row = np.full(len(opened), np.nan), (column.first_ms - first) // bar_ms
        after[row : row + len(column.values)] = column.values
        lost = np.isfinite(before) & ~np.isfinite(after)
        if lost.any():
            where = iso_times(opened[lost][:1] + bar_ms)[0]
            refused[coin] = f"column {coin} would lose {int(lost.sum())} numbers, the first at {where}"
        else:
            values[:, place] = after
    return Wide(first, coins, values), refused


def same(held: Wide, after: Wide) -> bool:
    """Whether two tables are alike in every cell."""
    alike = held.first_ms == after.first_ms and held.coins == after.coins
    return alike and np.array_equal(held.values, after.values, equal_nan=True)


def changes_cells(held: Wide, after: Wide, bar_ms: int) -> bool:
    """Whether a number that is held would become another."""
    opened = held.first_ms + np.arange(len(held.values), dtype=np.int64) * bar_ms
    for place, coin in enumerate(held.coins):
        before, now = held.values[:, place], after.column(coin, opened, bar_ms)
        if (np.isfinite(before) & (before != now)).any():
            return True
    return False


def on_grid(rows: pl.DataFrame, name: str, bar_ms: int) -> Column:
    """A column of a coin's table on the grid from its first row to its last."""
    opened = rows["ts"].to_numpy()
    values = np.full(int(opened[-1] - opened[0]) // bar_ms + 1, np.nan)
    values[(opened - opened[0]) // bar_ms] = rows[name].to_numpy()
    return Column(int(opened[0]), values)


def settled_cells(
    settlements: pl.DataFrame, lives: Mapping[str, tuple[int, int]], bar_ms: int
) -> dict[str, FundingCells]:
    """What a refresh knows of each coin's funding, bar by bar.

    Args:
        settlements: coin, ts (hour of the settlement), rate.
        lives: per coin, open of its first and close of its last bar in the refresh, Unix ms.
        bar_ms: length of a bar.

    Returns:
        Per coin, the bars of its life: sums with 0 where none was due, NaN where one was due and is missing.
    """
    coins = sorted(lives)
    rows = settlements.filter(pl.col("coin").is_in(coins))
    if not coins:
        return {}
    step = math.gcd(HOUR_MS, bar_ms)
    opens, closes = (np.array([lives[coin][end] for coin in coins]) for end in (0, 1))
    stamp = rows["ts"].dt.timestamp("ms").to_numpy()
    earliest = min(int(opens.min()), int(stamp.min(initial=int(opens.min()))) - 1)
    first, end = earliest // bar_ms * bar_ms, int(closes.max())
    clock = np.arange(first + step, end + 1, step, dtype=np.int64)
    stamped = np.full((len(clock), len(coins)), np.nan)
    runs = rows["coin"].rle()
    places = [coins.index(coin) for coin in runs.struct["value"].to_list()]
    code = np.repeat(np.array(places, dtype=np.int64), runs.struct["len"].to_numpy())
    row = (stamp - first) // step - 1
    inside = row < len(clock)
    stamped[row[inside], code[inside]] = rows["rate"].to_numpy()[inside]
    shape = (len(clock) * step // bar_ms, bar_ms // step, len(coins))
    counts = np.isfinite(stamped).reshape(shape).sum(axis=1)
    sums = missing_settlements_marked(stamped, clock, step).reshape(shape).sum(axis=1)
    out = {}
    for place, coin in enumerate(coins):
        life = slice((int(opens[place]) - first) // bar_ms, (int(closes[place]) - first) // bar_ms)
        out[coin] = FundingCells(Column(int(opens[place]), sums[life, place]), counts[life, place])
    return out


def settlement_counts(funding: pl.DataFrame, opened: IntArray, bar_ms: int) -> IntArray:
    """How many settlements a coin's funding table has in the bars that open at ``opened``, an unbroken grid."""
    counts = np.zeros(len(opened), dtype=np.int64)
    row, inside = _rows_of(funding, opened, bar_ms)
    counts[row[inside]] = funding["funding_n"].to_numpy()[inside]
    return counts


def _rows_of(funding: pl.DataFrame, opened: IntArray, bar_ms: int) -> tuple[IntArray, BoolArray]:
    row = (settled_in(funding, bar_ms) - opened[0]) // bar_ms
    return row, (row >= 0) & (row < len(opened))


def funding_column(
    held: Wide, coin: str, funding: pl.DataFrame, life: tuple[int, int], cells: FundingCells | None, bar_ms: int
) -> Column:
    """A coin's whole sums, from what its history, a refresh and the file before know.

    A bar settled in every hour is whole. Of another, the refresh may speak only if it saw every settlement that the
    history holds; of one without any it may only if the file before did not know the bar, because a refresh that has
    just begun cannot tell what was due.

    Args:
        held: the file as it is.
        coin: its name.
        funding: the coin's funding table, the refresh included.
        life: open of the coin's first and close of its last bar, Unix ms.
        cells: what the refresh knows.
        bar_ms: length of a bar.
    """
    opened = np.arange(*life, bar_ms, dtype=np.int64)
    before = held.column(coin, opened, bar_ms)
    sums = np.full(len(opened), np.nan)
    row, inside = _rows_of(funding, opened, bar_ms)
    sums[row[inside]] = funding["funding_sum"].to_numpy()[inside]
    counts = settlement_counts(funding, opened, bar_ms)

    out = before.copy()
    if cells is not None:
        place = (cells.sums.first_ms - life[0]) // bar_ms
        part = slice(place, place + len(cells.sums.values))
        filled = np.flatnonzero(np.isfinite(before))
        within = np.zeros(len(opened), dtype=np.bool_)
        if len(filled):
            within[filled[0] : filled[-1] + 1] = True
        speaks = (cells.counts == counts[part]) & ~((cells.counts == 0) & within[part])
        speaks &= np.isfinite(cells.sums.values) | ~np.isfinite(before[part])
        out[part] = np.where(speaks, cells.sums.values, before[part])
    whole = counts == max(bar_ms // HOUR_MS, 1)
    return Column(life[0], np.where(whole, sums, out))


_MOST_ROWS = 20_000_000
