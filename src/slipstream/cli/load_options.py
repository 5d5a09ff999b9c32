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
