"""How fast the lake is: ``python benchmarks/lake.py [--coins N] [--hours H] [--folder DIR]``.

Prints, for a synthetic market of hourly candles and hourly funding (150 coins over three years by default):

- seconds to load it into panel form, in a process that has done so before and in a new one (target: under 1.5 s);
- seconds for a refresh that adds one day to every coin, bars and settlements, and how much of the lake it read
  (target: under 2 s, and nothing but the months concerned);
- the same load by pandas from CSV, one file per coin and kind, read, parsed and pivoted into the same arrays. They are
  compared, so that both have done the same work;
- the same refresh of those files by pandas: one coin in ten is measured and the seconds are multiplied by ten, since
  every file is read and written on its own.

Every figure is the best of several runs. Where other programs share the processors, the seconds of processor time say
more than those of the clock.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter, process_time

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pandas as pd
import polars as pl

from slipstream.core.panel import HOUR_MS
from slipstream.lake import load_panel
from slipstream.lake.datasets import BARS, FUNDING, TIME
from slipstream.lake.place import Place
from slipstream.lake.store import Lake

THREE_YEARS_HOURS = 26_298
START_MS = 1_671_494_400_000
"""2022-12-20: three years later a month is two thirds full, so that a refresh has most of a month to read."""
DAY_HOURS = 24
RUNS = 5
PRICES = ("open", "high", "low", "close")


@dataclass
class Read:
    """What was read of a lake's parts in a while: bytes by name."""

    parts: dict[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        return sum(self.parts.values())


def market(coins: int, first_hour: int, hours: int, seed: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Bars and settlements of so many coins and hours; prices move at random and keep every rule."""
    rng = np.random.default_rng(seed)
    shape = (coins, hours)
    close = 100.0 * np.exp(np.cumsum(rng.normal(0.0, 0.005, shape), axis=1))
    opened = np.concatenate([np.full((coins, 1), 100.0), close[:, :-1]], axis=1)
    names = np.repeat([f"COIN{number:03d}" for number in range(coins)], hours)
    ts = pl.Series("ts", np.tile(START_MS + HOUR_MS * np.arange(first_hour, first_hour + hours), coins)).cast(TIME)
    bars = pl.DataFrame(
        {
            "coin": names,
            "ts": ts,
            "open": opened.ravel(),
            "high": (np.maximum(opened, close) * 1.001).ravel(),
            "low": (np.minimum(opened, close) * 0.999).ravel(),
            "close": close.ravel(),
            "volume": rng.uniform(1e3, 2e3, shape).ravel(),
        }
    ).with_columns(base_interval=pl.lit("1h"))
    settlements = pl.DataFrame({"coin": names, "ts": ts, "rate": rng.normal(1.25e-5, 1e-5, shape).ravel()})
    unsaid = settlements.with_columns(premium=pl.lit(None, pl.Float64), settled_ms=pl.lit(None, pl.Int64))
    return bars.select(BARS.names), unsaid.select(FUNDING.names)


def write_csv(folder: Path, bars: pl.DataFrame, settlements: pl.DataFrame) -> None:
    """The same rows as a user of CSV keeps them: one file per coin and kind."""
    folder.mkdir()
    for (coin,), rows in bars.partition_by("coin", as_dict=True).items():
        rows.drop("coin", "base_interval").write_csv(folder / f"{coin}_candles.csv")
    for (coin,), rows in settlements.partition_by("coin", as_dict=True).items():
        rows.select("ts", "rate").write_csv(folder / f"{coin}_funding.csv")


def pandas_panel(folder: Path) -> dict[str, np.ndarray]:
    """Wide arrays from the CSV files, as a pandas user makes them."""
    candles = {
        file.name.removesuffix("_candles.csv"): pd.read_csv(file, parse_dates=["ts"], index_col="ts")
        for file in sorted(folder.glob("*_candles.csv"))
    }
    rates = {
        file.name.removesuffix("_funding.csv"): pd.read_csv(file, parse_dates=["ts"], index_col="ts")["rate"]
        for file in sorted(folder.glob("*_funding.csv"))
    }
    wide = {name: pd.DataFrame({coin: rows[name] for coin, rows in candles.items()}) for name in (*PRICES, "volume")}
    wide["funding"] = pd.DataFrame(rates)
    return {name: frame.to_numpy() for name, frame in wide.items()}


def pandas_refresh(folder: Path, bars: pl.DataFrame, settlements: pl.DataFrame) -> None:
    """Merge a day into every file: read, concatenate, drop what repeats, sort, write."""
    for kind, rows, names in (("candles", bars, (*PRICES, "volume")), ("funding", settlements, ("rate",))):
        for (coin,), fresh in rows.partition_by("coin", as_dict=True).items():
            file = folder / f"{coin}_{kind}.csv"
            held = pd.read_csv(file, parse_dates=["ts"], index_col="ts")
            new = fresh.select("ts", *names).to_pandas().set_index("ts")
            both = pd.concat([held, new])
            both[~both.index.duplicated(keep="last")].sort_index().to_csv(file)


def refresh(lake: Lake, bars: pl.DataFrame, settlements: pl.DataFrame) -> None:
    """Merge rows into the lake."""
    lake.upsert(BARS, bars)
    lake.upsert(FUNDING, settlements)


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds of the clock and of all processors."""
    began = perf_counter(), process_time()
    work()
    return perf_counter() - began[0], process_time() - began[1]


def best(runs: list[tuple[float, float]]) -> str:
    """The least seconds of each."""
    return f"{min(clock for clock, _ in runs):.2f} s ({min(cpu for _, cpu in runs):.2f} s of processor time)"


def ratio(theirs: list[tuple[float, float]], ours: list[tuple[float, float]]) -> str:
    """How many times longer they take, by the clock."""
    return f"ratio {min(theirs)[0] / min(ours)[0]:.0f}x"


LOAD = """
import sys, time
began = time.perf_counter()
import polars, numpy, deltalake, slipstream.lake.lake_panel
imported = time.perf_counter()
slipstream.lake.load_panel(sys.argv[1])
print(imported - began, time.perf_counter() - imported)
"""


def in_a_new_process(lake: str) -> tuple[float, float]:
    """Seconds of the imports and of the load in a process that has loaded nothing before."""
    ended = subprocess.run([sys.executable, "-c", LOAD, lake], capture_output=True, text=True, check=True)
    imports, load = map(float, ended.stdout.split())
    return imports, load


def reading(work: Callable[[], object]) -> Read:
    """What the work reads of parts."""
    done, read = Read(), Place.read

    def noted(place: Place, name: str) -> bytes | None:
        body = read(place, name)
        done.parts[name] = len(body or b"")
        return body

    Place.read = noted  # type: ignore[method-assign]
    try:
        work()
    finally:
        Place.read = read  # type: ignore[method-assign]
    return done


def same_arrays(lake: str, wide: dict[str, np.ndarray]) -> None:
    """Hold both panels against each other; a panel's row has the settlement at the close, a file's the one at the open.

    Raises:
        AssertionError: they differ.
    """
    panel = load_panel(lake)
    for name in PRICES:
        np.testing.assert_allclose(getattr(panel, name), wide[name], rtol=1e-12)
    np.testing.assert_allclose(panel.funding[:-1], wide["funding"][1:], rtol=1e-9)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--coins", type=int, default=150)
    parser.add_argument("--hours", type=int, default=THREE_YEARS_HOURS)
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument(
        "--folder", type=Path, help="where to make the lake and the files (default: a temporary folder)"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        report(Path(name), arguments.coins, arguments.hours, arguments.runs)


def report(folder: Path, coins: int, hours: int, runs: int) -> None:
    """Make the data, measure, print."""
    bars, settlements = market(coins, 0, hours, seed=42)
    place = str(folder / "lake")
    lake = Lake.open(place, create=True)
    began = perf_counter()
    lake.upsert(BARS, bars)
    lake.upsert(FUNDING, settlements)
    filled = perf_counter() - began
    write_csv(folder / "csv", bars, settlements)
    size = sum(file.stat().st_size for file in (folder / "lake").rglob("*.parquet")) / 1e6
    csv_size = sum(file.stat().st_size for file in (folder / "csv").iterdir()) / 1e6
    parts = f"{len(lake.parts(BARS))} + {len(lake.parts(FUNDING))} parts"
    print(f"{coins} coins x {hours} hours: lake {size:.0f} MB in {parts}, CSV {csv_size:.0f} MB")
    print(f"first import of all of it: {filled:.2f} s")

    same_arrays(place, pandas_panel(folder / "csv"))
    load_panel(place)
    warm = [timed(lambda: load_panel(place)) for _ in range(runs)]
    csv = [timed(lambda: pandas_panel(folder / "csv")) for _ in range(2)]
    fresh = [in_a_new_process(place) for _ in range(runs)]
    print(f"load into panel form: {best(warm)} (target 1.5 s)")
    imports, load = (min(seconds) for seconds in zip(*fresh, strict=True))
    print(f"  in a new process: {load:.2f} s after {imports:.2f} s of imports")
    print(f"  pandas from CSV: {best(csv)}, {ratio(csv, warm)}")

    ours, read = [], Read()
    days = [market(coins, hours + day * DAY_HOURS, DAY_HOURS, seed=day) for day in range(runs)]
    for day in days:
        read = reading(lambda day=day: ours.append(timed(lambda: refresh(lake, *day))))
    sample = bars["coin"].unique(maintain_order=True).gather_every(10)
    some = [[rows.filter(pl.col("coin").is_in(sample.implode())) for rows in day] for day in days[:2]]
    measured = [timed(lambda day=day: pandas_refresh(folder / "csv", *day)) for day in some]
    theirs = [(clock * coins / len(sample), cpu * coins / len(sample)) for clock, cpu in measured]
    whole = sum(part.size for dataset in (BARS, FUNDING) for part in lake.parts(dataset))
    months = sorted({name.split("month=")[1][:7] for name in read.parts})
    share = read.total / whole
    print(f"one day for every coin, bars and settlements: {best(ours)} (target 2 s)")
    print(f"  read {len(read.parts)} parts of {', '.join(months)}: {read.total / 1e6:.2f} MB, {share:.1%} of the lake")
    print(f"  pandas with CSV, from {len(sample)} coins: {best(theirs)}, {ratio(theirs, ours)}")
    last = START_MS + HOUR_MS * (hours + runs * DAY_HOURS)
    assert load_panel(place).known_at_ms[-1] == last


if __name__ == "__main__":
    main()
