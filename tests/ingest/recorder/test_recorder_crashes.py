"""Killed at any moment: whole lines, a readable lake, no hole before the end, at most one flush interval lost."""

from __future__ import annotations

import random
import re
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


def killed(command: list[str], folder: Path, delay_s: float) -> tuple[int, float]:
    """Run until two flushes are done and ``delay_s`` longer, then kill -9.

    Returns:
        The moment before the kill, Unix ns, and what may be missing before it, s: the interval, and what writes take
        on a machine that may be busy with anything.
    """
    log = folder / "log.txt"
    with log.open("w") as stderr:
        process = subprocess.Popen([*command, "--log-level", "DEBUG"], stdout=subprocess.DEVNULL, stderr=stderr)
        wait_until(lambda: len(WROTE.findall(log.read_text())) >= 2, 60.0)
        time.sleep(delay_s)
        assert process.poll() is None
        moment_ns = time.time_ns()
        process.kill()
        process.wait(10)
    longest_s = max(float(seconds) for seconds in WROTE.findall(log.read_text()))
    return moment_ns, FLUSH_S + 0.5 + 3.0 * longest_s


WROTE = re.compile(r"wrote \d+ rows in ([\d.]+) s")


def lake_crash(address: str, folder: Path, delay_s: float) -> None:
    folder.mkdir()
    options = ("--coins", "BTC", "ETH", "--flush-seconds", str(FLUSH_S))
    moment_ns, missing_s = killed(record_command(address, folder, *options), folder, delay_s)
    lake = Lake.open(folder / "lake")
    quotes, trades = lake.read(QUOTES), lake.read(TRADES)
    for rows in (quotes, trades):
        assert (moment_ns - rows["received_ns"].max()) / 1e9 < missing_s
    for rows in quotes.partition_by("venue", "coin"):
        bids = rows.sort("monotonic_ns")["bid"]
        assert bids.diff().drop_nulls().round(6).unique().to_list() == [1.0], "a hole before the end"
    for rows in trades.partition_by("venue", "coin"):
        assert rows.sort("monotonic_ns")["tid"].to_list() == list(range(1, rows.height + 1))
    assert sum(1 for _ in replay_sync(lake)) >= quotes.height + trades.height


def csv_crash(address: str, folder: Path, delay_s: float) -> None:
    folder.mkdir()
    moment_ns, missing_s = killed(bbo_command(address, folder, "--flush-seconds", str(FLUSH_S)), folder, delay_s)
    for name, header in (("hl/BTC", BBO_HEADER), ("cex/ethusdt", BBO_HEADER), ("depth/ETH", DEPTH_HEADER)):
        path = folder / f"{name}.csv"
        torn = path.read_bytes()
        AppendFile(path, header).close()  # what the next recording does first
        mended = path.read_bytes()
        assert torn.startswith(mended)
        assert b"\n" not in torn[len(mended) :]
        rows = pl.read_csv(path)
        assert moment_ns / 1e9 - rows["timestamp"].max() < missing_s
        if name != "depth/ETH":
            assert rows["bid"].diff().drop_nulls().round(6).unique().to_list() == [1.0], "a hole before the end"


def crashes(count: int, folder: Path, at_once: int) -> None:
    draws = random.Random(42)
    jobs = [(draws.uniform(0.0, 0.8), number) for number in range(count)]
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
