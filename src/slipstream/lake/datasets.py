"""What the lake holds: one Delta table per dataset, its columns, its key, and how it is cut into partitions.

    LAKE/bars/base_interval=1h/month=2025-04/<sha256>.parquet
    LAKE/funding/month=2025-04/<sha256>.parquet
    LAKE/quotes/date=2025-09-04/<sha256>.parquet

Two kinds of dataset. A *series* has one row per key; a refresh merges into it and the newest value wins. An *event log*
is only ever appended to: what was received stays as it was received, and a key tells repeated deliveries apart.

Bars are stored in the length they were fetched in (``base_interval``) and never in two lengths for the same purpose:
longer bars are computed (:mod:`slipstream.lake.longer_bars`). A bar is labelled by its open and known at
``ts + base_interval``. A settlement is labelled by the hour it belongs to: venues stamp it up to minutes late, so
``ts`` is the stamp floored to the hour and ``settled_ms`` the stamp itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

TIME = pl.Datetime("ms", "UTC")

INTERVAL_MS = {
    "1m": 60_000,
    "5m": 300_000,
    "15m": 900_000,
    "1h": 3_600_000,
    "4h": 14_400_000,
    "1d": 86_400_000,
}
"""Bar lengths that are fetched and stored, ms."""


@dataclass(frozen=True)
class Column:
    """One column; ``dtype`` is its type in memory, ``required`` forbids null."""

    name: str
    dtype: pl.DataType
    meaning: str
    required: bool = False


@dataclass(frozen=True)
class Dataset:
    """A table of the lake.

    Attributes:
        name: folder of the table.
        columns: in order; ``base_interval`` lives in the partition's name and not in the files.
        key: columns that name a row; rows are unique on it in a series.
        clock: column whose UTC time decides the partition.
        partition: ``month`` (series), or ``date`` (event logs, and series with hundreds of thousands of rows a day),
            after any column that is a partition itself.
        log: True for an event log, False for a series.
        unsaid: columns in which null means that the source does not publish the value: a refresh keeps what is known.
    """

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    clock: str
    partition: tuple[str, ...]
    log: bool = False
    unsaid: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Column names in order."""
        return tuple(column.name for column in self.columns)

    @property
    def schema(self) -> pl.Schema:
        """Column names and types in memory."""
        return pl.Schema({column.name: column.dtype for column in self.columns})


def _text(name: str, meaning: str, *, required: bool = False) -> Column:
    return Column(name, pl.String(), meaning, required)


def _number(name: str, meaning: str, *, required: bool = False) -> Column:
    return Column(name, pl.Float64(), meaning, required)


def _whole(name: str, meaning: str, *, required: bool = False) -> Column:
    return Column(name, pl.Int64(), meaning, required)


_COIN = _text("coin", "case-sensitive name", required=True)
_OPEN = Column("ts", TIME, "open of the bar, UTC", required=True)
_RECEIVED = (
    _whole("exchange_ms", "the venue's own stamp, Unix ms; null where the message bears none"),
    _whole("received_ns", "local receive time, Unix ns", required=True),
    _whole("monotonic_ns", "local monotonic clock at receipt, ns: differences within a session", required=True),
    _text("session", "UTC start of the recording, YYYYmmdd-HHMMSS", required=True),
)

BARS = Dataset(
    "bars",
    (
        _COIN,
        _OPEN,
        _number("open", "USD", required=True),
        _number("high", "USD", required=True),
        _number("low", "USD", required=True),
        _number("close", "USD", required=True),
        _number("volume", "coins traded in the bar; null where unknown"),
        _text("base_interval", "length of the bar as fetched, such as 1h", required=True),
    ),
    key=("base_interval", "coin", "ts"),
    clock="ts",
    partition=("base_interval", "month"),
)
FUNDING = Dataset(
    "funding",
    (
        _COIN,
        Column("ts", TIME, "hour of the settlement, UTC", required=True),
        _number("rate", "rate settled at ts, fraction of notional; longs pay when positive", required=True),
        _number("premium", "average premium of the interval in 8 h units; null where not published"),
        _whole("settled_ms", "the venue's own stamp, Unix ms; null where only the hour is known"),
    ),
    key=("coin", "ts"),
    clock="ts",
    partition=("month",),
    unsaid=("premium", "settled_ms"),
)
INSTRUMENTS = Dataset(
    "instruments",
    (
        _COIN,
        Column("ts", TIME, "when first seen so, UTC; in force until the next row of the coin", required=True),
        _text("dex", "name of the exchange's dex; empty for the first", required=True),
        _whole("asset", "index in the dex's universe"),
        _whole("sz_decimals", "decimals of a size"),
        _whole("max_leverage", "highest leverage"),
        _whole("margin_table", "id of the margin table"),
        Column("only_isolated", pl.Boolean(), "cross margin is not offered"),
        Column("is_delisted", pl.Boolean(), "trading has ended"),
    ),
    key=("coin", "ts"),
    clock="ts",
    partition=("month",),
)
ASSET_CONTEXTS = Dataset(
    "asset_contexts",
    (
        _COIN,
        Column("ts", TIME, "moment of the context, UTC", required=True),
        _number("funding_ctx", "running estimate of the next settlement, fraction per hour: not a settled rate"),
        _number("open_interest", "coins"),
        _number("prev_day_px", "USD"),
        _number("day_ntl_vlm", "USD traded in the last 24 h"),
        _number("premium", "of the impact price over the oracle, fraction"),
        _number("oracle_px", "USD"),
        _number("mark_px", "USD"),
        _number("mid_px", "USD"),
        _number("impact_bid_px", "USD"),
        _number("impact_ask_px", "USD"),
    ),
    key=("coin", "ts"),
    clock="ts",
    partition=("date",),
)
MID_BARS = Dataset(
    "mid_bars",
    (
        _COIN,
        _OPEN,
        _number("open", "first mid of the hour, USD", required=True),
        _number("high", "highest mid, USD", required=True),
        _number("low", "lowest mid, USD", required=True),
        _number("close", "last mid, USD", required=True),
        _whole("n_snapshots", "book snapshots used", required=True),
    ),
    key=("coin", "ts"),
    clock="ts",
    partition=("month",),
)
FILLS = Dataset(
    "fills",
    (
        _COIN,
        Column("ts", TIME, "time of the fill, UTC", required=True),
        _text("user", "address, lower case", required=True),
        _text("side", "B bought, A sold", required=True),
        _number("px", "USD", required=True),
        _number("sz", "coins", required=True),
        Column("crossed", pl.Boolean(), "took liquidity; null where the archive does not say"),
        _text("dir", "such as Open Long; null where the archive does not say"),
        _number("start_position", "coins, signed, before the fill"),
        _number("closed_pnl", "USD, gross of fee"),
        _number("fee", "USD, negative for a rebate"),
        _number("deployer_fee", "USD, on dexes of builders"),
        _whole("oid", "order id", required=True),
        _whole("tid", "trade id; null where the archive does not say"),
        _text("hash", "of the transaction"),
        _whole("time_ns", "time of the fill as finely as known, Unix ns", required=True),
        _whole("block_number", "block; null where the archive does not say"),
        _text("source", "archive it came from", required=True),
    ),
    key=("coin", "time_ns", "user", "oid", "tid", "start_position"),
    clock="ts",
    partition=("date",),
)
QUOTES = Dataset(
    "quotes",
    (
        _text("venue", "hyperliquid or binance", required=True),
        _COIN,
        *_RECEIVED,
        _number("bid", "best bid, USD; null if there is none"),
        _number("bid_size", "coins"),
        _number("ask", "best ask, USD; null if there is none"),
        _number("ask_size", "coins"),
    ),
    key=("venue", "coin", "received_ns", "monotonic_ns"),
    clock="received_ns",
    partition=("date",),
    log=True,
)
BOOKS = Dataset(
    "books",
    (
        _text("venue", "hyperliquid", required=True),
        _COIN,
        *_RECEIVED,
        Column("bid_px", pl.List(pl.Float64()), "USD, best first", required=True),
        Column("bid_sz", pl.List(pl.Float64()), "coins", required=True),
        Column("bid_n", pl.List(pl.Int64()), "orders", required=True),
        Column("ask_px", pl.List(pl.Float64()), "USD, best first", required=True),
        Column("ask_sz", pl.List(pl.Float64()), "coins", required=True),
        Column("ask_n", pl.List(pl.Int64()), "orders", required=True),
    ),
    key=("venue", "coin", "received_ns", "monotonic_ns"),
    clock="received_ns",
    partition=("date",),
    log=True,
)
TRADES = Dataset(
    "trades",
    (
        _text("venue", "hyperliquid or binance", required=True),
        _COIN,
        *_RECEIVED,
        _number("px", "USD", required=True),
        _number("sz", "coins", required=True),
        _text("side", "the taker's: B bought, A sold", required=True),
        _whole("tid", "the venue's id of the trade", required=True),
    ),
    key=("venue", "coin", "exchange_ms", "tid"),
    clock="received_ns",
    partition=("date",),
    log=True,
)
CONTEXTS = Dataset(
    "contexts",
    (
        _text("venue", "hyperliquid", required=True),
        _COIN,
        *_RECEIVED,
        _number("funding_ctx", "running estimate of the next settlement, fraction per hour"),
        _number("open_interest", "coins"),
        _number("oracle_px", "USD"),
        _number("mark_px", "USD"),
        _number("mid_px", "USD"),
        _number("premium", "fraction"),
        _number("day_ntl_vlm", "USD traded in the last 24 h"),
    ),
    key=("venue", "coin", "received_ns", "monotonic_ns"),
    clock="received_ns",
    partition=("date",),
    log=True,
)
STREAM_GAPS = Dataset(
    "stream_gaps",
    (
        _text("venue", "hyperliquid or binance", required=True),
        _text("feed", "what was down, such as bbo", required=True),
        _text("session", "UTC start of the recording", required=True),
        _whole("from_ns", "last message before, Unix ns", required=True),
        _whole("to_ns", "first message after, Unix ns; null while the stream is still down"),
        _text("reason", "what ended the stream", required=True),
    ),
    key=("venue", "feed", "session", "from_ns"),
    clock="from_ns",
    partition=("date",),
    log=True,
)

DATASETS = {
    dataset.name: dataset
    for dataset in (
        BARS,
        FUNDING,
        INSTRUMENTS,
        ASSET_CONTEXTS,
        MID_BARS,
        FILLS,
        QUOTES,
        BOOKS,
        TRADES,
        CONTEXTS,
        STREAM_GAPS,
    )
}
"""Every dataset by name."""
