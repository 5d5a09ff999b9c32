"""What every driver of a decision relies on: the form of a decision and the checks its answer passes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from slipstream.core.panel import FloatArray, View, utc
from slipstream.errors import SlipstreamError

Decide = Callable[[View], FloatArray]
"""``decide(view) -> weights (N,)``, fractions of the capital granted; pure."""


class NotEnoughHistory(SlipstreamError):
    """A decision cannot be taken yet for want of data: in a backtest's warm-up the book is flat, live it is held."""


class BadDecision(SlipstreamError):
    """A decision that cannot be traded; the message names time and coin."""


def checked_weights(decide: Decide, view: View) -> FloatArray:
    """The answer of a decision at a view, shape (N,), fit to be traded.

    Raises:
        BadDecision: the answer has the wrong shape, holds a NaN, or asks for a coin outside the universe.
        NotEnoughHistory: whatever the decision raises is passed on.
    """
    weights = np.asarray(decide(view), dtype=np.float64)
    moment = f"{utc(view.known_at_ms):%Y-%m-%d %H:%M} UTC"
    if weights.shape != (len(view.coins),):
        raise BadDecision(f"{moment}: weights have shape {weights.shape}; expected ({len(view.coins)},)")
    wrong = ~np.isfinite(weights) | ((weights != 0.0) & ~view.tradable)
    if wrong.any():
        column = int(np.argmax(wrong))
        why = "is not a number" if not np.isfinite(weights[column]) else "is outside the universe at that time"
        raise BadDecision(f"{moment}: weight {weights[column]} for {view.coins[column]} {why}")
    return weights
