"""The recorder and the local venue as processes of their own, for tests of commands and of crashes."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]


@contextlib.contextmanager
def local_venue(*, rate: float, coins: tuple[str, ...] = ("BTC", "ETH")) -> Iterator[str]:
    """The address of a local venue that sends numbered frames."""
    script = REPOSITORY / "tests/venues/local_stream.py"
    command = [sys.executable, str(script), "--rate", str(rate), "--coins", *coins]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())["address"]
        finally:
            process.stdin.close()
            process.wait(10)


def record_arguments(address: str, folder: Path, *more: str) -> list[str]:
    """Of ``slipstream data record`` from that address into a lake in ``folder``."""
    return [
        *("record", "--lake", str(folder / "lake"), "--hl-url", f"http://{address}"),
        *("--binance-url", f"ws://{address}", "--rejects", str(folder / "rejects"), *more),
    ]


def record_command(address: str, folder: Path, *more: str) -> list[str]:
    """The command of :func:`record_arguments` as a process."""
    return [sys.executable, "-m", "slipstream.cli.main", "data", *record_arguments(address, folder, *more)]


def bbo_arguments(address: str, folder: Path, *more: str) -> list[str]:
    """Of ``record_bbo.py`` from that address into CSV files in ``folder``."""
    config = folder / "brawler.yml"
    config.write_text(
        f"hyperliquid_rest_url: http://{address}\nhyperliquid_ws_url: ws://{address}/ws\nbinance_ws_url: ws://{address}\n"
        "assets:\n  BTC: {symbol: BTC, cex_symbol: btcusdt}\n  ETH: {symbol: ETH, cex_symbol: ethusdt}\n"
    )
    patterns = [
        word
        for kind, token in (("hl", "symbol"), ("cex", "cex_lower"), ("depth", "symbol"), ("funding", "symbol"))
        for word in (f"--{kind}-pattern", str(folder / kind / f"{{{token}}}.csv"))
    ]
    return ["--config", str(config), "--rejects", str(folder / "rejects"), *patterns, *more]


def bbo_command(address: str, folder: Path, *more: str) -> list[str]:
    """The command of :func:`bbo_arguments` as a process."""
    script = REPOSITORY / "scripts/strategies/brawler/record_bbo.py"
    return [sys.executable, str(script), *bbo_arguments(address, folder, *more)]


def wait_until(true: Callable[[], object], within_s: float = 30.0) -> None:
    """Look a hundred times a second until something is so."""
    end = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)
