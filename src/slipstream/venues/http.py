"""A small JSON client: one session, bounded concurrency, pacing, retries, and the venue's time.

Of an answer's status: 200 is decoded; 429, 500, 502, 503 and 504 are asked again; anything else is an error at once.
Of its body: one that ends in the middle of the JSON is asked again like a broken connection; one that is JSON of
another shape, or no JSON at all, is an error at once that quotes it.

The venue's time is taken from the Date header of its answers. It replaces the local clock when that is off by more
than two seconds, which is said once.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Generic, Self, TypeVar

import aiohttp
import msgspec

from slipstream.venues.clock import Clock
from slipstream.venues.errors import BadAnswer, VenueRefused, excerpt
from slipstream.venues.retry import (
    PASSING_STATUSES,
    PassingFailure,
    RetryPolicy,
    http_date_ms,
    retry_after_s,
    with_retries,
)
from slipstream.venues.weight_budget import WeightBudget

log = logging.getLogger(__name__)

CLOCK_TOLERANCE_MS = 2000
"""A local clock that is no further off is believed."""
_SLOW_ANSWER_MS = 4000  # an answer that took longer says little about the venue's time
_MAX_BODY = 64 * 2**20

T = TypeVar("T")


@dataclass
class Traffic:
    """What a client has sent so far, for a progress display."""

    requests: int = 0
    retries: int = 0
    weight: float = 0.0
    received_bytes: int = 0


@dataclass(frozen=True)
class RawAnswer:
    """An answer before it is decoded; ``headers`` has lower-case names."""

    status: int
    body: bytes
    headers: Mapping[str, str]

    @property
    def is_null(self) -> bool:
        """The body is the JSON ``null``."""
        return self.body.strip() == b"null"


@dataclass(frozen=True)
class Answer(Generic[T]):
    """A decoded answer.

    Attributes:
        value: what ``decode`` made of the body.
        body: the body itself, to quote from.
        sent_by_ms: a moment before which the venue had made the answer: what happened later cannot be in it.
        headers: with lower-case names.
    """

    value: T
    body: bytes
    sent_by_ms: int
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Request(Generic[T]):
    """One question to a venue.

    Attributes:
        what: names it in messages, such as ``fundingHistory BTC from 2025-01-01T00:00Z``.
        method: GET or POST.
        path: below the client's address.
        decode: makes a value of the body, or raises a msgspec error.
        body: JSON of a POST.
        params: query of a GET.
        weight: expected weight, paid before it is sent.
        weigh: true weight, once the answer is known (default: the expected).
        explain: looks at an answer that is not 200 before the usual rules do, and may raise what it means.
        budget: pays for it (default: the client's).
    """

    what: str
    method: str
    path: str
    decode: Callable[[bytes], T]
    body: object = None
    params: Mapping[str, str] = field(default_factory=dict)
    weight: float = 1.0
    weigh: Callable[[T], float] | None = None
    explain: Callable[[RawAnswer], None] | None = None
    budget: WeightBudget | None = None


class JsonClient:
    """Asks one venue; use as an async context manager.

    Args:
        base_url: such as ``https://api.hyperliquid.xyz``.
        clock: time, for pacing and stamps.
        budget: weight the client may use.
        draws: source of the jitter.
        policy: of retries.
        concurrency: requests in flight at most.
        total_s: longest duration of one attempt, seconds.
        stalled_s: longest silence of a socket, seconds.
    """

    def __init__(
        self,
        base_url: str,
        *,
        clock: Clock,
        budget: WeightBudget,
        draws: random.Random,
        policy: RetryPolicy | None = None,
        concurrency: int = 8,
        total_s: float = 60.0,
        stalled_s: float = 15.0,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self.clock = clock
        self.budget = budget
        self.traffic = Traffic()
        self._draws = draws
        self._policy = RetryPolicy() if policy is None else policy
        self._slots = asyncio.Semaphore(concurrency)
        self._concurrency = concurrency
        self._timeout = aiohttp.ClientTimeout(total=total_s, sock_connect=stalled_s, sock_read=stalled_s)
        self._session: aiohttp.ClientSession | None = None
        self._offset_ms = 0
        self._told = False

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(limit=self._concurrency)
        self._session = aiohttp.ClientSession(connector=connector, timeout=self._timeout)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    def venue_now_ms(self) -> int:
        """The venue's time as well as it is known, Unix ms: the local clock, corrected if it is off by over 2 s."""
        return self.clock.now_ms() + self._offset_ms

    async def ask(self, request: Request[T]) -> Answer[T]:
        """The venue's answer.

        Raises:
            VenueUnavailable: no usable answer in all attempts.
            VenueRefused: the venue refused the request itself.
            BadAnswer: the answer has another shape, or is no JSON; the request and an excerpt are named.
        """
        return await with_retries(
            lambda: self._attempt(request),
            what=self._name(request),
            policy=self._policy,
            clock=self.clock,
            draws=self._draws,
            on_retry=self._count_retry,
        )

    def _count_retry(self) -> None:
        self.traffic.retries += 1

    def _name(self, request: Request[T]) -> str:
        return f"{request.what} ({self.base_url}{request.path})"

    async def _attempt(self, request: Request[T]) -> Answer[T]:
        async with self._slots:  # first, so that what is paid for is sent at once and counted in the same minute
            charge = await (request.budget or self.budget).acquire(request.weight)
            self.traffic.requests += 1
            self.traffic.weight += request.weight
            raw = await self._exchange(request)
        if raw.status != 200:
            self._not_ok(request, raw)
        value = self._decoded(request, raw.body)
        if request.weigh is not None:
            weight = request.weigh(value)
            self.traffic.weight += weight - request.weight
            charge.settle(weight)
        return Answer(value, raw.body, self._sent_by_ms(raw), raw.headers)

    async def _exchange(self, request: Request[T]) -> RawAnswer:
        if self._session is None:
            raise RuntimeError("the client is closed: use it inside `async with`")
        sent_ms = self.clock.now_ms()
        try:
            async with self._session.request(
                request.method,
                self.base_url + request.path,
                data=None if request.body is None else msgspec.json.encode(request.body),
                headers={} if request.body is None else {"Content-Type": "application/json"},
                params=request.params or None,
                allow_redirects=False,
            ) as answer:
                body = await self._read(request, answer)
                headers = {name.lower(): value for name, value in answer.headers.items()}
                raw = RawAnswer(answer.status, body, headers)
        except aiohttp.InvalidURL as problem:
            raise VenueRefused(f"{self._name(request)}: this is no address; check --base-url") from problem
        except (aiohttp.ClientError, TimeoutError, OSError) as problem:
            reason = str(problem).strip() or "timed out"
            raise PassingFailure(f"{type(problem).__name__}: {reason}") from problem
        self._watch_clock(raw, sent_ms, self.clock.now_ms())
        return raw

    async def _read(self, request: Request[T], answer: aiohttp.ClientResponse) -> bytes:
        parts: list[bytes] = []
        size = 0
        async for part in answer.content.iter_any():
            parts.append(part)
            size += len(part)
            if size > _MAX_BODY:
                raise BadAnswer(f"{self._name(request)}: the answer does not end, {size} bytes so far; nothing taken")
        self.traffic.received_bytes += size
        return b"".join(parts)

    def _not_ok(self, request: Request[T], raw: RawAnswer) -> None:
        """Raise what a status other than 200 means."""
        if request.explain is not None:
            request.explain(raw)
        reason = f"HTTP {raw.status}: {excerpt(raw.body)}"
        if raw.status in PASSING_STATUSES:
            now_ms = http_date_ms(raw.headers.get("date")) or self.venue_now_ms()
            raise PassingFailure(reason, retry_after_s=retry_after_s(raw.headers.get("retry-after"), now_ms))
        raise VenueRefused(f"{self._name(request)}: {reason}. The venue does not take this request.")

    def _decoded(self, request: Request[T], body: bytes) -> T:
        try:
            return request.decode(body)
        except msgspec.ValidationError as problem:
            raise BadAnswer(f"{self._name(request)}: {_where(problem, body)}; nothing of it was taken") from problem
        except (msgspec.DecodeError, UnicodeDecodeError) as problem:
            bad = BadAnswer(f"{self._name(request)}: the answer is no JSON ({problem}): {_around(problem, body)}")
            if "truncated" in str(problem):
                raise PassingFailure(f"the answer was cut off: {excerpt(body[-80:])}", last_words=bad) from problem
            raise bad from problem

    def _sent_by_ms(self, raw: RawAnswer) -> int:
        """The earlier of the venue's own stamp and the corrected clock: with it, a bar that closed is surely closed."""
        stamped = http_date_ms(raw.headers.get("date"))
        now_ms = self.venue_now_ms()
        return now_ms if stamped is None else min(stamped, now_ms)

    def _watch_clock(self, raw: RawAnswer, sent_ms: int, received_ms: int) -> None:
        stamped = http_date_ms(raw.headers.get("date"))
        if stamped is None or received_ms - sent_ms > _SLOW_ANSWER_MS:
            return
        # the header has whole seconds: on average the venue is half a second further
        off_ms = stamped + 500 - (sent_ms + received_ms) // 2
        self._offset_ms = off_ms if abs(off_ms) > CLOCK_TOLERANCE_MS else 0
        if self._offset_ms and not self._told:
            self._told = True
            side = "behind" if off_ms > 0 else "ahead of"
            log.warning("the local clock is %.1f s %s the venue's; the venue's time is used", abs(off_ms) / 1000, side)


def _where(problem: msgspec.ValidationError, body: bytes) -> str:
    """A shape error with the offending piece: msgspec names its place as ``$[3].o`` at the end of its message."""
    message = str(problem)
    index = message.rpartition("`$[")[2].partition("]")[0]
    if not index.isdigit():
        return f"the answer has another shape ({message}): {excerpt(body)}"
    try:
        rows = msgspec.json.decode(body, type=list[msgspec.Raw])
    except msgspec.DecodeError:
        return f"the answer has another shape ({message}): {excerpt(body)}"
    return f"row {index} of the answer has another shape ({message}): {excerpt(bytes(rows[int(index)]))}"


def _around(problem: Exception, body: bytes) -> str:
    position = str(problem).rpartition("(byte ")[2].partition(")")[0]
    return excerpt(body, int(position)) if position.isdigit() else excerpt(body)
