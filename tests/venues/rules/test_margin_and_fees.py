"""Margin and fees to the last millionth of a dollar, on figures the venue answered."""

from __future__ import annotations

import json
from decimal import Decimal
from fractions import Fraction
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recorded_metas import instruments, margin_tables

from slipstream.errors import UsageError
from slipstream.venues.hyperliquid.fees import (
    BUILDER_UNIT,
    MAKER_REBATES,
    PERP_TIERS,
    REFERRAL_DISCOUNT,
    STAKING_DISCOUNTS,
    FillFee,
    Rates,
    builder_rate,
    fill_fee,
    perp_rates,
    staking_discount,
)
from slipstream.venues.hyperliquid.margin import (
    MICRO,
    BadMargin,
    MarginTier,
    MarginTiers,
    initial_micro,
    liquidation_price,
)
from slipstream.venues.hyperliquid.wire_numbers import to_units

STATES = ("hypaper_09_clearinghouseState", "hypaper_17_clearinghouseState", "hypaper_24_clearinghouse_subacct_format",
          "hypaper_24_clearinghouse_wallet1_post", "m2026_clearinghouseState")  # fmt: skip
values = st.integers(0, 10**17)


@cache
def every_tiers(shared):
    """Of every recorded instrument, and of every known margin table."""
    tabled = [
        MarginTiers(tuple(MarginTier(bound * MICRO, leverage) for bound, leverage in tiers))
        for tiers in margin_tables(shared).values()
    ]
    assert len(tabled) == 6
    return [*dict.fromkeys(one.tiers for one in instruments(shared)), *tabled]


def by_hand(tiers, value):
    """Maintenance as an integral: each dollar at half the initial margin of its own tier; no deduction appears."""
    bounds = [Fraction(tier.lower_bound_micro, MICRO) for tier in tiers.tiers] + [None]
    return sum(
        max(Fraction(0), (value if upper is None else min(value, upper)) - lower) / (2 * tier.max_leverage)
        for tier, lower, upper in zip(tiers.tiers, bounds, bounds[1:], strict=False)
    )


@given(st.data())
def test_maintenance_is_each_dollar_at_its_tiers_rate_cut_to_six_decimals(shared, data):
    tiers = data.draw(st.sampled_from(every_tiers(shared)))
    bounds = [tier.lower_bound_micro for tier in tiers.tiers]
    micro = data.draw(
        values | st.sampled_from(bounds) | st.builds(max, st.just(0), st.sampled_from(bounds).map(lambda b: b - 1))
    )
    exact = by_hand(tiers, Fraction(micro, MICRO))
    assert tiers.maintenance(Fraction(micro, MICRO)) == exact
    assert tiers.maintenance_micro(micro) == tiers.maintenance_micro(-micro) == exact * MICRO // 1


@given(st.data())
def test_maintenance_does_not_fall_or_jump_as_a_position_grows(shared, data):
    tiers = data.draw(st.sampled_from(every_tiers(shared)))
    micro = data.draw(values)
    step = tiers.maintenance_micro(micro + 1) - tiers.maintenance_micro(micro)
    assert step in (0, 1)
    assert tiers.max_leverage_at(micro + 1) <= tiers.max_leverage_at(micro)


@pytest.mark.parametrize("name", STATES)
def test_the_maintenance_the_venue_answered_is_ours(shared, name):
    """Cut per position: 3.208153 and not 3.208154, which adding first would give."""
    state = json.loads((shared / "vectors/info" / f"{name}.json").read_text())["response"]
    ours = 0
    for entry in state["assetPositions"]:
        position = entry["position"]
        worth = to_units(position["positionValue"], 6)
        ours += MarginTiers.single(position["maxLeverage"]).maintenance_micro(worth)
        assert initial_micro(worth, position["leverage"]["value"]) // 1 == to_units(position["marginUsed"], 6)
    assert ours == to_units(state["crossMaintenanceMarginUsed"], 6)


def test_the_documented_liquidation_price_is_ours():
    """The example of the venue's page on accounts: an isolated long of ETH at 20 times, ETH allowing 50."""
    size, worth, used = Fraction("0.0335"), Fraction("100.02765"), Fraction("4.967826")
    found = liquidation_price(worth / size, size, used - worth / 100, 50)
    assert round(float(found), 4) == 2866.2694


@given(
    st.fractions(1, 10**5, max_denominator=100),
    st.fractions(-(10**4), 10**4, max_denominator=1000).filter(bool),
    st.fractions(0, 10**6, max_denominator=100),
    st.integers(2, 50),
)
def test_at_the_liquidation_price_nothing_is_left_above_maintenance(mark, size, available, leverage):
    found = liquidation_price(mark, size, available, leverage)
    if found is not None:
        maintenance = abs(size) * (found - mark) / (2 * leverage)
        assert available + size * (found - mark) == maintenance


@pytest.mark.parametrize(
    "tiers",
    [(), ((1, 10),), ((0, 10), (0, 5)), ((0, 10), (5, 10)), ((0, 5), (5, 10)), ((0, 0),)],
)
def test_tiers_that_contradict_each_other_are_refused(tiers):
    with pytest.raises(BadMargin):
        MarginTiers(tuple(MarginTier(*tier) for tier in tiers))


def recorded_fills(shared):
    """Fills of perpetuals at the lowest tier, taken or made, with and without a builder."""
    fills = []
    for name in ("hypaper_07_userFills", "hypaper_28_userTwapSliceFills"):
        rows = json.loads((shared / "vectors/info" / f"{name}.json").read_text())["response"]
        fills += [row.get("fill", row) for row in rows]
    fills.append(
        next(
            fill
            for fill in every_dict(json.loads((shared / "vectors/ws/frames.json").read_text()))
            if "builderFee" in fill
        )
    )
    return fills


def every_dict(value):
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return ([value] if isinstance(value, dict) else []) + [found for member in inner for found in every_dict(member)]


def test_the_real_fills_cost_what_the_venue_charged(shared):
    rates = perp_rates(Decimal(0))
    fills = recorded_fills(shared)
    assert len(fills) >= 8
    for fill in fills:
        notional = to_units(str(Decimal(fill["px"]) * Decimal(fill["sz"])), 6)
        builder = 10 if "builderFee" in fill else 0
        cost = fill_fee(notional, rates.taker if fill["crossed"] else rates.maker, builder)
        assert cost == FillFee(to_units(fill["fee"], 6), to_units(fill.get("builderFee", "0"), 6)), fill


def test_the_fills_of_the_verified_identities_cost_what_they_say(shared):
    rows = json.loads((shared / "vectors/rules/verified_identities.json").read_text())["rows"]
    samples = next(row["samples"] for row in rows if "perp fee" in row["fact"])
    assert len(samples) == 4
    for px, sz, rates, charged in samples:
        rate, *builder = [Decimal(part.split()[0]) for part in rates.split("+")]
        units = int(builder[0] / BUILDER_UNIT) if builder else 0
        assert fill_fee(to_units(str(Decimal(px) * Decimal(sz)), 6), rate, units).fee_micro == to_units(charged, 6)


def test_the_builders_share_is_cut_by_itself():
    assert fill_fee(79_146_000, Decimal("0.00015"), 10) == FillFee(11_871 + 7_914, 7_914)
    assert fill_fee(79_146_000, Decimal("0.00025")) == FillFee(19_786, 0)


def test_our_tiers_are_the_ones_the_venue_answers(shared):
    schedule = json.loads((shared / "vectors/info/hypaper_13_userFees.json").read_text())["response"]["feeSchedule"]
    base, *rest = PERP_TIERS
    assert (base.taker, base.maker) == (Decimal(schedule["cross"]), Decimal(schedule["add"]))
    assert [(t.volume_above_usd, t.taker, t.maker) for t in rest] == [
        (Decimal(t["ntlCutoff"]), Decimal(t["cross"]), Decimal(t["add"])) for t in schedule["tiers"]["vip"]
    ]
    assert list(MAKER_REBATES) == [
        (Decimal(t["makerFractionCutoff"]), Decimal(t["add"])) for t in schedule["tiers"]["mm"]
    ]
    assert Decimal(schedule["referralDiscount"]) == REFERRAL_DISCOUNT
    assert [d for _, d in STAKING_DISCOUNTS] == [Decimal(t["discount"]) for t in schedule["stakingDiscountTiers"][1:]]


def test_a_tier_begins_above_its_volume():
    assert perp_rates(Decimal(5_000_000)).taker == Decimal("0.00045")
    assert perp_rates(Decimal("5000000.01")) == Rates(Decimal("0.0004"), Decimal("0.00012"))
    assert perp_rates(Decimal(10**11)).taker == Decimal("0.00024")


def test_discounts_lower_fees_and_not_rebates():
    half = perp_rates(Decimal(0), staking=Decimal("0.4"), referral=Decimal("0.04"))
    assert half == Rates(Decimal("0.00045") * Decimal("0.576"), Decimal("0.00015") * Decimal("0.576"))
    rebated = perp_rates(Decimal(10**9), Decimal("0.02"), staking=Decimal("0.4"))
    assert rebated == Rates(Decimal("0.00028") * Decimal("0.6"), Decimal("-0.00002"))
    assert perp_rates(Decimal(0), growth_mode=True) == Rates(Decimal("0.000045"), Decimal("0.000015"))


@pytest.mark.parametrize(("staked", "discount"), [(10, 0), ("10.1", "0.05"), (500_000, "0.3"), (10**7, "0.4")])
def test_a_staking_discount_begins_above_its_stake(staked, discount):
    assert staking_discount(Decimal(staked)) == Decimal(discount)


@given(values, st.decimals(Decimal("-0.0003"), Decimal("0.002"), places=8))
def test_a_fee_is_cut_towards_zero(notional, rate):
    exact = Fraction(notional) * Fraction(rate)
    fee = fill_fee(notional, rate).fee_micro
    assert abs(fee) == abs(exact) // 1
    assert fee * exact >= 0


def test_impossible_fees_are_refused():
    with pytest.raises(UsageError, match="builder's fee"):
        builder_rate(101)
    with pytest.raises(UsageError, match="negative"):
        fill_fee(-1, Decimal("0.1"))
