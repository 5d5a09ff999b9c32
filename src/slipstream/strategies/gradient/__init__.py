"""Gradient: a trend overlay, long the strongest and short the weakest coins at equal risk.

The decision is ``targets``; ``compute_trend_strength``, ``construct_gradient_portfolio`` and ``run_gradient_backtest``
are the research functions on wide frames and call the same mathematics.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from slipstream.strategies.gradient.config import GradientConfig

if TYPE_CHECKING:
    from slipstream.core.panel import FloatArray, View
    from slipstream.strategies.gradient.research import (
        GradientBacktest,
        compute_trend_strength,
        construct_gradient_portfolio,
        run_gradient_backtest,
    )

__all__ = [
    "GradientBacktest",
    "GradientConfig",
    "compute_trend_strength",
    "construct_gradient_portfolio",
    "run_gradient_backtest",
    "scores",
    "targets",
    "weights_from_scores",
]

_RESEARCH = ("GradientBacktest", "compute_trend_strength", "construct_gradient_portfolio", "run_gradient_backtest")


def __getattr__(name: str) -> Any:
    """The research names, loaded when first asked for: a decision does not need pandas."""
    if name in _RESEARCH:
        return getattr(importlib.import_module("slipstream.strategies.gradient.research"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def targets(view: View, config: GradientConfig | None = None) -> FloatArray:
    """Target weights at a view's close, shape (N,), fractions of granted capital.

    Longs are the ``top_n`` strongest positive scores, shorts the ``bottom_n`` strongest negative ones; if either side
    is empty the book is flat.

    Args:
        view: the market as of the decision.
        config: defaults to ``GradientConfig()``.

    Raises:
        NotEnoughHistory: ``risk_method`` is "var" and too few complete days are there.
    """
    cfg = config or GradientConfig()
    return weights_from_scores(scores(view, cfg)[-1], view, cfg)


def scores(view: View, config: GradientConfig | None = None) -> FloatArray:
    """The trend score of every row and coin of a view, shape (rows, N): about standard normal without a trend."""
    from slipstream.core.signals.trend import trend_strength

    cfg = config or GradientConfig()
    return view.feature(trend_strength, lookbacks_hours=cfg.lookbacks, normalization=cfg.normalization, scale=cfg.scale)


def weights_from_scores(score: FloatArray, view: View, config: GradientConfig | None = None) -> FloatArray:
    """Target weights at a view's close for given scores, shape (N,); see :func:`targets`.

    Args:
        score: shape (N,), NaN is never held.
        view: the market as of the decision.
        config: defaults to ``GradientConfig()``.

    Raises:
        NotEnoughHistory: ``risk_method`` is "var" and too few complete days are there.
    """
    from slipstream.core.portfolio.sides import inverse_volatility_sides
    from slipstream.core.signals.liquidity import annual_volatility
    from slipstream.strategies.gradient.sizing import daily_returns_of, value_at_risk_sides

    cfg = config or GradientConfig()
    if cfg.risk_method == "var":
        return value_at_risk_sides(score, view.tradable, daily_returns_of(view, cfg.var_lookback_days), cfg)
    return inverse_volatility_sides(
        score,
        view.tradable,
        view.feature(annual_volatility, span_hours=cfg.vol_span)[-1],
        top_n=cfg.top_n,
        bottom_n=cfg.bottom_n,
        side_volatility=cfg.target_side_dollar_vol,
        max_gross=cfg.max_gross,
        min_abs_score=cfg.min_abs_strength,
    )
