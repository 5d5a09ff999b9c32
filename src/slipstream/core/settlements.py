"""Which funding settlements were due, told from each coin's own past stamps.

Stamps lie on the epoch grid of the interval in force (1, 2, 4 or 8 h). A gap between two stamps shows an interval: the
longest grid that both lie on. A shorter one takes effect at once, since no stamp can fall between grid points; a longer
one only after two equal gaps of just that length, because one long gap is more likely a stamp that got lost. Until a
coin has shown two stamps nothing is known to be due. On bars longer than the interval a settlement is due in every bar.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from slipstream.core.panel import HOUR_MS, FloatArray, IntArray

INTERVALS_HOURS = (8, 4, 2, 1)


def missing_settlements_marked(funding: FloatArray, time_ms: IntArray, bar_ms: int) -> FloatArray:
    """Funding sums with 0 where none was due; NaN stays where one was due and is missing. Row t reads rows <= t.

    Args:
        funding: shape (T, N), sum of the rates settled in each bar, NaN where none is recorded.
        time_ms: shape (T,), known-at (close) of each bar, Unix ms.
        bar_ms: length of a bar.
    """
    if not np.isnan(funding).any():
        return funding
    origin = int(time_ms[0]) % bar_ms
    candidates = [h * HOUR_MS for h in INTERVALS_HOURS if h * HOUR_MS % bar_ms == 0 and h * HOUR_MS >= bar_ms]
    intervals = np.array(candidates or [bar_ms], dtype=np.int64)
    if intervals[-1] != bar_ms:
        intervals = np.append(intervals, bar_ms)
    return np.asarray(_mark(funding, (time_ms - origin).astype(np.int64), intervals))


@njit(cache=True, nogil=True)
def _mark(funding: FloatArray, clock_ms: IntArray, intervals_ms: IntArray) -> FloatArray:
    rows, coins = funding.shape
    out = funding.copy()
    for i in range(coins):
        interval, last, gap_before = 0, -1, 0
        for t in range(rows):
            now = clock_ms[t]
            if np.isnan(funding[t, i]):
                if interval == 0 or now % interval != 0:
                    out[t, i] = 0.0
                continue
            if last >= 0:
                shown = intervals_ms[-1]
                for k in range(len(intervals_ms)):
                    if now % intervals_ms[k] == 0 and last % intervals_ms[k] == 0:
                        shown = intervals_ms[k]
                        break
                gap = now - last
                confirmed = gap == shown and gap == gap_before
                if interval == 0 or confirmed or shown < interval:
                    interval = shown
                gap_before = gap
            last = now
    return out
