"""Gradient's second way to size: each side scaled to a one-day value at risk.

Within a side weights are proportional to the score's size; the side is then scaled so that 1.645 sqrt(w'Sw) of
non-overlapping daily returns meets its target. The whole book's value at risk is capped at 1.5 times a side's target.

Source: parametric VaR (Jorion 2006); covariance by quadratic-inverse shrinkage, so that 60 days of 100 coins will do.
"""

from __future__ import annotations

import numpy as np

from slipstream.core.decision import NotEnoughHistory
from slipstream.core.panel import HOUR_MS, BoolArray, FloatArray, View
from slipstream.core.portfolio.shrinkage import quadratic_inverse_shrinkage
from slipstream.core.portfolio.sides import pick_sides
from slipstream.errors import UsageError
from slipstream.strategies.gradient.config import GradientConfig

Z_95 = 1.645
BOOK_OVER_SIDE = 1.5
MIN_DAYS = 30
DAY_MS = 24 * HOUR_MS


def daily_returns(log_return: FloatArray, known_at_ms: int, bar_hours: int, days: int) -> FloatArray:
    """Simple returns of the last whole UTC days, shape (D, N), D <= ``days``; NaN where any bar of a day is missing.

    Args:
        log_return: shape (rows, N), per bar.
        known_at_ms: close of the last row, Unix ms.
        bar_hours: length of a bar.
        days: most days returned.

    Raises:
        UsageError: bars do not divide a day.
    """
    if bar_hours < 1 or 24 % bar_hours:
        raise UsageError(f"value at risk needs bars that divide a day; these are {bar_hours} h long")
    per_day = 24 // bar_hours
    stray = int(known_at_ms % DAY_MS // (bar_hours * HOUR_MS))
    usable = log_return[: len(log_return) - stray]
    count = min(days, len(usable) // per_day)
    if count == 0:
        return np.empty((0, log_return.shape[1]))
    return np.asarray(np.expm1(usable[-count * per_day :].reshape(count, per_day, -1).sum(axis=1)))


def value_at_risk_sides(
    score: FloatArray, eligible: BoolArray, daily: FloatArray, config: GradientConfig
) -> FloatArray:
    """Weights, shape (N,), whose sides each carry ``target_side_var`` of one-day 95 % value at risk.

    Args:
        score: shape (N,), NaN is never held.
        eligible: shape (N,).
        daily: shape (D, N), simple daily returns.
        config: targets and caps.

    Raises:
        NotEnoughHistory: the picked coins share fewer than 30 complete days.
    """
    picked_days = len(daily) >= MIN_DAYS and ~np.isnan(daily[-MIN_DAYS:]).any(axis=0)
    longs, shorts = pick_sides(score, eligible & picked_days, config.top_n, config.bottom_n, config.min_abs_strength)
    weights = np.zeros(len(score))
    if not len(longs) or not len(shorts):
        if not len(daily) >= MIN_DAYS:
            raise NotEnoughHistory(f"value at risk needs {MIN_DAYS} complete days; there are {len(daily)}")
        return weights
    held = np.concatenate((longs, shorts))
    complete = daily[:, held][~np.isnan(daily[:, held]).any(axis=1)]
    covariance = quadratic_inverse_shrinkage(complete)
    sides = (slice(0, len(longs)), slice(len(longs), len(held)))
    local = score[held] * 1.0
    for side in sides:
        risk = Z_95 * float(np.sqrt(local[side] @ covariance[side, side] @ local[side]))
        if risk <= 0.0:
            raise NotEnoughHistory("value at risk of a side is zero: its coins did not move")
        local[side] *= config.target_side_var / risk
    book = Z_95 * float(np.sqrt(local @ covariance @ local))
    gross = float(np.abs(local).sum())
    shrink = min(1.0, BOOK_OVER_SIDE * config.target_side_var / book, config.max_gross / gross)
    weights[held] = local * shrink
    return weights


def daily_returns_of(view: View, days: int) -> FloatArray:
    """:func:`daily_returns` of a view."""
    return daily_returns(view.log_return, view.known_at_ms, view.bar_hours, days)
