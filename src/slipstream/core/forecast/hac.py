"""The mean of a series whose neighbours are alike.

Source: Newey and West (1987), with Bartlett weights; gaps as in Datta and Du (2012), who let a missing value add
nothing to the autocovariances and keep the distances in time of the others.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from slipstream.core.forecast.errors import ForecastError
from slipstream.core.panel import FloatArray


@dataclass(frozen=True)
class MeanWithError:
    """A mean, its standard error and their ratio; NaN where they cannot be told."""

    mean: float
    se: float
    t: float
    observations: int


def hac_mean(series: FloatArray, lags: int) -> MeanWithError:
    """Mean of an autocorrelated series with its Newey-West standard error.

    Args:
        series: shape (T,), one value per row of an even grid, NaN where missing.
        lags: autocovariances taken, at least the number of rows that overlapping holding periods share.

    Raises:
        ForecastError: ``lags`` is negative.
    """
    if lags < 0:
        raise ForecastError(f"{lags} lags; give 0 or more")
    here = ~np.isnan(series)
    n = int(here.sum())
    if n < 2:
        return MeanWithError(float(series[here].mean()) if n else float("nan"), float("nan"), float("nan"), n)
    mean = float(series[here].mean())
    gap = np.where(here, series - mean, 0.0)
    variance = float(gap @ gap)
    for k in range(1, min(lags, len(gap) - 1) + 1):
        variance += 2.0 * (1.0 - k / (lags + 1.0)) * float(gap[k:] @ gap[:-k])
    se = float(np.sqrt(max(variance, 0.0))) / n
    return MeanWithError(mean, se, mean / se if se > 0.0 else float("nan"), n)
