"""Rows of a venue's answer as frames of the lake: every number checked, every refusal with the row it is about.

Venues print decimals as text. Only plain decimals are taken: no exponent, no sign but minus, no NaN, nothing that does
not fit a float. A row is never repaired and never left out: an answer is taken whole or refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

import msgspec
import polars as pl

from slipstream.errors import UsageError
from slipstream.lake.datasets import BARS, FUNDING, INTERVAL_MS, TIME
from slipstream.venues.errors import BadAnswer

HOUR_MS = 3_600_000
LATEST_MS = 4_102_444_800_000
"""The year 2100: a later stamp has another unit."""
_DECIMAL = r"^-?[0-9]{1,40}(\.[0-9]{1,40})?$"  # of a length that always fits a float


@dataclass(frozen=True)
class Origin:
    """Where rows came from, for messages: the request, the coin (or each row's), and the rows as they were sent."""

    what: str
    coin: str
    rows: Sequence[object]
    coins: Sequence[str] = ()

    def refuse(self, row: int, stamp_ms: int | None, complaint: str) -> BadAnswer:
        """The error about one row."""
        coin = self.coins[row] if self.coins else self.coin
        when = "" if stamp_ms is None else f" at {utc_text(stamp_ms)}"
        sent = msgspec.json.encode(self.rows[row]).decode()[:300]
        return BadAnswer(f"{self.what}: {coin}{when}: {complaint}; row {row} is {sent}. Nothing of it was taken.")


def interval_ms(interval: str) -> int:
    """Length of a bar, ms.

    Raises:
        UsageError: bars of this length are not fetched.
    """
    if interval not in INTERVAL_MS:
        raise UsageError(f"bars of {interval!r} are not fetched; choose one of {', '.join(INTERVAL_MS)}")
    return INTERVAL_MS[interval]


def utc_text(stamp_ms: int) -> str:
    """A moment as ``2025-01-31T13:00:00.045Z``, the milliseconds only if there are any."""
    moment = datetime.fromtimestamp(stamp_ms / 1000, UTC)
    precise = "milliseconds" if stamp_ms % 1000 else "seconds"
    return moment.isoformat(timespec=precise).replace("+00:00", "Z")


def decimals(
    texts: Sequence[str | None],
    name: str,
    origin: Origin,
    stamps_ms: Sequence[int] | None = None,
    *,
    signed: bool = False,
    zero: bool = True,
    optional: bool = False,
) -> pl.Series:
    """Numbers of one field.

    Args:
        texts: as sent, one per row.
        name: of the column.
        origin: where they came from.
        stamps_ms: moment of each row, for messages.
        signed: negative numbers are allowed.
        zero: zero is allowed.
        optional: null is allowed.

    Raises:
        BadAnswer: the first text that is no decimal number, does not fit a float or is outside what is allowed.
    """
    text = pl.Series(name, texts, dtype=pl.String)
    number = text.set(~text.str.contains(_DECIMAL), None).cast(pl.Float64, strict=False)
    known = number.is_not_null()
    if not signed:
        known &= number >= 0
    if not zero:
        known &= number != 0
    bad = ~known.fill_null(False)
    if optional:
        bad &= text.is_not_null()
    if bad.any():
        row = int(bad.arg_true()[0])
        wanted = (
            "a decimal number" if signed else "a decimal number of 0 or more" if zero else "a positive decimal number"
        )
        stamp = None if stamps_ms is None else stamps_ms[row]
        raise origin.refuse(row, stamp, f"{name} is {text[row]!r}, not {wanted}")
    return number


def exact_decimal(text: str, name: str, origin: Origin) -> Decimal:
    """A number of 0 or more without the rounding of a float, for steps of prices and sizes.

    Raises:
        BadAnswer: it is no such number.
    """
    decimals([text], name, origin)
    return Decimal(text)


def bars_frame(
    origin: Origin, interval: str, opens_ms: Sequence[int], texts: Mapping[str, Sequence[str]]
) -> pl.DataFrame:
    """Bars in the schema of :data:`~slipstream.lake.datasets.BARS`, sorted by open and unique.

    Args:
        origin: where they came from.
        interval: length of the bars.
        opens_ms: open of each bar, Unix ms.
        texts: ``open, high, low, close`` in USD and ``volume`` in coins, as sent.

    Raises:
        BadAnswer: a number is unusable, an open is off the grid of the interval, prices contradict each other, or two
            different bars have one open.
    """
    step = interval_ms(interval)
    for row, stamp in enumerate(opens_ms):
        if stamp % step:
            raise origin.refuse(row, stamp, f"the open is not a multiple of {interval}")
    columns = [decimals(texts[name], name, origin, opens_ms, zero=False) for name in ("open", "high", "low", "close")]
    columns.append(decimals(texts["volume"], "volume", origin, opens_ms))
    frame = pl.DataFrame([pl.Series("ts", opens_ms, dtype=pl.Int64), *columns]).with_row_index("row")
    impossible = frame.filter(
        (pl.col("high") < pl.max_horizontal("open", "close", "low"))
        | (pl.col("low") > pl.min_horizontal("open", "close"))
    )
    if impossible.height:
        row = impossible["row"][0]
        raise origin.refuse(row, opens_ms[row], "high and low do not hold open and close between them")
    frame = frame.unique(["ts", "open", "high", "low", "close", "volume"], keep="first").sort("ts", "row")
    twice = frame.filter(pl.col("ts").is_duplicated())
    if twice.height:
        row = twice["row"][1]
        raise origin.refuse(row, opens_ms[row], f"another bar than that of row {twice['row'][0]} with the same open")
    return frame.select(
        pl.lit(origin.coin).alias("coin"),
        pl.col("ts").cast(TIME),
        "open",
        "high",
        "low",
        "close",
        "volume",
        pl.lit(interval).alias("base_interval"),
    ).match_to_schema(BARS.schema)


def closed_bars(bars: pl.DataFrame, interval: str, by_ms: int) -> pl.DataFrame:
    """The bars whose interval was over at ``by_ms``: what is still forming is left out."""
    return bars.filter(pl.col("ts").dt.timestamp("ms") + interval_ms(interval) <= by_ms)


def flat_head(bars: pl.DataFrame) -> int:
    """How many rows at the beginning have no volume and one price."""
    flat = (bars["volume"] == 0) & (bars["high"] == bars["low"])
    traded = (~flat).arg_true()
    return bars.height if traded.is_empty() else int(traded[0])


def funding_frame(
    origin: Origin, stamps_ms: Sequence[int], rates: Sequence[str], premiums: Sequence[str | None]
) -> pl.DataFrame:
    """Settlements in the schema of :data:`~slipstream.lake.datasets.FUNDING`, sorted by stamp and unique.

    Stamps are floored to the hour a settlement belongs to. Rates are fractions of notional for the venue's interval.

    Raises:
        BadAnswer: a number is unusable, or two different settlements fall into one hour.
    """
    rate = decimals(rates, "rate", origin, stamps_ms, signed=True)
    premium = decimals(premiums, "premium", origin, stamps_ms, signed=True, optional=True)
    stamps = pl.Series("settled_ms", stamps_ms, dtype=pl.Int64)
    frame = pl.DataFrame([stamps, rate, premium]).select(
        pl.lit(origin.coin).alias("coin"),
        (pl.col("settled_ms") // HOUR_MS * HOUR_MS).cast(TIME).alias("ts"),
        "rate",
        "premium",
        "settled_ms",
    )
    return one_per_hour(frame.match_to_schema(FUNDING.schema), origin.what)


def one_per_hour(settlements: pl.DataFrame, what: str) -> pl.DataFrame:
    """The same settlements, sorted, exact repetitions once.

    Raises:
        BadAnswer: two different settlements fall into one hour.
    """
    frame = settlements.unique(keep="first").sort("settled_ms", "rate")
    twice = frame.filter(pl.col("ts").is_duplicated())
    if twice.height:
        first = twice.filter(pl.col("ts") == twice["ts"][0])
        told = " and ".join(
            f"{rate!r} at {utc_text(stamp)}" for stamp, rate in first.select("settled_ms", "rate").rows()
        )
        raise BadAnswer(f"{what}: {first['coin'][0]} has two settlements in one hour: {told}. Nothing of it was taken.")
    return frame
