"""What is wrong, and what is merely odd, in a set of bars.

An *error* is a row that cannot be true and would make a result wrong: the rules of :mod:`slipstream.lake.schema`. A
*warning* is something a real market does produce (a crash of 77 % in an hour, a coin nobody trades, a delisting), or
data that is not there; a person should have seen it before trusting a figure that rests on it. Nothing is repaired.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl

from slipstream.core.panel import HOUR_MS, Panel, utc
from slipstream.lake.alignment import dense
from slipstream.lake.schema import funding_unit_problem, violations

LARGE_MOVE = 0.5
"""Change of the close within an hour, as a fraction, from which it is worth a look."""

SILENT_RUN_HOURS = 24
"""Hours in a row without a trade that are worth a look."""

STALE_RUN_BARS = 6
"""Bars in a row in which a coin trades and its price does not move at all."""

UNIT_CHANGE_GAP_MS = 30 * 24 * HOUR_MS
"""Longest gap over which two prices are still compared for a change of unit."""

UNIT_CHANGE = 10.0
"""Factor between a close and the next open from which the unit must have changed."""

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


def check(frame: pl.DataFrame) -> list[Finding]:
    """Findings of a panel file's rows, errors first, each group by coin and time."""
    errors = [
        Finding("error", broken.fault, broken.coin, broken.time_ms, broken.describe()) for broken in violations(frame)
    ]
    unit = funding_unit_problem(frame)
    if unit is not None:
        errors.append(Finding("error", "funding unit", "", None, unit))
    usable = frame.drop_nulls(["ts", "coin"]).unique(["coin", "ts"], keep="first").sort("coin", "ts")
    stamps = usable.filter(pl.col("funding").is_not_null()).select("coin", "ts", rate="funding")
    panel = dense([usable], [stamps]).panel
    odd = [*bar_warnings(usable, HOUR_MS), *funding_warnings(panel, stamps)]
    return errors + unit_changes(usable, HOUR_MS) + in_order(odd)


def in_order(findings: Iterable[Finding]) -> list[Finding]:
    """Findings by coin, then time."""
    return sorted(findings, key=lambda finding: (finding.coin, finding.time_ms or 0, finding.fault))


def bar_warnings(frame: pl.DataFrame, step_ms: int) -> Iterator[Finding]:
    """What is odd in bars of one length.

    Args:
        frame: coin, ts, open, high, low, close, volume, ordered by coin and time, one row per time.
        step_ms: length of a bar, ms.
    """
    yield from _pre_listing(frame)
    yield from _gaps(frame, step_ms)
    yield from _silent_runs(frame, step_ms)
    yield from _stale_runs(frame, step_ms)
    yield from _large_moves(frame, step_ms)
    yield from _early_ends(frame, step_ms)


def unit_changes(frame: pl.DataFrame, step_ms: int) -> list[Finding]:
    """Where a coin's prices jump from one bar to the next by so much that the unit must have changed.

    A crash moves within a bar; a bar that opens ten times above or below the close before it, also over a gap of some
    days, was quoted in another unit, such as a coin against a thousand of it.
    """
    near = pl.col("ts").diff().over("coin").dt.total_milliseconds() <= max(step_ms, UNIT_CHANGE_GAP_MS)
    factor = (pl.col("open") / pl.col("close").shift().over("coin")).alias("amount")
    jump = (pl.col("amount") >= UNIT_CHANGE) | (pl.col("amount") <= 1.0 / UNIT_CHANGE)
    rows = frame.with_columns(factor).filter(near & jump & pl.col("amount").is_finite() & (pl.col("amount") > 0.0))
    what = (
        "opens at {:.4g} times the close before it: the unit of the price has changed. Load it again: "
        "hl-load --coin {} --refetch"
    )
    return [
        Finding("error", "unit change", coin, moment_ms, what.format(amount, coin))
        for coin, moment_ms, amount in _amounts(rows)
    ]


def _amounts(rows: pl.DataFrame) -> Iterator[tuple[str, int, float]]:
    yield from rows.select("coin", pl.col("ts").dt.timestamp("ms"), "amount").iter_rows()


def _warnings(fault: str, rows: pl.DataFrame, what: str) -> Iterator[Finding]:
    """One warning per row of (coin, ts, amount); ``what`` is a format of the amount."""
    for coin, moment_ms, amount in _amounts(rows):
        yield Finding("warning", fault, coin, moment_ms, what.format(amount))


def _pre_listing(frame: pl.DataFrame) -> Iterator[Finding]:
    flat = (pl.col("open") == pl.col("close")) & (pl.col("high") == pl.col("low")) & (pl.col("volume") == 0.0)
    before = (flat.fill_null(value=False)).cum_min().over("coin")
    rows = frame.filter(before).group_by("coin", maintain_order=True).agg(pl.col("ts").min(), amount=pl.len())
    return _warnings("pre-listing", rows, "{} flat bars without volume before the first trade; readers leave them out")


def _gaps(frame: pl.DataFrame, step_ms: int) -> Iterator[Finding]:
    gap = pl.col("ts").diff().over("coin").dt.total_milliseconds() // step_ms - 1
    begins = pl.col("ts") - pl.duration(milliseconds=gap * step_ms)
    rows = frame.with_columns(amount=gap, ts=begins).filter(pl.col("amount") > 0)
    return _warnings("gap", rows, f"{{}} {_bars(step_ms)} without a candle")


def _bars(step_ms: int) -> str:
    return "hours" if step_ms == HOUR_MS else f"bars of {step_ms // 60_000} minutes"


def _runs(frame: pl.DataFrame, inside: pl.Expr, at_least: int) -> pl.DataFrame:
    """(coin, ts, amount): beginning and length of every run of consecutive rows with ``inside`` true."""
    marked = frame.select("coin", "ts", inside=inside.fill_null(False))
    run = pl.struct("coin", "inside").rle_id().alias("run")
    runs = marked.with_columns(run).filter(pl.col("inside")).group_by("run", maintain_order=True)
    return runs.agg(pl.col("coin", "ts").first(), amount=pl.len()).filter(pl.col("amount") >= at_least)


def _silent_runs(frame: pl.DataFrame, step_ms: int) -> Iterator[Finding]:
    runs = _runs(frame, pl.col("volume") == 0.0, 1)
    long = pl.col("amount") >= max(1, SILENT_RUN_HOURS * HOUR_MS // step_ms)
    yield from _warnings("no trades", runs.filter(long), f"{{}} {_bars(step_ms)} in a row without a trade")
    short = runs.filter(~long).group_by("coin", maintain_order=True).agg(pl.col("ts").first(), pl.col("amount").sum())
    yield from _warnings("zero volume", short, f"{{}} single {_bars(step_ms)} without a trade")


def _stale_runs(frame: pl.DataFrame, step_ms: int) -> Iterator[Finding]:
    flat = (pl.col("high") == pl.col("low")) & (pl.col("close") == pl.col("close").shift().over("coin"))
    rows = _runs(frame, flat & (pl.col("volume") > 0.0), STALE_RUN_BARS)
    return _warnings("stale price", rows, f"{{}} {_bars(step_ms)} in a row with trades and not one change of price")


def _large_moves(frame: pl.DataFrame, step_ms: int) -> Iterator[Finding]:
    adjacent = pl.col("ts").diff().over("coin").dt.total_milliseconds() == step_ms
    move = (pl.col("close") / pl.col("close").shift().over("coin") - 1.0).alias("amount")
    rows = frame.with_columns(move).filter(adjacent & (pl.col("amount").abs() > LARGE_MOVE))
    within = "hour" if step_ms == HOUR_MS else "bar"
    return _warnings("large move", rows, f"the close moves by {{:+.0%}} within the {within}")


def funding_warnings(panel: Panel, stamps: pl.DataFrame) -> Iterator[Finding]:
    """Settlements due and not recorded, one warning per hole between two recorded stamps.

    The one stamped at the close of a coin's last bar is left out: it may not have been published when the bar was.

    Args:
        panel: hourly.
        stamps: coin and ts of the settlements recorded, ordered by both.
    """
    groups = stamps.partition_by("coin", as_dict=True)
    moments = {coin: rows["ts"].dt.timestamp("ms").to_numpy() for (coin,), rows in groups.items()}
    for column, coin in enumerate(panel.coins):
        bars = np.flatnonzero(~np.isnan(panel.close[:, column]))
        missing = panel.known_at_ms[: bars[-1]][panel.funding_missing[: bars[-1], column]]
        recorded = moments.get(coin)
        if recorded is None:
            first = int(panel.known_at_ms[bars[0]]) - HOUR_MS
            yield Finding("warning", "no funding", coin, first, "not one settlement is recorded; funding counts as 0")
            continue
        holes = np.searchsorted(recorded, missing)
        for hole in np.unique(holes):
            times = missing[holes == hole]
            what = (
                f"{len(times)} settlements due and not recorded, the last at {utc(int(times[-1])):%Y-%m-%d %H:%M} UTC"
            )
            yield Finding("warning", "missing funding", coin, int(times[0]), what)


def _early_ends(frame: pl.DataFrame, step_ms: int) -> Iterator[Finding]:
    behind = (pl.col("ts").max() - pl.col("ts")).dt.total_milliseconds() // step_ms
    rows = frame.group_by("coin").agg(pl.col("ts").max()).with_columns(amount=behind).filter(pl.col("amount") > 0)
    return _warnings("ends early", rows, f"the last candle; the data goes on for {{}} {_bars(step_ms)}")
