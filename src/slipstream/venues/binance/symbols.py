"""Names: a Hyperliquid coin and the Binance USD-M perpetual on the same asset.

By rule, ``X`` is ``XUSDT`` and ``kX`` is ``1000XUSDT``: both venues quote a thousand of a very cheap coin. What the
rule does not cover is not guessed: where Binance has another name or another bundle (it has quoted a million of some
coins, and single ones where Hyperliquid quotes a thousand), the caller states the pair.

``cex_price_multiplier`` converts a Binance price to the venue's units before any basis is computed::

    price per coin of the venue = Binance price * cex_price_multiplier

``kPEPE`` is 1000 PEPE and so is ``1000PEPE``: the multiplier is 1.0. A coin that is 1000 of what Binance quotes singly
has 1000.0.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from slipstream.errors import UsageError

_PLAIN = re.compile(r"[A-Z0-9]+")
_BUNDLE = re.compile(r"k([A-Z1-9][A-Z0-9]*)")  # after 1000 a zero would read as a larger bundle
_BUNDLED = re.compile(r"1000([A-Z1-9][A-Z0-9]*)")


@dataclass(frozen=True)
class Pair:
    """A coin's Binance symbol, stated by hand, and the factor that converts its price."""

    symbol: str
    cex_price_multiplier: float = 1.0


@dataclass(frozen=True)
class SymbolMap:
    """The mapping; case-sensitive and one to one in both directions.

    Attributes:
        overrides: coin -> pair, for what the rule does not cover.
        quote: the quote asset of the Binance symbols.

    Raises:
        UsageError: two overrides have one symbol, or a multiplier is not a positive number.
    """

    overrides: Mapping[str, Pair] = field(default_factory=dict)
    quote: str = "USDT"

    def __post_init__(self) -> None:
        taken: dict[str, str] = {}
        for coin, pair in self.overrides.items():
            if not (math.isfinite(pair.cex_price_multiplier) and pair.cex_price_multiplier > 0):
                raise UsageError(f"{coin}: cex_price_multiplier is {pair.cex_price_multiplier}; it must be positive")
            if pair.symbol in taken:
                raise UsageError(f"{coin} and {taken[pair.symbol]} are both mapped to {pair.symbol}; one may be")
            taken[pair.symbol] = coin

    def symbol(self, coin: str) -> str:
        """The Binance symbol of a coin.

        Raises:
            UsageError: the rule does not cover the coin, or its symbol belongs to an override.
        """
        if coin in self.overrides:
            return self.overrides[coin].symbol
        bundle = _BUNDLE.fullmatch(coin)
        if bundle is None and (not _PLAIN.fullmatch(coin) or _BUNDLED.fullmatch(coin)):
            raise UsageError(f"no rule gives {coin!r} a Binance symbol; state it: overrides={{{coin!r}: Pair(...)}}")
        symbol = f"1000{bundle[1]}{self.quote}" if bundle is not None else f"{coin}{self.quote}"
        owner = self._stated(symbol)
        if owner is not None:
            raise UsageError(f"{symbol} is mapped to {owner} by hand, so {coin} has no symbol; state that one, too")
        return symbol

    def coin(self, symbol: str) -> str:
        """The coin of a Binance symbol.

        Raises:
            UsageError: the rule does not cover the symbol, or its coin belongs to an override.
        """
        stated = self._stated(symbol)
        if stated is not None:
            return stated
        base = symbol.removesuffix(self.quote)
        if base == symbol or not _PLAIN.fullmatch(base):
            raise UsageError(f"no rule gives {symbol!r} a coin: it is not upper case ending in {self.quote}")
        bundled = _BUNDLED.fullmatch(base)
        coin = f"k{bundled[1]}" if bundled is not None else base
        if coin in self.overrides:
            raise UsageError(f"{coin} is mapped to {self.overrides[coin].symbol} by hand, so {symbol} has no coin")
        return coin

    def cex_price_multiplier(self, coin: str) -> float:
        """Factor from a Binance price to the venue's units; 1.0 by the rule."""
        pair = self.overrides.get(coin)
        return 1.0 if pair is None else pair.cex_price_multiplier

    def _stated(self, symbol: str) -> str | None:
        return next((coin for coin, pair in self.overrides.items() if pair.symbol == symbol), None)
