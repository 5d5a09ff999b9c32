"""An S3 server for the tests: moto behind a door that counts requests and can be told to answer otherwise; and objects
as the archive holds them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime

import lz4.frame
import obstore
from moto.server import DomainDispatcherApplication, create_backend_app
from obstore.store import S3Store
from werkzeug.serving import WSGIRequestHandler

HOUR_MS = 3_600_000
BUCKETS = ("hyperliquid-archive", "hl-mainnet-node-data")


class QuietHandler(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, *_: object) -> None:
        """Nothing: the tests' output is for failures."""


@dataclass
class Store:
    """The server.

    ``asked`` holds (method, path, query, payer) of every request. ``faults`` maps a path's ending to what to answer
    instead: (status, body, headers), or a function of the environ that returns such a triple or None.
    """

    url: str
    asked: list[tuple[str, str, str, str]] = field(default_factory=list)
    faults: dict[str, object] = field(default_factory=dict)

    def bucket(self, name: str = BUCKETS[0]) -> S3Store:
        return S3Store(
            name,
            endpoint=self.url,
            region="us-east-1",
            access_key_id="test",
            secret_access_key="test",
            client_options={"allow_http": True},
        )

    def put(self, key: str, body: bytes, bucket: str = BUCKETS[0]) -> None:
        obstore.put(self.bucket(bucket), key, body)

    def put_book(self, coin: str, day: str, hour: int, mids: list[float], **options) -> None:
        open_ms = int(datetime.strptime(day, "%Y%m%d").replace(tzinfo=UTC).timestamp()) * 1000 + hour * HOUR_MS
        self.put(
            f"market_data/{day}/{hour}/l2Book/{coin}.lz4", lz4.frame.compress(book_text(coin, open_ms, mids, **options))
        )

    def objects_fetched(self) -> list[str]:
        """Keys that were asked for with GET, in order."""
        keys = (path.split("/", 2)[2] for method, path, _, _ in self.asked if method == "GET" and path.count("/") > 1)
        return [key for key in keys if key]


def book_line(coin: str, time_ms: int, bids: list[str], asks: list[str]) -> bytes:
    sides = [[{"px": px, "sz": "1.5", "n": 2} for px in side] for side in (bids, asks)]
    stamp = datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f") + "791"
    data = {"coin": coin, "time": time_ms, "levels": sides}
    line = {"time": stamp, "ver_num": 1, "raw": {"channel": "l2Book", "data": data}}
    return json.dumps(line, separators=(",", ":")).encode()


def book_text(coin: str, open_ms: int, mids: list[float], *, step_ms: int = 540, first_ms: int = 17) -> bytes:
    """An hour's lines, one per mid, with a spread of 0.02."""
    lines = [
        book_line(
            coin,
            open_ms + first_ms + i * step_ms,
            [f"{mid - 0.01:.4f}", f"{mid - 0.02:.4f}"],
            [f"{mid + 0.01:.4f}", f"{mid + 0.02:.4f}"],
        )
        for i, mid in enumerate(mids)
    ]
    return b"\n".join(lines) + b"\n"


class Door:
    """WSGI in front of moto."""

    def __init__(self) -> None:
        self.behind = DomainDispatcherApplication(create_backend_app)
        self.store = Store("")

    def __call__(self, environ, start_response):
        path = environ["PATH_INFO"]
        payer = environ.get("HTTP_X_AMZ_REQUEST_PAYER", "")
        self.store.asked.append((environ["REQUEST_METHOD"], path, environ.get("QUERY_STRING", ""), payer))
        for ending, fault in list(self.store.faults.items()):
            if path.endswith(ending):
                answer = fault(environ) if callable(fault) else fault
                if answer is not None:
                    status, body, headers = answer
                    length = (
                        []
                        if any(name == "Content-Length" for name, _ in headers)
                        else [("Content-Length", str(len(body)))]
                    )
                    start_response(status, [*headers, *length])
                    return [body]
        return self.behind(environ, start_response)
