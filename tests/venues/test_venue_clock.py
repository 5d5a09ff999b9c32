"""The clock of the wires, and the one of the tests that stands in for it."""

from __future__ import annotations

import asyncio

from slipstream.venues.clock import SystemClock
from venues.virtual_clock import VirtualClock


def test_the_wall_clock_is_the_one_handed_in_and_the_monotonic_one_is_the_machines():
    clock = SystemClock(lambda: 1_748_779_200_123_456_789)
    assert clock.now_ns() == 1_748_779_200_123_456_789
    assert clock.now_ms() == 1_748_779_200_123
    before = clock.monotonic_ns()
    asyncio.run(clock.sleep(0.002))
    assert clock.monotonic_ns() - before >= 2_000_000
    assert clock.monotonic() * 1e9 >= before


def test_sleepers_wake_in_the_order_of_their_deadlines_and_at_them():
    async def scenario():
        clock, woken = VirtualClock(1_000), []

        async def sleeper(name, *naps):
            for nap in naps:
                await clock.sleep(nap)
                woken.append((name, clock.now_ms()))

        await asyncio.gather(sleeper("a", 3, 3), sleeper("b", 1, 1, 9), sleeper("c", 4))
        return woken

    expected = [("b", 2_000), ("b", 3_000), ("a", 4_000), ("c", 5_000), ("a", 7_000), ("b", 12_000)]
    assert asyncio.run(scenario()) == expected


def test_a_clock_that_is_moved_by_hand_moves_no_further_and_a_cancelled_sleeper_does_not_count():
    async def scenario():
        clock = VirtualClock(0, automatic=False)
        tasks = [asyncio.create_task(clock.sleep(seconds)) for seconds in (5, 2, 9)]
        await asyncio.sleep(0)
        tasks[1].cancel()
        await clock.advance(6)
        done = [task.done() for task in tasks]
        clock.step_wall(-4_000)
        tasks[2].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return done, clock.monotonic(), clock.now_ms()

    assert asyncio.run(scenario()) == ([True, True, False], 6.0, 2_000)
