"""Pacing: what a minute may cost, who goes first, and what happens to weight that is known too late."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.venues.weight_budget import WeightBudget
from venues.virtual_clock import VirtualClock


def spent_in_worst_window(spent: list[tuple[float, float]], window_s: float) -> float:
    return max((sum(w for at, w in spent if start <= at < start + window_s - 1e-6) for start, _ in spent), default=0.0)


@given(st.lists(st.tuples(st.floats(0, 104), st.floats(0, 20)), max_size=60))
def test_no_minute_wherever_it_starts_costs_more_than_the_budget(requests):
    """A bucket that drips full again would let through twice its size in the first minute."""

    async def scenario():
        clock = VirtualClock(0)
        budget = WeightBudget(clock, 300.0)
        spent = []
        for weight, pause in requests:
            await budget.acquire(weight)
            spent.append((clock.monotonic(), weight))
            if pause > 15:
                await clock.sleep(pause)
        return spent

    assert spent_in_worst_window(asyncio.run(scenario()), 60.0) <= 300.0 + 1e-6


def test_a_long_load_runs_at_the_whole_rate():
    """Pacing must not cost more than the limit itself does: 90 requests of 100 take just under ten minutes."""

    async def scenario():
        clock = VirtualClock(0)
        budget = WeightBudget(clock, 900.0)
        for _ in range(90):
            await budget.acquire(100)
        return clock.monotonic(), budget.waited_s

    took, waited = asyncio.run(scenario())
    assert took == pytest.approx(540, abs=0.1)
    assert waited == pytest.approx(took, abs=0.1)


def test_requests_are_let_through_in_the_order_they_asked_even_if_a_light_one_would_fit():
    async def scenario():
        clock = VirtualClock(0)
        budget = WeightBudget(clock, 100.0)
        order = []

        async def ask(name, weight):
            await budget.acquire(weight)
            order.append((name, round(clock.monotonic())))

        await budget.acquire(90)
        await asyncio.gather(ask("heavy", 100), ask("light", 1), ask("middle", 40))
        return order

    assert asyncio.run(scenario()) == [("heavy", 60), ("light", 120), ("middle", 120)]


def test_weight_known_after_the_answer_is_paid_by_the_next_request():
    async def scenario():
        clock = VirtualClock(0)
        budget = WeightBudget(clock, 100.0)
        await budget.acquire(20)
        await clock.sleep(30)
        budget.charge_later(110)  # the budget is in debt until this comes back
        await budget.acquire(20)
        return clock.monotonic()

    assert asyncio.run(scenario()) == pytest.approx(90, abs=0.01)


def test_an_answer_lighter_than_expected_gives_the_rest_back():
    async def scenario():
        clock = VirtualClock(0)
        budget = WeightBudget(clock, 100.0)
        charge = await budget.acquire(100)
        charge.settle(20)
        await budget.acquire(80)
        free = clock.monotonic()
        charge = await budget.acquire(30)
        charge.settle(130)
        return free, budget.used

    free, used = asyncio.run(scenario())
    assert free == 0
    assert used == pytest.approx(130)  # at 60 s all before had come back


def test_a_request_that_no_budget_can_pay_is_refused_and_does_not_wait_for_ever():
    budget = WeightBudget(VirtualClock(0), 100.0)
    with pytest.raises(ValueError, match="weight 101"):
        asyncio.run(budget.acquire(101))
    with pytest.raises(ValueError, match="negative"):
        budget.charge_later(-1)
    with pytest.raises(ValueError, match="positive"):
        WeightBudget(VirtualClock(0), 0)


def test_a_request_given_up_while_waiting_costs_nothing_and_lets_the_next_one_go():
    async def scenario():
        clock = VirtualClock(0, automatic=False)
        budget = WeightBudget(clock, 100.0)
        await budget.acquire(100)
        given_up = asyncio.create_task(budget.acquire(100))
        await asyncio.sleep(0)
        following = asyncio.create_task(budget.acquire(50))
        await asyncio.sleep(0)
        given_up.cancel()
        await clock.advance(61)
        await following
        return budget.used

    assert asyncio.run(scenario()) == 50
