"""Market data at rest: the datasets, the store, integrity checks and the one reader of the code base.

Everything in the code base reads bars through :func:`load_panel`, whether they lie in a lake (a folder or an ``s3://``
URL) or in a single panel file. Heavy libraries are imported on first use, so importing this package costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from slipstream.core.panel import HOUR_MS, Panel, UniverseRule, utc
from slipstream.errors import DataError, UsageError

if TYPE_CHECKING:
    from slipstream.lake.alignment import Aligned

__all__ = ["load_panel"]


def load_panel(
    path: str | Path,
    *,
    bar_hours: int = 1,
    coins: Sequence[str] | None = None,
    start_ms: int | None = None,
    end_ms: int | None = None,
    rule: UniverseRule | None = None,
    now_ms: int | None = None,
) -> Panel:
    """The panel of a lake or a panel file (Parquet or CSV).

    Args:
        path: a lake's folder or ``s3://`` URL, or a file with the columns of :mod:`slipstream.lake.schema`.
        bar_hours: length of a bar, hours; longer bars are computed.
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
    panel = _aligned(path, bar_hours=bar_hours, coins=coins, rule=rule, now_ms=now_ms).panel
    if not panel.rows:
        raise DataError(f"{path}: no coin has traded in any hour; download the data again")
    return _between(panel, start_ms, end_ms, path)


def _aligned(
    path: str | Path,
    *,
    bar_hours: int = 1,
    coins: Sequence[str] | None = None,
    rule: UniverseRule | None = None,
    now_ms: int | None = None,
) -> Aligned:
    """The whole panel and what was left out of it; arguments and errors as for :func:`load_panel`."""
    from slipstream.core.bars import resample
    from slipstream.lake.alignment import Aligned, align
    from slipstream.lake.closed_bars import closed, selected
    from slipstream.lake.locate import is_url

    if is_url(path) or Path(path).is_dir():
        from slipstream.lake.lake_panel import lake_panel
        from slipstream.lake.store import Lake

        return lake_panel(Lake.open(path), bar_hours=bar_hours, coins=coins, rule=rule, now_ms=now_ms)
    from slipstream.lake.panel_file import read_panel_file

    frame = read_panel_file(path)
    if now_ms is not None:
        frame = closed(frame, now_ms, HOUR_MS, path)
    if coins is not None:
        wanted = selected(coins, frame["coin"].unique().sort().to_list(), path)
        frame = frame.filter(frame["coin"].is_in(wanted))
    aligned = align(frame, rule=rule, source=Path(path).resolve().name)
    if bar_hours == 1 or not aligned.panel.rows:
        return aligned
    return Aligned(resample(aligned.panel, bar_hours), aligned.pre_listing)


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
