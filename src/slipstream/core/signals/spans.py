"""Horizons in hours: the standard ones of the trend score, and the one place where hours become a number of rows."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Literal

LOOKBACKS_HOURS = (8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)

Normalization = Literal["ewm", "rolling"]
"""How the volatility behind a score is estimated."""
Scale = Literal["sqrt", "none"]
"""Whether a horizon's sum is divided by the root of its length."""


class SpanDroppedWarning(UserWarning):
    """A span shorter than one bar was left out."""


def span_bars(hours: Sequence[float], bar_hours: float) -> dict[float, int]:
    """Bars of each span that holds at least one bar, in the order given.

    A span below one bar is dropped with one warning: rounding it up would duplicate the feature of the next span.

    Args:
        hours: spans, hours.
        bar_hours: length of a bar, hours.
    """
    kept = {span: int(span // bar_hours) for span in hours if span >= bar_hours}
    dropped = [span for span in hours if span < bar_hours]
    if dropped:
        names = ", ".join(f"{span:g} h" for span in dropped)
        warnings.warn(f"dropped spans shorter than one bar of {bar_hours:g} h: {names}", SpanDroppedWarning, 2)
    return kept
