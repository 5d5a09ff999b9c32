"""Betas of one window: regression slopes of every coin on the return of the factor portfolio. Compiled.

A row in which coins are missing holds the factor of those that are there, divided by the share of ``sum c_i beta_i``
they make up. Betas are slopes on the factor and the factor's gaps are filled by betas, so the two are iterated until
they agree; without gaps the first slopes are the answer.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from slipstream.core.panel import BoolArray, FloatArray

LEAST_SHARE = 0.6
"""Of ``sum c_i beta_i``, what must be there for a row to have a factor."""
_AGREEMENT = 1e-13
_AGREEMENT_STEPS = 100


@njit(cache=True, nogil=True)
def slopes(portfolio: FloatArray, raw: FloatArray, centred: FloatArray) -> FloatArray:
    """Slopes of every coin's return on the portfolio's, shape (n,), where no return is missing; none if it is still."""
    factor = np.dot(raw, portfolio)
    factor -= factor.mean()
    spread = np.dot(factor, factor)
    if not spread > 0.0:
        return np.empty(0)
    return np.asarray(np.dot(factor, centred) / spread)


@njit(cache=True, nogil=True)
def agreed_slopes(
    slope: FloatArray,
    portfolio: FloatArray,
    raw: FloatArray,
    centred: FloatArray,
    present: BoolArray,
    min_periods: int,
) -> FloatArray:
    """Slopes on the factor that those very slopes fill the gaps of, shape (n,), from a first guess up to scale.

    None at all if fewer than ``min_periods`` rows have a factor, a coin has no slope, or no agreement is reached.
    """
    bars, size = raw.shape
    mask = np.where(present, 1.0, 0.0)
    held_return = np.dot(raw, portfolio)
    factor = np.empty(bars)
    for _ in range(_AGREEMENT_STEPS):
        exposure = portfolio * slope
        share = np.dot(mask, exposure) / exposure.sum()
        rows, level = 0, 0.0
        for t in range(bars):
            factor[t] = held_return[t] / share[t] if share[t] >= LEAST_SHARE else np.nan
            if not np.isnan(factor[t]):
                rows += 1
                level += factor[t]
        if rows < min_periods:
            return np.empty(0)
        level /= rows
        n, sf, sff = np.zeros(size), np.zeros(size), np.zeros(size)
        sr, srf = np.zeros(size), np.zeros(size)
        for t in range(bars):
            f = factor[t] - level
            if np.isnan(f):
                continue
            for k in range(size):
                n[k] += mask[t, k]
                sf[k] += mask[t, k] * f
                sff[k] += mask[t, k] * f * f
                sr[k] += centred[t, k]
                srf[k] += centred[t, k] * f
        known = np.maximum(n, 1.0)
        spread = sff - sf * sf / known
        if n.min() < 3.0 or not spread.min() > 0.0:
            return np.empty(0)
        fitted = (srf - sr * sf / known) / spread
        settled = np.abs(fitted - slope).max() <= _AGREEMENT * np.abs(fitted).max()
        slope = fitted
        if settled:
            return slope
    return np.empty(0)
