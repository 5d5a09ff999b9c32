"""The load itself: several coins at a time over one client and one weight budget, committed in small batches.

A coin that cannot be fetched does not stop the others; it is named at the end. A venue that has stopped answering does:
what has not been asked for by then is named, too. What has been fetched is committed every few coins or seconds and
when the load is interrupted, so a second run asks only for the rest.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import polars as pl

from slipstream.ingest.load.plan import CoinPlan
from slipstream.lake.datasets import BARS, FUNDING
from slipstream.lake.store import CommitReport, Lake
from slipstream.venues.clock import Clock
from slipstream.venues.errors import BadAnswer, UnknownMarket, VenueError, VenueUnavailable

_COINS_AT_ONCE = 4
_COINS_PER_COMMIT = 8
_LONGEST_UNCOMMITTED_S = 20.0
_UNANSWERED_IN_A_ROW = 8
"""Coins that the venue leaves unanswered, all attempts of each, before the rest are not asked for."""


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
    running = _Load(source, lake, list(plans), clock, watcher, trust_files)
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(_COINS_AT_ONCE, len(plans))):
                group.create_task(running.one_after_another())
    except BaseExceptionGroup as problems:
        raise problems.exceptions[0] from problems
    finally:
        await running.commit()
    return running.report


class _Load:
    """The state that the tasks of one load share."""

    def __init__(
        self, source: Source, lake: Lake, plans: list[CoinPlan], clock: Clock, watcher: Watcher, trust_files: bool
    ) -> None:
        self.report = LoadReport()
        self._source, self._lake, self._clock, self._watcher = source, lake, clock, watcher
        self._trust_files = trust_files
        self._waiting = deque(plans)
        self._uncommitted: list[Fetched] = []
        self._last_commit_s = clock.monotonic()
        self._one_commit_at_a_time = asyncio.Lock()
        self._unanswered = 0

    async def one_after_another(self) -> None:
        while self._waiting:
            plan = self._waiting.popleft()
            self._watcher.started(plan.coin)
            try:
                fetched = await _fetched(self._source, plan, self._watcher.advanced)
                self._uncommitted.append(fetched)
                self._unanswered = 0
            except VenueUnavailable as problem:
                self.report.failed[plan.coin] = str(problem)
                self._unanswered += 1
            except (VenueError, BadAnswer, UnknownMarket) as problem:
                self.report.failed[plan.coin] = str(problem)
                self._unanswered = 0
            self._watcher.finished(plan)
            if self._unanswered >= _UNANSWERED_IN_A_ROW:
                self._give_up()
            late = self._clock.monotonic() - self._last_commit_s > _LONGEST_UNCOMMITTED_S
            if len(self._uncommitted) >= _COINS_PER_COMMIT or late:
                await self.commit()

    def _give_up(self) -> None:
        """Leave what has not been asked for: each coin would take minutes to be left unanswered like the last ones."""
        while self._waiting:
            coin = self._waiting.popleft().coin
            self.report.failed[coin] = f"not asked for: the venue left {self._unanswered} coins in a row unanswered"

    async def commit(self) -> None:
        """Commit what came; an interrupt waits for the commit it falls into."""
        writing = asyncio.ensure_future(self._commit())
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            await writing
            raise

    async def _commit(self) -> None:
        async with self._one_commit_at_a_time:
            batch, self._uncommitted = self._uncommitted, []
            self._last_commit_s = self._clock.monotonic()
            if batch:
                await asyncio.to_thread(_write, self._lake, batch, self.report, self._trust_files)


async def _fetched(source: Source, plan: CoinPlan, advanced: Callable[[str, int], None]) -> Fetched:
    bars, settlements = [BARS.schema.to_frame()], [FUNDING.schema.to_frame()]
    for interval, span in plan.bars:
        # silent bars are judged below, where more of the coin is known than one range of one length
        async for page in source.candle_pages(plan.coin, interval, span.start_ms, span.end_ms, traded_before=True):
            bars.append(page)
            advanced(plan.coin, page.height)
    for span in plan.settlements:
        async for page in source.funding_pages(plan.coin, span.start_ms, span.end_ms - 1):
            settlements.append(page)
            advanced(plan.coin, page.height)
    return Fetched(plan.coin, _listed(pl.concat(bars), plan.traded_since_ms), pl.concat(settlements))


def _listed(bars: pl.DataFrame, traded_since_ms: int | None) -> pl.DataFrame:
    """The bars without those a venue fills in before a listing: flat, without volume, and before all that is known.

    A coin of which no trade is known keeps its flat bars: nothing then shows that they lie before the first one.
    """
    opened = pl.col("ts").dt.timestamp("ms")
    flat = ((pl.col("volume") == 0.0) & (pl.col("high") == pl.col("low"))).fill_null(value=False)
    first_trade = bars.filter(~flat).select(opened.min()).item()
    known = [moment for moment in (first_trade, traded_since_ms) if moment is not None]
    return bars.filter(~flat | (opened >= min(known))) if known else bars


def _write(lake: Lake, batch: Sequence[Fetched], report: LoadReport, trust_files: bool) -> None:
    bars = lake.upsert(BARS, pl.concat(fetched.bars for fetched in batch), trust_files=trust_files)
    settlements = lake.upsert(FUNDING, pl.concat(fetched.settlements for fetched in batch), trust_files=trust_files)
    for fetched in batch:
        report.fetched_bars[fetched.coin] = fetched.bars.height
        report.fetched_settlements[fetched.coin] = fetched.settlements.height
        report.corrected[fetched.coin] = _corrected(bars, fetched.coin) + _corrected(settlements, fetched.coin)
    report.refused |= settlements.refused | bars.refused


def _corrected(commit: CommitReport, coin: str) -> int:
    return commit.coins[coin].changed if coin in commit.coins else 0
