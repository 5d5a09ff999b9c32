"""The choice of a horizon: paired, honest about having been picked."""

from __future__ import annotations

import numpy as np
import pytest

from slipstream.core.forecast.bootstrap import circular_blocks
from slipstream.core.forecast.errors import ForecastError
from slipstream.core.forecast.horizon import HorizonScores, choose_horizon, net_sharpe, net_utility_per_hour
from slipstream.core.metrics import sharpe_ratio

ROWS, BAR = 600, 4
HORIZONS = (4, 8, 24)


def books(seed: int, edge: tuple[float, float, float] = (0.0, 0.0, 0.0), shared: float = 0.0) -> dict[int, np.ndarray]:
    """Net returns per row of each horizon's start phases; ``shared`` is the part all horizons have in common."""
    rng = np.random.default_rng(seed)
    common = shared * rng.standard_normal(ROWS)
    out = {}
    for h, mean in zip(HORIZONS, edge, strict=True):
        phases = h // BAR
        out[h] = 1e-3 * (rng.standard_normal((phases, ROWS)) * 0.3 + rng.standard_normal(ROWS) + common + mean)
        for phase in range(phases):
            out[h][phase, :phase] = np.nan
    return out


def test_net_sharpe_is_the_mean_of_its_phases_in_the_sample_and_in_every_draw() -> None:
    returns = books(0, (0.1, 0.0, -0.1))
    draws = circular_blocks(ROWS, 12, 25)
    got = net_sharpe(returns, draws, BAR)
    assert got.horizons == HORIZONS
    for k, h in enumerate(HORIZONS):
        want = np.mean([sharpe_ratio(book, 8766 / BAR) for book in returns[h]])
        assert got.estimate[k] == pytest.approx(want, rel=1e-10)
        for d in (0, 24):
            times = np.repeat(np.arange(ROWS), draws.multiplicity(d))
            want = np.mean([sharpe_ratio(book[times], 8766 / BAR) for book in returns[h]])
            assert got.draws[d, k] == pytest.approx(want, rel=1e-9)


def test_utility_is_mean_less_half_the_risk_per_hour() -> None:
    returns = books(1, (0.1, 0.2, 0.3))
    got = net_utility_per_hour(returns, circular_blocks(ROWS, 12, 5), BAR, risk_aversion=5.0)
    for k, h in enumerate(HORIZONS):
        want = np.mean([np.nanmean(b) - 2.5 * np.nanvar(b, ddof=1) for b in returns[h]]) / BAR
        assert got.estimate[k] == pytest.approx(want, rel=1e-9)


def test_months_that_are_good_for_all_horizons_do_not_blur_their_difference() -> None:
    """Paired draws: a common part ten times the rest leaves the interval of the gap much as it was."""
    draws = circular_blocks(ROWS, 12, 400)
    widths = {}
    for shared in (0.0, 10.0):
        scores = net_utility_per_hour(books(2, shared=shared), draws, BAR, risk_aversion=0.0)
        choice = choose_horizon(scores)
        widths[shared] = choice.gap_high - choice.gap_low
    assert widths[10.0] == pytest.approx(widths[0.0], rel=0.1)


def test_a_horizon_that_is_truly_better_is_chosen_with_confidence() -> None:
    choice = choose_horizon(net_sharpe(books(3, (0.0, 0.6, 0.1)), circular_blocks(ROWS, 12, 500), BAR))
    assert choice.best == 8
    assert choice.confident
    assert choice.probability_best[8] > 0.99
    assert choice.gap_low > 0.0
    assert choice.claim > 0.0


def test_nothing_is_claimed_where_nothing_is_and_choices_are_rarely_confident() -> None:
    draws = circular_blocks(ROWS, 12, 300)
    choices = [choose_horizon(net_sharpe(books(seed), draws, BAR)) for seed in range(100, 200)]
    assert sum(choice.claim > 0.0 for choice in choices) <= 12
    assert sum(choice.confident for choice in choices) <= 30
    naive = sum(choice.low[choice.best] > 0.0 for choice in choices)
    assert naive <= 15


def test_the_shares_of_being_best_sum_to_one_and_intervals_hold_their_estimates() -> None:
    scores = net_sharpe(books(4, (0.05, 0.0, 0.05)), circular_blocks(ROWS, 12, 300), BAR)
    choice = choose_horizon(scores)
    assert sum(choice.probability_best.values()) == pytest.approx(1.0)
    for h, estimate in zip(scores.horizons, scores.estimate, strict=True):
        assert choice.low[h] < estimate < choice.high[h]
    order = sorted(HORIZONS, key=lambda h: -scores.estimate[HORIZONS.index(h)])
    assert [choice.best, choice.runner_up] == order[:2]
    assert choice.gap_low <= choice.gap <= choice.gap_high
    first, second = (scores.draws[:, HORIZONS.index(h)] for h in order[:2])
    assert (choice.gap_low, choice.gap_high) == tuple(np.quantile(first - second, (0.05, 0.95)))
    assert choice.confident == (choice.gap_low > 0.0)
    assert choice.claim < scores.estimate.max()


def test_one_horizon_alone_is_best_and_never_confident() -> None:
    choice = choose_horizon(net_sharpe({8: books(5, (0.0, 1.0, 0.0))[8]}, circular_blocks(ROWS, 12, 50), BAR))
    assert (choice.best, choice.runner_up, choice.confident) == (8, None, False)
    assert np.isnan(choice.gap)


def test_equal_horizons_give_the_shortest() -> None:
    assert choose_horizon(HorizonScores((4, 8), np.array([1.0, 1.0]), np.array([[1.0, 0.9], [0.9, 1.0]]))).best == 4


def test_a_book_that_never_trades_has_sharpe_zero() -> None:
    got = net_sharpe({4: np.zeros(ROWS), 8: np.full((2, ROWS), np.nan)}, circular_blocks(ROWS, 12, 20), BAR)
    np.testing.assert_array_equal(got.estimate, 0.0)
    np.testing.assert_array_equal(got.draws, 0.0)


def test_horizons_that_cannot_be_compared_are_refused() -> None:
    with pytest.raises(ForecastError, match="no horizon"):
        net_sharpe({}, circular_blocks(ROWS, 12, 5), BAR)
    with pytest.raises(ForecastError, match="599 rows of sums"):
        net_sharpe({4: np.zeros(599)}, circular_blocks(ROWS, 12, 5), BAR)
    with pytest.raises(ForecastError, match="NaN"):
        choose_horizon(HorizonScores((4, 8), np.array([1.0, np.nan]), np.ones((5, 2))))
