"""Whether hedging components 2 and 3 would hedge the signal away.

If a signal's returns move with a component, residuals against it are what is left of the signal after the very thing
it earns from. The rule looks at the correlation of the signal's returns with each component: below 0.2 in size the
hedge is safe, above 0.4 it removes the signal, between them it is a matter of judgement. Residual returns in a signal
do *not* make a portfolio neutral to a component; constraints on its exposures do.

The interval is Fisher's: with few rows a correlation of 0.1 may well be one of 0.4.

Source: Fisher (1915), the z-transform.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from slipstream.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

Verdict = Literal["safe", "judge", "warn"]
SAFE_BELOW = 0.2
WARN_ABOVE = 0.4
_LEAST_ROWS = 10


@dataclass(frozen=True)
class HedgeCheck:
    """One component beside a signal's returns.

    Attributes:
        component: its column, such as ``pc2``.
        correlation: of the signal's returns with it.
        low, high: 95 % interval of the correlation, for independent rows.
        rows: rows on which both are known.
        verdict: "safe", "judge" or "warn".
    """

    component: str
    correlation: float
    low: float
    high: float
    rows: int
    verdict: Verdict

    def describe(self) -> str:
        """The finding in one line."""
        what = {
            "safe": "safe to hedge",
            "judge": "hedging it removes part of the signal: compare with and without",
            "warn": "warning, hedging it removes the signal",
        }[self.verdict]
        span = f"95 % {self.low:+.2f} to {self.high:+.2f}, {self.rows} rows"
        return f"{self.component}: correlation {self.correlation:+.2f} ({span}); {what}"


def hedge_check(
    signal_returns: pd.Series, factors: pd.DataFrame, components: Sequence[str] = ("pc2", "pc3")
) -> tuple[HedgeCheck, ...]:
    """The hedge rule for each component.

    Args:
        signal_returns: returns of the portfolio that trades the signal, index = known-at.
        factors: returns of the components, as :func:`~slipstream.core.signals.residuals.compute_market_factor` gives
            them for several, index = known-at.
        components: columns of ``factors`` to look at.

    Raises:
        UsageError: a component is absent, fewer than ten rows are known to both, or one of the two does not move.
    """
    out = []
    for name in components:
        if name not in factors.columns:
            held = ", ".join(map(str, factors.columns))
            raise UsageError(f"hedge check: there is no component {name} among {held}; compute three components")
        other = factors[name].reindex(signal_returns.index).to_numpy(dtype=np.float64)
        mine = signal_returns.to_numpy(dtype=np.float64)
        both = ~(np.isnan(mine) | np.isnan(other))
        x, y = mine[both], other[both]
        if len(x) < _LEAST_ROWS or np.ptp(x) == 0.0 or np.ptp(y) == 0.0:
            raise UsageError(
                f"hedge check: {len(x)} rows hold both the signal's returns and {name}, and each must vary over at "
                f"least {_LEAST_ROWS}"
            )
        out.append(_judged(name, float(np.corrcoef(x, y)[0, 1]), len(x)))
    return tuple(out)


def _judged(name: str, correlation: float, rows: int) -> HedgeCheck:
    size = abs(correlation)
    verdict: Verdict = "safe" if size < SAFE_BELOW else "warn" if size > WARN_ABOVE else "judge"
    z = math.atanh(max(min(correlation, 1.0 - 1e-15), -1.0 + 1e-15))
    half = 1.959964 / math.sqrt(rows - 3)
    return HedgeCheck(name, correlation, math.tanh(z - half), math.tanh(z + half), rows, verdict)
