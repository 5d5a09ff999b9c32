"""The perpetuals of a dex with their rules, from the venue's ``meta`` answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

import msgspec

from slipstream.venues.errors import BadAnswer, excerpt
from slipstream.venues.hyperliquid.info_messages import Asset
from slipstream.venues.hyperliquid.instrument_rules import PERP_DECIMALS, PerpInstrument
from slipstream.venues.hyperliquid.margin import BadMargin, MarginTier, MarginTiers, tiers_of_table
from slipstream.venues.hyperliquid.wire_numbers import BadNumber, to_units

BUILDER_DEX_BASE: Final = 100_000
BUILDER_DEX_STEP: Final = 10_000
_STRICT, _NO_CROSS = "strictIsolated", "noCross"


class ListedTier(msgspec.Struct, frozen=True, rename="camel"):
    """One tier of a margin table."""

    lower_bound: str
    max_leverage: int


class ListedTable(msgspec.Struct, frozen=True, rename="camel"):
    """A margin table; its description is for people."""

    margin_tiers: list[ListedTier]


class RuledAsset(Asset, frozen=True, rename="camel"):
    """One entry of a universe with what the rules need beyond the data."""

    growth_mode: str | None = None


class RuledMeta(msgspec.Struct, frozen=True, rename="camel"):
    """Answer to ``meta``; old ones have no tables."""

    universe: list[RuledAsset]
    margin_tables: list[tuple[Annotated[int, msgspec.Meta(ge=0)], ListedTable]] = msgspec.field(default_factory=list)


def asset_id(dex_index: int, index: int) -> int:
    """The number orders name a perpetual by.

    Args:
        dex_index: place of its dex in ``perpDexs``; 0 is the first dex, others are builders'.
        index: place in the dex's universe; delisted coins keep theirs.
    """
    return index if dex_index == 0 else BUILDER_DEX_BASE + dex_index * BUILDER_DEX_STEP + index


def read_instruments(body: bytes, dex_index: int = 0) -> tuple[PerpInstrument, ...]:
    """The perpetuals of a ``meta`` answer, in the order of its universe, delisted ones included.

    Args:
        body: the answer, JSON.
        dex_index: place of the dex in ``perpDexs``.

    Raises:
        BadAnswer: the answer is no ``meta``, or an instrument refers to a margin table that cannot be used.
    """
    try:
        meta = msgspec.json.decode(body, type=RuledMeta)
    except msgspec.DecodeError as problem:
        raise BadAnswer(f"meta: {problem}; the answer begins {excerpt(body)}") from problem
    return instruments_of(meta, dex_index)


def instruments_of(meta: RuledMeta, dex_index: int = 0) -> tuple[PerpInstrument, ...]:
    """The same of a decoded answer.

    Raises:
        BadAnswer: an instrument's decimals or margin table cannot be used.
    """
    listed = {number: _tiers(number, table.margin_tiers) for number, table in meta.margin_tables}
    return tuple(_instrument(asset, asset_id(dex_index, index), listed) for index, asset in enumerate(meta.universe))


def _instrument(asset: RuledAsset, number: int, listed: dict[int, MarginTiers]) -> PerpInstrument:
    if asset.sz_decimals > PERP_DECIMALS:
        raise BadAnswer(f"meta: {asset.name} has szDecimals {asset.sz_decimals}; at most {PERP_DECIMALS} are known")
    try:
        tiers = tiers_of_table(asset.margin_table_id, asset.max_leverage, listed)
    except BadMargin as problem:
        raise BadAnswer(f"meta: {asset.name}: {problem}") from problem
    return PerpInstrument(
        coin=asset.name,
        asset_id=number,
        sz_decimals=asset.sz_decimals,
        tiers=tiers,
        cross_allowed=not asset.only_isolated and asset.margin_mode not in (_STRICT, _NO_CROSS),
        margin_removable=asset.margin_mode != _STRICT,
        is_delisted=bool(asset.is_delisted),
        growth_mode=asset.growth_mode == "enabled",
    )


def _tiers(number: int, tiers: Sequence[ListedTier]) -> MarginTiers:
    try:
        return MarginTiers(
            tuple(MarginTier(to_units(tier.lower_bound, PERP_DECIMALS), tier.max_leverage) for tier in tiers)
        )
    except (BadNumber, BadMargin) as problem:
        raise BadAnswer(f"meta: margin table {number}: {problem}") from problem
