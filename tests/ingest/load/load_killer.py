"""Runs in a process of its own: loads in children, as hl-load does, and kills them. See ``test_load_crashes.py``.

    load_killer.py URL FOLDER SEED...    one child per seed, killed after a random time, in FOLDER/SEED

The first child comes to its end, in FOLDER/calm, and shows how long one takes. Everything is imported once for all
children; polars and deltalake are first used in them, since their threads do not survive a fork.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

import aiohttp  # noqa: F401
import deltalake  # noqa: F401
import polars  # noqa: F401

from slipstream.cli import data_export, load_display  # noqa: F401
from slipstream.cli.errors import run
from slipstream.cli.load import app
from slipstream.ingest.load import instruments, loader
from slipstream.lake import store  # noqa: F401
from slipstream.venues.hyperliquid import info  # noqa: F401

DAYS = (6, 12)
"""Two loads one after the other: the second merges into the months of the first."""


def session(url: str) -> int:
    loader._COINS_PER_COMMIT = 1  # so that there is a commit under way at most moments
    code = 0
    for days in DAYS:
        code = code or run(app, ["--all", "--days", str(days), "--base-url", url, "--weight-per-minute", "1000000"])
    return code


def begun(url: str, folder: Path) -> int:
    """The process of a child."""
    folder.mkdir()
    child = os.fork()
    if child == 0:
        os.chdir(folder)
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        code = 70
        try:
            code = session(url)
        finally:
            os._exit(code)
    return child


def main() -> None:
    url, folder = sys.argv[1], Path(sys.argv[2])
    assert instruments is not None
    began = time.perf_counter()
    _, status = os.waitpid(begun(url, folder / "calm"), 0)
    seconds = time.perf_counter() - began
    if status:
        sys.exit(f"the undisturbed session failed: {status}")
    for seed in sys.argv[3:]:
        child = begun(url, folder / seed)
        time.sleep(random.Random(int(seed)).uniform(0.05, 1.0) * seconds)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
