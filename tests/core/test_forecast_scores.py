"""Scores, rank correlations, robust errors and quantile tables against plain references."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from slipstream.core.forecast.bootstrap import circular_blocks
from slipstream.core.forecast.errors import ForecastError
from slipstream.core.forecast.hac import hac_mean
from slipstream.core.forecast.quantiles import quantile_table
from slipstream.core.forecast.scores import joint_r2, mean_rank_ic, on_grid, r2, rank_ic

ROWS, COINS = 150, 14


def forecasts(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """alpha, its forecast, funding, its forecast; each with its own gaps."""
    rng = np.random.default_rng(seed)
    alpha_forecast, funding_forecast = rng.standard_normal((2, ROWS, COINS)) * 0.5
    alpha = alpha_forecast + rng.standard_normal((ROWS, COINS)) + 3.0
    funding = 2.0 * funding_forecast + rng.standard_normal((ROWS, COINS))
    series = alpha, alpha_forecast, funding, funding_forecast
    for values in series:
        values[rng.random(values.shape) < 0.05] = np.nan
    return series


def long(values: np.ndarray, name: str) -> pd.DataFrame:
    frame = pd.DataFrame(values).rename_axis(index="t", columns="coin").stack().rename(name).dropna()
    return frame.reset_index()


def test_scores_are_those_of_rows_joined_by_timestamp_and_coin_in_any_order() -> None:
    series = forecasts(0)
    names = ("alpha", "alpha_forecast", "funding", "funding_forecast")
    frames = [long(v, n).sample(frac=1.0, random_state=k) for k, (v, n) in enumerate(zip(series, names, strict=True))]
    joined = frames[0]
    for frame in frames[1:]:
        joined = joined.merge(frame, on=["t", "coin"])
    got = joint_r2(*series)
    pairs = {
        "alpha": (joined["alpha"], joined["alpha_forecast"]),
        "funding": (joined["funding"], joined["funding_forecast"]),
        "combined": (joined["alpha"] - joined["funding"], joined["alpha_forecast"] - joined["funding_forecast"]),
    }
    for name, (actual, forecast) in pairs.items():
        want = 1.0 - ((actual - forecast) ** 2).sum() / ((actual - actual.mean()) ** 2).sum()
        assert getattr(got, name).value == pytest.approx(want, abs=1e-12)
        assert getattr(got, name).observations == len(joined)


def test_shuffling_the_rows_of_one_model_leaves_the_combination_unchanged() -> None:
    alpha, alpha_forecast, funding, funding_forecast = forecasts(1)
    grid, coins = np.arange(ROWS) * 3_600_000, [f"C{j}" for j in range(COINS)]
    frame = long(funding_forecast, "value").sample(frac=1.0, random_state=3)
    placed = on_grid(
        frame["t"].to_numpy() * 3_600_000, [f"C{j}" for j in frame["coin"]], frame["value"].to_numpy(), grid, coins
    )
    np.testing.assert_array_equal(placed, funding_forecast)
    draws = circular_blocks(ROWS, 10, 50)
    shuffled, ordered = (joint_r2(alpha, alpha_forecast, funding, f, draws) for f in (placed, funding_forecast))
    assert shuffled == ordered


def test_rows_off_the_grid_and_rows_given_twice_are_named() -> None:
    grid, coins = np.array([0, 10, 20]), ["A", "b"]
    place = lambda t, c: on_grid(np.array(t), c, np.ones(len(t)), grid, coins)  # noqa: E731
    assert np.isnan(place([10], ["A"])[[0, 2]]).all()
    for t, c in (([0, 15], ["A", "A"]), ([0, 30], ["A", "A"]), ([0, 10], ["A", "B"])):
        with pytest.raises(ForecastError, match=r"row 1 \(.*\) is not on the grid"):
            place(t, c)
    with pytest.raises(ForecastError, match=r"row 2 \(A at 0 ms\) repeats"):
        place([0, 10, 0], ["A", "A", "A"])
    with pytest.raises(ForecastError, match="are not rows"):
        place([0, 10], ["A"])


def test_the_interval_of_a_share_explained_is_that_of_rows_written_out() -> None:
    alpha, alpha_forecast, *_ = forecasts(2)
    draws = circular_blocks(ROWS, 10, 200)
    got = r2(alpha, alpha_forecast, draws)
    here = np.isfinite(alpha) & np.isfinite(alpha_forecast)
    values = []
    for d in range(200):
        times = np.repeat(np.arange(ROWS), draws.multiplicity(d))
        y, guess = alpha[times][here[times]], alpha_forecast[times][here[times]]
        values.append(1.0 - ((y - guess) ** 2).sum() / ((y - y.mean()) ** 2).sum())
    assert (got.low, got.high) == pytest.approx(tuple(np.quantile(values, (0.025, 0.975))), abs=1e-11)
    np.testing.assert_allclose(got.draws, values, atol=1e-11)
    assert got.low < got.value < got.high


def test_nothing_to_score_is_not_a_number() -> None:
    nothing = np.full((5, 3), np.nan)
    assert np.isnan(r2(nothing, nothing).value)
    assert np.isnan(r2(np.ones((5, 3)), np.zeros((5, 3))).value)
    with pytest.raises(ForecastError, match="cannot be joined"):
        joint_r2(nothing, nothing, nothing, nothing[1:])


@given(seed=st.integers(0, 10**6), ties=st.booleans())
def test_rank_correlations_are_spearmans(seed: int, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    forecast, actual = rng.standard_normal((2, 12, COINS))
    if ties:
        forecast, actual = np.round(forecast), np.round(2.0 * actual)
    forecast[rng.random(forecast.shape) < 0.2] = np.nan
    forecast[3] = 1.0
    got = rank_ic(forecast, actual)
    for t in range(12):
        here = np.isfinite(forecast[t])
        if here.sum() < 10 or np.ptp(forecast[t, here]) == 0.0:
            assert np.isnan(got[t])
        else:
            assert got[t] == pytest.approx(spearmanr(forecast[t, here], actual[t, here]).statistic, abs=1e-12)


def test_the_mean_rank_correlation_allows_for_the_overlap() -> None:
    """Ranks that hold for 24 bars are 24 times fewer observations: the naive error is too small by about five."""
    rng = np.random.default_rng(5)
    held = np.repeat(rng.standard_normal((100, 20)), 24, axis=0)
    forecast = rng.standard_normal((1, 20)).repeat(2400, axis=0)
    naive, honest = (mean_rank_ic(forecast, held, bars) for bars in (0, 48))
    assert honest.mean == naive.mean
    assert 3.0 < honest.se / naive.se < 6.0


def test_the_robust_error_is_newey_and_wests() -> None:
    rng = np.random.default_rng(6)
    x = np.convolve(rng.standard_normal(400), np.ones(6), "valid")
    got = hac_mean(x, 8)
    gap = x - x.mean()
    long_run = sum((1 - abs(k) / 9) * (gap[abs(k) :] * gap[: len(gap) - abs(k)]).sum() for k in range(-8, 9)) / len(x)
    assert got.mean == pytest.approx(x.mean())
    assert got.se == pytest.approx(np.sqrt(long_run / len(x)), rel=1e-12)
    assert got.t == pytest.approx(got.mean / got.se)
    independent = hac_mean(x, 0)
    assert independent.se == pytest.approx(x.std() / np.sqrt(len(x)), rel=1e-12)


def test_a_gap_keeps_the_others_their_distance_in_time() -> None:
    alternating = np.tile([1.0, -1.0], 100)
    whole = hac_mean(alternating + 1.0, 1)
    holes = alternating + 1.0
    holes[1::2] = np.nan
    assert hac_mean(holes, 1).se == 0.0  # all that is left is 2.0
    assert np.isnan(hac_mean(holes, 1).t)
    holes = np.where(np.arange(200) % 10 < 8, alternating + 1.0, np.nan)
    assert hac_mean(holes, 1).se < 2.0 * whole.se + 0.05  # joined across gaps, neighbours would not cancel
    assert np.isnan(hac_mean(np.array([np.nan, 1.0]), 3).se)
    with pytest.raises(ForecastError, match="lags"):
        hac_mean(alternating, -1)


@pytest.mark.parametrize("mode", ["pooled", "cross_section"])
def test_the_quantile_table_is_that_of_rows_sorted_into_bins(mode: str) -> None:
    alpha, forecast, funding, _ = forecasts(7)
    draws = circular_blocks(ROWS, 10, 60)
    table = quantile_table(forecast, alpha, funding, draws, quantiles=5, mode=mode, unit=1e4)
    joint = np.isfinite(alpha) & np.isfinite(forecast) & np.isfinite(funding)
    rows = pd.DataFrame(
        {
            "t": np.nonzero(joint)[0],
            "pred_mean": 1e4 * forecast[joint],
            "alpha": 1e4 * alpha[joint],
            "F": 1e4 * funding[joint],
            "Total": 1e4 * (alpha - funding)[joint],
        }
    )
    groups = rows["pred_mean"] if mode == "pooled" else rows.groupby("t")["pred_mean"]
    if mode == "pooled":
        rows["q"] = pd.qcut(groups, 5, labels=False)
    else:
        rows["q"] = groups.transform(lambda x: pd.qcut(x, 5, labels=False))
    assert sum(row.n for row in table) == len(rows)
    for row in table:
        mine = rows[rows["q"] == row.quantile]
        assert row.n == len(mine)
        for name, mean, naive in (
            ("alpha", row.alpha_actual, row.alpha_t_naive),
            ("F", row.F_actual, row.F_t_naive),
            ("Total", row.Total_actual, row.Total_t_naive),
        ):
            assert mean == pytest.approx(mine[name].mean(), rel=1e-9)
            assert naive == pytest.approx(mine[name].mean() / (mine[name].std() / np.sqrt(len(mine))), rel=1e-9)
        assert row.pred_mean == pytest.approx(mine["pred_mean"].mean(), rel=1e-9)
        drawn = []
        for d in range(draws.draws):
            count = draws.multiplicity(d)[mine["t"]]
            drawn.append((count * mine["Total"]).sum() / count.sum())
        assert row.Total_t == pytest.approx(row.Total_actual / np.std(drawn, ddof=1), rel=1e-9)
        assert row.n_eff == pytest.approx((mine["Total"].std() / np.std(drawn, ddof=1)) ** 2, rel=1e-9)
    means = [row.pred_mean for row in table]
    assert means == sorted(means)


def test_the_t_of_a_bin_is_the_block_bootstraps_and_the_naive_one_stands_beside_it() -> None:
    """Outcomes shared by all coins and lasting 20 rows: the naive t is larger by about sqrt(20 * coins)."""
    rng = np.random.default_rng(8)
    shared = np.repeat(rng.standard_normal((60, 1)), 20, axis=0) + 0.3
    alpha = np.repeat(shared, COINS, axis=1)
    funding = np.zeros_like(alpha)
    forecast = rng.standard_normal(alpha.shape)
    row = quantile_table(forecast, alpha, funding, circular_blocks(1200, 40, 500), quantiles=1)[0]
    assert row.alpha_actual == pytest.approx(alpha.mean())
    assert row.alpha_t_naive == pytest.approx(alpha.mean() / (alpha.std(ddof=1) / np.sqrt(alpha.size)))
    true_t = alpha.mean() / (shared.std() / np.sqrt(60))
    assert row.alpha_t == pytest.approx(true_t, rel=0.35)
    assert row.n == 1200 * COINS
    assert 30 < row.n_eff < 120
    assert np.isnan(row.F_t)
    assert row.F_actual == 0.0


def test_a_bin_is_traded_only_where_its_honest_t_is_large_enough() -> None:
    rng = np.random.default_rng(9)
    forecast = rng.standard_normal((600, 20))
    alpha = np.where(np.abs(forecast) > 1.0, np.sign(forecast), 0.0) + rng.standard_normal(forecast.shape)
    table = quantile_table(forecast, alpha, np.zeros_like(alpha), circular_blocks(600, 12, 300))
    assert table[0].strategy == "SHORT"
    assert table[-1].strategy == "LONG"
    for row in table:
        assert (row.strategy != "FLAT") == (abs(row.Total_t) > 1.96)


def test_forecasts_that_are_all_one_number_fill_one_bin_and_leave_the_others_empty() -> None:
    rng = np.random.default_rng(10)
    table = quantile_table(
        np.ones((50, 4)), rng.standard_normal((50, 4)), np.zeros((50, 4)), circular_blocks(50, 5, 50), quantiles=3
    )
    assert [row.n for row in table] == [200, 0, 0]
    assert table[2].strategy == "FLAT"
    assert np.isnan(table[2].Total_t)
    with pytest.raises(ForecastError, match="cannot be put into 10 bins"):
        quantile_table(np.full((50, 4), np.nan), np.ones((50, 4)), np.ones((50, 4)), circular_blocks(50, 5, 50))
