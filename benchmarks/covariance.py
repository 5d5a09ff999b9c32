"""Which covariance forecast is right, and how long it takes: ``python benchmarks/covariance.py --data PANEL``.

PANEL is a panel file or a lake directory. Every day each method forecasts the covariance of hourly net returns from
the past alone, and the next 24 hours judge it. Coins: those with 99 % of the hours from the first forecast on and
enough history at it; hours that one of them lacks are not judged. Printed for each method:

regret/day      nats of Gaussian log-likelihood per day by which it fell short of the best constant covariance chosen
                with hindsight for the same 30 days; only differences between methods mean something, since hindsight
                fits its own noise
min-var ratio   realised over predicted variance of the minimum-variance book: 1 is honest, above 1 too optimistic
min-var vol     annual volatility that book realised, %
beta-neutral    realised over predicted variance of random beta-neutral books, mean, and 5 % to 95 % over days
ms              milliseconds of one estimate from the raw arrays, best of five at the last day; ``step`` is the cost of
                bringing the rolling form forward by a day
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy loads

import numpy as np

from slipstream.core.panel import HOURS_PER_YEAR, Panel
from slipstream.core.portfolio.covariance import FactorCovariance
from slipstream.core.portfolio.estimators import METHODS, estimate_covariance, has_history
from slipstream.core.portfolio.iewma import Iewma
from slipstream.core.portfolio.likelihood import gaussian_log_likelihood, regret
from slipstream.core.portfolio.pairwise import pairwise_sample, positive_definite
from slipstream.core.portfolio.rolling_covariance import RollingCovariance
from slipstream.lake import load_panel

LOOKBACK_HOURS, MIN_HOURS = 2880, 720
DAY, HINDSIGHT_DAYS, BOOKS, RUNS = 24, 30, 50, 5
MOST_MISSING = 0.01

Covariance = FactorCovariance | np.ndarray


@dataclass
class Score:
    """What one method's forecasts were worth, one entry per day."""

    log_likelihood: list[np.ndarray] = field(default_factory=list)
    min_variance_ratio: list[float] = field(default_factory=list)
    min_variance_return: list[np.ndarray] = field(default_factory=list)
    neutral_ratio: list[float] = field(default_factory=list)


def net_returns(panel: Panel) -> np.ndarray:
    """Simple returns less funding, (T, N); a settlement that was due and lost leaves the bar out."""
    out = np.full_like(panel.close, np.nan)
    out[1:] = panel.close[1:] / panel.close[:-1] - 1.0
    return out - panel.funding


def hours_after(net: np.ndarray, row: int, hours: int) -> np.ndarray:
    """The complete rows among the next ``hours``."""
    after = net[row + 1 : row + 1 + hours]
    return after[~np.isnan(after).any(axis=1)]


def dense(S: Covariance) -> np.ndarray:
    return S.dense() if isinstance(S, FactorCovariance) else S


def sample_covariance(past: np.ndarray) -> np.ndarray:
    return positive_definite(pairwise_sample(past[-LOOKBACK_HOURS:]).covariance)


def plain_components(past: np.ndarray, factors: int) -> FactorCovariance:
    """The leading principal components of the sample correlations as they are, and what they leave as diagonal."""
    sample = sample_covariance(past)
    sigma = np.sqrt(np.diag(sample))
    values, vectors = np.linalg.eigh(sample / np.outer(sigma, sigma))
    loadings = vectors[:, -factors:] * np.sqrt(values[-factors:])
    own = 1.0 - (loadings**2).sum(axis=1)
    return FactorCovariance(loadings * sigma[:, None], own * sigma**2)


def neutral_books(past: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Random books without exposure to the equally weighted market, (BOOKS, N); the same for every method."""
    sample = sample_covariance(past)
    beta = sample.sum(axis=1) / sample.sum()
    books = rng.standard_normal((BOOKS, len(beta)))
    return np.asarray(books - np.outer(books @ beta, beta) / (beta @ beta))


def judge(score: Score, S: Covariance, future: np.ndarray, books: np.ndarray) -> None:
    """Add a day: the forecast against the hours after it."""
    score.log_likelihood.append(gaussian_log_likelihood(future, S))
    matrix = dense(S)
    least = np.linalg.solve(matrix, np.ones(len(matrix)))
    least /= least.sum()
    earned = future @ least
    score.min_variance_return.append(earned)
    score.min_variance_ratio.append(float((earned**2).mean() / (least @ matrix @ least)))
    predicted = np.einsum("bi,ij,bj->b", books, matrix, books)
    score.neutral_ratio.append(float((((future @ books.T) ** 2).mean(axis=0) / predicted).mean()))


def forecasts(net: np.ndarray) -> dict[str, Callable[[int], Covariance]]:
    """Method -> covariance per hour as known at a row."""
    out: dict[str, Callable[[int], Covariance]] = {"sample": lambda row: sample_covariance(net[: row + 1])}
    for method in METHODS:
        if method != "iewma":
            out[method] = lambda row, method=method: estimate_covariance(
                net[: row + 1], None, LOOKBACK_HOURS, MIN_HOURS, method
            )
    for factors in (3, 8, 16):
        if factors < net.shape[1]:
            out[f"plain, {factors} components"] = lambda row, k=factors: plain_components(net[: row + 1], k)
    for label, settings in (
        ("iewma (default)", Iewma()),
        ("iewma, 1 factor", Iewma(factors=1)),
        ("iewma, 3 factors", Iewma(factors=3)),
        ("iewma, 16 factors", Iewma(factors=16)),
        ("iewma, 48 h / 360 h", Iewma(48, 360)),
        ("iewma, 480 h / 720 h", Iewma(480, 720)),
    ):
        rolling = RollingCovariance(net, None, LOOKBACK_HOURS, MIN_HOURS, iewma=settings)
        out[label] = lambda row, rolling=rolling: rolling.at(row).covariance
    return out


def best_ms(run: Callable[[], object]) -> float:
    seconds = []
    for _ in range(RUNS):
        began = perf_counter()
        run()
        seconds.append(perf_counter() - began)
    return 1e3 * min(seconds)


def print_quality(net: np.ndarray, name: str) -> None:
    """The table of forecasts on recorded returns."""
    first = LOOKBACK_HOURS
    present = np.isnan(net[first + 1 :]).mean(axis=0) <= MOST_MISSING
    enough = has_history(net[: first + 1], None, LOOKBACK_HOURS, MIN_HOURS)
    net = np.ascontiguousarray(net[:, present & enough])
    months = (len(net) - 1 - first) // (HINDSIGHT_DAYS * DAY)
    days = [first + DAY * k for k in range(months * HINDSIGHT_DAYS)]
    print(f"{name}: {net.shape[1]} coins, {len(days)} days, one forecast a day, judged by the next {DAY} hours\n")
    rng = np.random.default_rng(42)
    methods = forecasts(net)
    scores = {method: Score() for method in methods}
    for row in days:
        books = neutral_books(net[: row + 1], rng)
        future = hours_after(net, row, DAY)
        for method, forecast in methods.items():
            judge(scores[method], forecast(row), future, books)
    realised = [hours_after(net, row, HINDSIGHT_DAYS * DAY) for row in days[::HINDSIGHT_DAYS]]
    print(f"{'method':22s}{'regret/day':>11s}{'min-var ratio':>15s}{'min-var vol':>13s}{'beta-neutral (5-95 %)':>27s}")
    for method, score in scores.items():
        ends = np.cumsum([len(month) for month in realised])[:-1]
        achieved = np.split(np.concatenate(score.log_likelihood), ends)
        per_day = DAY * float(np.mean([regret(a, r) for a, r in zip(achieved, realised, strict=True)]))
        vol = 100.0 * float(np.sqrt((np.concatenate(score.min_variance_return) ** 2).mean() * HOURS_PER_YEAR))
        low, high = np.quantile(score.neutral_ratio, (0.05, 0.95))
        ratio, neutral = np.mean(score.min_variance_ratio), np.mean(score.neutral_ratio)
        print(f"{method:22s}{per_day:11.1f}{ratio:15.2f}{vol:12.1f}%{neutral:13.2f} ({low:.2f}-{high:.2f})")


def print_speed(coins: int, rows: int = LOOKBACK_HOURS) -> None:
    """Milliseconds per estimate on made-up returns with a market, without gaps and with 1 % of entries missing."""
    rng = np.random.default_rng(42)
    returns = 0.01 * (rng.standard_normal((rows + 100 * DAY, 1)) + rng.standard_normal((rows + 100 * DAY, coins)))
    holes = np.where(rng.random(returns.shape) < 0.01, np.nan, returns)
    print(f"\nms per estimate, {coins} coins x {rows} hours{'complete':>15s}{'1 % missing':>14s}")
    for method in METHODS:
        times = [best_ms(lambda x=x, m=method: estimate_covariance(x[-rows:], method=m)) for x in (returns, holes)]
        print(f"{method:44s}{times[0]:10.1f}{times[1]:14.1f}")
    times = []
    for x in (returns, holes):
        rolling = RollingCovariance(x)
        rolling.at(rows)
        seconds = []
        for row in range(rows + DAY, len(x), DAY):
            began = perf_counter()
            rolling.at(row)
            seconds.append(perf_counter() - began)
        times.append(1e3 * float(np.median(seconds)))
    print(f"{'iewma, rolling, a day on (median)':44s}{times[0]:10.1f}{times[1]:14.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Covariance forecasts judged out of sample, and timed.")
    parser.add_argument("--data", type=Path, required=True, help="panel file or lake directory")
    parser.add_argument("--coins", type=int, default=200, help="coins of the timing (default 200)")
    given = parser.parse_args()
    print(f"BLAS threads: {os.environ['OPENBLAS_NUM_THREADS']}")
    print_quality(net_returns(load_panel(given.data)), given.data.name)
    print_speed(given.coins)


if __name__ == "__main__":
    main()
