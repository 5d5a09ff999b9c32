"""The same backtest by cvxportfolio, for comparison in one run; an optional environment of its own holds it.

    uv venv ../slipstream-bench
    uv pip install --python ../slipstream-bench/bin/python --editable . cvxportfolio==1.5.1
    ../slipstream-bench/bin/python benchmarks/backtest.py --inputs DIR

Row t of the recorded arrays is a period: decide at its start from ``alpha``, then earn ``r`` and pay ``funding``. The
peer plans with the programme that Slipstream solves - alpha, variance in factor form at weight 1/2, 3 bp linear cost,
the square-root law at the coin's mean volume, beta-neutral, gross at most 1 - and its simulator charges the same costs
and the funding of the position at the period's open.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from slipstream.portfolio import (
    BacktestConfig,
    BacktestResult,
    FactorCovariance,
    TransactionCostModel,
    optimize_portfolio_with_costs,
    run_backtest,
)

FEE_RATE = 3e-4
CAPITAL_USD = 1e6
DAY_HOURS = 24


def peer_is_here() -> bool:
    """Whether cvxportfolio can be imported in this environment."""
    return find_spec("cvxportfolio") is not None


@dataclass(frozen=True)
class Recorded:
    """One recorded problem: P periods, N coins."""

    r: np.ndarray
    alpha: np.ndarray
    funding: np.ndarray
    volume: np.ndarray
    beta: np.ndarray
    covariance: FactorCovariance

    @classmethod
    def load(cls, file: Path, periods: int | None) -> Recorded:
        with np.load(file) as arrays:
            cut = {name: arrays[name][:periods] for name in ("r", "alpha", "funding", "volume")}
            return cls(**cut, beta=arrays["beta"], covariance=FactorCovariance(arrays["B"], arrays["idio"] ** 2))

    @property
    def periods(self) -> int:
        return len(self.r)

    @property
    def sigma(self) -> np.ndarray:
        return np.sqrt(self.covariance.diagonal())

    @property
    def adv_usd(self) -> np.ndarray:
        return self.volume.mean(axis=0)

    def costs(self) -> TransactionCostModel:
        coins = len(self.beta)
        impact = self.sigma * np.sqrt(CAPITAL_USD / self.adv_usd)
        return TransactionCostModel(np.full(coins, FEE_RATE), impact, np.full(coins, 10.0), CAPITAL_USD)


def ours(recorded: Recorded) -> tuple[BacktestResult, float]:
    """The walk-forward backtest and its seconds. Its row t is the bar that ends at t, so periods shift by one."""
    before = np.zeros((1, len(recorded.beta)))
    alpha = np.vstack([recorded.alpha, before])
    config = BacktestConfig(H=DAY_HOURS, min_history_hours=0, bar_hours=DAY_HOURS, initial_capital=CAPITAL_USD)
    began = perf_counter()
    result = run_backtest(
        config,
        alpha,
        np.zeros_like(alpha),
        recorded.beta,
        recorded.covariance,
        np.vstack([before, recorded.r]),
        np.vstack([before, recorded.funding]),
        recorded.costs(),
    )
    return result, perf_counter() - began


@dataclass(frozen=True)
class Traded:
    """One run of the peer: P periods, N coins.

    Attributes:
        equity: (P + 1,) USD.
        held, wanted: (P, N) weights before and after each period's trades.
        seconds: of the run.
    """

    equity: np.ndarray
    held: np.ndarray
    wanted: np.ndarray
    seconds: float


def better_by(recorded: Recorded, traded: Traded) -> np.ndarray:
    """By how much our plan is worth more than the peer's from the very same holdings, (P,), fractions of equity.

    Worth is the objective both maximise: expected return less half the variance less costs. Both books are neutral and
    within the leverage, so a difference is what the lesser plan misses of the optimum.
    """
    fee, model, gain = np.full(len(recorded.beta), FEE_RATE), recorded.costs(), np.empty(recorded.periods)
    for t in range(recorded.periods):
        held, impact = traded.held[t], model.impact_at(traded.equity[t])
        mine, _ = optimize_portfolio_with_costs(
            recorded.alpha[t], recorded.beta, recorded.covariance, held, fee, impact, 1.0
        )
        worth = [_worth(recorded, t, w, np.abs(w - held), impact) for w in (mine, traded.wanted[t])]
        gain[t] = worth[0] - worth[1]
    return gain


def _worth(recorded: Recorded, t: int, w: np.ndarray, moved: np.ndarray, impact: np.ndarray) -> float:
    """The objective of period ``t`` at weights ``w`` reached by moving ``moved``, fraction of equity."""
    factors, own = recorded.covariance.exposures, recorded.covariance.idio_var
    risk = np.square(factors.T @ w).sum() + own @ np.square(w)
    return float(w @ recorded.alpha[t] - 0.5 * risk - FEE_RATE * moved.sum() - impact @ moved**1.5)


class Peer:
    """cvxportfolio set up on the recorded arrays; building it is not timed."""

    def __init__(self, recorded: Recorded) -> None:
        import cvxportfolio as cvx
        import pandas as pd

        self._cvx, self._pd = cvx, pd
        coins = [f"c{i}" for i in range(len(recorded.beta))]
        self._stamps = pd.date_range("2020-01-01", periods=recorded.periods + 1, freq="D", tz="UTC")

        def frame(values: np.ndarray) -> Any:
            # The simulator needs one row more than it trades.
            return pd.DataFrame(np.vstack([values, values[-1:]]), self._stamps, coins)

        def series(values: np.ndarray) -> Any:
            return pd.Series(values, coins)

        sigma = series(recorded.sigma)
        factors = pd.DataFrame(recorded.covariance.exposures.T, columns=coins)
        self._coins, self._frame = coins, frame
        self._objective = (
            cvx.ReturnsForecast(frame(recorded.alpha))
            - 0.5 * cvx.FactorModelCovariance(F=factors, d=series(recorded.covariance.idio_var))
            - cvx.TransactionCost(a=FEE_RATE, b=1.0, volume_hat=series(recorded.adv_usd), sigma=sigma)
        )
        self._constraints = [cvx.LeverageLimit(1.0), cvx.FactorNeutral(series(recorded.beta))]
        returns = frame(recorded.r)
        returns["cash"] = 0.0
        self._simulator = cvx.MarketSimulator(
            returns=returns,
            volumes=frame(np.broadcast_to(recorded.adv_usd, recorded.r.shape)),
            cash_key="cash",
            min_history=pd.Timedelta("0d"),
            costs=[
                cvx.TransactionCost(a=FEE_RATE, b=1.0, sigma=sigma),
                cvx.HoldingCost(dividends=-frame(recorded.funding)),
            ],
        )

    def plan_and_trade(self, **solver_options: float) -> Traded:
        """Its own single-period optimisation, by Clarabel."""
        policy = self._cvx.SinglePeriodOptimization(
            self._objective, self._constraints, include_cash_return=False, solver="CLARABEL", **solver_options
        )
        return self._run(policy)

    def trade(self, weights: np.ndarray) -> Traded:
        """Its accounting alone, at weights (P, N) given."""
        given = self._frame(weights)
        given["cash"] = 1.0 - given.sum(axis=1)
        return self._run(self._cvx.FixedWeights(given))

    def _run(self, policy: Any) -> Traded:
        began = perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = self._simulator.backtest(
                policy, start_time=self._stamps[0], end_time=self._stamps[-1], initial_value=CAPITAL_USD
            )
        seconds, equity = perf_counter() - began, result.v.to_numpy()
        before, traded = (frame[self._coins].to_numpy()[: len(equity) - 1] for frame in (result.h, result.u))
        capital = equity[:-1, None]
        return Traded(equity, before / capital, (before + traded) / capital, seconds)
