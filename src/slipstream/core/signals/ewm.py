"""Exponentially weighted mean and standard deviation, column by column, compiled.

The weights are those of ``pandas.DataFrame.ewm(span=n, adjust=True, ignore_na=False)``: the newest observation weighs
1, one k rows older weighs (1 - 2/(n+1))**k, and a missing row ages what came before it. The standard deviation is
bias-corrected by the effective number of observations. Row t depends on rows up to t only.

Source: West (1979), updating mean and variance estimates; weights as in RiskMetrics (1996).
"""

from __future__ import annotations

import numpy as np
from numba import njit

from slipstream.core.panel import FloatArray


@njit(cache=True, nogil=True)
def _ewm(values: FloatArray, decay: float, min_periods: int, spread: bool) -> FloatArray:
    rows, columns = values.shape
    out = np.full((rows, columns), np.nan)
    for j in range(columns):
        mean = 0.0
        variance = 0.0
        weight = 0.0
        weight_sq = 0.0
        seen = 0
        for t in range(rows):
            x = values[t, j]
            weight *= decay
            weight_sq *= decay * decay
            if not np.isnan(x):
                seen += 1
                total = weight + 1.0
                gap = x - mean
                mean += gap / total
                variance = (weight * variance + weight * gap * gap / total) / total
                weight = total
                weight_sq += 1.0
            if seen < min_periods or seen == 0:
                continue
            if spread:
                bias = weight * weight - weight_sq
                if seen > 1 and bias > 0.0:
                    out[t, j] = np.sqrt(variance * weight * weight / bias)
            else:
                out[t, j] = mean
    return out


def ewm_mean(values: FloatArray, span: float, min_periods: int = 1) -> FloatArray:
    """Exponentially weighted mean of each column.

    Args:
        values: shape (T, N), NaN where missing.
        span: in rows, at least 1; the decay per row is 1 - 2/(span + 1).
        min_periods: observations a column needs before its first value.

    Returns:
        shape (T, N), NaN before ``min_periods`` observations.
    """
    return np.asarray(_ewm(np.ascontiguousarray(values), 1.0 - 2.0 / (span + 1.0), min_periods, False))


def ewm_std(values: FloatArray, span: float, min_periods: int = 2) -> FloatArray:
    """Bias-corrected exponentially weighted standard deviation of each column.

    Args:
        values: shape (T, N), NaN where missing.
        span: in rows, at least 1; the decay per row is 1 - 2/(span + 1).
        min_periods: observations a column needs before its first value (at least 2 are always needed).

    Returns:
        shape (T, N), in the units of ``values``.
    """
    return np.asarray(_ewm(np.ascontiguousarray(values), 1.0 - 2.0 / (span + 1.0), min_periods, True))
