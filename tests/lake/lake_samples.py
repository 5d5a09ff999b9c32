"""Rows of the lake's datasets for tests, and what a lake holds as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from slipstream.lake.datasets import DATASETS, QUOTES, TIME, Dataset
from slipstream.lake.panel_import import separated
from slipstream.lake.store import Lake

SPRING = datetime(2025, 3, 30, tzinfo=UTC)
"""Four days from here lie in two months."""

AUTUMN_NS = 1_757_000_000_000_000_000
"""2025-09-04 15:33:20 UTC."""

NOW_MS = 1_767_225_600_000
"""2026-01-01 00:00 UTC."""


def panel_rows(coins: Sequence[str], hours: int) -> pl.DataFrame:
    """Rows of a panel file from :data:`SPRING` on; what an hour holds does not depend on how many there are."""
    rng = np.random.default_rng(20_250_330)
    factor = 1.0 + 0.01 * rng.random((10_000, 4))[:hours]
    ts = pl.Series("ts", [SPRING + timedelta(hours=hour) for hour in range(hours)], TIME)
    pieces = []
    for coin in sorted(coins):
        prices = {"open": 100.0 * factor[:, 0], "close": 100.0 * factor[:, 1], "volume": 1e3 * factor[:, 2]}
        rows = pl.DataFrame({"ts": ts, "coin": [coin] * hours, **prices, "funding": 1e-5 * factor[:, 3]})
        pieces.append(
            rows.with_columns(high=pl.max_horizontal("open", "close"), low=pl.min_horizontal("open", "close"))
        )
    return pl.concat(pieces).select("ts", "coin", "open", "high", "low", "close", "volume", "funding")


def bars_of(frame: pl.DataFrame) -> pl.DataFrame:
    """The bars of a panel file's rows."""
    return separated(frame)[0]


def quotes(first: int, count: int, coin: str = "BTC", *, every_ns: int = 1_000_000_000) -> pl.DataFrame:
    """Quotes numbered from ``first`` on, one a second; the number is the bid's size."""
    numbers = list(range(first, first + count))
    rows = {
        "venue": ["hyperliquid"] * count,
        "coin": [coin] * count,
        "exchange_ms": [None] * count,
        "received_ns": [AUTUMN_NS + number * every_ns for number in numbers],
        "monotonic_ns": numbers,
        "session": ["20250904-153320"] * count,
        "bid": [100.0] * count,
        "bid_size": [float(number) for number in numbers],
        "ask": [101.0] * count,
        "ask_size": [1.0] * count,
    }
    return pl.DataFrame(rows, schema=QUOTES.schema)


def contents(lake: Lake) -> dict[str, pl.DataFrame]:
    """Every table's rows by name; a table without rows counts as none."""
    held = {dataset.name: lake.read(dataset) for dataset in DATASETS.values() if lake.table(dataset) is not None}
    return {name: rows for name, rows in held.items() if rows.height}


def same(one: dict[str, pl.DataFrame], other: dict[str, pl.DataFrame]) -> bool:
    """Whether two lakes hold the same rows."""
    return one.keys() == other.keys() and all(rows.equals(other[name]) for name, rows in one.items())


def file_of(lake: Lake, dataset: Dataset, index: int = 0) -> Path:
    """The file of a part in force."""
    folder = lake.place.folder
    assert folder is not None
    return folder / dataset.name / lake.parts(dataset)[index].path


def fingerprint(lake: Lake) -> dict[str, bytes]:
    """Every file of a lake on a disk, but for its lock."""
    root = lake.place.folder
    assert root is not None
    return {
        file.relative_to(root).as_posix(): file.read_bytes()
        for file in sorted(root.rglob("*"))
        if file.is_file() and file.name != "lock"
    }
