"""Gradient's one configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from slipstream.core.signals.spans import LOOKBACKS_HOURS, Normalization, Scale
from slipstream.errors import UsageError

RiskMethod = Literal["dollar_vol", "var"]


@dataclass(frozen=True)
class GradientConfig:
    """How trends are measured and turned into positions.

    Attributes:
        lookbacks: horizons of the trend score, hours.
        normalization: estimator of the volatility each return is divided by.
        scale: "sqrt" divides a horizon's sum by the root of its length, "none" does not.
        top_n: most longs.
        bottom_n: most shorts; None means as many as ``top_n``.
        min_abs_strength: scores nearer to zero are not traded.
        risk_method: "dollar_vol" sizes by inverse volatility, "var" by value at risk of each side.
        target_side_dollar_vol: volatility of each side, fraction of capital per square-root year.
        max_gross: cap on the sum of absolute weights.
        vol_span: span of the sizing volatility, hours.
        target_side_var: one-day 95 % value at risk of each side, fraction of capital ("var" only).
        var_lookback_days: days of returns behind it ("var" only).
    """

    lookbacks: tuple[float, ...] = LOOKBACKS_HOURS
    normalization: Normalization = "ewm"
    scale: Scale = "sqrt"
    top_n: int = 5
    bottom_n: int | None = None
    min_abs_strength: float = 0.0
    risk_method: RiskMethod = "dollar_vol"
    target_side_dollar_vol: float = 1.0
    max_gross: float = 2.0
    vol_span: float = 256.0
    target_side_var: float = 0.02
    var_lookback_days: int = 60

    def __post_init__(self) -> None:
        if self.top_n < 1 or (self.bottom_n is not None and self.bottom_n < 1):
            raise UsageError(f"gradient needs at least one coin a side: top_n={self.top_n}, bottom_n={self.bottom_n}")
        if self.risk_method not in ("dollar_vol", "var"):
            raise UsageError(f"gradient risk_method is {self.risk_method!r}; it is 'dollar_vol' or 'var'")
        if self.normalization not in ("ewm", "rolling"):
            raise UsageError(f"gradient normalization is {self.normalization!r}; it is 'ewm' or 'rolling'")
        if self.var_lookback_days < 30:
            raise UsageError(f"gradient var_lookback_days is {self.var_lookback_days}; it must be at least 30")
        if not (self.max_gross > 0.0 and self.target_side_dollar_vol > 0.0 and self.target_side_var > 0.0):
            raise UsageError("gradient risk targets and max_gross must be positive")
