"""The liquidity-weighted market and each coin's beta to it.

The market's return over a bar is the average of the coins' returns weighted by the square root of their trailing USD
volume as known *before* the bar: volume in coins would hand the factor to whatever has the lowest price, and
same-bar volume would let a coin's own jump raise its weight.
"""

from __future__ import annotations

import numpy as np

from slipstream.core.panel import FloatArray, View
from slipstream.core.signals.liquidity import average_daily_volume_usd
from slipstream.core.signals.windows import rolling_slope, rolling_std

BETA_WINDOW_HOURS = 720
MIN_PRESENT = 0.8
"""Share of the regression window's bars that must exist for a beta."""


def market_return(view: View) -> FloatArray:
    """Simple return per bar of the liquidity-weighted market, shape (rows,); NaN where no coin in it traded.

    Weights are sqrt(ADV) as known one bar earlier, over every coin that traded in both bars: a new listing enters with
    the little volume it has. Equal weights while no volume is known.
    """
    simple = np.expm1(view.log_return)
    weight = np.sqrt(view.feature(average_daily_volume_usd))
    eligible = np.where(weight.sum(axis=1, keepdims=True) > 0.0, weight, 1.0)
    known = np.zeros_like(eligible)
    known[1:] = eligible[:-1]
    known[np.isnan(simple)] = 0.0
    total = known.sum(axis=1)
    moved = (known * np.where(np.isnan(simple), 0.0, simple)).sum(axis=1)
    return np.where(total > 0.0, moved / np.where(total > 0.0, total, 1.0), np.nan)


def market_model(view: View, *, window_hours: int = BETA_WINDOW_HOURS) -> FloatArray:
    """Rolling market model of each coin's simple returns, shape (rows, 2, N).

    Index 0 of the middle axis is the slope on :func:`market_return`, index 1 the residual variance per bar. NaN where
    fewer than 80 % of the window's bars exist: a coin without a beta cannot be hedged and must not be traded.
    """
    window = max(3, window_hours // view.bar_hours)
    simple = np.expm1(view.log_return)
    slope, residual = rolling_slope(simple, view.feature(market_return), window, max(3, int(MIN_PRESENT * window)))
    return np.stack((slope, residual), axis=1)


def market_variance(view: View, *, window_hours: int = BETA_WINDOW_HOURS) -> FloatArray:
    """Variance of the market's return per bar over the trailing window, shape (rows,); NaN until 80 % is there."""
    window = max(3, window_hours // view.bar_hours)
    sigma = rolling_std(view.feature(market_return)[:, None], window, max(3, int(MIN_PRESENT * window)))
    return np.asarray(sigma[:, 0] ** 2)
