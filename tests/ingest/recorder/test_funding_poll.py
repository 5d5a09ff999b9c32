"""Settled funding, asked for past each hour on a clock that a test moves."""

from __future__ import annotations

import asyncio

import pytest

from slipstream.ingest.recorder.funding import HOUR_MS, FundingPoll
from slipstream.venues.errors import UnknownMarket, VenueUnavailable
from venues.virtual_clock import VirtualClock

START_MS = 1_757_015_216_000
HOUR0 = START_MS // HOUR_MS * HOUR_MS


class Files:
    """Keeps what is written."""

    def __init__(self, last_ms: int | None = None) -> None:
        self.written: dict[str, list[tuple[int, float]]] = {}
        self.last_ms = last_ms

    def write_funding(self, symbol: str, settlements: list[tuple[int, float]]) -> None:
        self.written.setdefault(symbol, []).extend(settlements)

    def last_funding_ms(self, symbol: str) -> int | None:
        return self.last_ms


class Venue:
    """Settlements of every hour, published ``late_ms`` after it."""

    def __init__(self, clock: VirtualClock, late_ms: int = 39) -> None:
        self.clock, self.late_ms = clock, late_ms
        self.asked: list[tuple[str, int, int]] = []
        self.down = False

    async def settled(self, coin: str, start_ms: int, end_ms: int) -> list[tuple[int, float]]:
        self.asked.append((coin, start_ms, self.clock.now_ms()))
        if self.down:
            raise VenueUnavailable("no answer")
        if coin == "nope":
            raise UnknownMarket("the venue knows no coin nope", "nope")
        hours = range(-(-start_ms // HOUR_MS), end_ms // HOUR_MS + 1)
        stamps = [hour * HOUR_MS + self.late_ms for hour in hours]
        return [(stamp, stamp // HOUR_MS * 1e-9) for stamp in stamps if stamp <= self.clock.now_ms()]


def poll(hours: float, *, late_ms: int = 39, last_ms: int | None = None, coins=("BTC", "ETH"), at=lambda venue: None):
    clock = VirtualClock(START_MS)
    venue, files = Venue(clock, late_ms), Files(last_ms)

    async def run() -> None:
        task = asyncio.ensure_future(FundingPoll(coins, venue.settled, files, clock=clock).run())
        while clock.monotonic() < hours * 3600 and not task.done():
            at(venue)
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        if not task.cancelled():
            task.result()

    asyncio.run(run())
    return venue, files


def test_each_hour_is_written_once_under_the_hour_it_belongs_to():
    _, files = poll(4.2)
    hours = [hour for hour, _ in files.written["BTC"]]
    assert hours[1:] == [HOUR0 + n * HOUR_MS for n in range(len(hours) - 1)]
    assert len(hours) >= 5
    assert files.written["ETH"][: len(hours)] == files.written["BTC"]


def test_the_venue_is_asked_just_past_the_hour_and_not_in_between():
    venue, _ = poll(3.2)
    later = [at for _, _, at in venue.asked if at > START_MS + 60_000]
    assert all(at % HOUR_MS < 60_000 for at in later)


def test_a_settlement_that_comes_minutes_late_is_asked_for_again():
    venue, files = poll(2.1, late_ms=111_000)
    hours = [hour for hour, _ in files.written["BTC"]]
    assert hours == sorted(set(hours))
    assert HOUR0 + HOUR_MS in hours
    assert sum(coin == "BTC" for coin, _, _ in venue.asked) > len(hours)


def test_hours_missed_while_the_venue_was_away_are_fetched_with_the_next():
    def trouble(venue: Venue) -> None:
        venue.down = 0.9 * 3600 < venue.clock.monotonic() < 2.9 * 3600

    _, files = poll(5.1, at=trouble)
    hours = [hour for hour, _ in files.written["BTC"]]
    assert hours == list(range(hours[0], hours[-1] + 1, HOUR_MS))
    assert len(hours) >= 5


def test_what_an_earlier_recording_wrote_is_not_written_again():
    _, files = poll(0.05, last_ms=HOUR0)
    assert files.written == {}


def test_a_coin_the_venue_does_not_know_ends_the_recording():
    with pytest.raises(UnknownMarket):
        poll(1.0, coins=("nope",))
