"""What ``slipstream data status`` shows: tables, coins, and a map of which month of which coin is there."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from slipstream.core.panel import HOUR_MS, utc
from slipstream.errors import SlipstreamError, UsageError
from slipstream.lake.datasets import DATASETS
from slipstream.lake.held_hours import CoinHours, Held, hours_in_file, hours_in_lake
from slipstream.lake.locate import existing, is_url
from slipstream.lake.store import Lake
from slipstream.reports.coverage_page import bars_in_words, monthly_hours, render_coverage


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
    """What a lake or a panel file holds."""

    source: str
    tables: tuple[TableStatus, ...]
    held: Held

    @property
    def exit_code(self) -> int:
        """1 if a file is damaged."""
        return 1 if self.held.damaged else 0

    def for_programs(self) -> dict[str, object]:
        """The same as plain values; moments are Unix ms."""
        coins = self.held.coins
        begins = min((int(coin.hours[0]) for coin in coins), default=None)
        ends = max((int(coin.hours[-1]) + 1 for coin in coins), default=None)
        return {
            "source": self.source,
            "tables": [asdict(table) for table in self.tables],
            "begins_ms": None if begins is None else begins * HOUR_MS,
            "ends_ms": None if ends is None else ends * HOUR_MS,
            "lengths": list(self.held.lengths),
            "coins": [_entry(coin) for coin in coins],
            "pre_listing_rows_dropped": self.held.pre_listing,
            "damaged": self.held.damaged,
        }


def _entry(coin: CoinHours) -> dict[str, object]:
    return {
        "coin": coin.coin,
        "first_ms": coin.first_ms,
        "last_ms": coin.last_ms,
        "bars": coin.bars,
        "hours": len(coin.hours),
        "gap_hours": coin.gap_hours,
        "silent_bars": coin.silent_bars,
        "funding_missing": coin.funding_missing,
        "ends_early": coin.ends_early,
        "gaps": [{"first_ms": gap.first_ms, "hours": gap.hours} for gap in coin.gaps],
    }


def status_of(path: str) -> Status:
    """Look at a lake or a panel file. Damaged files of a lake's bars and settlements are part of what is found.

    Raises:
        DataError: it cannot be used.
    """
    if not is_url(path) and not existing(path).is_dir():
        return Status(existing(path).resolve().name, (), hours_in_file(path))
    lake = Lake.open(path)
    tables = tuple(_table(lake, name.name) for name in lake.datasets())
    return Status(lake.place.name, tables, hours_in_lake(lake))


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
    held = status.held
    if held.coins:
        _say(_in_one_line(status.source, held))
        console.print(_coins(held))
        _say("first, last: close of the first and of the last bar, UTC; * ends before the rest")
        _say("gaps: hours that no bar covers; silent: bars without a trade")
        _say("funding missing: settlements due and not recorded")
    else:
        _say(f"{status.source}: no bars")
    for name, count in held.pre_listing.items():
        _say(f"{name}: {count} candles from before its first trade left out")
    if held.coins:
        _say("")
        for line in coverage_lines(held.coins):
            _say(line)
    for file, why in held.damaged.items():
        _say(f"damaged, counted as nothing held: {file}: {why}")
    if held.damaged:
        _say('see "slipstream data check" and "slipstream data repair"')


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


def _in_one_line(source: str, held: Held) -> str:
    first, last = min(coin.first_ms for coin in held.coins), max(coin.last_ms for coin in held.coins)
    span = f"{utc(first):%Y-%m-%d %H:%M} to {utc(last):%Y-%m-%d %H:%M} UTC"
    return f"{source}: {len(held.coins)} coins, {bars_in_words(held)}, known {span}"


def _coins(held: Held) -> object:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, padding=0)  # so that 80 columns hold it
    for name in ("coin", "first", "last"):
        table.add_column(name)
    for name in (*(f"{length}\nbars" for length in held.lengths), "gaps", "silent", "funding\nmissing"):
        table.add_column(name, justify="right")
    for coin in held.coins:
        ends = " *" if coin.ends_early else ""
        counts = [coin.bars.get(length, 0) for length in held.lengths]
        table.add_row(
            coin.coin,
            f"{utc(coin.first_ms):%y-%m-%d %H}h",
            f"{utc(coin.last_ms):%y-%m-%d %H}h{ends}",
            *(str(count) for count in (*counts, coin.gap_hours, coin.silent_bars, coin.funding_missing)),
        )
    return table


def coverage_lines(coins: Sequence[CoinHours]) -> list[str]:
    """Coin by month, one character each: the share of the month's hours that a bar of any length covers."""
    held = monthly_hours(coins)
    months, share = held.months, held.share
    marks = np.select([share >= 1.0, share >= 0.5, share > 0.0], ["█", "▓", "░"], default="·")
    width = max(len(coin.coin) for coin in coins)
    return [
        f"{'':{width}}  {months[0]} to {months[-1]}: █ whole month  ▓ half or more  ░ less  · nothing",
        *(f"{coin.coin:{width}}  {''.join(marks[:, column])}" for column, coin in enumerate(coins)),
    ]


def write_page(status: Status, file: Path) -> None:
    """Draw the coverage as a page.

    Raises:
        UsageError: there are no bars to draw.
        SlipstreamError: the file cannot be written.
    """
    if not status.held.coins and not status.held.damaged:
        raise UsageError(f"{status.source}: no bars to draw")
    text = render_coverage(status.source, status.held, status.tables)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    except OSError as problem:
        raise SlipstreamError(f"{file}: cannot be written ({problem})") from problem


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
