"""Template: volatility-scaled momentum, the strongest against the weakest at equal risk."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slipstream.strategies.template.config import TemplateConfig

if TYPE_CHECKING:
    from slipstream.core.panel import FloatArray, View

__all__ = ["TemplateConfig", "scores", "targets", "weights_from_scores"]


def targets(view: View, config: TemplateConfig | None = None) -> FloatArray:
    """Target weights at a view's close, shape (N,), fractions of granted capital.

    Longs are the ``top_n`` strongest positive scores, shorts the ``bottom_n`` strongest negative ones; if either side
    is empty the book is flat.

    Args:
        view: the market as of the decision.
        config: defaults to ``TemplateConfig()``.
    """
    cfg = config or TemplateConfig()
    return weights_from_scores(scores(view, cfg)[-1], view, cfg)


def scores(view: View, config: TemplateConfig | None = None) -> FloatArray:
    """The score of every row and coin of a view, shape (rows, N): the past return in its own volatilities."""
    from slipstream.strategies.template.signals import momentum_score

    cfg = config or TemplateConfig()
    return view.feature(momentum_score, lookback_hours=cfg.lookback, volatility_span_hours=cfg.volatility_span)


def weights_from_scores(score: FloatArray, view: View, config: TemplateConfig | None = None) -> FloatArray:
    """Target weights at a view's close for given scores, shape (N,); see :func:`targets`.

    Args:
        score: shape (N,), NaN is never held.
        view: the market as of the decision.
        config: defaults to ``TemplateConfig()``.
    """
    from slipstream.core.portfolio.sides import inverse_volatility_sides
    from slipstream.core.signals.liquidity import annual_volatility

    cfg = config or TemplateConfig()
    return inverse_volatility_sides(
        score,
        view.tradable,
        view.feature(annual_volatility, span_hours=cfg.volatility_span)[-1],
        top_n=cfg.top_n,
        bottom_n=cfg.bottom_n,
        side_volatility=cfg.target_side_risk,
        max_gross=cfg.max_gross,
    )
