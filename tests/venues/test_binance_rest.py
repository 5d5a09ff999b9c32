"""Binance klines, funding and quotes over a real socket, compared with the market behind it."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal

import polars as pl
import pytest

from slipstream.errors import UsageError
from slipstream.lake.datasets import BARS, FUNDING
from slipstream.venues.binance.limits import kline_weight
from slipstream.venues.binance.rest import BinanceClient
from slipstream.venues.binance.symbols import Pair, SymbolMap
from slipstream.venues.errors import BadAnswer, UnknownMarket, VenueRefused, VenueUnavailable
from venues.local_faults import Fault, Replace, Status, of_kind
from venues.local_market import DAY_MS, HOUR_MS, INTERVALS
from venues.local_venue import LocalVenue
from venues.virtual_clock import VirtualClock

NOON = 1_748_779_200_000  # 2025-06-01 12:00 UTC
NOW = NOON + 34 * 60_000
ALWAYS = 10**6


def visit(use, *, now_ms=NOW, symbols=None, weight_limit=2400, **options):
    """What ``use(client, venue)`` returns, and the venue; one clock moves both sides."""
    clock = VirtualClock(now_ms)

    async def scenario():
        venue = LocalVenue(clock.now_ms, monotonic=clock.monotonic, weight_limit=weight_limit, **options)
        async with venue, BinanceClient(venue.url, clock=clock, symbols=symbols) as client:
            return await use(client, venue), venue

    return asyncio.run(scenario())


def closed_bars_of(coin, interval, start_ms, end_ms, now_ms=NOW):
    bars = (coin.bar(open_ms, interval, now_ms) for open_ms in range(start_ms, end_ms, INTERVALS[interval]))
    return [
        (bar.open_ms, *(float(text) for text in (bar.open, bar.high, bar.low, bar.close, bar.volume)))
        for bar in bars
        if bar is not None and not bar.forming
    ]


def rows_of(bars):
    return bars.select(pl.col("ts").dt.timestamp("ms"), "open", "high", "low", "close", "volume").rows()


def test_klines_are_the_closed_bars_under_the_name_of_the_coin_over_several_pages():
    start = NOON - 100 * DAY_MS
    bars, venue = visit(lambda client, _: client.klines("1000PEPEUSDT", "1h", start, NOW))
    assert bars.schema == BARS.schema
    assert bars["coin"].unique().to_list() == ["kPEPE"]
    assert rows_of(bars) == closed_bars_of(venue.coin("kPEPE"), "1h", start, NOW)
    assert bars.height == 2400
    assert [seen.query["limit"] for seen in venue.requests] == ["1500", "901"]
    assert sum(weight for _, weight in venue.weights) == 10 + 5


def test_the_forming_kline_is_left_out():
    for now, newest in ((NOON - 1, NOON - 2 * HOUR_MS), (NOON, NOON - HOUR_MS), (NOW, NOON - HOUR_MS)):
        bars, _ = visit(lambda client, _: client.klines("BTCUSDT", "1h", NOON - DAY_MS, NOON + DAY_MS), now_ms=now)
        assert rows_of(bars)[-1][0] == newest


def test_a_symbol_that_starts_or_ends_within_the_range_gives_what_there_is():
    for symbol, name in (("NEWTUSDT", "NEWT"), ("MATICUSDT", "MATIC")):
        start = NOON - 190 * DAY_MS
        bars, venue = visit(lambda client, _, s=symbol, t=start: client.klines(s, "4h", t, NOW))
        grid = -(-start // (4 * HOUR_MS)) * 4 * HOUR_MS
        traded = [row for row in closed_bars_of(venue.coin(name), "4h", grid, NOW) if row[5] > 0]
        assert rows_of(bars) == traded  # Binance fills in nothing before a listing
        assert 0 < bars.height < 190 * 6


def test_an_override_converts_prices_and_volumes_to_the_venues_units():
    """kDOGS is 1000 DOGS while Binance quotes one: its price times 1000, its volume through 1000."""
    symbols = SymbolMap({"kRLB": Pair("RLBUSDT", 1000.0)})

    async def use(client, _):
        start = NOON - DAY_MS
        return await client.klines("RLBUSDT", "1h", start, NOON), await client.book_ticker("RLBUSDT")

    (bars, quote), venue = visit(use, symbols=symbols)
    single = closed_bars_of(venue.coin("RLB"), "1h", NOON - DAY_MS, NOON)
    assert bars["coin"].unique().to_list() == ["kRLB"]
    assert bars["close"].to_list() == pytest.approx([row[4] * 1000 for row in single])
    assert bars["volume"].to_list() == pytest.approx([row[5] / 1000 for row in single])
    usd = (bars["close"] * bars["volume"]).to_list()
    assert usd == pytest.approx([row[4] * row[5] for row in single])  # the money traded is the same
    assert quote.coin == "kRLB"
    assert quote.bid == pytest.approx(venue.coin("RLB").price_at(NOW) * 0.9999 * 1000, rel=1e-6)
    assert quote.ask_size == pytest.approx(0.002)


def test_funding_shows_its_changing_interval_in_its_stamps():
    rates, _ = visit(lambda client, _: client.funding_rates("ETHUSDT", NOON - 90 * DAY_MS, NOW))
    assert rates.schema == FUNDING.schema
    hours = rates["ts"].diff().dt.total_hours().drop_nulls()
    assert sorted(hours.unique().to_list()) == [4, 8]
    assert hours.to_list() == sorted(hours.to_list(), reverse=True)  # 8 h first, 4 h in the last month
    assert set((rates["settled_ms"] - rates["ts"].dt.timestamp("ms")).to_list()) <= {0, 1, 2}
    assert rates["premium"].null_count() == rates.height
    assert rates["rate"].unique().to_list() == [0.0001]


def test_funding_over_several_pages_has_no_hole_and_no_repetition():
    async def use(client, _):
        return [page async for page in client.funding_pages("ETHUSDT", NOON - 199 * DAY_MS, NOW)]

    def at_most(count):
        rows = [
            {"symbol": "ETHUSDT", "fundingTime": NOON - 2000 * HOUR_MS + i * HOUR_MS, "fundingRate": "0.0001"}
            for i in range(2001)
        ]
        return [
            Fault(of_kind("fundingRate"), Replace(json.dumps(rows[i : i + count]).encode())) for i in (0, 1000, 2000)
        ]

    pages, venue = visit(use, faults=at_most(1000))
    assert [page.height for page in pages] == [1000, 1000, 1]
    starts = [int(seen.query["startTime"]) for seen in venue.requests]
    assert starts[1:] == [NOON - 1001 * HOUR_MS + 1, NOON - HOUR_MS + 1]


def test_two_settlements_in_one_hour_are_an_error_with_both_stamps():
    rows = [{"symbol": "BTCUSDT", "fundingTime": NOON + i, "fundingRate": f"0.000{i}"} for i in (1, 2)]
    with pytest.raises(BadAnswer, match=r"12:00:00\.001Z.*12:00:00\.002Z"):
        visit(
            lambda client, _: client.funding_rates("BTCUSDT", NOON - DAY_MS, NOON),
            faults=[Fault(of_kind("fundingRate"), Replace(json.dumps(rows).encode()))],
        )


def test_a_symbol_binance_does_not_know_is_named():
    with pytest.raises(UnknownMarket, match=r"'XYZUSDT'.*Invalid symbol"):
        visit(lambda client, _: client.klines("XYZUSDT", "1h", NOON - DAY_MS, NOON))
    with pytest.raises(UsageError, match="no rule"):
        visit(lambda client, _: client.klines("btcusdt", "1h", NOON - DAY_MS, NOON))


def test_a_ban_ends_the_step_at_once_and_is_explained():
    ban = Status(418, b'{"code":-1003,"msg":"banned until 1748783000000"}', "application/json", retry_after="120")

    async def use(client, venue):
        with pytest.raises(VenueRefused, match=r"banned this address.*banned until 1748783000000.*120 s"):
            await client.book_ticker("BTCUSDT")

    assert len(visit(use, faults=[Fault(of_kind("ticker/bookTicker"), ban, ALWAYS)])[1].requests) == 1


def test_errors_of_the_venue_are_told_with_their_code_and_words():
    refusal = Status(400, b'{"code":-1120,"msg":"Invalid interval."}', "application/json")
    with pytest.raises(VenueRefused, match=r"klines BTCUSDT.*-1120.*Invalid interval"):
        visit(
            lambda client, _: client.klines("BTCUSDT", "1h", NOON - DAY_MS, NOON),
            faults=[Fault(of_kind("klines"), refusal)],
        )


@pytest.mark.parametrize(
    "passing",
    [
        Status(429, b'{"code":-1003,"msg":"Too many requests"}', retry_after="3"),
        Status(400, b'{"code":-1001,"msg":"x"}'),
    ],
)
def test_passing_trouble_is_asked_again(passing):
    quote, venue = visit(
        lambda client, _: client.book_ticker("BTCUSDT"), faults=[Fault(of_kind("ticker/bookTicker"), passing)]
    )
    assert len(venue.requests) == 2
    assert quote.bid < quote.ask
    with pytest.raises(VenueUnavailable):
        visit(
            lambda client, _: client.book_ticker("BTCUSDT"),
            faults=[Fault(of_kind("ticker/bookTicker"), passing, ALWAYS)],
        )


def test_the_limit_the_venue_states_becomes_the_budget_and_contracts_have_exact_steps():
    async def use(client, _):
        return await client.exchange_info(), client.http.budget.capacity

    (info, capacity), venue = visit(use)
    assert (info.weight_per_minute, capacity) == (2400, 1800)
    assert info.server_ms == NOW
    assert {entry.symbol: entry.trading for entry in info.contracts}["MATICUSDT"] is False
    assert info.contracts[0].tick_size == Decimal("0.10")
    assert info.contracts[0].onboard_ms == venue.coin("BTC").listed_ms


def test_weight_that_others_used_on_this_address_counts():
    async def use(client, venue):
        venue._windows["binance"].append((0.0, 1795))  # another program's
        for _ in range(4):
            await client.book_ticker("BTCUSDT")
        return client.http.clock.monotonic()

    took, venue = visit(use)
    assert took >= 60
    assert venue.refused == 0


def test_funding_requests_stay_within_their_own_limit_of_five_minutes():
    async def use(client, _):
        for _ in range(380):
            await client.funding_rates("BTCUSDT", NOON - DAY_MS, NOON)
        return client.http.clock.monotonic()

    assert visit(use)[0] == pytest.approx(300, abs=1)


@pytest.mark.parametrize(("limit", "weight"), [(1, 1), (99, 1), (100, 2), (499, 2), (500, 5), (1000, 5), (1001, 10)])
def test_the_weight_of_klines_goes_by_the_bars_asked_for(limit, weight):
    assert kline_weight(limit) == weight


def test_a_kline_of_another_interval_or_that_does_not_advance_is_not_taken_for_more():
    row = [NOON - 3 * HOUR_MS, "1.0", "2.0", "0.5", "1.5", "3.0", NOON - 2 * HOUR_MS - 1, "1", 1, "1", "1", "0"]

    def ask(*rows):
        fault = Fault(of_kind("klines"), Replace(json.dumps(rows).encode()), ALWAYS)
        return visit(lambda client, _: client.klines("BTCUSDT", "1h", NOON - 3 * HOUR_MS, NOON), faults=[fault])

    bars, venue = ask(row)
    assert (bars.height, len(venue.requests)) == (1, 1)  # shorter than asked for: the last page
    bars, venue = ask(row, row, row)
    assert (bars.height, len(venue.requests)) == (1, 2)
    with pytest.raises(BadAnswer, match="no bar of 1h"):
        ask([*row[:6], NOON, *row[7:]])
    for text in ("NaN", "-1", "", "1e3", 5):
        with pytest.raises(BadAnswer, match="klines BTCUSDT"):
            ask([*row[:2], text, *row[3:]])


def test_a_crossed_book_or_another_symbols_is_refused():
    sent = {"symbol": "BTCUSDT", "bidPrice": "2.0", "bidQty": "1", "askPrice": "3.0", "askQty": "1"}

    def ask(**changed):
        fault = Fault(of_kind("ticker/bookTicker"), Replace(json.dumps(sent | changed).encode()))
        return visit(lambda client, _: client.book_ticker("BTCUSDT"), faults=[fault])[0]

    assert (ask().bid, ask().ask, ask().exchange_ms) == (2.0, 3.0, None)
    for changed in ({"bidPrice": "4.0"}, {"symbol": "ETHUSDT"}, {"askPrice": "0"}, {"askQty": "inf"}):
        with pytest.raises(BadAnswer, match="BTC"):
            ask(**changed)
