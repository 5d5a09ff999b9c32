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

from slipstream.core.panel import HOUR_MS
from slipstream.errors import SlipstreamError
from slipstream.lake.datasets import Dataset
from slipstream.lake.delta_log import parts_of
from slipstream.lake.parts import DamagedPart, Part, decode, encode
from slipstream.lake.place import one_line
from slipstream.lake.refresh import Refresh
from slipstream.lake.store import Lake

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

    Superseded parts go, and parts of writers that died, or came second, before they were in force. A part is named by
    its content and may come into force again: what has been written lately is left alone, whatever the log says of it.

    Args:
        lake: where.
        dataset: whose files.
        now_ms: the present, Unix ms, against which the age of files is judged.
        retention_hours: age from which a superseded part goes. Below 168 a reader or a writer at work may lose files.

    Raises:
        DataError: the table's log cannot be read; nothing was removed.
        SlipstreamError: the disk refused to remove a file; those before it are gone, and no table needs them.
    """
    from deltalake.exceptions import DeltaError

    table = lake.table(dataset)
    if table is None:
        return 0
    try:
        unneeded = table.vacuum(retention_hours, dry_run=True, enforce_retention_duration=False, full=True)
        in_force = {part.path for part in lake.parts(dataset)}  # as of now: a writer may just have used one again
        names = [f"{dataset.name}/{path}" for path in unneeded if path not in in_force]
        oldest_ms = now_ms - retention_hours * HOUR_MS
        return sum(_removed(lake, name, oldest_ms) for name in names) + _drafts_removed(lake, dataset, now_ms)
    except (DeltaError, OSError) as problem:
        raise SlipstreamError(f"{lake.place.url}: old files could not be removed ({one_line(problem)})") from problem


def _removed(lake: Lake, name: str, before_ms: int) -> bool:
    """Whether a file was there, was written before a moment, and is gone now."""
    written_ms = lake.place.written_ms(name)
    if written_ms is None or written_ms > before_ms:
        return False
    lake.place.remove(name)
    return True


def _drafts_removed(lake: Lake, dataset: Dataset, now_ms: int) -> int:
    folder = lake.place.folder
    if folder is None:
        return 0
    roots = (folder / dataset.name, folder / "_backup" / dataset.name, folder / "_quarantine" / dataset.name)
    drafts = [draft.relative_to(folder).as_posix() for root in roots for draft in root.rglob(".*.draft")]
    return sum(_removed(lake, draft, now_ms - _DRAFT_HOURS * HOUR_MS) for draft in drafts)
