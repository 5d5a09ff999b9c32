"""How many messages a second the recorder sustains on one core, and in how much memory.

    python benchmarks/recorder.py [--seconds 20] [--rate 20000]

A server in a process of its own, on another core where there is one, sends frames as the venues do over three sockets:
quotes of both venues, books of five levels a side, trades and contexts of ten coins. The recorder, pinned to one core,
writes every event both to the lake and, as far as the documented files hold it, to CSV; it is measured at the wanted
rate and flat out. The peer does what a script would: json.loads, a list of dicts, and DataFrame.to_csv in append mode
at every flush; it writes CSV only, the lake is on top for ours. A rate counts from the first message to the end of the
last write; on a machine that does other work, too, the figure per second of processor time is the steadier one.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import hashlib
import json
import logging
import os
import platform
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import ClassVar

COINS = ["BTC", "ETH", "SOL", "XRP", "DOGE", "AVAX", "LINK", "SUI", "ARB", "HYPE"]
PATHS = {"/ws": 0, "/public/ws": 1, "/market/ws": 2}
SHARES = {"bbo": 35, "l2Book": 10, "trades": 8, "activeAssetCtx": 2, "bookTicker": 35, "aggTrade": 10}
BLOCK, BLOCKS = 500, 60
FLUSH_S = 5.0


def frames(rng: random.Random) -> list[tuple[list[bytes], int]]:
    """Blocks of encoded WebSocket frames, per socket, and how many messages each block holds."""
    kinds = list(SHARES)
    blocks = []
    for _ in range(BLOCKS):
        sent: list[list[bytes]] = [[], [], []]
        for kind in rng.choices(kinds, list(SHARES.values()), k=BLOCK):
            socket = {"bookTicker": 1, "aggTrade": 2}.get(kind, 0)
            sent[socket].append(encoded(json.dumps(message(kind, rng), separators=(",", ":")).encode()))
        blocks.append(([b"".join(part) for part in sent], BLOCK))
    return blocks


def message(kind: str, rng: random.Random) -> dict:
    """One message as the venue writes it."""
    coin, now = rng.choice(COINS), 1_790_232_236_546 + rng.randrange(10**6)
    px = rng.randrange(800_000, 900_000) / 10
    size = lambda: f"{rng.uniform(0.001, 50):.5f}"  # noqa: E731
    if kind == "bbo":
        sides = [{"px": f"{px + step}", "sz": size(), "n": rng.randrange(1, 90)} for step in (0, 1)]
        return {"channel": "bbo", "data": {"coin": coin, "time": now, "bbo": sides}}
    if kind == "l2Book":
        levels = [
            [{"px": f"{px + sign * (place + 1)}", "sz": size(), "n": rng.randrange(1, 90)} for place in range(5)]
            for sign in (-1, 1)
        ]
        return {"channel": "l2Book", "data": {"coin": coin, "time": now, "levels": levels, "fast": True}}
    if kind == "trades":
        users = ["0x" + "9a" * 20, "0x" + "82" * 20]
        one = {
            "coin": coin,
            "side": rng.choice("AB"),
            "px": f"{px}",
            "sz": size(),
            "time": now,
            "hash": "0x" + "7a" * 32,
        }
        return {"channel": "trades", "data": [{**one, "tid": rng.randrange(10**15), "users": users}]}
    if kind == "activeAssetCtx":
        ctx = {"funding": "0.0000018952", "openInterest": "36585.31848", "prevDayPx": "86627.0", "premium": "-0.0006"}
        more = {"dayNtlVlm": "4161029539.6949653625", "oraclePx": f"{px}", "markPx": f"{px}", "midPx": f"{px}"}
        return {"channel": "activeAssetCtx", "data": {"coin": coin, "ctx": {**ctx, **more, "impactPxs": [f"{px}"] * 2}}}
    symbol = f"{coin}USDT"
    if kind == "bookTicker":
        own = {
            "e": "bookTicker",
            "u": rng.randrange(10**13),
            "s": symbol,
            "b": f"{px}",
            "B": size(),
            "a": f"{px + 0.1}",
        }
        return {**own, "A": size(), "T": now, "E": now}
    own = {"e": "aggTrade", "E": now, "a": rng.randrange(10**12), "s": symbol, "p": f"{px}", "q": size()}
    return {**own, "f": 1, "l": 2, "T": now, "m": bool(rng.randrange(2))}


def encoded(body: bytes) -> bytes:
    """A server's text frame."""
    head = bytes([0x81, len(body)]) if len(body) < 126 else bytes([0x81, 126]) + len(body).to_bytes(2, "big")
    return head + body


class Server:
    """Speaks just enough WebSocket to send prepared bytes; waits for all three sockets, then sends for a while."""

    def __init__(self, seconds: float, rate: float) -> None:
        self.seconds, self.rate = seconds, rate
        self.writers: dict[int, asyncio.StreamWriter] = {}
        self.ready = asyncio.Event()

    async def client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        path = head.split(" ")[1]
        key = next(line.split(": ")[1] for line in head.split("\r\n") if line.lower().startswith("sec-websocket-key"))
        accept = base64.b64encode(hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest())
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        for ack in acknowledgements(path):
            writer.write(encoded(json.dumps(ack).encode()))
        self.writers[PATHS[path]] = writer
        if len(self.writers) == 3:
            self.ready.set()
        with contextlib.suppress(asyncio.CancelledError, ConnectionError):
            while await reader.read(65536):
                pass

    async def send(self) -> None:
        blocks = frames(random.Random(42))
        await self.ready.wait()
        await asyncio.sleep(0.5)
        begun, sent, place = time.perf_counter(), 0, 0
        while time.perf_counter() - begun < self.seconds:
            parts, count = blocks[place % len(blocks)]
            for socket, body in enumerate(parts):
                self.writers[socket].write(body)
            for socket in range(3):
                await self.writers[socket].drain()
            sent, place = sent + count, place + 1
            if self.rate:
                await asyncio.sleep(max(0.0, sent / self.rate - (time.perf_counter() - begun)))
        took = time.perf_counter() - begun
        for writer in self.writers.values():
            writer.write(bytes([0x88, 0]))
            await writer.drain()
        print(json.dumps({"sent": sent, "seconds": took}), flush=True)


def acknowledgements(path: str) -> list[dict]:
    """The server does not read requests: it acknowledges what the recorder is going to ask."""
    if path != "/ws":
        return [{"result": None, "id": 1}]
    kinds = ("bbo", "l2Book", "trades", "activeAssetCtx")
    return [
        {"channel": "subscriptionResponse", "data": {"method": "subscribe", "subscription": {"type": k, "coin": c}}}
        for c in COINS
        for k in kinds
    ]


async def serve(seconds: float, rate: float) -> None:
    server = Server(seconds, rate)
    listener = await asyncio.start_server(server.client, "127.0.0.1", 0)
    print(listener.sockets[0].getsockname()[1], flush=True)
    await server.send()
    await asyncio.sleep(0.5)


async def ours(port: int, folder: Path, done: asyncio.Event, *, with_lake: bool) -> dict:
    """The recorder, into CSV and, if wanted, the lake."""
    from slipstream.ingest.recorder import recordings
    from slipstream.ingest.recorder.batch import LakeLog, Output
    from slipstream.ingest.recorder.csv_files import CsvFiles, Patterns
    from slipstream.ingest.recorder.csv_tables import Asset
    from slipstream.ingest.recorder.recorder import Recorder
    from slipstream.ingest.recorder.rejects import Rejects
    from slipstream.ingest.recorder.session import Schedule, record, session_name
    from slipstream.lake.store import Lake
    from slipstream.venues.clock import SystemClock
    from slipstream.venues.stream import Data

    clock = SystemClock(time.time_ns)
    session = session_name(clock.now_ms())
    symbols = {coin: f"{coin}USDT" for coin in COINS}
    addresses = recordings.Addresses(f"ws://127.0.0.1:{port}/ws", "", f"ws://127.0.0.1:{port}")
    connections = recordings.connections_to(COINS, symbols, list(recordings.FEEDS), session, addresses, clock)
    patterns = Patterns(*(str(folder / kind / "{symbol}_{session}.csv") for kind in ("hl", "cex", "depth", "funding")))
    files = CsvFiles([Asset(coin, symbols[coin]) for coin in COINS], patterns, session, 10.0)
    outputs: list[Output] = [files]
    if with_lake:
        outputs.append(LakeLog(Lake.open(folder / "lake", create=True)))
    rejects = Rejects(folder / "rejects.jsonl")

    class UntilClosed(Recorder):
        """Ends when the server has closed every socket."""

        first = (0.0, 0.0)
        closed: ClassVar[set[str]] = set()

        def received(self, venue: str, data: Data) -> None:
            self.first = self.first if self.first[0] else now()
            super().received(venue, data)

        def went_down(self, venue: str, feeds: Sequence[str], reason: str) -> None:
            self.closed.update(feeds)
            if len(self.closed) == len(self.feeds):
                done.set()
            super().went_down(venue, feeds, reason)

    recorder = UntilClosed(outputs, recordings.FEEDS, session, clock=clock, rejects=rejects)
    report = await record(recorder, connections, Schedule(FLUSH_S), clock=clock, rng=random.Random(1), stop=done)
    rows = sum(feed.total for feed in report.feeds)
    return {"messages": rows, **since(recorder.first)}


async def peer(port: int, folder: Path, done: asyncio.Event) -> dict:
    """json.loads and pandas."""
    import aiohttp
    import pandas as pd

    rows: dict[str, list[dict]] = {}
    messages, first, closed = 0, (0.0, 0.0), 0

    def take(text: str) -> None:
        nonlocal messages, first
        first = first if first[0] else now()
        said, at = json.loads(text), time.time()
        if "e" in said:
            kind, coin = said["e"], said["s"]
            row = {key: said[key] for key in (("b", "B", "a", "A") if kind == "bookTicker" else ("p", "q", "m", "a"))}
        elif said.get("channel") in ("bbo", "l2Book", "trades", "activeAssetCtx"):
            kind, data = said["channel"], said["data"]
            coin = data[0]["coin"] if kind == "trades" else data["coin"]
            if kind == "bbo":
                (bid, ask) = data["bbo"]
                row = {"bid": float(bid["px"]), "ask": float(ask["px"]), "bid_size": float(bid["sz"])}
                row |= {
                    "mid": (row["bid"] + row["ask"]) / 2,
                    "spread": row["ask"] - row["bid"],
                    "ask_size": float(ask["sz"]),
                }
            elif kind == "l2Book":
                depth = [sum(float(level["sz"]) for level in side) for side in data["levels"]]
                row = {"bid_depth": depth[0], "ask_depth": depth[1], "total_depth": sum(depth)}
            elif kind == "trades":
                row = {key: data[0][key] for key in ("px", "sz", "side", "tid")}
            else:
                row = {key: data["ctx"][key] for key in ("funding", "openInterest", "markPx", "midPx")}
        else:
            return
        messages += 1
        rows.setdefault(f"{kind}_{coin}", []).append({"timestamp": at, "symbol": coin, **row})

    async def listen(session: aiohttp.ClientSession, path: str) -> None:
        async with session.ws_connect(f"ws://127.0.0.1:{port}{path}", compress=0) as socket:
            async for one in socket:
                take(one.data)
        nonlocal closed
        closed += 1
        if closed == len(PATHS):
            done.set()

    async def flush() -> None:
        while True:
            await asyncio.sleep(FLUSH_S)
            write()

    def write() -> None:
        for name, held in rows.items():
            file = folder / f"{name}.csv"
            pd.DataFrame(held).to_csv(file, mode="a", header=not file.exists(), index=False)
        rows.clear()

    async with aiohttp.ClientSession() as session:
        tasks = [asyncio.ensure_future(one) for one in (*(listen(session, path) for path in PATHS), flush())]
        await done.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        write()
    return {"messages": messages, **since(first)}


def now() -> tuple[float, float]:
    """Seconds of the clock and of the processor."""
    return time.perf_counter(), time.process_time()


def since(first: tuple[float, float]) -> dict[str, float]:
    """Time and processor time from the first message to the last write."""
    seconds, cpu_s = now()
    return {"seconds": seconds - first[0], "cpu_s": cpu_s - first[1]}


def client(role: str, port: int) -> None:
    """Run one recorder and print what it took."""
    logging.disable(logging.WARNING)  # the server's goodbye is no news here
    with tempfile.TemporaryDirectory() as folder:

        async def run() -> dict:
            done = asyncio.Event()
            if role == "peer":
                return await peer(port, Path(folder), done)
            return await ours(port, Path(folder), done, with_lake=role == "lake")

        outcome = asyncio.run(run())
        outcome["peak_rss_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(outcome), flush=True)


def measure(role: str, seconds: float, rate: float) -> dict:
    """One server and one client, each a process, on a core of its own where there are two."""
    cores = sorted(os.sched_getaffinity(0))
    server = _start(["--role", "server", "--seconds", str(seconds), "--rate", str(rate)], cores[0])
    assert server.stdout is not None
    port = server.stdout.readline().strip()
    recorder = _start(["--role", role, "--port", port], cores[-1])
    sent = json.loads(server.stdout.readline())
    out, _ = recorder.communicate()
    server.wait()
    got = json.loads(out)
    return {
        **got,
        "sent": sent["sent"],
        "sent_rate": sent["sent"] / sent["seconds"],
        "rate": got["messages"] / got["seconds"],
        "per_core_second": got["messages"] / got["cpu_s"],
        "late_s": got["seconds"] - sent["seconds"],
    }


def _start(arguments: list[str], core: int) -> subprocess.Popen:
    environment = {**os.environ, "POLARS_MAX_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, __file__, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rate", type=float, default=20_000.0, help="messages a second of the paced run")
    parser.add_argument("--role", default="", choices=["", "server", "lake", "csv", "peer"], help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, default=0, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.role == "server":
        asyncio.run(serve(given.seconds, given.rate))
    elif given.role:
        client(given.role, given.port)
    else:
        paced = measure("lake", given.seconds, given.rate)
        flat, csv, pandas = (measure(role, given.seconds, 0.0) for role in ("lake", "csv", "peer"))
        print(f"{platform.machine()}, Python {platform.python_version()}, {date.today()}")
        for name, one in (
            ("recorder, lake + CSV, paced", paced),
            ("recorder, lake + CSV", flat),
            ("recorder, CSV only", csv),
            ("pandas peer, CSV only", pandas),
        ):
            print(
                f"{name:28}{one['rate']:>8,.0f} msgs/s {one['per_core_second']:>8,.0f} per second of a core  "
                f"peak RSS {one['peak_rss_mb']:.0f} MB  recorded {one['messages']:,} of {one['sent']:,}"
            )
        ratios = [one["per_core_second"] / pandas["per_core_second"] for one in (csv, flat)]
        print(
            f"recorder / peer, per second of a core: {ratios[0]:.2f}x CSV only, {ratios[1]:.2f}x with the lake on top"
        )
        print(f"20,000 msgs/s in 200 MB: {'met' if _met(paced, given.rate) else 'NOT met'}")


def _met(paced: dict, rate: float) -> bool:
    """All was recorded, the server was never held up, and the last write was done soon after the last message."""
    in_time = paced["sent_rate"] >= 0.99 * rate and paced["late_s"] < FLUSH_S
    return rate >= 20_000 and in_time and paced["messages"] == paced["sent"] and paced["peak_rss_mb"] < 200


if __name__ == "__main__":
    main()
