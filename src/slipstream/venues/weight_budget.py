"""Keeping within a venue's weight limit.

A bucket of tokens, one token per unit of weight, in which a spent token comes back a fixed time later (a minute). So
in no minute, wherever it starts, is more spent than the bucket holds. The usual bucket that drips full again lets
through twice its size in the first minute, which a venue with a limit per minute answers with 429.

Requests are let through in the order they asked, however heavy, so none starves.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass

from slipstream.venues.clock import Clock


@dataclass
class _Spent:
    at_s: float
    weight: float


class Charge:
    """Tokens taken for one request, to be settled when its true weight is known."""

    def __init__(self, budget: WeightBudget, spent: _Spent) -> None:
        self._budget = budget
        self._spent = spent

    def settle(self, weight: float) -> None:
        """Correct the charge to the true weight: what was too much goes back, what is missing is debt."""
        if weight > self._spent.weight:
            self._budget.charge_later(weight - self._spent.weight)
        else:
            self._spent.weight = weight


class WeightBudget:
    """Weight that may be used within any ``window_s`` seconds.

    Args:
        clock: its monotonic time is the budget's.
        capacity: weight in the window.
        window_s: after which a spent token comes back, seconds.
    """

    def __init__(self, clock: Clock, capacity: float = 900.0, window_s: float = 60.0) -> None:
        if not capacity > 0 or not window_s > 0:
            raise ValueError(f"capacity and window must be positive, not {capacity} and {window_s}")
        self.capacity = capacity
        self.window_s = window_s
        self._clock = clock
        self._spent: deque[_Spent] = deque()
        self._queue = asyncio.Lock()  # wakes in the order of arrival
        self.waited_s = 0.0
        """Time the requests at the head of the queue have waited for tokens, seconds."""

    @property
    def used(self) -> float:
        """Weight spent within the last window; above ``capacity`` while there is debt."""
        oldest = self._clock.monotonic() - self.window_s
        while self._spent and self._spent[0].at_s <= oldest:
            self._spent.popleft()
        return sum(spent.weight for spent in self._spent)

    async def acquire(self, weight: float) -> Charge:
        """Wait for ``weight`` tokens and take them; debt is paid off first.

        Raises:
            ValueError: more than the bucket holds, which would wait for ever; or less than nothing.
        """
        if not 0 <= weight <= self.capacity:
            raise ValueError(f"a request of weight {weight} cannot be paid from a budget of {self.capacity}")
        async with self._queue:
            # a rounding of the sum must not hold a request back for ever
            while self.used + weight > self.capacity + 1e-9:
                back_at = self._spent[0].at_s + self.window_s
                wait_s = max(back_at - self._clock.monotonic(), 1e-3)
                self.waited_s += wait_s
                await self._clock.sleep(wait_s)
            return Charge(self, self._take(weight))

    def charge_later(self, extra: float) -> None:
        """Take tokens at once, into debt if need be: for weight known only after the answer.

        Raises:
            ValueError: ``extra`` is negative.
        """
        if extra < 0:
            raise ValueError(f"extra weight must not be negative, not {extra}")
        self._take(extra)

    def _take(self, weight: float) -> _Spent:
        spent = _Spent(self._clock.monotonic(), weight)
        self._spent.append(spent)
        return spent
