"""``slipstream data binance``: candles and funding of Binance's USD-M futures, into a lake of their own."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from slipstream.cli.load_options import Interval, beginning, clamped_line, moment
from slipstream.errors import UsageError

if TYPE_CHECKING:
    from slipstream.venues.binance.rest import BinanceClient

_FAILED, _REFUSED = 1, 3


def binance(
    *,
    coins: Annotated[
        tuple[str, ...],
        Parameter(name="--coins", consume_multiple=True, help="Coins by their Hyperliquid names, such as BTC kPEPE."),
    ] = (),
    interval: Annotated[Interval, Parameter(help="Bar length. From 1h on, hourly bars are fetched.")] = "1h",
    days: Annotated[int, Parameter(help="How far back to go.")] = 180,
    start: Annotated[str | None, Parameter(help="First moment, ISO 8601, UTC; instead of --days.")] = None,
    end: Annotated[str | None, Parameter(help="Last moment, ISO 8601, UTC (default: now).")] = None,
    lake: Annotated[str, Parameter(help="The lake: a folder or an s3:// URL.")] = "data/binance_lake",
    refetch: Annotated[bool, Parameter(negative="", help="Ask again for the whole range although it is held.")] = False,
    base_url: Annotated[str, Parameter(help="Address of the venue.")] = "https://fapi.binance.com",
    json: Annotated[bool, Parameter(name="--json", negative="", help="Print JSON and nothing else.")] = False,
) -> int:
    """Load candles and settled funding from Binance's USD-M futures; coins keep their Hyperliquid names.

    kPEPE is read from 1000PEPEUSDT. Give these bars a lake of their own: the same coins of two venues do not go into
    one. Only what is missing is asked for; with --refetch the whole range, and values that differ are corrected. Exit 1
    if a coin could not be fetched, 3 if one was refused.

    Example: slipstream data binance --coins BTC ETH kPEPE --days 365 --lake data/binance_lake
    """
    import asyncio

    if not coins:
        raise UsageError("no coin asked for; name some with --coins, such as --coins BTC ETH kPEPE")
    if days < 1:
        raise UsageError(f"--days {days}: at least 1")
    start_ms = None if start is None else moment(start, "--start")
    end_ms = None if end is None else moment(end, "--end")
    wish = _Wish(tuple(dict.fromkeys(coins)), interval, days, start_ms, end_ms, lake, base_url, refetch, json)
    return asyncio.run(_pull(wish))


@dataclass(frozen=True)
class _Wish:
    """What a user asked for; moments are Unix ms, None where the default depends on the venue's time."""

    coins: tuple[str, ...]
    interval: Interval
    days: int
    start_ms: int | None
    end_ms: int | None
    lake: str
    base_url: str
    refetch: bool
    json: bool


async def _pull(wish: _Wish) -> int:
    from slipstream.cli.clock import wall_clock_ns
    from slipstream.cli.load_display import Display
    from slipstream.ingest.load.binance import BINANCE, BinanceSource
    from slipstream.ingest.load.loader import load
    from slipstream.ingest.load.plan import plan_coin, total, wanted
    from slipstream.ingest.load.spans import held_in
    from slipstream.lake.store import Lake
    from slipstream.venues.binance.limits import BEGINNING_MS
    from slipstream.venues.binance.rest import BinanceClient
    from slipstream.venues.clock import SystemClock

    clock = SystemClock(wall_clock_ns)
    async with BinanceClient(wish.base_url, clock=clock) as client:
        now_ms = await _require_listed(client, wish.coins)
        last_ms = now_ms if wish.end_ms is None else wish.end_ms
        begins = beginning(wish.start_ms, wish.days, last_ms, BEGINNING_MS)
        asked = wanted(wish.interval, begins.start_ms, last_ms, now_ms, kept_bars=None)
        if asked.start_ms >= asked.end_ms:
            raise UsageError("the start lies at or after the end; nothing to load")
        lake = Lake.open(wish.lake, create=True)
        with lake.lock():
            before = held_in(lake, asked.start_ms, asked.end_ms)
            plans = [plan_coin(coin, asked, before, BINANCE, refetch=wish.refetch) for coin in wish.coins]
            cost = total(plans)
            if not wish.json:
                if begins.clamped:
                    _say(clamped_line(begins.start_ms))
                _say(f"about {cost.count:,} requests, weight {cost.weight:,}")
            with Display(plans, clock, quiet=wish.json) as watcher:
                missing = [plan for plan in plans if not plan.empty]
                report = await load(BinanceSource(client), lake, missing, clock=clock, watcher=watcher)
    after = held_in(lake, asked.start_ms, asked.end_ms)
    rows = {
        coin: {
            "bars_before": len(before.opens(asked.base_interval, coin)),
            "bars_after": len(after.opens(asked.base_interval, coin)),
            "settlements_before": len(before.stamps(coin)),
            "settlements_after": len(after.stamps(coin)),
            "corrected": report.corrected.get(coin, 0),
        }
        for coin in wish.coins
    }
    _print(rows, report.failed, report.refused, wish.json)
    return _REFUSED if report.refused else _FAILED if report.failed else 0


async def _require_listed(client: BinanceClient, coins: tuple[str, ...]) -> int:
    """The venue's time, if it lists every coin.

    Raises:
        UsageError: it does not list one, or no rule gives it a symbol.
    """
    info = await client.exchange_info()
    listed = {contract.symbol for contract in info.contracts}
    for coin in coins:
        symbol = client.symbols.symbol(coin)
        if symbol not in listed:
            raise UsageError(f"--coins {coin}: the venue lists no perpetual {symbol}; names are case-sensitive")
    return info.server_ms


def _print(rows: dict[str, dict[str, int]], failed: dict[str, str], refused: dict[str, str], as_json: bool) -> None:
    import json

    if as_json:
        _say(json.dumps({"coins": rows, "failed": failed, "refused": refused}, indent=2))
        return
    for coin, row in rows.items():
        _say(
            f"{coin}: {row['bars_before']} -> {row['bars_after']} bars, "
            f"funding {row['settlements_before']} -> {row['settlements_after']}"
            + (f", {row['corrected']} corrected" if row["corrected"] else "")
        )
    for title, problems in (("failed", failed), ("refused", refused)):
        for name, why in problems.items():
            _say(f"{title}: {name}: {why}")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
