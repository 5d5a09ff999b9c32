"""How far closes of the archive's mids lie from the venue's own candles.

A mid is no trade, and the last snapshot of an hour is up to a few seconds old, so the two differ by a few hundredths of
a percent. More than one percent at some bar means a wrong hour, a wrong coin or a book that stood still.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from slipstream.core.panel import HOUR_MS, utc
from slipstream.ingest.archive import files
from slipstream.lake.datasets import BARS
from slipstream.lake.store import Lake

LIMIT = 0.01
"""A relative difference above this is worth a warning."""


@dataclass(frozen=True)
class Comparison:
    """One coin's closes beside the venue's, on the bars that both have.

    Attributes:
        coin: whose.
        interval: length of the bars compared; empty where there was nothing to compare.
        n: bars.
        mean, p99, max: of the relative difference ``abs(archive / venue - 1)``; None where n is 0.
        above: bars that differ by more than :data:`LIMIT`.
        worst_ms: open of the worst bar, Unix ms.
    """

    coin: str
    interval: str
    n: int
    mean: float | None = None
    p99: float | None = None
    max: float | None = None
    above: int = 0
    worst_ms: int | None = None

    def describe(self) -> str:
        """One line."""
        if self.mean is None or self.p99 is None or self.max is None or self.worst_ms is None:
            return f"{self.coin}: no bar that the venue's candles have too; load some with hl-load"
        line = f"{self.coin}: {self.n} bars of {self.interval}, closes differ by {self.mean:.4%} on average, "
        line += f"{self.p99:.4%} at the 99th percentile, {self.max:.4%} at most"
        if self.above:
            line += (
                f"; WARNING: {self.above} above {LIMIT:.0%}, worst in the bar from {utc(self.worst_ms):%Y-%m-%d %H:%M}"
            )
        return line


def compare(out: Path, lake: Lake, market_data: Path, coins: Sequence[str]) -> list[Comparison]:
    """Compare each coin's hourly closes, or its four-hour ones where the venue's are only had at that length.

    Args:
        out: the backfill's folder.
        lake: holds the venue's bars.
        market_data: folder of exported candles, looked at for coins of which the lake holds none.
        coins: which.

    Raises:
        DataError: a file cannot be read.
    """
    bars = lake.read(BARS, coins=list(coins)) if lake.table(BARS) is not None else BARS.schema.to_frame()
    return [_compared(coin, out, bars.filter(pl.col("coin") == coin), market_data) for coin in coins]


def _compared(coin: str, out: Path, bars: pl.DataFrame, market_data: Path) -> Comparison:
    ours = {
        "1h": files.read_table(files.hourly_file(out, coin), files.HOURLY_BARS),
        "4h": files.read_table(files.long_file(out, coin), files.LONG_BARS),
    }
    for interval, table in ours.items():
        venue = bars.filter(pl.col("base_interval") == interval).select(
            known_at_ms=pl.col("ts").dt.timestamp("ms") + int(interval[0]) * HOUR_MS, close_venue="close"
        )
        if not venue.height:
            venue = _exported(market_data / interval / f"{files.file_stem(coin)}_candles_{interval}.csv")
        complete = table.filter(pl.col("hours") == files.LONG_HOURS) if "hours" in table.columns else table
        both = complete.join(venue, on="known_at_ms", how="inner")
        if both.height:
            return _measured(coin, interval, both)
    return Comparison(coin, "", 0)


def _measured(coin: str, interval: str, both: pl.DataFrame) -> Comparison:
    differs = (both["close"] / both["close_venue"] - 1.0).abs()
    figures = (
        both.select(differs.alias("differs"), "known_at_ms")
        .select(
            pl.col("differs").mean().alias("mean"),
            pl.col("differs").quantile(0.99, "linear").alias("p99"),
            pl.col("differs").max().alias("max"),
            pl.col("known_at_ms").get(pl.col("differs").arg_max()).alias("worst"),
        )
        .row(0)
    )
    return Comparison(
        coin,
        interval,
        both.height,
        mean=float(figures[0]),
        p99=float(figures[1]),
        max=float(figures[2]),
        above=int((differs > LIMIT).sum()),
        worst_ms=int(figures[3]) - int(interval[0]) * HOUR_MS,
    )


def _exported(file: Path) -> pl.DataFrame:
    schema = pl.Schema({"known_at_ms": pl.Int64(), "close": pl.Float64()})
    return files.read_table(file, schema).rename({"close": "close_venue"})
