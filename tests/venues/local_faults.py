"""What can go wrong between a client and a venue, to be scripted by a test."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from aiohttp import web


@dataclass(frozen=True)
class Seen:
    """One request as the venue saw it.

    Attributes:
        number: 1 for the first request.
        path: of the URL.
        kind: ``type`` of an info request, or the last part of a Binance path.
        query: the JSON body of an info request, or the query of a Binance one.
        at_s: the venue's monotonic time.
    """

    number: int
    path: str
    kind: str
    query: dict[str, object]
    at_s: float


@dataclass(frozen=True)
class Status:
    """Answer with this status instead."""

    status: int
    body: bytes = b""
    content_type: str = "text/plain"
    retry_after: str | None = None
    location: str | None = None


@dataclass(frozen=True)
class Replace:
    """Answer 200 with this body instead."""

    body: bytes


@dataclass(frozen=True)
class Cut:
    """Send a part of the real body; ``announced`` tells whether the header promised the whole of it."""

    part: float = 0.5
    announced: bool = True


@dataclass(frozen=True)
class Stall:
    """Send half of the real body and then nothing, leaving the socket open."""


@dataclass(frozen=True)
class Reset:
    """Break the connection with a TCP reset before any answer."""


Action = Status | Replace | Cut | Stall | Reset


@dataclass
class Fault:
    """An action for the first ``times`` requests that ``when`` accepts."""

    when: Callable[[Seen], bool]
    action: Action
    times: int = 1
    used: int = field(default=0, init=False)

    def applies(self, seen: Seen) -> bool:
        if self.used >= self.times or not self.when(seen):
            return False
        self.used += 1
        return True


def of_kind(kind: str, **query: object) -> Callable[[Seen], bool]:
    """Accepts requests of a kind whose query (or its ``req``) holds these values."""

    def accepts(seen: Seen) -> bool:
        inner = seen.query.get("req")
        held = {**seen.query, **(inner if isinstance(inner, dict) else {})}
        return seen.kind == kind and all(held.get(name) == value for name, value in query.items())

    return accepts


def now_and_then(seed: int, share: float) -> Iterable[Fault]:
    """Endless small trouble for a share of all requests, the same for the same seed and order of requests."""
    draws = random.Random(seed)
    actions: tuple[Action, ...] = (Status(429), Status(502, b"<html>"), Cut(0.4), Reset(), Status(500))
    for action in actions:
        yield Fault(lambda _: draws.random() < share / len(actions), action, times=10**9)


async def perform(action: Action, request: web.Request, whole: bytes, closing: asyncio.Event) -> web.StreamResponse:
    """Answer a request the way the action says; ``closing`` frees stalled sockets at the end of the test."""
    if isinstance(action, Status):
        named = {"Retry-After": action.retry_after, "Location": action.location}
        headers = {name: value for name, value in named.items() if value is not None}
        return web.Response(status=action.status, body=action.body, content_type=action.content_type, headers=headers)
    if isinstance(action, Replace):
        return web.Response(body=action.body, content_type="application/json")
    if isinstance(action, Cut) and not action.announced:
        return web.Response(body=whole[: int(len(whole) * action.part)], content_type="application/json")
    transport = request.transport
    assert transport is not None
    if isinstance(action, Reset):
        raw = transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
        return web.Response()
    answer = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": str(len(whole))})
    await answer.prepare(request)
    await answer.write(whole[: int(len(whole) * (action.part if isinstance(action, Cut) else 0.5))])
    if isinstance(action, Stall):
        await closing.wait()
    transport.close()
    return answer
