"""What a lake or a panel file holds of each coin, told by the hour, whatever the length of the bars.

The lake keeps each stretch of time in the length it could be had in: hours for the recent past, 4 h or 1 d for the
years before. An hour is covered if a bar of any length covers it. Bars shorter than an hour cover the hour they lie in,
be it one of them or all.

A damaged file does not hide the rest: it is named, and counts as nothing held.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from slipstream.core.panel import HOUR_MS, FloatArray, IntArray
from slipstream.core.settlements import missing_settlements_marked
from slipstream.errors import DataError
from slipstream.lake.alignment import without_pre_listing
from slipstream.lake.datasets import BARS, FUNDING, INTERVAL_MS, Dataset
from slipstream.lake.panel_file import read_panel_file
from slipstream.lake.parts import DamagedPart, Part, decode
from slipstream.lake.store import Lake

_BAR_COLUMNS = ("coin", "ts", "open", "high", "low", "close", "volume", "base_interval")
_SETTLEMENT_COLUMNS = ("coin", "ts", "rate")
_READERS = 4
_NONE: IntArray = np.empty(0, dtype=np.int64)


@dataclass(frozen=True)
class CoinHours:
    """What is held of one coin.

    Attributes:
        coin: case-sensitive name.
        hours: hours since the epoch that a bar covers, ascending.
        first_ms, last_ms: known-at (close) of the first and the last bar of any length, Unix ms.
        bars: number of bars by length.
        silent_bars: bars, of any length, in which nothing traded.
        funding_missing: settlements due while the coin traded and not recorded. The one at the close of its last bar
            is not counted: it may not have been published when the bar was.
        ends_early: another coin's bars go on longer.
    """

    coin: str
    hours: IntArray
    first_ms: int
    last_ms: int
    bars: dict[str, int]
    silent_bars: int
    funding_missing: int
    ends_early: bool

    @property
    def gap_hours(self) -> int:
        """Hours without a bar between the first and the last."""
        return int(self.hours[-1] - self.hours[0]) + 1 - len(self.hours)

    @property
    def gaps(self) -> tuple[Gap, ...]:
        """The same, gap by gap."""
        width = np.diff(self.hours) - 1
        return tuple(
            Gap(self.coin, (int(self.hours[place]) + 2) * HOUR_MS, int(width[place])) for place in np.flatnonzero(width)
        )


@dataclass(frozen=True)
class Gap:
    """Hours missing between two that are there: whose, known-at of the first missing one (Unix ms), how many."""

    coin: str
    first_ms: int
    hours: int


@dataclass(frozen=True)
class Held:
    """Everything that is held.

    Attributes:
        coins: by name; a coin without a bar is not among them.
        lengths: lengths of bars held, shortest first.
        pre_listing: bars left out per coin: flat ones without volume from before its first trade.
        damaged: files that could not be read, and why.
    """

    coins: tuple[CoinHours, ...]
    lengths: tuple[str, ...]
    pre_listing: dict[str, int]
    damaged: dict[str, str]


def hours_in_lake(lake: Lake) -> Held:
    """What a lake's bars and settlements cover.

    Raises:
        DataError: a table's log cannot be read, or bars are of a length that is not known.
    """
    damaged: dict[str, str] = {}
    bars = _readable(lake, BARS, _BAR_COLUMNS, damaged)
    settlements = _readable(lake, FUNDING, _SETTLEMENT_COLUMNS, damaged)
    return held_hours(bars, settlements, damaged)


def hours_in_file(path: str | Path) -> Held:
    """What a panel file covers.

    Raises:
        DataError: it cannot be used.
    """
    frame = read_panel_file(path)
    bars = frame.drop("funding").with_columns(base_interval=pl.lit("1h"))
    return held_hours([bars], [frame.select("coin", "ts", rate="funding")], {})


def held_hours(bars: Sequence[pl.DataFrame], settlements: Sequence[pl.DataFrame], damaged: Mapping[str, str]) -> Held:
    """What bars and settlements cover, each given in any number of pieces and any order.

    Args:
        bars: coin, ts (open), open, high, low, close, volume, base_interval.
        settlements: coin, ts (the hour of the stamp), rate (null: none).
        damaged: files that could not be read, and why.

    Raises:
        DataError: bars are of a length that is not known.
    """
    strange = {name for piece in bars for name in piece["base_interval"].unique()} - set(INTERVAL_MS)
    if strange:
        raise DataError(
            f"bars of {', '.join(sorted(strange))} are held, which is no known length; take those files out"
        )
    pieces, pre_listing = without_pre_listing(bars)
    opened: dict[str, dict[str, list[pl.DataFrame]]] = {}
    for piece in pieces:
        for interval, rows in _by_length(piece):
            silent = rows.select("ts", silent=(pl.col("volume") == 0.0).fill_null(value=False))
            for coin, start, count in _runs(rows["coin"]):
                opened.setdefault(coin, {}).setdefault(interval, []).append(silent[start : start + count])
    if not opened:
        return Held((), (), pre_listing, dict(damaged))
    stamps: dict[str, list[IntArray]] = {}
    for piece in settlements:
        rows = _by_coin(piece.filter(pl.col("rate").is_finite()))
        hours = rows["ts"].dt.timestamp("ms").to_numpy() // HOUR_MS
        for coin, start, count in _runs(rows["coin"]):
            stamps.setdefault(coin, []).append(hours[start : start + count])
    coins = {
        coin: {interval: pl.concat(rows).unique("ts", keep="last").sort("ts") for interval, rows in by_length.items()}
        for coin, by_length in sorted(opened.items())
    }
    lives = {coin: _spans(by_length) for coin, by_length in coins.items()}
    first_hour = min(int(opens.min()) for opens, _ in lives.values()) // HOUR_MS
    end_ms = max(int(closes.max()) for _, closes in lives.values())
    found = tuple(
        _coin(coin, by_length, *lives[coin], np.concatenate([_NONE, *stamps.get(coin, [])]), first_hour, end_ms)
        for coin, by_length in coins.items()
    )
    lengths = {interval for by_length in coins.values() for interval in by_length}
    return Held(found, tuple(sorted(lengths, key=INTERVAL_MS.__getitem__)), pre_listing, dict(damaged))


def _readable(lake: Lake, dataset: Dataset, columns: Sequence[str], damaged: dict[str, str]) -> list[pl.DataFrame]:
    """Rows of every part that can be read; the others are added to ``damaged``."""

    def one(part: Part) -> pl.DataFrame | DamagedPart:
        try:
            return decode(dataset, lake.place, part, columns=columns).select(columns)
        except DamagedPart as problem:
            return problem

    parts = lake.parts(dataset)
    with ThreadPoolExecutor(_READERS) as pool:
        found = list(pool.map(one, parts))
    damaged |= {
        f"{dataset.name}/{part.path}": str(problem)
        for part, problem in zip(parts, found, strict=True)
        if isinstance(problem, DamagedPart)
    }
    return [rows for rows in found if not isinstance(rows, DamagedPart)]


def _by_length(rows: pl.DataFrame) -> Iterator[tuple[str, pl.DataFrame]]:
    """The rows of each length, a coin's adjacent; a part of the lake holds one length and lies so already."""
    for interval in rows["base_interval"].unique().to_list():
        yield interval, _by_coin(rows.filter(pl.col("base_interval") == interval))


def _by_coin(rows: pl.DataFrame) -> pl.DataFrame:
    return rows if rows["coin"].is_sorted() else rows.sort("coin", maintain_order=True)


def _runs(coins: pl.Series) -> Iterator[tuple[str, int, int]]:
    """Each coin, its first row, and how many it has; a coin's rows are adjacent."""
    start = 0
    for run in coins.rle().to_list():
        yield run["value"], start, run["len"]
        start += run["len"]


def _spans(by_length: Mapping[str, pl.DataFrame]) -> tuple[IntArray, IntArray]:
    """Opens and closes of a coin's bars of every length, Unix ms."""
    opens = {interval: rows["ts"].dt.timestamp("ms").to_numpy() for interval, rows in by_length.items()}
    closes = [times + INTERVAL_MS[interval] for interval, times in opens.items()]
    return np.concatenate(list(opens.values())), np.concatenate(closes)


def _coin(
    coin: str,
    by_length: Mapping[str, pl.DataFrame],
    opens: IntArray,
    closes: IntArray,
    stamps: IntArray,
    first_hour: int,
    end_ms: int,
) -> CoinHours:
    """One coin from its bars (ts, silent) by length, their opens and closes, and the hours of its settlements."""
    hours = _covered(opens, closes)
    return CoinHours(
        coin=coin,
        hours=hours,
        first_ms=int(closes[opens == opens.min()].min()),
        last_ms=int(closes.max()),
        bars={name: by_length[name].height for name in sorted(by_length, key=INTERVAL_MS.__getitem__)},
        silent_bars=sum(int(rows["silent"].sum()) for rows in by_length.values()),
        funding_missing=_funding_missing(hours, stamps, first_hour),
        ends_early=int(closes.max()) < end_ms,
    )


def _covered(opened: IntArray, closes: IntArray) -> IntArray:
    """Hours since the epoch that bars from their opens to their closes lie in, ascending, each once."""
    begins, ends = opened // HOUR_MS, -(-closes // HOUR_MS)
    width = ends - begins
    within = np.arange(int(width.sum())) - np.repeat(np.cumsum(width) - width, width)
    base = int(begins.min())
    covered = np.zeros(int(ends.max()) - base, dtype=np.bool_)
    covered[np.repeat(begins, width) + within - base] = True
    return np.flatnonzero(covered).astype(np.int64) + base


def _funding_missing(hours: IntArray, stamps: IntArray, first_hour: int) -> int:
    """Settlements due and not recorded at the closes of covered hours, the last one left out.

    Args:
        hours: hours since the epoch that are covered, ascending.
        stamps: hours since the epoch of the settlements recorded.
        first_hour: from which on stamps say in which interval the coin settles; at most ``hours[0]``.
    """
    clock = np.arange(first_hour, int(hours[-1]) + 1, dtype=np.int64)
    known: FloatArray = np.full((len(clock), 1), np.nan)
    known[stamps[(stamps >= first_hour) & (stamps <= hours[-1])] - first_hour, 0] = 0.0
    lacking = np.isnan(missing_settlements_marked(known, clock * HOUR_MS, HOUR_MS)[:, 0])
    return int(lacking[hours[:-1] + 1 - first_hour].sum())
