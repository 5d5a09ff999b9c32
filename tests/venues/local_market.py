"""A small synthetic market for the local venue: seeded, deterministic, and the same however it is asked.

Prices are decimals as the venue prints them. Each hour has one path (open, extreme, extreme, close); every shorter bar
is a piece of it and every longer bar the sum of hours, so all intervals agree. Knowing the market is how tests know
what a client should have fetched.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000
INTERVALS = {
    "1m": MINUTE_MS,
    "3m": 3 * MINUTE_MS,
    "5m": 5 * MINUTE_MS,
    "15m": 15 * MINUTE_MS,
    "30m": 30 * MINUTE_MS,
    "1h": HOUR_MS,
    "2h": 2 * HOUR_MS,
    "4h": 4 * HOUR_MS,
    "8h": 8 * HOUR_MS,
    "12h": 12 * HOUR_MS,
    "1d": DAY_MS,
}
STICKY_RATE = "0.0000125"
_PIECES = 60  # minutes of an hour


def decimal_text(value: float, decimals: int) -> str:
    """As the venue prints it: no exponent, no trailing zeros, whole numbers keep one."""
    text = f"{value:.{decimals}f}"
    if "." not in text:
        return f"{text}.0"
    text = text.rstrip("0")
    return f"{text}0" if text.endswith(".") else text


def price_decimals(price: float, sz_decimals: int) -> int:
    """Five significant figures and at most 6 - sz_decimals decimals."""
    significant = 5 - 1 - int(np.floor(np.log10(price)))
    return int(max(0, min(significant, 6 - sz_decimals)))


def _draws(seed: int, *names: object) -> np.random.Generator:
    digest = hashlib.sha256(repr((seed, names)).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little"))


@dataclass(frozen=True)
class Bar:
    """One candle; prices and volume as text, ``forming`` while its interval is not over."""

    open_ms: int
    open: str
    high: str
    low: str
    close: str
    volume: str
    trades: int
    forming: bool = False


@dataclass(frozen=True)
class Settlement:
    """One funding payment: the hour it belongs to, and the stamp it was published with."""

    hour_ms: int
    stamp_ms: int
    rate: str
    premium: str


@dataclass(frozen=True)
class Coin:
    """One perpetual and its life.

    Attributes:
        listed_ms: first moment of trading (hour).
        delisted_ms: last moment of trading (hour), or None.
        backfill_hours: zero-volume flat bars the venue shows before the listing.
        quiet_every: every such hour has no trade, as on an illiquid coin; 0 for none.
    """

    name: str
    price: float
    sz_decimals: int
    max_leverage: int
    listed_ms: int
    delisted_ms: int | None = None
    backfill_hours: int = 0
    quiet_every: int = 0
    only_isolated: bool = False
    seed: int = 7
    _hours: int = field(default=24 * 1200, repr=False)

    @cached_property
    def _walk(self) -> np.ndarray:
        """(hours, 3): log close, and the excursions above and below, from the listing on."""
        draws = _draws(self.seed, self.name).standard_normal((self._hours, 3))
        draws[:, 0] = np.cumsum(draws[:, 0] * 0.008)
        draws[:, 1:] = np.abs(draws[:, 1:]) * 0.003
        return draws

    def _decimals(self, price: float) -> int:
        return price_decimals(price, self.sz_decimals)

    def _knots(self, hour: int) -> np.ndarray:
        """The hour's four prices in the order they were traded, already rounded as text would be."""
        walk = self._walk
        start = self.price * np.exp(walk[hour - 1, 0]) if hour > 0 else self.price
        if self._quiet(hour):
            flat = self._last_close(hour)
            return np.full(4, flat)
        end = self.price * np.exp(walk[hour, 0])
        top, bottom = max(start, end) * np.exp(walk[hour, 1]), min(start, end) * np.exp(-walk[hour, 2])
        inner = [top, bottom] if hour % 2 else [bottom, top]
        return np.array([round(p, self._decimals(p)) for p in (start, *inner, end)])

    def _quiet(self, hour: int) -> bool:
        return bool(self.quiet_every) and hour % self.quiet_every == self.quiet_every - 1

    def _last_close(self, hour: int) -> float:
        close = self.price * float(np.exp(self._walk[hour - 1, 0]))
        return round(close, self._decimals(close))

    def _lots(self, hour: int) -> int:
        """Volume of an hour in steps of a size, a multiple of the minutes."""
        if self._quiet(hour):
            return 0
        usd = 2e5 * (1 + 9 * float(_draws(self.seed, self.name, "volume", hour).random()))
        return max(1, int(usd / self.price * 10**self.sz_decimals) // _PIECES) * _PIECES

    def hour_of(self, moment_ms: int) -> int:
        return (moment_ms - self.listed_ms) // HOUR_MS

    def alive(self, moment_ms: int) -> bool:
        return self.listed_ms <= moment_ms and (self.delisted_ms is None or moment_ms < self.delisted_ms)

    def price_at(self, moment_ms: int) -> float:
        """Last traded price at the end of the hour before ``moment_ms``; frozen after the delisting."""
        end = moment_ms if self.delisted_ms is None else min(moment_ms, self.delisted_ms)
        hour = self.hour_of(end)
        return float(self._knots(0)[0]) if hour <= 0 else float(self._knots(hour - 1)[3])

    @cached_property
    def _closed(self) -> dict[tuple[int, str], Bar | None]:
        return {}

    def bar(self, open_ms: int, interval: str, now_ms: int) -> Bar | None:
        """The candle that opens at ``open_ms`` as it looks at ``now_ms``; None where the venue has none."""
        if open_ms + INTERVALS[interval] > now_ms:
            return self._bar(open_ms, interval, now_ms)
        if (open_ms, interval) not in self._closed:
            self._closed[open_ms, interval] = self._bar(open_ms, interval, now_ms)
        return self._closed[open_ms, interval]

    def _bar(self, open_ms: int, interval: str, now_ms: int) -> Bar | None:
        first = self.listed_ms - self.backfill_hours * HOUR_MS
        close_ms = open_ms + INTERVALS[interval]
        end = min(close_ms, now_ms) if self.delisted_ms is None else min(close_ms, now_ms, self.delisted_ms)
        if close_ms <= first or open_ms >= now_ms or end <= open_ms:
            return None
        forming = close_ms > now_ms
        if close_ms <= self.listed_ms:
            flat = self._text(float(self._knots(0)[0]))
            return Bar(open_ms, flat, flat, flat, flat, "0.0", 0, forming)
        return self._traded(open_ms, end, forming=forming)

    def _traded(self, open_ms: int, end_ms: int, *, forming: bool) -> Bar:
        low, high, lots, trades = np.inf, -np.inf, 0, 0
        start = max(open_ms, self.listed_ms)
        opened = closed = float("nan")
        moment = start
        while moment < max(end_ms, start + 1):
            hour = self.hour_of(moment)
            base = self.listed_ms + hour * HOUR_MS
            until = min(base + HOUR_MS, max(end_ms, start + 1))
            piece = self._piece(hour, (moment - base) / HOUR_MS, (until - base) / HOUR_MS)
            opened = piece[0] if moment == start else opened
            closed = piece[-1]
            low, high = min(low, min(piece)), max(high, max(piece))
            part = self._lots(hour) // _PIECES * int((until - moment) // MINUTE_MS)
            lots, trades = lots + part, trades + (1 + part % 97 if part else 0)
            moment = until
        volume = decimal_text(lots / 10**self.sz_decimals, self.sz_decimals)
        return Bar(open_ms, *(self._text(p) for p in (opened, high, low, closed)), volume, trades, forming)

    def _piece(self, hour: int, start: float, end: float) -> list[float]:
        """Prices on the hour's path between two fractions of it, extremes included."""
        knots = self._knots(hour)
        times = np.array([0.0, 1 / 3, 2 / 3, 1.0])
        inside = (times > start) & (times < end)
        edges = np.interp([start, end], times, knots)
        first, last = (round(float(p), self._decimals(float(p))) for p in edges)
        return [first, *(float(p) for p in knots[inside]), last]

    def _text(self, price: float) -> str:
        return decimal_text(price, self._decimals(price))

    def settlements(self, from_ms: int, to_ms: int, now_ms: int, limit: int) -> list[Settlement]:
        """Published settlements whose stamps lie in [from_ms, to_ms], oldest first, at most ``limit``."""
        found: list[Settlement] = []
        hour = max(self.listed_ms + HOUR_MS, from_ms // HOUR_MS * HOUR_MS)
        last = min(to_ms, now_ms) if self.delisted_ms is None else min(to_ms, now_ms, self.delisted_ms + HOUR_MS - 1)
        while hour <= last and len(found) < limit:
            entry = self._settlement(hour)
            if from_ms <= entry.stamp_ms <= min(to_ms, now_ms):
                found.append(entry)
            hour += HOUR_MS
        return found

    def _settlement(self, hour_ms: int) -> Settlement:
        draws = _draws(self.seed, self.name, "funding", hour_ms // HOUR_MS)
        chance, premium = float(draws.random()), float(draws.normal() * 4e-4)
        late = 1 + int(draws.integers(0, 118))
        if hour_ms // HOUR_MS % 97 == 0:
            late += 60_000  # one in ninety-seven is a minute late
        rate = STICKY_RATE if chance < 0.63 else decimal_text(premium / 8, 10)
        return Settlement(hour_ms, hour_ms + late, rate, decimal_text(premium, 10))


def small_market(now_ms: int, days: int, coins: int, seed: int = 7) -> dict[str, list[Coin]]:
    """Dex name -> coins, in the order of their index; ``coins`` of them on the first dex and two on ``xyz``.

    The first six are BTC, ETH, kPEPE (since before the window), MATIC (delisted a third of the way in), NEWT (listed
    in the middle, with 300 hours of flat bars before) and RLB (every third hour without a trade).
    """
    start = (now_ms - days * DAY_MS) // HOUR_MS * HOUR_MS
    old = start - 40 * DAY_MS
    middle = start + days // 2 * DAY_MS
    first = [
        Coin("BTC", 64_000.0, 5, 40, old, seed=seed),
        Coin("ETH", 3_100.0, 4, 25, old, seed=seed),
        Coin("kPEPE", 0.0116, 0, 10, old, seed=seed),
        Coin("MATIC", 0.52, 1, 20, old, delisted_ms=start + days // 3 * DAY_MS, seed=seed),
        Coin("NEWT", 1.7, 1, 5, middle, backfill_hours=min(300, days // 2 * 24), only_isolated=True, seed=seed),
        Coin("RLB", 0.08, 0, 3, old, quiet_every=3, seed=seed),
    ]
    more = [
        Coin(f"C{i:03d}", 2.0 + i % 50, 2, 10, start + (i % 7) * DAY_MS * (days // 30), seed=seed)
        for i in range(len(first), coins)
    ]
    other = [
        Coin("xyz:GOLD", 3_300.0, 3, 20, middle, seed=seed),
        Coin("xyz:TSLA", 410.0, 3, 10, middle, seed=seed),
    ]
    return {"": [*first, *more][:coins], "xyz": other}
