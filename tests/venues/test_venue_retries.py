"""How often we ask again, how long we wait, and when we stop."""

from __future__ import annotations

import asyncio
import random

from hypothesis import given
from hypothesis import strategies as st

from slipstream.venues.errors import VenueUnavailable
from slipstream.venues.retry import PassingFailure, RetryPolicy, http_date_ms, retry_after_s, with_retries
from venues.virtual_clock import VirtualClock

FULL = (2.0, 5.0, 12.5, 31.25, 60.0, 60.0, 60.0)
"""Seconds between eight attempts, before the jitter."""


def ask(failures, *, policy=None, seed=1):
    """(result or error, waits) of a request that fails as listed and then succeeds."""
    left, clock, retried = list(failures), VirtualClock(0), []

    async def attempt():
        if left:
            raise left.pop(0)
        return "answer"

    async def scenario():
        try:
            return await with_retries(
                attempt,
                what="meta",
                policy=policy or RetryPolicy(),
                clock=clock,
                draws=random.Random(seed),
                on_retry=lambda: retried.append(1),
            )
        except VenueUnavailable as problem:
            return problem

    result = asyncio.run(scenario())
    assert len(retried) == len(clock.naps)
    return result, clock.naps


def test_eight_attempts_wait_two_seconds_and_then_two_and_a_half_times_as_long_up_to_a_minute():
    result, waits = ask([PassingFailure(f"HTTP 502 no {i}") for i in range(8)])
    assert len(waits) == 7
    for waited, full in zip(waits, FULL, strict=True):
        assert full / 2 <= waited <= full
    assert "8 attempts" in str(result)
    assert "no 7" in str(result)
    assert "meta" in str(result)


def test_the_eighth_attempt_still_counts():
    assert ask([PassingFailure("x")] * 7)[0] == "answer"


def test_programs_that_failed_together_do_not_come_back_together_and_a_seed_repeats_its_waits():
    first, again, other = (ask([PassingFailure("x")] * 4, seed=seed)[1] for seed in (1, 1, 2))
    assert first == again
    assert all(a != b for a, b in zip(first, other, strict=True))


def test_a_venue_that_says_when_to_come_back_is_not_asked_before():
    _, waits = ask([PassingFailure("HTTP 429", retry_after_s=37.0)])
    assert waits == [37.0]
    _, waits = ask([PassingFailure("HTTP 429", retry_after_s=0.1)])
    assert waits[0] >= 1.0  # our own patience is the least


def test_a_venue_that_asks_for_an_hour_ends_the_step_and_says_so():
    result, waits = ask([PassingFailure("HTTP 429", retry_after_s=3600.0)])
    assert waits == []
    assert "3600 s" in str(result)


def test_retry_after_is_read_as_seconds_and_as_a_date_of_the_venue():
    noon = http_date_ms("Sat, 22 Nov 2026 12:00:00 GMT")
    assert retry_after_s("7", noon) == 7.0
    assert retry_after_s("Sat, 22 Nov 2026 12:00:09 GMT", noon) == 9.0
    assert retry_after_s("Sat, 22 Nov 2026 11:00:00 GMT", noon) == 0.0
    for unreadable in (None, "", "soon", "-3", "inf", "nan"):
        assert retry_after_s(unreadable, noon) is None


@given(st.text(max_size=60))
def test_no_header_however_odd_breaks_the_reading_of_it(header):
    stamp = http_date_ms(header)
    assert stamp is None or isinstance(stamp, int)
    wait = retry_after_s(header, 0)
    assert wait is None or wait >= 0
