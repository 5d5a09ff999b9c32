"""The middle of a recording: events come in on the event loop, batches go out on one writer thread.

Between the two lie column buffers of bounded size. Every flush takes them away whole and starts new ones, so that what
is received while the disk is written waits for the next flush. If the disk is slower than the feeds for so long that
the bound is reached, events are dropped, and that is said and recorded: their feed gets a gap in ``stream_gaps``.

What a ``kill -9`` loses is what came since the last flush began: one interval, and what a write takes.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import polars as pl

from slipstream.errors import SlipstreamError
from slipstream.ingest.recorder.batch import Batch, Output
from slipstream.ingest.recorder.columns import BookColumns, Columns, ContextColumns, QuoteColumns, TradeColumns
from slipstream.ingest.recorder.feed_watch import FeedWatch
from slipstream.ingest.recorder.rejects import Rejects
from slipstream.venues.clock import Clock
from slipstream.venues.events import Book, Context, Event, Quote, Trade
from slipstream.venues.stream import Data

CAPACITY_BYTES = 32 * 1024 * 1024
"""What may wait in memory; a quote takes 64 bytes, a book of five levels a side about 300."""

FLUSH_ROWS = 50_000
"""Rows that are written without waiting for the interval: a smaller flush needs less memory at its peak."""
_KINDS_TOLD_APART = 100
_LOOK_EVERY = 64  # frames between two looks at the size of what waits

log = logging.getLogger(__name__)


@dataclass
class _Feed:
    """What is known of one feed."""

    venue: str
    rows: Counter[str] = field(default_factory=Counter)
    dropped: int = 0


class Buffers:
    """One table per kind of event."""

    def __init__(self) -> None:
        self.quotes, self.books = QuoteColumns(), BookColumns()
        self.trades, self.contexts = TradeColumns(), ContextColumns()
        self.of: dict[type[Event], Columns] = {
            Quote: self.quotes,
            Book: self.books,
            Trade: self.trades,
            Context: self.contexts,
        }
        self.rows = 0
        self.frames = 0

    @property
    def size(self) -> int:
        return self.quotes.size + self.books.size + self.trades.size + self.contexts.size


@dataclass(frozen=True)
class Flushed:
    """One flush: rows written, and how long it took, s."""

    rows: int
    seconds: float


class Recorder:
    """Listens to streams and writes what they say; see the module.

    Args:
        outputs: written in order at every flush.
        feeds: feed -> its venue.
        session: the recording's name.
        clock: for the time of flushes.
        rejects: where unreadable messages go.
        flush_rows: rows that are written without waiting for the interval.
        capacity_bytes: what may wait in memory.
    """

    def __init__(
        self,
        outputs: Sequence[Output],
        feeds: Mapping[str, str],
        session: str,
        *,
        clock: Clock,
        rejects: Rejects,
        flush_rows: int = FLUSH_ROWS,
        capacity_bytes: int = CAPACITY_BYTES,
    ) -> None:
        self.outputs, self.session, self.rejects = tuple(outputs), session, rejects
        self.feeds = {feed: _Feed(venue) for feed, venue in feeds.items()}
        self.watch = FeedWatch(((venue, feed) for feed, venue in feeds.items()), session, clock.now_ns())
        self.unknown: Counter[tuple[str, str]] = Counter()
        self.crossed = 0
        self._clock, self._flush_rows, self._capacity = clock, flush_rows, capacity_bytes
        self._buffers = Buffers()
        self._full = False
        self._enough = asyncio.Event()
        self._writing: asyncio.Future[None] | None = None
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="recorder")

    def received(self, venue: str, data: Data) -> None:
        """Take the events of a frame, or drop them if no more may wait."""
        feed, events = self.feeds[data.feed], data.events
        if not events:
            return
        buffers = self._buffers
        buffers.frames += 1
        if self._full or (buffers.frames % _LOOK_EVERY == 0 and self._overflows()):
            self._drop(venue, data)
            return
        for event in events:
            buffers.of[type(event)].add(event)
            feed.rows[event.coin] += 1
        buffers.rows += len(events)
        self.watch.spoke((venue, data.feed), events[-1].received_ns)
        if buffers.rows >= self._flush_rows:
            self._enough.set()

    def rejected(self, venue: str, raw: bytes, reason: str, received_ns: int) -> None:
        """Keep a message that could not be read."""
        self.rejects.add(venue, raw, reason, received_ns)

    def ignored(self, venue: str, kind: str) -> None:
        """Count a frame of an unknown kind; of very many kinds, only the first are told apart."""
        if len(self.unknown) >= _KINDS_TOLD_APART and (venue, kind) not in self.unknown:
            kind = "other"
        self.unknown[venue, kind] += 1

    def went_down(self, venue: str, feeds: Sequence[str], reason: str) -> None:
        """Open a gap in each feed."""
        for feed in feeds:
            self.watch.down((venue, feed), reason)

    async def keep_flushing(self, every_s: float) -> None:
        """Flush at every interval, and sooner when enough rows wait; until cancelled.

        Raises:
            SlipstreamError: an output failed.
        """
        due_s = self._clock.monotonic() + every_s
        while True:
            await self._until(due_s)
            due_s = self._clock.monotonic() + every_s
            flushed = await self.flush()
            log.debug("wrote %d rows in %.3f s", flushed.rows, flushed.seconds)
            if flushed.seconds > every_s:
                log.warning(
                    "writing %d rows took %.1f s, longer than the flush interval of %.1f s: storage is slow, and a "
                    "crash now loses as much",
                    flushed.rows,
                    flushed.seconds,
                    every_s,
                )

    async def flush(self) -> Flushed:
        """Write what waits; durable when it returns.

        Raises:
            SlipstreamError: an output failed; the rows of this flush may be missing from it.
        """
        await self._written()
        begun_s = self._clock.monotonic()
        buffers, self._buffers = self._buffers, Buffers()
        self._enough.clear()
        if self._full:
            self._full = False
            log.error("storage has caught up; %d events were dropped so far", self.dropped)
        gaps, rejected = self.watch.take_rows(), self.rejects.take()
        loop = asyncio.get_running_loop()
        self._writing = loop.run_in_executor(self._writer, self._write, buffers, gaps, rejected)
        await self._written()
        return Flushed(buffers.rows, self._clock.monotonic() - begun_s)

    async def _written(self) -> None:
        """Wait for the write under way; one that failed fails every later flush, too, so nothing follows a hole."""
        if self._writing is None:
            return
        try:
            await asyncio.shield(self._writing)
        except SlipstreamError as problem:
            raise SlipstreamError(f"{problem}. The recording ends; what came since the last flush is lost") from problem

    def close(self) -> None:
        """Let go of files and the writer; what waits is not written."""
        self._writer.shutdown()
        for output in self.outputs:
            output.close()

    @property
    def dropped(self) -> int:
        """Events dropped because storage was too slow."""
        return sum(feed.dropped for feed in self.feeds.values())

    def _write(self, buffers: Buffers, gaps: pl.DataFrame, rejected: bytes) -> None:
        batch = Batch(
            buffers.quotes.frame(), buffers.books.frame(), buffers.trades.frame(), buffers.contexts.frame(), gaps
        )
        self.crossed += int((batch.quotes["bid"] >= batch.quotes["ask"]).sum())
        self.rejects.write(rejected)
        for output in self.outputs:
            output.write(batch)

    def _overflows(self) -> bool:
        if self._buffers.size < self._capacity:
            return False
        self._full = True
        self._enough.set()
        log.error(
            "storage is slower than the feeds: %d rows wait to be written and no more fit; events are dropped until "
            "it has caught up, and the gap is recorded",
            self._buffers.rows,
        )
        return True

    def _drop(self, venue: str, data: Data) -> None:
        self.feeds[data.feed].dropped += len(data.events)
        self.watch.down((venue, data.feed), "storage was slower than the feeds: events dropped")

    async def _until(self, due_s: float) -> None:
        pause = asyncio.ensure_future(self._clock.sleep(max(0.0, due_s - self._clock.monotonic())))
        enough = asyncio.ensure_future(self._enough.wait())
        try:
            await asyncio.wait({pause, enough}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            pause.cancel()
            enough.cancel()
            await asyncio.gather(pause, enough, return_exceptions=True)
