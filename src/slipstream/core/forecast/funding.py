"""Expected funding from its own past: an exponentially weighted mean of the settlements already published."""

from __future__ import annotations

import numpy as np

from slipstream.core.panel import FloatArray, View
from slipstream.core.signals.ewm import ewm_mean


def expected_funding(view: View, *, span_hours: float) -> FloatArray:
    """Funding expected per bar, shape (rows, N), as a fraction of notional; longs pay when positive.

    Settlements published by each close only (see :attr:`View.funding_published`). A missing settlement ages the mean
    and is not read as zero; hours in which none was due count 0, which spreads an 8-hourly rate over its hours.
    NaN until half the span has been seen.
    """
    span = max(1, int(span_hours // view.bar_hours))
    return np.asarray(ewm_mean(view.funding_published, span, max(1, span // 2)))
