"""A recording through cuts of the connection: what was missed is on record, to the nanosecond."""

from __future__ import annotations

import asyncio
import time

from ingest.recorder.recorded_events import T0_NS
from slipstream.ingest.recorder.recordings import Addresses, Surroundings, record_lake
from slipstream.ingest.recorder.session import Report, Schedule
from slipstream.ingest.replay import replay_sync
from slipstream.lake.store import Lake
from slipstream.venues.clock import SystemClock
from slipstream.venues.events import StreamGap
from venues.local_stream import LocalStream, bbo


def test_each_cut_is_a_gap_of_every_feed_and_no_event_lies_inside_one(tmp_path):
    lake = Lake.open(tmp_path / "lake", create=True)

    async def run() -> Report:
        stop = asyncio.Event()
        async with LocalStream(("BTC",), rate=100.0) as server:
            addresses = Addresses.of(server.http, server.binance_ws)
            around = Surroundings(SystemClock(time.time_ns), stop, tmp_path)
            feeds = ("bbo", "trades", "aggTrade")
            recording = asyncio.ensure_future(record_lake(lake, ["BTC"], feeds, addresses, Schedule(0.2, 20.0), around))
            for cuts in (1, 2):
                await server.until(lambda: len(server.sockets) == 2 and server.subscribed(2))
                await asyncio.sleep(0.3)
                await server.push(
                    '{"channel":"bbo","data":{"coin":"BTC","time":-1}}', bbo("BTC", 5, (9.0, 1.0), (8.0, 1.0))
                )
                server.drop()
                opened = 2 * cuts
                await server.until(lambda opened=opened: server.opened >= opened + 2)
            await server.until(lambda: len(server.sockets) == 2 and server.subscribed(2))
            await asyncio.sleep(0.3)
            stop.set()
            return await recording

    report = asyncio.run(run())
    events = list(replay_sync(lake))
    gaps = [event for event in events if isinstance(event, StreamGap)]
    assert sorted(gap.feed for gap in gaps) == ["aggTrade"] * 2 + ["bbo"] * 2 + ["trades"] * 2
    assert report.gaps == len(gaps)
    by_feed = {"bbo": "Quote", "trades": "Trade", "aggTrade": "Trade"}
    for gap in gaps:
        assert gap.to_ns is not None
        assert "closed the socket" in gap.reason
        own = [e for e in events if type(e).__name__ == by_feed[gap.feed] and e.venue == gap.venue]
        inside = [e for e in own if gap.from_ns < e.received_ns < gap.to_ns]
        ends = {e.received_ns for e in own}
        assert (inside, {gap.from_ns, gap.to_ns} <= ends) == ([], True)
    assert (report.rejected, report.crossed) == (2, 2)
    assert report.connections == 6
    assert all(event.received_ns > T0_NS for event in events if not isinstance(event, StreamGap))
