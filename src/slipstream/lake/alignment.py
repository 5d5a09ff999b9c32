"""From rows of candles to the dense panel: which hour knows what, and which settlements were due.

A candle that opens at ``ts`` is known at ``ts + 1 h``. A rate stamped T was settled at T, so it belongs to the bar
that *closes* at T: in the file it stands in the row after that bar's own.

Which settlements were due is told by :mod:`slipstream.core.settlements`. Only those inside a coin's life count: after
the open of its first bar and up to the close of its last.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    """The dense hourly panel of a validated panel file.

    Args:
        frame: the schema's columns; rows keep every rule of :mod:`slipstream.lake.schema`.
        rule: which coins may be held (default :class:`~slipstream.core.panel.UniverseRule`).
        source: where the bars come from, for reports.

    Returns:
        A panel as of :func:`dense`.
    """
    rows = frame if frame["coin"].is_sorted() else frame.sort("coin", "ts")
    return dense([rows], [rows.rename({"funding": "rate"})], rule=rule, source=source)


def dense(
    bars: Sequence[pl.DataFrame],
    settlements: Sequence[pl.DataFrame],
    *,
    bar_hours: int = 1,
    rule: UniverseRule | None = None,
    source: str = "unnamed",
) -> Aligned:
    """The dense panel of bars and settlements, each given in any number of pieces.

    Args:
        bars: coin, ts (open), open, high, low, close, volume; a coin's rows adjacent within a piece, one per time.
        settlements: coin, ts (the hour of the stamp), rate (null: none); a coin's rows adjacent within a piece.
        bar_hours: length of the bars.
        rule: which coins may be held (default :class:`~slipstream.core.panel.UniverseRule`).
        source: where the bars come from, for reports.

    Returns:
        A panel from the first to the last known-at of any bar. Bars that do not exist are NaN, inside a life as
        outside; funding is the sum of the settlements in (open, close], 0 where none was due, NaN where one was due
        and is not recorded.
    """
    step = bar_hours * HOUR_MS
    traded, pre_listing = without_pre_listing(bars)
    coins = tuple(sorted(set().union(*(piece["coin"].unique().to_list() for piece in traded))))
    placed = [_placed(piece, coins, step) for piece in traded]
    first = min((int(slot.min()) for slot, _ in placed if len(slot)), default=0)
    last = max((int(slot.max()) for slot, _ in placed if len(slot)), default=-1)
    shape = (last - first + 1, len(coins))

    def filled(column: Callable[[pl.DataFrame], pl.Series]) -> FloatArray:
        out = np.full(shape, np.nan)
        for piece, (slot, code) in zip(traded, placed, strict=True):
            out[slot - first, code] = column(piece).to_numpy()
        return out

    opened = np.full(len(coins), np.iinfo(np.int64).max)
    closed = np.full(len(coins), np.iinfo(np.int64).min)
    for slot, code in placed:
        np.minimum.at(opened, code, slot * bar_hours)
        np.maximum.at(closed, code, (slot + 1) * bar_hours)
    hours = np.arange(first * bar_hours, (last + 1) * bar_hours + 1, dtype=np.int64)
    funding = _funding(settlements, coins, hours, opened, closed)
    panel = Panel.build(
        (first + 1 + np.arange(shape[0], dtype=np.int64)) * step,
        coins,
        bar_hours,
        open=filled(lambda piece: piece["open"]),
        high=filled(lambda piece: piece["high"]),
        low=filled(lambda piece: piece["low"]),
        close=filled(lambda piece: piece["close"]),
        volume_usd=filled(lambda piece: piece["volume"] * (piece["high"] + piece["low"] + piece["close"]) / 3.0),
        funding=funding if bar_hours == 1 else funding.reshape(shape[0], bar_hours, len(coins)).sum(axis=1),
        rule=rule,
        source=source,
    )
    return Aligned(panel, pre_listing)


def _placed(piece: pl.DataFrame, coins: tuple[str, ...], step_ms: int) -> tuple[IntArray, IntArray]:
    """Slot on the epoch grid and code of each row; rows of coins that are not asked for must not be in it."""
    runs = piece["coin"].rle()
    code = np.searchsorted(np.array(coins, dtype=object), np.array(runs.struct["value"].to_list(), dtype=object))
    slot = piece["ts"].dt.timestamp("ms").to_numpy() // step_ms
    return slot, np.repeat(code.astype(np.int64), runs.struct["len"].to_numpy())


def without_pre_listing(pieces: Sequence[pl.DataFrame]) -> tuple[list[pl.DataFrame], dict[str, int]]:
    """The rows from each coin's first trade on, and how many before it were left out."""
    flat = (pl.col("open") == pl.col("close")) & (pl.col("high") == pl.col("low"))
    silent = (flat & (pl.col("volume") == 0.0)).fill_null(value=False)
    if not pieces:
        return [], {}
    lives = pl.concat(
        [
            piece.group_by("coin").agg(begins=pl.col("ts").min(), listed=pl.col("ts").filter(~silent).min())
            for piece in pieces
        ]
    )
    late = (
        lives.group_by("coin")
        .agg(pl.col("begins", "listed").min())
        .filter(pl.col("begins").ne_missing(pl.col("listed")))
    )
    if not late.height:
        return list(pieces), {}
    out: list[pl.DataFrame] = []
    dropped: dict[str, int] = {}
    for piece in pieces:
        marked = piece.join(late.select("coin", "listed", late=True), on="coin", how="left", maintain_order="left")
        early = pl.col("late").fill_null(value=False) & (pl.col("ts") < pl.col("listed")).fill_null(value=True)
        for coin, count in marked.filter(early).group_by("coin").len().iter_rows():
            dropped[coin] = dropped.get(coin, 0) + int(count)
        out.append(marked.filter(~early).drop("listed", "late"))
    return out, dict(sorted(dropped.items()))


def _funding(
    settlements: Sequence[pl.DataFrame], coins: tuple[str, ...], hours: IntArray, opened: IntArray, closed: IntArray
) -> FloatArray:
    """Rates booked to the hours that close at their stamps, shape (hours - 1, N); 0 outside a coin's life.

    Args:
        settlements: coin, ts, rate.
        coins: sorted names.
        hours: shape (T + 1,), hours since the epoch from the first open to the last close.
        opened: shape (N,), hour in which each coin's first bar opens.
        closed: shape (N,), hour in which its last bar closes.
    """
    if len(hours) < 2:
        return np.empty((0, len(coins)))
    stamped = np.full((len(hours), len(coins)), np.nan)
    for piece in settlements:
        known = (
            piece.filter(pl.col("coin").is_in(list(coins))) if not set(piece["coin"].unique()) <= set(coins) else piece
        )
        hour, code = _placed(known, coins, HOUR_MS)
        row = hour - hours[0]
        inside = (row >= 0) & (row < len(hours))
        stamped[row[inside], code[inside]] = known["rate"].to_numpy()[inside]
    settled = missing_settlements_marked(stamped, hours * HOUR_MS, HOUR_MS)[1:]
    clock = hours[1:, None]
    return np.where((clock > opened) & (clock <= closed), settled, 0.0)
