"""Small lakes as frames, and an export folder to put them into."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from slipstream.lake.datasets import BARS, FUNDING, TIME
from slipstream.lake.export import export_market_data

HOUR = 3_600_000
START = 1_735_689_600_000  # 2025-01-01 00:00 UTC


def hourly_bars(coin: str, first: int, last: int, *, seed: int = 7) -> pl.DataFrame:
    """Hourly bars that open at START + first .. last - 1 hours; an hour's numbers do not depend on the span."""
    hours = np.arange(first, last)
    draws = np.random.default_rng(seed).normal(0.0, 0.01, (4000, 2))[hours + 1000]
    opens = 100.0 * np.exp(draws[:, 0])
    close = opens * np.exp(draws[:, 1])
    return pl.DataFrame(
        {
            "coin": pl.repeat(coin, len(hours), dtype=pl.String, eager=True),
            "ts": pl.Series(START + hours * HOUR, dtype=pl.Int64).cast(TIME),
            "open": opens,
            "high": np.maximum(opens, close) * 1.001,
            "low": np.minimum(opens, close) * 0.999,
            "close": close,
            "volume": 1e4 * np.exp(draws[:, 0] * 50),
            "base_interval": pl.repeat("1h", len(hours), dtype=pl.String, eager=True),
        },
        schema=BARS.schema,
    )


def settled_rates(coin: str, first: int, last: int, *, every: int = 1, seed: int = 8) -> pl.DataFrame:
    """Settlements at the hours START + first .. last that ``every`` divides."""
    hours = np.array([hour for hour in range(first, last + 1) if hour % every == 0], dtype=np.int64)
    draws = np.random.default_rng(seed).normal(1e-5, 1e-5, 4000)[hours + 1000]
    return pl.DataFrame(
        {
            "coin": [coin] * len(hours),
            "ts": pl.Series(START + hours * HOUR, dtype=pl.Int64).cast(TIME),
            "rate": draws,
            "premium": pl.Series([None] * len(hours), dtype=pl.Float64),
            "settled_ms": pl.Series([None] * len(hours), dtype=pl.Int64),
        },
        schema=FUNDING.schema,
    )


@pytest.fixture
def start_ms():
    return START


@pytest.fixture
def hourly():
    return hourly_bars


@pytest.fixture
def rates():
    return settled_rates


@pytest.fixture
def market():
    """Bars and rates of some coins over the same hours."""

    def of(coins: tuple[str, ...], first: int, last: int) -> tuple[pl.DataFrame, pl.DataFrame]:
        return (
            pl.concat([hourly_bars(coin, first, last, seed=len(coin)) for coin in coins]),
            pl.concat([settled_rates(coin, first + 1, last, seed=len(coin)) for coin in coins]),
        )

    return of


@pytest.fixture
def export(tmp_path):
    """Export frames into the test's folder, as of some hour after START."""

    def call(bars, funding, hour, *, interval="4h", instruments=None, trust_files=False, folder=None):
        place = tmp_path / "market_data" if folder is None else folder
        return export_market_data(
            bars, funding, instruments, interval, place, now_ms=START + hour * HOUR, trust_files=trust_files
        )

    return call


@pytest.fixture
def out(tmp_path):
    return tmp_path / "market_data"


@pytest.fixture
def contents():
    """Every file below a folder by its path in it, the lock apart."""

    def of(folder) -> dict[str, bytes]:
        files = (entry for entry in folder.rglob("*") if entry.is_file() and entry.name != ".lock")
        return {str(entry.relative_to(folder)): entry.read_bytes() for entry in files}

    return of
