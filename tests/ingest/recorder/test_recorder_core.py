"""Between streams and disk: nothing is lost in order, memory is bounded, and trouble is said and recorded."""

from __future__ import annotations

import asyncio
import json
import threading

import pytest
from hypothesis import given

from ingest.recorder.recorded_events import drawn_events, quote, trade
from slipstream.errors import SlipstreamError
from slipstream.ingest.recorder.batch import Batch
from slipstream.ingest.recorder.recorder import Recorder
from slipstream.ingest.recorder.rejects import Rejects
from slipstream.venues.events import BINANCE, HYPERLIQUID, Book, Context, Quote
from slipstream.venues.stream import Data
from venues.virtual_clock import VirtualClock

FEEDS = {"bbo": HYPERLIQUID, "l2Book": HYPERLIQUID, "trades": HYPERLIQUID, "contexts": HYPERLIQUID}
FEEDS |= {"bookTicker": BINANCE, "aggTrade": BINANCE}


class Kept:
    """An output that keeps batches, and can be made slow or broken."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.gate = threading.Event()
        self.gate.set()
        self.broken = False
        self.closed = False

    def write(self, batch: Batch) -> None:
        assert self.gate.wait(10)
        if self.broken:
            raise SlipstreamError("disk full")
        self.batches.append(batch)

    def close(self) -> None:
        self.closed = True


def feed_of(event) -> str:
    if isinstance(event, Book):
        return "l2Book"
    if isinstance(event, Context):
        return "contexts"
    if isinstance(event, Quote):
        return "bbo" if event.venue == HYPERLIQUID else "bookTicker"
    return "trades" if event.venue == HYPERLIQUID else "aggTrade"


def recorder_of(output: Kept, tmp_path, **more) -> Recorder:
    clock = VirtualClock(1_757_015_216_000, automatic=False)
    return Recorder([output], FEEDS, "s", clock=clock, rejects=Rejects(tmp_path / "rejects" / "s.jsonl"), **more)


@given(drawn_events(20))
def test_what_is_received_is_written_once_and_in_order_however_it_is_cut_into_flushes(tmp_path_factory, events):
    kept = Kept()

    async def run() -> None:
        recorder = recorder_of(kept, tmp_path_factory.mktemp("r"))
        for place, event in enumerate(events):
            recorder.received(event.venue, Data(feed_of(event), (event,)))
            if place % 3 == 0:
                await recorder.flush()
        await recorder.flush()
        recorder.close()

    asyncio.run(run())
    written = [row for batch in kept.batches for row in batch.quotes.rows()]
    assert written == [tuple(getattr(e, n) for n in e.__struct_fields__) for e in events if isinstance(e, Quote)]
    total = sum(frame.height for batch in kept.batches for _, frame in batch.by_dataset())
    assert total == len(events)
    assert kept.closed


def test_a_full_buffer_drops_says_so_and_leaves_a_gap(tmp_path, caplog):
    """The disk stands still while the feed goes on: memory stays bounded, and the hole is on record."""
    kept = Kept()

    async def run() -> Recorder:
        recorder = recorder_of(kept, tmp_path, capacity_bytes=64_000)
        recorder.received(HYPERLIQUID, Data("bbo", (quote(0),)))
        kept.gate.clear()
        stuck = asyncio.ensure_future(recorder.flush())
        await asyncio.sleep(0)
        for number in range(1, 5_001):
            recorder.received(HYPERLIQUID, Data("bbo", (quote(number),)))
            assert recorder._buffers.size < 64_000 + 64 * 64 + 64
        kept.gate.set()
        await stuck
        await recorder.flush()
        recorder.received(HYPERLIQUID, Data("bbo", (quote(9_000),)))
        await recorder.flush()
        recorder.close()
        return recorder

    recorder = asyncio.run(run())
    times = [t for batch in kept.batches for t in batch.quotes["received_ns"]]
    assert recorder.dropped == 5_002 - len(times) > 0
    (gap,) = [row for batch in kept.batches for row in batch.gaps.iter_rows(named=True) if row["to_ns"] is not None]
    assert (gap["from_ns"], gap["to_ns"]) == (times[-2], times[-1])
    assert "slower than the feeds" in gap["reason"]
    assert "events are dropped" in caplog.text


def test_a_disk_that_fails_ends_the_recording_with_its_reason(tmp_path):
    kept = Kept()

    async def run() -> None:
        recorder = recorder_of(kept, tmp_path)
        recorder.received(HYPERLIQUID, Data("bbo", (quote(1),)))
        kept.broken = True
        with pytest.raises(SlipstreamError, match="disk full"):
            await recorder.flush()
        kept.broken = False
        with pytest.raises(SlipstreamError, match="disk full"):
            await recorder.flush()  # nothing may follow a hole
        recorder.close()

    asyncio.run(run())
    assert kept.batches == []


def test_enough_rows_are_written_without_waiting_for_the_interval(tmp_path):
    kept = Kept()

    async def run() -> None:
        recorder = recorder_of(kept, tmp_path, flush_rows=10)
        flushing = asyncio.ensure_future(recorder.keep_flushing(3600.0))
        for number in range(10):
            recorder.received(HYPERLIQUID, Data("trades", (trade(number),)))
        async with asyncio.timeout(5):
            while not kept.batches:
                await asyncio.sleep(0.001)
        flushing.cancel()
        await asyncio.gather(flushing, return_exceptions=True)
        recorder.close()

    asyncio.run(run())
    assert kept.batches[0].trades.height == 10


def test_what_could_not_be_read_lies_in_a_file_with_its_reason(tmp_path):
    kept = Kept()

    async def run() -> None:
        recorder = recorder_of(kept, tmp_path)
        recorder.rejected(BINANCE, b'{"b": \xff\x00 bad}', "no JSON", 77)
        await recorder.flush()
        for _ in range(3):
            recorder.ignored(BINANCE, "kline")
        recorder.close()
        assert recorder.unknown == {(BINANCE, "kline"): 3}

    asyncio.run(run())
    (line,) = (tmp_path / "rejects" / "s.jsonl").read_text().splitlines()
    said = json.loads(line)
    assert (said["received_ns"], said["venue"], said["reason"]) == (77, BINANCE, "no JSON")
    assert "bad" in said["message"]


def test_a_flood_of_bad_messages_fills_neither_memory_nor_disk(tmp_path):
    rejects = Rejects(tmp_path / "r.jsonl")
    for number in range(5_000):
        rejects.add(BINANCE, b"x" * 100_000, "no JSON", number)
    lines = rejects.take()
    assert rejects.count == 5_000
    assert len(lines) < 5_000_000


def test_crossed_quotes_are_kept_and_counted(tmp_path):
    from msgspec.structs import replace

    kept = Kept()

    async def run() -> Recorder:
        recorder = recorder_of(kept, tmp_path)
        for one in (quote(1), replace(quote(2), bid=500.0), replace(quote(3), bid=None, bid_size=None)):
            recorder.received(HYPERLIQUID, Data("bbo", (one,)))
        await recorder.flush()
        recorder.close()
        return recorder

    assert asyncio.run(run()).crossed == 1
    assert kept.batches[0].quotes.height == 3
