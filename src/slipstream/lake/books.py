"""Reading recorded order books: one Parquet row per snapshot, levels in columns.

A file has the columns ``coin``, ``exchange_timestamp`` (venue, Unix ms), ``recv_ms`` (local, Unix ms) and for levels
0 .. L-1 ``bid_price_i, bid_size_i, ask_price_i, ask_size_i``, level 0 the best, empty cells beyond what was shown.

What a healthy recording contains now and then is dropped and counted: a snapshot that reached us late (its book is no
longer there), one with an empty side, one that is crossed or locked, and one repeating the venue's stamp of the
snapshot before it, of which the later stays. What no venue sends is an error: a price or size that is not a positive
number, levels out of order.

The mathematics of these books lives in ``core``, which reads no files: it takes the arrays made here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from slipstream.core.panel import BoolArray, FloatArray, IntArray, utc
from slipstream.core.portfolio.book_walk import BookHistory
from slipstream.errors import DataError
from slipstream.lake.locate import existing

STALE_AFTER_MS = 5_000
"""A snapshot received later than this after the venue's stamp is dropped."""

_EARLIEST_MS, _LATEST_MS = 946_684_800_000, 4_102_444_800_000  # the years 2000 and 2100
_KEYS = ("coin", "exchange_timestamp", "recv_ms")
_LEVEL_PARTS = ("bid_price", "bid_size", "ask_price", "ask_size")


@dataclass(frozen=True)
class RecordedBook:
    """One coin's usable snapshots and how many were dropped, by the first reason that applies.

    Attributes:
        book: the snapshots, in the venue's order of time.
        stale: received more than ``STALE_AFTER_MS`` after the venue's stamp.
        one_sided: no bid or no ask.
        crossed: best bid at or above best ask.
        repeated: the venue's stamp occurs again later in the recording.
    """

    book: BookHistory
    stale: int
    one_sided: int
    crossed: int
    repeated: int

    @property
    def dropped(self) -> int:
        return self.stale + self.one_sided + self.crossed + self.repeated


def read_books(*paths: str | Path) -> dict[str, RecordedBook]:
    """The recorded books of one or more files, by coin in alphabetical order.

    Args:
        paths: Parquet files as described above; their coins' snapshots are joined in order of the venue's time.

    Raises:
        DataError: a file is absent, unreadable or empty, lacks a column, holds something that is not a book, or leaves
            a coin without a usable snapshot. The message names file, row (from 0) and coin.
    """
    if not paths:
        raise DataError("no book file given; name at least one Parquet recording")
    tables = [_checked(path) for path in paths]
    coins = sorted({coin for table in tables for coin in table.coins})
    return {coin: _recorded(coin, [table.of(coin) for table in tables], paths) for coin in coins}


@dataclass(frozen=True, eq=False)
class _Snapshots:
    """Rows of a file as arrays: names (n,), times (n,), levels (n, L) with NaN where nothing was shown."""

    coin: np.ndarray
    time_ms: IntArray
    recv_ms: IntArray
    levels: dict[str, FloatArray]

    @property
    def coins(self) -> list[str]:
        return list(np.unique(self.coin))

    def of(self, coin: str) -> _Snapshots:
        return self.where(self.coin == coin)

    def where(self, rows: BoolArray | IntArray) -> _Snapshots:
        levels = {name: values[rows] for name, values in self.levels.items()}
        return _Snapshots(self.coin[rows], self.time_ms[rows], self.recv_ms[rows], levels)


def _checked(path: str | Path) -> _Snapshots:
    file = existing(path)
    try:
        frame = pl.read_parquet(file)
    except (pl.exceptions.PolarsError, OSError) as problem:
        reason = str(problem).strip().splitlines()[0]
        raise DataError(f"{file}: cannot be read as Parquet ({reason}); record or download it again") from problem
    depth = _depth(frame, file)
    if frame.height == 0:
        raise DataError(f"{file}: the file holds no snapshots; record it again")
    levels = {part: _numbers(frame, [f"{part}_{i}" for i in range(depth)], file) for part in _LEVEL_PARTS}
    found = _Snapshots(
        frame["coin"].cast(pl.String).fill_null("").to_numpy().astype(str),
        _times(frame, "exchange_timestamp", file),
        _times(frame, "recv_ms", file),
        levels,
    )
    _require_levels(found, file)
    return found


def _depth(frame: pl.DataFrame, file: Path) -> int:
    """The number of levels."""
    absent = [name for name in _KEYS if name not in frame.columns]
    numbered = [int(name[10:]) for name in frame.columns if re.fullmatch(r"bid_price_\d+", name)]
    depth = max(numbered, default=0) + 1
    absent += [f"{part}_{i}" for i in range(depth) for part in _LEVEL_PARTS if f"{part}_{i}" not in frame.columns]
    if absent:
        raise DataError(
            f"{file}: column {absent[0]} is missing; a book file has {', '.join(_KEYS)} and, for every level i from 0, "
            f"{', '.join(f'{part}_i' for part in _LEVEL_PARTS)}"
        )
    return depth


def _numbers(frame: pl.DataFrame, names: list[str], file: Path) -> FloatArray:
    for name in names:
        if not (frame[name].dtype.is_numeric() or isinstance(frame[name].dtype, pl.Null)):
            raise DataError(f"{file}: column {name} holds {frame[name].dtype}; it must hold numbers. Convert it.")
    return np.array(frame.select(pl.col(names).cast(pl.Float64)).to_numpy(), dtype=np.float64)


def _times(frame: pl.DataFrame, name: str, file: Path) -> IntArray:
    column = frame[name]
    if not column.dtype.is_integer():
        raise DataError(f"{file}: column {name} holds {column.dtype}; it must hold Unix milliseconds. Convert it.")
    usable = column.is_between(_EARLIEST_MS, _LATEST_MS, closed="left").fill_null(value=False)
    if not usable.all():
        row = int((~usable).arg_true()[0])
        raise DataError(
            f"{file} row {row}: {name} is {column[row]} for {frame['coin'][row]}; it must be Unix milliseconds of the "
            "years 2000-2100. Convert the column or remove the row."
        )
    return np.array(column.cast(pl.Int64).to_numpy(), dtype=np.int64)


def _require_levels(found: _Snapshots, file: Path) -> None:
    """What no venue sends: sizes and prices that do not belong together, or levels out of order."""
    faults: list[tuple[BoolArray | np.bool_, str]] = [(found.coin == "", "has no coin")]
    for side, outward in (("bid", -1.0), ("ask", 1.0)):
        price, size = found.levels[f"{side}_price"], found.levels[f"{side}_size"]
        there = ~np.isnan(price)
        bad_price = there & ~(np.isfinite(price) & (price > 0.0))
        bad_size = (there & ~(np.isfinite(size) & (size > 0.0))) | (~there & (np.nan_to_num(size) != 0.0))
        faults.append((bad_price.any(axis=1), f"has a {side} price that is not positive and finite"))
        faults.append((bad_size.any(axis=1), f"has a {side} level whose size is not positive, or that has no price"))
        holes = (there[:, 1:] & ~there[:, :-1]).any(axis=1)
        backwards = (outward * np.diff(price, axis=1) <= 0.0).any(axis=1)
        faults.append((holes | backwards, f"has {side} levels that are not in order, best first"))
    for wrong, what in faults:
        if wrong.any():
            row = int(np.argmax(wrong))
            when = f"{utc(int(found.time_ms[row])):%Y-%m-%d %H:%M:%S} UTC"
            raise DataError(
                f"{file} row {row}: the book of {found.coin[row] or 'an unnamed coin'} at {when} {what}. "
                "Remove the row or record it again."
            )


def _recorded(coin: str, parts: list[_Snapshots], paths: tuple[str | Path, ...]) -> RecordedBook:
    deepest = max(part.levels["bid_price"].shape[1] for part in parts)
    snapshots = _Snapshots(
        np.concatenate([part.coin for part in parts]),
        np.concatenate([part.time_ms for part in parts]),
        np.concatenate([part.recv_ms for part in parts]),
        {name: np.concatenate([_widened(part.levels[name], deepest) for part in parts]) for name in _LEVEL_PARTS},
    )
    bid, ask = snapshots.levels["bid_price"][:, 0], snapshots.levels["ask_price"][:, 0]
    stale = snapshots.recv_ms - snapshots.time_ms > STALE_AFTER_MS
    one_sided = ~stale & (np.isnan(bid) | np.isnan(ask))
    crossed = ~stale & ~one_sided & (bid >= ask)
    kept = snapshots.where(~(stale | one_sided | crossed))
    kept = kept.where(np.lexsort((kept.recv_ms, kept.time_ms)))
    last = np.append(np.diff(kept.time_ms) > 0, np.ones(min(1, len(kept.time_ms)), dtype=bool))
    latest = kept.where(last)
    if not len(latest.time_ms):
        names = ", ".join(str(path) for path in paths)
        raise DataError(
            f"{names}: every snapshot of {coin} is stale ({stale.sum()}), one-sided ({one_sided.sum()}) or crossed "
            f"({crossed.sum()}); record it again"
        )
    return RecordedBook(
        BookHistory(coin, latest.time_ms, **latest.levels),
        stale=int(stale.sum()),
        one_sided=int(one_sided.sum()),
        crossed=int(crossed.sum()),
        repeated=len(kept.time_ms) - len(latest.time_ms),
    )


def _widened(levels: FloatArray, columns: int) -> FloatArray:
    wide = np.full((len(levels), columns), np.nan)
    wide[:, : levels.shape[1]] = levels
    return wide
