"""The HTTP client against a socket that misbehaves: what is asked again, what is an error, and whose clock counts."""

from __future__ import annotations

import asyncio
import logging
import random

import msgspec
import pytest

from slipstream.venues.errors import BadAnswer, VenueRefused, VenueUnavailable
from slipstream.venues.http import JsonClient, Request
from slipstream.venues.weight_budget import WeightBudget
from venues.local_faults import Cut, Fault, Replace, Reset, Stall, Status, of_kind
from venues.local_venue import LocalVenue
from venues.virtual_clock import VirtualClock

NOON = 1_748_779_200_000  # 2025-06-01 12:00 UTC
DEXS = Request(
    "perpDexs", "POST", "/info", msgspec.json.Decoder(list[dict | None]).decode, body={"type": "perpDexs"}, weight=20
)
ALWAYS = 10**6


def client_of(url, clock, **options):
    budget = WeightBudget(clock, options.pop("capacity", 900.0))
    return JsonClient(url, clock=clock, budget=budget, draws=random.Random(1), **options)


def ask(*faults, clock_ms=NOON, request=DEXS, client=None, **options):
    """(answer or error, venue, client) of one request to a venue with faults."""
    clock = VirtualClock(clock_ms)

    async def scenario():
        venue = LocalVenue(NOON, monotonic=clock.monotonic, faults=faults, **options)
        async with venue, client_of(venue.url, clock, **(client or {})) as asking:
            try:
                return await asking.ask(request), venue, asking
            except (BadAnswer, VenueRefused, VenueUnavailable) as problem:
                return problem, venue, asking

    return asyncio.run(scenario())


@pytest.mark.parametrize(
    "action",
    [
        Status(429),
        Status(500),
        Status(502, b"<html>bad gateway</html>", "text/html"),
        Status(503),
        Status(504),
        Cut(0.5),
        Cut(0.5, announced=False),
        Replace(b""),
        Stall(),
        Reset(),
    ],
    ids=lambda action: str(action)[:40],
)
def test_what_may_pass_is_asked_again(action):
    answer, venue, client = ask(Fault(of_kind("perpDexs"), action, times=3), client={"stalled_s": 0.1})
    assert [entry and entry["name"] for entry in answer.value] == [None, "xyz"]
    assert len(venue.requests) == 4
    assert (client.traffic.requests, client.traffic.retries, client.traffic.weight) == (4, 3, 80)


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 405, 415, 422])
def test_a_refusal_is_an_error_at_once_and_names_the_request_and_the_words(status):
    problem, venue, _ = ask(Fault(of_kind("perpDexs"), Status(status, b"these words"), times=ALWAYS))
    assert isinstance(problem, VenueRefused)
    assert problem.exit_code == 1
    assert len(venue.requests) == 1
    assert all(part in str(problem) for part in ("perpDexs", str(status), "these words", venue.url))


def test_a_redirection_is_not_followed():
    """What is asked for goes to the address the user gave, and nowhere else."""
    moved = Status(308, b"", location="/info?elsewhere")
    problem, venue, _ = ask(Fault(lambda seen: seen.number == 1, moved))
    assert isinstance(problem, VenueRefused)
    assert len(venue.requests) == 1


def test_a_venue_that_never_answers_ends_after_eight_attempts():
    problem, venue, _ = ask(Fault(of_kind("perpDexs"), Reset(), times=ALWAYS))
    assert isinstance(problem, VenueUnavailable)
    assert len(venue.requests) == 8
    assert "perpDexs" in str(problem)


def test_a_body_cut_off_every_time_is_in_the_end_an_error_that_quotes_it():
    problem, venue, _ = ask(Fault(of_kind("perpDexs"), Cut(0.5, announced=False), times=ALWAYS))
    assert isinstance(problem, BadAnswer)
    assert problem.exit_code == 2
    assert len(venue.requests) == 8
    assert '[null,{"name":"xyz"' in str(problem)


@pytest.mark.parametrize(
    ("body", "quoted"),
    [
        (b"<html>maintenance</html>", "<html>maintenance"),
        (b'{"universe":[]}', '{"universe":[]}'),
        (b'[null,{"name":"a"},7]', "row 2"),
        (b'[null,"x"]x', '"x"]x'),
        (b"\xff\xfe\x00", "no JSON"),
    ],
)
def test_an_answer_of_another_shape_is_not_asked_again_and_is_quoted(body, quoted):
    problem, venue, _ = ask(Fault(of_kind("perpDexs"), Replace(body), times=ALWAYS))
    assert isinstance(problem, BadAnswer)
    assert len(venue.requests) == 1
    assert quoted in str(problem)
    assert "perpDexs" in str(problem)
    assert "\n" not in str(problem)


def test_the_venue_is_not_asked_before_the_moment_it_named():
    fault = Fault(of_kind("perpDexs"), Status(429, retry_after="41"))
    _, venue, _ = ask(fault)
    assert venue.requests[1].at_s - venue.requests[0].at_s >= 41
    date = Fault(of_kind("perpDexs"), Status(503, retry_after="Sun, 01 Jun 2025 12:00:33 GMT"))
    _, venue, _ = ask(date, clock_ms=NOON - 9_000_000)  # counted from the venue's time, not from ours
    assert 33 <= venue.requests[1].at_s - venue.requests[0].at_s < 34


def test_a_client_stays_within_the_budget_and_the_venue_never_has_to_refuse():
    clock = VirtualClock(NOON)

    async def scenario():
        async with LocalVenue(NOON, monotonic=clock.monotonic) as venue, client_of(venue.url, clock) as client:
            await asyncio.gather(*(client.ask(DEXS) for _ in range(120)))
            return venue, client

    venue, client = asyncio.run(scenario())
    assert venue.refused == 0
    assert venue.weight_in_worst_minute() <= 900
    assert clock.monotonic() == pytest.approx(120, abs=1)  # 2400 of weight: 900 at once, 900 and 600 a minute later
    assert client.traffic.retries == 0


def test_a_client_that_shares_its_address_recovers_from_429():
    clock = VirtualClock(NOON)

    async def scenario():
        venue = LocalVenue(NOON, monotonic=clock.monotonic, weight_limit=200)
        async with venue, client_of(venue.url, clock) as client:
            return venue, await asyncio.gather(*(client.ask(DEXS) for _ in range(15)))

    venue, answers = asyncio.run(scenario())
    assert len(answers) == 15
    assert venue.refused > 0
    assert venue.weight_in_worst_minute() <= 200


def test_no_more_requests_are_in_flight_than_allowed():
    clock = VirtualClock(NOON)

    async def scenario():
        venue = LocalVenue(NOON, monotonic=clock.monotonic)
        async with venue, client_of(venue.url, clock, concurrency=3) as client:
            await asyncio.gather(*(client.ask(DEXS) for _ in range(30)))
        return venue.most_at_once

    assert 1 <= asyncio.run(scenario()) <= 3


@pytest.mark.parametrize("off_ms", [-7_200_000, -3_500, 3_500, 86_400_000])
def test_a_local_clock_off_by_more_than_two_seconds_is_replaced_by_the_venues_and_said_once(off_ms, caplog):
    clock = VirtualClock(NOON + off_ms)

    async def scenario():
        async with LocalVenue(NOON, monotonic=clock.monotonic) as venue, client_of(venue.url, clock) as client:
            for _ in range(3):
                await client.ask(DEXS)
            return client.venue_now_ms()

    with caplog.at_level(logging.WARNING):
        now = asyncio.run(scenario())
    assert abs(now - NOON) <= 500
    told = [record for record in caplog.records if "clock" in record.message]
    assert len(told) == 1
    assert ("ahead of" if off_ms > 0 else "behind") in told[0].message


@pytest.mark.parametrize("off_ms", [-1_400, 0, 1_400])
def test_a_local_clock_within_two_seconds_is_believed(off_ms, caplog):
    with caplog.at_level(logging.WARNING):
        _, _, client = ask(clock_ms=NOON + off_ms)
    assert client.venue_now_ms() == NOON + off_ms
    assert not caplog.records


@pytest.mark.parametrize("past_the_second_ms", [0, 450, 999])
def test_the_venues_time_is_known_to_half_a_second_though_its_header_has_whole_ones(past_the_second_ms):
    clock = VirtualClock(NOON - 60_000)

    async def scenario():
        venue = LocalVenue(NOON + past_the_second_ms, monotonic=clock.monotonic)
        async with venue, client_of(venue.url, clock) as client:
            await client.ask(DEXS)
            return client.venue_now_ms() - venue.now_ms

    assert abs(asyncio.run(scenario())) <= 500


def test_a_date_header_that_is_no_date_changes_nothing():
    answer, _, client = ask(date_skew_ms=None, clock_ms=NOON + 5_000_000)
    assert client.venue_now_ms() == NOON + 5_000_000
    assert answer.sent_by_ms == NOON + 5_000_000


def test_the_moment_an_answer_was_made_is_never_later_than_the_venue_says():
    for off_ms in (-1_500, 0, 1_500, 60_000):
        answer, _, _ = ask(clock_ms=NOON + off_ms)
        assert answer.sent_by_ms <= NOON


def test_an_address_that_is_none_is_refused_at_once():
    clock = VirtualClock(NOON)

    async def scenario():
        async with client_of("nowhere", clock) as client:
            await client.ask(DEXS)

    with pytest.raises(VenueRefused, match="base-url"):
        asyncio.run(scenario())


def test_a_port_nobody_listens_on_is_tried_again_and_named():
    clock = VirtualClock(NOON)

    async def scenario():
        async with LocalVenue(NOON) as venue:
            pass
        async with client_of(venue.url, clock) as client:
            await client.ask(DEXS)

    with pytest.raises(VenueUnavailable, match="Connect"):
        asyncio.run(scenario())
    assert len(clock.naps) == 7
