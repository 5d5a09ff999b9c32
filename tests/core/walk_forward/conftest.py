"""A small market, and the plainest possible backtest to hold the compiled one against."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from slipstream.core.portfolio.optimizer import optimize_portfolio_with_costs
from slipstream.portfolio import BacktestConfig, BacktestResult, FactorCovariance, TransactionCostModel, run_backtest

TAKER_RATE = 4.5e-4


@dataclass(frozen=True)
class Market:
    """Everything one run needs, as bare arrays (hourly rows)."""

    alpha: np.ndarray
    beta: np.ndarray
    S: FactorCovariance
    returns: np.ndarray
    funding: np.ndarray
    model: TransactionCostModel
    config: BacktestConfig = field(default_factory=lambda: BacktestConfig(H=4, min_history_hours=8))

    def but(self, **changes: Any) -> Market:
        """The same market with other arrays, or with changes to the config (any field of it by name)."""
        own = {name: value for name, value in changes.items() if name in self.__dataclass_fields__}
        settings = {name: value for name, value in changes.items() if name not in own}
        return replace(self, **own, config=replace(self.config, **settings))

    def run(self, **extra: Any) -> BacktestResult:
        return run_backtest(
            self.config,
            self.alpha,
            np.zeros_like(self.alpha),
            self.beta,
            self.S,
            self.returns,
            self.funding,
            self.model,
            **extra,
        )


def make_market(rows: int = 121, coins: int = 6, seed: int = 42) -> Market:
    rng = np.random.default_rng(seed)
    exposures = rng.normal(0.0, 0.01, (coins, 2))
    return Market(
        alpha=rng.normal(0.0, 0.004, (rows, coins)),
        beta=rng.uniform(0.5, 1.5, coins),
        S=FactorCovariance(exposures, rng.uniform(2e-4, 6e-4, coins)),
        returns=rng.normal(0.0, 0.01, (rows, coins)),
        funding=rng.normal(1e-5, 2e-5, (rows, coins)),
        model=TransactionCostModel(
            rng.uniform(2e-4, 5e-4, coins), rng.uniform(1e-4, 1e-3, coins), np.full(coins, 10.0), 1e6
        ),
    )


@pytest.fixture
def market() -> Market:
    return make_market()


def reference(market: Market) -> tuple[list[float], list[dict[str, float]]]:
    """Equity at every row from the first decision, and the P&L parts booked in each row after it.

    Dollars per coin in a list, one loop over rows, no array arithmetic, nothing shared with the package but the
    optimiser. A position is worth more by its return, pays funding on what it was worth at the bar's open, is closed
    after enough silent rows, and is traded at a decision's fill.
    """
    config, rows, coins = market.config, len(market.returns), len(market.beta)
    first, period, delay = int(config.min_history_hours), int(config.H), int(config.fill_delay_hours)
    position, cash, silent = [0.0] * coins, config.initial_capital, [0] * coins
    equity, parts, pending, owed = [cash], [dict.fromkeys(("price", "funding", "cost"), 0.0)], None, 0.0
    for i in range(coins):
        for t in range(first + 1):
            silent[i] = silent[i] + 1 if np.isnan(market.returns[t, i]) else 0
    growth_since = [1.0] * coins

    def trade(i: int, target: float, rate: float) -> float:
        nonlocal cash
        order = target - position[i]
        impact = market.model.impact_coef[i] / market.model.reference_capital**0.5 * abs(order) ** 1.5
        cost = abs(order) * rate + impact
        position[i] = target
        cash -= order + cost
        return cost

    for t in range(first, rows - 1):
        if (t - first) % period == 0:
            wealth = cash + sum(position)
            held = [p / wealth for p in position]
            live = [i for i in range(coins) if silent[i] == 0]
            known = [i for i in live if np.isfinite(market.alpha[t, i])]
            frozen = [i for i in range(coins) if silent[i] > 0 and position[i] != 0.0]
            asked = sorted(known + frozen)
            target = [held[i] if silent[i] else 0.0 for i in range(coins)]
            if known:
                w, info = optimize_portfolio_with_costs(
                    np.array([0.0 if i in frozen else market.alpha[t, i] for i in asked]),
                    market.beta[asked],
                    FactorCovariance(market.S.exposures[asked], market.S.idio_var[asked]),
                    np.array([held[i] for i in asked]),
                    np.array([np.inf if i in frozen else market.model.fee_rate[i] for i in asked]),
                    market.model.impact_at(wealth)[asked],
                    config.leverage,
                )
                assert info["success"]
                for i, weight in zip(asked, w, strict=True):
                    target[i] = float(weight)
            pending = (t + delay, [target[i] * wealth for i in range(coins)], list(held), target)
            growth_since = [1.0] * coins
        if pending is not None and pending[0] == t:
            _, dollars, held, target = pending
            for i in range(coins):
                if silent[i] == 0 and target[i] != held[i]:
                    owed += trade(i, dollars[i] * growth_since[i], market.model.fee_rate[i])
            pending = None
        now = t + 1
        booked = {"price": 0.0, "funding": 0.0, "cost": owed}
        owed = 0.0
        for i in range(coins):
            r = market.returns[now, i]
            silent[i] = silent[i] + 1 if np.isnan(r) else 0
            r = 0.0 if np.isnan(r) else r
            rate = market.funding[now, i]
            paid = position[i] * (0.0 if np.isnan(rate) else rate)
            booked["price"] += position[i] * r
            booked["funding"] -= paid
            cash -= paid
            position[i] *= 1.0 + r
            growth_since[i] *= 1.0 + r
            if silent[i] >= config.delist_after_bars and position[i] != 0.0:
                booked["cost"] += trade(i, 0.0, max(market.model.fee_rate[i], TAKER_RATE))
        equity.append(cash + sum(position))
        parts.append(booked)
    return equity, parts


@pytest.fixture(scope="session")
def plain_backtest() -> Any:
    return reference


@pytest.fixture(scope="session")
def market_of() -> Any:
    return make_market
