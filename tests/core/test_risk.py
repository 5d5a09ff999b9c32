"""The parts of a book's volatility, and that they are its parts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.core.portfolio.covariance import FactorCovariance
from slipstream.core.portfolio.inputs import PortfolioInputError
from slipstream.core.portfolio.risk import decompose_risk


def book(coins: int, seed: int) -> tuple[np.ndarray, FactorCovariance, list[str]]:
    rng = np.random.default_rng(seed)
    S = FactorCovariance(rng.normal(0.0, 0.02, (coins, 2)), rng.uniform(0.0, 4e-4, coins))
    return rng.normal(0.0, 0.3, coins), S, [f"COIN{i}" for i in range(coins)]


@given(coins=st.integers(1, 12), seed=st.integers(0, 1000))
def test_contributions_sum_to_the_volatility_and_shares_to_one(coins: int, seed: int) -> None:
    w, S, names = book(coins, seed)
    table = decompose_risk(w, S, names)
    sigma = np.sqrt(w @ S.dense() @ w)
    assert table["contribution"].sum() == pytest.approx(sigma, rel=1e-12)
    assert table["pct_contribution"].sum() == pytest.approx(1.0, rel=1e-12)
    np.testing.assert_allclose(table["contribution"], table["weight"] * table["mcr"], rtol=1e-12)
    shares = table["pct_contribution"].abs().to_numpy()
    assert (np.diff(shares) <= 0.0).all()
    np.testing.assert_array_equal(table.loc[names, "weight"], w)


@given(coins=st.integers(1, 12), seed=st.integers(0, 1000))
def test_the_factor_form_equals_the_dense_one(coins: int, seed: int) -> None:
    w, S, names = book(coins, seed)
    factor, dense = decompose_risk(w, S, names), decompose_risk(w, S.dense(), names)
    np.testing.assert_allclose(factor.loc[names], dense.loc[names], rtol=1e-9, atol=1e-15)


@given(seed=st.integers(0, 1000))
def test_the_marginal_contribution_is_the_slope_of_the_volatility(seed: int) -> None:
    w, S, names = book(5, seed)
    table = decompose_risk(w, S, names)
    for i, name in enumerate(names):
        step = 1e-6 * np.eye(5)[i]
        up, down = (float(np.sqrt((w + s) @ S.dense() @ (w + s))) for s in (step, -step))
        assert table.loc[name, "mcr"] == pytest.approx((up - down) / 2e-6, rel=1e-4, abs=1e-8)


def test_a_worked_example() -> None:
    """Long one, short half of a coin that moves with it: the hedge takes risk away."""
    S = np.array([[0.04, 0.03], [0.03, 0.09]])
    table = decompose_risk([1.0, -0.5], S, ["ALT", "BTC"])
    sigma = np.sqrt(0.04 - 2 * 0.5 * 0.03 + 0.25 * 0.09)
    assert table.index.tolist() == ["ALT", "BTC"]
    assert table.loc["ALT", "mcr"] == pytest.approx((0.04 - 0.015) / sigma)
    assert table.loc["BTC", "contribution"] == pytest.approx(-0.5 * (0.03 - 0.045) / sigma)
    hedged = decompose_risk([1.0, -0.3], S, ["ALT", "BTC"])
    assert hedged.loc["BTC", "contribution"] < 0.0 < hedged.loc["ALT", "contribution"]
    assert list(table.columns) == ["weight", "mcr", "contribution", "pct_contribution"]


def test_a_book_of_nothing_has_zeros_and_so_has_one_without_variance() -> None:
    _, S, names = book(4, 1)
    empty = decompose_risk(np.zeros(4), S, names)
    assert (empty.to_numpy() == 0.0).all()
    assert empty.index.tolist() == names
    riskless = decompose_risk([1.0, 0.0], np.diag([0.0, 1.0]), ["CASH", "BTC"])
    np.testing.assert_array_equal(riskless[["mcr", "contribution", "pct_contribution"]], 0.0)
    perfect = decompose_risk([1.0, -1.0], np.ones((2, 2)), ["A", "B"])
    assert (perfect["contribution"] == 0.0).all()


def test_a_coin_too_young_to_be_measured_matters_only_if_it_is_held() -> None:
    S = np.array([[0.04, np.nan], [np.nan, np.nan]])
    table = decompose_risk([0.5, 0.0], S, ["BTC", "NEW"])
    assert table["contribution"].tolist() == pytest.approx([0.1, 0.0])
    assert np.isnan(table.loc["NEW", "mcr"])
    with pytest.raises(PortfolioInputError, match=r"S\[0,1\] is nan and both coins are held"):
        decompose_risk([0.5, 0.1], S, ["BTC", "NEW"])


def test_what_does_not_fit_is_refused() -> None:
    w, S, names = book(3, 1)
    with pytest.raises(PortfolioInputError, match="expected 3"):
        decompose_risk(w, S, names[:2])
    with pytest.raises(PortfolioInputError, match="2 distinct"):
        decompose_risk(w, S, ["A", "A", "B"])
    with pytest.raises(PortfolioInputError, match="S covers 3 coins and w 2"):
        decompose_risk(w[:2], S, names[:2])
    with pytest.raises(PortfolioInputError, match="not positive semi-definite"):
        decompose_risk([1.0, -1.0], np.array([[1.0, 2.0], [2.0, 1.0]]), ["A", "B"])
    with pytest.raises(PortfolioInputError, match="S is not symmetric"):
        decompose_risk([1.0, -1.0], np.array([[1.0, 0.5], [0.0, 1.0]]), ["A", "B"])
