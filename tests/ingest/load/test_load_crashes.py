"""``hl-load`` killed with SIGKILL at a random moment: a sound lake, true rows only, and a re-run that completes it."""

from __future__ import annotations

import csv
import random
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from load_killer import DAYS
from load_runs import NOON, NOW, true_bars, true_settlements

from slipstream.cli.errors import run
from slipstream.cli.load import app
from slipstream.lake.datasets import ASSET_CONTEXTS, BARS, FUNDING, INSTRUMENTS
from slipstream.lake.lake_check import check_path
from slipstream.lake.store import Lake
from venue_process import venue_process
from venues.local_market import DAY_MS, Coin, small_market

KILLER = Path(__file__).with_name("load_killer.py")
MARKET_DAYS = 30


def coins() -> list[Coin]:
    return [coin for group in small_market(NOW, MARKET_DAYS, 2).values() for coin in group]


def truth(days: int) -> dict[str, tuple[pl.DataFrame, pl.DataFrame]]:
    start = NOON - days * DAY_MS
    return {coin.name: (true_bars(coin, "1h", start, NOON), true_settlements(coin, start, NOON)) for coin in coins()}


def errors(root: Path) -> list[str]:
    return [f"{finding.fault}: {finding.what}" for finding in check_path(root) if finding.grade == "error"]


def content(root: Path) -> list[pl.DataFrame]:
    """Every table; contexts and descriptions without the moment they were seen, which differs by milliseconds."""
    lake = Lake.open(root)
    seen = [lake.read(dataset).drop("ts").unique(maintain_order=True) for dataset in (INSTRUMENTS, ASSET_CONTEXTS)]
    return [lake.read(BARS), lake.read(FUNDING), *seen]


def files(folder: Path) -> dict[str, bytes]:
    """Every exported file; of the universe the columns that do not say when a loader looked."""
    found = {
        str(file.relative_to(folder)): file.read_bytes()
        for file in folder.rglob("*.csv")
        if "_backup" not in file.parts
    }
    with (folder / "universe.csv").open(newline="") as stream:
        known = [
            [cell for name, cell in row.items() if not name.endswith("_seen_ms")] for row in csv.DictReader(stream)
        ]
    return found | {"universe.csv": repr(known).encode()}


def assert_lake_is_old_or_new(folder: Path, short: dict, whole: dict) -> int:
    """Each coin's rows are those of no load, of the first or of the second; how many tables have rows."""
    root = folder / "data/lake"
    lake = Lake.open(root, create=True)
    if not lake.datasets():
        return 0
    assert errors(root) == []
    bars, settlements = lake.read(BARS), lake.read(FUNDING)
    for coin, (all_bars, all_settlements) in whole.items():
        for held, old, new in (
            (bars, short[coin][0], all_bars),
            (settlements, short[coin][1], all_settlements),
        ):
            mine = held.filter(coin=coin)
            assert mine.is_empty() or mine.equals(old) or mine.equals(new), (
                f"{folder.name}: {coin} is neither old nor new"
            )
    assert set(bars["coin"]) <= set(whole)
    return int(bars.height > 0) + int(settlements.height > 0)


def assert_files_are_whole(folder: Path, final: Path) -> None:
    """Bars of a file that a kill has left are, line by line, those of the undisturbed run."""
    for file in folder.rglob("*_candles_4h.csv"):
        assert file.read_bytes().endswith(b"\n")
        lines = set((final / file.relative_to(folder)).read_text().splitlines())
        assert set(file.read_text().splitlines()) <= lines, file.name


@pytest.mark.parametrize("kills", [4, pytest.param(200, marks=[pytest.mark.full, pytest.mark.timeout(1800)])])
def test_a_load_killed_at_a_random_moment_leaves_true_rows_and_a_rerun_completes_it(
    tmp_path, monkeypatch, capsys, kills
):
    rng = random.Random(20_250_601)
    seeds = [str(rng.randrange(10**6)) for _ in range(kills)]
    short, whole = truth(DAYS[0]), truth(DAYS[1])
    with venue_process(now="2025-06-01T12:34:56", days=MARKET_DAYS, coins=2) as venue:
        done = subprocess.run(
            [sys.executable, KILLER, venue.url, tmp_path, *seeds], capture_output=True, text=True, timeout=1500
        )
        assert done.returncode == 0, done.stderr
        calm = tmp_path / "calm"
        expected, exports = content(calm / "data/lake"), files(calm / "data/market_data")
        assert [frame.height for frame in expected[:2]] == [4 * DAYS[1] * 24, 4 * (DAYS[1] * 24 + 1)]
        reached = []
        for seed in seeds:
            folder = tmp_path / seed
            reached.append(assert_lake_is_old_or_new(folder, short, whole))
            assert_files_are_whole(folder / "data/market_data", calm / "data/market_data")
            monkeypatch.chdir(folder)
            words = ["--all", "--days", str(DAYS[1]), "--base-url", venue.url, "--weight-per-minute", "1000000"]
            assert run(app, words) == 0, capsys.readouterr()
            after = content(folder / "data/lake")
            assert all(map(pl.DataFrame.equals, after, expected)), seed
            assert files(folder / "data/market_data") == exports, seed
            assert errors(folder / "data/lake") == []
    assert max(reached) == 2, "some were killed after rows had come"
