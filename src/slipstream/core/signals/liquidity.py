"""What trading a coin costs depends on how much of it trades and how much it moves: trailing ADV and volatility."""

from __future__ import annotations

import numpy as np

from slipstream.core.panel import HOURS_PER_YEAR, FloatArray, View, trailing_mean
from slipstream.core.signals.ewm import ewm_std
from slipstream.core.signals.windows import rolling_std

LIQUIDITY_WINDOW_HOURS = 720
"""Thirty days: the window of ADV and daily volatility in every impact cost."""


def average_daily_volume_usd(view: View, *, window_hours: int = LIQUIDITY_WINDOW_HOURS) -> FloatArray:
    """Average USD volume per day over the trailing window, shape (rows, N); bars without volume count 0."""
    window = max(1, window_hours // view.bar_hours)
    volume = np.where(np.isnan(view.volume_usd), 0.0, view.volume_usd)
    return trailing_mean(volume, window) * (24.0 / view.bar_hours)


def daily_volatility(view: View, *, window_hours: int = LIQUIDITY_WINDOW_HOURS) -> FloatArray:
    """Standard deviation of log returns over the trailing window, per square-root day, shape (rows, N).

    NaN until a tenth of the window is there.
    """
    window = max(2, window_hours // view.bar_hours)
    sigma = rolling_std(view.log_return, window, max(2, window // 10))
    return np.asarray(sigma * np.sqrt(24.0 / view.bar_hours))


def annual_volatility(view: View, *, span_hours: float) -> FloatArray:
    """Exponentially weighted volatility of log returns, per square-root year, shape (rows, N).

    NaN until half the span is there, and where it is zero (a price that never moved has no usable volatility).
    """
    span = max(2, int(span_hours // view.bar_hours))
    sigma = ewm_std(view.log_return, span, max(2, span // 2)) * np.sqrt(HOURS_PER_YEAR / view.bar_hours)
    return np.where(sigma > 0.0, sigma, np.nan)
