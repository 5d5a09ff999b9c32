"""The three CSV files of a coin, to and from frames.

In memory every table has ``ts`` (Int64, Unix ms of the row's open) in place of the two times a file shows, ``datetime``
and ``known_at_ms``; both are derived from it. A file is read whole or not at all: a value of a wrong type, a row out of
order, off the grid or repeated, times that contradict each other, a line cut short are errors that name the line.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from slipstream.core.panel import HOUR_MS, FloatArray, IntArray, utc
from slipstream.lake.export.folder import FileDamaged
from slipstream.lake.longer_bars import PRICES

ISO = "%Y-%m-%dT%H:%M:%SZ"
SOURCES = ("api", "s3")
_EARLIEST_MS, _LATEST_MS = 946_684_800_000, 4_102_444_800_000  # the years 2000 to 2100


@dataclass(frozen=True)
class Table:
    """One kind of file.

    Attributes:
        name: as it stands in file names.
        columns: between ``datetime`` and ``known_at_ms``, with types in memory.
        required: columns without empty cells.
    """

    name: str
    columns: dict[str, pl.DataType]
    required: tuple[str, ...]

    def file_columns(self, *, with_source: bool) -> list[str]:
        return ["datetime", *self.columns, "known_at_ms", *(["source"] if with_source else [])]

    def schema(self, *, with_source: bool) -> pl.Schema:
        """Columns in memory."""
        source = {"source": pl.String()} if with_source else {}
        return pl.Schema({"ts": pl.Int64(), **self.columns, **source})

    def empty(self, *, with_source: bool = False) -> pl.DataFrame:
        return self.schema(with_source=with_source).to_frame()


CANDLES = Table(
    "candles",
    dict.fromkeys((*PRICES, "volume", "volume_usd"), pl.Float64()),
    required=PRICES,
)
FUNDING = Table(
    "funding", {"funding_sum": pl.Float64(), "funding_n": pl.Int64()}, required=("funding_sum", "funding_n")
)
MERGED = Table(
    "merged",
    {
        "ret": pl.Float64(),
        "gap_bars": pl.Int64(),
        "funding_sum": pl.Float64(),
        "funding_n": pl.Int64(),
        "volume_usd": pl.Float64(),
    },
    required=("gap_bars", "funding_n"),
)


def row_ms(table: Table, bar_ms: int) -> int:
    """Length of a row, ms: funding of bars shorter than an hour keeps hourly rows."""
    return max(bar_ms, HOUR_MS) if table is FUNDING else bar_ms


def merged_table(candles: pl.DataFrame, funding: pl.DataFrame, bar_ms: int) -> pl.DataFrame:
    """Returns, gaps, funding and volume of a coin's candles.

    Args:
        candles: its whole history, ascending.
        funding: its whole history, ascending.
        bar_ms: length of a bar.

    Returns:
        A row per candle. ``ret`` is the log return since the close before, however long ago, empty in the first row;
        ``gap_bars`` counts the bars missing before the row. ``funding_sum`` is empty where nothing was settled.
    """
    opened = candles["ts"].to_numpy()
    ret, gap_bars = log_returns(candles["close"].to_numpy()), np.zeros(len(opened), dtype=np.int64)
    gap_bars[1:] = np.diff(opened) // bar_ms - 1
    joined = candles.select("ts").join(
        funding.with_columns(ts=settled_in(funding, bar_ms)), on="ts", how="left", maintain_order="left"
    )
    table = pl.DataFrame(
        {
            "ts": candles["ts"],
            "ret": pl.Series(ret, nan_to_null=True),
            "gap_bars": gap_bars,
            "funding_sum": joined["funding_sum"],
            "funding_n": joined["funding_n"].fill_null(0),
            "volume_usd": candles["volume_usd"],
        }
    )
    return table.with_columns(candles["source"]) if "source" in candles.columns else table


def settled_in(funding: pl.DataFrame, bar_ms: int) -> IntArray:
    """Open of the bar each row of a funding table belongs to: of hourly rows, the shorter bar that has the hour."""
    settled = funding["ts"].to_numpy() + row_ms(FUNDING, bar_ms)
    return -(-settled // bar_ms) * bar_ms - bar_ms


def log_returns(close: FloatArray) -> FloatArray:
    """Log return since the close before, shape (T,), NaN in the first row."""
    out = np.full(len(close), np.nan)
    out[1:] = np.log(close[1:] / close[:-1])
    return out


def to_csv(rows: pl.DataFrame, table: Table, bar_ms: int) -> bytes:
    """The file of a table's rows."""
    with_source = "source" in rows.columns
    shown = rows.with_columns(
        datetime=iso_times(rows["ts"].to_numpy()), known_at_ms=pl.col("ts") + row_ms(table, bar_ms)
    ).select(table.file_columns(with_source=with_source))
    stream = io.BytesIO()
    shown.write_csv(stream)
    return stream.getvalue()


def from_csv(
    content: bytes, file: Path, table: Table, bar_ms: int, *, with_source: bool, as_written: bool = False
) -> pl.DataFrame:
    """The rows of a file.

    Args:
        content: its bytes.
        file: for messages.
        table: what it holds.
        bar_ms: length of a bar.
        with_source: whether there is a column ``source``.
        as_written: the checksum has shown that it is what :func:`to_csv` wrote, so its values need no second look.

    Raises:
        FileDamaged: naming the line (the header is line 1) and the column.
    """
    schema = table.schema(with_source=with_source)
    columns = table.file_columns(with_source=with_source)
    types = {name: schema.get(name, pl.Int64() if name == "known_at_ms" else pl.String()) for name in columns}
    frame = read_strictly(content, file, types)
    step = row_ms(table, bar_ms)
    if not as_written:
        _require_rows(frame, file, table, step, with_source=with_source)
    return frame.with_columns(ts=pl.col("known_at_ms") - step).select(schema.names())


def _require_rows(frame: pl.DataFrame, file: Path, table: Table, step: int, *, with_source: bool) -> None:
    """Times that agree and ascend on the grid, no empty cell where a value must be, no impossible price."""
    opened = frame["datetime"].str.to_datetime(ISO, time_unit="ms", strict=False).dt.timestamp("ms")
    timely = opened.is_between(_EARLIEST_MS, _LATEST_MS).fill_null(value=False)
    _refuse(~timely, file, "datetime", "is not a time such as 2025-01-31T08:00:00Z")
    _refuse((frame["known_at_ms"] != opened + step).fill_null(value=True), file, "known_at_ms", "does not fit datetime")
    require_ascending(opened.to_numpy(), step, file)
    for name in table.required:
        _refuse(frame[name].is_null(), file, name, "is empty")
    if table is CANDLES:
        for name in PRICES:
            _refuse(frame[name] <= 0.0, file, name, "is not a positive price")
    if with_source:
        _refuse(~frame["source"].is_in(SOURCES).fill_null(value=False), file, "source", f"is none of {SOURCES}")


def read_strictly(content: bytes, file: Path, types: Mapping[str, pl.DataType]) -> pl.DataFrame:
    """CSV text with just these columns in this order; empty cells are null.

    Raises:
        FileDamaged: another header, a value of another type, an infinite number, a last line cut short.
    """
    header = content.partition(b"\n")[0].decode("utf-8", errors="replace").strip()
    wanted = ",".join(types)
    if header != wanted:
        quoted = pl.DataFrame(schema=dict.fromkeys(types, pl.String())).write_csv().strip()
        if header != quoted:
            raise FileDamaged(f"{file} line 1: the header is {header[:200]!r} and not {wanted[:200]!r}; {_LEFT}")
    if not content.endswith(b"\n"):
        raise FileDamaged(f"{file}: the last line is cut short; {_LEFT}")
    try:
        frame = pl.read_csv(io.BytesIO(content), schema=types)
    except pl.exceptions.PolarsError as problem:
        reason = str(problem).strip().splitlines()[0]
        raise FileDamaged(f"{file}: cannot be read as CSV ({reason}); {_LEFT}") from problem
    numbers = [name for name, dtype in types.items() if dtype == pl.Float64()]
    finite = frame.select(pl.col(numbers).is_finite().all()).row(0) if numbers else ()
    for name, well in zip(numbers, finite, strict=True):
        if not well:
            _refuse(~frame[name].is_finite().fill_null(value=True), file, name, "is not a finite number")
    return frame


def require_ascending(opened: IntArray, step_ms: int, file: Path) -> None:
    """Times strictly ascending on the grid of ``step_ms``.

    Raises:
        FileDamaged: naming the first line that is not.
    """
    off = np.flatnonzero(opened % step_ms != 0)
    if len(off):
        raise FileDamaged(f"{file} line {off[0] + 2}: {utc(int(opened[off[0]])):{ISO}} is off the grid; {_LEFT}")
    back = np.flatnonzero(np.diff(opened) <= 0)
    if len(back):
        row = int(back[0]) + 1
        raise FileDamaged(
            f"{file} line {row + 2}: {utc(int(opened[row])):{ISO}} does not come after the line above; {_LEFT}"
        )


def iso(time_ms: int) -> str:
    """A time as it stands in the files."""
    return f"{utc(time_ms):{ISO}}"


def iso_times(time_ms: IntArray) -> pl.Series:
    """Times as they stand in the files."""
    return pl.Series("datetime", time_ms).cast(pl.Datetime("ms")).dt.strftime(ISO)


_LEFT = "the file is left as it is; restore it from a backup, or move it away and export the whole lake again"


def _refuse(wrong: pl.Series, file: Path, column: str, complaint: str) -> None:
    if wrong.any():
        row = int(wrong.arg_true()[0])
        raise FileDamaged(f"{file} line {row + 2}, column {column}: the value {complaint}; {_LEFT}")
