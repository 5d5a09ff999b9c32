"""Rolling moments with missing values, column by column, compiled. Row t depends on rows up to t only."""

from __future__ import annotations

import numpy as np
from numba import njit

from slipstream.core.panel import FloatArray


@njit(cache=True, nogil=True)
def _rolling_std(values: FloatArray, window: int, min_periods: int) -> FloatArray:
    rows, columns = values.shape
    out = np.full((rows, columns), np.nan)
    for j in range(columns):
        count = 0
        mean = 0.0
        squares = 0.0
        for t in range(rows):
            x = values[t, j]
            if not np.isnan(x):
                count += 1
                gap = x - mean
                mean += gap / count
                squares += gap * (x - mean)
            if t >= window:
                old = values[t - window, j]
                if not np.isnan(old):
                    count -= 1
                    if count == 0:
                        mean = 0.0
                        squares = 0.0
                    else:
                        gap = old - mean
                        mean -= gap / count
                        squares -= gap * (old - mean)
            if count >= min_periods and count > 1:
                out[t, j] = np.sqrt(max(squares, 0.0) / (count - 1))
    return out


def rolling_std(values: FloatArray, window: int, min_periods: int) -> FloatArray:
    """Sample standard deviation of each column's last ``window`` rows, shape (T, N).

    Args:
        values: shape (T, N), NaN where missing (left out).
        window: rows.
        min_periods: observations needed inside the window; NaN below that.

    Source: Welford (1962), with the symmetric down-date for the row that leaves.
    """
    return np.asarray(_rolling_std(np.ascontiguousarray(values), window, min_periods))


@njit(cache=True, nogil=True)
def _rolling_slope(
    values: FloatArray, factor: FloatArray, window: int, min_periods: int
) -> tuple[FloatArray, FloatArray]:
    rows, columns = values.shape
    slope = np.full((rows, columns), np.nan)
    residual = np.full((rows, columns), np.nan)
    for j in range(columns):
        n = 0
        sx = 0.0
        sy = 0.0
        sxx = 0.0
        sxy = 0.0
        syy = 0.0
        for t in range(rows):
            x = factor[t]
            y = values[t, j]
            if not (np.isnan(x) or np.isnan(y)):
                n += 1
                sx += x
                sy += y
                sxx += x * x
                sxy += x * y
                syy += y * y
            if t >= window:
                x = factor[t - window]
                y = values[t - window, j]
                if not (np.isnan(x) or np.isnan(y)):
                    n -= 1
                    sx -= x
                    sy -= y
                    sxx -= x * x
                    sxy -= x * y
                    syy -= y * y
            if n < min_periods or n < 3:
                continue
            var_x = sxx - sx * sx / n
            if var_x <= 0.0:
                continue
            cov = sxy - sx * sy / n
            slope[t, j] = cov / var_x
            rest = (syy - sy * sy / n) - cov * cov / var_x
            residual[t, j] = max(rest, 0.0) / (n - 2)
    return slope, residual


def rolling_slope(
    values: FloatArray, factor: FloatArray, window: int, min_periods: int
) -> tuple[FloatArray, FloatArray]:
    """Least-squares slope of each column on a factor over the last ``window`` rows, and its residual variance.

    Args:
        values: shape (T, N), NaN where missing.
        factor: shape (T,), NaN where missing.
        window: rows.
        min_periods: rows with both present that are needed (at least 3).

    Returns:
        slope (T, N) and residual variance per row (T, N), degrees of freedom n - 2; NaN where not available.
    """
    slope, residual = _rolling_slope(np.ascontiguousarray(values), np.ascontiguousarray(factor), window, min_periods)
    return np.asarray(slope), np.asarray(residual)
