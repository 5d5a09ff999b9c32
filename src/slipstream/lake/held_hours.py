"""What a lake or a panel file holds of each coin, told by the hour, whatever the length of the bars.

The lake keeps each stretch of time in the length it could be had in: hours for the recent past, 4 h or 1 d for the
years before. An hour is covered if a bar of any length covers it. Bars shorter than an hour cover the hour they lie in,
be it one of them or all.

A damaged file does not hide the rest: it is named, and counts as nothing held.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from slipstream.core.panel import HOUR_MS, FloatArray, IntArray
from slipstream.core.settlements import missing_settlements_marked
from slipstream.errors import DataError
from slipstream.lake.alignment import _without_pre_listing
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
    pieces, pre_listing = _without_pre_listing([piece.select(_BAR_COLUMNS) for piece in bars])
    traded = pl.concat([BARS.schema.to_frame().select(_BAR_COLUMNS), *pieces])
    opened = (
        traded.select(
            "coin", "base_interval", pl.col("ts").dt.timestamp("ms"), silent=(pl.col("volume") == 0.0).fill_null(False)
        )
        .unique(["coin", "base_interval", "ts"], keep="last")
        .sort("coin", "ts")
    )
    if not opened.height:
        return Held((), (), pre_listing, dict(damaged))
    length = pl.col("base_interval").replace_strict(INTERVAL_MS, return_dtype=pl.Int64)
    opened = opened.with_columns(closes=pl.col("ts") + length)
    stamped = pl.concat([FUNDING.schema.to_frame().select(_SETTLEMENT_COLUMNS), *settlements])
    known = stamped.filter(pl.col("rate").is_finite()).select("coin", hour=pl.col("ts").dt.timestamp("ms") // HOUR_MS)
    stamps = {str(coin): rows["hour"].to_numpy() for (coin,), rows in known.partition_by("coin", as_dict=True).items()}
    first_hour, end_ms = int(opened["ts"].to_numpy().min()) // HOUR_MS, int(opened["closes"].to_numpy().max())
    coins = tuple(
        _coin(str(coin), rows, stamps.get(str(coin), _NONE), first_hour, end_ms)
        for (coin,), rows in opened.partition_by("coin", as_dict=True, maintain_order=True).items()
    )
    lengths = tuple(sorted(opened["base_interval"].unique().to_list(), key=INTERVAL_MS.__getitem__))
    return Held(coins, lengths, pre_listing, dict(damaged))


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


def _coin(coin: str, bars: pl.DataFrame, stamps: IntArray, first_hour: int, end_ms: int) -> CoinHours:
    """One coin; ``bars`` are its own: base_interval, ts, closes (Unix ms) and silent."""
    last_ms = int(bars["closes"].to_numpy().max())
    hours = _covered(bars["ts"].to_numpy(), bars["closes"].to_numpy())
    counts = dict(bars["base_interval"].value_counts().iter_rows())
    return CoinHours(
        coin=coin,
        hours=hours,
        first_ms=_first_known(bars),
        last_ms=last_ms,
        bars={name: int(counts[name]) for name in sorted(counts, key=INTERVAL_MS.__getitem__)},
        silent_bars=int(bars["silent"].sum()),
        funding_missing=_funding_missing(hours, stamps, first_hour),
        ends_early=last_ms < end_ms,
    )


def _first_known(bars: pl.DataFrame) -> int:
    """Close of the bar that opens first; of several, of the shortest."""
    return int(bars.filter(pl.col("ts") == pl.col("ts").min())["closes"].to_numpy().min())


def _covered(opened: IntArray, closes: IntArray) -> IntArray:
    """Hours since the epoch that bars from their opens to their closes lie in, ascending, each once."""
    begins, ends = opened // HOUR_MS, -(-closes // HOUR_MS)
    width = ends - begins
    within = np.arange(int(width.sum())) - np.repeat(np.cumsum(width) - width, width)
    return np.unique(np.repeat(begins, width) + within)


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
