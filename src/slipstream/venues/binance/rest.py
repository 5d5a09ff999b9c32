"""Market data of Binance's USD-M perpetuals over REST: contracts, klines, settled funding, best bid and ask.

Frames carry the Hyperliquid name of the coin and the venue's units (:mod:`slipstream.venues.binance.symbols`). The
interval of funding, 8, 4 or 1 hours and changing in the life of a symbol, is not stated by the venue: it is what lies
between the stamps, and a rate is for that interval.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from types import TracebackType
from typing import Self, TypeVar

import msgspec
import polars as pl

from slipstream.lake.datasets import BARS, FUNDING
from slipstream.venues.binance import limits
from slipstream.venues.binance import rest_messages as messages
from slipstream.venues.binance.symbols import SymbolMap
from slipstream.venues.clock import Clock
from slipstream.venues.errors import BadAnswer, UnknownMarket, VenueRefused, excerpt
from slipstream.venues.http import Answer, JsonClient, RawAnswer, Request, Traffic
from slipstream.venues.retry import PassingFailure, RetryPolicy
from slipstream.venues.weight_budget import WeightBudget
from slipstream.venues.wire_frames import (
    HOUR_MS,
    Origin,
    bars_frame,
    closed_bars,
    decimals,
    exact_decimal,
    funding_frame,
    interval_ms,
    one_per_hour,
    utc_text,
)

MAINNET = "https://fapi.binance.com"
_INVALID_SYMBOL = -1121
_PASSING_CODES = frozenset({-1001, -1007, -1008})
"""The venue lost the request, timed out inside, or is overloaded."""
_REFUSALS = {
    403: "its firewall refused us: too many requests, or from where it does not serve",
    418: "it has banned this address for asking on after 429",
    451: "it does not serve this place",
}

T = TypeVar("T")


@dataclass(frozen=True)
class Contract:
    """A perpetual as the venue describes it; steps and the smallest order are exact.

    Attributes:
        symbol: the venue's name.
        trading: it can be traded now.
        tick_size: step of a price; None where the venue states none.
        step_size: step of a size.
        min_notional: smallest order, in quote asset.
        onboard_ms: listing, Unix ms.
    """

    symbol: str
    trading: bool
    tick_size: Decimal | None
    step_size: Decimal | None
    min_notional: Decimal | None
    onboard_ms: int | None


@dataclass(frozen=True)
class ExchangeInfo:
    """The venue's time (Unix ms), its limit of weight per minute, and its perpetuals."""

    server_ms: int
    weight_per_minute: int
    contracts: tuple[Contract, ...]


@dataclass(frozen=True)
class Quote:
    """Best bid and ask in the venue's units; ``exchange_ms`` is Unix ms, None if not stated."""

    coin: str
    bid: float
    bid_size: float
    ask: float
    ask_size: float
    exchange_ms: int | None


class BinanceClient:
    """Reads the futures REST; use as an async context manager.

    Args:
        base_url: address of the venue.
        clock: time, for pacing and for which bars have closed.
        symbols: which coin is which symbol.
        budget: weight per minute (default: 1800, and three quarters of the venue's limit once it has stated it).
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
        symbols: SymbolMap | None = None,
        budget: WeightBudget | None = None,
        seed: int = 42,
        policy: RetryPolicy | None = None,
        concurrency: int = 4,
        total_s: float = 60.0,
        stalled_s: float = 15.0,
    ) -> None:
        self.symbols = SymbolMap() if symbols is None else symbols
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
        self._own_budget = budget is None
        self._funding_budget = WeightBudget(clock, limits.FUNDING_REQUESTS, limits.FUNDING_WINDOW_S)

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

    async def exchange_info(self) -> ExchangeInfo:
        """The perpetuals and the limit of weight, to which the client's own budget is set.

        Raises:
            VenueError, BadAnswer: as for :meth:`~slipstream.venues.http.JsonClient.ask`.
        """
        answer = await self._get("exchangeInfo", {}, messages.ExchangeInfo, weight=limits.EXCHANGE_INFO_WEIGHT)
        per_minute = [
            limit.limit
            for limit in answer.value.rate_limits
            if (limit.rate_limit_type, limit.interval, limit.interval_num) == ("REQUEST_WEIGHT", "MINUTE", 1)
        ]
        if len(per_minute) != 1 or per_minute[0] <= 0:
            raise BadAnswer(f"exchangeInfo states no limit of weight per minute: {excerpt(answer.body)}")
        if self._own_budget:
            self.http.budget.capacity = 0.75 * per_minute[0]
        perpetuals = (entry for entry in answer.value.symbols if entry.contract_type == "PERPETUAL")
        return ExchangeInfo(answer.value.server_time, per_minute[0], tuple(_contract(entry) for entry in perpetuals))

    async def klines(self, symbol: str, interval: str, start_ms: int, end_ms: int) -> pl.DataFrame:
        """Closed bars that open in [start_ms, end_ms), in the schema of BARS, sorted and unique.

        See :meth:`kline_pages`, whose pages these are.
        """
        pages = self.kline_pages(symbol, interval, start_ms, end_ms)
        return pl.concat([BARS.schema.to_frame(), *[page async for page in pages]])

    async def kline_pages(self, symbol: str, interval: str, start_ms: int, end_ms: int) -> AsyncIterator[pl.DataFrame]:
        """Closed bars that open in [start_ms, end_ms), page by page; the forming one is never among them.

        Prices are multiplied by the coin's ``cex_price_multiplier`` and volumes divided by it.

        Raises:
            UnknownMarket: the venue does not know the symbol.
            UsageError: the symbol has no coin by the rule or the overrides, or the interval is not fetched.
            VenueError, BadAnswer: as for :meth:`~slipstream.venues.http.JsonClient.ask`.
        """
        step, coin = interval_ms(interval), self.symbols.coin(symbol)
        start = -(-start_ms // step) * step
        while start < end_ms:
            limit = min(limits.MAX_KLINES, -(-(end_ms - start) // step))
            what = f"klines {symbol} {interval} from {utc_text(start)} to {utc_text(end_ms)}"
            params = {
                "symbol": symbol,
                "interval": interval,
                "startTime": str(start),
                "endTime": str(end_ms - 1),
                "limit": str(limit),
            }
            shape = list[messages.Kline]
            answer = await self._get("klines", params, shape, what=what, weight=limits.kline_weight(limit))
            bars = self._bars(answer.value, what, coin, interval)
            stamps = bars["ts"].dt.timestamp("ms")
            fresh = closed_bars(bars.filter((stamps >= start) & (stamps < end_ms)), interval, answer.sent_by_ms)
            if fresh.height:
                yield fresh
            if len(answer.value) < limit or int(stamps[-1]) < start:
                break  # the last page, or one that does not advance
            start = int(stamps[-1]) + step

    def _bars(self, klines: list[messages.Kline], what: str, coin: str, interval: str) -> pl.DataFrame:
        origin = Origin(what, coin, klines)
        for row, kline in enumerate(klines):
            if kline.close_ms != kline.open_ms + interval_ms(interval) - 1:
                raise origin.refuse(row, kline.open_ms, f"this is no bar of {interval}")
        names = ("open", "high", "low", "close", "volume")
        texts = {name: [getattr(kline, name) for kline in klines] for name in names}
        bars = bars_frame(origin, interval, [kline.open_ms for kline in klines], texts)
        factor = self.symbols.cex_price_multiplier(coin)
        if factor == 1.0:
            return bars
        return bars.with_columns(pl.col("open", "high", "low", "close") * factor, pl.col("volume") / factor)

    async def funding_rates(self, symbol: str, start_ms: int, end_ms: int) -> pl.DataFrame:
        """Settlements of the whole hours in [start_ms, end_ms], in the schema of FUNDING, sorted and unique.

        See :meth:`funding_pages`, whose pages these are.
        """
        pages = self.funding_pages(symbol, start_ms, end_ms)
        return pl.concat([FUNDING.schema.to_frame(), *[page async for page in pages]])

    async def funding_pages(self, symbol: str, start_ms: int, end_ms: int) -> AsyncIterator[pl.DataFrame]:
        """Settlements of the whole hours in [start_ms, end_ms], page by page; both ends count, premium is null.

        Raises:
            UnknownMarket: the venue does not know the symbol.
            UsageError: the symbol has no coin by the rule or the overrides.
            BadAnswer: two different settlements fall into one hour, or as for
                :meth:`~slipstream.venues.http.JsonClient.ask`.
            VenueError: as for :meth:`~slipstream.venues.http.JsonClient.ask`.
        """
        coin = self.symbols.coin(symbol)
        start = -(-start_ms // HOUR_MS) * HOUR_MS
        end = end_ms // HOUR_MS * HOUR_MS + HOUR_MS
        before = FUNDING.schema.to_frame()
        while start < end:
            what = f"fundingRate {symbol} from {utc_text(start)} to {utc_text(end - 1)}"
            params = {
                "symbol": symbol,
                "startTime": str(start),
                "endTime": str(end - 1),
                "limit": str(limits.MAX_FUNDING),
            }
            shape = list[messages.FundingRate]
            answer = await self._get("fundingRate", params, shape, what=what, budget=self._funding_budget)
            page = _settlements(answer.value, what, symbol, coin)
            stamps = page["settled_ms"]
            fresh = page.filter((stamps >= start) & (stamps < end))
            one_per_hour(pl.concat([before, fresh]), what)
            if fresh.height:
                yield fresh
                before = fresh.tail(1)
            if len(answer.value) < limits.MAX_FUNDING or int(stamps[-1]) < start:
                break  # the last page, or one that does not advance
            start = int(stamps[-1]) + 1

    async def book_ticker(self, symbol: str) -> Quote:
        """The best bid and ask, prices multiplied by the coin's ``cex_price_multiplier`` and sizes divided by it.

        Raises:
            UnknownMarket: the venue does not know the symbol.
            UsageError: the symbol has no coin by the rule or the overrides.
            BadAnswer: a number is unusable, or the bid is above the ask.
            VenueError: as for :meth:`~slipstream.venues.http.JsonClient.ask`.
        """
        coin, what = self.symbols.coin(symbol), f"bookTicker {symbol}"
        weight = limits.BOOK_TICKER_WEIGHT
        answer = await self._get("ticker/bookTicker", {"symbol": symbol}, messages.BookTicker, what=what, weight=weight)
        sent, origin = answer.value, Origin(what, coin, [answer.value])
        bid, ask = (
            float(decimals([text], name, origin, zero=False)[0])
            for name, text in (("bid", sent.bid_price), ("ask", sent.ask_price))
        )
        bid_size, ask_size = (
            float(decimals([text], name, origin)[0])
            for name, text in (("bid_size", sent.bid_qty), ("ask_size", sent.ask_qty))
        )
        if bid > ask or sent.symbol != symbol:
            raise origin.refuse(0, sent.time, f"this is no book of {symbol}")
        factor = self.symbols.cex_price_multiplier(coin)
        return Quote(coin, bid * factor, bid_size / factor, ask * factor, ask_size / factor, sent.time)

    async def _get(
        self,
        endpoint: str,
        params: Mapping[str, str],
        shape: type[T],
        *,
        what: str | None = None,
        weight: float = 1.0,
        budget: WeightBudget | None = None,
    ) -> Answer[T]:
        name = what or endpoint
        request = Request(
            name,
            "GET",
            f"/fapi/v1/{endpoint}",
            msgspec.json.Decoder(shape).decode,
            params=params,
            weight=weight,
            explain=lambda raw: _explain(raw, name, params.get("symbol")),
            budget=budget,
        )
        answer = await self.http.ask(request)
        used = answer.headers.get("x-mbx-used-weight-1m", "")
        if used.isdecimal():  # other programs on this address count, too
            self.http.budget.charge_later(max(0.0, int(used) - self.http.budget.used))
        return answer


def _explain(raw: RawAnswer, what: str, symbol: str | None) -> None:
    """Raise what an answer other than 200 means, where it is more than its status says."""
    if raw.status in _REFUSALS:
        wait = raw.headers.get("retry-after")
        when = "" if wait is None else f" It says to stay away for {wait} s."
        raise VenueRefused(f"{what}: HTTP {raw.status}, {_REFUSALS[raw.status]}: {excerpt(raw.body)}.{when}")
    try:
        refusal = msgspec.json.decode(raw.body, type=messages.Refusal)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return  # not in the venue's form: the status decides
    if refusal.code == _INVALID_SYMBOL and symbol is not None:
        raise UnknownMarket(f"{what}: Binance knows no symbol {symbol!r} ({refusal.msg})", symbol)
    if refusal.code in _PASSING_CODES:
        raise PassingFailure(f"HTTP {raw.status}, code {refusal.code}: {refusal.msg}")


def _settlements(page: list[messages.FundingRate], what: str, symbol: str, coin: str) -> pl.DataFrame:
    origin = Origin(what, coin, page)
    for row, entry in enumerate(page):
        if entry.symbol != symbol:
            raise origin.refuse(row, entry.funding_time, f"this is a settlement of {entry.symbol}, not of {symbol}")
    stamps = [entry.funding_time for entry in page]
    return funding_frame(origin, stamps, [entry.funding_rate for entry in page], [None] * len(page))


def _contract(entry: messages.Symbol) -> Contract:
    origin = Origin("exchangeInfo", entry.symbol, [entry])
    held = {item.filter_type: item for item in entry.filters}

    def number(filter_type: str, name: str) -> Decimal | None:
        item = held.get(filter_type)
        text = None if item is None else getattr(item, name)
        return None if text is None else exact_decimal(text, name, origin)

    return Contract(
        symbol=entry.symbol,
        trading=entry.status == "TRADING",
        tick_size=number("PRICE_FILTER", "tick_size"),
        step_size=number("LOT_SIZE", "step_size"),
        min_notional=number("MIN_NOTIONAL", "notional"),
        onboard_ms=entry.onboard_date,
    )
