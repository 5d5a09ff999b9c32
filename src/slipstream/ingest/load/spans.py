"""What a lake has of a range of time, coin by coin, and what is left to ask for.

Only what is missing is asked for: the time before the first row held, the time after the last, and holes in between.
So an interrupted load goes on where it stopped, and a daily refresh costs a day.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from slipstream.core.panel import HOUR_MS, IntArray
from slipstream.core.settlements import missing_settlements_marked
from slipstream.lake.datasets import BARS, FUNDING, INTERVAL_MS, Dataset
from slipstream.lake.parts import DamagedPart, Part, decode, period_of
from slipstream.lake.store import Lake

_HOLES = 5
"""More holes than this are asked for as one, from the first to the last: a request costs more than its rows."""

_NONE = np.empty(0, dtype=np.int64)


@dataclass(frozen=True)
class Span:
    """A range of time, [start_ms, end_ms), Unix ms."""

    start_ms: int
    end_ms: int


@dataclass(frozen=True)
class Held:
    """What is held of a range, times in Unix ms.

    Attributes:
        bars: opens within the range, ascending, by interval and coin.
        settlements: hours within the range, ascending, by coin.
        since: open of a bar of the coin, of any length, from which on it is known to trade: its first one in the
            range, or one before it.
    """

    bars: dict[tuple[str, str], IntArray]
    settlements: dict[str, IntArray]
    since: dict[str, int]

    def opens(self, interval: str, coin: str) -> IntArray:
        """Opens of a coin's bars of one length."""
        return self.bars.get((interval, coin), _NONE)

    def stamps(self, coin: str) -> IntArray:
        """Hours of a coin's settlements."""
        return self.settlements.get(coin, _NONE)


def held_in(lake: Lake, start_ms: int, end_ms: int) -> Held:
    """What the lake has between two moments; only the months between them, and the one before, are read.

    Raises:
        DataError: the table's log cannot be read. A damaged part counts as nothing held: what it held is asked for
            again, and the merge refuses to replace it.
    """
    bars, settlements = _rows(lake, BARS, start_ms, end_ms), _rows(lake, FUNDING, start_ms, end_ms)
    inside = pl.col("ts").is_between(start_ms, end_ms)
    opens = bars.filter(inside).partition_by("base_interval", "coin", as_dict=True)
    stamps = settlements.filter(inside).partition_by("coin", as_dict=True)
    return Held(
        bars={(str(length), str(coin)): rows["ts"].to_numpy() for (length, coin), rows in opens.items()},
        settlements={str(coin): rows["ts"].to_numpy() for (coin,), rows in stamps.items()},
        since=dict(bars.filter(pl.col("ts") <= end_ms).group_by("coin").agg(pl.col("ts").min()).iter_rows()),
    )


def _rows(lake: Lake, dataset: Dataset, start_ms: int, end_ms: int) -> pl.DataFrame:
    """Names and times in the months of a range and in the last month before it, by time; times as Unix ms."""
    parts = lake.parts(dataset)
    low, high = period_of(dataset, start_ms), period_of(dataset, end_ms)
    low = max((_month(part) for part in parts if _month(part) < low), default=low)
    columns = [name for name in dataset.key if name != "ts"]
    rows = [dataset.schema.to_frame().select(*columns, "ts")]
    for part in parts:
        if low <= _month(part) <= high:
            try:
                rows.append(decode(dataset, lake.place, part, columns=(*columns, "ts")).select(*columns, "ts"))
            except DamagedPart:
                continue  # nothing is known of it: the merge will refuse to touch it, and say so
    return pl.concat(rows).with_columns(pl.col("ts").dt.timestamp("ms")).sort("ts")


def _month(part: Part) -> str:
    return part.values[-1][1]


def missing_bars(opens: IntArray, start_ms: int, end_ms: int, interval: str) -> tuple[Span, ...]:
    """Ranges of opens in [start_ms, end_ms) that are not held.

    Args:
        opens: opens held, ascending, Unix ms.
        start_ms: Unix ms, on the grid of the interval.
        end_ms: Unix ms.
        interval: length of the bars.
    """
    step = INTERVAL_MS[interval]
    wanted = np.arange(start_ms, end_ms, step, dtype=np.int64)
    return _ranges(np.setdiff1d(wanted, opens, assume_unique=True), step)


def with_the_newest_held(spans: tuple[Span, ...], opens: IntArray, interval: str) -> tuple[Span, ...]:
    """The same ranges, the last one begun a bar earlier if it follows the newest bar held.

    A bar that was fetched just after its close may still be corrected by the venue; asking for it again with what
    follows costs nothing.

    Args:
        spans: ranges of missing bars, ascending.
        opens: opens held, ascending, Unix ms.
        interval: length of the bars.
    """
    step = INTERVAL_MS[interval]
    if not spans or not len(opens) or spans[-1].start_ms != int(opens[-1]) + step:
        return spans
    return (*spans[:-1], Span(spans[-1].start_ms - step, spans[-1].end_ms))


def whole_bars(opens: IntArray, interval: str, longer: str) -> IntArray:
    """Opens of the longer bars that are held as shorter ones, every piece of them.

    Args:
        opens: opens of the shorter bars, ascending and unique, Unix ms.
        interval: their length.
        longer: a multiple of it.
    """
    step, pieces = INTERVAL_MS[longer], INTERVAL_MS[longer] // INTERVAL_MS[interval]
    starts, count = np.unique(opens // step * step, return_counts=True)
    return np.asarray(starts[count == pieces], dtype=np.int64)


def missing_settlements(stamps: IntArray, start_ms: int, end_ms: int) -> tuple[Span, ...]:
    """Ranges of hours in [start_ms, end_ms] whose settlement is not held, given the intervals the stamps have shown.

    Args:
        stamps: hours held, ascending, Unix ms.
        start_ms: Unix ms, on the hour.
        end_ms: Unix ms, on the hour, included.
    """
    hours = np.arange(start_ms, end_ms + HOUR_MS, HOUR_MS, dtype=np.int64)
    if not len(hours):
        return ()
    stamps = stamps[(stamps >= start_ms) & (stamps <= end_ms)]
    if not len(stamps):
        return (Span(start_ms, end_ms + HOUR_MS),)
    known = np.full((len(hours), 1), np.nan)
    known[np.searchsorted(hours, stamps), 0] = 0.0
    due = np.isnan(missing_settlements_marked(known, hours, HOUR_MS)[:, 0])
    outside = (hours < stamps[0]) | (hours > stamps[-1])
    return _ranges(hours[due | (outside & np.isnan(known[:, 0]))], HOUR_MS)


def _ranges(times: IntArray, step: int) -> tuple[Span, ...]:
    """Runs of adjacent times; too many runs inside are joined, the first and the last stay on their own."""
    if not len(times):
        return ()
    cuts = np.flatnonzero(np.diff(times) > step)
    firsts = times[np.append(0, cuts + 1)]
    lasts = times[np.append(cuts, len(times) - 1)]
    spans = [Span(int(first), int(last) + step) for first, last in zip(firsts, lasts, strict=True)]
    if len(spans) <= _HOLES:
        return tuple(spans)
    return (spans[0], Span(spans[1].start_ms, spans[-2].end_ms), spans[-1])
