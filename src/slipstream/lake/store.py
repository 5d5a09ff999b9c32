"""The lake: Delta tables, one per dataset, in a folder or an object store.

    LAKE/bars/_delta_log/...                                       what is in force, commit by commit
    LAKE/bars/base_interval=1h/month=2025-04/<sha256>.parquet      hourly bars of a month
    LAKE/_backup/bars/base_interval=1h/month=2025-04/<sha256>...   what a later commit corrected: kept for good

Any engine that reads Delta Lake reads it without this code. A commit writes new parts, durably, and then one entry of
the table's log that adds them and removes what they replace, across all the months it touches. That entry is the
commit: a process killed at any instant leaves the old table or the new one.

Writers do not lock each other out. A commit names the version it was planned on; if another writer came first it is
refused, and the refresh is planned again from what is there now. So nothing is lost and nothing doubled, on a disk and
in an object store alike.

A refresh reads and rewrites only the months it has rows for.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from slipstream.errors import DataError, SafetyRefusal, SlipstreamError, UsageError
from slipstream.lake.datasets import DATASETS, Dataset
from slipstream.lake.delta_log import commit, opened, parts_of
from slipstream.lake.parts import DamagedPart, Part, by_partition, decode, encode, period_of
from slipstream.lake.place import LakeBusy, Place, one_line
from slipstream.lake.refresh import CoinChange, Judged, Refresh, judged, planned, with_schema

if TYPE_CHECKING:
    from deltalake import DeltaTable

__all__ = ["CoinChange", "CommitReport", "Lake", "LakeBusy", "parts_of"]

_ATTEMPTS = 200
_LONGEST_PAUSE_S = 0.25
_READERS = 4


@dataclass(frozen=True)
class CommitReport:
    """What a refresh or an append did.

    Attributes:
        dataset: its name.
        version: of the table afterwards; -1 if it does not exist yet.
        rows_before, rows_after: rows of the coins concerned, in the months concerned.
        changed: rows held before whose values were corrected.
        files_written: new parts; 0 if there was nothing new.
        coins: per coin, rows and span in the months concerned.
        refused: per coin, why none of its rows was taken.
    """

    dataset: str
    version: int
    rows_before: int
    rows_after: int
    changed: int
    files_written: int
    coins: dict[str, CoinChange]
    refused: dict[str, str]


class Lake:
    """Market data at rest. Cheap to open: a table is read when it is asked for."""

    def __init__(self, place: Place) -> None:
        self.place = place

    @classmethod
    def open(cls, place: str | Path, *, create: bool = False) -> Lake:
        """The lake at a folder or an ``s3://`` URL.

        Args:
            place: where.
            create: begin a new lake in a new or empty folder.

        Raises:
            DataError: nothing is there, it is not a lake, or it is one of the first release's form.
        """
        lake = cls(Place.of(place))
        folder = lake.place.folder
        if folder is None:
            if not create and all(lake.table(dataset) is None for dataset in DATASETS.values()):
                raise DataError(f"{place}: not a lake; nothing of that name holds a table")
            return lake
        if (folder / "manifest.json").is_file() and not lake.datasets():
            raise DataError(
                f'{folder}: a lake of the first form; bring it over with "slipstream data import {folder} --lake NEW"'
            )
        if not create:
            if not lake.datasets():
                raise DataError(
                    f'{folder}: not a lake; make one with "slipstream data import FILE --lake {folder}" or hl-load'
                )
            return lake
        if folder.exists() and not folder.is_dir():
            raise DataError(f"{folder}: is a file; a lake is a folder")
        if folder.is_dir():
            foreign = sorted({entry.name for entry in folder.iterdir() if entry.name[0] not in "._"} - _OWN)
            if foreign and not lake.datasets():
                raise DataError(f"{folder}: is no lake and holds {foreign[0]}; name a lake or a new folder")
        return lake

    def datasets(self) -> tuple[Dataset, ...]:
        """Datasets of which the lake has a table."""
        return tuple(dataset for dataset in DATASETS.values() if self.table(dataset) is not None)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Exclude a second loader for as long as the block runs (on a disk; see :meth:`Place.locked`).

        Raises:
            LakeBusy: another process holds it.
        """
        with self.place.locked():
            yield

    def table(self, dataset: Dataset, version: int | None = None) -> DeltaTable | None:
        """The dataset's Delta table as of now or as of an earlier version; None if there is none.

        Raises:
            DataError: the version does not exist, or the table's log is damaged or out of reach.
        """
        return opened(self.place, dataset, version)

    def parts(self, dataset: Dataset, version: int | None = None) -> tuple[Part, ...]:
        """The parts in force, by partition.

        Raises:
            DataError: as for :meth:`table`.
        """
        table = self.table(dataset, version)
        return () if table is None else parts_of(table, dataset)

    def read(
        self,
        dataset: Dataset,
        *,
        coins: Sequence[str] | None = None,
        start_ms: int | None = None,
        end_ms: int | None = None,
        version: int | None = None,
        trust_files: bool = False,
    ) -> pl.DataFrame:
        """Rows with the dataset's columns, in the order of its key; empty if there are none.

        Args:
            dataset: which.
            coins: case-sensitive names to keep (default: all).
            start_ms: first moment of the dataset's clock to keep, Unix ms.
            end_ms: last moment to keep, Unix ms.
            version: of the table (default: the newest).
            trust_files: read parts that differ from their checksum.

        Raises:
            UsageError: coins are asked for of a dataset without them.
            DataError: a part is missing or damaged, two rows of a series share a key, or the version does not exist.
        """
        if coins is not None and "coin" not in dataset.names:
            raise UsageError(f"{dataset.name} is not kept by coin")
        low = None if start_ms is None else period_of(dataset, start_ms)
        high = None if end_ms is None else period_of(dataset, end_ms)
        wanted = [
            part
            for part in self.parts(dataset, version)
            if (low is None or part.values[-1][1] >= low) and (high is None or part.values[-1][1] <= high)
        ]
        rows = pl.concat([dataset.schema.to_frame(), *self.decoded(dataset, wanted, trust_files=trust_files)])
        if not dataset.log:
            self._refuse_repeated(dataset, wanted, rows)
        unit = 1_000_000 if dataset.schema[dataset.clock] == pl.Int64() else 1
        clock = pl.col(dataset.clock) if unit > 1 else pl.col(dataset.clock).dt.timestamp("ms")
        if coins is not None:
            rows = rows.filter(pl.col("coin").is_in(list(coins)))
        if start_ms is not None:
            rows = rows.filter(clock >= start_ms * unit)
        if end_ms is not None:
            rows = rows.filter(clock < (end_ms + 1) * unit)
        return rows.sort(dataset.key, maintain_order=True)

    def _refuse_repeated(self, dataset: Dataset, parts: Sequence[Part], rows: pl.DataFrame) -> None:
        """A part holds a key once; only where a month lies in several, by another program or by a damaged log, may
        keys repeat.

        Raises:
            DataError: two rows share a key.
        """
        if len({part.values for part in parts}) == len(parts) or rows.select(dataset.key).is_unique().all():
            return
        raise DataError(
            f"{self.place.below(dataset.name)}: parts of one {dataset.partition[-1]} repeat rows of each other; see "
            f'"slipstream data check" and "slipstream data repair --lake {self.place.url}"'
        )

    def decoded(
        self,
        dataset: Dataset,
        parts: Sequence[Part],
        *,
        columns: Sequence[str] | None = None,
        trust_files: bool = False,
    ) -> Iterator[pl.DataFrame]:
        """The rows of each part, in the order given, several read at a time.

        Raises:
            DataError: a part is missing or damaged.
        """

        def one(part: Part) -> pl.DataFrame:
            try:
                return decode(dataset, self.place, part, columns=columns, trust=trust_files)
            except DamagedPart as problem:
                where = self.place.below(f"{dataset.name}/{part.path}")
                remedy = f'restore it, or see "slipstream data repair --lake {self.place.url}"'
                raise DataError(f"{where}: {problem}; {remedy}") from problem

        with ThreadPoolExecutor(_READERS) as pool:
            yield from pool.map(one, parts)

    def upsert(self, dataset: Dataset, rows: pl.DataFrame, *, trust_files: bool = False) -> CommitReport:
        """Merge rows into a series, the newest value of a key winning; a coin that would lose data is refused whole.

        Args:
            dataset: a series.
            rows: the dataset's columns and types, in any order.
            trust_files: merge into parts that differ from their checksum.

        Returns:
            What was done; ``refused`` names the coins left as they were, and why.

        Raises:
            DataError: the rows do not have the dataset's columns and types, or the table's log cannot be read.
            UsageError: the dataset is an event log.
            SlipstreamError: the disk refused, or other writers kept coming first; the table is whole.
        """
        if dataset.log:
            raise UsageError(f"{dataset.name} is an event log: rows are appended to it and never merged")
        incoming = with_schema(dataset, rows)
        return self.put_in_force(dataset, partial(self._refresh, dataset, incoming, trust_files))

    def refusals(self, dataset: Dataset, rows: pl.DataFrame) -> dict[str, str]:
        """Per coin, why :meth:`upsert` would refuse it now; empty if it would take them all."""
        return self._judged(dataset, with_schema(dataset, rows), False, self.table(dataset))[0].refused

    def append(self, dataset: Dataset, rows: pl.DataFrame) -> CommitReport:
        """Add rows to an event log in one commit; what is there is not read. The same rows again change nothing.

        Raises:
            DataError: the rows do not have the dataset's columns and types.
            UsageError: the dataset is a series.
            SlipstreamError: the disk refused; nothing was added.
        """
        if not dataset.log:
            raise UsageError(f"{dataset.name} is a series: rows are merged into it and never appended")
        incoming = with_schema(dataset, rows)
        new = tuple(encode(dataset, values, group) for values, group in by_partition(dataset, incoming).items())

        def added(_: DeltaTable | None) -> Refresh:
            return Refresh(new=new, replaced=(), backed_up=(), rows_after=incoming.height)

        return self.put_in_force(dataset, added)

    def put_in_force(self, dataset: Dataset, plan: Callable[[DeltaTable | None], Refresh]) -> CommitReport:
        """Plan, write, commit; begin again where another writer came first.

        Args:
            dataset: which.
            plan: makes the commit from the table as loaded just before; must read nothing that was loaded earlier.

        Raises:
            SlipstreamError: the disk refused, or other writers kept coming first; the table is whole.
        """
        try:
            for attempt in range(_ATTEMPTS):
                table = self.table(dataset)  # loaded before anything is read, so that a writer in between is noticed
                refresh = plan(table)
                if not refresh.new and not refresh.replaced:
                    return _report(dataset, -1 if table is None else table.version(), refresh)
                version = self.commit(dataset, table, refresh)
                if version is not None:
                    return _report(dataset, version, refresh)
                time.sleep(random.uniform(0.0, min(_LONGEST_PAUSE_S, 0.01 * 2**attempt)))  # noqa: S311 - a pause
        except OSError as problem:
            raise SlipstreamError(
                f"{self.place.url}: the lake could not be written ({one_line(problem)}); it is whole, go on once that "
                "is mended"
            ) from problem
        raise SlipstreamError(f"{self.place.url}: other writers came first {_ATTEMPTS} times; try again later")

    def _refresh(
        self, dataset: Dataset, incoming: pl.DataFrame, trust_files: bool, table: DeltaTable | None
    ) -> Refresh:
        judgement, held = self._judged(dataset, incoming, trust_files, table)
        return planned(dataset, judgement, held)

    def _judged(
        self, dataset: Dataset, incoming: pl.DataFrame, trust_files: bool, table: DeltaTable | None
    ) -> tuple[Judged, dict[tuple[str, ...], list[Part]]]:
        held: dict[tuple[str, ...], list[Part]] = {}
        for part in () if table is None else parts_of(table, dataset):
            held.setdefault(tuple(value for _, value in part.values), []).append(part)

        def rows_of(parts: Sequence[Part]) -> pl.DataFrame:
            return pl.concat(decode(dataset, self.place, part, trust=trust_files) for part in parts)

        return judged(dataset, incoming, held, rows_of), held

    def commit(self, dataset: Dataset, table: DeltaTable | None, refresh: Refresh) -> int | None:
        """Write a refresh's parts and put them in force; the new version, or None if another writer came first.

        Args:
            dataset: which.
            table: as it was loaded before anything the refresh rests on was read; it is moved to the new version.
            refresh: what to do.

        Raises:
            DataError: the table's log is gone from beside its parts.
            OSError: the disk refused; the table is as it was.
            SlipstreamError: the commit is in force, but the disk refused to secure it.
        """
        return commit(self.place, dataset, table, refresh)


_OWN = {*DATASETS, "lock", "manifest.json", "bars_1h"}


def refuse(report: CommitReport, place: Place) -> None:
    """Turn refused coins into the refusal of a whole command.

    Raises:
        SafetyRefusal: the first coin refused is named, and how many more there are.
    """
    if report.refused:
        coin, why = next(iter(report.refused.items()))
        more = f" ({len(report.refused)} coins in all)" if len(report.refused) > 1 else ""
        raise SafetyRefusal(f"{place.url}: {coin}: {why}{more}")


def _report(dataset: Dataset, version: int, refresh: Refresh) -> CommitReport:
    return CommitReport(
        dataset=dataset.name,
        version=version,
        rows_before=refresh.rows_before,
        rows_after=refresh.rows_after,
        changed=refresh.changed,
        files_written=len(refresh.new),
        coins=refresh.coins,
        refused=refresh.refused,
    )
