"""What a load will ask for, and what it will cost, before the first candle is fetched.

Bars are hourly as far as the venue reaches: it keeps the newest 5000 of each length, 208 days of hours. Further back,
bars of the length asked for extend the past (4h reaches 2.3 years, 1d 13 years).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from slipstream.core.panel import HOUR_MS
from slipstream.ingest.load.spans import Held, Span, missing_bars, missing_settlements
from slipstream.lake.datasets import INTERVAL_MS
from slipstream.venues.hyperliquid.limits import MAX_BARS, Requests, plan_candles, plan_funding


@dataclass(frozen=True)
class CoinPlan:
    """What is to be asked for one coin: bars by length, settlements, and the cost.

    ``traded_before`` says that bars from before the range are held, so a silent first bar is no pre-listing row.
    """

    coin: str
    bars: tuple[tuple[str, Span], ...]
    settlements: tuple[Span, ...]
    cost: Requests
    traded_before: bool

    @property
    def empty(self) -> bool:
        """Nothing is missing."""
        return not self.bars and not self.settlements


@dataclass(frozen=True)
class Wanted:
    """A load as asked for: bars of ``interval`` that open in [start_ms, end_ms), and settlements up to end_ms."""

    interval: str
    start_ms: int
    end_ms: int
    now_ms: int

    @property
    def base_interval(self) -> str:
        """The length that is fetched for the recent past."""
        return self.interval if INTERVAL_MS[self.interval] < HOUR_MS else "1h"

    @property
    def reach_ms(self) -> int:
        """Open of the oldest bar of the base length that the venue still has."""
        step = INTERVAL_MS[self.base_interval]
        return self.now_ms // step * step - (MAX_BARS - 1) * step


def wanted(interval: str, start_ms: int, end_ms: int, now_ms: int) -> Wanted:
    """The load asked for, on the grid of its bars: the start is floored, the end may cut a bar short.

    Args:
        interval: length of the bars.
        start_ms: Unix ms.
        end_ms: Unix ms; floored to the hour, or to the bar if that is shorter.
        now_ms: the venue's time, Unix ms.
    """
    step = INTERVAL_MS[interval]
    fine = min(step, HOUR_MS)
    return Wanted(interval, start_ms // step * step, min(end_ms, now_ms) // fine * fine, now_ms)


def plan_coin(coin: str, asked: Wanted, held: Held) -> CoinPlan:
    """What is missing of one coin."""
    base = asked.base_interval
    base_start = max(asked.start_ms, asked.reach_ms)
    bars = [(base, span) for span in missing_bars(held.opens(base, coin), base_start, asked.end_ms, base)]
    older = asked.interval
    if INTERVAL_MS[older] > INTERVAL_MS[base] and asked.start_ms < base_start:
        recent = held.opens(base, coin)
        begins = min(base_start, int(recent[0])) if len(recent) else base_start
        step = INTERVAL_MS[older]
        until = -(-begins // step) * step
        bars += [(older, span) for span in missing_bars(held.opens(older, coin), asked.start_ms, until, older)]
    first_hour = -(-asked.start_ms // HOUR_MS) * HOUR_MS
    last_hour = asked.end_ms // HOUR_MS * HOUR_MS
    settlements = missing_settlements(held.stamps(coin), first_hour, last_hour)
    cost = sum((plan_candles(span.start_ms, span.end_ms, length) for length, span in bars), Requests())
    cost = sum((plan_funding(span.start_ms, span.end_ms - HOUR_MS) for span in settlements), cost)
    opens = held.opens(base, coin)
    traded_before = len(opens) > 0 and bool(bars) and min(span.start_ms for _, span in bars) > int(opens[0])
    return CoinPlan(coin, tuple(bars), settlements, cost, traded_before)


def total(plans: Sequence[CoinPlan]) -> Requests:
    """Cost of all coins together."""
    return sum((plan.cost for plan in plans), Requests())
