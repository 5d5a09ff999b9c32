"""How long a series remembers: autocorrelations by lag, and the half-life of their decay.

The autocorrelation at a lag is Pearson's correlation of the pairs (x_t, x_{t - lag}) that are both there, as pandas
computes it. The half-life comes from rho(lag) = A exp(-lag / tau), least squares over all lags given: A below 1 leaves
room for the part of a series that lasts one bar only and would otherwise make the rest look short-lived.

Source: Box and Jenkins (1970) for the correlogram; Golub and Pereyra (1973) for eliminating A, which is linear.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from slipstream.core.frames import cells
from slipstream.core.panel import FloatArray
from slipstream.core.signals.long_frame import bar_length_hours
from slipstream.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

_GOLDEN = 0.5 * (np.sqrt(5.0) - 1.0)
_SEARCH_STEPS = 80
_LONGEST = 20.0
"""A half-life beyond this many times the longest lag is not told apart from no decay."""


def autocorrelation(values: pd.DataFrame, max_lag_hours: float = 168, bar_hours: float | None = None) -> pd.DataFrame:
    """Autocorrelation of every column at every lag of whole bars up to ``max_lag_hours``.

    Args:
        values: index = known-at on an even grid (rows that are not there count as missing), one column per series.
        max_lag_hours: longest lag, hours.
        bar_hours: length of a bar; None: the least step of the index.

    Returns:
        Index ``lag_hours`` (one bar, two bars, ...), one column per series; NaN with fewer than three pairs, or where
        they do not vary.

    Raises:
        UsageError: the longest lag is shorter than one bar, or the frame cannot be read (FrameError).
    """
    import pandas as pd

    from slipstream.core.frames import bar_ms, index_ms

    step = bar_length_hours(values, "values")
    hours = step if bar_hours is None else bar_hours
    lags = int(max_lag_hours // hours)
    if lags < 1:
        raise UsageError(f"a longest lag of {max_lag_hours:g} h is shorter than one bar of {hours:g} h; give more")
    times = index_ms(values, "values")
    row = (times - times[0]) // bar_ms(times, "values")
    dense = np.full((int(row[-1]) + 1, values.shape[1]), np.nan)
    dense[row] = cells(values, "values")
    index = pd.Index(hours * np.arange(1, lags + 1), name="lag_hours")
    return pd.DataFrame(lagged_correlations(dense, lags), index=index, columns=values.columns)


@njit(cache=True, nogil=True)
def lagged_correlations(values: FloatArray, lags: int) -> FloatArray:
    """Correlation of each column with itself 1 to ``lags`` rows earlier, shape (lags, N).

    Args:
        values: shape (T, N), NaN where missing.
        lags: at least 1.
    """
    rows, columns = values.shape
    out = np.full((lags, columns), np.nan)
    for j in range(columns):
        x = values[:, j].copy()
        for lag in range(1, min(lags, rows - 1) + 1):
            n, mean_now, mean_then = 0, 0.0, 0.0
            for t in range(lag, rows):
                if not (np.isnan(x[t]) or np.isnan(x[t - lag])):
                    n += 1
                    mean_now += x[t]
                    mean_then += x[t - lag]
            if n < 3:
                continue
            mean_now /= n
            mean_then /= n
            now_sq, then_sq, both = 0.0, 0.0, 0.0
            for t in range(lag, rows):
                if not (np.isnan(x[t]) or np.isnan(x[t - lag])):
                    a, b = x[t] - mean_now, x[t - lag] - mean_then
                    now_sq += a * a
                    then_sq += b * b
                    both += a * b
            if now_sq > 0.0 and then_sq > 0.0:
                out[lag - 1, j] = both / np.sqrt(now_sq * then_sq)
    return out


def fit_half_life(acf: pd.Series) -> float:
    """Half-life tau ln 2, hours, of A exp(-lag / tau) fitted to autocorrelations by least squares.

    Args:
        acf: autocorrelations, index = lag in hours, positive; NaN is left out.

    Returns:
        ``nan`` if no positive A fits (there is no memory), ``inf`` if the fit does not decay within twenty times the
        longest lag.

    Raises:
        UsageError: fewer than three autocorrelations, or a lag that is not positive.
    """
    lag = np.asarray(acf.index.to_numpy(dtype=np.float64))
    rho = np.asarray(acf.to_numpy(dtype=np.float64))
    lag, rho = lag[~np.isnan(rho)], rho[~np.isnan(rho)]
    if len(lag) < 3 or not (lag > 0.0).all():
        raise UsageError(
            f"a half-life needs at least three autocorrelations at positive lags in hours; {len(lag)} were given"
        )
    low, high = np.log(0.05 * lag.min()), np.log(_LONGEST * lag.max())
    grid = np.linspace(low, high, 60)
    best = int(np.argmin([_misfit(log_tau, lag, rho) for log_tau in grid]))
    log_tau = _golden_section(grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)], lag, rho)
    if not _amplitude(log_tau, lag, rho) > 0.0:
        return float("nan")
    return float("inf") if high - log_tau < 1e-3 else float(np.exp(log_tau) * np.log(2.0))


def _amplitude(log_tau: float, lag: FloatArray, rho: FloatArray) -> float:
    """The best A in (0, 1] at one tau; 0 or less if none is positive."""
    shape = np.exp(-lag / np.exp(log_tau))
    square = float(shape @ shape)
    return min(float(shape @ rho) / square, 1.0) if square > 0.0 else 0.0


def _misfit(log_tau: float, lag: FloatArray, rho: FloatArray) -> float:
    away = rho - max(_amplitude(log_tau, lag, rho), 0.0) * np.exp(-lag / np.exp(log_tau))
    return float(away @ away)


def _golden_section(low: float, high: float, lag: FloatArray, rho: FloatArray) -> float:
    """Where the misfit is least between two values of ln tau."""
    for _ in range(_SEARCH_STEPS):
        left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        if _misfit(left, lag, rho) <= _misfit(right, lag, rho):
            high = right
        else:
            low = left
    return 0.5 * (low + high)
