"""Hyperliquid's public stream: bbo, l2Book, trades and activeAssetCtx, as the venue sends them since June 2026.

Facts of the wire, checked on 2026-11-22: text frames ``{channel, data}``; an acknowledgement echoes the subscription
and comes before its first data; numbers are strings; a quote's side may be null; the first frame of ``trades`` holds
about 20 s of backlog; a plain ``l2Book`` comes every 5.4 s with 20 levels and with ``fast`` every 0.54 s with five.
An unknown coin closes the whole socket without a word. Keys and channels this client does not know are ignored.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from slipstream.errors import UsageError
from slipstream.venues.clock import Clock
from slipstream.venues.events import HYPERLIQUID, Book, Context, Quote, Trade
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

WS_URL = "wss://api.hyperliquid.xyz/ws"
FEEDS = {"bbo": "bbo", "l2Book": "l2Book", "trades": "trades", "contexts": "activeAssetCtx"}
"""Our name of a feed -> the venue's name of its channel."""
MAX_SUBSCRIPTIONS = 1000
"""Per address of the internet."""
_CONNECTIONS_PER_MINUTE = 25  # of 30
_MESSAGES_PER_MINUTE = 1800  # of 2000
_STEADY = {"l2Book", "contexts"}  # sent on a clock, whether or not anything changed
_QUOTED = 200  # characters of a bad frame that an error shows

Positive = Annotated[float, Meta(gt=0, lt=1e18)]
Finite = Annotated[float, Meta(gt=-1e18, lt=1e18)]
Whole = Annotated[int, Meta(ge=0, lt=2**62)]
Coin = Annotated[str, Meta(min_length=1, max_length=64)]


class _Envelope(msgspec.Struct, gc=False):
    channel: str
    data: msgspec.Raw = msgspec.Raw(b"null")


class _Level(msgspec.Struct, gc=False):
    px: Positive
    sz: Positive
    n: Whole


class _Bbo(msgspec.Struct, gc=False):
    coin: Coin
    time: Whole
    bbo: tuple[_Level | None, _Level | None]


class _L2Book(msgspec.Struct, gc=False):
    coin: Coin
    time: Whole
    levels: tuple[list[_Level], list[_Level]]


class _Print(msgspec.Struct, gc=False):
    coin: Coin
    side: Literal["A", "B"]
    px: Positive
    sz: Positive
    time: Whole
    tid: Whole


class _Ctx(msgspec.Struct, gc=False):
    funding: Finite | None = None
    openInterest: Finite | None = None  # noqa: N815 - the venue's names
    oraclePx: Positive | None = None  # noqa: N815
    markPx: Positive | None = None  # noqa: N815
    midPx: Positive | None = None  # noqa: N815
    premium: Finite | None = None
    dayNtlVlm: Finite | None = None  # noqa: N815


class _ActiveAssetCtx(msgspec.Struct, gc=False):
    coin: Coin
    ctx: _Ctx


class _Subscription(msgspec.Struct, gc=False):
    type: str
    coin: str = ""


class _Subscribed(msgspec.Struct, gc=False):
    method: str
    subscription: _Subscription


_envelope = msgspec.json.Decoder(_Envelope)
_bbo = msgspec.json.Decoder(_Bbo, strict=False)
_l2book = msgspec.json.Decoder(_L2Book, strict=False)
_prints = msgspec.json.Decoder(list[_Print], strict=False)
_context = msgspec.json.Decoder(_ActiveAssetCtx, strict=False)
_subscribed = msgspec.json.Decoder(_Subscribed)
_subscription = msgspec.json.Decoder(_Subscription)
_complaint = msgspec.json.Decoder(str)
_encode = msgspec.json.Encoder().encode


def gates(clock: Clock) -> Gates:
    """What one address may do here; share it among all connections of a process."""
    return Gates(WeightBudget(clock, _CONNECTIONS_PER_MINUTE, 60.0), WeightBudget(clock, _MESSAGES_PER_MINUTE, 60.0))


class HyperliquidDialect:
    """One connection that carries every feed of every coin: the venue is content with 1000 subscriptions on it.

    Args:
        coins: names as the venue spells them.
        feeds: of :data:`FEEDS`.
        session: the recording's name, put on every event.
        url: address of the socket.

    Raises:
        UsageError: no coin, an unknown feed, or more subscriptions than the venue allows.
    """

    venue = HYPERLIQUID
    ping = '{"method":"ping"}'
    lifetime_s: float | None = None

    def __init__(self, coins: Iterable[str], feeds: Iterable[str], session: str, url: str = WS_URL) -> None:
        self.url, self._session = url, session
        self._coins = frozenset(names := list(dict.fromkeys(coins)))
        self.feeds = tuple(dict.fromkeys(feeds))
        if not names or not self.feeds:
            raise UsageError("a Hyperliquid stream needs at least one coin and one feed")
        unknown = [feed for feed in self.feeds if feed not in FEEDS]
        if unknown:
            raise UsageError(f"Hyperliquid has no feed {unknown[0]!r}; there are {', '.join(FEEDS)}")
        if len(names) * len(self.feeds) > MAX_SUBSCRIPTIONS:
            raise UsageError(
                f"{len(names)} coins x {len(self.feeds)} feeds are {len(names) * len(self.feeds)} subscriptions; "
                f"Hyperliquid allows {MAX_SUBSCRIPTIONS} per address. Record fewer coins or feeds here."
            )
        self.requests = tuple(_request(feed, coin) for coin in names for feed in self.feeds)

    def read(self, raw: bytes, received_ns: int, monotonic_ns: int) -> Frame:
        """What a frame says; see :class:`slipstream.venues.stream.Dialect`."""
        channel = "frame"
        try:
            envelope = _envelope.decode(raw)
            channel = envelope.channel
            if channel == "bbo":
                return self._quote(_bbo.decode(envelope.data), received_ns, monotonic_ns)
            if channel == "l2Book":
                return self._book(_l2book.decode(envelope.data), received_ns, monotonic_ns)
            if channel == "trades":
                return self._trades(_prints.decode(envelope.data), received_ns, monotonic_ns)
            if channel == "activeAssetCtx":
                return self._contexts(_context.decode(envelope.data), received_ns, monotonic_ns)
            if channel == "pong":
                return Pong()
            if channel == "subscriptionResponse":
                answer = _subscribed.decode(envelope.data)
                return Ack(_key(answer.subscription)) if answer.method == "subscribe" else Ignored(answer.method)
            if channel == "error":
                return _complain(_complaint.decode(envelope.data))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
            if raw.startswith(b"Websocket connection established"):
                return Ignored("greeting")
            raise MalformedMessage(
                f"Hyperliquid {channel[:40]}: {problem or type(problem).__name__}; it begins {raw[:_QUOTED]!r}"
            ) from problem
        return Ignored(channel[:40])

    def _quote(self, said: _Bbo, received_ns: int, monotonic_ns: int) -> Frame:
        if said.coin not in self._coins:
            return Ignored("bbo of a coin not asked for")
        bid, ask = said.bbo
        quote = Quote(
            HYPERLIQUID,
            said.coin,
            said.time,
            received_ns,
            monotonic_ns,
            self._session,
            None if bid is None else bid.px,
            None if bid is None else bid.sz,
            None if ask is None else ask.px,
            None if ask is None else ask.sz,
        )
        return Data("bbo", (quote,))

    def _book(self, said: _L2Book, received_ns: int, monotonic_ns: int) -> Frame:
        if said.coin not in self._coins:
            return Ignored("l2Book of a coin not asked for")
        bids, asks = said.levels
        bid_px, ask_px = [level.px for level in bids], [level.px for level in asks]
        if not (_distinct_and_sorted(bid_px, falling=True) and _distinct_and_sorted(ask_px, falling=False)):
            raise MalformedMessage(f"Hyperliquid l2Book of {said.coin} at {said.time}: levels are not best first")
        book = Book(
            HYPERLIQUID,
            said.coin,
            said.time,
            received_ns,
            monotonic_ns,
            self._session,
            tuple(bid_px),
            tuple([level.sz for level in bids]),
            tuple([level.n for level in bids]),
            tuple(ask_px),
            tuple([level.sz for level in asks]),
            tuple([level.n for level in asks]),
        )
        return Data("l2Book", (book,))

    def _trades(self, said: list[_Print], received_ns: int, monotonic_ns: int) -> Frame:
        trades = [
            Trade(
                HYPERLIQUID,
                one.coin,
                one.time,
                received_ns,
                monotonic_ns + place,
                self._session,
                one.px,
                one.sz,
                one.side,
                one.tid,
            )
            for place, one in enumerate(said)
            if one.coin in self._coins
        ]
        if said and not trades:
            return Ignored("trades of a coin not asked for")
        return Data("trades", trades)

    def _contexts(self, said: _ActiveAssetCtx, received_ns: int, monotonic_ns: int) -> Frame:
        if said.coin not in self._coins:
            return Ignored("activeAssetCtx of a coin not asked for")
        ctx = said.ctx
        context = Context(
            HYPERLIQUID,
            said.coin,
            None,
            received_ns,
            monotonic_ns,
            self._session,
            ctx.funding,
            ctx.openInterest,
            ctx.oraclePx,
            ctx.markPx,
            ctx.midPx,
            ctx.premium,
            ctx.dayNtlVlm,
        )
        return Data("contexts", (context,))


def _distinct_and_sorted(prices: list[float], *, falling: bool) -> bool:
    return sorted(prices, reverse=falling) == prices and len(set(prices)) == len(prices)


def _request(feed: str, coin: str) -> Request:
    channel = FEEDS[feed]
    wanted: dict[str, object] = {"type": channel, "coin": coin}
    plain = Request(f"{channel}:{coin}", _subscribe(wanted), f"{channel} of {coin}", feed in _STEADY)
    if channel != "l2Book":
        return plain
    fast = _subscribe({**wanted, "fast": True})
    return Request(plain.key, fast, f"fast {channel} of {coin}", steady=True, fallback=plain)


def _subscribe(subscription: dict[str, object]) -> str:
    return _encode({"method": "subscribe", "subscription": subscription}).decode()


def _key(subscription: _Subscription) -> str:
    """The same for a request and its echo, which fills in defaults and, on older servers, leaves out ``fast``."""
    return f"{subscription.type}:{subscription.coin}"


def _complain(text: str) -> Complaint:
    """An error frame; it quotes either our whole frame or the subscription as the venue understood it."""
    quoted = text[text.find("{") :].encode() if "{" in text else b""
    key = None
    for decoder, of in ((_subscribed, "frame"), (_subscription, "subscription")):
        try:
            said = decoder.decode(quoted)
        except msgspec.DecodeError:
            continue
        key = _key(said.subscription if of == "frame" else said)  # type: ignore[union-attr, arg-type]
        break
    return Complaint(text, key, harmless=text.startswith("Already subscribed"))
