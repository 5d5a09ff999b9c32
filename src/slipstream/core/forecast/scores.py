"""How good out-of-sample forecasts were: shares explained, and rank correlations.

R2 = 1 - SSE / SST about the mean of the scored rows. In deviations it tells how persistent a series is in its own
units; in money, how much of what is earned was foreseen. Both come from the same code, with the units of what is
passed in, and both models and their combination (alpha - F) are scored on the rows at which all four series are there,
joined by timestamp and coin.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numba import njit

from slipstream.core.forecast.bootstrap import BlockDraws
from slipstream.core.forecast.errors import ForecastError
from slipstream.core.forecast.hac import MeanWithError, hac_mean
from slipstream.core.panel import BoolArray, FloatArray, IntArray

LEAST_COINS = 10
"""Coins a timestamp needs for a rank correlation."""


@dataclass(frozen=True)
class R2:
    """A share of variance explained out of sample, with a bootstrap interval (forecasts fixed, timestamps redrawn).

    Attributes:
        value: R2.
        low, high: ends of its interval; NaN without draws.
        observations: rows scored.
        draws: shape (D,), the R2 of every draw; empty without draws. Horizons scored on the same draws are paired.
    """

    value: float
    low: float
    high: float
    observations: int
    draws: FloatArray = field(default_factory=lambda: np.empty(0), repr=False, compare=False)


@dataclass(frozen=True)
class JointR2:
    """R2 of the alpha model, of the funding model, and of alpha - F against what came."""

    alpha: R2
    funding: R2
    combined: R2


def joint_r2(
    alpha: FloatArray,
    alpha_forecast: FloatArray,
    funding: FloatArray,
    funding_forecast: FloatArray,
    draws: BlockDraws | None = None,
    level: float = 0.95,
) -> JointR2:
    """R2 of both models and of their combination on their joint rows.

    Args:
        alpha: what came of the price, shape (T, N), in deviations or in money.
        alpha_forecast: what was forecast of it, NaN where nothing was.
        funding: what was paid, shape (T, N), likewise.
        funding_forecast: what was forecast of it.
        draws: of T timestamps, for the intervals; without them these are NaN.
        level: of the intervals.

    Raises:
        ForecastError: shapes differ.
    """
    series = (alpha, alpha_forecast, funding, funding_forecast)
    if any(values.shape != alpha.shape for values in series):
        raise ForecastError(f"series of shapes {[values.shape for values in series]} cannot be joined")
    joint = np.isfinite(alpha) & np.isfinite(alpha_forecast) & np.isfinite(funding) & np.isfinite(funding_forecast)
    return JointR2(
        _r2(alpha, alpha_forecast, joint, draws, level),
        _r2(funding, funding_forecast, joint, draws, level),
        _r2(alpha - funding, alpha_forecast - funding_forecast, joint, draws, level),
    )


def r2(actual: FloatArray, forecast: FloatArray, draws: BlockDraws | None = None, level: float = 0.95) -> R2:
    """R2 of one series of forecasts, arguments as in :func:`joint_r2`."""
    return _r2(actual, forecast, np.isfinite(actual) & np.isfinite(forecast), draws, level)


def _r2(actual: FloatArray, forecast: FloatArray, joint: BoolArray, draws: BlockDraws | None, level: float) -> R2:
    n = int(joint.sum())
    if n == 0:
        return R2(float("nan"), float("nan"), float("nan"), 0)
    # About the mean of all rows: sums of squares about zero would cancel where the mean is large beside the spread.
    middle = float(actual[joint].mean())
    y = np.where(joint, actual - middle, 0.0)
    error = np.where(joint, actual - forecast, 0.0)
    sums = np.stack((joint.sum(axis=1), y.sum(axis=1), (y * y).sum(axis=1), (error * error).sum(axis=1)), axis=1)
    value = float(_share(sums.sum(axis=0)))
    if draws is None:
        return R2(value, float("nan"), float("nan"), n)
    drawn = _share(draws.totals(sums))
    low, high = np.quantile(drawn, (0.5 - level / 2.0, 0.5 + level / 2.0))
    return R2(value, float(low), float(high), n, drawn)


def _share(sums: FloatArray) -> FloatArray:
    """R2 of sums n, y, y^2, error^2, shape (..., 4) -> (...); NaN where y does not vary or nothing is there."""
    n, y, squares, errors = np.moveaxis(sums, -1, 0)
    total = squares - y * y / np.where(n > 0, n, 1.0)
    varies = total > 1e-14 * squares
    return np.where(varies, 1.0 - errors / np.where(varies, total, 1.0), np.nan)


def rank_ic(forecast: FloatArray, actual: FloatArray, min_coins: int = LEAST_COINS) -> FloatArray:
    """Spearman correlation across coins at each timestamp, shape (T,).

    NaN where fewer than ``min_coins`` coins have both, or one side does not vary. Ties share their mean rank.

    Args:
        forecast: shape (T, N), NaN where missing.
        actual: shape (T, N), what came.
        min_coins: at least 2.

    Raises:
        ForecastError: shapes differ, or ``min_coins`` is below 2.
    """
    if forecast.shape != actual.shape or min_coins < 2:
        raise ForecastError(f"ranks of {forecast.shape} against {actual.shape} over at least {min_coins} coins")
    return np.asarray(_spearman(np.ascontiguousarray(forecast), np.ascontiguousarray(actual), min_coins))


def mean_rank_ic(
    forecast: FloatArray, actual: FloatArray, holding_bars: int, min_coins: int = LEAST_COINS
) -> MeanWithError:
    """Mean rank correlation with a t that allows for overlapping holding periods (Newey-West, lags = H / b)."""
    return hac_mean(rank_ic(forecast, actual, min_coins), holding_bars)


def on_grid(
    known_at_ms: IntArray, coin: Sequence[str], values: FloatArray, grid_ms: IntArray, coins: Sequence[str]
) -> FloatArray:
    """Long rows placed by timestamp and coin, shape (T, N), NaN where there is none: their order does not matter.

    Args:
        known_at_ms: the rows' timestamps, length M.
        coin: their coins.
        values: their values.
        grid_ms: shape (T,), ascending.
        coins: N names.

    Raises:
        ForecastError: lengths differ, a row lies off the grid, or two rows have one place; the row is named.
    """
    if not len(known_at_ms) == len(coin) == len(values):
        raise ForecastError(f"{len(known_at_ms)} timestamps, {len(coin)} coins and {len(values)} values are not rows")
    column = {name: j for j, name in enumerate(coins)}
    row = np.searchsorted(grid_ms, known_at_ms)
    place = np.array([column.get(name, -1) for name in coin], dtype=np.int64)
    found = (row < len(grid_ms)) & (grid_ms[np.minimum(row, len(grid_ms) - 1)] == known_at_ms) & (place >= 0)
    if not found.all():
        m = int(np.argmin(found))
        raise ForecastError(f"row {m} ({coin[m]} at {int(known_at_ms[m])} ms) is not on the grid")
    flat = row * len(coins) + place
    first = np.unique(flat, return_index=True)[1]
    if len(first) < len(flat):
        m = int(np.setdiff1d(np.arange(len(flat)), first)[0])
        raise ForecastError(f"row {m} ({coin[m]} at {int(known_at_ms[m])} ms) repeats an earlier one")
    out = np.full(len(grid_ms) * len(coins), np.nan)
    out[flat] = values
    return out.reshape(len(grid_ms), len(coins))


@njit(cache=True, nogil=True)
def _ranks(values: FloatArray) -> FloatArray:
    """Ranks from 0 with ties at their mean, shape (n,)."""
    n = len(values)
    order = np.argsort(values)
    out = np.empty(n)
    first = 0
    while first < n:
        last = first
        while last + 1 < n and values[order[last + 1]] == values[order[first]]:
            last += 1
        for k in range(first, last + 1):
            out[order[k]] = 0.5 * (first + last)
        first = last + 1
    return out


@njit(cache=True, nogil=True)
def _spearman(forecast: FloatArray, actual: FloatArray, min_coins: int) -> FloatArray:
    rows, coins = forecast.shape
    out = np.full(rows, np.nan)
    x, y = np.empty(coins), np.empty(coins)
    for t in range(rows):
        n = 0
        for i in range(coins):
            if np.isfinite(forecast[t, i]) and np.isfinite(actual[t, i]):
                x[n], y[n] = forecast[t, i], actual[t, i]
                n += 1
        if n < min_coins:
            continue
        a, b = _ranks(x[:n]) - 0.5 * (n - 1), _ranks(y[:n]) - 0.5 * (n - 1)
        spread = np.sqrt((a * a).sum() * (b * b).sum())
        if spread > 0.0:
            out[t] = (a * b).sum() / spread
    return out
