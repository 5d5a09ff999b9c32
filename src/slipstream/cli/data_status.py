"""What ``slipstream data status`` shows: tables, coins, and a map of which month of which coin is there."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from slipstream.core.coverage import CoinCoverage, coverage, gaps_of
from slipstream.core.panel import Panel, utc
from slipstream.errors import SlipstreamError, UsageError
from slipstream.lake import load_aligned
from slipstream.lake.datasets import BARS, DATASETS
from slipstream.lake.locate import existing, is_url
from slipstream.lake.store import Lake
from slipstream.reports.coverage_page import monthly_share, render_coverage

if TYPE_CHECKING:
    from slipstream.lake.alignment import Aligned


@dataclass(frozen=True)
class TableStatus:
    """One table: its version, files, size, rows (None where a foreign file does not say) and periods covered."""

    dataset: str
    version: int
    files: int
    bytes: int
    rows: int | None
    first_period: str | None
    last_period: str | None


@dataclass(frozen=True)
class Status:
    """What a lake or a panel file holds; ``aligned`` is None if it holds no bars."""

    source: str
    tables: tuple[TableStatus, ...]
    aligned: Aligned | None
    coins: tuple[CoinCoverage, ...]

    def for_programs(self) -> dict[str, object]:
        """The same as plain values."""
        return {
            "source": self.source,
            "tables": [asdict(table) for table in self.tables],
            "rows": 0 if self.aligned is None else self.aligned.panel.rows,
            "bar_hours": None if self.aligned is None else self.aligned.panel.bar_hours,
            "coins": [asdict(coin) for coin in self.coins],
            "pre_listing_rows_dropped": {} if self.aligned is None else self.aligned.pre_listing,
        }


def status_of(path: str) -> Status:
    """Look at a lake or a panel file.

    Raises:
        DataError: it cannot be used.
    """
    if not is_url(path) and not existing(path).is_dir():
        aligned = load_aligned(path)
        return Status(aligned.panel.source, (), aligned, coverage(aligned.panel))
    lake = Lake.open(path)
    tables = tuple(_table(lake, name.name) for name in lake.datasets())
    intervals = sorted({dict(part.values)["base_interval"] for part in lake.parts(BARS)})
    hours = next((length for name, length in (("1h", 1), ("4h", 4), ("1d", 24)) if name in intervals), None)
    if hours is None and intervals:
        hours = 1  # only finer bars: hourly ones are made of them
    if hours is None:
        return Status(lake.place.name, tables, None, ())
    aligned = load_aligned(path, bar_hours=hours)
    return Status(lake.place.name, tables, aligned, coverage(aligned.panel))


def _table(lake: Lake, name: str) -> TableStatus:
    dataset = DATASETS[name]
    table = lake.table(dataset)
    parts = lake.parts(dataset)
    periods = sorted(part.values[-1][1] for part in parts)
    return TableStatus(
        dataset=name,
        version=-1 if table is None else table.version(),
        files=len(parts),
        bytes=sum(part.size for part in parts),
        rows=None if any(part.rows is None for part in parts) else sum(part.rows or 0 for part in parts),
        first_period=periods[0] if periods else None,
        last_period=periods[-1] if periods else None,
    )


def print_status(status: Status) -> None:
    """Tables for a person."""
    from rich.console import Console

    console = Console()
    if status.tables:
        console.print(_tables(status))
    if status.aligned is None:
        _say(f"{status.source}: no bars")
        return
    console.print(_coins(status.aligned.panel, status.coins))
    _say("* ends before the rest; silent: bars without a trade; funding missing: settlements due and not recorded")
    for name, count in status.aligned.pre_listing.items():
        _say(f"{name}: {count} candles from before its first trade left out")
    _say("")
    for line in coverage_lines(status.aligned.panel):
        _say(line)


def _tables(status: Status) -> object:
    from rich.table import Table

    table = Table(title=f"{status.source}: tables")
    for name in ("dataset", "from", "to"):
        table.add_column(name)
    for name in ("rows", "files", "MB", "version"):
        table.add_column(name, justify="right")
    for held in status.tables:
        rows = "?" if held.rows is None else f"{held.rows:,}"
        size = f"{held.bytes / 1e6:.1f}"
        first, last = held.first_period or "", held.last_period or ""
        table.add_row(held.dataset, first, last, rows, str(held.files), size, str(held.version))
    return table


def _coins(panel: Panel, coins: tuple[CoinCoverage, ...]) -> object:
    from rich.table import Table

    bars = sum(coin.bars for coin in coins)
    first, last = min(coin.first_ms for coin in coins), max(coin.last_ms for coin in coins)
    span = f"{utc(first):%Y-%m-%d %H:%M} to {utc(last):%Y-%m-%d %H:%M} UTC"
    length = "hourly" if panel.bar_hours == 1 else f"{panel.bar_hours}-hour"
    table = Table(title=f"{panel.source}: {len(coins)} coins, {bars} {length} bars, known {span}")
    for name in ("coin", "first", "last"):
        table.add_column(name)
    for name in ("bars", "gaps", "silent", "funding\nmissing"):
        table.add_column(name, justify="right")
    for coin in coins:
        ends = " *" if coin.ends_early else ""
        table.add_row(
            coin.coin,
            f"{utc(coin.first_ms):%y-%m-%d %H}h",
            f"{utc(coin.last_ms):%y-%m-%d %H}h{ends}",
            *(str(count) for count in (coin.bars, coin.gap_bars, coin.zero_volume_bars, coin.funding_missing)),
        )
    return table


def coverage_lines(panel: Panel) -> list[str]:
    """Coin by month, one character each: the share of the month's bars that are there."""
    months, share, _, _ = monthly_share(panel)
    marks = np.select([share >= 1.0, share >= 0.5, share > 0.0], ["█", "▓", "░"], default="·")
    width = max(len(coin) for coin in panel.coins)
    return [
        f"{'':{width}}  {months[0]} to {months[-1]}: █ whole month  ▓ half or more  ░ less  · nothing",
        *(f"{coin:{width}}  {''.join(marks[:, column])}" for column, coin in enumerate(panel.coins)),
    ]


def write_page(status: Status, file: Path) -> None:
    """Draw the coverage as a page.

    Raises:
        UsageError: there are no bars to draw.
        SlipstreamError: the file cannot be written.
    """
    if status.aligned is None:
        raise UsageError(f"{status.source}: no bars to draw")
    text = render_coverage(
        status.source, status.aligned.panel, status.coins, gaps_of(status.aligned.panel), status.tables
    )
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    except OSError as problem:
        raise SlipstreamError(f"{file}: cannot be written ({problem})") from problem


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
