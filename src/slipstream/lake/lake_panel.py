"""The panel of a lake: bars and settlements of its tables, in one dense grid.

Hourly bars are read as they lie. Longer ones are resampled from them, except where the lake also holds bars fetched in
a longer length, which reach further back: there every bar is made from the finest length that is complete in it
(:mod:`slipstream.lake.longer_bars`).
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from slipstream.core.bars import resample
from slipstream.core.panel import HOUR_MS, UniverseRule
from slipstream.errors import DataError, UsageError
from slipstream.lake.alignment import Aligned, dense
from slipstream.lake.closed_bars import closed, selected
from slipstream.lake.datasets import BARS, FUNDING, INTERVAL_MS
from slipstream.lake.parts import Part
from slipstream.lake.store import Lake

_BAR_COLUMNS = ("coin", "ts", "open", "high", "low", "close", "volume")


def lake_panel(
    lake: Lake,
    *,
    bar_hours: int = 1,
    coins: Sequence[str] | None = None,
    rule: UniverseRule | None = None,
    now_ms: int | None = None,
    trust_files: bool = False,
) -> Aligned:
    """The dense panel of a lake.

    Args:
        lake: with a table of bars.
        bar_hours: length of a bar.
        coins: case-sensitive names to keep (default: all).
        rule: which coins may be held (default :class:`~slipstream.core.panel.UniverseRule`).
        now_ms: the present, Unix ms; bars not closed by then are left out, bars that open after it are refused.
        trust_files: read parts that differ from their checksum.

    Raises:
        DataError: a part is damaged, no bar is held, none can serve that length, or a bar opens in the future.
        UsageError: a coin is unknown.
    """
    parts = lake.parts(BARS)
    lengths = {_interval(part) for part in parts}
    if lengths - set(INTERVAL_MS):
        raise DataError(
            f"{lake.place.url}: holds bars of {', '.join(sorted(lengths - set(INTERVAL_MS)))}, which is no known length"
        )
    held = sorted(lengths, key=INTERVAL_MS.__getitem__)
    usable = [name for name in held if bar_hours * HOUR_MS % INTERVAL_MS[name] == 0]
    if not usable:
        have = f"bars of {', '.join(held)} only" if held else "no bars"
        raise DataError(f"{lake.place.url}: the lake holds {have}; bars of {bar_hours} h need bars that divide them")
    funding = list(lake.decoded(FUNDING, lake.parts(FUNDING), columns=("coin", "ts", "rate"), trust_files=trust_files))
    if "1h" in usable and not any(INTERVAL_MS[name] > HOUR_MS for name in usable):
        wanted = [part for part in parts if _interval(part) == "1h"]
        bars = list(lake.decoded(BARS, wanted, columns=_BAR_COLUMNS, trust_files=trust_files))
        bars = _for_panel(bars, lake, coins, now_ms, HOUR_MS)
        aligned = dense(bars, funding, rule=rule, source=lake.place.name)
        if not aligned.panel.rows:
            raise DataError(f"{lake.place.url}: no coin has traded in any hour; download the data again")
        return Aligned(resample(aligned.panel, bar_hours), aligned.pre_listing)
    from slipstream.lake.longer_bars import bars_of

    wanted = [part for part in parts if _interval(part) in usable]
    base = pl.concat(lake.decoded(BARS, wanted, trust_files=trust_files))
    step = bar_hours * HOUR_MS
    longer = bars_of(base, f"{bar_hours}h").sort("coin", "ts")
    bars = _for_panel([longer.select(_BAR_COLUMNS)], lake, coins, now_ms, step)
    return dense(bars, funding, bar_hours=bar_hours, rule=rule, source=lake.place.name)


def _interval(part: Part) -> str:
    return dict(part.values)["base_interval"]


def _for_panel(
    pieces: list[pl.DataFrame], lake: Lake, coins: Sequence[str] | None, now_ms: int | None, step_ms: int
) -> list[pl.DataFrame]:
    """The pieces with the coins asked for and closed bars only."""
    if now_ms is not None:
        pieces = [closed(piece, now_ms, step_ms, lake.place.url) for piece in pieces]
    if coins is not None:
        held = sorted(set().union(*(piece["coin"].unique().to_list() for piece in pieces)))
        wanted = selected(coins, held, lake.place.url)
        pieces = [piece.filter(pl.col("coin").is_in(wanted)) for piece in pieces]
    pieces = [piece for piece in pieces if piece.height]
    if not pieces:
        raise UsageError(f"{lake.place.url}: no closed bar is left of what was asked for")
    return pieces
