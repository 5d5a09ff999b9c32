"""The files of a lake: immutable Parquet parts whose name is the SHA-256 of their content.

    bars/base_interval=1h/month=2025-04/<sha256>.parquet

The name makes a part its own checksum: whoever reads it can tell a damaged one, whatever the table's log has been
through, and writing the same rows twice writes the same file. Rows lie in the order of the dataset's key, so a coin's
rows are adjacent; statistics of the first columns go into the table's log for engines that skip files by them.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import polars as pl

from slipstream.lake.datasets import TIME, Dataset
from slipstream.lake.place import Place

_STORED_TIME = pl.Datetime("us", "UTC")
"""Delta knows microseconds only."""

_DIGEST_IN_NAME = re.compile(r"(?:^|/)([0-9a-f]{64})\.parquet$")
_COMPRESSION_LEVEL = 3


@dataclass(frozen=True)
class Part:
    """One file in force.

    Attributes:
        path: relative to the table.
        size: bytes.
        rows: rows in it; None if the log does not say (a foreign writer).
        values: value of each partition column.
    """

    path: str
    size: int
    rows: int | None
    values: tuple[tuple[str, str], ...]

    @property
    def digest(self) -> str | None:
        """SHA-256 of the content, from the name; None for a file that another program wrote."""
        found = _DIGEST_IN_NAME.search(self.path)
        return found[1] if found else None

    @property
    def folder(self) -> str:
        """The partition's folder."""
        return partition_folder(dict(self.values))


@dataclass(frozen=True)
class Content:
    """A part about to be written: its bytes, and what the table's log will say of it."""

    path: str
    body: bytes
    rows: int
    values: dict[str, str]
    stats: str


class DamagedPart(Exception):
    """A part is missing, differs from its checksum, or cannot be decoded; the message says which."""


class UnreadablePart(DamagedPart):
    """A part could not be read just now: nothing is known of its content, so it must not be given up."""


def partition_folder(values: Mapping[str, str]) -> str:
    """``base_interval=1h/month=2025-04`` from its values, in order."""
    return "/".join(f"{name}={value}" for name, value in values.items())


def by_partition(dataset: Dataset, rows: pl.DataFrame) -> dict[tuple[str, ...], pl.DataFrame]:
    """Rows by the values of their partition columns, in ascending order of them."""
    labelled = rows.with_columns(period_label(dataset))
    groups = labelled.partition_by(list(dataset.partition), as_dict=True, include_key=True)
    held = {tuple(str(value) for value in key): group.select(dataset.names) for key, group in groups.items()}
    return dict(sorted(held.items()))


def period_of(dataset: Dataset, moment_ms: int) -> str:
    """The month or the date, as it stands in partition names, of a moment in Unix ms."""
    moment = pl.Series([moment_ms]).cast(TIME)
    return str(moment.dt.strftime("%Y-%m" if dataset.partition[-1] == "month" else "%Y-%m-%d")[0])


def period_label(dataset: Dataset) -> pl.Expr:
    """The month or date of each row, as it stands in partition names."""
    label = dataset.partition[-1]
    clock = pl.col(dataset.clock)
    if dataset.schema[dataset.clock] == pl.Int64():
        clock = pl.from_epoch(clock, time_unit="ns")
    return clock.dt.strftime("%Y-%m" if label == "month" else "%Y-%m-%d").alias(label)


def encode(dataset: Dataset, values: tuple[str, ...], rows: pl.DataFrame) -> Content:
    """The part of one partition; rows are put in the order of the key."""
    named = dict(zip(dataset.partition, values, strict=True))
    stored = rows.sort(dataset.key, maintain_order=True).select(
        pl.col(column.name).cast(_STORED_TIME) if column.dtype == TIME else pl.col(column.name)
        for column in dataset.columns
        if column.name not in named
    )
    buffer = io.BytesIO()
    stored.write_parquet(buffer, compression="zstd", compression_level=_COMPRESSION_LEVEL, statistics=True)
    body = buffer.getvalue()
    path = f"{partition_folder(named)}/{hashlib.sha256(body).hexdigest()}.parquet"
    return Content(path, body, rows.height, named, _statistics(dataset, stored))


def _statistics(dataset: Dataset, stored: pl.DataFrame) -> str:
    """Row count, and range of coin and clock, in the form of Delta's log."""
    ranges: dict[str, tuple[object, object]] = {}
    for name in dict.fromkeys(("coin", dataset.clock)):
        if name not in stored.columns or stored.height == 0:
            continue
        low, high = stored[name].min(), stored[name].max()
        if stored.schema[name] == _STORED_TIME:
            low, high = (moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ") for moment in (low, high))  # type: ignore[union-attr]
        ranges[name] = (low, high)
    return json.dumps(
        {
            "numRecords": stored.height,
            "minValues": {name: low for name, (low, _) in ranges.items()},
            "maxValues": {name: high for name, (_, high) in ranges.items()},
            "nullCount": {name: stored[name].null_count() for name in stored.columns},
        }
    )


def decode(
    dataset: Dataset,
    place: Place,
    part: Part,
    *,
    columns: Iterable[str] | None = None,
    trust: bool = False,
) -> pl.DataFrame:
    """The rows of a part, its checksum verified, with the dataset's columns and types.

    Args:
        dataset: whose part it is.
        place: the lake's.
        part: which one.
        columns: names to read (default: all).
        trust: read a part whose content differs from its checksum.

    Raises:
        DamagedPart: the part is missing, differs from its checksum or is no Parquet of this dataset.
        UnreadablePart: the disk or the object store does not hand it out.
    """
    try:
        body = place.read(f"{dataset.name}/{part.path}")
    except OSError as problem:
        raise UnreadablePart(f"the file cannot be read ({problem})") from problem
    if body is None:
        raise DamagedPart("the file is missing")
    return decode_body(dataset, body, part, columns=columns, trust=trust)


def decode_body(
    dataset: Dataset, body: bytes, part: Part, *, columns: Iterable[str] | None = None, trust: bool = False
) -> pl.DataFrame:
    """The same for the content of a part, wherever it was kept.

    Raises:
        DamagedPart: the content differs from the checksum in the part's name, or is no Parquet of this dataset.
    """
    if not trust and part.digest is not None and hashlib.sha256(body).hexdigest() != part.digest:
        raise DamagedPart("the file differs from its checksum")
    wanted = [name for name in dataset.names if columns is None or name in set(columns)]
    named = dict(part.values)
    try:
        held = pl.read_parquet(io.BytesIO(body), columns=[name for name in wanted if name not in named])
        return held.select(
            (pl.lit(named[name]) if name in named else pl.col(name)).cast(dataset.schema[name]).alias(name)
            for name in wanted
        )
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as problem:
        # a file that is trusted past its checksum may hold anything: the reader may also give up altogether
        reason = str(problem).strip().splitlines()[0]
        raise DamagedPart(f"the file cannot be decoded ({reason})") from problem
