"""What the venue's archive holds, and under which keys.

    hyperliquid-archive   market_data/20250311/9/l2Book/SOL.lz4               one coin, one hour: book snapshots
                          asset_ctxs/20250311.csv.lz4                         all coins, one day: contexts per minute
    hl-mainnet-node-data  node_trades/hourly/20250411/3.lz4                   all coins, one hour: trades, both sides
                          node_fills/hourly/20250601/3.lz4                    the same as fills of a wallet
                          node_fills_by_block/hourly/20250801/3.lz4           the same, block by block

Hours are not padded: hour nine is ``9``. The node's hours are hours of *processing*, so a fill may lie in the object
before or after its own hour; a request for a span of fills therefore reads one hour more at both ends.

Spans as reported by users of the archive and by the node's documentation, checked on 2026-11-22. The venue uploads
about once a month and may leave holes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from slipstream.core.panel import HOUR_MS, utc
from slipstream.errors import UsageError

DAY_MS = 24 * HOUR_MS
ARCHIVE_BUCKET = "hyperliquid-archive"
NODE_BUCKET = "hl-mainnet-node-data"


def _at(year: int, month: int, day: int, hour: int = 0) -> int:
    return int(datetime(year, month, day, hour, tzinfo=UTC).timestamp()) * 1000


@dataclass(frozen=True)
class Archive:
    """One kind of object.

    Attributes:
        name: as ``--datatype`` names it.
        bucket: where it lies.
        folder: what to list to see a day's objects, with ``{day}`` where days have folders of their own.
        key: the whole key, with ``{day}``, ``{hour}`` and, for one-coin objects, ``{coin}``.
        step_ms: the span of an object, ms: an hour or a day.
        per_coin: an object holds one coin; otherwise all of them.
        first_ms: start of the first object, Unix ms.
        last_ms: start of the last object where the series has ended.
        margin: objects to read beyond either end of a span of rows.
    """

    name: str
    bucket: str
    folder: str
    key: str
    step_ms: int
    per_coin: bool
    first_ms: int
    last_ms: int | None = None
    margin: int = 0

    def key_of(self, start_ms: int, coin: str | None) -> str:
        """Key of the object that starts at ``start_ms``; ``coin`` is None for objects of all coins."""
        return self.keys_at(start_ms)(coin)

    def keys_at(self, start_ms: int) -> Callable[[str | None], str]:
        """:meth:`key_of` for many coins at one start."""
        moment = utc(start_ms)
        before, _, after = self.key.partition("{coin}")
        before = before.format(day=f"{moment:%Y%m%d}", hour=moment.hour)
        return lambda coin: before if coin is None else f"{before}{coin}{after}"

    def folder_of(self, start_ms: int) -> str:
        """The folder in which an object is listed."""
        return self.folder.format(day=f"{utc(start_ms):%Y%m%d}")


L2_BOOK = Archive(
    "l2Book",
    ARCHIVE_BUCKET,
    "market_data/{day}/",
    "market_data/{day}/{hour}/l2Book/{coin}.lz4",
    HOUR_MS,
    True,
    _at(2023, 4, 15),
)
ASSET_CTXS = Archive(
    "asset_ctxs", ARCHIVE_BUCKET, "asset_ctxs/", "asset_ctxs/{day}.csv.lz4", DAY_MS, False, _at(2023, 5, 20)
)


def _node(name: str, first_ms: int, last_ms: int | None) -> Archive:
    key = f"{name}/hourly/{{day}}/"
    return Archive(name, NODE_BUCKET, key, f"{key}{{hour}}.lz4", HOUR_MS, False, first_ms, last_ms, margin=1)


NODE_TRADES = _node("node_trades", _at(2025, 3, 22, 10), _at(2025, 5, 25, 13))
NODE_FILLS = _node("node_fills", _at(2025, 5, 25, 14), _at(2025, 7, 27, 8))
NODE_FILLS_BY_BLOCK = _node("node_fills_by_block", _at(2025, 7, 27, 8), None)

ARCHIVES = {archive.name: archive for archive in (L2_BOOK, ASSET_CTXS, NODE_TRADES, NODE_FILLS, NODE_FILLS_BY_BLOCK)}
"""Every kind of object by its name."""


def archives_of(datatype: str) -> tuple[Archive, ...]:
    """What a ``--datatype`` asks for; ``both`` is l2Book and asset_ctxs."""
    return (L2_BOOK, ASSET_CTXS) if datatype == "both" else (ARCHIVES[datatype],)


@dataclass(frozen=True)
class Slots:
    """The objects of one archive over a span: ``count`` starts from ``first_ms``, ``step_ms`` apart."""

    archive: Archive
    first_ms: int
    count: int

    def __iter__(self) -> Iterator[int]:
        step = self.archive.step_ms
        return iter(range(self.first_ms, self.first_ms + self.count * step, step))

    def index(self, start_ms: int) -> int | None:
        """Place of the object that starts at ``start_ms``; None if it is none of these."""
        index, rest = divmod(start_ms - self.first_ms, self.archive.step_ms)
        return index if rest == 0 and 0 <= index < self.count else None

    def start_ms(self, index: int) -> int:
        """Where an object starts, Unix ms."""
        return self.first_ms + index * self.archive.step_ms


def slots(archive: Archive, start_ms: int, end_ms: int, now_ms: int) -> Slots:
    """Objects that can hold rows of [start_ms, end_ms), cut to what the archive covers and to what has ended by now.

    Raises:
        UsageError: the archive covers nothing of the span.
    """
    step = archive.step_ms
    first = (start_ms // step - archive.margin) * step
    end = (-(-end_ms // step) + archive.margin) * step
    first = max(first, archive.first_ms)
    end = min(end, now_ms // step * step)
    if archive.last_ms is not None:
        end = min(end, archive.last_ms + step)
    if end <= first:
        until = "" if archive.last_ms is None else f" to {utc(archive.last_ms):%Y-%m-%dT%H}"
        raise UsageError(
            f"--start {utc(start_ms):%Y-%m-%dT%H} --end {utc(end_ms):%Y-%m-%dT%H}: {archive.name} lies in the archive "
            f"from {utc(archive.first_ms):%Y-%m-%dT%H}{until}, and only hours that have ended; choose a span within"
        )
    return Slots(archive, first, (end - first) // step)


def span_ms(start: str, end: str | None, now_ms: int) -> tuple[int, int]:
    """The hours asked for, [first, end) in Unix ms, each on the hour.

    Args:
        start: a day (``2023-10-01``) or a moment (``2023-10-01T06:00``); naive times are UTC.
        end: a day, which is then included, or a moment, which is not; None: now.
        now_ms: the present, Unix ms.

    Raises:
        UsageError: not a date, or the end does not come after the start.
    """
    first = _moment("--start", start) // HOUR_MS * HOUR_MS
    if end is None:
        last = now_ms // HOUR_MS * HOUR_MS
    else:
        last = _moment("--end", end)
        last = last + DAY_MS if _is_day(end) else -(-last // HOUR_MS) * HOUR_MS
    if last <= first:
        raise UsageError(f"--end {end or 'now'} does not come after --start {start}; the span holds no hour")
    return first, last


def _is_day(text: str) -> bool:
    return "T" not in text and ":" not in text


def _moment(flag: str, text: str) -> int:
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError as problem:
        raise UsageError(f"{flag} {text}: not a date; write 2023-10-01 or 2023-10-01T06:00") from problem
    aware = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return int(aware.timestamp() * 1000)
