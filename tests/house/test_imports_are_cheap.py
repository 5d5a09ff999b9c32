"""Importing the package and asking for help must not wait for numerical libraries."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("numba", "llvmlite", "pandas", "polars", "scipy.optimize", "scipy.stats", "clarabel", "sklearn", "ray")

ASK_FOR_HELP = """
import sys
sys.argv = ["slipstream", *{words!r}]
from slipstream.cli.main import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
"""


def in_fresh_process(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def loaded_after(code: str) -> set[str]:
    """Which of the heavy libraries a fresh process has loaded once it ran ``code``."""
    report = f"\nimport sys\nprint('\\nloaded:', *[name for name in {HEAVY!r} if name in sys.modules])"
    return set(in_fresh_process(code + report).splitlines()[-1].split()[1:])


def test_importing_the_package_takes_less_than_a_third_of_a_second() -> None:
    timed = "import time; start = time.perf_counter(); import slipstream; print(time.perf_counter() - start)"
    assert min(float(in_fresh_process(timed)) for _ in range(5)) < 0.3


def test_importing_the_package_loads_no_numerical_library() -> None:
    in_fresh_process("import sys, slipstream, slipstream.errors; assert 'numpy' not in sys.modules")


@pytest.mark.parametrize(
    "words", [["--help"], ["demo", "--help"], ["backtest", "--help"], ["data", "--help"], ["--version"]]
)
def test_asking_for_help_loads_no_heavy_library(words: list[str]) -> None:
    assert loaded_after(ASK_FOR_HELP.format(words=words)) == set()


def test_the_guard_sees_a_heavy_library_when_there_is_one() -> None:
    assert loaded_after("import polars") == {"polars"}
