"""A recording as a stream again: the same events, of the same types, in the order they were received.

The parts of the lake's event logs are opened in the order of their first event and closed when the last has gone by,
so memory holds the parts that overlap in time and no more: a few flushes of a fresh recording, a day of a compacted
one. Nothing is invented between events, and a gap is handed on as one: at its end, because only then is its length
known, or at its beginning if it never ended.
"""

from __future__ import annotations

import heapq
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field

import msgspec
import polars as pl

from slipstream.errors import UsageError
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
_SLICE = 10_000
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
    """A part and the time it covers, ns."""

    from_ns: int
    to_ns: int
    part: Part = field(compare=False)


def _events(lake: Lake, dataset: Dataset, venues: set[str], selection: Selection) -> Iterator[_Stamped]:
    """One dataset in order, holding only parts that overlap."""
    pieces = _pieces(lake, dataset, selection)
    make = _MADE_OF[dataset.name]
    held = dataset.schema.to_frame()
    for place, piece in enumerate(pieces):
        held = pl.concat([held, _rows(lake, dataset, piece.part, venues, selection)])
        frontier = pieces[place + 1].from_ns if place + 1 < len(pieces) else None
        if frontier is None:
            ready, held = held, held.clear()
        else:
            passed = held["received_ns"] < frontier
            ready, held = held.filter(passed), held.filter(~passed)
        yield from _made(ready.sort(_ORDER, maintain_order=True), make)


def _made(rows: pl.DataFrame, make: type[Event]) -> Iterator[_Stamped]:
    names = rows.columns
    received, monotonic = names.index("received_ns"), names.index("monotonic_ns")
    lists = [place for place, kind in enumerate(rows.dtypes) if isinstance(kind, pl.List)]
    build: Callable[..., Event] = make
    for chunk in rows.iter_slices(_SLICE):
        for row in chunk.iter_rows():
            values = row
            if lists:
                values = tuple(tuple(value) if place in lists else value for place, value in enumerate(row))
            yield row[received], row[monotonic], build(*values)


def _pieces(lake: Lake, dataset: Dataset, selection: Selection) -> list[_Piece]:
    """Parts that may hold selected rows, by their first event."""
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
        if high >= selection.start_ns and low < selection.end_ns:
            pieces.append(_Piece(low, high, part))
    return sorted(pieces)


def _day_ns(part: Part) -> tuple[int, int]:
    """The UTC day of a part whose log entry does not say what it covers."""
    day = pl.Series([dict(part.values)["date"]]).str.to_datetime("%Y-%m-%d", time_unit="ns").dt.epoch("ns")[0]
    return int(day), int(day) + 86_400_000_000_000 - 1


def _rows(lake: Lake, dataset: Dataset, part: Part, venues: set[str], selection: Selection) -> pl.DataFrame:
    (rows,) = lake.decoded(dataset, [part])
    received = pl.col("received_ns")
    wanted = pl.col("venue").is_in(sorted(venues)) & (received >= selection.start_ns) & (received < selection.end_ns)
    if selection.coins is not None:
        wanted &= pl.col("coin").is_in(list(selection.coins))
    return rows.filter(wanted)


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
