"""The set of files of one coin: read, merged with a refresh, checked, and staged; all three or none."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from slipstream.core.panel import to_ms
from slipstream.errors import DataError
from slipstream.lake.export.file_names import decoded, encoded
from slipstream.lake.export.folder import ExportFolder
from slipstream.lake.export.safety import (
    changes_values,
    merged_by_source,
    merged_rows,
    merged_settlements,
    require_no_loss,
    require_span,
)
from slipstream.lake.export.tables import CANDLES, FUNDING, MERGED, Table, from_csv, iso, merged_table, to_csv
from slipstream.lake.longer_bars import PRICES

TABLES = (CANDLES, FUNDING, MERGED)


@dataclass(frozen=True)
class CoinExport:
    """What happened to a coin's files; rows and times (opens, Unix ms) are those of its candles.

    Attributes:
        coin: its name.
        rows_before, rows_after: None where the files could not be read.
        first_before_ms, last_before_ms: None if there were no candles.
        first_after_ms, last_after_ms: as they stand now.
        refused: why nothing was written; None if all went well.
    """

    coin: str
    rows_before: int | None
    rows_after: int | None
    first_before_ms: int | None = None
    last_before_ms: int | None = None
    first_after_ms: int | None = None
    last_after_ms: int | None = None
    refused: str | None = None


@dataclass(frozen=True)
class CoinFiles:
    """A coin's tables as they are on disk; None where there is no file."""

    coin: str
    candles: pl.DataFrame | None
    funding: pl.DataFrame | None

    @property
    def first_ms(self) -> int | None:
        """Open of the first candle."""
        return None if self.candles is None or not self.candles.height else int(self.candles["ts"][0])


@dataclass(frozen=True)
class CoinTables:
    """A coin's tables after a refresh."""

    candles: pl.DataFrame
    funding: pl.DataFrame
    merged: pl.DataFrame

    def of(self, table: Table) -> pl.DataFrame:
        return {CANDLES.name: self.candles, FUNDING.name: self.funding}.get(table.name, self.merged)


def file_name(coin: str, table: Table, interval: str) -> str:
    return f"{encoded(coin)}_{table.name}_{interval}.csv"


def coins_in(names: list[str], interval: str) -> list[str]:
    """Coins whose candles are among some file names."""
    ending = f"_{CANDLES.name}_{interval}.csv"
    return sorted(decoded(name.removesuffix(ending)) for name in names if name.endswith(ending) and name[0] != ".")


def held_files(folder: ExportFolder, coin: str, interval: str, bar_ms: int, *, with_source: bool = False) -> CoinFiles:
    """A coin's files, each checked against the manifest.

    Raises:
        FileDamaged: one of them cannot be trusted or read.
    """
    found = {
        table.name: _held(folder, coin, table, interval, bar_ms, with_source=with_source)
        for table in (CANDLES, FUNDING)
    }
    merged = file_name(coin, MERGED, interval)
    if folder.read(merged) is not None and not folder.agrees(merged):
        _held(folder, coin, MERGED, interval, bar_ms, with_source=with_source)
    return CoinFiles(coin, **found)


def _held(
    folder: ExportFolder, coin: str, table: Table, interval: str, bar_ms: int, *, with_source: bool
) -> pl.DataFrame | None:
    name = file_name(coin, table, interval)
    content = folder.read(name)
    if content is None:
        return None
    sourced = with_source and table is not FUNDING
    return from_csv(content, folder.place / name, table, bar_ms, with_source=sourced, as_written=folder.agrees(name))


def refreshed(
    folder: ExportFolder, held: CoinFiles, candles: pl.DataFrame, funding: pl.DataFrame, interval: str, bar_ms: int
) -> CoinTables:
    """Merge what comes into a coin's files and stage those that change.

    Args:
        folder: where they lie.
        held: the files as they are.
        candles: rows that come, with ``source`` if the files have it.
        funding: rows that come.
        interval: the bar length as it stands in the file names.
        bar_ms: the same, ms.

    Returns:
        The tables as they will be.

    Raises:
        DataError: a price that comes is no positive number.
        SafetyRefusal: something would be lost, or a name differs from another only by case. Nothing is staged.
    """
    sourced = "source" in candles.columns
    _require_prices(held.coin, candles)
    before = CANDLES.empty(with_source=sourced) if held.candles is None else held.candles
    all_candles = merged_by_source(before, candles) if sourced else merged_rows(before, candles)
    settled = merged_settlements(FUNDING.empty() if held.funding is None else held.funding, funding)
    after = CoinTables(all_candles, settled, merged_table(all_candles, settled, bar_ms))
    same = True
    changed = []
    for table in TABLES:
        name = file_name(held.coin, table, interval)
        agrees = folder.agrees(name)
        if table is MERGED and same and agrees:
            continue  # it is computed from the other two
        old = (
            _held(folder, held.coin, MERGED, interval, bar_ms, with_source=sourced)
            if table is MERGED
            else held.candles
            if table is CANDLES
            else held.funding
        )
        new = after.of(table)
        if old is not None and agrees and old.equals(new):
            continue
        grown = old is not None and new.head(old.height).equals(old)
        if not grown:
            _require_safe(folder, name, old, new)
        same = False
        keep_old = old is not None and not grown and changes_values(old, new)
        changed.append((table, name, new, keep_old))
    if not all_candles.height:
        return after  # settlements without a bar wait in the lake until there is one
    for _, name, _, _ in changed:
        folder.reserve(name)
    for table, name, new, keep_old in changed:
        times = (iso(int(new["ts"][0])), iso(int(new["ts"][-1]))) if new.height else ("", "")
        folder.stage(name, to_csv(new, table, bar_ms), new.height, *times, keep_old=keep_old)
    return after


def outcome(held: CoinFiles, after: CoinTables) -> CoinExport:
    """What became of a coin that was not refused."""
    rows_before, first_before, last_before = _extent(held)
    rows_after, first_after, last_after = _extent(after)
    return CoinExport(held.coin, rows_before, rows_after, first_before, last_before, first_after, last_after)


def refusal(coin: str, held: CoinFiles | None, reason: str) -> CoinExport:
    """What became of a coin whose files stay as they are."""
    if held is None:
        return CoinExport(coin, None, None, refused=reason)
    rows, first, last = _extent(held)
    return CoinExport(coin, rows, rows, first, last, first, last, reason)


def _extent(files: CoinFiles | CoinTables) -> tuple[int, int | None, int | None]:
    """Rows, first and last open of the candles."""
    candles = files.candles
    if candles is None or not candles.height:
        return 0, None, None
    return candles.height, int(candles["ts"][0]), int(candles["ts"][-1])


def _require_safe(folder: ExportFolder, name: str, old: pl.DataFrame | None, new: pl.DataFrame) -> None:
    what = str(folder.place / name)
    if old is not None:
        require_no_loss(old, new, what)
        return
    known = folder.entry(name)
    if known is not None and known.first and not folder.trusted:
        first_ms = to_ms(pl.Series([known.first]).str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_unit="ms")[0])
        require_span(f"{what} (which is gone, but is in the manifest)", known.rows, first_ms, new)


def _require_prices(coin: str, candles: pl.DataFrame) -> None:
    for name in PRICES:
        wrong = ~(candles[name].is_finite() & (candles[name] > 0.0)).fill_null(value=False)
        if wrong.any():
            row = int(wrong.arg_true()[0])
            raise DataError(
                f"{coin}: {name} of the bar that opens at {iso(int(candles['ts'][row]))} is {candles[name][row]}; "
                'prices must be positive. Find it with "slipstream data check" and fetch that coin again'
            )
