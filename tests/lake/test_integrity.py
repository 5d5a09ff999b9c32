"""The check lists errors and warnings, each with coin, time and what; it repairs nothing."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from deltalake import write_deltalake

from slipstream.core.panel import to_ms
from slipstream.errors import DataError
from slipstream.lake import load_panel
from slipstream.lake.datasets import BARS, BOOKS, FUNDING, QUOTES, TRADES
from slipstream.lake.integrity import check
from slipstream.lake.lake_check import check_path
from slipstream.lake.panel_import import import_frame
from slipstream.lake.store import Lake

START = datetime(2025, 1, 1, tzinfo=UTC)


def at(hours: int) -> int:
    return to_ms(START + timedelta(hours=hours))


def found(frame: pl.DataFrame) -> list[tuple]:
    return [(finding.grade, finding.fault, finding.coin, finding.time_ms) for finding in check(frame)]


def hours_of(coin: str, first: int, last: int) -> pl.Expr:
    hour = (pl.col("ts") - START).dt.total_hours()
    return (pl.col("coin") == coin) & hour.is_between(first, last)


def test_a_clean_frame_has_no_findings(make_candles):
    assert check(make_candles()) == []


def test_all_errors_are_listed_not_only_the_first(make_candles, with_value):
    frame = with_value(make_candles(), 5, "close", float("nan"))
    frame = with_value(frame, 90, "volume", -2.0)
    frame = with_value(frame, 150, "funding", 0.05)
    frame = pl.concat([frame, frame[215:]])
    errors = [row for row in found(frame) if row[0] == "error"]
    assert errors == [
        ("error", "impossible price", "BTC", at(5)),
        ("error", "impossible volume", "ETH", at(18)),
        ("error", "funding above cap", "kPEPE", at(6)),
        ("error", "duplicate", "kPEPE", at(71)),
    ]


def test_a_fault_of_many_rows_is_one_finding_per_coin_with_their_number(make_candles):
    bad = make_candles().with_columns(pl.when(hours_of("ETH", 3, 9)).then(-1.0).otherwise("volume").alias("volume"))
    (finding,) = check(bad)
    assert "(7 rows of this coin)" in finding.what


def test_funding_in_percent_is_an_error_of_the_whole_set(make_candles):
    assert found(make_candles(funding=1.25e-3)) == [("error", "funding unit", "", None)]


def test_a_gap_is_a_warning_with_its_first_missing_hour_and_length(make_candles):
    holed = make_candles().filter(~hours_of("ETH", 20, 24))
    findings = check(holed)
    assert (findings[0].fault, findings[0].coin, findings[0].time_ms) == ("gap", "ETH", at(20))
    assert findings[0].what.startswith("5 hours")


def test_missing_settlements_are_one_warning_per_hole(make_candles):
    nulled = pl.when(hours_of("BTC", 30, 32) | hours_of("BTC", 50, 50)).then(None).otherwise("funding").alias("funding")
    findings = check(make_candles().with_columns(nulled))
    assert [(f.grade, f.fault, f.coin, f.time_ms) for f in findings] == [
        ("warning", "missing funding", "BTC", at(30)),
        ("warning", "missing funding", "BTC", at(50)),
    ]
    assert findings[0].what.startswith("3 settlements due and not recorded")


def test_a_coin_without_any_settlement_is_named(make_candles):
    nulled = pl.when(pl.col("coin") == "BTC").then(None).otherwise("funding").alias("funding")
    assert found(make_candles().with_columns(nulled)) == [("warning", "no funding", "BTC", at(0))]


def test_a_day_without_trades_is_told_from_single_silent_hours(make_candles):
    def silent(first, last):
        return make_candles().with_columns(
            pl.when(hours_of("ETH", first, last)).then(0.0).otherwise("volume").alias("volume")
        )

    assert found(silent(10, 33)) == [("warning", "no trades", "ETH", at(10))]
    assert found(silent(10, 32)) == [("warning", "zero volume", "ETH", at(10))]


def test_a_silent_run_does_not_reach_over_into_the_next_coin(make_candles):
    both = hours_of("BTC", 58, 71) | hours_of("ETH", 0, 13)
    frame = make_candles().with_columns(pl.when(both).then(0.0).otherwise("volume").alias("volume"))
    assert found(frame) == [("warning", "zero volume", "BTC", at(58)), ("warning", "zero volume", "ETH", at(0))]


def test_a_price_that_stands_still_while_volume_is_reported_is_a_warning(make_candles):
    still = [
        pl.when(hours_of("ETH", 10, 16)).then(100.0).otherwise(name).alias(name)
        for name in ("open", "high", "low", "close")
    ]
    assert ("warning", "stale price", "ETH", at(11)) in found(make_candles().with_columns(still))


def test_a_coin_that_ends_before_the_rest_is_a_warning(make_candles):
    assert found(make_candles().filter(~hours_of("ETH", 60, 71))) == [("warning", "ends early", "ETH", at(59))]


def test_the_real_file_has_no_errors_and_shows_its_known_oddities(shared):
    findings = check_path(shared / "data" / "hourly" / "hyperliquid_perps_1h.parquet")
    assert {finding.grade for finding in findings} == {"warning"}
    crash = [f.what for f in findings if f.fault == "large move" and f.coin == "OM"]
    assert crash[:2] == ["the close moves by -77% within the hour", "the close moves by -64% within the hour"]
    assert {f.coin for f in findings if f.fault == "ends early"} == {"RLB", "CATI", "BADGER"}
    assert {f.coin for f in findings if f.fault == "no trades"} == {"RLB"}


@pytest.mark.parametrize("damaged", [1, 2])
def test_a_damaged_part_is_an_error_and_the_rest_is_still_checked(make_candles, lake_of, damaged):
    lake = lake_of(make_candles(hours=24 * 32))
    for part in lake.parts(BARS)[:damaged]:
        (lake.place.folder / "bars" / part.path).write_bytes(b"rust")
    findings = check_path(lake.place.url)
    assert [finding.fault for finding in findings if finding.grade == "error"] == ["checksum"] * damaged
    assert "bars/base_interval=1h/month=2025-01/" in findings[0].what
    assert "differs from its checksum" in findings[0].what


def test_a_lake_has_the_findings_of_the_file_it_was_made_from(make_candles, lake_of, with_value):
    frame = make_candles().filter(~hours_of("ETH", 20, 24) & ~hours_of("kPEPE", 60, 71))
    assert [finding.what for finding in check_path(lake_of(frame).place.url)] == [f.what for f in check(frame)]


def foreign(lake, dataset, rows):
    """Rows written by another program, past every rule of ours."""
    month = pl.col("ts").dt.strftime("%Y-%m")
    write_deltalake(
        lake.place.below(dataset.name),
        rows.with_columns(pl.col("ts").cast(pl.Datetime("us", "UTC")), month=month).to_arrow(
            compat_level=pl.CompatLevel.oldest()
        ),
        mode="append",
    )


@pytest.mark.parametrize(
    ("fault", "dataset", "change"),
    [
        ("duplicate", BARS, {}),
        ("impossible candle", BARS, {"high": 1.0, "ts": START + timedelta(hours=80)}),
        ("impossible price", BARS, {"low": -1.0, "ts": START + timedelta(hours=80)}),
        ("off the grid", BARS, {"ts": START + timedelta(hours=80, minutes=7)}),
        ("duplicate", FUNDING, {}),
        ("funding above cap", FUNDING, {"rate": 0.05, "ts": START + timedelta(hours=80)}),
    ],
)
def test_rows_of_another_program_that_cannot_be_true_are_errors(make_candles, lake_of, fault, dataset, change):
    lake = lake_of(make_candles())
    row = lake.read(dataset, coins=["ETH"]).tail(1)
    row = row.with_columns(pl.lit(value).cast(row.schema[name]).alias(name) for name, value in change.items())
    foreign(lake, dataset, row)
    errors = [finding for finding in check_path(lake.place.url) if finding.grade == "error"]
    assert [(finding.fault, finding.coin) for finding in errors] == [(fault, "ETH")]
    assert errors[0].time_ms == to_ms(row["ts"][0])


def test_a_change_of_the_prices_unit_is_an_error_and_a_crash_is_not(make_candles):
    frame = make_candles(("kPEPE",))
    later = pl.col("ts") >= START + timedelta(hours=40)
    prices = ("open", "high", "low", "close")
    thousand = frame.with_columns(
        pl.when(later).then(pl.col(name) / 1000).otherwise(name).alias(name) for name in prices
    )
    assert ("error", "unit change", "kPEPE", at(40)) in found(thousand)
    crash = frame.with_columns(
        pl.when(later).then(pl.col(name) / 9).otherwise(name).alias(name) for name in ("low", "close")
    ).with_columns(pl.when(later).then(pl.col("close").shift()).otherwise("open").alias("open"))
    crash = crash.with_columns(high=pl.max_horizontal(prices), low=pl.min_horizontal(prices))
    assert {row[0] for row in found(crash)} == {"warning"}


def test_a_month_of_a_coins_funding_in_percent_is_an_error(make_candles, lake_of):
    frame = make_candles(("BTC", "ETH", "SOL", "HYPE"), hours=24 * 20)
    percent = pl.when(pl.col("coin") == "SOL").then(pl.col("funding") * 100).otherwise("funding").alias("funding")
    findings = check_path(lake_of(frame.with_columns(percent)).place.url)
    assert [(finding.grade, finding.fault, finding.coin) for finding in findings] == [("error", "unit change", "SOL")]


def test_candles_filled_in_from_before_a_listing_are_named(make_candles):
    early = (pl.col("coin") == "ETH") & (pl.col("ts") < START + timedelta(hours=30))
    flat = [pl.when(early).then(100.0).otherwise(name).alias(name) for name in ("open", "high", "low", "close")]
    frame = make_candles().with_columns(*flat, pl.when(early).then(0.0).otherwise("volume").alias("volume"))
    assert ("warning", "pre-listing", "ETH", at(0)) in found(frame)


def test_crossed_quotes_and_books_are_errors_with_coin_and_time(tmp_path):
    lake = Lake.open(tmp_path / "lake", create=True)
    common = {"venue": ["hyperliquid"] * 2, "coin": ["BTC", "ETH"], "exchange_ms": [1, 2], "session": ["s", "s"]}
    stamps = {"received_ns": [1_757_000_000_000_000_000, 1_757_000_001_000_000_000], "monotonic_ns": [1, 2]}
    quotes = (
        common | stamps | {"bid": [10.0, 12.0], "ask": [11.0, 11.0], "bid_size": [1.0, 1.0], "ask_size": [1.0, 1.0]}
    )
    lake.append(QUOTES, pl.DataFrame(quotes, schema_overrides=QUOTES.schema).select(QUOTES.names))
    levels = {name: [[1.0], [1.0]] for name in ("bid_sz", "ask_sz")} | {name: [[1], [1]] for name in ("bid_n", "ask_n")}
    books = common | stamps | levels | {"bid_px": [[12.0], [10.0]], "ask_px": [[11.0], [11.0]]}
    lake.append(BOOKS, pl.DataFrame(books, schema_overrides=BOOKS.schema).select(BOOKS.names))
    crossed = [(f.grade, f.fault, f.coin, f.time_ms) for f in check_path(tmp_path / "lake")]
    assert crossed == [
        ("error", "crossed book", "ETH", 1_757_000_001_000),
        ("error", "crossed book", "BTC", 1_757_000_000_000),
    ]


def test_rows_in_the_folder_of_another_month_are_an_error(make_candles, lake_of):
    lake = lake_of(make_candles())
    row = lake.read(BARS, coins=["ETH"]).tail(1).with_columns(pl.col("ts").cast(pl.Datetime("us", "UTC")))
    strayed = row.with_columns(pl.col("ts").dt.offset_by("2mo"), month=pl.lit("2025-01"))
    write_deltalake(lake.place.below("bars"), strayed.to_arrow(compat_level=pl.CompatLevel.oldest()), mode="append")
    errors = [finding for finding in check_path(lake.place.url) if finding.grade == "error"]
    assert [finding.fault for finding in errors] == ["wrong partition"]
    assert "1 rows of 2025-03" in errors[0].what


def test_a_trade_that_was_delivered_twice_is_a_warning(tmp_path):
    lake = Lake.open(tmp_path / "lake", create=True)
    trade = {"venue": "hyperliquid", "coin": "BTC", "exchange_ms": 1_757_000_000_000, "session": "s", "monotonic_ns": 1}
    values = {"received_ns": 1_757_000_000_000_000_000, "px": 10.0, "sz": 1.0, "side": "B", "tid": 7}
    lake.append(TRADES, pl.DataFrame([trade | values] * 2, schema=TRADES.schema))
    findings = check_path(tmp_path / "lake")
    assert [(finding.grade, finding.fault, finding.coin) for finding in findings] == [
        ("warning", "repeated delivery", "BTC")
    ]


def test_a_table_whose_log_is_lost_is_an_error_and_one_without_a_part_in_force_a_warning(make_candles, lake_of):
    lake = lake_of(make_candles())
    log = lake.place.folder / "bars" / "_delta_log"
    (log / "00000000000000000001.json").rename(lake.place.folder / "kept.json")
    findings = [finding for finding in check_path(lake.place.url) if finding.fault == "nothing in force"]
    assert [finding.grade for finding in findings] == ["warning"]
    assert "1 files of bars" in findings[0].what
    shutil.rmtree(log)
    assert ("error", "log lost") in [(finding.grade, finding.fault) for finding in check_path(lake.place.url)]


def test_a_change_of_unit_is_seen_across_a_gap(make_candles):
    frame = make_candles(("kPEPE",))
    later = pl.col("ts") >= START + timedelta(hours=40)
    scaled = [pl.when(later).then(pl.col(p) / 1000).otherwise(p).alias(p) for p in ("open", "high", "low", "close")]
    holed = frame.with_columns(scaled).filter(~hours_of("kPEPE", 38, 41))
    assert ("error", "unit change", "kPEPE", at(42)) in found(holed)


def test_a_length_that_is_not_stored_is_an_error_and_no_traceback(make_candles, lake_of):
    lake = lake_of(make_candles())
    row = lake.read(BARS, coins=["ETH"]).tail(1).with_columns(base_interval=pl.lit("2h"))
    foreign(lake, BARS, row)
    errors = [finding.fault for finding in check_path(lake.place.url) if finding.grade == "error"]
    assert errors == ["unknown length"]
    with pytest.raises(DataError, match="bars of 2h, which is no known length"):
        load_panel(lake.place.url)


def test_a_trade_at_no_price_is_an_error(tmp_path):
    lake = Lake.open(tmp_path / "lake", create=True)
    trade = {"venue": "hyperliquid", "coin": "BTC", "exchange_ms": 1_757_000_000_000, "session": "s", "monotonic_ns": 1}
    values = {"received_ns": 1_757_000_000_000_000_000, "px": -5.0, "sz": 1.0, "side": "B", "tid": 7}
    lake.append(TRADES, pl.DataFrame([trade | values], schema=TRADES.schema))
    assert [(finding.grade, finding.fault) for finding in check_path(tmp_path / "lake")] == [
        ("error", "impossible price")
    ]


def test_the_settlement_at_the_open_of_the_forming_bar_is_known(make_candles, tmp_path):
    frame = make_candles(("BTC",), hours=10)
    lake = Lake.open(tmp_path / "lake", create=True)
    import_frame(frame, lake, now_ms=at(9) + 5 * 60_000)
    assert lake.read(BARS)["ts"].max() == START + timedelta(hours=8)
    assert lake.read(FUNDING)["ts"].max() == START + timedelta(hours=9)
