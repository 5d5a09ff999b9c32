"""A recording as a stream again: the same events, of the same types, in the order they were received.

The parts of the lake's event logs are opened in the order of their first event and closed when the last has gone by,
so memory holds the parts that overlap in time and no more. Of a large part, as compaction makes them, one stretch of
time is decoded after the other. Nothing is invented between events, and a gap is handed on as one: at its end, because
only then is its length known, or at its beginning if it never ended.
"""

from __future__ import annotations

import heapq
import io
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import msgspec
import polars as pl

from slipstream.errors import DataError, UsageError
from slipstream.ingest.recorder.feed_watch import settled
from slipstream.lake.datasets import BOOKS, CONTEXTS, QUOTES, STREAM_GAPS, TRADES, Dataset
from slipstream.lake.parts import Part
from slipstream.lake.store import Lake, parts_of
from slipstream.venues.clock import Clock
from slipstream.venues.events import BINANCE, HYPERLIQUID, Book, Context, Event, Quote, StreamGap, Trade

FEEDS: dict[str, tuple[str, Dataset]] = {
    "bbo": (HYPERLIQUID, QUOTES),
    "l2Book": (HYPERLIQUID, BOOKS),
    "trades": (HYPERLIQUID, TRADES),
    "contexts": (HYPERLIQUID, CONTEXTS),
    "bookTicker": (BINANCE, QUOTES),
    "aggTrade": (BINANCE, TRADES),
}
"""Feed -> its venue and where its events lie."""
_MADE_OF: dict[str, type[Event]] = {
    QUOTES.name: Quote,
    BOOKS.name: Book,
    TRADES.name: Trade,
    CONTEXTS.name: Context,
}
_ORDER = ("received_ns", "monotonic_ns")
_SLICE = 5_000
_STRETCH_ROWS = 150_000  # rows of a large part that are decoded together, if they are evenly spread
_OPEN_PARTS = 2
_SHORTEST_PAUSE_S = 0.001


@dataclass(frozen=True)
class Selection:
    """What to replay.

    Attributes:
        coins: case-sensitive names; None: all.
        feeds: of :data:`FEEDS`; None: all.
        start_ms: first moment of receipt, Unix ms; None: from the beginning.
        end_ms: moment of receipt to stop before, Unix ms; None: to the end.
    """

    coins: tuple[str, ...] | None = None
    feeds: tuple[str, ...] | None = None
    start_ms: int | None = None
    end_ms: int | None = None

    def __post_init__(self) -> None:
        unknown = [feed for feed in self.feeds or () if feed not in FEEDS]
        if unknown:
            raise UsageError(f"no feed {unknown[0]!r}; there are {', '.join(FEEDS)}")
        if self.start_ms is not None and self.end_ms is not None and self.start_ms >= self.end_ms:
            raise UsageError("the replay's start is not before its end")

    @property
    def start_ns(self) -> int:
        """First moment, Unix ns."""
        return 0 if self.start_ms is None else self.start_ms * 1_000_000

    @property
    def end_ns(self) -> int:
        """Moment to stop before, Unix ns."""
        return 2**63 - 1 if self.end_ms is None else self.end_ms * 1_000_000

    def chosen(self) -> dict[str, tuple[str, Dataset]]:
        """The feeds, by name."""
        return {name: place for name, place in FEEDS.items() if self.feeds is None or name in self.feeds}


def replay_sync(lake: Lake, selection: Selection | None = None) -> Iterator[Event | StreamGap]:
    """Every selected event, as fast as it can be read.

    Args:
        lake: holds the recordings; several sessions are merged by time of receipt.
        selection: default: everything.

    Raises:
        DataError: a part is missing or damaged.
    """
    chosen = Selection() if selection is None else selection
    streams = [_events(lake, dataset, venues, chosen) for dataset, venues in _by_dataset(chosen).items()]
    streams.append(_gaps(lake, chosen))
    for _, _, event in heapq.merge(*streams, key=lambda stamped: stamped[:2]):
        yield event


async def replay(
    lake: Lake, selection: Selection | None = None, *, clock: Clock, speed: float | None = None
) -> AsyncIterator[Event | StreamGap]:
    """Every selected event, at the pace it was received, or a multiple of it.

    Args:
        lake: holds the recordings.
        selection: default: everything.
        clock: keeps the pace.
        speed: 1.0 takes as long as the recording did, 10.0 a tenth; None: as fast as it can be read.

    Raises:
        UsageError: a speed that is not positive.
        DataError: a part is missing or damaged.
    """
    if speed is not None and not speed > 0:
        raise UsageError(f"speed {speed}: must be positive; leave it out for as fast as possible")
    begun_s = clock.monotonic()
    first_ns: int | None = None
    for event in replay_sync(lake, selection):
        if speed is not None:
            at_ns = moment_ns(event)
            first_ns = at_ns if first_ns is None else first_ns
            ahead_s = (at_ns - first_ns) / 1e9 / speed - (clock.monotonic() - begun_s)
            if ahead_s >= _SHORTEST_PAUSE_S:
                await clock.sleep(ahead_s)
        yield event


def moment_ns(event: Event | StreamGap) -> int:
    """When a replay hands the event on, Unix ns."""
    if isinstance(event, StreamGap):
        return event.from_ns if event.to_ns is None else event.to_ns
    return event.received_ns


_Stamped = tuple[int, int, "Event | StreamGap"]


def _by_dataset(selection: Selection) -> dict[Dataset, set[str]]:
    """Venues wanted of each dataset."""
    wanted: dict[Dataset, set[str]] = {}
    for venue, dataset in selection.chosen().values():
        wanted.setdefault(dataset, set()).add(venue)
    return wanted


@dataclass(order=True)
class _Piece:
    """A part, or a stretch of a large one, and the time it covers, ns."""

    from_ns: int
    to_ns: int
    part: Part = field(compare=False)
    whole: bool = field(compare=False, default=True)


def _events(lake: Lake, dataset: Dataset, venues: set[str], selection: Selection) -> Iterator[_Stamped]:
    """One dataset in order, holding only parts that overlap."""
    pieces = _pieces(lake, dataset, selection)
    make = _MADE_OF[dataset.name]
    reader = _Reader(lake, dataset, venues, selection)
    held = dataset.schema.to_frame()
    for place, piece in enumerate(pieces):
        held = pl.concat([held, reader.rows(piece)])
        if place + 1 < len(pieces):
            passed = held["received_ns"] < pieces[place + 1].from_ns
            ready, held = held.filter(passed), held.filter(~passed)
        else:
            ready, held = held, held.clear()
        yield from _made(ready.sort(_ORDER, maintain_order=True), make)


def _made(rows: pl.DataFrame, make: type[Event]) -> Iterator[_Stamped]:
    received, monotonic = rows.columns.index("received_ns"), rows.columns.index("monotonic_ns")
    lists = [place for place, kind in enumerate(rows.dtypes) if isinstance(kind, pl.List)]
    build: Callable[..., Event] = make
    for chunk in rows.iter_slices(_SLICE):
        for row in chunk.iter_rows():
            values = row
            if lists:
                values = tuple(tuple(value) if place in lists else value for place, value in enumerate(row))
            yield row[received], row[monotonic], build(*values)


def _pieces(lake: Lake, dataset: Dataset, selection: Selection) -> list[_Piece]:
    """What may hold selected rows, by its first event; a large part is cut into stretches of equal time."""
    table = lake.table(dataset)
    if table is None:
        return []
    actions = pl.DataFrame(table.get_add_actions(flatten=True))
    spans: dict[str, tuple[int, int]] = {}
    if {"min.received_ns", "max.received_ns"} <= set(actions.columns):
        columns = actions.select("path", "min.received_ns", "max.received_ns").drop_nulls()
        spans = {path: (low, high) for path, low, high in columns.iter_rows()}
    pieces = []
    for part in parts_of(table, dataset):
        low, high = spans.get(part.path) or _day_ns(part)
        count = max(1, -(-(part.rows or 0) // _STRETCH_ROWS))
        cuts = [low + (high + 1 - low) * place // count for place in range(count + 1)]
        for begin, end in pairwise(cuts):
            if end > selection.start_ns and begin < selection.end_ns and end > begin:
                pieces.append(_Piece(begin, end - 1, part, whole=count == 1))
    return sorted(pieces)


def _day_ns(part: Part) -> tuple[int, int]:
    """The UTC day of a part whose log entry does not say what it covers."""
    day = pl.Series([dict(part.values)["date"]]).str.to_datetime("%Y-%m-%d", time_unit="ns").dt.epoch("ns")[0]
    return int(day), int(day) + 86_400_000_000_000 - 1


class _Reader:
    """Reads pieces; keeps the compressed bytes of a large part until its last stretch has been read."""

    def __init__(self, lake: Lake, dataset: Dataset, venues: set[str], selection: Selection) -> None:
        self._lake, self._dataset = lake, dataset
        self._bodies: dict[str, bytes] = {}
        received = pl.col("received_ns")
        self._wanted = pl.col("venue").is_in(sorted(venues)) & (received >= selection.start_ns)
        self._wanted &= received < selection.end_ns
        if selection.coins is not None:
            self._wanted &= pl.col("coin").is_in(list(selection.coins))

    def rows(self, piece: _Piece) -> pl.DataFrame:
        """The selected rows of a piece."""
        if piece.whole:
            (rows,) = self._lake.decoded(self._dataset, [piece.part])
            return rows.filter(self._wanted)
        body = self._bodies.get(piece.part.path) or self._opened(piece.part)
        stretch = pl.col("received_ns").is_between(piece.from_ns, piece.to_ns)
        rows = pl.scan_parquet(io.BytesIO(body)).filter(stretch, self._wanted).select(self._dataset.names).collect()
        return rows.cast(self._dataset.schema)

    def _opened(self, part: Part) -> bytes:
        """The bytes of a large part, its checksum verified; those of parts that have gone by are let go."""
        (received,) = self._lake.decoded(self._dataset, [part], columns=("received_ns",))
        body = self._lake.place.read(f"{self._dataset.name}/{part.path}")
        if body is None or received.is_empty():
            raise DataError(f"{self._lake.place.below(part.path)}: the part is gone; replay again")
        while len(self._bodies) >= _OPEN_PARTS:
            del self._bodies[next(iter(self._bodies))]
        self._bodies[part.path] = body
        return body


def _gaps(lake: Lake, selection: Selection) -> Iterator[_Stamped]:
    """Gaps of the selected feeds; there are few."""
    wanted = {(venue, feed) for feed, (venue, _) in selection.chosen().items()}
    gaps: list[StreamGap] = []
    for row in settled(lake.read(STREAM_GAPS)).iter_rows(named=True):
        gap = msgspec.convert(row, StreamGap)
        if (gap.venue, gap.feed) in wanted and selection.start_ns <= moment_ns(gap) < selection.end_ns:
            gaps.append(gap)
    for gap in sorted(gaps, key=moment_ns):
        yield moment_ns(gap), 0, gap


def event_json(event: Event | StreamGap) -> bytes:
    """One JSON line: the event's fields, and ``event`` with its kind, such as ``quote``."""
    body = {"event": type(event).__name__.lower(), **msgspec.structs.asdict(event)}
    return msgspec.json.encode(body) + b"\n"
