"""Densities of returns under a forecast covariance, and the regret against hindsight."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.core.portfolio.covariance import CovarianceError, FactorCovariance
from slipstream.core.portfolio.likelihood import gaussian_log_likelihood, hindsight_log_likelihood, regret


def setting(coins: int = 5, factors: int = 2, rows: int = 40, seed: int = 42) -> tuple[np.ndarray, FactorCovariance]:
    rng = np.random.default_rng(seed)
    S = FactorCovariance(rng.normal(0.0, 0.01, (coins, factors)), rng.uniform(1e-5, 1e-4, coins))
    return rng.multivariate_normal(np.zeros(coins), S.dense(), rows), S


@given(coins=st.integers(1, 8), factors=st.integers(0, 4), seed=st.integers(0, 1000))
def test_the_density_is_the_textbook_one_in_factor_form_and_dense(coins: int, factors: int, seed: int) -> None:
    from scipy.stats import multivariate_normal

    returns, S = setting(coins, factors, seed=seed)
    expected = np.atleast_1d(multivariate_normal(np.zeros(coins), S.dense()).logpdf(returns))
    np.testing.assert_allclose(gaussian_log_likelihood(returns, S), expected, rtol=1e-9)
    np.testing.assert_allclose(gaussian_log_likelihood(returns, S.dense()), expected, rtol=1e-9)


@given(seed=st.integers(0, 1000), share=st.sampled_from([0.1, 0.5, 1.0]))
def test_a_missing_return_leaves_the_density_of_the_others(seed: int, share: float) -> None:
    returns, S = setting(seed=seed)
    returns[np.random.default_rng(seed).random(returns.shape) < share] = np.nan
    for form in (S, S.dense()):
        got = gaussian_log_likelihood(returns, form)
        for row, density in zip(returns, got, strict=True):
            there = ~np.isnan(row)
            part = S.dense()[np.ix_(there, there)]
            expected = gaussian_log_likelihood(row[None, there], part)[0] if there.any() else 0.0
            assert density == pytest.approx(expected, rel=1e-9)


@given(seed=st.integers(0, 1000))
def test_no_constant_covariance_beats_hindsight(seed: int) -> None:
    returns, S = setting(seed=seed)
    best = hindsight_log_likelihood(returns).sum()
    for candidate in (S, np.cov(returns.T), np.diag(returns.var(axis=0)), 1.05 * (returns.T @ returns / 40)):
        assert gaussian_log_likelihood(returns, candidate).sum() < best
        assert regret(gaussian_log_likelihood(returns, candidate), returns) > 0.0


def test_a_forecast_that_follows_the_market_beats_hindsight() -> None:
    rng = np.random.default_rng(42)
    returns = np.vstack([rng.normal(0.0, 0.001, (500, 2)), rng.normal(0.0, 0.02, (500, 2))])
    followed = [
        gaussian_log_likelihood(part, s**2 * np.eye(2)) for part, s in ((returns[:500], 0.001), (returns[500:], 0.02))
    ]
    assert regret(np.concatenate(followed), returns) < -1.0


def test_the_truth_is_likelier_than_a_covariance_of_another_size_or_direction() -> None:
    returns, S = setting(rows=4000)
    truth = gaussian_log_likelihood(returns, S).mean()
    for wrong in (0.5 * S.dense(), 2.0 * S.dense(), np.diag(S.diagonal())):
        assert gaussian_log_likelihood(returns, wrong).mean() < truth - 0.05


def test_what_has_no_density_is_refused() -> None:
    returns, S = setting()
    with pytest.raises(CovarianceError, match="not positive definite"):
        gaussian_log_likelihood(returns, np.zeros((5, 5)))
    with pytest.raises(CovarianceError, match=r"expected \(T, 5\)"):
        gaussian_log_likelihood(returns[:, :4], S)
    with pytest.raises(CovarianceError, match="5 rows of 5 coins have no best covariance"):
        hindsight_log_likelihood(returns[:5])
    returns[3, 3] = np.nan
    with pytest.raises(CovarianceError, match="complete rows"):
        hindsight_log_likelihood(returns)
