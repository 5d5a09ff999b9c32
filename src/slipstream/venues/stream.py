"""A public stream that stays up: one WebSocket that subscribes, pings, notices when it is dead, and comes back.

What differs between venues (address, requests, the form of a frame) is a :class:`Dialect`; this module knows only
what is common to them. It hands every event to a :class:`Listener`, says when a feed went down and why, and never lets
one bad message end the stream: what cannot be read is handed on as rejected.

A socket is dead when nothing at all has come for :data:`SILENT_S`, or when pongs still come but no data does although
a feed that pushes on a clock is subscribed.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import aiohttp

from slipstream.errors import SlipstreamError, UsageError
from slipstream.venues.clock import Clock
from slipstream.venues.events import Event
from slipstream.venues.stream_timing import Backoff, Receipts
from slipstream.venues.weight_budget import WeightBudget

PING_AFTER_S = 20.0
"""Idle time before a ping: a venue closes a socket on which it has sent nothing for a minute."""
SILENT_S = 60.0
"""Without a frame for so long, a socket is dead."""
ACK_S = 10.0
"""A subscription that is not acknowledged within this is tried again on a new connection."""
_CONNECT_S = 10.0
_REFUSED_WITHIN_S = 2.0  # an unknown coin closes the socket about 0.1 s after the request, without a word
_STRIKES_ALONE = 5  # closes right after a request, when nothing else was acknowledged that would clear the venue
_STEADY_S = 60.0  # a connection that lived so long is forgiven its earlier failures
_LARGEST_FRAME = 8 * 1024 * 1024

log = logging.getLogger(__name__)


class MalformedMessage(SlipstreamError):
    """A frame that is not what its channel promises; the message says what is wrong and quotes its beginning."""


class SubscriptionRefused(UsageError):
    """The venue does not accept a subscription; the message names the coin and the feed."""


@dataclass(frozen=True)
class Request:
    """One frame that subscribes.

    Attributes:
        key: how the acknowledgement names it.
        frame: the text to send.
        subject: what is asked for, in words, such as ``bbo of BTC``.
        steady: True if it pushes many times a minute even in a quiet market.
        fallback: asked instead if the venue does not understand this one.
    """

    key: str
    frame: str
    subject: str
    steady: bool
    fallback: Request | None = None


@dataclass(frozen=True)
class Data:
    """Events of one feed, in the order of the frame."""

    feed: str
    events: Sequence[Event]


@dataclass(frozen=True)
class Ack:
    """The request of this key is in force."""

    key: str


@dataclass(frozen=True)
class Pong:
    """A sign of life without data."""


@dataclass(frozen=True)
class Complaint:
    """The venue refuses something; ``key`` names the request if the text does."""

    text: str
    key: str | None
    harmless: bool = False


@dataclass(frozen=True)
class Ignored:
    """A frame of a kind this client does not know or did not ask for."""

    kind: str


Frame = Data | Ack | Pong | Complaint | Ignored


class Dialect(Protocol):
    """One connection to one venue: where it goes, what it asks for, how its frames read."""

    @property
    def venue(self) -> str:
        """Name of the venue."""

    @property
    def url(self) -> str:
        """Address of the socket."""

    @property
    def feeds(self) -> tuple[str, ...]:
        """Feeds that are down when this connection is."""

    @property
    def requests(self) -> tuple[Request, ...]:
        """What to subscribe to, in order."""

    @property
    def ping(self) -> str:
        """Text that makes the venue answer."""

    @property
    def lifetime_s(self) -> float | None:
        """Age at which to reconnect before the venue cuts the connection; None: it does not."""

    def read(self, raw: bytes, received_ns: int, monotonic_ns: int) -> Frame:
        """What a frame says.

        Raises:
            MalformedMessage: it does not hold what its channel promises.
        """


class Listener(Protocol):
    """Who is told. Called on the event loop, so each must be quick and must not raise."""

    def received(self, venue: str, data: Data) -> None:
        """Events of a feed."""

    def rejected(self, venue: str, raw: bytes, reason: str, received_ns: int) -> None:
        """A frame that could not be read."""

    def ignored(self, venue: str, kind: str) -> None:
        """A frame of an unknown kind."""

    def went_down(self, venue: str, feeds: Sequence[str], reason: str) -> None:
        """These feeds deliver nothing until the next ``received`` of each."""


@dataclass(frozen=True)
class Gates:
    """What an address may do at a venue, shared by all of its connections."""

    connections: WeightBudget
    messages: WeightBudget


class _Ended(Exception):
    """The connection is over, for this reason."""


@dataclass
class _Live:
    """One connection's state."""

    socket: aiohttp.ClientWebSocketResponse[Literal[False]]
    opened_s: float
    pending: dict[str, Request]
    steady: bool = False
    acknowledged: int = 0
    last_frame_s: float = 0.0
    last_data_s: float = 0.0
    last_ping_s: float = 0.0
    last_request_s: float = 0.0


class Stream:
    """Keeps one :class:`Dialect`'s connection up until it is cancelled."""

    def __init__(
        self,
        dialect: Dialect,
        listener: Listener,
        *,
        http: aiohttp.ClientSession,
        clock: Clock,
        receipts: Receipts,
        gates: Gates,
        rng: random.Random,
    ) -> None:
        self._dialect, self._listener = dialect, listener
        self._http, self._clock, self._receipts, self._gates = http, clock, receipts, gates
        self._backoff = Backoff(rng)
        self._requests = {request.key: request for request in dialect.requests}
        self._ever_acknowledged: set[str] = set()
        self._strikes: Counter[str] = Counter()
        self.connections = 0

    async def run(self) -> None:
        """Connect, and again whenever the connection ends; returns only by being cancelled.

        Raises:
            SubscriptionRefused: the venue does not know a coin, or does not accept a feed.
        """
        venue = self._dialect.venue
        while True:
            await self._gates.connections.acquire(1.0)
            begun_s = self._clock.monotonic()
            try:
                await self._connection()
            except _Ended as end:
                reason = str(end)
            except (aiohttp.ClientError, OSError, TimeoutError) as problem:
                reason = f"cannot connect to {self._dialect.url}: {problem or type(problem).__name__}"
            self._listener.went_down(venue, self._dialect.feeds, reason)
            if self._clock.monotonic() - begun_s >= _STEADY_S:
                self._backoff.reset()
            pause_s = self._backoff.next_s()
            log.warning("%s %s: %s; next attempt in %.1f s", venue, "+".join(self._dialect.feeds), reason, pause_s)
            await self._clock.sleep(pause_s)

    async def _connection(self) -> None:
        """One connection from the handshake to its end, which is always an exception."""
        timeout = aiohttp.ClientWSTimeout(ws_close=0.2)
        connecting = self._http.ws_connect(
            self._dialect.url, timeout=timeout, max_msg_size=_LARGEST_FRAME, compress=0, decode_text=False
        )
        async with asyncio.timeout(_CONNECT_S):
            socket = await connecting
        self.connections += 1
        now_s = self._clock.monotonic()
        live = _Live(socket, now_s, {}, last_frame_s=now_s, last_data_s=now_s, last_ping_s=now_s)
        tasks = [asyncio.create_task(step(live)) for step in (self._subscribe, self._listen, self._watch)]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            for task in tasks:
                if task in done and (problem := task.exception()) is not None:
                    raise problem
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await socket.close()

    async def _subscribe(self, live: _Live) -> None:
        """Ask for everything, in order, without waiting for the answers."""
        for key in list(self._requests):
            await self._ask(live, self._requests[key])

    async def _ask(self, live: _Live, request: Request) -> None:
        await self._gates.messages.acquire(1.0)
        live.pending[request.key] = request
        live.last_request_s = self._clock.monotonic()
        await self._send(live, request.frame)

    async def _send(self, live: _Live, text: str) -> None:
        try:
            await live.socket.send_str(text)
        except (aiohttp.ClientError, OSError) as problem:
            raise _Ended(f"cannot send: {problem or type(problem).__name__}") from problem

    async def _listen(self, live: _Live) -> None:
        """Read frames until the socket ends."""
        receive, receipts, monotonic = live.socket.receive, self._receipts, self._clock.monotonic
        while True:
            message = await receive()
            kind = message.type
            if kind is not aiohttp.WSMsgType.TEXT and kind is not aiohttp.WSMsgType.BINARY:
                raise self._ended_by(live, kind, message.data)
            received_ns, monotonic_ns = receipts.now()
            live.last_frame_s = monotonic()
            try:
                frame = self._dialect.read(message.data, received_ns, monotonic_ns)
            except MalformedMessage as problem:
                self._listener.rejected(self._dialect.venue, message.data, str(problem), received_ns)
                continue
            if type(frame) is Data:
                receipts.taken(monotonic_ns, len(frame.events))
                live.last_data_s = live.last_frame_s
                self._listener.received(self._dialect.venue, frame)
            else:
                await self._answered(live, frame)

    async def _answered(self, live: _Live, frame: Frame) -> None:
        """Everything but data: acknowledgements, complaints, what is not known."""
        if isinstance(frame, Ack):
            self._acknowledge(live, frame.key)
        elif isinstance(frame, Ignored):
            self._listener.ignored(self._dialect.venue, frame.kind)
        elif isinstance(frame, Complaint):
            request = live.pending.get(frame.key or "")
            if frame.harmless and request is not None:
                self._acknowledge(live, request.key)
            elif request is not None and request.fallback is not None:
                await self._fall_back(live, request, request.fallback, frame.text)
            elif request is not None:
                raise SubscriptionRefused(
                    f"{self._dialect.venue} refuses to stream {request.subject}: {frame.text}; check the coin's name "
                    "(case matters) and the feed"
                )
            else:
                log.warning("%s complains: %s", self._dialect.venue, frame.text)
                self._listener.ignored(self._dialect.venue, "error")

    async def _fall_back(self, live: _Live, request: Request, plainer: Request, why: str) -> None:
        log.warning(
            "%s does not accept %s (%s); asking for %s", self._dialect.venue, request.subject, why, plainer.subject
        )
        del live.pending[request.key]
        self._requests = {
            (plainer.key if key == request.key else key): (plainer if key == request.key else other)
            for key, other in self._requests.items()
        }
        await self._ask(live, plainer)

    def _acknowledge(self, live: _Live, key: str) -> None:
        request = live.pending.pop(key, None)
        if request is None:
            self._listener.ignored(self._dialect.venue, "acknowledgement of nothing asked")
            return
        live.acknowledged += 1
        live.steady = live.steady or request.steady
        self._ever_acknowledged.add(key)

    def _ended_by(self, live: _Live, kind: aiohttp.WSMsgType, said: object) -> SlipstreamError | _Ended:
        """Why the socket ended; a socket that ends on a subscription the venue never accepted is counted against it."""
        how = f"code {live.socket.close_code}" if live.socket.close_code else "no close code"
        if kind is aiohttp.WSMsgType.ERROR:
            how = str(said)
        first = next(iter(live.pending.values()), None)
        soon = self._clock.monotonic() - live.last_request_s <= _REFUSED_WITHIN_S
        if first is None or not soon or first.key in self._ever_acknowledged:
            return _Ended(f"the venue closed the socket ({how})")
        self._strikes[first.key] += 1
        strikes = self._strikes[first.key]
        if strikes >= _STRIKES_ALONE or (strikes >= 2 and live.acknowledged):
            return SubscriptionRefused(
                f"{self._dialect.venue} closes the connection whenever {first.subject} is asked for, {strikes} times "
                "now: it seems not to know that coin. Names are case-sensitive; list them with hl-load without flags"
            )
        # last in the queue next time: if the others are then accepted, it was not the venue's bad minute
        self._requests[first.key] = self._requests.pop(first.key)
        return _Ended(f"the venue closed the socket ({how}) when asked for {first.subject}")

    async def _watch(self, live: _Live) -> None:
        """Ping when idle; end what is dead, what is not acknowledged and what is about to be cut."""
        while True:
            now_s = self._clock.monotonic()
            self._check_life(live, now_s)
            idle_since_s = max(live.last_frame_s, live.last_ping_s)
            if now_s - idle_since_s >= PING_AFTER_S:
                live.last_ping_s = idle_since_s = now_s
                await self._gates.messages.acquire(1.0)
                await self._send(live, self._dialect.ping)
            due_s = [idle_since_s + PING_AFTER_S, live.last_frame_s + SILENT_S]
            if live.steady:
                due_s.append(live.last_data_s + SILENT_S)
            if live.pending:
                due_s.append(live.last_request_s + ACK_S)
            if self._dialect.lifetime_s is not None:
                due_s.append(live.opened_s + self._dialect.lifetime_s)
            await self._clock.sleep(min(max(min(due_s) - now_s, 0.05), 1.0))

    def _check_life(self, live: _Live, now_s: float) -> None:
        lifetime_s = self._dialect.lifetime_s
        if now_s - live.last_frame_s >= SILENT_S:
            raise _Ended(f"silent for {now_s - live.last_frame_s:.0f} s")
        if live.steady and now_s - live.last_data_s >= SILENT_S:
            raise _Ended(f"answers pings but sent no data for {now_s - live.last_data_s:.0f} s")
        if live.pending and now_s - live.last_request_s >= ACK_S:
            subject = next(iter(live.pending.values())).subject
            raise _Ended(f"no acknowledgement of {subject} within {ACK_S:.0f} s")
        if lifetime_s is not None and now_s - live.opened_s >= lifetime_s:
            raise _Ended(f"renewed after {lifetime_s / 3600:.1f} h, before the venue cuts the connection")
