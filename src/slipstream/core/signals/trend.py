"""Multi-horizon trend strength: how far a price has drifted, in its own volatilities, over many lookbacks at once.

For each lookback L: z = r / sigma_L, m_L = sum of z over the last L hours, and m_L / sqrt(n_L) is about unit normal for
a driftless price. The score is the mean over the lookbacks that are available, so a young coin is judged on those it
has lived through. Missing returns stay missing: a window is available once the coin has lived through all of it, at
least 90 % of its bars are there, and sqrt(n) counts the bars that are.

Source: time-series momentum, Moskowitz, Ooi and Pedersen (2012); horizon averaging as in Baz et al. (2015).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numba import njit

from slipstream.core.panel import FloatArray, View
from slipstream.core.signals.ewm import ewm_std
from slipstream.core.signals.spans import LOOKBACKS_HOURS, Normalization, Scale, span_bars
from slipstream.core.signals.windows import rolling_std
from slipstream.errors import UsageError

MIN_VOLATILITY_SPAN_HOURS = 128
"""No return is scaled by a volatility estimated over less than this."""
MIN_PRESENT = 0.9
"""Share of a window's bars that must exist."""


@njit(cache=True, nogil=True)
def _window_sums(z: FloatArray, window: int, min_present: float, root: bool) -> FloatArray:
    """Sum of z over ``window`` rows (divided by the root of their number if asked), NaN where not available."""
    rows, columns = z.shape
    out = np.full((rows, columns), np.nan)
    for j in range(columns):
        total = 0.0
        count = 0
        first = -1
        for t in range(rows):
            if not np.isnan(z[t, j]):
                total += z[t, j]
                count += 1
                if first < 0:
                    first = t
            if t >= window and not np.isnan(z[t - window, j]):
                total -= z[t - window, j]
                count -= 1
            lived = first >= 0 and t - first + 1 >= window
            if lived and not np.isnan(z[t, j]) and count >= min_present * window:
                out[t, j] = total / np.sqrt(count) if root else total
    return out


def trend_components(
    log_return: FloatArray,
    bar_hours: float,
    lookbacks_hours: Sequence[float] = LOOKBACKS_HOURS,
    normalization: Normalization = "ewm",
    scale: Scale = "sqrt",
) -> dict[float, FloatArray]:
    """m_L of each usable lookback (over sqrt(n_L) when ``scale`` is "sqrt").

    Args:
        log_return: shape (T, N), log returns per bar, NaN where missing.
        bar_hours: length of a bar, hours.
        lookbacks_hours: L, hours; those below one bar are dropped with one warning.
        normalization: how sigma_L is estimated, over max(L, 128 h): "ewm" or "rolling".
        scale: "sqrt" or "none".

    Returns:
        lookback in hours -> shape (T, N).

    Raises:
        UsageError: no lookback is as long as one bar.
    """
    windows = span_bars(lookbacks_hours, bar_hours)
    if not windows:
        raise UsageError(f"no lookback is as long as one bar of {bar_hours:g} h; give longer ones")
    out: dict[float, FloatArray] = {}
    sigma_of: dict[int, FloatArray] = {}
    for hours, window in windows.items():
        span = max(1, int(max(hours, MIN_VOLATILITY_SPAN_HOURS) // bar_hours))
        if span not in sigma_of:
            estimate = ewm_std if normalization == "ewm" else rolling_std
            sigma = estimate(log_return, span, max(2, span // 2))
            sigma_of[span] = np.where(sigma > 0.0, sigma, np.nan)
        out[hours] = np.asarray(_window_sums(log_return / sigma_of[span], window, MIN_PRESENT, scale == "sqrt"))
    return out


def mean_of_available(components: Sequence[FloatArray]) -> FloatArray:
    """Mean over the available components, NaN where fewer than half of them are; shape (T, N)."""
    total = np.zeros_like(components[0])
    count = np.zeros_like(components[0])
    for component in components:
        present = ~np.isnan(component)
        total[present] += component[present]
        count += present
    enough = count * 2 >= len(components)
    return np.where(enough & (count > 0), total / np.maximum(count, 1.0), np.nan)


def trend_strength(
    view: View,
    *,
    lookbacks_hours: tuple[float, ...] = LOOKBACKS_HOURS,
    normalization: Normalization = "ewm",
    scale: Scale = "sqrt",
) -> FloatArray:
    """Trend score of every coin and row of a view, shape (rows, N): a feature (see :class:`View`)."""
    parts = trend_components(view.log_return, view.bar_hours, lookbacks_hours, normalization, scale)
    return mean_of_available(list(parts.values()))
