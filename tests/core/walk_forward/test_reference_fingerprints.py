"""Three small backtests whose every trade is pinned, so that speed work cannot change results unseen.

The pin is a hash of all trades, each rounded to a whole number of millionths of the initial capital. A hash over exact
bits would change with the processor: another order of a sum or a fused multiplication moves a trade by 1e-13 or so of
the capital. Rounding alone does not mend that, because a trade may lie on a rounding edge; so the references are such
that no trade lies within 1e-9 of one, which is asserted, and such that noise of 1e-13 in every input, a thousand
times what a last bit is worth, moves no trade by that much. What does change a pin is a decision, a cost or an account
that is different.

If a pin must change, the change is one of behaviour: say in the commit what changed and why, and by how much the
equity moved (:data:`FINAL_EQUITY` says so in dollars).
"""

from __future__ import annotations

import hashlib
from functools import cache
from typing import Any

import numpy as np
import pytest

from slipstream.portfolio import (
    BacktestConfig,
    BacktestResult,
    FactorCovariance,
    LiquidityCosts,
    TransactionCostModel,
    run_backtest,
)

QUANTUM = 1e-6
"""Of the initial capital: what trades are rounded to."""
CLEARANCE = 1e-9
"""Of the initial capital: least distance of any trade from a rounding edge."""
ROWS, COINS = 241, 10

PINNED: dict[str, str] = {}
FINAL_EQUITY: dict[str, float] = {}


def reference(name: str, noise: float = 0.0) -> BacktestResult:
    """One of the references; ``noise`` multiplies every input by 1 + noise * N(0, 1).

    ``costs``: an hourly market, decisions every eight hours, the square-root law, leverage 2.
    ``lots``: whole venue lots on a small account.
    ``endings``: coins that begin late, pause and end, missing settlements, fills three hours late, costs that change.
    """
    rng, blur = np.random.default_rng(11), np.random.default_rng(99)

    def shaken(values: np.ndarray) -> np.ndarray:
        return values * (1.0 + noise * blur.standard_normal(values.shape))

    alpha, returns = rng.normal(0.0, 4e-3, (ROWS, COINS)), rng.normal(0.0, 8e-3, (ROWS, COINS))
    funding, beta = rng.normal(1e-5, 3e-5, (ROWS, COINS)), rng.uniform(0.5, 1.5, COINS)
    exposures, own = rng.normal(0.0, 0.01, (COINS, 2)), rng.uniform(2e-4, 6e-4, COINS)
    fee, impact = rng.uniform(2e-4, 5e-4, COINS), rng.uniform(1e-4, 1e-3, COINS)
    adv, start_usd = rng.uniform(2e7, 2e9, (ROWS, COINS)), 10.0 ** rng.uniform(-1.0, 3.0, COINS)
    settings: dict[str, Any] = {"H": 8, "min_history_hours": 24, "risk_aversion": 4.0}
    more: dict[str, Any] = {}
    model: Any = TransactionCostModel(shaken(fee), shaken(impact), np.full(COINS, 10.0))
    if name == "costs":
        settings |= {"leverage": 2.0}
    elif name == "lots":
        settings |= {"initial_capital": 25_000.0, "use_discrete_lots": True}
        prices = shaken(start_usd * np.cumprod(1.0 + returns, axis=0))
        more = {"prices": prices, "sz_decimals": np.clip(np.rint(np.log10(start_usd)), 0, 3).astype(int)}
    elif name == "endings":
        settings |= {"fill_delay_hours": 3, "max_weight": 0.3}
        returns[:40, 0] = returns[90:97, 1] = returns[120:124, 2] = returns[150:, 3] = np.nan
        alpha[rng.random(alpha.shape) < 0.1] = np.nan
        funding[60:64, 4] = np.nan
        model = LiquidityCosts(shaken(fee), np.full((ROWS, COINS), 0.04), shaken(adv))
    S = FactorCovariance(shaken(exposures), shaken(own))
    inputs = (shaken(alpha), 0.0 * alpha, shaken(beta), S, shaken(returns), shaken(funding), model)
    return run_backtest(BacktestConfig(**settings), *inputs, **more)


@cache
def known(name: str) -> BacktestResult:
    return reference(name)


def trades_hash(result: BacktestResult) -> str:
    """SHA-256 over times and rounded trades."""
    counts = np.rint(result.notional_usd / (QUANTUM * result.config.initial_capital)).astype("<i8")
    times = result.time_ms[result.decision_index].astype("<i8")
    return hashlib.sha256(times.tobytes() + counts.tobytes()).hexdigest()
