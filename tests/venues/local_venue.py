"""A venue on this machine that answers as the real ones do: Hyperliquid's info endpoint and Binance's futures REST.

Error bodies and codes are those recorded in September 2026 (``vectors/errors/http_info_errors.json``); what a
candleSnapshot of an unknown coin answers was not recorded, and is taken to be the 500 with ``null`` that
fundingHistory gives. Candles end with the one still forming, only the newest are kept, settlements come late, and
every request is weighed.

Inside a test::

    async with LocalVenue(now_ms=...) as venue:
        ... venue.url, venue.requests, venue.faults, venue.now_ms ...

As a process of its own, for tests that kill its clients (one line of JSON with its address, then it serves until
SIGTERM, or until its standard input closes if that is a pipe)::

    python tests/venues/local_venue.py --now 2025-06-01T12:34:56 --days 200 --coins 6

``POST /_control {"now_ms": ...}`` moves its time from outside, ``GET /_control`` answers what it has counted.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import stat
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from aiohttp import web

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from venues.local_binance import BinanceSide
from venues.local_faults import Fault, Seen, now_and_then, perform
from venues.local_hyperliquid import InfoSide, Reply
from venues.local_market import Coin, small_market


class LocalVenue:
    """Both venues on one address of 127.0.0.1.

    Args:
        now_ms: the venue's time, or a function that tells it; assign to :attr:`now_ms` to move a fixed one.
        days: how far back the synthetic market reaches.
        coins: coins on the first dex, see :func:`~venues.local_market.small_market`.
        seed: of the market.
        market: a market of one's own instead.
        candle_cap: candles in an answer at most, the oldest of what was asked for.
        candle_kept: newest candles of an interval that exist (default: as many as an answer holds, as at the venue).
        funding_cap: settlements in a page.
        weight_limit: weight in a minute before 429; None for no limit.
        retry_after: value of the Retry-After header on such a 429; the real venue sends none.
        date_skew_ms: how far the Date header is off the venue's own time; None sends no header worth the name.
        monotonic: clock of the weight window, seconds.
        faults: see :mod:`venues.local_faults`.
    """

    def __init__(
        self,
        now_ms: int | Callable[[], int],
        *,
        days: int = 200,
        coins: int = 6,
        seed: int = 7,
        market: dict[str, list[Coin]] | None = None,
        candle_cap: int = 5000,
        candle_kept: int | None = None,
        funding_cap: int = 500,
        weight_limit: int | None = 1200,
        retry_after: str | None = None,
        date_skew_ms: int | None = 0,
        monotonic: Callable[[], float] = time.monotonic,
        faults: Iterable[Fault] = (),
    ) -> None:
        self._tell_now = now_ms if callable(now_ms) else None
        self._now_ms = 0 if callable(now_ms) else now_ms
        self.market = small_market(self.now_ms, days, coins, seed) if market is None else market
        self.weight_limit, self.retry_after = weight_limit, retry_after
        self.date_skew_ms = date_skew_ms
        self.monotonic = monotonic
        self.faults = list(faults)
        self.requests: list[Seen] = []
        self.weights: list[tuple[float, int]] = []
        self.refused = 0
        self.most_at_once = 0
        self._at_once = 0
        self._info = InfoSide(self.market, candle_cap, funding_cap, candle_kept or candle_cap)
        self._binance = BinanceSide(self.market)
        self._windows: dict[str, deque[tuple[float, int]]] = {"info": deque(), "binance": deque()}
        self._closing = asyncio.Event()
        self._runner: web.AppRunner | None = None
        self.url = ""

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=2**20)
        app.router.add_route("*", "/info", self._counted(self._answer_info))
        app.router.add_route("GET", "/fapi/v1/{kind:.+}", self._counted(self._answer_binance))
        app.router.add_route("*", "/_control", self._control)
        self._closing.clear()
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        assert self._runner is not None
        await self._runner.cleanup()

    @property
    def now_ms(self) -> int:
        """The venue's time, Unix ms."""
        return self._now_ms if self._tell_now is None else self._tell_now()

    @now_ms.setter
    def now_ms(self, now_ms: int) -> None:
        self._now_ms, self._tell_now = now_ms, None

    def coin(self, name: str) -> Coin:
        """The synthetic coin, to compare a client's rows with."""
        return next(coin for coins in self.market.values() for coin in coins if coin.name == name)

    def asked(self, kind: str) -> list[Seen]:
        """The requests of a kind so far."""
        return [seen for seen in self.requests if seen.kind == kind]

    def weight_in_worst_minute(self) -> int:
        """The most weight that lay within any 60 seconds, what was refused left out."""
        return max(
            (sum(w for at, w in self.weights if start <= at < start + 60) for start, _ in self.weights), default=0
        )

    def _counted(
        self, answer: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handler(request: web.Request) -> web.StreamResponse:
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            try:
                return await answer(request)
            finally:
                self._at_once -= 1

        return handler

    async def _answer_info(self, request: web.Request) -> web.StreamResponse:
        if request.method != "POST":
            return self._dated(Reply(405, b"", None))
        raw = await request.read()
        query, complaint = InfoSide.parse(raw, request.content_type)
        if query is None:
            assert complaint is not None
            return self._dated(complaint)
        seen = self._see(request.path, str(query.get("type")), query)
        return await self._finish(request, seen, self._info.answer(query, self.now_ms))

    async def _answer_binance(self, request: web.Request) -> web.StreamResponse:
        query: dict[str, object] = dict(request.query)
        seen = self._see(request.path, request.match_info["kind"], query)
        reply = self._binance.answer(seen.kind, dict(request.query), self.now_ms)
        return await self._finish(request, seen, reply, used_weight_header=True)

    def _see(self, path: str, kind: str, query: dict[str, object]) -> Seen:
        seen = Seen(len(self.requests) + 1, path, kind, query, self.monotonic())
        self.requests.append(seen)
        return seen

    async def _finish(
        self, request: web.Request, seen: Seen, reply: Reply, *, used_weight_header: bool = False
    ) -> web.StreamResponse:
        for fault in self.faults:
            if fault.applies(seen):
                answer = await perform(fault.action, request, reply.body, self._closing)
                if not answer.prepared:
                    answer.headers["Date"] = self._date()
                return answer
        window = self._windows["binance" if used_weight_header else "info"]
        if not self._weigh(window, reply.weight):
            self.refused += 1
            headers = {} if self.retry_after is None else {"Retry-After": self.retry_after}
            return self._dated(Reply(429, b"", "text/plain"), headers)
        headers = {"X-MBX-USED-WEIGHT-1M": str(sum(w for _, w in window))} if used_weight_header else {}
        return self._dated(reply, headers)

    def _weigh(self, window: deque[tuple[float, int]], weight: int) -> bool:
        now = self.monotonic()
        while window and window[0][0] <= now - 60:
            window.popleft()
        if self.weight_limit is not None and sum(w for _, w in window) + weight > self.weight_limit:
            return False
        window.append((now, weight))
        self.weights.append((now, weight))
        return True

    def _date(self) -> str:
        if self.date_skew_ms is None:
            return "never"
        moment = datetime.fromtimestamp((self.now_ms + self.date_skew_ms) // 1000, UTC)
        return format_datetime(moment, usegmt=True)

    def _dated(self, reply: Reply, headers: dict[str, str] | None = None) -> web.Response:
        answer = web.Response(status=reply.status, body=reply.body, headers=headers)
        if reply.content_type is not None:
            answer.content_type = reply.content_type
        answer.headers["Date"] = self._date()
        return answer

    async def _control(self, request: web.Request) -> web.Response:
        if request.method == "POST":
            wanted = await request.json()
            self.now_ms = int(wanted["now_ms"])
        counted = {"now_ms": self.now_ms, "requests": len(self.requests), "refused": self.refused}
        return web.json_response(counted)


async def _serve(options: argparse.Namespace) -> None:
    moment = datetime.fromisoformat(options.now)
    now_ms = int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
    venue = LocalVenue(
        now_ms,
        days=options.days,
        coins=options.coins,
        seed=options.seed,
        weight_limit=options.weight_limit or None,
        faults=now_and_then(options.seed, options.trouble) if options.trouble else (),
    )
    async with venue:
        sys.stdout.write(json.dumps({"url": venue.url, "now_ms": now_ms}) + "\n")
        sys.stdout.flush()
        await _until_told_to_stop()


async def _until_told_to_stop() -> None:
    """Until SIGTERM or SIGINT, or until a piped standard input ends, so that it does not outlive who started it."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    piped = stat.S_ISFIFO(os.fstat(0).st_mode)
    if piped:
        loop.add_reader(0, lambda: os.read(0, 1024) or stop.set())
    await stop.wait()
    if piped:
        loop.remove_reader(0)


def main() -> None:
    parser = argparse.ArgumentParser(description="a local venue for tests; serves until its standard input ends")
    parser.add_argument("--now", required=True, help="the venue's time, ISO 8601, UTC")
    parser.add_argument("--days", type=int, default=200)
    parser.add_argument("--coins", type=int, default=6)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--weight-limit", type=int, default=1200, help="weight in a minute before 429; 0 for no limit")
    parser.add_argument("--trouble", type=float, default=0.0, help="share of requests that fail in a passing way")
    asyncio.run(_serve(parser.parse_args()))


if __name__ == "__main__":
    main()
