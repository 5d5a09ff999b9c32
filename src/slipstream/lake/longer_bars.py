"""Bars of any length, computed from the base bars of the lake.

The lake holds each stretch of time in the lengths the venue still served when it was fetched: hourly where it could be
had, 4 h and 1 d for the years before. A longer bar is put together from the finest of them that covers it whole, and
failing that from the next coarser, down to a bar fetched in that very length. It exists only if it is whole: a bar with
an hour missing is no bar, and one that has not closed is none yet.

Bars lie on a grid anchored at the Unix epoch, so 4-hour bars open at 00, 04, 08, 12, 16 and 20 UTC. Each is computed
from its own base rows alone; nothing that comes later can change it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from slipstream.core.panel import HOUR_MS, BoolArray, FloatArray, IntArray, utc
from slipstream.errors import DataError, UsageError
from slipstream.lake.alignment import without_pre_listing
from slipstream.lake.datasets import TIME

PRICES = ("open", "high", "low", "close")
LONGER_BARS = pl.Schema(
    {
        "coin": pl.String(),
        "ts": TIME,
        **dict.fromkeys((*PRICES, "volume", "volume_usd"), pl.Float64()),
        "base_interval": pl.String(),
    }
)
"""Columns of :func:`bars_of`; ``base_interval`` is the length a bar was computed from."""

FUNDING_BARS = pl.Schema({"coin": pl.String(), "ts": TIME, "funding_sum": pl.Float64(), "funding_n": pl.Int64()})
"""Columns of :func:`funding_of`."""

_UNITS_MS = {"m": 60_000, "h": HOUR_MS, "d": 24 * HOUR_MS}


@dataclass(frozen=True)
class LongerBars:
    """Bars, and how many base rows per coin were left out because they come from before its first trade."""

    bars: pl.DataFrame
    pre_listing: dict[str, int]


def length_ms(interval: str) -> int:
    """The length of ``15m``, ``4h`` or ``1d``, ms.

    Raises:
        UsageError: the text is no such length.
    """
    match = re.fullmatch(r"([1-9]\d{0,5})([mhd])", interval)
    if match is None:
        raise UsageError(f"interval {interval!r}: write a number of minutes, hours or days, such as 15m, 1h, 4h or 1d")
    return int(match[1]) * _UNITS_MS[match[2]]


def bars_of(bars: pl.DataFrame, interval: str, *, now_ms: int | None = None) -> pl.DataFrame:
    """The bars of :func:`longer_bars`, without the count of what was left out."""
    return longer_bars(bars, interval, now_ms=now_ms).bars


def longer_bars(
    bars: pl.DataFrame,
    interval: str,
    *,
    now_ms: int | None = None,
    traded_since: Mapping[str, int] | None = None,
) -> LongerBars:
    """Whole bars of one length from base bars of several.

    Args:
        bars: rows of the dataset ``bars``, one per base interval, coin and open, in any order.
        interval: length of the wanted bars, such as ``4h``. Base bars that do not divide it are not used.
        now_ms: the present, Unix ms: bars known later than that are left out. None: all bars have closed.
        traded_since: opens, Unix ms, of bars known to be real trading although they may be silent: flat candles
            without volume are taken for a time before the listing only if they come before that.

    Returns:
        Columns :data:`LONGER_BARS`, ordered by coin and time. ``volume`` is in coins and ``volume_usd`` is the sum of
        volume * (high + low + close) / 3 over the base bars; both are null where any base bar's volume is unknown.

    Raises:
        UsageError: ``interval`` is no length.
        DataError: a base bar is there twice or lies off the grid of its own length.
    """
    wanted_ms = length_ms(interval)
    lengths = {name: length_ms(name) for name in bars["base_interval"].unique().to_list()}
    usable = sorted((ms, name) for name, ms in lengths.items() if wanted_ms % ms == 0)
    pieces = [_ordered(bars.filter(pl.col("base_interval") == name)) for _, name in usable]
    for (base_ms, name), piece in zip(usable, pieces, strict=True):
        _require_grid(piece, f"{name} bars", base_ms)
    traded, pre_listing = _listed(pieces, traded_since or {})
    made = [
        _from_base(piece, name, base_ms, wanted_ms, now_ms)
        for (base_ms, name), piece in zip(usable, traded, strict=True)
    ]
    whole = [piece for piece in made if piece.height]
    if not whole:
        return LongerBars(LONGER_BARS.to_frame(), pre_listing)
    if len(whole) == 1:
        return LongerBars(whole[0], pre_listing)
    # finest first: it is what stays of several bars of one coin and time
    return LongerBars(
        pl.concat(whole).unique(["coin", "ts"], keep="first", maintain_order=True).sort("coin", "ts"), pre_listing
    )


def funding_of(funding: pl.DataFrame, interval: str, *, now_ms: int | None = None) -> pl.DataFrame:
    """Settled rates summed over the bars they belong to: the settlement at a bar's close is the bar's own.

    Args:
        funding: rows of the dataset ``funding``: coin, ts (the hour of the settlement), rate; one per coin and hour.
        interval: length of the bars. Bars shorter than an hour keep hourly rows.
        now_ms: the present, Unix ms: sums known later than that are left out.

    Returns:
        Columns :data:`FUNDING_BARS`, ordered by coin and time: ``ts`` is the bar's open, ``funding_sum`` the sum of
        the rates settled at T with open < T <= open + interval, ``funding_n`` how many there are. A bar in which
        nothing was settled has no row.

    Raises:
        UsageError: ``interval`` is no length.
        DataError: a settlement is there twice or its stamp is not floored to the hour.
    """
    step = max(length_ms(interval), HOUR_MS)
    rows = _ordered(funding.select("coin", "ts", pl.col("rate").fill_nan(None)).drop_nulls())
    _require_grid(rows, "settlements by the hour", HOUR_MS)
    opened = -(-_ms(rows) // step) * step - step
    runs = rows["coin"].rle_id().to_numpy()
    begins = np.flatnonzero(np.append(True, (np.diff(opened) != 0) | (np.diff(runs) != 0))[: len(opened)])
    counts = np.diff(np.append(begins, len(opened)))
    sums = rows["rate"].to_numpy()[begins]
    for position in range(1, int(counts.max(initial=0))):
        # rate by rate in order of time, so that the sum of a bar does not depend on what lies around it
        reaching = np.flatnonzero(counts > position)
        sums[reaching] += rows["rate"].to_numpy()[begins[reaching] + position]
    out = pl.DataFrame(
        [
            rows["coin"].gather(begins),
            pl.Series("ts", opened[begins]).cast(TIME),
            pl.Series("funding_sum", sums),
            pl.Series("funding_n", counts.astype(np.int64)),
        ]
    )
    return out if now_ms is None else out.filter(opened[begins] + step <= now_ms)


def _ordered(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows by coin and time; those of the lake are already."""
    if rows["coin"].is_sorted() and not (_same_coin(rows) & (np.diff(_ms(rows)) < 0)).any():
        return rows
    return rows.sort("coin", "ts")


def _same_coin(rows: pl.DataFrame) -> BoolArray:
    """Whether each row is of the coin of the row before it, shape (rows - 1,)."""
    return np.equal(np.diff(rows["coin"].rle_id().to_numpy()), 0)


def _ms(rows: pl.DataFrame) -> IntArray:
    return rows["ts"].dt.timestamp("ms").to_numpy()


def _require_grid(rows: pl.DataFrame, what: str, base_ms: int) -> None:
    """One row per coin and time, on the grid; ``rows`` are ordered."""
    clock = _ms(rows)
    off = np.flatnonzero(clock % base_ms != 0)
    twice = np.flatnonzero(_same_coin(rows) & (np.diff(clock) == 0))
    for places, fault in ((off, "does not lie on their grid"), (twice, "is there twice")):
        if len(places):
            row = int(places[0])
            raise DataError(
                f"{what}: {rows['coin'][row]} at {utc(int(clock[row])):%Y-%m-%d %H:%M:%S} UTC {fault}; "
                'find it with "slipstream data check" and fetch that coin again'
            )


def _listed(pieces: list[pl.DataFrame], traded_since: Mapping[str, int]) -> tuple[list[pl.DataFrame], dict[str, int]]:
    """Rows without those from before a coin's first trade; from ``traded_since`` on, all are kept."""
    if not traded_since:
        return without_pre_listing(pieces) if pieces else ([], {})
    since = pl.col("coin").replace_strict(
        pl.Series(list(traded_since), dtype=pl.String),
        pl.Series(list(traded_since.values()), dtype=pl.Int64),
        default=None,
        return_dtype=pl.Int64,
    )
    known = (pl.col("ts").dt.timestamp("ms") >= since).fill_null(value=False)
    early, dropped = without_pre_listing([piece.filter(~known) for piece in pieces]) if pieces else ([], {})
    both = [
        first if first.height == piece.height else _ordered(pl.concat([first, piece.filter(known)]))
        for first, piece in zip(early, pieces, strict=True)
    ]
    return both, dropped


def _from_base(rows: pl.DataFrame, name: str, base_ms: int, wanted_ms: int, now_ms: int | None) -> pl.DataFrame:
    """Whole bars from the rows of one base length, which are ordered, unique and on their grid."""
    clock, per_bar = _ms(rows), wanted_ms // base_ms
    coin = rows["coin"].rle_id().to_numpy()
    first = np.flatnonzero(clock % wanted_ms == 0)
    if now_ms is not None:
        first = first[clock[first] + wanted_ms <= now_ms]
    first = first[first + per_bar <= len(rows)]
    last = first + per_bar - 1
    # times ascend on the base grid, so the right distance between first and last leaves no room for a hole
    whole = (coin[last] == coin[first]) & (clock[last] - clock[first] == wanted_ms - base_ms)
    first, last = first[whole], last[whole]
    inside = np.arange(per_bar)[:, None] + first  # shape (base bars of a bar, bars)

    def values(column: str) -> FloatArray:
        return rows[column].to_numpy()

    high, low, volume = values("high"), values("low"), values("volume")
    # in Polars, as the panel has it: the two divide by three with different last digits
    volume_usd = (rows["volume"] * (rows["high"] + rows["low"] + rows["close"]) / 3.0).to_numpy()
    numbers = {
        "open": values("open")[first],
        "high": high[inside].max(axis=0),
        "low": low[inside].min(axis=0),
        "close": values("close")[last],
        "volume": volume[inside].sum(axis=0),
        "volume_usd": volume_usd[inside].sum(axis=0),
    }
    return pl.DataFrame(
        [
            rows["coin"].gather(first),
            rows["ts"].gather(first),
            *(pl.Series(column, array, nan_to_null=True) for column, array in numbers.items()),
            pl.repeat(name, len(first), dtype=pl.String, eager=True).alias("base_interval"),
        ]
    )
