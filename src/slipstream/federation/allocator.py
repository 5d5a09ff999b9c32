"""The allocator: how much capital each pod is granted, from what its returns have shown so far.

maximise   mu'w - (gamma/2) w'Sw - kappa sqrt(w'Ow) - c |w - w_prev|_1
subject to 0 <= w_i <= u_i,  sum w <= 1

with every moment annualised. A pod with n_y years of observations starts from a prior annual Sharpe of 0 +- 1, so its
mean is the sample's shrunk by s = n_y / (n_y + 1) and O = diag(s sigma^2 / n_y) is the posterior variance of that
mean: a short record earns little, and the penalty kappa asks for evidence before capital. S is the covariance of the
pods' returns with its correlations shrunk. c is one move's cost (5 bp) spread over a 30-day stay. Caps are throttled
in drawdown. Returns are per unit of *granted* capital, net of costs.

Source: Markowitz (1952); posterior mean and variance of a normal mean with known variance; uncertainty penalty as in
Goldfarb and Iyengar (2003); linear shrinkage of Ledoit and Wolf (2004); drawdown multiplier after Grossman and Zhou
(1993).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from slipstream.core.panel import HOURS_PER_YEAR, BoolArray, FloatArray
from slipstream.core.portfolio.shrinkage import shrunk_correlation
from slipstream.errors import SlipstreamError, UsageError
from slipstream.federation.capital_programme import CapitalAnswer, CapitalProgramme, solve

if TYPE_CHECKING:
    import pandas as pd

VAR_95_QUANTILE = 1.6448536269514722
BUDGET_ROUNDING = 1e-12
"""Weights that add up to one less this are all of the budget; caps are met exactly."""


class AllocatorError(UsageError):
    """A configuration or input the allocator cannot use."""


class AllocationFailed(SlipstreamError):
    """No answer of either solver could be certified; the message says what was missing."""


@dataclass(frozen=True)
class AllocatorConfig:
    """The programme's constants.

    Attributes:
        cycle_hours: time between allocations, hours; the spacing of the return observations.
        risk_aversion: gamma.
        uncertainty_aversion: kappa.
        move_cost_bps: cost of moving one unit of capital, basis points.
        move_horizon_days: the stay over which a move's cost is spread.
        max_weight: cap of one pod, fraction of capital.
        min_grant_usd: a smaller grant is none.
        drawdown_limit: drawdown at which a pod's cap reaches its floor, a positive fraction.
        drawdown_floor: least multiplier of a cap in drawdown.
        min_observations: pods with fewer are given equal weights under the cap instead of an optimised one.
        push_capital, push_relative: an increase is made only if it exceeds the larger of ``push_capital`` of all
            capital and ``push_relative`` of the present grant; cuts are always made.
    """

    cycle_hours: float = 4.0
    risk_aversion: float = 5.0
    uncertainty_aversion: float = 0.5
    move_cost_bps: float = 5.0
    move_horizon_days: float = 30.0
    max_weight: float = 0.30
    min_grant_usd: float = 100.0
    drawdown_limit: float = 0.20
    drawdown_floor: float = 0.1
    min_observations: int = 30
    push_capital: float = 0.02
    push_relative: float = 0.10

    def __post_init__(self) -> None:
        if not self.cycle_hours > 0.0:
            raise AllocatorError(f"cycle_hours is {self.cycle_hours}; it must be positive")
        if not 0.0 < self.max_weight <= 1.0:
            raise AllocatorError(f"max_weight is {self.max_weight}; it must lie in (0, 1]")
        if self.min_observations < 2:
            raise AllocatorError(f"min_observations is {self.min_observations}; a variance needs at least 2")

    @property
    def periods_per_year(self) -> float:
        return HOURS_PER_YEAR / self.cycle_hours

    @property
    def move_cost_annual(self) -> float:
        """c: the cost of a unit move as a yearly rate."""
        return self.move_cost_bps * 1e-4 * 365.25 / self.move_horizon_days


@dataclass(frozen=True)
class AllocationResult:
    """One allocation over P pods; moments are annual and of the whole account (cash earns nothing).

    Attributes:
        weights: shape (P,), fraction of capital granted.
        capital_usd: shape (P,).
        expected_return, vol, sharpe: of the granted book, from the shrunk moments.
        var_95: loss not exceeded with 95 % over one cycle, fraction of capital, normal.
        diversification_ratio: sum of w_i sigma_i over vol; 1.0 when nothing is granted.
        binding: constraints that hold with equality ("cap:<pod>", "throttle:<pod>", "budget").
        n_obs: shape (P,), observations of each pod.
        solver: the method whose weights these are: "newton", "conic" (the fallback), or "none" where nothing was left
            to optimise (no pod has enough observations).
        gap: relative duality gap of the programme at its weights, before grants below the minimum are dropped.
    """

    weights: FloatArray
    capital_usd: FloatArray
    expected_return: float
    vol: float
    sharpe: float
    var_95: float
    diversification_ratio: float
    binding: tuple[str, ...]
    n_obs: tuple[int, ...]
    solver: Literal["newton", "conic", "none"]
    gap: float


@dataclass(frozen=True)
class PodMoments:
    """Annual moments of P pods: shrunk mean, covariance, and the posterior variance of each mean."""

    mean: FloatArray
    covariance: FloatArray
    mean_variance: FloatArray
    n_obs: tuple[int, ...]


def pod_moments(returns: FloatArray, periods_per_year: float, min_observations: int) -> PodMoments:
    """Moments the programme needs.

    Args:
        returns: shape (T, P), net simple returns per cycle on granted capital, NaN where a pod was not alive.
        periods_per_year: cycles in a year.
        min_observations: rows common to all pods with that many observations, below which no correlation is read.

    Returns:
        mean (P,), covariance (P, P), mean_variance (P,): zero for pods with fewer than two observations.
    """
    alive = ~np.isnan(returns)
    count = alive.sum(axis=0)
    filled = np.where(alive, returns, 0.0)
    sample_mean = filled.sum(axis=0) / np.maximum(count, 1)
    deviation = np.where(alive, returns - sample_mean, 0.0)
    variance = (deviation**2).sum(axis=0) / np.maximum(count - 1, 1) * periods_per_year
    years = count / periods_per_year
    shrink = years / (years + 1.0)
    correlation = np.eye(returns.shape[1])
    known = np.flatnonzero(count >= min_observations)
    common = alive[:, known].all(axis=1) if len(known) > 1 else np.zeros(len(returns), dtype=bool)
    if common.sum() >= min_observations:
        correlation[np.ix_(known, known)] = shrunk_correlation(returns[np.ix_(common, known)])
    sigma = np.sqrt(variance)
    mean_variance = np.where(count > 0, shrink * variance / np.where(years > 0.0, years, 1.0), 0.0)
    return PodMoments(
        mean=shrink * sample_mean * periods_per_year,
        covariance=correlation * np.outer(sigma, sigma),
        mean_variance=mean_variance,
        n_obs=tuple(int(n) for n in count),
    )


def drawdown(returns: FloatArray) -> FloatArray:
    """Present drawdown of each pod's compounded track from its high-water mark, shape (P,), in [0, 1].

    Args:
        returns: shape (T, P), simple returns, NaN (not alive) counts as no move.
    """
    track = np.cumprod(1.0 + np.where(np.isnan(returns), 0.0, returns), axis=0)
    if not len(track):
        return np.zeros(returns.shape[1])
    peak = np.maximum(track.max(axis=0), 1.0)
    return np.asarray(1.0 - track[-1] / peak)


class PortfolioAllocator:
    """Grants capital to pods. Pure: every answer depends on its arguments and the configuration alone."""

    def __init__(self, config: AllocatorConfig | None = None) -> None:
        self.config = config or AllocatorConfig()

    def optimize(
        self,
        returns: FloatArray | pd.DataFrame,
        w_prev: FloatArray,
        caps: FloatArray,
        capital_usd: float,
        *,
        alive: BoolArray | None = None,
    ) -> AllocationResult:
        """Solve the programme for the data at hand.

        Pods with fewer than ``min_observations`` observations share out equal weights under the cap; the others are
        optimised within what is left. A pod that is not alive gets nothing.

        Args:
            returns: shape (T, P), net simple returns per cycle on granted capital, oldest first, NaN = not alive; a
                DataFrame's columns name the pods in ``binding``.
            w_prev: shape (P,), weights in force.
            caps: shape (P,), upper bounds as fractions of capital (capacity, stage), inf where there is none; the
                configuration's cap and the drawdown throttle come on top.
            capital_usd: the account's capital.
            alive: shape (P,), pods that may hold capital; default: those with any observation.

        Raises:
            AllocatorError: shapes differ, capital is not positive, or an input is not a number.
            AllocationFailed: no answer could be certified.
        """
        names = [str(name) for name in returns.columns] if hasattr(returns, "columns") else None
        table = np.asarray(returns, dtype=np.float64)
        previous = np.asarray(w_prev, dtype=np.float64)
        limits = np.asarray(caps, dtype=np.float64)
        self._check(table, previous, limits, capital_usd)
        config = self.config
        moments = pod_moments(table, config.periods_per_year, config.min_observations)
        count = np.array(moments.n_obs)
        throttle = np.clip(1.0 - drawdown(table) / config.drawdown_limit, config.drawdown_floor, 1.0)
        upper = np.minimum(config.max_weight, limits) * throttle
        living = count > 0 if alive is None else np.asarray(alive, dtype=bool)
        upper[~living] = 0.0
        young = living & (count < config.min_observations)
        weights = np.zeros(table.shape[1])
        weights[young] = np.minimum(upper[young], 1.0 / max(int(living.sum()), 1))
        grown = living & ~young
        answer = None
        if grown.any():
            pick = np.ix_(grown, grown)
            answer = solve_allocation(
                moments.mean[grown],
                moments.covariance[pick],
                moments.mean_variance[grown],
                previous[grown],
                upper[grown],
                budget=1.0 - float(weights.sum()),
                config=config,
            )
            weights[grown] = answer.w
        weights[weights * capital_usd < config.min_grant_usd] = 0.0
        return self._describe(weights, upper, throttle, moments, capital_usd, names, answer)

    def held_back(self, wanted: FloatArray, current: FloatArray) -> FloatArray:
        """Weights to push, shape (P,): cuts at once, increases only when they are worth pushing.

        Args:
            wanted: shape (P,), the optimised weights.
            current: shape (P,), weights in force.
        """
        threshold = np.maximum(self.config.push_capital, self.config.push_relative * current)
        rise = wanted - current
        return np.where((rise > 0.0) & (rise <= threshold), current, wanted)

    def _check(self, returns: FloatArray, w_prev: FloatArray, caps: FloatArray, capital_usd: float) -> None:
        if returns.ndim != 2:
            raise AllocatorError(f"returns must be (cycles, pods); got shape {returns.shape}")
        pods = returns.shape[1]
        for name, values in (("w_prev", w_prev), ("caps", caps)):
            if values.shape != (pods,):
                raise AllocatorError(f"{name} has shape {values.shape}; expected ({pods},)")
            if np.isnan(values).any() or (values < 0.0).any():
                raise AllocatorError(f"{name} must be numbers of at least 0; got {values.tolist()}")
        if np.isinf(w_prev).any():
            raise AllocatorError(f"w_prev must be finite; got {w_prev.tolist()}")
        if np.isinf(returns).any():
            raise AllocatorError("returns hold an infinite value; NaN is the only mark of a pod that was not alive")
        if not (np.isfinite(capital_usd) and capital_usd > 0.0):
            raise AllocatorError(f"capital_usd is {capital_usd}; it must be positive")

    def _describe(
        self,
        weights: FloatArray,
        upper: FloatArray,
        throttle: FloatArray,
        moments: PodMoments,
        capital_usd: float,
        names: list[str] | None,
        answer: CapitalAnswer | None,
    ) -> AllocationResult:
        labels = names or [str(i) for i in range(len(weights))]
        at_cap: BoolArray = (weights > 0.0) & (weights >= upper)
        binding = [f"{'throttle' if throttle[i] < 1.0 else 'cap'}:{labels[i]}" for i in np.flatnonzero(at_cap)]
        if weights.sum() >= 1.0 - BUDGET_ROUNDING:
            binding.append("budget")
        vol = float(np.sqrt(weights @ moments.covariance @ weights))
        expected = float(moments.mean @ weights)
        stand_alone = float(weights @ np.sqrt(np.diag(moments.covariance)))
        return AllocationResult(
            weights=weights,
            capital_usd=weights * capital_usd,
            expected_return=expected,
            vol=vol,
            sharpe=expected / vol if vol > 0.0 else 0.0,
            var_95=VAR_95_QUANTILE * vol / np.sqrt(self.config.periods_per_year),
            diversification_ratio=stand_alone / vol if vol > 0.0 else 1.0,
            binding=tuple(binding),
            n_obs=moments.n_obs,
            solver="none" if answer is None else answer.solver,
            gap=0.0 if answer is None else answer.gap,
        )


def solve_allocation(
    mean: FloatArray,
    covariance: FloatArray,
    mean_variance: FloatArray,
    w_prev: FloatArray,
    upper: FloatArray,
    *,
    budget: float,
    config: AllocatorConfig,
) -> CapitalAnswer:
    """The programme for pods whose moments are known: certified weights, shape (P,), in an answer that says how.

    The arrays are those of :class:`CapitalProgramme` (``w_prev`` is its ``held``), ``budget`` what these pods together
    may hold, as a fraction of capital.

    Raises:
        AllocationFailed: neither solver's answer could be certified.
    """
    answer = solve(
        CapitalProgramme(
            mean,
            covariance,
            mean_variance,
            w_prev,
            upper,
            budget,
            config.risk_aversion,
            config.uncertainty_aversion,
            config.move_cost_annual,
        )
    )
    if not answer.certified:
        raise AllocationFailed(f"the allocation of {len(mean)} pods was not solved: {answer.message}")
    return answer
