"""How long the block bootstrap of the joint models takes: ``python benchmarks/bootstrap.py [coins] [rows] [draws]``.

Five horizons of 4 to 48 bars on 150 coins over 20 000 hours, 12 features; every draw refits the alpha model (12
features) and the funding model (6) and scores both and their combination. Timed from features and targets on, moments
included; the standing target is under 2 seconds on one core. Three draws are refitted on their rows written out, for
comparison: the largest difference of R2 and coefficients must stay below 1e-10, and their time says what all would
take. Compilation comes first and is not timed.
"""

from __future__ import annotations

import os
import sys
from time import perf_counter

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy loads

import numpy as np

from slipstream.core.forecast.bootstrap import (
    BlockDraws,
    RidgeDraws,
    block_length_hours,
    circular_blocks,
    combined_r2_draws,
    refit_draws,
)
from slipstream.core.forecast.moments import Moments, Regression, joint_moments
from slipstream.core.forecast.ridge import RidgeFit, fit_ridge
from slipstream.core.forecast.targets import forward_sum

HORIZONS_HOURS = (4, 8, 12, 24, 48)
ALPHA, FUNDING = Regression(tuple(range(12)), 0), Regression(tuple(range(6, 12)), 1)
PENALTY = 0.1
SAMPLE = 3
TOLERANCE = 1e-10

Estimate = tuple[dict[Regression, RidgeFit], dict[Regression, RidgeDraws], np.ndarray]


def inputs(coins: int, rows: int) -> tuple[np.ndarray, dict[int, list[np.ndarray]]]:
    """Features with gaps, and overlapping targets of each horizon that they explain a little of."""
    rng = np.random.default_rng(42)
    x = rng.standard_normal((rows, coins, 12))
    x[rng.random((rows, coins)) < 0.02] = np.nan
    price = rng.standard_normal((rows, coins)) + 0.01 * np.nan_to_num(x[..., 0])
    funding = rng.standard_normal((rows, coins)) + 0.5 * np.nan_to_num(x[..., 6])
    targets = {h: [forward_sum(price, h) / np.sqrt(h), forward_sum(funding, h) / h] for h in HORIZONS_HOURS}
    return x, targets


def bootstrap(moments: Moments, draws: BlockDraws) -> Estimate:
    """Both models on the sample and on every draw, and the R2 of their combination."""
    gram = moments.between(0, moments.rows)
    drawn = moments.unpacked(draws.totals(moments.per_row))
    fits = {r: fit_ridge(moments.design(gram, r), PENALTY) for r in (ALPHA, FUNDING)}
    refits = {r: refit_draws(moments, r, fit, drawn) for r, fit in fits.items()}
    combined = combined_r2_draws(moments, (ALPHA, refits[ALPHA]), (FUNDING, refits[FUNDING]), drawn)
    return fits, refits, combined


def largest_difference(x: np.ndarray, y: list[np.ndarray], draws: BlockDraws, draw: int, got: Estimate) -> float:
    """Between a draw's estimates and those of its rows written out, repeats and all."""
    fits, refits, combined = got
    here = np.isfinite(x).all(axis=-1) & np.isfinite(y[0]) & np.isfinite(y[1])
    times = np.repeat(np.arange(len(x)), draws.multiplicity(draw))
    rows, taken = x[times][here[times]], here[times]
    errors, actuals, gap = [], [], 0.0
    for r in (ALPHA, FUNDING):
        features, target = rows[:, r.columns], y[r.target][times][taken]
        std = fits[r].feature_std
        z = (features - features.mean(axis=0)) / std
        b = np.linalg.solve(z.T @ z / len(z) + PENALTY * np.eye(len(std)), z.T @ (target - target.mean()) / len(z))
        error = target - target.mean() - z @ b
        r2 = 1.0 - error @ error / ((target - target.mean()) ** 2).sum()
        gap = max(gap, float(np.abs(refits[r].coefficients[draw] - b / std).max()), abs(refits[r].r2[draw] - r2))
        errors.append(error)
        actuals.append(target)
    total, left = actuals[0] - actuals[1], errors[0] - errors[1]
    r2 = 1.0 - left @ left / ((total - total.mean()) ** 2).sum()
    return max(gap, abs(float(combined[draw]) - r2))


def main(coins: int = 150, rows: int = 20_000, count: int = 1000) -> None:
    """Print seconds per part, their sum, the largest difference to naive refits and the ratio to their time."""
    x, targets = inputs(coins, rows)
    warm = joint_moments(x[:300], [y[:300] for y in targets[4]])
    bootstrap(warm, circular_blocks(300, 48, 3))
    seconds = {"moments": 0.0, "draws": 0.0}
    kept = {}
    for h in HORIZONS_HOURS:
        began = perf_counter()
        moments = joint_moments(x, targets[h])
        seconds["moments"] += perf_counter() - began
        began = perf_counter()
        draws = circular_blocks(rows, block_length_hours(h), count)
        kept[h] = draws, bootstrap(moments, draws)
        seconds["draws"] += perf_counter() - began
    total = sum(seconds.values())
    began = perf_counter()
    gaps = [largest_difference(x, targets[8], kept[8][0], d, kept[8][1]) for d in range(SAMPLE)]
    naive = (perf_counter() - began) / SAMPLE * count * len(HORIZONS_HOURS)
    print(f"BLAS threads: {os.environ['OPENBLAS_NUM_THREADS']}")
    print(f"{count} draws x {len(HORIZONS_HOURS)} horizons, {coins} coins x {rows} hours: {total:.2f} s")
    print(", ".join(f"{part} {spent:.2f} s" for part, spent in seconds.items()))
    print(f"largest difference of R2 or a coefficient to {SAMPLE} naive refits: {max(gaps):.1e}")
    print(f"naive refits of all draws would take {naive:.0f} s, {naive / total:.0f} times as long")
    if max(gaps) > TOLERANCE:
        sys.exit(f"the refits differ by more than {TOLERANCE:g}")


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:4]))
