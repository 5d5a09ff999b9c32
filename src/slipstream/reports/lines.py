"""Lines as a page's script draws them: thinned so that no trough is lost, rounded, and named.

A chart is plain JSON: its time grid, its unit (which decides how numbers are written) and its lines in drawing order.
Sharpe ratios and their standard errors are those of ``core.metrics``.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from slipstream.core.metrics import DAYS_PER_YEAR, sharpe_ratio, sharpe_standard_error
from slipstream.core.panel import FloatArray, IntArray
from slipstream.reports.verdict import Z_95

POINTS_PER_LINE = 1500
SIGNIFICANT_DIGITS = 5


def chart(grid: str, unit: str, lines: list[dict[str, Any]], *, kind: str = "line", **more: float) -> dict[str, Any]:
    """A chart on one of the page's time grids; ``kind`` is ``line``, ``step`` or ``stack``."""
    return {"grid": grid, "unit": unit, "kind": kind, "lines": lines, **more}


def main_line(name: str, values: FloatArray) -> dict[str, Any]:
    """The line a chart is about, in the page's ink."""
    return {"name": name, "role": "total", "values": rounded(values)}


def line(name: str, hue: int, values: FloatArray) -> dict[str, Any]:
    """One of several lines; ``hue`` picks its colour."""
    return {"name": name, "role": "pod", "pod": hue, "values": rounded(values)}


def interval(centre: FloatArray, error: FloatArray) -> list[dict[str, Any]]:
    """A band of the 95 % interval; it comes before the other lines of its chart."""
    return [
        {"name": f"95 % interval, {end} end", "role": "band", "values": rounded(centre + sign * Z_95 * error)}
        for end, sign in (("upper", 1.0), ("lower", -1.0))
    ]


def rounded(values: FloatArray) -> list[float | int | None]:
    """Numbers short enough to write and fine enough to draw; what is not finite becomes a gap."""
    finite = np.isfinite(values)
    largest = float(np.abs(values[finite]).max(initial=0.0))
    if largest == 0.0:
        return [0 if known else None for known in finite.tolist()]
    places = min(12, SIGNIFICANT_DIGITS - math.floor(math.log10(largest)))
    if places <= 0:
        whole = np.where(finite, values, 0.0).round().astype(np.int64).tolist()
        return [value if known else None for value, known in zip(whole, finite.tolist(), strict=True)]
    short = values.round(places).tolist()
    return [(value or 0) if known else None for value, known in zip(short, finite.tolist(), strict=True)]


def thin(values: FloatArray, limit: int = POINTS_PER_LINE) -> tuple[IntArray, FloatArray]:
    """At most ``limit`` points of each line on shared rows, keeping every stretch's extremes.

    The first and last rows stay as they are. The rows between are cut into equal stretches; each stretch becomes two
    points per line, its least and greatest value in the order they occurred, placed at the stretch's first and last
    row. No peak or trough is lost; a value may sit up to one stretch away from its hour. A NaN wins its stretch, so
    that a gap stays a gap.

    Args:
        values: (T, S), one column per line.
        limit: points per line, at least 4.

    Returns:
        rows (M,), increasing, and values (M, S) with M <= limit.
    """
    length = len(values)
    if length <= limit:
        return np.arange(length), values
    stretches = (limit - 2) // 2
    edges = np.linspace(1, length - 1, stretches + 1).astype(np.int64)
    rows = np.empty(2 * stretches + 2, dtype=np.int64)
    out = np.empty((len(rows), values.shape[1]))
    rows[0], rows[-1] = 0, length - 1
    out[0], out[-1] = values[0], values[-1]
    columns = np.arange(values.shape[1])
    for k in range(stretches):
        part = values[edges[k] : edges[k + 1]]
        low, high = part.argmin(axis=0), part.argmax(axis=0)
        at = 2 * k + 1
        rows[at], rows[at + 1] = edges[k], edges[k + 1] - 1
        out[at], out[at + 1] = part[np.minimum(low, high), columns], part[np.maximum(low, high), columns]
    return rows, out


def every(length: int, limit: int = POINTS_PER_LINE) -> IntArray:
    """At most ``limit`` evenly spaced rows of ``length``, the first and last among them (for parts of a whole)."""
    if length <= limit:
        return np.arange(length)
    return np.linspace(0, length - 1, limit).round().astype(np.int64)


def drawdown(track: FloatArray) -> FloatArray:
    """Fall from the highest value so far, as a fraction (0 or negative), along the first axis."""
    return np.asarray(track / np.maximum.accumulate(track, axis=0) - 1.0)


def rolling_sharpe(
    returns: FloatArray, window: int, min_count: int, periods_per_year: float = DAYS_PER_YEAR
) -> tuple[FloatArray, FloatArray]:
    """Annual Sharpe ratio of the last ``window`` periods and its standard error, each (D,).

    Args:
        returns: (D,) simple returns; NaN periods are left out of the window's sample.
        window: periods.
        min_count: least number of periods with a return; below it, and before the first full window, NaN.
        periods_per_year: the periods are days by default.

    Returns:
        Sharpe and standard error, both annualised; NaN too where the returns do not vary, since nothing was at risk.
    """
    sharpe = np.full(len(returns), np.nan)
    error = np.full(len(returns), np.nan)
    if len(returns) < window:
        return sharpe, error
    for row in range(window - 1, len(returns)):
        sample = returns[row + 1 - window : row + 1]
        count = int(np.count_nonzero(~np.isnan(sample)))
        if count >= max(min_count, 2) and np.nanmax(sample) > np.nanmin(sample):
            sharpe[row] = sharpe_ratio(sample, periods_per_year)
            error[row] = sharpe_standard_error(sharpe[row], count, periods_per_year)
    return sharpe, error
