"""Runs in a process of its own: forks four writers into one lake that begin at once. See ``test_lake_writers.py``.

    lake_racers.py write LAKE [ROUNDS]  all four refresh bars and append quotes
    lake_racers.py compact LAKE         the first compacts and vacuums until the others have appended all their quotes

Says per writer how many commits it put in force and how many were refused because another came first.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import deltalake  # noqa: F401 - imported once for all children
import polars as pl
from lake_samples import NOW_MS, SPRING, quotes

from slipstream.lake.datasets import BARS, QUOTES, Dataset
from slipstream.lake.refresh import Refresh
from slipstream.lake.store import Lake
from slipstream.lake.upkeep import compact, vacuum

WRITERS, ROUNDS, HOURS = 4, 6, 8


class Counting(Lake):
    """A lake that counts its commits."""

    done = refused = 0

    def commit(self, dataset: Dataset, table: object, refresh: Refresh) -> int | None:
        version = super().commit(dataset, table, refresh)  # type: ignore[arg-type]
        if version is None:
            self.refused += 1
        else:
            self.done += 1
        return version


def bars(coin: str, first_hour: int, number: float) -> pl.DataFrame:
    """``HOURS`` hourly bars of which the volume is ``number``."""
    ts = pl.Series([SPRING], dtype=BARS.schema["ts"]).dt.offset_by("0h")
    rows = pl.DataFrame({"hour": range(first_hour, first_hour + HOURS)}).with_columns(
        coin=pl.lit(coin),
        ts=pl.lit(ts[0]).dt.cast_time_unit("ms") + pl.duration(hours="hour"),
        base_interval=pl.lit("1h"),
    )
    prices = {name: pl.lit(100.0) for name in ("open", "high", "low", "close")}
    return rows.with_columns(**prices, volume=pl.lit(number)).select(BARS.names).cast(dict(BARS.schema))


def rounds_of(writer: int, rounds: int = ROUNDS) -> list[tuple[pl.DataFrame, pl.DataFrame]]:
    """What a writer writes, round by round: bars to merge and quotes to append."""
    out = []
    for turn in range(rounds):
        number = float(ROUNDS * writer + turn)
        own = bars(f"W{writer}", HOURS * turn, number)
        apart = bars("ALL", 24 + HOURS * (ROUNDS * writer + turn), number)
        common = bars("ALL", 0, number)
        out.append((pl.concat([own, apart, common]), quotes(1000 * writer + 10 * turn, 10, f"W{writer}")))
    return out


def everything(writers: Sequence[int] = range(WRITERS), rounds: int = ROUNDS) -> tuple[pl.DataFrame, pl.DataFrame]:
    """All bars, the last writer's where several write the same, and all quotes, each in the order of the key."""
    written = [turn for writer in writers for turn in rounds_of(writer, rounds)]
    series = pl.concat(rows for rows, _ in written).unique(list(BARS.key), keep="last").sort(BARS.key)
    return series, pl.concat(rows for _, rows in written).sort(QUOTES.key)


def work(kind: str, writer: int, lake: Lake, rounds: int) -> None:
    if kind == "compact" and writer == 0:
        while lake.read(QUOTES).height < everything(range(1, WRITERS))[1].height or len(lake.parts(QUOTES)) > 1:
            compact(lake, QUOTES)
            vacuum(lake, QUOTES, now_ms=NOW_MS)
        return
    for series, events in rounds_of(writer, rounds):
        if kind == "write":
            lake.upsert(BARS, series)
        lake.append(QUOTES, events)


def main(kind: str, place: str, rounds: int = ROUNDS) -> None:
    begin, released = os.pipe()
    children = []
    for writer in range(WRITERS):
        heard, said = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(released)
            lake = Counting(Lake.open(place, create=True).place)
            os.read(begin, 1)
            work(kind, writer, lake, rounds)
            os.write(said, f"{lake.done} {lake.refused}\n".encode())
            os._exit(0)
        os.close(said)
        children.append((child, heard))
    os.close(released)  # the end of the pipe is the signal for all of them
    for child, heard in children:
        with os.fdopen(heard) as words:
            sys.stdout.write(words.read())
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0:
            sys.exit("a writer failed")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))
