"""What every covariance estimate must be, whatever the data look like."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.core.portfolio.covariance import CovarianceError, FactorCovariance
from slipstream.core.portfolio.estimators import ShortHistory, estimate_covariance, has_history
from slipstream.core.portfolio.iewma import Iewma, factor_loadings
from slipstream.core.portfolio.likelihood import gaussian_log_likelihood
from slipstream.core.portfolio.pairwise import pairwise_sample, positive_definite

METHODS = ("iewma", "lw", "qis", "diag")
SMALL = {"lookback_hours": 80, "min_hours": 20}
NAN = float("nan")


def dense(S: FactorCovariance | np.ndarray) -> np.ndarray:
    return S.dense() if isinstance(S, FactorCovariance) else S


def market(rows: int, coins: int, factors: int = 2, seed: int = 42) -> tuple[np.ndarray, np.ndarray]:
    """Gaussian returns of a factor model of hourly crypto's size, and its covariance."""
    rng = np.random.default_rng(seed)
    loadings = rng.normal(0.0, 0.004, (coins, factors)) + np.array([0.006] + [0.0] * (factors - 1))
    own = rng.uniform(0.003, 0.01, coins)
    returns = rng.standard_normal((rows, factors)) @ loadings.T + rng.standard_normal((rows, coins)) * own
    return returns, loadings @ loadings.T + np.diag(own**2)


@st.composite
def gapped(draw: st.DrawFn) -> np.ndarray:
    """Returns with random holes, late listings and early ends; every coin keeps 20 of the 80 rows at least."""
    coins = draw(st.integers(1, 7))
    returns, _ = market(80, coins, seed=draw(st.integers(0, 10_000)))
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    holes = rng.random(returns.shape) < draw(st.sampled_from([0.0, 0.05, 0.3]))
    for i in range(coins):
        first = draw(st.integers(0, 40))
        last = draw(st.integers(first + 40, 80))
        holes[:first, i] = holes[last:, i] = True
        spared = first + rng.permutation(last - first)[:20]
        holes[spared, i] = False
    return np.where(holes, np.nan, returns)


@pytest.mark.parametrize("method", METHODS)
@given(returns=gapped())
def test_any_gaps_give_a_symmetric_positive_semi_definite_matrix_that_keeps_the_variances(
    method: str, returns: np.ndarray
) -> None:
    S = dense(estimate_covariance(returns, **SMALL, method=method))
    np.testing.assert_array_equal(S, S.T)
    assert np.linalg.eigvalsh(S)[0] >= -1e-12 * np.trace(S)
    variance = np.nanvar(returns, axis=0, ddof=1)
    if method == "iewma":
        alone = [estimate_covariance(returns[:, [i]], **SMALL).diagonal()[0] for i in range(returns.shape[1])]
        np.testing.assert_allclose(np.diag(S), alone, rtol=1e-12)
    elif method == "qis":
        assert np.trace(S) == pytest.approx(variance.sum(), rel=1e-12)
    else:
        np.testing.assert_allclose(np.diag(S), variance, rtol=1e-12)


def test_the_repair_is_needed_and_changes_no_variance() -> None:
    """Three coins measured pair by pair in different weeks: up together, up together, and opposite."""
    rng = np.random.default_rng(42)
    moves, noise = rng.normal(0.0, 0.01, (90, 1)), rng.normal(0.0, 0.001, (90, 3))
    returns = moves * np.ones(3) + noise
    returns[60:, 2] -= 2.0 * moves[60:, 0]
    for week, out in enumerate((2, 0, 1)):
        returns[30 * week : 30 * (week + 1), out] = NAN
    sample = pairwise_sample(returns).covariance
    assert np.linalg.eigvalsh(sample)[0] < -1e-5
    repaired = positive_definite(sample)
    assert np.linalg.eigvalsh(repaired)[0] > 0.0
    np.testing.assert_array_equal(np.diag(repaired), np.diag(sample))
    assert np.sign(repaired[0, 1]) > np.sign(repaired[0, 2])


@pytest.mark.parametrize("method", ["iewma", "lw", "qis"])
def test_a_coin_listed_in_a_wild_month_gives_no_book_that_looks_riskless(method: str) -> None:
    """Over a calm year and a wild month its correlation must come from the month alone, not exceed what that holds.

    Common moves over the other coin's calm variance would be a correlation above 1, clipped to a perfect hedge.
    """
    rng = np.random.default_rng(42)
    size = np.where(np.arange(2880) < 2100, 0.003, 0.02)[:, None]
    returns = size * (rng.standard_normal((2880, 1)) + 0.5 * rng.standard_normal((2880, 4)))
    returns[:2100, 3] = NAN
    S = dense(estimate_covariance(returns, method=method))
    rho = S / np.sqrt(np.outer(np.diag(S), np.diag(S)))
    np.testing.assert_allclose(rho[3, :3], 0.8, atol=0.06)
    assert np.linalg.eigvalsh(rho)[0] > 0.12  # the truth is 0.2


@pytest.mark.parametrize("method", METHODS)
@given(returns=gapped(), seed=st.integers(0, 1000))
def test_the_order_of_the_coins_does_not_matter(method: str, returns: np.ndarray, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(returns.shape[1])
    S = dense(estimate_covariance(returns, **SMALL, method=method))
    shuffled = dense(estimate_covariance(returns[:, order], **SMALL, method=method))
    np.testing.assert_allclose(shuffled, S[np.ix_(order, order)], rtol=1e-6, atol=1e-8 * np.diag(S).max())


@pytest.mark.parametrize("method", METHODS)
@given(returns=gapped(), scale=st.floats(0.01, 20.0))
def test_returns_twice_as_large_have_four_times_the_covariance(method: str, returns: np.ndarray, scale: float) -> None:
    S = dense(estimate_covariance(returns, **SMALL, method=method))
    scaled = dense(estimate_covariance(scale * returns, **SMALL, method=method))
    np.testing.assert_allclose(scaled, scale**2 * S, rtol=1e-6, atol=1e-9 * scale**2 * np.trace(S))


@pytest.mark.parametrize("method", METHODS)
def test_the_horizon_is_counted_in_hours_and_not_in_bars(method: str) -> None:
    returns, _ = market(400, 6)
    bar = dense(estimate_covariance(returns, method=method, bar_hours=4, min_hours=80))
    day = dense(estimate_covariance(returns, method=method, bar_hours=4, min_hours=80, horizon_hours=24))
    np.testing.assert_allclose(day, 6.0 * bar, rtol=1e-12)
    one = dense(estimate_covariance(returns, method=method, bar_hours=4, min_hours=80, horizon_hours=4))
    np.testing.assert_array_equal(one, bar)


def test_a_horizon_shorter_than_the_bar_is_refused() -> None:
    returns, _ = market(400, 3)
    with pytest.raises(CovarianceError, match="horizon_hours is 1 h, shorter than one bar of 4 h"):
        estimate_covariance(returns, method="lw", bar_hours=4, min_hours=80, horizon_hours=1)


def test_the_covariance_of_net_returns_is_that_of_price_and_funding_less_both_cross_terms() -> None:
    rng = np.random.default_rng(42)
    price, _ = market(500, 5)
    funding = 0.3 * price + rng.normal(0.0, 0.002, price.shape)
    both = pairwise_sample(np.hstack([price, funding])).covariance
    S_price, S_funding, C = both[:5, :5], both[5:, 5:], both[:5, 5:]
    net = pairwise_sample(price - funding).covariance
    np.testing.assert_allclose(net, S_price + S_funding - C - C.T, rtol=0, atol=1e-18)
    variance = estimate_covariance(price, funding, min_hours=2, method="diag").diagonal()
    np.testing.assert_allclose(variance, np.diag(S_price + S_funding - C - C.T), rtol=1e-10)


@pytest.mark.parametrize("method", METHODS)
def test_funding_enters_as_a_charge_on_the_return(method: str) -> None:
    price, _ = market(400, 4)
    funding = np.random.default_rng(1).normal(0.0, 0.003, price.shape)
    with_funding = dense(estimate_covariance(price, funding, min_hours=80, method=method))
    np.testing.assert_array_equal(
        with_funding, dense(estimate_covariance(price - funding, min_hours=80, method=method))
    )
    plus = dense(estimate_covariance(price + funding, min_hours=80, method=method))
    assert np.abs(with_funding - plus).max() > 1e-9


def test_an_hour_without_a_settlement_costs_nothing_and_a_lost_settlement_costs_its_bar() -> None:
    price, _ = market(400, 2)
    eighth = np.arange(400) % 8 == 0
    funding = np.where(eighth[:, None], 1e-4, NAN) * np.ones(2)
    spelled_out = np.where(eighth[:, None], 1e-4, 0.0) * np.ones(2)
    expected = estimate_covariance(price, spelled_out, min_hours=80, method="lw")
    np.testing.assert_array_equal(estimate_covariance(price, funding, min_hours=80, method="lw"), expected)
    funding[360, 1] = NAN
    without = price - spelled_out
    without[360, 1] = NAN
    np.testing.assert_array_equal(
        estimate_covariance(price, funding, min_hours=80, method="lw"),
        estimate_covariance(without, min_hours=80, method="lw"),
    )


def test_coins_without_enough_hours_are_named_and_told_beforehand() -> None:
    returns, _ = market(400, 4)
    returns[:350, 1] = NAN
    returns[100:, 3] = 0.001
    frame = pd.DataFrame(
        returns, columns=["BTC", "NEW", "ETH", "HALT"], index=pd.date_range("2025-01-01", periods=400, freq="h")
    )
    with pytest.raises(ShortHistory, match=r"last 300 h, of which 100 h are needed: NEW \(50 h\), HALT \(300 h\)"):
        estimate_covariance(frame, lookback_hours=300, min_hours=100, method="lw")
    for method in METHODS:
        with pytest.raises(ShortHistory, match="NEW"):
            estimate_covariance(frame, lookback_hours=300, min_hours=100, method=method)
        mask = has_history(frame, lookback_hours=300, min_hours=100)
        assert mask.tolist() == [True, False, True, False]
        assert dense(estimate_covariance(frame.loc[:, mask], min_hours=100, method=method)).shape == (2, 2)
    # 50 bars of 4 h are 200 h
    assert has_history(returns, lookback_hours=1200, min_hours=100, bar_hours=4).tolist() == [True, True, True, False]


@pytest.mark.parametrize("method", METHODS)
def test_pandas_polars_and_arrays_give_the_same_numbers(method: str) -> None:
    returns, _ = market(200, 3)
    returns[17, 1] = NAN
    times = pd.date_range("2025-01-01", periods=200, freq="4h", tz="UTC")
    frame = pd.DataFrame(returns, index=times, columns=["A", "B", "C"])
    settings = {"lookback_hours": 600, "min_hours": 100, "method": method, "horizon_hours": 8}
    expected = dense(estimate_covariance(returns, **settings, bar_hours=4))
    np.testing.assert_array_equal(dense(estimate_covariance(frame, **settings)), expected)
    # a row that is absent is a row of missing values
    np.testing.assert_allclose(
        dense(estimate_covariance(frame.drop(times[30]), **settings)),
        dense(estimate_covariance(np.where(np.arange(200)[:, None] == 30, NAN, returns), **settings, bar_hours=4)),
        rtol=1e-12,
    )
    wide = pl.DataFrame({"ts": times.to_list(), **{name: frame[name].to_numpy() for name in frame}})
    np.testing.assert_array_equal(dense(estimate_covariance(wide, **settings)), expected)


def test_funding_is_matched_by_name_and_a_coin_without_funding_is_named() -> None:
    returns, _ = market(200, 3)
    times = pd.date_range("2025-01-01", periods=200, freq="h", tz="UTC")
    frame = pd.DataFrame(returns, index=times, columns=["A", "B", "C"])
    funding = 0.2 * frame[["C", "A", "B"]].assign(OTHER=1.0)
    got = estimate_covariance(frame, funding, min_hours=100, method="lw")
    np.testing.assert_allclose(got, 0.64 * estimate_covariance(frame, min_hours=100, method="lw"), rtol=1e-9)
    with pytest.raises(CovarianceError, match="funding lacks 'B'"):
        estimate_covariance(frame, funding.drop(columns="B"), min_hours=100)


@pytest.mark.parametrize("method", ["lw", "qis", "diag"])
def test_nothing_older_than_the_lookback_counts(method: str) -> None:
    returns, _ = market(400, 5)
    other = np.vstack([5.0 * returns[:300], returns[300:]])
    settings = {"lookback_hours": 100, "min_hours": 50, "method": method}
    np.testing.assert_array_equal(
        dense(estimate_covariance(other, **settings)), dense(estimate_covariance(returns, **settings))
    )


@pytest.mark.parametrize("method", ["iewma", "lw", "qis"])
def test_coins_that_never_traded_side_by_side_are_taken_to_be_as_correlated_as_the_others(method: str) -> None:
    """Zero would call a book that is long both diversified."""
    rng = np.random.default_rng(42)
    returns = rng.normal(0.0, 0.01, (600, 1)) + rng.normal(0.0, 0.005, (600, 5))
    returns[300:, 0] = NAN
    returns[:300, 1] = NAN
    settings = Iewma(500, 500, 1) if method == "iewma" else None
    S = dense(estimate_covariance(returns, lookback_hours=600, min_hours=100, method=method, iewma=settings))
    rho = S / np.sqrt(np.outer(np.diag(S), np.diag(S)))
    assert rho[0, 1] == pytest.approx(0.8, abs=0.08)


@pytest.mark.parametrize("factors", [3, 12])
def test_a_planted_factor_model_is_recovered_better_than_by_the_sample_or_by_plain_components(factors: int) -> None:
    """Out of sample, by likelihood. Asked for more factors than there are, plain components fit the noise."""
    whole, truth = market(1300, 60, factors=3)
    past, future = whole[:300], whole[300:]

    def score(covariance: FactorCovariance | np.ndarray) -> float:
        return float(gaussian_log_likelihood(future, covariance).mean())

    slow = Iewma(volatility_half_life_hours=1e5, correlation_half_life_hours=1e5, factors=factors)
    S = estimate_covariance(past, min_hours=100, iewma=slow)
    assert isinstance(S, FactorCovariance)
    assert S.n_factors == factors
    planted, ours, sample = score(truth), score(S), score(np.cov(past.T))
    assert sample + 2.0 < ours < planted
    assert planted - ours < (0.15 if factors == 3 else 0.4) * (planted - sample)
    values, vectors = np.linalg.eigh(np.corrcoef(past.T))
    plain = (vectors[:, -factors:] * values[-factors:]) @ vectors[:, -factors:].T
    plain[np.diag_indices(60)] = 1.0
    sigma = past.std(axis=0)
    assert ours > score(plain * np.outer(sigma, sigma)) + (0.02 if factors == 3 else 1.0)


@pytest.mark.parametrize("coins", [2, 3, 10])
@pytest.mark.parametrize("rho", [0.0, 0.3, 0.9])
def test_one_factor_is_exact_where_every_pair_is_equally_correlated(coins: int, rho: float) -> None:
    """Plain principal components would say (1 + rho) / 2 for two coins."""
    correlations = np.full((coins, coins), rho) + (1.0 - rho) * np.eye(coins)
    loadings = factor_loadings(correlations, 1)
    np.testing.assert_allclose(loadings @ loadings.T + (1 - rho) * np.eye(coins), correlations, atol=1e-9)


def test_more_factors_than_coins_and_perfectly_correlated_coins_still_leave_each_coin_a_risk_of_its_own() -> None:
    returns, _ = market(300, 1)
    twins = np.hstack([returns, 2.0 * returns, 3.0 * returns])
    S = estimate_covariance(twins, min_hours=100, iewma=Iewma(factors=10))
    assert isinstance(S, FactorCovariance)
    assert S.n_factors == 2
    assert (S.idio_var > 0.0).all()
    hedge = np.array([2.0, -1.0, 0.0])
    assert hedge @ S.times(hedge) > 0.0
    alone = estimate_covariance(returns, min_hours=100)
    assert isinstance(alone, FactorCovariance)
    assert alone.n_factors == 0


def test_a_quiet_week_lowers_the_variances_of_iewma_and_leaves_its_correlations() -> None:
    returns, _ = market(2880, 6)
    calm = returns.copy()
    calm[-168:] *= 0.25
    S, T = (estimate_covariance(x) for x in (returns, calm))
    assert isinstance(S, FactorCovariance)
    assert isinstance(T, FactorCovariance)
    assert (T.diagonal() < 0.65 * S.diagonal()).all()

    def rho(C: FactorCovariance) -> np.ndarray:
        return C.dense() / np.sqrt(np.outer(C.diagonal(), C.diagonal()))

    assert np.abs(rho(S) - rho(T)).max() < 0.15


def test_a_halted_coin_keeps_a_quarter_of_its_volatility() -> None:
    returns, _ = market(2880, 4)
    sigma = returns[:, 1].std()
    returns[-1000:, 1] = 0.0
    S = estimate_covariance(returns, iewma=Iewma(volatility_half_life_hours=24))
    assert isinstance(S, FactorCovariance)
    assert 0.18 * sigma < np.sqrt(S.diagonal()[1]) < 0.3 * sigma


def test_a_wick_does_not_decide_the_correlations() -> None:
    returns, _ = market(2880, 4)
    wild = returns.copy()
    wild[2700, 0], wild[2700, 1] = 0.9, -0.6
    S, T = (dense(estimate_covariance(x)) for x in (returns, wild))

    def rho(C: np.ndarray) -> float:
        return float(C[0, 1] / np.sqrt(C[0, 0] * C[1, 1]))

    assert abs(rho(T) - rho(S)) < 0.1
    assert np.corrcoef(wild[:, :2].T)[0, 1] < 0.0 < rho(T)


def test_requests_that_cannot_be_answered_say_why() -> None:
    returns, _ = market(300, 3)
    with pytest.raises(CovarianceError, match="method is 'ewma'; use one of iewma, lw, qis, diag"):
        estimate_covariance(returns, method="ewma")
    with pytest.raises(CovarianceError, match="min_hours is 720; it lies between 0 and lookback_hours, 100"):
        estimate_covariance(returns, lookback_hours=100)
    with pytest.raises(CovarianceError, match="iewma settings were given and the method is 'lw'"):
        estimate_covariance(returns, method="lw", iewma=Iewma())
    with pytest.raises(CovarianceError, match="a half-life is positive hours"):
        Iewma(volatility_half_life_hours=0.0)
    returns[7, 2] = -1.2
    with pytest.raises(CovarianceError, match=r"row 7: the value for 2 is -1\.2; a simple return is above -1"):
        estimate_covariance(returns)


def test_on_recorded_perpetuals_the_default_predicts_better_than_the_sample(shared: Path) -> None:
    from slipstream.lake import load_panel

    panel = load_panel(shared / "data" / "hourly" / "hyperliquid_perps_1h.parquet")
    returns = np.full_like(panel.close, np.nan)
    returns[1:] = panel.close[1:] / panel.close[:-1] - 1.0
    ours = theirs = 0.0
    for row in range(3500, 5500, 240):
        past, future = returns[:row], returns[row : row + 24]
        fit = has_history(past, panel.funding[:row]) & ~np.isnan(future).any(axis=0)
        assert fit.sum() > 30
        net = future[:, fit] - panel.funding[row : row + 24, fit]
        S = estimate_covariance(past[:, fit], panel.funding[:row, fit])
        sample = positive_definite(pairwise_sample(past[-2880:, fit] - panel.funding[row - 2880 : row, fit]).covariance)
        ours += gaussian_log_likelihood(net, S).sum()
        theirs += gaussian_log_likelihood(net, sample).sum()
    assert ours > theirs
