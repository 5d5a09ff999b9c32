"""Carry in full: the alpha of trained models of price and funding, through the cost-aware optimiser.

At a close t over a holding period of H hours:

1. The latest model that may be used at t forecasts each coin's residual price return and the funding a long pays;
   alpha is their difference.
2. Risk is the IEWMA factor covariance of net returns over the last ``covariance_hours``, scaled to H.
3. Costs are fee, half-spread and the square-root impact of the coin's trailing volatility and volume at the book's
   equity.
4. Weights maximise ``alpha'w - (g/2) w'Sw - costs of getting there`` with ``B'w = 0`` and ``sum |w| <= leverage``.

A view shows the market and not the book. A driver that keeps one hands it over (``from_holdings``) and the answer
starts from the drifted weights. Where holdings are unknown the answer is the *aim*: the optimum were trading free. It
depends on the market alone, so it is the same whoever asks, and it says where the book should go and not whether the
way there pays; prefer a driver that gives the holdings.

Models are loaded and, in a backtest, trained outside: a decision reads no file.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from slipstream.core.decision import Holdings
from slipstream.core.factors.pca import as_of_rows
from slipstream.core.factors.pca_spec import MAX_AGE_BARS
from slipstream.core.forecast.dated_models import DatedModels
from slipstream.core.forecast.model import JointModel
from slipstream.core.forecast.model_inputs import betas_as_of, forecast_as_of
from slipstream.core.panel import BoolArray, FloatArray, IntArray, View
from slipstream.core.portfolio.costs import CostAssumptions, impact_rate_usd
from slipstream.core.portfolio.covariance import FactorCovariance
from slipstream.core.portfolio.optimizer import optimize_portfolio_with_costs
from slipstream.core.portfolio.rolling_covariance import CovarianceAsOf, RollingCovariance
from slipstream.core.signals.liquidity import average_daily_volume_usd, daily_volatility
from slipstream.errors import UsageError
from slipstream.strategies.carry.config import CarryConfig

LEAST_COVARIANCE_HOURS = 720.0
"""Net returns a coin needs before its risk is known; as much as the universe asks for."""


@dataclass(frozen=True, eq=False)
class FactorBetas:
    """Betas from a factor file, by the time each row is known.

    Attributes:
        known_at_ms: (W,), increasing, Unix ms.
        coins: M names, case-sensitive.
        beta: (W, M, C), NaN where a coin has none.
        max_age_ms: how old a row may be when it is used.
    """

    known_at_ms: IntArray = field(repr=False)
    coins: tuple[str, ...] = field(repr=False)
    beta: FloatArray = field(repr=False)
    max_age_ms: int

    @classmethod
    def of(cls, known_at_ms: IntArray, coins: tuple[str, ...], beta: FloatArray) -> FactorBetas:
        """Betas whose rows step by their factor's bar, and count for two of them.

        Raises:
            UsageError: fewer than two rows, so that no step can be told.
        """
        if len(known_at_ms) < 2:
            raise UsageError(f"a factor of {len(known_at_ms)} rows has no step; give at least two")
        return cls(known_at_ms, coins, beta, MAX_AGE_BARS * int(np.diff(known_at_ms).min()))

    def at(self, ms: int, coins: tuple[str, ...]) -> FloatArray:
        """Betas known at a moment, shape (N, C); NaN for coins the file does not know."""
        out = np.full((len(coins), self.beta.shape[2]), np.nan)
        row = int(as_of_rows(self.known_at_ms, np.array([ms], dtype=np.int64), self.max_age_ms)[0])
        if row >= 0:
            place = {coin: j for j, coin in enumerate(self.coins)}
            known = [i for i, coin in enumerate(coins) if coin in place]
            out[known] = self.beta[row, [place[coins[i]] for i in known]]
        return out


@dataclass(frozen=True, eq=False)
class JointCarry:
    """The decision: ``decision(view) -> weights (N,)``, fractions of equity.

    Attributes:
        models: the models, of which each decision uses the latest it may.
        config: default :class:`CarryConfig`.
        costs: what the book pays to trade; give the driver's own.
        betas: what the book is neutral to in place of the models' factor; their features keep that factor.
    """

    models: DatedModels
    config: CarryConfig = field(default_factory=CarryConfig)
    costs: CostAssumptions = field(default_factory=CostAssumptions)
    betas: FactorBetas | None = None

    def __call__(self, view: View) -> FloatArray:
        """The aim: target weights were trading free; flat with fewer than ``min_coins`` usable coins.

        Raises:
            NoModelYet: no model was trained by then.
            ForecastError: the models read other bars.
        """
        return self._weights(view, None)

    def from_holdings(self, view: View, held: Holdings) -> FloatArray:
        """Target weights after the cost of getting there; a coin that is held and not usable is closed.

        Raises:
            NoModelYet, ForecastError: as above.
            OptimizationError: no certified optimum.
        """
        return self._weights(view, held)

    def _weights(self, view: View, held: Holdings | None) -> FloatArray:
        model = self.models.as_of(view.known_at_ms)
        alpha = forecast_as_of(model, view).alpha_total
        beta = self._neutral_to(model, view)
        out = np.zeros(len(view.coins))
        usable = view.tradable & np.isfinite(alpha) & np.isfinite(beta).all(axis=1)
        if usable.sum() < self.config.min_coins:
            return out
        risk = covariance_as_of(model.H, self.config.covariance_hours, view)
        usable &= risk.known
        if usable.sum() < self.config.min_coins:
            return out
        linear, impact = self._costs(view, usable, held)
        out[usable], _ = optimize_portfolio_with_costs(
            alpha[usable],
            beta[usable],
            _covered(risk, usable),
            np.zeros(int(usable.sum())) if held is None else held.weights[usable],
            linear,
            impact,
            self.config.leverage,
            risk_aversion=self.config.risk_aversion,
            max_weight=self.config.max_weight,
        )
        return out

    def _neutral_to(self, model: JointModel, view: View) -> FloatArray:
        """Exposures to neutralise, shape (N, C)."""
        if self.betas is None:
            return betas_as_of(model, view)[:, None]
        return self.betas.at(view.known_at_ms, view.coins)

    def _costs(self, view: View, usable: BoolArray, held: Holdings | None) -> tuple[FloatArray, FloatArray]:
        """Linear and impact coefficients of the usable coins; zero where holdings, and so trades, are unknown."""
        count = int(usable.sum())
        if held is None:
            return np.zeros(count), np.zeros(count)
        sigma, volume = view.feature(daily_volatility)[-1], view.feature(average_daily_volume_usd)[-1]
        impact = impact_rate_usd(sigma, volume, self.costs.kappa)[usable] * np.sqrt(held.equity_usd)
        known = np.isfinite(impact)
        # What cannot be priced is taken for as dear as the dearest that can; with no volume at all impact is unknown
        # throughout, and the driver charges none.
        dearest = impact[known].max() if known.any() else 0.0
        return np.full(count, self.costs.linear_rate), np.where(known, impact, dearest)


def covariance_as_of(horizon_hours: int, lookback_hours: float, view: View) -> CovarianceAsOf:
    """IEWMA covariance of net returns over a holding period, from a view's last ``lookback_hours``.

    Funding comes out after the bar's close, so the newest bar's is not known yet: the window ends one bar earlier. A
    window of fixed length makes the answer the same, to the last bit, whatever the data before it.
    """
    rows = max(int(lookback_hours // view.bar_hours), 2) + 1
    returns = np.expm1(view.log_return[-rows:-1])
    paid = view.funding_published[-len(returns) :] if len(returns) else returns
    rolling = RollingCovariance(
        returns,
        paid,
        lookback_hours,
        min(LEAST_COVARIANCE_HOURS, lookback_hours),
        horizon_hours,
        bar_hours=view.bar_hours,
    )
    return rolling.at(rolling.rows - 1)


def _covered(risk: CovarianceAsOf, usable: BoolArray) -> FactorCovariance:
    """The covariance of the usable coins, all of which it knows."""
    keep = usable[risk.known]
    return FactorCovariance(risk.covariance.exposures[keep], risk.covariance.idio_var[keep])


def rebalance_hours(models: DatedModels, asked_hours: float | None) -> float:
    """Hours between trades: the models' holding period.

    Raises:
        UsageError: another period was asked for; a forecast over H is not one over another span.
    """
    if asked_hours is not None and asked_hours != models.H:
        raise UsageError(
            f"the models forecast over {models.H} h and --H is {asked_hours:g}; leave --H out, or train models for it"
        )
    return float(models.H)
