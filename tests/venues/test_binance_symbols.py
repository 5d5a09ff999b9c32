"""Names of coins on Binance and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.errors import UsageError
from slipstream.venues.binance.symbols import Pair, SymbolMap

NAMES = st.text("ABCXYZ0123456789kpe", min_size=1, max_size=10)
PAIRS = st.builds(Pair, st.from_regex(r"1?0{0,6}[A-Z]{1,5}USDT", fullmatch=True), st.sampled_from([1.0, 1e-3, 1000.0]))


@pytest.mark.parametrize(
    ("coin", "symbol"),
    [
        ("BTC", "BTCUSDT"),
        ("kPEPE", "1000PEPEUSDT"),
        ("kBONK", "1000BONKUSDT"),
        ("kSHIB", "1000SHIBUSDT"),
        ("kFLOKI", "1000FLOKIUSDT"),
        ("1INCH", "1INCHUSDT"),
        ("1000000MOG", "1000000MOGUSDT"),  # a million is no thousand of 000MOG
        ("KAS", "KASUSDT"),
    ],
)
def test_the_rule_gives_every_coin_one_symbol_and_back(coin, symbol):
    names = SymbolMap()
    assert names.symbol(coin) == symbol
    assert names.coin(symbol) == coin
    assert names.cex_price_multiplier(coin) == 1.0  # a thousand on both sides


@pytest.mark.parametrize("coin", ["kpepe", "KPEPe", "btc", "xyz:GOLD", "@107", "1000PEPE", "k0X", "k", "", "PURR/USDC"])
def test_a_name_the_rule_does_not_cover_is_not_guessed(coin):
    with pytest.raises(UsageError, match="no rule"):
        SymbolMap().symbol(coin)


@pytest.mark.parametrize("symbol", ["btcusdt", "1000PEPEUSDC", "USDT", "BTCUSDT_250627", ""])
def test_a_symbol_the_rule_does_not_cover_is_not_guessed(symbol):
    with pytest.raises(UsageError, match="no rule"):
        SymbolMap().coin(symbol)


@given(st.dictionaries(NAMES, PAIRS, max_size=4), st.lists(NAMES, max_size=10), st.lists(st.text("A01Z", max_size=8)))
def test_whatever_has_a_name_on_the_other_side_comes_back_as_it_was(overrides, coins, bases):
    try:
        names = SymbolMap(overrides)
    except UsageError:
        assert len({pair.symbol for pair in overrides.values()}) < len(overrides)
        return
    seen = {}
    for coin in [*coins, *overrides]:
        try:
            symbol = names.symbol(coin)
        except UsageError:
            continue
        assert names.coin(symbol) == coin
        assert seen.setdefault(symbol, coin) == coin
    for symbol in [f"{base}USDT" for base in bases]:
        try:
            coin = names.coin(symbol)
        except UsageError:
            continue
        assert names.symbol(coin) == symbol


def test_an_override_states_what_the_rule_cannot_know():
    names = SymbolMap({"kDOGS": Pair("DOGSUSDT", 1000.0), "MOG": Pair("1000000MOGUSDT", 1e-6)})
    assert names.symbol("kDOGS") == "DOGSUSDT"
    assert names.coin("DOGSUSDT") == "kDOGS"
    assert 0.0005 * names.cex_price_multiplier("kDOGS") == pytest.approx(0.5)  # one DOGS to a thousand
    assert names.coin("1000000MOGUSDT") == "MOG"
    with pytest.raises(UsageError, match="DOGSUSDT is mapped to kDOGS"):
        names.symbol("DOGS")
    with pytest.raises(UsageError, match="kDOGS is mapped to DOGSUSDT"):
        names.coin("1000DOGSUSDT")


@pytest.mark.parametrize("factor", [0.0, -1.0, float("nan"), float("inf")])
def test_a_multiplier_is_a_positive_number(factor):
    with pytest.raises(UsageError, match="multiplier"):
        SymbolMap({"kDOGS": Pair("DOGSUSDT", factor)})
