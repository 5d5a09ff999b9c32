"""Settled funding beside a recording: asked for just past each hour, because no stream carries it.

A settlement is stamped up to minutes after its hour. Each coin is asked until its hour is there, and what was missed
is fetched with the next hour, so the file has no holes that the venue does not have.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from slipstream.errors import SlipstreamError
from slipstream.venues.clock import Clock
from slipstream.venues.errors import UnknownMarket

HOUR_MS = 3_600_000
_AFTER_HOUR_MS = 5_000
_AGAIN_S = 15.0
_GIVE_UP_MS = 600_000

SettledRates = Callable[[str, int, int], Awaitable[Sequence[tuple[int, float]]]]
"""(coin, from, to in Unix ms) -> settlements (stamp in Unix ms, rate per hour), in order."""

log = logging.getLogger(__name__)


class FundingFile(Protocol):
    """Where settlements are appended."""

    def write_funding(self, symbol: str, settlements: list[tuple[int, float]]) -> None:
        """Append (hour in Unix ms, rate per hour), durably."""

    def last_funding_ms(self, symbol: str) -> int | None:
        """Hour of the last one there, Unix ms."""


class FundingPoll:
    """Keeps the funding files up to the hour.

    Args:
        coins: case-sensitive names.
        settled: asks the venue.
        files: where the answers go.
        clock: time.
    """

    def __init__(self, coins: Sequence[str], settled: SettledRates, files: FundingFile, *, clock: Clock) -> None:
        self._settled, self._files, self._clock = settled, files, clock
        self._last_ms = {coin: files.last_funding_ms(coin) for coin in coins}
        self._begun_hour_ms = clock.now_ms() // HOUR_MS * HOUR_MS

    def has_latest(self, coin: str) -> bool:
        """Whether the file holds the newest settlement that was certainly published when this began."""
        last_ms = self._last_ms[coin]
        return last_ms is not None and last_ms >= self._begun_hour_ms - HOUR_MS

    async def run(self) -> None:
        """The latest settlement of each coin now, and each new one from then on; until cancelled.

        Raises:
            SlipstreamError: the venue does not know a coin, or the disk refuses.
        """
        hour_ms = self._clock.now_ms() // HOUR_MS * HOUR_MS
        while True:
            await self._hour(hour_ms)
            hour_ms = max(hour_ms + HOUR_MS, self._clock.now_ms() // HOUR_MS * HOUR_MS)
            await self._clock.sleep(max(0.0, (hour_ms + _AFTER_HOUR_MS - self._clock.now_ms()) / 1000.0))

    async def _hour(self, hour_ms: int) -> None:
        """Ask for every coin until it has its settlement of this hour, or for ten minutes."""
        missing = [coin for coin, last_ms in self._last_ms.items() if last_ms is None or last_ms < hour_ms]
        while missing:
            for coin in list(missing):
                if await self._fetch(coin, hour_ms) >= hour_ms:
                    missing.remove(coin)
            if missing and self._clock.now_ms() - hour_ms > _GIVE_UP_MS:
                log.warning("no settlement of the hour at %d ms so far: %s", hour_ms, ", ".join(missing))
                return
            if missing:
                await self._clock.sleep(_AGAIN_S)

    async def _fetch(self, coin: str, hour_ms: int) -> int:
        """Append what is new of one coin; the hour of its last settlement, Unix ms."""
        last_ms = self._last_ms[coin]
        start_ms = hour_ms - HOUR_MS if last_ms is None else last_ms + HOUR_MS
        try:
            answer = await self._settled(coin, start_ms, self._clock.now_ms())
        except UnknownMarket:
            raise
        except SlipstreamError as problem:
            log.warning("funding of %s: %s; asked again later", coin, problem)
            return last_ms or 0
        new: dict[int, float] = {}
        for stamp_ms, rate in answer:
            hour = stamp_ms // HOUR_MS * HOUR_MS
            if last_ms is None or hour > last_ms:
                new.setdefault(hour, rate)
        if new:
            self._files.write_funding(coin, sorted(new.items()))
            self._last_ms[coin] = max(new)
        return self._last_ms[coin] or 0
