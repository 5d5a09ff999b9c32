"""The compiled search behind :mod:`slipstream.core.portfolio.lots`: moves of one lot in one coin or in two.

State: counts n of lots, the deviation d = n v - w from the ideal weights (v: weight of a lot), g = S d, the exposures
b = B'(n v) and the gross. Moving coin i by x changes the tracking variance by x (2 g_i + x S_ii), and two coins at once
by the sum of both and 2 x y S_ij, so judging a move is O(1) and making one is O(N).
"""

from __future__ import annotations

import numpy as np
from numba import njit

from slipstream.core.panel import BoolArray, FloatArray, IntArray

LEVERAGE, NEUTRALITY, TRACKING = 0, 1, 2
"""What a move is to improve; the later never spoils the earlier."""


@njit(cache=True, nogil=True)
def _next_count(count: int, step: int, least: int, most: int) -> int:
    """The next admissible count in a direction: 0, or ``least`` to ``most`` in size; ``count`` if there is none."""
    target = count + step
    if target != 0 and abs(target) < least:
        # between zero and the smallest order: up to it when opening, to zero when closing
        target = step * least if count == 0 else 0
    return target if abs(target) <= most or abs(target) < abs(count) else count


@njit(cache=True, nogil=True)
def _gain(
    aim: int, b: FloatArray, shift: FloatArray, gross: float, grows: float, cap: float, tolerance: float, extra: float
) -> float:
    """Worth of a move with tracking change ``extra``: improvement per tracking variance; 0 if it is not allowed.

    A move that improves its aim and tracks better besides is worth more than any other.
    """
    slack = 1e-12 * max(cap, 1.0) if np.isfinite(cap) else 0.0
    if aim == LEVERAGE:
        improved = min(gross - cap, -grows)
    else:
        if grows > 0.0 and gross + grows > cap + slack:
            return 0.0
        before, after = 0.0, 0.0
        for k in range(len(b)):
            before = max(before, abs(b[k]))
            after = max(after, abs(b[k] + shift[k]))
        if aim == TRACKING:
            return -extra if after <= max(tolerance, before) else 0.0
        improved = before - max(after, tolerance)
    if improved <= 1e-15:
        return 0.0
    return improved / extra if extra > 1e-300 else 1e300 * (1.0 + improved)


@njit(cache=True, nogil=True)
def _options(
    counts: IntArray,
    lot: FloatArray,
    S: FloatArray,
    g: FloatArray,
    least: IntArray,
    most: IntArray,
    movable: BoolArray,
    to: IntArray,
    by: FloatArray,
    grows: FloatArray,
    alone: FloatArray,
) -> None:
    """What each coin can do - one lot up, one down, to zero: counts, weight moved, gross added, tracking added."""
    for i in range(len(counts)):
        to[i, 0] = _next_count(counts[i], 1, least[i], most[i])
        to[i, 1] = _next_count(counts[i], -1, least[i], most[i])
        to[i, 2] = 0
        for o in range(3):
            by[i, o] = (to[i, o] - counts[i]) * lot[i] if movable[i] else 0.0
            grows[i, o] = (abs(to[i, o]) - abs(counts[i])) * lot[i]
            alone[i, o] = by[i, o] * (2.0 * g[i] + by[i, o] * S[i, i])


@njit(cache=True, nogil=True)
def _best(
    aim: int,
    S: FloatArray,
    B: FloatArray,
    b: FloatArray,
    by: FloatArray,
    grows: FloatArray,
    alone: FloatArray,
    gross: float,
    cap: float,
    tolerance: float,
) -> tuple[float, int, int, int, int]:
    """The move worth most: its worth, and coin and option of its one or two parts (-1: none)."""
    n, columns = B.shape
    best, first, o_first, second, o_second = 0.0, -1, 0, -1, 0
    shift = np.empty(columns)
    for i in range(n):
        for o in range(3):
            if by[i, o] == 0.0:
                continue
            for k in range(columns):
                shift[k] = B[i, k] * by[i, o]
            worth = _gain(aim, b, shift, gross, grows[i, o], cap, tolerance, alone[i, o])
            if worth > best:
                best, first, o_first, second = worth, i, o, -1
            if aim == LEVERAGE or o == 2:
                continue
            for j in range(i):
                for p in range(2):
                    if by[j, p] == 0.0:
                        continue
                    for k in range(columns):
                        shift[k] = B[i, k] * by[i, o] + B[j, k] * by[j, p]
                    extra = alone[i, o] + alone[j, p] + 2.0 * by[i, o] * by[j, p] * S[i, j]
                    worth = _gain(aim, b, shift, gross, grows[i, o] + grows[j, p], cap, tolerance, extra)
                    if worth > best:
                        best, first, o_first, second, o_second = worth, i, o, j, p
    return best, first, o_first, second, o_second


@njit(cache=True, nogil=True)
def improve(
    counts: IntArray,
    lot: FloatArray,
    ideal: FloatArray,
    S: FloatArray,
    B: FloatArray,
    least: IntArray,
    most: IntArray,
    movable: BoolArray,
    cap: float,
    tolerance: float,
    max_moves: int,
) -> int:
    """Move lots, in place, until gross, exposures and tracking cannot be bettered; returns the number of moves.

    Args:
        counts: (N,) admissible counts to start from, changed in place.
        lot: (N,) weight of one lot.
        ideal: (N,) weights wanted.
        S: (N, N) symmetric.
        B: (N, K) exposures.
        least: (N,) smallest size of a position, lots.
        most: (N,) largest.
        movable: (N,) False where the count must stay as it is.
        cap: gross; inf for none.
        tolerance: largest exposure.
        max_moves: moves at most.
    """
    n, columns = B.shape
    d = counts * lot - ideal
    g, gross = S @ d, np.abs(counts * lot).sum()
    b = B.T @ (counts * lot)
    to = np.zeros((n, 3), np.int64)
    by, grows, alone = np.zeros((n, 3)), np.zeros((n, 3)), np.zeros((n, 3))
    aim, moves = LEVERAGE, 0
    while moves < max_moves:
        if aim == LEVERAGE and gross <= cap * (1.0 + 1e-12):
            aim = NEUTRALITY
        if aim == NEUTRALITY and _largest(b) <= tolerance:
            aim = TRACKING
        _options(counts, lot, S, g, least, most, movable, to, by, grows, alone)
        worth, i, o, j, p = _best(aim, S, B, b, by, grows, alone, gross, cap, tolerance)
        if i < 0 or (aim == TRACKING and worth <= 1e-12 * (d @ g)):
            if aim == TRACKING:
                break
            aim += 1
            continue
        for coin, option in ((i, o), (j, p)):
            if coin < 0:
                continue
            gross += grows[coin, option]
            d[coin] += by[coin, option]
            for k in range(n):
                g[k] += S[k, coin] * by[coin, option]
            for k in range(columns):
                b[k] += B[coin, k] * by[coin, option]
            counts[coin] = to[coin, option]
        moves += 1
    return moves


@njit(cache=True, nogil=True)
def _largest(values: FloatArray) -> float:
    largest = 0.0
    for value in values:
        largest = max(largest, abs(value))
    return largest
