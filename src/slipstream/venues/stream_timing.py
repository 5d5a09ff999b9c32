"""Time on a stream: the stamps of what arrives, and the pauses between attempts to connect."""

from __future__ import annotations

import random

from slipstream.venues.clock import Clock


class Receipts:
    """Stamps what arrives: UTC as the clock says it, and a monotonic time that no two events of a session share."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._free = 0

    def now(self) -> tuple[int, int]:
        """(UTC in Unix ns, monotonic ns) of a frame that has just come."""
        monotonic_ns = self._clock.monotonic_ns()
        if monotonic_ns < self._free:
            monotonic_ns = self._free
        self._free = monotonic_ns + 1
        return self._clock.now_ns(), monotonic_ns

    def taken(self, first_ns: int, count: int) -> None:
        """The frame stamped ``first_ns`` held ``count`` events, which used up as many nanoseconds."""
        self._free = max(self._free, first_ns + count)


class Backoff:
    """Pauses before the next attempt: doubling with full jitter, from 0.5 s to 30 s on average half of that."""

    def __init__(self, rng: random.Random, *, first_s: float = 0.5, longest_s: float = 30.0) -> None:
        self._rng, self._first_s, self._longest_s = rng, first_s, longest_s
        self._failures = 0

    def next_s(self) -> float:
        """The pause after one more failure, s."""
        bound = min(self._longest_s, self._first_s * 2.0 ** min(self._failures, 10))
        self._failures += 1
        return self._rng.uniform(0.1, 1.0) * bound

    def reset(self) -> None:
        """The next failure is the first again."""
        self._failures = 0
