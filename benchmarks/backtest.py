"""How fast a walk-forward backtest is: ``python benchmarks/backtest.py [--inputs DIR] [--periods P]``.

Prints seconds for a costed backtest of 1000 decisions in 200 coins (hourly bars, decisions every hour and every eight),
nanoseconds per order of the simulation alone (20 000 rebalances of 150 coins), and, where cvxportfolio can be imported
(:mod:`peer_cvxportfolio` says how) and ``--inputs`` names the folder of ``backtest_N30.npz`` and ``backtest_N100.npz``,
the ratio to it: both planning with the same programme, interleaved, and the same weights through both accounts.
Compilation comes first and is not timed.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from time import perf_counter

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy loads

import numpy as np
from peer_cvxportfolio import Peer, Recorded, better_by, ours, peer_is_here

from slipstream.core.backtest.one_book import Market, Prices, simulate_weights
from slipstream.portfolio import BacktestConfig, FactorCovariance, TransactionCostModel, run_backtest

DECISIONS, COINS = 1000, 200
SIMULATED_ROWS, SIMULATED_COINS = 20_000, 150
RUNS = 3
TIGHT = {"tol_gap_abs": 1e-14, "tol_gap_rel": 1e-14, "tol_feas": 1e-14, "max_iter": 500}
REFINED = TIGHT | {
    "iterative_refinement_reltol": 1e-15,
    "iterative_refinement_abstol": 1e-15,
    "iterative_refinement_max_iter": 50,
    "static_regularization_constant": 1e-10,
}
"""Settings of the peer's solver. At its defaults its weights carry dust. Tight tolerances are out of its reach: it
stops where its linear systems are no longer solved any better, which refining their solution puts a little further."""
PLANS = {"default": {}, "tight": TIGHT, "tight and refined": REFINED}


def costed_backtest(holding_hours: int) -> float:
    """Best seconds of a run of 1000 decisions in 200 coins with costs, factor covariance and hourly funding."""
    rng = np.random.default_rng(42)
    rows = DECISIONS * holding_hours + 1
    returns, funding = rng.normal(0.0, 0.01, (rows, COINS)), rng.normal(1e-5, 1e-5, (rows, COINS))
    alpha = rng.normal(0.0, 0.003, (rows, COINS))
    S = FactorCovariance(rng.normal(0.0, 0.01, (COINS, 5)), rng.uniform(1e-4, 4e-4, COINS))
    beta, nothing = rng.uniform(0.5, 1.5, COINS), np.zeros_like(alpha)
    model = TransactionCostModel(np.full(COINS, 3e-4), np.full(COINS, 5e-4), np.full(COINS, 10.0))
    config = BacktestConfig(H=holding_hours, min_history_hours=0)
    seconds = []
    for _ in range(RUNS):
        began = perf_counter()
        result = run_backtest(config, alpha, nothing, beta, S, returns, funding, model)
        seconds.append(perf_counter() - began)
        assert len(result.weights) == DECISIONS
        assert result.metrics["n_failed"] == 0
    return min(seconds)


def simulation_ns_per_order() -> float:
    """Best nanoseconds per order of trading given weights at every row, costs and funding included."""
    rng = np.random.default_rng(42)
    shape = (SIMULATED_ROWS, SIMULATED_COINS)
    market = Market.of_returns(rng.normal(0.0, 0.01, shape), rng.normal(0.0, 1e-5, shape))
    fee = np.full(SIMULATED_COINS, 3e-4)
    prices = Prices(fee, fee, np.full(SIMULATED_COINS, 1e-7))
    weights = rng.normal(0.0, 1.0, (SIMULATED_ROWS - 1, SIMULATED_COINS))
    weights /= np.abs(weights).sum(axis=1, keepdims=True)
    rows = np.arange(SIMULATED_ROWS - 1)
    best = np.inf
    for _ in range(RUNS + 1):
        began = perf_counter()
        _, _, orders = simulate_weights(market, prices, weights, rows, 1e9)
        best = min(best, (perf_counter() - began) / orders)
    return best * 1e9


def against_the_peer(file: Path, periods: int | None) -> None:
    """Ratio of seconds per period and difference of equity, on one recorded problem."""
    recorded = Recorded.load(file, periods)
    peer = Peer(recorded)
    ours(recorded)
    mine, theirs = [], []
    for _ in range(2):
        result, seconds = ours(recorded)
        mine.append(seconds)
        theirs.append(peer.plan_and_trade().seconds)
    per_period = [min(times) / recorded.periods * 1e3 for times in (mine, theirs)]
    print(
        f"{file.stem}: {recorded.periods} periods, ms per period: {per_period[0]:.3f} against {per_period[1]:.2f}, "
        f"ratio {per_period[1] / per_period[0]:.0f}x"
    )
    accounted = peer.trade(result.weights)
    print(f"  our weights in its account: equity differs by at most {apart(accounted.equity, result.equity_usd):.1e}")
    for words, options in PLANS.items():
        planned = peer.plan_and_trade(**options)
        missed = better_by(recorded, planned)
        print(
            f"  its plans, {words} solver: equity differs by at most {apart(planned.equity, result.equity_usd):.1e}, "
            f"and from the same holdings ours are worth more by {missed.min():.1e} to {missed.max():.1e} of equity"
        )


def apart(one: np.ndarray, other: np.ndarray) -> float:
    """Largest relative difference of two equity curves."""
    return float(np.abs(one / other - 1.0).max())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=Path, help="folder of backtest_N30.npz and backtest_N100.npz")
    parser.add_argument("--periods", type=int, help="use the first P periods only")
    arguments = parser.parse_args()
    print(f"BLAS threads: {os.environ['OPENBLAS_NUM_THREADS']}")
    for hours in (1, 8):
        print(f"costed backtest, {DECISIONS} decisions x {COINS} coins, H = {hours} h: {costed_backtest(hours):.3f} s")
    print(f"simulation only, {SIMULATED_ROWS} x {SIMULATED_COINS}: {simulation_ns_per_order():.1f} ns per order")
    if arguments.inputs is None:
        print("no --inputs: not compared with cvxportfolio")
    elif not peer_is_here():
        print("cvxportfolio is not in this environment: see benchmarks/peer_cvxportfolio.py for the commands")
    else:
        for name in ("backtest_N30.npz", "backtest_N100.npz"):
            against_the_peer(arguments.inputs / name, arguments.periods)


if __name__ == "__main__":
    main()
