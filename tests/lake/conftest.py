"""Small panel files made on the spot."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from slipstream.lake.panel_import import import_frame
from slipstream.lake.store import Lake

START = datetime(2025, 1, 1, tzinfo=UTC)


def candles(coins=("BTC", "ETH", "kPEPE"), hours=72, start=START, funding=1.25e-5, seed=42) -> pl.DataFrame:
    """Plausible hourly candles that keep every rule; ``funding`` is one rate for all hours."""
    rng = np.random.default_rng(seed)
    frames = []
    for coin in coins:
        close = 100.0 * np.exp(np.cumsum(rng.normal(0, 0.01, hours)))
        opens = np.concatenate([[100.0], close[:-1]])
        frames.append(
            pl.DataFrame(
                {
                    "ts": [start + timedelta(hours=hour) for hour in range(hours)],
                    "coin": [coin] * hours,
                    "open": opens,
                    "high": np.maximum(opens, close) * 1.001,
                    "low": np.minimum(opens, close) * 0.999,
                    "close": close,
                    "volume": rng.uniform(1e3, 2e3, hours),
                    "funding": np.full(hours, funding),
                },
                schema_overrides={"ts": pl.Datetime("ms", "UTC")},
            )
        )
    return pl.concat(frames)


@pytest.fixture
def make_candles():
    return candles


@pytest.fixture
def write(tmp_path):
    """Write a frame as a panel file and return its path."""

    def write_frame(frame: pl.DataFrame, name: str = "panel.parquet") -> Path:
        file = tmp_path / name
        if file.suffix == ".csv":
            frame.write_csv(file)
        else:
            frame.write_parquet(file)
        return file

    return write_frame


@pytest.fixture
def with_value():
    """The frame with one cell replaced."""

    def replace(frame: pl.DataFrame, row: int, column: str, value: object) -> pl.DataFrame:
        here = pl.int_range(pl.len()) == row
        return frame.with_columns(pl.when(here).then(pl.lit(value)).otherwise(pl.col(column)).alias(column))

    return replace


@pytest.fixture
def lake_of(tmp_path):
    """A new lake that holds the rows of a panel file."""

    def make(frame: pl.DataFrame, name: str = "lake") -> Lake:
        lake = Lake.open(tmp_path / name, create=True)
        import_frame(frame, lake)
        return lake

    return make
