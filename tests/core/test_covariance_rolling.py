"""The covariance brought forward through a backtest is the one a fresh estimate would give, and knows no future."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.core.portfolio.covariance import CovarianceError
from slipstream.core.portfolio.estimators import estimate_covariance, has_history
from slipstream.core.portfolio.iewma import Iewma
from slipstream.core.portfolio.rolling_covariance import RollingCovariance
from slipstream.portfolio import BacktestConfig, run_backtest

SETTINGS = {"lookback_hours": 120, "min_hours": 30, "iewma": Iewma(48, 96, 3)}


def history(rows: int = 400, coins: int = 6, seed: int = 42) -> np.ndarray:
    """Returns with holes, one late listing, one early end and one coin that never traded."""
    rng = np.random.default_rng(seed)
    returns = rng.normal(0.0, 0.006, (rows, 1)) * rng.uniform(0.5, 1.5, coins) + rng.normal(0.0, 0.006, (rows, coins))
    returns[rng.random(returns.shape) < 0.02] = np.nan
    returns[: rows // 2, 1] = np.nan
    returns[rows // 2 :, 2] = np.nan
    returns[:, 3] = np.nan
    return returns


def test_at_every_decision_it_equals_a_fresh_estimate_of_the_rows_so_far() -> None:
    returns = history()
    rolling = RollingCovariance(returns, **SETTINGS, horizon_hours=8)
    for row in range(40, 400, 8):
        got = rolling.at(row)
        past = returns[: row + 1]
        mask = has_history(past, lookback_hours=120, min_hours=30)
        np.testing.assert_array_equal(got.known, mask)
        fresh = estimate_covariance(past[:, mask], **SETTINGS, horizon_hours=8)
        np.testing.assert_allclose(got.covariance.dense(), fresh.dense(), rtol=1e-8, atol=1e-14)


@given(cut=st.integers(50, 399), seed=st.integers(0, 1000))
def test_no_row_after_the_decision_changes_a_bit_of_it(cut: int, seed: int) -> None:
    returns = history(seed=seed)
    other = returns.copy()
    other[cut + 1 :] = np.random.default_rng(seed).uniform(-0.9, 0.9, other[cut + 1 :].shape)
    questions = [*range(40, cut, 24), cut]
    answers = []
    for given_rows in (returns, other, returns[: cut + 1]):
        rolling = RollingCovariance(given_rows, **SETTINGS)
        answers.append([rolling.at(row) for row in questions])
    for original, changed, prefix in zip(*answers, strict=True):
        for variant in (changed, prefix):
            np.testing.assert_array_equal(variant.known, original.known)
            np.testing.assert_array_equal(variant.covariance.exposures, original.covariance.exposures)
            np.testing.assert_array_equal(variant.covariance.idio_var, original.covariance.idio_var)


@given(rows=st.lists(st.integers(30, 399), min_size=1, max_size=8))
def test_the_order_of_the_questions_does_not_change_the_answers(rows: list[int]) -> None:
    returns = history()
    rolling = RollingCovariance(returns, **SETTINGS)
    for row in rows:
        fresh = RollingCovariance(returns, **SETTINGS).at(row)
        got = rolling.at(row)
        np.testing.assert_array_equal(got.known, fresh.known)
        np.testing.assert_allclose(got.dense(), fresh.dense(), rtol=1e-8, atol=1e-14)


def test_nothing_is_left_of_rows_that_left_the_lookback() -> None:
    """A thousand decisions after a wild spell, the correlations are those of a history without it."""
    rng = np.random.default_rng(42)
    returns = rng.normal(0.0, 0.01, (1500, 1)) + rng.normal(0.0, 0.01, (1500, 4))
    wild = returns.copy()
    wild[:300, 0] *= -1.0
    a, b = (RollingCovariance(x, **SETTINGS) for x in (returns, wild))
    for row in range(100, 1500):
        last = a.at(row), b.at(row)
    np.testing.assert_allclose(last[0].dense(), last[1].dense(), rtol=1e-6)


def test_coins_come_in_when_they_have_the_hours_and_go_out_when_they_ended() -> None:
    rolling = RollingCovariance(history(), **SETTINGS)
    assert rolling.at(20).known.tolist() == [False] * 6
    assert rolling.at(20).covariance.n_assets == 0
    assert rolling.at(180).known.tolist() == [True, False, True, False, True, True]
    assert rolling.at(399).known.tolist() == [True, True, False, False, True, True]
    matrix = rolling.at(399).dense()
    assert np.isnan(matrix[2]).all()
    assert np.isnan(matrix[:, 3]).all()
    np.testing.assert_array_equal(np.isfinite(np.diag(matrix)), rolling.at(399).known)


def test_a_backtest_takes_the_dated_matrices() -> None:
    returns = np.nan_to_num(history()[:, [0, 4, 5]])
    index = pd.date_range("2025-01-01", periods=len(returns), freq="h", tz="UTC")
    frame = pd.DataFrame(returns, index=index, columns=["A", "B", "C"])
    rolling = RollingCovariance(frame, **SETTINGS, horizon_hours=8)
    alpha = frame * 0.0 + [0.003, -0.001, 0.002]
    config = BacktestConfig(H=8, start_date="2025-01-06", min_history_hours=72, use_costs=False, risk_aversion=300.0)
    moving = run_backtest(config, alpha, 0 * alpha, np.ones(3), rolling.dated(range(72, 400, 8)), frame, 0 * frame)
    still = run_backtest(config, alpha, 0 * alpha, np.ones(3), rolling.at(399).dense(), frame, 0 * frame)
    assert moving.metrics["n_failed"] == 0
    assert np.abs(moving.weights).sum() > 0.0
    assert np.abs(moving.weights - still.weights).max() > 1e-6


def test_a_row_outside_the_history_is_refused() -> None:
    rolling = RollingCovariance(history(), **SETTINGS)
    for row in (-1, 400):
        with pytest.raises(CovarianceError, match="outside the history's 400 rows"):
            rolling.at(row)
