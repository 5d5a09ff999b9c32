"""Lines over time as inline SVG: where everything goes, in the drawing's own units, for a template to write down.

A page made of these needs no script. Values are rounded to a tenth of a unit, a missing value breaks its line, and
the vertical axis has round steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from slipstream.core.panel import FloatArray, IntArray, to_ms, utc
from slipstream.reports.formatting import month
from slipstream.reports.lines import every

WIDTH, HEIGHT = 1064, 260
LEFT, RIGHT, TOP, BOTTOM = 52, 4, 8, 24
_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
_TARGET_STEPS = 5
_MOST_MONTHS = 14


@dataclass(frozen=True)
class TimeLines:
    """One drawing.

    Attributes:
        levels: (y, text) of the horizontal rules.
        months: (x, text) of the vertical ones.
        paths: (name, d) of each line, d an SVG path.
    """

    levels: list[tuple[float, str]]
    months: list[tuple[float, str]]
    paths: list[tuple[str, str]]


def time_lines(time_ms: IntArray, lines: Mapping[str, FloatArray], written: Callable[[float], str]) -> TimeLines:
    """The drawing of some series on one time axis.

    Args:
        time_ms: shape (T,), increasing, Unix ms, T at least 2.
        lines: name -> shape (T,), NaN where there is no value.
        written: how a level of the vertical axis is written.
    """
    rows = every(len(time_ms))
    table = np.array([values[rows] for values in lines.values()])
    known = table[np.isfinite(table)]
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    steps = _round_levels(low, high)
    low, high = min(low, steps[0]), max(high, steps[-1])
    began, span = int(time_ms[0]), int(time_ms[-1] - time_ms[0])
    x = LEFT + (WIDTH - LEFT - RIGHT) * (time_ms[rows] - began) / span

    def y(value: float | FloatArray) -> FloatArray:
        return np.asarray(TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / (high - low))

    paths = [(name, _path(x, y(values))) for name, values in zip(lines, table, strict=True)]
    levels = [(round(float(y(step)), 1), written(step)) for step in steps]
    marks = [
        (round(LEFT + (WIDTH - LEFT - RIGHT) * (ms - began) / span, 1), text)
        for ms, text in _months(began, began + span)
    ]
    return TimeLines(levels, marks, paths)


def _path(x: FloatArray, y: FloatArray) -> str:
    words = []
    pen_down = False
    for across, down in zip(x.tolist(), y.tolist(), strict=True):
        if not math.isfinite(down):
            pen_down = False
            continue
        words.append(f"{'L' if pen_down else 'M'}{across:.1f} {down:.1f}")
        pen_down = True
    return "".join(words)


def _round_levels(low: float, high: float) -> list[float]:
    """Round values from just below ``low`` to just above ``high``."""
    if high <= low:
        low, high = low - 0.5 * max(abs(low), 1.0), high + 0.5 * max(abs(high), 1.0)
    raw = (high - low) / _TARGET_STEPS
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in _STEPS if power * factor >= raw * (1.0 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [step * count for count in range(first, last + 1)]


def _months(first_ms: int, last_ms: int) -> list[tuple[int, str]]:
    """Beginnings of months inside a span, thinned to a readable number."""
    moment = utc(first_ms).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    found = []
    while to_ms(moment) <= last_ms:
        if to_ms(moment) >= first_ms:
            found.append((to_ms(moment), month(moment)))
        moment = moment.replace(year=moment.year + moment.month // 12, month=moment.month % 12 + 1)
    return found[:: math.ceil(len(found) / _MOST_MONTHS) if found else 1]
