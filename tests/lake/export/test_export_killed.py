"""An export killed with SIGKILL at a random moment leaves every file old or new, whole, and the next one goes on."""

from __future__ import annotations

import functools
import random
import subprocess
import sys
import time
from datetime import datetime

import polars as pl
import pytest

from slipstream.lake.export import export_market_data

HOUR = 3_600_000
START = 1_735_689_600_000
COINS = ("BTC", "ETH", "kPEPE", "xyz:GOLD")
FIRST_BARS = 12

ENDLESS = """
import sys
from pathlib import Path

import polars as pl

from slipstream.lake.export import export_market_data

sys.path.insert(0, sys.argv[4])
from test_export_killed import generation

bars, funding, folder = pl.read_parquet(sys.argv[1]), pl.read_parquet(sys.argv[2]), Path(sys.argv[3])
number = int(sys.argv[5])
print("ready", flush=True)
while True:
    number += 1
    mine, settled, now_ms = generation(bars, funding, number)
    export_market_data(mine, settled, None, "4h", folder, now_ms=now_ms)
"""


def generation(bars: pl.DataFrame, funding: pl.DataFrame, number: int) -> tuple[pl.DataFrame, pl.DataFrame, int]:
    """The market as of one bar later each time, in which the first close is corrected to and fro."""
    now_ms = START + (FIRST_BARS + number) * 4 * HOUR
    moment = pl.col("ts").dt.timestamp("ms")
    corrected = pl.when(moment == START + 3 * HOUR).then(pl.col("close") * (1.0 + number % 2 / 1e6))
    return (
        bars.filter(moment < now_ms).with_columns(close=corrected.otherwise("close")),
        funding.filter(moment <= now_ms),
        now_ms,
    )


@pytest.mark.parametrize("kills", [3, pytest.param(200, marks=[pytest.mark.full, pytest.mark.timeout(1800)])])
def test_files_are_old_or_new_after_a_kill_and_the_next_export_completes_them(tmp_path, market, kills, out):
    bars, funding = market(COINS, 0, 2900)
    bars.write_parquet(tmp_path / "bars.parquet")
    funding.write_parquet(tmp_path / "funding.parquet")

    @functools.cache
    def expected(number: int) -> dict[str, bytes]:
        place = tmp_path / f"generation-{number}"
        mine, settled, now_ms = generation(bars, funding, number)
        export_market_data(mine, settled, None, "4h", place, now_ms=now_ms)
        return {file.name: file.read_bytes() for file in place.rglob("*.csv") if "_backup" not in file.parts}

    rng = random.Random(42)
    number, seen, mixed = 0, set(), 0
    for _ in range(kills):
        _killed(tmp_path, out, number, after_s=rng.uniform(0.0, 0.15))
        numbers = set()
        for file in out.rglob("*.csv*"):
            content = file.read_bytes()
            name = file.name.partition(".csv")[0] + ".csv"
            if file.name.startswith("."):
                continue
            which = bars_shown(name, content) - FIRST_BARS
            assert content == expected(which)[name], f"{file} is neither old nor new"
            if "_backup" not in file.parts:
                numbers.add(which)
        mixed += len(numbers) > 1
        number = max(numbers, default=0)
        seen |= numbers
        mine, settled, now_ms = generation(bars, funding, number + 1)
        report = export_market_data(mine, settled, None, "4h", out, now_ms=now_ms)
        number += 1
        assert report.refused == {}
        held = {file.name: file.read_bytes() for file in out.rglob("*.csv") if "_backup" not in file.parts}
        assert held == expected(number)
        assert not list(out.rglob(".*.new"))
    assert len(seen) > 1
    if kills > 50:
        assert mixed, "no kill fell between two renames: the moments are badly chosen"


def bars_shown(name: str, content: bytes) -> int:
    if name != "universe.csv":
        return content.count(b"\n") - 1
    last_bar = datetime.fromisoformat(content.splitlines()[1].decode().rpartition(",")[2])
    return (int(last_bar.timestamp() * 1000) - START) // (4 * HOUR) + 1


def _killed(tmp_path, out, number: int, *, after_s: float) -> None:
    """Export one generation after another in a process of its own, and kill it."""
    arguments = [tmp_path / "bars.parquet", tmp_path / "funding.parquet", out, __file__.rpartition("/")[0], number]
    with subprocess.Popen(
        [sys.executable, "-c", ENDLESS, *map(str, arguments)], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        time.sleep(after_s)
        child.kill()
        assert child.wait() == -9
