"""A client of the local venue for the length of one test, and the rows it should have."""

from __future__ import annotations

import asyncio
import json

from slipstream.lake.datasets import BARS
from slipstream.venues.hyperliquid.info import InfoClient
from venues.local_faults import Fault, Replace, of_kind
from venues.local_market import HOUR_MS, INTERVALS
from venues.local_venue import LocalVenue
from venues.virtual_clock import VirtualClock

NOON = 1_748_779_200_000  # 2025-06-01 12:00 UTC
NOW = NOON + 34 * 60_000 + 56_000
ALWAYS = 10**6


def visit(use, *, now_ms=NOW, clock_off_ms=0, days=40, **options):
    """What ``use(client, venue)`` returns, and the venue; one clock moves both sides."""
    clock = VirtualClock(now_ms + clock_off_ms)

    async def scenario():
        venue = LocalVenue(lambda: clock.now_ms() - clock_off_ms, days=days, monotonic=clock.monotonic, **options)
        async with venue, InfoClient(venue.url, clock=clock) as client:
            return await use(client, venue), venue

    return asyncio.run(scenario())


def closed_bars_of(coin, interval, start_ms, end_ms, now_ms=NOW):
    """(open, o, h, l, c, v) of the market's own bars that a client should have."""
    step = INTERVALS[interval]
    opens = range(-(-start_ms // step) * step, end_ms, step)
    bars = (coin.bar(open_ms, interval, now_ms) for open_ms in opens)
    return [
        (bar.open_ms, *(float(text) for text in (bar.open, bar.high, bar.low, bar.close, bar.volume)))
        for bar in bars
        if bar is not None and not bar.forming
    ]


def rows_of(bars):
    assert bars.schema == BARS.schema
    return [
        (row[0].timestamp() * 1000, *row[1:])
        for row in bars.select("ts", "open", "high", "low", "close", "volume").rows()
    ]


def candle(open_ms, **changed):
    row = {"t": open_ms, "T": open_ms + HOUR_MS - 1, "s": "BTC", "i": "1h"}
    return row | {"o": "10.0", "h": "12.0", "l": "9.0", "c": "11.0", "v": "5.0", "n": 3} | changed


def settlement(stamp_ms, **changed):
    return {"coin": "BTC", "fundingRate": "0.0000125", "premium": "0.0001", "time": stamp_ms} | changed


def answered(kind, rows, ask):
    """The client's result when the venue answers ``rows``, and how often it was asked."""
    fault = Fault(of_kind(kind), Replace(json.dumps(rows).encode()), times=ALWAYS)
    result, venue = visit(ask, faults=[fault])
    return result, len(venue.requests)
