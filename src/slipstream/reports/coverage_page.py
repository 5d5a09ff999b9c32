"""The page of what a lake holds: coin by month as a map of shades, tables, and every coin's gaps in words.

One HTML file without scripts or addresses; the map is inline SVG, and each cell says its figures when pointed at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from slipstream.core.coverage import CoinCoverage, Gap
from slipstream.core.panel import HOUR_MS, Panel, utc
from slipstream.reports.page import stylesheet, template_environment

CELL, NAME_WIDTH, TOP = 16, 96, 34


@dataclass(frozen=True)
class Cell:
    """A coin's month: place in the map, share of its bars that are there (0 to 1), and what it says."""

    x: float
    y: float
    share: float
    hint: str


@dataclass(frozen=True)
class CoverageMap:
    """The drawing: width and height in pixels, month labels (x, text), coin labels (y, text), cells with any bar."""

    width: float
    height: float
    months: tuple[tuple[float, str], ...]
    coins: tuple[tuple[float, str], ...]
    cells: tuple[Cell, ...]


def coverage_map(panel: Panel) -> CoverageMap:
    """Where the marks of the map go.

    Args:
        panel: bars of one length.
    """
    months, share, bars, hours = monthly_share(panel)
    cells = [
        Cell(
            NAME_WIDTH + column * CELL,
            TOP + row * CELL,
            float(share[column, row]),
            f"{coin} {months[column]}: {bars[column, row]} of {hours[column] // panel.bar_hours} bars",
        )
        for row, coin in enumerate(panel.coins)
        for column in range(len(months))
        if bars[column, row]
    ]
    shown = [(column, str(month)) for column, month in enumerate(months) if _labelled(column, month)]
    return CoverageMap(
        NAME_WIDTH + len(months) * CELL + CELL,
        TOP + len(panel.coins) * CELL + CELL,
        tuple((NAME_WIDTH + column * CELL, month) for column, month in shown),
        tuple((TOP + (row + 0.75) * CELL, coin) for row, coin in enumerate(panel.coins)),
        tuple(cells),
    )


def monthly_share(panel: Panel) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Months (M,), share of each month's bars that are there (M, N), their number (M, N), and hours of a month (M,)."""
    opens = (panel.known_at_ms - panel.bar_hours * HOUR_MS).astype("datetime64[ms]")
    months, begin = np.unique(opens.astype("datetime64[M]"), return_index=True)
    hours = ((months + 1).astype("datetime64[h]") - months.astype("datetime64[h]")).astype(np.int64)
    bars = np.add.reduceat(~np.isnan(panel.close), begin, axis=0, dtype=np.int64)
    return months, bars / (hours[:, None] / panel.bar_hours), bars, hours


def _labelled(column: int, month: np.datetime64) -> bool:
    return column == 0 or str(month).endswith(("-01", "-07"))


def render_coverage(
    source: str,
    panel: Panel,
    coins: Sequence[CoinCoverage],
    gaps: Sequence[Gap],
    tables: Sequence[object],
) -> str:
    """The page as one HTML document.

    Args:
        source: name of the lake or file.
        panel: its bars.
        coins: coverage of each coin.
        gaps: bars missing inside a coin's life.
        tables: the lake's tables; empty for a panel file.
    """
    return (
        template_environment()
        .get_template("coverage.html.j2")
        .render(
            css=stylesheet(),
            source=source,
            bars=sum(coin.bars for coin in coins),
            length="hourly" if panel.bar_hours == 1 else f"{panel.bar_hours}-hour",
            map=coverage_map(panel),
            cell=CELL,
            coins=coins,
            gaps=gaps,
            tables=tables,
            when=lambda ms: f"{utc(ms):%Y-%m-%d %H:%M}",
        )
    )
