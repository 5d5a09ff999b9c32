"""The synthetic market: what it says it planted is there, and nothing else is."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields, replace
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipstream.core.panel import HOUR_MS, to_ms
from slipstream.lake.synthetic import SyntheticConfig, SyntheticConfigError, SyntheticMarket, synthetic_market
from slipstream.lake.synthetic_processes import BASE_FUNDING_PER_HOUR, bar_extremes, stationary_ar1, venue_funding

BARS = ("open", "high", "low", "close", "volume_usd")
WHOLE_LIVES = SyntheticConfig(late_listings=0.0, delistings_per_year=0.0)
NOTHING_PLANTED = replace(WHOLE_LIVES, momentum_strength=0.0, funding_carried_by_price=0.0)


@pytest.fixture(scope="module")
def year() -> SyntheticMarket:
    """The default market: 60 coins, one year."""
    return synthetic_market()


def bar_log_returns(market: SyntheticMarket) -> np.ndarray:
    """Log return of every bar, close over open, shape (T, N)."""
    return np.log(market.panel.close / market.panel.open)


def own_shocks(market: SyntheticMarket) -> np.ndarray:
    """Returns less the true factors, over mean idiosyncratic volatility, rows 1 to T - 1."""
    truth = market.truth
    common = np.outer(truth.market_return, truth.beta) + truth.style_return @ truth.style_loading.T
    variance = truth.idio_vol**2 + np.outer(truth.market_vol**2, truth.beta**2)
    return ((bar_log_returns(market) - common + variance / 2) / truth.mean_idio_vol)[1:]


def slope(y: np.ndarray, x: np.ndarray) -> tuple[float, float]:
    """Slope of y on x through the origin, and its standard error robust to changing variance."""
    y, x = y.ravel(), x.ravel()
    estimate = float(x @ y / (x @ x))
    return estimate, float(np.sqrt(((y - estimate * x) ** 2) @ x**2) / (x @ x))


def settled(market: SyntheticMarket) -> np.ndarray:
    """Funding of the bars that exist, NaN elsewhere, shape (T, N)."""
    return np.where(np.isnan(market.panel.close), np.nan, market.panel.funding)


def autocorrelation(values: np.ndarray, lag: int) -> float:
    values = values[~np.isnan(values)]
    return float(np.corrcoef(values[:-lag], values[lag:])[0, 1])


def median_autocorrelation(values: np.ndarray, lag: int) -> float:
    return float(np.median([autocorrelation(column, lag) for column in values.T]))


# ---- betas ----


def test_regression_on_the_true_factors_finds_the_true_betas():
    """Of 200 coins at most 1 % lie further than 3 standard errors away, and the errors are as wide as they say."""
    market = synthetic_market(replace(WHOLE_LIVES, coins=200, hours=3000, seed=3))
    truth = market.truth
    x = np.column_stack([np.ones(market.panel.rows), truth.market_return, truth.style_return])
    y = bar_log_returns(market)
    inverse = np.linalg.inv(x.T @ x)
    estimate = inverse @ x.T @ y
    residual = y - x @ estimate
    errors = np.empty(200)
    for coin in range(200):
        # Market and coin are volatile together, so the textbook standard error is too small: White's.
        errors[coin] = np.sqrt((inverse @ (x.T * residual[:, coin] ** 2) @ x @ inverse)[1, 1])
    z = (estimate[1] - truth.beta) / errors
    assert np.mean(np.abs(z) <= 3.0) >= 0.99
    assert 0.85 < np.sqrt(np.mean(z**2)) < 1.15
    assert np.median(errors) < 0.05
    assert truth.beta.mean() == pytest.approx(1.0)
    assert 0.2 < truth.beta.std() < 0.3


def test_the_first_factor_carries_about_half_of_the_variance_and_the_second_little():
    market = synthetic_market(replace(WHOLE_LIVES, hours=4000))
    eigenvalues = np.linalg.eigvalsh(np.corrcoef(bar_log_returns(market).T))[::-1]
    assert 0.35 < eigenvalues[0] / eigenvalues.sum() < 0.65
    assert eigenvalues[1] / eigenvalues.sum() < 0.06


def test_volatility_over_time_has_the_level_the_truth_states():
    market = synthetic_market(replace(NOTHING_PLANTED, coins=20, hours=60_000, style_factors=0))
    assert np.median(own_shocks(market).std(axis=0)) == pytest.approx(1.0, abs=0.03)
    assert market.truth.market_return.std() == pytest.approx(0.0105, rel=0.06)


# ---- tails and clusters ----


def test_returns_have_fat_tails_and_volatility_comes_in_clusters(year):
    returns = bar_log_returns(year)
    for series in (*returns.T, year.truth.market_return):
        series = series[~np.isnan(series)]
        z = (series - series.mean()) / series.std()
        assert np.mean(z**4) - 3.0 > 1.0
        assert autocorrelation(np.abs(series), 1) > 0.05
        assert abs(autocorrelation(series, 1)) < 0.12
    assert 0.1 < median_autocorrelation(np.abs(returns), 1) < 0.3
    assert 0.05 < median_autocorrelation(np.abs(returns), 24) < 0.2


def test_an_autoregression_starts_stationary_and_halves_at_its_half_life():
    shocks = np.random.default_rng(5).standard_normal((400, 3000))
    state = stationary_ar1(shocks, half_life_hours=48.0)
    assert state[[0, 1, 10, 399]].std(axis=1) == pytest.approx(1.0, abs=0.05)
    assert np.corrcoef(state[100], state[148])[0, 1] == pytest.approx(0.5, abs=0.04)


# ---- funding ----


@pytest.mark.parametrize(
    ("premium", "rate"),
    [(1e-4, 1.25e-5), (6e-4, 1.25e-5), (-4e-4, 1.25e-5), (7e-4, 2.5e-5), (-5e-4, 0.0), (-9e-4, -5e-5), (1.0, 0.04)],
)
def test_funding_follows_the_venues_rule(premium, rate):
    assert venue_funding(np.array([premium]))[0] == pytest.approx(rate, rel=1e-9, abs=1e-18)


@given(st.floats(-1.0, 1.0))
def test_funding_is_base_to_the_last_bit_inside_the_band_and_the_published_formula_outside(premium):
    rate = venue_funding(np.array([premium]))[0]
    if abs(premium - 1e-4) < 4.999e-4:
        assert rate == BASE_FUNDING_PER_HOUR == 1.25e-5
    formula = (premium + min(max(1e-4 - premium, -5e-4), 5e-4)) / 8
    assert rate == pytest.approx(min(max(formula, -0.04), 0.04), abs=1e-16)


def test_funding_rests_at_the_base_rate_and_leaves_it_on_both_sides(year):
    funding = settled(year)[~np.isnan(settled(year))]
    assert 0.5 < np.mean(funding == 1.25e-5) < 0.7
    assert 0.1 < np.mean(funding < 1.25e-5) < 0.3
    assert 0.1 < np.mean(funding > 1.25e-5) < 0.3
    assert np.abs(funding).max() <= 0.04
    assert 0.78 < median_autocorrelation(settled(year), 1) < 0.92
    assert 0.35 < median_autocorrelation(settled(year), 24) < 0.55


@pytest.mark.parametrize("half_life_hours", [12.0, 36.0])
def test_the_decay_of_funding_shows_the_half_life_of_the_premium(half_life_hours):
    """Exactly where the premium is wide beside the dead band; a little faster where the band hides small moves."""
    config = replace(WHOLE_LIVES, hours=20_000, premium_half_life_hours=half_life_hours)
    lags = (np.array([1.0, 1.5, 2.0]) * half_life_hours).astype(int)

    def measured_hours(series):
        decay = [median_autocorrelation(series, lag) for lag in lags]
        return -np.log(2.0) / np.polyfit(lags, np.log(decay), 1)[0]

    market = synthetic_market(config)
    assert measured_hours(market.truth.premium) == pytest.approx(half_life_hours, rel=0.12)
    assert 0.72 < measured_hours(settled(market)) / half_life_hours < 1.05
    wide = synthetic_market(replace(config, premium_vol=6e-3))
    assert measured_hours(settled(wide)) == pytest.approx(half_life_hours, rel=0.12)
    assert wide.truth.premium_half_life_hours == half_life_hours


# ---- planted premia ----


def test_with_nothing_planted_no_coin_has_a_price_drift_of_its_own():
    """Log returns of no drift would gain 2 bp an hour as simple returns here, more than ten standard errors."""
    quiet_market = replace(NOTHING_PLANTED, market_vol=1e-4, style_vol=0.0, idio_vol=0.02, idio_vol_spread=0.0)
    markets = [synthetic_market(replace(quiet_market, seed=seed)) for seed in range(100, 105)]
    simple = np.expm1(np.concatenate([bar_log_returns(market) for market in markets]))
    error = simple.std() / np.sqrt(simple.size)
    assert abs(simple.mean()) < 3.0 * error
    assert 10.0 * error < 0.5 * 0.02**2
    assert not markets[0].truth.planted_drift.any()


def test_regression_finds_the_planted_momentum_and_its_half_life():
    half_life = 40.0
    config = replace(NOTHING_PLANTED, momentum_strength=0.03, momentum_half_life_hours=half_life, style_factors=0)
    market = synthetic_market(config)
    truth, returns = market.truth, own_shocks(market)
    # The trend is one of shocks; a trend of returns would count its own drift again.
    shocks = (returns - truth.momentum_drift[1:] / truth.mean_idio_vol) * (truth.mean_idio_vol / truth.idio_vol[1:])
    trend = stationary_ar1(shocks, half_life)
    now, now_error = slope(returns[1:], trend[:-1])
    later, later_error = slope(returns[41:], trend[:-41])
    assert abs(now - 0.03) < 3.0 * now_error
    assert abs(later - 0.015) < 3.0 * later_error
    assert now > 20.0 * now_error
    same_bar, same_bar_error = slope(truth.momentum_drift[1:] / truth.mean_idio_vol, shocks)
    assert abs(same_bar) < 4.0 * same_bar_error
    seen, seen_error = slope(returns[1:], stationary_ar1(returns, half_life)[:-1])
    assert seen > 10.0 * seen_error


def test_no_momentum_is_found_where_none_is_planted():
    market = synthetic_market(replace(NOTHING_PLANTED, style_factors=0))
    shocks = own_shocks(market)
    estimate, error = slope(shocks[1:], stationary_ar1(shocks, 40.0)[:-1])
    assert abs(estimate) < 3.0 * error
    assert error < 0.003


def carry_legs(market: SyntheticMarket) -> tuple[np.ndarray, np.ndarray]:
    """Hourly funding and price P&L, fractions, of one unit gross short above-base and long below-base funding.

    A position follows the settlement of the row before: known, bar what the panel says about publication.
    """
    funding = market.panel.funding
    side = -np.sign(funding[:-1] - BASE_FUNDING_PER_HOUR)
    position = side / np.maximum(np.abs(side).sum(axis=1, keepdims=True), 1.0)
    simple = np.expm1(bar_log_returns(market))[1:]
    return -(position * funding[1:]).sum(axis=1), (position * simple).sum(axis=1)


@pytest.mark.parametrize("carried", [0.0, 0.5, 1.0])
def test_price_takes_back_the_stated_share_of_what_carry_earns(carried):
    """At 1 the carry book earns nothing; at 0 it keeps every cent of its funding."""
    config = replace(NOTHING_PLANTED, funding_carried_by_price=carried, market_vol=1e-4, idio_vol=5e-4, style_vol=0.0)
    funding_leg, price_leg = carry_legs(synthetic_market(config))
    kept = funding_leg.mean() + price_leg.mean()
    error = price_leg.std() / np.sqrt(len(price_leg))
    assert funding_leg.mean() > 10.0 * error
    assert abs(kept - (1.0 - carried) * funding_leg.mean()) < 3.0 * error


def test_markets_of_one_seed_that_differ_in_a_premium_differ_in_that_premium_alone():
    config = replace(NOTHING_PLANTED, hours=1500, late_listings=0.5)
    plain = synthetic_market(config)
    planted = synthetic_market(replace(config, momentum_strength=0.01, funding_carried_by_price=1.0))
    assert np.array_equal(plain.panel.funding, planted.panel.funding, equal_nan=True)
    difference = bar_log_returns(planted) - bar_log_returns(plain)
    alive = ~np.isnan(difference)
    np.testing.assert_allclose(difference[alive], planted.truth.planted_drift[alive], atol=1e-11)
    assert np.array_equal(planted.truth.funding_drift[alive], planted.panel.funding[alive])
    assert not planted.truth.momentum_drift[0].any()


# ---- bars, lives, volume ----


@settings(max_examples=25)
@given(
    coins=st.integers(1, 8),
    hours=st.integers(2, 2500),
    seed=st.integers(0, 10_000),
    late=st.floats(0.0, 1.0),
    rate=st.floats(0.0, 20.0),
)
def test_every_market_is_a_sound_panel(coins, hours, seed, late, rate):
    """Extremes enclose the ends, bars join up, and every array ends where the coin's life does."""
    market = synthetic_market(
        SyntheticConfig(coins=coins, hours=hours, seed=seed, late_listings=late, delistings_per_year=rate)
    )
    panel, truth = market.panel, market.truth
    rows = np.arange(hours)[:, None]
    alive = (rows >= truth.listing_row) & (rows < truth.delisting_row)
    for name in BARS:
        assert np.array_equal(np.isfinite(getattr(panel, name)), alive), name
    assert np.isfinite(panel.funding).all()
    assert (panel.funding[~alive] == 0.0).all()
    assert alive.any(axis=0).all()
    assert (truth.listing_row > 0).sum() == round(late * coins)
    assert (panel.high >= np.maximum(panel.open, panel.close))[alive].all()
    assert (panel.low <= np.minimum(panel.open, panel.close))[alive].all()
    assert (panel.low > 0.0)[alive].all()
    assert (panel.volume_usd > 0.0)[alive].all()
    joined = alive[1:] & alive[:-1]
    assert np.array_equal(panel.open[1:][joined], panel.close[:-1][joined])
    assert np.isfinite(panel.funding[-1])[truth.delisting_row == hours].all()


def test_coins_come_and_go_and_the_universe_follows():
    config = SyntheticConfig(coins=80, hours=8766, late_listings=0.5, delistings_per_year=1.0, seed=11)
    market = synthetic_market(config)
    truth, panel = market.truth, market.panel
    late = truth.listing_row > 0
    assert late.sum() == 40
    assert truth.listing_row[late].max() <= 0.75 * 8766
    assert np.ptp(truth.listing_row[late]) > 4000
    gone = truth.delisting_row < 8766
    at_risk_years = (truth.delisting_row - truth.listing_row - 720).clip(0).sum() / 8766
    assert abs(gone.sum() - at_risk_years) < 3.0 * np.sqrt(at_risk_years)
    assert (truth.delisting_row - truth.listing_row)[gone].min() > 720
    for coin in range(80):
        assert not panel.universe[: truth.listing_row[coin] + 719, coin].any()
        assert not panel.universe[truth.delisting_row[coin] :, coin].any()
    assert panel.universe.sum(axis=1)[2000:].min() > 10


def test_the_high_of_a_bar_has_the_law_of_a_brownian_maximum():
    """P(max > m) = exp(-2 m (m - x) / v); a high at the larger end of the bar would put all mass at zero."""
    x, v, m = 0.3, 1.0, 0.9
    rng = np.random.default_rng(2)
    above, below = bar_extremes(rng, np.full(40_000, x), np.full(40_000, v))
    assert np.mean(above > m) == pytest.approx(np.exp(-2.0 * m * (m - x) / v), abs=0.01)
    assert np.mean(below < x - m) == pytest.approx(np.exp(-2.0 * m * (m - x) / v), abs=0.01)


def test_volume_is_about_lognormal_and_rises_with_the_size_of_moves(year):
    log_volume = np.log(year.panel.volume_usd)
    moves = np.abs(bar_log_returns(year))
    for coin in range(60):
        seen = ~np.isnan(log_volume[:, coin])
        series = log_volume[seen, coin]
        z = (series - series.mean()) / series.std()
        assert abs(np.mean(z**3)) < 0.6
        assert 0.2 < np.corrcoef(series, moves[seen, coin])[0, 1] < 0.5
    level = np.exp(np.nanmean(log_volume, axis=0))
    assert 2e4 < np.median(level) < 3e5
    assert np.log(level).std() > 1.0
    assert year.panel.universe[-1].sum() > 40


def test_the_default_market_resembles_the_recording(year, shared):
    """Levels, clusters and funding lie near those of eight months of the real venue."""
    import polars as pl

    recording = pl.read_parquet(shared / "data" / "hourly" / "hyperliquid_perps_1h.parquet").sort("coin", "ts")
    frame = recording.with_columns(ret=(pl.col("close") / pl.col("close").shift(1)).log().over("coin"))
    real_vol = frame.group_by("coin").agg(pl.col("ret").std())["ret"].to_numpy()
    vol = np.nanstd(bar_log_returns(year), axis=0)
    assert np.median(vol) == pytest.approx(np.median(real_vol), rel=0.25)
    lagged = frame.with_columns(size=pl.col("ret").abs()).with_columns(before=pl.col("size").shift(1).over("coin"))
    real_cluster = lagged.group_by("coin").agg(pl.corr("size", "before"))["size"].median()
    assert median_autocorrelation(np.abs(bar_log_returns(year)), 1) == pytest.approx(real_cluster, abs=0.1)
    funding = recording["funding"].drop_nulls().to_numpy()
    ours = settled(year)[~np.isnan(settled(year))]
    assert np.mean(ours == 1.25e-5) == pytest.approx(np.mean(funding == 1.25e-5), abs=0.08)
    for quantile in (0.05, 0.95):
        assert np.quantile(ours, quantile) == pytest.approx(np.quantile(funding, quantile), rel=0.35)


# ---- identity, names, errors ----


def test_the_same_seed_gives_the_same_bytes_and_another_seed_another_market():
    config = SyntheticConfig(coins=5, hours=900)
    first, again, other = (synthetic_market(c) for c in (config, replace(config), replace(config, seed=43)))
    for name in (*BARS, "funding", "universe", "known_at_ms"):
        assert getattr(first.panel, name).tobytes() == getattr(again.panel, name).tobytes(), name
    for item in fields(first.truth):
        one, two = getattr(first.truth, item.name), getattr(again.truth, item.name)
        assert np.asarray(one).tobytes() == np.asarray(two).tobytes(), item.name
    assert not np.allclose(first.truth.market_return, other.truth.market_return)


def test_the_panel_says_what_it_is_and_its_bars_are_known_at_their_close():
    start = datetime(2023, 6, 1, 5, tzinfo=UTC)
    panel = synthetic_market(SyntheticConfig(coins=3, hours=10, seed=7, start=start)).panel
    assert panel.coins == ("SYN001", "SYN002", "SYN003")
    assert panel.source == "synthetic market, seed 7"
    assert panel.known_at_ms[0] == to_ms(start) + HOUR_MS
    assert panel.rows == 10
    many = synthetic_market(SyntheticConfig(coins=1001, hours=2)).panel.coins
    assert many[0] == "SYN0001"
    assert list(many) == sorted(many)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("coins", 0),
        ("hours", 1),
        ("hours", 24.0),
        ("seed", -1),
        ("seed", True),
        ("market_vol", 0.0),
        ("idio_vol", float("nan")),
        ("beta_spread", -0.1),
        ("idio_tail_df", 2.0),
        ("premium_half_life_hours", 0.0),
        ("momentum_half_life_hours", float("inf")),
        ("late_listings", 1.5),
        ("volume_spread", "wide"),
        ("start", datetime(2024, 1, 1, 0, 30, tzinfo=UTC)),
    ],
)
def test_a_setting_out_of_range_is_refused_by_name(setting, value):
    with pytest.raises(SyntheticConfigError, match=setting) as raised:
        SyntheticConfig(**{setting: value})
    assert raised.value.exit_code == 2
    assert "\n" not in str(raised.value)


def test_a_synthetic_market_needs_no_heavy_library():
    program = (
        "import sys; from slipstream.lake.synthetic import SyntheticConfig, synthetic_market;"
        "synthetic_market(SyntheticConfig(coins=2, hours=50));"
        "print([m for m in ('numba', 'pandas', 'polars', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
