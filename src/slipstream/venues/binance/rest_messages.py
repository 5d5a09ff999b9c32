"""The messages of Binance's USD-M futures REST that we read; keys we do not name are ignored."""

from __future__ import annotations

from typing import Annotated

import msgspec

from slipstream.venues.wire_frames import LATEST_MS

Stamp = Annotated[int, msgspec.Meta(ge=0, lt=LATEST_MS)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]


class RateLimit(msgspec.Struct, frozen=True, rename="camel"):
    """One limit of exchangeInfo."""

    rate_limit_type: str
    interval: str
    interval_num: int
    limit: int


class Filter(msgspec.Struct, frozen=True, rename="camel"):
    """One filter of a symbol; which fields it has depends on its type."""

    filter_type: str
    tick_size: str | None = None
    step_size: str | None = None
    notional: str | None = None


class Symbol(msgspec.Struct, frozen=True, rename="camel"):
    """One symbol of exchangeInfo."""

    symbol: Name
    contract_type: str
    status: str
    base_asset: str
    quote_asset: str
    filters: list[Filter]
    onboard_date: Stamp | None = None


class ExchangeInfo(msgspec.Struct, frozen=True, rename="camel"):
    """Answer to exchangeInfo."""

    server_time: Stamp
    rate_limits: list[RateLimit]
    symbols: list[Symbol]


class Kline(msgspec.Struct, frozen=True, array_like=True):
    """One bar, sent as an array; what follows the close time is not read."""

    open_ms: Stamp
    open: str
    high: str
    low: str
    close: str
    volume: str
    close_ms: Stamp


class FundingRate(msgspec.Struct, frozen=True, rename="camel"):
    """One settlement."""

    symbol: str
    funding_rate: str
    funding_time: Stamp


class BookTicker(msgspec.Struct, frozen=True, rename="camel"):
    """Best bid and ask; prices in quote asset, sizes in base asset."""

    symbol: str
    bid_price: str
    bid_qty: str
    ask_price: str
    ask_qty: str
    time: Stamp | None = None


class Refusal(msgspec.Struct, frozen=True):
    """Body of an error."""

    code: int
    msg: str
