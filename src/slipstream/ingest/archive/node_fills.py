"""An hour of fills out of the node's three archives, brought to one form: a row per wallet and fill.

``node_trades`` has a line per trade with two sides, buyer first; it says who bought, at which order and position, and
not what it cost. Its ``side`` is the taker's, as in the venue's public trades: in the documented example the buyer's
order is the newer of the two and the side is B. ``node_fills`` has a line ``[wallet, fill]``, ``node_fills_by_block``
a line per block with many of them. Every trade appears twice, once per wallet: two rows, both of them wanted. What is
delivered twice (the two archives overlap in one hour) has the same key and becomes one row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any, Literal

import msgspec
import polars as pl

from slipstream.ingest.archive.lz4_lines import line_blocks, refused
from slipstream.ingest.archive.objects import DAY_MS
from slipstream.lake.datasets import FILLS, TIME

_BATCH = 50_000
_Id = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_Side = Literal["A", "B"]


class _Fill(msgspec.Struct, gc=False, rename="camel"):
    coin: str
    px: str
    sz: str
    side: _Side
    time: _Id
    start_position: str
    dir: str
    closed_pnl: str
    hash: str
    oid: _Id
    crossed: bool
    fee: str
    tid: _Id
    deployer_fee: str | float | None = None


class _Block(msgspec.Struct, gc=False):
    block_number: _Id
    events: list[tuple[str, _Fill]]


class _Party(msgspec.Struct, gc=False):
    user: str
    start_pos: str
    oid: _Id


class _Trade(msgspec.Struct, gc=False):
    coin: str
    side: _Side
    time: str
    px: str
    sz: str
    hash: str
    side_info: tuple[_Party, _Party]


_LINE: dict[str, Any] = {
    "node_trades": _Trade,
    "node_fills": tuple[str, _Fill],
    "node_fills_by_block": _Block,
}
_TEXT = {
    "coin": pl.String(),
    "user": pl.String(),
    "side": pl.String(),
    "px": pl.String(),
    "sz": pl.String(),
    "crossed": pl.Boolean(),
    "dir": pl.String(),
    "start_position": pl.String(),
    "closed_pnl": pl.String(),
    "fee": pl.String(),
    "deployer_fee": pl.String(),
    "oid": pl.Int64(),
    "tid": pl.Int64(),
    "hash": pl.String(),
    "time": pl.String(),
    "block_number": pl.Int64(),
    "line": pl.Int64(),
}
_NUMBERS = ("px", "sz", "start_position", "closed_pnl", "fee", "deployer_fee")


def fill_frames(texts: Iterable[bytes], source: str, hour_ms: int, name: str) -> Iterator[pl.DataFrame]:
    """The fills of an hour's object, at most some ten thousand at a time, with the columns of the lake's ``fills``.

    Args:
        texts: unpacked text in pieces of any size.
        source: ``node_trades``, ``node_fills`` or ``node_fills_by_block``.
        hour_ms: the object's hour of processing, Unix ms; a fill more than a day from it is an error.
        name: what to call the object in errors.

    Raises:
        DamagedObject: a line is not of the archive's form, or holds a price or size that is not a positive number, a
            number that is none, or a time of another day. The line is named.
    """
    decode = msgspec.json.Decoder(_LINE[source]).decode
    rows: list[tuple[Any, ...]] = []
    for number, lines in line_blocks(texts, name):
        for at, line in enumerate(lines):
            try:
                rows.extend(_rows(decode(line), number + at))
            except (msgspec.MsgspecError, ValueError) as problem:
                raise refused(name, number + at, f"no line of {source} ({problem})") from problem
            if len(rows) >= _BATCH:
                yield _frame(rows, source, hour_ms, name)
                rows = []
    if rows:
        yield _frame(rows, source, hour_ms, name)


def _rows(line: Any, number: int) -> list[tuple[Any, ...]]:
    """Rows in the order of ``_TEXT``."""
    if isinstance(line, _Trade):
        buyer, seller = line.side_info
        return [
            _trade_row(line, buyer, "B", number),
            _trade_row(line, seller, "A", number),
        ]
    if isinstance(line, _Block):
        return [_fill_row(user, fill, line.block_number, number) for user, fill in line.events]
    user, fill = line
    return [_fill_row(user, fill, None, number)]


def _trade_row(trade: _Trade, party: _Party, side: str, number: int) -> tuple[Any, ...]:
    return (
        *(trade.coin, party.user, side, trade.px, trade.sz, trade.side == side, None, party.start_pos),
        *(None, None, None, party.oid, None, trade.hash, trade.time, None, number),
    )


def _fill_row(user: str, fill: _Fill, block: int | None, number: int) -> tuple[Any, ...]:
    deployer = None if fill.deployer_fee is None else str(fill.deployer_fee)
    return (
        *(fill.coin, user, fill.side, fill.px, fill.sz, fill.crossed, fill.dir, fill.start_position),
        *(fill.closed_pnl, fill.fee, deployer, fill.oid, fill.tid, fill.hash, str(fill.time), block, number),
    )


def _frame(rows: Sequence[tuple[Any, ...]], source: str, hour_ms: int, name: str) -> pl.DataFrame:
    columns = zip(*rows, strict=True)
    text = pl.DataFrame(
        [pl.Series(key, list(column), dtype=_TEXT[key]) for key, column in zip(_TEXT, columns, strict=True)]
    )
    stamp = pl.col("time")
    if source == "node_trades":
        moment = stamp.str.strip_suffix("Z").str.to_datetime("%Y-%m-%dT%H:%M:%S%.f", time_unit="ns", strict=False)
        time_ns = moment.dt.timestamp("ns")
    else:
        time_ns = stamp.cast(pl.Int64, strict=False) * 1_000_000
    held = text.with_columns(
        *(pl.col(column).cast(pl.Float64, strict=False).alias(f"{column}_value") for column in _NUMBERS),
        time_ns=time_ns,
    )
    for column in _NUMBERS:
        value = held[f"{column}_value"]
        positive = value > 0.0 if column in ("px", "sz") else pl.repeat(True, held.height, eager=True)
        wrong = held[column].is_not_null() & ~(value.is_finite() & positive).fill_null(value=False)
        _refuse(wrong, held, column, name, "a number" if column not in ("px", "sz") else "a positive number")
    far = (held["time_ns"] // 1_000_000 - hour_ms).abs() > DAY_MS
    _refuse(far.fill_null(value=True), held, "time", name, "a time near the object's hour")
    _refuse(held["coin"] == "", held, "coin", name, "a coin")
    return held.select(
        "coin",
        (pl.col("time_ns") // 1_000_000).cast(pl.Datetime("ms")).dt.replace_time_zone("UTC").cast(TIME).alias("ts"),
        pl.col("user").str.to_lowercase(),
        "side",
        *(pl.col(f"{column}_value").alias(column) for column in _NUMBERS),
        *("crossed", "dir", "oid", "tid", "hash", "time_ns", "block_number"),
        pl.lit(source).alias("source"),
    ).select(FILLS.names)


def _refuse(wrong: pl.Series, held: pl.DataFrame, column: str, name: str, what: str) -> None:
    if wrong.any():
        at = int(wrong.arg_true()[0])
        raise refused(name, int(held["line"][at]), f"{column} is {held[column][at]!r}, which is not {what}")
