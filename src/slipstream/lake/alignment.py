"""From rows of candles to the dense panel: which hour knows what, and which settlements were due.

A candle that opens at ``ts`` is known at ``ts + 1 h``. A rate stamped T was settled at T, so it belongs to the bar
that *closes* at T: in the file it stands in the row after that bar's own.

Which settlements were due is told by :mod:`slipstream.core.settlements`. Only those inside a coin's life count: after
the open of its first bar and up to the close of its last.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from slipstream.core.panel import HOUR_MS, FloatArray, IntArray, Panel, UniverseRule
from slipstream.core.settlements import missing_settlements_marked


@dataclass(frozen=True)
class Aligned:
    """A panel, and what was left out of it.

    Attributes:
        panel: hourly bars.
        pre_listing: rows dropped per coin: flat candles without volume before its first trade, which the exchange
            back-fills for the time before a listing.
    """

    panel: Panel
    pre_listing: dict[str, int]


def align(frame: pl.DataFrame, *, rule: UniverseRule | None = None, source: str = "unnamed") -> Aligned:
    """The dense hourly panel of a validated frame.

    Args:
        frame: the schema's columns; rows keep every rule of :mod:`slipstream.lake.schema`.
        rule: which coins may be held (default :class:`~slipstream.core.panel.UniverseRule`).
        source: where the bars come from, for reports.

    Returns:
        A panel from the first to the last known-at of any bar. Hours without a bar are NaN, inside a life as outside;
        funding is 0 where no settlement was due, NaN where one was due and is not recorded.
    """
    rows = frame if _grouped(frame) else frame.sort("coin", "ts")
    traded, pre_listing = _without_pre_listing(rows)
    coins = tuple(traded["coin"].unique(maintain_order=True).to_list())
    code = traded["coin"].rle_id().cast(pl.Int64).to_numpy()
    hour = traded["ts"].dt.timestamp("ms").to_numpy() // HOUR_MS
    first_hour, last_hour = (int(hour.min()), int(hour.max())) if len(hour) else (0, -1)
    shape = (last_hour - first_hour + 1, len(coins))

    def dense(column: pl.Series) -> FloatArray:
        out = np.full(shape, np.nan)
        out[hour - first_hour, code] = column.to_numpy()
        return out

    prices = {name: dense(traded[name]) for name in ("open", "high", "low", "close")}
    panel = Panel.build(
        (first_hour + 1 + np.arange(shape[0], dtype=np.int64)) * HOUR_MS,
        coins,
        1,
        **prices,
        volume_usd=dense(traded["volume"] * (traded["high"] + traded["low"] + traded["close"]) / 3.0),
        funding=_funding(traded["funding"].to_numpy(), hour, code, shape),
        rule=rule,
        source=source,
    )
    return Aligned(panel, pre_listing)


def _grouped(frame: pl.DataFrame) -> bool:
    """Whether the rows are already ordered by coin, then time (time ascends within a coin by the schema's rules)."""
    return frame["coin"].is_sorted()


def _without_pre_listing(rows: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, int]]:
    flat = (pl.col("open") == pl.col("close")) & (pl.col("high") == pl.col("low"))
    silent = (flat & (pl.col("volume") == 0.0)).fill_null(False)
    if not rows.select(silent.first().over("coin").any()).item():
        return rows, {}
    listed = rows.select((~silent).cum_max().over("coin")).to_series()
    dropped = rows.filter(~listed).group_by("coin").len().sort("coin")
    return rows.filter(listed), {coin: int(count) for coin, count in dropped.iter_rows()}


def _funding(rate: FloatArray, hour: IntArray, code: IntArray, shape: tuple[int, int]) -> FloatArray:
    """Rates booked to the bars that close at their stamps, shape (rows, coins); 0 outside a coin's life."""
    rows, columns = shape
    if rows == 0:
        return np.empty(shape)
    first_hour = int(hour.min())
    # one row per stamp hour, from the first open to the close of the last bar
    stamped = np.full((rows + 1, columns), np.nan)
    stamped[hour - first_hour, code] = rate
    hours = first_hour + np.arange(rows + 1, dtype=np.int64)
    settled = missing_settlements_marked(stamped, hours * HOUR_MS, HOUR_MS)[1:]

    clock = hours[1:, None]
    opened = np.full(columns, np.iinfo(np.int64).max)
    closed = np.full(columns, np.iinfo(np.int64).min)
    np.minimum.at(opened, code, hour)
    np.maximum.at(closed, code, hour + 1)
    return np.where((clock > opened) & (clock <= closed), settled, 0.0)
