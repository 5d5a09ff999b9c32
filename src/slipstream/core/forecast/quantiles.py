"""What came of the coins a model ranked lowest to highest.

Rows are put into bins by the forecast, and the mean of what came is taken in each: price alpha, funding F, and
alpha - F, which a long earns. Its t is that of a block bootstrap over timestamps, since holding periods overlap and
coins move together; the naive t, mean / (sd / sqrt n), stands beside it to show by how much it flatters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from slipstream.core.forecast.bootstrap import BlockDraws
from slipstream.core.forecast.errors import ForecastError
from slipstream.core.panel import BoolArray, FloatArray, IntArray

QuantileMode = Literal["pooled", "cross_section"]
QUANTILES = 10
SIGNIFICANT_T = 1.96


@dataclass(frozen=True)
class QuantileRow:
    """One bin, lowest forecasts first; the fields are the columns of the table, units those of what was passed in.

    ``n_eff`` is the number of independent observations that would have given the bootstrap's error of Total_actual;
    ``strategy`` is LONG or SHORT where Total_t lies beyond 1.96, else FLAT. Empty bins hold NaN.
    """

    quantile: int
    n: int
    n_eff: float
    pred_mean: float
    alpha_actual: float
    alpha_t: float
    F_actual: float
    F_t: float
    Total_actual: float
    Total_t: float
    strategy: str
    alpha_t_naive: float
    F_t_naive: float
    Total_t_naive: float


def quantile_table(
    forecast: FloatArray,
    alpha: FloatArray,
    funding: FloatArray,
    draws: BlockDraws,
    *,
    quantiles: int = QUANTILES,
    mode: QuantileMode = "pooled",
    unit: float = 1.0,
) -> tuple[QuantileRow, ...]:
    """Means of what came, by bins of what was forecast.

    Args:
        forecast: shape (T, N), out of sample, NaN where nothing was forecast.
        alpha: what came of the price, shape (T, N), in deviations or in money.
        funding: what was paid, shape (T, N), likewise.
        draws: of T timestamps; bins stay those of the full sample.
        quantiles: number of bins.
        mode: "pooled": bins of all rows together; "cross_section": of each timestamp.
        unit: every mean is multiplied by it, 1e4 for basis points.

    Raises:
        ForecastError: shapes differ, or fewer joint rows than bins.
    """
    if not forecast.shape == alpha.shape == funding.shape:
        raise ForecastError(f"a forecast of shape {forecast.shape} beside {alpha.shape} and {funding.shape}")
    joint = np.isfinite(forecast) & np.isfinite(alpha) & np.isfinite(funding)
    if int(joint.sum()) < quantiles or quantiles < 1:
        raise ForecastError(f"{int(joint.sum())} joint rows cannot be put into {quantiles} bins")
    bins = _bins(forecast, joint, quantiles, mode)
    values = np.stack((alpha, funding, alpha - funding), axis=-1) * unit
    rows = []
    for q in range(quantiles):
        inside = joint & (bins == q)
        rows.append(_row(q, inside, forecast * unit, values, draws))
    return tuple(rows)


def _bins(forecast: FloatArray, joint: BoolArray, quantiles: int, mode: QuantileMode) -> IntArray:
    shares = np.arange(1, quantiles) / quantiles
    bins = np.full(forecast.shape, -1, dtype=np.int64)
    if mode == "pooled":
        bins[joint] = np.searchsorted(np.quantile(forecast[joint], shares), forecast[joint], side="left")
        return bins
    for t in np.flatnonzero(joint.any(axis=1)):
        here = forecast[t, joint[t]]
        bins[t, joint[t]] = np.searchsorted(np.quantile(here, shares), here, side="left")
    return bins


def _row(quantile: int, inside: BoolArray, forecast: FloatArray, values: FloatArray, draws: BlockDraws) -> QuantileRow:
    n = int(inside.sum())
    nan = float("nan")
    if n < 2:
        return QuantileRow(quantile, n, nan, nan, nan, nan, nan, nan, nan, nan, "FLAT", nan, nan, nan)
    taken = np.where(inside[..., None], values, 0.0)
    mean, sd = values[inside].mean(axis=0), values[inside].std(axis=0, ddof=1)
    sums = draws.totals(np.column_stack((inside.sum(axis=1), taken.sum(axis=1))))
    drawn = sums[sums[:, 0] > 0]  # a draw may miss a bin that lives in few timestamps: it has no mean to tell
    se = (drawn[:, 1:] / drawn[:, :1]).std(axis=0, ddof=1) if len(drawn) > 1 else np.full(3, nan)
    t, naive = (np.divide(mean, e, out=np.full(3, nan), where=e > 0.0) for e in (se, sd / np.sqrt(n)))
    n_eff = float((sd[2] / se[2]) ** 2) if se[2] > 0.0 else nan
    strategy = "LONG" if t[2] > SIGNIFICANT_T else "SHORT" if t[2] < -SIGNIFICANT_T else "FLAT"
    a, f, total = ((float(mean[k]), float(t[k])) for k in range(3))
    pred = float(forecast[inside].mean())
    return QuantileRow(quantile, n, n_eff, pred, *a, *f, *total, strategy, *(float(x) for x in naive))
