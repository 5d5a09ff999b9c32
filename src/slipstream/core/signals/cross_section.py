"""One moment, many coins: restricting a signal to the universe and putting its values on a common scale.

Every function takes and returns a frame with one column per coin and treats each row by itself. Missing values stay
missing and take no part: a coin without a signal is not an average coin.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from slipstream.core.frames import FrameError, cells
from slipstream.core.panel import FloatArray

if TYPE_CHECKING:
    import pandas as pd


def align_universe(signal: pd.DataFrame, universe: pd.DataFrame) -> pd.DataFrame:
    """The signal where the coin may be held, NaN elsewhere; labelled like ``signal``.

    Args:
        signal: one column per coin.
        universe: True where a coin may be held; a row or coin it lacks may not be.

    Raises:
        FrameError: the two have no row or no coin in common, or ``universe`` holds anything but True and False.
    """
    if not all(str(kind) in ("bool", "boolean") for kind in universe.dtypes):
        raise FrameError("universe: a cell is neither True nor False; pass a frame of booleans")
    for what, mine, theirs in (
        ("row", signal.index, universe.index),
        ("coin", signal.columns, universe.columns),
    ):
        if not mine.isin(theirs).any():
            raise FrameError(f"universe: no {what} in common with the signal; coins are case-sensitive, rows known-at")
    held = universe.reindex(index=signal.index, columns=signal.columns, fill_value=False)
    return signal.where(held.fillna(value=False).astype(bool))


def cross_sectional_demean(signal: pd.DataFrame) -> pd.DataFrame:
    """Each row less its mean: ``x - x.mean(axis=1)``."""
    return _like(signal, demeaned(cells(signal, "signal")))


def cross_sectional_zscore(signal: pd.DataFrame) -> pd.DataFrame:
    """Each row less its mean, over its sample standard deviation (n - 1).

    A row of fewer than two values, or of equal ones, has no scale and is NaN.
    """
    return _like(signal, zscored(cells(signal, "signal")))


def cross_sectional_rank(signal: pd.DataFrame) -> pd.DataFrame:
    """Each row's ranks from -0.5 to 0.5: ``(rank - (n + 1) / 2) / n`` with equal values sharing their mean rank.

    The ranks of n values sum to 0 and reach (n - 1) / 2n on either side.
    """
    return _like(signal, centred_ranks(np.ascontiguousarray(cells(signal, "signal"))))


def demeaned(values: FloatArray) -> FloatArray:
    """Each row less the mean of its finite values, shape (T, N)."""
    count = (~np.isnan(values)).sum(axis=1, keepdims=True)
    mean = np.nansum(values, axis=1, keepdims=True) / np.maximum(count, 1)
    return np.asarray(values - mean)


def zscored(values: FloatArray) -> FloatArray:
    """Each row less its mean, over its sample deviation, shape (T, N); NaN where there is no scale."""
    away = demeaned(values)
    known = ~np.isnan(values)
    count = known.sum(axis=1, keepdims=True)
    spread = np.sqrt(np.nansum(away * away, axis=1, keepdims=True) / np.maximum(count - 1, 1))
    highest = np.where(known, values, -np.inf).max(axis=1, keepdims=True)
    lowest = np.where(known, values, np.inf).min(axis=1, keepdims=True)
    varies = (count > 1) & (highest > lowest)
    return np.asarray(away / np.where(varies, spread, np.nan))


@njit(cache=True, nogil=True)
def centred_ranks(values: FloatArray) -> FloatArray:
    """``(rank - (n + 1) / 2) / n`` of the finite values of each row, ties at their mean rank, shape (T, N)."""
    out = np.full(values.shape, np.nan)
    for t in range(values.shape[0]):
        known = np.flatnonzero(~np.isnan(values[t]))
        n = len(known)
        order = known[np.argsort(values[t][known])]
        first = 0
        while first < n:
            last = first
            while last + 1 < n and values[t, order[last + 1]] == values[t, order[first]]:
                last += 1
            for k in range(first, last + 1):
                out[t, order[k]] = (0.5 * (first + last) - 0.5 * (n - 1)) / n
            first = last + 1
    return out


def _like(frame: pd.DataFrame, values: FloatArray) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(values, index=frame.index, columns=frame.columns)
