"""Longer bars hold exactly what their base bars held, on the UTC grid, and nothing that is not finished."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.core.bars import resample
from slipstream.core.panel import HOUR_MS, Panel, PanelError, UniverseRule
from slipstream.lake import load_panel

MIDNIGHT_HOUR = 482_136  # 2025-01-01 00:00 UTC, in hours since the epoch


def hourly(rows: int, first_known: int = 1, columns: int = 2, seed: int = 42, holes: float = 0.0) -> Panel:
    """A random hourly panel whose first row is known this many hours after midnight."""
    rng = np.random.default_rng(seed)
    shape = (rows, columns)
    close = 100.0 * np.exp(np.cumsum(rng.normal(0, 0.01, shape), axis=0))
    opens = close * np.exp(rng.normal(0, 0.002, shape))
    absent = rng.random(shape) < holes
    funding = np.where(rng.random(shape) < holes, np.nan, rng.normal(0, 1e-5, shape))

    def masked(values):
        return np.where(absent, np.nan, values)

    return Panel.build(
        (MIDNIGHT_HOUR + first_known + np.arange(rows)) * HOUR_MS,
        tuple(f"C{column}" for column in range(columns)),
        1,
        open=masked(opens),
        high=masked(np.maximum(opens, close) * 1.001),
        low=masked(np.minimum(opens, close) * 0.999),
        close=masked(close),
        volume_usd=masked(rng.uniform(1e5, 2e5, shape)),
        funding=funding,
        rule=UniverseRule(min_adv_usd=0.0, min_history_hours=24),
    )


def test_a_four_hour_bar_by_hand():
    """The bar that opens at 04:00 is made of the hours known at 05:00, 06:00, 07:00 and 08:00, and known at 08:00."""
    panel = hourly(24)
    bar, base = resample(panel, 4), slice(4, 8)
    assert bar.known_at_ms[1] == (MIDNIGHT_HOUR + 8) * HOUR_MS
    assert bar.bar_hours == 4
    np.testing.assert_array_equal(bar.open[1], panel.open[4])
    np.testing.assert_array_equal(bar.high[1], panel.high[base].max(axis=0))
    np.testing.assert_array_equal(bar.low[1], panel.low[base].min(axis=0))
    np.testing.assert_array_equal(bar.close[1], panel.close[7])
    np.testing.assert_allclose(bar.volume_usd[1], panel.volume_usd[base].sum(axis=0), rtol=1e-15)
    np.testing.assert_allclose(bar.funding[1], panel.funding[base].sum(axis=0), rtol=1e-12)


def test_funding_of_a_bar_is_the_sum_and_not_the_mean():
    panel = hourly(8)
    sticky = Panel(**{**panel.__dict__, "funding": np.full_like(panel.funding, 1.25e-5)})
    np.testing.assert_allclose(resample(sticky, 8).funding, 1e-4, rtol=1e-12)


@given(
    rows=st.integers(8, 120),
    first_known=st.integers(1, 48),
    hours=st.sampled_from([2, 3, 4, 6, 8, 12, 24]),
    seed=st.integers(0, 10),
)
def test_log_returns_funding_and_volume_add_up_over_the_base_bars(rows, first_known, hours, seed):
    panel = hourly(rows, first_known, seed=seed)
    begins = -(first_known - 1) % hours
    if rows - begins < hours:
        with pytest.raises(PanelError, match="no complete bar"):
            resample(panel, hours)
        return
    bars = resample(panel, hours)
    assert bars.rows == (rows - begins) // hours
    assert (bars.known_at_ms % (hours * HOUR_MS) == 0).all(), "bars close on the epoch grid"
    returns = np.diff(np.log(panel.close), axis=0, prepend=np.nan)
    for row in range(1, bars.rows):
        base = slice(begins + row * hours, begins + (row + 1) * hours)
        assert panel.known_at_ms[base][-1] == bars.known_at_ms[row]
        np.testing.assert_allclose(np.log(bars.close[row] / bars.close[row - 1]), returns[base].sum(axis=0), atol=1e-13)
        np.testing.assert_allclose(bars.funding[row], panel.funding[base].sum(axis=0), atol=1e-18)
        np.testing.assert_allclose(bars.volume_usd[row], panel.volume_usd[base].sum(axis=0), rtol=1e-13)


@given(hours=st.sampled_from([2, 4, 8]), seed=st.integers(0, 30))
def test_a_bar_exists_only_if_all_its_base_bars_do_and_missing_funding_stays_missing(hours, seed):
    panel = hourly(64, seed=seed, holes=0.1)
    bars = resample(panel, hours)
    for row in range(bars.rows):
        base = slice(row * hours, (row + 1) * hours)
        absent = np.isnan(panel.close[base]).any(axis=0)
        for values in (bars.open, bars.high, bars.low, bars.close, bars.volume_usd):
            np.testing.assert_array_equal(np.isnan(values[row]), absent)
        np.testing.assert_array_equal(np.isnan(bars.funding[row]), np.isnan(panel.funding[base]).any(axis=0))
        last = panel.universe[base][-1]
        np.testing.assert_array_equal(bars.universe[row], last & ~absent)


@given(st.integers(9, 60))
def test_bars_of_a_cut_panel_are_the_bars_of_the_whole_cut(rows):
    whole, cut = resample(hourly(64), 4), resample(hourly(64).until(rows - 1), 4)
    assert cut.rows == rows // 4, "the bar still forming is left out"
    np.testing.assert_array_equal(cut.close, whole.close[: cut.rows])
    np.testing.assert_array_equal(cut.funding, whole.funding[: cut.rows])
    np.testing.assert_array_equal(cut.universe, whole.universe[: cut.rows])


def test_resampling_in_two_steps_is_resampling_in_one():
    panel = hourly(96, first_known=6)
    once, twice = resample(panel, 24), resample(resample(panel, 4), 24)
    np.testing.assert_array_equal(once.known_at_ms, twice.known_at_ms)
    for name in ("open", "high", "low", "close"):
        np.testing.assert_array_equal(getattr(once, name), getattr(twice, name))
    np.testing.assert_allclose(once.funding, twice.funding, rtol=1e-12)


def test_the_same_length_is_the_same_panel():
    panel = hourly(10)
    assert resample(panel, 1) is panel


@pytest.mark.parametrize("hours", [0, -4, 6])
def test_a_length_that_is_no_multiple_is_refused(hours):
    with pytest.raises(PanelError, match=f"bars of {hours} h cannot be made from bars of 4 h"):
        resample(resample(hourly(48), 4), hours)


def test_arrays_are_contiguous():
    bars = resample(hourly(48), 4)
    for name in ("open", "high", "low", "close", "volume_usd", "funding", "universe", "known_at_ms"):
        assert getattr(bars, name).flags.c_contiguous


def test_funding_of_the_real_panel_is_the_same_in_bars_of_every_length(shared):
    panel = load_panel(shared / "data" / "hourly" / "hyperliquid_perps_1h.parquet", coins=["BTC"])
    for hours in (4, 8, 24):
        bars = resample(panel, hours)
        span = (panel.known_at_ms > bars.known_at_ms[0] - hours * HOUR_MS) & (panel.known_at_ms <= bars.known_at_ms[-1])
        assert np.nansum(bars.funding[:-1]) == pytest.approx(panel.funding[span][:-hours].sum(), rel=1e-12)
