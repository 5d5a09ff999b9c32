"""Binance's USD-M futures as a source of the loader: the same coins under the venue's own names.

Binance keeps every bar, so hourly ones reach back to a coin's listing. What it settles at changing intervals (8, 4 or
1 h) is stored by the hour of the stamp, as it came.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import polars as pl

from slipstream.ingest.load.plan import Costs
from slipstream.venues.binance.limits import MAX_FUNDING, MAX_KLINES, kline_weight
from slipstream.venues.binance.rest import BinanceClient
from slipstream.venues.hyperliquid.limits import Requests, bars_between, settlements_between


class BinanceSource:
    """A client that is asked by coin instead of by symbol."""

    def __init__(self, client: BinanceClient) -> None:
        self._client = client

    def candle_pages(
        self,
        coin: str,
        interval: str,
        start_ms: int,
        end_ms: int,
        *,
        traded_before: bool = False,  # noqa: ARG002 - this venue fills in nothing before a listing
    ) -> AsyncIterator[pl.DataFrame]:
        """Closed bars that open in [start_ms, end_ms), Unix ms."""
        return self._client.kline_pages(self._client.symbols.symbol(coin), interval, start_ms, end_ms)

    def funding_pages(self, coin: str, start_ms: int, end_ms: int) -> AsyncIterator[pl.DataFrame]:
        """Settlements of the whole hours in [start_ms, end_ms], Unix ms."""
        return self._client.funding_pages(self._client.symbols.symbol(coin), start_ms, end_ms)


def _bars(start_ms: int, end_ms: int, interval: str) -> Requests:
    pages, rest = divmod(bars_between(start_ms, end_ms, interval), MAX_KLINES)
    whole = Requests(pages, pages * kline_weight(MAX_KLINES))
    return whole + Requests(1, kline_weight(rest)) if rest else whole


def _settlements(start_ms: int, end_ms: int) -> Requests:
    """At most: as if a coin settled every hour. Requests for funding have no weight; they are counted apart."""
    return Requests(-(-settlements_between(start_ms, end_ms) // MAX_FUNDING), 0)


BINANCE = Costs(_bars, _settlements)
