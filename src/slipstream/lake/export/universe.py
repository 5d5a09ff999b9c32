"""``universe.csv``: one row per coin ever seen, delisted ones included, so that nobody tests on survivors only."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import polars as pl

from slipstream.lake.export.folder import FileDamaged
from slipstream.lake.export.tables import ISO, read_strictly

UNIVERSE = pl.Schema(
    {
        "coin": pl.String(),
        "dex": pl.String(),
        "sz_decimals": pl.Int64(),
        "max_leverage": pl.Int64(),
        "only_isolated": pl.Boolean(),
        "is_delisted": pl.Boolean(),
        "first_seen_ms": pl.Int64(),
        "last_seen_ms": pl.Int64(),
        "first_bar": pl.String(),
        "last_bar": pl.String(),
    }
)
"""Columns. ``dex`` is empty for the first dex. ``first_seen_ms`` and ``last_seen_ms`` bound what proves that the coin
existed: its descriptions, opens and closes of its bars. ``first_bar`` and ``last_bar`` are opens, of any exported
length."""

_EARLIEST = ("first_seen_ms", "first_bar")
_LATEST = ("last_seen_ms", "last_bar")


def universe_from_csv(content: bytes, file: Path) -> pl.DataFrame:
    """The rows of a file.

    Raises:
        FileDamaged: it cannot be read, or a coin is there twice or has no name.
    """
    frame = read_strictly(content, file, dict(UNIVERSE))
    if frame["coin"].is_null().any() or frame["coin"].is_duplicated().any():
        raise FileDamaged(f"{file}: a coin is there twice or has no name; restore the file from a backup")
    return frame


def universe_to_csv(rows: pl.DataFrame) -> bytes:
    """The file of a universe."""
    stream = io.BytesIO()
    rows.select(UNIVERSE.names()).write_csv(stream)
    return stream.getvalue()


def described(instruments: pl.DataFrame) -> pl.DataFrame:
    """Rows of the dataset ``instruments`` as a universe without bars: the newest description, first and last seen."""
    newest = [
        pl.col(name).drop_nulls().last() for name in ("sz_decimals", "max_leverage", "only_isolated", "is_delisted")
    ]
    seen = pl.col("ts").dt.timestamp("ms")
    rows = instruments.sort("coin", "ts").group_by("coin", maintain_order=True)
    # an empty text and an empty cell look alike in a file
    return rows.agg(
        pl.col("dex").last().replace("", None), *newest, first_seen_ms=seen.min(), last_seen_ms=seen.max()
    ).select(
        *UNIVERSE.names()[:-2], *(pl.lit(None, dtype=pl.String()).alias(name) for name in ("first_bar", "last_bar"))
    )


def traded(spans: Mapping[str, tuple[int, int]], bar_ms: int) -> pl.DataFrame:
    """A universe of what bars prove; ``spans`` are opens of each coin's first and last bar, Unix ms."""
    coins = sorted(spans)
    first = pl.Series([spans[coin][0] for coin in coins], dtype=pl.Int64)
    last = pl.Series([spans[coin][1] for coin in coins], dtype=pl.Int64)
    known = {
        "coin": pl.Series(coins, dtype=pl.String),
        "dex": pl.Series([coin.partition(":")[0] if ":" in coin else None for coin in coins], dtype=pl.String),
        "first_seen_ms": first,
        "last_seen_ms": last + bar_ms,
        "first_bar": first.cast(pl.Datetime("ms")).dt.strftime(ISO),
        "last_bar": last.cast(pl.Datetime("ms")).dt.strftime(ISO),
    }
    return pl.DataFrame(
        [
            known[name].alias(name)
            if name in known
            else pl.repeat(None, len(coins), dtype=dtype, eager=True).alias(name)
            for name, dtype in UNIVERSE.items()
        ]
    )


def merged_universe(*parts: pl.DataFrame) -> pl.DataFrame:
    """One row per coin: of each description the last part that knows it, of each span the widest."""
    rules = [
        pl.col(name).min()
        if name in _EARLIEST
        else pl.col(name).max()
        if name in _LATEST
        else pl.col(name).drop_nulls().last()
        for name in UNIVERSE.names()[1:]
    ]
    return pl.concat(parts).group_by("coin", maintain_order=True).agg(rules).sort("coin").select(UNIVERSE.names())
