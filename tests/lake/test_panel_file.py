"""A panel file is read whole or refused with one line that says where and what to do."""

from __future__ import annotations

import re
from datetime import timedelta, timezone

import polars as pl
import pytest

from slipstream.cli.errors import run
from slipstream.cli.main import app
from slipstream.errors import DataError
from slipstream.lake.panel_file import read_panel_file


def refusal(file) -> str:
    with pytest.raises(DataError) as caught:
        read_panel_file(file)
    return str(caught.value)


def test_a_good_file_comes_back_as_it_was(make_candles, write):
    frame = make_candles()
    assert read_panel_file(write(frame)).equals(frame)


def test_further_columns_are_ignored(make_candles, write):
    frame = make_candles()
    assert read_panel_file(write(frame.with_columns(funding_interval_h=1.0))).equals(frame)


@pytest.mark.parametrize("column", ["ts", "coin", "open", "high", "low", "close", "volume", "funding"])
def test_a_missing_column_is_named(make_candles, write, column):
    assert f"column {column} is missing" in refusal(write(make_candles().drop(column)))


ROW_FAULTS = [
    (100, "close", float("nan"), "row 100: close is nan for ETH at 2025-01-02 04:00 UTC; prices must be positive"),
    (0, "open", None, "row 0: open is empty for BTC at 2025-01-01 00:00 UTC; prices must be positive"),
    (71, "low", -3.1, "row 71: low is -3.1 for BTC at 2025-01-03 23:00 UTC; prices must be positive"),
    (5, "high", float("inf"), "row 5: high is inf for BTC at 2025-01-01 05:00 UTC; prices must be positive"),
    (5, "close", 0.0, "row 5: close is 0.0 for BTC"),
    (5, "high", 1.0, "row 5: high is 1.0 for BTC at 2025-01-01 05:00 UTC; high must be at least open, low and close"),
    (5, "open", 90.0, "row 5: low is .* for BTC .*; low must be at most open and close"),
    (9, "volume", -1.0, "row 9: volume is -1.0 for BTC at 2025-01-01 09:00 UTC; volume counts coins"),
    (9, "volume", float("inf"), "row 9: volume is inf for BTC"),
    (150, "funding", 0.0401, "row 150: funding is 0.0401 for kPEPE at 2025-01-01 06:00 UTC; .*percent"),
    (150, "funding", float("-inf"), "row 150: funding is -inf for kPEPE"),
    (3, "coin", "", "row 3: coin is  for an unnamed coin"),
    (3, "coin", None, "row 3: coin is empty for an unnamed coin"),
    (3, "ts", None, "row 3: ts is empty for BTC at an unknown time; every row needs a time"),
]


@pytest.mark.parametrize(("row", "column", "value", "line"), ROW_FAULTS)
def test_a_value_that_cannot_be_true_is_named_with_row_coin_time_and_remedy(
    make_candles, write, with_value, row, column, value, line
):
    message = refusal(write(with_value(make_candles(), row, column, value)))
    assert re.search(line, message), message
    assert "panel.parquet" in message
    assert "\n" not in message
    assert message.endswith(".")


def test_the_first_of_several_faulty_rows_is_named_whatever_its_fault(make_candles, write, with_value):
    frame = with_value(make_candles(), 40, "close", -1.0)
    frame = with_value(frame, 12, "volume", -1.0)
    assert "row 12: volume" in refusal(write(frame))


def test_a_candle_off_the_hour_is_refused(make_candles, write):
    late = pl.col("ts") + pl.duration(minutes=(pl.int_range(pl.len()) == 7).cast(pl.Int64))
    message = refusal(write(make_candles().with_columns(late)))
    assert "row 7: ts is 2025-01-01 07:01:00 for BTC" in message
    assert "must lie on the hour" in message


def test_a_repeated_row_is_refused_where_it_is_repeated(make_candles, write):
    frame = make_candles()
    adjacent = pl.concat([frame[:11], frame[10:]])
    assert "row 11: ts is 2025-01-01 10:00:00 for BTC" in refusal(write(adjacent))
    assert "duplicate of the row before" in refusal(write(adjacent))
    appended = pl.concat([frame, frame[10:11]])
    assert "row 216: ts is 2025-01-01 10:00:00 for BTC" in refusal(write(appended))
    assert "duplicate of row 10" in refusal(write(appended))


def test_unsorted_rows_are_refused_where_the_order_first_breaks(make_candles, write):
    frame = make_candles()
    swapped = pl.concat([frame[:20], frame[21:22], frame[20:21], frame[22:]])
    message = refusal(write(swapped))
    assert "row 21: ts is 2025-01-01 20:00:00 for BTC" in message
    assert "unsorted" in message


def test_coins_may_be_interleaved_as_long_as_each_ascends(make_candles, write):
    frame = make_candles().sort("ts", "coin")
    assert read_panel_file(write(frame)).equals(frame)


def test_a_year_mistyped_is_refused_before_it_fills_memory(make_candles, write, with_value):
    frame = make_candles(("BTC",))
    frame = frame.with_columns(
        pl.when(pl.int_range(pl.len()) == 71).then(pl.col("ts").dt.offset_by("60y")).otherwise("ts").alias("ts")
    )
    assert "row 71: ts is 2085-01-03 23:00:00 for BTC" in refusal(write(frame))


@pytest.mark.parametrize(
    ("factor", "unit"),
    [(100.0, "percent"), (1e4, "basis points"), (8766.0, "a yearly rate"), (876600.0, "percent a year")],
)
def test_funding_in_another_unit_is_recognised_even_below_the_cap(make_candles, write, factor, unit):
    message = refusal(write(make_candles(funding=1.25e-5 * factor)))
    assert f"the unit is likely {unit}. " in message
    assert "row 0: funding is" in message


def test_one_huge_rate_among_ordinary_ones_is_not_taken_for_a_unit(make_candles, write, with_value):
    frame = with_value(make_candles(), 30, "funding", 0.0399)
    assert read_panel_file(write(frame))["funding"][30] == 0.0399


@pytest.mark.parametrize("name", ["hyperliquid_perps_1h", "binance_usdm_1h", "binance_usdm_long_1h"])
def test_the_real_files_pass_and_the_same_files_in_percent_fail(shared, write, name):
    frame = read_panel_file(shared / "data" / "hourly" / f"{name}.parquet")
    message = refusal(write(frame.with_columns(pl.col("funding") * 100)))
    assert "the unit is likely percent" in message


def test_a_month_of_one_coin_in_the_wildest_spring_passes(shared, write):
    frame = read_panel_file(shared / "data" / "hourly" / "binance_usdm_long_1h.parquet")
    hot = frame.filter((pl.col("coin") == "LTC") & (pl.col("ts").dt.strftime("%Y-%m") == "2021-02"))
    assert read_panel_file(write(hot)).height == 28 * 24


def test_an_empty_file_is_refused_in_all_its_forms(make_candles, write, tmp_path):
    assert "holds no rows" in refusal(write(make_candles().clear()))
    assert "holds no rows" in refusal(write(make_candles().clear(), "panel.csv"))
    (tmp_path / "nil.csv").touch()
    assert "0 bytes" in refusal(tmp_path / "nil.csv")
    (tmp_path / "nil.parquet").touch()
    assert "0 bytes" in refusal(tmp_path / "nil.parquet")


def test_a_damaged_file_is_refused(make_candles, write):
    file = write(make_candles())
    file.write_bytes(file.read_bytes()[:-200])
    assert "cannot be read as parquet" in refusal(file)


def test_a_path_that_does_not_exist_is_answered_with_the_nearest_one(make_candles, write, tmp_path):
    file = write(make_candles())
    assert refusal(tmp_path / "pannel.parquet").endswith(f"the nearest one that exists is {file}")
    assert refusal(tmp_path / "nowhere" / "x.parquet").endswith(f"the nearest one that exists is {tmp_path}")


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "panel.xlsx").write_text("x")
    assert "ends in .parquet or .csv" in refusal(tmp_path / "panel.xlsx")


@pytest.mark.parametrize(
    ("column", "values"), [("close", pl.String), ("volume", pl.Boolean), ("coin", pl.Int64), ("ts", pl.Float64)]
)
def test_a_column_of_a_wrong_type_is_named(make_candles, write, column, values):
    frame = make_candles().with_columns(pl.lit(None, dtype=values).alias(column))
    assert f"column {column} holds {values}" in refusal(write(frame))


def test_times_without_a_zone_are_utc_and_other_zones_are_converted(make_candles, write):
    frame = make_candles()
    naive = frame.with_columns(pl.col("ts").dt.replace_time_zone(None))
    zoned = frame.with_columns(pl.col("ts").dt.convert_time_zone("Asia/Tokyo").cast(pl.Datetime("us", "Asia/Tokyo")))
    whole = frame.with_columns(pl.col("ts").dt.timestamp("ms"))
    for other in (naive, zoned, whole):
        assert read_panel_file(write(other)).equals(frame)


def test_unix_seconds_are_not_taken_for_milliseconds(make_candles, write):
    message = refusal(write(make_candles().with_columns(pl.col("ts").dt.timestamp("ms") // 1000)))
    assert "row 0: ts is 1735689600" in message
    assert "seconds or nanoseconds" in message


TEXT_FORMS = {
    "iso with Z": lambda t: t.strftime("%Y-%m-%dT%H:%M:%SZ"),
    "offset": lambda t: t.astimezone(timezone(timedelta(hours=-5))).isoformat(),
    "offset without colon": lambda t: t.astimezone(timezone(timedelta(hours=5, minutes=30))).strftime(
        "%Y-%m-%d %H:%M:%S%z"
    ),
    "naive": lambda t: t.strftime("%Y-%m-%d %H:%M:%S"),
    "minutes": lambda t: t.strftime("%Y-%m-%d %H:%M"),
    "fraction": lambda t: t.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
    "named": lambda t: t.strftime("%Y-%m-%d %H:%M:%S UTC"),
    "unix ms": lambda t: str(int(t.timestamp() * 1000)),
}


@pytest.mark.parametrize("form", TEXT_FORMS)
def test_a_csv_says_the_same_as_the_parquet_in_every_usual_form_of_time(make_candles, write, form):
    frame = make_candles()
    text = frame.with_columns(pl.Series("ts", [TEXT_FORMS[form](moment) for moment in frame["ts"]]))
    assert read_panel_file(write(text, "panel.csv")).equals(frame)


@pytest.mark.parametrize(
    ("column", "text"), [("close", "12,5"), ("volume", "many"), ("ts", "yesterday"), ("ts", "2025-13-01")]
)
def test_text_that_is_no_number_or_time_is_named_with_its_row(make_candles, write, with_value, column, text):
    frame = make_candles().cast({column: pl.String})
    if column == "ts":
        frame = make_candles().with_columns(pl.col("ts").dt.strftime("%Y-%m-%d %H:%M"))
    message = refusal(write(with_value(frame, 17, column, text), "panel.csv"))
    assert f"row 17: {column} is {text!r}" in message


def test_unknown_volume_and_funding_may_be_empty_or_nan(make_candles, write, with_value):
    frame = with_value(with_value(make_candles(), 3, "volume", float("nan")), 4, "funding", float("nan"))
    read = read_panel_file(write(frame))
    assert read["volume"][3] is None
    assert read["funding"][4] is None


def test_a_refused_import_ends_with_two_one_line_and_no_lake(make_candles, write, with_value, tmp_path, capsys):
    file = write(with_value(make_candles(), 5, "close", float("nan")))
    lake = tmp_path / "lake"
    assert run(app, ["data", "import", str(file), "--lake", str(lake)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert "row 5: close is nan for BTC" in printed.err
    assert not lake.exists()
