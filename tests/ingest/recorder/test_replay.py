"""What was recorded comes out identical, in the order it came in, at any pace and in little memory."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import json

import pytest
from hypothesis import HealthCheck, given, settings

from ingest.recorder.recorded_events import SESSION, T0_NS, book, context, drawn_events, quote, trade
from slipstream.errors import UsageError
from slipstream.ingest import replay as replay_module
from slipstream.ingest.recorder.batch import Batch, LakeLog
from slipstream.ingest.recorder.feed_watch import gap_frame
from slipstream.ingest.recorder.recorder import Buffers
from slipstream.ingest.replay import Selection, event_json, moment_ns, replay, replay_sync
from slipstream.lake.datasets import BOOKS, CONTEXTS, QUOTES, TRADES
from slipstream.lake.store import Lake
from slipstream.lake.upkeep import compact
from slipstream.venues.binance.stream import BinanceDialect
from slipstream.venues.events import BINANCE, HYPERLIQUID, Quote, StreamGap, Trade
from slipstream.venues.hyperliquid.stream import FEEDS, HyperliquidDialect
from slipstream.venues.stream import Data
from slipstream.venues.stream_timing import Receipts
from venues.virtual_clock import VirtualClock


def lake_of(folder, *flushes, gaps=()) -> Lake:
    lake = Lake.open(folder / "lake", create=True)
    log = LakeLog(lake)
    for events in flushes:
        buffers = Buffers()
        for event in events:
            buffers.of[type(event)].add(event)
        frames = (buffers.quotes, buffers.books, buffers.trades, buffers.contexts)
        log.write(Batch(*(part.frame() for part in frames), gap_frame([])))
    if gaps:
        empty = Buffers()
        log.write(
            Batch(*(p.frame() for p in (empty.quotes, empty.books, empty.trades, empty.contexts)), gap_frame(gaps))
        )
    return lake


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drawn_events(30))
def test_a_recording_comes_back_identical_and_in_order(tmp_path_factory, events):
    flushes = [events[start : start + 7] for start in range(0, len(events), 7)]
    assert list(replay_sync(lake_of(tmp_path_factory.mktemp("r"), *flushes))) == events


def test_real_sockets_come_back_identical_through_parser_lake_and_replay(tmp_path, shared):
    """26 s of Hyperliquid and the first seconds of Binance, received interleaved and stored in three flushes."""
    own = HyperliquidDialect(["BTC"], FEEDS, SESSION)
    foreign = BinanceDialect({"BTCUSDT": "BTC"}, "bookTicker", SESSION, "ws://x")
    clock = VirtualClock(T0_NS // 1_000_000)
    receipts, events = Receipts(clock), []
    with (
        gzip.open(shared / "data/book/hyperliquid_btcusd_20250126.gz", "rb") as here,
        gzip.open(shared / "data/book/binance_usdm_btcusdt_20240808.gz", "rb") as there,
    ):
        lines = [(own, line) for line in here] + [(foreign, line) for line in itertools.islice(there, 3000)]
    for place, (dialect, line) in enumerate(sorted(lines, key=lambda pair: pair[1][-40:])):
        if place % 3 == 0:
            clock._passed_ns += 1_000_003
        received_ns, monotonic_ns = receipts.now()
        frame = dialect.read(line.split(b" ", 1)[1], received_ns, monotonic_ns)
        if isinstance(frame, Data):
            receipts.taken(monotonic_ns, len(frame.events))
            events += frame.events
    third = len(events) // 3
    lake = lake_of(tmp_path, events[:third], events[third : 2 * third], events[2 * third :])
    assert len(events) > 1000
    assert list(replay_sync(lake)) == events


def test_parts_that_overlap_and_sessions_side_by_side_are_merged_by_time_of_receipt(tmp_path):
    odd, even = [quote(n) for n in range(1, 100, 2)], [trade(n) for n in range(0, 100, 2)]
    late = [quote(n, "ETH") for n in range(10, 200, 7)]
    got = list(replay_sync(lake_of(tmp_path, odd, late, even)))
    assert [event.received_ns for event in got] == sorted(event.received_ns for event in odd + even + late)
    assert len(got) == len(odd + even + late)


def test_coins_feeds_and_times_select(tmp_path):
    events = [quote(0), quote(1, "ETH"), quote(2, venue=BINANCE), trade(3), book(4), context(5)]
    lake = lake_of(tmp_path, events)
    at_ms = T0_NS // 1_000_000
    for selection, wanted in (
        (Selection(coins=("ETH",)), [1]),
        (Selection(feeds=("bookTicker", "contexts")), [2, 5]),
        (Selection(feeds=("bbo",), coins=("BTC",)), [0]),
        (Selection(start_ms=at_ms + 2, end_ms=at_ms + 4), [2, 3]),
        (Selection(coins=("btc",)), []),
    ):
        assert list(replay_sync(lake, selection)) == [events[place] for place in wanted]
    with pytest.raises(UsageError, match="no feed 'quotes'"):
        Selection(feeds=("quotes",))
    with pytest.raises(UsageError, match="not before its end"):
        Selection(start_ms=5, end_ms=5)


def test_a_gap_comes_when_it_was_over_and_once(tmp_path):
    """Its length is known only then; a gap that never ended comes at its beginning."""
    events = [quote(0), quote(10), quote(20)]
    first = StreamGap(HYPERLIQUID, "bbo", SESSION, events[0].received_ns, None, "cut")
    closed = StreamGap(HYPERLIQUID, "bbo", SESSION, events[0].received_ns, events[1].received_ns, "cut")
    never = StreamGap(BINANCE, "bookTicker", SESSION, events[1].received_ns + 5, None, "refused")
    lake = lake_of(tmp_path, events, gaps=[first, never, closed])
    assert list(replay_sync(lake)) == [events[0], closed, events[1], never, events[2]]
    assert list(replay_sync(lake, Selection(feeds=("bookTicker",)))) == [never]


@pytest.mark.parametrize("speed", [0.5, 1.0, 20.0])
def test_events_keep_their_distance_at_any_speed(tmp_path, speed):
    lake = lake_of(tmp_path, [quote(n) for n in (0, 1000, 1001, 5000)])
    clock = VirtualClock(0)

    async def run() -> list[float]:
        return [clock.monotonic() async for _ in replay(lake, clock=clock, speed=speed)]

    assert asyncio.run(run()) == pytest.approx([second / speed for second in (0.0, 1.0, 1.001, 5.0)], abs=0.0011)


def test_without_a_speed_nothing_waits(tmp_path):
    lake = lake_of(tmp_path, [quote(n) for n in range(0, 5000, 1000)])
    clock = VirtualClock(0)

    async def run() -> int:
        return len([event async for event in replay(lake, clock=clock)])

    assert asyncio.run(run()) == 5
    assert clock.naps == []


def test_a_speed_that_is_not_positive_is_refused(tmp_path):
    async def run() -> None:
        async for _ in replay(lake_of(tmp_path, [quote(1)]), clock=VirtualClock(0), speed=-1.0):
            pass

    with pytest.raises(UsageError, match="positive"):
        asyncio.run(run())


def test_a_long_recording_is_opened_part_by_part(tmp_path):
    """Forty flushes; whoever has seen the first of them has not had the last one read."""
    lake = lake_of(tmp_path, *([quote(n * 100 + k) for k in range(50)] for n in range(40)))
    opened = []

    class Watched(Lake):
        def decoded(self, dataset, parts, **more):
            opened.extend(part.path for part in parts)
            return super().decoded(dataset, parts, **more)

    stream = replay_sync(Watched(lake.place))
    held = []
    for place, _ in enumerate(stream):
        if place % 50 == 25:
            held.append(len(opened) - place // 50)
    assert len(opened) == 40
    assert max(held) <= 2


def test_a_compacted_recording_comes_back_the_same_in_stretches(tmp_path, monkeypatch):
    """Compaction joins the flushes into one part; the replay cuts it into stretches of time, some of them empty."""
    flushes = [[make(n * 100 + k) for k in range(20)] for n, make in enumerate([quote, book, trade, context] * 5)]
    lake = lake_of(tmp_path, *flushes)
    before = list(replay_sync(lake))
    for dataset in (QUOTES, BOOKS, TRADES, CONTEXTS):
        assert compact(lake, dataset).parts_after == 1
    monkeypatch.setattr(replay_module, "_STRETCH_ROWS", 7)
    assert list(replay_sync(lake)) == before == [event for flush in flushes for event in flush]
    later = Selection(coins=("BTC",), start_ms=T0_NS // 1_000_000 + 1000, end_ms=T0_NS // 1_000_000 + 1303)
    kept = [event for event in before if later.start_ns <= event.received_ns < later.end_ns]
    assert list(replay_sync(lake, later)) == kept
    assert len(kept) == 63


def test_json_lines_say_what_kind_of_event_they_are(tmp_path):
    lines = [json.loads(event_json(event)) for event in (quote(1), trade(2), book(3), context(4))]
    assert [line["event"] for line in lines] == ["quote", "trade", "book", "context"]
    assert Trade(**{k: v for k, v in lines[1].items() if k != "event"}) == trade(2)
    assert Quote(**{k: v for k, v in lines[0].items() if k != "event"}) == quote(1)
    assert moment_ns(quote(1)) == T0_NS + 1_000_000


def test_an_empty_lake_replays_nothing(tmp_path):
    assert list(replay_sync(lake_of(tmp_path))) == []
