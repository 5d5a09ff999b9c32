"""Loads over a real socket from a venue with the real one's faults; what arrives is the market itself."""

from __future__ import annotations

import dataclasses

import pytest
from load_runs import NOON, NOW, bars_in, load_into, settlements_in, the_market, true_bars, true_settlements

from slipstream.core.panel import HOUR_MS
from slipstream.lake import load_panel
from slipstream.lake.lake_check import check_path
from slipstream.lake.store import Lake
from venues.local_faults import Cut, Fault, Replace, Reset, Stall, Status, now_and_then, of_kind
from venues.local_market import Coin

DAY_MS = 24 * HOUR_MS
START = NOON - 4 * DAY_MS
ALWAYS = 10**6
FEW = 500
"""Bars of a length that a venue keeps, instead of 5000."""


@pytest.fixture
def lake(tmp_path) -> Lake:
    return Lake.open(tmp_path / "lake", create=True)


def coin_named(name: str, market=None) -> Coin:
    found = (coin for coins in (market or the_market()).values() for coin in coins if coin.name == name)
    return next(found)


def assert_true(lake: Lake, *coins: str, start_ms: int = START, now_ms: int = NOW) -> None:
    end = now_ms // HOUR_MS * HOUR_MS
    for name in coins:
        coin = coin_named(name)
        assert bars_in(lake, name).equals(true_bars(coin, "1h", start_ms, end)), name
        assert settlements_in(lake, name).equals(true_settlements(coin, start_ms, end, now_ms)), name
    assert [finding for finding in check_path(lake.place.folder) if finding.grade == "error"] == []


FAULTS = {
    "429 without Retry-After": (Status(429), 1.0),
    "429 with Retry-After": (Status(429, retry_after="17"), 17.0),
    "500": (Status(500, b"internal error"), 1.0),
    "500 null once": (Status(500, b"null", "application/json"), 1.0),
    "502 page": (Status(502, b"<html>", "text/html"), 1.0),
    "torn body": (Cut(0.7), 1.0),
    "torn body of an honest length": (Cut(0.7, announced=False), 1.0),
    "reset": (Reset(), 1.0),
    "stalled": (Stall(), 1.0),
}


@pytest.mark.parametrize("kind", ["candleSnapshot", "fundingHistory"])
@pytest.mark.parametrize("name", FAULTS)
def test_a_passing_fault_costs_a_wait_and_no_row(lake, name, kind):
    action, least_wait_s = FAULTS[name]
    patience = {"stalled_s": 0.2} if name == "stalled" else {}
    done = load_into(lake, "BTC", "ETH", faults=[Fault(of_kind(kind, coin="ETH"), action)], **patience)
    assert (done.report.failed, done.report.refused) == ({}, {})
    assert done.clock.monotonic() >= least_wait_s
    assert_true(lake, "BTC", "ETH")
    asked = [seen for seen in done.venue.asked(kind) if of_kind(kind, coin="ETH")(seen)]
    whole = [seen for seen in done.venue.asked(kind) if of_kind(kind, coin="BTC")(seen)]
    assert len(asked) == len(whole) + 1


@pytest.mark.parametrize("seed", range(3))
def test_a_load_through_endless_small_trouble_brings_the_same_rows(lake, seed):
    done = load_into(lake, "BTC", "ETH", "kPEPE", "RLB", faults=now_and_then(seed, 0.25), funding_cap=40)
    assert done.report.failed == {}
    assert_true(lake, "BTC", "ETH", "kPEPE", "RLB")


BROKEN = {
    "another shape": Replace(b'[{"t": 1}]'),
    "no JSON": Replace(b"<html>maintenance</html>"),
    "another coin": Replace(b'[{"t":0,"T":1,"s":"BTC","i":"1h","o":"1","c":"1","h":"1","l":"1","v":"1","n":1}]'),
    "forbidden": Status(403, b"no"),
    "422": Status(422, b"Failed to deserialize the JSON body into the target type"),
    "gone for good": Status(503),
    "unknown after all": Status(500, b"null", "application/json"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_coin_whose_answers_cannot_be_used_fails_alone_and_leaves_no_row(lake, name):
    fault = Fault(of_kind("candleSnapshot", coin="ETH"), BROKEN[name], times=ALWAYS)
    done = load_into(lake, "BTC", "ETH", "kPEPE", faults=[fault])
    assert list(done.report.failed) == ["ETH"]
    assert "ETH" in done.report.failed["ETH"]
    assert bars_in(lake, "ETH").height == settlements_in(lake, "ETH").height == 0
    assert_true(lake, "BTC", "kPEPE")
    mended = load_into(lake, "BTC", "ETH", "kPEPE")
    assert mended.report.failed == {}
    assert len(mended.venue.asked("candleSnapshot")) == 1
    assert_true(lake, "BTC", "ETH", "kPEPE")


def test_a_fault_in_a_later_page_of_funding_takes_nothing_of_the_coin_and_the_next_load_all_of_it(lake):
    third = lambda seen: seen.kind == "fundingHistory" and int(str(seen.query["startTime"])) > START + 60 * HOUR_MS  # noqa: E731
    done = load_into(lake, "BTC", funding_cap=40, faults=[Fault(third, Status(403), times=ALWAYS)])
    assert list(done.report.failed) == ["BTC"]
    assert lake.datasets() == ()
    load_into(lake, "BTC", funding_cap=40)
    assert_true(lake, "BTC")


@pytest.mark.parametrize("retry_after", [None, "9"])
def test_a_load_keeps_within_the_weight_of_a_minute_and_is_never_refused(lake, retry_after):
    done = load_into(
        lake, "BTC", "ETH", "kPEPE", "RLB", days=35, per_minute=200, weight_limit=250, retry_after=retry_after
    )
    assert done.venue.refused == 0
    assert done.venue.weight_in_worst_minute() <= 200
    assert done.clock.monotonic() > 60


def test_a_load_that_shares_the_address_with_others_comes_through_refusals(lake):
    """The venue allows less than we think we may use: others use the rest."""
    done = load_into(lake, "BTC", "ETH", "kPEPE", days=35, per_minute=900, weight_limit=120)
    assert done.venue.refused > 0
    assert done.report.failed == {}
    assert_true(lake, "BTC", "ETH", "kPEPE", start_ms=NOON - 35 * DAY_MS)


@pytest.mark.parametrize("off_ms", [-DAY_MS, -1_900, 1_900, 5_000, DAY_MS])
@pytest.mark.parametrize("now_ms", [NOON - 1_000, NOON + 1_000])
def test_a_wrong_local_clock_brings_no_forming_bar_and_misses_no_closed_one(lake, off_ms, now_ms):
    load_into(lake, "BTC", days=2, now_ms=now_ms, clock_off_ms=off_ms)
    newest = bars_in(lake)["ts"].dt.timestamp("ms").max()
    closed = now_ms // HOUR_MS * HOUR_MS - HOUR_MS
    assert newest <= closed, "the forming bar is not stored"
    if abs(off_ms) > 2_500:
        assert newest == closed, "the venue's own time decides"
    load_into(lake, "BTC", days=2, now_ms=NOW)
    assert_true(lake, "BTC", start_ms=bars_in(lake)["ts"].dt.timestamp("ms").min())


def test_a_date_header_that_says_nothing_leaves_the_local_clock(lake):
    load_into(lake, "BTC", date_skew_ms=None)
    assert_true(lake, "BTC")


def test_a_late_settlement_is_not_there_yet_and_is_all_that_the_next_load_asks_for(lake):
    hour = NOON - (NOON // HOUR_MS % 97) * HOUR_MS  # published more than a minute after its hour
    load_into(lake, "BTC", "ETH", now_ms=hour + 30_000)
    assert settlements_in(lake, "BTC")["ts"].dt.timestamp("ms").max() == hour - HOUR_MS
    then = load_into(lake, "BTC", "ETH", days=3, now_ms=hour + 5 * 60_000)
    assert [seen.kind for seen in then.venue.requests] == ["meta", "fundingHistory", "fundingHistory"]
    assert {seen.query["startTime"] for seen in then.venue.asked("fundingHistory")} == {hour}
    last = settlements_in(lake, "BTC").tail(1)
    assert last["ts"].dt.timestamp("ms").item() == hour
    assert last["settled_ms"].item() > hour + 60_000


def test_bars_from_before_a_listing_are_not_stored_by_any_order_of_loads(lake):
    newt = coin_named("NEWT")
    assert newt.listed_ms > NOON - 25 * DAY_MS
    for days in (10, 30, 30, 38):
        load_into(lake, "NEWT", days=days)
        assert_true(lake, "NEWT", start_ms=max(newt.listed_ms, NOON - days * DAY_MS))
    again = load_into(lake, "NEWT", days=38)
    assert len(again.venue.requests) == 1 + 2, (
        "the time before a listing is asked for, bars and funding, and that is all"
    )


def test_longer_bars_from_before_a_listing_are_not_stored_either(lake):
    """The backfill began before the hours that are kept, so its first bars come as flat 4 h bars."""
    newt = coin_named("NEWT")
    oldest_hour = NOON - (FEW - 1) * HOUR_MS
    assert newt.listed_ms - newt.backfill_hours * HOUR_MS < oldest_hour < newt.listed_ms
    for _ in range(2):
        done = load_into(lake, "NEWT", days=38, candle_cap=FEW)
        intervals = {str(seen.query["req"]["interval"]) for seen in done.venue.asked("candleSnapshot")}
        assert "4h" in intervals
        assert bars_in(lake, "NEWT", interval="4h").height == 0
        assert bars_in(lake, "NEWT").equals(true_bars(newt, "1h", newt.listed_ms, NOON))


def test_silent_hours_of_a_young_coin_are_kept_by_every_refresh(lake):
    """Every third hour of this coin has no trade; that a refresh begins with one is no reason to drop it."""
    young = dataclasses.replace(coin_named("NEWT"), quiet_every=3, backfill_hours=100)
    market = {"": [young], "xyz": []}
    for hour in range(4):
        load_into(lake, "NEWT", days=38, now_ms=NOW + hour * HOUR_MS, market=market)
        end = NOON + hour * HOUR_MS
        assert bars_in(lake).equals(true_bars(young, "1h", young.listed_ms, end)), hour
    gap = load_into(lake, "NEWT", days=1, now_ms=NOW + 5 * DAY_MS, market=market)
    assert gap.report.fetched_bars == {"NEWT": 24}
    day = true_bars(young, "1h", NOON + 4 * DAY_MS, NOON + 5 * DAY_MS)
    assert bars_in(lake).tail(24).equals(day)


def test_a_delisted_coin_ends_with_its_last_trade(lake):
    load_into(lake, "MATIC", days=39)
    assert_true(lake, "MATIC", start_ms=NOON - 39 * DAY_MS)
    matic = coin_named("MATIC")
    assert matic.delisted_ms is not None
    assert bars_in(lake)["ts"].dt.timestamp("ms").max() == matic.delisted_ms - HOUR_MS


def test_coins_of_other_dexs_and_names_in_mixed_case_are_stored_as_they_are_called(lake):
    done = load_into(lake, "kPEPE", "xyz:GOLD")
    assert_true(lake, "kPEPE", "xyz:GOLD")
    assert sorted(bars_in(lake)["coin"].unique()) == ["kPEPE", "xyz:GOLD"]
    assert {seen.query["coin"] for seen in done.venue.asked("fundingHistory")} == {"kPEPE", "xyz:GOLD"}
    wrong = load_into(lake, "KPEPE")
    assert "case-sensitive" in wrong.report.failed["KPEPE"]


@pytest.mark.parametrize("interval", ["15m", "5m"])
def test_shorter_bars_are_stored_under_their_own_length(lake, interval):
    load_into(lake, "BTC", days=1, interval=interval)
    end = NOW // (5 * 60_000) * (5 * 60_000) if interval == "5m" else NOON + 30 * 60_000
    assert bars_in(lake, interval=interval).equals(true_bars(coin_named("BTC"), interval, end - DAY_MS, end))
    assert bars_in(lake, interval="1h").height == 0
    assert settlements_in(lake).height == 24


def test_the_past_beyond_the_hours_comes_as_longer_bars_and_the_panel_has_no_hole(lake):
    load_into(lake, "BTC", "ETH", days=38, interval="4h", candle_cap=FEW)
    hours = bars_in(lake, "BTC")
    assert hours.height == 499
    longer = bars_in(lake, "BTC", interval="4h")
    begin = -(-(NOON - 38 * DAY_MS) // (4 * HOUR_MS)) * 4 * HOUR_MS
    assert longer["ts"].dt.timestamp("ms").min() == begin
    panel = load_panel(lake.place.folder, bar_hours=4, now_ms=NOW)
    assert panel.rows == (NOON - begin) // (4 * HOUR_MS)
    truth = true_bars(coin_named("BTC"), "4h", begin, NOON)
    assert panel.close[:, panel.coins.index("BTC")].tolist() == truth["close"].to_list()
