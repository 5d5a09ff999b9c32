"""Carry: collects expected funding in a book that is neutral to the market.

First form, ``targets``: the alpha of a long is minus its expected funding, an exponentially weighted mean of past
settlements; no price alpha is claimed. Weights are the closed-form mean-variance optimum under a one-factor risk model,
neutral to betas from a rolling regression on the liquidity-weighted market.

In full, :class:`~slipstream.strategies.carry.joint.JointCarry`: trained models of price and funding, costs and a
covariance. It takes the models with it, since a decision reads no file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from slipstream.errors import UsageError
from slipstream.strategies.carry.config import CarryConfig

if TYPE_CHECKING:
    from slipstream.core.forecast.dated_models import DatedModels
    from slipstream.core.panel import FloatArray, View
    from slipstream.core.portfolio.costs import CostAssumptions
    from slipstream.strategies.carry.joint import JointCarry

__all__ = ["CarryConfig", "decision_with_models", "targets"]


def targets(view: View, config: CarryConfig | None = None) -> FloatArray:
    """Target weights at a view's close, shape (N,), fractions of granted capital: sum |w| = leverage, w'beta = 0.

    Flat when fewer than ``min_coins`` coins have a beta and an expected funding.

    Args:
        view: the market as of the decision.
        config: defaults to ``CarryConfig()``.

    Raises:
        UsageError: the configuration asks for the joint form, whose models a bare decision does not have.
    """
    from slipstream.core.factors.market import market_model, market_variance
    from slipstream.core.forecast.funding import expected_funding
    from slipstream.core.portfolio.covariance import FactorCovariance
    from slipstream.core.portfolio.optimizer import optimize_portfolio

    cfg = config or CarryConfig()
    if cfg.model == "joint":
        raise UsageError(
            "carry model joint needs trained models: decide with slipstream.strategies.carry.joint.JointCarry, "
            "or set model to ewma"
        )
    bars = cfg.holding_hours / view.bar_hours
    funding = view.feature(expected_funding, span_hours=cfg.funding_span)[-1]
    beta, residual_variance = view.feature(market_model, window_hours=cfg.beta_window)[-1]
    factor_variance = float(view.feature(market_variance, window_hours=cfg.beta_window)[-1])
    usable = np.flatnonzero(
        view.tradable & np.isfinite(funding) & np.isfinite(beta) & (np.nan_to_num(residual_variance) > 0.0)
    )
    weights = np.zeros(len(view.coins))
    if len(usable) < cfg.min_coins or not np.isfinite(factor_variance):
        return weights
    slope = beta[usable]
    risk = FactorCovariance(
        exposures=np.sqrt(bars * factor_variance) * slope[:, None], idio_var=bars * residual_variance[usable]
    )
    alpha = -bars * clipped(funding[usable], cfg.forecast_clip)
    weights[usable] = optimize_portfolio(alpha, slope, risk, leverage=cfg.leverage)
    return weights


def decision_with_models(
    models: DatedModels, config: CarryConfig | None = None, costs: CostAssumptions | None = None
) -> JointCarry:
    """Carry in full on trained models: a decision that also decides from holdings.

    Args:
        models: see :class:`~slipstream.core.forecast.dated_models.DatedModels`.
        config: defaults to ``CarryConfig()``.
        costs: what the book pays to trade; default :class:`~slipstream.core.portfolio.costs.CostAssumptions`.

    Raises:
        UsageError: the configuration asks for the form without models.
    """
    from slipstream.core.portfolio.costs import CostAssumptions
    from slipstream.strategies.carry.joint import JointCarry

    cfg = config or CarryConfig()
    if cfg.model == "ewma":
        raise UsageError("carry model is ewma and models were given; set model to auto or joint, or leave them out")
    return JointCarry(models, cfg, costs or CostAssumptions())


def clipped(values: FloatArray, deviations: float) -> FloatArray:
    """Values limited to a number of median absolute deviations around their median, shape (N,).

    Where more than half of the values are equal the deviation is zero and nothing is clipped: funding rests at the base
    rate for most coins, and the few that left it are the signal.
    """
    middle = float(np.median(values))
    spread = float(np.median(np.abs(values - middle)))
    if spread == 0.0:
        return values
    return np.clip(values, middle - deviations * spread, middle + deviations * spread)
