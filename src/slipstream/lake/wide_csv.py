"""Reading wide CSV files: the first column is known-at, every other column a coin.

The counterpart of :mod:`slipstream.lake.export`. An empty cell is unknown and stays NaN. Everything else that is not a
number or a time is an error that names file, line and column, because a file read half is worse than one refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from slipstream.errors import DataError
from slipstream.lake.locate import existing

if TYPE_CHECKING:
    import pandas as pd


def read_wide_csv(path: str | Path) -> pd.DataFrame:
    """A wide CSV file as a frame.

    Args:
        path: a file whose first column holds ISO 8601 times (naive ones are read as UTC), strictly increasing.

    Returns:
        Index ``known_at`` (UTC), one float column per coin in the file's order, NaN where a cell is empty.

    Raises:
        DataError: the file is absent or empty, a header repeats, a time is unreadable, repeated or out of order, or a
            cell is neither empty nor a finite number. Lines are counted from the header, which is line 1.
    """
    import pandas as pd

    place = existing(path)
    text = _cells(place)
    label, *coins = text.columns
    if text.height == 0 or not coins:
        raise DataError(f"{place}: {text.height} rows of {len(coins)} coins; write known_at and one column per coin")
    times = pd.to_datetime(pd.Index(text[label].to_list(), dtype=object), utc=True, format="ISO8601", errors="coerce")
    _require_increasing(place, label, text[label], times)
    numbers = text.select(pl.col(coin).cast(pl.Float64, strict=False) for coin in coins)
    for coin in coins:
        wrong = (text[coin].is_not_null() & numbers[coin].is_null()) | numbers[coin].is_infinite().fill_null(
            value=False
        )
        if wrong.any():
            row = int(wrong.arg_true()[0])
            raise DataError(
                f"{place} line {row + 2}, column {coin}: {text[coin][row]!r} is not a finite number; "
                "leave the cell empty if it is unknown"
            )
    return pd.DataFrame(np.array(numbers.to_numpy(), dtype=np.float64), index=times.rename("known_at"), columns=coins)


def _cells(place: Path) -> pl.DataFrame:
    """Every cell as text, stripped, null where empty."""
    try:
        with place.open(encoding="utf-8") as stream:
            names = [name.strip() for name in stream.readline().split(",")]
        text = pl.read_csv(place, infer_schema=False)
    except (pl.exceptions.PolarsError, UnicodeDecodeError, OSError) as problem:
        reason = str(problem).splitlines()[0]
        raise DataError(
            f"{place}: cannot be read as CSV ({reason}); write known_at and one column per coin"
        ) from problem
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"{place} line 1: column {twice[0]} is there twice; keep one")
    stripped = text.with_columns(pl.all().str.strip_chars())
    return stripped.with_columns(pl.when(pl.all() == "").then(None).otherwise(pl.all()).name.keep())


def _require_increasing(place: Path, label: str, written: pl.Series, times: pd.DatetimeIndex) -> None:
    unread = np.flatnonzero(times.isna())
    if len(unread):
        row = int(unread[0])
        raise DataError(
            f"{place} line {row + 2}, column {label}: {written[row]!r} is not a time; write 2025-01-31T08:00:00Z"
        )
    step = np.diff(times.asi8)
    wrong = np.flatnonzero(step <= 0)
    if len(wrong):
        row = int(wrong[0]) + 1
        fault = "is there twice" if step[row - 1] == 0 else "comes before the line above it"
        raise DataError(f"{place} line {row + 2}: {written[row]} {fault}; sort by time and keep one line each")
