"""A local S3 server that stands for the archive, and the documented script with its environment led there."""

from __future__ import annotations

import os
import threading
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from archive_server import BUCKETS, Door, QuietHandler, Store
from werkzeug.serving import make_server

from slipstream.cli.data_s3 import main


@pytest.fixture(scope="session")
def door() -> Iterator[Door]:
    door = Door()
    server = make_server("127.0.0.1", 0, door, threaded=True, request_handler=QuietHandler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    door.store.url = f"http://127.0.0.1:{server.server_port}"
    yield door
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def store(door: Door, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Store:
    """Two empty buckets, and an environment that leads to them and to nothing else."""
    door.store.faults = {}
    with urllib.request.urlopen(urllib.request.Request(f"{door.store.url}/moto-api/reset", method="POST")) as answer:
        answer.read()
    for name in BUCKETS:
        with urllib.request.urlopen(urllib.request.Request(f"{door.store.url}/{name}", method="PUT")) as answer:
            answer.read()
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", door.store.url)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very-secret")
    monkeypatch.chdir(tmp_path)
    door.store.asked = []
    return door.store


@pytest.fixture
def fetch(store: Store, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Run the documented script with some flags; returns its exit code. The present is 2026-11-01."""
    now = int(datetime(2026, 11, 1, tzinfo=UTC).timestamp()) * 1000
    monkeypatch.setattr("slipstream.cli.clock.wall_clock_ms", lambda: now)

    def run(*flags: str) -> int:
        store.asked.clear()
        monkeypatch.setattr("sys.argv", ["fetch_s3_historical.py", *flags, "--temp-dir", "spool"])
        return main()

    return run
