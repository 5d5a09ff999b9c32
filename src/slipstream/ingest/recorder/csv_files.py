"""The CSV side of a recording: one file per coin and kind, opened when the recording starts, rotated at midnight UTC.

A pattern with ``{session}`` names a new file for each UTC date, so that a recording without end does not grow one file
without end; a pattern without it names one file that every recording appends to.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl

from slipstream.errors import SlipstreamError, UsageError
from slipstream.ingest.recorder.append_file import AppendFile
from slipstream.ingest.recorder.batch import Batch
from slipstream.ingest.recorder.csv_tables import (
    BBO_HEADER,
    DEPTH_HEADER,
    FUNDING_HEADER,
    Asset,
    bbo_rows,
    depth_rows,
    funding_rows,
    lines,
    path_of,
)
from slipstream.venues.events import BINANCE, HYPERLIQUID

_DAY_NS = 86_400_000_000_000
KINDS = ("hl_bbo", "cex_bbo", "depth", "funding")


@dataclass(frozen=True)
class Patterns:
    """Where each kind of file goes; see :func:`~slipstream.ingest.recorder.csv_tables.path_of`."""

    hl_bbo: str
    cex_bbo: str
    depth: str
    funding: str

    def of(self, kind: str) -> str:
        """The pattern of one kind."""
        return str(getattr(self, kind))


_HEADERS = {"hl_bbo": BBO_HEADER, "cex_bbo": BBO_HEADER, "depth": DEPTH_HEADER, "funding": FUNDING_HEADER}


class CsvFiles:
    """Writes batches as CSV.

    Args:
        assets: coins to record.
        patterns: of the files.
        session: UTC start, ``YYYYmmdd-HHMMSS``.
        depth_bps: distance from the mid within which coins are counted.

    Raises:
        UsageError: a bad pattern, or two files of one name.
        SafetyRefusal: a file is being written by another process.
        SlipstreamError: the disk refuses.
    """

    def __init__(self, assets: Sequence[Asset], patterns: Patterns, session: str, depth_bps: float) -> None:
        self.rows: Counter[tuple[str, str]] = Counter()
        self.short_depth = 0
        self._assets = {asset.symbol: asset for asset in assets}
        self._patterns, self._depth_bps = patterns, depth_bps
        self._day = int(_midnight(session).timestamp()) * 1_000_000_000 // _DAY_NS
        self._session = session
        self._refuse_shared_paths()
        self._files: dict[tuple[str, str], AppendFile] = {}
        try:
            for kind in KINDS:
                for symbol in self._assets:
                    self._file(kind, symbol)
        except SlipstreamError:
            self.close()
            raise

    def write(self, batch: Batch) -> None:
        """Append a batch; durable when it returns.

        Raises:
            SlipstreamError: the disk refuses; every file ends with a whole line.
        """
        quotes, books = batch.quotes, batch.books
        own = {symbol: symbol for symbol in self._assets}
        foreign = {symbol: asset.cex_symbol.upper() for symbol, asset in self._assets.items()}
        here, there = pl.col("venue") == HYPERLIQUID, pl.col("venue") == BINANCE
        for day, part in _by_day(quotes):
            self._turn_to(day)
            self._append("hl_bbo", part.filter(here), lambda rows: bbo_rows(rows, own))
            self._append("cex_bbo", part.filter(there), lambda rows: bbo_rows(rows, foreign))
        for day, part in _by_day(books):
            self._turn_to(day)
            self._append("depth", part, self._depths)

    def write_funding(self, symbol: str, settlements: list[tuple[int, float]]) -> None:
        """Append settlements of one coin, (hour in Unix ms, rate per hour) in order.

        Raises:
            SlipstreamError: the disk refuses.
        """
        self._file("funding", symbol).append(lines(funding_rows(settlements, symbol)))
        self.rows["funding", symbol] += len(settlements)

    def last_funding_ms(self, symbol: str) -> int | None:
        """Hour of the last settlement in the coin's file, Unix ms; None if it holds none.

        Raises:
            UsageError: the last line cannot be read.
        """
        file = self._file("funding", symbol)
        last = file.last_line()
        if last is None:
            return None
        try:
            return round(float(last.split(",")[0]) * 1000)
        except ValueError as problem:
            raise UsageError(
                f"{file.path}: the last line is {last!r} and not a settlement; name another file"
            ) from problem

    def close(self) -> None:
        """Close every file."""
        for file in self._files.values():
            file.close()
        self._files.clear()

    def _append(self, kind: str, rows: pl.DataFrame, table: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
        for (symbol,), part in rows.partition_by("coin", as_dict=True, maintain_order=True).items():
            body = table(part)
            self._file(kind, str(symbol)).append(lines(body))
            self.rows[kind, str(symbol)] += body.height

    def _depths(self, books: pl.DataFrame) -> pl.DataFrame:
        depths = depth_rows(books, self._depth_bps)
        self.short_depth += depths.short
        return depths.rows

    def _file(self, kind: str, symbol: str) -> AppendFile:
        key = (kind, symbol)
        if key not in self._files:
            path = path_of(self._patterns.of(kind), self._assets[symbol], self._session)
            self._files[key] = AppendFile(path, _HEADERS[kind])
        return self._files[key]

    def _turn_to(self, day: int) -> None:
        """Close yesterday's files that are named by session; a clock that steps back does not reopen them."""
        if day <= self._day:
            return
        self._day = day
        self._session = datetime.fromtimestamp(day * 86_400, UTC).strftime("%Y%m%d-000000")
        for kind, symbol in list(self._files):
            if "{session}" in self._patterns.of(kind):
                self._files.pop((kind, symbol)).close()

    def _refuse_shared_paths(self) -> None:
        taken: dict[str, str] = {}
        for kind in KINDS:
            for asset in self._assets.values():
                path = path_of(self._patterns.of(kind), asset, self._session)
                whose = f"{kind} of {asset.symbol}"
                first = taken.setdefault(str(path).casefold(), whose)
                if first != whose:
                    raise UsageError(
                        f"{path}: both {first} and {whose} would be written there; put a token in the pattern"
                    )


def _midnight(session: str) -> datetime:
    return datetime.strptime(session[:8], "%Y%m%d").replace(tzinfo=UTC)


def _by_day(rows: pl.DataFrame) -> list[tuple[int, pl.DataFrame]]:
    """Rows by UTC day since the epoch, in order of the days."""
    if rows.height == 0:
        return []
    days = rows["received_ns"] // _DAY_NS
    if days.min() == days.max():
        return [(int(days[0]), rows)]
    return [(int(day), rows.filter(days == day)) for day in days.unique().sort()]
