"""One recording from its first connection to its report: streams, flushes and polls side by side until the end.

It ends when its time is up, when it is told to stop, or when something it cannot go on without fails. Whatever the
reason, what was received is written first.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import aiohttp

from slipstream.ingest.recorder.recorder import Recorder
from slipstream.venues.clock import Clock
from slipstream.venues.stream import Dialect, Gates, Stream
from slipstream.venues.stream_timing import Receipts

FLUSH_S = 5.0
_TICK_S = 1.0


def session_name(now_ms: int) -> str:
    """``YYYYmmdd-HHMMSS`` of a moment, UTC."""
    return datetime.fromtimestamp(now_ms / 1000.0, UTC).strftime("%Y%m%d-%H%M%S")


@dataclass(frozen=True)
class Schedule:
    """When to write and when to end.

    Attributes:
        flush_s: interval of flushes, s.
        duration_s: of the recording, s; 0: until told to stop.
    """

    flush_s: float = FLUSH_S
    duration_s: float = 0.0


@dataclass(frozen=True)
class FeedReport:
    """One feed of a recording."""

    venue: str
    feed: str
    rows: dict[str, int]
    dropped: int

    @property
    def total(self) -> int:
        """Rows of all coins."""
        return sum(self.rows.values())


@dataclass(frozen=True)
class Report:
    """What a recording came to.

    Attributes:
        session: its name.
        seconds: how long it ran.
        feeds: rows per feed and coin.
        rejected: messages that could not be read.
        rejects_file: where they are; None if there are none.
        ignored: frames of unknown kinds, by kind.
        crossed: quotes whose bid was not below the ask; kept.
        gaps: stretches in which a feed was down.
        connections: that were opened.
    """

    session: str
    seconds: float
    feeds: tuple[FeedReport, ...]
    rejected: int
    rejects_file: str | None
    ignored: dict[str, int]
    crossed: int
    gaps: int
    connections: int


async def record(
    recorder: Recorder,
    connections: Sequence[tuple[Dialect, Gates]],
    schedule: Schedule,
    *,
    clock: Clock,
    rng: random.Random,
    stop: asyncio.Event,
    beside: Sequence[Callable[[], Coroutine[None, None, None]]] = (),
    on_tick: Callable[[], None] | None = None,
) -> Report:
    """Record until the duration is over or ``stop`` is set.

    Args:
        recorder: takes and writes the events; closed at the end.
        connections: what to connect to, and the limits each shares with others of its venue.
        schedule: when to write and end.
        clock: time.
        rng: draws the pauses between attempts.
        stop: ends the recording cleanly.
        beside: run with it and stopped with it.
        on_tick: called about once a second.

    Raises:
        SlipstreamError: a coin is unknown, or the disk refuses; what had been received before is written.
    """
    begun_s = clock.monotonic()
    receipts = Receipts(clock)
    try:
        async with aiohttp.ClientSession() as http:
            streams = [
                Stream(dialect, recorder, http=http, clock=clock, receipts=receipts, gates=gates, rng=rng)
                for dialect, gates in connections
            ]
            work = [stream.run() for stream in streams]
            work += [recorder.keep_flushing(schedule.flush_s), _stopped(stop), *(start() for start in beside)]
            if schedule.duration_s > 0:
                work.append(clock.sleep(schedule.duration_s))
            if on_tick is not None:
                work.append(_ticking(on_tick, clock))
            try:
                await _until_first(work)
            finally:
                await recorder.flush()
    finally:
        recorder.close()
    return _report(recorder, clock.monotonic() - begun_s, sum(stream.connections for stream in streams))


async def _stopped(stop: asyncio.Event) -> None:
    await stop.wait()


async def _until_first(work: Sequence[Coroutine[None, None, None]]) -> None:
    """Run all until one ends, then cancel the rest and raise what the first raised."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


async def _ticking(on_tick: Callable[[], None], clock: Clock) -> None:
    while True:
        await clock.sleep(_TICK_S)
        on_tick()


def _report(recorder: Recorder, seconds: float, connections: int) -> Report:
    rejects = recorder.rejects
    return Report(
        session=recorder.session,
        seconds=seconds,
        feeds=tuple(
            FeedReport(feed.venue, name, dict(feed.rows), feed.dropped) for name, feed in recorder.feeds.items()
        ),
        rejected=rejects.count,
        rejects_file=str(rejects.path) if rejects.count else None,
        ignored={f"{venue} {kind}": count for (venue, kind), count in recorder.unknown.items()},
        crossed=recorder.crossed,
        gaps=recorder.watch.gaps,
        connections=connections,
    )
