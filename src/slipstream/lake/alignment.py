"""From rows of candles to the dense panel: which hour knows what, and which settlements were due.

A candle that opens at ``ts`` is known at ``ts + 1 h``. A rate stamped T was settled at T, so it belongs to the bar
that *closes* at T: in the file it stands in the row after that bar's own.

Which settlements are due is inferred from each coin's own past stamps, never from its future. They lie on the epoch
grid of the interval in force (1, 2, 4 or 8 h). A gap between two observed stamps shows an interval: the longest grid
both stamps lie on. A shorter interval takes effect at once, since stamps cannot appear between grid points; a longer
one only after two equal gaps of just that length, because a single long gap is more likely a missing stamp. Until a
coin has shown two stamps, nothing is known to be due. Only settlements inside a coin's life count: after the open of
its first bar and up to the close of its last.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from slipstream.core.panel import HOUR_MS, FloatArray, IntArray, Panel, UniverseRule

INTERVALS_HOURS = (8, 4, 2, 1)
_UNKNOWN = 0


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
    """Rates booked to the bars that close at their stamps, shape (rows, coins)."""
    rows, columns = shape
    recorded = np.flatnonzero(~np.isnan(rate))
    stamp, coin = hour[recorded], code[recorded]
    interval = settlement_interval_hours(stamp, coin)
    first_hour = int(hour.min()) if len(hour) else 0

    # one row per stamp hour, from the first open to the close of the last bar
    values = np.full((rows + 1, columns), np.nan)
    values[stamp - first_hour, coin] = rate[recorded]
    latest = np.full((rows + 1, columns), -1, dtype=np.int64)
    latest[stamp - first_hour, coin] = np.arange(len(recorded))
    np.maximum.accumulate(latest, axis=0, out=latest)
    before = latest[:-1]  # the last stamp strictly before each of the hours that close a bar
    in_force = np.append(interval, _UNKNOWN)[before]  # index -1, no stamp yet, reads the appended unknown
    clock = (first_hour + 1 + np.arange(rows, dtype=np.int64))[:, None]
    due = (in_force != _UNKNOWN) & (clock % np.maximum(in_force, 1) == 0)

    opened = np.full(columns, np.iinfo(np.int64).max)
    closed = np.full(columns, np.iinfo(np.int64).min)
    np.minimum.at(opened, code, hour)
    np.maximum.at(closed, code, hour + 1)
    alive = (clock > opened) & (clock <= closed)
    settled = values[1:]
    return np.where(alive & (due | ~np.isnan(settled)), settled, 0.0)


def settlement_interval_hours(stamp: IntArray, coin: IntArray) -> IntArray:
    """The settlement interval in force just after each observed stamp, shape (K,), hours; 0 while unknown.

    Two equal gaps of the shown length set the interval whatever it was; any other gap can only shorten it. So the
    interval is the least one shown since it was last set, found with one running maximum per interval.

    Args:
        stamp: shape (K,), hours since the epoch, ascending within each coin.
        coin: shape (K,), codes, equal ones adjacent.
    """
    count = len(stamp)
    if count == 0:
        return np.empty(0, dtype=np.int64)
    index = np.arange(count)
    opening = np.append(True, coin[1:] != coin[:-1])
    gap = np.append(0, np.diff(stamp))
    shown = np.ones(count, dtype=np.int64)
    for hours in INTERVALS_HOURS[::-1]:
        shown[(stamp % hours == 0) & (np.append(0, stamp[:-1]) % hours == 0)] = hours
    shown[opening] = np.iinfo(np.int64).max

    second = np.append(False, opening[:-1]) & ~opening
    confirmed = _equal_to_previous(gap) & (gap == shown) & ~opening & ~second
    set_at = np.maximum.accumulate(np.where(opening | second | confirmed, index, -1))
    interval = np.full(count, _UNKNOWN, dtype=np.int64)
    for hours in INTERVALS_HOURS:
        last = np.maximum.accumulate(np.where(shown <= hours, index, -1))
        interval[last >= set_at] = hours
    return interval


def _equal_to_previous(values: IntArray) -> NDArray[np.bool_]:
    return np.append(False, values[1:] == values[:-1])
