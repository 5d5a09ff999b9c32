"""When to ask again, and how long to wait before.

Eight attempts, two seconds and then 2.5 times as long each time, at most a minute. The wait is drawn from its upper
half, so that programs which failed together do not come back together. A venue that says when to come back
(Retry-After) is not asked before.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TypeVar

from slipstream.venues.clock import Clock
from slipstream.venues.errors import VenueError, VenueUnavailable

log = logging.getLogger(__name__)

PASSING_STATUSES = frozenset({429, 500, 502, 503, 504})
"""Answers that may be different the next time."""

T = TypeVar("T")


class PassingFailure(VenueError):
    """One attempt failed in a way that may pass; it never leaves this room.

    Args:
        reason: what happened, for the log and the final error.
        retry_after_s: how long the venue asked us to stay away, seconds.
        last_words: raised instead of :class:`VenueUnavailable` when no attempt is left.
        attempts: fewer attempts than the policy's, for a failure that is likely to last.
    """

    def __init__(
        self,
        reason: str,
        *,
        retry_after_s: float | None = None,
        last_words: Exception | None = None,
        attempts: int | None = None,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after_s = retry_after_s
        self.last_words = last_words
        self.attempts = attempts


@dataclass(frozen=True)
class RetryPolicy:
    """How often and how patiently.

    Attributes:
        attempts: requests sent at most, the first included.
        first_s: longest wait before the second attempt.
        factor: growth of the wait.
        cap_s: longest wait of our own choosing.
        patience_s: longest wait a venue may ask for; beyond it the step ends and says so.
    """

    attempts: int = 8
    first_s: float = 2.0
    factor: float = 2.5
    cap_s: float = 60.0
    patience_s: float = 300.0

    def wait_s(self, failed: int, draws: random.Random) -> float:
        """Seconds to wait after the ``failed``-th attempt (from 1): between half the full wait and all of it."""
        full = min(self.cap_s, self.first_s * self.factor ** (failed - 1))
        return full * (0.5 + 0.5 * draws.random())


async def with_retries(
    attempt: Callable[[], Awaitable[T]],
    *,
    what: str,
    policy: RetryPolicy,
    clock: Clock,
    draws: random.Random,
    on_retry: Callable[[], None],
) -> T:
    """The result of the first attempt that does not fail in a passing way.

    Args:
        attempt: raises :class:`PassingFailure` for what may pass; any other exception ends it at once.
        what: the request, for messages.
        policy: how often and how patiently.
        clock: to wait by.
        draws: source of the jitter.
        on_retry: called before each further attempt.

    Raises:
        VenueUnavailable: no attempt succeeded, or the venue asks for more patience than the policy has.
    """
    number = 1
    while True:
        try:
            return await attempt()
        except PassingFailure as failure:
            await _pause(failure, number, what=what, policy=policy, clock=clock, draws=draws)
        on_retry()
        number += 1


async def _pause(
    failure: PassingFailure, number: int, *, what: str, policy: RetryPolicy, clock: Clock, draws: random.Random
) -> None:
    """Wait before attempt ``number + 1``, or end it."""
    attempts = min(policy.attempts, failure.attempts or policy.attempts)
    if number >= attempts:
        if failure.last_words is not None:
            raise failure.last_words from failure
        raise VenueUnavailable(
            f"{what}: no usable answer in {number} attempts, last: {failure.reason}. Try again later."
        ) from failure
    asked_s = failure.retry_after_s or 0.0
    if asked_s > policy.patience_s:
        raise VenueUnavailable(
            f"{what}: {failure.reason}, and the venue asks to stay away for {asked_s:.0f} s. Try again after that."
        ) from failure
    wait_s = max(asked_s, policy.wait_s(number, draws))
    log.warning("%s: %s; attempt %d of %d in %.1f s", what, failure.reason, number + 1, attempts, wait_s)
    await clock.sleep(wait_s)


def retry_after_s(value: str | None, venue_now_ms: int) -> float | None:
    """Seconds a Retry-After header asks for, given as seconds or as an HTTP date; None if absent or unreadable."""
    moment_ms = http_date_ms(value)
    if moment_ms is not None:
        return max(0.0, (moment_ms - venue_now_ms) / 1000)
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        return None
    return seconds if 0 <= seconds < float("inf") else None


def http_date_ms(value: str | None) -> int | None:
    """Unix ms of an HTTP date; None if absent or unreadable."""
    if value is None:
        return None
    try:
        moment = parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return None
    return int(moment.timestamp() * 1000) if moment.tzinfo is not None else None
