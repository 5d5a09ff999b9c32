"""What every driver of a decision relies on: the form of a decision and the checks its answer passes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from slipstream.core.panel import FloatArray, View, utc
from slipstream.errors import SlipstreamError

Decide = Callable[[View], FloatArray]
"""``decide(view) -> weights (N,)``, fractions of the capital granted; pure."""


@dataclass(frozen=True)
class Holdings:
    """What a book holds when it decides, as known at the close.

    Attributes:
        weights: shape (N,), positions after the drift of prices, fractions of equity.
        equity_usd: equity without the settlement stamped at the close, which is published after it.
    """

    weights: FloatArray
    equity_usd: float


@runtime_checkable
class DecidesFromHoldings(Protocol):
    """A decision that weighs what a trade costs, and so depends on what is held.

    A driver that keeps a book hands it over; one that does not calls the decision as any other, and the answer is then
    the book to aim for.
    """

    def __call__(self, view: View) -> FloatArray:
        """Target weights, shape (N,), where holdings are unknown."""
        ...

    def from_holdings(self, view: View, held: Holdings) -> FloatArray:
        """Target weights, shape (N,), from what is held; pure in both."""
        ...


class NotEnoughHistory(SlipstreamError):
    """A decision cannot be taken yet for want of data: in a backtest's warm-up the book is flat, live it is held."""


class BadDecision(SlipstreamError):
    """A decision that cannot be traded; the message names time and coin."""


def checked_weights(decide: Decide, view: View, held: Holdings | None = None) -> FloatArray:
    """The answer of a decision at a view, shape (N,), fit to be traded.

    Args:
        decide: a decision; one that :class:`DecidesFromHoldings` is asked from ``held``.
        view: the market as of the decision.
        held: the book, where the driver keeps one.

    Raises:
        BadDecision: the answer has the wrong shape, holds a NaN, or asks for a coin outside the universe.
        NotEnoughHistory: whatever the decision raises is passed on.
    """
    if held is not None and isinstance(decide, DecidesFromHoldings):
        weights = np.asarray(decide.from_holdings(view, held), dtype=np.float64)
    else:
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
