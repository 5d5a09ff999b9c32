"""The wide CSV files of a panel, written plainly: to compare exports with, and to feed commands that take CSV."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from slipstream.core.panel import FloatArray, Panel


def export_csv(panel: Panel, folder: Path, interval: str) -> tuple[Path, ...]:
    """Write ``log_returns_*.csv``, ``funding_sum_*.csv`` and ``volume_usd_*.csv``; returns their paths.

    The first column is ``known_at`` (ISO 8601, UTC). A cell is empty where nothing is known: before a coin's first
    bar and after its last, and where a bar, or a due settlement, is missing. The return after a gap is the whole move
    since the last close, so that returns add up to what a holder earned; the empty cell before it marks the gap.

    Args:
        panel: bars of the wanted length.
        folder: made if absent.
        interval: the bar length as it stands in the file names, such as ``4h``.
    """
    returns = np.full_like(panel.close, np.nan)
    returns[1:] = np.log(panel.close[1:] / panel.mark[:-1])
    tables = {"log_returns": returns, "funding_sum": _within_life(panel), "volume_usd": panel.volume_usd}
    folder.mkdir(parents=True, exist_ok=True)
    return tuple(_write(panel, values, folder / f"{name}_{interval}.csv") for name, values in tables.items())


def _within_life(panel: Panel) -> FloatArray:
    present = ~np.isnan(panel.close)
    begun = np.maximum.accumulate(present, axis=0)
    goes_on = np.maximum.accumulate(present[::-1], axis=0)[::-1]
    return np.where(begun & goes_on, panel.funding, np.nan)


def _write(panel: Panel, values: FloatArray, target: Path) -> Path:
    times = pl.Series("known_at", panel.known_at_ms).cast(pl.Datetime("ms"))
    columns = [pl.Series(coin, values[:, index], nan_to_null=True) for index, coin in enumerate(panel.coins)]
    pl.DataFrame([times, *columns]).write_csv(target, datetime_format="%Y-%m-%dT%H:%M:%SZ")
    return target
