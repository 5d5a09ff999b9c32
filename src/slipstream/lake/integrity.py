"""What is wrong, and what is merely odd, in a set of bars.

An *error* is a row that cannot be true and would make a result wrong: the rules of :mod:`slipstream.lake.schema`. A
*warning* is something a real market does produce (a crash of 77 % in an hour, a coin nobody trades, a delisting), or
data that is not there; a person should have seen it before trusting a figure that rests on it. Nothing is repaired.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl

from slipstream.core.panel import HOUR_MS, utc
from slipstream.lake.alignment import align
from slipstream.lake.locate import existing
from slipstream.lake.panel_file import parse_panel_file
from slipstream.lake.schema import funding_unit_problem, violations
from slipstream.lake.store import damaged_parts, read_manifest, read_parts

LARGE_MOVE = 0.5
"""Change of the close within an hour, as a fraction, from which it is worth a look."""

SILENT_RUN_HOURS = 24
"""Hours in a row without a trade that are worth a look."""

STALE_RUN_HOURS = 6
"""Hours in a row in which a coin trades and its price does not move at all."""

Grade = Literal["error", "warning"]


@dataclass(frozen=True)
class Finding:
    """One observation: what, of which coin, from when on.

    Attributes:
        grade: ``error`` or ``warning``.
        fault: short name of the kind.
        coin: case-sensitive name; empty if it concerns the whole data set.
        time_ms: open of the first candle concerned, or the stamp of the first missing settlement, Unix ms.
        what: one line.
    """

    grade: Grade
    fault: str
    coin: str
    time_ms: int | None
    what: str


def check_path(path: str | Path) -> list[Finding]:
    """Findings of a lake directory (checksums included) or a panel file, errors first.

    Raises:
        DataError: the data cannot be read as bars at all (absent, no lake, a column missing or of a wrong type).
    """
    place = existing(path)
    if not place.is_dir():
        return check(parse_panel_file(place))
    manifest = read_manifest(place)
    damaged = dict(damaged_parts(place, manifest))
    whole = [part for part in manifest.parts if part.file not in damaged]
    found = [Finding("error", "checksum", "", None, f"{file}: {problem}") for file, problem in damaged.items()]
    return found + check(read_parts(place, whole))


def check(frame: pl.DataFrame) -> list[Finding]:
    """Findings of a frame with the schema's columns and types, errors first, each group by coin and time."""
    errors = [
        Finding("error", broken.fault, broken.coin, broken.time_ms, broken.describe()) for broken in violations(frame)
    ]
    unit = funding_unit_problem(frame)
    if unit is not None:
        errors.append(Finding("error", "funding unit", "", None, unit))
    usable = frame.drop_nulls(["ts", "coin"]).unique(["coin", "ts"], keep="first").sort("coin", "ts")
    warnings = [
        *_gaps(usable),
        *_silent_runs(usable),
        *_stale_runs(usable),
        *_large_moves(usable),
        *_missing_funding(usable),
        *_early_ends(usable),
    ]
    return errors + sorted(warnings, key=lambda finding: (finding.coin, finding.time_ms or 0, finding.fault))


def _warnings(fault: str, rows: pl.DataFrame, what: str) -> Iterator[Finding]:
    """One warning per row of (coin, ts, amount); ``what`` is a format of the amount."""
    for coin, moment_ms, amount in rows.select("coin", pl.col("ts").dt.timestamp("ms"), "amount").iter_rows():
        yield Finding("warning", fault, coin, moment_ms, what.format(amount))


def _gaps(frame: pl.DataFrame) -> Iterator[Finding]:
    gap = pl.col("ts").diff().over("coin").dt.total_hours() - 1
    rows = frame.with_columns(amount=gap, ts=pl.col("ts") - pl.duration(hours=gap)).filter(pl.col("amount") > 0)
    return _warnings("gap", rows, "{} hours without a candle")


def _runs(frame: pl.DataFrame, inside: pl.Expr, at_least: int) -> pl.DataFrame:
    """(coin, ts, amount): beginning and length of every run of consecutive rows with ``inside`` true."""
    marked = frame.select("coin", "ts", inside=inside.fill_null(False))
    run = pl.struct("coin", "inside").rle_id().alias("run")
    runs = marked.with_columns(run).filter(pl.col("inside")).group_by("run", maintain_order=True)
    return runs.agg(pl.col("coin", "ts").first(), amount=pl.len()).filter(pl.col("amount") >= at_least)


def _silent_runs(frame: pl.DataFrame) -> Iterator[Finding]:
    rows = _runs(frame, pl.col("volume") == 0.0, SILENT_RUN_HOURS)
    return _warnings("no trades", rows, "{} hours in a row without a trade")


def _stale_runs(frame: pl.DataFrame) -> Iterator[Finding]:
    flat = (pl.col("high") == pl.col("low")) & (pl.col("close") == pl.col("close").shift().over("coin"))
    rows = _runs(frame, flat & (pl.col("volume") > 0.0), STALE_RUN_HOURS)
    return _warnings("stale price", rows, "{} hours in a row with trades and not one change of price")


def _large_moves(frame: pl.DataFrame) -> Iterator[Finding]:
    adjacent = pl.col("ts").diff().over("coin").dt.total_hours() == 1
    move = (pl.col("close") / pl.col("close").shift().over("coin") - 1.0).alias("amount")
    rows = frame.with_columns(move).filter(adjacent & (pl.col("amount").abs() > LARGE_MOVE))
    return _warnings("large move", rows, "the close moves by {:+.0%} within the hour")


def _missing_funding(frame: pl.DataFrame) -> Iterator[Finding]:
    """Settlements due and not recorded, one warning per hole between two recorded stamps.

    The one stamped at the close of a coin's last bar is left out: no row of that time exists to hold it.
    """
    panel = align(frame).panel
    stamps = frame.filter(pl.col("funding").is_not_null())
    for column, coin in enumerate(panel.coins):
        bars = np.flatnonzero(~np.isnan(panel.close[:, column]))
        missing = panel.known_at_ms[: bars[-1]][panel.funding_missing[: bars[-1], column]]
        recorded = stamps.filter(pl.col("coin") == coin)["ts"].dt.timestamp("ms").to_numpy()
        if not len(recorded):
            first = int(panel.known_at_ms[bars[0]]) - HOUR_MS
            yield Finding("warning", "no funding", coin, first, "not one settlement is recorded; funding counts as 0")
        holes = np.searchsorted(recorded, missing)
        for hole in np.unique(holes):
            times = missing[holes == hole]
            what = (
                f"{len(times)} settlements due and not recorded, the last at {utc(int(times[-1])):%Y-%m-%d %H:%M} UTC"
            )
            yield Finding("warning", "missing funding", coin, int(times[0]), what)


def _early_ends(frame: pl.DataFrame) -> Iterator[Finding]:
    behind = (pl.col("ts").max() - pl.col("ts")).dt.total_hours()
    rows = frame.group_by("coin").agg(pl.col("ts").max()).with_columns(amount=behind).filter(pl.col("amount") > 0)
    return _warnings("ends early", rows, "the last candle; the data goes on for {} hours")
