"""Ridge regression from moments.

Minimises (1/n) sum (y - a - z b)^2 + lambda |b|^2 over features z standardised with the training mean and deviation
(divisor n); the intercept is not penalised. With S the correlation matrix of the features and s their covariances with
y in deviations, b = (S + lambda I)^-1 s. Coefficients and intercept are handed out *un-normalised*: y = intercept +
x @ coefficients for features as they come.

Source: Hoerl and Kennard (1970), Ridge regression.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numba import njit

from slipstream.core.forecast.errors import ForecastError, NotEnoughData
from slipstream.core.forecast.moments import Moments, Regression
from slipstream.core.panel import FloatArray

PENALTIES = (1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0)
LEAST_VARIANCE = 1e-10
"""Variance, as a share of the mean square, below which sums of products no longer tell a feature from a constant."""


@dataclass(frozen=True)
class RidgeFit:
    """A fitted ridge regression of p features.

    Attributes:
        intercept: in units of the target.
        coefficients: shape (p,), per unit of each feature as it comes.
        feature_mean, feature_std: shape (p,), of the training rows.
        penalty: lambda.
        observations: n.
    """

    intercept: float
    coefficients: FloatArray
    feature_mean: FloatArray = field(repr=False)
    feature_std: FloatArray = field(repr=False)
    penalty: float
    observations: int

    @property
    def standardised(self) -> FloatArray:
        """Change of the forecast per deviation of each feature, shape (p,): the b of the objective."""
        return self.coefficients * self.feature_std

    def predict(self, features: FloatArray) -> FloatArray:
        """Forecasts, shape (...), of features, shape (..., p); NaN where one is missing.

        Each is summed in the order of the features, so that it does not depend, to the last bit, on what else is asked.
        """
        if features.shape[-1] != len(self.coefficients):
            raise ForecastError(f"{features.shape[-1]} features given to a model of {len(self.coefficients)}")
        flat = np.ascontiguousarray(features, dtype=np.float64).reshape(-1, features.shape[-1])
        return np.asarray(_linear(flat, self.intercept, self.coefficients).reshape(features.shape[:-1]))


def fit_ridge(design: FloatArray, penalty: float) -> RidgeFit:
    """The ridge regression of one set of rows.

    Args:
        design: shape (p + 2, p + 2), sum of z z' over the rows with z = [1, features, target]
            (:meth:`~slipstream.core.forecast.moments.Moments.design`).
        penalty: lambda, at least 0.

    Raises:
        NotEnoughData: fewer observations than coefficients.
        ForecastError: a feature does not vary, or the penalty is negative.
    """
    if not penalty >= 0.0:
        raise ForecastError(f"the ridge penalty is {penalty}; it must be at least 0")
    observations, p = int(design[0, 0]), len(design) - 2
    if observations < p + 2:
        raise NotEnoughData(f"{observations} observations for a regression on {p} features; it takes {p + 2}")
    mean = design[0, 1:-1] / observations
    mean_square = np.diagonal(design)[1:-1] / observations
    variance = mean_square - mean**2
    if (variance <= LEAST_VARIANCE * mean_square).any():
        still = int(np.argmax(variance <= LEAST_VARIANCE * mean_square))
        raise ForecastError(
            f"feature {still} does not vary over the {observations} training observations; leave it out"
        )
    std = np.sqrt(variance)
    intercept, coefficients = refit(design, penalty, std)
    return RidgeFit(float(intercept), coefficients, mean, std, penalty, observations)


def refit(design: FloatArray, penalty: float, feature_std: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Intercepts, shape (...), and coefficients, shape (..., p), of many sets of rows at once, un-normalised.

    Args:
        design: shape (..., p + 2, p + 2), as in :func:`fit_ridge`; each of at least one observation.
        penalty: lambda.
        feature_std: shape (p,), the deviations that make the penalty's unit; fixed here, and not the set's own.
    """
    n = design[..., 0, 0]
    mean = design[..., 0, 1:] / n[..., None]
    covariance = design[..., 1:, 1:] / n[..., None, None] - mean[..., :, None] * mean[..., None, :]
    scaled = covariance[..., :-1, :-1] / np.outer(feature_std, feature_std)
    with_target = covariance[..., :-1, -1] / feature_std
    matrix = scaled + penalty * np.eye(len(feature_std))
    coefficients = np.linalg.solve(matrix, with_target[..., None])[..., 0] / feature_std
    return mean[..., -1] - (mean[..., :-1] * coefficients).sum(axis=-1), coefficients


def squared_error(design: FloatArray, intercept: FloatArray | float, coefficients: FloatArray) -> FloatArray:
    """Sum of squared errors of a fit on any set of rows, shape (...).

    Args:
        design: shape (..., p + 2, p + 2), as in :func:`fit_ridge`.
        intercept: shape (...).
        coefficients: shape (..., p).
    """
    head = np.asarray(intercept)[..., None]
    v = np.concatenate((-head, -coefficients, np.ones_like(head)), axis=-1)
    return np.asarray(np.einsum("...a,...ab,...b->...", v, design, v))


def residual_of(moments: Moments, regression: Regression, intercept: FloatArray, coef: FloatArray) -> FloatArray:
    """The error y - a - x b of a regression as a vector over z, shape (..., d).

    Args:
        moments: whose z it is.
        regression: which of them.
        intercept: shape (...).
        coef: shape (..., p).
    """
    places = moments.places(regression)
    out = np.zeros((*coef.shape[:-1], moments.width))
    out[..., places[0]] = -intercept
    out[..., places[1:-1]] = -coef
    out[..., places[-1]] = 1.0
    return out


def target_of(moments: Moments, regression: Regression) -> FloatArray:
    """The target of a regression as a vector over z, shape (d,)."""
    out = np.zeros(moments.width)
    out[moments.places(regression)[-1]] = 1.0
    return out


def share_explained(gram: FloatArray, actual: FloatArray, error: FloatArray) -> FloatArray:
    """R2 = 1 - SSE / SST about the rows' own mean, shape (...); NaN where the target does not vary.

    Any linear combination of targets and forecasts will do: the difference of two vectors scores two models combined.

    Args:
        gram: shape (..., d, d), sums of z z'.
        actual: shape (d,), the target as a vector over z.
        error: shape (..., d), target minus forecast as vectors over z.
    """
    about_zero = np.einsum("a,...ab,b->...", actual, gram, actual)
    total = about_zero - (gram[..., 0, :] @ actual) ** 2 / gram[..., 0, 0]
    sse = np.einsum("...a,...ab,...b->...", error, gram, error)
    varies = total > 1e-14 * about_zero
    return np.where(varies, 1.0 - sse / np.where(varies, total, 1.0), np.nan)


@njit(cache=True, nogil=True)
def _linear(features: FloatArray, intercept: float, coefficients: FloatArray) -> FloatArray:
    out = np.empty(len(features))
    for r in range(len(features)):
        total = intercept
        for k in range(len(coefficients)):
            total += features[r, k] * coefficients[k]
        out[r] = total
    return out
