"""Market data of Hyperliquid over REST: dexs, instruments, contexts, candles and settled funding.

Everything is a POST to ``{base_url}/info``. Long ranges come page by page, so a loader can show progress and write
down what it has. What the venue says about a thing it does not know is HTTP 500 with the body ``null``, the same
status a passing trouble of the venue has: such an answer is asked for once more, and believed the second time.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Mapping
from types import TracebackType
from typing import Self, TypeVar

import msgspec
import polars as pl

from slipstream.lake.datasets import BARS, FUNDING
from slipstream.venues.clock import Clock
from slipstream.venues.errors import UnknownMarket
from slipstream.venues.http import Answer, JsonClient, RawAnswer, Request, Traffic
from slipstream.venues.hyperliquid import info_messages as messages
from slipstream.venues.hyperliquid import limits
from slipstream.venues.hyperliquid.info_messages import Instrument
from slipstream.venues.retry import PassingFailure, RetryPolicy
from slipstream.venues.weight_budget import WeightBudget
from slipstream.venues.wire_frames import HOUR_MS, closed_bars, flat_head, interval_ms, one_per_hour, utc_text

MAINNET = "https://api.hyperliquid.xyz"
_ATTEMPTS_BEFORE_UNKNOWN = 2

T = TypeVar("T")


class InfoClient:
    """Reads the info endpoint; use as an async context manager.

    Args:
        base_url: address of the venue.
        clock: time, for pacing and for which bars have closed.
        budget: weight per minute (default: 900).
        seed: of the retries' jitter.
        policy: of retries.
        concurrency: requests in flight at most.
        total_s: longest duration of one attempt, seconds.
        stalled_s: longest silence of a socket, seconds.
    """

    def __init__(
        self,
        base_url: str = MAINNET,
        *,
        clock: Clock,
        budget: WeightBudget | None = None,
        seed: int = 42,
        policy: RetryPolicy | None = None,
        concurrency: int = 4,
        total_s: float = 60.0,
        stalled_s: float = 15.0,
    ) -> None:
        self.http = JsonClient(
            base_url,
            clock=clock,
            budget=WeightBudget(clock, limits.WEIGHT_PER_MINUTE) if budget is None else budget,
            draws=random.Random(seed),  # noqa: S311 - jitter, not a secret
            policy=policy,
            concurrency=concurrency,
            total_s=total_s,
            stalled_s=stalled_s,
        )

    async def __aenter__(self) -> Self:
        await self.http.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.http.__aexit__(kind, problem, trace)

    @property
    def traffic(self) -> Traffic:
        """Requests, retries and weight so far."""
        return self.http.traffic

    def venue_now_ms(self) -> int:
        """The venue's time as well as it is known, Unix ms."""
        return self.http.venue_now_ms()

    async def perp_dexs(self) -> tuple[str, ...]:
        """Names of the dexs, the first one (``""``) included; its entry in the answer is null.

        Raises:
            VenueError, BadAnswer: as for :meth:`~slipstream.venues.http.JsonClient.ask`.
        """
        answer = await self._ask("perpDexs", {"type": "perpDexs"}, list[messages.Dex | None])
        named = (entry.name for entry in answer.value if entry is not None)
        return tuple(dict.fromkeys(("", *named)))

    async def meta(self, dex: str = "") -> tuple[Instrument, ...]:
        """The instruments of a dex, delisted ones included, one per coin.

        Raises:
            UnknownMarket: the venue has no such dex.
            VenueError, BadAnswer: as for :meth:`~slipstream.venues.http.JsonClient.ask`.
        """
        what = f"meta of dex {dex or '(default)'}"
        answer = await self._ask(what, {"type": "meta", "dex": dex}, messages.Meta, unknown=_unknown_dex(dex))
        return messages.one_per_coin(messages.instruments(answer.value, what, dex))

    async def meta_and_contexts(self, dex: str, at_ms: int) -> tuple[tuple[Instrument, ...], pl.DataFrame]:
        """The instruments of a dex, and their contexts in the schema of ASSET_CONTEXTS.

        Args:
            dex: its name, empty for the first.
            at_ms: moment to label the contexts with, Unix ms; the answer bears none.

        Raises:
            UnknownMarket: the venue has no such dex.
            VenueError, BadAnswer: as for :meth:`~slipstream.venues.http.JsonClient.ask`.
        """
        what = f"metaAndAssetCtxs of dex {dex or '(default)'}"
        body = {"type": "metaAndAssetCtxs", "dex": dex}
        answer = await self._ask(what, body, messages.MetaAndContexts, unknown=_unknown_dex(dex))
        every = messages.instruments(answer.value.meta, what, dex)
        kept = messages.one_per_coin(every)
        return kept, messages.contexts_frame(answer.value.contexts, every, kept, what, at_ms)

    async def candles(
        self, coin: str, interval: str, start_ms: int, end_ms: int, *, traded_before: bool = False
    ) -> pl.DataFrame:
        """Closed bars that open in [start_ms, end_ms), in the schema of BARS, sorted and unique.

        See :meth:`candle_pages`, whose pages these are.
        """
        pages = self.candle_pages(coin, interval, start_ms, end_ms, traded_before=traded_before)
        return pl.concat([BARS.schema.to_frame(), *[page async for page in pages]])

    async def candle_pages(
        self, coin: str, interval: str, start_ms: int, end_ms: int, *, traded_before: bool = False
    ) -> AsyncIterator[pl.DataFrame]:
        """Closed bars that open in [start_ms, end_ms), page by page; pages follow one another and do not overlap.

        The venue answers at most 5000 bars and keeps no more than about as many of an interval, so the first bar may
        open long after ``start_ms``. The bar still forming is never among them. Flat bars without volume at the very
        beginning are what the venue fills in before a listing; they are left out if a bar that traded follows them
        within the range, and kept if none does, since nothing then shows that they lie before the first trade.

        Args:
            coin: case-sensitive name.
            interval: one of :data:`~slipstream.lake.datasets.INTERVAL_MS`.
            start_ms: Unix ms.
            end_ms: Unix ms.
            traded_before: the coin is known to have traded before ``start_ms``, so nothing is left out.

        Raises:
            UsageError: bars of this length are not fetched.
            UnknownMarket: the venue does not know the coin.
            VenueError, BadAnswer: as for :meth:`~slipstream.venues.http.JsonClient.ask`.
        """
        step = interval_ms(interval)
        before_first_trade, flat = not traded_before, list[pl.DataFrame]()
        start = -(-start_ms // step) * step
        while start < end_ms:
            answer, bars = await self._candle_page(coin, interval, start, end_ms)
            stamps = bars["ts"].dt.timestamp("ms")
            fresh = closed_bars(bars.filter((stamps >= start) & (stamps < end_ms)), interval, answer.sent_by_ms)
            if before_first_trade:
                head = flat_head(fresh)
                before_first_trade = head == fresh.height
                flat = [*flat, fresh] if before_first_trade else []
                fresh = fresh.clear() if before_first_trade else fresh.slice(head)
            if fresh.height:
                yield fresh
            reached = _last(stamps)
            if reached is None or reached < start or reached + 2 * step > answer.sent_by_ms:
                break  # nothing new, or the newest bar there is
            start = reached + step
        for held in flat:
            if held.height:
                yield held

    async def _candle_page(
        self, coin: str, interval: str, start_ms: int, end_ms: int
    ) -> tuple[Answer[list[messages.Candle]], pl.DataFrame]:
        what = f"candleSnapshot {coin} {interval} from {utc_text(start_ms)} to {utc_text(end_ms)}"
        asked = {"coin": coin, "interval": interval, "startTime": start_ms, "endTime": end_ms - 1}
        bars = min(limits.bars_between(start_ms, end_ms, interval), limits.MAX_BARS)
        answer = await self._ask(
            what,
            {"type": "candleSnapshot", "req": asked},
            list[messages.Candle],
            unknown=_unknown_coin(coin),
            weight=limits.candle_weight(bars),
            weigh=lambda rows: limits.candle_weight(len(rows)),
        )
        return answer, messages.candle_bars(answer.value, what, coin, interval)

    async def funding(self, coin: str, start_ms: int, end_ms: int) -> pl.DataFrame:
        """Settlements of the whole hours in [start_ms, end_ms], in the schema of FUNDING, sorted and unique.

        See :meth:`funding_pages`, whose pages these are.
        """
        pages = self.funding_pages(coin, start_ms, end_ms)
        return pl.concat([FUNDING.schema.to_frame(), *[page async for page in pages]])

    async def funding_pages(self, coin: str, start_ms: int, end_ms: int) -> AsyncIterator[pl.DataFrame]:
        """Settlements of the whole hours in [start_ms, end_ms], page by page; pages do not overlap.

        Both ends count: the settlement at the close of a bar belongs to that bar. A settlement is stamped up to
        minutes after its hour and belongs to the hour; the newest may not be published yet.

        Args:
            coin: case-sensitive name.
            start_ms: Unix ms.
            end_ms: Unix ms.

        Raises:
            UnknownMarket: the venue does not know the coin.
            BadAnswer: two different settlements fall into one hour, or as for
                :meth:`~slipstream.venues.http.JsonClient.ask`.
            VenueError: as for :meth:`~slipstream.venues.http.JsonClient.ask`.
        """
        start = first = -(-start_ms // HOUR_MS) * HOUR_MS
        last = end_ms // HOUR_MS * HOUR_MS
        before = FUNDING.schema.to_frame()
        while start < last + HOUR_MS and first <= last:
            what, page = await self._funding_page(coin, start, last)
            reached = _last(page["settled_ms"])
            if reached is None or reached < start:
                break  # an empty page, or one that does not advance
            fresh = page.filter((pl.col("settled_ms") >= start) & (pl.col("settled_ms") < last + HOUR_MS))
            one_per_hour(pl.concat([before, fresh]), what)
            if fresh.height:
                yield fresh
                before = fresh.tail(1)
            if reached >= last:
                break
            start = reached + 1

    async def _funding_page(self, coin: str, start_ms: int, last_hour_ms: int) -> tuple[str, pl.DataFrame]:
        what = f"fundingHistory {coin} from {utc_text(start_ms)} to {utc_text(last_hour_ms)}"
        end_ms = last_hour_ms + HOUR_MS - 1
        rows = min(limits.settlements_between(start_ms, last_hour_ms), limits.MAX_SETTLEMENTS)
        answer = await self._ask(
            what,
            {"type": "fundingHistory", "coin": coin, "startTime": start_ms, "endTime": end_ms},
            list[messages.Funding],
            unknown=_unknown_coin(coin),
            weight=limits.funding_weight(rows),
            weigh=lambda page: limits.funding_weight(len(page)),
        )
        return what, messages.settlements(answer.value, what, coin)

    async def _ask(
        self,
        what: str,
        body: Mapping[str, object],
        shape: type[T],
        *,
        unknown: UnknownMarket | None = None,
        weight: float = limits.BASE_WEIGHT,
        weigh: Callable[[T], float] | None = None,
    ) -> Answer[T]:
        decoder = msgspec.json.Decoder(shape)

        def explain(raw: RawAnswer) -> None:
            if unknown is not None and raw.status == 500 and raw.is_null:
                raise PassingFailure("HTTP 500: null", last_words=unknown, attempts=_ATTEMPTS_BEFORE_UNKNOWN)

        def decode(raw: bytes) -> T:
            if unknown is not None and raw.strip() == b"null":
                raise unknown
            return decoder.decode(raw)

        request = Request(what, "POST", "/info", decode, body=body, weight=weight, weigh=weigh, explain=explain)
        return await self.http.ask(request)


def _last(stamps: pl.Series) -> int | None:
    """The largest stamp of an answer, Unix ms."""
    return None if stamps.is_empty() else int(stamps.to_list()[-1])


def _unknown_dex(dex: str) -> UnknownMarket:
    return UnknownMarket(f"the venue knows no dex {dex!r}; names are case-sensitive", dex)


def _unknown_coin(coin: str) -> UnknownMarket:
    return UnknownMarket(
        f"the venue knows no coin {coin!r}; names are case-sensitive, and those of other dexs read dex:COIN", coin
    )
