"""Sample covariance from series with gaps, and its repair to positive semi-definite.

Each pair of coins is measured over the rows both have, so a young coin costs the old ones none of their history. The
price is that the entries come from different samples and need not fit together; :func:`positive_semidefinite` makes
them fit without touching any variance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from slipstream.core.panel import BoolArray, FloatArray

LEAST_COMMON = 24
"""Rows two coins must share before their correlation is read from them."""
LEAST_EIGENVALUE = 1e-6
"""Floor under the eigenvalues of a repaired correlation matrix."""


@dataclass(frozen=True)
class PairwiseSample:
    """Sample moments of N columns.

    Attributes:
        covariance: (N, N), symmetric, unbiased; a pair with fewer than :data:`LEAST_COMMON` common rows has the average
            correlation of the other pairs. Not necessarily positive semi-definite where there are gaps.
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

    Two columns i and j give ``sum (x_i - mean_i)(x_j - mean_j) / (n_ij - 1)`` over their n_ij common rows, the means
    being those of all a column's own rows. Without gaps this is the textbook covariance.
    """
    seen = ~np.isnan(values)
    kept = seen.any(axis=1)
    if not kept.all():
        values, seen = values[kept], seen[kept]
    gaps = not seen.all()
    rows, coins = values.shape
    own = seen.sum(axis=0)
    mean = np.where(seen, values, 0.0).sum(axis=0) / own
    deviations = np.where(seen, values - mean, 0.0)
    presence = seen.astype(np.float64)
    common = presence.T @ presence if gaps else np.full((coins, coins), float(rows))
    covariance = deviations.T @ deviations / np.maximum(common - 1.0, 1.0)
    covariance = 0.5 * (covariance + covariance.T)
    if gaps:
        known = common >= LEAST_COMMON
        known[np.diag_indices(coins)] = True
        sigma = np.sqrt(np.diagonal(covariance))
        covariance = with_average_correlation(correlation(covariance), known) * np.outer(sigma, sigma)
    return PairwiseSample(covariance, common, deviations, gaps)


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


def positive_semidefinite(covariance: FloatArray) -> FloatArray:
    """The matrix itself if it has no negative eigenvalue, else a positive definite one with the same variances.

    The eigenvalues of the correlation matrix below :data:`LEAST_EIGENVALUE` are raised to it and the rows scaled back
    to a unit diagonal, so the diagonal of the covariance, hence its trace, is kept exactly.

    Args:
        covariance: (N, N), symmetric, diagonal >= 0.

    Source: the spectral method of Rebonato and Jaeckel (1999).
    """
    correlations = correlation(covariance)
    values, vectors = np.linalg.eigh(correlations)
    # Round-off of an eigenvalue that is 0 in exact arithmetic is of the order of N machine epsilons.
    if values[0] >= -1e-14 * len(values):
        return covariance
    root = vectors * np.sqrt(np.maximum(values, LEAST_EIGENVALUE))
    root /= np.sqrt(np.einsum("ij,ij->i", root, root))[:, None]
    repaired: FloatArray = root @ root.T
    repaired = 0.5 * (repaired + repaired.T)
    sigma = np.sqrt(np.diagonal(covariance))
    repaired *= np.outer(sigma, sigma)
    repaired[np.diag_indices_from(repaired)] = np.diagonal(covariance)
    return repaired
