"""Mending a lake: what a damaged part held is brought back from earlier copies, and rows that cannot be true go.

Nothing is thrown away: damaged parts and rows taken out are kept under ``_quarantine``, and whatever could not be
brought back is named with the months to download again. Without being told to apply it, a repair only says what it
would do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import polars as pl

from slipstream.errors import DataError, SlipstreamError
from slipstream.lake.datasets import Dataset
from slipstream.lake.delta_log import parts_of
from slipstream.lake.impossible import impossible
from slipstream.lake.parts import Content, DamagedPart, Part, UnreadablePart, decode, decode_body, encode
from slipstream.lake.place import one_line
from slipstream.lake.refresh import Refresh
from slipstream.lake.store import Lake

if TYPE_CHECKING:
    from deltalake import DeltaTable


@dataclass(frozen=True)
class Mend:
    """What is, or would be, done to one partition.

    Attributes:
        dataset: its name.
        partition: folder of the partition.
        damaged: paths of parts that cannot be read.
        recovered: rows brought back from an earlier version or a backup.
        outdated: those of them from a copy that a later commit had corrected: their values may be the old ones.
        lost: rows of damaged parts that no copy holds; None if the log does not say how many there were.
        removed: rows taken out because they cannot be true, or repeat another's key.
    """

    dataset: str
    partition: str
    damaged: tuple[str, ...]
    recovered: int
    outdated: int
    lost: int | None
    removed: int


@dataclass(frozen=True)
class _Plan:
    mend: Mend
    refresh: Refresh
    quarantined_files: tuple[Part, ...]
    quarantined_rows: Content | None


def repair(lake: Lake, dataset: Dataset, *, apply: bool, now_ms: int) -> list[Mend]:
    """Mend one dataset, partition by partition; what was or would be done.

    Args:
        lake: where.
        dataset: what.
        apply: do it; otherwise only say what it would be.
        now_ms: the present, Unix ms: rows after it cannot be true.

    Raises:
        SlipstreamError: a part cannot be read just now, the disk refused, or another writer came in between; what was
            mended before stays mended.
    """
    table = lake.table(dataset)
    if table is None:
        return []
    done: list[Mend] = []
    for _, group in groupby(parts_of(table, dataset), key=lambda part: part.values):
        try:
            plan = _plan(lake, dataset, list(group), now_ms)
            if plan is not None and apply:
                _carry_out(lake, dataset, plan, table)
        except UnreadablePart as problem:  # it may be whole: nothing is given up that nobody has seen
            raise SlipstreamError(f"{lake.place.url}: {dataset.name}: {problem}; see to it, then repair") from problem
        except OSError as problem:
            raise SlipstreamError(
                f"{lake.place.url}: the lake could not be read or written ({one_line(problem)}); no more was mended"
            ) from problem
        if plan is not None:
            done.append(plan.mend)
    return done


def _plan(lake: Lake, dataset: Dataset, parts: list[Part], now_ms: int) -> _Plan | None:
    values = tuple(value for _, value in parts[0].values)
    whole: list[pl.DataFrame] = []
    damaged: list[Part] = []
    for part in parts:
        rows = _if_whole(lake, dataset, part)
        if rows is None:
            damaged.append(part)
        else:
            whole.append(rows)
    intact = pl.concat([dataset.schema.to_frame(), *whole])
    in_force = {part.path for part in parts}
    earlier, corrected = dataset.schema.to_frame(), False
    if damaged:
        earlier, corrected = _earlier_rows(lake, dataset, parts[0], in_force)
    recovered = earlier.join(intact, on=list(dataset.key), how="anti", nulls_equal=True)
    held = pl.concat([recovered, intact])
    good, bad = _separated(dataset, values, held, now_ms)
    if not damaged and not bad.height:
        return None
    lost = None if any(part.rows is None for part in damaged) else sum(part.rows or 0 for part in damaged)
    mend = Mend(
        dataset=dataset.name,
        partition=parts[0].folder,
        damaged=tuple(part.path for part in damaged),
        recovered=recovered.height,
        outdated=recovered.height if corrected else 0,
        lost=None if lost is None else max(0, lost - recovered.height),
        removed=bad.height,
    )
    new = (encode(dataset, values, good),) if good.height else ()
    quarantined = encode(dataset, values, bad) if bad.height else None
    return _Plan(mend, Refresh(new, tuple(parts), ()), tuple(damaged), quarantined)


def _carry_out(lake: Lake, dataset: Dataset, plan: _Plan, table: DeltaTable) -> None:
    for part in plan.quarantined_files:
        content = lake.place.read(f"{dataset.name}/{part.path}")
        if content is not None:
            lake.place.write(f"_quarantine/{dataset.name}/{part.path}.damaged", content)
    if plan.quarantined_rows is not None:
        rows = plan.quarantined_rows
        lake.place.write(f"_quarantine/{dataset.name}/{rows.path}", rows.body)
    if lake.commit(dataset, table, plan.refresh) is None:
        raise SlipstreamError(f"{lake.place.url}: another writer came in between; run the repair again")


def _earlier_rows(lake: Lake, dataset: Dataset, like: Part, in_force: set[str]) -> tuple[pl.DataFrame, bool]:
    """What earlier copies of a partition hold, one row per key, the newest copy first; and whether one was corrected.

    Parts still in force are left out: what they hold is not missing, and an event log would hold it twice. A commit
    that corrects values keeps what it replaces as a backup, so a copy without one has the values of the part lost.
    """
    found, corrected = dataset.schema.to_frame(), False
    backed_up = set(lake.place.names(f"_backup/{dataset.name}/{like.folder}"))
    whole: dict[str, bool] = {}
    table = lake.table(dataset)
    for version in range((table.version() if table else 0) - 1, -1, -1):
        try:
            parts = [part for part in lake.parts(dataset, version) if part.values == like.values]
        except DataError:
            break  # the log of that version has been cleaned up
        superseded = [part for part in parts if part.path not in in_force]
        for part in superseded:
            if part.path not in whole:
                rows = _if_whole(lake, dataset, part)
                whole[part.path] = rows is not None
                corrected |= rows is not None and f"_backup/{dataset.name}/{part.path}" in backed_up
                found = found if rows is None else _with_missing(dataset, found, [rows])
        if superseded and all(whole[part.path] for part in superseded):
            return found, corrected
    completed = _with_missing(dataset, found, _backups(lake, dataset, like))
    return completed, corrected or completed.height > found.height


def _with_missing(dataset: Dataset, found: pl.DataFrame, copies: Iterable[pl.DataFrame]) -> pl.DataFrame:
    for rows in copies:
        missing = rows.join(found, on=list(dataset.key), how="anti", nulls_equal=True)
        found = pl.concat([found, missing.select(dataset.names)])
    return found


def _if_whole(lake: Lake, dataset: Dataset, part: Part) -> pl.DataFrame | None:
    try:
        return decode(dataset, lake.place, part)
    except UnreadablePart:
        raise
    except DamagedPart:
        return None


def _backups(lake: Lake, dataset: Dataset, like: Part) -> Iterator[pl.DataFrame]:
    """The rows of the parts kept for good, the newest first."""
    names = lake.place.names(f"_backup/{dataset.name}/{like.folder}")
    for name in sorted(names, key=lambda name: (lake.place.written_ms(name) or 0, name), reverse=True):
        body = lake.place.read(name)
        if body is None:
            continue
        try:
            yield decode_body(dataset, body, Part(name, len(body), None, like.values))
        except DamagedPart:
            continue


def _separated(
    dataset: Dataset, values: tuple[str, ...], rows: pl.DataFrame, now_ms: int
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rows to keep and rows to take out."""
    ordered = rows.sort(dataset.key, maintain_order=True)
    out = impossible(dataset, values, ordered, now_ms)
    if not dataset.log:
        out |= ~ordered.select(pl.struct(dataset.key).is_last_distinct()).to_series()
    return ordered.filter(~out), ordered.filter(out)
