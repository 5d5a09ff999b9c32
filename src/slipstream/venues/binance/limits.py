"""What Binance's USD-M futures REST allows.

Set down on 2026-11-28 from what is generally known of the venue's tables; not confirmed against the venue. The limit of
weight per minute, which matters most, is read from the venue itself, in the answer to exchangeInfo. Confirm the rest
before live use.
"""

from __future__ import annotations

BEGINNING_MS = 1_567_296_000_000
"""2019-09-01 UTC, Unix ms. USD-M futures opened in that month, so no candle or settlement can be older: a load never
asks for more."""

VENUE_WEIGHT_PER_MINUTE = 2400
WEIGHT_PER_MINUTE = 1800
"""What we use of it."""

FUNDING_WINDOW_S = 300.0
VENUE_FUNDING_REQUESTS = 500
"""Requests for funding in five minutes; they are counted apart and have no weight."""
FUNDING_REQUESTS = 375
"""What we use of it."""

MAX_KLINES = 1500
MAX_FUNDING = 1000
EXCHANGE_INFO_WEIGHT = 1
BOOK_TICKER_WEIGHT = 2
ALL_BOOK_TICKERS_WEIGHT = 5


def kline_weight(limit: int) -> int:
    """Weight of a klines request, by the number of bars it asks for."""
    if limit < 100:
        return 1
    if limit < 500:
        return 2
    return 5 if limit <= 1000 else 10
