"""What the Hyperliquid info endpoint allows, and what a load will cost before the first request is sent.

Checked on 2026-11-22 against the venue's page on rate limits and user limits (copies of January and July 2026).
Confirm before live use: a venue changes its limits without notice.
"""

from __future__ import annotations

from dataclasses import dataclass

from slipstream.venues.wire_frames import HOUR_MS, interval_ms

CHECKED_ON = "2026-11-22"

BEGINNING_MS = 1_672_531_200_000
"""2023-01-01 UTC, Unix ms. The venue opened in the course of that year, so no candle or settlement can be older: a
load never asks for more. A round date before the opening, so that being a few weeks off costs nothing."""

VENUE_WEIGHT_PER_MINUTE = 1200
"""Weight one address of the internet may use in a minute."""
WEIGHT_PER_MINUTE = 900
"""What we use of it; the rest is left to other programs on the machine."""

BASE_WEIGHT = 20
"""Of every request used here, before its rows are counted."""
ROWS_PER_WEIGHT_CANDLES = 60
ROWS_PER_WEIGHT_FUNDING = 20

MAX_BARS = 5000
"""Bars in one answer, and also the bars of one interval that the venue keeps: the newest."""
MAX_SETTLEMENTS = 500
"""Settlements in one answer today; only the prediction relies on it."""


@dataclass(frozen=True)
class Requests:
    """Cost of a load: how many requests, and their weight together."""

    count: int = 0
    weight: int = 0

    def __add__(self, other: Requests) -> Requests:
        return Requests(self.count + other.count, self.weight + other.weight)

    def minutes(self, per_minute: float = WEIGHT_PER_MINUTE) -> float:
        """Time within the limit, minutes, when nothing else uses the budget."""
        return self.weight / per_minute


def candle_weight(rows: int) -> int:
    """Weight of a candleSnapshot that answered ``rows`` bars; a started group of 60 counts whole."""
    return BASE_WEIGHT + -(-rows // ROWS_PER_WEIGHT_CANDLES)


def funding_weight(rows: int) -> int:
    """Weight of a fundingHistory that answered ``rows`` settlements; a started group of 20 counts whole."""
    return BASE_WEIGHT + -(-rows // ROWS_PER_WEIGHT_FUNDING)


def bars_between(start_ms: int, end_ms: int, interval: str) -> int:
    """How many bars of ``interval`` open in [start_ms, end_ms)."""
    step = interval_ms(interval)
    return max(0, -(-end_ms // step) - -(-start_ms // step))


def settlements_between(start_ms: int, end_ms: int) -> int:
    """How many whole hours lie in [start_ms, end_ms]."""
    return max(0, end_ms // HOUR_MS - -(-start_ms // HOUR_MS) + 1)


def plan_candles(start_ms: int, end_ms: int, interval: str) -> Requests:
    """Cost of one coin's bars that open in [start_ms, end_ms), if the coin traded all that time until now.

    The venue keeps the newest 5000 bars, so a longer past costs no more than that.
    """
    bars = min(bars_between(start_ms, end_ms, interval), MAX_BARS)
    return Requests(1, candle_weight(bars)) if bars else Requests()


def plan_funding(start_ms: int, end_ms: int) -> Requests:
    """Cost of one coin's hourly settlements in [start_ms, end_ms], if the coin traded all that time.

    A coin whose settlements end before ``end_ms`` costs one empty page more (20).
    """
    whole, rest = divmod(settlements_between(start_ms, end_ms), MAX_SETTLEMENTS)
    full = Requests(whole, whole * funding_weight(MAX_SETTLEMENTS))
    return full + Requests(1, funding_weight(rest)) if rest else full


def plan_universe(dexs: int) -> Requests:
    """Cost of the list of dexs and of each one's instruments with their contexts."""
    return Requests(1 + dexs, BASE_WEIGHT * (1 + dexs))
