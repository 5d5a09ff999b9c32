"""The way in and the way out of a rebalance, compiled: is every number usable, and does the answer keep its limits?

The checks are those of :mod:`slipstream.core.portfolio.inputs` and :mod:`slipstream.core.portfolio.programme`, in one
pass each in place of a score of array calls, which for 100 coins took longer than the solver. Nothing is decided
here twice: arrays that fail go back to ``inputs``, which knows how to name the culprit, and an answer that fails is
none. Nothing of the solver is used, so that the certificate does not rest on the code it judges.
"""

from __future__ import annotations

import numpy as np
from numba import njit, types

from slipstream.core.panel import FloatArray

_compiled = njit(cache=True, nogil=True, error_model="numpy")


@_compiled
def pose(
    alpha: FloatArray,
    beta: FloatArray,
    held: FloatArray,
    linear: FloatArray,
    impact: FloatArray,
    reach: float,
) -> tuple[bool, FloatArray, FloatArray]:
    """Check the arrays of a rebalance, and stack them as the kernels take them.

    Args:
        alpha: shape (N,).
        beta: shape (N, m).
        held: weights before the trade, shape (N,).
        linear: linear cost, shape (N,); infinite where a coin cannot be traded.
        impact: cost of the 3/2-power, likewise.
        reach: largest ``|w_i|`` the box and the gross cap allow.

    Returns:
        Whether alpha, beta and held are finite and no cost is NaN or negative (if not, the rest means nothing); rows
        linear, impact, held, shape (3, N); rows lo, hi, shape (2, N). A coin that cannot be traded is frozen at its
        held weight and pays nothing.
    """
    n, m = beta.shape
    costs, box = np.empty((3, n)), np.empty((2, n))
    usable = True
    for i in range(n):
        c, bend, v = linear[i], impact[i], held[i]
        usable = usable and np.isfinite(alpha[i]) and np.isfinite(v) and c >= 0.0 and bend >= 0.0
        for j in range(m):
            usable = usable and np.isfinite(beta[i, j])
        if c == np.inf or bend == np.inf:
            costs[0, i], costs[1, i], costs[2, i] = 0.0, 0.0, v
            box[0, i], box[1, i] = v, v
        else:
            costs[0, i], costs[1, i], costs[2, i] = c, bend, v
            box[0, i], box[1, i] = -reach, reach
    return usable, costs, box


@_compiled
def limits(w: FloatArray, neutral: FloatArray, lo: FloatArray, hi: FloatArray, gross_cap: float) -> tuple[float, bool]:
    """Largest ``|B'w|``, and whether w is inside its box (exactly) and within the gross cap (to rounding)."""
    n, m = neutral.shape
    inside, gross, largest = True, 0.0, 0.0
    for i in range(n):
        # Written so that a weight that is not a number is outside.
        inside = inside and lo[i] <= w[i] and w[i] <= hi[i]
        gross += abs(w[i])
    for j in range(m):
        exposure = 0.0
        for i in range(n):
            exposure += w[i] * neutral[i, j]
        largest = max(largest, abs(exposure))
        inside = inside and np.isfinite(exposure)
    return largest, inside and gross <= gross_cap * (1.0 + 1e-12)


_VECTOR = types.Array(types.float64, 1, "C", readonly=True)
_MATRIX = types.Array(types.float64, 2, "C", readonly=True)
POSE_SIGNATURE = (_VECTOR, _MATRIX, _VECTOR, _VECTOR, _VECTOR, types.float64)
LIMITS_SIGNATURE = (_VECTOR, _MATRIX, _VECTOR, _VECTOR, types.float64)
