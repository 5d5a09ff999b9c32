"""Bringing a panel file, or a lake of the first release's form, into a lake: all of it or nothing.

Bars and settlements are two tables and two commits. Whatever would refuse either is looked for before the first, and
the same import again completes one that a failing disk cut short between them.

A panel file keeps a settlement in the row whose candle opens at its stamp. A lake keeps settlements in a table of
their own, since the one at a coin's last close has no candle to stand beside.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import polars as pl

from slipstream.core.panel import HOUR_MS
from slipstream.errors import DataError, SafetyRefusal
from slipstream.lake.closed_bars import closed
from slipstream.lake.datasets import BARS, FUNDING, TIME
from slipstream.lake.locate import existing
from slipstream.lake.panel_file import parse_panel_file, read_panel_file
from slipstream.lake.schema import COLUMN_NAMES
from slipstream.lake.store import CommitReport, Lake, refuse

_FIRST_FORM = 1


def import_panel(file: str | Path, lake: Lake, *, now_ms: int) -> tuple[CommitReport, CommitReport]:
    """Merge a panel file into a lake; what the commits of bars and of settlements did.

    Args:
        file: a panel file, or the folder of a lake of the first form.
        lake: where to.
        now_ms: the present, Unix ms: the bar being formed is left out.

    Raises:
        DataError: the file cannot be used, or opens a bar after now; nothing is written.
        SafetyRefusal: a coin would lose rows, its beginning or a number; nothing is written.
    """
    place = existing(file)
    frame = read_first_form(place) if place.is_dir() else read_panel_file(place)
    return import_frame(frame, lake, now_ms=now_ms, source=str(file))


def import_frame(
    frame: pl.DataFrame, lake: Lake, *, now_ms: int | None = None, source: str = "the rows"
) -> tuple[CommitReport, CommitReport]:
    """Merge validated rows with the panel file's columns into a lake; errors as for :func:`import_panel`.

    The bar still forming is left out, the settlement at its open is not: it is known.
    """
    bars, settlements = separated(frame)
    if now_ms is not None:
        bars = closed(bars, now_ms, HOUR_MS, source)
    with lake.lock():
        _refuse_forgotten(frame, lake)
        for dataset, rows in ((BARS, bars), (FUNDING, settlements)):
            for coin, why in lake.refusals(dataset, rows).items():
                raise SafetyRefusal(f"{lake.place.url}: {coin}: {why}. Nothing was imported.")
        reports = lake.upsert(BARS, bars), lake.upsert(FUNDING, settlements)
    for report in reports:
        refuse(report, lake.place)
    return reports


def separated(frame: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Bars and settlements of a frame with the panel file's columns, as the lake's datasets hold them."""
    bars = frame.select(pl.lit("1h").alias("base_interval"), *(name for name in COLUMN_NAMES if name != "funding"))
    settled = frame.filter(pl.col("funding").is_not_null()).select("coin", "ts", rate="funding")
    settlements = settled.with_columns(
        premium=pl.lit(None, pl.Float64()), settled_ms=pl.lit(None, pl.Int64()), ts=pl.col("ts").cast(TIME)
    )
    return bars.select(BARS.names), settlements.select(FUNDING.names)


def _refuse_forgotten(frame: pl.DataFrame, lake: Lake) -> None:
    """A file that leaves a settlement empty which the lake holds would unlearn it.

    Raises:
        SafetyRefusal: naming the first.
    """
    empty = frame.filter(pl.col("funding").is_null()).select("coin", "ts")
    if not empty.height or lake.table(FUNDING) is None:
        return
    low, high = (int(moment.timestamp() * 1000) for moment in (empty["ts"].min(), empty["ts"].max()))  # type: ignore[union-attr]
    known = lake.read(FUNDING, start_ms=low, end_ms=high).join(empty, on=["coin", "ts"], how="semi")
    if known.height:
        row = known.row(0, named=True)
        raise SafetyRefusal(
            f"{lake.place.url}: funding of {row['coin']} at {row['ts']:%Y-%m-%d %H:%M} UTC is {row['rate']} and would "
            f"become empty ({known.height} values in all). Nothing was imported; remove those rows from the import."
        )


def read_first_form(folder: Path) -> pl.DataFrame:
    """The rows of a lake as the first release wrote it: monthly Parquet parts listed in a manifest with checksums.

    Raises:
        DataError: it is no such lake, or a part is missing or damaged.
    """
    manifest = folder / "manifest.json"
    if not manifest.is_file():
        raise DataError(f"{folder}: neither a panel file nor a lake of the first form; name a .parquet or .csv file")
    try:
        held = json.loads(manifest.read_text(encoding="utf-8"))
        if held["format"] != _FIRST_FORM:
            raise DataError(f"{manifest}: format {held['format']} is not known; upgrade")
        parts = [(str(part["file"]), str(part["sha256"])) for part in held["parts"]]
    except (ValueError, KeyError, TypeError) as problem:
        raise DataError(f"{manifest}: the manifest is damaged ({problem}); restore it") from problem
    frames = []
    for name, digest in parts:
        file = folder / name
        if not file.is_file():
            raise DataError(f"{file}: the part is missing; restore it")
        if hashlib.sha256(file.read_bytes()).hexdigest() != digest:
            raise DataError(f"{file}: the part differs from its checksum in the manifest; restore it")
        frames.append(parse_panel_file(file))
    if not frames:
        raise DataError(f"{folder}: the lake holds no rows")
    return pl.concat(frames).sort("coin", "ts")
