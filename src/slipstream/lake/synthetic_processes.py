"""The random processes the synthetic market is made of, each on plain arrays with time along the first axis.

Nothing here loads scipy or numba: a recursion over time is a loop of whole-row operations, which at a hundred coins
costs a microsecond a row and no import.

Sources: Student t scaled to unit variance and first-order autoregressions are textbook; the extremes of a Brownian
path between two known ends follow the reflection principle (Glasserman 2004, Monte Carlo Methods in Financial
Engineering, section 6.4); the funding rule is Hyperliquid's published one (interest plus premium with a dead band).
"""

from __future__ import annotations

import math

import numpy as np

from slipstream.core.panel import FloatArray

BASE_FUNDING_PER_HOUR = 1.25e-5
"""What a perp funds at while its premium lies inside the dead band: 0.01 % per 8 hours."""
FUNDING_CAP_PER_HOUR = 0.04
_INTEREST_PER_8H = 1e-4
_DEAD_BAND = 5e-4
_FUNDING_PERIOD_HOURS = 8.0

_LARGEST_SHOCK = 25.0
"""Shocks stop here, in standard deviations: a t distribution has no mean of exp(x), a market that can be priced has."""


def unit_student_t(rng: np.random.Generator, degrees: float, shape: tuple[int, ...]) -> FloatArray:
    """Student t draws scaled to unit variance and cut at 25 standard deviations, any ``shape``.

    Args:
        rng: source of randomness; advanced.
        degrees: degrees of freedom, above 2. The cut takes less than 1 % of the variance at 4 degrees.
        shape: of the result.
    """
    draws = rng.standard_t(degrees, shape)
    draws *= math.sqrt((degrees - 2.0) / degrees)
    return np.clip(draws, -_LARGEST_SHOCK, _LARGEST_SHOCK, out=draws)


def stationary_ar1(shocks: FloatArray, half_life_hours: float) -> FloatArray:
    """Unit-variance autoregression driven by unit-variance ``shocks``, shape (T, ...), one row per hour.

    ``z_0 = e_0`` and ``z_t = phi z_{t-1} + sqrt(1 - phi^2) e_t`` with ``phi = 2 ** (-1 / half_life_hours)``: stationary
    from the first row on, with autocorrelation one half at ``half_life_hours``.
    """
    phi = 0.5 ** (1.0 / half_life_hours)
    state = shocks * math.sqrt(1.0 - phi * phi)
    state[0] = shocks[0]
    step = np.empty_like(state[0])
    for row in range(1, len(state)):
        np.multiply(state[row - 1], phi, out=step)
        state[row] += step
    return state


def venue_funding(premium: FloatArray) -> FloatArray:
    """Hourly funding rate the venue settles for an hour's average ``premium`` over the oracle, same shape.

    ``(P + clip(I - P, -b, b)) / 8`` with interest ``I`` = 1 bp and dead band ``b`` = 5 bp, all per 8 hours, capped at
    4 % an hour either way. Inside the band the result is :data:`BASE_FUNDING_PER_HOUR` to the last bit.
    """
    distance = premium - _INTEREST_PER_8H
    beyond_band = distance - np.clip(distance, -_DEAD_BAND, _DEAD_BAND)
    rate = BASE_FUNDING_PER_HOUR + beyond_band / _FUNDING_PERIOD_HOURS
    return np.clip(rate, -FUNDING_CAP_PER_HOUR, FUNDING_CAP_PER_HOUR, out=rate)


def bar_extremes(
    rng: np.random.Generator, log_return: FloatArray, variance: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Highest and lowest log price inside each bar, relative to its open; two arrays shaped like ``log_return``.

    A Brownian path that ends at ``x`` and has variance ``v`` over the bar exceeds ``m >= max(0, x)`` with probability
    ``exp(-2 m (m - x) / v)``; solving for an exponential draw gives its maximum. The minimum is drawn on its own, so
    each side has the right law and the two are tied by ``x`` alone.

    Args:
        rng: source of randomness; advanced.
        log_return: close over open of each bar, log.
        variance: of the log price over the bar, same shape.
    """
    square = np.square(log_return)
    above = _root(rng, square, variance)
    above += log_return
    above *= 0.5
    below = _root(rng, square, variance)
    np.subtract(log_return, below, out=below)
    below *= 0.5
    return above, below


def _root(rng: np.random.Generator, square: FloatArray, variance: FloatArray) -> FloatArray:
    """``sqrt(x^2 + 2 v E)`` with exponential draws E, in one array's worth of memory."""
    out = rng.standard_exponential(square.shape)
    out *= variance
    out *= 2.0
    out += square
    return np.sqrt(out, out=out)
