"""One history per coin from the venue's API and the archive: the API wins, the archive extends it backwards.

    DATA/market_data/4h/BTC_candles_4h.csv            what the API told       -> source api
    DATA/s3_historical/candles/BTC_candles_4h.csv     mids of order books     -> source s3

The archive's bars end where the API's begin; in between, a hole of one is never filled with the other, because a trade
price after a mid is a return that nobody earned. Bars of the archive that do not cover all their hours are left out and
counted. The archive knows neither volume nor settled funding: both stay empty there.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from slipstream.core.panel import HOUR_MS
from slipstream.errors import SlipstreamError, UsageError
from slipstream.lake.export import coin_set, universe, wide
from slipstream.lake.export.coin_set import CoinFiles
from slipstream.lake.export.folder import ExportFolder, FileDamaged, alone
from slipstream.lake.export.market_data import UNIVERSE_FILE, Coming, ExportReport, held_of, write_all
from slipstream.lake.export.tables import CANDLES, FUNDING, ISO, require_ascending
from slipstream.lake.longer_bars import PRICES, length_ms


@dataclass(frozen=True)
class MergedHistories:
    """What a merge did.

    Attributes:
        export: what was written and refused.
        rows: per coin, bars that came from the API and from the archive.
        partial: per coin, bars of the archive that were left out because hours are missing in them.
    """

    export: ExportReport
    rows: dict[str, tuple[int, int]]
    partial: dict[str, int]


def merge_history(
    data_dir: Path, interval: str, output: Path, *, now_ms: int, trust_files: bool = False
) -> MergedHistories:
    """Write the merged histories of every coin that the API files or the archive have, by the rules of an export.

    Args:
        data_dir: holds ``market_data`` and ``s3_historical``; one of them may be absent.
        interval: length of the bars, such as ``4h``.
        output: the folder to write; laid out like ``market_data``, with a column ``source``.
        now_ms: the present, Unix ms, for the names of backups.
        trust_files: take files that differ from their checksum for right.

    Raises:
        UsageError: there is nothing to merge, or the output is where the input lies.
        DataError: the API's wide funding file, or its universe, cannot be read.
        SlipstreamError: another process is writing, or the disk refused.
    """
    bar_ms = length_ms(interval)
    market = data_dir / "market_data"
    if output.resolve() == market.resolve():
        raise UsageError(f"{output}: holds the API files; name another folder, such as {data_dir / 'merged'}")
    api = ExportFolder(market / interval, trust_files=trust_files)
    archive = archive_files(data_dir, interval)
    coins = sorted({*coin_set.coins_in(_names(api.place), interval), *archive})
    if not coins:
        raise UsageError(
            f"{api.place} and {data_dir / 's3_historical' / 'candles'}: no candles of {interval}; load some with "
            '"hl-load --all", or with "python scripts/fetch_s3_historical.py"'
        )
    told, unusable = held_of(api, coins, interval, bar_ms)
    cells, described = _told_of_all(market, told, interval, bar_ms, trust_files=trust_files)
    coming: dict[str, Coming] = {}
    rows, partial = {}, {}
    for coin, files in told.items():
        try:
            older, left_out = _before(files, archive.get(coin), bar_ms)
        except FileDamaged as problem:
            unusable[coin] = str(problem)
            continue
        newer = CANDLES.empty() if files.candles is None else files.candles
        candles = pl.concat([part.with_columns(source=pl.lit(name)) for part, name in ((older, "s3"), (newer, "api"))])
        coming[coin] = Coming(candles, FUNDING.empty() if files.funding is None else files.funding, cells.get(coin))
        rows[coin] = (newer.height, older.height)
        if left_out:
            partial[coin] = left_out
    try:
        with alone(output):
            into = ExportFolder(output / interval, trust_files=trust_files)
            held, damaged = held_of(into, sorted(coming), interval, bar_ms, with_source=True)
            report = write_all(
                output,
                into,
                held,
                unusable | damaged,
                {coin: coming[coin] for coin in held},
                described,
                interval,
                now_ms=now_ms,
                trust_files=trust_files,
            )
    except OSError as problem:
        raise SlipstreamError(f"{output}: cannot be written ({problem}); every file is old or new, whole") from problem
    return MergedHistories(report, rows, partial)


def archive_files(data_dir: Path, interval: str) -> dict[str, Path]:
    """The archive's candle files of one length, by coin; hourly ones lie in a folder of their own."""
    folder = data_dir / "s3_historical" / "candles" / ("hourly" if interval == "1h" else "")
    names = _names(folder)
    return {coin: folder / coin_set.file_name(coin, CANDLES, interval) for coin in coin_set.coins_in(names, interval)}


def read_archive_candles(file: Path, bar_ms: int) -> tuple[pl.DataFrame, int]:
    """Whole bars of an archive file as a candle table without volume, and how many were not whole.

    Args:
        file: the candle columns, and ``hours``: the hours covered. An hourly file may do without: its bars are whole.
        bar_ms: length of a bar.

    Raises:
        FileDamaged: a column is missing, or a line cannot be read (the first is named).
    """
    try:
        text = pl.read_csv(io.BytesIO(file.read_bytes()), infer_schema=False)
    except (pl.exceptions.PolarsError, OSError) as problem:
        reason = str(problem).strip().splitlines()[0]
        raise FileDamaged(f"{file}: cannot be read as CSV ({reason}); {_AGAIN}") from problem
    counted = bar_ms > HOUR_MS
    needed = ["datetime", *PRICES, "known_at_ms", *(["hours"] if counted else [])]
    absent = [name for name in needed if name not in text.columns]
    if absent:
        raise FileDamaged(f"{file}: column {absent[0]} is missing; {_AGAIN}")
    opened = text["datetime"].str.to_datetime(ISO, time_unit="ms", strict=False).dt.timestamp("ms")
    numbers = {name: text[name].cast(pl.Float64, strict=False) for name in needed[1:]}
    wrong = {name: ~(values.is_finite() & (values > 0.0)).fill_null(value=False) for name, values in numbers.items()}
    wrong |= {
        "datetime": opened.is_null(),
        "known_at_ms": (numbers["known_at_ms"] != opened + bar_ms).fill_null(value=True),
    }
    for name, faults in wrong.items():
        if faults.any():
            row = int(faults.arg_true()[0])
            raise FileDamaged(f"{file} line {row + 2}, column {name}: {text[name][row]!r} cannot be right; {_AGAIN}")
    require_ascending(opened.to_numpy(), bar_ms, file)
    unknown = dict.fromkeys(("volume", "volume_usd"), pl.lit(None, dtype=pl.Float64()))
    candles = pl.DataFrame({"ts": opened, **{name: numbers[name] for name in PRICES}}).with_columns(**unknown)
    if not counted:
        return candles, 0
    whole = numbers["hours"] >= bar_ms // HOUR_MS
    return candles.filter(whole), int((~whole).sum())


def _before(files: CoinFiles, archive: Path | None, bar_ms: int) -> tuple[pl.DataFrame, int]:
    """The archive's bars before the API's first, and how many were left out there."""
    if archive is None:
        return CANDLES.empty(), 0
    older, left_out = read_archive_candles(archive, bar_ms)
    first = files.first_ms
    return (older if first is None else older.filter(pl.col("ts") < first)), left_out


def _told_of_all(
    market: Path, told: dict[str, CoinFiles], interval: str, bar_ms: int, *, trust_files: bool
) -> tuple[dict[str, wide.FundingCells], pl.DataFrame]:
    """What the API's wide funding file and its universe say of the coins."""
    top = ExportFolder(market, trust_files=trust_files)
    name = f"funding_sum_{interval}.csv"
    content, listed = top.read(name), top.read(UNIVERSE_FILE)
    described = universe.traded({}, bar_ms)
    if listed is not None:
        described = universe.universe_from_csv(listed, market / UNIVERSE_FILE)
    if content is None:
        return {}, described
    table = wide.wide_from_csv(content, market / name, bar_ms)
    cells = {}
    for coin, files in told.items():
        if coin not in table.coins or files.candles is None or files.funding is None or not files.candles.height:
            continue
        opened = np.arange(int(files.candles["ts"][0]), int(files.candles["ts"][-1]) + bar_ms, bar_ms, dtype=np.int64)
        sums = wide.Column(int(opened[0]), table.column(coin, opened, bar_ms))
        cells[coin] = wide.FundingCells(sums, wide.settlement_counts(files.funding, opened, bar_ms))
    return cells, described


def _names(folder: Path) -> list[str]:
    return [entry.name for entry in folder.iterdir()] if folder.is_dir() else []


_AGAIN = "run scripts/fetch_s3_historical.py --resample-only to write it again"
