"""Milliseconds per allocation of capital among pods, against its conic form: ``python benchmarks/allocation.py``.

Random programmes of 3, 6, 10 and 20 pods, some of them in force already. Each is answered by the allocator's solver,
certificate included, and by Clarabel from the second-order cone form (posing it included, for that is done every time),
one after the other. Medians, the 95th percentile, and the ratio as a median over programmes.
"""

from __future__ import annotations

import argparse
import os
from time import perf_counter

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy loads

import numpy as np

from slipstream.core.portfolio.optimizer import compile_solver
from slipstream.federation import capital_cones
from slipstream.federation.capital_programme import CapitalProgramme, solve

PASSES = 3


def programme(rng: np.random.Generator, pods: int) -> CapitalProgramme:
    """Moments as a year or two of records would give them."""
    vol = rng.uniform(0.1, 0.4, pods)
    root = rng.normal(size=(pods, pods + 2))
    spread = root @ root.T + pods * np.eye(pods)
    scale = vol / np.sqrt(np.diag(spread))
    mean = vol * rng.normal(0.5, 0.8, pods)
    held = np.where(rng.random(pods) < 0.5, 0.0, rng.uniform(0.0, 0.3, pods))
    S = spread * np.outer(scale, scale)
    return CapitalProgramme(mean, S, 0.5 * vol**2, held, np.full(pods, 0.3), 1.0, 5.0, 0.5, 5e-4 * 365.25 / 30.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--programmes", type=int, default=300, help="random programmes of each size (300)")
    count = parser.parse_args().programmes
    compile_solver()
    print(f"BLAS threads: {os.environ['OPENBLAS_NUM_THREADS']}")
    print(f"{'pods':>4} {'ours ms':>9} {'95 %':>7} {'conic ms':>9} {'95 %':>7} {'ratio':>6}   solves, worst gap, conic")
    for pods in (3, 6, 10, 20):
        rng = np.random.default_rng(pods)
        programmes = [programme(rng, pods) for _ in range(count)]
        answers = [solve(p) for p in programmes]
        ours, cones = np.empty((PASSES, count)), np.empty((PASSES, count))
        for k in range(PASSES):
            for i, p in enumerate(programmes):
                began = perf_counter()
                solve(p)
                between = perf_counter()
                capital_cones.solve(p)
                ours[k, i], cones[k, i] = 1e3 * (between - began), 1e3 * (perf_counter() - between)
        columns = [figure for times in (ours, cones) for figure in (np.median(times), np.percentile(times, 95))]
        print(
            f"{pods:>4} {columns[0]:>9.3f} {columns[1]:>7.2f} {columns[2]:>9.3f} {columns[3]:>7.2f} "
            f"{np.median(cones / ours):>6.1f}   {np.mean([a.solves for a in answers]):.1f}, "
            f"{max(a.gap for a in answers):.0e}, {sum(a.solver == 'conic' for a in answers)}"
        )


if __name__ == "__main__":
    main()
