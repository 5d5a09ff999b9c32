"""Which settlements were due, told from the past."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from slipstream.core.panel import HOUR_MS
from slipstream.core.settlements import missing_settlements_marked, settlement_intervals_ms

NAN = float("nan")


def marked(rates: list[float], *, bar_hours: int = 1, first_hour: int = 0) -> list[float]:
    clock = (first_hour + bar_hours * np.arange(len(rates))) * HOUR_MS
    out = missing_settlements_marked(np.array(rates)[:, None], clock, bar_hours * HOUR_MS)
    return out[:, 0].tolist()


def every(hours: int, rows: int, rate: float = 1e-4) -> list[float]:
    return [rate if t % hours == 0 else NAN for t in range(rows)]


def test_hours_between_eight_hour_stamps_owe_nothing() -> None:
    out = marked(every(8, 40))
    assert not np.isnan(out).any()
    assert sum(out) == 5 * 1e-4


def test_a_due_stamp_that_is_missing_stays_missing() -> None:
    rates = every(8, 40)
    rates[24] = NAN
    assert np.flatnonzero(np.isnan(marked(rates))).tolist() == [24]
    hourly = [1e-5] * 20
    hourly[13] = NAN
    assert np.flatnonzero(np.isnan(marked(hourly))).tolist() == [13]


def test_nothing_is_due_before_two_stamps() -> None:
    assert marked([NAN, NAN, NAN]) == [0.0, 0.0, 0.0]
    assert marked([1e-5, NAN, NAN]) == [1e-5, 0.0, 0.0]


def test_a_shorter_interval_counts_at_once_and_a_longer_one_after_two_equal_gaps() -> None:
    shorter = every(8, 24) + every(4, 24)
    shorter[40] = NAN
    assert np.flatnonzero(np.isnan(marked(shorter))).tolist() == [40]
    longer = every(4, 24) + every(8, 48)
    # 28 and 36 look lost until 32 and 40 have shown two gaps of eight hours (24 to 32, 32 to 40)
    assert np.flatnonzero(np.isnan(marked(longer))).tolist() == [28, 36]


def test_a_bar_longer_than_the_interval_owes_one_in_every_bar() -> None:
    assert np.flatnonzero(np.isnan(marked([1e-4, 1e-4, NAN, 1e-4], bar_hours=24))).tolist() == [2]


def test_coins_are_told_apart() -> None:
    """The last stamps of one coin say nothing of the next, and a coin without stamps owes nothing."""
    rates = np.full((24, 3), NAN)
    rates[:, 0] = 1e-5
    rates[9, 2] = rates[10, 2] = 1e-5
    clock = np.arange(24) * HOUR_MS
    missing = np.isnan(missing_settlements_marked(rates, clock, HOUR_MS))
    assert not missing[:, :2].any()
    assert np.flatnonzero(missing[:, 2]).tolist() == list(range(11, 24))


def test_bars_shorter_than_an_hour_know_the_hourly_grid() -> None:
    """Half-hour bars that carry a stamp each whole hour owe nothing at the half hours."""
    rates = [1e-5 if t % 2 == 0 else NAN for t in range(12)]
    rates[8] = NAN
    clock = np.arange(12) * HOUR_MS // 2
    out = missing_settlements_marked(np.array(rates)[:, None], clock, HOUR_MS // 2)
    assert np.flatnonzero(np.isnan(out[:, 0])).tolist() == [8]


def test_the_given_table_is_left_as_it_is() -> None:
    rates = np.array([[1e-5], [NAN], [NAN]])
    missing_settlements_marked(rates, np.arange(3) * HOUR_MS, HOUR_MS)
    assert np.isnan(rates[1:]).all()


def read_out_loud(stamps: list[int]) -> list[int]:
    """The rule as one reads it, hours of one coin's stamps, one after another."""
    out: list[int] = []
    interval = 0
    for k in range(len(stamps)):
        if k == 0:
            out.append(0)
            continue
        gap = stamps[k] - stamps[k - 1]
        shown = next(h for h in (8, 4, 2, 1) if stamps[k] % h == 0 and stamps[k - 1] % h == 0)
        confirmed = k >= 2 and gap == shown == stamps[k - 1] - stamps[k - 2]
        if interval == 0 or shown < interval or confirmed:
            interval = shown
        out.append(interval)
    return out


@given(
    st.lists(st.lists(st.sampled_from([1, 1, 2, 3, 4, 8, 8, 16, 4004]), max_size=25), min_size=1, max_size=4),
    st.integers(0, 7),
)
def test_the_rule_on_arrays_is_the_rule_as_read(gaps_of_coins: list[list[int]], first_hour: int) -> None:
    stamps, codes, expected = [], [], []
    for code, gaps in enumerate(gaps_of_coins):
        one = (first_hour + np.cumsum([0, *gaps])).tolist()
        stamps += one
        codes += [code] * len(one)
        expected += read_out_loud(one)
    found = settlement_intervals_ms(np.array(stamps) * HOUR_MS, np.array(codes), HOUR_MS)
    assert (found // HOUR_MS).tolist() == expected


@given(st.lists(st.sampled_from([1e-5, NAN]), min_size=3, max_size=40), st.integers(1, 39), st.integers(0, 7))
def test_what_was_due_does_not_depend_on_the_future(rates: list[float], cut: int, first_hour: int) -> None:
    whole = marked(rates, first_hour=first_hour)
    np.testing.assert_array_equal(marked(rates[:cut], first_hour=first_hour), whole[:cut])
