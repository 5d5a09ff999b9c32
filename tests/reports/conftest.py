"""An invented run that keeps the books as a backtest does, for tests of what a report shows of it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from slipstream.core.coverage import CoinCoverage
from slipstream.federation.result import PARTS, CausalityCheck, FederationResult, NettingSaving, Trades

HOUR_MS = 3_600_000
START_MS = 1_725_494_400_000  # 2024-09-05 00:00 UTC


class InventedRun:
    """A result, its summary and its coverage, consistent with each other."""

    def __init__(self, result: FederationResult, summary: dict, coverage: tuple[CoinCoverage, ...]) -> None:
        self.result = result
        self.summary = summary
        self.coverage = coverage


def merit(returns: np.ndarray, turnover: float, pnl: np.ndarray, capital: np.ndarray) -> dict:
    """Figures of merit in the summary's form."""
    spread = returns.std(ddof=1) if len(returns) > 1 else 0.0
    daily = returns.mean() / spread if spread > 1e-15 else 0.0
    track = np.cumprod(np.concatenate([[1.0], 1.0 + returns]))
    error = np.sqrt((1 + daily**2 / 2) / max(len(returns), 1)) * np.sqrt(365.25)
    return {
        "total_return": float(track[-1] - 1),
        "sharpe": float(daily * np.sqrt(365.25)),
        "sharpe_se": float(error),
        "max_drawdown": float((track / np.maximum.accumulate(track) - 1).min()),
        "turnover_per_year": turnover,
        "pnl_usd": dict(zip(PARTS, pnl.tolist(), strict=True)),
        "capital_usd": {"min": float(capital.min()), "max": float(capital.max()), "final": float(capital[-1])},
    }


def invent(
    pods: tuple[str, ...] = ("carry", "gradient", "template"),
    coins: tuple[str, ...] = ("BTC", "ETH", "SOL", "kPEPE", "HYPE", "DOGE"),
    *,
    hours: int = 24 * 238,
    cycle: int = 24,
    seed: int = 7,
    idle: tuple[int, ...] = (),
) -> InventedRun:
    """``idle`` pods never hold a grant; the second pod holds none during the middle fifth of the run."""
    rng = np.random.default_rng(seed)
    P, N, initial = len(pods), len(coins), 100_000.0
    time_ms = START_MS + HOUR_MS * np.arange(hours)
    decisions = np.arange(0, hours, cycle)
    K = len(decisions)
    weights = np.clip(0.18 + np.cumsum(rng.normal(0, 0.02, (K, P)), axis=0), 0.0, 0.3)
    weights[:, list(idle)] = 0.0
    if P > 1:
        weights[2 * K // 5 : 3 * K // 5, 1] = 0.0
    weights /= np.maximum(1.0, weights.sum(axis=1))[:, None]

    at = np.searchsorted(decisions, np.arange(hours), side="left") - 1
    active = np.where(at[:, None] >= 0, weights[np.maximum(at, 0)], 0.0)
    drift = rng.normal(2e-5, 3e-5, P)
    unit = np.stack(
        [
            drift + rng.standard_t(4, (hours, P)) * 0.0015,
            np.abs(rng.normal(1.5e-5, 1e-5, (hours, P))),
            -np.abs(rng.normal(8e-6, 4e-6, (hours, P))),
            -np.abs(rng.normal(3e-6, 2e-6, (hours, P))),
        ],
        axis=2,
    )
    pnl = active[:, :, None] * unit * initial
    pnl[0] = 0.0
    equity = active[1:2].repeat(hours, axis=0) * initial + np.cumsum(pnl.sum(axis=2), axis=0)
    total = initial + np.cumsum(pnl.sum(axis=(1, 2)))
    rates = np.where(active > 0, unit.sum(axis=2), 0.0)
    rates[0] = 0.0
    track = np.cumprod(1.0 + rates, axis=0)
    own = unit.sum(axis=2)
    own[0] = 0.0
    own[:, list(idle)] = 0.0
    shadow = np.cumprod(1.0 + own, axis=0)

    count = np.where(rng.random((K, P, N)) < 0.6, 1, 0) * (weights > 0)[:, :, None]
    position = rng.normal(0, 1, (K, P, N)) * weights[:, :, None] * initial / N
    k, p, c = np.nonzero(count)
    notional = rng.normal(0, 1, len(k)) * 900.0
    trades = Trades(
        time_ms=time_ms[decisions[k]],
        pod=p.astype(np.int64),
        coin=c.astype(np.int64),
        notional_usd=notional,
        price=np.exp(rng.normal(3, 4, len(k))),
        fee_usd=np.abs(notional) * 6e-4,
        impact_usd=np.abs(notional) ** 1.5 * 1e-6,
    )
    result = FederationResult(
        pods=pods,
        coins=coins,
        initial_capital_usd=initial,
        time_ms=time_ms,
        pnl_usd=pnl,
        equity_usd=equity,
        total_equity_usd=total,
        capital_usd=active * initial,
        track=track,
        shadow_track=shadow,
        total_track=total / initial,
        decision_ms=time_ms[decisions],
        weights=weights,
        granted_usd=weights * initial,
        positions_usd=position,
        beta_usd=position.sum(axis=2) * 0.3,
        trades=trades,
        netting=NettingSaving(fees_usd=41.27, impact_usd=-3.5),
        funding_missing=3,
        failed_allocations=0,
        delisted=((int(time_ms[hours // 2]), 0, N - 1),) if hours > 1 else (),
        accounting_max_error=2.2e-15,
        causality=CausalityCheck(decisions=24 * P, max_difference=0.0),
        trade_fingerprint="5f" * 32,
    )
    daily = np.arange(0, hours, 24)
    figures = {}
    for i, pod in enumerate(pods):
        returns = track[daily[1:], i] / track[daily[:-1], i] - 1
        figures[pod] = merit(returns, 31.4 + i, pnl[:, i].sum(axis=0), result.granted_usd[:, i])
        alone = merit(shadow[daily[1:], i] / shadow[daily[:-1], i] - 1, 0.0, np.zeros(4), np.zeros(1))
        figures[pod]["shadow"] = {key: alone[key] for key in ("total_return", "sharpe", "sharpe_se", "max_drawdown")}
    returns = total[daily[1:]] / total[daily[:-1]] - 1
    summary = {
        "pods": figures,
        "total": merit(returns, 57.9, pnl.sum(axis=(0, 1)), result.granted_usd.sum(axis=1)),
        "netting_saved_usd": result.netting.total_usd,
        "checks": {"accounting_max_error": 2.2e-15, "trade_fingerprint": result.trade_fingerprint},
        "data": {
            "coins": N,
            "first": "2024-09-05T00:00:00Z",
            "last": "2025-04-30T23:00:00Z",
            "rows": hours,
            "source": "invented for a test",
        },
        "config": {
            "cycle_hours": cycle,
            "capital_usd": initial,
            "costs": {"fee_bps": 4.5, "half_spread_bps": 1.5, "impact": None},
            "strategies": list(pods),
        },
    }
    last = int(time_ms[-1])
    coverage = tuple(
        CoinCoverage(
            coin=coin,
            first_ms=START_MS + (0 if i % 3 else min(i * 200, hours // 3) * HOUR_MS),
            last_ms=last if i < N - 1 else int(time_ms[hours // 2]),
            bars=hours - 4 * i,
            gap_bars=0 if i != 2 else 4,
            zero_volume_bars=i,
            funding_missing=i % 2,
            ends_early=i == N - 1,
        )
        for i, coin in enumerate(coins)
    )
    return InventedRun(result, summary, coverage)


@pytest.fixture
def invent_run() -> Callable[..., InventedRun]:
    """Builds an invented run; see :func:`invent`."""
    return invent
