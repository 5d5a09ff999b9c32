"""Reading a panel file: hourly candles of many coins as Parquet or CSV, held to the rules of the bar schema.

Nothing is repaired. A file is either read whole, with the schema's columns and types, or refused with one line that
names the file, the row, the coin, the value and the remedy. Rows are counted from 0 and, in a CSV, from the line
below the header. Columns beyond the schema's are ignored. Times without a zone are read as UTC; other zones are
converted; whole numbers are Unix milliseconds. NaN in ``volume`` and ``funding`` means empty.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from slipstream.errors import DataError
from slipstream.lake.datasets import TIME
from slipstream.lake.locate import existing
from slipstream.lake.schema import COLUMN_NAMES, NUMBERS, funding_unit_problem, violations

SUFFIXES = (".parquet", ".csv")
_EARLIEST_MS, _LATEST_MS = 946_684_800_000, 4_102_444_800_000  # the years 2000 and 2100


def read_panel_file(path: str | Path) -> pl.DataFrame:
    """The file's rows in its own order, with the schema's columns and types, every rule checked.

    Args:
        path: a ``.parquet`` or ``.csv`` file with at least the columns of :data:`~slipstream.lake.schema.COLUMNS`.

    Raises:
        DataError: the file is absent, unreadable, empty, lacks a column, holds a wrong type or breaks a rule.
    """
    frame = parse_panel_file(path)
    broken = violations(frame)
    if broken and broken[0].column != "funding":
        raise DataError(f"{path} {broken[0].describe()}")
    unit = funding_unit_problem(frame)  # says more than the first rate above the cap does
    if unit is not None:
        raise DataError(f"{path} {unit}")
    if broken:
        raise DataError(f"{path} {broken[0].describe()}")
    return frame


def parse_panel_file(path: str | Path) -> pl.DataFrame:
    """The file's rows with the schema's columns and types, before any rule is checked.

    Raises:
        DataError: the file is absent, unreadable, empty, lacks a column or holds a value of a wrong type.
    """
    file = existing(path)
    if file.suffix not in SUFFIXES:
        raise DataError(f"{path}: a panel file ends in {' or '.join(SUFFIXES)}; convert it, or pass a lake directory")
    raw = _read(file)
    absent = [name for name in COLUMN_NAMES if name not in raw.columns]
    if absent:
        raise DataError(
            f"{path}: column {absent[0]} is missing; the file needs {', '.join(COLUMN_NAMES)} and "
            f"has {', '.join(raw.columns)}. Rename or add it."
        )
    if raw.height == 0:
        raise DataError(f"{path}: the file holds no rows; download it again")
    textual = file.suffix == ".csv"
    columns = {"ts": _time(raw["ts"], path), "coin": _coin(raw["coin"], path)}
    for name in NUMBERS:
        columns[name] = _number(raw[name], path, textual=textual)
    return pl.DataFrame(columns).with_columns(pl.col("volume", "funding").fill_nan(None))


def _read(file: Path) -> pl.DataFrame:
    if file.stat().st_size == 0:
        raise DataError(f"{file}: the file is empty (0 bytes); download it again")
    try:
        if file.suffix == ".csv":
            # everything as text first, so that a value that is no number is named with its row
            return pl.read_csv(file, infer_schema=False)
        held = pl.read_parquet_schema(file)
        return pl.read_parquet(file, columns=[name for name in held if name in COLUMN_NAMES] or list(held))
    except (pl.exceptions.PolarsError, OSError) as problem:
        reason = str(problem).strip().splitlines()[0]
        raise DataError(f"{file}: cannot be read as {file.suffix[1:]} ({reason}); download it again") from problem


def _coin(column: pl.Series, path: str | Path) -> pl.Series:
    if not isinstance(column.dtype, (pl.String, pl.Categorical, pl.Enum)):
        raise DataError(f"{path}: column coin holds {column.dtype}; it must hold names (text)")
    return column.cast(pl.String)


def _number(column: pl.Series, path: str | Path, *, textual: bool) -> pl.Series:
    if textual:
        text = column.str.strip_chars()
        text = text.set(text == "", None)
        numbers = text.cast(pl.Float64, strict=False)
        _require(numbers, text, path, "is not a number; correct it, or leave it empty if it is unknown")
        return numbers
    if not (column.dtype.is_numeric() or isinstance(column.dtype, pl.Null)):
        raise DataError(f"{path}: column {column.name} holds {column.dtype}; it must hold numbers. Convert the column.")
    return column.cast(pl.Float64)


def _time(column: pl.Series, path: str | Path) -> pl.Series:
    dtype = column.dtype
    if isinstance(dtype, pl.Datetime):
        zoned = column.dt.replace_time_zone("UTC") if dtype.time_zone is None else column.dt.convert_time_zone("UTC")
        return zoned.cast(TIME)
    if isinstance(dtype, pl.String):
        whole = column.cast(pl.Int64, strict=False)
        if whole.null_count() < len(whole):
            _require(whole, column, path, "is not Unix milliseconds like the times around it; write all alike")
            return _from_ms(whole, path)
        moments = _from_text(column)
        _require(moments, column, path, "is not a time; write it as 2025-01-31T13:00:00Z or as Unix milliseconds")
        return moments
    if dtype.is_integer():
        return _from_ms(column.cast(pl.Int64), path)
    raise DataError(f"{path}: column ts holds {dtype}; it must hold times (UTC) or Unix milliseconds. Convert it.")


def _from_ms(column: pl.Series, path: str | Path) -> pl.Series:
    outside = ((column < _EARLIEST_MS) | (column >= _LATEST_MS)).fill_null(False)
    if outside.any():
        row = int(outside.arg_true()[0])
        raise DataError(
            f"{path} row {row}: ts is {column[row]}, outside the years 2000-2100 as Unix milliseconds; "
            f"the unit is likely seconds or nanoseconds. Convert it to milliseconds."
        )
    return column.cast(pl.Datetime("ms")).dt.replace_time_zone("UTC")


def _from_text(column: pl.Series) -> pl.Series:
    """ISO 8601 times, with or without a zone; null where the text is no time."""
    text = column.to_frame("text").select(pl.col("text").str.strip_chars().str.replace(r"^(\d{4}-\d\d-\d\d)T", "$1 "))
    zone = r"\s*(?:Z|UTC|[+-]\d{2}:?\d{2})$"
    offset = pl.col("text").str.extract_groups(r"([+-])(\d{2}):?(\d{2})$")
    minutes = offset.struct[1].cast(pl.Int64) * 60 + offset.struct[2].cast(pl.Int64)
    east = pl.when(offset.struct[0] == "-").then(-minutes).otherwise(minutes)
    ends_in_offset = pl.col("text").str.contains(r"\d\d:\d\d.*[+-]\d{2}:?\d{2}$")
    local = pl.col("text").str.replace(zone, "")
    moment = pl.coalesce(
        local.str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit="ms", strict=False),
        local.str.to_datetime("%Y-%m-%d %H:%M", time_unit="ms", strict=False),
    )
    shift = pl.when(ends_in_offset).then(east).otherwise(0)
    utc_time = (moment - pl.duration(minutes=shift, time_unit="ms")).dt.replace_time_zone("UTC")
    return text.select(utc_time.cast(TIME).alias("ts"))["ts"]


def _require(parsed: pl.Series, raw: pl.Series, path: str | Path, complaint: str) -> None:
    """Refuse the first value that is there but could not be parsed."""
    lost = parsed.is_null() & raw.is_not_null()
    if lost.any():
        row = int(lost.arg_true()[0])
        raise DataError(f"{path} row {row}: {raw.name} is {raw[row]!r}, which {complaint}")
