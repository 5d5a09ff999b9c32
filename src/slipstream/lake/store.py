"""The lake: a directory of immutable Parquet parts, one or more per month, and a manifest that says which are in force.

    LAKE/manifest.json                   what is in force: per part month, SHA-256, rows, first and last open
    LAKE/bars_1h/2025-04/000003.parquet  the hourly bars of a month as of commit 3; never changed once written
    LAKE/_backup/2025-04.000003.parquet  what a later commit corrected: kept for good
    LAKE/lock                            held while a commit runs

A commit writes new parts beside the old, syncs them to disk, and then renames a new manifest over the old one. That
rename is the commit: a process killed at any instant leaves the old lake or the new one, whole. Only the months whose
rows change get a new part. Parts out of force are removed one commit later, so a reader that has just read a manifest
still finds its files. The lock is the kernel's (flock): it dies with its holder and never has to be cleared by hand.

A refresh merges what is there with what comes, the newest value winning, and is refused as a whole if data would be
lost: fewer rows, a later start, or a number turned into nothing.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import polars as pl

from slipstream.core.panel import to_ms
from slipstream.errors import DataError, SafetyRefusal, SlipstreamError
from slipstream.lake.schema import COLUMN_NAMES, COLUMNS, NUMBERS

MANIFEST = "manifest.json"
DATASET = "bars_1h"
_DRAFT = f"{MANIFEST}.new"
_LOCK = "lock"
_FORMAT = 1


class LakeBusy(SlipstreamError):
    """Another process is writing the lake."""


@dataclass(frozen=True)
class Part:
    """One immutable file of the lake; ``first_ms`` and ``last_ms`` are opens of its first and last bar, Unix ms."""

    file: str
    month: str
    sha256: str
    rows: int
    first_ms: int
    last_ms: int


@dataclass(frozen=True)
class Manifest:
    """What is in force: the number of the commit, its parts by month, and the parts the commit before it held."""

    commit: int
    parts: tuple[Part, ...]
    retired: tuple[str, ...] = ()


@dataclass(frozen=True)
class CommitReport:
    """What a refresh did. ``changed`` counts bars already held whose values were corrected.

    ``first_ms`` and ``last_ms`` are opens, Unix ms. ``months_written`` is empty when there was nothing new.
    """

    commit: int
    rows_before: int
    rows_after: int
    changed: int
    first_ms: int
    last_ms: int
    months_written: tuple[str, ...]


def is_lake(path: Path) -> bool:
    return (path / MANIFEST).is_file()


def read(root: Path) -> pl.DataFrame:
    """All rows in force, ordered by coin and time, every part's checksum verified.

    Raises:
        DataError: the directory is no lake, its manifest is unreadable, or a part is missing or damaged.
    """
    manifest = read_manifest(root)
    problems = damaged_parts(root, manifest)
    if problems and read_manifest(root) != manifest:
        return read(root)  # commits overtook this reader; what it looked for is history
    for file, problem in problems:
        raise DataError(f"{root / file}: {problem}; restore the file, or import the data into a new lake")
    if not manifest.parts:
        raise DataError(f'{root}: the lake holds no rows; import some with "slipstream data import FILE --lake {root}"')
    return read_parts(root, manifest.parts)


def read_parts(root: Path, parts: Sequence[Part]) -> pl.DataFrame:
    """The rows of some parts, ordered by coin and time, checksums not looked at."""
    empty = pl.DataFrame(schema={column.name: column.dtype for column in COLUMNS})
    held = [pl.read_parquet(root / part.file, columns=list(COLUMN_NAMES)) for part in parts]
    return pl.concat([empty, *held]).sort("coin", "ts")


def read_manifest(root: Path) -> Manifest:
    """The manifest in force.

    Raises:
        DataError: there is none, or it cannot be read.
    """
    file = root / MANIFEST
    if not file.is_file():
        raise DataError(
            f'{root}: not a lake, it has no {MANIFEST}; make one with "slipstream data import FILE --lake {root}"'
        )
    try:
        held = json.loads(file.read_text(encoding="utf-8"))
        if held["format"] != _FORMAT:
            raise DataError(f"{file}: format {held['format']} is not the format {_FORMAT} this version reads; upgrade")
        parts = tuple(Part(**part) for part in held["parts"])
        return Manifest(int(held["commit"]), parts, tuple(held["retired"]))
    except (ValueError, KeyError, TypeError) as problem:
        raise DataError(
            f"{file}: the manifest is damaged ({problem}); restore it or import into a new lake"
        ) from problem


def damaged_parts(root: Path, manifest: Manifest) -> list[tuple[str, str]]:
    """(file, what is wrong) of every part in force that is missing or differs from its checksum."""
    out = []
    for part in manifest.parts:
        file = root / part.file
        if not file.is_file():
            out.append((part.file, "the part is missing"))
        elif _sha256(file) != part.sha256:
            out.append((part.file, "the part differs from its checksum in the manifest"))
    return out


def refresh(root: Path, incoming: pl.DataFrame) -> CommitReport:
    """Merge validated rows into the lake (made if absent) and commit; the newest value of a bar wins.

    Args:
        root: the lake directory.
        incoming: the schema's columns, every rule kept, in any order of coins.

    Raises:
        LakeBusy: another process holds the lock; nothing is written.
        SafetyRefusal: data would be lost; nothing is written.
        DataError: the existing lake cannot be read, or the directory holds something else; it is left as it is.
        SlipstreamError: the disk refused; the lake is as it was.
    """
    _require_schema(incoming)
    _require_room(root)
    try:
        root.mkdir(parents=True, exist_ok=True)
        with _locked(root):
            manifest = read_manifest(root) if is_lake(root) else Manifest(0, ())
            before = read(root) if manifest.parts else incoming.clear()
            after = merge(before, incoming)
            refuse_loss(before, after, root)
            return _commit(root, manifest, before, after)
    except OSError as problem:
        raise SlipstreamError(f"{root}: the lake could not be written ({problem}); it is as it was") from problem


def merge(before: pl.DataFrame, incoming: pl.DataFrame) -> pl.DataFrame:
    """Both sets of rows, one per coin and time, the incoming one where both have it; ordered by coin and time."""
    both = pl.concat([before.select(COLUMN_NAMES), incoming.select(COLUMN_NAMES)])
    return both.unique(["coin", "ts"], keep="last", maintain_order=True).sort("coin", "ts")


def refuse_loss(before: pl.DataFrame, after: pl.DataFrame, root: Path) -> None:
    """Refuse to replace ``before`` by ``after`` if a coin loses rows, its beginning, or a number.

    Raises:
        SafetyRefusal: naming the coin, and the column and time where one number is lost.
    """
    kept = "nothing was written"
    span = [pl.len().alias("rows"), pl.col("ts").min().alias("first")]
    lives = (
        before.group_by("coin").agg(span).join(after.group_by("coin").agg(span), on="coin", how="left", suffix="_after")
    )
    for coin, rows, first, rows_after, first_after in lives.sort("coin").iter_rows():
        if rows_after is None or rows_after < rows:
            raise SafetyRefusal(f"{root}: rows of {coin} would fall from {rows} to {rows_after or 0}; {kept}")
        if first_after > first:
            moved = f"from {first:%Y-%m-%d %H:%M} to {first_after:%Y-%m-%d %H:%M} UTC"
            raise SafetyRefusal(f"{root}: the start of {coin} would move {moved}; {kept}")
    pairs = before.join(after, on=["coin", "ts"], how="left", suffix="_after")
    for name in NUMBERS:
        lost = pairs.filter(pl.col(name).is_finite() & ~pl.col(f"{name}_after").is_finite().fill_null(False))
        if lost.height:
            row = lost.row(0, named=True)
            raise SafetyRefusal(
                f"{root}: {name} of {row['coin']} at {row['ts']:%Y-%m-%d %H:%M} UTC is {row[name]} and would become "
                f"empty ({lost.height} values in all); {kept}. Remove those rows from the import."
            )


def _require_room(root: Path) -> None:
    """A lake may be begun in a new or empty directory, or where a first commit was cut short."""
    if root.exists() and not root.is_dir():
        raise DataError(f"{root}: is a file; a lake is a directory")
    if root.is_dir() and not is_lake(root):
        foreign = sorted({entry.name for entry in root.iterdir()} - {DATASET, _LOCK, _DRAFT})
        if foreign:
            raise DataError(f"{root}: is no lake and holds {foreign[0]}; name a lake or a new directory")


def _require_schema(frame: pl.DataFrame) -> None:
    for column in COLUMNS:
        held = frame.schema.get(column.name)
        if held != column.dtype:
            raise DataError(f"the lake's column {column.name} holds {column.dtype}, the rows to import {held}")


def _commit(root: Path, manifest: Manifest, before: pl.DataFrame, after: pl.DataFrame) -> CommitReport:
    """Write the months that differ, put a new manifest in force, and clear what two commits ago left."""
    number = manifest.commit + 1
    in_force = {part.month: part for part in manifest.parts}
    changed = _changed_rows(before, after)
    months_changed = set(_by_month(changed))
    old_months = _by_month(before)
    written: dict[str, Part] = {}
    for month, rows in _by_month(after).items():
        if month in old_months and rows.equals(old_months[month]):
            continue
        if month in months_changed:
            _back_up(root, in_force[month])
        written[month] = _write_part(root, month, number, rows)
    report = CommitReport(
        commit=number if written else manifest.commit,
        rows_before=before.height,
        rows_after=after.height,
        changed=changed.height,
        first_ms=to_ms(after["ts"].min()),
        last_ms=to_ms(after["ts"].max()),
        months_written=tuple(sorted(written)),
    )
    if written:
        parts = tuple(part for _, part in sorted((in_force | written).items()))
        retired = tuple(part.file for month, part in in_force.items() if month in written)
        _put_in_force(root, Manifest(number, parts, retired))
        _remove_strays(root, {part.file for part in parts} | set(retired))
    return report


def _changed_rows(before: pl.DataFrame, after: pl.DataFrame) -> pl.DataFrame:
    """Rows held before whose values differ afterwards."""
    pairs = before.join(after, on=["coin", "ts"], how="inner", suffix="_after")
    differs = pl.any_horizontal(pl.col(name).ne_missing(pl.col(f"{name}_after")) for name in NUMBERS)
    return pairs.filter(differs).select(COLUMN_NAMES)


def _by_month(frame: pl.DataFrame) -> dict[str, pl.DataFrame]:
    month = pl.col("ts").dt.strftime("%Y-%m").alias("month")
    groups = frame.with_columns(month).partition_by("month", as_dict=True, include_key=False)
    return {str(key[0]): rows for key, rows in sorted(groups.items())}


def _write_part(root: Path, month: str, number: int, rows: pl.DataFrame) -> Part:
    """A new part, durable before it returns. A leftover of the same name is of a commit that never came into force."""
    file = f"{DATASET}/{month}/{number:06d}.parquet"
    target = root / file
    target.parent.mkdir(parents=True, exist_ok=True)
    rows.write_parquet(target, compression="zstd", statistics=True)
    _sync(target)
    _sync(target.parent)
    _sync(target.parent.parent)
    return Part(file, month, _sha256(target), rows.height, to_ms(rows["ts"].min()), to_ms(rows["ts"].max()))


def _put_in_force(root: Path, manifest: Manifest) -> None:
    """Rename the new manifest over the old one: the instant of the commit."""
    body = {
        "format": _FORMAT,
        "dataset": DATASET,
        "commit": manifest.commit,
        "parts": [asdict(part) for part in manifest.parts],
        "retired": list(manifest.retired),
    }
    draft = root / _DRAFT
    draft.write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")
    _sync(draft)
    _sync(root)
    draft.replace(root / MANIFEST)
    _sync(root)


def _back_up(root: Path, part: Part) -> None:
    """Keep a part whose bars are about to be corrected, under a name of its own."""
    folder = root / "_backup"
    folder.mkdir(exist_ok=True)
    copy = folder / f"{part.month}.{Path(part.file).name}"
    if not copy.exists():
        os.link(root / part.file, copy)
        _sync(folder)


def _remove_strays(root: Path, keep: set[str]) -> None:
    for file in (root / DATASET).glob("*/*.parquet"):
        if file.relative_to(root).as_posix() not in keep:
            file.unlink()


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    """Hold the lake's lock.

    Raises:
        LakeBusy: another process holds it.
    """
    with (root / _LOCK).open("a+", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as problem:
            raise LakeBusy(f"{root}: another process is writing this lake; try again when it is done") from problem
        yield


def _sync(path: Path) -> None:
    """Force a file, or a directory's entries, to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
