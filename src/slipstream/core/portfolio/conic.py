"""The same programme for a conic interior-point solver (Clarabel, called directly): the fallback, and an oracle.

The 3/2-power cost is exact: ``t^1.5 <= s`` is the three-dimensional power cone ``s^(2/3) 1^(1/3) >= |t|``. Everything
else is linear but the quadratic risk, which the solver takes as it is. The problem is posed in its own units (weights
over gross, prices over the steepest slope), because the solver's tolerances are absolute.

An interior point never lies on a kink, so its weights carry dust on every coin that should not trade. They are
rounded to the kinks, made neutral again, and then polished by Newton's method started from the conic multipliers;
whichever of the two proves the smaller gap is returned.

Source: Goulart and Chen (2024), Clarabel; MOSEK Modeling Cookbook for the power cone of a market impact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import clarabel
import numpy as np
from scipy import sparse

from slipstream.core.panel import FloatArray
from slipstream.core.portfolio import dual_newton_arrays as newton
from slipstream.core.portfolio.covariance import FactorCovariance
from slipstream.core.portfolio.dense_newton import couple
from slipstream.core.portfolio.inputs import orthonormal_columns
from slipstream.core.portfolio.programme import Programme

_ROUNDING = 1e-6
"""A conic weight nearer to a kink than this fraction of the gross is taken to lie on it."""


class ConicAnswer(NamedTuple):
    """Weights (None where the solver found none), relative gap, iterations, and the solver's own word."""

    w: FloatArray | None
    gap: float
    iterations: int
    message: str


@dataclass(frozen=True, eq=False)
class ConicForm:
    """``minimise x'Px/2 + q'x  s.t.  A x + s = b, s in cones``; x begins with the N weights over ``size``.

    Attributes:
        rows_neutral, row_gross: where the multipliers of the neutralities and of the gross cap stand among the rows.
        pull: what a unit of the scaled multipliers is worth.
    """

    P: Any
    q: FloatArray
    A: Any
    b: FloatArray
    cones: list[Any]
    rows_neutral: slice
    row_gross: int
    size: float
    pull: float

    def solver(self, max_iter: int = 200, tolerance: float = 1e-8) -> Any:
        """A Clarabel solver of this form, single-threaded and silent."""
        settings = clarabel.DefaultSettings()
        settings.verbose = False
        settings.max_iter = max_iter
        settings.max_threads = 1
        settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = tolerance
        return clarabel.DefaultSolver(self.P, self.q, self.A, self.b, self.cones, settings)


def form(programme: Programme, costs: FloatArray, box: FloatArray, neutral: FloatArray) -> ConicForm:
    """The conic form; variables are w, |w|, |trade|, the impact costs and, for a factor covariance, the exposures.

    ``costs`` and ``box`` are what :meth:`Programme.costs_and_box` gives, ``neutral`` an orthonormal basis of the
    programme's neutral columns.
    """
    linear, impact, held = costs
    n = len(held)
    size = min(programme.gross_cap, float(np.maximum(np.abs(box[0]), np.abs(box[1])).sum()))
    steepest = float(max(np.abs(programme.alpha).max(), (linear + impact * np.sqrt(size)).max()))
    pull = steepest if steepest > 0.0 else 1.0
    gamma = programme.risk_aversion * size / pull
    costly, bent = np.flatnonzero((linear > 0.0) | (impact > 0.0)), np.flatnonzero(impact > 0.0)
    if isinstance(programme.covariance, FactorCovariance):
        F = np.sqrt(gamma) * programme.covariance.exposures
        risk: Any = sparse.diags_array(gamma * programme.covariance.idio_var)
    else:
        F = np.zeros((n, 0))
        risk = sparse.csc_array(np.triu(gamma * programme.covariance))
    widths = (n, n, len(costly), len(bent), F.shape[1])
    equal, equal_to = _equalities(F, neutral, box / size, widths)
    below, below_at = _inequalities(costly, held / size, box / size, programme.gross_cap / size, widths)
    power, power_at = _powers(np.searchsorted(costly, bent), widths)
    cones = [clarabel.ZeroConeT(len(equal_to)), clarabel.NonnegativeConeT(len(below_at))]
    cones += [clarabel.PowerConeT(2.0 / 3.0)] * len(bent)
    zeros = [sparse.csc_array((width, width)) for width in widths[1:4]]
    slopes = (-programme.alpha, np.zeros(n), linear[costly], impact[bent] * np.sqrt(size), np.zeros(widths[4]))
    return ConicForm(
        P=sparse.csc_matrix(sparse.block_diag([risk, *zeros, sparse.eye_array(widths[4])])),
        q=np.concatenate(slopes) / pull,
        A=sparse.csc_matrix(sparse.vstack([equal, below, power])),
        b=np.concatenate([equal_to, below_at, power_at]),
        cones=cones,
        rows_neutral=slice(widths[4], widths[4] + neutral.shape[1]),
        row_gross=len(equal_to) + len(below_at) - 1,
        size=size,
        pull=pull,
    )


_Widths = tuple[int, int, int, int, int]
"""Numbers of variables: weights, their sizes, trades, impact costs, factor exposures."""


def _rows(widths: _Widths, **parts: Any) -> Any:
    """Rows over all variables from the parts that are not zero: ``w, g, d, c, y`` in the order of ``widths``."""
    height = next(iter(parts.values())).shape[0]
    blocks = [parts.get(name) for name in "wgdcy"]
    return sparse.hstack(
        [
            sparse.csr_array((height, width)) if block is None else sparse.csr_array(block)
            for block, width in zip(blocks, widths, strict=True)
        ]
    )


def _equalities(F: FloatArray, neutral: FloatArray, box: FloatArray, widths: _Widths) -> tuple[Any, FloatArray]:
    """The factor exposures, the neutralities and the frozen coins."""
    frozen = np.flatnonzero(box[0] == box[1])
    rows = [
        _rows(widths, w=F.T, y=-np.eye(widths[4])),
        _rows(widths, w=neutral.T),
        _rows(widths, w=sparse.eye_array(widths[0], format="csr")[frozen]),
    ]
    return sparse.vstack(rows), np.concatenate([np.zeros(widths[4] + neutral.shape[1]), box[0, frozen]])


def _inequalities(
    costly: Any, held: FloatArray, box: FloatArray, cap: float, widths: _Widths
) -> tuple[Any, FloatArray]:
    """The box, what bounds the sizes of trades and weights from below, and last the gross cap."""
    n = widths[0]
    eye, pick = sparse.eye_array(n, format="csr"), sparse.eye_array(widths[2], format="csr")
    free, at = np.flatnonzero(box[0] != box[1]), held[costly]
    rows = [
        _rows(widths, w=eye[free]),
        _rows(widths, w=-eye[free]),
        _rows(widths, w=eye[costly], d=-pick),
        _rows(widths, w=-eye[costly], d=-pick),
        _rows(widths, w=eye, g=-eye),
        _rows(widths, w=-eye, g=-eye),
        _rows(widths, g=np.ones((1, n))),
    ]
    return sparse.vstack(rows), np.concatenate([box[1, free], -box[0, free], at, -at, np.zeros(2 * n), [cap]])


def _powers(trade: Any, widths: _Widths) -> tuple[Any, FloatArray]:
    """Rows whose slack is (impact cost, 1, trade) per coin with impact; ``trade`` is its place among the trades."""
    s = widths[3]
    which, minus = np.arange(s), -np.ones(s)
    trades = sparse.csr_array((minus, (3 * which + 2, trade)), shape=(3 * s, widths[2]))
    costs = sparse.csr_array((minus, (3 * which, which)), shape=(3 * s, s))
    return _rows(widths, d=trades, c=costs), np.tile([0.0, 1.0, 0.0], s)


def solve(programme: Programme, costs: FloatArray, box: FloatArray, max_iter: int, target: float) -> ConicAnswer:
    """The programme by Clarabel, rounded to the kinks, polished and certified.

    Raises:
        PortfolioInputError: a dense covariance that is not positive semidefinite.
    """
    neutral = orthonormal_columns(programme.neutral)
    gamma = programme.risk_aversion
    if isinstance(programme.covariance, FactorCovariance):
        F, D = programme.covariance.exposures, programme.covariance.idio_var
        coupling: newton.Coupling = newton.FactorCoupling(np.sqrt(gamma) * F, gamma * D, neutral)
    else:
        coupling = couple(gamma * programme.covariance, neutral)
    least = float(np.where(box[0] > 0.0, box[0], np.where(box[1] < 0.0, -box[1], 0.0)).sum())
    if least > programme.gross_cap:
        return ConicAnswer(None, np.inf, 0, f"infeasible: the box alone needs gross {least:.6g} > cap")
    posed = form(programme, costs, box, neutral)
    found = posed.solver(min(max_iter, 200), 1e-11).solve()
    word = str(found.status)
    x, z = np.asarray(found.x), np.asarray(found.z)
    if "Infeasible" in word:
        return ConicAnswer(None, np.inf, found.iterations, f"infeasible: the conic solver says {word}")
    if not (np.isfinite(x).all() and np.isfinite(z).all()) or found.iterations == 0:
        return ConicAnswer(None, np.inf, found.iterations, f"the conic solver stopped: {word}")
    w = np.clip(posed.size * x[: len(costs[2])], box[0], box[1])
    prices = posed.pull * np.append(z[posed.rows_neutral], max(float(z[posed.row_gross]), 0.0))
    coins = newton.Coins(newton.off_span(programme.alpha, neutral), costs, box, programme.gross_cap, newton.coins_at)
    full = float(np.abs(programme.alpha).max())
    # The neutral prices are of alpha as given; alpha off the span has its part in the span taken from them.
    prices[:-1] -= neutral.T @ (programme.alpha - coins.price)
    rounded = _round_to_kinks(coins, coupling, posed.size, w)
    multipliers = np.concatenate([coupling.start(rounded), prices])
    resolution = newton.scales(coins, coupling, full)[3]
    candidates = [
        newton.certificate(coins, coupling, resolution, rounded, multipliers, 0),
        newton.rounds(coins, coupling, full, max_iter, target, (multipliers, rounded)),
    ]
    best = min(candidates, key=lambda c: _worth(programme, c))
    gap = newton.relative_gap(best.primal, best.dual, best.scale)
    return ConicAnswer(best.w, gap, found.iterations + best.steps, f"the conic solver says {word}, gap {gap:.2g}")


def _worth(programme: Programme, candidate: newton.Solved) -> float:
    """Order of candidates: the smaller gap, a breach of neutrality or gross counting as one."""
    breach = max(
        float(np.abs(candidate.w @ programme.neutral).max(initial=0.0)) - 1e-10,
        float(np.abs(candidate.w).sum()) - programme.gross_cap * (1.0 + 1e-12),
        0.0,
    )
    return newton.relative_gap(candidate.primal, candidate.dual, candidate.scale) + (
        1.0 + breach if breach > 0.0 else 0.0
    )


def _round_to_kinks(coins: newton.Coins, coupling: newton.Coupling, size: float, w: FloatArray) -> FloatArray:
    """Weights within a hair of the held weight, zero or a bound become exactly that; the rest restore neutrality."""
    lo, hi = coins.box
    w, h = w.copy(), np.ones(len(w))
    for kink in (lo, hi, np.zeros(len(w)), coins.costs[2]):
        near = (np.abs(w - kink) <= _ROUNDING * size) & (lo <= kink) & (kink <= hi)
        w[near], h[near] = kink[near], 0.0
    settled: FloatArray = newton.settle(coupling.neutral, coins, size, w, h)[0]
    return settled
