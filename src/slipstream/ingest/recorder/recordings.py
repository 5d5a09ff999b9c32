"""The two recordings a user can ask for, put together from their parts.

:func:`record_lake` writes every feed into the event logs of a lake. :func:`record_bbo` writes what the market maker's
tools read: quotes of both venues, depth and settled funding, one CSV file per coin and kind.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from slipstream.errors import UsageError
from slipstream.ingest.recorder.batch import LakeLog, Output
from slipstream.ingest.recorder.csv_files import KINDS, CsvFiles, Patterns
from slipstream.ingest.recorder.csv_tables import Asset
from slipstream.ingest.recorder.funding import FundingPoll, SettledRates
from slipstream.ingest.recorder.recorder import Recorder
from slipstream.ingest.recorder.rejects import Rejects
from slipstream.ingest.recorder.session import Report, Schedule, record, session_name
from slipstream.lake.store import Lake
from slipstream.venues.binance import stream as binance
from slipstream.venues.binance.symbols import SymbolMap
from slipstream.venues.clock import Clock
from slipstream.venues.errors import UnknownMarket, VenueError
from slipstream.venues.events import BINANCE, HYPERLIQUID
from slipstream.venues.hyperliquid import stream as hyperliquid
from slipstream.venues.hyperliquid.info import MAINNET, InfoClient
from slipstream.venues.retry import RetryPolicy
from slipstream.venues.stream import Dialect, Gates

FEEDS = {**dict.fromkeys(hyperliquid.FEEDS, HYPERLIQUID), **dict.fromkeys(binance.FEEDS, BINANCE)}
"""Every feed -> its venue."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Addresses:
    """Where the venues are."""

    hyperliquid_ws: str = hyperliquid.WS_URL
    hyperliquid_rest: str = MAINNET
    binance_ws: str = binance.WS_URL

    @classmethod
    def of(cls, hl_url: str, binance_url: str) -> Addresses:
        """From one address of Hyperliquid, ``https://host`` or ``wss://host/ws``, and one of Binance."""
        base = hl_url.rstrip("/").removesuffix("/ws")
        scheme, separator, host = base.partition("://")
        secure = {"https": "s", "wss": "s", "http": "", "ws": ""}.get(scheme)
        if not separator or secure is None:
            raise UsageError(f"{hl_url}: give an address such as https://api.hyperliquid.xyz")
        return cls(f"ws{secure}://{host}/ws", f"http{secure}://{host}", binance_url)


@dataclass(frozen=True)
class Surroundings:
    """What a recording is given by whoever starts it.

    Attributes:
        clock: time.
        stop: set to end the recording cleanly.
        rejects: folder for messages that cannot be read.
        seed: of the pauses between attempts to connect.
        on_start: told the recorder, for a display.
        on_tick: called about once a second.
    """

    clock: Clock
    stop: asyncio.Event
    rejects: Path
    seed: int = 42
    on_start: Callable[[Recorder], None] | None = None
    on_tick: Callable[[], None] | None = None


def feeds_of(venues: Sequence[str], feeds: Sequence[str] | None) -> tuple[str, ...]:
    """The feeds to record: those named, or all of the venues.

    Raises:
        UsageError: an unknown venue or feed, or a feed of a venue that is not recorded.
    """
    for venue in venues:
        if venue not in (HYPERLIQUID, BINANCE):
            raise UsageError(f"no venue {venue!r}; there are {HYPERLIQUID} and {BINANCE}")
    for feed in feeds or ():
        if feed not in FEEDS:
            raise UsageError(f"no feed {feed!r}; there are {', '.join(FEEDS)}")
        if FEEDS[feed] not in venues:
            raise UsageError(f"feed {feed} is one of {FEEDS[feed]}, which is not among the venues")
    wanted = tuple(FEEDS) if feeds is None else tuple(dict.fromkeys(feeds))
    chosen = tuple(feed for feed in wanted if FEEDS[feed] in venues)
    if not chosen:
        raise UsageError("name at least one venue and one feed")
    return chosen


async def record_lake(
    lake: Lake,
    coins: Sequence[str],
    feeds: Sequence[str],
    addresses: Addresses,
    schedule: Schedule,
    around: Surroundings,
) -> Report:
    """Record feeds of coins into a lake; see :func:`~slipstream.ingest.recorder.session.record`.

    Args:
        lake: events are appended to it at every flush.
        coins: Hyperliquid's names; Binance's events are recorded under them, too.
        feeds: of :data:`FEEDS`.
        addresses: of the venues.
        schedule: when to flush and end.
        around: clock, stop, displays.

    Raises:
        UsageError: no coin, a coin a venue does not know, or too many of them.
        SlipstreamError: the lake cannot be written.
    """
    if not coins:
        raise UsageError("name at least one coin")
    session = session_name(around.clock.now_ms())
    if any(FEEDS[feed] == HYPERLIQUID for feed in feeds):
        policy = RetryPolicy(attempts=2)
        async with InfoClient(addresses.hyperliquid_rest, clock=around.clock, policy=policy, seed=around.seed) as venue:
            await check_coins(venue, coins)
    symbols = {coin: _symbol(coin) for coin in coins} if any(FEEDS[feed] == BINANCE for feed in feeds) else {}
    connections = connections_to(coins, symbols, feeds, session, addresses, around.clock)
    recorder = _recorder([LakeLog(lake)], feeds, session, around)
    return await _run(recorder, connections, schedule, around)


@dataclass(frozen=True)
class BboReport:
    """A CSV recording.

    Attributes:
        report: of its streams.
        rows: written per (kind, coin).
        silent: files that got no row, unless it is a funding file that an earlier recording had brought up to date.
        short_depth: depth rows for which the levels sent did not reach far enough.
    """

    report: Report
    rows: dict[tuple[str, str], int]
    silent: tuple[tuple[str, str], ...]
    short_depth: int


async def record_bbo(
    assets: Sequence[Asset],
    patterns: Patterns,
    depth_bps: float,
    addresses: Addresses,
    schedule: Schedule,
    around: Surroundings,
) -> BboReport:
    """Record quotes, depth and settled funding into CSV files.

    Args:
        assets: coins, with their names at Binance.
        patterns: of the files.
        depth_bps: distance from the mid within which coins are counted.
        addresses: of the venues.
        schedule: when to flush and end.
        around: clock, stop, displays.

    Raises:
        UsageError: a bad pattern, or a coin the venue does not know.
        SafetyRefusal: a file is being written by another process.
        SlipstreamError: the disk refuses.
    """
    if not depth_bps > 0:
        raise UsageError(f"--depth-bps {depth_bps}: must be positive")
    session = session_name(around.clock.now_ms())
    coins = [asset.symbol for asset in assets]
    symbols = {asset.symbol: asset.cex_symbol.upper() for asset in assets}
    feeds = ("bbo", "l2Book", "bookTicker")
    connections = connections_to(coins, symbols, feeds, session, addresses, around.clock)
    async with InfoClient(addresses.hyperliquid_rest, clock=around.clock, seed=around.seed) as venue:
        await check_coins(venue, coins)
        files = CsvFiles(assets, patterns, session, depth_bps)
        try:
            poll = FundingPoll(coins, _settled(venue), files, clock=around.clock)
        except UsageError:
            files.close()
            raise
        recorder = _recorder([files], feeds, session, around)
        report = await _run(recorder, connections, schedule, around, poll)
    rows = {(kind, coin): files.rows[kind, coin] for coin in coins for kind in KINDS}
    silent = [key for key, count in rows.items() if not count and not (key[0] == "funding" and poll.has_latest(key[1]))]
    return BboReport(report, rows, tuple(silent), files.short_depth)


async def check_coins(venue: InfoClient, coins: Sequence[str]) -> None:
    """Compare names with the venue's list, because its stream says of an unknown coin nothing but goodbye.

    If the list cannot be had, that is said, and the stream finds out by itself.

    Raises:
        UsageError: a coin that is not listed; near names are given.
    """
    listed: dict[str, bool] = {}
    try:
        for dex in dict.fromkeys(coin.partition(":")[0] if ":" in coin else "" for coin in coins):
            listed.update({one.coin: bool(one.is_delisted) for one in await venue.meta(dex)})
    except UnknownMarket:
        raise
    except VenueError as problem:
        log.warning("the names of the coins could not be checked beforehand: %s", problem)
        return
    for coin in coins:
        if coin not in listed:
            near = [name for name in listed if name.casefold() == coin.casefold()] or get_close_matches(coin, listed)
            hint = f"; did you mean {' or '.join(near)}?" if near else ""
            raise UsageError(f"Hyperliquid has no coin {coin!r}{hint} (names are case-sensitive)")
        if listed[coin]:
            log.warning("%s is delisted: its books are empty and it does not trade", coin)


def _symbol(coin: str) -> str:
    try:
        return SymbolMap().symbol(coin)
    except UsageError as problem:
        raise UsageError(f"{problem}; or record it with --venues {HYPERLIQUID} alone") from problem


def connections_to(
    coins: Sequence[str],
    symbols: dict[str, str],
    feeds: Sequence[str],
    session: str,
    addresses: Addresses,
    clock: Clock,
) -> list[tuple[Dialect, Gates]]:
    """The connections that carry these feeds, each with the limits it shares with others of its venue.

    Args:
        coins: Hyperliquid's names.
        symbols: coin -> Binance's symbol, in capitals.
        feeds: of :data:`FEEDS`.
        session: the recording's name.
        addresses: of the venues.
        clock: for the limits.

    Raises:
        UsageError: more than a venue allows.
    """
    made: list[tuple[Dialect, Gates]] = []
    own = [feed for feed in feeds if FEEDS[feed] == HYPERLIQUID]
    foreign = [feed for feed in feeds if FEEDS[feed] == BINANCE]
    if own:
        dialect = hyperliquid.HyperliquidDialect(coins, own, session, addresses.hyperliquid_ws)
        made.append((dialect, hyperliquid.gates(clock)))
    if foreign:
        gates = binance.gates(clock)
        by_symbol = {symbol: coin for coin, symbol in symbols.items()}
        made += [(one, gates) for one in binance.dialects(by_symbol, foreign, session, addresses.binance_ws)]
    return made


def _recorder(outputs: Sequence[Output], feeds: Sequence[str], session: str, around: Surroundings) -> Recorder:
    rejects = Rejects(around.rejects / f"{session}.jsonl")
    recorder = Recorder(outputs, {feed: FEEDS[feed] for feed in feeds}, session, clock=around.clock, rejects=rejects)
    if around.on_start is not None:
        around.on_start(recorder)
    return recorder


async def _run(
    recorder: Recorder,
    connections: Sequence[tuple[Dialect, Gates]],
    schedule: Schedule,
    around: Surroundings,
    poll: FundingPoll | None = None,
) -> Report:
    return await record(
        recorder,
        connections,
        schedule,
        clock=around.clock,
        rng=random.Random(around.seed),  # noqa: S311 - pauses, not secrets
        stop=around.stop,
        beside=() if poll is None else (poll.run,),
        on_tick=around.on_tick,
    )


def _settled(venue: InfoClient) -> SettledRates:
    async def ask(coin: str, start_ms: int, end_ms: int) -> list[tuple[int, float]]:
        rows = await venue.funding(coin, start_ms, end_ms)
        return list(zip(rows["ts"].dt.epoch("ms").to_list(), rows["rate"].to_list(), strict=True))

    return ask
