"""The time series a federation report draws, computed from a result; daily returns are those of the summary."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from slipstream.core.panel import FloatArray, IntArray
from slipstream.federation.result import FederationResult
from slipstream.federation.summary import daily_returns

DAY_MS = 86_400_000
ROLLING_DAYS = 90


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
