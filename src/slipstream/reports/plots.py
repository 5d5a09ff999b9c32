"""Small plots as inline SVG: bands, lines, dots and bars on two axes, placed in the drawing's own units.

A template writes down what a :class:`Plot` holds; a page made of these needs no script.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from slipstream.reports.time_lines import _round_levels as round_levels

WIDTH, HEIGHT = 520, 270
LEFT, RIGHT, TOP, BOTTOM = 54, 10, 10, 40


@dataclass(frozen=True)
class Shape:
    """One mark: ``kind`` is band, line, dot or bar; ``at`` its geometry as an SVG path, or x, y (, width, height)."""

    kind: str
    hue: int
    title: str
    path: str = ""
    at: tuple[float, ...] = ()


@dataclass
class Plot:
    """A plot under construction; what a template draws.

    Attributes:
        title, unit: the caption.
        x_label: under the horizontal axis.
        low_x, high_x, low_y, high_y: ranges of the axes.
        levels: (y, text) of the horizontal rules; ``ticks``: (x, text) below.
        shapes: in drawing order.
        legend: (name, hue).
        zero: y of the zero line, None outside.
    """

    title: str
    unit: str
    x_label: str
    low_x: float
    high_x: float
    low_y: float
    high_y: float
    levels: list[tuple[float, str]] = field(default_factory=list)
    ticks: list[tuple[float, str]] = field(default_factory=list)
    shapes: list[Shape] = field(default_factory=list)
    legend: list[tuple[str, int]] = field(default_factory=list)

    @classmethod
    def of(
        cls,
        title: str,
        unit: str,
        x_label: str,
        xs: Sequence[float],
        ys: Sequence[float],
        written: Callable[[float], str],
    ) -> Plot:
        """A plot whose axes hold all of ``xs`` and ``ys``; what is not finite does not count."""
        known = [y for y in ys if math.isfinite(y)] or [0.0]
        steps = round_levels(min(known), max(known))
        plot = cls(title, unit, x_label, min(xs), max(xs), min(*known, steps[0]), max(*known, steps[-1]))
        if plot.high_x <= plot.low_x:
            plot.low_x, plot.high_x = plot.low_x - 1.0, plot.high_x + 1.0
        plot.levels = [(plot.y(step), written(step)) for step in steps]
        return plot

    @property
    def zero(self) -> float | None:
        return self.y(0.0) if self.low_y <= 0.0 <= self.high_y else None

    def x(self, value: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * (value - self.low_x) / (self.high_x - self.low_x), 1)

    def y(self, value: float) -> float:
        return round(TOP + (HEIGHT - TOP - BOTTOM) * (self.high_y - value) / (self.high_y - self.low_y), 1)

    def tick(self, value: float, text: str) -> None:
        self.ticks.append((self.x(value), text))

    def name(self, text: str, hue: int) -> None:
        self.legend.append((text, hue))

    def band(self, xs: Sequence[float], low: Sequence[float], high: Sequence[float], hue: int, title: str) -> None:
        """The area between two lines; points without both ends are left out."""
        points = [(x, a, b) for x, a, b in zip(xs, low, high, strict=True) if math.isfinite(a) and math.isfinite(b)]
        if not points:
            return
        there = [f"{self.x(x)} {self.y(b)}" for x, _, b in points]
        back = [f"{self.x(x)} {self.y(a)}" for x, a, _ in reversed(points)]
        self.shapes.append(Shape("band", hue, title, f"M{'L'.join(there + back)}Z"))

    def line(self, xs: Sequence[float], ys: Sequence[float], hue: int, title: str, *, dashed: bool = False) -> None:
        """A line that breaks where a value is missing."""
        words, down = [], False
        for x, y in zip(xs, ys, strict=True):
            if math.isfinite(y):
                words.append(f"{'L' if down else 'M'}{self.x(x)} {self.y(y)}")
            down = math.isfinite(y)
        self.shapes.append(Shape("dashed" if dashed else "line", hue, title, "".join(words)))

    def dot(self, x: float, y: float, hue: int, title: str) -> None:
        if math.isfinite(x) and math.isfinite(y):
            self.shapes.append(Shape("dot", hue, title, at=(self.x(x), self.y(y))))

    def bar(self, x: float, half_width: float, begin: float, end: float, hue: int, title: str) -> None:
        """A vertical bar from ``begin`` to ``end``."""
        if not (math.isfinite(begin) and math.isfinite(end)):
            return
        left, right = self.x(x - half_width), self.x(x + half_width)
        top, bottom = sorted((self.y(begin), self.y(end)))
        at = (left, top, round(right - left, 1), round(max(bottom - top, 0.5), 1))
        self.shapes.append(Shape("bar", hue, title, at=at))
