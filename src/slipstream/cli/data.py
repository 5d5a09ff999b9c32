"""``slipstream data``: bring bars into the lake, look at them, check them, hand them on."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from slipstream.errors import SlipstreamError, UsageError

if TYPE_CHECKING:
    from slipstream.core.coverage import CoinCoverage
    from slipstream.core.panel import Panel
    from slipstream.lake.integrity import Finding

_SHOWN_FINDINGS = 60

data = App(name="data", help="Market data at rest: import, status, check, export.")

DataPath = Annotated[Path, Parameter(name="--data", help="A lake directory, or a panel file (.parquet or .csv).")]
AsJson = Annotated[bool, Parameter(name="--json", negative="", help="Print JSON and nothing else.")]


@data.command(name="import")
def import_file(
    file: Annotated[Path, Parameter(help="A panel file: ts, coin, open, high, low, close, volume, funding.")],
    *,
    lake: Annotated[Path, Parameter(help="The lake directory; made if absent.")],
) -> None:
    """Merge a panel file into a lake, all of it or nothing.

    Newer values win. The import is refused (exit 3) if it would lose rows, a coin's beginning or a recorded number.

    Example: slipstream data import candles.parquet --lake data/lake
    """
    from slipstream.cli.clock import wall_clock_ms
    from slipstream.core.panel import utc
    from slipstream.lake import known_by
    from slipstream.lake.panel_file import read_panel_file
    from slipstream.lake.store import refresh

    frame = known_by(read_panel_file(file), wall_clock_ms(), file)
    report = refresh(lake, frame)
    span = f"{utc(report.first_ms):%Y-%m-%d %H:%M} to {utc(report.last_ms):%Y-%m-%d %H:%M} UTC"
    _say(
        f"{lake}: {report.rows_before} -> {report.rows_after} rows, {report.changed} corrected, candles from {span}; "
        f"{len(report.months_written)} months written, commit {report.commit}"
    )


@data.command
def status(*, data: DataPath, json: AsJson = False) -> None:
    """Show what is there: coins, spans, gaps, missing settlements, and a map of coin by month.

    Example: slipstream data status --data data/lake
    """
    from slipstream.core.coverage import coverage
    from slipstream.lake import load_frame
    from slipstream.lake.alignment import align

    aligned = align(load_frame(data), source=data.name)
    coins = coverage(aligned.panel)
    if json:
        _print_json(
            {
                "source": aligned.panel.source,
                "rows": aligned.panel.rows,
                "coins": [asdict(coin) for coin in coins],
                "pre_listing_rows_dropped": aligned.pre_listing,
            }
        )
        return
    _print_status(aligned.panel, coins, aligned.pre_listing)


@data.command
def check(*, data: DataPath, json: AsJson = False) -> int:
    """Look for what is wrong (errors, exit 1) and what is odd (warnings, exit 0).

    Example: slipstream data check --data candles.parquet
    """
    from slipstream.lake.integrity import check_path

    found = check_path(data)
    errors = sum(finding.grade == "error" for finding in found)
    if json:
        warnings = len(found) - errors
        _print_json({"errors": errors, "warnings": warnings, "findings": [asdict(finding) for finding in found]})
    else:
        _print_findings(found, errors, data)
    return 1 if errors else 0


@data.command
def export(
    *,
    data: DataPath,
    interval: Annotated[str, Parameter(help="Bar length, such as 1h, 4h or 1d.")] = "4h",
    out: Annotated[Path, Parameter(help="Folder of the CSV files; made if absent.")] = Path("data/market_data"),
) -> None:
    """Write log returns, funding sums and USD volume as wide CSV files, one column per coin.

    Example: slipstream data export --data data/lake --interval 4h --out data/market_data
    """
    from slipstream.core.bars import resample
    from slipstream.lake import load_panel
    from slipstream.lake.export import export_csv

    hours = _hours(interval)
    panel = resample(load_panel(data), hours)
    try:
        files = export_csv(panel, out, interval)
    except OSError as problem:
        raise SlipstreamError(f"{out}: cannot be written ({problem})") from problem
    for file in files:
        _say(f"{file}: {panel.rows} rows, {len(panel.coins)} coins")


def _hours(interval: str) -> int:
    match = re.fullmatch(r"([1-9]\d*)([hd])", interval)
    if match is None:
        raise UsageError(f"--interval {interval}: write a number of hours or days, such as 1h, 4h or 1d")
    return int(match[1]) * (24 if match[2] == "d" else 1)


def _print_status(panel: Panel, coins: tuple[CoinCoverage, ...], pre_listing: dict[str, int]) -> None:
    from rich.console import Console
    from rich.table import Table

    from slipstream.core.panel import utc

    bars = sum(coin.bars for coin in coins)
    first, last = min(coin.first_ms for coin in coins), max(coin.last_ms for coin in coins)
    span = f"{utc(first):%Y-%m-%d %H:%M} to {utc(last):%Y-%m-%d %H:%M} UTC"
    table = Table(title=f"{panel.source}: {len(coins)} coins, {bars} hourly bars, known {span}")
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
    console = Console()
    console.print(table)
    _say("* ends before the rest; silent: hours without a trade; funding missing: settlements due and not recorded,")
    _say("  of which each coin's last close is one, because a file holds no row for it")
    for name, count in pre_listing.items():
        _say(f"{name}: {count} candles from before its first trade left out")
    _say("")
    for line in _coverage_map(panel):
        _say(line)


def _coverage_map(panel: Panel) -> list[str]:
    """Coin by month, one character each: the share of the month's hours that have a bar."""
    import numpy as np

    from slipstream.core.panel import HOUR_MS

    opens = (panel.known_at_ms - panel.bar_hours * HOUR_MS).astype("datetime64[ms]")
    months, begin = np.unique(opens.astype("datetime64[M]"), return_index=True)
    hours = ((months + 1).astype("datetime64[h]") - months.astype("datetime64[h]")).astype(np.int64)
    bars = np.add.reduceat(~np.isnan(panel.close), begin, axis=0, dtype=np.int64)
    share = bars / (hours[:, None] / panel.bar_hours)
    marks = np.select([share >= 1.0, share >= 0.5, share > 0.0], ["█", "▓", "░"], default="·")
    width = max(len(coin) for coin in panel.coins)
    return [
        f"{'':{width}}  {months[0]} to {months[-1]}: █ whole month  ▓ half or more  ░ less  · nothing",
        *(f"{coin:{width}}  {''.join(marks[:, column])}" for column, coin in enumerate(panel.coins)),
    ]


def _print_findings(found: list[Finding], errors: int, path: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    from slipstream.core.panel import utc

    warnings = len(found) - errors
    if found:
        table = Table()
        for name in ("grade", "fault", "coin", "from (UTC)", "what"):
            table.add_column(name, overflow="fold")
        for finding in found[:_SHOWN_FINDINGS]:
            when = "" if finding.time_ms is None else f"{utc(finding.time_ms):%Y-%m-%d %H:%M}"
            table.add_row(finding.grade, finding.fault, finding.coin, when, finding.what)
        Console().print(table)
    if len(found) > _SHOWN_FINDINGS:
        _say(f"{len(found) - _SHOWN_FINDINGS} more; --json lists all")
    _say(f"{path}: {errors} errors, {warnings} warnings")


def _print_json(body: object) -> None:
    _say(json.dumps(body, indent=2))


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
