"""The signal of Template: the past return in its own volatilities."""

from __future__ import annotations

import numpy as np

from slipstream.core.panel import HOURS_PER_YEAR, FloatArray, View
from slipstream.core.signals.liquidity import annual_volatility
from slipstream.errors import UsageError


def momentum_score(view: View, *, lookback_hours: float, volatility_span_hours: float) -> FloatArray:
    """Log return over the lookback divided by the volatility expected over it, shape (rows, N).

    NaN where either end of the lookback has no bar: a coin that was not there is not ranked.

    Raises:
        UsageError: the lookback is shorter than one bar; rounding it up would measure something else.

    Source: volatility-scaled momentum, Barroso and Santa-Clara (2015).
    """
    bars = int(lookback_hours // view.bar_hours)
    if bars < 1:
        raise UsageError(f"a lookback of {lookback_hours:g} h is shorter than one bar of {view.bar_hours} h")
    past = np.full_like(view.close, np.nan)
    past[bars:] = np.log(view.close[bars:] / view.close[:-bars])
    sigma = view.feature(annual_volatility, span_hours=volatility_span_hours)
    return np.asarray(past / (sigma * np.sqrt(bars * view.bar_hours / HOURS_PER_YEAR)))
