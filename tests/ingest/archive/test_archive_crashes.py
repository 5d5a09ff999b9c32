"""Real processes that are killed, interrupted or given a large object: what they leave behind, and what they need."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import lz4.frame
import polars as pl
import pytest
from archive_server import book_text

from slipstream.lake.datasets import MID_BARS
from slipstream.lake.store import Lake

OUT = Path("data/s3_historical")
DAY = ("--start", "2024-01-01", "--end", "2024-01-01")
COINS = ("BTC", "ETH", "kPEPE")
HOURS = 8

# every object is stored by itself, so that there is a file, a commit or a line under way at most moments
DRIVER = """
import sys
from slipstream.ingest.archive import backfill, fetch
backfill.Pace = lambda: fetch.Pace(objects=1)
from slipstream.cli.data_s3 import main
sys.exit(main())
"""


def start(folder: Path, *flags: str, script: str = DRIVER) -> subprocess.Popen:
    folder.mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-c", script, *DAY, "--temp-dir", "spool", *flags],
        cwd=folder,
        env={**os.environ, "POLARS_MAX_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def written(folder: Path) -> tuple[dict[str, bytes], pl.DataFrame]:
    files = {str(file.relative_to(folder)): file.read_bytes() for file in sorted((folder / OUT).rglob("*.csv"))}
    return files, Lake.open(folder / "data/lake").read(MID_BARS)


@pytest.fixture(scope="module")
def mids() -> dict[tuple[str, int], list[float]]:
    rng = random.Random(7)
    return {(coin, hour): [rng.uniform(90, 110) for _ in range(50)] for coin in COINS for hour in range(HOURS)}


KILLS = [*range(2), *(pytest.param(seed, marks=pytest.mark.full) for seed in range(2, 40))]


@pytest.mark.parametrize("seed", KILLS)
def test_a_run_killed_anywhere_is_completed_by_the_next_with_the_same_bytes(store, fetch, tmp_path, mids, seed):
    for (coin, hour), values in mids.items():
        store.put_book(coin, "20240101", hour, values)
    assert fetch(*DAY, "--coins", *COINS) == 0
    undisturbed = written(tmp_path)

    rng = random.Random(seed)
    folder = tmp_path / "killed"
    for _ in range(2):
        before, wanted = len(store.objects_fetched()), rng.randrange(1, HOURS * len(COINS))
        process = start(folder, "--coins", *COINS, "--workers", "2")
        while len(store.objects_fetched()) - before < wanted and process.poll() is None:
            time.sleep(0.001)
        time.sleep(rng.uniform(0.0, 0.05))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        for file in (folder / OUT).rglob("*.csv"):
            if not file.name.startswith("."):
                known = pl.read_csv(file)["known_at_ms"]
                assert known.is_unique().all()
                assert known.is_sorted()
    process = start(folder, "--coins", *COINS)
    _, problem = process.communicate()
    assert process.returncode == 0, problem
    files, rows = written(folder)
    assert files == undisturbed[0]
    assert rows.equals(undisturbed[1])
    states = [json.loads(line) for line in (folder / OUT / "progress/download_state.jsonl").read_text().splitlines()]
    assert {(line["coin"], line["hour"]) for line in states if line["state"] == "done"} == set(mids)
    assert not list((folder / OUT).rglob(".*")), "a draft was left behind"


def test_ctrl_c_keeps_what_has_arrived_resamples_it_and_does_not_wait_for_a_silent_store(store, tmp_path):
    for hour in range(HOURS):
        store.put_book("BTC", "20240101", hour, [100.0 + hour])
    silent = threading.Event()
    reached = threading.Event()

    def hold(_environ):
        reached.set()
        silent.wait(30)

    store.faults["/7/l2Book/BTC.lz4"] = hold
    process = start(tmp_path, "--coins", "BTC", "--workers", "4")
    hourly = tmp_path / OUT / "candles/hourly/BTC_candles_1h.csv"
    assert reached.wait(30)
    while not (hourly.exists() and len(hourly.read_text().splitlines()) == HOURS):
        assert process.poll() is None
        time.sleep(0.01)
    asked = time.monotonic()
    process.send_signal(signal.SIGINT)
    out, problem = process.communicate(timeout=30)
    took = time.monotonic() - asked
    silent.set()
    assert process.returncode == 130, problem
    assert "interrupted, run it again" in out
    assert "stopping" in problem
    assert "Traceback" not in problem
    assert took < 10.0
    assert pl.read_csv(tmp_path / OUT / "candles/BTC_candles_4h.csv")["hours"].to_list() == [4, 3]
    assert not list((tmp_path / "spool").glob("run-*"))


MEASURED = """
import resource, sys
from slipstream.cli.data_s3 import main
import polars, deltalake, obstore  # what any run loads
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
code = main()
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
sys.stderr.write(f"GREW {grown} KIB\\n")
sys.exit(code)
"""


def grown_mib(folder: Path, *flags: str) -> float:
    process = start(folder, *flags, script=MEASURED)
    _, said = process.communicate()
    assert process.returncode == 0, said
    return int(said.split("GREW ")[1].split()[0]) / 1024


def test_memory_does_not_grow_with_the_object(store, tmp_path):
    """150 MB of text in an object of well under a megabyte, beside one of two lines."""
    open_ms = 1_704_067_200_000
    store.put("market_data/20240101/0/l2Book/ETH.lz4", lz4.frame.compress(book_text("ETH", open_ms, [100.0] * 2)))
    lines = book_text("BTC", open_ms, [100.0 + i % 7 for i in range(600)])
    packer = lz4.frame.LZ4FrameCompressor()
    packed = (
        packer.begin() + b"".join(packer.compress(lines) for _ in range(150_000_000 // len(lines))) + packer.flush()
    )
    store.put("market_data/20240101/0/l2Book/BTC.lz4", packed)
    small = grown_mib(tmp_path / "small", "--coins", "ETH")
    large = grown_mib(tmp_path / "large", "--coins", "BTC")
    assert pl.read_csv(tmp_path / "large" / OUT / "candles/hourly/BTC_candles_1h.csv")["n_snapshots"][0] > 100_000
    assert large - small < 40.0, f"{small:.0f} MiB for two lines, {large:.0f} MiB for 150 MB"
