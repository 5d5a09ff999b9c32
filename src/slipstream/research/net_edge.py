"""What a horizon's forecasts would have earned: one costed book per start phase.

A book of holding period H on bars of b hours can begin at any of H / b rows, and where it begins is luck. Each phase is
a backtest of its own, planned and paid with costs as known at each decision, and the horizon's figure is their mean. A
phase is one task: it needs the covariances of its own decisions only, so phases run side by side without computing
anything twice.

The covariance is that of returns less the funding *published* by each close, so that no decision reads the settlement
of its own close.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from slipstream.core.backtest.parts import FEES, FUNDING, IMPACT, PRICE
from slipstream.core.forecast.bootstrap import BlockDraws
from slipstream.core.panel import HOUR_MS, FloatArray, Panel
from slipstream.core.portfolio.costs import CostAssumptions
from slipstream.core.signals.funding import published_funding
from slipstream.errors import UsageError

CHARGES = ("price", "funding", "cost")
"""What a book's return is made of, in the order of every array of parts; cost is negative."""


@dataclass(frozen=True)
class BookSettings:
    """How forecasts are traded in the search.

    Attributes:
        capital_usd: initial equity; more capital pays more impact.
        leverage: most gross exposure, fraction of equity.
        risk_aversion: of the optimiser, and of the utility reported.
        max_weight: most of one coin, fraction of equity; None is no limit. There is one by default, because the Sharpe
            ratio of a book of three coins says something of those coins and little of H.
        costs: fee, half-spread and impact constant.
    """

    capital_usd: float = 100_000.0
    leverage: float = 1.0
    risk_aversion: float = 1.0
    max_weight: float | None = 0.10
    costs: CostAssumptions = field(default_factory=CostAssumptions)

    def __post_init__(self) -> None:
        for name in ("capital_usd", "leverage", "risk_aversion"):
            if not (np.isfinite(getattr(self, name)) and getattr(self, name) > 0.0):
                raise UsageError(f"{name} is {getattr(self, name)}; it must be a positive number")
        if self.max_weight is not None and not self.max_weight > 0.0:
            raise UsageError(f"max_weight is {self.max_weight}; it must be a positive number")


@dataclass(frozen=True)
class PhaseTask:
    """The book of one horizon whose first decision is ``phase`` rows after the window's start."""

    horizon_hours: int
    phase: int


@dataclass(frozen=True)
class NetEdge:
    """Books of one horizon over the W rows of the scored window; P phases.

    Attributes:
        horizon_hours, bar_hours: H and b.
        parts: (P, W, 3) return of the bar that ends at each row, by part (:data:`CHARGES`), on the equity at the bar's
            open; NaN before a phase begins and after ruin.
        turnover: (P,) notional traded per decision, over equity.
        gross: (P,) mean gross exposure just after trading.
        coins_held: (P,) mean number of positions.
        failed, funding_missing, delisted: decisions not solved, settlements due and missing, positions closed because
            their coin's data ended; all phases together.
        ruined: phases that lost everything.
    """

    horizon_hours: int
    bar_hours: int
    parts: FloatArray = field(repr=False)
    turnover: FloatArray = field(repr=False)
    gross: FloatArray = field(repr=False)
    coins_held: FloatArray = field(repr=False)
    failed: int
    funding_missing: int
    delisted: int
    ruined: int

    @property
    def net_return(self) -> FloatArray:
        """(P, W) net simple return per row."""
        return np.asarray(self.parts.sum(axis=2))

    def parts_bp(self) -> FloatArray:
        """Mean price, funding and cost per H, basis points of equity, shape (3,)."""
        return np.asarray(_mean_parts(self._row_sums().sum(axis=0)) * self._bp_per_row())

    def parts_bp_draws(self, draws: BlockDraws) -> FloatArray:
        """Mean price, funding and cost per H of every draw of the window's rows, basis points of equity, (D, 3)."""
        return np.asarray(_mean_parts(draws.totals(self._row_sums())) * self._bp_per_row())

    def _bp_per_row(self) -> float:
        return 1e4 * self.horizon_hours / self.bar_hours

    def _row_sums(self) -> FloatArray:
        """Phases running in each row, and the sums of their parts, (W, 4)."""
        running = ~np.isnan(self.parts[:, :, 0])
        sums = np.where(running[:, :, None], self.parts, 0.0).sum(axis=0)
        return np.column_stack((running.sum(axis=0), sums))


def _mean_parts(sums: FloatArray) -> FloatArray:
    return np.asarray(sums[..., 1:] / np.maximum(sums[..., :1], 1.0))


def phase_tasks(horizons: Sequence[int], bar_hours: int) -> list[PhaseTask]:
    """All books of some horizons, the longest horizon's first phase first."""
    return [PhaseTask(hours, phase) for hours in sorted(horizons) for phase in range(hours // bar_hours)]


def shared_market(
    panel: Panel,
    forecasts: Mapping[int, tuple[FloatArray, FloatArray, FloatArray]],
    start: int,
    settings: BookSettings,
) -> dict[str, object]:
    """What every book of a search reads, as a mapping an executor sends once.

    Args:
        panel: the bars.
        forecasts: horizon -> price alpha, funding and beta, each (T, N), money per H; NaN: no forecast.
        start: row of the first decision of phase 0.
        settings: how they are traded.
    """
    view = panel.view()
    return {
        "bar_hours": panel.bar_hours,
        "start": start,
        "settings": settings,
        "returns": np.expm1(view.log_return),
        "funding": panel.funding,
        "published": np.array(view.feature(published_funding)),
        "volume_usd": panel.volume_usd,
        "forecasts": {hours: tuple(np.ascontiguousarray(x) for x in arrays) for hours, arrays in forecasts.items()},
    }


def run_phase(task: PhaseTask, shared: Mapping[str, Any]) -> dict[str, FloatArray]:
    """One book, as plain arrays: parts (W, 3), and ``figures``: turnover, gross, coins held, then four counts.

    Args:
        task: which.
        shared: from :func:`shared_market`.
    """
    from slipstream.core.backtest.config import BacktestConfig
    from slipstream.core.backtest.walk_forward import run_backtest

    settings: BookSettings = shared["settings"]
    returns, bar_hours, start = shared["returns"], shared["bar_hours"], shared["start"]
    price, funding, beta = shared["forecasts"][task.horizon_hours]
    rows, bars = len(returns), task.horizon_hours // bar_hours
    first = start + task.phase
    decisions = np.arange(first, rows - 1, bars)
    covariance, price = _covariances(shared, task.horizon_hours, decisions, price)
    config = BacktestConfig(
        H=task.horizon_hours,
        initial_capital=settings.capital_usd,
        leverage=settings.leverage,
        risk_aversion=settings.risk_aversion,
        max_weight=settings.max_weight,
        min_history_hours=first * bar_hours,
        bar_hours=bar_hours,
    )
    found = run_backtest(
        config, price, funding, beta, covariance, returns, shared["funding"], _cost_model(shared, settings)
    )
    parts = np.full((rows - start, len(CHARGES)), np.nan)
    held = found.pnl_usd[1:] / found.equity_usd[:-1, None]
    begin = first + 1 - start
    inside = parts[begin : begin + len(held)]
    inside[:, 0], inside[:, 1] = held[:, PRICE], held[:, FUNDING]
    inside[:, 2] = held[:, FEES] + held[:, IMPACT]
    counts = found.counts
    figures = [
        found.turnover.mean(),
        np.abs(found.weights).sum(axis=1).mean(),
        (found.weights != 0.0).sum(axis=1).mean(),
        counts.n_failed,
        counts.n_funding_missing,
        counts.n_delisted,
        found.ruined,
    ]
    return {"parts": parts, "figures": np.array(figures, dtype=np.float64)}


def net_edges(
    tasks: Sequence[PhaseTask], books: Sequence[Mapping[str, FloatArray]], bar_hours: int
) -> dict[int, NetEdge]:
    """Each horizon's books put together, in the order of their phases."""
    out: dict[int, NetEdge] = {}
    for hours in sorted({task.horizon_hours for task in tasks}):
        own = [book for task, book in zip(tasks, books, strict=True) if task.horizon_hours == hours]
        figures = np.array([book["figures"] for book in own])
        failed, missing, delisted, ruined = (int(count) for count in figures[:, 3:].sum(axis=0))
        out[hours] = NetEdge(
            horizon_hours=hours,
            bar_hours=bar_hours,
            parts=np.array([book["parts"] for book in own]),
            turnover=figures[:, 0],
            gross=figures[:, 1],
            coins_held=figures[:, 2],
            failed=failed,
            funding_missing=missing,
            delisted=delisted,
            ruined=ruined,
        )
    return out


def _covariances(
    shared: Mapping[str, Any], horizon_hours: int, decisions: Any, price: FloatArray
) -> tuple[dict[np.datetime64, Any], FloatArray]:
    """S by the time of each decision, and the price alphas without the coins that have no covariance there."""
    from slipstream.core.portfolio.covariance import FactorCovariance
    from slipstream.core.portfolio.rolling_covariance import RollingCovariance

    bar_hours = shared["bar_hours"]
    rolling = RollingCovariance(
        shared["returns"], np.nan_to_num(shared["published"]), horizon_hours=horizon_hours, bar_hours=bar_hours
    )
    coins = price.shape[1]
    usable = np.full(price.shape, np.nan)
    out: dict[np.datetime64, Any] = {}
    for row in decisions.tolist():
        found = rolling.at(row)
        known = found.known
        exposures, own = np.zeros((coins, found.covariance.n_factors)), np.zeros(coins)
        exposures[known], own[known] = found.covariance.exposures, found.covariance.idio_var
        out[np.datetime64(row * bar_hours * HOUR_MS, "ms")] = FactorCovariance(exposures, own)
        usable[row] = np.where(known, price[row], np.nan)
    return out, usable


def _cost_model(shared: Mapping[str, Any], settings: BookSettings) -> Any:
    """Costs as known at each row; without any volume, one coefficient for all coins (the search says so)."""
    from slipstream.core.backtest.liquidity_costs import LiquidityCosts
    from slipstream.core.portfolio.costs import TransactionCostModel

    coins = shared["returns"].shape[1]
    costs = settings.costs
    if np.isnan(shared["volume_usd"]).all():
        blind = TransactionCostModel.create_default(coins)
        return TransactionCostModel(np.full(coins, costs.linear_rate), blind.impact_coef, blind.min_trade_size)
    return LiquidityCosts.trailing(
        shared["returns"], shared["volume_usd"], costs.linear_rate, costs.kappa, bar_hours=shared["bar_hours"]
    )
