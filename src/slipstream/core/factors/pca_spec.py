"""How a market factor is estimated: the settings of :mod:`slipstream.core.factors.pca`, checked when they are made."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from slipstream.core.panel import HOUR_MS
from slipstream.errors import SlipstreamError, UsageError

WeightMethod = Literal["none", "sqrt", "log", "dollar", "sqrt_dollar"]
"""A window's mean USD volume v as a weight: 1, sqrt v, ln(1 + v), v. The name sqrt_dollar is kept for sqrt."""
MAX_AGE_BARS = 2
"""How old, in bars of H hours, a factor may be when it is used."""


class HistoryTooShort(SlipstreamError):
    """The history does not fill one window of K bars of H hours."""


@dataclass(frozen=True)
class PCASpec:
    """How a factor is estimated.

    Attributes:
        K: bars per window, at least 3.
        H_hours: hours per bar.
        weight_method: see :data:`WeightMethod`.
        min_assets: coins a window needs, at least 2.
        min_periods: returns a coin needs in a window, 3 to K; None: 80 % of K, rounded up.
        n_components: 1 to 3.
    """

    K: int = 30
    H_hours: int = 8
    weight_method: WeightMethod = "sqrt"
    min_assets: int = 10
    min_periods: int | None = None
    n_components: int = 1

    def __post_init__(self) -> None:
        if self.weight_method not in get_args(WeightMethod):
            methods = ", ".join(get_args(WeightMethod))
            raise UsageError(f"weight method {self.weight_method!r} is unknown; choose one of {methods}")
        bounds = {
            "K": (self.K, 3, None),
            "H_hours": (self.H_hours, 1, None),
            "min_assets": (self.min_assets, 2, None),
            "min_periods": (self.least_periods, 3, self.K),
            "n_components": (self.n_components, 1, 3),
        }
        for name, (value, low, high) in bounds.items():
            if value < low or (high is not None and value > high):
                span = f"at least {low}" if high is None else f"{low} to {high}"
                raise UsageError(f"PCA factor: {name} is {value}; it must be {span}")

    @property
    def least_periods(self) -> int:
        """Returns a coin needs in a window."""
        return math.ceil(0.8 * self.K) if self.min_periods is None else self.min_periods

    @property
    def max_age_ms(self) -> int:
        """How old a row may be when it is used."""
        return MAX_AGE_BARS * self.H_hours * HOUR_MS
