"""Bars of any length from base bars: whole ones only, from the finest base that covers them, never from later rows."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.core.bars import resample
from slipstream.errors import DataError, UsageError
from slipstream.lake import load_panel
from slipstream.lake.datasets import BARS, TIME
from slipstream.lake.longer_bars import FUNDING_BARS, LONGER_BARS, bars_of, funding_of, length_ms, longer_bars

HOUR = 3_600_000
START = 1_735_689_600_000  # 2025-01-01 00:00 UTC


def rows(coin: str, opens: list[int], base: str = "1h", *, price: float = 100.0, volume: float | None = 2.0):
    """Base bars at some hours after START, each with numbers of its own."""
    count = len(opens)
    level = [price + hour for hour in opens]
    return pl.DataFrame(
        {
            "coin": [coin] * count,
            "ts": pl.Series([START + hour * HOUR for hour in opens], dtype=pl.Int64).cast(TIME),
            "open": level,
            "high": [value + 3.0 for value in level],
            "low": [value - 2.0 for value in level],
            "close": [value + 0.5 for value in level],
            "volume": pl.Series([volume] * count, dtype=pl.Float64),
            "base_interval": [base] * count,
        },
        schema=BARS.schema,
    )


def at_hours(bars: pl.DataFrame) -> list[int]:
    return [(ms - START) // HOUR for ms in bars["ts"].dt.timestamp("ms").to_list()]


def test_a_bar_of_four_hours_opens_with_its_first_hour_and_closes_with_its_last():
    bars = bars_of(rows("BTC", list(range(8))), "4h")
    assert bars.schema == LONGER_BARS
    first = bars.row(0, named=True)
    assert first["open"] == 100.0
    assert first["high"] == 106.0
    assert first["low"] == 98.0
    assert first["close"] == 103.5
    assert first["volume"] == 8.0
    assert first["volume_usd"] == pytest.approx(sum(2.0 * (3 * (100 + hour) + 1.5) / 3 for hour in range(4)), rel=1e-15)
    assert first["base_interval"] == "1h"
    assert at_hours(bars) == [0, 4]


def test_bars_open_on_the_epoch_grid_wherever_the_rows_begin():
    assert at_hours(bars_of(rows("BTC", list(range(2, 14))), "4h")) == [4, 8]


def test_a_bar_with_an_hour_missing_is_no_bar():
    assert at_hours(bars_of(rows("BTC", [0, 1, 3, 4, 5, 6, 7]), "4h")) == [4]


def test_hours_of_another_coin_do_not_fill_a_hole():
    frame = pl.concat([rows("BTC", [0, 1]), rows("ETH", [2, 3])])
    assert bars_of(frame, "4h").height == 0


def test_each_bar_comes_from_the_finest_base_that_covers_it_and_else_from_the_next():
    frame = pl.concat(
        [
            rows("BTC", [0], "1d", price=1.0),
            rows("BTC", [24, 28, 32, 36, 40, 44], "4h", price=2.0),
            rows("BTC", [*range(48, 72)], "1h", price=3.0),
            rows("BTC", [24, 48], "1d", price=4.0),
            rows("BTC", [72, 73], "1h", price=5.0),
        ]
    )
    days = bars_of(frame, "1d")
    assert at_hours(days) == [0, 24, 48]
    assert days["base_interval"].to_list() == ["1d", "4h", "1h"]
    quarters = bars_of(frame, "4h")
    assert quarters["base_interval"].to_list() == ["4h"] * 6 + ["1h"] * 6
    assert bars_of(frame, "1h").height == 26


def test_a_length_that_the_base_does_not_divide_makes_no_bars():
    assert bars_of(rows("BTC", [0, 4], "4h"), "6h").height == 0
    assert bars_of(rows("BTC", [0], "1h"), "15m").height == 0


def test_an_unknown_volume_leaves_the_bars_volume_unknown_and_its_prices_known():
    frame = pl.concat([rows("BTC", [0, 1, 2]), rows("BTC", [3], volume=None)])
    bar = bars_of(frame, "4h").row(0, named=True)
    assert (bar["volume"], bar["volume_usd"]) == (None, None)
    assert bar["close"] == 103.5


def test_the_forming_bar_is_never_made_and_a_bar_that_closes_now_is():
    frame = rows("BTC", list(range(8)))
    assert at_hours(bars_of(frame, "4h", now_ms=START + 8 * HOUR)) == [0, 4]
    assert at_hours(bars_of(frame, "4h", now_ms=START + 8 * HOUR - 1)) == [0]


def test_candles_from_before_the_first_trade_are_left_out_and_counted():
    flat = rows("NEW", list(range(6)), volume=0.0).with_columns(
        pl.lit(7.0).alias(name) for name in ("open", "high", "low", "close")
    )
    frame = pl.concat([flat, rows("NEW", list(range(6, 12))), rows("BTC", list(range(12)))])
    made = longer_bars(frame, "4h")
    assert made.pre_listing == {"NEW": 6}
    assert at_hours(made.bars.filter(pl.col("coin") == "NEW")) == [8]


def test_silent_bars_of_a_coin_known_to_trade_are_not_taken_for_pre_listing():
    flat = rows("RLB", list(range(8)), volume=0.0).with_columns(
        pl.lit(7.0).alias(name) for name in ("open", "high", "low", "close")
    )
    assert longer_bars(flat, "4h").bars.height == 0
    made = longer_bars(flat, "4h", traded_since={"RLB": START + 4 * HOUR})
    assert at_hours(made.bars) == [4]
    assert made.pre_listing == {"RLB": 4}


@st.composite
def histories(draw) -> pl.DataFrame:
    """Some hours of two coins, some of them also or only in bars of four hours."""
    frames = []
    for coin in ("BTC", "kPEPE"):
        hours = sorted(draw(st.sets(st.integers(0, 40), max_size=41)))
        longer = sorted(draw(st.sets(st.sampled_from(range(0, 40, 4)))))
        frames += [rows(coin, hours), rows(coin, longer, "4h", price=50.0)]
    return pl.concat(frames)


@given(histories(), st.sampled_from(["2h", "4h", "8h", "1d"]), st.integers(0, 40), st.randoms(use_true_random=False))
def test_later_rows_cut_away_or_shuffled_change_no_earlier_bar(frame, interval, cut, random):
    moment = START + cut * HOUR
    before = bars_of(frame, interval, now_ms=moment)
    known = pl.col("ts").dt.timestamp("ms") < moment
    later = frame.filter(~known).with_columns(pl.col("close") * random.uniform(1, 2))
    order = list(range(frame.height))
    random.shuffle(order)
    mixed = pl.concat([frame.filter(known), later])[order]
    assert bars_of(frame.filter(known), interval, now_ms=moment).equals(before)
    assert bars_of(mixed, interval, now_ms=moment).equals(before)


@given(histories(), st.sampled_from([2, 4, 8, 24]))
def test_bars_agree_with_a_loop_that_looks_for_every_hour(frame, length):
    got = {
        (row["coin"], at_hours(pl.DataFrame({"ts": pl.Series([row["ts"]], dtype=TIME)}))[0]): row
        for row in bars_of(frame, f"{length}h").iter_rows(named=True)
    }
    expected = {}
    for coin in ("BTC", "kPEPE"):
        held = {}
        for base, step in (("1h", 1), ("4h", 4)):
            mine = frame.filter((pl.col("coin") == coin) & (pl.col("base_interval") == base))
            held[step] = dict(zip(at_hours(mine), mine.iter_rows(named=True), strict=True))
        for opened in range(0, 48, length):
            for step in (1, 4):
                parts = [held[step].get(hour) for hour in range(opened, opened + length, step)]
                if length % step == 0 and all(parts):
                    expected[coin, opened] = parts
                    break
    assert got.keys() == expected.keys()
    for key, parts in expected.items():
        assert got[key]["open"] == parts[0]["open"]
        assert got[key]["close"] == parts[-1]["close"]
        assert got[key]["high"] == max(part["high"] for part in parts)
        assert got[key]["low"] == min(part["low"] for part in parts)
        usd = sum(part["volume"] * (part["high"] + part["low"] + part["close"]) / 3 for part in parts)
        assert got[key]["volume_usd"] == pytest.approx(usd, rel=1e-14)


def test_real_hours_make_the_bars_that_the_panel_makes(shared):
    file = shared / "data/hourly/hyperliquid_perps_1h.parquet"
    panel = resample(load_panel(file), 4)
    frame = pl.read_parquet(file).with_columns(pl.col("ts").cast(TIME), base_interval=pl.lit("1h"))
    bars = bars_of(frame, "4h")
    row = (bars["ts"].dt.timestamp("ms").to_numpy() + 4 * HOUR - panel.known_at_ms[0]) // (4 * HOUR)
    column = np.searchsorted(panel.coins, bars["coin"].to_numpy().astype(str))
    assert bars.height == int(np.isfinite(panel.close).sum())
    for name in ("open", "high", "low", "close", "volume_usd"):
        np.testing.assert_array_equal(bars[name].to_numpy(), getattr(panel, name)[row, column])


def settled(coin: str, hours: list[int], rates: list[float]) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "coin": [coin] * len(hours),
            "ts": pl.Series([START + hour * HOUR for hour in hours], dtype=pl.Int64).cast(TIME),
            "rate": pl.Series(rates, dtype=pl.Float64),
        },
        schema={"coin": pl.String, "ts": TIME, "rate": pl.Float64},
    )


def test_the_funding_of_a_bar_is_the_sum_of_its_settlements_and_the_one_at_its_close_is_its_own():
    sums = funding_of(settled("BTC", [0, 1, 2, 3, 4, 5], [1.0, 2.0, 4.0, 8.0, 16.0, 32.0]), "4h")
    assert sums.schema == FUNDING_BARS
    assert at_hours(sums) == [-4, 0, 4]
    assert sums["funding_sum"].to_list() == [1.0, 30.0, 32.0]
    assert sums["funding_n"].to_list() == [1, 4, 1]


def test_a_venue_that_settles_every_eight_hours_has_one_settlement_in_every_second_bar():
    sums = funding_of(settled("BTCUSDT", [8, 16, 24], [1e-4, 2e-4, 3e-4]), "4h")
    assert at_hours(sums) == [4, 12, 20]
    assert sums["funding_n"].to_list() == [1, 1, 1]


def test_funding_of_bars_shorter_than_an_hour_keeps_hourly_rows():
    sums = funding_of(settled("BTC", [1, 2], [1e-5, 2e-5]), "15m")
    assert at_hours(sums) == [0, 1]
    assert sums["funding_sum"].to_list() == [1e-5, 2e-5]


def test_a_funding_sum_that_is_not_yet_known_is_left_out():
    sums = funding_of(settled("BTC", [3, 4, 5], [1.0, 2.0, 3.0]), "4h", now_ms=START + 5 * HOUR)
    assert at_hours(sums) == [0]


def test_nothing_makes_nothing():
    assert bars_of(rows("BTC", []), "4h").schema == LONGER_BARS
    assert funding_of(settled("BTC", [], []), "4h").schema == FUNDING_BARS


def test_a_row_that_is_there_twice_or_off_its_grid_is_named():
    twice = pl.concat([rows("kPEPE", [0, 1]), rows("kPEPE", [1])])
    with pytest.raises(DataError, match="kPEPE at 2025-01-01 01:00:00 UTC is there twice"):
        bars_of(twice, "4h")
    with pytest.raises(DataError, match="4h bars: BTC at 2025-01-01 01:00:00 UTC does not lie on their grid"):
        bars_of(rows("BTC", [1], "4h"), "1d")
    with pytest.raises(DataError, match=r"settlements by the hour: BTC .* is there twice"):
        funding_of(pl.concat([settled("BTC", [1], [1.0]), settled("BTC", [1], [2.0])]), "4h")


@pytest.mark.parametrize("interval", ["4", "h", "0h", "-4h", "4 h", "1w", "4H"])
def test_a_length_that_cannot_be_read_is_named(interval):
    with pytest.raises(UsageError, match="such as 15m, 1h, 4h or 1d"):
        length_ms(interval)
