"""Carry's one configuration."""

from __future__ import annotations

from dataclasses import dataclass

from slipstream.errors import UsageError


@dataclass(frozen=True)
class CarryConfig:
    """Expected funding, and the book that collects it.

    Attributes:
        holding_hours: H, over which expected funding and risk are measured, hours.
        funding_span: span of the exponentially weighted mean of past funding, hours.
        beta_window: window of the regression on the market, hours.
        leverage: sum of absolute weights.
        forecast_clip: expected funding is limited to this many median absolute deviations around its
            cross-sectional median, so that one coin's squeeze is not the whole book.
        min_coins: fewer usable coins than this leave the book flat.
    """

    holding_hours: float = 24.0
    funding_span: float = 168.0
    beta_window: int = 720
    leverage: float = 1.0
    forecast_clip: float = 5.0
    min_coins: int = 5

    def __post_init__(self) -> None:
        for name in ("holding_hours", "funding_span", "beta_window", "leverage", "forecast_clip"):
            if not getattr(self, name) > 0.0:
                raise UsageError(f"carry {name} is {getattr(self, name)}; it must be positive")
