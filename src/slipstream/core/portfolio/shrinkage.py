"""Covariance matrices from short samples: linear shrinkage of correlations and analytical non-linear shrinkage.

The first and the last function take complete rows and stand alone. The two in between work on moments, so that samples
with gaps (:mod:`slipstream.core.portfolio.pairwise`) can use them as well.
"""

from __future__ import annotations

import numpy as np

from slipstream.core.panel import FloatArray


def shrunk_correlation(returns: FloatArray) -> FloatArray:
    """Sample correlation shrunk towards the identity by the intensity that minimises expected squared error.

    Args:
        returns: shape (T, N), complete rows, T >= 2. A column that never moves has correlation 0 with the others.

    Returns:
        shape (N, N), unit diagonal, positive semi-definite.

    Source: Ledoit and Wolf (2004), applied to standardised columns; the target is the identity.
    """
    rows, columns = returns.shape
    centred = returns - returns.mean(axis=0)
    scale = centred.std(axis=0)
    moving = scale > 0.0
    z = np.where(moving, centred / np.where(moving, scale, 1.0), 0.0)
    sample = z.T @ z / rows
    off = sample - np.diag(np.diag(sample))
    distance = float((off**2).sum())
    squares = z**2
    noise = (squares.T @ squares / rows - sample**2) / rows
    error = float(noise.sum() - np.trace(noise))
    intensity = 1.0 if distance == 0.0 else min(1.0, max(0.0, error / distance))
    return np.asarray((1.0 - intensity) * off + np.eye(columns))


def constant_correlation_intensity(scores: FloatArray, correlations: FloatArray, common: FloatArray) -> float:
    """How far to shrink a sample correlation towards its own average, in [0, 1].

    The intensity is the estimated sum of the errors' variances (less their covariance with the target's) over the
    squared distance of sample and target. Columns are standardised first, so it does not depend on the coins' scales.

    Args:
        scores: (T, N), columns of mean 0 and mean square 1, 0 where missing.
        correlations: (N, N), their sample correlations.
        common: (N, N), rows each pair shares.

    Source: Ledoit and Wolf (2004), Honey, I shrunk the sample covariance matrix, appendices A and B.
    """
    coins = len(correlations)
    if coins < 2:
        return 0.0
    average = (float(correlations.sum()) - coins) / (coins * (coins - 1))
    rows = np.maximum(common, 1.0)
    squares = scores**2
    products = (squares * scores).T @ scores / rows
    noise = squares.T @ squares / rows - correlations**2
    with_target = 0.5 * average * (products + products.T - 2.0 * correlations)
    excess = (noise - with_target) / rows
    off = ~np.eye(coins, dtype=bool)
    distance = float(((correlations - average)[off] ** 2).sum())
    if distance <= 0.0:
        return 1.0
    return min(1.0, max(0.0, float(excess[off].sum()) / distance))


def quadratic_inverse_spectrum(covariance: FloatArray, free: int) -> FloatArray:
    """A sample covariance with its eigenvalues shrunk and its trace kept.

    Args:
        covariance: (N, N), positive semi-definite; its rank is at most ``free``.
        free: degrees of freedom of the sample, at least 2: rows less one for the mean.

    Returns:
        (N, N), symmetric, positive definite unless the sample is 0 throughout.

    Source: Ledoit and Wolf (2022), quadratic shrinkage for large covariance matrices, eq. for the QIS estimator.
    """
    size = len(covariance)
    values, vectors = np.linalg.eigh(covariance)
    values = np.maximum(values, 0.0)
    ratio = size / free
    live = values[max(0, size - free) :]
    if live.max() <= 0.0:
        return np.zeros((size, size))
    inverse = 1.0 / np.maximum(live, live.max() * 1e-14)
    bandwidth = min(ratio**2, 1.0 / ratio**2) ** 0.35 / size**0.35
    lifted = inverse[:, None]
    spread = lifted - inverse[None, :]
    weight = spread**2 + bandwidth**2 * lifted**2
    hilbert = (lifted * spread / weight).mean(axis=0)
    conjugate = (lifted**2 * bandwidth / weight).mean(axis=0)
    amplitude = hilbert**2 + conjugate**2
    if size <= free:
        shrunk = 1.0 / (
            (1.0 - ratio) ** 2 * inverse
            + 2.0 * ratio * (1.0 - ratio) * inverse * hilbert
            + ratio**2 * inverse * amplitude
        )
    else:
        null = 1.0 / ((ratio - 1.0) * inverse.mean())
        shrunk = np.concatenate((np.full(size - free, null), 1.0 / (inverse * amplitude)))
    shrunk *= values.sum() / shrunk.sum()
    out: FloatArray = (vectors * shrunk) @ vectors.T
    return 0.5 * (out + out.T)


def quadratic_inverse_shrinkage(returns: FloatArray) -> FloatArray:
    """Covariance by analytical non-linear shrinkage of the sample eigenvalues; works for T < N too.

    Args:
        returns: shape (T, N), complete rows, T >= 3 and N >= 1.

    Returns:
        shape (N, N), positive definite unless every return is equal, same trace as the sample covariance.

    Source: Ledoit and Wolf (2022), quadratic shrinkage for large covariance matrices, eq. for the QIS estimator.
    """
    centred = returns - returns.mean(axis=0)
    free = len(returns) - 1
    return quadratic_inverse_spectrum(centred.T @ centred / free, free)
