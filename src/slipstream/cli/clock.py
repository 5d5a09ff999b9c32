"""The wall clock, for commands that write down when something happened; rooms below are handed it as an argument."""

from __future__ import annotations

import time


def wall_clock_ms() -> int:
    """The present moment, Unix ms."""
    return wall_clock_ns() // 1_000_000


def wall_clock_ns() -> int:
    """The present moment, Unix ns."""
    return time.time_ns()  # noqa: TID251 - the one place that looks
