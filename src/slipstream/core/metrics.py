"""Figures of merit of a return series. Flat, pure functions; periods are explicit; an empty or constant series is 0."""

from __future__ import annotations

import numpy as np

from slipstream.core.panel import FloatArray

DAYS_PER_YEAR = 365.25


def sharpe_ratio(returns: FloatArray, periods_per_year: float) -> float:
    """Annualised ratio of mean to sample standard deviation; 0.0 for fewer than two or constant returns.

    Args:
        returns: shape (n,), simple returns, NaN left out.
        periods_per_year: e.g. 365.25 for daily returns.
    """
    clean = returns[~np.isnan(returns)]
    if len(clean) < 2:
        return 0.0
    sigma = float(clean.std(ddof=1))
    mean = float(clean.mean())
    if sigma <= 1e-15 * max(1.0, abs(mean)):
        return 0.0
    return mean / sigma * float(np.sqrt(periods_per_year))


def sharpe_standard_error(sharpe: float, periods: int, periods_per_year: float) -> float:
    """Standard error of an annualised Sharpe ratio of independent returns: sqrt((1 + SR_d^2 / 2) / n) sqrt(year).

    Args:
        sharpe: annualised.
        periods: n, number of returns behind it; NaN for n = 0.
        periods_per_year: periods in a year.

    Source: Lo (2002), eq. 9.
    """
    if periods == 0:
        return float("nan")
    per_period = sharpe / np.sqrt(periods_per_year)
    return float(np.sqrt((1.0 + 0.5 * per_period**2) / periods) * np.sqrt(periods_per_year))


def max_drawdown(track: FloatArray) -> float:
    """Deepest fall from a previous high, at most 0.

    Args:
        track: shape (n,), positive equity or index levels.
    """
    if not len(track):
        return 0.0
    peak = np.maximum.accumulate(track)
    return float((track / peak - 1.0).min())
