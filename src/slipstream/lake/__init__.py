"""Market data at rest: the bar schema, the store, integrity checks and the one reader of the code base.

Everything in the code base reads bars through :func:`load_panel`, whether they lie in a lake directory or in a single
panel file. Heavy libraries are imported on first use, so importing this package costs nothing.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from slipstream.core.panel import HOUR_MS, Panel, UniverseRule, utc
from slipstream.errors import DataError, UsageError

if TYPE_CHECKING:
    import polars as pl

__all__ = ["load_frame", "load_panel"]


def load_panel(
    path: str | Path,
    *,
    coins: Sequence[str] | None = None,
    start_ms: int | None = None,
    end_ms: int | None = None,
    rule: UniverseRule | None = None,
    now_ms: int | None = None,
) -> Panel:
    """The hourly panel of a lake directory or a panel file (Parquet or CSV).

    Args:
        path: a lake directory, or a file with the columns of :mod:`slipstream.lake.schema`.
        coins: case-sensitive names to keep (default: all).
        start_ms: drop rows known before this, Unix ms. Universe and due settlements are judged on the full history
            first, but whatever is computed from the cut panel has lost its warm-up: to *trade* from a date on, load
            the whole history and start the backtest at that date instead.
        end_ms: drop rows known after this, Unix ms.
        rule: which coins may be held (default :class:`~slipstream.core.panel.UniverseRule`).
        now_ms: the present, Unix ms, if the caller has a clock: a bar not yet closed by then is left out, and bars
            further in the future are refused, since their times cannot be right.

    Returns:
        A panel whose rows are labelled by known-at; see :mod:`slipstream.lake.alignment` for gaps and funding.

    Raises:
        DataError: the data cannot be used; one line names file, row and remedy.
        UsageError: a coin is unknown, or no row is left between start and end.
    """
    from slipstream.lake.alignment import align

    frame = load_frame(path)
    if now_ms is not None:
        frame = known_by(frame, now_ms, path)
    if coins is not None:
        frame = _select(frame, coins, path)
    panel = align(frame, rule=rule, source=Path(path).resolve().name).panel
    if not panel.rows:
        raise DataError(f"{path}: no coin has traded in any hour; download the data again")
    return _between(panel, start_ms, end_ms, path)


def load_frame(path: str | Path) -> pl.DataFrame:
    """The validated rows of a lake directory or a panel file, with the schema's columns and types.

    Raises:
        DataError: as for :func:`load_panel`.
    """
    from slipstream.lake.locate import existing
    from slipstream.lake.panel_file import read_panel_file

    place = existing(path)
    if place.is_dir():
        from slipstream.lake.store import read

        return read(place)
    return read_panel_file(place)


def known_by(frame: pl.DataFrame, now_ms: int, path: str | Path) -> pl.DataFrame:
    """The rows whose bars have closed by now; only the bar being formed may be missing from the result.

    Raises:
        DataError: a bar opens after now (the first is named): the column's unit or time zone is wrong.
    """
    opened = frame["ts"].dt.timestamp("ms")
    ahead = (opened > now_ms).fill_null(False)
    if ahead.any():
        row = int(ahead.arg_true()[0])
        raise DataError(
            f"{path} row {row}: ts is {utc(opened[row]):%Y-%m-%d %H:%M} UTC for {frame['coin'][row]}, which is in the "
            f"future ({int(ahead.sum())} rows are). Check the unit and the time zone of ts."
        )
    return frame.filter(opened + HOUR_MS <= now_ms)


def _select(frame: pl.DataFrame, coins: Sequence[str], path: str | Path) -> pl.DataFrame:
    import polars as pl

    held = frame["coin"].unique().sort().to_list()
    if not coins:
        raise UsageError(f"no coin asked for; {path} holds {len(held)}: leave the choice out to take all")
    folded = {name.casefold(): name for name in held}
    for coin in coins:
        if coin not in held:
            near = [folded[key] for key in difflib.get_close_matches(coin.casefold(), folded, n=3, cutoff=0.6)]
            hint = f"did you mean {' or '.join(near)}?" if near else f"it holds {', '.join(held)}."
            raise UsageError(f"{path} holds no coin {coin}; {hint} Names are case-sensitive.")
    return frame.filter(pl.col("coin").is_in(sorted(set(coins))))


def _between(panel: Panel, start_ms: int | None, end_ms: int | None, path: str | Path) -> Panel:
    first = 0 if start_ms is None else panel.row_at(start_ms - 1) + 1
    last = panel.rows - 1 if end_ms is None else panel.row_at(end_ms)
    if first > last:
        known = (
            f"{utc(int(panel.known_at_ms[0])):%Y-%m-%d %H:%M} to {utc(int(panel.known_at_ms[-1])):%Y-%m-%d %H:%M} UTC"
        )
        raise UsageError(f"{path}: no row lies between the start and end asked for; rows are known from {known}")
    cut = panel.until(last)
    if first == 0:
        return cut
    arrays = ("known_at_ms", "open", "high", "low", "close", "volume_usd", "funding", "universe")
    return replace(cut, **{name: getattr(cut, name)[first:] for name in arrays})
