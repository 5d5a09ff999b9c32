"""The federated backtest per period: ``python benchmarks/federation.py [--inputs DIR] [--periods P]``.

On ``backtest_N100.npz``, daily periods, beside cvxportfolio where it can be imported (:mod:`peer_cvxportfolio` says
how), interleaved in one run. What each does in a period is not the same, so it is a ratio of times and not of results:

- ours: one pod solves the cost-aware beta-neutral programme from where its last targets have drifted to; the allocator
  measures the pod's record and solves for its capital; the pod's book and its shadow book are traded at costs from
  trailing volume and volatility, carried over the bar, and every P&L part is booked and checked;
- the peer: one policy solves the same programme from where its book has drifted to, and one book is traded and carried.

Compilation comes first and is not timed; neither is setting up the peer or the panel.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from time import perf_counter

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy loads

import numpy as np
from peer_cvxportfolio import CAPITAL_USD, DAY_HOURS, FEE_RATE, Peer, Recorded, peer_is_here

from slipstream.core.panel import HOUR_MS, Panel, UniverseRule, View
from slipstream.core.portfolio.costs import CostAssumptions
from slipstream.core.portfolio.optimizer import optimize_portfolio_with_costs
from slipstream.federation.backtest import FederationConfig, run_federation
from slipstream.federation.pods import Pod

RUNS = 3


def recorded_panel(recorded: Recorded) -> Panel:
    """The recorded periods as daily bars: row t closes period t - 1, and row 0 is the price before the first."""
    closes = np.vstack([np.ones_like(recorded.beta), np.cumprod(1.0 + recorded.r, axis=0)])
    rows, coins = closes.shape

    def after_the_first(values: np.ndarray) -> np.ndarray:
        return np.vstack([values[:1], values])

    return Panel.build(
        np.arange(rows, dtype=np.int64) * DAY_HOURS * HOUR_MS,
        tuple(f"C{i:03d}" for i in range(coins)),
        DAY_HOURS,
        open=closes,
        high=closes,
        low=closes,
        close=closes,
        volume_usd=after_the_first(recorded.volume),
        funding=after_the_first(recorded.funding),
        rule=UniverseRule(min_adv_usd=0.0, min_history_hours=3 * DAY_HOURS),
        source="recorded arrays",
    )


def cost_aware_pod(recorded: Recorded) -> Pod:
    """Recorded forecasts through the cost-aware optimiser; it remembers its last targets, so it serves one run only."""
    costs, held, last = recorded.costs(), np.zeros(len(recorded.beta)), -1

    def decide(view: View) -> np.ndarray:
        nonlocal held, last
        row = view.rows - 1
        if last >= 0:
            grown = held * view.close[row] / view.close[last]
            held = grown / (1.0 + grown.sum() - held.sum())
        fee, impact = costs.fee_rate, costs.impact_coef
        alpha = recorded.alpha[row]
        held, _ = optimize_portfolio_with_costs(alpha, recorded.beta, recorded.covariance, held, fee, impact, 1.0)
        last = row
        return held

    return Pod("cost-aware", decide)


def federated_seconds(recorded: Recorded, panel: Panel) -> tuple[float, int]:
    """Seconds of one federated run and the periods it decided."""
    config = FederationConfig(
        capital_usd=CAPITAL_USD,
        cycle_hours=DAY_HOURS,
        costs=CostAssumptions(fee_bps=FEE_RATE * 1e4, half_spread_bps=0.0, min_order_usd=0.0),
        causality_checks=0,
    )
    pod = cost_aware_pod(recorded)
    began = perf_counter()
    result = run_federation(panel, [pod], config)
    return perf_counter() - began, len(result.decision_ms)


def main() -> None:
    """Print milliseconds per period, and the ratio where the peer is here."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=Path, required=True, help="folder of backtest_N100.npz")
    parser.add_argument("--periods", type=int, help="use the first P periods only")
    arguments = parser.parse_args()
    recorded = Recorded.load(arguments.inputs / "backtest_N100.npz", arguments.periods)
    panel = recorded_panel(recorded)
    peer = Peer(recorded) if peer_is_here() else None
    federated_seconds(recorded, panel)
    mine, theirs = [], []
    for _ in range(RUNS):
        seconds, decided = federated_seconds(recorded, panel)
        mine.append(seconds / decided)
        if peer is not None and len(theirs) < RUNS - 1:
            theirs.append(peer.plan_and_trade().seconds / recorded.periods)
    line = f"federated backtest, one cost-aware pod, {len(recorded.beta)} coins: {min(mine) * 1e3:.3f} ms per period"
    if theirs:
        line += f"; cvxportfolio {min(theirs) * 1e3:.2f} ms, ratio {min(theirs) / min(mine):.0f}x"
    print(f"BLAS threads: {os.environ['OPENBLAS_NUM_THREADS']}")
    print(line)
    if peer is None:
        print("cvxportfolio is not in this environment: see benchmarks/peer_cvxportfolio.py for the commands")


if __name__ == "__main__":
    main()
