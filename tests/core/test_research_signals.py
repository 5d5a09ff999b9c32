"""Research signals against plain pandas, and the faults such signals have had."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.core.bars import resample
from slipstream.core.factors.pca_spec import PCASpec
from slipstream.core.frames import FrameError
from slipstream.core.signals.cross_section import (
    align_universe,
    cross_sectional_demean,
    cross_sectional_rank,
    cross_sectional_zscore,
)
from slipstream.core.signals.funding import (
    funding_components,
    funding_features,
    funding_level,
    published_funding,
)
from slipstream.core.signals.hedge_check import hedge_check
from slipstream.core.signals.memory import autocorrelation, fit_half_life
from slipstream.core.signals.momentum import idiosyncratic_momentum, momentum_components, residual_momentum
from slipstream.core.signals.spans import SpanDroppedWarning
from slipstream.errors import UsageError
from slipstream.lake import load_panel
from slipstream.lake.synthetic import SyntheticConfig, synthetic_market

HOUR = pd.Timedelta(hours=1)
SPANS = (2, 4, 8, 16, 32, 64)


def series(seed: int = 0, rows: int = 500, columns: int = 5, bar_hours: int = 1, size: float = 0.01) -> pd.DataFrame:
    """Noise with gaps and one late listing, indexed by known-at."""
    rng = np.random.default_rng(seed)
    values = size * rng.standard_normal((rows, columns))
    values[rng.random(values.shape) < 0.03] = np.nan
    values[:120, 1] = np.nan
    index = pd.date_range("2024-01-01", periods=rows, freq=bar_hours * HOUR, tz="UTC", name="known_at")
    return pd.DataFrame(values, index, [f"C{i}" for i in range(columns)])


def funding_series(rows: int = 500, seed: int = 0) -> pd.DataFrame:
    """Funding that rests at the base rate half the time, one coin always."""
    random = series(seed, rows, size=4e-5)
    rested = np.random.default_rng(seed + 1).random(random.shape) < 0.5
    out = random.mask(rested & random.notna(), 1.25e-5)
    out["C4"] = 1.25e-5
    return out


def unstacked(long: pd.DataFrame, span: float, like: pd.DataFrame) -> pd.DataFrame:
    return long[long.columns[0]].xs(float(span), level="span").unstack("asset").reindex_like(like)


def pandas_ewm(values: pd.DataFrame, bars: int):
    return values.ewm(span=bars, min_periods=bars, adjust=True, ignore_na=False)


def test_momentum_is_that_of_plain_pandas() -> None:
    idio = series()
    found = idiosyncratic_momentum(idio)
    z = idio / pandas_ewm(idio, 128).std()
    for span in SPANS:
        peer = pandas_ewm(z, span).mean().clip(-2.5, 2.5)
        assert peer.notna().to_numpy().sum() > 1000
        np.testing.assert_allclose(unstacked(found, span, idio), peer, rtol=0, atol=1e-10)
    assert found.index.names == ["timestamp", "asset", "span"]
    assert found["momentum"].notna().all()
    assert found["momentum"].abs().max() <= 2.5


@pytest.mark.parametrize(("mode", "bar_hours"), [("excess", 1), ("raw", 1), ("excess", 4)])
def test_funding_features_are_those_of_plain_pandas(mode: str, bar_hours: int) -> None:
    funding = funding_series()
    funding.index = pd.date_range("2024-01-01", periods=len(funding), freq=bar_hours * HOUR, tz="UTC")
    spans = [span for span in SPANS if span >= bar_hours]
    found = funding_features(funding, spans, mode=mode)  # type: ignore[arg-type]
    sigma = pandas_ewm(funding, 128 // bar_hours).std()
    if mode == "excess":
        x = (funding - 1.25e-5 * bar_hours) / sigma.clip(lower=2.5e-6 * bar_hours)
    else:
        x = funding / sigma.where(sigma > 0.0)
    for span in spans:
        peer = pandas_ewm(x, span // bar_hours).mean().clip(-5.0, 5.0)
        np.testing.assert_allclose(unstacked(found, span, funding), peer, rtol=0, atol=1e-10)


def test_no_two_feature_columns_are_identical() -> None:
    """A span rounded up to one bar would repeat the next one."""
    idio, funding = series(bar_hours=4), funding_series()
    funding.index = idio.index
    with pytest.warns(SpanDroppedWarning, match="2 h") as seen:
        momentum = idiosyncratic_momentum(idio)
    assert len(seen) == 1
    with pytest.warns(SpanDroppedWarning):
        carried = funding_features(funding)
    columns = [
        unstacked(long, span, idio).to_numpy().ravel() for long in (momentum, carried) for span in (4, 8, 16, 32, 64)
    ]
    assert len(columns) == 10
    for i, one in enumerate(columns):
        for other in columns[i + 1 :]:
            assert not np.array_equal(one, other, equal_nan=True)
    assert sorted(idiosyncratic_momentum(series()).index.unique("span")) == list(SPANS)


def test_at_the_sticky_base_rate_the_feature_is_zero_and_not_at_its_clip() -> None:
    resting = pd.DataFrame({"A": np.full(300, 1.25e-5)}, pd.date_range("2024-01-01", periods=300, freq=HOUR, tz="UTC"))
    resting.iloc[150, 0] = 1.3e-5
    found = funding_features(resting)["funding"]
    assert found.abs().max() < 0.2
    assert (found[found.index.get_level_values("timestamp") < resting.index[150]] == 0.0).all()


def test_a_rate_settled_every_eight_hours_counts_once() -> None:
    """Filled forward over its hours, the base rate of 1e-4 per 8 h would look like eight times itself."""
    rows = 24 * 20
    hour = np.arange(rows)
    settled = np.where(hour % 8 == 0, 1e-4, 0.0)[:, None]
    cycle = funding_components(settled, 1, (8, 64))
    filled = funding_components(np.full((rows, 1), 1e-4), 1, (8, 64))
    for span in (8, 64):
        known = cycle[span][-240:, 0]
        assert known.mean() == pytest.approx(0.0, abs=0.05)
        assert (filled[span][-240:] == 5.0).all()


def test_binance_funding_enters_once_at_its_stamp(shared) -> None:
    """Recorded 8-hourly: summed over any span, what the features see is what was settled."""
    import polars as pl

    file = shared / "data" / "hourly" / "binance_usdm_1h.parquet"
    if not file.is_file():
        pytest.skip(f"real recordings are absent: expected {file}")
    panel = load_panel(file, coins=["BTC", "ETH"])
    paid = np.nan_to_num(panel.view().feature(published_funding))
    raw = pl.read_parquet(file).filter(pl.col("coin") == "BTC").drop_nulls("funding").sort("ts")
    assert raw["ts"].diff().drop_nulls().dt.total_hours().median() == 8
    hours = (raw["ts"].dt.epoch("ms").to_numpy() // 3_600_000) * 3_600_000
    last = panel.view().known_at_ms
    inside = (hours > int(panel.known_at_ms[0])) & (hours < last)
    rates = raw["funding"].to_numpy()[inside]
    column = panel.coins.index("BTC")
    assert paid[:, column].sum() == pytest.approx(rates.sum(), rel=1e-9)
    assert np.count_nonzero(paid[:, column]) == np.count_nonzero(rates)
    four = resample(panel, 4)
    seen = np.nan_to_num(four.view().feature(published_funding))[:, column]
    assert seen.sum() == pytest.approx(rates.sum(), rel=0.01)
    assert np.count_nonzero(seen) <= np.count_nonzero(rates)


def test_outside_a_coins_life_funding_is_unknown_and_not_zero() -> None:
    market = synthetic_market(SyntheticConfig(coins=10, hours=24 * 60, seed=2, late_listings=0.5))
    panel, truth = market.panel, market.truth
    published = panel.view().feature(published_funding)
    for coin, (listed, delisted) in enumerate(zip(truth.listing_row, truth.delisting_row, strict=True)):
        assert np.isnan(published[: listed + 1, coin]).all()
        assert np.isfinite(published[listed + 1 : delisted + 1, coin]).all()
        assert np.isnan(published[delisted + 2 :, coin]).all()


def test_features_of_a_short_view_are_the_long_ones_cut_bit_for_bit() -> None:
    view = synthetic_market(SyntheticConfig(coins=14, hours=24 * 30, seed=5)).panel.view()
    spec = PCASpec(K=15, H_hours=8, min_assets=5)
    features = (
        (residual_momentum, {"spec": spec, "span_hours": 16.0}),
        (funding_level, {"span_hours": 16.0}),
        (funding_level, {"span_hours": 16.0, "mode": "raw"}),
    )
    for function, parameters in features:
        whole = view.feature(function, **parameters)
        assert np.isfinite(whole[-1]).sum() >= 10
        for row in (300, 517):
            cut = view._panel.view(row).feature(function, **parameters)
            np.testing.assert_array_equal(cut, whole[: row + 1])


def test_features_that_cannot_be_computed_are_refused() -> None:
    view = resample(synthetic_market(SyntheticConfig(coins=10, hours=24 * 5)).panel, 4).view()
    with pytest.raises(UsageError, match="2 h is shorter than one bar of 4 h"):
        view.feature(residual_momentum, spec=PCASpec(), span_hours=2.0)
    with pytest.raises(UsageError, match="2 h is shorter than one bar of 4 h"):
        view.feature(funding_level, span_hours=2.0)
    with pytest.raises(UsageError, match=r"holds 1 bars of 100 h; two are needed"):
        momentum_components(view.log_return, 100, (200,))
    with pytest.raises(UsageError, match="funding mode 'level' is unknown"):
        funding_features(funding_series(), mode="level")  # type: ignore[arg-type]


@given(seed=st.integers(0, 10**6))
def test_cross_sections_are_those_of_plain_pandas(seed: int) -> None:
    signal = series(seed, rows=40, columns=9).round(2)  # ties
    signal.iloc[3] = np.nan
    signal.iloc[4, 1:] = np.nan
    signal.iloc[5] = 0.3
    mean, count = signal.mean(axis=1), signal.count(axis=1)
    np.testing.assert_allclose(cross_sectional_demean(signal), signal.sub(mean, axis=0), rtol=0, atol=1e-10)
    spread = signal.std(axis=1).where(signal.nunique(axis=1) > 1)
    peer = signal.sub(mean, axis=0).div(spread, axis=0)
    np.testing.assert_allclose(cross_sectional_zscore(signal), peer, rtol=0, atol=1e-10)
    ranks = signal.rank(axis=1).sub((count + 1) / 2, axis=0).div(count, axis=0)
    np.testing.assert_allclose(cross_sectional_rank(signal), ranks, rtol=0, atol=1e-10)


def test_a_row_of_equal_values_has_no_zscore_and_zero_ranks() -> None:
    equal = pd.DataFrame([[0.1, 0.1, 0.1]], columns=list("abc"))
    assert cross_sectional_zscore(equal).isna().all(axis=None)
    assert (cross_sectional_rank(equal) == 0.0).all(axis=None)


def test_a_signal_counts_only_where_the_coin_may_be_held() -> None:
    signal = series(1, rows=6, columns=3)
    signal.iloc[:, 1] = 1.0
    universe = pd.DataFrame(True, signal.index[1:], ["C0", "C1"])
    universe.iloc[2, 0] = False
    held = align_universe(signal, universe)
    assert held.iloc[0].isna().all()
    assert np.isnan(held.iloc[3, 0])
    assert held["C1"].iloc[1:].eq(1.0).all()
    assert held["C2"].isna().all()
    with pytest.raises(FrameError, match="no coin in common"):
        align_universe(signal, universe.rename(columns=str.lower))
    with pytest.raises(FrameError, match="neither True nor False"):
        align_universe(signal, universe.astype(float))


def test_autocorrelation_is_that_of_plain_pandas_with_lags_in_hours() -> None:
    values = series(2, rows=200, bar_hours=4)
    values["C0"] = values["C0"].fillna(0.0).ewm(span=10).mean()
    found = autocorrelation(values, max_lag_hours=40)
    assert found.index.tolist() == [4.0 * lag for lag in range(1, 11)]
    for coin in values:
        peer = [values[coin].autocorr(lag) for lag in range(1, 11)]
        np.testing.assert_allclose(found[coin], peer, rtol=0, atol=1e-10)
    dropped = values.drop(index=values.index[[20, 21, 50]])
    absent = values.copy()
    absent.iloc[[20, 21, 50]] = np.nan
    np.testing.assert_allclose(autocorrelation(dropped, 40), autocorrelation(absent, 40), rtol=0, atol=1e-12)
    with pytest.raises(UsageError, match="shorter than one bar"):
        autocorrelation(values, max_lag_hours=3)


@given(half_life=st.floats(2.0, 150.0), amplitude=st.floats(0.2, 1.0))
def test_the_half_life_of_an_exponential_decay_is_found(half_life: float, amplitude: float) -> None:
    lag = np.arange(1.0, 169.0)
    acf = pd.Series(amplitude * 0.5 ** (lag / half_life), lag)
    assert fit_half_life(acf) == pytest.approx(half_life, rel=1e-4)


def test_the_planted_half_life_of_a_process_is_found_in_hours_whatever_the_bar() -> None:
    """From a simulated path: an autoregression with one-bar noise on top, sampled every 4 hours."""
    rng = np.random.default_rng(3)
    decay, rows = 0.5 ** (1.0 / 36.0), 60_000
    x = np.zeros(rows)
    shock = rng.standard_normal(rows) * np.sqrt(1.0 - decay**2)
    for t in range(1, rows):
        x[t] = decay * x[t - 1] + shock[t]
    noisy = x + 0.7 * rng.standard_normal(rows)
    index = pd.date_range("2020-01-01", periods=rows, freq=HOUR, tz="UTC")
    hourly = pd.DataFrame({"A": noisy}, index)
    for frame in (hourly, hourly.iloc[::4]):
        assert fit_half_life(autocorrelation(frame)["A"]) == pytest.approx(36.0, rel=0.15)


def test_a_half_life_without_memory_or_without_decay_says_so() -> None:
    lag = np.arange(1.0, 50.0)
    assert np.isnan(fit_half_life(pd.Series(np.full(49, -0.1), lag)))
    assert fit_half_life(pd.Series(np.full(49, 0.9), lag)) == float("inf")
    with pytest.raises(UsageError, match="at least three"):
        fit_half_life(pd.Series([0.5, 0.2], [1.0, 2.0]))


def test_the_hedge_rule_warns_of_a_component_that_is_the_signal() -> None:
    rng = np.random.default_rng(0)
    index = pd.date_range("2024-01-01", periods=4000, freq=HOUR, tz="UTC")
    factors = pd.DataFrame(rng.standard_normal((4000, 3)), index, ["pc1", "pc2", "pc3"])
    signal = 0.6 * factors["pc2"] + 0.3 * factors["pc3"] + rng.standard_normal(4000)
    second, third = hedge_check(signal, factors)
    assert second.verdict == "warn"
    assert third.verdict == "judge"
    assert second.correlation == pytest.approx(signal.corr(factors["pc2"]), abs=1e-12)
    assert second.low < second.correlation < second.high
    assert "removes the signal" in second.describe()
    (first,) = hedge_check(-factors["pc3"] * 0.1 + factors["pc1"], factors, ["pc2"])
    assert first.verdict == "safe"
    assert hedge_check(-signal, factors, ["pc2"])[0].verdict == "warn"
    with pytest.raises(UsageError, match="no component pc4"):
        hedge_check(signal, factors, ["pc4"])
    with pytest.raises(UsageError, match="0 rows hold both"):
        hedge_check(signal.shift(freq=HOUR / 2), factors)
