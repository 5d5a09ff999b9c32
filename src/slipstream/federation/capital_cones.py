"""The capital programme for a conic interior-point solver (Clarabel, called directly): the fallback, and an oracle.

Variables are x = (w, a, s): a bounds |w - v| pod by pod, s bounds sqrt(w'Ow) by a second-order cone. An interior point
never lies on a kink, so weights a hair from zero, a cap or the weight in force are made exactly that.

Source: Goulart and Chen (2024), Clarabel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import clarabel
import numpy as np
from scipy import sparse

from slipstream.core.panel import FloatArray

if TYPE_CHECKING:
    from slipstream.federation.capital_programme import CapitalProgramme

ROUNDING = 1e-7
"""A conic weight nearer to a kink than this is taken to lie on it."""


def solve(p: CapitalProgramme, tolerance: float = 1e-11) -> tuple[FloatArray | None, str]:
    """Weights, shape (P,), feasible and without dust (None where there are none), and the solver's own word."""
    pods = len(p.mean)
    size = 2 * pods + 1
    quadratic = np.zeros((size, size))
    quadratic[:pods, :pods] = p.risk_aversion * p.covariance
    linear = np.concatenate((-p.mean, np.full(pods, p.move_cost), [p.uncertainty_aversion]))
    eye, none = np.eye(pods), np.zeros((pods, pods))
    side = np.zeros((pods, 1))
    rows = (
        np.hstack((eye, -eye, side)),  # w - v <= a
        np.hstack((-eye, -eye, side)),  # v - w <= a
        np.hstack((-eye, none, side)),  # w >= 0
        np.hstack((eye, none, side)),  # w <= u
        np.concatenate((np.ones(pods), np.zeros(pods + 1)))[None, :],  # sum w <= b
        np.concatenate((np.zeros(2 * pods), [-1.0]))[None, :],  # s heads the cone
        np.hstack((-np.diag(np.sqrt(p.mean_variance)), none, side)),
    )
    budget = max(p.budget, 0.0)
    bounds = (p.held, -p.held, np.zeros(pods), p.upper, [budget], [0.0], np.zeros(pods))
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.max_threads = 1
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = tolerance
    solution = clarabel.DefaultSolver(
        sparse.triu(sparse.csc_matrix(quadratic)).tocsc(),
        linear,
        sparse.csc_matrix(np.vstack(rows)),
        np.concatenate(bounds),
        [clarabel.NonnegativeConeT(4 * pods + 1), clarabel.SecondOrderConeT(pods + 1)],
        settings,
    ).solve()
    word = str(solution.status)
    weights = np.array(solution.x[:pods])
    if word not in ("Solved", "AlmostSolved") or not np.isfinite(weights).all():
        return None, word
    return _without_dust(p, weights, budget), word


def _without_dust(p: CapitalProgramme, weights: FloatArray, budget: float) -> FloatArray:
    w = np.clip(weights, 0.0, p.upper)
    free = np.ones(len(w), dtype=bool)
    for kink in (p.upper, np.zeros(len(w)), p.held):
        near = (np.abs(w - kink) < ROUNDING) & (kink <= p.upper)
        w[near], free[near] = kink[near], False
    excess = float(w.sum()) - budget
    if excess > 0.0:
        # Rounding may have spent more than there is; whoever is between kinks gives it back, else everybody does.
        shrink = free if float(w[free].sum()) > excess else np.ones(len(w), dtype=bool)
        w[shrink] *= 1.0 - excess / float(w[shrink].sum())
    return w
