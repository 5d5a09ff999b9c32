"""What may be ordered: exact prices and sizes of an instrument, rounding by side, and the smallest order.

A price has at most five significant figures and at most 6 - szDecimals decimals (8 - szDecimals on spot), except that
whole dollars are always allowed. A size has at most szDecimals decimals. Both are integers here, of the finest step the
instrument knows, so nothing is ever compared or added as a binary float; a price off its grid, and a size of zero or of
part of a lot, cannot be made.

Source: the venue's pages on tick and lot size and on contracts, and probes of its testnet; checked on 2026-11-22.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from enum import Enum
from typing import Final, Literal

from slipstream.errors import UsageError
from slipstream.venues.hyperliquid.margin import MarginTiers
from slipstream.venues.hyperliquid.wire_numbers import BadNumber, to_units, units_text, wire_text

CHECKED_ON: Final = "2026-11-22"

SIGNIFICANT_FIGURES: Final = 5
PERP_DECIMALS: Final = 6
"""Decimals of a price and of a size together; so of a position's value, too."""
SPOT_DECIMALS: Final = 8
MINIMUM_NOTIONAL_USD: Final = 10
MARKET_ORDER_LIMITS_USD: Final = ((25, 15_000_000), (20, 5_000_000), (10, 2_000_000), (0, 500_000))
"""Leverage an instrument allows at least, and the largest market order in it; a limit order may be ten times that."""
_WIDEST: Final = 40
"""Decimal places above and below the point within which numbers are rounded."""

Side = Literal["bid", "ask"]
Numeric = Decimal | int | str | float


class BadPrice(UsageError):
    """A price is not positive or not on the instrument's grid."""


class BadSize(UsageError):
    """A size is zero, negative or not whole lots."""


class TimeInForce(Enum):
    """How long an order may rest."""

    GTC = "Gtc"
    IOC = "Ioc"
    ALO = "Alo"


@dataclass(frozen=True, order=True, slots=True)
class Price:
    """A price an instrument allows; prices of one instrument compare as numbers.

    Attributes:
        units: the price in ``10**-decimals`` dollars, above zero.
        decimals: the most a price of the instrument may have.

    Raises:
        BadPrice: the price is not on the grid.
    """

    units: int
    decimals: int

    def __post_init__(self) -> None:
        if self.units <= 0:
            raise BadPrice(f"price {self.text} must be above zero")
        if self.units % tick_units(self.units, self.decimals):
            raise BadPrice(
                f"price {self.text} has more than {SIGNIFICANT_FIGURES} significant figures; round it to a multiple of "
                f"{units_text(tick_units(self.units, self.decimals), self.decimals)}"
            )

    @property
    def text(self) -> str:
        """As it is sent."""
        return units_text(self.units, self.decimals)


@dataclass(frozen=True, order=True, slots=True)
class Size:
    """A size an instrument allows; sizes of one instrument compare as numbers.

    Attributes:
        lots: whole lots, at least one.
        sz_decimals: a lot is ``10**-sz_decimals`` coins.

    Raises:
        BadSize: there is not one whole lot.
    """

    lots: int
    sz_decimals: int

    def __post_init__(self) -> None:
        if self.lots < 1:
            raise BadSize(
                f"size {self.text} must be at least one lot, {units_text(1, self.sz_decimals)}; a position's own TP/SL "
                f"order, sent as size 0, has no size"
            )

    @property
    def text(self) -> str:
        """As it is sent."""
        return units_text(self.lots, self.sz_decimals)


@dataclass(frozen=True)
class PerpInstrument:
    """A perpetual and its rules.

    Raises:
        UsageError: sizes have more than six decimals, for which no rule of prices is known.

    Attributes:
        coin: case-sensitive name, ``dex:COIN`` on a dex of builders.
        asset_id: the number orders name it by.
        sz_decimals: decimals of a size.
        tiers: leverage and maintenance margin by position value.
        cross_allowed: whether a position may share the account's margin.
        margin_removable: whether margin may be taken out of an isolated position.
        is_delisted: trading has ended.
        growth_mode: fees are a tenth.
    """

    coin: str
    asset_id: int
    sz_decimals: int
    tiers: MarginTiers
    cross_allowed: bool = True
    margin_removable: bool = True
    is_delisted: bool = False
    growth_mode: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.sz_decimals <= PERP_DECIMALS:
            raise UsageError(f"{self.coin}: szDecimals must be 0 to {PERP_DECIMALS}; it is {self.sz_decimals}")

    @property
    def price_decimals(self) -> int:
        """Most decimals of a price; with those of a size they are six."""
        return PERP_DECIMALS - self.sz_decimals

    @property
    def largest_market_order_usd(self) -> int:
        """Value a market order may have at most; a limit order may have ten times that."""
        return next(usd for leverage, usd in MARKET_ORDER_LIMITS_USD if self.tiers.max_leverage >= leverage)

    def price(self, text: str) -> Price:
        """A price as it was sent.

        Raises:
            BadPrice: it is no decimal above zero, or not on the grid.
        """
        try:
            return Price(to_units(text, self.price_decimals, f"{self.coin} price"), self.price_decimals)
        except BadNumber as problem:
            raise BadPrice(str(problem)) from problem

    def size(self, text: str) -> Size:
        """A size as it was sent.

        Raises:
            BadSize: it is no decimal of whole lots, at least one.
        """
        try:
            return Size(to_units(text, self.sz_decimals, f"{self.coin} size"), self.sz_decimals)
        except BadNumber as problem:
            raise BadSize(str(problem)) from problem

    def notional_micro(self, price: Price, size: Size) -> int:
        """Price times size, micro-dollars, exact.

        Raises:
            UsageError: the price or the size is of an instrument with other decimals.
        """
        if price.decimals != self.price_decimals or size.sz_decimals != self.sz_decimals:
            raise UsageError(f"{self.coin}: price {price.text} or size {size.text} was made for another instrument")
        return price.units * size.lots

    def below_minimum(
        self, price: Price, size: Size, *, is_buy: bool, tif: TimeInForce, reduce_only: bool, position_lots: int
    ) -> bool:
        """Whether an order is refused for being worth less than 10 dollars at its limit price.

        What ends a position is let through at any value: a reduce-only order against it of at least its size, and an
        IOC order of exactly its size even if it is not marked reduce-only. A partial close is not.

        Args:
            price: limit price.
            size: of the order.
            is_buy: its side.
            tif: time in force.
            reduce_only: whether it is marked so.
            position_lots: the account's position in the instrument, lots, negative if short.
        """
        if self.notional_micro(price, size) >= MINIMUM_NOTIONAL_USD * 10**PERP_DECIMALS:
            return False
        against = position_lots < 0 if is_buy else position_lots > 0
        held = abs(position_lots)
        ends_it = against and ((reduce_only and size.lots >= held) or (tif is TimeInForce.IOC and size.lots == held))
        return not ends_it


def round_price(px: Numeric, sz_decimals: int, side: Side, *, spot: bool = False) -> Decimal:
    """The nearest allowed price that is not more aggressive: down for a bid, up for an ask.

    Args:
        px: a positive number; a float counts as the shortest decimal that reads back as it.
        sz_decimals: of the instrument.
        side: ``"bid"`` or ``"ask"``.
        spot: whether the instrument is a spot pair.

    Raises:
        BadPrice: ``px`` is not a positive finite number, or a bid lies below the lowest price.
        UsageError: ``side`` is neither.
    """
    if side not in ("bid", "ask"):
        raise UsageError(f'side must be "bid" or "ask"; it is {side!r}')
    number = _positive(px)
    tick = _tick_exponent(number, sz_decimals, spot)
    rounded = _multiples(number, tick, up=side == "ask")
    if rounded == 0:
        raise BadPrice(f"a bid at {px} is below the lowest price, {wire_text(Decimal(f'1E{tick}'))}")
    return Decimal(f"{rounded}E{tick}")


def round_size(sz: Numeric, sz_decimals: int) -> Decimal:
    """The largest allowed size that is not larger.

    Raises:
        BadSize: ``sz`` is not a number of at least one lot.
    """
    try:
        number = _positive(sz)
    except BadPrice as problem:
        raise BadSize(str(problem)) from problem
    lots = Size(_multiples(number, -sz_decimals, up=False), sz_decimals).lots
    return Decimal(f"{lots}E{-sz_decimals}")


def venue_tick(px: Numeric, sz_decimals: int, *, spot: bool = False) -> Decimal:
    """Distance from ``px`` to the next higher allowed price, if ``px`` is one: at most one dollar.

    Raises:
        BadPrice: ``px`` is not a positive finite number.
    """
    return Decimal(f"1E{_tick_exponent(_positive(px), sz_decimals, spot)}")


def tick_units(units: int, decimals: int) -> int:
    """The tick at a price of ``units`` times ``10**-decimals``, in the same units."""
    figures = len(str(abs(units)))
    return int(10 ** min(max(0, figures - SIGNIFICANT_FIGURES), decimals))


def _tick_exponent(number: Decimal, sz_decimals: int, spot: bool) -> int:
    decimals = max(0, (SPOT_DECIMALS if spot else PERP_DECIMALS) - sz_decimals)
    return min(0, max(number.adjusted() - SIGNIFICANT_FIGURES + 1, -decimals))


def _multiples(number: Decimal, exponent: int, *, up: bool) -> int:
    """How many times ``10**exponent`` (not above 0) goes into a number, exactly."""
    parts, whole = number.as_integer_ratio()
    scaled: int = parts * 10**-exponent
    return -(-scaled // whole) if up else scaled // whole


def _positive(value: Numeric) -> Decimal:
    try:
        number = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    except InvalidOperation as problem:
        raise BadPrice(f"{value!r} is no number") from problem
    if not number.is_finite() or number <= 0 or abs(number.adjusted()) > _WIDEST:
        raise BadPrice(f"{value} must be a finite number above zero")
    return number
