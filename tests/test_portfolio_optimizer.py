"""The optimiser's four promises, as tests and as a script: ``python tests/test_portfolio_optimizer.py``.

Run as a script it prints one line per promise, each only after its assertions have held.
"""

from __future__ import annotations

import itertools

import numpy as np

from slipstream.core.portfolio.covariance import FactorCovariance
from slipstream.core.portfolio.optimizer import optimize_portfolio, optimize_portfolio_with_costs


def market(n: int = 40, seed: int = 42):
    """Alpha, beta and factor covariance of n coins over eight hours, in the magnitudes of crypto perpetuals."""
    rng = np.random.default_rng(seed)
    beta = rng.uniform(0.3, 1.7, n)
    exposures = np.column_stack([0.02 * beta, 0.006 * rng.normal(size=(n, 3))])
    return 3e-3 * rng.normal(size=n), beta, FactorCovariance(exposures, rng.uniform(0.01, 0.03, n) ** 2)


def test_the_closed_form_is_neutral_fully_invested_and_beats_every_neutral_neighbour():
    alpha, beta, S = market()
    w = optimize_portfolio(alpha=alpha, beta=beta, S=S.dense(), leverage=1.0)
    assert abs(w @ beta) < 1e-6
    assert abs(np.abs(w).sum() - 1.0) < 1e-3
    assert alpha @ w > 0.0

    def objective(x):
        return alpha @ x - 0.5 * x @ S.dense() @ x

    kelly = optimize_portfolio(alpha, beta, S.dense(), leverage=1e9, scale="kelly")
    np.testing.assert_allclose(kelly / np.abs(kelly).sum(), w, atol=1e-12)
    rng = np.random.default_rng(1)
    for _ in range(50):
        move = rng.normal(size=len(beta))
        move -= beta * (beta @ move) / (beta @ beta)
        assert objective(kelly + 1e-2 * move) < objective(kelly)


def test_the_costed_answer_is_certified_and_better_than_ignoring_costs_or_not_trading():
    alpha, beta, S = market()
    n = len(alpha)
    linear, impact, flat = np.full(n, 4e-4), np.full(n, 2e-3), np.zeros(n)

    def net(w):
        d = np.abs(w)
        return alpha @ w - 0.5 * w @ S.times(w) - linear @ d - impact @ d**1.5

    w, info = optimize_portfolio_with_costs(alpha, beta, S, flat, linear, impact, leverage=1.0)
    assert info["success"]
    assert info["gap"] <= 1e-10
    assert abs(info["net_objective"] - net(w)) < 1e-15
    assert np.abs(w).sum() <= 1.0 + 1e-12
    assert net(w) > 0.0 == net(flat)
    assert net(w) > net(optimize_portfolio(alpha, beta, S, leverage=1.0))
    assert info["n_positions"] == np.count_nonzero(w) < n


def test_neutrality_holds_for_one_beta_and_for_several_together():
    alpha, beta, S = market()
    n = len(alpha)
    B = np.column_stack([beta, np.random.default_rng(3).normal(size=(n, 2))])
    costs = np.full(n, 1e-4), np.full(n, 1e-3)
    for neutral in (beta, B):
        assert np.abs(optimize_portfolio(alpha, neutral, S.dense()) @ neutral).max() < 1e-9
        for covariance in (S, S.dense()):
            w, info = optimize_portfolio_with_costs(alpha, neutral, covariance, np.zeros(n), *costs, leverage=1.5)
            assert np.abs(w @ neutral).max() <= 1e-9
            assert np.abs(info["beta_exposure"]).max() <= 1e-9
            assert np.abs(w).sum() > 0.1


def test_turnover_falls_as_costs_rise_and_dies_where_they_exceed_any_alpha():
    alpha, beta, S = market()
    n = len(alpha)
    rng = np.random.default_rng(7)
    held = optimize_portfolio(rng.normal(size=n), beta, S, leverage=0.8)
    turnover = []
    for factor in (0.0, 0.3, 1.0, 3.0, 10.0, 100.0):
        linear, impact = np.full(n, factor * 4e-4), np.full(n, factor * 2e-3)
        w, info = optimize_portfolio_with_costs(alpha, beta, S, held, linear, impact, leverage=1.0)
        turnover.append(info["turnover"])
    assert all(b < a for a, b in itertools.pairwise(turnover) if a > 0.0)
    assert turnover[-1] == 0.0
    assert (w == held).all()
    free, _ = optimize_portfolio_with_costs(1e-6 * alpha, beta, S, np.zeros(n), np.full(n, 1e-2), np.zeros(n))
    assert (free == 0.0).all()


PROMISES = {
    "Basic beta-neutral optimization": (
        test_the_closed_form_is_neutral_fully_invested_and_beats_every_neutral_neighbour
    ),
    "Cost-aware optimization": test_the_costed_answer_is_certified_and_better_than_ignoring_costs_or_not_trading,
    "Beta neutrality enforced": test_neutrality_holds_for_one_beta_and_for_several_together,
    "Costs reduce turnover": test_turnover_falls_as_costs_rise_and_dies_where_they_exceed_any_alpha,
}

if __name__ == "__main__":
    for promise, check in PROMISES.items():
        check()
        print(f"✓ {promise}")
