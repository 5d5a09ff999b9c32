"""Longer bars from shorter ones, on a grid anchored at the Unix epoch.

A bar of H hours opens at a multiple of H hours since the epoch and is known H hours later, so 4-hour bars open at
00, 04, 08, 12, 16 and 20 UTC whatever the panel's first row is. Log returns add up over the base bars, funding is
their sum (an average would understate carry H times), volume in USD is their sum.
"""

from __future__ import annotations

import numpy as np

from slipstream.core.panel import HOUR_MS, FloatArray, Panel, PanelError


def resample(panel: Panel, hours: int) -> Panel:
    """The panel in bars of ``hours``, shape (floor(T / k), N) with k = hours / bar_hours.

    A bar exists for a coin only if all k base bars do; otherwise open, high, low, close and volume are NaN. Its
    funding is the sum of the base bars' (0 where none was due), NaN if a due settlement is missing in any of them. A
    coin may be held if it may at the bar's last base row and the bar exists. Base rows that do not fill a bar, at
    the panel's beginning or in the bar still forming at its end, are left out.

    Args:
        panel: bars of ``panel.bar_hours``.
        hours: length of the new bars, a multiple of it.

    Raises:
        PanelError: ``hours`` is not a positive multiple of the bar length, the base bars do not lie on the epoch
            grid, or not one bar is complete.
    """
    base = panel.bar_hours
    if hours <= 0 or hours % base:
        raise PanelError(f"bars of {hours} h cannot be made from bars of {base} h; use a multiple of {base} h")
    if hours == base:
        return panel
    per_bar = hours // base
    first, bars = _complete_bars(panel, hours)
    shape = (bars, per_bar, len(panel.coins))
    rows = slice(first, first + bars * per_bar)

    def blocks(values: FloatArray) -> FloatArray:
        return values[rows].reshape(shape)

    close = blocks(panel.close)
    absent = np.isnan(close).any(axis=1)

    def where_whole(values: FloatArray) -> FloatArray:
        return np.where(absent, np.nan, values)

    return Panel(
        known_at_ms=panel.known_at_ms[rows][per_bar - 1 :: per_bar].copy(),
        coins=panel.coins,
        bar_hours=hours,
        open=where_whole(blocks(panel.open)[:, 0]),
        high=where_whole(blocks(panel.high).max(axis=1)),
        low=where_whole(blocks(panel.low).min(axis=1)),
        close=where_whole(close[:, -1]),
        volume_usd=where_whole(blocks(panel.volume_usd).sum(axis=1)),
        funding=blocks(panel.funding).sum(axis=1),
        universe=panel.universe[rows][per_bar - 1 :: per_bar] & ~absent,
        source=panel.source,
    )


def _complete_bars(panel: Panel, hours: int) -> tuple[int, int]:
    """First base row of the first complete bar, and the number of complete bars."""
    per_bar = hours // panel.bar_hours
    open_hour, off_hour = divmod(panel.known_at_ms - panel.bar_hours * HOUR_MS, HOUR_MS)
    openings = np.flatnonzero((open_hour % hours == 0) & (off_hour == 0))
    bars = (panel.rows - int(openings[0])) // per_bar if len(openings) else 0
    if bars == 0:
        raise PanelError(
            f"the panel's {panel.rows} rows of {panel.bar_hours} h hold no complete bar of {hours} h on the UTC grid; "
            f"take a longer span"
        )
    return int(openings[0]), bars
