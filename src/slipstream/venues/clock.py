"""Time as an argument of everything that talks to a venue.

Pacing, retries, watchdogs and time stamps all ask one :class:`Clock`, so a test can run minutes of waiting in
microseconds and see the same result every time. The wall clock itself is handed in by the command that starts a run:
rooms below ``cli`` never look at it on their own.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol


class Clock(Protocol):
    """What the wires need to know of time."""

    def now_ms(self) -> int:
        """The present moment, Unix ms."""
        ...

    def now_ns(self) -> int:
        """The present moment, Unix ns."""
        ...

    def monotonic(self) -> float:
        """Seconds since some fixed moment; never runs backwards."""
        ...

    def monotonic_ns(self) -> int:
        """Nanoseconds since the same fixed moment; never runs backwards."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Give way to other tasks for at least ``seconds``."""
        ...


class SystemClock:
    """The machine's clocks.

    Args:
        wall_ns: the wall clock, Unix ns; a command hands it in.
    """

    def __init__(self, wall_ns: Callable[[], int]) -> None:
        self._wall_ns = wall_ns

    def now_ms(self) -> int:
        """The present moment, Unix ms."""
        return self._wall_ns() // 1_000_000

    def now_ns(self) -> int:
        """The present moment, Unix ns."""
        return self._wall_ns()

    def monotonic(self) -> float:
        """Seconds of the machine's monotonic clock."""
        return time.monotonic()

    def monotonic_ns(self) -> int:
        """Nanoseconds of the machine's monotonic clock."""
        return time.monotonic_ns()

    async def sleep(self, seconds: float) -> None:
        """Sleep in real time."""
        await asyncio.sleep(seconds)
