"""Rows of candles and funding that cannot be true: refused with coin, time and field, and nothing is taken."""

from __future__ import annotations

import json

import pytest

from slipstream.venues.errors import BadAnswer
from venues.local_faults import Fault, Replace, of_kind
from venues.local_market import HOUR_MS
from venues.visiting import NOON, answered, candle, rows_of, settlement, visit


def candles_from(rows):
    return answered("candleSnapshot", rows, lambda c, _: c.candles("BTC", "1h", NOON - 4 * HOUR_MS, NOON))[0]


def funding_from(rows):
    return answered("fundingHistory", rows, lambda c, _: c.funding("BTC", NOON - 4 * HOUR_MS, NOON))[0]


NO_NUMBERS = ["NaN", "inf", "-Infinity", "-1", "1e5", "0x10", " 1", "1_0", "", "abc", "1,5", "\u0661", "9" * 400, "+1"]


@pytest.mark.parametrize("text", NO_NUMBERS)
@pytest.mark.parametrize(
    ("key", "field"), [("o", "open"), ("h", "high"), ("l", "low"), ("c", "close"), ("v", "volume")]
)
def test_a_candle_with_what_is_no_number_refuses_the_answer_and_names_coin_time_and_field(key, field, text):
    rows = [candle(NOON - 3 * HOUR_MS), candle(NOON - 2 * HOUR_MS, **{key: text})]
    with pytest.raises(BadAnswer) as problem:
        candles_from(rows)
    assert all(part in str(problem.value) for part in ("BTC", "2025-06-01T10:00:00Z", f"{field} is", "row 1"))


@pytest.mark.parametrize("value", [10.0, None, ["1"], True])
def test_a_number_that_is_not_sent_as_text_is_another_shape(value):
    with pytest.raises(BadAnswer, match="row 1 of the answer"):
        candles_from([candle(NOON - 3 * HOUR_MS), candle(NOON - 2 * HOUR_MS, h=value)])


@pytest.mark.parametrize(
    "changed", [{"h": "8.0"}, {"h": "10.5"}, {"l": "10.5"}, {"l": "13.0"}, {"o": "0.0"}, {"h": "9.0", "l": "12.0"}]
)
def test_prices_that_contradict_each_other_refuse_the_answer_with_the_row(changed):
    with pytest.raises(BadAnswer) as problem:
        candles_from([candle(NOON - 2 * HOUR_MS, **changed)])
    assert "2025-06-01T10:00:00Z" in str(problem.value)
    assert f'"{next(iter(changed))}":"{next(iter(changed.values()))}"' in str(problem.value)


@pytest.mark.parametrize("changed", [{"s": "ETH"}, {"i": "4h"}, {"t": NOON + 1}, {"t": NOON / 10}, {"t": NOON * 1000}])
def test_bars_of_something_else_are_refused(changed):
    with pytest.raises(BadAnswer):
        candles_from([candle(NOON - 2 * HOUR_MS, **changed)])


def test_bars_out_of_order_and_exact_repetitions_come_out_sorted_and_once_and_contradictions_are_refused():
    rows = [candle(NOON - HOUR_MS * back) for back in (1, 3, 2, 3)]
    assert [row[0] for row in rows_of(candles_from(rows))] == [NOON - HOUR_MS * back for back in (3, 2, 1)]
    with pytest.raises(BadAnswer, match="same open"):
        candles_from([*rows, candle(NOON - HOUR_MS, c="11.5")])


def test_rows_outside_the_range_asked_for_are_not_taken():
    """The venue answers the bar that holds the start, which opens before it."""
    rows = [candle(NOON - HOUR_MS * back) for back in (5, 4, 3, 0)]
    assert [row[0] for row in rows_of(candles_from(rows))] == [NOON - HOUR_MS * back for back in (4, 3)]


@pytest.mark.parametrize("text", ["NaN", "inf", "1e-5", "", "abc", "--1"])
@pytest.mark.parametrize(("key", "field"), [("fundingRate", "rate"), ("premium", "premium")])
def test_funding_that_is_no_number_refuses_the_answer_and_names_coin_time_and_field(key, field, text):
    with pytest.raises(BadAnswer) as problem:
        funding_from([settlement(NOON - HOUR_MS + 5, **{key: text})])
    assert all(part in str(problem.value) for part in ("BTC", "2025-06-01T11:00:00.005Z", f"{field} is"))


def test_a_settlement_may_be_negative_and_its_premium_may_be_missing():
    row = settlement(NOON - HOUR_MS + 5, fundingRate="-0.00061334")
    del row["premium"]
    assert funding_from([row]).select("rate", "premium").rows() == [(-0.00061334, None)]


def test_two_settlements_in_one_hour_are_an_error_with_both_stamps_unless_they_are_the_same_one():
    one, other = settlement(NOON - HOUR_MS + 5), settlement(NOON - HOUR_MS + 90, fundingRate="0.0001")
    assert funding_from([one, one]).height == 1
    with pytest.raises(BadAnswer) as problem:
        funding_from([one, other])
    assert all(part in str(problem.value) for part in ("BTC", "11:00:00.005Z", "11:00:00.090Z"))


def test_two_settlements_in_one_hour_are_found_across_pages():
    pages = [[settlement(NOON - HOUR_MS + 5)], [settlement(NOON - HOUR_MS + 90)]]
    faults = [Fault(of_kind("fundingHistory"), Replace(json.dumps(page).encode())) for page in pages]
    with pytest.raises(BadAnswer, match="two settlements"):
        visit(lambda client, _: client.funding("BTC", NOON - 4 * HOUR_MS, NOON), faults=faults)
