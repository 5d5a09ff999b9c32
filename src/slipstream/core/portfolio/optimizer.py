"""Beta-neutral portfolios: the closed form without costs, and the certified answer with them.

``optimize_portfolio`` maximises ``alpha'w - w'Sw/2`` subject to ``B'w = 0``: one Cholesky factorisation and a K x K
solve (Merton 1972, the two-fund algebra with K linear constraints).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from slipstream.core.panel import FloatArray
from slipstream.core.portfolio.covariance import FactorCovariance
from slipstream.core.portfolio.inputs import (
    PortfolioInputError,
    as_columns,
    as_covariance,
    as_scalar,
    as_vector,
    orthonormal_columns,
)
from slipstream.core.portfolio.newton_settings import SPAN

_RIDGE = 1e-8
"""Added to the variances, relative to their mean, so that a singular sample covariance has one answer."""

def optimize_portfolio(
    alpha: ArrayLike,
    beta: ArrayLike,
    S: FactorCovariance | ArrayLike,
    leverage: float = 1.0,
    *,
    scale: Literal["leverage", "kelly"] = "leverage",
    risk_aversion: float = 1.0,
) -> FloatArray:
    """Weights of the best beta-neutral portfolio when trading is free.

    Solves ``max alpha'w - (g/2) w'Sw`` s.t. ``B'w = 0``: ``w = S^-1 (alpha - B m) / g``, ``m = (B'S^-1 B)^-1 B'S^-1 alpha``.

    Args:
        alpha: expected simple return of each coin over the holding period, net of funding, shape (N,).
        beta: exposures to neutralise, shape (N,) or (N, K); linearly dependent columns are dropped.
        S: covariance over the same period, shape (N, N), symmetric, or a :class:`FactorCovariance`.
        leverage: gross exposure, fraction of equity, at least 0.
        scale: ``"leverage"`` rescales to a gross of exactly ``leverage``; ``"kelly"`` keeps the size the risk aversion
            asks for and only scales down when the gross would exceed ``leverage``.
        risk_aversion: g, positive.

    Returns:
        w, shape (N,), fractions of equity; all zero when alpha is zero or lies in the span of beta.

    Raises:
        PortfolioInputError: (a ``ValueError``) shapes that do not fit, a number that is not finite, an S that is
            asymmetric beyond 1e-8 of its largest entry or not positive semidefinite.
    """
    if scale not in ("leverage", "kelly"):
        raise PortfolioInputError(f'scale is {scale!r}; use "leverage" or "kelly"')
    a = as_vector("alpha", alpha)
    n = len(a)
    B = as_columns("beta", beta, n)
    gross_cap = as_scalar("leverage", leverage, allow_zero=True)
    aversion = as_scalar("risk_aversion", risk_aversion, allow_zero=False)
    covariance = as_covariance(S, n)
    if n == 0:
        return np.zeros(0)
    Q = orthonormal_columns(B)
    pull = a - Q @ (Q.T @ a)
    pull -= Q @ (Q.T @ pull)
    if np.abs(pull).max() <= SPAN * np.abs(a).max():
        return np.zeros(n)
    solved = _solve(covariance, np.column_stack([pull, Q]))
    w = solved[:, 0]
    if Q.shape[1]:
        w = w - solved[:, 1:] @ np.linalg.solve(Q.T @ solved[:, 1:], Q.T @ w)
        w -= Q @ (Q.T @ w)
    w /= aversion
    gross = float(np.abs(w).sum())
    if scale == "leverage" or gross > gross_cap:
        w *= gross_cap / gross
    return w


def _solve(covariance: FactorCovariance | FloatArray, rhs: FloatArray) -> FloatArray:
    """``(S + ridge I)^-1 rhs`` for right-hand sides of shape (N, R)."""
    if isinstance(covariance, FactorCovariance):
        F = covariance.exposures
        ridge = _RIDGE * float(covariance.diagonal().mean())
        if ridge == 0.0:
            raise PortfolioInputError("S is zero; the weights would be unbounded")
        idio = (covariance.idio_var + ridge)[:, None]
        inner = np.eye(covariance.n_factors) + F.T @ (F / idio)
        scaled = rhs / idio
        return scaled - (F / idio) @ np.linalg.solve(inner, F.T @ scaled)
    shifted = covariance.copy()
    mean_variance = float(np.trace(shifted)) / len(shifted)
    shifted[np.diag_indices_from(shifted)] += _RIDGE * mean_variance
    try:
        lower = np.linalg.cholesky(shifted)
    except np.linalg.LinAlgError as error:
        least = float(np.linalg.eigvalsh(covariance)[0])
        raise PortfolioInputError(
            f"S is not positive semidefinite (least eigenvalue {least:.3g}, mean variance {mean_variance:.3g}); "
            "repair the estimate or use a FactorCovariance"
        ) from error
    solved: FloatArray = np.linalg.solve(lower.T, np.linalg.solve(lower, rhs))
    return solved
