"""The panel and its view: shapes, the known-at rule, universes and features that cannot see ahead."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipstream.core.coverage import coverage
from slipstream.core.panel import HOUR_MS, Panel, PanelError, UniverseRule, forward_fill, to_ms, trailing_mean, utc

START = 1_704_067_200_000
ANY = UniverseRule(min_adv_usd=0.0, min_history_hours=2)


def panel_of(close, *, volume=None, funding=None, rule=ANY) -> Panel:
    close = np.asarray(close, dtype=np.float64)
    volume = np.where(np.isnan(close), np.nan, 1e6) if volume is None else np.asarray(volume, dtype=np.float64)
    funding = np.zeros_like(close) if funding is None else np.asarray(funding, dtype=np.float64)
    return Panel.build(
        START + HOUR_MS * np.arange(len(close), dtype=np.int64),
        tuple(f"C{i}" for i in range(close.shape[1])),
        1,
        open=close,
        high=close,
        low=close,
        close=close,
        volume_usd=volume,
        funding=funding,
        rule=rule,
    )


def test_a_view_holds_its_row_and_nothing_after_it():
    panel = panel_of(np.arange(1.0, 13.0).reshape(6, 2))
    view = panel.view(3)
    assert view.rows == 4
    assert view.known_at_ms == START + 3 * HOUR_MS
    assert view.close[-1].tolist() == [7.0, 8.0]
    assert view.as_of(1).close.tolist() == [[1.0, 2.0], [3.0, 4.0]]
    for row in (-1, 6):
        with pytest.raises(PanelError, match="outside"):
            panel.view(row)
        with pytest.raises(PanelError, match="outside"):
            panel.view().as_of(row)


def test_the_settlement_stamped_at_a_close_is_not_in_the_view_of_that_close():
    panel = panel_of(np.ones((4, 1)), funding=[[0.1], [0.2], [0.3], [0.4]])
    published = panel.view(2).funding_published[:, 0]
    assert np.isnan(published[0])
    assert published[1:].tolist() == [0.1, 0.2]


def test_a_return_over_a_gap_is_not_a_signal_but_the_mark_carries_through_it():
    panel = panel_of([[100.0], [110.0], [np.nan], [121.0], [133.1]])
    returns = panel.view().log_return[:, 0]
    assert np.isnan(returns[[0, 2, 3]]).all()
    assert returns[[1, 4]] == pytest.approx(np.log(1.1))
    assert panel.mark[:, 0].tolist() == [100.0, 110.0, 110.0, 121.0, 133.1]


def test_a_feature_is_computed_once_and_cut_for_earlier_views():
    calls = []

    def doubled(view):
        calls.append(view.rows)
        return 2.0 * view.close

    whole = panel_of(np.arange(1.0, 11.0).reshape(5, 2)).view()
    for row in (0, 2, 4):
        assert (whole.as_of(row).feature(doubled) == 2.0 * whole.close[: row + 1]).all()
    assert calls == [5]
    with pytest.raises(ValueError, match="read-only"):
        whole.feature(doubled)[0] = 0.0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"close": np.ones((3, 2))}, "close has shape"),
        ({"known_at_ms": START + HOUR_MS * np.array([0, 1, 2, 4, 5])}, "step by exactly 1 h"),
        ({"coins": ("A", "A")}, "not unique"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(change, words):
    with pytest.raises(PanelError, match=words):
        replace(panel_of(np.ones((5, 2))), **change)


def test_a_coin_enters_the_universe_with_history_and_volume_and_leaves_with_its_last_bar():
    hours = 12
    close = np.ones((hours, 4))
    close[:5, 1] = np.nan  # listed at row 5
    close[9:, 2] = np.nan  # delisted after row 8
    volume = np.full((hours, 4), 1e5)
    volume[:, 3] = 1.0  # hardly trades
    rule = UniverseRule(min_adv_usd=1e6, min_history_hours=4)
    universe = panel_of(close, volume=np.where(np.isnan(close), np.nan, volume), rule=rule).universe
    assert universe[:, 0].tolist() == [False] * 3 + [True] * 9
    assert universe[:, 1].tolist() == [False] * 8 + [True] * 4
    assert universe[:, 2].tolist() == [False] * 3 + [True] * 6 + [False] * 3
    assert not universe[:, 3].any()


def test_a_panel_without_volumes_is_judged_on_history_alone():
    close = np.ones((6, 1))
    universe = panel_of(close, volume=np.full((6, 1), np.nan), rule=UniverseRule(1e9, 3)).universe
    assert universe[:, 0].tolist() == [False, False, True, True, True, True]


@settings(max_examples=25)
@given(st.integers(0, 1000), st.integers(5, 28))
def test_the_universe_up_to_a_row_does_not_depend_on_what_follows(seed, row):
    rng = np.random.default_rng(seed)
    close = np.where(rng.random((30, 3)) < 0.15, np.nan, rng.uniform(1.0, 2.0, (30, 3)))
    volume = np.where(np.isnan(close), np.nan, rng.lognormal(10.0, 2.0, (30, 3)))
    rule = UniverseRule(min_adv_usd=1e6, min_history_hours=5)
    whole = panel_of(close, volume=volume, rule=rule).universe
    cut = panel_of(close[: row + 1], volume=volume[: row + 1], rule=rule).universe
    assert (whole[: row + 1] == cut).all()


def test_coverage_counts_gaps_silence_and_missing_settlements():
    close = np.ones((6, 2))
    close[2, 0] = np.nan
    close[4:, 1] = np.nan
    volume = np.where(np.isnan(close), np.nan, 1.0)
    volume[1, 0] = 0.0
    funding = np.zeros((6, 2))
    funding[3, 0] = np.nan
    first, second = coverage(panel_of(close, volume=volume, funding=funding))
    assert (first.bars, first.gap_bars, first.zero_volume_bars, first.funding_missing, first.ends_early) == (
        5,
        1,
        1,
        1,
        False,
    )
    assert (second.bars, second.gap_bars, second.ends_early, second.last_ms) == (4, 0, True, START + 3 * HOUR_MS)


def test_forward_fill_and_trailing_mean_follow_their_definitions():
    values = np.array([[np.nan], [1.0], [np.nan], [3.0]])
    assert np.isnan(forward_fill(values)[0, 0])
    assert forward_fill(values)[1:, 0].tolist() == [1.0, 1.0, 3.0]
    series = np.arange(1.0, 7.0)[:, None]
    assert trailing_mean(series, 3)[:, 0] == pytest.approx([1.0, 1.5, 2.0, 3.0, 4.0, 5.0])


def test_moments_convert_both_ways_and_naive_ones_are_utc():
    moment = utc(START)
    assert moment.isoformat() == "2024-01-01T00:00:00+00:00"
    assert to_ms(moment) == START
    assert to_ms(moment.replace(tzinfo=None)) == START
    assert to_ms(np.datetime64("2024-01-01T00:00")) == START
