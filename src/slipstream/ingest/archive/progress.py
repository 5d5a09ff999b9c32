"""Which objects have been dealt with: one line of JSON each, only ever appended.

    {"date":"20250311","hour":9,"coin":"SOL","state":"done","datatype":"l2Book","rows":1}

A line is written after the rows it speaks of are safe, so a process that dies in between does work again and never
claims work it has not done. The last line about an object counts. A torn last line, all a crash can leave, is cut off.
Objects of all coins carry no hour (days) or the coin ``*``; if only some coins of such an object were kept, there is a
line for each. ``place`` is the lake, where the rows lie nowhere else.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import IO, Literal

import msgspec

from slipstream.core.panel import HOUR_MS, utc
from slipstream.errors import DataError, SlipstreamError
from slipstream.ingest.archive.objects import L2_BOOK, Slots

FILE = "progress/download_state.jsonl"
EVERY_COIN = "*"
State = Literal["done", "absent", "failed"]
UNKNOWN, DONE, EMPTY, ABSENT, FAILED = range(5)
"""States as they are held in memory; EMPTY is done without a row that one could look for."""


class AlreadyRunning(SlipstreamError):
    """Another process is filling the same output folder."""


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line.

    ``datatype`` is empty for l2Book in lines that do not say; ``rows`` is what the object gave, -1 where the line does
    not say; ``why`` explains a failure.
    """

    date: str
    hour: int | None
    coin: str
    state: State
    datatype: str = ""
    rows: int = -1
    place: str = ""
    why: str = ""


def entry(
    slots: Slots, start_ms: int, coin: str, state: State, *, rows: int = -1, place: str = "", why: str = ""
) -> Entry:
    """The line about the object that starts at ``start_ms``."""
    moment = utc(start_ms)
    hour = moment.hour if slots.archive.step_ms == HOUR_MS else None
    return Entry(f"{moment:%Y%m%d}", hour, coin, state, slots.archive.name, rows, place, why)


class Progress:
    """The file, held open and locked by this process until it is closed."""

    def __init__(self, path: Path) -> None:
        """Open for appending; made if absent.

        Raises:
            AlreadyRunning: another process has it open.
            SlipstreamError: the folder cannot be written.
        """
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: IO[bytes] = path.open("a+b")
        except OSError as problem:
            raise SlipstreamError(f"{path}: cannot be written ({problem}); choose another --output-dir") from problem
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as problem:
            self._file.close()
            raise AlreadyRunning(
                f"{path}: another process is filling this folder; try again when it is done"
            ) from problem
        _cut_torn_line(self._file)

    def close(self) -> None:
        """Let go of the file and its lock."""
        self._file.close()

    def add(self, entries: Sequence[Entry]) -> None:
        """Append lines, durable before this returns.

        Raises:
            OSError: the disk refused.
        """
        encode = msgspec.json.encode
        self._file.write(b"".join(encode(line) + b"\n" for line in entries))
        self._file.flush()
        os.fsync(self._file.fileno())

    def states(self, slots: Slots, coins: Iterable[str], place: str = "") -> dict[str, bytearray]:
        """The state of every object of ``slots`` for each coin: one byte per object.

        Args:
            slots: the objects asked about.
            coins: names, or ``*``; what was done for ``*`` is done for every coin.
            place: the lake whose rows are meant; lines about another are passed over.

        Raises:
            DataError: a line is not of the form above; it is named.
        """
        held = {coin: bytearray(slots.count) for coin in coins}
        for line in read_entries(self.path):
            if (line.datatype or L2_BOOK.name) != slots.archive.name or line.place != place:
                continue
            index = slots.index(_start_ms(line))
            if index is None:
                continue
            for coin in held if line.coin == EVERY_COIN else (line.coin,):
                if coin in held:
                    held[coin][index] = _code(line)
        return held


def read_entries(path: Path) -> Iterable[Entry]:
    """The lines of a progress file in order, read as a stream.

    Raises:
        DataError: a line is not of this form; it is named.
    """
    decode = msgspec.json.Decoder(Entry).decode
    with path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            try:
                found = decode(line)
                _start_ms(found)
            except (msgspec.MsgspecError, ValueError) as problem:
                raise DataError(f"{path} line {number}: no progress entry ({problem}); remove the line") from problem
            yield found


def _start_ms(line: Entry) -> int:
    if not 0 <= (line.hour or 0) < 24:
        raise ValueError(f"hour {line.hour}")
    return _day_ms(line.date) + (line.hour or 0) * HOUR_MS


@lru_cache(maxsize=4096)
def _day_ms(date: str) -> int:
    return int(datetime.strptime(date, "%Y%m%d").replace(tzinfo=UTC).timestamp()) * 1000


def _code(line: Entry) -> int:
    if line.state == "done":
        return DONE if line.rows > 0 else EMPTY
    return ABSENT if line.state == "absent" else FAILED


def _cut_torn_line(file: IO[bytes]) -> None:
    """Drop what follows the last line end; nothing was ever claimed by half a line."""
    size = file.seek(0, os.SEEK_END)
    keep, reach = size, 0
    while keep:
        reach = min(size, max(4096, 2 * reach))
        file.seek(size - reach)
        tail = file.read(reach)
        end = tail.rfind(b"\n")
        if end >= 0:
            keep = size - reach + end + 1
            break
        if reach == size:
            keep = 0
    if keep < size:
        file.truncate(keep)
    file.seek(0, os.SEEK_END)
