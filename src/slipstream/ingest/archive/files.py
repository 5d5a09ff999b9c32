"""The CSV files of a backfill: mids by the hour and by four hours, and contexts by the hour.

    OUT/candles/hourly/<C>_candles_1h.csv   OUT/candles/<C>_candles_4h.csv   OUT/asset_ctxs/<C>_ctx_1h.csv

New rows are merged into what is there, one row per bar, the newest value winning; the whole file is written beside its
place, synced and renamed, so a process killed at any instant leaves the old file or the new. ``volume`` and
``volume_usd`` stay empty: a book shows no trades. Writing the same rows twice gives the same bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import unquote

import polars as pl

from slipstream.core.panel import HOUR_MS
from slipstream.errors import DataError, SafetyRefusal, SlipstreamError
from slipstream.ingest.archive.book_lines import MidBar
from slipstream.lake.datasets import ASSET_CONTEXTS, MID_BARS, TIME
from slipstream.lake.durable import write_whole

_PRICES = ("open", "high", "low", "close")
_BAR = dict.fromkeys((*_PRICES, "volume", "volume_usd"), pl.Float64()) | {"known_at_ms": pl.Int64()}
_CONTEXT_VALUES = tuple(name for name in ASSET_CONTEXTS.names if name not in ("coin", "ts"))
HOURLY_BARS = pl.Schema({"datetime": pl.String(), **_BAR, "n_snapshots": pl.Int64()})
LONG_BARS = pl.Schema({"datetime": pl.String(), **_BAR, "hours": pl.Int64()})
HOURLY_CONTEXTS = pl.Schema(
    {
        "datetime": pl.String(),
        **dict.fromkeys(_CONTEXT_VALUES, pl.Float64()),
        "known_at_ms": pl.Int64(),
        "ctx_ms": pl.Int64(),
        "n_contexts": pl.Int64(),
    }
)
LONG_HOURS = 4


def file_stem(coin: str) -> str:
    """A coin's name as it stands in file names: every byte but ``A-Z a-z 0-9 . _ -`` percent-encoded."""
    return re.sub(rb"[^A-Za-z0-9._-]", lambda byte: b"%%%02X" % byte[0][0], coin.encode("utf-8")).decode("ascii")


def hourly_file(out: Path, coin: str) -> Path:
    return out / "candles" / "hourly" / f"{file_stem(coin)}_candles_1h.csv"


def long_file(out: Path, coin: str) -> Path:
    return out / "candles" / f"{file_stem(coin)}_candles_{LONG_HOURS}h.csv"


def contexts_file(out: Path, coin: str) -> Path:
    return out / "asset_ctxs" / f"{file_stem(coin)}_ctx_1h.csv"


def coins_with(folder: Path, suffix: str) -> list[str]:
    """Coins that have a file ``<C><suffix>`` in a folder, sorted."""
    names = (file.name for file in folder.glob(f"*{suffix}")) if folder.is_dir() else ()
    return sorted(unquote(name[: -len(suffix)]) for name in names if not name.startswith("."))


def bar_rows(bars: Iterable[MidBar]) -> pl.DataFrame:
    """Bars as rows of the lake's ``mid_bars``."""
    held = list(bars)
    columns = {"coin": [bar.coin for bar in held], "ts": pl.Series([bar.open_ms for bar in held], dtype=pl.Int64)}
    columns |= {name: [getattr(bar, name) for bar in held] for name in (*_PRICES, "n_snapshots")}
    opens = pl.col("ts").cast(pl.Datetime("ms")).dt.replace_time_zone("UTC")
    return pl.DataFrame(columns).with_columns(opens).cast(MID_BARS.schema)


def hourly_table(rows: pl.DataFrame) -> pl.DataFrame:
    """One coin's rows of ``mid_bars`` in the form of the hourly file."""
    return _labelled(rows.with_columns(open_ms=pl.col("ts").dt.timestamp("ms")), HOUR_MS, HOURLY_BARS)


def context_table(rows: pl.DataFrame) -> pl.DataFrame:
    """One coin's hourly contexts (with ``open_ms``) in the form of their file."""
    return _labelled(rows, HOUR_MS, HOURLY_CONTEXTS)


def lake_rows(table: pl.DataFrame, coin: str) -> pl.DataFrame:
    """An hourly file's rows as rows of the lake's ``mid_bars``."""
    opens = pl.from_epoch(pl.col("known_at_ms") - HOUR_MS, time_unit="ms").dt.replace_time_zone("UTC").cast(TIME)
    return table.select(pl.lit(coin).alias("coin"), opens.alias("ts"), *_PRICES, "n_snapshots")


def resampled(table: pl.DataFrame, now_ms: int) -> pl.DataFrame:
    """Four-hour bars of an hourly file, on the grid of the Unix epoch; ``hours`` counts the hours they cover.

    Args:
        table: the hourly file's rows.
        now_ms: the present, Unix ms; a bar that has not ended is left out.
    """
    step = LONG_HOURS * HOUR_MS
    opens = (pl.col("known_at_ms") - HOUR_MS) // step * step
    bars = (
        table.sort("known_at_ms")
        .group_by(opens.alias("open_ms"), maintain_order=True)
        .agg(
            pl.col("open").first(),
            pl.col("high").max(),
            pl.col("low").min(),
            pl.col("close").last(),
            hours=pl.len().cast(pl.Int64),
        )
        .filter(pl.col("open_ms") + step <= now_ms)
    )
    return _labelled(bars, step, LONG_BARS)


def _labelled(rows: pl.DataFrame, step_ms: int, schema: pl.Schema) -> pl.DataFrame:
    unknown = [pl.lit(None, pl.Float64()).alias(name) for name in ("volume", "volume_usd") if name in schema]
    opens = pl.from_epoch(pl.col("open_ms"), time_unit="ms").dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    return rows.with_columns(*unknown, datetime=opens, known_at_ms=pl.col("open_ms") + step_ms).select(schema.names())


def read_table(file: Path, schema: pl.Schema) -> pl.DataFrame:
    """A file's rows; empty if it is absent.

    Raises:
        DataError: it cannot be read as what it should be, or its rows are not in order of time, once each.
    """
    if not file.exists():
        return schema.to_frame()
    try:
        held = pl.read_csv(file, schema_overrides=dict(schema))
        table = held.select(schema.names())
    except (pl.exceptions.PolarsError, OSError) as problem:
        reason = str(problem).strip().splitlines()[0]
        raise DataError(
            f"{file}: cannot be read ({reason}); it was left as it is. Move it away and fetch its hours again"
        ) from problem
    known = table["known_at_ms"]
    if known.null_count() or not (known.diff().drop_nulls() > 0).all():
        raise DataError(f"{file}: known_at_ms is empty or out of order; move the file away and fetch its hours again")
    return table


def upsert(file: Path, rows: pl.DataFrame, schema: pl.Schema) -> pl.DataFrame:
    """Merge rows into a file; returns what it then holds.

    Raises:
        DataError: the file there cannot be read; it is left as it is.
        SafetyRefusal: a file differs from this one in case alone, or the disk refused; nothing was changed.
    """
    before = read_table(file, schema)
    after = pl.concat([before, rows]).unique("known_at_ms", keep="last", maintain_order=True).sort("known_at_ms")
    if not after.equals(before) or not file.exists():
        write_table(file, after)
    return after


def write_table(file: Path, table: pl.DataFrame) -> bool:
    """Put a table in place of a file, whole or not at all; False if it held just that already.

    Raises:
        SafetyRefusal: another file's name differs from this one in case alone.
        SlipstreamError: the disk refused; the old file is whole.
    """
    body = table.write_csv().encode("utf-8")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.exists() and file.read_bytes() == body:
            return False
        _refuse_lookalike(file)
        write_whole(file, body)
    except OSError as problem:
        raise SlipstreamError(f"{file}: cannot be written ({problem}); what was there is whole") from problem
    return True


def _refuse_lookalike(file: Path) -> None:
    """On disks that ignore case, two such files would be one."""
    for other in file.parent.iterdir():
        if other.name != file.name and other.name.casefold() == file.name.casefold():
            raise SafetyRefusal(
                f"{file}: {other.name} is there and differs in case alone; on some disks they are one file. "
                "Choose another --output-dir for this coin"
            )
