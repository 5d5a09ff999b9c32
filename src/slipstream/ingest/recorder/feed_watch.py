"""Which feeds are up, and a row for every stretch in which one was not.

A gap runs from the last message before it to the first after it. One that is still open when the recording is written
down is written open, and again with its end when it ends: the log is only appended to, and :func:`settled` keeps, of
rows with the same key, the one that knows the end.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import polars as pl

from slipstream.lake.datasets import STREAM_GAPS
from slipstream.venues.events import StreamGap

Feed = tuple[str, str]
"""(venue, feed)"""


@dataclass
class _Open:
    from_ns: int
    reason: str
    written: bool = False


class FeedWatch:
    """Knows for each feed when it last spoke.

    Args:
        feeds: all that are recorded.
        session: the recording's name.
        started_ns: start of the recording, Unix ns: a feed that never spoke is down since then.
    """

    def __init__(self, feeds: Iterable[Feed], session: str, started_ns: int) -> None:
        self._last_ns = dict.fromkeys(feeds, started_ns)
        self._session = session
        self._open: dict[Feed, _Open] = {}
        self._ended: list[StreamGap] = []
        self.gaps = 0

    def down(self, feed: Feed, reason: str) -> None:
        """The feed delivers nothing from its last message on; a gap that is open already keeps its first reason."""
        if feed not in self._open:
            self._open[feed] = _Open(self._last_ns[feed], reason)
            self.gaps += 1

    def spoke(self, feed: Feed, received_ns: int) -> None:
        """The feed delivered."""
        self._last_ns[feed] = received_ns
        if self._open and (gap := self._open.pop(feed, None)) is not None:
            self._ended.append(self._row(feed, gap, received_ns))

    def is_down(self, feed: Feed) -> bool:
        """Whether a gap is open."""
        return feed in self._open

    def take_rows(self) -> pl.DataFrame:
        """Gaps that ended or began since the last call, as rows of ``stream_gaps``."""
        rows, self._ended = self._ended, []
        for feed, gap in self._open.items():
            if not gap.written:
                rows.append(self._row(feed, gap, None))
                gap.written = True
        return gap_frame(rows)

    def _row(self, feed: Feed, gap: _Open, to_ns: int | None) -> StreamGap:
        return StreamGap(feed[0], feed[1], self._session, gap.from_ns, to_ns, gap.reason)


def gap_frame(gaps: Iterable[StreamGap]) -> pl.DataFrame:
    """Gaps as rows of ``stream_gaps``."""
    rows = list(gaps)
    columns = {name: [getattr(gap, name) for gap in rows] for name in STREAM_GAPS.names}
    return pl.DataFrame(columns, schema=STREAM_GAPS.schema)


def settled(rows: pl.DataFrame) -> pl.DataFrame:
    """One row per gap, with its end if any row knows it, by ``from_ns``."""
    known = rows.sort("to_ns", nulls_last=True, maintain_order=True)
    return known.unique(list(STREAM_GAPS.key), keep="first", maintain_order=True).sort("from_ns", maintain_order=True)
