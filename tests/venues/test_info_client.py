"""Candles, funding, instruments and contexts over a real socket, compared with the market behind it."""

from __future__ import annotations

import json

import polars as pl
import pytest

from slipstream.lake.datasets import ASSET_CONTEXTS, FUNDING, INTERVAL_MS
from slipstream.venues.errors import BadAnswer, UnknownMarket
from slipstream.venues.hyperliquid.limits import Requests, plan_candles, plan_funding
from venues.local_faults import Fault, Replace, Status, of_kind
from venues.local_market import DAY_MS, HOUR_MS
from venues.visiting import ALWAYS, NOON, NOW, answered, candle, closed_bars_of, rows_of, settlement, visit


@pytest.mark.parametrize("interval", list(INTERVAL_MS))
def test_candles_of_every_interval_are_the_markets_closed_bars_and_nothing_else(interval):
    start = NOW - min(30 * DAY_MS, 400 * INTERVAL_MS[interval])
    bars, venue = visit(lambda client, _: client.candles("kPEPE", interval, start, NOW))
    expected = closed_bars_of(venue.coin("kPEPE"), interval, start, NOW)
    assert rows_of(bars) == expected
    assert len(expected) >= 29
    assert bars["coin"].unique().to_list() == ["kPEPE"]
    assert bars["base_interval"].unique().to_list() == [interval]
    assert len(venue.requests) == 1


def test_the_forming_bar_is_never_returned_and_a_bar_is_there_from_the_moment_it_closes():
    for now, newest in ((NOON - 1, NOON - 2 * HOUR_MS), (NOON, NOON - HOUR_MS), (NOON + 1, NOON - HOUR_MS)):
        bars, venue = visit(lambda client, _: client.candles("BTC", "1h", NOW - DAY_MS, NOW + DAY_MS), now_ms=now)
        assert rows_of(bars)[-1][0] == newest
        assert len(venue.requests) == 1  # an end in the future is no reason to ask for more


@pytest.mark.parametrize("clock_off_ms", [-DAY_MS, -1_900, 1_900, 5_000, DAY_MS])
def test_a_wrong_local_clock_does_not_let_the_forming_bar_through(clock_off_ms):
    """One second before the hour, a clock that is two seconds fast believes the bar has closed."""
    bars, venue = visit(
        lambda client, _: client.candles("BTC", "1h", NOON - DAY_MS, NOON + DAY_MS),
        now_ms=NOON - 1_000,
        clock_off_ms=clock_off_ms,
    )
    assert rows_of(bars) == closed_bars_of(venue.coin("BTC"), "1h", NOON - DAY_MS, NOON, NOON - 1_000)


def test_an_end_within_a_bar_or_in_the_past_gives_the_bars_that_open_before_it():
    start, end = NOON - 10 * DAY_MS + 1, NOON - 2 * DAY_MS + 1
    bars, venue = visit(lambda client, _: client.candles("ETH", "4h", start, end))
    assert rows_of(bars) == closed_bars_of(venue.coin("ETH"), "4h", start, end)
    nothing, venue = visit(lambda client, _: client.candles("ETH", "4h", end, end))
    assert nothing.height == 0
    assert venue.requests == []


def test_bars_older_than_the_venue_keeps_are_simply_not_there():
    start = NOW - 30 * DAY_MS
    bars, venue = visit(lambda client, _: client.candles("BTC", "1h", start, NOW), candle_cap=100)
    assert rows_of(bars) == closed_bars_of(venue.coin("BTC"), "1h", NOON - 99 * HOUR_MS, NOW)
    assert len(venue.requests) == 1


def test_answers_that_hold_less_than_the_range_are_followed_by_further_pages():
    async def pages(client, _):
        return [page async for page in client.candle_pages("BTC", "1h", NOW - 30 * DAY_MS, NOW)]

    found, venue = visit(pages, candle_cap=100, candle_kept=5000)
    assert [page.height for page in found] == [100] * 7 + [19]
    assert rows_of(pl.concat(found)) == closed_bars_of(venue.coin("BTC"), "1h", NOW - 30 * DAY_MS, NOW)
    starts = [seen.query["req"]["startTime"] for seen in venue.requests]
    assert starts == sorted(set(starts))


def test_an_answer_that_does_not_advance_ends_the_paging():
    body = json.dumps([candle(NOW // HOUR_MS * HOUR_MS - 200 * HOUR_MS)]).encode()
    bars, venue = visit(
        lambda client, _: client.candles("BTC", "1h", NOW - 10 * DAY_MS, NOW),
        faults=[Fault(of_kind("candleSnapshot"), Replace(body), times=ALWAYS)],
    )
    assert bars.height == 1
    assert len(venue.requests) == 2


def test_a_delisted_coin_ends_where_its_trading_ended():
    bars, venue = visit(lambda client, _: client.candles("MATIC", "1h", NOW - 40 * DAY_MS, NOW))
    coin = venue.coin("MATIC")
    assert rows_of(bars)[-1][0] == coin.delisted_ms - HOUR_MS
    assert rows_of(bars) == closed_bars_of(coin, "1h", NOW - 40 * DAY_MS, NOW)


def test_flat_bars_filled_in_before_a_listing_are_left_out_when_the_range_shows_the_first_trade():
    async def use(client, venue):
        listed = venue.coin("NEWT").listed_ms
        whole = await client.candles("NEWT", "1h", NOW - 40 * DAY_MS, NOW)
        known = await client.candles("NEWT", "1h", NOW - 40 * DAY_MS, NOW, traded_before=True)
        before = await client.candles("NEWT", "1h", NOW - 40 * DAY_MS, listed)
        return listed, whole, known, before

    (listed, whole, known, before), venue = visit(use)
    assert rows_of(whole)[0][0] == listed
    assert whole["volume"][0] > 0
    assert known.height == whole.height + venue.coin("NEWT").backfill_hours
    assert before.height == venue.coin("NEWT").backfill_hours  # no trade in the range: nothing shows what they are


def test_flat_bars_spread_over_pages_are_left_out_as_well():
    bars, venue = visit(
        lambda client, _: client.candles("NEWT", "1h", NOW - 40 * DAY_MS, NOW), candle_cap=50, candle_kept=5000
    )
    assert rows_of(bars) == closed_bars_of(venue.coin("NEWT"), "1h", venue.coin("NEWT").listed_ms, NOW)


def test_hours_without_a_trade_in_the_life_of_a_coin_stay():
    bars, venue = visit(lambda client, _: client.candles("RLB", "1h", NOW - 20 * DAY_MS, NOW, traded_before=True))
    assert rows_of(bars) == closed_bars_of(venue.coin("RLB"), "1h", NOW - 20 * DAY_MS, NOW)
    assert bars.filter(pl.col("volume") == 0).height == 160


def test_funding_is_every_settlement_of_the_hours_asked_for_however_late_it_was_stamped():
    start = NOON - 40 * DAY_MS
    rates, venue = visit(lambda client, _: client.funding("ETH", start, NOW))
    assert rates.schema == FUNDING.schema
    held = venue.coin("ETH").settlements(start, NOW, NOW, 10**6)
    expected = [(s.hour_ms, s.stamp_ms, float(s.rate), float(s.premium)) for s in held]
    got = rates.select(pl.col("ts").dt.timestamp("ms"), "settled_ms", "rate", "premium").rows()
    assert got == expected
    assert len(got) == 40 * 24 + 1  # both ends
    assert max(row[1] - row[0] for row in got) > 60_000
    assert len(venue.requests) == 2


def test_the_settlement_at_both_ends_belongs_to_the_answer():
    rates, _ = visit(lambda client, _: client.funding("BTC", NOON - 3 * HOUR_MS, NOON - HOUR_MS))
    assert [stamp.hour for stamp in rates["ts"]] == [9, 10, 11]
    rates, _ = visit(lambda client, _: client.funding("BTC", NOON - 3 * HOUR_MS + 1, NOON - 1))
    assert [stamp.hour for stamp in rates["ts"]] == [10, 11]


def test_a_settlement_not_yet_published_is_not_there_and_comes_with_the_next_call():
    async def use(client, venue):
        early = await client.funding("BTC", NOON - DAY_MS, NOON)
        await client.http.clock.sleep(0.2)
        return early.height, (await client.funding("BTC", NOON - DAY_MS, NOON)).height

    assert visit(use, now_ms=NOON)[0] == (24, 25)


def test_pages_of_funding_may_have_any_size():
    async def use(client, _):
        return [page.height async for page in client.funding_pages("BTC", NOON - 5 * DAY_MS, NOON)]

    for cap in (1, 7, 120, 121, 1038):
        sizes, venue = visit(use, funding_cap=cap)
        assert sum(sizes) == 121
        assert len(venue.requests) == -(-121 // cap)


def test_a_page_of_funding_that_does_not_advance_ends_the_paging():
    page = [settlement(NOON - 5 * HOUR_MS + 12)]
    rates, venue = visit(
        lambda client, _: client.funding("BTC", NOON - 9 * HOUR_MS, NOON),
        faults=[Fault(of_kind("fundingHistory"), Replace(json.dumps(page).encode()), times=ALWAYS)],
    )
    assert rates.height == 1
    assert len(venue.requests) == 2


@pytest.mark.parametrize("ask", ["funding", "candles"])
def test_a_coin_the_venue_does_not_know_is_named_after_it_was_asked_for_twice(ask):
    async def use(client, venue):
        request = {"funding": client.funding, "candles": lambda c, a, b: client.candles(c, "1h", a, b)}[ask]
        with pytest.raises(UnknownMarket, match="'NOPE'") as problem:
            await request("NOPE", NOON - DAY_MS, NOON)
        assert (problem.value.exit_code, problem.value.name) == (2, "NOPE")

    assert len(visit(use)[1].requests) == 2


def test_a_passing_500_with_null_does_not_make_a_coin_unknown():
    null = Status(500, b"null", "application/json")
    rates, _ = visit(
        lambda client, _: client.funding("BTC", NOON - DAY_MS, NOON),
        faults=[Fault(of_kind("fundingHistory"), null)],
    )
    assert rates.height == 25


def test_a_dex_the_venue_does_not_know_is_named():
    async def use(client, _):
        with pytest.raises(UnknownMarket, match="'nope'"):
            await client.meta("nope")
        with pytest.raises(UnknownMarket, match="'nope'"):
            await client.meta_and_contexts("nope", NOW)

    visit(use)


def test_names_keep_their_case_all_the_way():
    async def use(client, _):
        assert (await client.candles("kPEPE", "1h", NOON - DAY_MS, NOON)).height == 24
        assert (await client.candles("xyz:GOLD", "1h", NOON - DAY_MS, NOON)).height == 24
        with pytest.raises(UnknownMarket):
            await client.candles("KPEPE", "1h", NOON - DAY_MS, NOON)

    visit(use)


def test_instruments_of_all_dexs_come_with_their_index_and_delisted_ones_stay():
    async def use(client, _):
        return {dex: await client.meta(dex) for dex in await client.perp_dexs()}

    found, venue = visit(use)
    assert list(found) == ["", "xyz"]
    assert [entry.coin for entry in found[""]] == [coin.name for coin in venue.market[""]]
    assert [entry.asset for entry in found[""]] == list(range(6))
    assert [entry.coin for entry in found[""] if entry.is_delisted] == ["MATIC"]
    assert [entry.coin for entry in found[""] if entry.only_isolated] == ["NEWT"]
    assert [(entry.coin, entry.dex) for entry in found["xyz"]] == [("xyz:GOLD", "xyz"), ("xyz:TSLA", "xyz")]


@pytest.mark.parametrize("body", [[None], [], [None, None]])
def test_a_venue_with_one_dex_is_one_dex(body):
    result, _ = answered("perpDexs", body, lambda client, _: client.perp_dexs())
    assert result == ("",)


def test_a_coin_listed_twice_is_one_instrument_the_one_that_trades():
    gone = {"name": "BTC", "szDecimals": 5, "maxLeverage": 40, "isDelisted": True}
    universe = {"universe": [gone, {"name": "ETH", "szDecimals": 4, "maxLeverage": 25}, gone | {"isDelisted": None}]}
    found, _ = answered("meta", universe, lambda client, _: client.meta())
    assert [(entry.coin, entry.asset, entry.is_delisted) for entry in found] == [("ETH", 1, False), ("BTC", 2, False)]


@pytest.mark.parametrize("name", ["GOLD", "abc:GOLD", "xyz:GO\nLD"])
def test_a_name_without_the_prefix_of_its_dex_cannot_pass_for_another_coin(name):
    universe = {"universe": [{"name": name, "szDecimals": 5, "maxLeverage": 40}]}
    with pytest.raises(BadAnswer, match="universe"):
        answered("meta", universe, lambda client, _: client.meta("xyz"))


def test_contexts_are_joined_by_position_and_those_of_delisted_coins_are_empty_where_the_venue_says_null():
    (entries, contexts), venue = visit(lambda client, _: client.meta_and_contexts("", NOW))
    assert contexts.schema == ASSET_CONTEXTS.schema
    assert contexts["coin"].to_list() == [entry.coin for entry in entries]
    assert contexts["ts"].dt.timestamp("ms").unique().to_list() == [NOW]
    gone = contexts.row(by_predicate=pl.col("coin") == "MATIC", named=True)
    assert (gone["mid_px"], gone["premium"], gone["impact_bid_px"]) == (None, None, None)
    assert gone["mark_px"] == venue.coin("MATIC").price_at(NOW)
    assert contexts.row(by_predicate=pl.col("coin") == "BTC", named=True)["premium"] == -0.0002


def test_contexts_that_cannot_be_matched_or_read_are_refused():
    meta = {"universe": [{"name": "BTC", "szDecimals": 5, "maxLeverage": 40}]}
    for contexts, words in (([], "0 contexts for 1"), ([{"markPx": "-3"}], "BTC at .*mark_px is '-3'")):
        with pytest.raises(BadAnswer, match=words):
            answered("metaAndAssetCtxs", [meta, contexts], lambda client, _: client.meta_and_contexts("", NOW))


def test_the_plan_of_a_load_is_what_the_load_costs():
    start, end = NOON - 180 * DAY_MS, NOON

    async def use(client, venue):
        await client.candles("BTC", "1h", start, end)
        await client.funding("BTC", start, end)
        return client.traffic

    traffic, venue = visit(use, days=200)
    plan = plan_candles(start, end, "1h") + plan_funding(start, end)
    assert plan == Requests(10, 92 + 397) == Requests(traffic.requests, traffic.weight)
    counted = sum(weight for _, weight in venue.weights)
    assert counted <= plan.weight <= counted + plan.count  # the venue may round a started group down
    assert 234 * plan.minutes() == pytest.approx(127, abs=1)  # "near two hours" for all coins of the first dex


def test_the_budget_is_charged_what_answers_weighed_and_not_what_was_expected():
    """A delisted coin's empty pages are light; a page of more settlements than expected is heavy."""

    async def use(client, venue):
        await client.candles("MATIC", "1h", NOON - 10 * DAY_MS, NOON)
        await client.funding("MATIC", NOON - 40 * DAY_MS, NOON)
        light = client.http.budget.used
        await client.funding("BTC", NOON - 40 * DAY_MS, NOON)
        return light, client.http.budget.used, client.traffic.weight

    (light, used, weight), _ = visit(use, funding_cap=1038)
    assert light == 20 + (20 + 16) + 20  # no bar; 312 settlements; none after the last
    assert used == weight == light + 20 + 49  # 961 settlements, where 500 were expected


def test_the_plan_of_more_than_the_venue_keeps_is_the_plan_of_what_it_keeps():
    assert plan_candles(0, NOW, "1m") == Requests(1, 20 + 84)
    assert plan_candles(NOON, NOON, "1h") == Requests()
    assert plan_funding(NOON + 1, NOON + 2) == Requests()
    assert plan_funding(NOON, NOON) == Requests(1, 21)
    assert plan_funding(NOON - 499 * HOUR_MS, NOON) == Requests(1, 45)
