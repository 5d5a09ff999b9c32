"""Commands use one BLAS thread, unless the user says otherwise."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
FRONT_DOORS = (
    "import slipstream.cli.main",
    "import slipstream.strategies.gradient.cli",
    "runpy.run_path('scripts/strategies/run_backtest.py'); import slipstream.strategies.carry.cli",
    "runpy.run_path('scripts/build_pca_factor.py')",
    "runpy.run_path('scripts/calibrate_costs.py')",
)

AND_THREADS = """
import numpy as np
print(os.environ["OPENBLAS_NUM_THREADS"], len(os.listdir("/proc/self/task")))
"""


def threads_of(door: str, **chosen: str) -> tuple[int, int]:
    """(threads asked for, threads that run) in a fresh process that came in by this door and loaded numpy."""
    inherited = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    done = subprocess.run(
        [sys.executable, "-c", f"import os, runpy\n{door}{AND_THREADS}"],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=REPOSITORY,
        env=inherited | chosen,
    )
    assert done.returncode == 0, done.stderr
    asked, running = done.stdout.split()
    return int(asked), int(running)


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="counts threads where the kernel lists them")
@pytest.mark.parametrize("door", FRONT_DOORS)
def test_a_command_starts_no_second_thread_for_small_matrices(door: str) -> None:
    assert threads_of(door) == (1, 1)


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="counts threads where the kernel lists them")
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="a second thread needs a second core")
def test_a_user_may_ask_for_more() -> None:
    assert threads_of(FRONT_DOORS[0], OPENBLAS_NUM_THREADS="2") == (2, 2)


def test_tests_and_benchmarks_run_as_the_commands_do() -> None:
    assert os.environ["OPENBLAS_NUM_THREADS"]
    for file in (REPOSITORY / "benchmarks").glob("*.py"):
        text = file.read_text(encoding="utf-8")
        if "import numpy" in text and "__main__" in text:
            asked, loaded = text.find('"OPENBLAS_NUM_THREADS"'), text.find("import numpy")
            assert 0 <= asked < loaded, f"{file.name} does not ask for one BLAS thread before it loads numpy"
