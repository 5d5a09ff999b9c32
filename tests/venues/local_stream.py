"""Both venues' public streams on 127.0.0.1, with the manners measured on the real ones.

Hyperliquid (``/ws``): an acknowledgement with defaults filled in comes before the data; complaints are ``error``
frames; an unknown coin closes the socket without a word; a socket the server has sent nothing on for a minute is cut.
Binance (``/public/ws``, ``/market/ws``): SUBSCRIBE and LIST_SUBSCRIPTIONS by id, and only streams of the right path
deliver; the old ``/ws`` path of Binance is not served. ``/info`` answers meta and fundingHistory.

A test pushes frames itself, or lets the server send numbered ones at a rate. As a process of its own, for tests that
kill its clients (one line of JSON with its address, then it serves until its standard input closes)::

    python tests/venues/local_stream.py --coins BTC ETH --rate 500
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from aiohttp import WSMsgType, web

HOUR_MS = 3_600_000
PUBLIC = {"bookTicker"}
MARKET = {"aggTrade"}


@dataclass(eq=False)
class Socket:
    """One client's connection."""

    path: str
    ws: web.WebSocketResponse
    received: list[dict] = field(default_factory=list)
    streams: list[str] = field(default_factory=list)

    @property
    def pings(self) -> int:
        """Signs of life that the client asked for."""
        return sum(frame.get("method") in ("ping", "LIST_SUBSCRIPTIONS") for frame in self.received)


@dataclass
class Manners:
    """How the server behaves; change them while it runs."""

    knows_fast: bool = True
    echoes_fast: bool = True
    acknowledges: bool = True
    answers_pings: bool = True
    accepts: bool = True
    closes_at_once: bool = False
    deaf: bool = False
    complains_of: str = ""


class LocalStream:
    """The server; use as an async context manager.

    Args:
        coins: what Hyperliquid lists, and Binance as ``<COIN>USDT``.
        rate: numbered frames a second to every socket that has subscribed; 0: only what is pushed.
        now_ms: the venue's time.
    """

    def __init__(
        self,
        coins: tuple[str, ...] = ("BTC", "ETH"),
        *,
        rate: float = 0.0,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self.coins, self.rate, self.now_ms = coins, rate, now_ms
        self.manners = Manners()
        self.sockets: list[Socket] = []
        self.opened = 0
        self.settlements: dict[str, list[tuple[int, str]]] | None = None
        self._changed = asyncio.Event()
        self._tasks: set[asyncio.Task] = set()
        self._runner: web.AppRunner | None = None
        self.address = ""

    @property
    def hyperliquid_ws(self) -> str:
        return f"ws://{self.address}/ws"

    @property
    def http(self) -> str:
        return f"http://{self.address}"

    @property
    def binance_ws(self) -> str:
        return f"ws://{self.address}"

    async def __aenter__(self) -> Self:
        app = web.Application()
        for path in ("/ws", "/public/ws", "/market/ws"):
            app.router.add_get(path, self._serve)
        app.router.add_post("/info", self._info)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.address = f"{host}:{port}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.drop()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        assert self._runner is not None
        await self._runner.cleanup()

    async def until(self, true: Callable[[], object], within_s: float = 5.0) -> None:
        """Wait until something is so; sockets are looked at whenever one changes, and a hundred times a second."""
        async with asyncio.timeout(within_s):
            while not true():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.01):
                        await self._changed.wait()
                self._changed.clear()

    def subscribed(self, count: int = 1) -> bool:
        """Whether some socket has asked for at least ``count`` streams."""
        return any(len(socket.streams) >= count for socket in self.sockets)

    async def push(self, *frames: object, path: str = "/ws") -> None:
        """Send frames (text, or what becomes JSON) to every open socket of a path."""
        for socket in list(self.sockets):
            if socket.path == path:
                for frame in frames:
                    await socket.ws.send_str(frame if isinstance(frame, str) else json.dumps(frame))

    def drop(self) -> None:
        """Cut every connection without a close frame."""
        for socket in list(self.sockets):
            self._cut(socket.ws)

    @staticmethod
    def _cut(ws: web.WebSocketResponse) -> None:
        transport = ws._req.transport if ws._req is not None else None
        if transport is not None:
            transport.abort()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        self.opened += 1
        self._changed.set()
        if not self.manners.accepts:
            return web.Response(status=503)
        ws = web.WebSocketResponse(compress=False, timeout=0.1)
        await ws.prepare(request)
        socket = Socket(request.path, ws)
        self.sockets.append(socket)
        self._changed.set()
        if self.manners.closes_at_once:
            self._cut(ws)
        try:
            async for message in ws:
                if message.type is WSMsgType.TEXT and not self.manners.deaf:
                    await self._hear(socket, message.data)
                    self._changed.set()
        finally:
            self.sockets.remove(socket)
            self._changed.set()
        return ws

    async def _hear(self, socket: Socket, text: str) -> None:
        try:
            frame = json.loads(text)
        except json.JSONDecodeError:
            await socket.ws.send_str(json.dumps(_error(f"Error parsing JSON into valid websocket request: {text}")))
            return
        socket.received.append(frame)
        with contextlib.suppress(ConnectionError):
            if socket.path == "/ws":
                await self._hear_hyperliquid(socket, frame, text)
            else:
                await self._hear_binance(socket, frame)

    async def _hear_hyperliquid(self, socket: Socket, frame: dict, text: str) -> None:
        send = socket.ws.send_json
        if frame.get("method") == "ping":
            if self.manners.answers_pings:
                await send({"channel": "pong"})
            return
        asked = frame.get("subscription")
        if frame.get("method") != "subscribe" or not isinstance(asked, dict):
            await send(_error(f"Error parsing JSON into valid websocket request: {text}"))
            return
        kind, coin = asked.get("type"), asked.get("coin")
        if kind == self.manners.complains_of:
            await send(_error(f"Invalid subscription {json.dumps(asked)}"))
        elif (
            kind not in ("bbo", "l2Book", "trades", "activeAssetCtx")
            or not isinstance(coin, str)
            or ("fast" in asked and not self.manners.knows_fast)
        ):
            await send(_error(f"Error parsing JSON into valid websocket request: {text}"))
        elif coin not in self.coins:
            self._cut(socket.ws)
        elif f"{kind}:{coin}" in socket.streams:
            await send(_error(f"Already subscribed: {json.dumps(_with_defaults(asked))}"))
        elif self.manners.acknowledges:
            echo = (
                _with_defaults(asked) if self.manners.echoes_fast else {k: v for k, v in asked.items() if k != "fast"}
            )
            await send({"channel": "subscriptionResponse", "data": {"method": "subscribe", "subscription": echo}})
            socket.streams.append(f"{kind}:{coin}")
            self._start(socket, kind, coin)

    async def _hear_binance(self, socket: Socket, frame: dict) -> None:
        send = socket.ws.send_json
        if frame["method"] == "LIST_SUBSCRIPTIONS":
            if self.manners.answers_pings:
                await send({"result": socket.streams, "id": frame["id"]})
            return
        if frame["method"] != "SUBSCRIBE":
            await send({"error": {"code": 2, "msg": "Invalid request: unknown method"}, "id": frame["id"]})
            return
        if not self.manners.acknowledges:
            return
        await send({"result": None, "id": frame["id"]})
        routed = PUBLIC if socket.path == "/public/ws" else MARKET
        for stream in frame["params"]:
            name, _, feed = stream.partition("@")
            socket.streams.append(stream)
            if feed in routed:  # a stream on the wrong path is acknowledged and stays silent
                self._start(socket, feed, name.upper())

    def _start(self, socket: Socket, kind: str, coin: str) -> None:
        if self.rate > 0:
            task = asyncio.ensure_future(self._send_numbered(socket, kind, coin))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _send_numbered(self, socket: Socket, kind: str, coin: str) -> None:
        """Frames whose bid or trade id is their number: a reader can see what is missing."""
        number = 0
        with contextlib.suppress(ConnectionError, RuntimeError):
            while not socket.ws.closed:
                number += 1
                await socket.ws.send_json(frame_of(kind, coin, number, self.now_ms()))
                await asyncio.sleep(1.0 / self.rate)

    async def _info(self, request: web.Request) -> web.Response:
        asked = await request.json()
        if asked["type"] == "meta":
            universe = [{"name": coin, "szDecimals": 3, "maxLeverage": 20, "marginTableId": 20} for coin in self.coins]
            return web.json_response({"universe": universe, "marginTables": [], "collateralToken": 0})
        if asked["type"] == "fundingHistory":
            hours = range(-(-asked["startTime"] // HOUR_MS), min(asked["endTime"], self.now_ms()) // HOUR_MS + 1)
            settled = [(hour * HOUR_MS + 39, "0.0000125") for hour in hours]
            if self.settlements is not None:
                settled = self.settlements.get(asked["coin"], [])
            return web.json_response(
                [
                    {"coin": asked["coin"], "fundingRate": rate, "premium": "0.0001", "time": stamp}
                    for stamp, rate in settled
                    if asked["startTime"] <= stamp <= asked["endTime"]
                ]
            )
        return web.Response(status=422, text="Failed to deserialize the JSON body into the target type")


def frame_of(kind: str, coin: str, number: int, now_ms: int) -> dict:
    """A well-formed frame of a feed; ``number`` is its bid price, or its trade id."""
    levels = [[{"px": f"{number - i}.0", "sz": "1.5", "n": 2}] for i in range(1)]
    if kind == "bbo":
        return bbo(coin, now_ms, (number, 1.5), (number + 1, 2.5))
    if kind == "l2Book":
        asks = [{"px": f"{number + 1}.0", "sz": "2.5", "n": 3}]
        return {"channel": "l2Book", "data": {"coin": coin, "time": now_ms, "levels": [levels[0], asks], "fast": True}}
    if kind == "trades":
        return {"channel": "trades", "data": [trade(coin, now_ms, number)]}
    if kind == "activeAssetCtx":
        ctx = {"funding": "0.0000125", "openInterest": f"{number}.5", "oraclePx": "10.0", "markPx": "10.0"}
        return {"channel": "activeAssetCtx", "data": {"coin": coin, "ctx": {**ctx, "midPx": None, "premium": None}}}
    if kind == "bookTicker":
        event = {"e": "bookTicker", "u": number, "E": now_ms, "T": now_ms, "s": coin, "st": 1}
        return {**event, "b": f"{number}.10", "B": "1.5", "a": f"{number}.20", "A": "2.5"}
    event = {"e": "aggTrade", "E": now_ms, "a": number, "s": coin, "p": "10.5", "q": "0.5", "T": now_ms, "m": True}
    return {**event, "f": number, "l": number}


def bbo(coin: str, time_ms: int, bid: tuple[float, float] | None, ask: tuple[float, float] | None) -> dict:
    """A bbo frame; a side is (price, size) or None."""
    sides = [None if side is None else {"px": str(side[0]), "sz": str(side[1]), "n": 1} for side in (bid, ask)]
    return {"channel": "bbo", "data": {"coin": coin, "time": time_ms, "bbo": sides}}


def trade(coin: str, time_ms: int, tid: int, side: str = "B") -> dict:
    """One print of a trades frame."""
    own = {"coin": coin, "side": side, "px": "10.5", "sz": "0.25", "time": time_ms, "tid": tid}
    return {**own, "hash": "0x00", "users": ["0x1", "0x2"]}


def _error(text: str) -> dict:
    return {"channel": "error", "data": text}


def _with_defaults(asked: dict) -> dict:
    if asked["type"] != "l2Book":
        return asked
    return {"nSigFigs": None, "mantissa": None, "fast": False, **asked}


async def _main(coins: tuple[str, ...], rate: float) -> None:
    async with LocalStream(coins, rate=rate) as server:
        sys.stdout.write(json.dumps({"address": server.address}) + "\n")
        sys.stdout.flush()
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--coins", nargs="+", default=["BTC", "ETH"])
    parser.add_argument("--rate", type=float, default=200.0)
    given = parser.parse_args()
    asyncio.run(_main(tuple(given.coins), given.rate))
