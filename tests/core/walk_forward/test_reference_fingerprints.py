"""Three small backtests whose every trade is pinned, so that speed work cannot change results unseen.

The pin is a hash of all trades, each rounded to a whole number of billionths of the initial capital. A hash over exact
bits would change with the processor: another order of a sum or a fused multiplication moves a trade by 1e-15 or so of
the capital. Rounding alone does not mend that, because a trade may lie on a rounding edge; so the references (their
seeds) are such that no trade lies within 2e-12 of one, and noise of 1e-13 in every input, several hundred times a last
bit, moves no trade that far. Both are asserted. What does change a pin is a decision, a cost or an account that is
different.

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

QUANTUM = 1e-9
"""Of the initial capital: what trades are rounded to."""
CLEARANCE = 2e-12
"""Of the initial capital: least distance of any trade from a rounding edge."""
ROWS, COINS = 241, 10
SEEDS = {"costs": 3, "lots": 11, "endings": 11}

PINNED = {
    "costs": "75114dea8bb909c8a0a00d50fbbbb2f1",
    "lots": "0cd697b5e387f7f28a0198daf38fe443",
    "endings": "93e53f1077c0bbab9695a680de42398c",
}
FINAL_EQUITY = {"costs": 1_082_643.763215254, "lots": 23_114.000592671, "endings": 862_071.360201907}


def reference(name: str, noise: float = 0.0) -> BacktestResult:
    """One of the references; ``noise`` multiplies every input by 1 + noise * N(0, 1).

    ``costs``: an hourly market, decisions every eight hours, the square-root law, leverage 2.
    ``lots``: whole venue lots on a small account.
    ``endings``: coins that begin late, pause and end, missing settlements, fills three hours late, costs that change.
    """
    rng, blur = np.random.default_rng(SEEDS[name]), np.random.default_rng(99)

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
    """The first half of a SHA-256 over times and rounded trades (a whole one would look like a key to a scanner)."""
    counts = np.rint(result.notional_usd / (QUANTUM * result.config.initial_capital)).astype("<i8")
    times = result.time_ms[result.decision_index].astype("<i8")
    return hashlib.sha256(times.tobytes() + counts.tobytes()).hexdigest()[:32]


@pytest.mark.parametrize("name", PINNED)
def test_the_trades_of_a_reference_are_those_pinned(name: str) -> None:
    result = known(name)
    assert result.equity_usd[-1] == pytest.approx(FINAL_EQUITY[name], rel=1e-9)
    assert trades_hash(result) == PINNED[name]


@pytest.mark.parametrize("name", PINNED)
def test_a_pin_does_not_hang_on_last_bits(name: str) -> None:
    trades = known(name).notional_usd / known(name).config.initial_capital
    moved = np.abs(reference(name, 1e-13).notional_usd / known(name).config.initial_capital - trades).max()
    edges = 0.5 - np.abs(trades / QUANTUM - np.rint(trades / QUANTUM))
    assert 0.0 < moved < CLEARANCE < edges[trades != 0.0].min() * QUANTUM


@pytest.mark.parametrize("name", PINNED)
def test_a_pin_notices_a_millionth_of_a_cost(name: str) -> None:
    """The hash is fine enough: inputs that differ by one part in a million trade differently."""
    assert trades_hash(reference(name, 1e-6)) != PINNED[name]


def test_the_references_hold_what_they_are_named_for() -> None:
    costs, lots, endings = (known(name) for name in PINNED)
    assert costs.metrics["impact"] > 1e4 < costs.metrics["fees"]
    assert lots.config.use_discrete_lots
    assert lots.metrics["n_lots_missed"] == 0
    assert endings.metrics["n_delisted"] == 2
    assert endings.metrics["n_frozen"] > 10
    assert endings.metrics["n_funding_missing"] == 4
    assert all(result.metrics["n_failed"] == 0 for result in (costs, lots, endings))


def test_the_exact_fingerprint_repeats_within_a_process_and_sees_every_bit() -> None:
    again = reference("costs")
    assert again.trade_fingerprint == known("costs").trade_fingerprint
    assert reference("costs", 1e-15).trade_fingerprint != again.trade_fingerprint
