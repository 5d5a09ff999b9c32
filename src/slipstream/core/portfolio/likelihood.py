"""How good a covariance forecast was: the log-likelihood of what came after, and its regret against hindsight.

A forecast made before a row gives that row's returns a Gaussian density of mean 0. Its logarithm, added up, rewards
both sizes and directions and cannot be improved by hedging the statement. The regret is the distance to the best
*constant* covariance chosen with hindsight for the same rows, which is their own second moment: small is good, and a
forecast that follows a changing market can beat hindsight and have a negative regret.

Source: Johansson, Ogut, Pelger, Schmelzer and Boyd (2023), section on evaluation.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from slipstream.core.panel import BoolArray, FloatArray
from slipstream.core.portfolio.covariance import CovarianceError, FactorCovariance

_LOG_2PI = float(np.log(2.0 * np.pi))


def gaussian_log_likelihood(returns: ArrayLike, S: FactorCovariance | FloatArray) -> FloatArray:
    """Log density of each row under N(0, S), nats, shape (T,).

    A coin whose return is missing in a row is integrated out of that row's density; a row without any has 0.

    Args:
        returns: (T, N), fractions per bar, NaN where missing.
        S: covariance per bar, (N, N) or a :class:`FactorCovariance`.

    Raises:
        CovarianceError: shapes that do not fit, or a covariance of present coins that is not positive definite.
    """
    values = np.asarray(returns, dtype=np.float64)
    coins = S.n_assets if isinstance(S, FactorCovariance) else len(S)
    if values.ndim != 2 or values.shape[1] != coins:
        raise CovarianceError(f"returns has shape {values.shape}; expected (T, {coins})")
    out = np.zeros(len(values))
    patterns, which = np.unique(~np.isnan(values), axis=0, return_inverse=True)
    for number, present in enumerate(patterns):
        rows = which.reshape(-1) == number
        if present.any():
            out[rows] = _complete(values[np.ix_(rows, present)], _among(S, present))
    return out


def hindsight_log_likelihood(returns: ArrayLike) -> FloatArray:
    """Log density of each row, (T,), under the constant covariance that maximises their sum.

    That covariance is the rows' own uncentred second moment.

    Args:
        returns: (T, N), complete, T > N (with fewer rows the maximum is infinite).

    Raises:
        CovarianceError: missing entries, or too few rows.
    """
    values = np.asarray(returns, dtype=np.float64)
    if values.ndim != 2 or np.isnan(values).any():
        raise CovarianceError("hindsight needs complete rows; leave out coins or rows with missing returns")
    rows, coins = values.shape
    if rows <= coins:
        raise CovarianceError(f"{rows} rows of {coins} coins have no best covariance; take a longer period")
    return gaussian_log_likelihood(values, values.T @ values / rows)


def regret(log_likelihood: ArrayLike, returns: ArrayLike) -> float:
    """Nats per row by which forecasts fell short of the best constant covariance of the same rows.

    Args:
        log_likelihood: (T,), of each row under the forecast made before it.
        returns: (T, N), the same rows, complete.

    Raises:
        CovarianceError: see :func:`hindsight_log_likelihood`.
    """
    achieved = np.asarray(log_likelihood, dtype=np.float64)
    best = hindsight_log_likelihood(returns)
    if achieved.shape != best.shape:
        raise CovarianceError(f"log_likelihood has shape {achieved.shape}; expected {best.shape}")
    return float((best - achieved).mean())


def _among(S: FactorCovariance | FloatArray, present: BoolArray) -> FactorCovariance | FloatArray:
    if present.all():
        return S
    if isinstance(S, FactorCovariance):
        return FactorCovariance(S.exposures[present], S.idio_var[present])
    return np.asarray(S[np.ix_(present, present)])


def _complete(values: FloatArray, S: FactorCovariance | FloatArray) -> FloatArray:
    """Log densities of complete rows."""
    if isinstance(S, FactorCovariance) and (S.idio_var > 0.0).all():
        log_det, distance = _factor_form(values, S)
    else:
        dense = S.dense() if isinstance(S, FactorCovariance) else S
        try:
            root = np.linalg.cholesky(dense)
        except np.linalg.LinAlgError as error:
            raise CovarianceError("S is not positive definite: returns have no density under it") from error
        log_det = 2.0 * float(np.log(np.diagonal(root)).sum())
        distance = (np.linalg.solve(root, values.T) ** 2).sum(axis=0)
    return np.asarray(-0.5 * (values.shape[1] * _LOG_2PI + log_det + distance))


def _factor_form(values: FloatArray, S: FactorCovariance) -> tuple[float, FloatArray]:
    """Log determinant and squared Mahalanobis distances in O(N K^2) and O(N K) a row (Woodbury's identity)."""
    scaled = S.exposures / S.idio_var[:, None]
    inner = np.eye(S.n_factors) + S.exposures.T @ scaled
    root = np.linalg.cholesky(inner)
    log_det = float(np.log(S.idio_var).sum()) + 2.0 * float(np.log(np.diagonal(root)).sum())
    seen = np.linalg.solve(root, (values @ scaled).T)
    distance = (values**2 / S.idio_var).sum(axis=1) - (seen**2).sum(axis=0)
    return log_det, distance
