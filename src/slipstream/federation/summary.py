"""The figures of a federated backtest, per pod and in total: what ``summary.json`` holds and tables print."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from slipstream.core.metrics import DAYS_PER_YEAR, max_drawdown, sharpe_ratio, sharpe_standard_error
from slipstream.core.panel import HOUR_MS, HOURS_PER_YEAR, FloatArray, Panel, utc
from slipstream.federation.backtest import FederationConfig
from slipstream.federation.result import PARTS, FederationResult


def daily_returns(track: FloatArray, time_ms: FloatArray | Any, capital_usd: FloatArray | None = None) -> FloatArray:
    """Simple returns over whole days counted from the first row, shape (D,).

    Args:
        track: shape (T,), growth of one unit of capital.
        time_ms: shape (T,), Unix ms.
        capital_usd: shape (T,), the grant over the hour ending at each row; a day without any grant is NaN, unless it
            paid for getting out.
    """
    rows = np.flatnonzero((time_ms - time_ms[0]) % (24 * HOUR_MS) == 0)
    returns = track[rows[1:]] / track[rows[:-1]] - 1.0
    if capital_usd is None:
        return np.asarray(returns)
    funded = np.add.reduceat(capital_usd[1:], rows[:-1])[: len(returns)] > 0.0 if len(returns) else np.zeros(0, bool)
    return np.where(funded | (returns != 0.0), returns, np.nan)


def summarize(
    result: FederationResult, panel: Panel, config: FederationConfig, extra: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The whole summary, ready for JSON: no NaN, no paths, no clock times.

    Args:
        result: a finished run.
        panel: the panel it ran on.
        config: its configuration.
        extra: further entries for ``config`` (universe, dates asked for, seed).
    """
    hours = np.diff(result.time_ms) / HOUR_MS
    years = hours / HOURS_PER_YEAR
    pods = {}
    for p, slug in enumerate(result.pods):
        mine = result.trades.pod == p
        pods[slug] = _figures(
            result.track[:, p],
            daily_returns(result.track[:, p], result.time_ms, result.capital_usd[:, p]),
            traded_usd=float(np.abs(result.trades.notional_usd[mine]).sum()),
            capital_years=float(result.capital_usd[1:, p] @ years),
            parts=result.pnl_usd[:, p].sum(axis=0),
            granted=result.granted_usd[:, p],
        )
        pods[slug]["shadow"] = _shadow(result, p)
    total = _figures(
        result.total_track,
        daily_returns(result.total_track, result.time_ms),
        traded_usd=float(np.abs(result.trades.notional_usd).sum()),
        capital_years=float(result.total_equity_usd[:-1] @ years),
        parts=result.pnl_usd.sum(axis=(0, 1)),
        granted=result.granted_usd.sum(axis=1),
    )
    settings = asdict(config)
    settings["allocator"]["cycle_hours"] = config.cycle_hours
    return {
        "pods": pods,
        "total": total,
        "netting_saved_usd": result.netting.total_usd,
        "checks": {
            "accounting_max_error": result.accounting_max_error,
            "trade_fingerprint": result.trade_fingerprint,
            "causality_decisions": result.causality.decisions,
            "causality_max_difference": result.causality.max_difference,
            "funding_missing": result.funding_missing,
            "failed_allocations": result.failed_allocations,
            "positions_closed_on_delisting": len(result.delisted),
        },
        "data": {
            "coins": len(panel.coins),
            "first": utc(int(panel.known_at_ms[0])).isoformat(),
            "last": utc(int(panel.known_at_ms[-1])).isoformat(),
            "rows": int((~np.isnan(panel.close)).sum()),
            "source": panel.source,
        },
        "config": {"strategies": list(result.pods), **settings, **(extra or {})},
    }


def _shadow(result: FederationResult, p: int) -> dict[str, Any]:
    """A pod's own record at an equal share of the account, whatever it was granted."""
    returns = daily_returns(result.shadow_track[:, p], result.time_ms)
    sharpe = sharpe_ratio(returns, DAYS_PER_YEAR)
    return {
        "total_return": float(result.shadow_track[-1, p] - 1.0),
        "sharpe": sharpe,
        "sharpe_se": sharpe_standard_error(sharpe, len(returns), DAYS_PER_YEAR) if len(returns) else None,
        "max_drawdown": max_drawdown(result.shadow_track[:, p]),
    }


def _figures(
    track: FloatArray,
    returns: FloatArray,
    *,
    traded_usd: float,
    capital_years: float,
    parts: FloatArray,
    granted: FloatArray,
) -> dict[str, Any]:
    sharpe = sharpe_ratio(returns, DAYS_PER_YEAR)
    days = int((~np.isnan(returns)).sum())
    return {
        "total_return": float(track[-1] - 1.0),
        "sharpe": sharpe,
        "sharpe_se": sharpe_standard_error(sharpe, days, DAYS_PER_YEAR) if days else None,
        "max_drawdown": max_drawdown(track),
        "turnover_per_year": traded_usd / capital_years if capital_years > 0.0 else 0.0,
        "pnl_usd": {name: float(value) for name, value in zip(PARTS, parts, strict=True)},
        "capital_usd": {"min": float(granted.min()), "max": float(granted.max()), "final": float(granted[-1])},
    }
