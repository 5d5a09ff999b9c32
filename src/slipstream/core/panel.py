"""The one research type: a dense panel of bars, time x coin, and the view of it as of a moment.

Every row is labelled by the time at which it is *known* (the bar's open plus its length), so row ``t`` holds only
facts known at ``t``. Arrays are float64 and C-contiguous; a bar that does not exist is NaN.

Funding is booked to the bar that closes at the settlement's stamp: ``funding[t]`` is the sum of the rates settled in
(open, close] of the bar known at ``t``. A position taken at the close ``t`` first pays row ``t + 1``. The settlement
stamped ``t`` is published after ``t`` (seconds to minutes later), so a :class:`View` as of ``t`` shows settlements up
to the row before: a decision at the close never uses it, although whoever held the bar pays it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slipstream.errors import UsageError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

HOUR_MS = 3_600_000
HOURS_PER_YEAR = 8766.0
"""365.25 days: the year of every annualised figure in this code base."""


class PanelError(UsageError):
    """Arrays that do not fit together, or a request the panel cannot answer."""


@dataclass(frozen=True)
class UniverseRule:
    """Which coins may be held, decided row by row from the past alone.

    Attributes:
        min_adv_usd: least average daily USD volume over the trailing history window.
        min_history_hours: length of that window and the least number of hours of bars seen inside it.
    """

    min_adv_usd: float = 1e5
    min_history_hours: int = 720

    def __post_init__(self) -> None:
        if not (np.isfinite(self.min_adv_usd) and self.min_adv_usd >= 0.0):
            raise PanelError(f"least daily volume is {self.min_adv_usd} USD; it must be a number of at least 0")
        if self.min_history_hours < 1:
            raise PanelError(f"history of {self.min_history_hours} h asked for; it must be at least one hour")


@dataclass(frozen=True)
class Panel:
    """Bars of many coins on one hourly (or H-hourly) grid.

    Attributes:
        known_at_ms: shape (T,), Unix ms, strictly increasing by ``bar_hours``; the close of each bar.
        coins: N names, case-sensitive, sorted.
        bar_hours: length of a bar, hours.
        open, high, low, close: shape (T, N), USD, NaN where the coin has no bar.
        volume_usd: shape (T, N), USD traded in the bar, NaN where the coin has no bar (or volume is unknown).
        funding: shape (T, N), sum of the rates settled in (open, close]: 0 where none was due, NaN where one was due
            and is not recorded.
        universe: shape (T, N), True where the coin may be held (see :class:`UniverseRule`).
        source: where the bars come from, for reports.
    """

    known_at_ms: IntArray
    coins: tuple[str, ...]
    bar_hours: int
    open: FloatArray = field(repr=False)
    high: FloatArray = field(repr=False)
    low: FloatArray = field(repr=False)
    close: FloatArray = field(repr=False)
    volume_usd: FloatArray = field(repr=False)
    funding: FloatArray = field(repr=False)
    universe: BoolArray = field(repr=False)
    source: str = "unnamed"

    def __post_init__(self) -> None:
        rows, columns = len(self.known_at_ms), len(self.coins)
        for name in ("open", "high", "low", "close", "volume_usd", "funding", "universe"):
            shape = getattr(self, name).shape
            if shape != (rows, columns):
                raise PanelError(f"panel array {name} has shape {shape}; expected {(rows, columns)}")
        if rows > 1 and not (np.diff(self.known_at_ms) == self.bar_hours * HOUR_MS).all():
            raise PanelError(f"panel times must step by exactly {self.bar_hours} h; keep missing bars as NaN rows")
        if len(set(self.coins)) != columns:
            raise PanelError("panel coins are not unique")

    @classmethod
    def build(
        cls,
        known_at_ms: IntArray,
        coins: tuple[str, ...],
        bar_hours: int,
        *,
        open: FloatArray,  # noqa: A002 - the field's own word
        high: FloatArray,
        low: FloatArray,
        close: FloatArray,
        volume_usd: FloatArray,
        funding: FloatArray,
        rule: UniverseRule | None = None,
        source: str = "unnamed",
    ) -> Panel:
        """A panel whose universe follows ``rule`` (default :class:`UniverseRule`).

        Raises:
            PanelError: shapes differ, times are not an even grid, or coins repeat.
        """
        universe = tradable_universe(close, volume_usd, bar_hours, rule or UniverseRule())
        return cls(known_at_ms, coins, bar_hours, open, high, low, close, volume_usd, funding, universe, source)

    @property
    def rows(self) -> int:
        return len(self.known_at_ms)

    @property
    def times(self) -> list[datetime]:
        """Known-at times as UTC datetimes, length T."""
        return [utc(ms) for ms in self.known_at_ms.tolist()]

    @cached_property
    def mark(self) -> FloatArray:
        """Last known close, shape (T, N), USD: gaps carry the price before them; NaN before the first bar."""
        return forward_fill(self.close)

    @cached_property
    def funding_missing(self) -> BoolArray:
        """Where a settlement was due in a bar's span and none is recorded, shape (T, N)."""
        return np.isnan(self.funding)

    def row_at(self, ms: int) -> int:
        """Last row known at or before ``ms``; -1 if there is none."""
        return int(np.searchsorted(self.known_at_ms, ms, side="right")) - 1

    def until(self, row: int) -> Panel:
        """The panel cut after ``row`` (inclusive): what a file ending there would hold. No copy is made."""
        stop = row + 1
        return replace(
            self,
            known_at_ms=self.known_at_ms[:stop],
            open=self.open[:stop],
            high=self.high[:stop],
            low=self.low[:stop],
            close=self.close[:stop],
            volume_usd=self.volume_usd[:stop],
            funding=self.funding[:stop],
            universe=self.universe[:stop],
        )

    def view(self, row: int | None = None) -> View:
        """What is known at the close of ``row`` (default: the last row).

        Raises:
            PanelError: ``row`` is outside the panel.
        """
        last = self.rows - 1 if row is None else row
        if not 0 <= last < self.rows:
            raise PanelError(f"row {last} is outside the panel's {self.rows} rows")
        return View(self if last == self.rows - 1 else self.until(last))


Feature = Callable[..., FloatArray]
"""``feature(view, **parameters) -> (rows, N)`` where row s depends on rows <= s of the view only."""


class View:
    """The market as of the close of its last row: everything a decision may read.

    A *feature* is a causal function of a view. Because its row ``s`` depends only on rows up to ``s``, the feature of a
    long view, cut, is the feature of the short view: a backtest therefore computes each feature once, on its longest
    view, and every earlier view reads its own rows of it (``as_of``). The test suite holds each registered feature to
    that prefix property bit for bit, and each backtest re-decides a sample of its moments from truncated data.
    """

    def __init__(self, panel: Panel, whole: View | None = None) -> None:
        self._panel = panel
        self._whole = whole
        self._memo: dict[tuple[Feature, tuple[tuple[str, Hashable], ...]], FloatArray] = {}

    @property
    def rows(self) -> int:
        return self._panel.rows

    @property
    def known_at_ms(self) -> int:
        """The moment this view is of, Unix ms."""
        return int(self._panel.known_at_ms[-1])

    @property
    def coins(self) -> tuple[str, ...]:
        return self._panel.coins

    @property
    def bar_hours(self) -> int:
        return self._panel.bar_hours

    @property
    def close(self) -> FloatArray:
        """Closes, shape (rows, N), USD, NaN where there is no bar."""
        return self._panel.close

    @property
    def volume_usd(self) -> FloatArray:
        """USD volume per bar, shape (rows, N)."""
        return self._panel.volume_usd

    @property
    def universe(self) -> BoolArray:
        """Point-in-time universe, shape (rows, N)."""
        return self._panel.universe

    @property
    def tradable(self) -> BoolArray:
        """Coins that may be held from this close on, shape (N,)."""
        return np.asarray(self._panel.universe[-1])

    @property
    def log_return(self) -> FloatArray:
        """ln(close_t / close_{t-1}), shape (rows, N); NaN at a coin's first bar, in a gap and just after one."""
        return self.feature(_log_return)

    @property
    def funding_published(self) -> FloatArray:
        """Funding sums as published by each row's close, shape (rows, N).

        Row s is the sum of the settlements in the bar *before* row s: the one stamped at the close of row s comes out
        after it. NaN where a due settlement is missing; 0 where none was due.
        """
        return self.feature(_funding_published)

    def feature(self, function: Feature, **parameters: Hashable) -> FloatArray:
        """``function(view, **parameters)`` for this view, shape (rows, N), computed once per longest view."""
        if self._whole is not None:
            return self._whole.feature(function, **parameters)[: self.rows]
        key = (function, tuple(sorted(parameters.items())))
        if key not in self._memo:
            values = function(self, **parameters)
            values.flags.writeable = False
            self._memo[key] = values
        return self._memo[key]

    @property
    def computed(self) -> dict[str, FloatArray]:
        """The features computed so far on the longest view: name and parameters -> values, first axis its rows."""
        if self._whole is not None:
            return self._whole.computed
        named = {}
        for (function, parameters), values in self._memo.items():
            given = ", ".join(f"{name}={value}" for name, value in parameters)
            named[f"{getattr(function, '__name__', repr(function))}({given})"] = values
        return named

    def as_of(self, row: int) -> View:
        """The view as of an earlier row of this one, sharing its computed features.

        Raises:
            PanelError: ``row`` is outside this view.
        """
        if not 0 <= row < self.rows:
            raise PanelError(f"row {row} is outside the view's {self.rows} rows")
        return View(self._panel.until(row), self._whole or self)


def _log_return(view: View) -> FloatArray:
    out = np.full_like(view.close, np.nan)
    np.log(view.close[1:] / view.close[:-1], out=out[1:])
    return out


def _funding_published(view: View) -> FloatArray:
    out = np.full_like(view.close, np.nan)
    out[1:] = view._panel.funding[:-1]
    return out


def tradable_universe(close: FloatArray, volume_usd: FloatArray, bar_hours: int, rule: UniverseRule) -> BoolArray:
    """Point-in-time universe mask, shape (T, N).

    A coin is in at row t if it has a bar at t, at least ``min_history_hours`` of bars up to t, and its trailing
    average daily volume over that many hours is at least ``min_adv_usd``. Coins later delisted are in while they trade.

    Args:
        close: shape (T, N), USD, NaN where there is no bar.
        volume_usd: shape (T, N), USD per bar; NaN counts as no volume, unless a coin's volume is unknown throughout
            the panel's every row so far, in which case the volume rule cannot be judged and is not applied.
        bar_hours: bar length, hours.
        rule: thresholds.
    """
    window = max(1, rule.min_history_hours // bar_hours)
    present = ~np.isnan(close)
    seen = np.cumsum(present, axis=0)
    adv = trailing_mean(np.where(np.isnan(volume_usd), 0.0, volume_usd), window) * (24.0 / bar_hours)
    volume_known = np.cumsum(~np.isnan(volume_usd), axis=0) > 0
    return np.asarray(present & (seen >= window) & ((adv >= rule.min_adv_usd) | ~volume_known))


def trailing_mean(values: FloatArray, window: int) -> FloatArray:
    """Mean of the last ``window`` rows, shape (T, N); rows before a full window divide by the rows there are.

    Args:
        values: shape (T, N), finite.
        window: rows, at least 1.
    """
    total = np.cumsum(values, axis=0)
    out = total.copy()
    out[window:] -= total[:-window]
    count = np.minimum(np.arange(1, len(values) + 1), window)[:, None]
    return np.asarray(out / count)


def forward_fill(values: FloatArray) -> FloatArray:
    """Each column's last finite value up to and including each row, shape (T, N); NaN before the first."""
    rows = np.where(np.isnan(values), -1, np.arange(len(values))[:, None])
    last = np.maximum.accumulate(rows, axis=0)
    filled = np.take_along_axis(values, np.maximum(last, 0), axis=0)
    return np.where(last >= 0, filled, np.nan)


def utc(ms: int) -> datetime:
    """Unix milliseconds as an aware UTC datetime."""
    return datetime.fromtimestamp(ms / 1000.0, tz=UTC)


def to_ms(moment: datetime | np.datetime64 | Any) -> int:
    """A datetime as Unix ms; a naive one is read as UTC."""
    if isinstance(moment, np.datetime64):
        return int(moment.astype("datetime64[ms]").astype(np.int64))
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return round(aware.timestamp() * 1000)
