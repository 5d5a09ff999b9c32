"""What a bar file must hold: its columns, their units, and the rules every row must keep.

One table of rules serves the reader (which refuses at the first broken one) and the integrity check (which lists them
all). A row is an hourly candle labelled by its open ``ts`` in UTC; the candle is known an hour later. ``funding`` is
the rate settled *at* ``ts``, null in hours without a settlement; ``volume`` counts coins, null where it is unknown.

The bound on funding is the venue's own: Hyperliquid caps the hourly rate at 4 %. Its base is 0.01 % per 8 hours, that
is 1.25e-5 per hour, and a rate quoted in percent or basis points is far outside what a market sustains, which
:func:`funding_unit_problem` makes a rule for the whole column.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from slipstream.core.panel import HOUR_MS, utc
from slipstream.lake.datasets import TIME, Column

FUNDING_CAP_PER_HOUR = 0.04
"""Hyperliquid's cap on one hourly settlement, fraction of notional."""

FUNDING_BASE_PER_HOUR = 1.25e-5
"""The interest part of the rate: 0.01 % per 8 h, where most coins stand most of the time."""

FUNDING_MEDIAN_BOUND_PER_HOUR = 5e-4
"""Largest median size of a whole column, per hour of the settlement interval (438 % a year).

Recordings of 2019-2025 have medians between 0.8e-5 and 1.3e-5 over a file, up to 1.2e-4 over the hottest month of all
coins and 4.6e-4 over the hottest week of one coin; the same files in percent begin at 8e-4.
"""

FARTHEST_MS = 15 * 8766 * HOUR_MS
"""Age difference at which a time is a slip of the pen; a panel is dense, so one wrong year would fill memory."""


COLUMNS = (
    Column("ts", TIME, "open of the hourly candle, UTC, on the hour"),
    Column("coin", pl.String(), "case-sensitive name"),
    Column("open", pl.Float64(), "USD"),
    Column("high", pl.Float64(), "USD"),
    Column("low", pl.Float64(), "USD"),
    Column("close", pl.Float64(), "USD"),
    Column("volume", pl.Float64(), "coins traded in the hour; null where unknown"),
    Column("funding", pl.Float64(), "rate settled at ts, fraction of notional; null where none settled"),
)
COLUMN_NAMES = tuple(column.name for column in COLUMNS)
PRICES = ("open", "high", "low", "close")
NUMBERS = (*PRICES, "volume", "funding")


@dataclass(frozen=True)
class Rule:
    """A demand on every row: ``broken`` is true where ``column`` does not meet it; ``fault`` names the failure."""

    fault: str
    column: str
    broken: pl.Expr
    demand: str
    remedy: str


@dataclass(frozen=True)
class Violation:
    """The first row at which one coin breaks one rule, and how many of its rows do.

    Attributes:
        row: 0-based row of the frame.
        fault: short name of the failure.
        column, value: where, and what stands there.
        coin, time_ms: whose bar, and its open (None if the time itself is missing).
        demand, remedy: what should hold, and what to do.
        rows: rows of this coin that break the rule.
    """

    row: int
    fault: str
    column: str
    value: object
    coin: str
    time_ms: int | None
    demand: str
    remedy: str
    rows: int

    def describe(self) -> str:
        """The violation as one line, without the file's name."""
        return f"row {self.row}: {self.describe_bar()}"

    def describe_bar(self) -> str:
        """The same without the row, for rows that lie in no file of the user's."""
        when = "an unknown time" if self.time_ms is None else f"{utc(self.time_ms):%Y-%m-%d %H:%M} UTC"
        more = f" ({self.rows} rows of this coin)" if self.rows > 1 else ""
        return f"{self.column} is {self.value} for {self.coin} at {when}{more}; {self.demand}. {self.remedy}"


def _price_rules() -> tuple[Rule, ...]:
    return tuple(
        Rule(
            "impossible price",
            name,
            ~(pl.col(name).is_finite() & (pl.col(name) > 0.0)).fill_null(False),
            "prices must be positive and finite",
            "Remove the row (a missing hour is kept as a gap) or download it again.",
        )
        for name in PRICES
    )


_CLOCK = pl.col("ts").dt.timestamp("ms")
_STEP = pl.col("ts").diff().over("coin").dt.total_milliseconds()

_PRESENCE = (
    Rule("no time", "ts", pl.col("ts").is_null(), "every row needs a time", "Fill it in or remove the row."),
    Rule(
        "no coin",
        "coin",
        pl.col("coin").is_null() | (pl.col("coin").str.len_bytes() == 0),
        "every row needs a coin",
        "Fill it in or remove the row.",
    ),
    Rule(
        "odd name",
        "coin",
        pl.col("coin").str.contains(r"^\s|\s$|[\x00-\x1f\x7f]").fill_null(False),
        "a name has no spaces around it and no control characters in it",
        "Correct the name.",
    ),
)
_ON_THE_HOUR = Rule(
    "off the hour",
    "ts",
    (_CLOCK % HOUR_MS != 0).fill_null(False),
    "ts is the open of an hourly candle and must lie on the hour",
    "Floor it, or resample the file to hourly candles.",
)
_ORDER = (
    Rule(
        "impossible time",
        "ts",
        ((_CLOCK - _CLOCK.median()).abs() > FARTHEST_MS).fill_null(False),
        "it lies more than fifteen years from the middle of the file",
        "Correct the time or remove the row.",
    ),
    Rule(
        "duplicate",
        "ts",
        (_STEP == 0).fill_null(False),
        "this coin and time are a duplicate of the row before",
        "Keep one row per coin and time.",
    ),
    Rule(
        "unsorted",
        "ts",
        (_STEP < 0).fill_null(False),
        "rows are unsorted: time must ascend within a coin, and this row lies before the one above it",
        "Sort the file by coin and ts, and keep one row per coin and time.",
    ),
)
_CANDLES = (
    *_price_rules(),
    Rule(
        "impossible candle",
        "high",
        (pl.col("high") < pl.max_horizontal("open", "low", "close")).fill_null(False),
        "high must be at least open, low and close",
        "Download the candle again.",
    ),
    Rule(
        "impossible candle",
        "low",
        (pl.col("low") > pl.min_horizontal("open", "close")).fill_null(False),
        "low must be at most open and close",
        "Download the candle again.",
    ),
    Rule(
        "impossible volume",
        "volume",
        ((pl.col("volume") < 0.0) | pl.col("volume").is_infinite()).fill_null(False),
        "volume counts coins and cannot be negative or infinite",
        "Leave it empty where it is unknown.",
    ),
)
_FUNDING = (
    Rule(
        "funding above cap",
        "funding",
        (pl.col("funding").abs() > FUNDING_CAP_PER_HOUR).fill_null(False),
        f"the venue's cap is {FUNDING_CAP_PER_HOUR:g} (4 %) an hour, so the unit is likely percent or basis points",
        "Write funding as a fraction of notional (percent / 100).",
    ),
)


ROW_RULES = (*_PRESENCE, _ON_THE_HOUR, *_ORDER, *_CANDLES, *_FUNDING)
"""Of a panel file."""

SETTLEMENT_RULES = (_ON_THE_HOUR, *_ORDER, *_FUNDING)
"""Of settlements as a lake holds them, with the rate as ``funding``."""


def bar_rules(step_ms: int) -> tuple[Rule, ...]:
    """Of bars of any length as a lake holds them.

    Args:
        step_ms: length of a bar, ms.
    """
    on_the_grid = Rule(
        "off the grid",
        "ts",
        _CLOCK % step_ms != 0,
        f"ts is the open of a bar and must be a multiple of {step_ms // 60_000} minutes since the epoch",
        "Remove the row, or download the bar again.",
    )
    return (on_the_grid, *_ORDER, *_CANDLES)


def violations(frame: pl.DataFrame, rules: Sequence[Rule] = ROW_RULES) -> list[Violation]:
    """Every (rule, coin) that the rows of ``frame`` break, by first row; empty if the frame keeps all rules.

    Args:
        frame: the columns that the rules name with their types, rows in file order.
        rules: which demands.
    """
    masks = frame.select(rule.broken.alias(str(index)) for index, rule in enumerate(rules))
    found: list[Violation] = []
    for index, rule in enumerate(rules):
        mask = masks[str(index)]
        if not mask.any():
            continue
        rows = pl.DataFrame({"row": mask.arg_true()}).with_columns(coin=frame["coin"].filter(mask))
        firsts = rows.group_by("coin", maintain_order=True).agg(pl.col("row").first(), rows=pl.len())
        for coin, row, count in firsts.iter_rows():
            found.append(_violation(frame, rule, int(row), coin, int(count)))
    return sorted(found, key=lambda violation: violation.row)


def _violation(frame: pl.DataFrame, rule: Rule, row: int, coin: str | None, count: int) -> Violation:
    moment = frame["ts"].dt.timestamp("ms")[row]
    value: object = frame[rule.column][row]
    if rule.column == "ts" and moment is not None:
        value = f"{utc(moment):%Y-%m-%d %H:%M:%S}"
    elif value is None:
        value = "empty"
    fault, demand = rule.fault, rule.demand
    if fault == "unsorted":
        earlier = frame.head(row).with_row_index("at")
        same = earlier.filter(pl.col("coin").eq_missing(coin) & (pl.col("ts") == frame["ts"][row]))
        if same.height:
            fault, demand = "duplicate", f"this coin and time are a duplicate of row {same['at'][0]}"
    whose = coin or "an unnamed coin"
    return Violation(row, fault, rule.column, value, whose, moment, demand, rule.remedy, count)


def funding_unit_problem(frame: pl.DataFrame) -> str | None:
    """Why the whole funding column cannot be a fraction of notional; None if it can.

    The median size per hour of the settlement interval (each coin's median gap between stamps, 1 to 8 h; a coin with
    one stamp counts as 8-hourly) is held against :data:`FUNDING_MEDIAN_BOUND_PER_HOUR`. The unit named is the one
    whose factor brings the median nearest to the venue's base rate.
    """
    settled = frame.lazy().filter(pl.col("funding").is_finite()).select("ts", "coin", "funding")
    gap_hours = pl.col("ts").diff().over("coin").dt.total_hours().median().over("coin")
    median = (
        settled.select(pl.col("funding").abs() / gap_hours.fill_null(8).clip(1, 8))
        .select(pl.col("funding").median())
        .collect()
        .item()
    )
    if median is None or median <= FUNDING_MEDIAN_BOUND_PER_HOUR:
        return None
    units = {"percent": 100.0, "basis points": 1e4, "percent a year": 100.0 * 8766.0, "a yearly rate": 8766.0}
    excess = math.log(median / FUNDING_BASE_PER_HOUR)
    unit = min(units, key=lambda name: abs(math.log(units[name]) - excess))
    row = int(frame.select((pl.col("funding").abs() > 0.0).fill_null(False).arg_true().first()).item())
    return (
        f"row {row}: funding is {frame['funding'][row]} for {frame['coin'][row]}, and the column's median size is "
        f"{median:.3g} per hour, {median / FUNDING_BASE_PER_HOUR:.0f} times the venue's base rate: the unit is likely "
        f"{unit}. Write funding as a fraction of notional: divide the column by {units[unit]:g}."
    )
