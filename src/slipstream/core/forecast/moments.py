"""Sums of products per timestamp: all a linear regression needs to know of the rows.

A least-squares fit, its residual sum of squares and its R2 depend on the data through z'z only, with
z = [1, features, targets] over the rows used. Kept per timestamp, these matrices make every selection of rows a sum:
a training set, a fold without its embargo, or a bootstrap draw that takes some timestamps twice. Refitting then costs
the size of the matrix and not of the data.

A row counts when all its features and all its targets are there, so that models read from one set of moments are
compared on the same rows. Features and targets should be of order one (deviations, not fractions of a basis point).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numba import njit

from slipstream.core.forecast.errors import ForecastError
from slipstream.core.panel import FloatArray, IntArray


@dataclass(frozen=True)
class Regression:
    """One regression out of a set of joint moments.

    Attributes:
        columns: indices of its features, in the order of its coefficients.
        target: index of its target.
    """

    columns: tuple[int, ...]
    target: int = 0


@dataclass(frozen=True)
class Moments:
    """Products z'z of the joint rows of each timestamp, z = [1, x_1 .. x_p, y_1 .. y_q].

    Attributes:
        per_row: shape (T, d (d + 1) / 2) with d = 1 + p + q: the lower triangle of each timestamp's matrix, row by
            row; entry 0 is the number of joint observations.
        features: p.
        targets: q.
    """

    per_row: FloatArray = field(repr=False)
    features: int
    targets: int

    @property
    def rows(self) -> int:
        return len(self.per_row)

    @property
    def width(self) -> int:
        """d, the length of z."""
        return 1 + self.features + self.targets

    @property
    def count(self) -> FloatArray:
        """Joint observations of each timestamp, shape (T,)."""
        return self.per_row[:, 0]

    @cached_property
    def _running(self) -> FloatArray:
        out = np.zeros((self.rows + 1, self.per_row.shape[1]))
        np.cumsum(self.per_row, axis=0, out=out[1:])
        return out

    def between(self, start: int, stop: int) -> FloatArray:
        """Sum of the timestamps in [start, stop), shape (d, d); zero for an empty range."""
        first = min(max(start, 0), self.rows)
        last = max(min(stop, self.rows), first)
        return self.unpacked(self._running[last] - self._running[first])

    def unpacked(self, packed: FloatArray) -> FloatArray:
        """Symmetric matrices, shape (..., d, d), of packed sums, shape (..., d (d + 1) / 2)."""
        low, high = np.tril_indices(self.width)
        out = np.empty((*packed.shape[:-1], self.width, self.width))
        out[..., low, high] = packed
        out[..., high, low] = packed
        return out

    def places(self, regression: Regression) -> IntArray:
        """Where [1, its features, its target] lie in z.

        Raises:
            ForecastError: the regression names a feature or target there is not.
        """
        columns = np.array(regression.columns, dtype=np.int64)
        outside = columns.size == 0 or columns.min() < 0 or columns.max() >= self.features
        if outside or not 0 <= regression.target < self.targets:
            raise ForecastError(
                f"{regression} does not fit moments of {self.features} features, {self.targets} targets"
            )
        return np.concatenate(([0], 1 + columns, [1 + self.features + regression.target]))

    def design(self, gram: FloatArray, regression: Regression) -> FloatArray:
        """The part of ``gram``, shape (..., d, d), that a regression of k features reads, shape (..., k + 2, k + 2)."""
        places = self.places(regression)
        return np.asarray(gram[..., places[:, None], places])


def joint_moments(features: FloatArray, targets: Sequence[FloatArray]) -> Moments:
    """Moments per timestamp of the observations at which every feature and every target is finite.

    Args:
        features: shape (T, N, p), NaN where unknown.
        targets: q arrays of shape (T, N), NaN where unknown.

    Raises:
        ForecastError: shapes differ, or there is no target.
    """
    if features.ndim != 3 or not targets or any(y.shape != features.shape[:2] for y in targets):
        shapes = ", ".join(str(y.shape) for y in targets) or "none"
        raise ForecastError(f"features of shape {features.shape} and targets of shape {shapes} do not fit together")
    stacked = np.stack(targets, axis=-1)
    return Moments(_products(np.ascontiguousarray(features), stacked), features.shape[2], stacked.shape[2])


@njit(cache=True, nogil=True)
def _products(features: FloatArray, targets: FloatArray) -> FloatArray:
    rows, coins, p = features.shape
    q = targets.shape[2]
    width = 1 + p + q
    out = np.empty((rows, width * (width + 1) // 2))
    z = np.ones((coins, width))
    for t in range(rows):
        joint = 0
        for i in range(coins):
            check = 0.0
            for k in range(p):
                z[joint, 1 + k] = features[t, i, k]
                check += features[t, i, k] * 0.0
            for k in range(q):
                z[joint, 1 + p + k] = targets[t, i, k]
                check += targets[t, i, k] * 0.0
            if check == 0.0:  # a NaN or an infinity makes it NaN, and the next coin is written over this one
                joint += 1
        total = z[:joint].T @ z[:joint]
        place = 0
        for a in range(width):
            for b in range(a + 1):
                out[t, place] = total[a, b]
                place += 1
    return out
