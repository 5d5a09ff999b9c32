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
    return average_daily_volume_of(view.volume_usd, view.bar_hours, window_hours)


def daily_volatility(view: View, *, window_hours: int = LIQUIDITY_WINDOW_HOURS) -> FloatArray:
    """Standard deviation of log returns over the trailing window, per square-root day, shape (rows, N).

    NaN until a tenth of the window is there.
    """
    return daily_volatility_of(view.log_return, view.bar_hours, window_hours)


def average_daily_volume_of(volume_usd: FloatArray, bar_hours: float, window_hours: float) -> FloatArray:
    """:func:`average_daily_volume_usd` of a bare array of bars, shape (T, N)."""
    window = max(1, int(window_hours // bar_hours))
    return trailing_mean(np.where(np.isnan(volume_usd), 0.0, volume_usd), window) * (24.0 / bar_hours)


def daily_volatility_of(log_return: FloatArray, bar_hours: float, window_hours: float) -> FloatArray:
    """:func:`daily_volatility` of a bare array of log returns per bar, shape (T, N)."""
    window = max(2, int(window_hours // bar_hours))
    sigma = rolling_std(log_return, window, max(2, window // 10))
    return np.asarray(sigma * np.sqrt(24.0 / bar_hours))


def annual_volatility(view: View, *, span_hours: float) -> FloatArray:
    """Exponentially weighted volatility of log returns, per square-root year, shape (rows, N).

    NaN until half the span is there, and where it is zero (a price that never moved has no usable volatility).
    """
    span = max(2, int(span_hours // view.bar_hours))
    sigma = ewm_std(view.log_return, span, max(2, span // 2)) * np.sqrt(HOURS_PER_YEAR / view.bar_hours)
    return np.where(sigma > 0.0, sigma, np.nan)
