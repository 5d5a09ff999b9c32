"""The load itself: several coins at a time over one client and one weight budget, committed in small batches.

A coin that cannot be fetched does not stop the others; it is named at the end. What has been fetched is committed every
few coins or seconds and when the load is interrupted, so a second run asks only for the rest.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import polars as pl

from slipstream.ingest.load.plan import CoinPlan
from slipstream.lake.datasets import BARS, FUNDING
from slipstream.lake.store import CommitReport, Lake
from slipstream.venues.clock import Clock
from slipstream.venues.errors import BadAnswer, UnknownMarket, VenueError

_COINS_AT_ONCE = 4
_COINS_PER_COMMIT = 8
_LONGEST_UNCOMMITTED_S = 20.0


class Source(Protocol):
    """A venue's candles and settlements, page by page, in the schemas of BARS and FUNDING."""

    def candle_pages(
        self, coin: str, interval: str, start_ms: int, end_ms: int, *, traded_before: bool = False
    ) -> AsyncIterator[pl.DataFrame]:
        """Closed bars that open in [start_ms, end_ms)."""
        ...

    def funding_pages(self, coin: str, start_ms: int, end_ms: int) -> AsyncIterator[pl.DataFrame]:
        """Settlements of the whole hours in [start_ms, end_ms]."""
        ...


class Watcher(Protocol):
    """Whoever shows progress."""

    def started(self, coin: str) -> None:
        """The first request of a coin is about to be sent."""
        ...

    def advanced(self, coin: str, rows: int) -> None:
        """A page came."""
        ...

    def finished(self, plan: CoinPlan) -> None:
        """Everything of a coin came, or it failed."""
        ...


@dataclass(frozen=True)
class Fetched:
    """What came for one coin."""

    coin: str
    bars: pl.DataFrame
    settlements: pl.DataFrame


@dataclass
class LoadReport:
    """How a load ended.

    Attributes:
        fetched_bars, fetched_settlements: rows that came, per coin.
        corrected: rows held before whose values changed, per coin.
        failed: coins that could not be fetched, and why.
        refused: coins whose rows the lake would not take, and why.
    """

    fetched_bars: dict[str, int] = field(default_factory=dict)
    fetched_settlements: dict[str, int] = field(default_factory=dict)
    corrected: dict[str, int] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)


async def load(
    source: Source,
    lake: Lake,
    plans: Sequence[CoinPlan],
    *,
    clock: Clock,
    watcher: Watcher,
    trust_files: bool = False,
) -> LoadReport:
    """Fetch what the plans ask for and merge it into the lake.

    Args:
        source: the venue.
        lake: where to; the caller holds its lock.
        plans: one per coin.
        clock: paces the commits.
        watcher: is told of progress.
        trust_files: merge into parts that differ from their checksum.

    Raises:
        SlipstreamError: the disk refused.
        DataError: a table's log cannot be read.
    """
    report = LoadReport()
    waiting: asyncio.Queue[CoinPlan] = asyncio.Queue()
    for plan in plans:
        waiting.put_nowait(plan)
    uncommitted: list[Fetched] = []
    last_commit = clock.monotonic()

    async def one_after_another() -> None:
        nonlocal last_commit
        while not waiting.empty():
            plan = waiting.get_nowait()
            watcher.started(plan.coin)
            try:
                uncommitted.append(await _fetched(source, plan, watcher.advanced))
            except (VenueError, BadAnswer, UnknownMarket) as problem:
                report.failed[plan.coin] = str(problem)
            watcher.finished(plan)
            late = clock.monotonic() - last_commit > _LONGEST_UNCOMMITTED_S
            if len(uncommitted) >= _COINS_PER_COMMIT or late:
                last_commit = clock.monotonic()
                batch = list(uncommitted)
                uncommitted.clear()
                # shielded: an interrupt waits for the commit it falls into
                await asyncio.shield(asyncio.to_thread(_commit, lake, batch, report, trust_files))

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(_COINS_AT_ONCE, len(plans))):
                group.create_task(one_after_another())
    except BaseExceptionGroup as problems:
        raise problems.exceptions[0] from problems
    finally:
        _commit(lake, uncommitted, report, trust_files)
    return report


async def _fetched(source: Source, plan: CoinPlan, advanced: Callable[[str, int], None]) -> Fetched:
    bars, settlements = [BARS.schema.to_frame()], [FUNDING.schema.to_frame()]
    for interval, span in plan.bars:
        pages = source.candle_pages(plan.coin, interval, span.start_ms, span.end_ms, traded_before=plan.traded_before)
        async for page in pages:
            bars.append(page)
            advanced(plan.coin, page.height)
    for span in plan.settlements:
        async for page in source.funding_pages(plan.coin, span.start_ms, span.end_ms - 1):
            settlements.append(page)
            advanced(plan.coin, page.height)
    return Fetched(plan.coin, pl.concat(bars), pl.concat(settlements))


def _commit(lake: Lake, batch: Sequence[Fetched], report: LoadReport, trust_files: bool) -> None:
    if not batch:
        return
    bars = lake.upsert(BARS, pl.concat(fetched.bars for fetched in batch), trust_files=trust_files)
    settlements = lake.upsert(FUNDING, pl.concat(fetched.settlements for fetched in batch), trust_files=trust_files)
    for fetched in batch:
        report.fetched_bars[fetched.coin] = fetched.bars.height
        report.fetched_settlements[fetched.coin] = fetched.settlements.height
        report.corrected[fetched.coin] = _corrected(bars, fetched.coin) + _corrected(settlements, fetched.coin)
    report.refused |= settlements.refused | bars.refused


def _corrected(commit: CommitReport, coin: str) -> int:
    return commit.coins[coin].changed if coin in commit.coins else 0
