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
from slipstream.lake.lake_check import damage
from slipstream.lake.parts import period_of
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
    """Times held within a range, ascending, Unix ms: opens of bars by interval and coin, stamps of settlements."""

    bars: dict[tuple[str, str], IntArray]
    settlements: dict[str, IntArray]

    def opens(self, interval: str, coin: str) -> IntArray:
        """Opens of a coin's bars of one length."""
        return self.bars.get((interval, coin), _NONE)

    def stamps(self, coin: str) -> IntArray:
        """Hours of a coin's settlements."""
        return self.settlements.get(coin, _NONE)


def held_in(lake: Lake, start_ms: int, end_ms: int) -> Held:
    """What the lake has between two moments; only the months between them are read.

    Raises:
        DataError: the table's log cannot be read. A damaged part counts as nothing held: what it held is asked for
            again, and the merge refuses to replace it.
    """
    bars = _times(lake, BARS, start_ms, end_ms, ("base_interval", "coin"))
    settlements = _times(lake, FUNDING, start_ms, end_ms, ("coin",))
    return Held(
        {(interval, coin): opens for (interval, coin), opens in bars.items()},
        {coin: stamps for (coin,), stamps in settlements.items()},
    )


def _times(
    lake: Lake, dataset: Dataset, start_ms: int, end_ms: int, by: tuple[str, ...]
) -> dict[tuple[str, ...], IntArray]:
    """Times held, by the values of some columns."""
    low, high = period_of(dataset, start_ms), period_of(dataset, end_ms)
    parts = [part for part in lake.parts(dataset) if low <= part.values[-1][1] <= high]
    whole = [part for part in parts if damage(lake, dataset, part) is None]
    if not whole:
        return {}
    rows = pl.concat(lake.decoded(dataset, whole, columns=(*by, "ts")))
    inside = rows.with_columns(pl.col("ts").dt.timestamp("ms")).filter(pl.col("ts").is_between(start_ms, end_ms))
    groups = inside.sort("ts").partition_by(list(by), as_dict=True)
    return {tuple(str(value) for value in key): group["ts"].to_numpy() for key, group in groups.items()}


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
