"""Runs in a process of its own, on a disk that refuses: commands to a lake, as a user gives them.

    lake_on_a_disk.py limited FOLDER FILE NAME=BYTES...  in the lake FOLDER/NAME no file may grow beyond so many bytes
    lake_on_a_disk.py full FOLDER OLD NEW KIB...         a disk of two MiB, with so much left free each time
    lake_on_a_disk.py read-only LAKE FILE                the lake's folder is mounted read-only

The last two must run in a mount namespace of their own (``unshare --mount``). Prints one JSON object per command:
its words, its exit code, what it printed, whether the lake's rows are as they were, and how many each table has.
"""

from __future__ import annotations

import io
import json
import os
import resource
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from lake_samples import contents, same

from slipstream.cli.errors import run
from slipstream.cli.main import app
from slipstream.errors import SlipstreamError
from slipstream.lake.store import Lake


def told(lake: Path, *words: str) -> None:
    """Give a command, and say what came of it."""
    before = rows(lake)
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = run(app, ["data", *words])
    after = rows(lake)
    counts = {name: table.height for name, table in after.items()}
    said = {"words": words, "code": code, "out": out.getvalue(), "err": err.getvalue()}
    print(json.dumps({**said, "same": same(before, after), "rows": counts}))


def rows(lake: Path) -> dict:
    try:
        return contents(Lake.open(lake))
    except SlipstreamError:
        return {}


def limited(folder: Path, file: str, limits: dict[str, int]) -> None:
    for name, limit in limits.items():
        child = os.fork()  # the commands are imported by each, since their threads do not survive a fork
        if child == 0:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            told(folder / name, "import", file, "--lake", str(folder / name))
            sys.stdout.flush()
            os._exit(0)
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0:
            sys.exit("a command failed")


def full(folder: Path, old: str, new: str, left_free: list[int]) -> None:
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], check=True)
    lake, ballast = folder / "lake", folder / "ballast"
    told(lake, "import", old, "--lake", str(lake))
    for kib in left_free:
        free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_bsize
        ballast.write_bytes(bytes(max(0, free - kib * 1024)))
        told(lake, "import", new, "--lake", str(lake))
        ballast.unlink()
        told(lake, "check", "--lake", str(lake), "--json")
    told(lake, "import", new, "--lake", str(lake))


def read_only(lake: Path, file: str) -> None:
    subprocess.run(["mount", "--bind", lake, lake], check=True)
    subprocess.run(["mount", "-o", "remount,ro,bind", lake], check=True)
    told(lake, "import", file, "--lake", str(lake))
    told(lake, "compact", "--lake", str(lake))
    told(lake, "repair", "--lake", str(lake), "--apply")
    told(lake, "check", "--lake", str(lake))
    told(lake, "status", "--lake", str(lake))
    told(lake, "import", file, "--lake", str(lake / "new"))


if __name__ == "__main__":
    place = Path(sys.argv[2])
    if sys.argv[1] == "limited":
        limited(place, sys.argv[3], {word.split("=")[0]: int(word.split("=")[1]) for word in sys.argv[4:]})
    elif sys.argv[1] == "full":
        full(place, sys.argv[3], sys.argv[4], [int(word) for word in sys.argv[5:]])
    else:
        read_only(place, sys.argv[3])
