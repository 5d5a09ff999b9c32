"""The check lists errors and warnings, each with coin, time and what; it repairs nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from slipstream.core.panel import to_ms
from slipstream.lake.integrity import check, check_path
from slipstream.lake.store import read_manifest, refresh

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


def test_a_day_without_trades_is_a_warning_and_less_is_not(make_candles):
    def silent(first, last):
        return make_candles().with_columns(
            pl.when(hours_of("ETH", first, last)).then(0.0).otherwise("volume").alias("volume")
        )

    assert found(silent(10, 33)) == [("warning", "no trades", "ETH", at(10))]
    assert found(silent(10, 32)) == []


def test_a_silent_run_does_not_reach_over_into_the_next_coin(make_candles):
    both = hours_of("BTC", 58, 71) | hours_of("ETH", 0, 13)
    frame = make_candles().with_columns(pl.when(both).then(0.0).otherwise("volume").alias("volume"))
    assert found(frame) == []


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
def test_a_damaged_part_is_an_error_and_the_rest_is_still_checked(make_candles, tmp_path, damaged):
    refresh(tmp_path, make_candles(hours=24 * 32))
    for part in read_manifest(tmp_path).parts[:damaged]:
        (tmp_path / part.file).write_bytes(b"rust")
    findings = check_path(tmp_path)
    assert [finding.fault for finding in findings] == ["checksum"] * damaged
    assert "2025-01/000001.parquet: the part differs" in findings[0].what
