"""The time series a federation report draws, computed from a result and thinned for the screen.

Sharpe ratios and their standard errors are those of ``core.metrics``; daily returns are those of the summary.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from slipstream.core.metrics import DAYS_PER_YEAR, sharpe_ratio, sharpe_standard_error
from slipstream.core.panel import FloatArray, IntArray
from slipstream.federation.result import FederationResult
from slipstream.federation.summary import daily_returns

DAY_MS = 86_400_000
ROLLING_DAYS = 90
POINTS_PER_LINE = 1500


@dataclass(frozen=True)
class DailyReturns:
    """Simple returns of whole days counted from the run's first row, D of them.

    Attributes:
        close_ms: (D,) when each day ends, Unix ms.
        total: (D,) of account equity.
        pods: (D, P) of each pod's shadow book, which trades an equal share of the account whatever the grant; NaN
            before the pod's first trade.
    """

    close_ms: IntArray = field(repr=False)
    total: FloatArray = field(repr=False)
    pods: FloatArray = field(repr=False)


def record_days(result: FederationResult) -> DailyReturns:
    """Each day's return of the account and of every pod on its own.

    A pod's granted record has holes wherever it held no grant; its shadow book has none, so that pods can be compared
    over the same days.
    """
    total = daily_returns(result.total_track, result.time_ms)
    pods = np.empty((len(total), len(result.pods)))
    for k in range(len(result.pods)):
        pods[:, k] = daily_returns(result.shadow_track[:, k], result.time_ms)
        traded = np.flatnonzero(pods[:, k])
        pods[: traded[0] if len(traded) else len(total), k] = np.nan
    close_ms = result.time_ms[0] + DAY_MS * np.arange(1, len(total) + 1)
    return DailyReturns(close_ms, total, pods)


def rolling_sharpe(returns: FloatArray, window: int, min_count: int) -> tuple[FloatArray, FloatArray]:
    """Annual Sharpe ratio of the last ``window`` days and its standard error, each (D,).

    Args:
        returns: (D,) daily simple returns; NaN days are left out of the window's sample.
        window: days.
        min_count: least number of days with a return; below it, and before the first full window, NaN.

    Returns:
        Sharpe and standard error, both annualised; NaN too where the returns do not vary, since nothing was at risk.
    """
    sharpe = np.full(len(returns), np.nan)
    error = np.full(len(returns), np.nan)
    if len(returns) < window:
        return sharpe, error
    for row in range(window - 1, len(returns)):
        sample = returns[row + 1 - window : row + 1]
        days = int(np.count_nonzero(~np.isnan(sample)))
        if days >= max(min_count, 2) and np.nanmax(sample) > np.nanmin(sample):
            sharpe[row] = sharpe_ratio(sample, DAYS_PER_YEAR)
            error[row] = sharpe_standard_error(sharpe[row], days, DAYS_PER_YEAR)
    return sharpe, error


def correlations(pods: FloatArray) -> tuple[FloatArray, IntArray]:
    """Pairwise correlation of pods' daily returns over the days both were trading.

    Args:
        pods: (D, P), NaN where a pod was not trading.

    Returns:
        (P, P) correlations, NaN where fewer than three shared days or no variation; (P, P) shared days.
    """
    size = pods.shape[1]
    out = np.full((size, size), np.nan)
    known = ~np.isnan(pods)
    shared = known.T.astype(np.int64) @ known.astype(np.int64)
    for i in range(size):
        for j in range(i, size):
            both = known[:, i] & known[:, j]
            if both.sum() < 3:
                continue
            x, y = pods[both, i] - pods[both, i].mean(), pods[both, j] - pods[both, j].mean()
            scale = float(np.sqrt((x @ x) * (y @ y)))
            if scale > 1e-18:
                out[i, j] = out[j, i] = 1.0 if i == j else float(x @ y) / scale
    return out, shared


def drawdown(track: FloatArray) -> FloatArray:
    """Fall from the highest value so far, as a fraction (0 or negative), along the first axis."""
    return np.asarray(track / np.maximum.accumulate(track, axis=0) - 1.0)


@dataclass(frozen=True)
class Exposure:
    """Positions just after each decision's trades as fractions of account equity; columns are pods.

    Attributes:
        gross, net, beta: (K, P).
        total_gross, total_net, total_beta: (K,) of the account, in which pods' positions in one coin net.
    """

    gross: FloatArray = field(repr=False)
    net: FloatArray = field(repr=False)
    beta: FloatArray = field(repr=False)
    total_gross: FloatArray = field(repr=False)
    total_net: FloatArray = field(repr=False)
    total_beta: FloatArray = field(repr=False)


def exposure(result: FederationResult) -> Exposure:
    """Exposure at every decision; NaN where the account holds no equity to measure it by."""
    row = np.searchsorted(result.time_ms, result.decision_ms, side="right") - 1
    equity = result.total_equity_usd[row]
    per_usd = np.divide(1.0, equity, out=np.full_like(equity, np.nan), where=equity > 0.0)
    gross = np.abs(result.positions_usd).sum(axis=2)
    net = result.positions_usd.sum(axis=2)
    account = result.positions_usd.sum(axis=1)
    return Exposure(
        gross=gross * per_usd[:, None],
        net=net * per_usd[:, None],
        beta=result.beta_usd * per_usd[:, None],
        total_gross=np.abs(account).sum(axis=1) * per_usd,
        total_net=account.sum(axis=1) * per_usd,
        total_beta=result.beta_usd.sum(axis=1) * per_usd,
    )


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
