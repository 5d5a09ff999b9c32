"""A load as ``hl-load`` does it, against a local venue on a real socket, and what it should have brought."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from functools import cache

import polars as pl

from slipstream.ingest.load.loader import LoadReport, load
from slipstream.ingest.load.plan import CoinPlan, plan_coin, wanted
from slipstream.ingest.load.spans import held_in
from slipstream.lake.datasets import BARS, FUNDING
from slipstream.lake.store import Lake
from slipstream.venues.hyperliquid.info import InfoClient
from slipstream.venues.weight_budget import WeightBudget
from venues.local_market import DAY_MS, HOUR_MS, INTERVALS, Coin, small_market
from venues.local_venue import LocalVenue
from venues.virtual_clock import VirtualClock

NOON = 1_748_779_200_000  # 2025-06-01 12:00 UTC
NOW = NOON + 34 * 60_000 + 56_000


@dataclass
class Watched:
    """What a watcher was told."""

    started_coins: list[str] = field(default_factory=list)
    finished_coins: list[str] = field(default_factory=list)
    rows: dict[str, int] = field(default_factory=dict)

    def started(self, coin: str) -> None:
        self.started_coins.append(coin)

    def advanced(self, coin: str, rows: int) -> None:
        self.rows[coin] = self.rows.get(coin, 0) + rows

    def finished(self, plan: CoinPlan) -> None:
        self.finished_coins.append(plan.coin)


@dataclass(frozen=True)
class Loaded:
    """One load: its report and plans, the venue as it was left, and the clock both lived by."""

    report: LoadReport
    plans: list[CoinPlan]
    venue: LocalVenue
    clock: VirtualClock


@cache
def the_market(days: int = 40, coins: int = 6) -> dict[str, list[Coin]]:
    return small_market(NOW, days, coins)


def load_into(
    lake: Lake,
    *coins: str,
    days: float = 4,
    interval: str = "4h",
    now_ms: int = NOW,
    clock_off_ms: int = 0,
    per_minute: float = 900.0,
    stalled_s: float = 15.0,
    candle_cap: int = 5000,
    refetch: bool = False,
    **options,
) -> Loaded:
    """Load what is missing of the coins' last days; ``options`` are the local venue's."""
    clock = VirtualClock(now_ms + clock_off_ms)
    options.setdefault("market", the_market())

    async def scenario() -> Loaded:
        venue = LocalVenue(
            lambda: clock.now_ms() - clock_off_ms, monotonic=clock.monotonic, candle_cap=candle_cap, **options
        )
        budget = WeightBudget(clock, per_minute)
        async with venue, InfoClient(venue.url, clock=clock, budget=budget, stalled_s=stalled_s) as client:
            await client.meta("")
            end = client.venue_now_ms()
            asked = wanted(interval, end - int(days * DAY_MS), end, end, kept_bars=candle_cap)
            before = held_in(lake, asked.start_ms, asked.end_ms)
            plans = [plan_coin(coin, asked, before, refetch=refetch) for coin in coins]
            work = [plan for plan in plans if not plan.empty]
            return Loaded(await load(client, lake, work, clock=clock, watcher=Watched()), plans, venue, clock)

    return asyncio.run(scenario())


def true_bars(coin: Coin, interval: str, start_ms: int, end_ms: int) -> pl.DataFrame:
    """The market's own closed bars that open in [start, end), without those from before the listing."""
    step = INTERVALS[interval]
    opens = range(-(-start_ms // step) * step, end_ms - step + 1, step)
    bars = [coin.bar(open_ms, interval, end_ms) for open_ms in opens if open_ms + step > coin.listed_ms]
    rows = [
        (coin.name, bar.open_ms, *map(float, (bar.open, bar.high, bar.low, bar.close, bar.volume)), interval)
        for bar in bars
        if bar is not None and not bar.forming
    ]
    return _frame(BARS, rows)


def true_settlements(coin: Coin, start_ms: int, end_ms: int, now_ms: int = NOW) -> pl.DataFrame:
    """The settlements published by ``now_ms`` of the whole hours in [start, end]."""
    found = coin.settlements(start_ms, end_ms + HOUR_MS - 1, now_ms, 10**6)
    return _frame(FUNDING, [(coin.name, it.hour_ms, float(it.rate), float(it.premium), it.stamp_ms) for it in found])


def _frame(dataset, rows) -> pl.DataFrame:
    schema = {**dataset.schema, "ts": pl.Int64()}
    return pl.DataFrame(rows, schema=schema, orient="row").with_columns(pl.col("ts").cast(dataset.schema["ts"]))


def bars_in(lake: Lake, *coins: str, interval: str = "1h") -> pl.DataFrame:
    return lake.read(BARS, coins=coins or None).filter(pl.col("base_interval") == interval)


def settlements_in(lake: Lake, *coins: str) -> pl.DataFrame:
    return lake.read(FUNDING, coins=coins or None)
