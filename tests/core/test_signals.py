"""The compiled signal kernels against pandas, and what they do where data is missing."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.core.signals.ewm import ewm_mean, ewm_std
from slipstream.core.signals.spans import SpanDroppedWarning, span_bars
from slipstream.core.signals.trend import mean_of_available, trend_components
from slipstream.core.signals.windows import rolling_slope, rolling_std
from slipstream.errors import UsageError


def returns_with_gaps(seed: int, rows: int = 400, columns: int = 5) -> np.ndarray:
    """Log returns of about 1 %, a twentieth missing, one column listed late, one that never moves, one with a jump."""
    random = np.random.default_rng(seed)
    values = 0.01 * random.standard_normal((rows, columns))
    values[random.random(values.shape) < 0.05] = np.nan
    values[: rows // 2, 1] = np.nan
    values[:, 2] = 0.0
    values[rows // 3, 3] = 3.0
    return values


@given(seed=st.integers(0, 10**6), span=st.floats(1.0, 200.0), least=st.integers(1, 30))
def test_the_weighted_mean_and_deviation_are_those_of_pandas(seed: int, span: float, least: int) -> None:
    values = returns_with_gaps(seed, rows=120)
    peer = pd.DataFrame(values).ewm(span=span, adjust=True, ignore_na=False, min_periods=least)
    np.testing.assert_allclose(ewm_mean(values, span, least), peer.mean(), rtol=0, atol=1e-10)
    if span > 1.0:  # with span 1 only the newest row has weight, and one row has no deviation
        np.testing.assert_allclose(ewm_std(values, span, least), peer.std(), rtol=1e-10, atol=1e-10)


@given(seed=st.integers(0, 10**6), window=st.integers(2, 90))
def test_the_rolling_deviation_is_that_of_pandas(seed: int, window: int) -> None:
    values = returns_with_gaps(seed, rows=150)
    least = max(2, window // 2)
    peer = pd.DataFrame(values).rolling(window, min_periods=least).std()
    np.testing.assert_allclose(rolling_std(values, window, least), peer, rtol=1e-9, atol=1e-10)


def test_the_rolling_deviation_forgets_a_jump_that_left_the_window() -> None:
    values = returns_with_gaps(3)
    window = 50
    got = rolling_std(values, window, 25)[:, 3]
    after = slice(400 // 3 + window, None)
    alone = np.array([np.nanstd(values[t - window + 1 : t + 1, 3], ddof=1) for t in range(400)[after]])
    np.testing.assert_allclose(got[after], alone, rtol=1e-10)


@given(seed=st.integers(0, 10**6), window=st.integers(10, 90))
def test_the_rolling_slope_is_the_least_squares_one(seed: int, window: int) -> None:
    values = returns_with_gaps(seed, rows=150)
    factor = np.random.default_rng(seed + 1).standard_normal(150) * 0.01
    factor[seed % 150] = np.nan
    slope, residual = rolling_slope(values, factor, window, 8)
    for t in (window - 1, 100, 149):
        rows = slice(max(0, t - window + 1), t + 1)
        for column in (0, 1, 3):
            x, y = factor[rows], values[rows, column]
            both = np.isfinite(x) & np.isfinite(y)
            if both.sum() < 8:
                assert np.isnan(slope[t, column])
                continue
            design = np.column_stack((np.ones(both.sum()), x[both]))
            fitted, rest, *_ = np.linalg.lstsq(design, y[both], rcond=None)
            assert slope[t, column] == pytest.approx(fitted[1], rel=1e-8, abs=1e-8)
            assert residual[t, column] == pytest.approx(float(rest[0]) / (both.sum() - 2), rel=1e-7, abs=1e-12)


def pandas_component(returns: pd.DataFrame, lookback: int, bar: int, method: str, scale: str) -> pd.DataFrame:
    """m_L written down plainly: one column at a time, one row at a time."""
    window, span = lookback // bar, max(lookback, 128) // bar
    least = max(2, span // 2)
    spread = returns.ewm(span=span, min_periods=least) if method == "ewm" else returns.rolling(span, min_periods=least)
    sigma = spread.std()
    z = returns / sigma.where(sigma > 0.0)
    out = pd.DataFrame(np.nan, index=returns.index, columns=returns.columns)
    for coin in z:
        first = z[coin].first_valid_index()
        for t in z.index:
            seen = z[coin].loc[max(t - window + 1, 0) : t].dropna()
            old_enough = first is not None and t - first + 1 >= window
            if old_enough and not np.isnan(z.loc[t, coin]) and len(seen) >= 0.9 * window:
                out.loc[t, coin] = seen.sum() / (np.sqrt(len(seen)) if scale == "sqrt" else 1.0)
    return out


@pytest.mark.parametrize("method", ["ewm", "rolling"])
@pytest.mark.parametrize("scale", ["sqrt", "none"])
def test_trend_components_are_those_of_a_plain_reference(method: str, scale: str) -> None:
    values = returns_with_gaps(11, rows=260)
    found = trend_components(values, 4, (8, 32, 256), method, scale)  # type: ignore[arg-type]
    for lookback in (8, 32, 256):
        peer = pandas_component(pd.DataFrame(values), lookback, 4, method, scale)
        assert peer.notna().to_numpy().sum() > 100
        np.testing.assert_allclose(found[lookback], peer, rtol=0, atol=1e-10)


def test_a_coin_that_never_moved_has_no_trend() -> None:
    found = trend_components(returns_with_gaps(1), 4, (8, 64))
    assert all(np.isnan(part[:, 2]).all() for part in found.values())


def test_a_component_of_a_driftless_price_has_unit_variance() -> None:
    noise = 0.01 * np.random.default_rng(5).standard_normal((3000, 40))
    for part in trend_components(noise, 4, (8, 64, 512)).values():
        # Deciding rows 512 h apart do not share a window.
        assert np.nanstd(part[500::128]) == pytest.approx(1.0, abs=0.08)


def test_the_mean_is_over_what_is_available_and_needs_half() -> None:
    a, b, c, gap = (np.array([[value]]) for value in (1.0, 2.0, 6.0, np.nan))
    assert mean_of_available([a, b, c])[0, 0] == 3.0
    assert mean_of_available([a, gap, c])[0, 0] == 3.5
    assert mean_of_available([a, b, gap, gap])[0, 0] == 1.5
    assert np.isnan(mean_of_available([a, gap, gap])[0, 0])


def test_a_span_below_one_bar_is_dropped_with_one_warning() -> None:
    with pytest.warns(SpanDroppedWarning, match="2 h, 3 h") as seen:
        assert span_bars((2, 3, 4, 9, 16), 4) == {4: 1, 9: 2, 16: 4}
    assert len(seen) == 1


def test_spans_that_hold_a_bar_raise_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert span_bars((4, 8), 4) == {4: 1, 8: 2}


def test_lookbacks_that_are_all_shorter_than_a_bar_are_refused() -> None:
    with pytest.warns(SpanDroppedWarning), pytest.raises(UsageError, match="no lookback is as long as one bar of 48 h"):
        trend_components(returns_with_gaps(1), 48, (8, 16))
