"""What a user can ask of a load, read from flags."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from slipstream.errors import UsageError

Interval = Literal["1m", "5m", "15m", "1h", "4h", "1d"]


@dataclass(frozen=True)
class Options:
    """What a user asked for; moments are Unix ms, None where the default depends on the venue's time."""

    coins: tuple[str, ...]
    every: bool
    dexs: tuple[str, ...]
    interval: Interval
    days: int
    start_ms: int | None
    end_ms: int | None
    include_delisted: bool
    base_url: str
    weight_per_minute: int
    lake: str
    market_data: Path
    dry_run: bool
    export: bool
    trust_files: bool
    json: bool
    refetch: bool = False


@dataclass(frozen=True)
class Beginning:
    """Where a load begins, Unix ms; ``clamped`` if more was asked for than can exist."""

    start_ms: int
    clamped: bool


def beginning(start_ms: int | None, days: int, end_ms: int, venue_began_ms: int) -> Beginning:
    """The first moment of a load: the start asked for or so many days before its end, but not before the venue's own.

    Args:
        start_ms: what was asked for, Unix ms; None: counted back by ``days``.
        days: however many.
        end_ms: last moment, Unix ms.
        venue_began_ms: nothing is older, Unix ms.

    Raises:
        UsageError: the whole range lies before the venue began.
    """
    from slipstream.core.panel import HOUR_MS, utc

    if end_ms <= venue_began_ms:
        raise UsageError(f"the end lies before the venue began, {utc(venue_began_ms):%Y-%m-%d} UTC; nothing to load")
    wish = end_ms - days * 24 * HOUR_MS if start_ms is None else start_ms
    return Beginning(max(wish, venue_began_ms), wish < venue_began_ms)


def clamped_line(start_ms: int) -> str:
    """What a user is told whose start was moved to the venue's beginning."""
    from slipstream.core.panel import utc

    return f"nothing is older than {utc(start_ms):%Y-%m-%d} UTC, when the venue began: the load starts there"


def moment(text: str, flag: str) -> int:
    """A moment that a user typed, Unix ms; without a zone it is UTC.

    Raises:
        UsageError: it is no ISO 8601 time.
    """
    from datetime import datetime

    from slipstream.core.panel import to_ms

    try:
        return to_ms(datetime.fromisoformat(text))
    except ValueError as problem:
        raise UsageError(f"{flag} {text}: write an ISO 8601 time, such as 2025-01-31 or 2025-01-31T08:00Z") from problem
