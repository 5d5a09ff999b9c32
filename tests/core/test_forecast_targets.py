"""The targets against plain loops, and the faults that earlier targets had."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.core.forecast.errors import ForecastError
from slipstream.core.forecast.targets import (
    alpha_in_money,
    forward_sum,
    funding_in_money,
    holding_bars,
    holding_targets,
    residual_return,
)

ROWS, COINS = 90, 6
BASE = 1.25e-5


def market(seed: int, factors: int = 1) -> dict[str, np.ndarray]:
    """Simple returns with gaps, betas and coefficients that change every row, some coins outside the portfolio."""
    rng = np.random.default_rng(seed)
    simple = 0.02 * rng.standard_normal((ROWS, COINS))
    simple[rng.random(simple.shape) < 0.04] = np.nan
    coef = rng.uniform(0.05, 0.4, (factors, ROWS, COINS))
    beta = rng.uniform(0.4, 1.6, (factors, ROWS, COINS))
    outside = rng.random(coef.shape) < 0.05
    coef[outside], beta[outside] = np.nan, np.nan
    coef[:, :5], beta[:, :5] = np.nan, np.nan
    funding = BASE + 2e-5 * rng.standard_normal((ROWS, COINS))
    funding[rng.random(funding.shape) < 0.01] = np.nan
    return {
        "simple_return": simple,
        "beta": beta,
        "coef": coef,
        "sigma": rng.uniform(0.005, 0.03, simple.shape),
        "funding": funding,
        "funding_sigma": rng.uniform(2.5e-6, 5e-5, simple.shape),
    }


def slow_residual(m: dict[str, np.ndarray], t: int, i: int, bars: int) -> float:
    """sum over the holding period of R - sum_j beta_j f_j, one bar at a time."""
    total = 0.0
    for s in range(t + 1, t + bars + 1):
        if s >= ROWS:
            return np.nan
        residual = m["simple_return"][s, i]
        for c, b in zip(m["coef"][:, t], m["beta"][:, t], strict=True):
            inside = np.isfinite(c) & np.isfinite(b)
            there = inside & np.isfinite(m["simple_return"][s])
            all_of_it, here = (c * b)[inside].sum(), (c * b)[there].sum()
            if not all_of_it > 0 or here / all_of_it < 0.6:
                return np.nan
            residual -= b[i] * (c * m["simple_return"][s])[there].sum() / (here / all_of_it)
        total += residual
    return total


@pytest.mark.parametrize(("bars", "factors"), [(1, 1), (4, 1), (7, 3)])
def test_the_targets_are_those_of_a_plain_loop(bars: int, factors: int) -> None:
    m = market(5, factors)
    got = holding_targets(**m, horizon_hours=4 * bars, bar_hours=4)
    price = np.array([[slow_residual(m, t, i, bars) for i in range(COINS)] for t in range(ROWS)])
    paid = np.array(
        [
            [m["funding"][t + 1 : t + 1 + bars, i].sum() if t + bars < ROWS else np.nan for i in range(COINS)]
            for t in range(ROWS)
        ]
    )
    assert 0.2 < np.isfinite(price).mean() < 0.95
    np.testing.assert_allclose(got.price_return, price, rtol=0, atol=1e-14)
    np.testing.assert_allclose(got.funding_paid, paid, rtol=0, atol=1e-16)
    np.testing.assert_allclose(got.alpha, np.clip(price / (m["sigma"] * bars**0.5), -10, 10), rtol=1e-12, atol=1e-12)
    in_sigma = (paid - 4 * bars * BASE) / (m["funding_sigma"] * bars)
    np.testing.assert_allclose(got.funding, np.clip(in_sigma, -10, 10), rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(got.total_return, got.price_return - got.funding_paid)


def test_every_bar_of_the_holding_period_enters_and_none_outside_it() -> None:
    m = market(1)
    m["simple_return"], m["funding"] = np.zeros((ROWS, COINS)), np.zeros((ROWS, COINS))
    for values in (m["coef"], m["beta"]):
        values[:] = 0.5
    for late in range(-1, 10):
        moved = {**m, "simple_return": np.zeros((ROWS, COINS)), "funding": np.zeros((ROWS, COINS))}
        moved["simple_return"][40 + late, 2] = 0.01
        moved["funding"][40 + late, 2] = 1e-4
        got = holding_targets(**moved, horizon_hours=8, bar_hours=1)
        held = 1 <= late <= 8
        assert (got.price_return[40, 2] != 0.0) == held
        assert got.funding_paid[40, 2] == (1e-4 if held else 0.0)


def test_a_portfolio_that_is_hedged_at_t_stays_hedged_by_the_betas_of_t() -> None:
    """One factor drives everything; betas jump every row. Frozen betas leave what the jump did not explain."""
    rng = np.random.default_rng(3)
    true_beta = np.linspace(0.5, 1.5, COINS)
    factor = 0.01 * rng.standard_normal(ROWS)
    simple = factor[:, None] * true_beta
    beta = np.broadcast_to(true_beta, (ROWS, COINS)).copy()
    coef = np.full((ROWS, COINS), 1.0 / true_beta.sum())  # c'R = f: betas average to 1 in it
    np.testing.assert_allclose(residual_return(simple, beta, coef, 5)[:-5], 0.0, atol=1e-16)
    beta[30] += 0.3
    changed = residual_return(simple, beta, coef, 5)
    share = (coef[30] * true_beta).sum()
    np.testing.assert_allclose(changed[30], (true_beta - beta[30] * share) * factor[31:36].sum(), atol=1e-16)
    np.testing.assert_allclose(np.delete(changed[:-5], 30, axis=0), 0.0, atol=1e-16)


def test_a_coin_without_a_beta_has_no_target_and_is_not_taken_for_beta_one() -> None:
    m = market(2)
    m["beta"][0, 20, 3] = np.nan
    got = holding_targets(**m, horizon_hours=4, bar_hours=4)
    assert np.isnan(got.alpha[20, 3])
    assert np.isnan(got.price_return[20, 3])


def test_a_deviation_of_zero_gives_no_target_and_no_warning() -> None:
    m = market(2)
    m["sigma"][:] = 0.0
    m["funding_sigma"][:] = 0.0
    got = holding_targets(**m, horizon_hours=4, bar_hours=4)
    assert np.isnan(got.alpha).all()
    assert np.isnan(got.funding).all()


@given(seed=st.integers(0, 10**6), bars=st.integers(1, 6), cut=st.integers(10, 80))
def test_a_target_reads_its_holding_period_and_nothing_later(seed: int, bars: int, cut: int) -> None:
    m = market(seed)
    future = {name: values.copy() for name, values in m.items()}
    rng = np.random.default_rng(seed + 1)
    for name in ("simple_return", "funding", "sigma", "funding_sigma"):
        future[name][cut:] = rng.standard_normal(future[name][cut:].shape)
    future["beta"][:, cut:] = 7.0
    first, second = (holding_targets(**x, horizon_hours=bars, bar_hours=1) for x in (m, future))
    known = max(0, cut - bars)
    for name in ("alpha", "funding", "price_return", "funding_paid"):
        np.testing.assert_array_equal(getattr(first, name)[:known], getattr(second, name)[:known])


@given(seed=st.integers(0, 10**6), bars=st.integers(1, 12))
def test_money_is_the_way_back_from_deviations(seed: int, bars: int) -> None:
    m = market(seed)
    got = holding_targets(**m, horizon_hours=2 * bars, bar_hours=2)
    inside = np.abs(np.nan_to_num(got.alpha)) < 10.0
    money = alpha_in_money(got.alpha, m["sigma"], bars)
    np.testing.assert_allclose(money[inside], got.price_return[inside], rtol=1e-12)
    inside = np.abs(np.nan_to_num(got.funding)) < 10.0
    paid = funding_in_money(got.funding, m["funding_sigma"], 2 * bars, 2)
    np.testing.assert_allclose(paid[inside], got.funding_paid[inside], rtol=1e-9, atol=1e-18)


def test_a_rate_settled_every_eight_hours_counts_once_in_a_holding_period_of_eight() -> None:
    funding = np.zeros((64, 1))
    funding[::8] = 1e-4
    paid = forward_sum(funding, 8)
    np.testing.assert_allclose(paid[:-8], 1e-4)
    assert np.isnan(paid[-8:]).all()


def test_a_horizon_that_bars_do_not_fill_is_refused() -> None:
    assert holding_bars(24, 4) == 6
    for horizon, bar in ((6, 4), (0, 1), (4, 8)):
        with pytest.raises(ForecastError, match=f"{horizon} h does not consist of bars of {bar} h"):
            holding_bars(horizon, bar)


def test_arrays_that_do_not_fit_are_named() -> None:
    m = market(2)
    with pytest.raises(ForecastError, match="funding_sigma has shape"):
        holding_targets(**{**m, "funding_sigma": m["funding_sigma"][1:]}, horizon_hours=4, bar_hours=4)
    with pytest.raises(ForecastError, match="beta and coef"):
        holding_targets(**{**m, "beta": m["beta"][:, 1:]}, horizon_hours=4, bar_hours=4)


def test_a_history_shorter_than_the_holding_period_has_no_targets() -> None:
    assert np.isnan(forward_sum(np.ones((3, 2)), 3)).all()
    assert np.isnan(residual_return(np.ones((3, 2)), np.ones((3, 2)), np.ones((3, 2)), 5)).all()
