"""The capital programme: certified by a bound that is checked here, equal to a conic solver's, exact at its kinks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.core.portfolio.programme import compile_solver
from slipstream.federation import capital_cones
from slipstream.federation.allocator import AllocationFailed, AllocatorConfig, PortfolioAllocator, solve_allocation
from slipstream.federation.capital_programme import CapitalProgramme, solve

TRAITS = {
    "one factor and nothing else": 0.1,
    "every mean is known": 0.05,
    "some means are known": 0.05,
    "a pod that does nothing": 0.1,
    "closed pods": 0.1,
    "no budget": 0.03,
    "much doubt": 0.1,
    "equal means": 0.03,
    "wild pods": 0.05,
}
"""What may befall an instance, and how often."""


@pytest.fixture(scope="module", autouse=True)
def _compiled():
    compile_solver()


def instance(seed: int) -> tuple[set[str], CapitalProgramme]:
    rng = np.random.default_rng(seed)
    pods = int(rng.choice([1, 2, 3, 4, 6, 10, 20]))
    traits = {trait for trait, share in TRAITS.items() if rng.random() < share}
    root = 0.15 * rng.normal(size=(pods, pods))
    S = root @ root.T + np.diag(rng.uniform(0.005, 0.1, pods))
    if "one factor and nothing else" in traits:
        S = 0.04 * np.outer(root[0], root[0]) / 0.15**2
    doubt = rng.uniform(0.2, 3.0) * np.diag(S) * rng.uniform(0.3, 1.5, pods)
    mean = rng.choice([0.1, 1.0, 3.0]) * rng.normal(0.05, 0.3, pods)
    held = np.where(rng.random(pods) < 0.5, 0.0, rng.uniform(0.0, 0.4, pods))
    upper = rng.uniform(0.02, 0.3, pods)
    if "every mean is known" in traits:
        doubt = np.zeros(pods)
    if "some means are known" in traits:
        doubt = np.where(rng.random(pods) < 0.5, 0.0, doubt)
    if "a pod that does nothing" in traits:
        i = int(rng.integers(pods))
        S[i], S[:, i], doubt[i], mean[i] = 0.0, 0.0, 0.0, 0.0
    if "closed pods" in traits:
        upper = np.where(rng.random(pods) < 0.4, 0.0, upper)
    if "equal means" in traits:
        mean[:] = mean[0]
    if "wild pods" in traits:
        S, doubt, mean = 100.0 * S, 100.0 * doubt, 10.0 * mean
    budget = float(rng.choice([0.0, -0.1] if "no budget" in traits else [1.0, 0.5, 0.1]))
    aversion = 3.0 if "much doubt" in traits else 0.5
    return traits, CapitalProgramme(
        mean, S, doubt, held, upper, budget, 5.0, aversion, move_cost=float(rng.choice([0.0, 0.006, 0.06]))
    )


def cost_of(p: CapitalProgramme, w: np.ndarray) -> float:
    """The objective of the module's first lines, written down once more."""
    risk, doubt = w @ p.covariance @ w, np.sqrt(np.sum(p.mean_variance * w**2))
    moved = np.abs(w - p.held).sum()
    return float(0.5 * p.risk_aversion * risk - p.mean @ w + p.uncertainty_aversion * doubt + p.move_cost * moved)


def check(seed: int) -> str:
    """One instance against the conic form; returns the solver that answered."""
    traits, p = instance(seed)
    answer = solve(p)
    assert answer.certified, (seed, traits, answer.message)
    assert answer.gap <= (1e-10 if answer.solver == "newton" else 1e-8)
    w = answer.w
    assert (w >= 0.0).all()
    assert (w <= p.upper).all()
    assert w.sum() <= max(p.budget, 0.0) * (1.0 + 1e-12)
    assert p.cost(w)[0] == pytest.approx(cost_of(p, w), rel=1e-12, abs=1e-15)
    conic, word = capital_cones.solve(p, tolerance=1e-10)
    assert conic is not None, (seed, word)
    size = max(p.cost(w)[1], p.cost(conic)[1])
    above = cost_of(p, conic) - cost_of(p, w)
    assert -1e-11 * size - 1e-15 <= above <= 1e-7 * size + 1e-12, (seed, traits, answer.solver, above)
    # Strongly convex: how much worse a book is says how far from the best it can be.
    bend = p.risk_aversion * float(np.linalg.eigvalsh(p.covariance)[0])
    bend = bend if bend > 1e-12 else 0.0
    assert 0.5 * bend * np.sum((w - conic) ** 2) <= max(above, 0.0) + 1e-11 * size
    for kink in (p.held, p.upper, np.zeros(len(w))):
        near = (np.abs(w - kink) < 1e-11) & (kink <= p.upper)
        assert (w[near] == kink[near]).all(), (seed, "a weight a hair from a kink is dust")
    return answer.solver


def test_random_allocations_equal_the_conic_form_and_are_certified():
    by = [check(seed) for seed in range(300)]
    assert by.count("newton") >= 299


@pytest.mark.full
def test_thousands_of_random_allocations_equal_the_conic_form():
    by = [check(seed) for seed in range(4000)]
    print(f"{len(by)} allocations certified: {by.count('newton')} by Newton, {by.count('conic')} by the fallback")
    assert by.count("newton") >= 3990


def test_nothing_feasible_undercuts_the_bound():
    """The certificate from outside: for any book to lean on, no random feasible book costs less than its bound."""
    rng = np.random.default_rng(4)
    for seed in range(60):
        _, p = instance(seed)
        pods = len(p.mean)
        lean = rng.uniform(0.0, 1.0, pods) * p.upper
        slope = rng.normal(size=pods)
        slope *= p.uncertainty_aversion * rng.uniform() / np.linalg.norm(slope)
        bound = p.bound(lean, np.sqrt(p.mean_variance) * slope)
        for _ in range(40):
            book = rng.uniform(0.0, 1.0, pods) * p.upper * (rng.random(pods) < 0.7)
            book *= min(1.0, max(p.budget, 0.0) / max(book.sum(), 1e-300))
            assert cost_of(p, book) >= bound - 1e-13


def one_pod(mean: float, held: float = 0.0, variance: float = 0.04, doubt: float = 0.01) -> CapitalProgramme:
    one = np.ones(1)
    return CapitalProgramme(
        mean * one, variance * np.eye(1), doubt * one, held * one, 0.9 * one, 1.0, 5.0, 0.5, move_cost=0.02
    )


def test_a_pod_is_granted_capital_exactly_when_it_earns_its_cost_and_its_uncertainty():
    threshold = 0.02 + 0.5 * np.sqrt(0.01)
    below, above = solve(one_pod(threshold * (1.0 - 1e-9))), solve(one_pod(threshold * (1.0 + 1e-6)))
    assert below.w[0] == 0.0
    assert below.solves == 0
    assert above.w[0] == pytest.approx(threshold * 1e-6 / (5.0 * 0.04), rel=1e-6)
    # Leaving costs as well, so what is held is kept for less, and sold only below the opposite threshold.
    assert solve(one_pod(0.07, held=0.1)).w[0] == 0.1
    assert solve(one_pod(0.5 * np.sqrt(0.01) - 0.02 - 1e-9, held=0.1)).w[0] == 0.0


def test_pods_of_known_mean_are_held_alone_where_the_others_do_not_earn_their_doubt():
    """t = 0 with a book that is not empty: the second pod's margin is below its doubt once the budget has a price."""
    p = CapitalProgramme(
        mean=np.array([0.30, 0.32]),
        covariance=np.diag([0.04, 0.04]),
        mean_variance=np.array([0.0, 0.09]),
        held=np.zeros(2),
        upper=np.array([0.4, 0.4]),
        budget=0.3,
        risk_aversion=5.0,
        uncertainty_aversion=0.5,
        move_cost=0.01,
    )
    answer = solve(p)
    assert answer.w.tolist() == [0.3, 0.0]
    assert answer.solves == 1
    # Its price of capital is 0.30 - 0.01 - 0.06 = 0.23; the doubt of 0.15 leaves the second 0.32 - 0.01 - 0.15 = 0.16.
    keener = solve(replace(p, mean=np.array([0.30, 0.39 + 1e-5])))
    assert keener.w[1] > 0.0
    assert keener.w.sum() == pytest.approx(0.3, rel=1e-12)


@given(st.integers(0, 2000), st.floats(1e-3, 1e3))
def test_the_unit_of_return_and_the_order_of_pods_do_not_matter(seed, unit):
    _, p = instance(seed)
    before = solve(p)
    scaled = solve(
        replace(
            p,
            mean=unit * p.mean,
            covariance=unit * p.covariance,
            mean_variance=unit**2 * p.mean_variance,
            move_cost=unit * p.move_cost,
        )
    )
    order = np.random.default_rng(seed).permutation(len(p.mean))
    shuffled = solve(
        replace(
            p,
            mean=p.mean[order],
            covariance=p.covariance[np.ix_(order, order)],
            mean_variance=p.mean_variance[order],
            held=p.held[order],
            upper=p.upper[order],
        )
    )
    size = p.cost(before.w)[1]
    assert cost_of(p, scaled.w) == pytest.approx(cost_of(p, before.w), rel=1e-9, abs=1e-9 * size)
    back = np.empty_like(shuffled.w)
    back[order] = shuffled.w
    assert cost_of(p, back) == pytest.approx(cost_of(p, before.w), rel=1e-9, abs=1e-9 * size)


def test_the_conic_fallback_answers_and_is_certified_when_newton_is_not_believed(monkeypatch):
    seeds = range(100, 160)
    expected = [solve(instance(seed)[1]) for seed in seeds]
    monkeypatch.setattr("slipstream.federation.capital_programme.GAP_NEWTON", -1.0)
    for seed, before in zip(seeds, expected, strict=True):
        p = instance(seed)[1]
        answer = solve(p)
        assert answer.certified, (seed, answer.message)
        if p.budget > 0.0 and p.upper.any():
            assert answer.solver == "conic"
        assert cost_of(p, answer.w) == pytest.approx(cost_of(p, before.w), rel=1e-7, abs=1e-9)


def test_what_neither_solver_certifies_is_a_failure_and_never_weights(monkeypatch):
    monkeypatch.setattr("slipstream.federation.capital_programme.GAP_NEWTON", -1.0)
    monkeypatch.setattr(capital_cones, "solve", lambda p: (None, "InsufficientProgress"))
    p = instance(1)[1]
    with pytest.raises(AllocationFailed, match=r"pods was not solved: .*InsufficientProgress"):
        solve_allocation(p.mean, p.covariance, p.mean_variance, p.held, p.upper, budget=1.0, config=AllocatorConfig())
    monkeypatch.setattr(capital_cones, "solve", lambda p: (p.upper * 0.5, "Solved"))
    monkeypatch.setattr("slipstream.federation.capital_programme.GAP_CONIC", -1.0)
    with pytest.raises(AllocationFailed, match="gap"):
        solve_allocation(p.mean, p.covariance, p.mean_variance, p.held, p.upper, budget=1.0, config=AllocatorConfig())


def test_the_result_says_which_solver_answered_and_how_good_it_is():
    allocator = PortfolioAllocator(AllocatorConfig(cycle_hours=24.0))
    returns = 0.002 + 0.01 * np.random.default_rng(3).standard_normal((90, 3))
    free = np.full(3, np.inf)
    solved = allocator.optimize(returns, np.zeros(3), free, 1e5)
    assert solved.solver == "newton"
    assert solved.gap <= 1e-10
    young = allocator.optimize(returns[:10], np.zeros(3), free, 1e5)
    assert (young.solver, young.gap) == ("none", 0.0)
