"""What the report's script draws: a few shared time grids and, per chart, lines of rounded numbers.

The structure is plain JSON. Each chart names its grid, its unit (which decides how numbers are written) and its lines
in drawing order; the script adds colours, axes, hover legends and zoom.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from slipstream.core.panel import FloatArray, IntArray
from slipstream.federation.result import FederationResult
from slipstream.reports.formatting import Dollars
from slipstream.reports.lines import (
    chart,
    drawdown,
    every,
    interval,
    line,
    main_line,
    rolling_sharpe,
    rounded,
    thin,
)
from slipstream.reports.series import ROLLING_DAYS, DailyReturns, exposure

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
        "equity": chart("hourly", "usd", [_total(thinned[:, 0])]),
        "profit": chart("hourly", "usd", [_total(thinned[:, 1]), *_pods(result, thinned[:, 2 : 2 + pods])]),
        "drawdown": chart(
            "hourly",
            "percent",
            [_total(thinned[:, 2 + pods]), *_pods(result, thinned[:, 3 + pods : 3 + 2 * pods])],
            highest=0.0,
        ),
        "shadow": chart("hourly", "percent", _pods(result, thinned[:, 3 + 2 * pods :])),
    }
    return rows, lines


def _allocation_chart(result: FederationResult) -> tuple[IntArray, dict[str, Any]]:
    weights = np.vstack([result.weights, result.weights[-1:]])
    rows = every(len(weights))
    cash = {"name": "Cash", "role": "cash", "values": rounded(1.0 - weights.sum(axis=1)[rows])}
    return rows, {"allocation": chart("weights", "percent", [*_pods(result, weights[rows]), cash], kind="stack")}


def _exposure_charts(result: FederationResult) -> tuple[IntArray, dict[str, Any]]:
    """Gross, net and beta; the last decision's figures are drawn on to the run's end."""
    held = exposure(result)
    table = np.column_stack([held.total_gross, held.gross, held.total_net, held.net, held.total_beta, held.beta])
    rows, thinned = thin(np.vstack([table, table[-1:]]))
    width = 1 + len(result.pods)
    charts = {}
    for k, name in enumerate(("gross", "net", "beta")):
        part = thinned[:, k * width : (k + 1) * width]
        charts[name] = chart("exposure", "percent", [_total(part[:, 0]), *_pods(result, part[:, 1:])], kind="step")
    charts["gross"]["lowest"] = 0.0
    return rows, charts


def _sharpe_chart(result: FederationResult, days: DailyReturns) -> dict[str, Any]:
    """Rolling Sharpe ratios; none is drawn if the run is shorter than one window."""
    if len(days.close_ms) < ROLLING_DAYS:
        return {}
    total, error = rolling_sharpe(days.total, ROLLING_DAYS, ROLLING_DAYS)
    pods = [rolling_sharpe(column, ROLLING_DAYS, ROLLING_DAYS)[0] for column in days.pods.T]
    return {
        "sharpe": chart(
            "daily", "ratio", [*interval(total, error), _total(total), *_pods(result, np.column_stack(pods))]
        )
    }


def _total(values: FloatArray) -> dict[str, Any]:
    return main_line(TOTAL, values)


def _pods(result: FederationResult, values: FloatArray) -> list[dict[str, Any]]:
    return [line(pod, k, values[:, k]) for k, pod in enumerate(result.pods)]
