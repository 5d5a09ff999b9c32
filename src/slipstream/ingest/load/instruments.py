"""The history of descriptions: what decimals, leverage and listing a coin had as of a date.

A description is stored when it is first seen and when it has changed, so the table grows by changes and not by loads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import polars as pl

from slipstream.lake.datasets import INSTRUMENTS
from slipstream.lake.store import CommitReport, Lake

if TYPE_CHECKING:
    from slipstream.venues.hyperliquid.info_messages import Instrument

_DESCRIPTION = [name for name in INSTRUMENTS.names if name != "ts"]


def described_at(instruments: Sequence[Instrument], now_ms: int) -> pl.DataFrame:
    """Descriptions as rows of the dataset, seen at a moment.

    Args:
        instruments: what the venue says.
        now_ms: when, Unix ms.
    """
    rows = [asdict(instrument) for instrument in instruments]
    held = pl.DataFrame(rows, schema={name: INSTRUMENTS.schema[name] for name in _DESCRIPTION})
    moment = pl.Series([now_ms]).cast(INSTRUMENTS.schema["ts"])[0]
    return held.with_columns(ts=pl.lit(moment).cast(INSTRUMENTS.schema["ts"])).select(INSTRUMENTS.names)


def record_descriptions(
    lake: Lake, instruments: Sequence[Instrument], now_ms: int, *, trust_files: bool = False
) -> CommitReport:
    """Store the descriptions that are new or have changed.

    Args:
        lake: where.
        instruments: what the venue says.
        now_ms: when, Unix ms.
        trust_files: take parts that differ from their checksum for right.

    Raises:
        DataError: the table cannot be read.
        SlipstreamError: the disk refused.
    """
    seen = described_at(instruments, now_ms)
    known = as_of(lake, now_ms, trust_files=trust_files)
    same = seen.join(known, on=_DESCRIPTION, how="semi", nulls_equal=True)
    fresh = seen.join(same, on="coin", how="anti")
    return lake.upsert(INSTRUMENTS, fresh, trust_files=trust_files)


def as_of(lake: Lake, moment_ms: int, *, trust_files: bool = False) -> pl.DataFrame:
    """The description of every coin in force at a moment, one row each, by coin.

    Args:
        lake: where.
        moment_ms: Unix ms.
        trust_files: take parts that differ from their checksum for right.

    Raises:
        DataError: the table cannot be read.
    """
    seen = lake.read(INSTRUMENTS, end_ms=moment_ms, trust_files=trust_files)
    return seen.unique("coin", keep="last", maintain_order=True).sort("coin")
