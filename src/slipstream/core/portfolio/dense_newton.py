"""The rebalance with a dense covariance: the dual Newton method without factors.

A dense S is split into ``P + diag(D)`` with P positive semidefinite and D as large as a Cholesky factorisation allows.
The dual then prices the joint half by a portfolio z of its own: coin i sees the slope ``(P z)_i``, and at the optimum
z is w. The Newton system is N + m + 1 wide, but a coin that does not trade decides its own row at once, so only the
trading coins are solved for:

    (diag(1/h) + P_AA) dz_A + E_A d(nu, mu) = r_A / h - P_AI r_I,    dz_I = r_I,    r = w - z,

bordered by the m + 1 rows ``E_A' dz_A = E_A' r_A - miss``. Large blocks go to LAPACK: array code is at its best here.

Source: the dual of :mod:`slipstream.core.portfolio.dual_newton` with ``u`` written as ``F'z``; Schur complement on the
trading coins.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from slipstream.core.panel import FloatArray
from slipstream.core.portfolio.covariance import FactorCovariance
from slipstream.core.portfolio.dual_newton_arrays import (
    CoinAnswers,
    Coins,
    Coupling,
    FactorCoupling,
    Solved,
    coins_at,
    off_span,
    rounds,
)
from slipstream.core.portfolio.inputs import PortfolioInputError, orthonormal_columns

_SHARES = (0.05, 0.01, 1e-3, 1e-4, 1e-5, 1e-6)
"""Shares of a coin's variance tried as its own; a well-estimated covariance passes one of the first two."""

_RANK = 1e-14
"""An eigenvalue below this fraction of the largest is rounding."""

_FEW = 32
"""Factors up to which a singular matrix is better taken apart into them."""


@dataclass(frozen=True, eq=False)
class DenseCoupling:
    """Covariance ``joint + diag(weight)``: s is a portfolio z, shape (N,)."""

    joint: FloatArray
    weight: FloatArray
    neutral: FloatArray

    @property
    def width(self) -> int:
        return len(self.weight)

    def start(self, w: FloatArray) -> FloatArray:
        return w.copy()

    def slopes(self, onto: FloatArray, s: FloatArray) -> FloatArray:
        slopes: FloatArray = onto + self.joint @ s
        return slopes

    def quadratic(self, s: FloatArray) -> float:
        return 0.5 * float(s @ (self.joint @ s))

    def gradient(self, s: FloatArray, w: FloatArray) -> FloatArray:
        gradient: FloatArray = self.joint @ (w - s)
        return gradient

    def mismatch(self, grad: FloatArray, s: FloatArray, w: FloatArray) -> float:
        return float(grad @ (w - s))

    def variances(self) -> FloatArray:
        variances: FloatArray = np.diag(self.joint) + self.weight
        return variances

    def step(self, x: FloatArray, w: FloatArray, h: FloatArray, grad: FloatArray, reg: FloatArray) -> FloatArray:
        n = self.width
        trades = np.flatnonzero(h)
        r = w - x[:n]
        at_rest = np.where(h == 0.0, r, 0.0)
        border = np.column_stack([self.neutral, np.sign(w)])[trades]
        rows = self.joint[trades]
        block = rows[:, trades]
        block.flat[:: len(trades) + 1] += 1.0 / h[trades]
        right = r[trades] / h[trades] - rows @ at_rest
        solved = np.linalg.solve(block, np.column_stack([right, border]))
        schur = border.T @ solved[:, 1:]
        schur.flat[:: len(reg) + 1] += reg
        need = border.T @ (solved[:, 0] - r[trades]) + grad[n:]
        prices = np.linalg.solve(schur, need)
        if prices[-1] < -x[-1]:
            prices[-1] = -x[-1]
            prices[:-1] = np.linalg.solve(schur[:-1, :-1], need[:-1] - schur[:-1, -1] * prices[-1])
        step = np.concatenate([at_rest, prices])
        step[trades] = solved[:, 0] - solved[:, 1:] @ prices
        return step


def split(S: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray] | None:
    """S as ``joint + diag(own)`` with own as large as tried: (joint, own, lower Cholesky factor of joint).

    None where no share of the variances can be taken out: S is singular, or not positive semidefinite.
    """
    own = np.diag(S)
    for share in _SHARES:
        joint = S.copy()
        joint.flat[:: len(S) + 1] -= share * own
        try:
            lower: FloatArray = np.asarray(np.linalg.cholesky(joint), dtype=np.float64)
        except np.linalg.LinAlgError:
            continue
        return joint, share * own, lower
    return None


def factors_of(S: FloatArray) -> FloatArray:
    """F with ``F F' = S`` from the eigenvectors of S, shape (N, rank).

    Raises:
        PortfolioInputError: S is not positive semidefinite (least eigenvalue below -1e-8 of the mean variance).
    """
    mean = float(np.diag(S).mean())
    values, vectors = np.linalg.eigh(S)
    largest = float(np.abs(values).max())
    if values[0] < -1e-8 * max(mean, largest):
        raise PortfolioInputError(
            f"S is not positive semidefinite (least eigenvalue {values[0]:.3g}, mean variance {mean:.3g}); "
            "repair the estimate or use a FactorCovariance"
        )
    real = values > _RANK * largest
    return np.ascontiguousarray(vectors[:, real] * np.sqrt(values[real]))


def as_factors(S: FloatArray) -> FactorCovariance:
    """A dense S of few coins in factor form, up to one factor per coin, with variances of their own where S has them.

    Raises:
        PortfolioInputError: S is not positive semidefinite.
    """
    parts = split(S)
    if parts is None:
        return FactorCovariance(factors_of(S), np.zeros(len(S)))
    _joint, own, lower = parts
    return FactorCovariance(lower, own)


def couple(S: FloatArray, neutral: FloatArray) -> Coupling:
    """The joint half of the programme for a dense S: a split of it, or its factors where it has few.

    Raises:
        PortfolioInputError: S is not positive semidefinite.
    """
    parts = split(S)
    if parts is not None:
        joint, own, _lower = parts
        return DenseCoupling(joint, own, neutral)
    factors = factors_of(S)
    if factors.shape[1] <= _FEW:
        # A singular matrix of low rank loses digits as a matrix and none as factors.
        return FactorCoupling(factors, np.zeros(len(S)), neutral)
    # Negative eigenvalues here are rounding; left in, the dual bound would not be a bound.
    joint = factors @ factors.T
    return DenseCoupling(0.5 * (joint + joint.T), np.zeros(len(S)), neutral)


def solve(
    alpha: FloatArray,
    B: FloatArray,
    S: FloatArray,
    costs: FloatArray,
    box: FloatArray,
    L: float,
    gamma: float,
    max_iter: int,
    target: float,
    answers: CoinAnswers = coins_at,
) -> Solved:
    """One rebalance with a dense covariance; the other arguments and the result as :func:`dual_newton.solve`.

    ``answers`` is the scalar problem of all coins: array code, or its compiled equal.

    Raises:
        PortfolioInputError: S is not positive semidefinite.
    """
    neutral = orthonormal_columns(B)
    coins = Coins(off_span(alpha, neutral), costs, box, L, answers)
    return rounds(coins, couple(gamma * S, neutral), float(np.abs(alpha).max()), max_iter, target)
