"""A stream stays up: against a real socket on this machine, with the time of watchdogs and pauses moved by hand."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable

import aiohttp
import pytest

from slipstream.venues import stream as core
from slipstream.venues.binance import stream as binance
from slipstream.venues.hyperliquid import stream as hyperliquid
from slipstream.venues.stream import Data, Dialect, Stream, SubscriptionRefused
from slipstream.venues.stream_timing import Backoff, Receipts
from venues.local_stream import LocalStream, bbo, trade
from venues.virtual_clock import VirtualClock

START_MS = 1_790_000_000_000


class Heard:
    """What a listener was told."""

    def __init__(self) -> None:
        self.events: list = []
        self.rejects: list[str] = []
        self.unknown: list[str] = []
        self.downs: list[str] = []

    def received(self, venue: str, data: Data) -> None:
        self.events.extend(data.events)

    def rejected(self, venue: str, raw: bytes, reason: str, received_ns: int) -> None:
        self.rejects.append(reason)

    def ignored(self, venue: str, kind: str) -> None:
        self.unknown.append(kind)

    def went_down(self, venue: str, feeds: object, reason: str) -> None:
        self.downs.append(reason)


class Scene:
    """A server, a stream to it, and a clock that a test moves."""

    def __init__(self, server: LocalStream, dialect: Dialect) -> None:
        self.server, self.clock, self.heard = server, VirtualClock(START_MS, automatic=False), Heard()
        self.dialect = dialect
        self.task: asyncio.Task[None]
        self.stream: Stream

    async def until(self, true: Callable[[], object], *, step_s: float = 0.25, most_s: float = 300.0) -> float:
        """Move time in steps, and give the sockets a moment of real time at each, until something is so."""
        begun = self.clock.monotonic()
        while not true() and not self.task.done():
            assert self.clock.monotonic() - begun < most_s, f"not so after {most_s} s: {self.heard.downs}"
            await self.clock.advance(step_s)
            await asyncio.sleep(0.002)
        return self.clock.monotonic() - begun

    async def settle(self) -> None:
        """Real time for what is on its way, without moving the clock."""
        await asyncio.sleep(0.05)


def scene(
    test: Callable[[Scene], Awaitable[None]],
    *,
    coins: tuple[str, ...] = ("BTC", "ETH"),
    feeds: tuple[str, ...] = ("bbo",),
    venue: str = "hyperliquid",
    prepare: Callable[[LocalStream], None] = lambda server: None,
) -> None:
    async def run() -> None:
        async with LocalStream(("BTC", "ETH")) as server, aiohttp.ClientSession() as http:
            prepare(server)
            if venue == "hyperliquid":
                dialect: Dialect = hyperliquid.HyperliquidDialect(coins, feeds, "s", server.hyperliquid_ws)
            else:
                (dialect,) = binance.dialects({f"{coin}USDT": coin for coin in coins}, feeds, "s", server.binance_ws)
            there = Scene(server, dialect)
            gates = (hyperliquid if venue == "hyperliquid" else binance).gates(there.clock)
            there.stream = Stream(
                dialect,
                there.heard,
                http=http,
                clock=there.clock,
                receipts=Receipts(there.clock),
                gates=gates,
                rng=random.Random(42),
            )
            there.task = asyncio.ensure_future(there.stream.run())
            try:
                async with asyncio.timeout(20):
                    await test(there)
            finally:
                there.task.cancel()
                await asyncio.gather(there.task, return_exceptions=True)

    asyncio.run(run())


def test_every_feed_of_every_coin_is_subscribed_and_its_events_arrive_in_order():
    async def test(at: Scene) -> None:
        await at.server.until(lambda: at.server.subscribed(8))
        await at.server.push(bbo("BTC", 1, (10.0, 1.0), (11.0, 1.0)), bbo("ETH", 2, (20.0, 1.0), None))
        await at.server.push({"channel": "trades", "data": [trade("BTC", 3, 5), trade("BTC", 3, 4)]})
        await at.server.until(lambda: len(at.heard.events) == 4)
        assert [event.coin for event in at.heard.events] == ["BTC", "ETH", "BTC", "BTC"]
        stamps = [event.monotonic_ns for event in at.heard.events]
        assert stamps == sorted(set(stamps)), "an order that a sort could lose"

    scene(test, feeds=tuple(hyperliquid.FEEDS))


def test_after_a_cut_the_stream_says_so_and_comes_back_with_all_its_subscriptions():
    async def test(at: Scene) -> None:
        await at.server.until(lambda: at.server.subscribed(2))
        await at.server.push(bbo("BTC", 1, (10.0, 1.0), None))
        await at.server.until(lambda: at.heard.events)
        at.server.drop()
        await at.until(lambda: at.heard.downs)
        assert "closed the socket" in at.heard.downs[0]
        await at.until(lambda: at.server.subscribed(2))
        await at.server.push(bbo("ETH", 2, (20.0, 1.0), None))
        await at.server.until(lambda: len(at.heard.events) == 2)
        assert at.server.opened == 2

    scene(test)


def test_an_idle_socket_is_pinged_and_kept():
    async def test(at: Scene) -> None:
        await at.server.until(lambda: at.server.subscribed(2))
        await at.until(lambda: at.server.sockets[0].pings == 1)
        assert 20.0 <= at.clock.monotonic() <= 22.0
        await at.until(lambda: at.clock.monotonic() > 200.0)
        assert at.server.sockets[0].pings >= 9
        assert (at.heard.downs, at.server.opened) == ([], 1)

    scene(test)


def test_a_socket_on_which_nothing_comes_for_a_minute_is_given_up():
    async def test(at: Scene) -> None:
        await at.server.until(lambda: at.server.subscribed(2))
        at.server.manners.answers_pings = False
        silent_s = await at.until(lambda: at.heard.downs)
        assert 60.0 <= silent_s <= 63.0
        assert at.heard.downs[0].startswith("silent for 60 s")
        await at.until(lambda: at.server.subscribed(2))

    scene(test)


def test_pongs_do_not_hide_that_a_feed_on_a_clock_has_stopped():
    """l2Book comes twice a second whatever happens: a minute without it is no quiet market."""

    async def test(at: Scene) -> None:
        await at.server.until(lambda: at.server.subscribed(2))
        await at.until(lambda: at.heard.downs)
        assert at.server.opened == 1
        assert "answers pings but sent no data" in at.heard.downs[0]

    scene(test, feeds=("l2Book",))


def test_a_half_open_socket_that_acknowledges_nothing_is_tried_again():
    async def test(at: Scene) -> None:
        waited_s = await at.until(lambda: at.heard.downs)
        assert 10.0 <= waited_s <= 12.0
        assert "no acknowledgement of bbo of BTC" in at.heard.downs[0]
        at.server.manners.deaf = False
        await at.until(lambda: at.server.subscribed(2))

    def deaf(server: LocalStream) -> None:
        server.manners.deaf = True

    scene(test, prepare=deaf)


def test_an_unknown_coin_that_closes_the_socket_is_named():
    """The venue says nothing at all; the one coin at fault is found although the others stand beside it."""

    async def test(at: Scene) -> None:
        await at.until(at.task.done)
        with pytest.raises(SubscriptionRefused, match="bbo of Btc is asked for"):
            at.task.result()

    scene(test, coins=("BTC", "Btc", "ETH"))


def test_a_single_unknown_coin_is_named_after_some_attempts():
    async def test(at: Scene) -> None:
        await at.until(at.task.done)
        with pytest.raises(SubscriptionRefused, match="l2Book of DOGE"):
            at.task.result()
        assert at.server.opened == 5

    scene(test, coins=("DOGE",), feeds=("l2Book",))


def test_a_venue_that_drops_everyone_at_once_is_not_taken_for_an_unknown_coin():
    async def test(at: Scene) -> None:
        await at.until(lambda: len(at.heard.downs) >= 8, step_s=1.0)
        at.server.manners.closes_at_once = False
        await at.until(lambda: at.server.subscribed(2))
        assert not at.task.done(), "the stream goes on"

    def dropping(server: LocalStream) -> None:
        server.manners.closes_at_once = True

    scene(test, prepare=dropping)


def test_a_coin_that_was_accepted_before_is_never_refused_later():
    """Once acknowledged, a close right after the request is the venue's trouble and no spelling mistake."""

    async def test(at: Scene) -> None:
        await at.server.until(lambda: at.server.subscribed(2))
        at.server.manners.closes_at_once = True
        at.server.drop()
        await at.until(lambda: len(at.heard.downs) >= 12, step_s=1.0)
        at.server.manners.closes_at_once = False
        await at.until(lambda: at.server.subscribed(2))
        assert not at.task.done(), "the stream goes on"

    scene(test)


def test_a_feed_the_venue_complains_of_is_named_with_its_words():
    async def test(at: Scene) -> None:
        await at.until(at.task.done)
        with pytest.raises(SubscriptionRefused, match="refuses to stream trades of BTC: Invalid subscription"):
            at.task.result()

    def complaining(server: LocalStream) -> None:
        server.manners.complains_of = "trades"

    scene(test, feeds=("bbo", "trades"), prepare=complaining)


def test_a_venue_that_does_not_know_fast_books_is_asked_for_plain_ones():
    async def test(at: Scene) -> None:
        await at.server.until(lambda: at.server.subscribed(2))
        asked = [frame["subscription"] for frame in at.server.sockets[0].received]
        assert asked[-2:] == [{"type": "l2Book", "coin": "BTC"}, {"type": "l2Book", "coin": "ETH"}]
        at.server.drop()
        await at.until(lambda: at.server.opened == 2 and at.server.subscribed(2))
        assert all("fast" not in frame["subscription"] for frame in at.server.sockets[0].received)

    def old(server: LocalStream) -> None:
        server.manners.knows_fast = False

    scene(test, feeds=("l2Book",), prepare=old)


def test_an_acknowledgement_without_the_fast_key_counts():
    async def test(at: Scene) -> None:
        await at.server.until(lambda: at.server.subscribed(2))
        await at.until(lambda: at.clock.monotonic() > 15.0)
        assert at.heard.downs == []

    def older(server: LocalStream) -> None:
        server.manners.echoes_fast = False

    scene(test, feeds=("l2Book",), prepare=older)


def test_a_bad_frame_is_rejected_and_the_next_one_counts():
    async def test(at: Scene) -> None:
        await at.server.until(lambda: at.server.subscribed(2))
        bad = json.dumps(bbo("BTC", 1, (10.0, 1.0), None)).replace("10.0", "-10.0")
        await at.server.push(bad, "no JSON", {"channel": "news", "data": 1}, bbo("BTC", 2, (10.0, 1.0), None))
        await at.server.until(lambda: at.heard.events)
        assert [event.exchange_ms for event in at.heard.events] == [2]
        assert len(at.heard.rejects) == 2
        assert "-10.0" in at.heard.rejects[0]
        assert at.heard.unknown == ["news"]
        assert at.heard.downs == []

    scene(test)


def test_a_venue_that_refuses_connections_is_asked_ever_more_rarely_and_within_its_limit():
    async def test(at: Scene) -> None:
        await at.until(lambda: at.clock.monotonic() > 240.0, step_s=0.5)
        assert 8 <= at.server.opened <= 60
        pauses = [nap for nap in at.clock.naps if nap not in (0.0,)]
        assert max(pauses) > 10.0
        assert all("cannot connect" in reason for reason in at.heard.downs)
        at.server.manners.accepts = True
        await at.until(lambda: at.server.subscribed(2))

    def closed(server: LocalStream) -> None:
        server.manners.accepts = False

    scene(test, prepare=closed)


def test_a_connection_is_renewed_before_the_venue_cuts_it():
    async def test(at: Scene) -> None:
        await at.server.until(lambda: at.server.subscribed(2))
        at.dialect.lifetime_s = 50.0
        await at.until(lambda: at.heard.downs)
        assert 50.0 <= at.clock.monotonic() <= 52.0
        assert "renewed" in at.heard.downs[0]
        await at.until(lambda: at.server.subscribed(2))

    scene(test, venue="binance", feeds=("bookTicker",))
    assert binance.BinanceDialect.lifetime_s < 24 * 3600


def test_binance_is_subscribed_by_its_path_and_pinged_by_listing():
    async def test(at: Scene) -> None:
        await at.server.until(lambda: at.server.subscribed(2))
        assert at.server.sockets[0].streams == ["btcusdt@aggTrade", "ethusdt@aggTrade"]
        assert at.server.sockets[0].path == "/market/ws"
        await at.until(lambda: at.server.sockets[0].pings == 2)
        assert at.heard.downs == []

    scene(test, venue="binance", feeds=("aggTrade",))


def test_in_no_minute_are_more_connections_opened_than_allowed():
    clock = VirtualClock(START_MS)

    async def run() -> list[float]:
        gate = hyperliquid.gates(clock).connections
        passed = []
        for _ in range(120):
            await gate.acquire(1.0)
            passed.append(clock.monotonic())
        return passed

    passed = asyncio.run(run())
    worst = max(sum(start <= at < start + 60.0 for at in passed) for start in passed)
    assert worst == 25, "the venue allows 30"
    assert passed[-1] == pytest.approx(240.0)


def test_pauses_grow_and_are_drawn():
    backoff = Backoff(random.Random(1))
    pauses = [backoff.next_s() for _ in range(40)]
    assert all(0.0 < pause <= 30.0 for pause in pauses)
    assert sum(pauses[:3]) < 4.0 < 10.0 < sum(pauses[10:]) / 30
    assert len(set(pauses)) == 40
    backoff.reset()
    assert backoff.next_s() <= 0.5


def test_no_two_events_share_a_monotonic_time_even_on_a_clock_that_stands_still():
    receipts = Receipts(VirtualClock(START_MS))
    first = receipts.now()[1]
    receipts.taken(first, 5)
    second = receipts.now()[1]
    receipts.taken(second, 0)
    third = receipts.now()[1]
    assert (second, third) == (first + 5, first + 6)


def test_the_watchdogs_are_those_of_the_venue():
    """The server cuts a socket on which it has sent nothing for 60 s: the ping must come well before."""
    assert core.PING_AFTER_S <= 30.0
    assert core.SILENT_S == 60.0
