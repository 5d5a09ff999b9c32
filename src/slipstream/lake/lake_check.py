"""What is wrong, and what is merely odd, in a whole lake: every part's checksum, then what the parts say.

Event logs are looked at part by part, so a year of books needs no more memory than its largest file.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl

from slipstream.core.panel import HOUR_MS
from slipstream.lake.alignment import dense
from slipstream.lake.datasets import BARS, DATASETS, FUNDING, INTERVAL_MS, TRADES, Dataset
from slipstream.lake.impossible import crossed, misplaced, of_the_future, unpriced
from slipstream.lake.integrity import Finding, Grade, bar_warnings, check, funding_warnings, in_order, unit_changes
from slipstream.lake.locate import existing, is_url
from slipstream.lake.panel_file import parse_panel_file
from slipstream.lake.parts import DamagedPart, Part, decode, period_label
from slipstream.lake.schema import (
    FUNDING_MEDIAN_BOUND_PER_HOUR,
    SETTLEMENT_RULES,
    bar_rules,
    violations,
)
from slipstream.lake.store import Lake

_STAMPS_FOR_A_UNIT = 100
"""Settlements of a coin in a month from which their median says something of the unit."""


def check_path(path: str | Path, *, now_ms: int | None = None) -> list[Finding]:
    """Findings of a lake or a panel file, errors first.

    Args:
        path: a lake's folder or URL, or a panel file.
        now_ms: the present, Unix ms; None: nothing is held to lie in the future.

    Raises:
        DataError: the data cannot be read as bars at all (absent, no lake, a column missing or of a wrong type).
    """
    if not is_url(path) and not existing(path).is_dir():
        return check(parse_panel_file(path))
    lake = Lake.open(path)
    found = list(_lost_logs(lake))
    whole: dict[str, list[Part]] = {}
    for dataset in lake.datasets():
        whole[dataset.name] = []
        for part in lake.parts(dataset):
            try:
                rows = decode(dataset, lake.place, part)
            except DamagedPart as problem:
                found.append(Finding("error", "checksum", "", None, f"{dataset.name}/{part.path}: {problem}"))
                continue
            whole[dataset.name].append(part)
            found += row_errors(dataset, part, rows, now_ms)
            found += repeated_deliveries(dataset, rows)
        if not dataset.log and dataset not in (BARS, FUNDING):
            series = lake.decoded(dataset, whole[dataset.name])
            found += _repeated(dataset, pl.concat([dataset.schema.to_frame(), *series]))
    found += _series(lake, whole.get(BARS.name, []), whole.get(FUNDING.name, []))
    errors = [finding for finding in found if finding.grade == "error"]
    return errors + in_order(finding for finding in found if finding.grade == "warning")


def _lost_logs(lake: Lake) -> Iterator[Finding]:
    """Parts that no table knows: of a log that was lost, or left by a writer that died before its commit."""
    for dataset in DATASETS.values():
        files = [name for name in lake.place.names(dataset.name) if name.endswith(".parquet") and "/_" not in name]
        if not files:
            continue
        if lake.table(dataset) is None:
            what = f"{len(files)} files of {dataset.name} lie there, but the table's log is gone; restore _delta_log"
            yield Finding("error", "log lost", "", None, what)
        elif not lake.parts(dataset):
            what = (
                f"{len(files)} files of {dataset.name} lie there and none is in force: a first load was cut short "
                "(load again), or the end of _delta_log is lost (restore it)"
            )
            yield Finding("warning", "nothing in force", "", None, what)


def row_errors(dataset: Dataset, part: Part, rows: pl.DataFrame, now_ms: int | None) -> list[Finding]:
    """Rows of a part that lie in the wrong partition or the future, and events that cannot be true."""
    found: list[Finding] = []
    values = tuple(value for _, value in part.values)
    strayed = rows.filter(misplaced(dataset, values))
    if strayed.height:
        periods = strayed.select(period_label(dataset)).to_series().unique().sort().to_list()
        what = f"{dataset.name}/{part.path}: {strayed.height} rows of {', '.join(periods)}, where readers do not look"
        found.append(Finding("error", "wrong partition", "", None, what))
    if now_ms is not None:
        found += _rows_of(dataset, "in the future", rows.filter(of_the_future(dataset, now_ms)), "{} rows after now")
    for fault, rule, what in (
        ("crossed book", crossed(dataset), "{} events with the best bid above the best ask"),
        ("impossible price", unpriced(dataset), "{} events with a price or size that is not a positive number"),
    ):
        if rule is not None:
            found += _rows_of(dataset, fault, rows.filter(rule), what)
    return found


def repeated_deliveries(dataset: Dataset, rows: pl.DataFrame) -> list[Finding]:
    """Trades that came more than once, as they do when a stream is taken up again; a replay plays them as they came."""
    if dataset != TRADES:
        return []
    twice = rows.filter(~pl.struct(dataset.key).is_first_distinct())
    return _rows_of(dataset, "repeated delivery", twice, "{} trades came more than once", grade="warning")


def damage(lake: Lake, dataset: Dataset, part: Part) -> str | None:
    """What is wrong with a part's file, or None."""
    try:
        decode(dataset, lake.place, part)
    except DamagedPart as problem:
        return str(problem)
    return None


def _series(lake: Lake, bar_parts: list[Part], funding_parts: list[Part]) -> Iterator[Finding]:
    settled = pl.concat([FUNDING.schema.to_frame(), *lake.decoded(FUNDING, funding_parts)]).sort("coin", "ts")
    yield from settlement_errors(settled)
    lengths = {dict(part.values)["base_interval"] for part in bar_parts}
    for unknown in sorted(lengths - set(INTERVAL_MS)):
        what = f"bars of {unknown} are of no length that is stored; {', '.join(INTERVAL_MS)} are"
        yield Finding("error", "unknown length", "", None, what)
    for interval in sorted(lengths & set(INTERVAL_MS), key=INTERVAL_MS.__getitem__):
        wanted = [part for part in bar_parts if dict(part.values)["base_interval"] == interval]
        bars = pl.concat(lake.decoded(BARS, wanted)).sort("coin", "ts", maintain_order=True)
        yield from bar_errors(bars, interval)
        usable = bars.unique(["coin", "ts"], keep="first").sort("coin", "ts")
        yield from bar_warnings(usable, INTERVAL_MS[interval])
        if interval == "1h":
            stamps = settled.unique(["coin", "ts"], keep="first").sort("coin", "ts")
            panel = dense([usable], [stamps]).panel
            yield from funding_warnings(panel, stamps)


def bar_errors(bars: pl.DataFrame, interval: str) -> list[Finding]:
    """Bars of one length that cannot be true; ordered by coin and time."""
    step_ms = INTERVAL_MS[interval]
    broken = violations(bars, bar_rules(step_ms))
    length = "" if step_ms == HOUR_MS else f" (bars of {interval})"
    wrong = [Finding("error", it.fault, it.coin, it.time_ms, it.describe_bar() + length) for it in broken]
    return wrong + unit_changes(bars.unique(["coin", "ts"], keep="first").sort("coin", "ts"), step_ms)


def settlement_errors(settled: pl.DataFrame) -> list[Finding]:
    """Settlements that cannot be true, and months in which a coin's rates must be in another unit."""
    rates = settled.select("coin", "ts", funding="rate")
    broken = violations(rates, SETTLEMENT_RULES)
    found = [Finding("error", it.fault, it.coin, it.time_ms, it.describe_bar()) for it in broken]
    month = pl.col("ts").dt.truncate("1mo")
    gap_hours = pl.col("ts").diff().dt.total_hours().median().fill_null(8).clip(1, 8)
    medians = rates.group_by("coin", month.alias("month"), maintain_order=True).agg(
        pl.col("ts").first(), median=(pl.col("funding").abs().median() / gap_hours), stamps=pl.len()
    )
    for row in medians.filter(
        (pl.col("median") > FUNDING_MEDIAN_BOUND_PER_HOUR) & (pl.col("stamps") >= _STAMPS_FOR_A_UNIT)
    ).iter_rows(named=True):
        what = (
            f"the median size of funding in {row['month']:%Y-%m} is {row['median']:.3g} per hour: the unit is likely "
            f"percent or basis points. Load it again: hl-load --coin {row['coin']} --refetch"
        )
        found.append(Finding("error", "unit change", row["coin"], int(row["ts"].timestamp() * 1000), what))
    return found


def _rows_of(dataset: Dataset, fault: str, rows: pl.DataFrame, what: str, *, grade: Grade = "error") -> list[Finding]:
    """One finding per coin that any of the rows is of (datasets without coins: one for all)."""
    if not rows.height:
        return []
    coin = pl.col("coin") if "coin" in dataset.names else pl.lit("").alias("coin")
    unit = 1_000_000 if dataset.schema[dataset.clock] == pl.Int64() else 1
    clock = pl.col(dataset.clock) if unit > 1 else pl.col(dataset.clock).dt.timestamp("ms")
    firsts = rows.select(coin, clock=clock).group_by("coin", maintain_order=True).agg(pl.col("clock").min(), n=pl.len())
    return [Finding(grade, fault, name, int(first) // unit, what.format(n)) for name, first, n in firsts.iter_rows()]


def _repeated(dataset: Dataset, rows: pl.DataFrame) -> Iterator[Finding]:
    twice = rows.filter(pl.struct(dataset.key).is_duplicated())
    firsts = twice.group_by("coin", maintain_order=True).agg(pl.col("ts").first().dt.timestamp("ms"), count=pl.len())
    for coin, moment_ms, count in firsts.iter_rows():
        yield Finding("error", "duplicate", coin, moment_ms, f"{count} rows of {dataset.name} share their key")
