"""The rolling market factor against its definition, and the faults that such factors have had."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipstream.core.bars import resample
from slipstream.core.factors.pca import as_of_rows, pca_exposures, pca_windows, rolling_pca
from slipstream.core.factors.pca_spec import HistoryTooShort, PCASpec
from slipstream.core.factors.spectrum import leading_eigenpair
from slipstream.core.frames import FrameError
from slipstream.core.panel import HOUR_MS, UniverseRule
from slipstream.errors import UsageError
from slipstream.lake import load_panel
from slipstream.lake.synthetic import SyntheticConfig, synthetic_market

HOUR = pd.Timedelta(hours=1)


def one_factor_market(
    bars: int = 200, coins: int = 14, seed: int = 0, gaps: float = 0.0, bar_hours: int = 1
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Log returns with one common factor, and USD volumes over decades; a share ``gaps`` of the returns is missing."""
    rng = np.random.default_rng(seed)
    beta = rng.uniform(0.4, 1.8, coins)
    returns = 0.01 * rng.standard_normal((bars, 1)) * beta + 0.008 * rng.standard_normal((bars, coins)) + 0.001
    returns[rng.random(returns.shape) < gaps] = np.nan
    volume = np.exp(rng.normal(13.0, 0.4, returns.shape) + rng.normal(0.0, 2.0, coins))
    index = pd.date_range("2024-01-01", periods=bars, freq=bar_hours * HOUR, tz="UTC", name="known_at")
    names = ["BTC", *(f"C{i:02d}" for i in range(1, coins))]
    return pd.DataFrame(returns, index, names), pd.DataFrame(volume, index, names)


def window_weights(volume: np.ndarray, method: str) -> np.ndarray:
    """Weights of a window, mean 1, from volumes (K, n) with NaN where unknown."""
    if method == "none":
        return np.ones(volume.shape[1])
    mean = np.array([np.nanmean(v) if np.isfinite(v).sum() * 2 >= len(v) else np.nan for v in volume.T])
    mean[~(mean > 0.0)] = np.nan
    mean[np.isnan(mean)] = np.nanmedian(mean)
    q = {"sqrt": np.sqrt, "sqrt_dollar": np.sqrt, "log": np.log1p, "dollar": lambda v: v}[method](mean)
    return q / q.mean()


def plain_window(returns: np.ndarray, volume: np.ndarray, method: str, min_periods: int, components: int = 1):
    """Betas and coefficients (C, N), the spectrum, of one window (K, N): the definition, decomposed in full."""
    bars, coins = returns.shape
    chosen = np.flatnonzero(np.isfinite(returns).sum(axis=0) >= min_periods)
    r = returns[:, chosen]
    there = np.isfinite(r)
    q = window_weights(volume[:, chosen], method)
    x = np.where(there, r - np.nanmean(r, axis=0), 0.0) * np.sqrt(bars / there.sum(axis=0))
    y = x * np.sqrt(q)
    values, vectors = np.linalg.eigh(y.T @ y / (bars - 1))
    beta, coef = np.full((2, components, coins), np.nan)
    for j in range(components):
        u = vectors[:, -1 - j]
        c = np.sqrt(q) * u
        slope = u / np.sqrt(q) * np.sqrt(bars / there.sum(axis=0))
        for _ in range(60):
            share = (there * c * slope).sum(axis=1) / (c * slope).sum()
            f = np.where(there, c * r, 0.0).sum(axis=1)
            f = np.array([moved / s if s >= 0.6 else np.nan for moved, s in zip(f, share, strict=True)])
            for i in range(len(chosen)):
                both = there[:, i] & np.isfinite(f)
                slope[i] = np.cov(r[both, i], f[both])[0, 1] / np.var(f[both], ddof=1)
        a = (q * slope).sum() / q.sum() if j == 0 else 1.0 / np.abs(c).sum()
        beta[j, chosen], coef[j, chosen] = slope / a, a * c
    return beta, coef, values[::-1]


@pytest.mark.parametrize("method", ["none", "sqrt", "log", "dollar", "sqrt_dollar"])
@pytest.mark.parametrize(("coins", "gaps"), [(14, 0.0), (14, 0.04), (40, 0.04)])
def test_the_factor_is_that_of_a_full_decomposition_of_every_window(method: str, coins: int, gaps: float) -> None:
    returns, volume = one_factor_market(bars=60, coins=coins, seed=coins, gaps=gaps)
    volume.iloc[:, 1] = 0.0
    volume.iloc[:40, 2] = np.nan
    returns.iloc[:35, 3] = np.nan  # listed late
    got = rolling_pca(returns, volume, K=30, H_hours=1, weight_method=method, min_periods=20)
    for row in range(0, 31, 5):
        window = slice(row, row + 30)
        beta, coef, values = plain_window(returns.to_numpy()[window], volume.to_numpy()[window], method, 20)
        np.testing.assert_allclose(got.beta.iloc[row], beta[0], rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(got.coefs.iloc[row], coef[0], rtol=1e-8, atol=1e-10)
        stats = got.stats.iloc[row]
        assert stats["_pc1_eigenvalue"] == pytest.approx(values[0], rel=1e-10)
        assert stats["_variance_explained"] == pytest.approx(values[0] / values.sum(), rel=1e-10)
        rank = min(29, int(stats["_n_assets"]))
        assert stats["_condition_number"] == pytest.approx(values[0] / values[rank - 1], rel=1e-6)
        assert stats["_n_assets"] == np.isfinite(beta[0]).sum()


def test_three_components_are_those_of_a_full_decomposition_but_for_the_sign() -> None:
    returns, volume = one_factor_market(bars=33, seed=3, gaps=0.02)
    got = rolling_pca(returns, volume, K=30, H_hours=1, n_components=3)
    for row in range(4):
        beta, coef, values = plain_window(
            returns.to_numpy()[row : row + 30], volume.to_numpy()[row : row + 30], "sqrt", 24, components=3
        )
        found_beta = got.beta.iloc[row].to_numpy().reshape(3, -1)
        found_coef = got.coefs.iloc[row].to_numpy().reshape(3, -1)
        for j in range(3):
            sign = np.sign(np.nansum(found_coef[j] * coef[j]))
            np.testing.assert_allclose(found_beta[j], sign * beta[j], rtol=1e-7, atol=1e-8)
            np.testing.assert_allclose(found_coef[j], sign * coef[j], rtol=1e-7, atol=1e-9)
            assert got.stats.iloc[row][f"_eigenvalue_pc{j + 1}"] == pytest.approx(values[j], rel=1e-9)
        assert np.abs(np.nan_to_num(found_coef[1:])).sum(axis=1) == pytest.approx(1.0)
    assert list(got.beta.columns[[0, 14, 28]]) == ["BTC_pc1", "BTC_pc2", "BTC_pc3"]


def test_later_components_first_move_with_btc_and_then_keep_their_direction() -> None:
    returns, volume = one_factor_market(bars=120, seed=8)
    got = rolling_pca(returns, volume, K=30, H_hours=1, n_components=3)
    for j in (2, 3):
        assert got.beta[f"BTC_pc{j}"].iloc[0] > 0.0
        c = got.coefs.filter(regex=f"_pc{j}$").to_numpy()
        assert ((c[1:] * c[:-1]).sum(axis=1) > 0.0).all()


@pytest.mark.parametrize("method", ["none", "sqrt", "log", "dollar"])
def test_without_gaps_beta_is_the_first_vector_over_the_root_of_the_weights(method: str) -> None:
    returns, volume = one_factor_market(bars=30, seed=5)
    beta = rolling_pca(returns, volume, K=30, H_hours=1, weight_method=method).beta.iloc[0].to_numpy()
    q = window_weights(volume.to_numpy(), method)
    u = np.linalg.svd((returns - returns.mean()).to_numpy() * np.sqrt(q))[2][0]
    shape = u / np.sqrt(q)
    np.testing.assert_allclose(beta, shape * (q.sum() / (q * shape).sum()), rtol=1e-9)
    assert (q * beta).sum() / q.sum() == pytest.approx(1.0, rel=1e-12)


def test_betas_are_slopes_of_unweighted_returns_on_the_factor() -> None:
    """Loadings of weighted returns, used as betas, would grow with the root of a coin's volume."""
    returns, volume = one_factor_market(bars=30, seed=6)
    got = rolling_pca(returns, volume, K=30, H_hours=1, weight_method="dollar")
    f = returns.to_numpy() @ got.coefs.iloc[0].to_numpy()
    slopes = [np.polyfit(f, returns[coin], 1)[0] for coin in returns]
    np.testing.assert_allclose(got.beta.iloc[0], slopes, rtol=1e-8)


def test_one_gap_costs_neither_the_coin_nor_its_neighbours_rows() -> None:
    whole, volume = one_factor_market(bars=30, coins=20, seed=7)
    holed = whole.copy()
    holed.iloc[10, 4] = np.nan
    before, after = (rolling_pca(r, volume, K=30, H_hours=1) for r in (whole, holed))
    assert after.stats["_n_assets"].iloc[0] == 20
    assert after.beta.iloc[0].notna().all()
    # Every other coin keeps its 30 rows: the slopes of all of them on the factor, gap filled by the rest of it.
    c, beta = after.coefs.iloc[0].to_numpy(), after.beta.iloc[0].to_numpy()
    r = holed.to_numpy()
    share = np.where(np.isnan(r), 0.0, c * beta).sum(axis=1) / (c * beta).sum()
    f = np.nansum(c * r, axis=1) / share
    others = [i for i in range(20) if i != 4]
    np.testing.assert_allclose(beta[others], [np.polyfit(f, r[:, i], 1)[0] for i in others], rtol=1e-8)
    seen = ~np.isnan(r[:, 4])
    assert beta[4] == pytest.approx(np.polyfit(f[seen], r[seen, 4], 1)[0], rel=1e-8)
    # Dropping the row for all, or treating the gap as a return of 0, moves the betas by far more than its absence.
    assert np.abs(after.beta.iloc[0] - before.beta.iloc[0]).drop("C04").max() < 0.05


def test_a_row_without_most_of_the_factor_has_no_factor_return_and_the_window_lives_on() -> None:
    returns, volume = one_factor_market(bars=30, coins=12, seed=9)
    returns.iloc[[3, 20], 1:] = np.nan
    beta, _, _ = plain_window(returns.to_numpy(), volume.to_numpy(), "sqrt", 24)
    got = rolling_pca(returns, volume, K=30, H_hours=1)
    np.testing.assert_allclose(got.beta.iloc[0], beta[0], rtol=1e-8)
    assert got.blank == {}


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), cut=st.integers(44, 110), components=st.sampled_from([1, 3]))
def test_replacing_the_future_leaves_every_earlier_row_bit_identical(seed: int, cut: int, components: int) -> None:
    returns, volume = one_factor_market(bars=160, coins=12, seed=seed, gaps=0.02)
    other_returns, other_volume = one_factor_market(bars=160, coins=12, seed=seed + 1, gaps=0.5)
    mixed = [
        pd.concat([mine.iloc[:cut], theirs.iloc[cut:] * 7.0])
        for mine, theirs in ((returns, other_returns), (volume, other_volume))
    ]
    spec = {"K": 10, "H_hours": 4, "min_assets": 5, "n_components": components}
    known, changed = rolling_pca(returns, volume, **spec), rolling_pca(*mixed, **spec)
    until = returns.index[cut - 1]
    assert len(known.beta.loc[:until]) >= 1
    for part in ("beta", "coefs", "stats"):
        pd.testing.assert_frame_equal(
            getattr(known, part).loc[:until], getattr(changed, part).loc[:until], check_exact=True
        )


def test_a_row_depends_on_its_own_window_only() -> None:
    returns, volume = one_factor_market(bars=120, coins=12, seed=2, gaps=0.02)
    late = slice(60, None)
    whole = rolling_pca(returns, volume, K=10, H_hours=4)
    part = rolling_pca(returns.iloc[late], volume.iloc[late], K=10, H_hours=4)
    pd.testing.assert_frame_equal(whole.beta.loc[part.beta.index], part.beta, check_exact=True)


def test_bars_lie_on_the_epoch_grid_and_rows_are_labelled_by_their_end() -> None:
    returns, volume = one_factor_market(bars=300, seed=1)
    start = returns.index[5]
    got = rolling_pca(returns.loc[start:], volume.loc[start:], K=10, H_hours=8)
    hours = got.beta.index.as_unit("ms").asi8 // HOUR_MS
    assert (hours % 8 == 0).all()
    assert (np.diff(hours) == 8).all()
    # The first row is known at 05:00, so its bar opened at 04:00: the first whole bar is that of 08:00 to 16:00.
    assert got.beta.index[0] == pd.Timestamp("2024-01-01 08:00", tz="UTC") + 80 * HOUR
    end = got.beta.index[3]
    summed = pd.DataFrame(
        [returns.loc[end - (8 * (10 - m) - 1) * HOUR : end - 8 * (9 - m) * HOUR].sum() for m in range(10)]
    )
    amount = pd.DataFrame(
        [volume.loc[end - (8 * (10 - m) - 1) * HOUR : end - 8 * (9 - m) * HOUR].sum() for m in range(10)]
    )
    beta, _, _ = plain_window(summed.to_numpy(), amount.to_numpy(), "sqrt", 8)
    np.testing.assert_allclose(got.beta.iloc[3], beta[0], rtol=1e-8)


def test_a_bar_that_misses_one_base_bar_is_missing() -> None:
    returns, volume = one_factor_market(bars=90, coins=12, seed=4)
    returns.iloc[13, 2] = np.nan
    got = rolling_pca(returns, volume, K=10, H_hours=8, min_periods=10)
    window_holds_it = got.beta["C02"].isna()
    assert window_holds_it.all()
    assert got.beta.drop(columns="C02").notna().all(axis=None)


def candles_of_equal_coins(seed: int = 11, hours: int = 24 * 12) -> pl.DataFrame:
    """Five coins with one true beta and the same USD volume whose prices differ by 1e5, as raw candles."""
    rng = np.random.default_rng(seed)
    market = 0.01 * rng.standard_normal(hours)
    frames = []
    for coin, price in (("BTC", 1e5), ("ETH", 3e3), ("SOL", 150.0), ("DOGE", 0.2), ("kPEPE", 1.0)):
        close = price * np.exp(np.cumsum(market + 0.004 * rng.standard_normal(hours)))
        opening = np.append(price, close[:-1])
        high, low = np.maximum(opening, close), np.minimum(opening, close)
        usd = 1e6 * np.exp(0.3 * rng.standard_normal(hours))
        first = pl.datetime(2024, 1, 1, time_zone="UTC")
        frames.append(
            pl.DataFrame(
                {
                    "ts": pl.datetime_range(
                        first, first + pl.duration(hours=hours - 1), "1h", time_unit="ms", eager=True
                    ),
                    "coin": [coin] * hours,
                    "open": opening,
                    "high": high,
                    "low": low,
                    "close": close,
                    "volume": usd * 3.0 / (high + low + close),
                    "funding": np.zeros(hours),
                }
            )
        )
    return pl.concat(frames)


def test_the_price_of_a_unit_gives_no_coin_the_factor(tmp_path) -> None:
    """Coin volume as the weight would leave BTC out: a thousand dollars buy 1e5 times as many of the cheapest coin."""
    file = tmp_path / "equal.parquet"
    candles_of_equal_coins().write_parquet(file)
    panel = load_panel(file, rule=UniverseRule(0.0, 2))
    for method in ("sqrt", "dollar", "log"):
        spec = PCASpec(K=30, H_hours=8, weight_method=method, min_assets=5)
        beta, coef = panel.view().feature(pca_exposures, spec=spec)[-1, :, 0]
        assert beta == pytest.approx(1.0, abs=0.25)
        share = np.abs(coef) / np.abs(coef).sum()
        assert (share > 0.1).all()
        assert (share < 0.35).all()


def white_error(f: np.ndarray, r: np.ndarray, slope: float) -> float:
    """Standard error of a slope that allows for bursts of volatility (White's, third variant)."""
    x, y = f - f.mean(), r - r.mean()
    rest = (y - slope * x) / (1.0 - 1.0 / len(x) - x * x / (x @ x))
    return float(np.sqrt((x * x * rest * rest).sum()) / (x @ x))


def test_true_betas_lie_within_three_standard_errors_for_99_of_100_coins() -> None:
    """On a market of many liquid coins: where a few coins are the market, a beta to it is partly one to themselves."""
    K, within = 60, []
    for seed in (0, 1):
        market = synthetic_market(SyntheticConfig(coins=150, hours=24 * 200, seed=seed, volume_spread=1.0))
        panel = resample(market.panel, 8)
        returns, volume = panel.view().log_return, panel.volume_usd
        found = pca_windows(returns, volume, panel.known_at_ms, 8, panel.coins, PCASpec(K=K, H_hours=8))
        for row in range(1, len(found.beta), K):  # no window shares a bar with the next
            held = np.flatnonzero(~np.isnan(found.beta[row, 0]))
            beta, c, r = found.beta[row, 0, held], found.coef[row, 0, held], returns[row : row + K, held]
            q = np.sqrt(np.nanmean(volume[row : row + K, held], axis=0))
            truth = market.truth.beta[held] * q.sum() / (q @ market.truth.beta[held])
            there = ~np.isnan(r)
            f = np.nansum(c * r, axis=1) * (c @ beta) / (there @ (c * beta))
            for i in range(len(held)):
                error = white_error(f[there[:, i]], r[there[:, i], i], beta[i])
                within.append(abs(beta[i] - truth[i]) <= 3.0 * error)
    assert len(within) > 2000
    assert np.mean(within) >= 0.99


def test_a_feature_of_a_short_view_is_the_long_ones_cut_bit_for_bit() -> None:
    panel = synthetic_market(SyntheticConfig(coins=20, hours=24 * 20, seed=3)).panel
    for components in (1, 3):
        spec = PCASpec(K=20, H_hours=8, n_components=components)
        whole = panel.view().feature(pca_exposures, spec=spec)
        assert np.isfinite(whole[-1]).any()
        for row in (100, 161, 168, 333, 478):
            cut = panel.view(row).feature(pca_exposures, spec=spec)
            np.testing.assert_array_equal(cut, whole[: row + 1])


def test_a_row_is_used_until_it_is_two_bars_old_and_never_before_it_is_known() -> None:
    known = np.array([80, 160, 400], dtype=np.int64)
    at = np.array([79, 80, 159, 160, 320, 321, 400, 561], dtype=np.int64)
    assert as_of_rows(known, at, 160).tolist() == [-1, 0, 0, 1, 1, -1, 2, -1]
    assert as_of_rows(known[:0], at, 160).tolist() == [-1] * 8


def test_every_row_without_a_factor_is_counted_with_its_cause() -> None:
    returns, volume = one_factor_market(bars=40, coins=6, seed=1)
    assert rolling_pca(returns, volume, K=30, H_hours=1).blank == {"too few coins": 11}
    assert rolling_pca(returns * 0.0 + 0.01, volume, K=30, H_hours=1, min_assets=6).blank == {"no variance": 11}
    assert rolling_pca(returns, volume * np.nan, K=30, H_hours=1, min_assets=6).blank == {"no coin with a volume": 11}
    opposed = pd.DataFrame({f"{c}{side}": returns["BTC"] * (1 if side else -1) for c in "abc" for side in (0, 1)})
    got = rolling_pca(opposed, None, K=30, H_hours=1, min_assets=6, weight_method="none")
    assert got.blank == {"no common direction": 11}
    assert got.beta.isna().all(axis=None)
    assert got.stats["_variance_explained"].isna().all()
    assert (got.stats["_n_assets"] == 6).all()


def test_what_cannot_be_used_is_refused_with_the_cause() -> None:
    returns, volume = one_factor_market(bars=60, coins=12, bar_hours=4)
    with pytest.raises(UsageError, match="H = 6 h is no multiple of the 4 h bar"):
        rolling_pca(returns, volume, K=5, H_hours=6)
    with pytest.raises(UsageError, match=r"weight method 'volume' is unknown; choose one of none, sqrt"):
        rolling_pca(returns, volume, weight_method="volume")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="min_periods is 31; it must be 3 to 30"):
        rolling_pca(returns, volume, min_periods=31)
    with pytest.raises(
        HistoryTooShort, match=r"H = 24 h: the history holds 9 bars of 24 h and one window needs 30"
    ) as e:
        rolling_pca(returns, volume, H_hours=24)
    assert e.value.exit_code == 1
    with pytest.raises(FrameError, match="no coin in common"):
        rolling_pca(returns, volume.rename(columns=str.lower), K=5)
    with pytest.raises(FrameError, match="no time in common"):
        rolling_pca(returns, volume.shift(freq=HOUR), K=5)
    with pytest.raises(FrameError, match="is negative"):
        rolling_pca(returns, -volume, K=5)
    with pytest.raises(UsageError, match="no volume was given"):
        rolling_pca(returns, None, K=5)
    with pytest.raises(FrameError, match="off the UTC grid"):
        rolling_pca(returns.shift(freq=HOUR), volume.shift(freq=HOUR), K=5)


@given(seed=st.integers(0, 10**6), size=st.floats(0.05, 20.0), unit=st.floats(1e-3, 1e3))
def test_betas_do_not_depend_on_units_or_on_the_order_of_coins(seed: int, size: float, unit: float) -> None:
    returns, volume = one_factor_market(bars=24, coins=12, seed=seed, gaps=0.02)
    spec = {"K": 24, "H_hours": 1, "min_periods": 15}
    order = np.random.default_rng(seed).permutation(12)
    plain = rolling_pca(returns, volume, **spec).beta
    scaled = rolling_pca(size * returns, unit * volume, **spec).beta
    mixed = rolling_pca(returns.iloc[:, order], volume.iloc[:, order], **spec).beta[plain.columns]
    np.testing.assert_allclose(scaled, plain, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(mixed, plain, rtol=1e-7, atol=1e-9)


@given(seed=st.integers(0, 10**6), strength=st.floats(0.0, 3.0))
def test_a_vector_is_only_accepted_with_a_proof_that_holds(seed: int, strength: float) -> None:
    rng = np.random.default_rng(seed)
    y = rng.standard_normal((12, 25)) + strength * rng.standard_normal((12, 1))
    gram, vector = y @ y.T, np.empty(12)
    value = leading_eigenpair(gram, y.sum(axis=1), vector)
    values, basis = np.linalg.eigh(gram)
    if strength > 2.0:
        assert np.isfinite(value)
    if np.isfinite(value):
        assert value == pytest.approx(values[-1], rel=1e-12)
        top = basis[:, -1]
        assert np.linalg.norm(vector - top * (top @ vector)) < 1e-10
