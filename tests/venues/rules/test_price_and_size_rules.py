"""Prices and sizes are exact, on the venue's grid, and rounded away from the other side."""

from __future__ import annotations

import json
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from recorded_metas import bodies, instruments

from slipstream.errors import UsageError
from slipstream.venues.errors import BadAnswer
from slipstream.venues.hyperliquid.instrument_rules import (
    BadPrice,
    BadSize,
    PerpInstrument,
    Price,
    Size,
    TimeInForce,
    round_price,
    round_size,
    tick_units,
    venue_tick,
)
from slipstream.venues.hyperliquid.instruments import asset_id, read_instruments
from slipstream.venues.hyperliquid.margin import MarginTiers
from slipstream.venues.hyperliquid.wire_numbers import (
    BadNumber,
    answer_text,
    canonical_text,
    to_units,
    units_text,
    wire_text,
)

GTC, IOC, ALO = TimeInForce.GTC, TimeInForce.IOC, TimeInForce.ALO
sz_decimals = st.integers(0, 6)
prices = st.decimals(Decimal("0.000001"), Decimal(10**9), allow_nan=False, allow_infinity=False)


def instrument(decimals):
    return PerpInstrument("BTC", 0, decimals, MarginTiers.single(40))


def allowed(text, decimals):
    """The rule as the venue words it, on the digits of the text: an independent reading."""
    whole, _, fraction = text.partition(".")
    fraction = fraction.rstrip("0")
    if not fraction:
        return int(whole) > 0
    figures = (whole + fraction).lstrip("0")
    return len(fraction) <= 6 - decimals and len(figures) <= 5


@given(prices, sz_decimals)
@example(Decimal("123456"), 5)
@example(Decimal("12345.6"), 1)
@example(Decimal("1234.5"), 5)
@example(Decimal("0.0012345"), 0)
@example(Decimal("0.001234"), 0)
@example(Decimal("0.01234"), 2)
def test_a_price_can_be_made_exactly_if_the_venue_allows_it(px, decimals):
    text = format(px, "f")
    assume(len(text) <= 40)
    if allowed(text, decimals):
        price = instrument(decimals).price(text)
        assert Decimal(price.text) == px
        assert price.text == canonical_text(text)
    else:
        with pytest.raises(BadPrice):
            instrument(decimals).price(text)


@pytest.mark.parametrize(
    ("text", "decimals", "fine"),
    [("123456", 5, True), ("12345.6", 1, False), ("1234.5", 1, True), ("0.001234", 0, True), ("0.0012345", 0, False)],
)
def test_the_documented_examples_hold(text, decimals, fine):
    assert allowed(text, decimals) is fine


@given(st.data())
def test_rounding_gives_the_nearest_allowed_price_on_the_passive_side(shared, data):
    one = data.draw(st.sampled_from(instruments(shared)))
    px = data.draw(prices)
    ask = round_price(px, one.sz_decimals, "ask")
    assert ask >= px
    assert one.price(wire_text(ask)).text == wire_text(ask)
    try:
        bid = round_price(px, one.sz_decimals, "bid")
    except BadPrice:
        assert px < Decimal(1).scaleb(-one.price_decimals)
        return
    assert bid <= px
    assert one.price(wire_text(bid)).text == wire_text(bid)
    # nothing allowed lies between: one finest step inside either is off the grid, unless px itself is allowed
    assert (ask == bid) == allowed(format(px, "f"), one.sz_decimals)
    if ask != bid:
        assert ask - bid == venue_tick(px, one.sz_decimals)
        units = to_units(wire_text(bid), one.price_decimals)
        step = to_units(wire_text(ask), one.price_decimals) - units
        assert step == tick_units(units, one.price_decimals)


@given(prices, sz_decimals, st.sampled_from(["bid", "ask"]))
def test_rounding_twice_changes_nothing(px, decimals, side):
    assume(side == "ask" or px >= 1)
    once = round_price(px, decimals, side)
    assert round_price(once, decimals, side) == once
    assert round_price(once, decimals, "bid") == round_price(once, decimals, "ask") == once


def test_rounding_works_on_decimals_and_not_on_binary_floats():
    assert round_price(0.3, 0, "ask") == Decimal("0.3")  # as a binary float, 0.3 lies just below
    assert round_price(1.1, 2, "bid") == Decimal("1.1")
    assert round_price("100000.7", 5, "bid") == 100_000
    assert round_price("99999.5", 5, "ask") == 100_000
    assert round_price(Decimal("1234.56"), 1, "bid") == Decimal("1234.5")
    assert round_price(Decimal("0.12345678"), 0, "ask") == Decimal("0.12346")
    assert round_price(Decimal("0.12345678"), 0, "ask", spot=True) == Decimal("0.12346")
    assert round_price(Decimal("0.00012345678"), 0, "bid", spot=True) == Decimal("0.00012345")
    assert round_price(Decimal("0.00012345678"), 0, "bid") == Decimal("0.000123")


@pytest.mark.parametrize(
    ("px", "decimals", "tick"),
    [
        ("84143", 5, "1"),
        ("8414.3", 4, "0.1"),
        ("115.03", 2, "0.01"),
        ("0.0123", 0, "0.000001"),
        ("9.5", 5, "0.1"),
        ("500000", 5, "1"),
    ],
)
def test_the_venues_tick_follows_the_price(px, decimals, tick):
    assert venue_tick(px, decimals) == Decimal(tick)


@pytest.mark.parametrize("px", [0, -1, float("nan"), float("inf"), Decimal("NaN"), "abc", "", Decimal("1E+999999")])
def test_what_is_no_positive_number_is_no_price_and_no_size(px):
    with pytest.raises(BadPrice):
        round_price(px, 2, "bid")
    with pytest.raises(BadPrice):
        venue_tick(px, 2)
    with pytest.raises(BadSize):
        round_size(px, 2)


def test_a_side_that_is_no_side_is_refused():
    with pytest.raises(UsageError, match='"bid" or "ask"'):
        round_price(1, 2, "buy")


@given(st.decimals(Decimal("0.0000001"), Decimal(10**9), allow_nan=False), sz_decimals)
def test_a_size_is_cut_to_whole_lots_and_never_to_nothing(sz, decimals):
    lot = Decimal(1).scaleb(-decimals)
    if sz < lot:
        with pytest.raises(BadSize, match="at least one lot"):
            round_size(sz, decimals)
        return
    cut = round_size(sz, decimals)
    assert 0 <= Fraction(sz) - Fraction(cut) < Fraction(lot)
    assert instrument(decimals).size(wire_text(cut)).text == wire_text(cut)


@pytest.mark.parametrize(
    "text", ["0", "0.0", "-1", "0.000001", "0.00002", "1e3", "+1", " 1", "1.", ".5", "NaN", "\u0661", "1" * 41]
)
def test_a_zero_or_partial_lot_or_unreadable_size_cannot_be_made(text):
    if text == "0.00002":
        assert instrument(5).size(text) == Size(2, 5)
    else:
        with pytest.raises(BadSize):
            instrument(5).size(text)


@pytest.mark.parametrize(("made", "lots"), [(Size, 0), (Size, -1), (Price, 0), (Price, -5)])
def test_no_way_round_the_constructor(made, lots):
    with pytest.raises((BadSize, BadPrice)):
        made(lots, 3)


@given(st.integers(-(10**18), 10**18), st.integers(0, 8))
def test_units_and_text_are_two_ways_of_writing_one_number(units, decimals):
    text = units_text(units, decimals)
    assert to_units(text, decimals) == units
    assert Decimal(text) == Decimal(units).scaleb(-decimals)
    assert text == canonical_text(text) == wire_text(Decimal(units).scaleb(-decimals))
    assert "." not in text or text[-1] != "0"
    answered = answer_text(units, decimals)
    assert Decimal(answered) == Decimal(text)
    assert "." in answered


def test_wire_text_has_neither_exponents_nor_negative_zeros():
    assert [wire_text(Decimal(t)) for t in ("1E+3", "1E-7", "-0.0", "100.10", "0E+5")] == [
        "1000",
        "0.0000001",
        "0",
        "100.1",
        "0",
    ]
    with pytest.raises(BadNumber, match="finite"):
        wire_text(Decimal("Infinity"))


@given(st.data())
def test_the_value_of_an_order_is_a_whole_number_of_micro_dollars(shared, data):
    one = data.draw(st.sampled_from(instruments(shared)))
    price = one.price(wire_text(round_price(data.draw(prices), one.sz_decimals, "ask")))
    size = Size(data.draw(st.integers(1, 10**9)), one.sz_decimals)
    assert Fraction(one.notional_micro(price, size), 10**6) == Fraction(price.text) * Fraction(size.text)


def below(px, sz, *, is_buy=True, tif=GTC, reduce_only=False, position="0"):
    one = instrument(3)
    return one.below_minimum(
        one.price(px),
        one.size(sz),
        is_buy=is_buy,
        tif=tif,
        reduce_only=reduce_only,
        position_lots=to_units(position, 3),
    )


def test_an_order_is_worth_ten_dollars_at_its_limit_price():
    assert not below("1000", "0.01")
    assert below("999.9", "0.01")


@pytest.mark.parametrize("tif", TimeInForce)
def test_a_partial_close_is_worth_ten_dollars_too(tif):
    assert below("100", "0.05", is_buy=False, tif=tif, reduce_only=True, position="0.06")
    assert below("100", "0.05", is_buy=True, tif=tif, reduce_only=True, position="-0.06")


@pytest.mark.parametrize("tif", TimeInForce)
@pytest.mark.parametrize("size", ["0.05", "0.06"])
def test_a_reduce_only_order_that_ends_the_position_may_be_worth_less(tif, size):
    assert not below("100", size, is_buy=False, tif=tif, reduce_only=True, position="0.05")
    assert not below("100", size, is_buy=True, tif=tif, reduce_only=True, position="-0.05")


def test_an_ioc_order_of_exactly_the_position_may_be_worth_less_without_being_reduce_only():
    assert not below("100", "0.05", is_buy=False, tif=IOC, position="0.05")
    assert below("100", "0.06", is_buy=False, tif=IOC, position="0.05")  # this one would turn the position round
    assert below("100", "0.05", is_buy=False, tif=GTC, position="0.05")


@pytest.mark.parametrize("position", ["0", "0.05"])
def test_an_order_that_ends_nothing_is_not_exempt(position):
    assert below("100", "0.05", is_buy=True, tif=IOC, reduce_only=True, position=position)


def test_every_recorded_universe_is_read(shared):
    counts = {name: [len(read_instruments(body)) for body in answers] for name, answers in bodies(shared).items()}
    assert counts["m2026_meta_first6"] == [6]
    assert counts["all dexs"] == [1, 1, 1]
    assert sum(map(len, counts.values())) >= 10
    for answers in bodies(shared).values():
        for body in answers:
            universe = json.loads(body)["universe"]
            read = read_instruments(body)
            assert [one.coin for one in read] == [entry["name"] for entry in universe]
            assert [one.asset_id for one in read] == list(range(len(universe)))  # delisted ones keep their place
            assert [one.tiers.max_leverage for one in read] == [entry["maxLeverage"] for entry in universe]


def test_the_universe_of_2026_has_tiers_and_delisted_coins(shared):
    btc, eth, atom, matic, dydx, sol = read_instruments(bodies(shared)["m2026_meta_first6"][0])
    assert [len(one.tiers.tiers) for one in (btc, eth, atom, matic, dydx, sol)] == [2, 2, 1, 1, 1, 2]
    assert matic.is_delisted
    assert not btc.is_delisted
    assert btc.tiers.max_leverage_at(150_000_000 * 10**6) == 20
    assert [one.largest_market_order_usd for one in (btc, eth, sol, dydx)] == [
        15_000_000,
        15_000_000,
        5_000_000,
        500_000,
    ]


def test_how_margin_may_be_held_is_read():
    body = json.dumps(
        {
            "universe": [
                {"name": "A", "szDecimals": 1, "maxLeverage": 3, "marginTableId": 3},
                {"name": "B", "szDecimals": 1, "maxLeverage": 3, "marginTableId": 3, "onlyIsolated": True},
                {"name": "C", "szDecimals": 1, "maxLeverage": 3, "marginTableId": 3, "marginMode": "noCross"},
                {"name": "D", "szDecimals": 1, "maxLeverage": 3, "marginTableId": 3, "marginMode": "strictIsolated"},
                {"name": "E", "szDecimals": 1, "maxLeverage": 3, "marginTableId": 3, "growthMode": "enabled"},
            ]
        }
    ).encode()
    read = read_instruments(body)
    assert [one.cross_allowed for one in read] == [True, False, False, False, True]
    assert [one.margin_removable for one in read] == [True, True, True, False, True]
    assert [one.growth_mode for one in read] == [False, False, False, False, True]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"[]", "meta: "),
        (b'{"universe": [{"name": "A", "szDecimals": 7, "maxLeverage": 3}]}', "szDecimals 7"),
        (
            b'{"universe": [{"name": "A", "szDecimals": 1, "maxLeverage": 3, "marginTableId": 51}]}',
            "table 51 is not among",
        ),
        (b'{"universe": [{"name": "A", "szDecimals": 1, "maxLeverage": 0}]}', "leverage of at least 1"),
        (
            b'{"universe": [], "marginTables": [[51, {"marginTiers": [{"lowerBound": "x", "maxLeverage": 3}]}]]}',
            "margin table 51",
        ),
        (b'{"universe": [], "marginTables": [[51, {"marginTiers": []}]]}', "must begin at zero"),
    ],
)
def test_an_answer_that_cannot_be_used_is_refused_by_name(body, said):
    with pytest.raises(BadAnswer, match=said):
        read_instruments(body)


def test_orders_name_an_instrument_of_a_builder_by_a_number_of_its_dex():
    assert [asset_id(0, 7), asset_id(1, 0), asset_id(3, 12)] == [7, 110_000, 130_012]


def test_a_price_of_another_instrument_is_not_multiplied():
    with pytest.raises(UsageError, match="made for another instrument"):
        instrument(3).notional_micro(Price(100, 1), Size(1, 3))
