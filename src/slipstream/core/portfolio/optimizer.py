"""Beta-neutral portfolios: the closed form without costs, and the certified answer with them.

``optimize_portfolio`` maximises ``alpha'w - w'Sw/2`` subject to ``B'w = 0``: one Cholesky factorisation and a K x K
solve (Merton 1972, the two-fund algebra with K linear constraints).

``optimize_portfolio_with_costs`` adds linear and 3/2-power trading costs, a gross cap and a box. It is a
:class:`slipstream.core.portfolio.programme.Programme`, where the method and its certificate are described.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from slipstream.core.panel import FloatArray
from slipstream.core.portfolio.covariance import FactorCovariance
from slipstream.core.portfolio.inputs import (
    PortfolioInputError,
    as_columns,
    as_costs,
    as_covariance,
    as_scalar,
    as_vector,
    orthonormal_columns,
)
from slipstream.core.portfolio.newton_settings import SPAN
from slipstream.core.portfolio.programme import Answer, Programme, compile_solver, posed_at_once, solve
from slipstream.errors import SlipstreamError

__all__ = [
    "OptimizationError",
    "PortfolioInputError",
    "RebalanceInfo",
    "compile_solver",
    "optimize_portfolio",
    "optimize_portfolio_with_costs",
]

_RIDGE = 1e-8
"""Added to the variances, relative to their mean, so that a singular sample covariance has one answer."""


class OptimizationError(SlipstreamError):
    """No certified answer: the programme is infeasible, or neither solver converged in the steps allowed."""


class RebalanceInfo(Mapping[str, object]):
    """What is known about a rebalance, as a read-only mapping; the portfolio's figures are computed when first read.

    Keys: ``success, message, iterations, gap, solver`` (newton or conic), and, lazily, ``expected_return`` (alpha'w),
    ``variance`` (w'Sw), ``transaction_cost``, ``net_objective``, ``beta_exposure`` (B'w: a float, or an array for
    several columns), ``leverage`` (gross), ``turnover`` (sum of |trades|), ``n_positions``. All are fractions of equity
    per holding period.
    """

    def __init__(self, answer: Answer, w: FloatArray, programme: Programme, beta_is_vector: bool) -> None:
        self._known: dict[str, object] = {
            "success": answer.certified,
            "message": answer.message,
            "iterations": answer.iterations,
            "gap": answer.gap,
            "solver": answer.solver,
        }
        self._w, self._programme, self._beta_is_vector = w, programme, beta_is_vector

    def __getitem__(self, key: str) -> object:
        if key not in self._known:
            self._known[key] = _FIGURES[key](self)
        return self._known[key]

    def __iter__(self) -> Iterator[str]:
        return iter(("success", "message", "iterations", "gap", "solver", *_FIGURES))

    def __len__(self) -> int:
        return 5 + len(_FIGURES)

    def __repr__(self) -> str:
        return f"RebalanceInfo({dict(self)!r})"

    def _expected_return(self) -> float:
        return float(self._programme.alpha @ self._w)

    def _variance(self) -> float:
        S = self._programme.covariance
        return float(self._w @ (S.times(self._w) if isinstance(S, FactorCovariance) else S @ self._w))

    def _transaction_cost(self) -> float:
        d = np.abs(self._w - self._programme.held)
        return float(d @ (self._programme.linear + self._programme.impact * np.sqrt(d)))

    def _net_objective(self) -> float:
        risk = 0.5 * self._programme.risk_aversion * self._variance()
        return self._expected_return() - risk - self._transaction_cost()

    def _beta_exposure(self) -> float | FloatArray:
        exposure: FloatArray = self._w @ self._programme.neutral
        return float(exposure[0]) if self._beta_is_vector else exposure

    def _leverage(self) -> float:
        return float(np.abs(self._w).sum())

    def _turnover(self) -> float:
        return float(np.abs(self._w - self._programme.held).sum())

    def _n_positions(self) -> int:
        return int(np.count_nonzero(self._w))


_FIGURES: dict[str, Callable[[RebalanceInfo], object]] = {
    "expected_return": RebalanceInfo._expected_return,
    "variance": RebalanceInfo._variance,
    "transaction_cost": RebalanceInfo._transaction_cost,
    "net_objective": RebalanceInfo._net_objective,
    "beta_exposure": RebalanceInfo._beta_exposure,
    "leverage": RebalanceInfo._leverage,
    "turnover": RebalanceInfo._turnover,
    "n_positions": RebalanceInfo._n_positions,
}


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

    Solves ``max alpha'w - (g/2) w'Sw`` s.t. ``B'w = 0``: with ``m = (B'S^-1 B)^-1 B'S^-1 alpha`` the answer is
    ``w = S^-1 (alpha - B m) / g``.

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


def optimize_portfolio_with_costs(
    alpha: ArrayLike,
    beta: ArrayLike,
    S: FactorCovariance | ArrayLike,
    w_old: ArrayLike,
    cost_linear: ArrayLike,
    cost_impact: ArrayLike,
    leverage: float = 1.0,
    max_iter: int = 1000,
    ftol: float = 1e-9,
    *,
    risk_aversion: float = 1.0,
    max_weight: float | None = None,
    on_fail: Literal["raise", "hold"] = "raise",
) -> tuple[FloatArray, RebalanceInfo]:
    """Weights of the best beta-neutral portfolio after the cost of getting there from ``w_old``.

    Solves ``max alpha'w - (g/2) w'Sw - sum c_i |d_i| - sum l_i |d_i|^1.5``, ``d = w - w_old``, subject to ``B'w = 0``,
    ``sum |w_i| <= leverage`` (holding cash is allowed) and ``|w_i| <= max_weight``. A coin not worth trading keeps
    exactly its weight, a position not worth holding is exactly zero, and a bound is met exactly.

    Args:
        alpha: expected simple return over the holding period, net of funding, shape (N,).
        beta: exposures to neutralise, shape (N,) or (N, K); dependent columns are dropped.
        S: covariance over the same period: shape (N, N), or a :class:`FactorCovariance`, which is many times faster.
        w_old: weights now, shape (N,); they need not be feasible.
        cost_linear: c, fraction of traded weight, at least 0, shape (N,); inf marks a coin that cannot be traded.
        cost_impact: l, at least 0, shape (N,): the cost of a trade d is ``l |d|^1.5``.
        leverage: gross cap, fraction of equity, at least 0.
        max_iter: steps of a solver at most.
        ftol: relative gap to aim at, where it is below the 1e-10 that success always demands.
        risk_aversion: g, positive.
        max_weight: cap of each ``|w_i|``, at least 0; None for none.
        on_fail: "raise", or "hold" to return ``w_old`` with ``info["success"]`` False.

    Returns:
        (w, info): weights, shape (N,), and a :class:`RebalanceInfo`. ``info["success"]`` holds if and only if the
        relative duality gap is at most 1e-10 (1e-8 after the conic fallback) and ``|B'w|`` at most 1e-9.

    Raises:
        PortfolioInputError: (a ``ValueError``) shapes that do not fit, a number that is not finite or not in its range,
            an S that is asymmetric beyond 1e-8 of its largest entry or not positive semidefinite.
        OptimizationError: the programme is infeasible or no solver converged, and ``on_fail`` is "raise".
    """
    if on_fail not in ("raise", "hold"):
        raise PortfolioInputError(f'on_fail is {on_fail!r}; use "raise" or "hold"')
    aversion = as_scalar("risk_aversion", risk_aversion, allow_zero=False)
    cap = as_scalar("leverage", leverage, allow_zero=True)
    tolerance = as_scalar("ftol", ftol, allow_zero=False)
    if max_iter < 1:
        raise PortfolioInputError(f"max_iter is {max_iter}; expected at least 1")
    largest = cap if max_weight is None else as_scalar("max_weight", max_weight, allow_zero=True)
    # Copies of our own: nothing the caller does later changes a result.
    a, B, held, linear, impact = [
        np.array(values, dtype=np.float64, order="C") for values in (alpha, beta, w_old, cost_linear, cost_impact)
    ]
    programme = _pose_at_once(a, B, S, held, linear, impact, largest, cap, aversion)
    if programme is None:
        programme = _pose_by_name(a, B, S, held, linear, impact, largest, cap, aversion)
    answer = solve(programme, max_iter=max_iter, target=min(tolerance, 1e-12))
    if not answer.certified:
        if on_fail == "raise":
            raise OptimizationError(f"{len(a)} coins, gross cap {cap:g}: {answer.message}")
        return held.copy(), RebalanceInfo(answer, held, programme, B.ndim == 1)
    return answer.w, RebalanceInfo(answer, answer.w.copy(), programme, B.ndim == 1)


def _pose_at_once(
    alpha: FloatArray,
    beta: FloatArray,
    S: FactorCovariance | ArrayLike,
    held: FloatArray,
    linear: FloatArray,
    impact: FloatArray,
    largest: float,
    cap: float,
    aversion: float,
) -> Programme | None:
    """The programme, all its numbers checked in one compiled pass; None if anything is amiss, or not compiled yet."""
    B = beta.reshape(-1, 1) if beta.ndim == 1 else beta
    one_shape = alpha.shape == held.shape == linear.shape == impact.shape
    if not (one_shape and alpha.ndim == 1 and B.ndim == 2 and len(B) == len(alpha)):
        return None
    return posed_at_once(alpha, B, as_covariance(S, len(alpha)), held, linear, impact, largest, cap, aversion)


def _pose_by_name(
    alpha: FloatArray,
    beta: FloatArray,
    S: FactorCovariance | ArrayLike,
    held: FloatArray,
    linear: FloatArray,
    impact: FloatArray,
    largest: float,
    cap: float,
    aversion: float,
) -> Programme:
    """The programme, argument by argument, so that a fault is named."""
    n = len(as_vector("alpha", alpha))
    as_vector("w_old", held, n)
    paid, bent, untradable = as_costs(linear, impact, n)
    hi = np.full(n, largest)
    lo = -hi
    if untradable is not None:
        lo[untradable] = hi[untradable] = held[untradable]
    return Programme(alpha, as_columns("beta", beta, n), as_covariance(S, n), held, paid, bent, lo, hi, cap, aversion)


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
        np.linalg.cholesky(shifted)
    except np.linalg.LinAlgError as error:
        least = float(np.linalg.eigvalsh(covariance)[0])
        raise PortfolioInputError(
            f"S is not positive semidefinite (least eigenvalue {least:.3g}, mean variance {mean_variance:.3g}); "
            "repair the estimate or use a FactorCovariance"
        ) from error
    # numpy cannot solve with a triangular factor, so the factorisation above is only the proof that there is an answer;
    # a general solve costs half of two with the factors, and scipy.linalg takes longer to load than 500 of them.
    solved: FloatArray = np.asarray(np.linalg.solve(shifted, rhs), dtype=np.float64)
    return solved
