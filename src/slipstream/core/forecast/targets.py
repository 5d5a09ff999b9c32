"""What the alpha and the funding model are taught, and the way back from a forecast to money.

With b the hours of a bar, n = H / b the bars held, and everything subscripted t frozen at the decision,

    y_alpha = sum_k eps_{t+k} / (sigma_t sqrt(n)),    eps_{t+k} = R_{t+k} - beta_t f_{t+k},    f_{t+k} = c_t' R_{t+k}
    y_F     = (sum_k f_{t+k} - H 1.25e-5) / (sigma^f_t n)

for k = 1 .. n, both cut at +-10. R are *simple* returns: a log return is lower than what is earned by half the
variance, so a model of log returns forecasts a loss for whatever is volatile. Beta and the factor portfolio c stay as
they were at t because that is the hedge a position can have. Every bar between t and t + n enters. The funding stamped
at the close t is paid by whoever held the bar before; the position first pays the row after.

Money, per unit of notional over H hours: alpha_price = sigma_t sqrt(n) y, F = H 1.25e-5 + sigma^f_t n y, and a long
earns alpha_price - F.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numba import njit

from slipstream.core.factors.factor_slopes import LEAST_SHARE
from slipstream.core.forecast.errors import ForecastError
from slipstream.core.panel import FloatArray
from slipstream.core.signals.funding import BASE_RATE_PER_HOUR

TARGET_CLIP = 10.0
"""Targets are cut here, in their own deviations; the realised money they are scored against is not."""


@dataclass(frozen=True)
class HoldingTargets:
    """What holding a coin for H hours from each row brings: realised money, and the targets made of it.

    Attributes:
        horizon_hours, bar_hours: H and b.
        alpha: y_alpha, shape (T, N), in price deviations.
        funding: y_F, shape (T, N), in funding deviations.
        price_return: residual simple return summed over the holding period, shape (T, N), fraction of notional.
        funding_paid: rates summed over it, shape (T, N), fraction of notional; a long pays them.
    """

    horizon_hours: int
    bar_hours: int
    alpha: FloatArray = field(repr=False)
    funding: FloatArray = field(repr=False)
    price_return: FloatArray = field(repr=False)
    funding_paid: FloatArray = field(repr=False)

    @property
    def total_return(self) -> FloatArray:
        """What a hedged long earns before costs, shape (T, N), fraction of notional."""
        return self.price_return - self.funding_paid


def holding_bars(horizon_hours: int, bar_hours: int) -> int:
    """Bars in a holding period.

    Raises:
        ForecastError: the horizon is not a positive multiple of the bar.
    """
    if bar_hours <= 0 or horizon_hours <= 0 or horizon_hours % bar_hours:
        raise ForecastError(f"a horizon of {horizon_hours} h does not consist of bars of {bar_hours} h; use a multiple")
    return horizon_hours // bar_hours


def holding_targets(
    simple_return: FloatArray,
    beta: FloatArray,
    coef: FloatArray,
    sigma: FloatArray,
    funding: FloatArray,
    funding_sigma: FloatArray,
    *,
    horizon_hours: int,
    bar_hours: int,
    funding_base_per_hour: float = BASE_RATE_PER_HOUR,
) -> HoldingTargets:
    """Targets of both models at every row.

    Args:
        simple_return: shape (T, N), simple return of the bar known at each row, NaN where missing.
        beta: shape (T, N) or (C, T, N) for C factors, slopes known at each row; NaN: none, hence no alpha target.
        coef: like ``beta``, coefficients of the factor portfolios known at each row, NaN for a coin outside them.
        sigma: shape (T, N), deviation of the residual return per bar, known at each row.
        funding: shape (T, N), rates settled in each bar, 0 where none was due, NaN where one was and is missing.
        funding_sigma: shape (T, N), deviation of a bar's funding, known at each row; floored for the model, as it is
            for the raw diagnostic.
        horizon_hours: H.
        bar_hours: b.
        funding_base_per_hour: the level y_F counts from; 0 for the raw diagnostic.

    Returns:
        NaN wherever a bar of the holding period, a beta or a deviation is missing, and in the last H hours.

    Raises:
        ForecastError: shapes differ, or H is not a multiple of the bar.
    """
    bars = holding_bars(horizon_hours, bar_hours)
    price = residual_return(simple_return, beta, coef, bars)
    paid = forward_sum(funding, bars)
    for name, values in (("sigma", sigma), ("funding", funding), ("funding_sigma", funding_sigma)):
        if values.shape != price.shape:
            raise ForecastError(f"{name} has shape {values.shape} beside returns of shape {price.shape}")
    base = horizon_hours * funding_base_per_hour
    return HoldingTargets(
        horizon_hours,
        bar_hours,
        alpha=_in_deviations(price, sigma * np.sqrt(bars)),
        funding=_in_deviations(paid - base, funding_sigma * bars),
        price_return=price,
        funding_paid=paid,
    )


def forward_sum(values: FloatArray, bars: int) -> FloatArray:
    """Sum of the next ``bars`` rows, shape (T, N): rows t + 1 .. t + bars; NaN where one is missing or yet to come."""
    out = np.full(values.shape, np.nan)
    if len(values) > bars:
        out[:-bars] = values[1 : len(values) - bars + 1]
        for k in range(2, bars + 1):
            out[:-bars] += values[k : len(values) - bars + k]
    return out


def residual_return(simple_return: FloatArray, beta: FloatArray, coef: FloatArray, bars: int) -> FloatArray:
    """Hedged simple return over the next ``bars`` rows with betas and coefficients frozen at each row, shape (T, N).

    Where coins of the factor portfolio have no return in a bar, its factor return is that of the others divided by the
    share of sum c_i beta_i they hold, and missing below a share of 0.6.

    Args:
        simple_return: shape (T, N), NaN where missing.
        beta: shape (T, N) or (C, T, N).
        coef: shape (T, N) or (C, T, N).
        bars: at least 1.

    Raises:
        ForecastError: shapes differ.
    """
    slope, weight = (values[None] if values.ndim == 2 else values for values in (beta, coef))
    if slope.shape != weight.shape or slope.shape[1:] != simple_return.shape:
        raise ForecastError(
            f"beta and coef have shapes {beta.shape} and {coef.shape} beside returns of shape {simple_return.shape}"
        )
    held = _factor_held(
        np.ascontiguousarray(simple_return), np.ascontiguousarray(slope), np.ascontiguousarray(weight), bars
    )
    out = forward_sum(simple_return, bars)
    for j in range(len(slope)):
        out -= slope[j] * held[j][:, None]
    return out


def alpha_in_money(forecast: FloatArray, sigma: FloatArray, bars: int) -> FloatArray:
    """alpha_price: a forecast of y_alpha as a fraction of notional over the holding period; shapes broadcast."""
    return np.asarray(sigma * np.sqrt(bars) * forecast)


def funding_in_money(
    forecast: FloatArray,
    funding_sigma: FloatArray,
    horizon_hours: int,
    bar_hours: int,
    funding_base_per_hour: float = BASE_RATE_PER_HOUR,
) -> FloatArray:
    """F: a forecast of y_F as the fraction of notional a long pays over the holding period; shapes broadcast."""
    bars = holding_bars(horizon_hours, bar_hours)
    return np.asarray(horizon_hours * funding_base_per_hour + funding_sigma * bars * forecast)


def _in_deviations(money: FloatArray, deviation: FloatArray) -> FloatArray:
    usable = np.where(deviation > 0.0, deviation, np.nan)
    return np.clip(money / usable, -TARGET_CLIP, TARGET_CLIP)


@njit(cache=True, nogil=True)
def _factor_held(simple_return: FloatArray, beta: FloatArray, coef: FloatArray, bars: int) -> FloatArray:
    """Sum over the next ``bars`` rows of each factor's return with the portfolio of row t, shape (C, T)."""
    factors, rows, coins = beta.shape
    out = np.full((factors, rows), np.nan)
    weight, exposure = np.empty(coins), np.empty(coins)
    for j in range(factors):
        for t in range(rows - bars):
            total = 0.0
            for i in range(coins):
                inside = not (np.isnan(coef[j, t, i]) or np.isnan(beta[j, t, i]))
                weight[i] = coef[j, t, i] if inside else 0.0
                exposure[i] = weight[i] * beta[j, t, i] if inside else 0.0
                total += exposure[i]
            if not total > 0.0:
                continue
            held = 0.0
            for s in range(t + 1, t + 1 + bars):
                moved, here = 0.0, 0.0
                for i in range(coins):
                    r = simple_return[s, i]
                    if not np.isnan(r):
                        moved += weight[i] * r
                        here += exposure[i]
                held += moved * (total / here) if here >= LEAST_SHARE * total else np.nan
            out[j, t] = held
    return out
