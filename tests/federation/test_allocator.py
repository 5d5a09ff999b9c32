"""The allocator's programme against independent arithmetic, and what it must do with luck and with skill."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipstream.federation.allocator import (
    AllocatorConfig,
    AllocatorError,
    PortfolioAllocator,
    drawdown,
    pod_moments,
    solve_allocation,
)

DAILY = AllocatorConfig(cycle_hours=24.0)
NO_CAP = np.full(3, np.inf)


def daily_returns(seed: int, days: int, sharpes: tuple[float, ...], vol: float = 0.2) -> np.ndarray:
    rng = np.random.default_rng(seed)
    daily_vol = vol / np.sqrt(365.25)
    drift = np.array(sharpes) * vol / 365.25
    return drift + daily_vol * rng.standard_normal((days, len(sharpes)))


def objective(w: np.ndarray, mean, covariance, omega, w_prev, config: AllocatorConfig) -> float:
    return float(
        mean @ w
        - 0.5 * config.risk_aversion * w @ covariance @ w
        - config.uncertainty_aversion * np.sqrt(omega @ w**2)
        - config.move_cost_annual * np.abs(w - w_prev).sum()
    )


def simulate(seed: int, sharpes: tuple[float, ...], days: int = 240) -> np.ndarray:
    """Weights over time when the allocator sees each day what the pods earned so far."""
    allocator = PortfolioAllocator(DAILY)
    returns = daily_returns(seed, days, sharpes)
    weights = np.zeros((days, len(sharpes)))
    current = np.zeros(len(sharpes))
    for day in range(days):
        wanted = allocator.optimize(returns[:day], current, NO_CAP, 1e5, alive=np.ones(len(sharpes), bool)).weights
        current = allocator.held_back(wanted, current)
        weights[day] = current
    return weights


@settings(max_examples=40)
@given(st.integers(0, 10_000))
def test_no_feasible_allocation_scores_better_than_the_solved_one(seed):
    rng = np.random.default_rng(seed)
    root = rng.standard_normal((4, 4)) * 0.1
    covariance = root @ root.T + 0.01 * np.eye(4)
    mean, omega = rng.normal(0.05, 0.2, 4), rng.uniform(0.0, 0.05, 4)
    w_prev, upper = rng.uniform(0.0, 0.3, 4), rng.uniform(0.05, 0.3, 4)
    best = solve_allocation(mean, covariance, omega, w_prev, upper, budget=0.6, config=DAILY).w
    assert (best >= 0.0).all()
    assert (best <= upper + 1e-9).all()
    assert best.sum() <= 0.6 + 1e-8
    value = objective(best, mean, covariance, omega, w_prev, DAILY)
    for _ in range(300):
        rival = rng.uniform(0.0, 1.0, 4) * upper
        near = np.clip(best + rng.normal(0.0, 0.01, 4), 0.0, upper)
        for other in (rival, near):
            other = other * min(1.0, 0.6 / max(other.sum(), 1e-12))
            assert objective(other, mean, covariance, omega, w_prev, DAILY) <= value + 1e-7


def test_a_single_pod_gets_its_closed_form_weight():
    """w = (mean - kappa sd - c) / (gamma variance) when no bound binds and the pod starts from nothing."""
    mean, variance, omega = 0.30, 0.25, 0.01
    weight = solve_allocation(
        np.array([mean]),
        np.array([[variance]]),
        np.array([omega]),
        np.zeros(1),
        np.ones(1),
        budget=1.0,
        config=DAILY,
    ).w
    expected = (mean - 0.5 * np.sqrt(omega) - DAILY.move_cost_annual) / (5.0 * variance)
    assert weight[0] == pytest.approx(expected, abs=1e-7)


def test_moments_follow_the_posterior_of_a_unit_prior_on_sharpe():
    returns = daily_returns(3, 200, (1.0, 2.0))
    got = pod_moments(returns, 365.25, 30)
    years = 200 / 365.25
    shrink = years / (years + 1.0)
    assert got.mean == pytest.approx(shrink * returns.mean(axis=0) * 365.25)
    variance = returns.var(axis=0, ddof=1) * 365.25
    assert np.diag(got.covariance) == pytest.approx(variance)
    assert got.mean_variance == pytest.approx(shrink * variance / years)
    assert got.n_obs == (200, 200)


def test_moments_are_annual_whatever_the_cycle_length():
    """Four 6-hour returns that sum to a day's give the same annual mean as the day's."""
    day = daily_returns(5, 300, (1.5,))
    quarter = np.repeat(day / 4.0, 4, axis=0)
    assert pod_moments(quarter, 4 * 365.25, 30).mean == pytest.approx(pod_moments(day, 365.25, 30).mean)


def test_skill_is_funded_and_its_absence_is_not():
    """Sharpe 4 / 2 / 0: within 240 days the third's grant is below half of the first's and stays so for a month."""
    paths = np.array([simulate(seed, (4.0, 2.0, 0.0))[30:] for seed in range(12)])
    apart = paths[:, :, 2] < 0.5 * paths[:, :, 0]
    month = np.array([np.convolve(path, np.ones(30), "valid").max() == 30 for path in apart])
    assert month.sum() >= 10
    overall = paths.mean(axis=(0, 1))
    assert overall[2] < 0.5 * overall[0]
    assert overall[1] < overall[0]


def test_three_pods_without_an_edge_leave_the_account_mostly_in_cash():
    invested = [simulate(seed, (0.0, 0.0, 0.0))[30:].sum(axis=1).mean() for seed in range(100, 112)]
    assert np.mean(invested) < 0.25


def test_the_cap_the_minimum_grant_and_the_drawdown_throttle_bind():
    allocator = PortfolioAllocator(DAILY)
    strong = daily_returns(1, 365, (8.0, 8.0, 8.0))
    strong[-1] = 0.05  # every pod ends at its high, so nothing is throttled yet
    capped = allocator.optimize(pd.DataFrame(strong, columns=["a", "b", "c"]), np.zeros(3), NO_CAP, 1e5)
    assert capped.weights == pytest.approx([0.3, 0.3, 0.3], abs=1e-6)
    assert set(capped.binding) == {"cap:a", "cap:b", "cap:c"}
    assert allocator.optimize(strong, np.zeros(3), NO_CAP, 300.0).weights == pytest.approx(0.0)
    fallen = strong.copy()
    fallen[-1, 0] = -0.06
    throttled = allocator.optimize(fallen, np.zeros(3), NO_CAP, 1e5)
    expected = 0.3 * (1.0 - drawdown(fallen)[0] / 0.20)
    assert throttled.weights[0] == pytest.approx(expected, abs=1e-6)
    assert "throttle:0" in throttled.binding


def test_a_drawdown_beyond_the_limit_leaves_a_tenth_of_the_cap():
    returns = daily_returns(1, 365, (8.0,))
    returns[-1] = -0.5
    assert drawdown(returns)[0] > 0.20
    weight = PortfolioAllocator(DAILY).optimize(returns, np.zeros(1), np.full(1, np.inf), 1e5).weights[0]
    assert weight <= 0.03 + 1e-9


def test_young_pods_share_equal_weights_under_the_cap_and_a_dead_one_gets_nothing():
    returns = np.abs(daily_returns(2, 10, (5.0, -5.0, 1.0)))  # no drawdown, so no throttle
    returns[:, 2] = np.nan
    got = PortfolioAllocator(DAILY).optimize(returns, np.zeros(3), NO_CAP, 1e5)
    assert got.weights == pytest.approx([0.3, 0.3, 0.0])
    assert got.n_obs == (10, 10, 0)
    five = PortfolioAllocator(DAILY).optimize(np.full((10, 5), 1e-4), np.zeros(5), np.full(5, np.inf), 1e5)
    assert five.weights == pytest.approx(np.full(5, 0.2))


def test_no_pod_alive_is_all_cash():
    got = PortfolioAllocator(DAILY).optimize(np.empty((0, 3)), np.zeros(3), NO_CAP, 1e5)
    assert (got.weights == 0.0).all()
    assert got.sharpe == 0.0
    assert got.diversification_ratio == 1.0


def test_increases_wait_until_they_are_worth_it_and_cuts_do_not():
    allocator = PortfolioAllocator(DAILY)
    current = np.array([0.10, 0.10, 0.28])
    wanted = np.array([0.115, 0.125, 0.27])
    assert allocator.held_back(wanted, current) == pytest.approx([0.10, 0.125, 0.27])


def test_a_small_change_of_mind_costs_more_than_it_earns_and_is_not_made():
    """The move cost leaves a region around the weights in force where staying is optimal, exactly."""
    returns = daily_returns(11, 365, (2.5, 2.5))
    allocator = PortfolioAllocator(AllocatorConfig(cycle_hours=24.0, max_weight=1.0))
    first = allocator.optimize(returns, np.zeros(2), np.full(2, np.inf), 1e5).weights
    again = allocator.optimize(returns, first, np.full(2, np.inf), 1e5).weights
    assert (again == first).all()


def test_reported_figures_are_those_of_the_granted_book():
    returns = daily_returns(7, 400, (4.0, 3.0))
    got = PortfolioAllocator(DAILY).optimize(returns, np.zeros(2), np.full(2, np.inf), 5e4)
    moments = pod_moments(returns, 365.25, 30)
    vol = np.sqrt(got.weights @ moments.covariance @ got.weights)
    assert got.vol == pytest.approx(vol)
    assert got.expected_return == pytest.approx(moments.mean @ got.weights)
    assert got.var_95 == pytest.approx(1.6448536 * vol / np.sqrt(365.25), rel=1e-6)
    assert got.diversification_ratio >= 1.0
    assert got.capital_usd == pytest.approx(got.weights * 5e4)


@pytest.mark.parametrize(
    ("returns", "w_prev", "capital", "words"),
    [
        (np.zeros((5, 2)), np.zeros(3), 1e5, "w_prev has shape"),
        (np.zeros(5), np.zeros(1), 1e5, "must be \\(cycles, pods\\)"),
        (np.full((5, 2), np.inf), np.zeros(2), 1e5, "infinite"),
        (np.zeros((5, 2)), np.array([np.nan, 0.0]), 1e5, "numbers of at least 0"),
        (np.zeros((5, 2)), np.zeros(2), 0.0, "must be positive"),
    ],
)
def test_unusable_inputs_are_named(returns, w_prev, capital, words):
    with pytest.raises(AllocatorError, match=words):
        PortfolioAllocator(DAILY).optimize(returns, w_prev, np.full(2, np.inf), capital)


def test_allocation_depends_on_its_arguments_alone():
    returns = daily_returns(9, 200, (3.0, 1.0, 2.0))
    one = PortfolioAllocator(DAILY).optimize(returns, np.zeros(3), NO_CAP, 1e5)
    two = PortfolioAllocator(DAILY).optimize(returns.copy(), np.zeros(3), NO_CAP, 1e5)
    assert (one.weights == two.weights).all()
