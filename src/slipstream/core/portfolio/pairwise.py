"""Sample covariance from series with gaps, and its repair to positive definite.

Each pair of coins is measured over the rows both have, so a young coin costs the old ones none of their history. Two
things follow. A correlation is normalised by the variances of the *common* rows: a coin listed in a wild month would
otherwise get correlations beyond 1 with coins whose variance is mostly of calm months. And the entries, which come from
different samples, need not fit together: some book may seem to have no risk or less than none. An optimiser finds that
book, so :func:`positive_definite` lifts such directions to a risk worth fearing, without touching any variance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from slipstream.core.panel import BoolArray, FloatArray

LEAST_COMMON = 24
"""Rows two coins must share before their correlation is read from them."""
LEAST_EIGENVALUE = 0.01
"""Floor under the eigenvalues of a correlation matrix read from series with gaps."""


@dataclass(frozen=True)
class PairwiseSample:
    """Sample moments of N columns.

    Attributes:
        covariance: (N, N), symmetric: each coin's own unbiased variance, and the correlation of each pair over its
            common rows. A pair with fewer than :data:`LEAST_COMMON` of them has the average correlation of the other
            pairs. Not necessarily positive semi-definite where there are gaps.
        common: (N, N), rows each pair shares.
        deviations: (T, N), columns less their own means, 0 where missing.
        gaps: whether any entry of a row that is not wholly empty is missing.
    """

    covariance: FloatArray
    common: FloatArray
    deviations: FloatArray
    gaps: bool


def pairwise_sample(values: FloatArray) -> PairwiseSample:
    """Moments of the columns of ``values``, shape (T, N), NaN where missing; each has at least two entries.

    Deviations are from the mean of all a column's own rows. Without gaps this is the textbook covariance.
    """
    kept = ~np.isnan(values).all(axis=1)
    if not kept.all():
        values = values[kept]
    deviations, seen = _deviations(values)
    gaps = not seen.all()
    rows, coins = values.shape
    if not gaps:
        return PairwiseSample(
            deviations.T @ deviations / (rows - 1), np.full((coins, coins), float(rows)), deviations, gaps
        )
    presence = seen.astype(np.float64)
    common = presence.T @ presence
    squares = (deviations**2).T @ presence  # [i, j]: squares of i over the rows it shares with j
    scale = np.sqrt(squares * squares.T)
    known = (common >= LEAST_COMMON) & (scale > 0.0)
    known[np.diag_indices(coins)] = True
    correlations: FloatArray = np.clip(deviations.T @ deviations / np.where(scale > 0.0, scale, 1.0), -1.0, 1.0)
    correlations[np.diag_indices(coins)] = 1.0
    variance = np.diagonal(squares) / (np.diagonal(common) - 1.0)
    sigma = np.sqrt(variance)
    covariance = with_average_correlation(correlations, known) * np.outer(sigma, sigma)
    covariance[np.diag_indices(coins)] = variance
    return PairwiseSample(covariance, common, deviations, gaps)


def own_variance(values: FloatArray) -> FloatArray:
    """Unbiased variance of each column over its own rows, shape (N,); columns as for :func:`pairwise_sample`."""
    deviations, seen = _deviations(values)
    return np.asarray(np.einsum("ti,ti->i", deviations, deviations) / (seen.sum(axis=0) - 1))


def _deviations(values: FloatArray) -> tuple[FloatArray, BoolArray]:
    """Columns less the means of their own rows, 0 where missing, and where they are not."""
    seen = ~np.isnan(values)
    if seen.all():
        return values - values.mean(axis=0), seen
    filled = np.where(seen, values, 0.0)
    filled -= filled.sum(axis=0) / seen.sum(axis=0)
    filled *= seen
    return filled, seen


def correlation(covariance: FloatArray) -> FloatArray:
    """The correlations of a covariance matrix, in [-1, 1] with a unit diagonal; 0 for a coin without variance."""
    sigma = np.sqrt(np.diagonal(covariance))
    scale = np.where(sigma > 0.0, sigma, np.inf)
    out: FloatArray = np.clip(covariance / np.outer(scale, scale), -1.0, 1.0)
    out[np.diag_indices_from(out)] = 1.0
    return out


def with_average_correlation(correlations: FloatArray, known: BoolArray) -> FloatArray:
    """Correlations (N, N) with the average of the known off-diagonal ones put where they are not known.

    Two coins that never traded side by side still share the market; 0 would call a book that is long both diversified.
    """
    if known.all():
        return correlations
    pairs = known.copy()
    pairs[np.diag_indices_from(pairs)] = False
    average = float(correlations[pairs].mean()) if pairs.any() else 0.0
    return np.where(known, correlations, average)


def positive_definite(covariance: FloatArray) -> FloatArray:
    """The matrix with every eigenvalue of its correlations at least about :data:`LEAST_EIGENVALUE`, variances kept.

    Eigenvalues below the floor are raised to it and the rows scaled back to a unit diagonal, which keeps the diagonal
    of the covariance, hence its trace, exactly. A matrix that needs none of it comes back as it is.

    Args:
        covariance: (N, N), symmetric, diagonal > 0.

    Source: the spectral method of Rebonato and Jaeckel (1999).
    """
    values, vectors = np.linalg.eigh(correlation(covariance))
    if values[0] >= LEAST_EIGENVALUE:
        return covariance
    root = vectors * np.sqrt(np.maximum(values, LEAST_EIGENVALUE))
    root /= np.sqrt(np.einsum("ij,ij->i", root, root))[:, None]
    variance = np.diagonal(covariance)
    sigma = np.sqrt(variance)
    repaired: FloatArray = root @ root.T * np.outer(sigma, sigma)
    repaired[np.diag_indices_from(repaired)] = variance
    return repaired
