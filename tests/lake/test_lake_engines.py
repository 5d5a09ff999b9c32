"""Engines that read Delta Lake read the lake without this code, and see the same rows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import duckdb
import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable
from lake_samples import SPRING, bars_of, panel_rows, quotes

from slipstream.lake.datasets import BARS, BOOKS, FUNDING, QUOTES, TIME, TRADES, Dataset
from slipstream.lake.panel_import import import_frame
from slipstream.lake.store import Lake
from slipstream.lake.upkeep import compact

SINCE = datetime(2025, 4, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    """Bars of two lengths, settlements with empty columns, event logs, and parts that are no longer in force."""
    lake = Lake.open(tmp_path_factory.mktemp("engines") / "lake", create=True)
    panel = panel_rows(("BTC", "kPEPE", "ab:C"), 96)
    import_frame(panel, lake)
    long = bars_of(panel).filter(pl.col("ts").dt.hour() % 4 == 0).with_columns(base_interval=pl.lit("4h"))
    lake.upsert(BARS, long)
    lake.upsert(BARS, bars_of(panel)[:100].with_columns(volume=pl.lit(5.0)))
    for first in (0, 10, 20):
        lake.append(QUOTES, quotes(first, 10))
    compact(lake, QUOTES)
    lake.append(QUOTES, quotes(30, 20_000, every_ns=10_000_000_000))
    books = quotes(0, 3).select("venue", "coin", "exchange_ms", "received_ns", "monotonic_ns", "session")
    levels = {name: [[3.0, 2.0], [1.0], []] for name in ("bid_px", "bid_sz", "ask_px", "ask_sz")}
    counts = {name: [[3, 2], [1], []] for name in ("bid_n", "ask_n")}
    ladder = pl.DataFrame({**levels, **counts}, schema_overrides={name: BOOKS.schema[name] for name in counts | levels})
    lake.append(BOOKS, pl.concat([books, ladder], how="horizontal").select(BOOKS.names))
    return lake


def tidy(dataset: Dataset, frame: pl.DataFrame) -> pl.DataFrame:
    """An engine's answer in the order and the types of the dataset."""
    columns = [
        pl.col(column.name).dt.convert_time_zone("UTC").cast(TIME) if column.dtype == TIME else pl.col(column.name)
        for column in dataset.columns
    ]
    return frame.select(columns).cast(dict(dataset.schema)).sort(dataset.key)


EVERY = pytest.mark.parametrize("dataset", [BARS, FUNDING, QUOTES, BOOKS], ids=lambda dataset: dataset.name)


@EVERY
def test_polars(lake, dataset):
    held = pl.scan_delta(lake.place.below(dataset.name)).collect()
    assert tidy(dataset, held).equals(lake.read(dataset))


def test_polars_skips_what_a_filter_rules_out(lake):
    path = lake.place.below("bars")
    wanted = (pl.col("coin") == "kPEPE") & (pl.col("ts") >= SINCE) & (pl.col("base_interval") == "1h")
    held = pl.scan_delta(path).filter(wanted).collect()
    assert tidy(BARS, held).equals(lake.read(BARS).filter(wanted))
    assert held.height == 48


@EVERY
def test_duckdb_by_the_tables_list_of_files(lake, dataset):
    files = DeltaTable(lake.place.below(dataset.name)).file_uris()
    held = duckdb.sql("SELECT * FROM read_parquet($files, hive_partitioning = true)", params={"files": files}).pl()
    assert tidy(dataset, held).equals(lake.read(dataset))


def test_duckdb_by_an_arrow_dataset(lake):
    bars = DeltaTable(lake.place.below("bars")).to_pyarrow_dataset()  # noqa: F841 - duckdb finds it by its name
    answer = duckdb.sql(
        "SELECT coin, count(*), max(volume) FROM bars WHERE base_interval = '1h' GROUP BY coin ORDER BY 1"
    )
    ours = (
        lake.read(BARS).filter(pl.col("base_interval") == "1h").group_by("coin").agg(pl.len(), pl.col("volume").max())
    )
    assert answer.fetchall() == ours.sort("coin").rows()


@EVERY
def test_pandas(lake, dataset):
    held = DeltaTable(lake.place.below(dataset.name)).to_pandas()
    assert len(held) == lake.read(dataset).height
    plain = held.drop(columns=[name for name in dataset.partition if name not in dataset.names])
    assert tidy(dataset, pl.from_pandas(plain)).equals(lake.read(dataset))


@EVERY
def test_pyarrow(lake, dataset):
    held = DeltaTable(lake.place.below(dataset.name)).to_pyarrow_dataset().to_table()
    assert isinstance(held, pa.Table)
    assert tidy(dataset, pl.DataFrame(held)).equals(lake.read(dataset))


def test_an_earlier_version_of_a_table_can_be_named_to_an_engine(lake):
    earlier = pl.scan_delta(lake.place.below("bars"), version=1).collect()
    assert tidy(BARS, earlier).equals(lake.read(BARS, version=1))
    assert not lake.read(BARS, version=1).equals(lake.read(BARS))


def test_what_another_program_writes_into_a_table_is_read_and_merged(tmp_path, make_candles):
    """A part without a checksum in its name, and perhaps without statistics."""
    lake = Lake.open(tmp_path / "lake", create=True)
    lake.upsert(BARS, bars_of(make_candles(start=SPRING)))
    rows = bars_of(make_candles(("SOL",), hours=24, start=SPRING + timedelta(days=1)))
    foreign = rows.with_columns(month=pl.col("ts").dt.strftime("%Y-%m"))
    foreign.write_delta(lake.place.below("bars"), mode="append")
    held = lake.read(BARS, coins=["SOL"])
    assert held.equals(rows)
    assert [part.digest for part in lake.parts(BARS) if part.digest is None] == [None]
    assert lake.upsert(BARS, rows.with_columns(volume=pl.lit(2.0))).changed == 24
    assert set(lake.read(BARS, coins=["SOL"])["volume"]) == {2.0}
    assert all(part.digest for part in lake.parts(BARS))


def test_a_table_that_holds_no_row_yet_is_empty_to_all(tmp_path):
    lake = Lake.open(tmp_path / "lake", create=True)
    lake.append(TRADES, TRADES.schema.to_frame())
    assert lake.table(TRADES) is None
    assert lake.read(TRADES).equals(TRADES.schema.to_frame())
    assert not (tmp_path / "lake" / "trades").exists()
