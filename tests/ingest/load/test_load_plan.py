"""What a load will ask for and what it will cost, before anything is fetched."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from load_runs import NOON, NOW, load_into, the_market

from slipstream.core.panel import HOUR_MS
from slipstream.ingest.load.plan import plan_coin, total, wanted
from slipstream.ingest.load.spans import Held, Span
from slipstream.lake.datasets import INTERVAL_MS
from slipstream.lake.store import Lake

DAY_MS = 24 * HOUR_MS
NOTHING = Held({}, {}, {})


def asked(days: float, interval: str = "4h", now_ms: int = NOW):
    return wanted(interval, now_ms - int(days * DAY_MS), now_ms, now_ms)


def test_half_a_year_of_a_coin_costs_about_500_weight_and_all_coins_near_two_hours():
    plan = plan_coin("BTC", asked(180), NOTHING)
    assert 480 <= plan.cost.weight <= 500
    assert plan.cost.count == 1 + 9, "one page of candles, nine of settlements"
    everything = total([plan] * 220)
    assert everything.count == 2200
    assert 110 <= everything.minutes(900) <= 125


def test_bars_are_asked_for_hourly_whatever_longer_bar_a_user_wants():
    for interval in ("1h", "4h", "1d"):
        ((length, span),) = plan_coin("BTC", asked(30, interval), NOTHING).bars
        assert length == "1h"
        assert span == Span((NOW - 30 * DAY_MS) // INTERVAL_MS[interval] * INTERVAL_MS[interval], NOON)


def test_hours_reach_back_5000_bars_with_the_forming_one_and_no_request_is_made_for_older_ones():
    ((length, span),) = plan_coin("BTC", asked(400, "1h"), NOTHING).bars
    assert (length, span) == ("1h", Span(NOON - 4999 * HOUR_MS, NOON))


@pytest.mark.parametrize(("interval", "days"), [("4h", 700), ("1d", 3000)])
def test_native_longer_bars_extend_the_past_up_to_the_first_hour_there_is(interval, days):
    wish = asked(days, interval)
    (recent, past) = plan_coin("BTC", wish, NOTHING).bars
    reach, step = NOON - 4999 * HOUR_MS, INTERVAL_MS[interval]
    assert recent == ("1h", Span(reach, NOON))
    assert past == (interval, Span(wish.start_ms, -(-reach // step) * step))
    assert 0 <= past[1].end_ms - reach < step, "the longer bars meet the hours without a hole"


def test_a_hole_that_has_left_the_reach_of_hours_is_filled_with_longer_bars():
    """A lake that was loaded a year ago and now again: what lies between can no longer be had by the hour."""
    wish = asked(500)
    loaded_until = wish.start_ms + 100 * DAY_MS + 2 * HOUR_MS
    old = np.arange(wish.start_ms, loaded_until, HOUR_MS, dtype=np.int64)
    plan = plan_coin("BTC", wish, Held({("1h", "BTC"): old}, {}, {"BTC": int(old[0])}))
    reach = NOON - 4999 * HOUR_MS
    assert plan.bars == (
        ("1h", Span(reach, NOON)),
        ("4h", Span(wish.start_ms + 100 * DAY_MS, -(-reach // (4 * HOUR_MS)) * 4 * HOUR_MS)),
    )
    assert plan.traded_since_ms == wish.start_ms


@pytest.mark.parametrize(("interval", "kept_days"), [("1m", 3.47), ("5m", 17.4), ("15m", 52.1)])
def test_shorter_bars_are_asked_for_as_such_as_far_as_they_are_kept_and_funding_by_the_hour(interval, kept_days):
    wish = asked(60, interval)
    plan = plan_coin("BTC", wish, NOTHING)
    step = INTERVAL_MS[interval]
    newest = NOW // step * step
    assert plan.bars == ((interval, Span(newest - 4999 * step, newest)),)
    assert (NOW - plan.bars[0][1].start_ms) / DAY_MS == pytest.approx(kept_days, rel=0.01)
    first_hour = -(-wish.start_ms // HOUR_MS) * HOUR_MS
    assert plan.settlements == (Span(first_hour, NOON + HOUR_MS),)


@given(
    st.sampled_from(sorted(INTERVAL_MS)),
    st.integers(0, 10**10),
    st.integers(-10 * DAY_MS, 10 * DAY_MS),
)
def test_a_wish_lies_on_the_grid_and_never_reaches_into_a_bar_that_is_forming(interval, back_ms, ahead_ms):
    wish = wanted(interval, NOW - back_ms, NOW + ahead_ms, NOW)
    step = INTERVAL_MS[interval]
    assert wish.start_ms % step == 0
    assert 0 <= NOW - back_ms - wish.start_ms < step
    assert wish.end_ms <= min(NOW, NOW + ahead_ms)
    assert wish.end_ms % min(step, HOUR_MS) == 0
    for _, span in plan_coin("BTC", wish, NOTHING).bars:
        assert span.end_ms <= NOW, "the newest bar of a range has closed"


@given(st.integers(1, 300), st.integers(0, 100))
def test_a_plan_after_a_plan_was_fulfilled_is_empty(hours, older):
    wish = wanted("1h", NOON - (hours + older) * HOUR_MS, NOON, NOW)
    opens = np.arange(wish.start_ms, NOON, HOUR_MS, dtype=np.int64)
    stamps = np.append(opens, NOON)
    plan = plan_coin("BTC", wish, Held({("1h", "BTC"): opens}, {"BTC": stamps}, {}))
    assert plan.empty
    assert (plan.cost.count, plan.cost.weight) == (0, 0)
    other = plan_coin("btc", wish, Held({("1h", "BTC"): opens}, {"BTC": stamps}, {}))
    assert not other.empty, "another case is another coin"


def test_a_daily_refresh_of_a_coin_costs_two_small_requests_and_asks_for_its_newest_bar_again():
    """That bar came just after its close: the venue may have corrected it since."""
    opens = np.arange(NOON - 30 * DAY_MS, NOON - DAY_MS, HOUR_MS, dtype=np.int64)
    held = Held({("1h", "BTC"): opens}, {"BTC": np.append(opens, NOON - DAY_MS)}, {"BTC": int(opens[0])})
    plan = plan_coin("BTC", asked(20), held)
    assert plan.bars == (("1h", Span(NOON - DAY_MS - HOUR_MS, NOON)),)
    assert plan.settlements == (Span(NOON - DAY_MS + HOUR_MS, NOON + HOUR_MS),)
    assert (plan.cost.count, plan.cost.weight) == (2, 21 + 22)


@pytest.mark.parametrize(("interval", "days"), [("1h", 30), ("4h", 700), ("1d", 700), ("15m", 20)])
def test_a_refetch_asks_for_the_whole_range_and_costs_as_much_as_the_first_load(interval, days):
    wish = asked(days, interval)
    first = plan_coin("BTC", wish, NOTHING)
    opens: dict[tuple[str, str], list[int]] = {}
    for length, span in first.bars:
        opens[length, "BTC"] = list(range(span.start_ms, span.end_ms, INTERVAL_MS[length]))
    stamps = np.arange(first.settlements[0].start_ms, NOON + HOUR_MS, HOUR_MS)
    held = Held({key: np.array(times) for key, times in opens.items()}, {"BTC": stamps}, {"BTC": wish.start_ms - 5})
    assert plan_coin("BTC", wish, held).empty
    again = plan_coin("BTC", wish, held, refetch=True)
    assert (again.bars, again.settlements, again.cost) == (first.bars, first.settlements, first.cost)
    assert again.cost.weight > 0
    assert again.traded_since_ms == wish.start_ms - 5, "that it traded before is still known"


def test_a_refetch_puts_no_longer_bars_beside_hours_that_the_venue_no_longer_has():
    """Readers prefer hours, so such bars would mend nothing."""
    wish = asked(500)
    until = wish.start_ms + 100 * DAY_MS
    old = np.arange(wish.start_ms, until, HOUR_MS, dtype=np.int64)
    native = np.arange(until, NOON - 300 * DAY_MS, 4 * HOUR_MS, dtype=np.int64)
    plan = plan_coin("BTC", wish, Held({("1h", "BTC"): old, ("4h", "BTC"): native}, {}, {}), refetch=True)
    reach = NOON - 4999 * HOUR_MS
    assert plan.bars == (("1h", Span(reach, NOON)), ("4h", Span(until, -(-reach // (4 * HOUR_MS)) * 4 * HOUR_MS)))


def test_the_prediction_is_what_the_venue_then_counts(tmp_path):
    """Its own weighing rounds down where ours rounds up, so it is at most one a request less."""
    coins = ("BTC", "ETH", "kPEPE")
    done = load_into(Lake.open(tmp_path / "lake", create=True), *coins, days=35, market=the_market())
    told = total(done.plans)
    universe = len(done.venue.asked("meta"))
    assert told.count == len(done.venue.requests) - universe
    weighed = sum(weight for _, weight in done.venue.weights) - 20 * universe
    assert told.weight - told.count <= weighed <= told.weight
