"""The block bootstrap: sums that count repeats, refits equal to naive ones, errors that match theory."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.core.forecast.bootstrap import (
    BlockDraws,
    Inference,
    block_length_hours,
    circular_blocks,
    combined_r2_draws,
    inferred,
    refit_draws,
)
from slipstream.core.forecast.errors import ForecastError, NotEnoughData
from slipstream.core.forecast.moments import Regression, joint_moments
from slipstream.core.forecast.ridge import fit_ridge
from slipstream.core.forecast.targets import forward_sum

ALPHA, FUNDING = Regression((0, 1, 2), 0), Regression((1, 2), 1)


@given(seed=st.integers(0, 10**6), rows=st.integers(2, 120), length=st.integers(1, 60))
def test_a_draw_adds_up_its_timestamps_as_often_as_it_has_them(seed: int, rows: int, length: int) -> None:
    length = min(length, rows // 2)
    draws = circular_blocks(rows, length, draws=4, seed=seed)
    values = np.random.default_rng(seed).standard_normal((rows, 3))
    totals = draws.totals(values)
    for d in range(4):
        count = draws.multiplicity(d)
        assert count.sum() == rows
        np.testing.assert_allclose(totals[d], count @ values, atol=1e-12 * rows)


def test_blocks_run_on_over_the_end_of_the_ring() -> None:
    draws = BlockDraws(np.array([[8, 3, 9]]), length=4, rows=10)
    np.testing.assert_array_equal(draws.multiplicity(0), [2, 1, 0, 1, 1, 1, 1, 0, 1, 2])


def test_block_sums_lose_no_digits_beside_large_rows() -> None:
    """A running total would carry the large rows' rounding into every block after them."""
    values = np.full((400, 1), 1e-8)
    values[:20] = 1e9
    draws = BlockDraws(np.arange(50, 350)[:, None].repeat(20, axis=1), length=20, rows=400)
    np.testing.assert_allclose(draws.totals(values)[:, 0], 400e-8, rtol=1e-12)


def test_the_same_seed_gives_the_same_blocks_whatever_is_estimated() -> None:
    assert np.array_equal(circular_blocks(500, 12, 20).starts, circular_blocks(500, 12, 20, seed=42).starts)
    assert not np.array_equal(circular_blocks(500, 12, 20).starts, circular_blocks(500, 12, 20, seed=43).starts)


def test_blocks_are_as_long_as_the_longest_horizon_drawn_together_needs() -> None:
    assert [block_length_hours(h) for h in (4, 8, 24, 48)] == [48, 48, 48, 96]
    assert block_length_hours(4, 8, 12, 24, 48) == 96


def panel(seed: int, rows: int = 240, coins: int = 5) -> tuple[np.ndarray, list[np.ndarray]]:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, coins, 3)) * [1.0, 0.3, 2.0]
    y = [
        0.2 * x[..., 0] + rng.standard_normal((rows, coins)),
        x[..., 1] - 0.1 * x[..., 2] + rng.standard_normal((rows, coins)),
    ]
    x[rng.random(x.shape) < 0.02] = np.nan
    y[0][rng.random((rows, coins)) < 0.02] = np.nan
    return x, y


def naive_refit(x: np.ndarray, y: np.ndarray, penalty: float, std: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Intercept, coefficients and errors of a ridge fit on rows written out, repeats and all."""
    centred = (x - x.mean(axis=0)) / std
    b = (
        np.linalg.solve(centred.T @ centred / len(x) + penalty * np.eye(len(std)), centred.T @ (y - y.mean()) / len(x))
        / std
    )
    intercept = y.mean() - x.mean(axis=0) @ b
    return float(intercept), b, y - intercept - x @ b


def test_refits_from_moments_are_those_of_the_rows_written_out() -> None:
    x, y = panel(0)
    moments = joint_moments(x, y)
    draws = circular_blocks(240, 12, draws=15)
    grams = moments.unpacked(draws.totals(moments.per_row))
    fits = {r: fit_ridge(moments.design(moments.between(0, 240), r), 0.1) for r in (ALPHA, FUNDING)}
    refits = {r: refit_draws(moments, r, fit, grams) for r, fit in fits.items()}
    combined = combined_r2_draws(moments, (ALPHA, refits[ALPHA]), (FUNDING, refits[FUNDING]), grams)
    here = np.isfinite(x).all(axis=-1) & np.isfinite(y[0]) & np.isfinite(y[1])
    for d in range(15):
        times = np.repeat(np.arange(240), draws.multiplicity(d))
        rows, actual = x[times][here[times]], [values[times][here[times]] for values in y]
        errors = []
        for r in (ALPHA, FUNDING):
            target = actual[r.target]
            intercept, b, error = naive_refit(rows[:, r.columns], target, 0.1, fits[r].feature_std)
            assert refits[r].intercept[d] == pytest.approx(intercept, abs=1e-12)
            np.testing.assert_allclose(refits[r].coefficients[d], b, rtol=1e-10, atol=1e-12)
            assert refits[r].r2[d] == pytest.approx(
                1.0 - (error**2).sum() / ((target - target.mean()) ** 2).sum(), abs=1e-11
            )
            errors.append(error)
        total = actual[0] - actual[1]
        r2 = 1.0 - ((errors[0] - errors[1]) ** 2).sum() / ((total - total.mean()) ** 2).sum()
        assert combined[d] == pytest.approx(r2, abs=1e-11)


def test_the_standard_error_matches_theory_on_independent_data() -> None:
    """Least squares on iid rows: sd of the slope is sigma / (sd(x) sqrt n). Without repeats it would be 0.76 of it."""
    rng = np.random.default_rng(1)
    rows, coins = 4000, 1
    x = rng.standard_normal((rows, coins, 2)) * [1.0, 3.0]
    y = x @ [0.5, -0.2] + 2.0 * rng.standard_normal((rows, coins))
    moments = joint_moments(x, [y])
    r = Regression((0, 1))
    fit = fit_ridge(moments.design(moments.between(0, rows), r), 0.0)
    for length in (1, 12):
        draws = circular_blocks(rows, length, draws=1000)
        refits = refit_draws(moments, r, fit, moments.unpacked(draws.totals(moments.per_row)))
        theory = 2.0 / (np.array([1.0, 3.0]) * np.sqrt(rows))
        np.testing.assert_allclose(inferred(fit.coefficients, refits.coefficients).se, theory, rtol=0.08)


def test_all_coins_of_a_timestamp_are_drawn_together() -> None:
    """Coins that are one and the same are one observation: fifty copies of a series have the error of one."""
    rng = np.random.default_rng(2)
    x, noise = rng.standard_normal((800, 1, 1)), rng.standard_normal((800, 1))
    y = 0.3 * x[..., 0] + noise
    errors = []
    for copies in (1, 50):
        moments = joint_moments(np.repeat(x, copies, axis=1), [np.repeat(y, copies, axis=1)])
        fit = fit_ridge(moments.design(moments.between(0, 800), Regression((0,))), 0.0)
        grams = moments.unpacked(circular_blocks(800, 10, 300).totals(moments.per_row))
        errors.append(inferred(fit.coefficients, refit_draws(moments, Regression((0,)), fit, grams).coefficients).se)
    np.testing.assert_allclose(errors[1], errors[0], rtol=1e-9)


def covered(seed: int, horizon_hours: int, hours: int = 4000, coins: int = 4, draws: int = 300) -> bool:
    """Whether the 95 % interval of the slope on a slow feature holds the truth, targets overlapping and coins alike."""
    rng = np.random.default_rng(seed)
    shock = rng.standard_normal((hours, coins))
    x = np.empty_like(shock)
    x[0] = shock[0]
    for t in range(1, hours):
        x[t] = 0.9 * x[t - 1] + np.sqrt(1.0 - 0.81) * shock[t]
    step = rng.standard_normal((hours, 1)) * 0.7 + rng.standard_normal((hours, coins)) * 0.7
    step[1:] += 0.02 * x[:-1]
    y = forward_sum(step, horizon_hours)
    true = 0.02 * sum(0.9**k for k in range(horizon_hours))
    moments = joint_moments(x[..., None], [y])
    r = Regression((0,))
    fit = fit_ridge(moments.design(moments.between(0, hours), r), 0.0)
    ring = circular_blocks(hours, block_length_hours(horizon_hours), draws, seed)
    refits = refit_draws(moments, r, fit, moments.unpacked(ring.totals(moments.per_row)))
    interval = inferred(fit.coefficients, refits.coefficients)
    return bool(interval.low[0] <= true <= interval.high[0])


@pytest.mark.parametrize(("horizon", "least"), [(4, 0.90), (24, 0.90), (48, 0.87)])
def test_intervals_hold_the_truth_of_overlapping_targets_in_a_sample_of_seeds(horizon: int, least: float) -> None:
    seeds = 80
    share = sum(covered(seed, horizon) for seed in range(seeds)) / seeds
    slack = 2.0 * np.sqrt(0.06 / seeds)
    assert least - slack <= share <= 1.0


@pytest.mark.full
@pytest.mark.parametrize(("horizon", "least"), [(4, 0.90), (8, 0.90), (12, 0.90), (24, 0.90), (48, 0.87)])
def test_intervals_hold_the_truth_of_overlapping_targets(horizon: int, least: float) -> None:
    share = sum(covered(seed, horizon, draws=1000) for seed in range(400)) / 400
    assert least <= share <= 0.99


def test_an_inference_reads_estimate_error_interval_stars_and_plateau() -> None:
    rng = np.random.default_rng(4)
    draws = rng.standard_normal((1000, 4)) * [1.0, 2.0, 0.5, 1.0] + [3.0, 0.0, 1.0, 1.7]
    got = inferred(np.array([3.0, 0.0, 1.0, 1.7]), draws)
    np.testing.assert_array_equal(got.se, draws.std(axis=0, ddof=1))
    np.testing.assert_allclose(got.low, np.quantile(draws, 0.025, axis=0))
    np.testing.assert_allclose(got.high, np.quantile(draws, 0.975, axis=0))
    np.testing.assert_allclose(got.t, got.estimate / got.se)
    marks = Inference(got.t, got.se, got.low, got.high, np.array([-2.7, 1.6, 1.96, 1.7]), {})
    assert marks.stars == ("***", "", "**", "*")
    assert list(got.se_plateau) == [100, 500, 1000]
    np.testing.assert_array_equal(got.se_plateau[500], draws[:500].std(axis=0, ddof=1))
    assert list(inferred(0.0, draws[:600, 0]).se_plateau) == [100, 500]


def test_an_estimate_whose_draws_do_not_vary_has_no_t() -> None:
    assert np.isnan(inferred(1.0, np.ones(10)).t[0])


def test_draws_that_cannot_be_made_are_refused() -> None:
    with pytest.raises(NotEnoughData, match="fewer than two blocks"):
        circular_blocks(95, 48)
    with pytest.raises(ForecastError, match="0 draws"):
        circular_blocks(95, 8, draws=0)
    with pytest.raises(ForecastError, match="94 rows of sums"):
        circular_blocks(95, 8, 3).totals(np.ones((94, 2)))
    with pytest.raises(ForecastError, match="say nothing"):
        inferred(1.0, np.ones(1))
    x, y = panel(1)
    x[4:] = np.nan
    moments = joint_moments(x, y)
    fit = fit_ridge(moments.design(moments.between(0, 4), FUNDING), 0.1)
    with pytest.raises(NotEnoughData, match="no observation"):
        refit_draws(moments, FUNDING, fit, moments.unpacked(circular_blocks(240, 2, 50).totals(moments.per_row)))
