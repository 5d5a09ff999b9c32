"""What could not be read goes here, with the reason: a bad message is never a row and never lost without a trace.

One JSON line per message: ``received_ns, venue, reason, message``. The file is made when the first one comes. It is
bounded, because a venue that changes its form would fill the disk: beyond the bound messages are only counted.
"""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec

from slipstream.errors import SlipstreamError

_LONGEST = 4000  # characters of a message kept
_PENDING = 1000  # rejects of one flush interval
_MOST_BYTES = 64 * 1024 * 1024

log = logging.getLogger(__name__)


class Rejects:
    """Collects rejects between flushes and appends them to a file.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0
        self._pending: list[bytes] = []
        self._written = 0
        self._full = False

    def add(self, venue: str, raw: bytes, reason: str, received_ns: int) -> None:
        """Note a message that could not be read."""
        self.count += 1
        if self.count == 1:
            log.warning("%s sent a message that cannot be read: %s; see %s", venue, reason, self.path)
        if self._full or len(self._pending) >= _PENDING:
            return
        message = raw[:_LONGEST].decode(errors="backslashreplace")
        line = {"received_ns": received_ns, "venue": venue, "reason": reason, "message": message}
        self._pending.append(msgspec.json.encode(line) + b"\n")

    def take(self) -> bytes:
        """Lines noted since the last call."""
        lines, self._pending = b"".join(self._pending), []
        self._written += len(lines)
        if self._written > _MOST_BYTES and not self._full:
            self._full = True
            log.error("%s is full; further messages that cannot be read are only counted", self.path)
        return lines

    def write(self, lines: bytes) -> None:
        """Append lines taken before.

        Raises:
            SlipstreamError: the disk refused.
        """
        if not lines:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as file:
                file.write(lines)
        except OSError as problem:
            raise SlipstreamError(f"{self.path}: cannot be written ({problem.strerror or problem})") from problem
