"""A clock for tests: sleeping costs no time, and concurrent sleepers wake in the order of their deadlines."""

from __future__ import annotations

import asyncio
import heapq
import itertools

_SETTLING_TURNS = 5
"""Turns of the loop that woken tasks get before time moves on: enough to reach their next sleep."""


class VirtualClock:
    """Time that moves only when somebody sleeps (``automatic``), or only by :meth:`advance`.

    Automatic: as soon as a task sleeps, time jumps to the nearest deadline. Tasks that wait for a socket do not hold
    it back, so a watchdog over a socket needs ``automatic=False`` and a test that calls :meth:`advance`.

    Args:
        start_ms: Unix ms at monotonic second 0.
        automatic: whether sleeping moves time by itself.
    """

    def __init__(self, start_ms: int, *, automatic: bool = True) -> None:
        self._start_ns = start_ms * 1_000_000
        self._passed_ns = 0
        self._automatic = automatic
        self._order = itertools.count()
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []
        self._moving = False
        self.naps: list[float] = []
        """Every sleep asked for, seconds, in order."""

    def now_ms(self) -> int:
        return self.now_ns() // 1_000_000

    def now_ns(self) -> int:
        return self._start_ns + self._passed_ns

    def monotonic(self) -> float:
        return self._passed_ns / 1e9

    def monotonic_ns(self) -> int:
        return self._passed_ns

    def step_wall(self, milliseconds: int) -> None:
        """Move the wall clock alone, as an administrator or NTP does."""
        self._start_ns += milliseconds * 1_000_000

    async def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        loop = asyncio.get_running_loop()
        woken: asyncio.Future[None] = loop.create_future()
        deadline = self._passed_ns + max(1, round(seconds * 1e9))
        heapq.heappush(self._sleepers, (deadline, next(self._order), woken))
        if self._automatic and not self._moving:
            self._moving = True
            loop.call_soon(self._move, loop, _SETTLING_TURNS)
        await woken

    async def advance(self, seconds: float) -> None:
        """Let ``seconds`` pass, waking every sleeper at its own deadline on the way."""
        end = self._passed_ns + round(seconds * 1e9)
        while self._sleepers and self._sleepers[0][0] <= end:
            self._wake_next()
            for _ in range(_SETTLING_TURNS):
                await asyncio.sleep(0)
        self._passed_ns = end

    def _move(self, loop: asyncio.AbstractEventLoop, turns: int) -> None:
        if turns > 0:
            loop.call_soon(self._move, loop, turns - 1)
            return
        self._wake_next()
        if self._sleepers:
            loop.call_soon(self._move, loop, _SETTLING_TURNS)
        else:
            self._moving = False

    def _wake_next(self) -> None:
        while self._sleepers:
            deadline, _, woken = heapq.heappop(self._sleepers)
            if not woken.done():  # a cancelled sleeper does not move time
                self._passed_ns = max(self._passed_ns, deadline)
                woken.set_result(None)
                return
