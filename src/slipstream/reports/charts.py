"""What the report's script draws: a few shared time grids and, per chart, lines of rounded numbers.

The structure is plain JSON. Each chart names its grid, its unit (which decides how numbers are written) and its lines
in drawing order; the script adds colours, axes, hover legends and zoom.
"""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np

from slipstream.core.panel import FloatArray, IntArray
from slipstream.federation.result import FederationResult
from slipstream.reports.formatting import Dollars
from slipstream.reports.series import (
    ROLLING_DAYS,
    DailyReturns,
    drawdown,
    every,
    exposure,
    rolling_sharpe,
    thin,
)

SIGNIFICANT_DIGITS = 5
Z_95 = 1.96
TOTAL = "Total"


def chart_data(result: FederationResult, days: DailyReturns) -> dict[str, Any]:
    """Everything the script needs: ``span`` and ``grids`` in Unix seconds, ``charts`` by their element's id."""
    hourly_rows, hourly = _hourly_charts(result)
    decision_s = np.append(result.decision_ms, result.time_ms[-1]) // 1000
    weight_rows, allocation = _allocation_chart(result)
    exposure_rows, exposures = _exposure_charts(result)
    return {
        "usd_places": Dollars.beside(result.initial_capital_usd).places,
        "span": [int(result.time_ms[0]) // 1000, int(result.time_ms[-1]) // 1000],
        "grids": {
            "hourly": (result.time_ms[hourly_rows] // 1000).tolist(),
            "weights": decision_s[weight_rows].tolist(),
            "exposure": decision_s[exposure_rows].tolist(),
            "daily": (days.close_ms // 1000).tolist(),
        },
        "charts": {**hourly, **allocation, **exposures, **_sharpe_chart(result, days)},
    }


def script_json(data: dict[str, Any]) -> str:
    """JSON that may stand inside a script element: nothing in it can close the element or open a comment."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False, ensure_ascii=True)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def hours_per_point_pair(result: FederationResult) -> int:
    """Length of the stretch each pair of points in an hourly line stands for; 1 if nothing was thinned."""
    rows, _ = thin(result.total_equity_usd[:, None])
    return 1 if len(rows) == len(result.time_ms) else math.ceil(2 * len(result.time_ms) / len(rows))


def _hourly_charts(result: FederationResult) -> tuple[IntArray, dict[str, Any]]:
    profit = np.cumsum(result.pnl_usd.sum(axis=2), axis=0)
    fall = drawdown(np.column_stack([result.total_track, result.track]))
    table = np.column_stack([result.total_equity_usd, profit.sum(axis=1), profit, fall, result.shadow_track - 1.0])
    rows, thinned = thin(table)
    pods = len(result.pods)
    lines = {
        "equity": _chart("hourly", "usd", [_total(thinned[:, 0])]),
        "profit": _chart("hourly", "usd", [_total(thinned[:, 1]), *_pods(result, thinned[:, 2 : 2 + pods])]),
        "drawdown": _chart(
            "hourly",
            "percent",
            [_total(thinned[:, 2 + pods]), *_pods(result, thinned[:, 3 + pods : 3 + 2 * pods])],
            highest=0.0,
        ),
        "shadow": _chart("hourly", "percent", _pods(result, thinned[:, 3 + 2 * pods :])),
    }
    return rows, lines


def _allocation_chart(result: FederationResult) -> tuple[IntArray, dict[str, Any]]:
    weights = np.vstack([result.weights, result.weights[-1:]])
    rows = every(len(weights))
    cash = {"name": "Cash", "role": "cash", "values": _rounded(1.0 - weights.sum(axis=1)[rows])}
    return rows, {"allocation": _chart("weights", "percent", [*_pods(result, weights[rows]), cash], kind="stack")}


def _exposure_charts(result: FederationResult) -> tuple[IntArray, dict[str, Any]]:
    """Gross, net and beta; the last decision's figures are drawn on to the run's end."""
    held = exposure(result)
    table = np.column_stack([held.total_gross, held.gross, held.total_net, held.net, held.total_beta, held.beta])
    rows, thinned = thin(np.vstack([table, table[-1:]]))
    width = 1 + len(result.pods)
    charts = {}
    for k, name in enumerate(("gross", "net", "beta")):
        part = thinned[:, k * width : (k + 1) * width]
        charts[name] = _chart("exposure", "percent", [_total(part[:, 0]), *_pods(result, part[:, 1:])], kind="step")
    charts["gross"]["lowest"] = 0.0
    return rows, charts


def _sharpe_chart(result: FederationResult, days: DailyReturns) -> dict[str, Any]:
    """Rolling Sharpe ratios; none is drawn if the run is shorter than one window."""
    if len(days.close_ms) < ROLLING_DAYS:
        return {}
    total, error = rolling_sharpe(days.total, ROLLING_DAYS, ROLLING_DAYS)
    pods = [rolling_sharpe(column, ROLLING_DAYS, ROLLING_DAYS)[0] for column in days.pods.T]
    band = [
        {"name": "95 % interval, upper end", "role": "band", "values": _rounded(total + Z_95 * error)},
        {"name": "95 % interval, lower end", "role": "band", "values": _rounded(total - Z_95 * error)},
    ]
    return {"sharpe": _chart("daily", "ratio", [*band, _total(total), *_pods(result, np.column_stack(pods))])}


def _chart(grid: str, unit: str, lines: list[dict[str, Any]], *, kind: str = "line", **more: float) -> dict[str, Any]:
    return {"grid": grid, "unit": unit, "kind": kind, "lines": lines, **more}


def _total(values: FloatArray) -> dict[str, Any]:
    return {"name": TOTAL, "role": "total", "values": _rounded(values)}


def _pods(result: FederationResult, values: FloatArray) -> list[dict[str, Any]]:
    return [
        {"name": pod, "role": "pod", "pod": k, "values": _rounded(values[:, k])} for k, pod in enumerate(result.pods)
    ]


def _rounded(values: FloatArray) -> list[float | int | None]:
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
