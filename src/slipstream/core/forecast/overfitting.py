"""What a Sharpe ratio is worth once the number of tries is counted.

Everything is per period of the returns given, not annualised: the formulas need the Sharpe ratio of one observation.

Sources: Bailey and Lopez de Prado (2012), The Sharpe ratio efficient frontier (probabilistic Sharpe ratio);
Bailey and Lopez de Prado (2014), The deflated Sharpe ratio; Bailey, Borwein, Lopez de Prado and Zhu (2017), The
probability of backtest overfitting (combinatorially symmetric cross-validation).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import combinations
from statistics import NormalDist

import numpy as np

from slipstream.core.forecast.errors import ForecastError, NotEnoughData
from slipstream.core.metrics import sharpe_ratio
from slipstream.core.panel import FloatArray

EULER_GAMMA = 0.5772156649015329
CSCV_GROUPS = 16
_NORMAL = NormalDist()


def sharpe_probability(
    sharpe: float, observations: int, skewness: float, kurtosis: float, benchmark: float = 0.0
) -> float:
    """Probability that the true Sharpe ratio exceeds a benchmark, allowing for skewness and fat tails.

    Phi((SR - SR*) sqrt(n - 1) / sqrt(1 - g3 SR + (g4 - 1) / 4 SR^2)).

    Args:
        sharpe: SR, per period.
        observations: n, independent returns behind it; overlapping ones must be thinned first.
        skewness: g3.
        kurtosis: g4, 3 for a normal.
        benchmark: SR*, per period.

    Raises:
        NotEnoughData: fewer than 3 observations.
    """
    if observations < 3:
        raise NotEnoughData(f"{observations} returns are too few for a Sharpe ratio to judge; it takes 3")
    spread = max(1.0 - skewness * sharpe + 0.25 * (kurtosis - 1.0) * sharpe**2, 1e-12)
    return _NORMAL.cdf((sharpe - benchmark) * float(np.sqrt((observations - 1) / spread)))


def probabilistic_sharpe(returns: FloatArray, benchmark: float = 0.0) -> float:
    """:func:`sharpe_probability` of a series of returns.

    Args:
        returns: shape (n,), independent simple returns, NaN left out.
        benchmark: SR*, per period.

    Raises:
        NotEnoughData: fewer than 3 returns, or they do not vary.
    """
    clean = returns[~np.isnan(returns)]
    sd = float(clean.std()) if len(clean) else 0.0
    if len(clean) > 2 and sd <= 1e-15 * max(1.0, abs(float(clean.mean()))):
        raise NotEnoughData(f"{len(clean)} returns that do not vary have no Sharpe ratio to judge")
    z = (clean - clean.mean()) / sd if sd > 0.0 else clean
    skewness, kurtosis = (float((z**k).mean()) if len(z) else 0.0 for k in (3, 4))
    return sharpe_probability(sharpe_ratio(clean, 1.0), len(clean), skewness, kurtosis, benchmark)


def expected_best_sharpe(trials: int, variance: float) -> float:
    """Sharpe ratio, per period, expected of the best of ``trials`` independent tries that have none.

    sqrt(V) ((1 - g) Phi^-1(1 - 1/N) + g Phi^-1(1 - 1/(N e))), g Euler's constant; 0 for a single try.

    Args:
        trials: N, at least 1: every configuration run, not those reported.
        variance: V, of the tries' Sharpe ratios per period.

    Raises:
        ForecastError: no trial, or a negative variance.
    """
    if trials < 1 or not variance >= 0.0:
        raise ForecastError(f"{trials} trials with Sharpe ratios of variance {variance} cannot be")
    if trials == 1:
        return 0.0
    high = _NORMAL.inv_cdf(1.0 - 1.0 / trials)
    higher = _NORMAL.inv_cdf(1.0 - 1.0 / (trials * np.e))
    return float(np.sqrt(variance)) * ((1.0 - EULER_GAMMA) * high + EULER_GAMMA * higher)


def deflated_sharpe(returns: FloatArray, trials: int, variance: float) -> float:
    """Probability that the true Sharpe ratio exceeds what luck gives the best of all tries.

    Args:
        returns: shape (n,), of the try that was picked.
        trials: every configuration run.
        variance: of the tries' Sharpe ratios per period.

    Raises:
        NotEnoughData, ForecastError: as the functions it is made of.
    """
    return probabilistic_sharpe(returns, expected_best_sharpe(trials, variance))


@dataclass(frozen=True)
class OverfittingTest:
    """Combinatorially symmetric cross-validation of a set of tries.

    Attributes:
        probability: share of splits in which the best try of one half is below the median in the other; half of the
            splits where nothing tells the tries apart, near 0 where one is truly better.
        logits: shape (S choose S/2,), of the relative rank, in the other half, of the best of one half.
        slope: regression slope of its Sharpe ratio in the other half on that in the first; NaN if that is constant.
        loss: share of splits in which it loses money in the other half.
    """

    probability: float
    logits: FloatArray = field(repr=False)
    slope: float
    loss: float


def backtest_overfitting(returns: FloatArray, groups: int = CSCV_GROUPS) -> OverfittingTest:
    """Probability of backtest overfitting (PBO).

    Args:
        returns: shape (T, N), simple returns of N >= 2 tries on one grid, finite (0 where a book was flat).
        groups: S, even: contiguous pieces of the time line, all halves of which are tried; rows that do not fill the
            last piece are left out.

    Raises:
        NotEnoughData: fewer than two tries, or fewer than two rows per piece.
        ForecastError: ``groups`` is odd or above 20, or a return is not finite.
    """
    rows, tries = returns.shape
    if groups < 2 or groups % 2 or groups > 20:
        raise ForecastError(f"{groups} pieces; give an even number from 2 to 20")
    if tries < 2 or rows < 2 * groups:
        raise NotEnoughData(f"{tries} tries of {rows} returns; it takes 2 tries and {2 * groups} returns")
    if not np.isfinite(returns).all():
        raise ForecastError("a return is not a finite number; give 0 where a book was flat")
    size = rows // groups
    pieces = returns[: size * groups].reshape(groups, size, tries)
    sums, squares = pieces.sum(axis=1), (pieces**2).sum(axis=1)
    halves = np.array(list(combinations(range(groups), groups // 2)))
    chosen = np.zeros((len(halves), groups))
    np.put_along_axis(chosen, halves, 1.0, axis=1)
    n = size * groups // 2
    inside = _half_sharpe(chosen @ sums, chosen @ squares, n)
    outside = _half_sharpe((1.0 - chosen) @ sums, (1.0 - chosen) @ squares, n)
    split = np.arange(len(chosen))
    best = inside.argmax(axis=1)
    theirs = outside[split, best]
    below = (outside < theirs[:, None]).sum(axis=1) + 0.5 * ((outside == theirs[:, None]).sum(axis=1) - 1)
    share = (below + 1.0) / (tries + 1.0)
    logits = np.log(share / (1.0 - share))
    gap = inside[split, best] - inside[split, best].mean()
    spread = float(gap @ gap)
    slope = float(gap @ theirs) / spread if spread > 0.0 else float("nan")
    return OverfittingTest(float((logits <= 0.0).mean()), logits, slope, float((theirs < 0.0).mean()))


def _half_sharpe(total: FloatArray, squares: FloatArray, n: int) -> FloatArray:
    mean = total / n
    variance = np.maximum(squares / n - mean**2, 0.0)
    moves = variance > 1e-14 * mean**2
    return np.where(moves, mean / np.sqrt(np.where(moves, variance, 1.0)), 0.0)
