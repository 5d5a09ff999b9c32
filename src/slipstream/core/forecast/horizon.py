"""Which holding period is best, and how sure that is.

The measure is what the account would have kept: the net Sharpe ratio of a costed backtest, averaged over the H / b
rows at which a book of horizon H may start. All horizons live on one grid of rows and are redrawn together, so that a
good month is good for all of them and does not count as a difference. Naming a best one and then reading its own
interval forgets that it was picked; ``claim`` is the lower end that allows for the choice.

Source: Politis and Romano (1992) for the draws; White (2000), A reality check for data snooping, for the claim.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from slipstream.core.forecast.bootstrap import BlockDraws
from slipstream.core.forecast.errors import ForecastError
from slipstream.core.panel import HOURS_PER_YEAR, FloatArray


@dataclass(frozen=True)
class HorizonScores:
    """A measure of every horizon, and the same on every draw; columns in the order of ``horizons``.

    Attributes:
        horizons: hours.
        estimate: shape (K,).
        draws: shape (D, K), paired: one row is one draw.
    """

    horizons: tuple[int, ...]
    estimate: FloatArray
    draws: FloatArray = field(repr=False)


@dataclass(frozen=True)
class HorizonChoice:
    """The best horizon by a measure.

    Attributes:
        best: hours.
        runner_up: hours; None if there is no other.
        gap: estimate of the best less that of the runner-up; NaN without one, like its interval.
        gap_low, gap_high: 90 % interval of the gap.
        probability_best: horizon -> share of draws in which it is the best; sums to 1.
        confident: the 90 % interval of the gap excludes 0.
        low, high: horizon -> ends of the 95 % interval of its own measure.
        claim: one-sided 95 % lower end of the best one's measure that allows for its having been picked.
    """

    best: int
    runner_up: int | None
    gap: float
    gap_low: float
    gap_high: float
    probability_best: dict[int, float]
    confident: bool
    low: dict[int, float]
    high: dict[int, float]
    claim: float


def net_sharpe(returns: Mapping[int, FloatArray], draws: BlockDraws, bar_hours: float) -> HorizonScores:
    """Annualised net Sharpe ratio per horizon, averaged over start phases.

    Args:
        returns: horizon in hours -> shape (phases, T), net simple return per row of a book that starts at each phase,
            on one grid of rows for all horizons; NaN where a book does not run.
        draws: of the T rows; blocks as long as the longest horizon needs.
        bar_hours: length of a row, hours; a year has 8766.

    Returns:
        A book of constant or fewer than two returns has Sharpe 0.

    Raises:
        ForecastError: no horizon, or other rows than the draws'.
    """
    return _measured(returns, draws, lambda sums: _sharpe(sums) * np.sqrt(HOURS_PER_YEAR / bar_hours))


def net_utility_per_hour(
    returns: Mapping[int, FloatArray], draws: BlockDraws, bar_hours: float, risk_aversion: float = 1.0
) -> HorizonScores:
    """Mean less ``risk_aversion`` / 2 times variance of net returns, per hour, averaged over phases.

    Arguments as in :func:`net_sharpe`.
    """

    def utility(sums: FloatArray) -> FloatArray:
        mean, variance = _mean_and_variance(sums)
        return np.asarray((mean - 0.5 * risk_aversion * variance) / bar_hours)

    return _measured(returns, draws, utility)


def choose_horizon(scores: HorizonScores) -> HorizonChoice:
    """The horizon of the highest measure, with paired inference; of equals the shortest.

    Raises:
        ForecastError: an estimate or a draw is NaN.
    """
    if np.isnan(scores.estimate).any() or np.isnan(scores.draws).any():
        raise ForecastError("a horizon's measure is NaN; leave out the horizons that could not be scored")
    order = np.argsort(-scores.estimate, kind="stable")
    first = int(order[0])
    second = int(order[1]) if len(order) > 1 else None
    nan = float("nan")
    gap, gap_low, gap_high = nan, nan, nan
    if second is not None:
        gap = float(scores.estimate[first] - scores.estimate[second])
        ends = np.quantile(scores.draws[:, first] - scores.draws[:, second], (0.05, 0.95))
        gap_low, gap_high = (float(end) for end in ends)
    wins = np.bincount(scores.draws.argmax(axis=1), minlength=len(scores.horizons)) / len(scores.draws)
    low, high = np.quantile(scores.draws, (0.025, 0.975), axis=0)
    luck = float(np.quantile((scores.draws - scores.estimate).max(axis=1), 0.95))
    names = scores.horizons
    return HorizonChoice(
        best=names[first],
        runner_up=None if second is None else names[second],
        gap=gap,
        gap_low=gap_low,
        gap_high=gap_high,
        probability_best=dict(zip(names, wins.tolist(), strict=True)),
        confident=second is not None and gap_low > 0.0,
        low=dict(zip(names, low.tolist(), strict=True)),
        high=dict(zip(names, high.tolist(), strict=True)),
        claim=float(scores.estimate[first]) - luck,
    )


def _measured(
    returns: Mapping[int, FloatArray], draws: BlockDraws, measure: Callable[[FloatArray], FloatArray]
) -> HorizonScores:
    """``measure`` of each book's sums n, r, r^2, shape (..., phases, 3), averaged over phases, for sample and draws."""
    if not returns:
        raise ForecastError("there is no horizon to choose from")
    horizons = tuple(sorted(returns))
    estimate, drawn = np.empty(len(horizons)), np.empty((draws.draws, len(horizons)))
    for k, hours in enumerate(horizons):
        books = np.atleast_2d(returns[hours])
        here = ~np.isnan(books)
        r = np.where(here, books, 0.0)
        sums = np.stack((here.astype(np.float64), r, r * r), axis=-1).swapaxes(0, 1)
        estimate[k] = measure(sums.sum(axis=0)).mean()
        totals = draws.totals(sums.reshape(len(sums), -1)).reshape(draws.draws, len(books), 3)
        drawn[:, k] = measure(totals).mean(axis=-1)
    return HorizonScores(horizons, estimate, drawn)


def _mean_and_variance(sums: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mean and sample variance of sums n, r, r^2, shape (..., 3); variance 0 of fewer than two returns."""
    n, total, squares = np.moveaxis(sums, -1, 0)
    mean = total / np.maximum(n, 1.0)
    variance = np.maximum(squares - n * mean * mean, 0.0) / np.maximum(n - 1.0, 1.0)
    return mean, variance


def _sharpe(sums: FloatArray) -> FloatArray:
    mean, variance = _mean_and_variance(sums)
    moves = variance > 1e-14 * mean * mean
    return np.where(moves, mean / np.sqrt(np.where(moves, variance, 1.0)), 0.0)
