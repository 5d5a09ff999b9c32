"""``slipstream data``: bring market data into the lake, look at it, check it, keep it in shape, hand it on."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from slipstream.errors import UsageError

if TYPE_CHECKING:
    from slipstream.lake.integrity import Finding

_SHOWN_FINDINGS = 60

data = App(name="data", help="Market data at rest: bring it in, look at it, check it, hand it on.")
data.command("slipstream.cli.load:pull", name="pull", help="Load candles and funding (as hl-load does).")
data.command("slipstream.cli.data_binance:binance", name="binance", help="Load candles and funding of Binance futures.")
data.command("slipstream.cli.data_s3:s3", name="s3", help="Backfill books, contexts and fills from the S3 archive.")
data.command(
    "slipstream.cli.data_record:record", name="record", help="Record live streams into CSV files and the lake."
)
data.command("slipstream.cli.data_record:replay", name="replay", help="Play a recording back as a stream of events.")

DataPath = Annotated[
    str, Parameter(name=("--lake", "--data"), help="A lake (folder or s3:// URL), or a panel file (.parquet or .csv).")
]
LakePath = Annotated[str, Parameter(name="--lake", help="A lake: a folder or an s3:// URL.")]
AsJson = Annotated[bool, Parameter(name="--json", negative="", help="Print JSON and nothing else.")]


@data.command(name="import")
def import_file(
    file: Annotated[Path, Parameter(help="A panel file, or the folder of a lake of the first release's form.")],
    *,
    lake: Annotated[str, Parameter(help="The lake's folder or s3:// URL; made if absent.")],
    json: AsJson = False,
) -> None:
    """Merge a panel file into a lake, all of it or nothing.

    The file has the columns ts, coin, open, high, low, close, volume, funding. Newer values win. The import is refused
    (exit 3) if it would lose rows, a coin's beginning or a recorded number.

    Example: slipstream data import candles.parquet --lake data/lake
    """
    from slipstream.cli.clock import wall_clock_ms
    from slipstream.core.panel import utc
    from slipstream.lake.panel_import import import_panel
    from slipstream.lake.store import Lake

    reports = import_panel(file, Lake.open(lake, create=True), now_ms=wall_clock_ms())
    if json:
        _print_json({"lake": lake, "commits": [asdict(report) for report in reports]})
        return
    for report in reports:
        firsts = [change.first_ms for change in report.coins.values() if change.first_ms is not None]
        lasts = [change.last_ms for change in report.coins.values() if change.last_ms is not None]
        where = f" from {utc(min(firsts)):%Y-%m-%d %H:%M} to {utc(max(lasts)):%Y-%m-%d %H:%M} UTC" if firsts else ""
        _say(
            f"{lake} {report.dataset}: {report.rows_before} -> {report.rows_after} rows of {len(report.coins)} coins"
            f"{where}, {report.changed} corrected; {report.files_written} files written, version {report.version}"
        )


@data.command
def status(
    *,
    data: DataPath,
    html: Annotated[Path | None, Parameter(help="Also draw the coverage, with every gap, as a page.")] = None,
    json: AsJson = False,
) -> int:
    """Show what is there: tables, coins, spans, gaps, missing settlements, and a map of coin by month.

    Bars of every length count. Exit 1 if files of bars or funding are damaged: they are named, and the rest is shown.

    Examples:
    slipstream data status --lake data/lake

    slipstream data status --lake data/lake --html out/coverage.html
    """
    from slipstream.cli.data_status import print_status, status_of, write_page

    found = status_of(data)
    if html is not None:
        write_page(found, html)
    if json:
        _print_json(found.for_programs())
    else:
        print_status(found)
    return found.exit_code


@data.command
def check(*, data: DataPath, json: AsJson = False) -> int:
    """Look for what is wrong (errors, exit 1) and what is odd (warnings, exit 0).

    Errors are damaged files, duplicates, impossible candles, crossed books, funding above the venue's cap and changes
    of unit. Warnings are gaps, hours without trades, stale prices, missing settlements, large moves, candles filled in
    from before a listing, and coins that end early.

    Example: slipstream data check --lake data/lake
    """
    from slipstream.cli.clock import wall_clock_ms
    from slipstream.lake.lake_check import check_path

    found = check_path(data, now_ms=wall_clock_ms())
    errors = sum(finding.grade == "error" for finding in found)
    if json:
        warnings = len(found) - errors
        _print_json({"errors": errors, "warnings": warnings, "findings": [asdict(finding) for finding in found]})
    else:
        _print_findings(found, errors, data)
    return 1 if errors else 0


@data.command
def compact(
    *,
    lake: LakePath,
    retention_hours: Annotated[int, Parameter(help="Age from which files no table needs are removed.")] = 168,
    json: AsJson = False,
) -> None:
    """Join small files and remove those that no table has needed for a week. No value changes.

    Example: slipstream data compact --lake data/lake
    """
    from slipstream.cli.clock import wall_clock_ms
    from slipstream.lake.store import Lake
    from slipstream.lake.upkeep import RETENTION_HOURS, vacuum
    from slipstream.lake.upkeep import compact as join

    if retention_hours < RETENTION_HOURS:
        raise UsageError(
            f"--retention-hours {retention_hours}: a reader or a writer at work may need files for {RETENTION_HOURS} h"
        )
    opened = Lake.open(lake)
    done = []
    with opened.lock():
        for dataset in opened.datasets():
            result = join(opened, dataset)
            removed = vacuum(opened, dataset, now_ms=wall_clock_ms(), retention_hours=retention_hours)
            done.append({**asdict(result), "files_removed": removed})
            if not json:
                _say(
                    f"{lake} {dataset.name}: {result.parts_before} -> {result.parts_after} files, "
                    f"{result.bytes_before / 1e6:.1f} -> {result.bytes_after / 1e6:.1f} MB; {removed} old files removed"
                )
    if json:
        _print_json({"lake": lake, "datasets": done})


@data.command
def repair(
    *,
    lake: LakePath,
    apply: Annotated[
        bool, Parameter(negative="", help="Do it; without this flag only say what would be done.")
    ] = False,
    json: AsJson = False,
) -> int:
    """Bring back damaged files from earlier copies, and take out rows that cannot be true. Nothing is thrown away.

    Damaged files and rows taken out are kept under _quarantine. Exit 1 if rows are lost that no copy holds, if what was
    brought back may be out of date, or if errors are left that only loading again can mend: each is named.

    Example: slipstream data repair --lake data/lake --apply
    """
    from contextlib import nullcontext

    from slipstream.cli.clock import wall_clock_ms
    from slipstream.lake.lake_check import check_path
    from slipstream.lake.repair import repair as mend
    from slipstream.lake.store import Lake

    opened, now_ms = Lake.open(lake), wall_clock_ms()
    with opened.lock() if apply else nullcontext():
        mends = [done for dataset in opened.datasets() for done in mend(opened, dataset, apply=apply, now_ms=now_ms)]
    left = [finding for finding in check_path(lake, now_ms=now_ms) if finding.grade == "error"] if apply else []
    short = [done for done in mends if done.lost is None or done.lost > 0 or done.outdated]
    code = 1 if short or left else 0
    if json:
        _print_json(
            {
                "lake": lake,
                "applied": apply,
                "mends": [asdict(done) for done in mends],
                "errors_left": [asdict(finding) for finding in left],
            }
        )
        return code
    verb = "did" if apply else "would"
    for done in mends:
        unknown = "an unknown number" if done.lost is None else done.lost
        _say(
            f"{verb}: {done.dataset}/{done.partition}: {len(done.damaged)} damaged files; {done.recovered} rows "
            f"recovered, {unknown} lost, {done.removed} taken out"
        )
        if done.outdated:
            _say("  the recovered rows are from before a correction: their values may be the old ones")
    for done in short:
        _say(
            f"load {done.dataset}/{done.partition} again, such as by: hl-load --all --lake {lake} --refetch --start ..."
        )
    for finding in left:
        _say(f"not mended: {finding.fault} {finding.coin}: {finding.what}")
    if not mends:
        _say(f"{lake}: nothing to mend")
    elif not apply:
        _say("nothing was changed; do it with --apply")
    return code


@data.command
def export(
    *,
    data: DataPath = "data/lake",
    interval: Annotated[str, Parameter(help="Bar length, such as 15m, 1h, 4h or 1d.")] = "4h",
    out: Annotated[Path, Parameter(help="Folder of the CSV files; made if absent.")] = Path("data/market_data"),
    trust_files: Annotated[
        bool, Parameter(negative="", help="Merge into files that differ from their checksum.")
    ] = False,
) -> int:
    """Write CSV files: per coin candles, funding and both merged; and wide ones, one column per coin.

    Example: slipstream data export --lake data/lake --interval 4h --out data/market_data
    """
    from slipstream.cli.clock import wall_clock_ms
    from slipstream.cli.data_export import export_to

    return export_to(data, interval, out, now_ms=wall_clock_ms(), trust_files=trust_files)


def _print_findings(found: list[Finding], errors: int, path: str) -> None:
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
