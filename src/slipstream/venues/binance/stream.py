"""Binance USD-M futures' public stream, by the paths that still deliver: bookTicker and aggTrade.

Facts of the wire, checked on 2026-11-22: since 2026-04-23 streams are routed by path. ``/public`` carries bookTicker,
``/market`` carries aggTrade; the old ``/ws`` and ``/stream`` connect and acknowledge but deliver nothing. A frame is
the event itself or, on a combined path, wrapped as ``{stream, data}``. A connection lives 24 h. Unknown keys appear
and are ignored.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from slipstream.errors import UsageError
from slipstream.venues.clock import Clock
from slipstream.venues.events import BINANCE, Quote, Trade
from slipstream.venues.stream import (
    Ack,
    Complaint,
    Data,
    Frame,
    Gates,
    Ignored,
    MalformedMessage,
    Pong,
    Request,
)
from slipstream.venues.weight_budget import WeightBudget

WS_URL = "wss://fstream.binance.com"
FEEDS = {"bookTicker": "public", "aggTrade": "market"}
"""Feed -> the path it is routed by."""
STREAMS_PER_CONNECTION = 200
MAX_CONNECTIONS = 10
_LIFETIME_S = 23.5 * 3600.0
_CONNECTIONS_PER_MINUTE = 30
_MESSAGES_PER_SECOND = 5  # of 10
_STREAMS_PER_REQUEST = 100
_PING_ID = 0
_QUOTED = 200

Positive = Annotated[float, Meta(gt=0, lt=1e18)]
NotNegative = Annotated[float, Meta(ge=0, lt=1e18)]
Whole = Annotated[int, Meta(ge=0, lt=2**62)]


_NOTHING = msgspec.Raw(b"")


class _Kind(msgspec.Struct, gc=False):
    """Enough of any frame to see what it is: a wrapper, an event, or an answer."""

    e: str | None = None
    data: msgspec.Raw = _NOTHING
    id: int | None = None
    error: msgspec.Raw = _NOTHING
    code: int | None = None
    msg: str | None = None


class _BookTicker(msgspec.Struct, gc=False):
    s: str
    b: NotNegative
    B: NotNegative
    a: NotNegative
    A: NotNegative
    T: Whole | None = None
    E: Whole | None = None


class _AggTrade(msgspec.Struct, gc=False):
    s: str
    a: Whole
    p: Positive
    q: Positive
    T: Whole
    m: bool


_kind = msgspec.json.Decoder(_Kind)
_book_ticker = msgspec.json.Decoder(_BookTicker, strict=False)
_agg_trade = msgspec.json.Decoder(_AggTrade, strict=False)
_encode = msgspec.json.Encoder().encode


def gates(clock: Clock) -> Gates:
    """What one address may do here; share it among all connections of a process."""
    return Gates(WeightBudget(clock, _CONNECTIONS_PER_MINUTE, 60.0), WeightBudget(clock, _MESSAGES_PER_SECOND, 1.0))


def dialects(
    coins: Mapping[str, str], feeds: Sequence[str], session: str, url: str = WS_URL
) -> tuple[BinanceDialect, ...]:
    """The connections that carry these feeds: by path, and at most 200 streams each.

    Args:
        coins: Binance's symbol, in capitals, -> the name under which its events are recorded.
        feeds: of :data:`FEEDS`.
        session: the recording's name, put on every event.
        url: scheme and host, without a path.

    Raises:
        UsageError: no coin, an unknown feed, an address with a path, or more than ten connections.
    """
    unknown = [feed for feed in feeds if feed not in FEEDS]
    if unknown:
        raise UsageError(f"Binance has no feed {unknown[0]!r} here; there are {', '.join(FEEDS)}")
    if not coins or not feeds:
        raise UsageError("a Binance stream needs at least one symbol and one feed")
    base = url.rstrip("/")
    if base.count("/") > 2:
        raise UsageError(f"{url}: give scheme and host only, such as {WS_URL}; the path depends on the feed")
    symbols = list(coins)
    made = tuple(
        BinanceDialect({symbol: coins[symbol] for symbol in part}, feed, session, f"{base}/{FEEDS[feed]}/ws")
        for feed in dict.fromkeys(feeds)
        for part in _parts(symbols, STREAMS_PER_CONNECTION)
    )
    if len(made) > MAX_CONNECTIONS:
        raise UsageError(f"{len(coins)} symbols need {len(made)} connections to Binance; record fewer here")
    return made


class BinanceDialect:
    """One connection that carries one feed of at most 200 symbols; see :func:`dialects`."""

    venue = BINANCE
    ping = _encode({"method": "LIST_SUBSCRIPTIONS", "id": _PING_ID}).decode()
    lifetime_s: float | None = _LIFETIME_S

    def __init__(self, coins: Mapping[str, str], feed: str, session: str, url: str) -> None:
        self.url, self.feeds = url, (feed,)
        self._coins, self._session = dict(coins), session
        self.requests = tuple(
            Request(f"id:{number}", _subscribe(part, feed, number), _subject(part, feed), feed == "bookTicker")
            for number, part in enumerate(_parts(list(coins), _STREAMS_PER_REQUEST), start=_PING_ID + 1)
        )

    def read(self, raw: bytes, received_ns: int, monotonic_ns: int) -> Frame:
        """What a frame says; see :class:`slipstream.venues.stream.Dialect`."""
        what = "frame"
        try:
            kind = _kind.decode(raw)
            event: bytes | msgspec.Raw = raw
            if kind.data is not _NOTHING:
                event = kind.data
                kind = _kind.decode(event)
            if kind.e == "bookTicker":
                what = kind.e
                return self._quote(_book_ticker.decode(event), received_ns, monotonic_ns)
            if kind.e == "aggTrade":
                what = kind.e
                return self._trade(_agg_trade.decode(event), received_ns, monotonic_ns)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
            raise MalformedMessage(
                f"Binance {what}: {problem or type(problem).__name__}; it begins {raw[:_QUOTED]!r}"
            ) from problem
        return _answer(kind)

    def _quote(self, said: _BookTicker, received_ns: int, monotonic_ns: int) -> Frame:
        coin = self._coins.get(said.s)
        if coin is None:
            return Ignored("bookTicker of a symbol not asked for")
        bid = _side(said.b, said.B, said.s, "bid")
        ask = _side(said.a, said.A, said.s, "ask")
        stamp = said.E if said.T is None else said.T
        quote = Quote(BINANCE, coin, stamp, received_ns, monotonic_ns, self._session, *bid, *ask)
        return Data("bookTicker", (quote,))

    def _trade(self, said: _AggTrade, received_ns: int, monotonic_ns: int) -> Frame:
        coin = self._coins.get(said.s)
        if coin is None:
            return Ignored("aggTrade of a symbol not asked for")
        taker = "A" if said.m else "B"  # m: the buyer was the maker, so the taker sold
        trade = Trade(BINANCE, coin, said.T, received_ns, monotonic_ns, self._session, said.p, said.q, taker, said.a)
        return Data("aggTrade", (trade,))


def _side(price: float, size: float, symbol: str, name: str) -> tuple[float | None, float | None]:
    """A side without orders is sent as two zeros."""
    if price > 0 and size > 0:
        return price, size
    if price == 0 and size == 0:
        return None, None
    raise MalformedMessage(f"Binance bookTicker of {symbol}: {name} is {size} at {price}; both or neither may be zero")


def _answer(kind: _Kind) -> Frame:
    if kind.error is not _NOTHING or kind.code is not None:
        text = f"{kind.code} {kind.msg}" if kind.error is _NOTHING else bytes(kind.error).decode(errors="replace")
        return Complaint(text, None if kind.id is None else f"id:{kind.id}")
    if kind.id == _PING_ID:
        return Pong()
    if kind.id is not None:
        return Ack(f"id:{kind.id}")
    return Ignored((kind.e or "frame of no known kind")[:40])


def _subscribe(symbols: Sequence[str], feed: str, number: int) -> str:
    streams = [f"{symbol.lower()}@{feed}" for symbol in symbols]
    return _encode({"method": "SUBSCRIBE", "params": streams, "id": number}).decode()


def _subject(symbols: Sequence[str], feed: str) -> str:
    shown = ", ".join(symbols[:5])
    return f"{feed} of {shown}" + (f" and {len(symbols) - 5} more" if len(symbols) > 5 else "")


def _parts(symbols: list[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(symbols), size):
        yield symbols[start : start + size]
