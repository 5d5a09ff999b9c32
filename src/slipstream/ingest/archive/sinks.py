"""Where an object's content goes: what a worker makes of it, and how many of them are stored at once.

A sink reads in a worker's thread and stores in the caller's. Book objects become one bar each. Contexts and fills are
many rows: they wait in Parquet files in the temporary folder until they are committed, so that no worker holds an
object in memory. Storing the same objects twice changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import polars as pl

from slipstream.core.panel import HOUR_MS
from slipstream.ingest.archive import files
from slipstream.ingest.archive.book_lines import BookCounts, MidBar, mid_bar
from slipstream.ingest.archive.contexts import context_frames, hourly_contexts
from slipstream.ingest.archive.node_fills import fill_frames
from slipstream.ingest.archive.objects import ASSET_CTXS, NODE_FILLS, NODE_FILLS_BY_BLOCK
from slipstream.ingest.archive.plan import Wanted
from slipstream.ingest.archive.progress import EVERY_COIN
from slipstream.lake.datasets import ASSET_CONTEXTS, FILLS, MID_BARS, Dataset
from slipstream.lake.store import Lake

_OVERLAP_MS = (NODE_FILLS_BY_BLOCK.first_ms - HOUR_MS, NODE_FILLS_BY_BLOCK.first_ms + 2 * HOUR_MS)
"""Both archives of fills may hold a fill stamped in this span."""


@dataclass(frozen=True)
class Content:
    """What an object gave: its rows, as a bar or as files, and for books where its lines went."""

    rows: int
    bar: MidBar | None = None
    parts: tuple[Path, ...] = ()
    counts: BookCounts = field(default_factory=BookCounts)


NOTHING = Content(0)


class Sink(Protocol):
    """One kind of content."""

    def read(self, texts: Iterable[bytes], wanted: Wanted, name: str) -> Content:
        """Parse an object; runs in a worker's thread.

        Raises:
            DamagedObject: it is not what it should be.
        """

    def store(self, contents: Sequence[tuple[Wanted, Content]]) -> Mapping[str, str]:
        """Make rows safe; returns, per coin that the lake refused, why."""


class BookSink:
    """Hourly bars of mids: the hourly CSV files and the lake's ``mid_bars``."""

    def __init__(self, out: Path, lake: Lake) -> None:
        self._out, self._lake = out, lake

    def read(self, texts: Iterable[bytes], wanted: Wanted, name: str) -> Content:
        bar, counts = mid_bar(texts, str(wanted.coin), wanted.start_ms, name)
        return Content(0 if bar is None else 1, bar=bar, counts=counts)

    def store(self, contents: Sequence[tuple[Wanted, Content]]) -> Mapping[str, str]:
        rows = files.bar_rows(content.bar for _, content in contents if content.bar is not None)
        for (coin,), group in rows.partition_by("coin", as_dict=True).items():
            files.upsert(files.hourly_file(self._out, coin), files.hourly_table(group), files.HOURLY_BARS)
        return self._lake.upsert(MID_BARS, rows).refused if rows.height else {}


class RowSink:
    """Contexts or fills: rows of the lake, and for contexts the hourly CSV files too."""

    def __init__(self, source: str, coins: Sequence[str], out: Path, lake: Lake, spool: Path) -> None:
        """``coins`` to keep, or ``*``; ``spool`` is a folder of this run alone."""
        self._source, self._out, self._lake, self._spool = source, out, lake, spool
        self._coins = None if EVERY_COIN in coins else list(coins)
        self.dataset: Dataset = ASSET_CONTEXTS if source == ASSET_CTXS.name else FILLS

    def read(self, texts: Iterable[bytes], wanted: Wanted, name: str) -> Content:
        frames = (
            context_frames(texts, wanted.start_ms, name)
            if self.dataset is ASSET_CONTEXTS
            else fill_frames(texts, self._source, wanted.start_ms, name)
        )
        parts: list[Path] = []
        rows = 0
        for number, frame in enumerate(frames):
            kept = frame if self._coins is None else frame.filter(pl.col("coin").is_in(self._coins))
            if kept.height:
                part = self._spool / f"{self._source}-{wanted.start_ms}-{number:05d}.parquet"
                kept.write_parquet(part, compression="lz4")
                parts.append(part)
                rows += kept.height
        return Content(rows, parts=tuple(parts))

    def store(self, contents: Sequence[tuple[Wanted, Content]]) -> Mapping[str, str]:
        refused: dict[str, str] = {}
        held = [(wanted, content) for wanted, content in contents if content.parts]
        if held:
            rows = pl.read_parquet([part for _, content in held for part in content.parts])
            refused |= self._lake.upsert(self.dataset, self._fresh(rows)).refused
        if self.dataset is ASSET_CONTEXTS:
            self._write_hours(held)
        for _, content in held:
            for part in content.parts:
                part.unlink()
        return refused

    def _write_hours(self, held: Sequence[tuple[Wanted, Content]]) -> None:
        hours = [hourly_contexts(pl.read_parquet(list(content.parts)), wanted.start_ms) for wanted, content in held]
        if not hours:
            return
        for (coin,), group in pl.concat(hours).partition_by("coin", as_dict=True).items():
            files.upsert(files.contexts_file(self._out, coin), files.context_table(group), files.HOURLY_CONTEXTS)

    def _fresh(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Rows once per key; without fills that the archive by block, which says more, has already brought."""
        once = rows.unique(list(self.dataset.key), keep="last", maintain_order=True)
        if self._source != NODE_FILLS.name:
            return once
        both = pl.col("ts").dt.timestamp("ms").is_between(*_OVERLAP_MS, closed="left")
        if not once.select(both.any()).item():
            return once
        known = self._lake.read(FILLS, start_ms=_OVERLAP_MS[0], end_ms=_OVERLAP_MS[1] - 1)
        better = known.filter(pl.col("source") == NODE_FILLS_BY_BLOCK.name).select(FILLS.key)
        return once.join(better, on=list(FILLS.key), how="anti", nulls_equal=True)
