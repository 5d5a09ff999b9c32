"""One hour of book snapshots to one bar of mid prices.

A line is ``{"time": ISO, "ver_num": 1, "raw": {"channel": "l2Book", "data": {"coin", "time", "levels"}}}`` with
``levels`` = [bids, asks], best first, of ``{"px", "sz", "n"}``. Each line is decoded and checked as a whole; only what
is needed becomes an object. The mid is (best bid + best ask) / 2 of a book that has both and is not crossed.

A snapshot belongs to the hour of the venue's own stamp. An hour's object begins with a few seconds of the hour before,
which the recorder received late; they are left out and counted, so that an object makes one bar and one bar only.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import msgspec

from slipstream.core.panel import HOUR_MS, utc
from slipstream.ingest.archive.lz4_lines import line_blocks, refused
from slipstream.ingest.archive.objects import DAY_MS

_DECIMAL = re.compile(r"[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]{1,3})?")


class _Level(msgspec.Struct, gc=False):
    px: str


class _Book(msgspec.Struct, gc=False):
    coin: str
    time: int
    levels: tuple[list[_Level], list[_Level]]


class _Message(msgspec.Struct, gc=False):
    channel: str
    data: _Book


class _Line(msgspec.Struct, gc=False):
    raw: _Message


@dataclass(frozen=True)
class MidBar:
    """Mids of one coin over one hour, USD; ``open_ms`` is the hour's start, Unix ms."""

    coin: str
    open_ms: int
    open: float
    high: float
    low: float
    close: float
    n_snapshots: int


@dataclass(frozen=True)
class BookCounts:
    """Where the lines of objects went: used, or why not."""

    lines: int = 0
    used: int = 0
    one_sided: int = 0
    crossed: int = 0
    outside: int = 0

    def __add__(self, other: BookCounts) -> BookCounts:
        return BookCounts(
            self.lines + other.lines,
            self.used + other.used,
            self.one_sided + other.one_sided,
            self.crossed + other.crossed,
            self.outside + other.outside,
        )


@lru_cache(maxsize=1 << 14)
def price(text: str) -> float:
    """A price as the archive writes it, USD.

    Raises:
        ValueError: not a positive decimal number.
    """
    value = float(text) if _DECIMAL.fullmatch(text) else math.nan
    if not 0.0 < value < math.inf:
        raise ValueError(f"price {text!r} is not a positive number")
    return value


def mid_bar(texts: Iterable[bytes], coin: str, open_ms: int, name: str) -> tuple[MidBar | None, BookCounts]:
    """The bar of an hour's object.

    Args:
        texts: unpacked text in pieces of any size.
        coin: whose object it is; every line must say so.
        open_ms: start of the object's hour, Unix ms.
        name: what to call the object in errors.

    Returns:
        The bar, or None where no book of the hour had both sides; and what became of the lines.

    Raises:
        DamagedObject: a line is no snapshot of this coin, is stamped more than a day away, has a price that is none
            or levels that are not ordered best first; or no line at all lies in the hour. The line is named.
    """
    fold = _Fold(coin, open_ms)
    for number, lines in line_blocks(texts, name):
        try:
            fold.take(lines)
        except (msgspec.MsgspecError, ValueError) as problem:
            raise refused(name, number + fold.at, f"no book snapshot of {coin} ({problem})") from problem
    counts = fold.counts()
    if counts.lines and counts.outside == counts.lines:
        hour = f"{utc(open_ms):%Y-%m-%d %H:00} UTC"
        raise refused(name, 1, f"none of the {counts.lines} snapshots is stamped in the hour from {hour}")
    return fold.bar(), counts


class _Fold:
    """Runs over the lines of one object. Open and close go by the venue's stamp, not by the order of lines."""

    def __init__(self, coin: str, open_ms: int) -> None:
        self.coin, self.open_ms = coin, open_ms
        self.decode = msgspec.json.Decoder(_Line).decode
        self.at = 0
        self.lines = self.used = self.one_sided = self.crossed = self.outside = 0
        self.first_ms, self.last_ms = math.inf, -math.inf
        self.open = self.close = math.nan
        self.high, self.low = -math.inf, math.inf

    def take(self, lines: list[bytes]) -> None:
        """Fold in some lines; where it raises, ``at`` is the place of the offending line."""
        decode, coin, begin, end = self.decode, self.coin, self.open_ms, self.open_ms + HOUR_MS
        for at, line in enumerate(lines):
            self.at = at
            message = decode(line).raw
            book = message.data
            if book.coin != coin or message.channel != "l2Book":
                raise ValueError(f"channel {message.channel!r} of coin {book.coin!r}")
            time = book.time
            bids, asks = book.levels
            bid = _best(bids, 1.0)
            ask = _best(asks, -1.0)
            if not begin <= time < end:
                if abs(time - begin) > DAY_MS:
                    raise ValueError(f"stamped {time}, more than a day from the object's hour")
                self.outside += 1
            elif bid is None or ask is None:
                self.one_sided += 1
            elif bid >= ask:
                self.crossed += 1
            else:
                self._add(time, 0.5 * (bid + ask))
        self.lines += len(lines)

    def _add(self, time: int, mid: float) -> None:
        self.used += 1
        if time < self.first_ms:
            self.first_ms, self.open = time, mid
        if time >= self.last_ms:
            self.last_ms, self.close = time, mid
        if mid > self.high:
            self.high = mid
        if mid < self.low:
            self.low = mid

    def counts(self) -> BookCounts:
        return BookCounts(self.lines, self.used, self.one_sided, self.crossed, self.outside)

    def bar(self) -> MidBar | None:
        if not self.used:
            return None
        return MidBar(self.coin, self.open_ms, self.open, self.high, self.low, self.close, self.used)


def _best(levels: list[_Level], better: float) -> float | None:
    """The first price of a side; None if the side is empty. ``better`` is 1 where higher is better."""
    if not levels:
        return None
    best = price(levels[0].px)
    if better * (best - price(levels[-1].px)) < 0.0:
        raise ValueError(f"best price {levels[0].px} is worse than the last, {levels[-1].px}")
    return best
