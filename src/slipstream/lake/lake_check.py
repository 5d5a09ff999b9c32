"""What is wrong, and what is merely odd, in a whole lake: every part's checksum, then what the parts say.

Event logs are looked at part by part, so a year of books needs no more memory than its largest file.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl

from slipstream.core.panel import HOUR_MS
from slipstream.errors import DataError
from slipstream.lake.alignment import dense
from slipstream.lake.datasets import BARS, BOOKS, FUNDING, INTERVAL_MS, QUOTES, Dataset
from slipstream.lake.integrity import Finding, bar_warnings, check, funding_warnings, in_order, unit_changes
from slipstream.lake.locate import existing, is_url
from slipstream.lake.panel_file import parse_panel_file
from slipstream.lake.parts import DamagedPart, Part, decode
from slipstream.lake.schema import (
    FUNDING_MEDIAN_BOUND_PER_HOUR,
    SETTLEMENT_RULES,
    bar_rules,
    violations,
)
from slipstream.lake.store import Lake

_STAMPS_FOR_A_UNIT = 100
"""Settlements of a coin in a month from which their median says something of the unit."""


def check_path(path: str | Path) -> list[Finding]:
    """Findings of a lake or a panel file, errors first.

    Raises:
        DataError: the data cannot be read as bars at all (absent, no lake, a column missing or of a wrong type).
    """
    if not is_url(path) and not existing(path).is_dir():
        return check(parse_panel_file(path))
    lake = Lake.open(path)
    held = lake.datasets()
    if not held:
        raise DataError(f"{path}: not a lake; nothing of that name holds a table")
    found: list[Finding] = []
    whole: dict[str, list[Part]] = {}
    for dataset in held:
        whole[dataset.name] = []
        for part in lake.parts(dataset):
            problem = damage(lake, dataset, part)
            if problem is None:
                whole[dataset.name].append(part)
            else:
                found.append(Finding("error", "checksum", "", None, f"{dataset.name}/{part.path}: {problem}"))
        if dataset.log:
            for part in whole[dataset.name]:
                found += log_errors(dataset, decode(dataset, lake.place, part))
        elif dataset not in (BARS, FUNDING):
            found += _repeated(
                dataset, pl.concat([dataset.schema.to_frame(), *lake.decoded(dataset, whole[dataset.name])])
            )
    found += _series(lake, whole.get(BARS.name, []), whole.get(FUNDING.name, []))
    errors = [finding for finding in found if finding.grade == "error"]
    return errors + in_order(finding for finding in found if finding.grade == "warning")


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
    intervals = sorted({dict(part.values)["base_interval"] for part in bar_parts}, key=INTERVAL_MS.__getitem__)
    for interval in intervals:
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
            "percent or basis points. Download the coin's funding again."
        )
        found.append(Finding("error", "unit change", row["coin"], int(row["ts"].timestamp() * 1000), what))
    return found


def log_errors(dataset: Dataset, rows: pl.DataFrame) -> list[Finding]:
    """Events that cannot be true: crossed or impossible quotes and books."""
    if dataset == QUOTES:
        bid, ask = pl.col("bid"), pl.col("ask")
    elif dataset == BOOKS:
        bid, ask = pl.col("bid_px").list.first(), pl.col("ask_px").list.first()
    else:
        return []
    crossed = rows.filter((bid > ask).fill_null(value=False))
    impossible = rows.filter(((bid <= 0.0) | (ask <= 0.0) | ~bid.is_finite() | ~ask.is_finite()).fill_null(value=False))
    return [
        *_events("crossed book", crossed, "{} events with the best bid above the best ask"),
        *_events("impossible price", impossible, "{} events with a price that is not a positive number"),
    ]


def _events(fault: str, rows: pl.DataFrame, what: str) -> Iterator[Finding]:
    moments = rows.group_by("coin", maintain_order=True).agg(pl.col("received_ns").first(), count=pl.len())
    for coin, received_ns, count in moments.iter_rows():
        yield Finding("error", fault, coin, received_ns // 1_000_000, what.format(count))


def _repeated(dataset: Dataset, rows: pl.DataFrame) -> Iterator[Finding]:
    twice = rows.filter(pl.struct(dataset.key).is_duplicated())
    firsts = twice.group_by("coin", maintain_order=True).agg(pl.col("ts").first().dt.timestamp("ms"), count=pl.len())
    for coin, moment_ms, count in firsts.iter_rows():
        yield Finding("error", "duplicate", coin, moment_ms, f"{count} rows of {dataset.name} share their key")
