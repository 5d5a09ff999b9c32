"""Runs in a process of its own: does things to lakes in children, and kills them. See ``test_lake_crashes.py``.

    lake_killer.py lines FOLDER ACTION SCOPE FIRST STEP    one child per line of the store's code, killed just before it
    lake_killer.py moments FOLDER SEED...                  one child per seed, killed after a random time

Polars and deltalake are first used in the children: their threads do not survive a fork.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import deltalake  # noqa: F401 - imported once for all children
import polars as pl

from slipstream.lake import delta_log, durable, panel_import, parts, place, refresh, repair, store, upkeep
from slipstream.lake.datasets import BARS, DATASETS
from slipstream.lake.store import Lake

WRITING = {"put_in_force", "commit", "_created", "_secure", "_sync_log", "write", "copy", "_carry_out"} | {
    "write_whole",
    "write_synced",
    "make_folders",
}
"""Functions in which anything is written; the others read and reckon."""

STORE = {str(module.__file__) for module in (delta_log, durable, store, parts, place, refresh, upkeep, repair)}


def upsert(folder: Path, lake: Lake) -> None:
    lake.upsert(BARS, pl.read_parquet(folder / "bars.parquet"))


def compact(folder: Path, lake: Lake) -> None:
    for dataset in lake.datasets():
        upkeep.compact(lake, dataset)


def mend(folder: Path, lake: Lake) -> None:
    for dataset in lake.datasets():
        repair.repair(lake, dataset, apply=True, now_ms=2_000_000_000_000)


def session(
    folder: Path, lake: Lake, first: int = 0, end: int | None = None, say: Callable[[str], object] = lambda _: None
) -> None:
    """Imports, refreshes, appends and compactions one after the other; says before each which one begins."""
    for step, file in list(enumerate(sorted((folder / "steps").iterdir())))[first:end]:
        say(f"{step}\n")
        kind = file.name.split(".")[1]
        if kind == "compact":
            for dataset in lake.datasets():
                upkeep.compact(lake, dataset)
            continue
        rows = pl.read_parquet(file)
        if kind == "import":
            panel_import.import_frame(rows, lake)
        elif DATASETS[kind].log:
            lake.append(DATASETS[kind], rows)
        else:
            lake.upsert(DATASETS[kind], rows)
    say("done\n")


ACTIONS: dict[str, Callable[[Path, Lake], None]] = {"upsert": upsert, "compact": compact, "mend": mend}


def killed_at_line(folder: Path, action: str, scope: str, root: Path, point: int) -> bool:
    """Whether the action came to its end before ``point`` lines of the store's code were begun."""
    child = os.fork()
    if child == 0:
        begun = 0

        def trace(frame: FrameType, event: str, argument: Any) -> Any:
            nonlocal begun
            if frame.f_code.co_filename not in STORE:
                return None
            if event == "line" and (scope == "all" or frame.f_code.co_name in WRITING):
                begun += 1
                if begun == point:
                    os.kill(os.getpid(), signal.SIGKILL)
            return trace

        sys.settrace(trace)
        ACTIONS[action](folder, Lake.open(root, create=True))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status) and os.waitstatus_to_exitcode(status) != 0:
        sys.exit(f"the child of line {point} failed")
    return not os.WIFSIGNALED(status)


def lines(folder: Path, action: str, scope: str, first: int, step: int) -> None:
    point = first
    done = False
    while not done:
        root = folder / f"lake{point:05d}"
        if (folder / "old").exists():
            shutil.copytree(folder / "old", root)
        done = killed_at_line(folder, action, scope, root, point)
        point += step


def moments(folder: Path, seeds: list[int]) -> None:
    """Each child runs a session on its own new lake. The first comes to its end, and shows how long one takes."""
    seconds = 0.0
    for seed in [-1, *seeds]:
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.dup2(write, 1)
            session(folder, Lake.open(folder / f"lake{seed}", create=True), say=lambda word: os.write(1, word.encode()))
            os._exit(0)
        os.close(write)
        with os.fdopen(read, "rb") as said:
            first = said.readline()
            began = time.perf_counter()
            if seed >= 0:
                time.sleep(random.Random(seed).uniform(0.0, seconds))
                os.kill(child, signal.SIGKILL)
            words = (first + said.read()).split()
        os.waitpid(child, 0)
        if seed < 0:
            if words[-1] != b"done":
                sys.exit("the undisturbed session failed")
            seconds = time.perf_counter() - began
        sys.stdout.write(f"{seed} {words[-1].decode()}\n")


if __name__ == "__main__":
    where = Path(sys.argv[2])
    if sys.argv[1] == "lines":
        lines(where, sys.argv[3], sys.argv[4], int(sys.argv[5]), int(sys.argv[6]))
    else:
        moments(where, [int(seed) for seed in sys.argv[3:]])
