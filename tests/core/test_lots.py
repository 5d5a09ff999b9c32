"""Whole lots: held to the exhaustive answer on small problems, and to the limits on all."""

from __future__ import annotations

import itertools
import logging
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.portfolio import FactorCovariance, round_to_lots

CAPITAL = 500.0
REACH = 5
"""Lots to either side of the ideal that the exhaustive search looks at, besides zero and the smallest positions."""


def problem(seed: int, *, coins: int | None = None) -> dict[str, Any]:
    """A neutral book of gross 1 whose lots are coarse: 0.8 % to 6 % of capital."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 5)) if coins is None else coins
    exposures, beta = rng.normal(0.0, 0.02, (n, 2)), rng.uniform(0.5, 1.5, n)
    w = rng.normal(0.0, 1.0, n)
    w -= beta * (beta @ w) / (beta @ beta)
    return {
        "w_ideal": w / np.abs(w).sum(),
        "beta": beta,
        "S": FactorCovariance(exposures, rng.uniform(1e-3, 3e-3, n)),
        "capital": CAPITAL,
        "min_trade_size": rng.uniform(4.0, 30.0, n),
    }


def exhaustive(case: dict[str, Any], tolerance: float, leverage: float) -> float:
    """Least tracking variance of all books in whole lots within the limits."""
    lot, w, S = case["min_trade_size"] / CAPITAL, case["w_ideal"], case["S"].dense()
    choices = []
    for unit, centre in zip(lot, np.floor(w / lot).astype(int), strict=True):
        least = int(np.ceil(10.0 / (unit * CAPITAL)))
        counts = {0, least, -least, *range(centre - REACH, centre + REACH + 2)}
        choices.append([n for n in counts if n == 0 or abs(n) * unit * CAPITAL >= 10.0])
    books = np.array(list(itertools.product(*choices))) * lot
    allowed = (np.abs(books @ case["beta"]) <= tolerance) & (np.abs(books).sum(axis=1) <= leverage + 1e-12)
    gap = books[allowed] - w
    return float(np.einsum("ki,ij,kj->k", gap, S, gap).min())


def test_on_small_problems_it_is_neutral_whenever_that_is_possible_and_mostly_the_exhaustive_optimum() -> None:
    ratios = []
    for seed in range(80):
        case = problem(seed)
        w, info = round_to_lots(**case, leverage=1.0, return_info=True)
        assert info["within_tolerance"], seed
        assert abs(w @ case["beta"]) <= 0.01 * (1 + 1e-9)
        assert np.abs(w).sum() <= 1.0 + 1e-9
        ratios.append(info["tracking_variance"] / exhaustive(case, 0.01, 1.0))
    assert min(ratios) >= 1.0 - 1e-9  # nothing beats the exhaustive search, unless a limit was broken
    assert np.mean(np.array(ratios) < 1.0 + 1e-9) > 0.85
    assert np.quantile(ratios, 0.95) < 2.0


@given(seed=st.integers(0, 10_000), coins=st.integers(2, 12), cap=st.floats(0.05, 0.6), leverage=st.floats(0.2, 1.2))
def test_every_answer_is_whole_lots_within_the_limits(seed: int, coins: int, cap: float, leverage: float) -> None:
    case = problem(seed, coins=coins)
    w, info = round_to_lots(**case, leverage=leverage, max_weight=cap, return_info=True)
    lot = case["min_trade_size"] / CAPITAL
    np.testing.assert_array_equal(w, info["lots"] * lot)
    held = np.abs(w[w != 0.0]) * CAPITAL
    assert held.min(initial=10.0) >= 10.0 * (1 - 1e-9)
    assert np.abs(w).max(initial=0.0) <= cap * (1 + 1e-9)
    assert info["leverage"] <= leverage * (1 + 1e-9)
    assert info["within_tolerance"] == (info["beta_exposure"] <= 0.01 * (1 + 1e-9))


def test_rounding_alone_would_have_left_the_exposure() -> None:
    left, repaired = [], []
    for seed in range(40):
        case = problem(seed, coins=8)
        lot = case["min_trade_size"] / CAPITAL
        plain = np.rint(case["w_ideal"] / lot) * lot
        plain[np.abs(plain) * CAPITAL < 10.0] = 0.0
        left.append(abs(plain @ case["beta"]))
        repaired.append(abs(round_to_lots(**case) @ case["beta"]))
    assert max(left) > 0.05
    assert max(repaired) <= 0.01 * (1 + 1e-9)


def test_a_venue_lot_is_ten_to_the_minus_decimals_units() -> None:
    prices, decimals = np.array([60_000.0, 2.5, 0.00002]), np.array([5, 1, 0])
    w = np.array([0.4, -0.3, 0.1])
    lots = round_to_lots(w, np.zeros(3), np.eye(3), 10_000.0, 10.0, prices=prices, sz_decimals=decimals)
    units = lots * 10_000.0 / prices * 10.0**decimals
    np.testing.assert_allclose(units, np.rint(units), atol=1e-6)
    np.testing.assert_allclose(lots, w, atol=0.5 * 0.6 / 10_000.0)


def test_a_position_below_the_least_notional_is_none() -> None:
    w = round_to_lots([0.0004, 0.3], [0.0, 0.0], np.eye(2), 10_000.0, 1.0)
    assert w[0] == 0.0
    assert w[1] == pytest.approx(0.3, abs=1e-12)
    assert round_to_lots([0.0004, 0.3], [0.0, 0.0], np.eye(2), 10_000.0, 1.0, min_notional=0.0)[0] != 0.0


def test_the_hole_below_the_least_notional_is_stepped_over_in_one_move() -> None:
    """Lots of 1 USD, positions of 10 USD or none: 5 USD short of neutral needs ten lots or a way round."""
    case = {"beta": [1.0, 1.0], "S": np.eye(2), "capital": 100.0, "min_trade_size": 1.0}
    w, info = round_to_lots([0.5, -0.06], **case, beta_tolerance=0.0, return_info=True)
    assert info["within_tolerance"]
    assert w[0] == pytest.approx(-w[1])
    assert all(abs(x) >= 0.10 - 1e-12 or x == 0.0 for x in w)


def test_several_exposures_are_repaired_together() -> None:
    rng = np.random.default_rng(3)
    B = rng.normal(0.0, 1.0, (30, 3))
    w = rng.normal(0.0, 1.0, 30)
    w -= B @ np.linalg.lstsq(B, w, rcond=None)[0]
    w /= np.abs(w).sum()
    S = FactorCovariance(np.zeros((30, 0)), np.full(30, 1e-3))
    rounded, info = round_to_lots(w, B, S, 5_000.0, 12.0, 0.003, return_info=True)
    assert info["within_tolerance"]
    assert np.abs(B.T @ rounded).max() <= 0.003 * (1 + 1e-9)


def test_a_tolerance_out_of_reach_is_reported_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="slipstream"):
        w, info = round_to_lots([0.5, 0.3], [1.0, 0.0], np.eye(2), 100.0, 10.0, frozen=[True, False], return_info=True)
    assert w.tolist() == [0.5, pytest.approx(0.3)]
    assert not info["within_tolerance"]
    assert info["beta_exposure"] == 0.5
    assert "whole lots leave an exposure of" in caplog.text


def test_frozen_coins_stay_as_they_are_and_the_others_hedge_them() -> None:
    case = problem(5, coins=6)
    w = case["w_ideal"].copy()
    w[2] += 0.0333  # no whole number of lots, and no longer neutral
    still = np.arange(6) == 2
    rounded, info = round_to_lots(**{**case, "w_ideal": w}, frozen=still, return_info=True)
    assert rounded[2] == w[2]
    assert info["within_tolerance"]


def test_an_empty_book_and_a_zero_book_stay_so() -> None:
    assert len(round_to_lots([], [], np.zeros((0, 0)), 1e6, 10.0)) == 0
    assert not round_to_lots(np.zeros(3), np.ones(3), np.eye(3), 1e6, 10.0).any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prices": np.ones(2)}, "prices and sz_decimals belong together"),
        ({"min_trade_size": [10.0, 0.0]}, r"min_trade_size\[1\] makes a lot that is not positive"),
        ({"w_ideal": [0.5, np.nan]}, r"w_ideal\[1\] is nan"),
        ({"capital": 0.0}, "capital is 0.0"),
    ],
)
def test_what_cannot_be_rounded_is_refused(changes: dict[str, Any], message: str) -> None:
    case = {"w_ideal": [0.5, -0.5], "beta": [1.0, 1.0], "S": np.eye(2), "capital": 1e4, "min_trade_size": 10.0}
    with pytest.raises(ValueError, match=message):
        round_to_lots(**{**case, **changes})
