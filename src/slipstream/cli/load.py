"""``hl-load`` and ``slipstream data pull``: from Hyperliquid's REST interface into the lake."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from slipstream.cli.errors import run
from slipstream.cli.load_options import Interval, Options, moment
from slipstream.errors import UsageError

if TYPE_CHECKING:
    from slipstream.lake.store import Lake
    from slipstream.venues.clock import Clock
    from slipstream.venues.hyperliquid.info import InfoClient
    from slipstream.venues.hyperliquid.info_messages import Instrument

_FAILED, _REFUSED = 1, 3
_PRE_FLIGHT = ("BTC", "ETH")


def pull(
    *,
    coin: Annotated[tuple[str, ...], Parameter(help="A coin, in its exact case; may be repeated.")] = (),
    all_: Annotated[bool, Parameter(name="--all", negative="", help="Every live market.")] = False,
    dex: Annotated[tuple[str, ...], Parameter(help="Only this dex; '(default)' is the first. May be repeated.")] = (),
    interval: Annotated[Interval, Parameter(help="Bar length. From 1h on, hourly bars are fetched.")] = "4h",
    days: Annotated[int, Parameter(help="How far back to go.")] = 180,
    start: Annotated[str | None, Parameter(help="First moment, ISO 8601, UTC; instead of --days.")] = None,
    end: Annotated[str | None, Parameter(help="Last moment, ISO 8601, UTC (default: now).")] = None,
    out_prefix: Annotated[Path, Parameter(help="Folder of lake/ and market_data/.")] = Path("data"),
    lake: Annotated[str | None, Parameter(help="The lake (default: OUT_PREFIX/lake): a folder or s3:// URL.")] = None,
    include_delisted: Annotated[bool, Parameter(negative="", help="Markets that have ended, too.")] = False,
    base_url: Annotated[str, Parameter(help="Address of the venue.")] = "https://api.hyperliquid.xyz",
    weight_per_minute: Annotated[int, Parameter(help="Of the venue's 1200 a minute, what to use.")] = 900,
    refetch: Annotated[bool, Parameter(negative="", help="Ask again for the whole range although it is held.")] = False,
    dry_run: Annotated[bool, Parameter(negative="", help="Print requests, weight and time, and stop.")] = False,
    export: Annotated[bool, Parameter(negative="--no-export", help="Refresh the CSV files afterwards.")] = True,
    trust_files: Annotated[bool, Parameter(negative="", help="Merge into files that fail their checksum.")] = False,
    json: Annotated[bool, Parameter(name="--json", negative="", help="Print JSON and nothing else.")] = False,
) -> int:
    """Load candles, settled funding, contexts and descriptions into the lake, then refresh the CSV files.

    Only what is missing is asked for, so an interrupted load goes on where it stopped. Without --coin or --all the
    live markets are listed. All coins for 180 days cost about 500 weight a coin: nearly two hours within the venue's
    limit. Exit 1 if a coin could not be fetched, 3 if one was refused because its data would shrink.

    With --refetch the whole range is asked for again: values that "slipstream data check" names as wrong are replaced
    by the venue's, counted as corrected, and kept in the lake's _backup.

    Examples:
    hl-load --all --days 180

    hl-load --coin BTC --refetch --start 2025-06-01

    hl-load --coin BTC --coin kPEPE --interval 1h --start 2025-06-01

    hl-load --all --days 180 --dry-run
    """
    import asyncio

    options = Options(
        coins=tuple(dict.fromkeys(coin)),
        every=all_,
        dexs=tuple("" if name == "(default)" else name for name in dex),
        interval=interval,
        days=days,
        start_ms=None if start is None else moment(start, "--start"),
        end_ms=None if end is None else moment(end, "--end"),
        include_delisted=include_delisted,
        base_url=base_url,
        weight_per_minute=_weight(weight_per_minute, base_url),
        lake=str(out_prefix / "lake") if lake is None else lake,
        market_data=out_prefix / "market_data",
        dry_run=dry_run,
        export=export,
        trust_files=trust_files,
        json=json,
        refetch=refetch,
    )
    if days < 1:
        raise UsageError(f"--days {days}: at least 1")
    if coin and all_:
        raise UsageError("--coin and --all: give one of them")
    return asyncio.run(_pull(options))


app = App(name="hl-load", help="Load market data from Hyperliquid.", suppress_keyboard_interrupt=False)
app.default(pull)


def main() -> None:
    """Entry point of ``hl-load``."""
    sys.exit(run(app))


def _weight(per_minute: int, base_url: str) -> int:
    """The weight to use in a minute; only a venue on this machine allows more than the real one."""
    from urllib.parse import urlsplit

    from slipstream.venues.hyperliquid.limits import MAX_BARS, VENUE_WEIGHT_PER_MINUTE, candle_weight

    here = urlsplit(base_url).hostname in ("127.0.0.1", "localhost", "::1")
    least = candle_weight(MAX_BARS)
    if per_minute < least or (per_minute > VENUE_WEIGHT_PER_MINUTE and not here):
        raise UsageError(
            f"--weight-per-minute {per_minute}: from {least}, the weight of one request, to the venue's "
            f"{VENUE_WEIGHT_PER_MINUTE}"
        )
    return per_minute


async def _pull(options: Options) -> int:
    from slipstream.cli.clock import wall_clock_ns
    from slipstream.venues.clock import SystemClock
    from slipstream.venues.hyperliquid.info import InfoClient
    from slipstream.venues.weight_budget import WeightBudget

    clock = SystemClock(wall_clock_ns)
    budget = WeightBudget(clock, options.weight_per_minute)
    async with InfoClient(options.base_url, clock=clock, budget=budget) as client:
        markets = await _markets(client, options)
        if not options.coins and not options.every:
            _list_markets(markets, options)
            return 0
        return await _load(client, clock, _chosen(markets, options), options)


async def _markets(client: InfoClient, options: Options) -> tuple[Instrument, ...]:
    """Every market of the dexs asked for, ended ones included."""
    dexs = await client.perp_dexs()
    for name in options.dexs:
        if name not in dexs:
            raise UsageError(f"--dex {name}: the venue has {', '.join(known or '(default)' for known in dexs)}")
    found = [await client.meta(dex) for dex in (options.dexs or dexs)]
    return tuple(instrument for group in found for instrument in group)


def _list_markets(markets: tuple[Instrument, ...], options: Options) -> None:
    import json

    live = [market for market in markets if options.include_delisted or not market.is_delisted]
    groups: dict[str, list[str]] = {}
    for market in live:
        groups.setdefault(market.dex or "(default)", []).append(market.coin)
    if options.json:
        _say(json.dumps(groups, indent=2))
        return
    for dex, coins in groups.items():
        _say(f"{dex}: {len(coins)} markets")
        _say("  " + " ".join(coins))
    _say("load some with --coin, or all with --all")


def _chosen(markets: tuple[Instrument, ...], options: Options) -> list[Instrument]:
    """The markets to load.

    Raises:
        UsageError: the venue knows no such coin; near names are offered, whatever their case.
    """
    import difflib

    by_name = {market.coin: market for market in markets}
    folded = {name.casefold(): name for name in by_name}
    if options.coins:
        for coin in options.coins:
            if coin not in by_name:
                near = [name for name in by_name if name.casefold() == coin.casefold()]
                near = near or [folded[key] for key in difflib.get_close_matches(coin.casefold(), folded, n=3)]
                hint = f"did you mean {' or '.join(near)}?" if near else "run hl-load without --coin for a list."
                raise UsageError(f"--coin {coin}: the venue has no such market; {hint} Names are case-sensitive.")
        return [by_name[coin] for coin in options.coins]
    return [market for market in by_name.values() if options.include_delisted or not market.is_delisted]


async def _load(client: InfoClient, clock: Clock, markets: list[Instrument], options: Options) -> int:
    import asyncio
    from contextlib import nullcontext

    from slipstream.cli.load_display import Display, print_plan, print_report
    from slipstream.cli.load_options import beginning, clamped_line
    from slipstream.ingest.load.loader import load
    from slipstream.ingest.load.plan import plan_coin, wanted
    from slipstream.ingest.load.spans import held_in
    from slipstream.lake.store import Lake
    from slipstream.venues.hyperliquid.limits import BEGINNING_MS

    now_ms = client.venue_now_ms()
    end_ms = now_ms if options.end_ms is None else options.end_ms
    begins = beginning(options.start_ms, options.days, end_ms, BEGINNING_MS)
    asked = wanted(options.interval, begins.start_ms, end_ms, now_ms)
    if asked.start_ms >= asked.end_ms:
        raise UsageError("the start lies at or after the end; nothing to load")
    lake = Lake.open(options.lake, create=True)
    # the plan rests on what is held, so no other loader may come between it and the load
    with nullcontext() if options.dry_run else lake.lock():
        before = held_in(lake, asked.start_ms, asked.end_ms)
        plans = [plan_coin(market.coin, asked, before, refetch=options.refetch) for market in markets]
        if begins.clamped and not options.json:
            _say(clamped_line(begins.start_ms))
        print_plan(plans, asked, before, [coin for coin in _PRE_FLIGHT if coin in {it.coin for it in markets}], options)
        if options.dry_run:
            return 0
        unrecorded = await _record_markets(client, lake, markets, now_ms, trust_files=options.trust_files)
        with Display(plans, clock, quiet=options.json) as watcher:
            report = await load(
                client,
                lake,
                [plan for plan in plans if not plan.empty],
                clock=clock,
                watcher=watcher,
                trust_files=options.trust_files,
            )
    report.refused |= {coin: why for coin, why in unrecorded.items() if coin not in report.refused}
    after = held_in(lake, asked.start_ms, asked.end_ms)
    coins = [market.coin for market in markets if any(coin == market.coin for _, coin in after.bars)]
    not_exported = await asyncio.to_thread(_export, lake, coins, options, now_ms) if options.export and coins else {}
    print_report(plans, asked, before, after, report, not_exported, options, client.traffic)
    return _REFUSED if report.refused or not_exported else _FAILED if report.failed else 0


async def _record_markets(
    client: InfoClient, lake: Lake, markets: list[Instrument], now_ms: int, *, trust_files: bool
) -> dict[str, str]:
    """Store descriptions and contexts of the dexs that are loaded; per coin, why the lake would not take them."""
    from slipstream.ingest.load.instruments import record_descriptions
    from slipstream.lake.datasets import ASSET_CONTEXTS

    refused: dict[str, str] = {}
    for dex in dict.fromkeys(market.dex for market in markets):
        instruments, contexts = await client.meta_and_contexts(dex, now_ms)
        refused |= record_descriptions(lake, instruments, now_ms, trust_files=trust_files).refused
        refused |= lake.upsert(ASSET_CONTEXTS, contexts, trust_files=trust_files).refused
    return refused


def _export(lake: Lake, coins: list[str], options: Options, now_ms: int) -> dict[str, str]:
    """Refresh the CSV files of the coins loaded; per coin or file, why it was left as it was."""
    from slipstream.cli.data_export import exported

    try:
        report = exported(
            lake, options.interval, options.market_data, coins=coins, now_ms=now_ms, trust_files=options.trust_files
        )
    except UsageError as problem:
        # what was loaded is committed and still to be reported; the cause is most likely a part the load refused, too
        return {str(options.market_data): str(problem)}
    return report.refused


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
