"""A refresh adds to what is there: it never blanks a return, halves a sum, drops a row, or touches what is the same."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest

DAY = 24


def table(file) -> pl.DataFrame:
    return pl.read_csv(file)


def test_a_refresh_of_seven_days_leaves_every_earlier_row_as_it_was(export, market, out):
    coins = ("BTC", "kPEPE")
    bars, funding = market(coins, 0, 40 * DAY)
    export(bars, funding, 40 * DAY)
    names = [f"4h/{coin}_{kind}_4h.csv" for coin in coins for kind in ("candles", "funding", "merged")]
    names += ["log_returns_4h.csv", "funding_sum_4h.csv", "volume_usd_4h.csv"]
    before = {name: (out / name).read_text() for name in names}
    bars, funding = market(coins, 35 * DAY + 2, 42 * DAY)  # begins in the middle of a bar
    report = export(bars, funding, 42 * DAY)
    assert report.refused == {}
    for name, text in before.items():
        assert (out / name).read_text().startswith(text), name
    assert not (out / "4h/_backup").exists()
    assert table(out / "4h/BTC_merged_4h.csv")["ret"].null_count() == 1


def test_a_refresh_and_the_whole_history_write_the_same_files(export, market, tmp_path, contents):
    for hour in (20 * DAY, 27 * DAY + 6, 34 * DAY):
        export(*market(("BTC", "ETH"), max(0, hour - 9 * DAY), hour), hour, folder=tmp_path / "bit")
    export(*market(("BTC", "ETH"), 11 * DAY, 34 * DAY), 34 * DAY, folder=tmp_path / "whole")
    assert contents(tmp_path / "bit") == contents(tmp_path / "whole")


def test_the_first_bar_of_a_refresh_keeps_the_settlements_from_before_it(export, hourly, rates, out):
    export(hourly("BTC", 0, 48), rates("BTC", 1, 48), 48)
    whole = (out / "4h/BTC_funding_4h.csv").read_text()
    export(hourly("BTC", 44, 52), rates("BTC", 47, 52), 52)
    assert (out / "4h/BTC_funding_4h.csv").read_text().startswith(whole)
    assert table(out / "4h/BTC_funding_4h.csv")["funding_n"].to_list() == [4] * 13


def test_a_settlement_that_comes_late_completes_its_bar(export, hourly, rates, out):
    export(hourly("BTC", 0, 48), rates("BTC", 1, 47), 48)
    assert table(out / "funding_sum_4h.csv")["BTC"][-1] is None, "an unflagged part of a sum is not written"
    assert table(out / "4h/BTC_merged_4h.csv")["funding_n"][-1] == 3
    export(hourly("BTC", 40, 48), rates("BTC", 41, 48), 48)
    assert table(out / "4h/BTC_merged_4h.csv")["funding_n"][-1] == 4
    assert table(out / "funding_sum_4h.csv")["BTC"][-1] == table(out / "4h/BTC_funding_4h.csv")["funding_sum"][-1]


def test_a_venue_that_settles_every_eight_hours_keeps_its_zeros_and_holes_over_refreshes(export, hourly, rates, out):
    lost = rates("BTC", 0, 20 * DAY, every=8).filter(pl.int_range(pl.len()) != 30)
    export(hourly("BTC", 0, 20 * DAY), lost, 20 * DAY)
    before = table(out / "funding_sum_4h.csv")
    assert before["BTC"].null_count() == 1
    assert (before["BTC"] == 0.0).sum() == 60
    beside_the_hole = rates("BTC", 0, 21 * DAY, every=8).filter(
        (pl.int_range(pl.len()) >= 29) & (pl.int_range(pl.len()) != 30)
    )
    export(hourly("BTC", 29 * 8, 21 * DAY), beside_the_hole, 21 * DAY)
    after = table(out / "funding_sum_4h.csv")
    assert after.head(before.height).equals(before), "a refresh that begins beside a hole does not fill it with zero"


def test_a_refresh_that_saw_one_settlement_less_does_not_speak_for_the_day(export, hourly, rates, out):
    export(hourly("BTC", 0, 10 * DAY), rates("BTC", 0, 10 * DAY, every=8), 10 * DAY, interval="1d")
    before = table(out / "funding_sum_1d.csv")
    assert table(out / "1d/BTC_funding_1d.csv")["funding_n"].to_list() == [1] + [3] * 10
    export(hourly("BTC", 5 * DAY, 11 * DAY), rates("BTC", 5 * DAY + 9, 11 * DAY, every=8), 11 * DAY, interval="1d")
    after = table(out / "funding_sum_1d.csv")
    assert after.head(10).equals(before)
    assert after.height == 11


def test_a_hole_filled_later_splits_the_return_and_the_old_file_is_kept(export, hourly, rates, out):
    funding = rates("BTC", 1, 24)
    holed = hourly("BTC", 0, 24).filter(~pl.int_range(pl.len()).is_between(8, 11))
    export(holed, funding, 24)
    old = (out / "4h/BTC_merged_4h.csv").read_bytes()
    whole = table(out / "4h/BTC_merged_4h.csv")
    assert whole["gap_bars"].to_list() == [0, 0, 1, 0, 0]
    export(hourly("BTC", 8, 12), funding, 25)
    filled = table(out / "4h/BTC_merged_4h.csv")
    assert filled["gap_bars"].to_list() == [0] * 6
    assert filled["ret"][2] + filled["ret"][3] == pytest.approx(whole["ret"][2], abs=1e-15)
    assert (out / "4h/_backup/BTC_merged_4h.csv.20250102T010000Z").read_bytes() == old
    assert not list((out / "4h/_backup").glob("BTC_candles*")), "a row that is added changes no value"


def test_a_corrected_close_wins_and_the_files_it_changes_are_kept_first(export, market, out):
    bars, funding = market(("BTC", "ETH"), 0, 48)
    export(bars, funding, 48)
    old = {name: (out / "4h" / name).read_bytes() for name in ("BTC_candles_4h.csv", "BTC_merged_4h.csv")}
    old_wide = (out / "log_returns_4h.csv").read_bytes()
    corrected = bars.with_columns(
        close=pl.when((pl.col("coin") == "BTC") & (pl.col("ts").rank("ordinal").over("coin") == 12))
        .then(pl.col("close") * 1.0001)
        .otherwise("close")
    )
    export(corrected, funding, 49)
    assert {file.name for file in (out / "4h/_backup").iterdir()} == {f"{name}.20250103T010000Z" for name in old}
    for name, content in old.items():
        assert (out / f"4h/_backup/{name}.20250103T010000Z").read_bytes() == content
    assert (out / "_backup/log_returns_4h.csv.20250103T010000Z").read_bytes() == old_wide
    export(bars, funding, 49)  # the same second: the second backup does not replace the first
    assert (out / "4h/_backup/BTC_candles_4h.csv.20250103T010000Z").read_bytes() == old["BTC_candles_4h.csv"]
    assert (out / "4h/_backup/BTC_candles_4h.csv.20250103T010000Z.2").is_file()


def test_nothing_new_writes_nothing(export, market, out):
    export(*market(("BTC", "ETH"), 0, 48), 48)
    stamps = {file: file.stat().st_mtime_ns for file in out.rglob("*.*")}
    report = export(*market(("BTC", "ETH"), 0, 48), 50)
    assert report.files == ()
    assert {file: file.stat().st_mtime_ns for file in out.rglob("*.*")} == stamps


def test_only_the_coins_that_change_are_written(export, market, out):
    export(*market(("BTC", "ETH"), 0, 48), 48)
    before = (out / "4h/ETH_candles_4h.csv").stat().st_ino
    report = export(*market(("BTC",), 40, 52), 52)
    assert (out / "4h/ETH_candles_4h.csv").stat().st_ino == before
    assert {file.name for file in report.files if file.parent.name == "4h"} == {
        f"BTC_{kind}_4h.csv" for kind in ("candles", "funding", "merged")
    }
    wide = table(out / "log_returns_4h.csv")
    assert wide["ETH"][-1] is None
    assert wide["ETH"].null_count() == 2


def test_a_coin_that_fell_silent_is_not_taken_for_one_that_is_not_listed_yet(export, hourly, rates, out):
    export(hourly("RLB", 0, 48), rates("RLB", 1, 48), 48)
    silent = hourly("RLB", 46, 60).with_columns(
        *(pl.lit(0.5).alias(name) for name in ("open", "high", "low", "close")), volume=pl.lit(0.0)
    )
    report = export(silent, rates("RLB", 46, 60), 60)
    assert report.pre_listing == {}
    assert table(out / "4h/RLB_candles_4h.csv").height == 15


def test_candles_from_before_the_first_trade_are_counted_and_not_written(export, hourly, rates, out):
    flat = hourly("NEW", 0, 10).with_columns(
        *(pl.lit(0.5).alias(name) for name in ("open", "high", "low", "close")), volume=pl.lit(0.0)
    )
    report = export(pl.concat([flat, hourly("NEW", 10, 24)]), rates("NEW", 1, 24), 24)
    assert report.pre_listing == {"NEW": 10}
    assert table(out / "4h/NEW_candles_4h.csv")["datetime"][0] == "2025-01-01T12:00:00Z"


def test_a_number_that_would_become_empty_refuses_its_coin_and_no_other(export, market, out, contents):
    bars, funding = market(("BTC", "ETH"), 0, 48)
    export(bars, funding, 48)
    before = contents(out)
    newer, later = market(("BTC", "ETH"), 0, 52)
    unknown = (pl.col("coin") == "BTC") & (pl.col("ts").rank("ordinal").over("coin") == 30)
    report = export(newer.with_columns(volume=pl.when(unknown).then(None).otherwise("volume")), later, 52)
    assert report.refused.keys() == {"BTC"}
    assert "volume at 2025-01-02 04:00 UTC" in report.refused["BTC"]
    after = contents(out)
    for kind in ("candles", "funding", "merged"):
        assert after[f"4h/BTC_{kind}_4h.csv"] == before[f"4h/BTC_{kind}_4h.csv"]
        assert after[f"4h/ETH_{kind}_4h.csv"] != before[f"4h/ETH_{kind}_4h.csv"]
    wide = table(out / "volume_usd_4h.csv")
    assert wide["BTC"].null_count() == 1
    assert wide["ETH"].null_count() == 0
    (btc,) = (coin for coin in report.coins if coin.coin == "BTC")
    assert (btc.rows_before, btc.rows_after, btc.first_before_ms) == (12, 12, btc.first_after_ms)


@pytest.mark.parametrize("price", [-1.0, 0.0, float("nan"), float("inf")])
def test_a_price_that_is_no_positive_number_refuses_its_coin(export, market, out, price):
    bars, funding = market(("BTC", "ETH"), 0, 24)
    wrong = (pl.col("coin") == "ETH") & (pl.col("ts").rank("ordinal").over("coin") == 8)
    report = export(bars.with_columns(close=pl.when(wrong).then(price).otherwise("close")), funding, 24)
    assert "close of the bar that opens at 2025-01-01T04:00:00Z" in report.refused["ETH"]
    assert not list((out / "4h").glob("ETH*"))
    assert table(out / "log_returns_4h.csv").columns == ["known_at", "BTC"]


def test_the_report_says_what_became_of_each_coin(export, market, start_ms):
    hour = 3_600_000
    export(*market(("BTC",), 8, 24), 24)
    report = export(*market(("BTC",), 0, 32), 32)
    (btc,) = report.coins
    assert (btc.coin, btc.rows_before, btc.rows_after, btc.refused) == ("BTC", 4, 8, None)
    assert (btc.first_before_ms, btc.last_before_ms) == (start_ms + 8 * hour, start_ms + 20 * hour)
    assert (btc.first_after_ms, btc.last_after_ms) == (start_ms, start_ms + 28 * hour)


def test_two_lengths_live_side_by_side(export, market, out):
    bars, funding = market(("BTC",), 0, 72)
    export(bars, funding, 72, interval="1d")
    export(bars, funding, 72, interval="4h")
    assert export(bars, funding, 73, interval="1d").refused == {}
    held = json.loads((out / "manifest.json").read_text())["files"]
    assert len(held) == 7
    day, quarters = table(out / "log_returns_1d.csv")["BTC"], table(out / "log_returns_4h.csv")["BTC"]
    assert float(np.nansum(day.to_numpy())) == pytest.approx(float(np.nansum(quarters.to_numpy()[6:])), abs=1e-14)
