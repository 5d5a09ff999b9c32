"""The one configuration of Template."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from slipstream.errors import UsageError


@dataclass(frozen=True)
class TemplateConfig:
    """Volatility-scaled momentum.

    Attributes:
        lookback: hours over which the past return is measured.
        volatility_span: span of the volatility it is divided by, hours.
        top_n: most longs.
        bottom_n: most shorts; None means as many as ``top_n``.
        target_side_risk: volatility of each side, fraction of capital per square-root year.
        max_gross: cap on the sum of absolute weights.
        metadata: free notes carried into outputs; nothing reads them.
    """

    lookback: float = 24.0
    volatility_span: float = 64.0
    top_n: int = 3
    bottom_n: int | None = None
    target_side_risk: float = 0.5
    max_gross: float = 2.0
    metadata: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.top_n < 1 or (self.bottom_n is not None and self.bottom_n < 1):
            raise UsageError(f"top_n is {self.top_n} and bottom_n {self.bottom_n}; each side needs at least one coin")
        if not (self.lookback > 0.0 and self.volatility_span > 0.0):
            raise UsageError("lookback and volatility_span are hours and must be positive")
        if not (self.target_side_risk > 0.0 and self.max_gross > 0.0):
            raise UsageError("target_side_risk and max_gross must be positive")
