"""A text file that is only appended to, in whole lines, and that survives being cut anywhere.

Whoever opens it holds it alone. A last line without its end is what a crash left behind: it is cut off before anything
is added. A write that the disk refuses half way is taken back.
"""

from __future__ import annotations

import fcntl
import logging
import os
from pathlib import Path

from slipstream.errors import SafetyRefusal, SlipstreamError, UsageError

_BLOCK = 64 * 1024

log = logging.getLogger(__name__)


class AppendFile:
    """An open file with a header line.

    Args:
        path: made, with its folders, if absent.
        header: the first line, without its end; an existing file must begin with it.

    Raises:
        UsageError: the file begins with another line.
        SafetyRefusal: another process is appending to it, or a file whose name differs only by case is there.
        SlipstreamError: the disk refuses.
    """

    def __init__(self, path: Path, header: str) -> None:
        self.path = path
        self._handle = -1
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _refuse_twin(path)
            self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._begin(header)
        except BlockingIOError as problem:
            self.close()
            raise SafetyRefusal(f"{path}: another process is recording into this file; name another") from problem
        except OSError as problem:
            self.close()
            raise SlipstreamError(f"{path}: cannot be written ({problem.strerror or problem})") from problem
        except SlipstreamError:
            self.close()
            raise

    def append(self, lines: bytes) -> None:
        """Add whole lines, durably.

        Raises:
            SlipstreamError: the disk refused; the file is as it was.
        """
        before = os.fstat(self._handle).st_size
        try:
            _write_all(self._handle, lines)
            os.fsync(self._handle)
        except OSError as problem:
            os.ftruncate(self._handle, before)
            reason = problem.strerror or str(problem)
            raise SlipstreamError(
                f"{self.path}: cannot be written ({reason}); it ends with what was written before"
            ) from problem

    def last_line(self) -> str | None:
        """The last line after the header, without its end; None if there is none."""
        size = os.fstat(self._handle).st_size
        tail = os.pread(self._handle, _BLOCK, max(0, size - _BLOCK)).decode(errors="replace").splitlines()
        return tail[-1] if len(tail) > 1 else None

    def close(self) -> None:
        """Let go of the file."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def _begin(self, header: str) -> None:
        """Put the header into an empty file; hold an existing one to it, and cut its torn last line."""
        line = f"{header}\n".encode()
        size = os.fstat(self._handle).st_size
        found = os.pread(self._handle, len(line), 0)
        if size < len(line) and line.startswith(found):
            os.ftruncate(self._handle, 0)
            _write_all(self._handle, line)
            return
        if found != line:
            begins = found.split(b"\n")[0].decode(errors="replace")
            raise UsageError(f"{self.path}: begins with {begins!r} and not with {header!r}; name another file")
        whole = _end_of_last_line(self._handle, size)
        if whole < size:
            torn = os.pread(self._handle, min(size - whole, 120), whole).decode(errors="replace")
            log.warning("%s: cut a torn last line of %d bytes: %s", self.path, size - whole, torn)
            os.ftruncate(self._handle, whole)


def _write_all(handle: int, body: bytes) -> None:
    view = memoryview(body)
    while view:
        view = view[os.write(handle, view) :]


def _end_of_last_line(handle: int, size: int) -> int:
    """Offset just behind the last line feed."""
    end = size
    while end > 0:
        start = max(0, end - _BLOCK)
        place = os.pread(handle, end - start, start).rfind(b"\n")
        if place >= 0:
            return start + place + 1
        end = start
    return 0


def _refuse_twin(path: Path) -> None:
    folded = path.name.casefold()
    for other in path.parent.iterdir():
        if other.name.casefold() == folded and other.name != path.name:
            raise SafetyRefusal(f"{path}: {other.name} is there and differs only by case; name another pattern")
