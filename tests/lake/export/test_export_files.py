"""What stands in the exported files: every cell of small cases, and the wide files against the panel's own."""

from __future__ import annotations

import hashlib
import json
import math

import numpy as np
import polars as pl
import pytest

from slipstream.core.bars import resample
from slipstream.errors import DataError
from slipstream.lake import load_panel
from slipstream.lake.datasets import INSTRUMENTS, TIME
from slipstream.lake.wide_csv import read_wide_csv
from wide_files import export_csv

HOUR = 3_600_000


def lines(file) -> list[str]:
    return file.read_text().splitlines()


@pytest.fixture
def flat(hourly):
    """Hourly bars with round numbers: every price is the given close, one coin traded per hour."""

    def of(closes: dict[int, float], coin: str = "BTC") -> pl.DataFrame:
        frame = pl.concat([hourly(coin, hour, hour + 1) for hour in closes])
        price = pl.Series("price", list(closes.values()))
        return frame.with_columns(*(price.alias(name) for name in ("open", "high", "low", "close")), volume=pl.lit(1.0))

    return of


def test_the_three_files_of_a_coin_hold_what_the_table_promises(export, flat, rates, out):
    prices = dict.fromkeys(range(4), 100.0) | dict.fromkeys(range(4, 8), 110.0) | dict.fromkeys(range(12, 16), 121.0)
    funding = rates("BTC", 1, 16).with_columns(rate=pl.lit(0.25)).filter(pl.col("ts").dt.hour() != 14)
    report = export(flat(prices), funding, 16)
    assert report.refused == {}
    assert lines(out / "4h/BTC_candles_4h.csv") == [
        "datetime,open,high,low,close,volume,volume_usd,known_at_ms",
        "2025-01-01T00:00:00Z,100.0,100.0,100.0,100.0,4.0,400.0,1735704000000",
        "2025-01-01T04:00:00Z,110.0,110.0,110.0,110.0,4.0,440.0,1735718400000",
        "2025-01-01T12:00:00Z,121.0,121.0,121.0,121.0,4.0,484.0,1735747200000",
    ]
    assert lines(out / "4h/BTC_funding_4h.csv") == [
        "datetime,funding_sum,funding_n,known_at_ms",
        "2025-01-01T00:00:00Z,1.0,4,1735704000000",
        "2025-01-01T04:00:00Z,1.0,4,1735718400000",
        "2025-01-01T08:00:00Z,1.0,4,1735732800000",
        "2025-01-01T12:00:00Z,0.75,3,1735747200000",
    ]
    header, *rest = lines(out / "4h/BTC_merged_4h.csv")
    assert header == "datetime,ret,gap_bars,funding_sum,funding_n,volume_usd,known_at_ms"
    assert rest == [
        "2025-01-01T00:00:00Z,,0,1.0,4,400.0,1735704000000",
        f"2025-01-01T04:00:00Z,{math.log(1.1)},0,1.0,4,440.0,1735718400000",
        f"2025-01-01T12:00:00Z,{math.log(121 / 110)},1,0.75,3,484.0,1735747200000",
    ]


def test_the_settlement_at_the_close_is_in_this_bar_and_not_in_the_next(export, hourly, rates, out):
    at_close = rates("BTC", 4, 4).with_columns(rate=pl.lit(0.5))
    export(hourly("BTC", 0, 8), at_close, 8)
    merged = pl.read_csv(out / "4h/BTC_merged_4h.csv")
    assert merged["funding_sum"].to_list() == [0.5, None]
    assert merged["funding_n"].to_list() == [1, 0]


def test_no_settlement_is_an_empty_cell_and_not_a_zero(export, hourly, rates, out):
    export(hourly("BTC", 0, 12), rates("BTC", 9, 12), 12)
    assert pl.read_csv(out / "4h/BTC_merged_4h.csv")["funding_sum"].null_count() == 2
    assert [line.split(",")[0] for line in lines(out / "4h/BTC_funding_4h.csv")[1:]] == ["2025-01-01T08:00:00Z"]


def test_bars_shorter_than_an_hour_keep_hourly_funding_and_pay_it_in_the_bar_that_closes_on_the_hour(
    export, hourly, rates, out, start_ms
):
    quarters = hourly("BTC", 0, 8).with_columns(
        ts=(start_ms + pl.int_range(8) * HOUR // 4).cast(TIME), base_interval=pl.lit("15m")
    )
    export(quarters, rates("BTC", 1, 2).with_columns(rate=pl.Series([0.25, 0.5])), 2, interval="15m")
    assert lines(out / "15m/BTC_funding_15m.csv")[1:] == [
        "2025-01-01T00:00:00Z,0.25,1,1735693200000",
        "2025-01-01T01:00:00Z,0.5,1,1735696800000",
    ]
    merged = pl.read_csv(out / "15m/BTC_merged_15m.csv")
    assert merged["funding_sum"].to_list() == [None, None, None, 0.25, None, None, None, 0.5]
    wide = pl.read_csv(out / "funding_sum_15m.csv")
    assert wide["BTC"].to_list() == [0.0, 0.0, 0.0, 0.25, 0.0, 0.0, 0.0, 0.5]


def test_the_forming_bar_is_in_no_file(export, market, out):
    bars, funding = market(("BTC",), 0, 12)  # the twelfth hour is there, but has not closed
    export(bars, funding, 11)
    for file in ("4h/BTC_candles_4h.csv", "4h/BTC_funding_4h.csv", "4h/BTC_merged_4h.csv", "log_returns_4h.csv"):
        assert len(lines(out / file)) == 3, file


def test_the_manifest_names_every_file_with_its_checksum_rows_and_span(export, market, out):
    export(*market(("BTC", "kPEPE"), 0, 24), 24)
    for folder, names in ((out / "4h", 6), (out, 4)):
        held = json.loads((folder / "manifest.json").read_text())
        assert held["coming"] == {}
        assert len(held["files"]) == names
        for name, entry in held["files"].items():
            content = (folder / name).read_bytes()
            assert entry["sha256"] == hashlib.sha256(content).hexdigest()
            assert entry["rows"] == content.count(b"\n") - 1
    first = json.loads((out / "4h/manifest.json").read_text())["files"]["BTC_merged_4h.csv"]
    assert (first["first"], first["last"]) == ("2025-01-01T00:00:00Z", "2025-01-01T20:00:00Z")


def test_a_coin_of_another_dex_goes_to_disk_and_comes_back_under_its_name(export, market, out):
    coin = "xyz:GOLD 1/2~"
    report = export(*market((coin, "kPEPE"), 0, 24), 24)
    assert report.refused == {}
    assert (out / "4h/xyz%3AGOLD%201%2F2%7E_candles_4h.csv").is_file()
    again = export(*market((coin,), 20, 48), 48)
    assert (again.coins[0].coin, again.coins[0].rows_before, again.coins[0].rows_after) == (coin, 6, 12)
    assert pl.read_csv(out / "log_returns_4h.csv").columns == ["known_at", "kPEPE", coin]
    assert pl.read_csv(out / "universe.csv")["dex"].to_list() == [None, "xyz"]


def sample(panel_rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The bars and settlements of a panel file's rows."""
    bars = panel_rows.drop("funding").with_columns(base_interval=pl.lit("1h"))
    funding = panel_rows.select("coin", "ts", rate="funding").drop_nulls()
    return bars, funding.with_columns(premium=pl.lit(None, dtype=pl.Float64), settled_ms=pl.lit(None, dtype=pl.Int64))


@pytest.mark.parametrize("interval", ["1h", "4h", "1d"])
def test_wide_files_are_those_of_the_panel_cell_by_cell(export, make_panel_rows, out, tmp_path, interval):
    rows = make_panel_rows()
    file = tmp_path / "panel.parquet"
    rows.write_parquet(file)
    panel = resample(load_panel(file), {"1h": 1, "4h": 4, "1d": 24}[interval])
    expected = export_csv(panel, tmp_path / "expected", interval)
    export(*sample(rows), 5000, interval=interval)
    for path in expected:
        want, got = read_wide_csv(path), read_wide_csv(out / path.name)
        assert list(got.columns) == list(want.columns)
        np.testing.assert_array_equal(got.to_numpy(), want.loc[got.index].to_numpy(), err_msg=path.name)
        beyond = want.drop(got.index)
        assert beyond.isna().all(axis=None), "rows in which no coin has a bar"


@pytest.fixture
def make_panel_rows(hourly, rates):
    """Rows of a panel file: hourly and 8-hourly funding, a hole in bars, lost settlements, a late and an early coin."""

    def make() -> pl.DataFrame:
        coins = [("AAA", 0, 240, 1), ("BBB", 30, 240, 8), ("CCC", 0, 100, 1), ("ddd", 5, 240, 4)]
        frames = []
        for place, (coin, first, last, every) in enumerate(coins):
            settled = rates(coin, first, last, every=every, seed=place).select("ts", funding="rate")
            frames.append(hourly(coin, first, last, seed=place).drop("base_interval").join(settled, "ts", "left"))
        rows = pl.concat(frames)
        hole = (pl.col("coin") == "AAA") & pl.int_range(pl.len()).is_between(60, 64)
        lost = (pl.col("coin").is_in(["AAA", "BBB"])) & (pl.int_range(pl.len()) % 53 == 0)
        return rows.filter(~hole).with_columns(funding=pl.when(lost).then(None).otherwise("funding"))

    return make


def test_wide_files_of_the_real_hours_are_those_of_the_panel(export, shared, out, tmp_path):
    file = shared / "data/hourly/binance_usdm_1h.parquet"
    rows = pl.read_parquet(file).drop("funding_interval_h").with_columns(pl.col("ts").cast(TIME))
    expected = export_csv(resample(load_panel(file), 4), tmp_path / "expected", "4h")
    export(*sample(rows.select("coin", "ts", "open", "high", "low", "close", "volume", "funding")), 10_000)
    for path in expected:
        want, got = read_wide_csv(path), read_wide_csv(out / path.name)
        np.testing.assert_array_equal(got.to_numpy(), want.loc[got.index].to_numpy(), err_msg=path.name)


def instruments(rows: list[tuple[str, int, str, int, int, bool]], start_ms: int) -> pl.DataFrame:
    return pl.DataFrame(
        [
            {
                "coin": coin,
                "ts": start_ms + hour * HOUR,
                "dex": dex,
                "sz_decimals": decimals,
                "max_leverage": leverage,
                "only_isolated": False,
                "is_delisted": gone,
            }
            for coin, hour, dex, decimals, leverage, gone in rows
        ],
        schema={name: pl.Int64() if name == "ts" else dtype for name, dtype in INSTRUMENTS.schema.items()},
    ).with_columns(pl.col("ts").cast(TIME))


def test_the_universe_has_every_coin_ever_seen_with_its_newest_description(export, market, out, start_ms):
    listed = instruments(
        [
            ("BTC", 0, "", 5, 50, False),
            ("BTC", 30, "", 5, 40, False),
            ("RLB", 0, "", 0, 3, False),
            ("RLB", 40, "", 0, 3, True),
        ],
        start_ms,
    )
    export(*market(("BTC",), 0, 48), 48, instruments=listed)
    assert lines(out / "universe.csv") == [
        "coin,dex,sz_decimals,max_leverage,only_isolated,is_delisted,first_seen_ms,last_seen_ms,first_bar,last_bar",
        f"BTC,,5,40,false,false,{start_ms},{start_ms + 48 * HOUR},2025-01-01T00:00:00Z,2025-01-02T20:00:00Z",
        f"RLB,,0,3,false,true,{start_ms},{start_ms + 40 * HOUR},,",
    ]
    export(*market(("BTC",), 44, 52), 52)
    btc = pl.read_csv(out / "universe.csv").row(0, named=True)
    assert (btc["max_leverage"], btc["first_bar"], btc["last_bar"]) == (
        40,
        "2025-01-01T00:00:00Z",
        "2025-01-03T00:00:00Z",
    )


def test_frames_of_another_type_are_named(export, market):
    bars, funding = market(("BTC",), 0, 8)
    with pytest.raises(DataError, match="bars: column volume holds Int64 and not Float64"):
        export(bars.with_columns(pl.col("volume").cast(pl.Int64)), funding, 8)
    with pytest.raises(DataError, match="funding: column rate holds None"):
        export(bars, funding.drop("rate"), 8)
