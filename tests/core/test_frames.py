"""From wide frames to the panel and back: nothing is filled, nothing moves to another row."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.core.frames import FrameError, panel_from_returns, unpadded
from slipstream.core.panel import HOUR_MS, UniverseRule

ANY = UniverseRule(min_adv_usd=0.0, min_history_hours=4)


def frame_of(values: np.ndarray, hours: int = 4, zone: str | None = "UTC") -> pd.DataFrame:
    index = pd.date_range("2025-01-01 04:00", periods=len(values), freq=f"{hours}h", tz=zone)
    return pd.DataFrame(values, index=index, columns=[f"C{i}" for i in range(values.shape[1])])


def noise(rows: int = 60, columns: int = 4, seed: int = 0) -> np.ndarray:
    return 0.01 * np.random.default_rng(seed).standard_normal((rows, columns))


@given(seed=st.integers(0, 10**6), missing=st.floats(0.0, 0.4))
def test_the_panel_returns_what_the_frame_said_wherever_both_closes_exist(seed: int, missing: float) -> None:
    values = noise(seed=seed)
    values[np.random.default_rng(seed).random(values.shape) < missing] = np.nan
    panel = panel_from_returns(frame_of(values), rule=ANY)
    got = panel.view().log_return[1:]
    known = ~np.isnan(got)
    np.testing.assert_allclose(got[known], values[known], atol=1e-12)
    after_gap = np.isnan(got) & ~np.isnan(values)
    assert np.isnan(panel.close[:-1])[after_gap].all()


def test_a_holder_over_a_gap_earns_the_whole_move_after_it() -> None:
    panel = panel_from_returns(frame_of(np.array([[0.1], [np.nan], [0.2], [0.1]])), rule=ANY)
    np.testing.assert_allclose(panel.mark[:, 0], np.exp([0.0, 0.1, 0.1, 0.3, 0.4]))
    assert np.isnan(panel.close[2, 0])


def test_rows_keep_their_times_and_naive_ones_are_utc() -> None:
    values = noise()
    panels = [panel_from_returns(frame_of(values, zone=zone), rule=ANY) for zone in ("UTC", None)]
    assert panels[0].known_at_ms[1] == pd.Timestamp("2025-01-01 04:00", tz="UTC").value // 10**6
    assert panels[0].bar_hours == 4
    np.testing.assert_array_equal(panels[0].known_at_ms, panels[1].known_at_ms)
    elsewhere = panel_from_returns(frame_of(values).tz_convert("Asia/Tokyo"), rule=ANY)
    np.testing.assert_array_equal(panels[0].known_at_ms, elsewhere.known_at_ms)


def test_a_missing_row_becomes_a_gap_and_not_a_shorter_history() -> None:
    frame = frame_of(noise()).drop(index=pd.Timestamp("2025-01-02 00:00", tz="UTC"))
    panel = panel_from_returns(frame, rule=ANY)
    assert panel.rows == 61
    assert (np.diff(panel.known_at_ms) == 4 * HOUR_MS).all()
    assert np.isnan(panel.close[6]).all()


def test_a_zero_filled_listing_is_not_there_before_it_moves() -> None:
    values = noise()
    values[:30, 2] = 0.0
    panel = panel_from_returns(frame_of(values), rule=UniverseRule(min_adv_usd=0.0, min_history_hours=80))
    assert np.isnan(panel.close[:30, 2]).all()
    assert not panel.universe[:49, 2].any()
    assert panel.universe[49, 2]
    assert panel.universe[19, 1]


def test_a_zero_return_of_a_coin_that_has_moved_stays_a_return() -> None:
    np.testing.assert_array_equal(unpadded(np.array([[0.0], [0.1], [0.0]])), [[np.nan], [0.1], [0.0]])


def test_funding_lands_on_the_bar_it_was_settled_in() -> None:
    rates = frame_of(np.zeros((60, 4)))
    rates.iloc[10, 1] = 3e-5
    rates.iloc[11, 2] = np.nan
    panel = panel_from_returns(frame_of(noise()), funding=rates, rule=ANY)
    assert panel.known_at_ms[11] == rates.index[10].value // 10**6
    assert panel.funding[11, 1] == 3e-5
    assert np.isnan(panel.funding[12, 2])
    assert np.nansum(np.abs(panel.funding)) == 3e-5


def test_without_funding_every_rate_is_zero_and_without_volume_none_is_known() -> None:
    panel = panel_from_returns(frame_of(noise()), rule=ANY)
    assert not panel.funding.any()
    assert np.isnan(panel.volume_usd).all()
    assert panel.universe[-1].all()


def test_a_coin_whose_funding_is_not_in_the_file_has_none_recorded() -> None:
    funding = frame_of(np.zeros((60, 4))).drop(columns="C3")
    panel = panel_from_returns(frame_of(noise()), funding=funding, rule=ANY)
    assert np.isnan(panel.funding[1:, 3]).all()
    assert not np.isnan(panel.funding[:, :3]).any()


def test_the_past_of_a_frame_does_not_depend_on_its_future() -> None:
    values = noise()
    whole = panel_from_returns(frame_of(values), rule=ANY)
    values[40:] = noise(seed=9)[40:]
    other = panel_from_returns(frame_of(values), rule=ANY)
    cut = panel_from_returns(frame_of(values[:40]), rule=ANY)
    for panel in (other, cut):
        np.testing.assert_array_equal(whole.close[:41], panel.close[:41])
        np.testing.assert_array_equal(whole.universe[:41], panel.universe[:41])


def changed(**edits: object) -> pd.DataFrame:
    frame = frame_of(noise())
    index = frame.index.to_list()
    if "repeat" in edits:
        index[8] = index[7]
    if "swap" in edits:
        index[7], index[8] = index[8], index[7]
    if "shift" in edits:
        index[8] += pd.Timedelta(minutes=90)
    frame.index = pd.DatetimeIndex(index)
    return frame


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (changed(repeat=True), "row 8, 2025-01-02 08:00 UTC, is there twice"),
        (changed(swap=True), "comes before the row above it"),
        (changed(shift=True), "off the grid"),
        (frame_of(noise()).reset_index(drop=True), "not times"),
        (frame_of(noise()).iloc[:1], "at least two rows"),
        (frame_of(noise()).set_axis(["A", "B", "B", "C"], axis=1), "column B is there twice"),
        (frame_of(np.where(noise() > 0.02, np.inf, noise())), "is infinite"),
        (frame_of(noise()).astype(object).assign(C1="x"), "not a number"),
    ],
)
def test_a_frame_that_cannot_be_used_is_refused(frame: pd.DataFrame, message: str) -> None:
    with pytest.raises(FrameError, match=message):
        panel_from_returns(frame)


def test_frames_of_different_bars_or_coins_are_refused() -> None:
    returns = frame_of(noise())
    with pytest.raises(FrameError, match="same --interval"):
        panel_from_returns(returns, funding=frame_of(np.zeros((240, 4)), hours=1))
    with pytest.raises(FrameError, match="case-sensitive"):
        panel_from_returns(returns, funding=returns.set_axis(["c0", "c1", "c2", "c3"], axis=1))
    with pytest.raises(FrameError, match="volumes are at least 0"):
        panel_from_returns(returns, volume_usd=returns)
