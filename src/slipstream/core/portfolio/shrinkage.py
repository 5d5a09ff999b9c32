"""Covariance matrices from short samples: linear shrinkage of correlations and analytical non-linear shrinkage."""

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


def quadratic_inverse_shrinkage(returns: FloatArray) -> FloatArray:
    """Covariance by analytical non-linear shrinkage of the sample eigenvalues; works for T < N too.

    Args:
        returns: shape (T, N), complete rows, T >= 3 and N >= 1.

    Returns:
        shape (N, N), positive definite unless every return is equal, same trace as the sample covariance.

    Source: Ledoit and Wolf (2022), quadratic shrinkage for large covariance matrices, eq. for the QIS estimator.
    """
    rows, size = returns.shape
    centred = returns - returns.mean(axis=0)
    free = rows - 1
    values, vectors = np.linalg.eigh(centred.T @ centred / free)
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
    return np.asarray((vectors * shrunk) @ vectors.T)
