"""``slipstream data record`` and ``replay``, and the recorder of the market maker, ``record_bbo.py``."""

from __future__ import annotations

import asyncio
import json as json_module
import logging
import sys
import time
from collections.abc import Callable, Coroutine
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from cyclopts import App, Parameter

from slipstream.cli.clock import wall_clock_ns
from slipstream.errors import UsageError

if TYPE_CHECKING:
    from slipstream.ingest.recorder.recorder import Recorder
    from slipstream.ingest.recorder.recordings import BboReport, Surroundings
    from slipstream.ingest.recorder.session import Report

_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
_REJECTS = Path("logs/recorder_rejects")

T = TypeVar("T")

AsJson = Annotated[bool, Parameter(name="--json", negative="", help="Print JSON and nothing else.")]
Duration = Annotated[float, Parameter(help="Seconds to record; 0: until interrupted.")]
FlushSeconds = Annotated[float, Parameter(help="Interval of writes: what a crash can lose.")]
RejectsFolder = Annotated[Path, Parameter(name="--rejects", help="Folder for messages that cannot be read.")]
LogLevel = Annotated[str, Parameter(name="--log-level", help=f"One of {', '.join(_LEVELS)}.")]


def record(
    *,
    lake: Annotated[str, Parameter(help="The lake: a folder or an s3:// URL; made if absent.")],
    coins: Annotated[
        list[str], Parameter(consume_multiple=True, negative="", help="Hyperliquid's names, case-sensitive.")
    ],
    venues: Annotated[
        list[str] | None, Parameter(consume_multiple=True, negative="", help="hyperliquid, binance.")
    ] = None,
    feeds: Annotated[
        list[str] | None,
        Parameter(
            consume_multiple=True,
            negative="",
            help="Of hyperliquid: bbo, l2Book, trades, contexts; of binance: bookTicker, aggTrade. Default: all.",
        ),
    ] = None,
    duration: Duration = 0.0,
    flush_seconds: FlushSeconds = 5.0,
    hl_url: Annotated[str, Parameter(help="Hyperliquid's address.")] = "https://api.hyperliquid.xyz",
    binance_url: Annotated[str, Parameter(help="Binance's stream, scheme and host.")] = "wss://fstream.binance.com",
    rejects: RejectsFolder = _REJECTS,
    log_level: LogLevel = "WARNING",
    json: AsJson = False,
) -> int:
    """Record live streams into the event logs of a lake.

    Ctrl-C or a TERM signal ends it cleanly. Exit 1 if a feed recorded nothing.

    Example: slipstream data record --lake data/lake --coins BTC ETH --duration 3600
    """
    from slipstream.ingest.recorder.recordings import Addresses, feeds_of, record_lake
    from slipstream.ingest.recorder.session import Schedule
    from slipstream.lake.store import Lake

    _log_at(log_level)
    chosen = feeds_of(venues or ("hyperliquid", "binance"), feeds)
    names = list(dict.fromkeys(coins))
    addresses = Addresses.of(hl_url, binance_url)
    schedule = Schedule(_positive(flush_seconds, "--flush-seconds"), _not_negative(duration, "--duration"))
    store = Lake.open(lake, create=True)
    report = _recording(
        lambda around: record_lake(store, names, chosen, addresses, schedule, around), rejects, quiet=json
    )
    if json:
        _say(json_module.dumps(_report_json(report), indent=2))
    else:
        _print_report(report, f"into {lake}")
    silent = [feed.feed for feed in report.feeds if feed.total == 0]
    return _silent(silent)


def replay(
    *,
    lake: Annotated[str, Parameter(help="The lake: a folder or an s3:// URL.")],
    coins: Annotated[
        list[str] | None, Parameter(consume_multiple=True, negative="", help="Names (default: all).")
    ] = None,
    feeds: Annotated[
        list[str] | None, Parameter(consume_multiple=True, negative="", help="As for record (default: all).")
    ] = None,
    start: Annotated[datetime | None, Parameter(help="First moment of receipt, ISO, UTC unless it says so.")] = None,
    end: Annotated[datetime | None, Parameter(help="Moment of receipt to stop before.")] = None,
    speed: Annotated[float, Parameter(help="1 as received, 10 ten times as fast; 0: as fast as possible.")] = 0.0,
) -> None:
    """Play a recording back, one JSON line per event, in the order it was received.

    Example: slipstream data replay --lake data/lake --coins BTC --speed 10
    """
    from slipstream.ingest.replay import Selection, event_json
    from slipstream.ingest.replay import replay as played
    from slipstream.lake.store import Lake
    from slipstream.venues.clock import SystemClock

    selection = Selection(
        None if coins is None else tuple(coins),
        None if feeds is None else tuple(feeds),
        _unix_ms(start),
        _unix_ms(end),
    )
    pace = _not_negative(speed, "--speed") or None
    store, clock = Lake.open(lake), SystemClock(wall_clock_ns)

    async def run() -> None:
        async for event in played(store, selection, clock=clock, speed=pace):
            sys.stdout.buffer.write(event_json(event))
            if pace is not None:
                sys.stdout.buffer.flush()

    asyncio.run(run())
    sys.stdout.flush()


bbo_app = App(name="record_bbo.py", version_flags=[], suppress_keyboard_interrupt=False)


@bbo_app.default
def record_bbo(
    *,
    config: Annotated[Path, Parameter(help="The market maker's configuration.")] = Path("config/brawler.yml"),
    symbols: Annotated[
        list[str] | None, Parameter(consume_multiple=True, negative="", help="Of its assets (default: all).")
    ] = None,
    hl_pattern: str = "data/hl_bbo/{symbol}_{session}.csv",
    cex_pattern: str = "data/binance_bbo/{cex_symbol}_{session}.csv",
    depth_pattern: str = "data/hl_depth/{symbol}_{session}.csv",
    funding_pattern: str = "data/hl_funding/{symbol}_{session}.csv",
    depth_bps: Annotated[float, Parameter(help="Count coins within this distance of the mid, basis points.")] = 10.0,
    duration: Duration = 0.0,
    flush_seconds: FlushSeconds = 5.0,
    rejects: RejectsFolder = _REJECTS,
    log_level: LogLevel = "INFO",
) -> int:
    """Record quotes of both venues, depth and settled funding into CSV files.

    Patterns know {symbol} {lower} {cex_symbol} {cex_lower} {session}. Files are appended to, never cut short. Ctrl-C or
    a TERM signal ends the recording cleanly. Exit 1 if a feed recorded nothing.

    Example: record_bbo.py --config config/brawler.yml --duration 3600
    """
    from slipstream.ingest.recorder import recordings
    from slipstream.ingest.recorder.config import read_brawler_file
    from slipstream.ingest.recorder.csv_files import Patterns
    from slipstream.ingest.recorder.session import Schedule

    _log_at(log_level)
    file = read_brawler_file(config)
    assets = file.recorded(symbols, config)
    addresses = recordings.Addresses(file.hyperliquid_ws_url, file.hyperliquid_rest_url, file.binance_ws_url)
    patterns = Patterns(hl_pattern, cex_pattern, depth_pattern, funding_pattern)
    schedule = Schedule(_positive(flush_seconds, "--flush-seconds"), _not_negative(duration, "--duration"))
    report = _recording(
        lambda around: recordings.record_bbo(assets, patterns, depth_bps, addresses, schedule, around), rejects
    )
    _print_bbo(report, depth_bps)
    return _silent([f"{kind} of {symbol}" for kind, symbol in report.silent])


def _recording(make: Callable[[Surroundings], Coroutine[Any, Any, T]], rejects: Path, *, quiet: bool = False) -> T:
    """Run a recording until it ends or a signal ends it, with a status line on a terminal."""
    import signal

    from slipstream.ingest.recorder.recordings import Surroundings
    from slipstream.venues.clock import SystemClock

    line = None if quiet or not sys.stderr.isatty() else _StatusLine()

    async def run() -> T:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        around = Surroundings(
            SystemClock(wall_clock_ns),
            stop,
            rejects,
            on_start=None if line is None else line.begin,
            on_tick=None if line is None else line.tick,
        )
        return await make(around)

    try:
        return asyncio.run(run())
    finally:
        if line is not None:
            line.end()


class _StatusLine:
    """Rates per feed, drawn over itself once a second."""

    def __init__(self) -> None:
        self._recorder: Recorder | None = None
        self._before: dict[str, int] = {}
        self._at_s = time.monotonic()

    def begin(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def tick(self) -> None:
        if self._recorder is None:
            return
        now_s = time.monotonic()
        rows = {feed: sum(state.rows.values()) for feed, state in self._recorder.feeds.items()}
        passed_s = max(now_s - self._at_s, 1e-3)
        parts = []
        for feed, total in rows.items():
            rate = (total - self._before.get(feed, 0)) / passed_s
            down = " down" if self._recorder.watch.is_down((self._recorder.feeds[feed].venue, feed)) else ""
            parts.append(f"{feed} {rate:,.0f}/s {total:,}{down}")
        self._before, self._at_s = rows, now_s
        more = f" | {self._recorder.rejects.count} unreadable" if self._recorder.rejects.count else ""
        sys.stderr.write(f"\r\x1b[K{' | '.join(parts)}{more}")
        sys.stderr.flush()

    def end(self) -> None:
        sys.stderr.write("\n")


def _print_report(report: Report, where: str) -> None:
    _say(f"session {report.session}: {report.seconds:.1f} s {where}, {report.connections} connections")
    for feed in report.feeds:
        coins = ", ".join(f"{coin} {count}" for coin, count in sorted(feed.rows.items()))
        dropped = f"; {feed.dropped} DROPPED because storage was too slow" if feed.dropped else ""
        _say(f"  {feed.venue} {feed.feed}: {feed.total} rows{f' ({coins})' if coins else ''}{dropped}")
    _print_oddities(report)


def _print_oddities(report: Report) -> None:
    if report.gaps:
        _say(f"  {report.gaps} gaps: a feed was down")
    if report.crossed:
        _say(f"  {report.crossed} quotes whose bid was not below the ask; kept as received")
    if report.rejected:
        _say(f"  {report.rejected} messages could not be read; see {report.rejects_file}")
    for kind, count in sorted(report.ignored.items()):
        _say(f"  {count} frames ignored: {kind}")


def _print_bbo(outcome: BboReport, depth_bps: float) -> None:
    report = outcome.report
    _say(f"session {report.session}: {report.seconds:.1f} s, {report.connections} connections")
    for (kind, symbol), count in outcome.rows.items():
        _say(f"  {kind} of {symbol}: {count} rows")
    if outcome.short_depth:
        _say(f"  {outcome.short_depth} depth rows count less than {depth_bps:g} bps: the venue sent no farther levels")
    _print_oddities(report)


def _report_json(report: Report) -> dict[str, object]:
    feeds = [{**asdict(feed), "total": feed.total} for feed in report.feeds]
    return {**asdict(report), "feeds": feeds}


def _silent(feeds: list[str]) -> int:
    for feed in feeds:
        sys.stderr.write(f"error: {feed} recorded nothing\n")
    return 1 if feeds else 0


def _log_at(level: str) -> None:
    if level.upper() not in _LEVELS:
        raise UsageError(f"--log-level {level}: one of {', '.join(_LEVELS)}")
    logging.basicConfig(level=level.upper(), format="%(asctime)s %(levelname)s %(message)s")


def _positive(value: float, flag: str) -> float:
    if not 0 < value < float("inf"):
        raise UsageError(f"{flag} {value}: must be positive")
    return value


def _not_negative(value: float, flag: str) -> float:
    if not 0 <= value < float("inf"):
        raise UsageError(f"{flag} {value}: must not be negative")
    return value


def _unix_ms(moment: datetime | None) -> int | None:
    from datetime import UTC

    if moment is None:
        return None
    aware = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return round(aware.timestamp() * 1000)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
