"""A table's log: which parts are in force, and the one entry by which a commit changes that.

An entry takes the number after the version a commit was planned on, or is refused: whoever comes second plans again.
The library neither syncs what it writes nor survives a disk that is full while it sums up the log, so that a commit
that is in force could be reported as failed. Both are done here, after the entry.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import polars as pl

from slipstream.errors import DataError, SlipstreamError
from slipstream.lake.datasets import TIME, Dataset
from slipstream.lake.durable import make_folders, sync
from slipstream.lake.parts import Part
from slipstream.lake.place import Place, one_line
from slipstream.lake.refresh import Refresh

if TYPE_CHECKING:
    from deltalake import DeltaTable

_CHECKPOINT_EVERY = 20
_CONFIGURATION = {
    "delta.checkpointInterval": str(_CHECKPOINT_EVERY),
    "delta.deletedFileRetentionDuration": "interval 7 days",
}
"""A superseded part can be read for a week: by time travel, and by whoever began to read before the commit."""


def opened(place: Place, dataset: Dataset, version: int | None = None) -> DeltaTable | None:
    """The dataset's Delta table as of now or as of an earlier version; None if there is none.

    Raises:
        DataError: the version does not exist, or the table's log is damaged or out of reach.
    """
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError, TableNotFoundError

    url = place.below(dataset.name)
    if place.folder is not None and not (place.folder / dataset.name / "_delta_log").is_dir():
        return None
    try:
        return DeltaTable(url, version=version)
    except TableNotFoundError:
        return None
    except (DeltaError, OSError, ValueError, OverflowError) as problem:
        if version is not None:
            raise DataError(f"{url}: version {version} cannot be read ({one_line(problem)})") from problem
        raise DataError(
            f"{url}: the table's log cannot be read ({one_line(problem)}); see that it can be reached, or restore "
            "_delta_log"
        ) from problem


def parts_of(table: DeltaTable, dataset: Dataset) -> tuple[Part, ...]:
    """The parts a table has in force, by partition, then path."""
    actions = pl.DataFrame(table.get_add_actions(flatten=True))
    if actions.height == 0:
        return ()
    counted = "num_records" in actions.columns
    parts = [
        Part(
            row["path"],
            int(row["size_bytes"]),
            row["num_records"] if counted else None,
            tuple((name, str(row[f"partition.{name}"])) for name in dataset.partition),
        )
        for row in actions.iter_rows(named=True)
    ]
    return tuple(sorted(parts, key=lambda part: (part.values, part.path)))


def commit(place: Place, dataset: Dataset, table: DeltaTable | None, refresh: Refresh) -> int | None:
    """Write a refresh's parts and put them in force; the new version, or None if another writer came first.

    Args:
        place: the lake's.
        dataset: which.
        table: as it was loaded before anything the refresh rests on was read; it is moved to the new version.
        refresh: what to do.

    Raises:
        DataError: the table's log is gone from beside its parts.
        OSError: the disk refused; the table is as it was.
        SlipstreamError: the commit is in force, but the disk refused to secure it.
    """
    from deltalake import CommitProperties, PostCommitHookProperties
    from deltalake.exceptions import CommitFailedError, DeltaError
    from deltalake.transaction import AddAction, RemoveAction

    try:
        if table is None:
            table = _created(place, dataset)  # before any part: parts without a log are then a log that was lost
            if table.version() > 0:
                return None
        for part in refresh.backed_up:
            place.copy(f"{dataset.name}/{part.path}", f"_backup/{dataset.name}/{part.path}")
        for content in refresh.new:
            place.write(f"{dataset.name}/{content.path}", content.body)
        # Delta stamps its entries with wall time, for vacuum alone; nothing that is computed depends on it
        now_ms = time.time_ns() // 1_000_000  # noqa: TID251
        kept = {new.path for new in refresh.new}  # a part brought back whole stays in force under its name
        actions: list[Any] = [
            RemoveAction(part.path, refresh.data_change, now_ms, part.size, dict(part.values))
            for part in refresh.replaced
            if part.path not in kept
        ]
        actions += [
            AddAction(new.path, len(new.body), new.values, now_ms, refresh.data_change, new.stats)
            for new in refresh.new
        ]
        table.create_write_transaction(
            actions,
            "append",
            _delta_schema(dataset),
            list(dataset.partition),
            commit_properties=CommitProperties(max_commit_retries=0),
            post_commithook_properties=PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False),
        )
    except CommitFailedError:
        return None
    except DeltaError as problem:
        raise OSError(one_line(problem)) from problem
    version = int(table.version()) + 1  # without retries there is no other; the library leaves its handle behind
    _secure(place, dataset, table, version)
    return version


def _created(place: Place, dataset: Dataset) -> DeltaTable:
    """The table, made if no other writer has just made it.

    Raises:
        DataError: parts lie there without a log: a new log would forget them.
    """
    from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties

    if place.folder is not None:
        make_folders(place.folder / dataset.name)
    orphan = next((name for name in place.names(dataset.name) if name.endswith(".parquet")), None)
    made = opened(place, dataset) if orphan else None
    if orphan and made is None:
        raise DataError(
            f"{place.below(orphan)}: the part lies there, but the table's log is gone; restore "
            f"{dataset.name}/_delta_log, or move {dataset.name} away and load the data again"
        )
    return made or DeltaTable.create(
        place.below(dataset.name),
        _delta_schema(dataset),
        mode="ignore",
        partition_by=list(dataset.partition),
        configuration=_CONFIGURATION,
        commit_properties=CommitProperties(max_commit_retries=0),
        post_commithook_properties=PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False),
    )


def _secure(place: Place, dataset: Dataset, table: DeltaTable, version: int) -> None:
    """Make a commit outlast a loss of power, and sum up the log now and then; the library does not sync its files.

    Raises:
        SlipstreamError: the disk refused; the commit is in force all the same.
    """
    from deltalake.exceptions import DeltaError

    try:
        _sync_log(place, dataset, f"{version:020d}.json")
        table.load_as_version(version)
        if version % _CHECKPOINT_EVERY == 0:
            table.create_checkpoint()
            _sync_log(place, dataset, f"{version:020d}.checkpoint.parquet", "_last_checkpoint")
            table.cleanup_metadata()
    except (DeltaError, OSError) as problem:
        raise SlipstreamError(
            f"{place.below(dataset.name)}: version {version} is in force, but the disk refused to secure its "
            f"log ({one_line(problem)}); make room, then go on"
        ) from problem


def _sync_log(place: Place, dataset: Dataset, *names: str) -> None:
    if place.folder is None:
        return
    table = place.folder / dataset.name
    for file in (*(table / "_delta_log" / name for name in names), table / "_delta_log", table):
        sync(file)


def _delta_schema(dataset: Dataset) -> Any:
    """The table's columns in Delta's types, partition columns last."""
    from deltalake import Schema
    from deltalake.schema import ArrayType, Field, PrimitiveType

    names = {pl.String(): "string", pl.Float64(): "double", pl.Int64(): "long", pl.Boolean(): "boolean"}

    def delta_type(dtype: pl.DataType) -> Any:
        if dtype == TIME:
            return PrimitiveType("timestamp")
        if isinstance(dtype, pl.List):
            return ArrayType(delta_type(dtype.inner), contains_null=False)  # type: ignore[arg-type]
        return PrimitiveType(names[dtype])

    fields = [Field(column.name, delta_type(column.dtype), nullable=not column.required) for column in dataset.columns]
    held = {column.name for column in dataset.columns}
    return Schema(fields + [Field(name, PrimitiveType("string")) for name in dataset.partition if name not in held])
