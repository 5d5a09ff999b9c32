"""Milliseconds per rebalance against Clarabel called directly, problem by problem in one run.

    python benchmarks/rebalance.py --inputs FOLDER [--peer cvxpy]

FOLDER holds ``rebalance_N{30,100,200,500}.npz``: consecutive problems, each with its certified optimum. The documented
function (all checks included), Clarabel's ``solve`` alone (its set-up is not counted) and the documented function with
a dense covariance take turns, one pass over the problems each, so that a slow moment of the machine hits all of them.
With ``--peer cvxpy`` a parametrised cvxpy problem takes its turn as well (:mod:`peer_cvxpy` says how to have it here).
A problem's time is its fastest pass: another job on the machine slows the long solves of an interior point more than
ours, and would flatter the ratio. Medians over the problems are printed, of times and of ratios, and the worst
relative sub-optimality of each method.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy loads

import clarabel
import numpy as np
from peer_cvxpy import Peer, peer_is_here

from slipstream.core.portfolio.conic import form
from slipstream.core.portfolio.covariance import FactorCovariance
from slipstream.core.portfolio.inputs import orthonormal_columns
from slipstream.core.portfolio.optimizer import compile_solver, optimize_portfolio_with_costs
from slipstream.core.portfolio.programme import Programme

SIZES = (30, 100, 200, 500)


def cost(z: dict[str, Any], t: int, w: np.ndarray) -> float:
    """The objective of problem t at w, to be minimised."""
    d, y = np.abs(w - z["w0"][t]), z["B"].T @ w
    return float(-z["alpha"][t] @ w + 0.5 * (y @ y + w @ (z["D"] * w)) + z["c"] @ d + z["lam"] @ d**1.5)


def timed(run: Callable[[], Any]) -> tuple[float, Any]:
    """Milliseconds of one call, and its result."""
    start = time.perf_counter()
    result = run()
    return 1e3 * (time.perf_counter() - start), result


def measure(z: dict[str, Any], repeats: int, peer: Peer | None) -> dict[str, tuple[list[float], list[float]]]:
    """Per method: milliseconds of every solve, and relative sub-optimality of every problem."""
    S = FactorCovariance(z["B"], z["D"])
    dense, neutral = S.dense(), orthonormal_columns(z["beta"][:, None])
    L, cap, count = float(z["L"]), float(z["hi"][0]), len(z["alpha"])
    measured: dict[str, tuple[list[float], list[float]]] = {}

    def ours(covariance: Any, t: int) -> Callable[[], Any]:
        return lambda: optimize_portfolio_with_costs(
            z["alpha"][t], z["beta"], covariance, z["w0"][t], z["c"], z["lam"], L, max_weight=cap
        )[0]

    def programme(t: int) -> Programme:
        beta = z["beta"][:, None].copy()
        return Programme(z["alpha"][t], beta, S, z["w0"][t], z["c"], z["lam"], z["lo"], z["hi"], L)

    def theirs(by: Peer, t: int) -> Callable[[], Any]:
        return lambda: by.solve(z["alpha"][t], z["w0"][t])

    for _ in range(repeats):
        posed = [form(p, *p.costs_and_box(), neutral) for p in map(programme, range(count))]
        calls: dict[str, list[Callable[[], Any]]] = {
            "factor": [ours(S, t) for t in range(count)],
            "clarabel": [p.solver().solve for p in posed],
            "dense": [ours(dense, t) for t in range(count)],
        }
        if peer is not None:
            calls["cvxpy"] = [theirs(peer, t) for t in range(count)]
        for method, runs in calls.items():
            spents, misses = measured.setdefault(method, ([], []))
            for t, run in enumerate(runs):
                spent, result = timed(run)
                w = posed[t].size * np.asarray(result.x)[: S.n_assets] if method == "clarabel" else result
                spents.append(spent)
                misses.append(abs(cost(z, t, w) - z["p_star"][t]) / abs(z["p_star"][t]))
    return measured


def row(n: int, repeats: int, measured: dict[str, tuple[list[float], list[float]]]) -> str:
    """One line of the table."""
    fastest = {method: np.reshape(spent, (repeats, -1)).min(axis=0) for method, (spent, _) in measured.items()}
    ms = {method: float(np.median(spent)) for method, spent in fastest.items()}
    line = f"{n:>4} {ms['factor']:>10.3f} {ms['dense']:>9.2f}"
    for method in ("clarabel", "cvxpy"):
        if method in measured:
            ratio = float(np.median(fastest[method] / fastest["factor"]))
            line += f" {ms[method]:>12.2f} {ratio:>6.0f}x"
    return line + "   " + ", ".join(f"{method} {max(missed):.0e}" for method, (_, missed) in measured.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=Path, required=True, help="folder of rebalance_N*.npz")
    parser.add_argument("--repeats", type=int, default=5, help="passes over the problems of each size (5)")
    parser.add_argument("--peer", choices=["cvxpy"], help="time this one, too")
    arguments = parser.parse_args()
    if arguments.peer and not peer_is_here():
        parser.error("cvxpy is not in this environment; benchmarks/peer_cvxpy.py has the commands that make one")
    compile_solver()
    print(
        f"{date.today().isoformat()}, {os.cpu_count()} cores ({platform.machine()}), Python "
        f"{platform.python_version()}, numpy {np.__version__}, Clarabel {clarabel.__version__}, "
        f"BLAS threads: {os.environ['OPENBLAS_NUM_THREADS']}"
    )
    peer_head = f" {'cvxpy ms':>12} {'ratio':>7}" if arguments.peer else ""
    print(
        f"{'N':>4} {'factor ms':>10} {'dense ms':>9} {'Clarabel ms':>12} {'ratio':>7}{peer_head}"
        "   worst relative sub-optimality"
    )
    for n in SIZES:
        path = arguments.inputs / f"rebalance_N{n}.npz"
        if not path.is_file():
            parser.error(f"{path} does not exist; give the folder of the recorded problems with --inputs")
        with np.load(path) as file:
            recorded = dict(file)
        peer = Peer(recorded) if arguments.peer else None
        print(row(n, arguments.repeats, measure(recorded, arguments.repeats, peer)), flush=True)


if __name__ == "__main__":
    main()
