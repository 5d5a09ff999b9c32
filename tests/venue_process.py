"""The local venue as a process of its own, for tests of real commands; see ``venues/local_venue.py``."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_SCRIPT = Path(__file__).parent / "venues" / "local_venue.py"


@dataclass(frozen=True)
class VenueProcess:
    """Where it listens, and its controls."""

    url: str
    now_ms: int

    def requests(self) -> int:
        """How many it has seen."""
        return self._control(None)["requests"]

    def move_to(self, now_ms: int) -> None:
        """Set its time, Unix ms."""
        self._control(json.dumps({"now_ms": now_ms}).encode())

    def _control(self, body: bytes | None) -> dict[str, int]:
        asked = urllib.request.Request(f"{self.url}/_control", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(asked, timeout=30) as answer:
            return json.loads(answer.read())


@contextmanager
def venue_process(*, now: str, **options: object) -> Iterator[VenueProcess]:
    """A venue without a weight limit that serves until the block ends.

    Args:
        now: its time, ISO 8601, UTC.
        options: further flags of the script, such as ``days=60``.
    """
    flags = {"now": now, "weight-limit": 0, **options}
    words = [sys.executable, str(_SCRIPT), *(f"--{name}={value}" for name, value in flags.items())]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            told = json.loads(process.stdout.readline())
            yield VenueProcess(told["url"], told["now_ms"])
        finally:
            process.stdin.close()
            assert process.wait(30) == 0
