"""Reading recorded books: what is dropped is counted, what is impossible is refused with its place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from slipstream.errors import DataError
from slipstream.lake.books import RecordedBook, read_books
from synthetic_books import START_MS, Market, frame_of, write_books

MARKET = Market(levels=5)


def changed(frame: pl.DataFrame, row: int, **values: float | None) -> pl.DataFrame:
    """The frame with other values in one row."""
    here = pl.int_range(pl.len()) == row
    return frame.with_columns(
        pl.when(here).then(pl.lit(value, frame.schema[name])).otherwise(pl.col(name)).alias(name)
        for name, value in values.items()
    )


def read_frame(frame: pl.DataFrame, folder: Path) -> dict[str, RecordedBook]:
    frame.write_parquet(folder / "books.parquet")
    return read_books(folder / "books.parquet")


def test_what_was_written_is_read_back_by_coin(tmp_path):
    planted = MARKET.history(6, coin="kPEPE"), MARKET.history(9, 3, coin="BTC")
    read = read_books(write_books(tmp_path / "books.parquet", *planted))
    assert list(read) == ["BTC", "kPEPE"]
    for book in planted:
        found = read[book.coin]
        assert found.dropped == 0
        for name in ("time_ms", "bid_price", "bid_size", "ask_price", "ask_size"):
            assert (getattr(found.book, name) == getattr(book, name)).all()
            assert not getattr(found.book, name).flags.writeable


def test_stale_one_sided_crossed_and_repeated_snapshots_are_dropped_and_counted(tmp_path):
    frame = frame_of(MARKET.history(12))
    frame = changed(frame, 0, recv_ms=START_MS + 5_001)
    frame = changed(frame, 1, recv_ms=START_MS + 500 + 5_000)
    frame = changed(frame, 2, **{f"bid_price_{i}": None for i in range(5)}, **{f"bid_size_{i}": None for i in range(5)})
    frame = changed(frame, 3, ask_price_0=frame["bid_price_0"][3])
    frame = changed(frame, 5, exchange_timestamp=frame["exchange_timestamp"][4], ask_size_0=123.0)
    found = read_frame(frame, tmp_path)["AAA"]
    assert (found.stale, found.one_sided, found.crossed, found.repeated) == (1, 1, 1, 1)
    assert found.dropped == 4
    assert found.book.n_snapshots == 8
    assert found.book.ask_size[1, 0] == 123.0, "of two snapshots with one stamp the later received is kept"


def test_a_book_that_crosses_by_a_level_order_of_its_own_is_no_crossed_book_but_a_broken_one(tmp_path):
    frame = frame_of(MARKET.history(4))
    with pytest.raises(DataError, match=r"books\.parquet row 2: the book of AAA .* ask levels that are not in order"):
        read_frame(changed(frame, 2, ask_price_1=frame["ask_price_0"][2]), tmp_path)


def test_levels_beyond_what_was_shown_may_be_empty_but_not_in_between(tmp_path):
    frame = frame_of(MARKET.history(4))
    short = changed(frame, 1, ask_price_4=None, ask_size_4=None)
    book = read_frame(short, tmp_path)["AAA"].book
    assert np.isnan(book.ask_price[1, 4])
    assert book.ask_size[1, 4] == 0.0
    with pytest.raises(DataError, match=r"row 1: .* not in order"):
        read_frame(changed(frame, 1, ask_price_3=None, ask_size_3=None), tmp_path)


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"bid_price_0": -1.0}, "row 1: the book of AAA at .* bid price that is not positive"),
        ({"ask_price_2": float("inf")}, "row 1: .* ask price that is not positive and finite"),
        ({"ask_size_0": 0.0}, "row 1: .* ask level whose size is not positive"),
        ({"bid_size_1": None}, "row 1: .* bid level whose size is not positive"),
        ({"ask_price_4": None}, "row 1: .* or that has no price"),
        ({"exchange_timestamp": START_MS // 1000}, "row 1: exchange_timestamp is .* must be Unix milliseconds"),
        ({"recv_ms": None}, "row 1: recv_ms is None for AAA"),
        ({"coin": None}, "row 1: .* an unnamed coin .* has no coin"),
    ],
)
def test_what_no_venue_sends_is_refused_by_file_row_and_coin(values, complaint, tmp_path):
    with pytest.raises(DataError, match=complaint):
        read_frame(changed(frame_of(MARKET.history(4)), 1, **values), tmp_path)


@pytest.mark.parametrize("column", ["coin", "recv_ms", "bid_size_3", "ask_price_0"])
def test_a_missing_column_is_named(column, tmp_path):
    with pytest.raises(DataError, match=f"books.parquet: column {column} is missing"):
        read_frame(frame_of(MARKET.history(4)).drop(column), tmp_path)


def test_a_column_of_text_is_named(tmp_path):
    frame = frame_of(MARKET.history(4)).with_columns(pl.col("ask_size_1").cast(pl.String))
    with pytest.raises(DataError, match="column ask_size_1 holds String"):
        read_frame(frame, tmp_path)


def test_files_that_cannot_be_read_are_refused_in_one_line(tmp_path):
    torn = tmp_path / "torn.parquet"
    torn.write_bytes(b"PAR1 and then nothing")
    empty = tmp_path / "empty.parquet"
    frame_of(MARKET.history(2)).head(0).write_parquet(empty)
    for file, complaint in (
        (torn, "cannot be read as Parquet"),
        (empty, "holds no snapshots"),
        (tmp_path / "tron.parquet", r"the nearest one that exists is .*torn\.parquet"),
    ):
        with pytest.raises(DataError, match=complaint) as refused:
            read_books(file)
        assert "\n" not in str(refused.value)
    with pytest.raises(DataError, match="no book file given"):
        read_books()


def test_a_coin_without_any_usable_snapshot_is_refused(tmp_path):
    frame = frame_of(MARKET.history(3), latency_ms=60_000)
    with pytest.raises(DataError, match=r"every snapshot of AAA is stale \(3\)"):
        read_frame(frame, tmp_path)


def test_files_join_in_the_order_of_time_whatever_their_order_and_depth(tmp_path):
    whole = MARKET.history(10)
    frame = frame_of(whole)
    late = frame.tail(4).drop([f"{part}_4" for part in ("bid_price", "bid_size", "ask_price", "ask_size")])
    late.write_parquet(tmp_path / "late.parquet")
    frame.head(7).write_parquet(tmp_path / "early.parquet")
    found = read_books(tmp_path / "late.parquet", tmp_path / "early.parquet")["AAA"]
    assert (found.book.time_ms == whole.time_ms).all()
    assert found.repeated == 1
    assert (found.book.ask_price[:, :4] == whole.ask_price[:, :4]).all()
    assert np.isnan(found.book.ask_price[7:, 4]).all()


def test_the_real_recording_loses_only_its_repeated_stamps(shared):
    read = read_books(shared / "data" / "book" / "hyperliquid_20250904_orderbooks.parquet")
    assert list(read) == ["BTC", "ETH", "SOL", "WLFI"]
    assert {(found.book.n_snapshots, found.dropped) for found in read.values()} == {(3782, 3)}
    assert all(found.repeated == 3 for found in read.values())
    assert max(np.diff(found.book.time_ms).max() for found in read.values()) == pytest.approx(18_000, abs=100)
