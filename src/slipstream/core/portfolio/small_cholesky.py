"""Cholesky of a small matrix in plain loops: one source, run as it stands by array code and compiled by the kernel.

Both must round alike, to the last bit, or the answer would depend on which of the two gave it. LAPACK would not.
"""

from __future__ import annotations

import math

from slipstream.core.panel import FloatArray


def factorise(M: FloatArray, size: int) -> None:
    """Cholesky in the lower triangle of M, in place; a direction without curvature gets a zero pivot."""
    for j in range(size):
        for p in range(j):
            t = M[j, p]
            for r in range(p):
                t -= M[j, r] * M[p, r]
            M[j, p] = t / M[p, p] if M[p, p] > 0.0 else 0.0
        t = M[j, j]
        for r in range(j):
            t -= M[j, r] * M[j, r]
        M[j, j] = math.sqrt(t) if t > 1e-14 * M[j, j] else 0.0


def forward(M: FloatArray, size: int, b: FloatArray) -> None:
    """Solve ``C y = b`` in place, C the lower factor in M; nothing along a zero pivot."""
    for j in range(size):
        t = b[j]
        for r in range(j):
            t -= M[j, r] * b[r]
        b[j] = t / M[j, j] if M[j, j] > 0.0 else 0.0


def backward(M: FloatArray, size: int, b: FloatArray, top: int) -> None:
    """Solve ``C' y = b`` in place for the entries below ``top``, those from ``top`` on being final already."""
    for j in range(top - 1, -1, -1):
        t = b[j]
        for r in range(j + 1, size):
            t -= M[r, j] * b[r]
        b[j] = t / M[j, j] if M[j, j] > 0.0 else 0.0
