"""Both programmes against cvxpy: modelled there from their formulas, without a line of this project's solvers."""

from __future__ import annotations

import numpy as np
import pytest

from slipstream.core.portfolio.covariance import FactorCovariance
from slipstream.core.portfolio.optimizer import optimize_portfolio_with_costs
from slipstream.federation.capital_programme import CapitalProgramme, solve

cp = pytest.importorskip(
    "cvxpy", reason="cvxpy is not a dependency: benchmarks/peer_cvxpy.py says how to make an environment that has it"
)

TIGHT = {"tol_gap_abs": 1e-9, "tol_gap_rel": 1e-9, "tol_feas": 1e-9}
"""About as far as its conic form of these problems can be driven without a warning."""


def test_a_rebalance_is_what_cvxpy_finds_in_factor_form_and_dense():
    for seed in range(12):
        rng = np.random.default_rng(seed)
        n, K = int(rng.integers(3, 40)), 3
        F, D = 0.01 * rng.normal(size=(n, K)), rng.uniform(1e-4, 4e-4, n)
        alpha, beta = rng.normal(0.0, 3e-3, n), rng.uniform(0.5, 1.5, n)
        held = rng.normal(0.0, 1.0 / n, n)
        c, lam = rng.uniform(0.0, 6e-4, n), rng.uniform(0.0, 2e-3, n)
        w = cp.Variable(n)
        trade = cp.abs(w - held)
        risk = cp.sum_squares(F.T @ w) + cp.sum_squares(cp.multiply(np.sqrt(D), w))
        value = alpha @ w - 0.5 * risk - c @ trade - lam @ cp.power(trade, 1.5)
        problem = cp.Problem(cp.Maximize(value), [beta @ w == 0.0, cp.norm1(w) <= 1.0, cp.abs(w) <= 0.2])
        best = problem.solve(solver=cp.CLARABEL, **TIGHT)
        S = FactorCovariance(F, D)
        for covariance in (S, S.dense()):
            mine, info = optimize_portfolio_with_costs(alpha, beta, covariance, held, c, lam, max_weight=0.2)
            assert info["success"]
            assert info["net_objective"] == pytest.approx(best, rel=1e-7, abs=1e-10)
            assert mine == pytest.approx(w.value, abs=1e-4)


def test_an_allocation_is_what_cvxpy_finds():
    for seed in range(30):
        rng = np.random.default_rng(seed)
        pods = int(rng.integers(1, 8))
        root = 0.15 * rng.normal(size=(pods, pods))
        S = root @ root.T + 0.01 * np.eye(pods)
        mean, spread = rng.normal(0.2, 0.3, pods), rng.uniform(0.0, 0.05, pods)
        held, upper = rng.uniform(0.0, 0.3, pods), rng.uniform(0.05, 0.3, pods)
        w = cp.Variable(pods)
        doubt = cp.norm2(cp.multiply(np.sqrt(spread), w))
        value = mean @ w - 2.5 * cp.quad_form(w, S) - 0.5 * doubt - 0.06 * cp.norm1(w - held)
        problem = cp.Problem(cp.Maximize(value), [w >= 0.0, w <= upper, cp.sum(w) <= 0.6])
        best = problem.solve(solver=cp.CLARABEL, **TIGHT)
        p = CapitalProgramme(mean, S, spread, held, upper, 0.6, 5.0, 0.5, 0.06)
        answer = solve(p)
        assert answer.certified
        assert -p.cost(answer.w)[0] == pytest.approx(best, rel=1e-7, abs=1e-9)
        assert answer.w == pytest.approx(w.value, abs=1e-4)
