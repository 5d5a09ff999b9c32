"""The page of what a lake holds: coin by month as a map of shades, tables, and every coin's gaps in words.

One HTML file without scripts or addresses; the map is inline SVG, and each cell says its figures when pointed at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from slipstream.core.panel import FloatArray, IntArray, utc
from slipstream.lake.held_hours import CoinHours, Held
from slipstream.reports.page import stylesheet, template_environment

CELL, NAME_WIDTH, TOP = 16, 96, 34
LABEL_CELLS = 3
"""Cells that the label of a month is wide."""
SHADES = (0.25, 0.5, 0.75, 1.0)
"""Shares in the legend."""


@dataclass(frozen=True)
class Cell:
    """A coin's month: place in the map, share of its hours that a bar covers (0 to 1), and what it says."""

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


@dataclass(frozen=True)
class MonthlyHours:
    """Hours that a bar covers, month by month.

    Attributes:
        months: shape (M,), every month from the first bar to the last, datetime64[M].
        hours: shape (M,), hours of each month.
        covered: shape (M, N), hours of each month that each coin's bars cover.
    """

    months: np.ndarray
    hours: IntArray
    covered: IntArray

    @property
    def share(self) -> FloatArray:
        """Share of each month that is covered, shape (M, N), 0 to 1."""
        return self.covered / self.hours[:, None]


def monthly_hours(coins: Sequence[CoinHours]) -> MonthlyHours:
    """The months that are held.

    Args:
        coins: at least one.
    """
    per_coin = [coin.hours.astype("datetime64[h]").astype("datetime64[M]") for coin in coins]
    first, last = min(months[0] for months in per_coin), max(months[-1] for months in per_coin)
    months = np.arange(first, last + 1)
    hours = ((months + 1).astype("datetime64[h]") - months.astype("datetime64[h]")).astype(np.int64)
    covered = [np.bincount((own - first).astype(np.int64), minlength=len(months)) for own in per_coin]
    return MonthlyHours(months, hours, np.stack(covered, axis=1).astype(np.int64))


def coverage_map(coins: Sequence[CoinHours]) -> CoverageMap:
    """Where the marks of the map go.

    Args:
        coins: at least one.
    """
    held = monthly_hours(coins)
    share = held.share
    cells = [
        Cell(
            NAME_WIDTH + column * CELL,
            TOP + row * CELL,
            float(share[column, row]),
            f"{coin.coin} {held.months[column]}: {held.covered[column, row]} of {held.hours[column]} hours",
        )
        for row, coin in enumerate(coins)
        for column in range(len(held.months))
        if held.covered[column, row]
    ]
    return CoverageMap(
        NAME_WIDTH + (len(held.months) - 1 + LABEL_CELLS) * CELL,
        TOP + len(coins) * CELL + CELL,
        tuple((NAME_WIDTH + column * CELL, str(held.months[column])) for column in _labelled(held.months)),
        tuple((TOP + (row + 0.75) * CELL, coin.coin) for row, coin in enumerate(coins)),
        tuple(cells),
    )


def _labelled(months: np.ndarray) -> list[int]:
    """Columns that are labelled: the first month, then each January and July that has room beside the label before."""
    chosen: list[int] = []
    for column, month in enumerate(months):
        wanted = column == 0 or str(month).endswith(("-01", "-07"))
        if wanted and (not chosen or column - chosen[-1] >= LABEL_CELLS):
            chosen.append(column)
    return chosen


def opacity(share: float) -> float:
    """How dark a share of a month is drawn; a single hour can still be seen."""
    return 0.15 + 0.85 * share


def render_coverage(source: str, held: Held, tables: Sequence[object]) -> str:
    """The page as one HTML document.

    Args:
        source: name of the lake or file.
        held: what it holds.
        tables: the lake's tables; empty for a panel file.
    """
    return (
        template_environment()
        .get_template("coverage.html.j2")
        .render(
            css=stylesheet(),
            source=source,
            bars=bars_in_words(held),
            lengths=held.lengths,
            map=coverage_map(held.coins) if held.coins else None,
            cell=CELL,
            shades=SHADES,
            opacity=opacity,
            coins=held.coins,
            gaps=[gap for coin in held.coins for gap in coin.gaps],
            damaged=held.damaged,
            tables=tables,
            when=lambda ms: f"{utc(ms):%Y-%m-%d %H:%M}",
        )
    )


def bars_in_words(held: Held) -> str:
    """How many bars of each length: ``29,960 bars of 1h and 1,234 bars of 4h``."""
    counts = [(length, sum(coin.bars.get(length, 0) for coin in held.coins)) for length in held.lengths]
    return (
        " and ".join(f"{count:,} bar{'' if count == 1 else 's'} of {length}" for length, count in counts) or "no bars"
    )
