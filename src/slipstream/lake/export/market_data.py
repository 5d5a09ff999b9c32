"""Exports of the lake as CSV files, which never lose what they hold.

    FOLDER/4h/BTC_candles_4h.csv  ..._funding_4h.csv  ..._merged_4h.csv  manifest.json
    FOLDER/log_returns_4h.csv  funding_sum_4h.csv  volume_usd_4h.csv  universe.csv  manifest.json

A refresh is merged into what is there. A coin whose files would lose something, or cannot be trusted, is refused and
left as it is, while the others are written. Files that do not change are not touched.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from slipstream.errors import DataError, SafetyRefusal, SlipstreamError
from slipstream.lake.datasets import BARS, FUNDING, INSTRUMENTS, Dataset
from slipstream.lake.export import coin_set, tables, universe, wide
from slipstream.lake.export.coin_set import CoinExport, CoinFiles, CoinTables
from slipstream.lake.export.folder import ExportFolder, FileDamaged, alone
from slipstream.lake.longer_bars import funding_of, length_ms, longer_bars

UNIVERSE_FILE = "universe.csv"


@dataclass(frozen=True)
class ExportReport:
    """What an export did.

    Attributes:
        files: those written; a file that did not change is not among them.
        coins: one entry per coin of the refresh, by name.
        refused_files: wide files, or their columns, that were left as they are, and why.
        pre_listing: base bars left out per coin, from before its first trade.
    """

    files: tuple[Path, ...]
    coins: tuple[CoinExport, ...]
    refused_files: dict[str, str] = field(default_factory=dict)
    pre_listing: dict[str, int] = field(default_factory=dict)

    @property
    def refused(self) -> dict[str, str]:
        """Whatever was refused, by coin or file; a command that has any ends with exit code 3."""
        return {coin.coin: coin.refused for coin in self.coins if coin.refused is not None} | self.refused_files


@dataclass(frozen=True)
class Coming:
    """What a refresh brings for one coin: rows of its tables, and what it knows of funding bar by bar."""

    candles: pl.DataFrame
    funding: pl.DataFrame
    cells: wide.FundingCells | None = None


def export_market_data(
    bars: pl.DataFrame,
    funding: pl.DataFrame,
    instruments: pl.DataFrame | None,
    interval: str,
    folder: Path,
    *,
    now_ms: int,
    trust_files: bool = False,
) -> ExportReport:
    """Merge bars and settlements, a whole lake or a refresh of some days, into the CSV files of one bar length.

    Args:
        bars: rows of the dataset ``bars``, of any base intervals.
        funding: rows of the dataset ``funding``.
        instruments: rows of the dataset ``instruments`` for ``universe.csv``; None: only what the bars prove.
        interval: length of the bars to write, such as ``4h``.
        folder: such as ``data/market_data``; made if absent.
        now_ms: the present, Unix ms: bars that have not closed are left out, and backups are named after it.
        trust_files: take files that differ from their checksum for right.

    Raises:
        UsageError: ``interval`` is no length.
        DataError: the frames have other columns or types, or bars that are there twice or off their grid.
        SlipstreamError: another process is writing, or the disk refused; every file is old or new, whole.
    """
    bar_ms = length_ms(interval)
    for rows, dataset in ((bars, BARS), (funding, FUNDING), (instruments, INSTRUMENTS)):
        if rows is not None:
            _require_schema(rows, dataset)
    coins = sorted({*bars["coin"].unique(), *funding["coin"].unique()})
    try:
        with alone(folder):
            files = ExportFolder(folder / interval, trust_files=trust_files)
            held, unusable = held_of(files, coins, interval, bar_ms)
            since = {coin: mine.first_ms for coin, mine in held.items() if mine.first_ms is not None}
            made = longer_bars(bars, interval, now_ms=now_ms, traded_since=since)
            coming = _coming(coins, made.bars, funding, interval, now_ms, bar_ms)
            described = universe.traded({}, bar_ms) if instruments is None else universe.described(instruments)
            known = {coin: refresh for coin, refresh in coming.items() if coin in held}
            report = write_all(
                folder, files, held, unusable, known, described, interval, now_ms=now_ms, trust_files=trust_files
            )
    except OSError as problem:
        raise SlipstreamError(f"{folder}: cannot be written ({problem}); every file is old or new, whole") from problem
    return ExportReport(report.files, report.coins, report.refused_files, made.pre_listing)


def held_of(
    folder: ExportFolder, coins: list[str], interval: str, bar_ms: int, *, with_source: bool = False
) -> tuple[dict[str, CoinFiles], dict[str, str]]:
    """Files of each coin, and why those of others cannot be read."""
    held, unusable = {}, {}
    for coin in coins:
        try:
            held[coin] = coin_set.held_files(folder, coin, interval, bar_ms, with_source=with_source)
        except FileDamaged as problem:
            unusable[coin] = str(problem)
    return held, unusable


def write_all(
    folder: Path,
    files: ExportFolder,
    held: Mapping[str, CoinFiles],
    unusable: Mapping[str, str],
    coming: Mapping[str, Coming],
    described: pl.DataFrame,
    interval: str,
    *,
    now_ms: int,
    trust_files: bool,
) -> ExportReport:
    """Merge and write each coin's files, then the wide files and the universe; the caller keeps other writers out.

    Args:
        folder: of the wide files.
        files: the folder of the coins' files.
        held: those files, by coin.
        unusable: why those of other coins cannot be read.
        coming: what comes, for coins in ``held``.
        described: rows of a universe without bars.
        interval: the bar length as it stands in the names.
        now_ms: the present, Unix ms.
        trust_files: take files that differ from their checksum for right.

    Raises:
        OSError: the disk refused.
    """
    bar_ms = length_ms(interval)
    exports = {coin: coin_set.refusal(coin, None, reason) for coin, reason in unusable.items()}
    after: dict[str, CoinTables] = {}
    try:
        for coin, refresh in coming.items():
            try:
                new = coin_set.refreshed(files, held[coin], refresh.candles, refresh.funding, interval, bar_ms)
            except (DataError, SafetyRefusal) as problem:
                exports[coin] = coin_set.refusal(coin, held[coin], str(problem))
                continue
            exports[coin] = coin_set.outcome(held[coin], new)
            after[coin] = new
        written = files.commit(now_ms)
    finally:
        files.abandon()
    top = ExportFolder(folder, trust_files=trust_files)
    refused: dict[str, str] = {}
    try:
        for kind in wide.WIDE:
            _stage_wide(top, kind, after, coming, interval, refused)
        _stage_universe(top, after, described, bar_ms, refused)
        written += top.commit(now_ms)
    finally:
        top.abandon()
    return ExportReport(written, tuple(exports[coin] for coin in sorted(exports)), refused)


def _coming(
    coins: list[str], bars: pl.DataFrame, funding: pl.DataFrame, interval: str, now_ms: int, bar_ms: int
) -> dict[str, Coming]:
    """The refresh, coin by coin, as rows of the files."""
    opened = pl.col("ts").dt.timestamp("ms")
    candles = bars.with_columns(ts=opened).select("coin", *tables.CANDLES.schema(with_source=False))
    sums = funding_of(funding, interval, now_ms=now_ms).with_columns(ts=opened)
    lives = {
        coin: (first, last + bar_ms)
        for coin, first, last in candles.group_by("coin")
        .agg(pl.col("ts").min().alias("first"), pl.col("ts").max().alias("last"))
        .iter_rows()
    }
    cells = wide.settled_cells(funding, lives, bar_ms)
    candles_of = candles.partition_by("coin", as_dict=True, include_key=False)
    sums_of = sums.partition_by("coin", as_dict=True, include_key=False)
    return {
        coin: Coming(
            candles_of.get((coin,), tables.CANDLES.empty()),
            sums_of.get((coin,), tables.FUNDING.empty()),
            cells.get(coin),
        )
        for coin in coins
    }


def _stage_wide(
    folder: ExportFolder,
    kind: str,
    after: Mapping[str, CoinTables],
    coming: Mapping[str, Coming],
    interval: str,
    refused: dict[str, str],
) -> None:
    """Stage one wide file if it changes; what cannot be done is added to ``refused``."""
    name, bar_ms = f"{kind}_{interval}.csv", length_ms(interval)
    try:
        content = folder.read(name)
        held = wide.EMPTY if content is None else wide.wide_from_csv(content, folder.place / name, bar_ms)
    except FileDamaged as problem:
        refused[name] = str(problem)
        return
    columns = {}
    for coin, mine in after.items():
        if not mine.candles.height:
            continue
        if kind == "funding_sum":
            life = int(mine.candles["ts"][0]), int(mine.candles["ts"][-1]) + bar_ms
            columns[coin] = wide.funding_column(held, coin, mine.funding, life, coming[coin].cells, bar_ms)
        else:
            columns[coin] = wide.on_grid(mine.merged, "ret" if kind == "log_returns" else kind, bar_ms)
    table, lost = wide.merged_wide(held, columns, bar_ms)
    if lost:
        refused[name] = f"{folder.place / name}: {'; '.join(lost.values())}; they stay as they were"
    if not len(table.values) or (folder.agrees(name) and wide.same(held, table)):
        return
    ends = (table.first_ms + bar_ms, table.first_ms + len(table.values) * bar_ms)
    keep_old = content is not None and wide.changes_cells(held, table, bar_ms)
    fresh = wide.wide_to_csv(table, bar_ms)
    folder.stage(name, fresh, len(table.values), *(tables.iso(end) for end in ends), keep_old=keep_old)


def _stage_universe(
    folder: ExportFolder,
    after: Mapping[str, CoinTables],
    described: pl.DataFrame,
    bar_ms: int,
    refused: dict[str, str],
) -> None:
    """Stage ``universe.csv`` if it changes."""
    try:
        content = folder.read(UNIVERSE_FILE)
        held = [] if content is None else [universe.universe_from_csv(content, folder.place / UNIVERSE_FILE)]
    except FileDamaged as problem:
        refused[UNIVERSE_FILE] = str(problem)
        return
    spans = {
        coin: (int(mine.candles["ts"][0]), int(mine.candles["ts"][-1]))
        for coin, mine in after.items()
        if mine.candles.height
    }
    rows = universe.merged_universe(*held, universe.traded(spans, bar_ms), described)
    fresh = universe.universe_to_csv(rows)
    if rows.height and (fresh != content or not folder.agrees(UNIVERSE_FILE)):
        first, last = rows["first_bar"].min(), rows["last_bar"].max()
        folder.stage(UNIVERSE_FILE, fresh, rows.height, str(first or ""), str(last or ""), keep_old=False)


def _require_schema(rows: pl.DataFrame, dataset: Dataset) -> None:
    wrong = [name for name, dtype in dataset.schema.items() if rows.schema.get(name) != dtype]
    if wrong:
        held = rows.schema.get(wrong[0])
        raise DataError(
            f"{dataset.name}: column {wrong[0]} holds {held} and not {dataset.schema[wrong[0]]}; read it from a lake"
        )
