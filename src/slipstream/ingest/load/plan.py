"""What a load will ask for, and what it will cost, before the first candle is fetched.

Bars are hourly as far as the venue reaches: it keeps the newest 5000 of each length, 208 days of hours. Further back,
bars of the length asked for extend the past (4h reaches 2.3 years, 1d 13 years), wherever it is not held as hours.

A plan asks for what is missing, or, to mend values, for the whole range again. Hours that have left the venue's reach
cannot be asked for again; they stay as they are, and longer bars are not stored beside them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from slipstream.core.panel import HOUR_MS, IntArray
from slipstream.ingest.load.spans import Held, Span, missing_bars, missing_settlements, whole_bars, with_the_newest_held
from slipstream.lake.datasets import INTERVAL_MS
from slipstream.venues.hyperliquid.limits import MAX_BARS, Requests, plan_candles, plan_funding

_NONE: IntArray = np.empty(0, dtype=np.int64)


@dataclass(frozen=True)
class CoinPlan:
    """What is to be asked for one coin: bars by length, settlements, and the cost.

    ``traded_since_ms`` is the open of a bar held from which on the coin is known to trade, None if none is held.
    """

    coin: str
    bars: tuple[tuple[str, Span], ...]
    settlements: tuple[Span, ...]
    cost: Requests
    traded_since_ms: int | None

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
    kept_bars: int | None = MAX_BARS
    """Bars of each length that the venue keeps; None: all."""

    @property
    def base_interval(self) -> str:
        """The length that is fetched for the recent past."""
        return self.interval if INTERVAL_MS[self.interval] < HOUR_MS else "1h"

    @property
    def reach_ms(self) -> int:
        """Open of the oldest bar of the base length that the venue still has."""
        if self.kept_bars is None:
            return 0
        step = INTERVAL_MS[self.base_interval]
        return self.now_ms // step * step - (self.kept_bars - 1) * step


@dataclass(frozen=True)
class Costs:
    """What a venue charges: of bars that open in [start, end) of a length, of settlements in [start, end]."""

    bars: Callable[[int, int, str], Requests]
    settlements: Callable[[int, int], Requests]


HYPERLIQUID = Costs(plan_candles, plan_funding)


def wanted(interval: str, start_ms: int, end_ms: int, now_ms: int, *, kept_bars: int | None = MAX_BARS) -> Wanted:
    """The load asked for, on the grid of its bars: the start is floored, the end may cut a bar short.

    Args:
        interval: length of the bars.
        start_ms: Unix ms.
        end_ms: Unix ms; floored to the hour, or to the bar if that is shorter.
        now_ms: the venue's time, Unix ms.
        kept_bars: bars of each length that the venue keeps; None: all.
    """
    step = INTERVAL_MS[interval]
    fine = min(step, HOUR_MS)
    return Wanted(interval, start_ms // step * step, min(end_ms, now_ms) // fine * fine, now_ms, kept_bars)


def plan_coin(coin: str, asked: Wanted, held: Held, costs: Costs = HYPERLIQUID, *, refetch: bool = False) -> CoinPlan:
    """What is missing of one coin, and what asking for it costs.

    Args:
        coin: case-sensitive name.
        asked: the load asked for.
        held: what the lake has of that range.
        costs: what the venue charges.
        refetch: ask for the whole range as if nothing of it were held.
    """
    base = asked.base_interval
    base_start = max(asked.start_ms, asked.reach_ms)
    have = held.opens(base, coin)
    recent = _NONE if refetch else have
    missing = missing_bars(recent, base_start, asked.end_ms, base)
    bars = [(base, span) for span in with_the_newest_held(missing, recent, base)]
    older = asked.interval
    if INTERVAL_MS[older] > INTERVAL_MS[base] and asked.start_ms < base_start:
        step = INTERVAL_MS[older]
        until = -(-base_start // step) * step
        known = np.union1d(_NONE if refetch else held.opens(older, coin), whole_bars(have, base, older))
        bars += [(older, span) for span in missing_bars(known, asked.start_ms, until, older)]
    first_hour = -(-asked.start_ms // HOUR_MS) * HOUR_MS
    last_hour = asked.end_ms // HOUR_MS * HOUR_MS
    settlements = missing_settlements(_NONE if refetch else held.stamps(coin), first_hour, last_hour)
    cost = sum((costs.bars(span.start_ms, span.end_ms, length) for length, span in bars), Requests())
    cost = sum((costs.settlements(span.start_ms, span.end_ms - HOUR_MS) for span in settlements), cost)
    return CoinPlan(coin, tuple(bars), settlements, cost, held.since.get(coin))


def total(plans: Sequence[CoinPlan]) -> Requests:
    """Cost of all coins together."""
    return sum((plan.cost for plan in plans), Requests())
