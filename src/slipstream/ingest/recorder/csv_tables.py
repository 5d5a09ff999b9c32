"""The recorder's CSV files: what a row of each says, and where it goes.

    BBO      timestamp, timestamp_iso, symbol, bid, ask, mid, spread, bid_size, ask_size
    depth    timestamp, timestamp_iso, symbol, bid_depth, ask_depth, total_depth
    funding  timestamp, timestamp_iso, symbol, funding_rate

``timestamp`` is the local receive time in Unix seconds with six decimals, so that two venues can be aligned by what
was known here and when; in the funding file it is the hour of the settlement. Prices are USD, sizes coins, the rate a
fraction per hour. A side without orders leaves its cells empty. A depth is the coins on offer within the given
distance of the mid, among the levels that the venue sent.
"""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from slipstream.errors import UsageError

BBO_HEADER = "timestamp,timestamp_iso,symbol,bid,ask,mid,spread,bid_size,ask_size"
DEPTH_HEADER = "timestamp,timestamp_iso,symbol,bid_depth,ask_depth,total_depth"
FUNDING_HEADER = "timestamp,timestamp_iso,symbol,funding_rate"
TOKENS = ("symbol", "lower", "cex_symbol", "cex_lower", "session")
_DIGITS = 12
"""Significant digits of a difference or a mean: beyond them is what binary fractions added."""


@dataclass(frozen=True)
class Asset:
    """What is recorded of one coin.

    Attributes:
        symbol: Hyperliquid's name, case-sensitive.
        cex_symbol: Binance's name as configured.
    """

    symbol: str
    cex_symbol: str


def path_of(pattern: str, asset: Asset, session: str) -> Path:
    """The file a pattern names.

    Args:
        pattern: a path with any of the tokens ``{symbol} {lower} {cex_symbol} {cex_lower} {session}``.
        asset: whose file.
        session: UTC start, ``YYYYmmdd-HHMMSS``.

    Raises:
        UsageError: another token, or braces that do not match.
    """
    values = {
        "symbol": asset.symbol,
        "lower": asset.symbol.lower(),
        "cex_symbol": asset.cex_symbol,
        "cex_lower": asset.cex_symbol.lower(),
        "session": session,
    }
    try:
        fields = [(name, spec, how) for _, name, spec, how in string.Formatter().parse(pattern) if name is not None]
    except ValueError as problem:
        raise UsageError(f"pattern {pattern}: {problem}; tokens are {_tokens()}") from problem
    for name, spec, how in fields:
        if name not in values or spec or how:
            raise UsageError(f"pattern {pattern}: {{{name}}} is no token; tokens are {_tokens()}")
    return Path(pattern.format(**{name: _file_name(value) for name, value in values.items()}))


def _tokens() -> str:
    return " ".join(f"{{{token}}}" for token in TOKENS)


def _file_name(text: str) -> str:
    """Percent-encode all but letters, digits, dot, underscore and hyphen."""
    return re.sub(r"[^A-Za-z0-9._-]", lambda match: "".join(f"%{byte:02X}" for byte in match[0].encode()), text)


def bbo_rows(quotes: pl.DataFrame, symbols: Mapping[str, str]) -> pl.DataFrame:
    """Rows of a BBO file, in order, from rows of ``quotes``.

    Args:
        quotes: of one venue.
        symbols: coin -> the name this venue's file calls it by.
    """
    bid, ask = pl.col("bid"), pl.col("ask")
    return quotes.select(
        *_when("received_ns"),
        pl.col("coin").replace_strict(symbols, return_dtype=pl.String).alias("symbol"),
        bid,
        ask,
        ((bid + ask) / 2).round_sig_figs(_DIGITS).alias("mid"),
        (ask - bid).round_sig_figs(_DIGITS).alias("spread"),
        "bid_size",
        "ask_size",
    )


@dataclass(frozen=True)
class Depths:
    """Depth rows, and how many of them the venue's levels did not reach far enough for."""

    rows: pl.DataFrame
    short: int


def depth_rows(books: pl.DataFrame, bps: float) -> Depths:
    """Rows of a depth file, in order, from rows of ``books``.

    Args:
        books: with the columns of the dataset.
        bps: distance from the mid, 1e-4 of it.
    """
    best_bid, best_ask = books["bid_px"].list.first(), books["ask_px"].list.first()
    mid = ((best_bid + best_ask) / 2).to_numpy()
    reach = bps * 1e-4
    sides = {
        "bid_depth": _within(books["bid_px"], books["bid_sz"], mid, -1.0, reach),
        "ask_depth": _within(books["ask_px"], books["ask_sz"], mid, 1.0, reach),
    }
    farthest = np.minimum(
        1.0 - books["bid_px"].list.last().to_numpy() / mid, books["ask_px"].list.last().to_numpy() / mid - 1.0
    )
    rows = books.select(
        *_when("received_ns"),
        pl.col("coin").alias("symbol"),
        *(pl.Series(name, depth).fill_nan(None).round_sig_figs(_DIGITS) for name, depth in sides.items()),
    ).with_columns((pl.col("bid_depth") + pl.col("ask_depth")).round_sig_figs(_DIGITS).alias("total_depth"))
    return Depths(rows, int(np.sum(farthest < reach)))


def _within(px: pl.Series, sz: pl.Series, mid: np.ndarray, sign: float, reach: float) -> np.ndarray:
    """Coins of each book's levels no farther from the mid than ``reach``; NaN where there is no mid."""
    counts = px.list.len().to_numpy()
    row = np.repeat(np.arange(len(mid)), counts)
    prices = px.explode(empty_as_null=False).to_numpy()
    sizes = sz.explode(empty_as_null=False).to_numpy()
    near = sign * (prices / mid[row] - 1.0) <= reach * (1 + 1e-12)
    depth = np.bincount(row, weights=np.where(near, sizes, 0.0), minlength=len(mid))
    return np.where(np.isnan(mid), np.nan, depth)


def funding_rows(settlements: list[tuple[int, float]], symbol: str) -> pl.DataFrame:
    """Rows of a funding file from (hour in Unix ms, rate per hour)."""
    frame = pl.DataFrame(
        {"hour_ns": [hour_ms * 1_000_000 for hour_ms, _ in settlements], "rate": [rate for _, rate in settlements]},
        schema={"hour_ns": pl.Int64, "rate": pl.Float64},
    )
    return frame.select(*_when("hour_ns"), pl.lit(symbol).alias("symbol"), pl.col("rate").alias("funding_rate"))


def _when(column: str) -> tuple[pl.Expr, pl.Expr]:
    """``timestamp`` as text with exactly six decimals, and ``timestamp_iso``."""
    micros = pl.col(column) // 1000
    seconds = (micros // 1_000_000).cast(pl.String)
    fraction = (micros % 1_000_000).cast(pl.String).str.zfill(6)
    iso = pl.from_epoch(micros, time_unit="us").dt.strftime("%Y-%m-%dT%H:%M:%S%.6f+00:00")
    return pl.concat_str([seconds, fraction], separator=".").alias("timestamp"), iso.alias("timestamp_iso")


def lines(rows: pl.DataFrame) -> bytes:
    """Rows as CSV lines without a header, each with its end."""
    return rows.write_csv(include_header=False).encode()
