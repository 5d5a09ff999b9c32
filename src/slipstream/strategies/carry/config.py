"""Carry's one configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from slipstream.errors import UsageError


@dataclass(frozen=True)
class CarryConfig:
    """What carry expects of funding and prices, and the book that collects it.

    Attributes:
        model: "ewma": expected funding from its own past, no opinion on prices (the first form). "joint": trained
            models of price and funding, which must be given. "auto": joint where models are at hand, else ewma.
        holding_hours: H, over which expectations and risk are measured, hours.
        funding_span: ewma: span of the exponentially weighted mean of past funding, hours.
        beta_window: ewma: window of the regression on the market, hours.
        leverage: sum of absolute weights (ewma), its cap (joint: cash may be held).
        forecast_clip: ewma: expected funding is limited to this many median absolute deviations around its
            cross-sectional median, so that one coin's squeeze is not the whole book.
        min_coins: fewer usable coins than this leave the book flat.
        risk_aversion: joint: price of variance in the objective.
        max_weight: joint: cap of each absolute weight; None for none. At a risk aversion of 1 the optimum is full
            Kelly, which is right for certain knowledge only: without a cap a few coins are the book.
        covariance_hours: joint: what the risk model looks back on, hours.
        retrain_hours: joint: hours between the models a backtest trains on its way.
    """

    model: Literal["auto", "ewma", "joint"] = "auto"
    holding_hours: float = 24.0
    funding_span: float = 168.0
    beta_window: int = 720
    leverage: float = 1.0
    forecast_clip: float = 5.0
    min_coins: int = 5
    risk_aversion: float = 1.0
    max_weight: float | None = 0.1
    covariance_hours: float = 2880.0
    retrain_hours: float = 720.0

    def __post_init__(self) -> None:
        positive = ("holding_hours", "funding_span", "beta_window", "leverage", "forecast_clip", "risk_aversion")
        for name in (*positive, "covariance_hours", "retrain_hours"):
            if not getattr(self, name) > 0.0:
                raise UsageError(f"carry {name} is {getattr(self, name)}; it must be positive")
        if self.max_weight is not None and not self.max_weight > 0.0:
            raise UsageError(f"carry max_weight is {self.max_weight}; it must be positive, or absent for no cap")
