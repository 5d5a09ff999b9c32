"""How long the rolling factor takes beside a full eigendecomposition of every window: ``python benchmarks/pca.py``.

150 coins, 20 000 hours, H = 8, K = 30, one component. The standing target is a twentieth of the decompositions' time
with every first vector within 1e-6 rad of theirs. Both are timed in turn, slice by slice, in one run on one core, so
that a machine that slows down slows both. Only the decomposition itself is charged to the peer: weights, covariance,
betas and scaling, which the kernel includes, are not.
"""

from __future__ import annotations

import os
from time import perf_counter

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before numpy is loaded: the peer is slower with threads

import numpy as np
import pandas as pd

from slipstream.core.factors.pca import pca_windows, rolling_pca
from slipstream.core.factors.pca_spec import PCASpec
from slipstream.core.panel import HOUR_MS

COINS, HOURS = 150, 20_000
SPEC = PCASpec(K=30, H_hours=8)
SLICE = 620
"""H-bars per slice, besides the window's own; they are decomposed between two timings of ours."""


def market(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Log returns with one common factor and heavy-tailed volumes, each (hours, coins)."""
    common = 0.01 * rng.standard_normal((HOURS, 1)) * rng.uniform(0.5, 1.5, COINS)
    returns = common + 0.01 * rng.standard_normal((HOURS, COINS))
    volume = np.exp(0.5 * rng.standard_normal((HOURS, COINS)) + 1.8 * rng.standard_normal(COINS) + 13.0)
    return returns, volume


def weighted_covariance(returns: np.ndarray, volume: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Q^1/2 Sigma Q^1/2 of one window of H-bars, and the roots of its weights."""
    q = np.sqrt(volume.mean(axis=0))
    root = np.sqrt(q / q.mean())
    y = (returns - returns.mean(axis=0)) * root
    return y.T @ y / (len(y) - 1), root


def main() -> None:
    """Print microseconds per window of both, the ratio, and the largest angle."""
    returns, volume = market(np.random.default_rng(42))
    known = HOUR_MS * np.arange(1, HOURS + 1, dtype=np.int64)
    coins = tuple(f"C{i}" for i in range(COINS))
    per_bar, window = SPEC.H_hours, SPEC.K
    bar_returns = returns.reshape(-1, per_bar, COINS).sum(axis=1)
    bar_volume = volume.reshape(-1, per_bar, COINS).sum(axis=1)

    index = pd.to_datetime(known, unit="ms", utc=True)
    frames = [pd.DataFrame(values, index, list(coins)) for values in (returns, volume)]
    spent = {"arrays": 0.0, "frames": 0.0, "frames and statistics": 0.0, "eigendecomposition": 0.0}

    def ours(rows: slice) -> np.ndarray:
        times = [perf_counter()]
        found = pca_windows(returns[rows], volume[rows], known[rows], 1, coins, SPEC)
        times.append(perf_counter())
        framed = rolling_pca(*(frame.iloc[rows] for frame in frames), SPEC.K, SPEC.H_hours, SPEC.weight_method)
        times.append(perf_counter())
        _ = framed.stats
        times.append(perf_counter())
        for name, seconds in zip(spent, (times[1] - times[0], times[2] - times[1], times[3] - times[1]), strict=False):
            spent[name] += seconds
        return found.coef[:, 0]

    ours(slice(0, (window + 1) * per_bar))  # compiles
    spent = dict.fromkeys(spent, 0.0)
    windows, largest_angle = 0, 0.0
    for first in range(0, len(bar_returns) - window + 1, SLICE):
        bars = min(SLICE + window - 1, len(bar_returns) - first)
        for w, c in enumerate(ours(slice(first * per_bar, (first + bars) * per_bar))):
            rows = slice(first + w, first + w + window)
            matrix, root = weighted_covariance(bar_returns[rows], bar_volume[rows])
            began = perf_counter()
            top = np.linalg.eigh(matrix)[1][:, -1]
            spent["eigendecomposition"] += perf_counter() - began
            u = c / root / np.linalg.norm(c / root)
            largest_angle = max(largest_angle, float(np.arcsin(min(1.0, np.linalg.norm(u - top * (top @ u))))))
            windows += 1
    print(f"BLAS threads: {os.environ['OPENBLAS_NUM_THREADS']}")
    print(f"{COINS} coins x {HOURS} h, H = {SPEC.H_hours}, K = {window}: {windows} windows")
    for name, seconds in spent.items():
        ratio = spent["eigendecomposition"] / seconds
        print(f"  {name:22} {1e6 * seconds / windows:7.1f} us per window, ratio {ratio:5.1f}")
    print(f"  largest angle {largest_angle:.1e} rad")


if __name__ == "__main__":
    main()
