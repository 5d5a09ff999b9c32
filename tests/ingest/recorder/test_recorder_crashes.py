"""Killed at any moment: whole lines, a readable lake, no hole before the end, at most one flush interval lost."""

from __future__ import annotations

import random
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl
import pytest

from ingest.recorder.recorder_process import bbo_command, local_venue, record_command, wait_until
from slipstream.ingest.recorder.append_file import AppendFile
from slipstream.ingest.recorder.csv_tables import BBO_HEADER, DEPTH_HEADER
from slipstream.ingest.replay import replay_sync
from slipstream.lake.datasets import QUOTES, TRADES
from slipstream.lake.store import Lake

FLUSH_S = 0.3
SLACK_S = 2.0
"""For the write itself, on a machine that is busy with other tests."""


def killed(command: list[str], begun: object, delay_s: float) -> int:
    """Run until ``begun`` is so and ``delay_s`` longer, then kill -9; the moment before the kill, Unix ns."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(begun)
    time.sleep(delay_s)
    assert process.poll() is None
    moment_ns = time.time_ns()
    process.kill()
    process.wait(10)
    return moment_ns


def lake_crash(address: str, folder: Path, delay_s: float) -> None:
    folder.mkdir()
    options = ("--coins", "BTC", "ETH", "--flush-seconds", str(FLUSH_S))
    log = folder / "lake" / "trades" / "_delta_log"
    moment_ns = killed(
        record_command(address, folder, *options), lambda: log.is_dir() and len(list(log.glob("*1.json"))), delay_s
    )
    lake = Lake.open(folder / "lake")
    quotes, trades = lake.read(QUOTES), lake.read(TRADES)
    assert moment_ns - quotes["received_ns"].max() < (FLUSH_S + SLACK_S) * 1e9
    for rows in quotes.partition_by("venue", "coin"):
        bids = rows.sort("monotonic_ns")["bid"]
        assert bids.diff().drop_nulls().round(6).unique().to_list() == [1.0], "a hole before the end"
    for rows in trades.partition_by("venue", "coin"):
        assert rows.sort("monotonic_ns")["tid"].to_list() == list(range(1, rows.height + 1))
    assert sum(1 for _ in replay_sync(lake)) >= quotes.height + trades.height


def csv_crash(address: str, folder: Path, delay_s: float) -> None:
    folder.mkdir()
    first = folder / "hl" / "BTC.csv"
    command = bbo_command(address, folder, "--flush-seconds", str(FLUSH_S))
    moment_ns = killed(command, lambda: first.is_file() and first.stat().st_size > 1000, delay_s)
    for name, header in (("hl/BTC", BBO_HEADER), ("cex/ethusdt", BBO_HEADER), ("depth/ETH", DEPTH_HEADER)):
        path = folder / f"{name}.csv"
        torn = path.read_bytes()
        AppendFile(path, header).close()  # what the next recording does first
        mended = path.read_bytes()
        assert torn.startswith(mended)
        assert b"\n" not in torn[len(mended) :]
        rows = pl.read_csv(path)
        assert moment_ns / 1e9 - rows["timestamp"].max() < FLUSH_S + SLACK_S
        if name != "depth/ETH":
            assert rows["bid"].diff().drop_nulls().round(6).unique().to_list() == [1.0], "a hole before the end"


def crashes(count: int, folder: Path, at_once: int) -> None:
    draws = random.Random(42)
    jobs = [(draws.uniform(0.0, 1.2), number) for number in range(count)]
    with local_venue(rate=150.0) as address, ThreadPoolExecutor(at_once) as pool:

        def one(job: tuple[float, int]) -> None:
            delay_s, number = job
            (lake_crash if number % 2 else csv_crash)(address, folder / str(number), delay_s)

        list(pool.map(one, jobs))


def test_a_killed_recorder_leaves_whole_files_and_loses_one_flush_at_most(tmp_path):
    crashes(2, tmp_path, at_once=2)


@pytest.mark.full
@pytest.mark.timeout(1800)
def test_two_hundred_killed_recorders_leave_whole_files_and_lose_one_flush_at_most(tmp_path):
    crashes(200, tmp_path, at_once=2)
