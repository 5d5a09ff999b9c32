"""What a fill costs: fee tiers by volume, discounts, and the venue's way of cutting to six decimals.

Rates are exact decimals, fractions of the value traded; negative ones are paid to the maker. A fee is the value times
the rate, cut towards zero at a millionth of a dollar; a builder's share is cut by itself and then added. Recomputed on
nine real fills, one with a builder: its 0.019785 is 0.011871 and 0.007914, where one cut of both would give 0.019786.
That a rebate is cut towards zero as well is assumed; no real one was at hand.

Source: the venue's page on fees and the schedule it answers to userFees; checked on 2026-11-22. Confirm before live
use.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from slipstream.errors import UsageError

CHECKED_ON: Final = "2026-11-22"


@dataclass(frozen=True)
class FeeTier:
    """Rates above a volume of 14 days, in dollars, weighted (spot counts twice)."""

    volume_above_usd: int
    taker: Decimal
    maker: Decimal


@dataclass(frozen=True)
class Rates:
    """What an account pays, as fractions of the value traded; a negative maker rate is a rebate."""

    taker: Decimal
    maker: Decimal


@dataclass(frozen=True)
class FillFee:
    """What a fill costs, micro-dollars.

    Attributes:
        fee_micro: the whole, as the venue's ``fee`` states it; negative is paid to the account.
        builder_micro: the builder's share of it, as ``builderFee`` states it.
    """

    fee_micro: int
    builder_micro: int


def _tier(volume_above_usd: int, taker: str, maker: str) -> FeeTier:
    return FeeTier(volume_above_usd, Decimal(taker), Decimal(maker))


PERP_TIERS: Final = (
    _tier(0, "0.00045", "0.00015"),
    _tier(5_000_000, "0.0004", "0.00012"),
    _tier(25_000_000, "0.00035", "0.00008"),
    _tier(100_000_000, "0.0003", "0.00004"),
    _tier(500_000_000, "0.00028", "0"),
    _tier(2_000_000_000, "0.00026", "0"),
    _tier(7_000_000_000, "0.00024", "0"),
)
"""Tiers of perpetuals, the smallest volume first."""

MAKER_REBATES: Final = (
    (Decimal("0.005"), Decimal("-0.00001")),
    (Decimal("0.015"), Decimal("-0.00002")),
    (Decimal("0.03"), Decimal("-0.00003")),
)
"""Share of the venue's maker volume that must be exceeded, and the maker rate from there on."""

STAKING_DISCOUNTS: Final = (
    (10, Decimal("0.05")),
    (100, Decimal("0.1")),
    (1_000, Decimal("0.15")),
    (10_000, Decimal("0.2")),
    (100_000, Decimal("0.3")),
    (500_000, Decimal("0.4")),
)
"""HYPE staked that must be exceeded, and the discount on fees."""

REFERRAL_DISCOUNT: Final = Decimal("0.04")
REFERRAL_VOLUME_USD: Final = 25_000_000
"""The referral discount ends with this volume."""
GROWTH_MODE_SCALE: Final = Decimal("0.1")
BUILDER_UNIT: Final = Decimal("0.00001")
"""A builder's fee is a whole number of tenths of a basis point."""
MOST_BUILDER_UNITS_PERP: Final = 100


def staking_discount(staked_hype: Decimal) -> Decimal:
    """Discount for staking, a fraction of the fee."""
    return max((discount for above, discount in STAKING_DISCOUNTS if staked_hype > above), default=Decimal(0))


def perp_rates(
    volume_usd: Decimal,
    maker_share: Decimal = Decimal(0),
    *,
    staking: Decimal = Decimal(0),
    referral: Decimal = Decimal(0),
    growth_mode: bool = False,
) -> Rates:
    """Rates of an account on perpetuals.

    Args:
        volume_usd: weighted volume of 14 days.
        maker_share: the account's share of the venue's maker volume.
        staking: discount for staking, a fraction.
        referral: discount for having been referred, a fraction.
        growth_mode: whether the instrument's fees are scaled to a tenth.

    Discounts multiply and lower fees only; a rebate is not discounted, but growth mode scales it, too.
    """
    tier = next(tier for tier in reversed(PERP_TIERS) if volume_usd > tier.volume_above_usd or tier is PERP_TIERS[0])
    maker = min((rate for above, rate in MAKER_REBATES if maker_share > above), default=tier.maker)
    scale = GROWTH_MODE_SCALE if growth_mode else Decimal(1)
    left = (1 - staking) * (1 - referral) * scale
    return Rates(tier.taker * left, maker * (left if maker > 0 else scale))


def builder_rate(units: int) -> Decimal:
    """A builder's fee of ``units`` tenths of a basis point, as a fraction.

    Raises:
        UsageError: there are more than a perpetual allows, or fewer than none.
    """
    if not 0 <= units <= MOST_BUILDER_UNITS_PERP:
        raise UsageError(
            f"a builder's fee must be 0 to {MOST_BUILDER_UNITS_PERP} tenths of a basis point; it is {units}"
        )
    return units * BUILDER_UNIT


def fill_fee(notional_micro: int, rate: Decimal, builder_units: int = 0) -> FillFee:
    """Fee of a fill of a perpetual.

    Args:
        notional_micro: price times size, micro-dollars, not negative.
        rate: of the account, taker or maker.
        builder_units: the builder's fee the order named, tenths of a basis point.

    Raises:
        UsageError: the value is negative, or the builder's fee out of range.
    """
    builder = _cut(notional_micro, builder_rate(builder_units))
    return FillFee(_cut(notional_micro, rate) + builder, builder)


def _cut(notional_micro: int, rate: Decimal) -> int:
    """A share of a value, cut towards zero at a whole micro-dollar."""
    if notional_micro < 0:
        raise UsageError(f"the value of a fill cannot be negative; it is {notional_micro}")
    parts, whole = rate.as_integer_ratio()
    share = notional_micro * abs(parts) // whole
    return share if parts >= 0 else -share
