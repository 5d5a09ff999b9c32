"""A day of asset contexts: one CSV line per coin and minute, as written by the venue.

Stamps are kept as they are: about a thousand in the archive lie off the minute, and flooring them would make them look
known earlier than they were. An empty cell, or ``null``, is unknown. ``funding`` is the running estimate of the next
settlement and is stored as ``funding_ctx``, so that nobody takes it for a settled rate. One minute in fifty is missing
before the archive of fills begins, and the whole of 2026-07-08.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import polars as pl

from slipstream.core.panel import HOUR_MS
from slipstream.ingest.archive.lz4_lines import line_blocks, refused
from slipstream.ingest.archive.objects import DAY_MS
from slipstream.lake.datasets import ASSET_CONTEXTS, TIME

_COLUMNS = {"time": "ts", "coin": "coin", "funding": "funding_ctx"}
HEADER = (
    "time",
    "coin",
    "funding",
    "open_interest",
    "prev_day_px",
    "day_ntl_vlm",
    "premium",
    "oracle_px",
    "mark_px",
    "mid_px",
    "impact_bid_px",
    "impact_ask_px",
)
"""Columns of the archive's files."""
_NUMBERS = HEADER[2:]
_MOMENT = r"^(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d(?:\.\d{1,9})?)(?:Z|\+00:00)?$"


def context_frames(texts: Iterable[bytes], day_ms: int, name: str) -> Iterator[pl.DataFrame]:
    """The rows of a day's object, some thousands at a time, with the columns of the lake's ``asset_contexts``.

    Args:
        texts: unpacked text in pieces of any size.
        day_ms: the object's day, Unix ms; a stamp more than a day from it is an error.
        name: what to call the object in errors.

    Raises:
        DamagedObject: the header lacks a column, or a line has another number of cells, a cell that is not what its
            column says, or a stamp of another time. The line is named.
    """
    header: list[str] | None = None
    for number, lines in line_blocks(texts, name):
        if header is None:
            header = _header(lines[0], name)
            number, lines = number + 1, lines[1:]
        if lines:
            yield _parsed(_cells(lines, header, number, name), day_ms, number, name)
    if header is None:
        raise refused(name, 1, "the object is empty; it should begin with a header")


def _header(line: bytes, name: str) -> list[str]:
    found = line.decode("utf-8", errors="replace").strip().split(",")
    absent = [column for column in HEADER if column not in found]
    if absent or len(set(found)) != len(found):
        raise refused(name, 1, f"the header is {found}; it should hold each of {', '.join(HEADER)} once")
    return found


def _cells(lines: list[bytes], header: list[str], number: int, name: str) -> pl.DataFrame:
    """The cells as text. Commas are counted line by line: a line that was cut must not pass as one with empty cells."""
    commas = len(header) - 1
    for at, line in enumerate(lines):
        if line.count(b",") != commas or b'"' in line:
            raise refused(name, number + at, f"{line[:80]!r} has not {len(header)} plain cells")
    text = pl.Series("line", [line.rstrip(b"\r").decode("utf-8") for line in lines])
    return text.str.split_exact(",", commas).struct.rename_fields(header).struct.unnest().select(HEADER)


def _parsed(cells: pl.DataFrame, day_ms: int, number: int, name: str) -> pl.DataFrame:
    stripped = pl.all().str.strip_chars()
    text = cells.with_columns(pl.when(stripped.is_in(["", "null"])).then(None).otherwise(stripped).name.keep())
    moment = pl.col("time").str.extract_groups(_MOMENT)
    joined = pl.concat_str(moment.struct[0], pl.lit(" "), moment.struct[1])
    rows = text.select(
        joined.str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit="ms", strict=False)
        .dt.replace_time_zone("UTC")
        .cast(TIME)
        .alias("time"),
        "coin",
        *(pl.col(column).cast(pl.Float64, strict=False) for column in _NUMBERS),
    )
    far = (rows["time"].dt.timestamp("ms") - day_ms - DAY_MS // 2).abs() > DAY_MS + DAY_MS // 2
    _refuse(rows["time"].is_null() | far.fill_null(value=True), cells["time"], number, name, "a time of its day")
    _refuse(text["coin"].is_null(), cells["coin"], number, name, "a coin")
    for column in _NUMBERS:
        wrong = text[column].is_not_null() & ~rows[column].is_finite().fill_null(value=False)
        _refuse(wrong, cells[column], number, name, "a number")
    return rows.rename({column: _COLUMNS.get(column, column) for column in HEADER}).select(ASSET_CONTEXTS.names)


def _refuse(wrong: pl.Series, cells: pl.Series, number: int, name: str, what: str) -> None:
    if wrong.any():
        at = int(wrong.arg_true()[0])
        raise refused(name, number + at, f"{cells.name} is {cells[at]!r}, which is not {what}")


def hourly_contexts(rows: pl.DataFrame, day_ms: int) -> pl.DataFrame:
    """The last context of each coin and hour of a day, and how many there were.

    Args:
        rows: contexts of a day's object, columns of the lake's ``asset_contexts``.
        day_ms: the object's day, Unix ms; contexts stamped outside it are left to their own day.

    Returns:
        ``coin``, ``open_ms`` (the hour's start), the numbers of the last context stamped in [open, open + 1 h),
        ``ctx_ms`` (its own stamp) and ``n_contexts``; ordered by coin and hour. All of it was known at the hour's end.
    """
    stamp = pl.col("ts").dt.timestamp("ms")
    values = [column for column in ASSET_CONTEXTS.names if column not in ("coin", "ts")]
    return (
        rows.with_columns(ctx_ms=stamp, open_ms=stamp // HOUR_MS * HOUR_MS)
        .filter(pl.col("open_ms").is_between(day_ms, day_ms + DAY_MS, closed="left"))
        .sort("coin", "ctx_ms", maintain_order=True)
        .group_by("coin", "open_ms", maintain_order=True)
        .agg(*(pl.col(value).last() for value in values), pl.col("ctx_ms").last(), n_contexts=pl.len().cast(pl.Int64))
    )
