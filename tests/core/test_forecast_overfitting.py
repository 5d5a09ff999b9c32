"""Sharpe ratios deflated by the number of tries, against published figures, simulation and plain loops."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from scipy.stats import kurtosis, norm, skew

from slipstream.core.forecast.errors import ForecastError, NotEnoughData
from slipstream.core.forecast.overfitting import (
    backtest_overfitting,
    deflated_sharpe,
    expected_best_sharpe,
    probabilistic_sharpe,
    sharpe_probability,
)


def returns_with(skew_jump: float, seed: int = 0, n: int = 500, mean: float = 0.05) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(n)
    x[::25] += skew_jump
    return 0.01 * (x - x.mean() + mean)


def test_on_normal_returns_it_is_the_probability_of_the_t_statistic() -> None:
    x = returns_with(0.0)
    sharpe = x.mean() / x.std(ddof=1)
    z = sharpe * np.sqrt(499) / np.sqrt(1.0 + 0.5 * sharpe**2)
    exact = (
        sharpe * np.sqrt(499) / np.sqrt(1.0 - skew(x) * sharpe + (kurtosis(x, fisher=False) - 1.0) / 4.0 * sharpe**2)
    )
    assert probabilistic_sharpe(x) == pytest.approx(norm.cdf(exact), abs=1e-12)
    assert probabilistic_sharpe(x) == pytest.approx(norm.cdf(z), abs=0.01)
    assert probabilistic_sharpe(x, benchmark=sharpe) == pytest.approx(0.5)


def test_crashes_make_the_same_sharpe_less_sure_and_jumps_up_more() -> None:
    crash, calm, jump = (returns_with(size, mean=0.3) for size in (-6.0, 0.0, 6.0))
    scaled = [x / x.std(ddof=1) for x in (crash, calm, jump)]
    levelled = [x - x.mean() + 0.1 for x in scaled]
    low, middle, high = (probabilistic_sharpe(x) for x in levelled)
    assert low < middle < high


def test_the_best_of_many_lucky_tries_is_as_good_as_simulated() -> None:
    rng = np.random.default_rng(1)
    for trials in (5, 50, 1000):
        simulated = rng.standard_normal((4000, trials)).max(axis=1).mean()
        assert expected_best_sharpe(trials, 1.0) == pytest.approx(simulated, rel=0.05)
    assert expected_best_sharpe(50, 4.0) == pytest.approx(2.0 * expected_best_sharpe(50, 1.0))
    assert expected_best_sharpe(1, 1.0) == 0.0


def test_the_published_example_is_reproduced() -> None:
    """Bailey and Lopez de Prado (2014): 100 tries of annual variance 1/2 over 1250 days, SR 2.5, skew -3, kurtosis 10.

    The best of them is expected at 0.1132 a day, and the probability is 0.9004.
    """
    assert expected_best_sharpe(100, 0.5 / 250) == pytest.approx(0.1132, abs=5e-5)
    luck = expected_best_sharpe(100, 0.5 / 250)
    assert sharpe_probability(2.5 / np.sqrt(250), 1250, -3.0, 10.0, luck) == pytest.approx(0.9004, abs=1e-4)


def test_the_best_of_tries_without_edge_is_not_taken_for_one() -> None:
    rng = np.random.default_rng(2)
    deflated, plain = [], []
    for _ in range(100):
        tries = rng.standard_normal((500, 40))
        sharpes = tries.mean(axis=0) / tries.std(axis=0, ddof=1)
        best = tries[:, sharpes.argmax()]
        plain.append(probabilistic_sharpe(best))
        deflated.append(deflated_sharpe(best, 40, float(sharpes.var(ddof=1))))
    assert np.mean(np.array(plain) > 0.95) > 0.7
    assert np.mean(np.array(deflated) > 0.95) < 0.1


def slow_pbo(returns: np.ndarray, groups: int) -> float:
    size = len(returns) // groups
    pieces = [returns[g * size : (g + 1) * size] for g in range(groups)]
    below = []
    for half in combinations(range(groups), groups // 2):
        one = np.concatenate([pieces[g] for g in half])
        other = np.concatenate([pieces[g] for g in range(groups) if g not in half])
        best = (one.mean(axis=0) / one.std(axis=0)).argmax()
        score = other.mean(axis=0) / other.std(axis=0)
        rank = (score < score[best]).sum() + 1
        below.append(np.log(rank / (len(score) + 1 - rank)) <= 0.0)
    return float(np.mean(below))


def test_the_probability_of_overfitting_is_that_of_all_halves_written_out() -> None:
    returns = np.random.default_rng(3).standard_normal((203, 7)) + 0.05
    got = backtest_overfitting(returns, groups=8)
    assert len(got.logits) == 70
    assert got.probability == pytest.approx(slow_pbo(returns, 8))


def test_tries_without_edge_overfit_and_one_that_is_better_does_not() -> None:
    rng = np.random.default_rng(4)
    noise = [backtest_overfitting(rng.standard_normal((320, 20)), 8).probability for _ in range(30)]
    assert 0.35 < np.mean(noise) < 0.65
    better = rng.standard_normal((320, 20))
    better[:, 3] += 0.5
    got = backtest_overfitting(better, 8)
    assert got.probability < 0.02
    assert got.loss == 0.0


def test_tries_that_are_one_and_the_same_tell_nothing() -> None:
    same = np.random.default_rng(5).standard_normal((100, 1)).repeat(5, axis=1)
    assert backtest_overfitting(same, 4).probability == 1.0  # the median itself: no better than the median


def test_what_cannot_be_judged_is_refused() -> None:
    with pytest.raises(NotEnoughData, match="50 returns that do not vary"):
        probabilistic_sharpe(np.ones(50))
    with pytest.raises(NotEnoughData, match="2 returns are too few"):
        probabilistic_sharpe(np.array([1.0, 2.0, np.nan]))
    with pytest.raises(ForecastError, match="0 trials"):
        expected_best_sharpe(0, 1.0)
    with pytest.raises(ForecastError, match="even number"):
        backtest_overfitting(np.ones((100, 3)), 7)
    with pytest.raises(NotEnoughData, match="1 tries"):
        backtest_overfitting(np.ones((100, 1)))
    with pytest.raises(ForecastError, match="finite"):
        backtest_overfitting(np.full((100, 3), np.nan))
