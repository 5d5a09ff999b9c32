"""What a public stream says: quotes, books, trades, contexts, and the gaps where it said nothing.

The fields of each type are the columns of its dataset in :mod:`slipstream.lake.datasets`, so an event goes into the
lake and comes out of a replay unchanged. Prices are USD, sizes are coins. ``exchange_ms`` is the venue's own stamp;
``received_ns`` is the local UTC time of receipt and ``monotonic_ns`` the local monotonic clock.

Within a session no two events share a ``monotonic_ns``: the i-th event of a frame is stamped i nanoseconds after the
first, so their order survives any sorting.
"""

from __future__ import annotations

import msgspec

HYPERLIQUID = "hyperliquid"
BINANCE = "binance"


class Quote(msgspec.Struct, frozen=True, gc=False):
    """Best bid and ask; a side without orders is None in both its fields."""

    venue: str
    coin: str
    exchange_ms: int | None
    received_ns: int
    monotonic_ns: int
    session: str
    bid: float | None
    bid_size: float | None
    ask: float | None
    ask_size: float | None


class Book(msgspec.Struct, frozen=True, gc=False):
    """Levels of one side each in three tuples of equal length, best first; an empty side has empty tuples."""

    venue: str
    coin: str
    exchange_ms: int | None
    received_ns: int
    monotonic_ns: int
    session: str
    bid_px: tuple[float, ...]
    bid_sz: tuple[float, ...]
    bid_n: tuple[int, ...]
    ask_px: tuple[float, ...]
    ask_sz: tuple[float, ...]
    ask_n: tuple[int, ...]


class Trade(msgspec.Struct, frozen=True, gc=False):
    """One print; ``side`` is the taker's: B bought, A sold."""

    venue: str
    coin: str
    exchange_ms: int | None
    received_ns: int
    monotonic_ns: int
    session: str
    px: float
    sz: float
    side: str
    tid: int


class Context(msgspec.Struct, frozen=True, gc=False):
    """State of an asset; ``funding_ctx`` is the running estimate of the next settlement and never a settled rate."""

    venue: str
    coin: str
    exchange_ms: int | None
    received_ns: int
    monotonic_ns: int
    session: str
    funding_ctx: float | None
    open_interest: float | None
    oracle_px: float | None
    mark_px: float | None
    mid_px: float | None
    premium: float | None
    day_ntl_vlm: float | None


class StreamGap(msgspec.Struct, frozen=True, gc=False):
    """A feed that was down from its last message before to its first after; ``to_ns`` None: still down."""

    venue: str
    feed: str
    session: str
    from_ns: int
    to_ns: int | None
    reason: str


Event = Quote | Book | Trade | Context
"""What a feed delivers."""
