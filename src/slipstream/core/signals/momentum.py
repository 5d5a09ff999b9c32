"""Momentum of residual returns: how far a coin has drifted against the market, in its own volatilities.

With sigma the exponentially weighted deviation of the residuals over 128 h and z = residual / sigma, the momentum of a
span is the exponentially weighted mean of z over it, cut at +-2.5. Residuals that are missing stay missing and age
what came before.

Source: residual momentum as in Blitz, Huij and Martens (2011); weights as in RiskMetrics (1996).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from slipstream.core.factors.pca_spec import PCASpec
from slipstream.core.frames import cells
from slipstream.core.panel import FloatArray, View
from slipstream.core.signals.ewm import ewm_mean, ewm_std
from slipstream.core.signals.long_frame import bar_length_hours, long_frame
from slipstream.core.signals.residuals import idiosyncratic_return
from slipstream.core.signals.spans import span_bars
from slipstream.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

SPANS_HOURS = (2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
VOL_SPAN_HOURS = 128.0
CLIP = 2.5


def momentum_components(
    residual: FloatArray,
    bar_hours: float,
    spans_hours: Sequence[float] = SPANS_HOURS,
    vol_span_hours: float = VOL_SPAN_HOURS,
    clip: float = CLIP,
) -> dict[float, FloatArray]:
    """Momentum of each span that holds a bar: span in hours -> shape (T, N), in standard deviations.

    Args:
        residual: shape (T, N), residual log returns per bar, NaN where missing.
        bar_hours: length of a bar, hours.
        spans_hours: spans, hours; those below one bar are dropped with one warning.
        vol_span_hours: span of sigma, hours, at least two bars; a coin needs as many residuals before its first value.
        clip: largest size of a momentum.

    Raises:
        UsageError: the volatility span holds fewer than two bars.
    """
    z = residual / volatility(residual, bar_hours, vol_span_hours)
    return {
        hours: np.clip(ewm_mean(z, bars, min_periods=bars), -clip, clip)
        for hours, bars in span_bars(spans_hours, bar_hours).items()
    }


def volatility(values: FloatArray, bar_hours: float, span_hours: float = VOL_SPAN_HOURS) -> FloatArray:
    """Exponentially weighted deviation per bar, shape (T, N); NaN before a full span was seen, and where it is 0.

    Raises:
        UsageError: the span holds fewer than two bars.
    """
    bars = int(span_hours // bar_hours)
    if bars < 2:
        raise UsageError(f"a volatility span of {span_hours:g} h holds {bars} bars of {bar_hours:g} h; two are needed")
    sigma = ewm_std(values, bars, min_periods=bars)
    return np.where(sigma > 0.0, sigma, np.nan)


def idiosyncratic_momentum(
    idio: pd.DataFrame,
    spans_hours: Sequence[float] = SPANS_HOURS,
    vol_span_hours: float = VOL_SPAN_HOURS,
    clip: float = CLIP,
    bar_hours: float | None = None,
) -> pd.DataFrame:
    """Momentum as a long frame: column ``momentum``, index (timestamp, asset, span), known values only.

    Args:
        idio: residual log returns per bar, index = known-at, one column per coin.
        spans_hours: spans, hours; those below one bar are dropped with one warning.
        vol_span_hours: span of sigma, hours.
        clip: largest size of a momentum.
        bar_hours: length of a bar; None: the least step of the index.

    Raises:
        UsageError: the volatility span holds fewer than two bars, or the frame cannot be read (FrameError).
    """
    hours = bar_length_hours(idio, "idio") if bar_hours is None else bar_hours
    return long_frame(
        idio, "momentum", momentum_components(cells(idio, "idio"), hours, spans_hours, vol_span_hours, clip)
    )


def residual_momentum(
    view: View,
    *,
    spec: PCASpec,
    span_hours: float,
    vol_span_hours: float = VOL_SPAN_HOURS,
    clip: float = CLIP,
) -> FloatArray:
    """Momentum of one span for every row and coin of a view, shape (rows, N): a feature (see :class:`View`).

    Raises:
        UsageError: the span is shorter than one bar of the view.
    """
    if span_hours < view.bar_hours:
        raise UsageError(f"a momentum span of {span_hours:g} h is shorter than one bar of {view.bar_hours} h")
    residual = view.feature(idiosyncratic_return, spec=spec)
    return momentum_components(residual, view.bar_hours, (span_hours,), vol_span_hours, clip)[span_hours]
