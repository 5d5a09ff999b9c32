"""Iterated exponentially weighted covariance in factor form: quick volatilities, slow correlations, few factors.

Volatilities change within days and correlations over weeks, so each gets a memory of its own: every return is divided
by the volatility forecast of the row before it, and correlations are read from these scores. The correlation matrix is
then written as K factors plus what each coin does alone, which is what the optimiser is fast with, and which estimates
better than the matrix itself: N K numbers are read from the data instead of N^2 / 2.

The loadings are those of maximum-likelihood factor analysis, one step from principal components: an eigenvector counts
only by what its eigenvalue exceeds the noise. Plain principal components keep the noise, and on recorded returns they
predict worse than the sample they come from (``benchmarks/covariance.py``).

Source: Johansson, Ogut, Pelger, Schmelzer and Boyd (2023), A simple method for predicting covariance matrices of
financial returns; loadings by Tipping and Bishop (1999) and Joreskog (1967).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from slipstream.core.panel import FloatArray
from slipstream.core.portfolio.covariance import CovarianceError
from slipstream.core.portfolio.pairwise import with_average_correlation

WARM_UP_BARS = 12
"""Returns a coin needs before its volatility is a forecast."""
LARGEST_SCORE = 4.2
"""Scores are clipped here: a wick says that volatility jumped, not that the coins' correlations did."""
LEAST_WEIGHT = 12.0
"""Weight, in newest rows, two coins must share before their correlation is read from them."""
LEAST_OWN_SHARE = 0.02
"""Share of each coin's variance that no factor explains: keeps every book's variance, hedged ones too, above 0."""
VOLATILITY_FLOOR = 0.25
"""Share of the lookback's standard deviation below which the quick volatility does not fall (a halted coin)."""


@dataclass(frozen=True)
class Iewma:
    """The three settings of the estimator.

    The defaults lie on the flat top of the likelihood that hourly perpetual futures of 2025 had a day ahead; sharper
    optima exist and differ between majors (shorter volatility) and small coins (longer).

    Attributes:
        volatility_half_life_hours: age at which a squared return weighs half.
        correlation_half_life_hours: age at which a product of scores weighs half.
        factors: K; fewer than the coins there are. 0 leaves no correlation.

    Raises:
        CovarianceError: a half-life that is not positive, or negative factors.
    """

    volatility_half_life_hours: float = 168.0
    correlation_half_life_hours: float = 360.0
    factors: int = 8

    def __post_init__(self) -> None:
        for name in ("volatility_half_life_hours", "correlation_half_life_hours"):
            if not 0.0 < getattr(self, name) < np.inf:
                raise CovarianceError(f"{name} is {getattr(self, name)!r}; a half-life is positive hours")
        if self.factors < 0:
            raise CovarianceError(f"factors is {self.factors}; give 0 or more")


def decay_per_bar(half_life_hours: float, bar_hours: float) -> float:
    """The weight of a row relative to the one after it."""
    return float(0.5 ** (bar_hours / half_life_hours))


def forecast_volatility(values: FloatArray, half_life_hours: float, lookback_bars: int, bar_hours: float) -> FloatArray:
    """Volatility per bar as known after each row, shape (T, N); NaN during a coin's first rows. Row t reads rows <= t.

    Args:
        values: (T, N), returns, NaN where missing.
        half_life_hours: memory of the volatility.
        lookback_bars: rows of the plain standard deviation whose quarter is the floor.
        bar_hours: length of a bar.
    """
    from slipstream.core.signals.ewm import ewm_std
    from slipstream.core.signals.windows import rolling_std

    decay = decay_per_bar(half_life_hours, bar_hours)
    quick = ewm_std(values, 2.0 / (1.0 - decay) - 1.0, WARM_UP_BARS)
    floor = VOLATILITY_FLOOR * rolling_std(values, lookback_bars, 2)
    return np.fmax(quick, np.where(np.isnan(quick), np.nan, floor))


def scores(values: FloatArray, volatility: FloatArray) -> FloatArray:
    """Each return over the volatility forecast of the row before it, clipped; NaN where either is missing or 0."""
    before = volatility[:-1]
    out = np.full_like(values, np.nan)
    np.divide(values[1:], before, out=out[1:], where=before > 0.0)
    return np.clip(out, -LARGEST_SCORE, LARGEST_SCORE)


def weighted_correlation(products: FloatArray, weight: FloatArray) -> FloatArray:
    """Correlations from decayed sums, shape (N, N), in [-1, 1] with a unit diagonal.

    Args:
        products: (N, N), sums of decay^age x score_i x score_j over the rows both coins have.
        weight: (N, N), sums of decay^age over the same rows. Pairs with less than :data:`LEAST_WEIGHT` get the average
            correlation of the others.
    """
    known = weight >= LEAST_WEIGHT
    moments = products / np.where(known, weight, 1.0)
    spread = np.where(np.diagonal(known), np.diagonal(moments), 0.0)
    scale = np.sqrt(np.where(spread > 0.0, spread, np.inf))
    known &= np.isfinite(scale)[:, None] & np.isfinite(scale)[None, :]
    known[np.diag_indices_from(known)] = True
    correlations: FloatArray = np.clip(moments / np.outer(scale, scale), -1.0, 1.0)
    correlations[np.diag_indices_from(correlations)] = 1.0
    return with_average_correlation(correlations, known)


def factor_loadings(correlations: FloatArray, factors: int) -> FloatArray:
    """Loadings B, shape (N, K), such that ``B B'`` plus a diagonal approximates the correlations.

    Rows have squared length at most 1 - :data:`LEAST_OWN_SHARE`, so ``1 - |row|^2`` is a positive share of variance
    for each coin and the sum is positive definite with a unit diagonal whatever the input: a correlation matrix that
    gaps have made indefinite loses its negative eigenvalues here.

    Args:
        correlations: (N, N), symmetric, unit diagonal.
        factors: K; at most N - 1 are used.
    """
    coins = len(correlations)
    count = min(factors, coins - 1)
    if count <= 0:
        return np.zeros((coins, 0))
    values, vectors = _leading(correlations, count)
    noise = max(0.0, (coins - float(values.sum())) / (coins - count))
    loadings = vectors * np.sqrt(np.maximum(values - noise, 0.0))
    # One step towards the likelihood's maximum: in units of each coin's own noise, noise has eigenvalue 1.
    own = np.sqrt(np.maximum(1.0 - np.einsum("ik,ik->i", loadings, loadings), LEAST_OWN_SHARE))
    values, vectors = _leading(correlations / np.outer(own, own), count)
    loadings = own[:, None] * vectors * np.sqrt(np.maximum(values - 1.0, 0.0))
    explained = np.einsum("ik,ik->i", loadings, loadings)
    most = 1.0 - LEAST_OWN_SHARE
    scale = np.sqrt(np.where(explained > most, most / np.where(explained > 0.0, explained, 1.0), 1.0))
    return np.asarray(loadings * scale[:, None])


def _leading(matrix: FloatArray, count: int) -> tuple[FloatArray, FloatArray]:
    from scipy.linalg import eigh

    size = len(matrix)
    values, vectors = eigh(matrix, subset_by_index=[size - count, size - 1], check_finite=False)
    return np.asarray(values), np.asarray(vectors)
