"""Laws any rebalance obeys, whatever the numbers: units, order of coins, costs, and coins that cannot be traded."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.core.portfolio.covariance import FactorCovariance
from slipstream.core.portfolio.optimizer import optimize_portfolio, optimize_portfolio_with_costs
from slipstream.core.portfolio.programme import Programme, solve

seeds = st.integers(0, 10_000)


def draw(seed: int, n: int | None = None) -> Programme:
    """A plausible rebalance of up to 25 coins."""
    rng = np.random.default_rng(seed)
    n = n or int(rng.integers(4, 25))
    S = FactorCovariance(0.02 * rng.normal(size=(n, 3)), rng.uniform(0.01, 0.05, n) ** 2)
    beta, hi = rng.uniform(0.3, 1.7, (n, 1)), np.full(n, float(rng.choice([0.1, 0.3, 5.0])))
    held = 0.1 * rng.normal(size=n) * (rng.random(n) < 0.6)
    c, lam = rng.uniform(1e-4, 1e-3, n), rng.uniform(5e-4, 5e-3, n)
    return Programme(4e-3 * rng.normal(size=n), beta, S, held, c, lam, -hi, hi, float(rng.choice([0.5, 1.0, 3.0])))


def value(p: Programme, w: np.ndarray) -> float:
    d = np.abs(w - p.held)
    risk = 0.5 * p.risk_aversion * w @ p.covariance.times(w)
    return float(p.alpha @ w - risk - p.linear @ d - p.impact @ d**1.5)


def best(p: Programme) -> np.ndarray:
    answer = solve(p)
    assert answer.certified, answer.message
    return answer.w


@given(seeds)
def test_the_order_of_coins_does_not_matter(seed):
    p = draw(seed)
    order = np.random.default_rng(seed).permutation(len(p.alpha))
    S = FactorCovariance(p.covariance.exposures[order], p.covariance.idio_var[order])
    fields = ("alpha", "neutral", "held", "linear", "impact", "lo", "hi")
    shuffled = replace(p, covariance=S, **{name: getattr(p, name)[order] for name in fields})
    np.testing.assert_allclose(best(shuffled), best(p)[order], rtol=0.0, atol=1e-9)


@given(seeds, st.floats(1e-6, 1e6))
def test_the_unit_of_returns_does_not_matter(seed, k):
    """Alpha, risk and costs in per cent, basis points or anything: the weights are the same."""
    p = draw(seed)
    scaled = replace(p, alpha=k * p.alpha, linear=k * p.linear, impact=k * p.impact, risk_aversion=k * p.risk_aversion)
    np.testing.assert_allclose(best(scaled), best(p), rtol=0.0, atol=1e-9)


@given(seeds, st.floats(1e-4, 1e4))
def test_the_unit_of_weights_does_not_matter(seed, k):
    """A k times larger unit of account scales every weight by k; impact per unit falls with its square root."""
    p = draw(seed)
    scaled = replace(
        p,
        held=k * p.held,
        lo=k * p.lo,
        hi=k * p.hi,
        gross_cap=k * p.gross_cap,
        risk_aversion=p.risk_aversion / k,
        impact=p.impact / np.sqrt(k),
    )
    np.testing.assert_allclose(best(scaled), k * best(p), rtol=0.0, atol=1e-9 * k)


@given(seeds, st.booleans())
def test_the_sign_of_everything_does_not_matter(seed, dense):
    p = draw(seed)
    p = replace(p, covariance=p.covariance.dense()) if dense else p
    mirrored = replace(p, alpha=-p.alpha, held=-p.held, lo=-p.hi, hi=-p.lo)
    np.testing.assert_allclose(best(mirrored), -best(p), rtol=0.0, atol=1e-12)


@given(seeds, st.floats(1.0, 10.0))
def test_dearer_trading_never_raises_the_value_and_cheaper_never_lowers_it(seed, factor):
    p = draw(seed)
    dear = replace(p, linear=factor * p.linear, impact=factor * p.impact)
    assert value(dear, best(dear)) <= value(p, best(p)) + 1e-14
    assert value(p, best(p)) >= value(p, best(dear)) - 1e-14


@given(seeds)
def test_nothing_is_traded_where_costs_exceed_any_gain(seed):
    """From a feasible book; bit for bit the same, so that no order of dust is ever sent."""
    p = draw(seed)
    held = 0.5 * best(p)
    dear = replace(p, held=held, linear=np.full(len(held), 1.0))
    assert (best(dear) == held).all()


@given(seeds)
def test_a_coin_not_worth_trading_keeps_exactly_its_weight(seed):
    """Trading twice in a row trades the second time only what impact left undone: most coins not at all."""
    p = replace(draw(seed, n=20), impact=np.zeros(20))
    first = best(p)
    assert (best(replace(p, held=first)) == first).all()


@given(seeds, st.floats(-0.05, 0.05), st.floats(-1e-2, 1e-2), st.booleans())
def test_adding_an_untradable_coin_changes_nothing_but_what_its_own_weight_must(seed, weight, alpha, held_at_zero):
    p = draw(seed)
    n = len(p.alpha)
    weight = 0.0 if held_at_zero else weight
    S = FactorCovariance(np.vstack([p.covariance.exposures, np.zeros((1, 3))]), np.append(p.covariance.idio_var, 1e-3))
    common = {"leverage": p.gross_cap + abs(weight), "risk_aversion": 1.0, "max_weight": float(p.hi[0])}
    w, info = optimize_portfolio_with_costs(
        np.append(p.alpha, alpha),
        np.append(p.neutral[:, 0], 0.0),
        S,
        np.append(p.held, weight),
        np.append(p.linear, np.inf),
        np.append(p.impact, 0.0),
        **common,
    )
    assert w[n] == weight
    np.testing.assert_allclose(w[:n], best(p), rtol=0.0, atol=1e-10)
    assert np.isfinite(info["net_objective"])


@given(seeds, st.integers(0, 3))
def test_a_dependent_neutrality_adds_nothing(seed, copies):
    p = draw(seed)
    more = np.hstack([p.neutral, *([-3.0 * p.neutral] * copies)])
    np.testing.assert_allclose(best(replace(p, neutral=more)), best(p), rtol=0.0, atol=1e-12)


@given(seeds)
def test_alpha_along_beta_is_worth_nothing_to_a_neutral_book(seed):
    p = draw(seed)
    tilted = replace(p, alpha=p.alpha + 0.01 * p.neutral[:, 0])
    np.testing.assert_allclose(best(tilted), best(p), rtol=0.0, atol=1e-9)


@given(seeds)
def test_cash_stays_cash_without_alpha(seed):
    p = draw(seed)
    nothing = np.zeros(len(p.alpha))
    assert (best(replace(p, alpha=nothing, held=nothing)) == 0.0).all()
    assert (optimize_portfolio(nothing, p.neutral, p.covariance) == 0.0).all()


@given(seeds)
def test_free_trading_without_bounds_is_the_closed_form(seed):
    p = draw(seed)
    free = replace(p, linear=0.0 * p.linear, impact=0.0 * p.impact, lo=-1e3 + 0.0 * p.lo, hi=1e3 + 0.0 * p.hi)
    kelly = optimize_portfolio(p.alpha, p.neutral, p.covariance, 1e6, scale="kelly")
    np.testing.assert_allclose(best(replace(free, gross_cap=1e6)), kelly, rtol=2e-6, atol=1e-6)


@given(seeds, st.integers(2, 3))
def test_every_column_of_beta_is_neutralised_in_the_closed_form(seed, k):
    p = draw(seed, n=12)
    B = np.random.default_rng(seed).normal(size=(12, k))
    for covariance in (p.covariance, p.covariance.dense()):
        w = optimize_portfolio(p.alpha, B, covariance, 1.0)
        assert np.abs(B.T @ w).max() < 1e-12
        assert np.abs(w).sum() == pytest.approx(1.0, abs=1e-12)


@given(seeds)
def test_capital_among_strategies_is_the_same_programme(seed):
    """Long-only caps, move costs and no neutrality: the allocator's problem; its own conditions hold."""
    rng = np.random.default_rng(seed)
    n = 6
    X = rng.normal(size=(60, n)) * rng.uniform(0.1, 0.4, n)
    mean, S = rng.normal(0.2, 0.3, n), np.cov(X.T)
    previous, cap = rng.dirichlet(np.ones(n)) * 0.8, np.full(n, 0.3)
    move = np.full(n, 5e-4 * 365.25 / 30.0)
    p = Programme(mean, np.zeros((n, 0)), S, previous, move, np.zeros(n), np.zeros(n), cap, 1.0, 5.0)
    w = best(p)
    assert ((w >= 0.0) & (w <= 0.3)).all()
    assert w.sum() <= 1.0 + 1e-12
    slope = mean - 5.0 * S @ w
    buys = (w > previous) & (w < 0.3)
    sells = (w < previous) & (w > 0.0) & (w < 0.3)
    shadow = max(0.0, float((slope - move)[buys].max(initial=0.0)))
    if shadow > 1e-9:
        assert w.sum() == pytest.approx(1.0, abs=1e-9)
    np.testing.assert_allclose((slope - move)[buys], shadow, atol=1e-8)
    if sells.any() and w.sum() < 1.0 - 1e-9:
        np.testing.assert_allclose((slope + move)[sells], 0.0, atol=1e-8)
