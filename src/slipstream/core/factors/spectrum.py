"""The largest eigenpair of a small symmetric matrix, at a fraction of a full decomposition's price. Compiled.

Power iteration, accepted on a proof only. With F the Frobenius norm and v the Rayleigh quotient, v^2 + (any other
eigenvalue)^2 <= F^2, so that the gap below v is at least v - sqrt(F^2 - v^2), and the angle to the true eigenvector is
at most residual / gap. A matrix whose first eigenvalue does not dominate gets no proof, and its caller asks LAPACK.

Source: Golub and Van Loan, Matrix Computations (4th ed.), 8.1.2 (bounds) and 8.2.1 (power iteration).
"""

from __future__ import annotations

import numpy as np
from numba import njit

from slipstream.core.panel import FloatArray

ANGLE = 1e-11
"""Largest proven angle of an accepted eigenvector, radians."""
SMALLEST = 1e-12
"""Relative size below which an eigenvalue is no more than rounding."""
_POWER_STEPS = 80


@njit(cache=True, nogil=True)
def leading_eigenpair(gram: FloatArray, start: FloatArray, vector: FloatArray) -> float:
    """Write the unit eigenvector of the largest eigenvalue to ``vector`` and return the eigenvalue.

    Args:
        gram: shape (n, n), symmetric and positive semi-definite.
        start: shape (n,), a guess of the vector, of any length.
        vector: shape (n,), written to.

    Returns:
        The eigenvalue; NaN if no proof was found, and then ``vector`` means nothing.
    """
    length = np.sqrt(np.dot(start, start))
    if not length > 0.0:
        return np.nan
    vector[:] = start / length
    image = np.empty_like(vector)
    frobenius_sq = 0.0
    for a in range(len(gram)):
        frobenius_sq += np.dot(gram[a], gram[a])
    for _ in range(_POWER_STEPS):
        np.dot(gram, vector, image)
        value = np.dot(vector, image)
        gap = value - np.sqrt(max(frobenius_sq - value * value, 0.0))
        residual_sq = 0.0
        for a in range(len(image)):
            residual_sq += (image[a] - value * vector[a]) ** 2
        if gap > 0.0 and residual_sq <= (ANGLE * gap) ** 2:
            return float(value)
        length = np.sqrt(np.dot(image, image))
        for a in range(len(image)):
            vector[a] = image[a] / length
    return np.nan
