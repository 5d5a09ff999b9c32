"""The part of ``config/brawler.yml`` that a recording needs; each key is used, and any other is an error.

    binance_ws_url, hyperliquid_ws_url, hyperliquid_rest_url    addresses of the venues
    assets.<SYMBOL>.symbol                                      the same name again: the key is what is traded
    assets.<SYMBOL>.cex_symbol                                  Binance's name; default by the house's mapping

Later sections of the file get types of their own beside these; the reader then names them in :class:`BrawlerFile`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import msgspec

from slipstream.errors import UsageError
from slipstream.ingest.recorder.csv_tables import Asset
from slipstream.venues.binance import stream as binance
from slipstream.venues.binance.symbols import SymbolMap
from slipstream.venues.hyperliquid import info
from slipstream.venues.hyperliquid import stream as hyperliquid


class AssetSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One coin."""

    symbol: str
    cex_symbol: str | None = None


class BrawlerFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file."""

    assets: dict[str, AssetSection]
    binance_ws_url: str = binance.WS_URL
    hyperliquid_ws_url: str = hyperliquid.WS_URL
    hyperliquid_rest_url: str = info.MAINNET

    def recorded(self, symbols: Sequence[str] | None, file: Path) -> tuple[Asset, ...]:
        """The coins to record, in the file's order.

        Args:
            symbols: names to keep (default: all).
            file: for messages.

        Raises:
            UsageError: a symbol that is not configured.
        """
        for symbol in symbols or ():
            if symbol not in self.assets:
                same = [name for name in self.assets if name.casefold() == symbol.casefold()]
                near = same or get_close_matches(symbol, list(self.assets), n=1, cutoff=0.0)
                raise UsageError(f"{file}: assets has no {symbol}; did you mean {near[0]}? Names are case-sensitive")
        return tuple(
            Asset(name, section.cex_symbol or SymbolMap().symbol(name).lower())
            for name, section in self.assets.items()
            if symbols is None or name in symbols
        )


def read_brawler_file(file: Path) -> BrawlerFile:
    """Read and check the file (YAML or JSON).

    Raises:
        UsageError: it is absent or unreadable, a key is unknown (the nearest one is named), a value has a wrong type,
            an asset's ``symbol`` differs from its key, or two assets share a name at a venue.
    """
    raw = _raw(file)
    _refuse_unknown(raw, BrawlerFile, "", file)
    for name, section in (raw.get("assets") or {}).items() if isinstance(raw.get("assets"), dict) else ():
        if isinstance(section, dict):
            _refuse_unknown(section, AssetSection, f"assets.{name}.", file)
    try:
        config = msgspec.convert(raw, BrawlerFile)
    except msgspec.ValidationError as problem:
        raise UsageError(f"{file}: {problem}") from problem
    if not config.assets:
        raise UsageError(f"{file}: assets is empty; name at least one coin")
    _refuse_doubles(config, file)
    return config


def _refuse_doubles(config: BrawlerFile, file: Path) -> None:
    taken: dict[str, str] = {}
    for name, section in config.assets.items():
        if section.symbol != name:
            raise UsageError(f"{file}: assets.{name}.symbol is {section.symbol!r}; it must be {name!r}, the key")
        foreign = (section.cex_symbol or SymbolMap().symbol(name)).upper()
        first = taken.setdefault(foreign, name)
        if first != name:
            raise UsageError(f"{file}: assets.{first} and assets.{name} share the cex_symbol {foreign}")


def _refuse_unknown(values: dict[Any, Any], section: type[msgspec.Struct], path: str, file: Path) -> None:
    for key in values:
        if key not in section.__struct_fields__:
            near = get_close_matches(str(key), section.__struct_fields__, n=1, cutoff=0.0)
            raise UsageError(f"{file}: unknown key {path + str(key)!r}; did you mean {path + near[0]!r}?")


def _raw(file: Path) -> dict[Any, Any]:
    import yaml

    if not file.is_file():
        there = [str(path) for path in sorted([*file.parent.glob("*"), *Path("config").glob("*")]) if path.is_file()]
        near = get_close_matches(str(file), there, n=1, cutoff=0.0)
        hint = f"; the nearest one that exists is {near[0]}" if near else ""
        raise UsageError(f"{file}: no such configuration file{hint}")
    try:
        text = file.read_text(encoding="utf-8")
        values = json.loads(text) if file.suffix == ".json" else yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, yaml.YAMLError) as problem:
        raise UsageError(f"{file}: cannot be read ({' '.join(str(problem).split())})") from problem
    if not isinstance(values, dict):
        raise UsageError(f"{file}: holds a {type(values).__name__}; write one 'key: value' per line")
    return values
