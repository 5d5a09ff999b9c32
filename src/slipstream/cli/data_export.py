"""Writing the CSV files of a lake or a panel file, and saying what was written."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from slipstream.core.panel import HOUR_MS
from slipstream.errors import UsageError
from slipstream.lake.closed_bars import closed
from slipstream.lake.datasets import BARS, FUNDING, INSTRUMENTS
from slipstream.lake.export import ExportReport, export_market_data
from slipstream.lake.locate import existing, is_url
from slipstream.lake.longer_bars import length_ms
from slipstream.lake.panel_file import read_panel_file
from slipstream.lake.panel_import import separated
from slipstream.lake.store import Lake

if TYPE_CHECKING:
    import polars as pl

_REFUSED = 3


def exported(
    lake: Lake,
    interval: str,
    folder: Path,
    *,
    coins: Sequence[str] | None = None,
    now_ms: int,
    trust_files: bool = False,
) -> ExportReport:
    """Refresh the CSV files from a lake; arguments and errors as for
    :func:`~slipstream.lake.export.export_market_data`.
    """
    instruments = lake.read(INSTRUMENTS, coins=coins, trust_files=trust_files)
    bars = lake.read(BARS, coins=coins, trust_files=trust_files)
    _require_base(bars, interval, lake.place.url)
    return export_market_data(
        bars,
        lake.read(FUNDING, coins=coins, trust_files=trust_files),
        instruments if instruments.height else None,
        interval,
        folder,
        now_ms=now_ms,
        trust_files=trust_files,
    )


def export_to(path: str, interval: str, folder: Path, *, now_ms: int, trust_files: bool) -> int:
    """Export a lake or a panel file and print a line per coin; 3 if something was refused, else 0.

    Raises:
        DataError: the data cannot be used.
        UsageError: bars of that length cannot be made from it.
    """
    if is_url(path) or existing(path).is_dir():
        report = exported(Lake.open(path), interval, folder, now_ms=now_ms, trust_files=trust_files)
    else:
        bars, funding = _of_panel_file(path, now_ms)
        _require_base(bars, interval, path)
        report = export_market_data(bars, funding, None, interval, folder, now_ms=now_ms, trust_files=trust_files)
    for coin in report.coins:
        if coin.refused is None:
            _say(f"{coin.coin}: {coin.rows_before or 0} -> {coin.rows_after} rows")
    for name, why in report.refused.items():
        _say(f"{name}: left as it was: {why}")
    _say(f"{folder}: {len(report.files)} files written, {len(report.coins)} coins, bars of {interval}")
    return _REFUSED if report.refused else 0


def _require_base(bars: pl.DataFrame, interval: str, path: str) -> None:
    """There must be bars that the wanted length is a multiple of.

    Raises:
        UsageError: there are none.
    """
    lengths = bars["base_interval"].unique().sort().to_list()
    if not any(length_ms(interval) % length_ms(held) == 0 for held in lengths):
        have = f"bars of {', '.join(lengths)}" if lengths else "no bars"
        raise UsageError(f"{path}: bars of {interval} cannot be made from what is there: {have}")


def _of_panel_file(path: str, now_ms: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    return separated(closed(read_panel_file(path), now_ms, HOUR_MS, path))


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
