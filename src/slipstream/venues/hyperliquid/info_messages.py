"""The messages of Hyperliquid's info endpoint that we read, and what becomes of them.

Keys we do not name are ignored: the venue adds some from time to time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import msgspec
import polars as pl

from slipstream.lake.datasets import ASSET_CONTEXTS, INSTRUMENTS, TIME
from slipstream.venues.errors import BadAnswer
from slipstream.venues.wire_frames import LATEST_MS, Origin, bars_frame, decimals, funding_frame

Stamp = Annotated[int, msgspec.Meta(ge=0, lt=LATEST_MS)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**31)]


class Candle(msgspec.Struct, frozen=True):
    """One bar of candleSnapshot."""

    t: Stamp
    s: str
    i: str
    o: str
    h: str
    l: str  # noqa: E741 - the venue's name
    c: str
    v: str


class Funding(msgspec.Struct, frozen=True, rename="camel"):
    """One settlement of fundingHistory; the premium is absent in some answers."""

    coin: str
    funding_rate: str
    time: Stamp
    premium: str | None = None


class Dex(msgspec.Struct, frozen=True):
    """One entry of perpDexs."""

    name: Name


class Asset(msgspec.Struct, frozen=True, rename="camel"):
    """One entry of a universe; what is not set is left out or null."""

    name: Name
    sz_decimals: Annotated[int, msgspec.Meta(ge=0, le=18)]
    max_leverage: Count
    margin_table_id: Count | None = None
    only_isolated: bool | None = None
    is_delisted: bool | None = None
    margin_mode: str | None = None


class Meta(msgspec.Struct, frozen=True):
    """Answer to meta."""

    universe: list[Asset]


class AssetContext(msgspec.Struct, frozen=True, rename="camel"):
    """One entry of the second half of metaAndAssetCtxs; delisted coins have nulls."""

    funding: str | None = None
    open_interest: str | None = None
    prev_day_px: str | None = None
    day_ntl_vlm: str | None = None
    premium: str | None = None
    oracle_px: str | None = None
    mark_px: str | None = None
    mid_px: str | None = None
    impact_pxs: tuple[str, str] | None = None


class MetaAndContexts(msgspec.Struct, frozen=True, array_like=True):
    """Answer to metaAndAssetCtxs: two lists joined by position."""

    meta: Meta
    contexts: list[AssetContext]


@dataclass(frozen=True)
class Instrument:
    """A perpetual as the venue describes it.

    Attributes:
        coin: case-sensitive name, ``dex:COIN`` on a dex of builders.
        dex: its dex; empty for the first.
        asset: index in the dex's universe; delisted coins keep theirs.
        sz_decimals: decimals of a size.
        max_leverage: highest leverage.
        margin_table: id of the margin table; below 50 a single tier of that leverage; None in old answers.
        only_isolated: cross margin is not offered.
        is_delisted: trading has ended.
    """

    coin: str
    dex: str
    asset: int
    sz_decimals: int
    max_leverage: int
    margin_table: int | None
    only_isolated: bool
    is_delisted: bool


def candle_bars(candles: Sequence[Candle], what: str, coin: str, interval: str) -> pl.DataFrame:
    """The bars of an answer, in the schema of BARS, the forming one included.

    Raises:
        BadAnswer: a row belongs to another coin or interval, or cannot be used.
    """
    origin = Origin(what, coin, candles)
    for row, candle in enumerate(candles):
        if candle.s != coin or candle.i != interval:
            raise origin.refuse(row, candle.t, f"this is a bar of {candle.s} {candle.i}, not of {coin} {interval}")
    texts: dict[str, Sequence[str]] = {
        "open": [candle.o for candle in candles],
        "high": [candle.h for candle in candles],
        "low": [candle.l for candle in candles],
        "close": [candle.c for candle in candles],
        "volume": [candle.v for candle in candles],
    }
    return bars_frame(origin, interval, [candle.t for candle in candles], texts)


def settlements(page: Sequence[Funding], what: str, coin: str) -> pl.DataFrame:
    """The settlements of an answer, in the schema of FUNDING.

    Raises:
        BadAnswer: a row belongs to another coin, cannot be used, or shares its hour with another.
    """
    origin = Origin(what, coin, page)
    for row, entry in enumerate(page):
        if entry.coin != coin:
            raise origin.refuse(row, entry.time, f"this is a settlement of {entry.coin}, not of {coin}")
    stamps = [entry.time for entry in page]
    return funding_frame(origin, stamps, [entry.funding_rate for entry in page], [entry.premium for entry in page])


def instruments(meta: Meta, what: str, dex: str) -> tuple[Instrument, ...]:
    """The instruments of a dex, one per entry of the universe, in order.

    Raises:
        BadAnswer: a name is not printable, or lacks the prefix of its dex, so that it would pass for another coin.
    """
    found: list[Instrument] = []
    for index, asset in enumerate(meta.universe):
        own = asset.name.startswith(f"{dex}:") if dex else ":" not in asset.name
        if not asset.name.isprintable() or not own:
            raise BadAnswer(
                f"{what}: entry {index} of the universe is named {asset.name!r}; on dex {dex!r} that is no coin"
            )
        isolated = bool(asset.only_isolated) or asset.margin_mode in {"strictIsolated", "noCross"}
        found.append(
            Instrument(
                coin=asset.name,
                dex=dex,
                asset=index,
                sz_decimals=asset.sz_decimals,
                max_leverage=asset.max_leverage,
                margin_table=asset.margin_table_id,
                only_isolated=isolated,
                is_delisted=bool(asset.is_delisted),
            )
        )
    return tuple(found)


def one_per_coin(entries: Sequence[Instrument]) -> tuple[Instrument, ...]:
    """One entry per coin, in order: of several the one that trades, else the first."""
    chosen: dict[tuple[str, str], Instrument] = {}
    for entry in entries:
        held = chosen.get((entry.dex, entry.coin))
        if held is None or (held.is_delisted and not entry.is_delisted):
            chosen[entry.dex, entry.coin] = entry
    return tuple(sorted(chosen.values(), key=lambda entry: entry.asset))


def instruments_frame(entries: Sequence[Instrument], at_ms: int) -> pl.DataFrame:
    """Instruments in the schema of INSTRUMENTS, as seen at ``at_ms`` (Unix ms)."""
    rows = [
        {
            "coin": entry.coin,
            "ts": at_ms,
            "dex": entry.dex,
            "asset": entry.asset,
            "sz_decimals": entry.sz_decimals,
            "max_leverage": entry.max_leverage,
            "margin_table": entry.margin_table,
            "only_isolated": entry.only_isolated,
            "is_delisted": entry.is_delisted,
        }
        for entry in entries
    ]
    schema = {**INSTRUMENTS.schema, "ts": pl.Int64()}
    return pl.DataFrame(rows, schema=schema).with_columns(pl.col("ts").cast(TIME))


def contexts_frame(
    contexts: Sequence[AssetContext], every: Sequence[Instrument], kept: Sequence[Instrument], what: str, at_ms: int
) -> pl.DataFrame:
    """Contexts in the schema of ASSET_CONTEXTS, at ``at_ms``, one row per instrument in ``kept``.

    Args:
        contexts: as sent, in the order of the universe.
        every: the whole universe, in the same order.
        kept: the entries of ``every`` that are wanted.
        what: the request, for messages.
        at_ms: moment of the contexts, Unix ms.

    Raises:
        BadAnswer: there are not as many contexts as instruments, or a number is unusable.
    """
    if len(contexts) != len(every):
        raise BadAnswer(f"{what}: {len(contexts)} contexts for {len(every)} instruments; they cannot be matched")
    picked = [contexts[entry.asset] for entry in kept]
    stamps = [at_ms] * len(picked)
    origin = Origin(what, "", picked, [entry.coin for entry in kept])
    signed = {"funding_ctx": [c.funding for c in picked], "premium": [c.premium for c in picked]}
    plain = {
        "open_interest": [c.open_interest for c in picked],
        "prev_day_px": [c.prev_day_px for c in picked],
        "day_ntl_vlm": [c.day_ntl_vlm for c in picked],
        "oracle_px": [c.oracle_px for c in picked],
        "mark_px": [c.mark_px for c in picked],
        "mid_px": [c.mid_px for c in picked],
        "impact_bid_px": [None if c.impact_pxs is None else c.impact_pxs[0] for c in picked],
        "impact_ask_px": [None if c.impact_pxs is None else c.impact_pxs[1] for c in picked],
    }
    columns = [
        pl.Series("coin", origin.coins, dtype=pl.String),
        pl.Series("ts", stamps, dtype=pl.Int64).cast(TIME),
        *(decimals(texts, name, origin, stamps, signed=True, optional=True) for name, texts in signed.items()),
        *(decimals(texts, name, origin, stamps, optional=True) for name, texts in plain.items()),
    ]
    return pl.DataFrame(columns).select(ASSET_CONTEXTS.names)
