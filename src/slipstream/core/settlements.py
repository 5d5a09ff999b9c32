"""Which funding settlements were due, told from each coin's own past stamps.

Stamps lie on the epoch grid of the interval in force (1, 2, 4 or 8 h). A gap between two stamps shows an interval: the
longest grid that both lie on. A shorter one takes effect at once, since no stamp can fall between grid points; a longer
one only after two equal gaps of just that length, because one long gap is more likely a stamp that got lost. Until a
coin has shown two stamps nothing is known to be due. On bars longer than the interval a settlement is due in every bar.
"""

from __future__ import annotations

import numpy as np

from slipstream.core.panel import HOUR_MS, FloatArray, IntArray

INTERVALS_HOURS = (1, 2, 4, 8)
_UNKNOWN = 0


def missing_settlements_marked(funding: FloatArray, time_ms: IntArray, bar_ms: int) -> FloatArray:
    """Funding sums with 0 where none was due; NaN stays where one was due and is missing. Row t reads rows <= t.

    Args:
        funding: shape (T, N), sum of the rates settled in each bar, NaN where none is recorded.
        time_ms: shape (T,), known-at (close) of each bar, Unix ms.
        bar_ms: length of a bar.
    """
    present = ~np.isnan(funding)
    if present.all():
        return funding
    out = funding.copy()
    count = present.sum(axis=0)
    first = present.argmax(axis=0)
    last = len(funding) - 1 - present[::-1].argmax(axis=0)
    # A coin whose stamps fill every bar between its first and its last needs no search: its interval is the bar.
    even = (count >= 2) & (last - first + 1 == count)
    for column in np.flatnonzero(even & (first > 0)):
        out[: first[column], column] = 0.0
    if not even.all():
        clock = (time_ms - time_ms[0] % bar_ms).astype(np.int64)
        out[:, ~even] = _searched(funding[:, ~even], clock, bar_ms)
    return out


def _searched(funding: FloatArray, clock: IntArray, bar_ms: int) -> FloatArray:
    """The same for coins whose stamps leave bars out, from the interval that the stamps before each bar have shown."""
    by_coin = funding.T.copy()
    absent = np.isnan(by_coin)
    coin, row = np.nonzero(~absent)
    interval = settlement_intervals_ms(clock[row], coin, bar_ms)

    # The coin's last stamp up to each bar, which where the bar has none is the last one before it.
    latest = np.cumsum(~absent).reshape(absent.shape) - 1
    own = latest >= np.searchsorted(coin, np.arange(len(by_coin)))[:, None]
    in_force = np.where(own, np.append(interval, _UNKNOWN)[latest], _UNKNOWN)
    due = (in_force != _UNKNOWN) & (clock % np.maximum(in_force, 1) == 0)
    by_coin[absent & ~due] = 0.0
    return np.ascontiguousarray(by_coin.T)


def settlement_intervals_ms(stamp_ms: IntArray, coin: IntArray, bar_ms: int) -> IntArray:
    """The settlement interval in force just after each recorded stamp, shape (K,), ms; 0 while unknown.

    Two equal gaps of the shown length set the interval whatever it was; any other gap can only shorten it. So the
    interval is the least one shown since it was last set, found with one running maximum per interval.

    Args:
        stamp_ms: shape (K,), Unix ms, ascending within each coin, on the grid of the bars.
        coin: shape (K,), codes, equal ones adjacent.
        bar_ms: length of a bar; no interval is told apart below it.
    """
    count = len(stamp_ms)
    if count == 0:
        return np.empty(0, dtype=np.int64)
    index = np.arange(count)
    opening = np.append(True, coin[1:] != coin[:-1])
    second = np.append(False, opening[:-1]) & ~opening
    gap = np.diff(stamp_ms, prepend=stamp_ms[0])
    repeated = np.append(False, gap[1:] == gap[:-1])
    intervals = _candidates_ms(bar_ms)

    shown = np.full(count, bar_ms, dtype=np.int64)
    for length in intervals:
        on_grid = stamp_ms % length == 0
        shown[on_grid & np.append(False, on_grid[:-1])] = length
    shown[opening] = np.iinfo(np.int64).max

    confirmed = repeated & (gap == shown) & ~opening & ~second
    set_at = np.maximum.accumulate(np.where(opening | second | confirmed, index, -1))
    in_force = np.full(count, _UNKNOWN, dtype=np.int64)
    for length in reversed(intervals):
        last_shown = np.maximum.accumulate(np.where(shown <= length, index, -1))
        in_force[last_shown >= set_at] = length
    return in_force


def _candidates_ms(bar_ms: int) -> list[int]:
    """Intervals that bars of this length can tell apart, ascending."""
    whole = [hours * HOUR_MS for hours in INTERVALS_HOURS if hours * HOUR_MS % bar_ms == 0]
    return whole if bar_ms in whole else [bar_ms, *whole]
