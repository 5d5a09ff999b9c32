"""Keeping a lake in shape: fewer and larger files, and nothing on disk that no table needs.

Compaction lays the same rows out anew and changes no value; its commit is refused like any other if a writer came
first. Vacuum removes parts that have been out of force for longer than the retention, and drafts of writers that died.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING

import polars as pl

from slipstream.errors import SlipstreamError
from slipstream.lake.datasets import Dataset
from slipstream.lake.parts import DamagedPart, Part, decode, encode
from slipstream.lake.refresh import Refresh
from slipstream.lake.store import Lake, parts_of

if TYPE_CHECKING:
    from deltalake import DeltaTable

TARGET_BYTES = 128 * 1024 * 1024
"""Parts of a partition are joined up to this size on disk."""

RETENTION_HOURS = 168
"""How long superseded parts can still be read, by time travel or by a reader that began before."""

_DRAFT_HOURS = 1


@dataclass(frozen=True)
class Compaction:
    """What compaction did to one dataset: parts and bytes before and after."""

    dataset: str
    parts_before: int
    parts_after: int
    bytes_before: int
    bytes_after: int


def compact(lake: Lake, dataset: Dataset) -> Compaction:
    """Join the small parts of each partition, in one commit.

    Raises:
        SlipstreamError: a part is damaged (see ``slipstream data repair``), or the disk refused; nothing changed.
    """
    before = lake.parts(dataset)
    try:
        lake.put_in_force(dataset, partial(_joined, lake, dataset))
    except DamagedPart as problem:
        raise SlipstreamError(
            f"{lake.place.url}: {dataset.name} has a damaged part ({problem}); "
            f'nothing was compacted, see "slipstream data repair --lake {lake.place.url}"'
        ) from problem
    after = lake.parts(dataset)
    return Compaction(
        dataset.name, len(before), len(after), sum(part.size for part in before), sum(part.size for part in after)
    )


def _joined(lake: Lake, dataset: Dataset, table: DeltaTable | None) -> Refresh:
    new, replaced = [], []
    for values, group in groupby(parts_of(table, dataset) if table else (), key=lambda part: part.values):
        for batch in _batches(list(group)):
            rows = pl.concat(decode(dataset, lake.place, part) for part in batch)
            content = encode(dataset, tuple(value for _, value in values), rows)
            if [part.path for part in batch] == [content.path]:
                continue
            new.append(content)
            replaced.extend(batch)
    return Refresh(tuple(new), tuple(replaced), (), data_change=False)


def _batches(parts: Sequence[Part]) -> list[list[Part]]:
    """Runs of parts that together stay below the target; a part that stands alone is left alone."""
    runs: list[list[Part]] = [[]]
    size = 0
    for part in parts:
        if runs[-1] and size + part.size > TARGET_BYTES:
            runs.append([])
            size = 0
        runs[-1].append(part)
        size += part.size
    return [run for run in runs if len(run) > 1]


def vacuum(lake: Lake, dataset: Dataset, *, now_ms: int, retention_hours: int = RETENTION_HOURS) -> int:
    """Remove files that no table has needed for longer than the retention, and forgotten drafts; how many.

    Args:
        lake: where.
        dataset: whose files.
        now_ms: the present, Unix ms, against which drafts are judged.
        retention_hours: age from which a superseded part goes. Below 168 a reader or a writer at work may lose files.
    """
    table = lake.table(dataset)
    if table is None:
        return 0
    removed = table.vacuum(retention_hours=retention_hours, dry_run=False, enforce_retention_duration=False)
    return len(removed) + _drafts_removed(lake, dataset, now_ms)


def _drafts_removed(lake: Lake, dataset: Dataset, now_ms: int) -> int:
    if lake.place.folder is None:
        return 0
    removed = 0
    for draft in (lake.place.folder / dataset.name).rglob(".*.draft"):
        if now_ms - draft.stat().st_mtime_ns // 1_000_000 > _DRAFT_HOURS * 3_600_000:
            draft.unlink(missing_ok=True)
            removed += 1
    return removed
