"""What a Sharpe ratio and its standard error allow one to say, in sentences."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from slipstream.core.metrics import DAYS_PER_YEAR
from slipstream.core.panel import utc
from slipstream.federation.result import FederationResult
from slipstream.reports import formatting

Z_95 = 1.96


@dataclass(frozen=True)
class Record:
    """One track record.

    Attributes:
        subject: whose it is, as a sentence begins: ``The account``.
        total_return: fraction.
        sharpe, sharpe_se: annual, and its standard error; NaN or 0 where there are too few returns.
        span_days: length.
        returns: what the Sharpe ratio is of, as a plural: ``days``.
    """

    subject: str
    total_return: float
    sharpe: float
    sharpe_se: float
    span_days: float
    returns: str = "days"

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval of the true Sharpe ratio, normal approximation; None where nothing can be said."""
        low, high = self.sharpe - Z_95 * self.sharpe_se, self.sharpe + Z_95 * self.sharpe_se
        return (low, high) if math.isfinite(low + high) and self.sharpe_se > 0 else None


def verdict(record: Record) -> str:
    """One sentence or two: what happened, and whether the record is long enough to mean anything."""
    moved = formatting.percent(abs(record.total_return))
    gain = record.total_return
    what = f"gained {moved}" if gain > 0 else f"lost {moved}" if gain < 0 else "stood still"
    days = record.span_days
    span = f"{formatting.number(days)} days" if days >= 2 else f"{formatting.number(24 * days)} hours"
    opening = f"{record.subject} {what} in {span}, after costs."
    if record.interval is None:
        return f"{opening} The record is too short to say anything about a Sharpe ratio."
    low, high = record.interval
    interval = f"The 95{formatting.THIN}% interval of its Sharpe ratio, {formatting.number(low, 1)} to "
    interval += f"{formatting.number(high, 1)},"
    if low > 0:
        return f"{opening} {interval} lies above 0."
    if high < 0:
        return f"{opening} {interval} lies below 0."
    return f"{opening} {interval} includes 0: this record alone cannot tell skill from luck."


def reading(record: Record) -> list[str]:
    """What the standard error of the Sharpe ratio implies, in plain words, a paragraph each."""
    if record.interval is None:
        return [f"There are too few {record.returns} here for a Sharpe ratio; read the curves as an illustration only."]
    low, high = record.interval
    sharpe, error = formatting.number(record.sharpe, 2), formatting.number(record.sharpe_se, 2)
    judged = (
        "The interval includes 0, so a strategy without any edge could have produced this record."
        if low <= 0 <= high
        else f"The interval leaves out 0. That is evidence, not proof: it assumes independent {record.returns} and "
        "says nothing of how many variants were tried before this one."
    )
    whose = f"{record.subject}'s"
    return [
        f"{whose} Sharpe ratio is {sharpe} with a standard error of {error}. Records of this length scatter by "
        f"that much around the true value, so the true value plausibly lies between {formatting.number(low, 2)} and "
        f"{formatting.number(high, 2)} (95{formatting.THIN}%). {judged}",
        f"The standard error shrinks only with the square root of time. This run covers "
        f"{formatting.number(record.span_days / DAYS_PER_YEAR, 2)} years; to tell a true Sharpe ratio of 1 from 0 "
        "takes about four years of returns, one of 2 about one year.",
    ]


def capital_at_work(result: FederationResult) -> str:
    """How much of the account the allocator put to work, and for how long."""
    weights = result.weights.sum(axis=1)
    funded = int((weights > 0.0).sum())
    line = f"capital at work in {funded} of {len(weights)} cycles, {weights.mean():.0%} of the account on average"
    if weights[-1] == 0.0 and funded:
        last = utc(int(result.decision_ms[int(np.flatnonzero(weights)[-1])]))
        line += f"; all in cash after {last:%Y-%m-%d}: no record outweighed its uncertainty"
    return line
