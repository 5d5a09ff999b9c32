"""Random and degenerate rebalances: every answer is certified, optimal by its own first-order conditions, and the same
from both engines."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linprog

from slipstream.core.portfolio import conic, dense_newton, dual_newton, dual_newton_arrays, programme
from slipstream.core.portfolio.covariance import FactorCovariance
from slipstream.core.portfolio.inputs import orthonormal_columns
from slipstream.core.portfolio.programme import Programme, compile_solver, solve

SAMPLE, ALL = range(0, 240), range(1000, 5000)


def instance(seed: int) -> tuple[set[str], Programme]:
    """One rebalance drawn from every class of trouble met in practice, alone and combined; and its classes."""
    rng = np.random.default_rng(seed)
    n, k, m = (int(rng.choice(c)) for c in ([1, 2, 3, 5, 10, 30, 60, 150], [0, 1, 3, 8], [0, 1, 1, 1, 3]))
    F, D = 0.03 * rng.normal(size=(n, k)), rng.uniform(5e-4, 2e-2, n)
    alpha, B = 3e-3 * rng.normal(size=n), rng.uniform(0.3, 1.6, (n, m))
    c, lam = rng.uniform(1e-4, 1e-3, n), rng.uniform(1e-3, 1e-2, n)
    held = 0.05 * rng.normal(size=n) if rng.random() < 0.6 else np.zeros(n)
    hi = np.full(n, float(rng.choice([0.05, 0.2, 1.0, 10.0])))
    lo, L, g = -hi, float(rng.choice([0.2, 1.0, 2.0, 100.0])), float(rng.choice([0.1, 1.0, 1.0, 5.0, 100.0]))
    tags: set[str] = set()

    def on(tag: str, probability: float) -> bool:
        if rng.random() < probability:
            tags.add(tag)
        return tag in tags

    some = rng.random(n) < 0.5
    D = np.where(some, 0.0, D) if on("some idio zero", 0.15) else D
    D = 0.0 * D if on("no idio", 0.1) else D
    D = 1e-9 * D if on("tiny idio", 0.08) else D
    c = 0.0 * c if on("no linear cost", 0.15) else c
    c = np.where(some, c, 0.0) if on("some linear costs zero", 0.1) else c
    lam = 0.0 * lam if on("no impact", 0.25) else lam
    lam = np.where(some, lam, 0.0) if on("some impact zero", 0.1) else lam
    alpha = 0.0 * alpha if on("no alpha", 0.03) else alpha
    alpha = 1e-3 * (B @ rng.normal(size=m)) if on("alpha in the span of beta", 0.05) else alpha
    if on("ties", 0.15):
        alpha, F, B, held, c = np.round(alpha, 3), np.round(F, 2), np.round(B, 1), np.round(held, 1), np.full(n, 5e-4)
        D = np.where(D > 0.0, 0.01, 0.0)
    B = np.hstack([B, 2.0 * B[:, :1]]) if m and on("dependent betas", 0.1) else B
    F = 0.0 * F if on("no factors", 0.06) else F
    alpha = alpha * 10.0 ** rng.integers(-8, 5) if on("alpha of another size", 0.1) else alpha
    c = c * 10.0 ** rng.integers(-6, 6) if on("costs of another size", 0.1) else c
    lo = 0.0 * lo if on("long only", 0.1) else lo
    if on("neutral before", 0.3):
        Q = orthonormal_columns(B)
        held = held - Q @ (Q.T @ held)
    if on("frozen coins", 0.1):
        frozen = rng.random(n) < 0.2
        held = np.where(frozen, 0.0, held) if rng.random() < 0.7 else held
        lo, hi = np.where(frozen, held, lo), np.where(frozen, held, hi)
    covariance = FactorCovariance(F, D)
    return tags, Programme(alpha, B, covariance, held, c, lam, lo, hi, L, g)


def densely(p: Programme) -> Programme:
    """The same programme with its covariance as a matrix."""
    assert isinstance(p.covariance, FactorCovariance)
    S = p.covariance.dense()
    return Programme(p.alpha, p.neutral, S, p.held, p.linear, p.impact, p.lo, p.hi, p.gross_cap, p.risk_aversion)


def cost_of(p: Programme, w: np.ndarray) -> float:
    """What the programme minimises, written down again from its definition."""
    S = p.covariance.dense() if isinstance(p.covariance, FactorCovariance) else p.covariance
    d = np.abs(w - p.held)
    return float(-p.alpha @ w + 0.5 * p.risk_aversion * w @ S @ w + p.linear @ d + p.impact @ d**1.5)


def first_order_miss(p: Programme, w: np.ndarray) -> float:
    """How far w is from its first-order conditions: the least t for which some multipliers satisfy them all to t.

    Zero must lie in ``-alpha + g S w + B nu + d cost + mu d|w| + normal cone of the box``, with mu > 0 only at the cap.
    For each coin that is two inequalities, linear in (nu, mu); a small linear programme finds the best multipliers.
    """
    S = p.covariance.dense() if isinstance(p.covariance, FactorCovariance) else p.covariance
    d, m = w - p.held, p.neutral.shape[1]
    base = -p.alpha + p.risk_aversion * S @ w
    marginal = p.linear + 1.5 * p.impact * np.sqrt(np.abs(d))
    cost_up, cost_down = np.where(d < 0.0, -marginal, marginal), np.where(d > 0.0, marginal, -marginal)
    sign_up, sign_down = np.where(w < 0.0, -1.0, 1.0), np.where(w > 0.0, 1.0, -1.0)
    low, high = w > p.lo, w < p.hi
    up = np.column_stack([-p.neutral, -sign_up, -np.ones(len(w))])[high]
    down = np.column_stack([p.neutral, sign_down, -np.ones(len(w))])[low]
    right = np.concatenate([(base + cost_up)[high], -(base + cost_down)[low]])
    binding = np.abs(w).sum() >= p.gross_cap * (1.0 - 1e-9)
    scale = max(np.abs(base).max(), marginal.max(), 1e-300)
    if not len(right):
        return 0.0
    solved = linprog(
        np.append(np.zeros(m + 1), 1.0),
        A_ub=np.vstack([up, down]),
        b_ub=right / scale,
        bounds=[(None, None)] * m + [(0.0, None if binding else 0.0), (0.0, None)],
        options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
    )
    assert solved.status == 0, solved.message
    return float(solved.x[-1])


def check_answer(p: Programme) -> str:
    """Solve p and hold the answer against the programme's definition; returns the solver's name or "none"."""
    answer = solve(p)
    if not answer.certified:
        assert "infeasible" in answer.message, answer.message
        return "none"
    w = answer.w
    assert ((p.lo <= w) & (w <= p.hi)).all()
    assert np.abs(w).sum() <= p.gross_cap * (1.0 + 1e-12)
    assert np.abs(w @ p.neutral).max(initial=0.0) <= 1e-9
    assert answer.gap <= (1e-10 if answer.solver == "newton" else 1e-8)
    return answer.solver


@pytest.fixture(scope="module", autouse=True)
def _compiled():
    compile_solver()


def test_every_instance_is_certified_and_only_infeasible_ones_are_refused():
    solvers = {seed: check_answer(instance(seed)[1]) for seed in SAMPLE}
    refused = [seed for seed, solver in solvers.items() if solver == "none"]
    assert all("frozen coins" in instance(seed)[0] for seed in refused)
    assert list(solvers.values()).count("newton") >= 0.98 * len(solvers)


def test_every_dense_instance_is_certified_and_agrees_with_its_factor_form():
    for seed in SAMPLE[:80]:
        p = instance(seed)[1]
        factor, dense = solve(p), solve(densely(p))
        assert factor.certified == dense.certified
        if factor.certified:
            terms = abs(p.alpha) @ abs(factor.w) + abs(cost_of(p, factor.w)) + 1e-5 * np.abs(p.alpha).max()
            assert abs(cost_of(p, factor.w) - cost_of(p, dense.w)) <= 1e-8 * terms + 1e-18


@pytest.mark.full
def test_four_thousand_instances_are_all_certified_or_shown_infeasible():
    solvers = [check_answer(p if seed % 4 else densely(p)) for seed in ALL for p in [instance(seed)[1]]]
    counts = ", ".join(f"{solvers.count(solver)} {solver}" for solver in ("newton", "conic", "none"))
    print(f"{len(solvers)} instances, one in four dense: {counts} (shown infeasible)")
    assert solvers.count("none") < 0.02 * len(solvers)
    assert solvers.count("newton") >= 0.98 * len(solvers)


def test_the_first_order_conditions_hold_at_every_answer():
    for seed in SAMPLE[:150]:
        tags, p = instance(seed)
        answer = solve(p)
        if answer.certified and "costs of another size" not in tags:
            assert first_order_miss(p, answer.w) <= 2e-7, (seed, tags)


def test_a_nudged_answer_fails_the_first_order_conditions():
    """The check above has teeth: a neutral move of one part in a thousand is seen."""
    p = instance(seed=5)[1]
    w = solve(p).w
    free = np.flatnonzero((w != p.held) & (w != 0.0) & (np.abs(w) < p.hi))
    assert len(free) > p.neutral.shape[1] + 1
    Q = orthonormal_columns(np.column_stack([p.neutral[free], np.sign(w[free])]))
    move = np.random.default_rng(0).normal(size=len(free))
    nudged = w.copy()
    nudged[free] += 1e-3 * np.abs(w[free]).min() * (move - Q @ (Q.T @ move))
    assert first_order_miss(p, nudged) > 1e-6 > first_order_miss(p, w)


def test_the_two_engines_give_the_same_answer_to_the_last_bit():
    compared = 0
    for seed in SAMPLE:
        p = instance(seed)[1]
        costs, box = p.costs_and_box()
        if not np.abs(box).max() > 0.0:
            continue
        rest = (costs, box, p.gross_cap, p.risk_aversion, 200, 1e-12)
        arguments = (p.alpha, p.neutral, p.covariance.exposures, p.covariance.idio_var, *rest)
        kernel, arrays = dual_newton.solve(*arguments), dual_newton_arrays.solve(*arguments)
        np.testing.assert_array_equal(kernel[0], arrays.w)
        np.testing.assert_array_equal(kernel[1], arrays.multipliers)
        assert kernel[2:] == tuple(arrays)[2:]
        compared += 1
    assert compared > 0.9 * len(SAMPLE)


def test_a_dense_answer_does_not_depend_on_the_engine_of_its_coins():
    for seed in SAMPLE[:25]:
        p = densely(instance(seed)[1])
        costs, box = p.costs_and_box()
        if not np.abs(box).max() > 0.0:
            continue
        arguments = (p.alpha, p.neutral, p.covariance, costs, box, p.gross_cap, p.risk_aversion, 200, 1e-12)
        arrays = dense_newton.solve(*arguments, dual_newton_arrays.coins_at)
        kernel = dense_newton.solve(*arguments, dual_newton.coins_at)
        np.testing.assert_array_equal(kernel.w, arrays.w)


@pytest.mark.parametrize("in_factor_form", [True, False])
def test_a_conic_solver_finds_the_same_optimum(in_factor_form):
    """Clarabel alone, from the conic form, without a line of the Newton method."""
    compared = 0
    for seed in range(300, 340):
        tags, p = instance(seed)
        if tags & {"costs of another size", "alpha of another size", "frozen coins"}:
            continue
        p = p if in_factor_form else densely(p)
        costs, box = p.costs_and_box()
        posed = conic.form(p, costs, box, orthonormal_columns(p.neutral))
        found = posed.solver(tolerance=1e-9).solve()
        value = float(found.obj_val) * posed.size * posed.pull
        # The conic form leaves out nothing: its linear terms in |trade| start from zero like ours.
        assert value == pytest.approx(cost_of(p, solve(p).w), abs=1e-7 * posed.size * posed.pull)
        compared += 1
    assert compared >= 15


def test_the_conic_fallback_answers_when_newton_is_not_believed(monkeypatch):
    expected = {seed: solve(instance(seed)[1]) for seed in range(60, 90)}
    monkeypatch.setattr(programme, "GAP_NEWTON", -1.0)
    for seed, before in expected.items():
        p = instance(seed)[1]
        answer = solve(p)
        assert answer.certified == before.certified
        if answer.certified and before.iterations > 0:
            assert answer.solver == "conic"
            assert cost_of(p, answer.w) == pytest.approx(cost_of(p, before.w), rel=1e-7, abs=1e-12)


def test_the_conic_fallback_without_newtons_polish_is_certified_to_its_own_bar(monkeypatch):
    """What is returned when the polish fails, too: conic weights rounded to the kinks and made neutral."""

    def no_polish(coins, coupling, full, max_iter, target, start):
        return dual_newton_arrays.Solved(start[1], start[0], 1.0, -np.inf, 1.0, 0)

    monkeypatch.setattr(dual_newton_arrays, "rounds", no_polish)
    gaps = []
    for seed in range(400, 430):
        tags, p = instance(seed)
        costs, box = p.costs_and_box()
        if tags & {"frozen coins", "costs of another size", "alpha of another size"}:
            continue
        gaps.append(conic.solve(p, costs, box, 1000, 1e-12).gap)
    assert np.median(gaps) <= 1e-8
    assert np.isfinite(gaps).all()
