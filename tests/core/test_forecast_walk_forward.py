"""No model sees what it is scored on: not the outer one, not its penalty, not through a target that reaches over."""

from __future__ import annotations

import logging
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.core.forecast.errors import ForecastError, NotEnoughData
from slipstream.core.forecast.moments import Regression, joint_moments
from slipstream.core.forecast.ridge import fit_ridge
from slipstream.core.forecast.targets import forward_sum
from slipstream.core.forecast.walk_forward import WalkForward, WalkForwardSettings, choose_penalty, walk_forward

ALL = Regression((0, 1, 2))
BAR, H = 4, 24
BARS = H // BAR
SHORT = WalkForwardSettings(min_train_days=10.0, feature_memory_hours=32.0)


def sample(seed: int, rows: int = 900, coins: int = 4, slope: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
    """Three features, and an overlapping target that the first explains a part of."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, coins, 3))
    noise = rng.standard_normal((rows, coins))
    noise[1:] += slope * x[:-1, :, 0]
    x[rng.random(x.shape) < 0.01] = np.nan
    return x, forward_sum(noise, BARS)


def run(x: np.ndarray, y: np.ndarray, settings: WalkForwardSettings = SHORT) -> WalkForward:
    return walk_forward(x, joint_moments(x, [y]), ALL, horizon_hours=H, bar_hours=BAR, settings=settings)


def slow_penalty(x: np.ndarray, y: np.ndarray, train: tuple[int, int], how: WalkForwardSettings) -> np.ndarray:
    """Validation error of each penalty, row by row: which rows t are trained on is read off the definition in hours."""
    here = np.isfinite(x).all(axis=-1) & np.isfinite(y)
    hours = np.arange(len(x)) * BAR
    edges = np.linspace(*train, how.inner_folds + 1).astype(int)
    error, n = np.zeros(len(how.penalties)), 0
    for a, b in pairwise(edges):
        fold = np.zeros(len(x), dtype=bool)
        fold[a:b] = True
        low, high = hours[a] - H, hours[b - 1] + H + how.feature_memory_hours
        kept = ~((hours > low) & (hours < high))
        kept[: train[0]], kept[train[1] :] = False, False
        known, asked = here & kept[:, None], here & fold[:, None]
        n += asked.sum()
        xt, yt = x[known], y[known]
        mean, std = xt.mean(axis=0), xt.std(axis=0)
        z = (xt - mean) / std
        for j, penalty in enumerate(how.penalties):
            b_hat = np.linalg.solve(z.T @ z / len(z) + penalty * np.eye(3), z.T @ (yt - yt.mean()) / len(z))
            guess = yt.mean() + (x[asked] - mean) / std @ b_hat
            error[j] += ((y[asked] - guess) ** 2).sum()
    return error / n


def test_the_penalty_is_that_of_folds_purged_and_embargoed_row_by_row() -> None:
    x, y = sample(1)
    train = 37, 611
    got = choose_penalty(joint_moments(x, [y]), ALL, train, horizon_hours=H, bar_hours=BAR, settings=SHORT)
    want = slow_penalty(x, y, train, SHORT)
    np.testing.assert_allclose(got.validation_mse, want, rtol=1e-10)
    assert got.penalty == SHORT.penalties[int(np.argmin(want))]


def test_each_block_is_forecast_by_a_fit_on_the_purged_rows_before_it() -> None:
    x, y = sample(2)
    result = run(x, y)
    moments = joint_moments(x, [y])
    edges = np.linspace(int(np.flatnonzero(moments.count)[0]), len(x), 11).astype(int)
    assert [block.test for block in result.blocks] == list(zip(edges[1:-1].tolist(), edges[2:].tolist(), strict=True))
    assert np.isnan(result.forecast[: edges[1]]).all()
    for block in result.scored:
        assert block.train[1] - 1 + BARS <= block.test[0] < block.train[1] + BARS  # all purged rows and no more
        assert block.fit is not None
        assert block.choice is not None
        again = fit_ridge(moments.design(moments.between(*block.train), ALL), block.choice.penalty)
        here = slice(*block.test)
        np.testing.assert_array_equal(result.forecast[here], again.predict(x[here]))
    missing = np.isnan(x).any(axis=-1)
    np.testing.assert_array_equal(np.isnan(result.forecast[edges[1] :]), missing[edges[1] :])


def test_rows_whose_target_is_still_open_are_forecast_all_the_same() -> None:
    x, y = sample(3)
    x[-BARS:] = 0.5
    assert np.isnan(y[-BARS:]).all()
    assert np.isfinite(run(x, y).forecast[-BARS:]).all()


@given(seed=st.integers(0, 10**6), block=st.integers(0, 8))
def test_neither_fit_nor_penalty_of_a_block_sees_it_or_what_reaches_into_it(seed: int, block: int) -> None:
    """Everything from the first target that overlaps the test start on is replaced: the model stays bit for bit."""
    x, y = sample(seed, rows=600)
    first = run(x, y)
    begin = first.blocks[block].test[0]
    poisoned_x, poisoned_y = x.copy(), y.copy()
    poisoned_x[begin:] = 5.0 * np.random.default_rng(seed + 1).standard_normal(x[begin:].shape)
    poisoned_y[begin - BARS + 1 :] = 1e3 * np.random.default_rng(seed + 2).standard_normal(y[begin - BARS + 1 :].shape)
    second = run(poisoned_x, poisoned_y)
    one, other = first.blocks[block], second.blocks[block]
    assert one.train == other.train
    if one.fit is not None:
        assert other.fit is not None
        assert one.fit.penalty == other.fit.penalty
        assert one.fit.intercept == other.fit.intercept
        np.testing.assert_array_equal(one.fit.coefficients, other.fit.coefficients)
    np.testing.assert_array_equal(first.forecast[:begin], second.forecast[:begin])


def test_the_last_row_whose_target_ended_is_trained_on() -> None:
    x, y = sample(4)
    first = run(x, y)
    block = first.scored[3]
    y[block.test[0] - BARS] += 100.0
    changed = run(x, y).blocks[first.blocks.index(block)]
    assert changed.fit is not None
    assert block.fit is not None
    assert changed.fit.intercept != block.fit.intercept


def test_a_feature_that_only_remembers_the_future_of_its_fold_is_not_rewarded_inside() -> None:
    """Noise features that run slowly fit an overlapping target well next door and nowhere else.

    With unpurged folds the least penalty would look best; the purged choice finds that nothing is there.
    """
    rng = np.random.default_rng(7)
    rows, coins = 900, 1
    slow = np.cumsum(rng.standard_normal((rows, coins, 3)), axis=0)
    slow = (slow - slow.mean(axis=0)) / slow.std(axis=0)
    y = forward_sum(rng.standard_normal((rows, coins)), BARS)
    choice = choose_penalty(joint_moments(slow, [y]), ALL, (0, rows), horizon_hours=H, bar_hours=BAR)
    assert choice.penalty >= 1.0


def test_a_choice_at_the_edge_of_the_grid_is_flagged_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    x, y = sample(5, slope=0.0)
    with caplog.at_level(logging.INFO):
        result = run(x, y, WalkForwardSettings(min_train_days=10.0, penalties=(1e-3, 1e-2)))
    assert all(block.choice is not None and block.choice.at_edge for block in result.scored)
    assert "penalties 0.01 lie at the edge of the grid" in caplog.text
    single = choose_penalty(
        joint_moments(x, [y]),
        ALL,
        (0, 600),
        horizon_hours=H,
        bar_hours=BAR,
        settings=WalkForwardSettings(penalties=(0.1,)),
    )
    assert not single.at_edge


def test_a_block_with_too_little_training_is_not_scored_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    x, y = sample(6)  # 150 days: blocks of 15
    with caplog.at_level(logging.WARNING):
        result = run(x, y, WalkForwardSettings(min_train_days=30.0, feature_memory_hours=32.0))
    days = [block.train_days for block in result.blocks]
    assert [block.fit is None for block in result.blocks] == [d < 30.0 for d in days]
    assert result.blocks[0].why_not == f"{days[0]:.1f} days of training, fewer than 30"
    assert np.isnan(result.forecast[slice(*result.blocks[0].test)]).all()
    assert all(block.short for block in result.blocks)
    assert f"2 of 9 blocks not scored: {days[1]:.1f} days of training, fewer than 30" in caplog.text
    assert "7 of 9 blocks trained on less than 180 days" in caplog.text


def test_a_history_that_can_score_nothing_is_refused() -> None:
    x, y = sample(7, rows=200)
    with pytest.raises(NotEnoughData, match="no block can be scored"):
        run(x, y, WalkForwardSettings())
    with pytest.raises(NotEnoughData, match="not one row"):
        run(x, np.full_like(y, np.nan))
    with pytest.raises(NotEnoughData, match="too few to choose a penalty"):
        choose_penalty(joint_moments(x, [y]), ALL, (0, 7), horizon_hours=H, bar_hours=BAR)


def test_settings_and_spans_that_make_no_sense_are_refused() -> None:
    for bad in ({"blocks": 1}, {"penalties": (0.1, 0.01)}, {"penalties": ()}, {"min_train_days": -1.0}):
        with pytest.raises(ForecastError):
            WalkForwardSettings(**bad)
    x, y = sample(8)
    with pytest.raises(ForecastError, match="cannot be cut into 10 blocks"):
        walk_forward(x, joint_moments(x, [y]), ALL, horizon_hours=H, bar_hours=BAR, span=(895, 900))
    with pytest.raises(ForecastError, match="are not those of"):
        walk_forward(x[1:], joint_moments(x, [y]), ALL, horizon_hours=H, bar_hours=BAR)


def test_one_span_gives_every_horizon_the_same_blocks() -> None:
    x, _ = sample(9)
    noise = np.random.default_rng(1).standard_normal(x.shape[:2])
    tests = set()
    for bars in (1, 6, 12):
        moments = joint_moments(x, [forward_sum(noise, bars)])
        got = walk_forward(x, moments, ALL, horizon_hours=bars * BAR, bar_hours=BAR, settings=SHORT, span=(5, 890))
        tests.add(tuple(block.test for block in got.blocks))
    assert len(tests) == 1
