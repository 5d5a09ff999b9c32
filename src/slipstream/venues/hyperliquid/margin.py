"""Margin tiers: how much leverage a position of some size may have, and below which equity it is liquidated.

Maintenance margin is half the initial margin at the highest leverage of the tier a position's value lies in, less a
deduction that makes it continuous across tiers: ``value / (2 * max_leverage) - deduction``. The venue cuts each
position's figure to six decimals, down, before it adds them up. Values are integers of a millionth of a dollar here
(``micro``): a price of 6 - szDecimals decimals times a size of szDecimals has exactly six. All of it is exact.

Source: the venue's pages on margining and margin tiers, and figures of accounts it answered; checked on 2026-11-22.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final

from slipstream.errors import UsageError

MICRO: Final = 1_000_000
"""Micro-dollars in a dollar."""
FIRST_LISTED_TABLE: Final = 50
"""Margin tables with a lower id are not listed: one tier whose highest leverage is the id."""


class BadMargin(UsageError):
    """Tiers contradict each other, or a position's value or leverage is impossible."""


@dataclass(frozen=True)
class MarginTier:
    """From ``lower_bound_micro`` (micro-dollars of position value) on, at most ``max_leverage``."""

    lower_bound_micro: int
    max_leverage: int


@dataclass(frozen=True)
class MarginTiers:
    """The tiers of an instrument, the smallest positions first.

    Raises:
        BadMargin: there is none, the first does not begin at zero, or bounds do not rise while leverage falls.
    """

    tiers: tuple[MarginTier, ...]
    _lines: tuple[tuple[int, int, int, int], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.tiers or self.tiers[0].lower_bound_micro != 0 or self.tiers[-1].max_leverage < 1:
            raise BadMargin("margin tiers must begin at zero and allow a leverage of at least 1")
        for lower, upper in zip(self.tiers, self.tiers[1:], strict=False):
            if upper.lower_bound_micro <= lower.lower_bound_micro or upper.max_leverage >= lower.max_leverage:
                raise BadMargin(f"margin tiers must rise in size and fall in leverage; {upper} follows {lower}")
        object.__setattr__(self, "_lines", tuple(_lines(self.tiers)))

    @classmethod
    def single(cls, max_leverage: int) -> MarginTiers:
        """One tier for positions of any size."""
        return cls((MarginTier(0, max_leverage),))

    @property
    def max_leverage(self) -> int:
        """Highest leverage, of the smallest positions."""
        return self.tiers[0].max_leverage

    def max_leverage_at(self, value_micro: int) -> int:
        """Highest leverage of a position worth ``value_micro`` (micro-dollars, its sign does not matter)."""
        value = abs(value_micro)
        return next(tier.max_leverage for tier in reversed(self.tiers) if value >= tier.lower_bound_micro)

    def maintenance_micro(self, value_micro: int) -> int:
        """Maintenance margin of one position, micro-dollars, rounded down.

        Args:
            value_micro: size times mark price, micro-dollars; its sign does not matter.
        """
        value = abs(value_micro)
        for bound, rate, deducted, whole in self._lines:
            if value >= bound:
                return (value * rate - deducted) // whole
        raise BadMargin("no margin tier begins at zero")  # the constructor has made sure that one does

    def maintenance(self, value: Fraction) -> Fraction:
        """The same before it is cut to six decimals, dollars, for a position worth ``value`` dollars (0 or more)."""
        rate, deduction = Fraction(0), Fraction(0)
        for tier in self.tiers:
            bound = Fraction(tier.lower_bound_micro, MICRO)
            if value < bound:
                break
            deduction += bound * (Fraction(1, 2 * tier.max_leverage) - rate)
            rate = Fraction(1, 2 * tier.max_leverage)
        return value * rate - deduction


def tiers_of_table(table_id: int | None, max_leverage: int, listed: dict[int, MarginTiers]) -> MarginTiers:
    """The tiers an instrument refers to.

    Args:
        table_id: its ``marginTableId``; None in answers from before there were tables.
        max_leverage: of the instrument.
        listed: the tables of ``meta``.

    Raises:
        BadMargin: the table is not listed although its id says it is.
    """
    if table_id is None:
        return MarginTiers.single(max_leverage)
    if table_id in listed:
        return listed[table_id]
    if table_id < FIRST_LISTED_TABLE:
        return MarginTiers.single(table_id)
    raise BadMargin(f"margin table {table_id} is not among {sorted(listed)}")


def initial_micro(value_micro: int, leverage: int) -> Fraction:
    """Margin a cross position of ``value_micro`` uses at ``leverage``, micro-dollars, exact.

    Raises:
        BadMargin: the leverage is below 1.
    """
    if leverage < 1:
        raise BadMargin(f"leverage must be at least 1; it is {leverage}")
    return Fraction(abs(value_micro), leverage)


def liquidation_price(mark: Fraction, size: Fraction, available: Fraction, max_leverage: int) -> Fraction | None:
    """Price at which a position's account has just its maintenance margin left; None if there is no positive one.

    Args:
        mark: mark price, dollars.
        size: signed size of the position.
        available: margin above maintenance: of the account if cross (accountValue - maintenance), else of the position.
        max_leverage: of the tier the position lies in at that price.

    Raises:
        BadMargin: the size is zero or the leverage below 1.
    """
    if size == 0 or max_leverage < 1:
        raise BadMargin("a liquidation price needs a position and a leverage of at least 1")
    side = 1 if size > 0 else -1
    price = mark - side * available / abs(size) / (1 - Fraction(side, 2 * max_leverage))
    return price if price > 0 else None


def _lines(tiers: Sequence[MarginTier]) -> list[tuple[int, int, int, int]]:
    """Per tier, the largest first: its bound, and integers so that margin = (value * rate - deducted) // whole."""
    lines = []
    rate, deduction = Fraction(0), Fraction(0)
    for tier in tiers:
        deduction += tier.lower_bound_micro * (Fraction(1, 2 * tier.max_leverage) - rate)
        rate = Fraction(1, 2 * tier.max_leverage)
        whole = rate.denominator * deduction.denominator
        lines.append((tier.lower_bound_micro, int(rate * whole), int(deduction * whole), whole))
    return lines[::-1]
