"""Funding as a feature: how far the rates a coin pays lie from the base rate, in their own deviations.

With b the length of a bar and sigma the exponentially weighted deviation of the bar's funding sum over 128 h,

    x = (funding_sum - 1.25e-5 b) / max(sigma, 2.5e-6 b)

and the feature of a span is the exponentially weighted mean of x over it, cut at +-5. The base rate, 0.01 % per 8 h, is
where the venue's rule rests most of the time: there sigma tends to 0 and an unfloored ratio explodes, which is why the
base is taken off and the deviation has a floor. ``mode="raw"`` is that unfloored ratio, kept for one diagnostic only.

A bar's funding is the *sum* of the rates settled in it and 0 where none was due. A rate settled every 8 hours
therefore counts once, in the bar of its stamp, and spreads over the hours by the mean; filled forward it would count
eight times.

Source: RiskMetrics (1996) for the weights; Hyperliquid's funding rule for the base rate.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from slipstream.core.frames import cells
from slipstream.core.panel import FloatArray, View
from slipstream.core.signals.ewm import ewm_mean, ewm_std
from slipstream.core.signals.long_frame import bar_length_hours, long_frame
from slipstream.core.signals.momentum import SPANS_HOURS, VOL_SPAN_HOURS, volatility
from slipstream.core.signals.spans import span_bars
from slipstream.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

Mode = Literal["excess", "raw"]
BASE_RATE_PER_HOUR = 1.25e-5
SIGMA_FLOOR_PER_HOUR = 2.5e-6
CLIP = 5.0


def funding_components(
    funding_sum: FloatArray,
    bar_hours: float,
    spans_hours: Sequence[float] = SPANS_HOURS,
    vol_span_hours: float = VOL_SPAN_HOURS,
    clip: float = CLIP,
    mode: Mode = "excess",
) -> dict[float, FloatArray]:
    """Funding feature of each span that holds a bar: span in hours -> shape (T, N), in standard deviations.

    Args:
        funding_sum: shape (T, N), sum of the rates settled in each bar, 0 where none was due, NaN where one was and is
            missing (it ages what came before) and outside a coin's life.
        bar_hours: length of a bar, hours.
        spans_hours: spans, hours; those below one bar are dropped with one warning.
        vol_span_hours: span of sigma, hours, at least two bars; a coin needs as many sums before its first value.
        clip: largest size of a feature.
        mode: "excess", or "raw": funding_sum / sigma, NaN where sigma is 0.

    Raises:
        UsageError: the mode is unknown, or the volatility span holds fewer than two bars.
    """
    if mode not in get_args(Mode):
        raise UsageError(f"funding mode {mode!r} is unknown; choose one of {', '.join(get_args(Mode))}")
    if mode == "excess":
        x = (funding_sum - BASE_RATE_PER_HOUR * bar_hours) / funding_sigma(funding_sum, bar_hours, vol_span_hours)
    else:
        x = funding_sum / volatility(funding_sum, bar_hours, vol_span_hours)
    return {
        hours: np.clip(ewm_mean(x, bars, min_periods=bars), -clip, clip)
        for hours, bars in span_bars(spans_hours, bar_hours).items()
    }


def funding_sigma(funding_sum: FloatArray, bar_hours: float, span_hours: float = VOL_SPAN_HOURS) -> FloatArray:
    """Deviation of a bar's funding sum, floored at 2.5e-6 per hour of bar, shape (T, N).

    NaN before a full span was seen.

    Raises:
        UsageError: the span holds fewer than two bars.
    """
    bars = int(span_hours // bar_hours)
    if bars < 2:
        raise UsageError(f"a volatility span of {span_hours:g} h holds {bars} bars of {bar_hours:g} h; two are needed")
    return np.asarray(np.maximum(ewm_std(funding_sum, bars, min_periods=bars), SIGMA_FLOOR_PER_HOUR * bar_hours))


def funding_features(
    funding_sum: pd.DataFrame,
    spans_hours: Sequence[float] = SPANS_HOURS,
    vol_span_hours: float = VOL_SPAN_HOURS,
    clip: float = CLIP,
    mode: Mode = "excess",
    bar_hours: float | None = None,
) -> pd.DataFrame:
    """Funding features as a long frame: column ``funding``, index (timestamp, asset, span), known values only.

    Args:
        funding_sum: funding sums, index = known-at, one column per coin. The settlement stamped at a row's close comes
            out just after it: shift by a row where a decision at that very close reads the feature.
        spans_hours: spans, hours; those below one bar are dropped with one warning.
        vol_span_hours: span of sigma, hours.
        clip: largest size of a feature.
        mode: "excess" or "raw".
        bar_hours: length of a bar; None: the least step of the index.

    Raises:
        UsageError: as :func:`funding_components`, or the frame cannot be read (FrameError).
    """
    hours = bar_length_hours(funding_sum, "funding_sum") if bar_hours is None else bar_hours
    values = cells(funding_sum, "funding_sum")
    parts = funding_components(values, hours, spans_hours, vol_span_hours, clip, mode)
    return long_frame(funding_sum, "funding", parts)


def published_funding(view: View) -> FloatArray:
    """Funding sums published by each close, shape (rows, N): a feature (see :class:`View`).

    A sum of 0 beside a bar that does not exist says nothing (the coin is not listed, or no longer) and is NaN.
    """
    traded = np.zeros(view.close.shape, dtype=np.bool_)
    traded[1:] = ~np.isnan(view.close[:-1])
    published = view.funding_published
    return np.where(traded | (published != 0.0), published, np.nan)


def funding_level(
    view: View,
    *,
    span_hours: float,
    vol_span_hours: float = VOL_SPAN_HOURS,
    clip: float = CLIP,
    mode: Mode = "excess",
) -> FloatArray:
    """Funding feature of one span from what each close has published, shape (rows, N): a feature (see :class:`View`).

    Raises:
        UsageError: the span is shorter than one bar of the view, or as :func:`funding_components`.
    """
    if span_hours < view.bar_hours:
        raise UsageError(f"a funding span of {span_hours:g} h is shorter than one bar of {view.bar_hours} h")
    published = view.feature(published_funding)
    return funding_components(published, view.bar_hours, (span_hours,), vol_span_hours, clip, mode)[span_hours]
