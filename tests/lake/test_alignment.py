"""Which hour earns which rate, which settlements were due, and what a hole looks like in the panel."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.core.coverage import coverage
from slipstream.core.panel import HOUR_MS
from slipstream.lake.alignment import align

MIDNIGHT = datetime(2025, 1, 1, tzinfo=UTC)
BASE_HOUR = int(MIDNIGHT.timestamp()) // 3600


def settled_at(frame: pl.DataFrame, hours_and_rates: dict[int, float]) -> pl.DataFrame:
    """The frame with settlements at these hours after its first open, and nowhere else."""
    hour = (pl.col("ts") - pl.col("ts").min().over("coin")).dt.total_hours()
    return frame.with_columns(funding=hour.replace_strict(hours_and_rates, default=None, return_dtype=pl.Float64))


def row_known_at(panel, hours: int) -> int:
    """Row known this many hours after midnight."""
    return panel.row_at(int((MIDNIGHT + timedelta(hours=hours)).timestamp() * 1000))


def test_a_position_opened_at_the_close_of_row_ts_earns_the_stamp_two_hours_after_ts(make_candles):
    """Entered at ts + 1h (the close of the candle that opens at ts), held one bar: only the stamp ts + 2h is paid."""
    ts = 10
    frame = settled_at(make_candles(("BTC",)), {hour: hour * 1e-6 for hour in range(72)})
    panel = align(frame).panel
    entry = row_known_at(panel, ts + 1)
    assert panel.close[entry, 0] == frame["close"][ts]
    assert panel.funding[entry + 1, 0] == (ts + 2) * 1e-6


def test_every_rate_of_the_real_file_stands_at_the_row_known_at_its_stamp(shared):
    frame = pl.read_parquet(shared / "data" / "hourly" / "hyperliquid_perps_1h.parquet")
    panel = align(frame).panel
    for coin in ("BTC", "RLB", "kPEPE", "LAYER"):
        rows = frame.filter((pl.col("coin") == coin) & pl.col("funding").is_not_null())
        stamp = rows["ts"].dt.timestamp("ms").to_numpy()[1:]  # the first lies before the coin's first bar ends
        row = (stamp - panel.known_at_ms[0]) // HOUR_MS
        column = panel.coins.index(coin)
        assert (panel.funding[row, column] == rows["funding"].to_numpy()[1:]).all()
        close = frame.filter(pl.col("coin") == coin)["close"].to_numpy()
        assert (panel.close[row[0] : row[0] + len(close), column] == close).all()


def test_the_panel_is_labelled_by_the_time_its_bars_are_known(make_candles):
    panel = align(make_candles()).panel
    assert panel.known_at_ms[0] == (BASE_HOUR + 1) * HOUR_MS
    assert panel.rows == 72
    assert panel.coins == ("BTC", "ETH", "kPEPE")
    assert all(array.flags.c_contiguous for array in (panel.close, panel.funding, panel.volume_usd))


def test_volume_is_in_usd_at_the_typical_price(make_candles):
    frame = make_candles(("BTC",))
    row = frame.row(7, named=True)
    expected = row["volume"] * (row["high"] + row["low"] + row["close"]) / 3
    assert align(frame).panel.volume_usd[7, 0] == pytest.approx(expected, rel=1e-15)


def test_the_hour_a_file_ends_in_has_no_row_for_its_settlement_and_counts_as_missing(make_candles):
    panel = align(make_candles(("BTC",))).panel
    assert np.flatnonzero(panel.funding_missing[:, 0]).tolist() == [71]


def test_eight_hourly_settlements_leave_the_hours_between_at_zero(make_candles):
    panel = align(settled_at(make_candles(("BTC",)), dict.fromkeys(range(0, 72, 8), 1e-4))).panel
    paid = {row_known_at(panel, hour) for hour in range(8, 72, 8)}
    missing = {row_known_at(panel, 72)}
    for row in range(panel.rows):
        if row in missing:
            assert np.isnan(panel.funding[row, 0])
        else:
            assert panel.funding[row, 0] == (1e-4 if row in paid else 0.0)


def test_the_real_eight_hourly_file_misses_only_the_stamp_it_cannot_hold(shared):
    frame = pl.read_parquet(shared / "data" / "hourly" / "binance_usdm_1h.parquet")
    panel = align(frame).panel
    counts = {coin.coin: coin.funding_missing for coin in coverage(panel)}
    assert counts.pop("BCH") == 0, "no settlement is recorded at all, so none is known to be due"
    assert set(counts.values()) == {0}, "the stamp at the last close is not counted: no file can hold it yet"
    settled = frame.filter((pl.col("coin") == "ENA") & pl.col("funding").is_not_null())["funding"].sum()
    first = frame.filter(pl.col("coin") == "ENA")["funding"][0]
    assert np.nansum(panel.funding[:, panel.coins.index("ENA")]) == pytest.approx(settled - first, rel=1e-12)


def test_settlements_missing_in_a_hole_of_4004_hours_are_counted(make_candles):
    """A four-hourly coin whose recording stops for 4004 hours lacks the 1000 settlements strictly inside."""
    hole = range(48 + 4, 48 + 4004, 4)
    rates = {hour: 1e-4 for hour in range(0, 5000, 4) if hour not in hole}
    panel = align(settled_at(make_candles(("ENA",), hours=5000), rates)).panel
    rows = np.flatnonzero(panel.funding_missing[:, 0])
    assert rows.tolist() == [row_known_at(panel, hour) for hour in hole] + [row_known_at(panel, 5000)]


def test_a_missing_hour_of_an_hourly_coin_is_due_and_missing(make_candles):
    rates = {hour: 1e-5 for hour in range(72) if hour not in (30, 31)}
    panel = align(settled_at(make_candles(("BTC",)), rates)).panel
    missing = np.flatnonzero(panel.funding_missing[:, 0]).tolist()
    assert missing == [row_known_at(panel, 30), row_known_at(panel, 31), row_known_at(panel, 72)]


def test_a_shorter_interval_takes_effect_at_once(make_candles):
    """8-hourly until hour 40, then hourly, with hour 43 lost: it is known to be due from the one-hour gap before."""
    stamps = [*range(0, 41, 8), 41, 42, *range(44, 72)]
    panel = align(settled_at(make_candles(("BTC",)), dict.fromkeys(stamps, 1e-5))).panel
    missing = np.flatnonzero(panel.funding_missing[:, 0]).tolist()
    assert missing == [row_known_at(panel, 43), row_known_at(panel, 72)]


def test_a_longer_interval_needs_two_equal_gaps(make_candles):
    """Hourly until hour 24, then 8-hourly: the hours of two gaps count as missing, those after do not."""
    stamps = [*range(25), 32, 40, 48, 56, 64]
    panel = align(settled_at(make_candles(("BTC",)), dict.fromkeys(stamps, 1e-5))).panel
    missing = np.flatnonzero(panel.funding_missing[:, 0]).tolist()
    silent = [hour for hour in range(25, 40) if hour != 32]
    assert missing == [row_known_at(panel, hour) for hour in [*silent, 72]]


@given(st.sets(st.integers(0, 59), min_size=1), st.integers(1, 59))
def test_what_was_due_does_not_depend_on_the_future(hours, cut):
    """Cutting the candles after hour ``cut`` changes nothing before: the last row alone loses its own stamp."""
    frame = settled_at(_flat_candles(60), dict.fromkeys(sorted(hours), 1e-5))
    whole, short = align(frame).panel, align(frame[: cut + 1]).panel
    np.testing.assert_array_equal(short.funding[:-1], whole.funding[:cut])


def _flat_candles(hours: int) -> pl.DataFrame:
    times = [MIDNIGHT + timedelta(hours=hour) for hour in range(hours)]
    price = np.full(hours, 100.0)
    columns = {"ts": times, "coin": ["BTC"] * hours} | dict.fromkeys(("open", "high", "low", "close"), price)
    return pl.DataFrame(columns | {"volume": np.ones(hours), "funding": np.full(hours, 1e-5)}).with_columns(
        pl.col("ts").cast(pl.Datetime("ms", "UTC"))
    )


def test_reading_a_panel_loads_no_compiler(make_candles, tmp_path):
    file = tmp_path / "candles.parquet"
    make_candles().write_parquet(file)
    code = (
        "import sys\nfrom slipstream.lake import load_panel\n"
        f"assert load_panel({str(file)!r}).rows == 72\nassert 'numba' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_a_gap_is_a_nan_row_reported_and_never_filled(make_candles):
    frame = make_candles(("BTC", "ETH"))
    holed = frame.filter(~((pl.col("coin") == "ETH") & (pl.int_range(pl.len()).is_between(72 + 20, 72 + 24))))
    panel = align(holed).panel
    assert np.isnan(panel.close[20:25, 1]).all()
    assert not np.isnan(panel.close[20:25, 0]).any()
    assert not panel.universe[20:25, 1].any()
    assert [coin.gap_bars for coin in coverage(panel)] == [0, 5]
    assert np.flatnonzero(panel.funding_missing[:, 1]).tolist() == [19, 20, 21, 22, 23, 71]


def test_an_hour_in_which_no_coin_has_a_bar_is_still_a_row(make_candles):
    frame = make_candles(("BTC",))
    panel = align(pl.concat([frame[:10], frame[13:]])).panel
    assert panel.rows == 72
    assert np.isnan(panel.close[10:13]).all()


def test_nothing_is_due_outside_a_coins_life(make_candles):
    early, late = make_candles(("BTC",)), make_candles(("ETH",), hours=10, start=MIDNIGHT + timedelta(hours=30))
    panel = align(pl.concat([early, late])).panel
    assert (panel.funding[:30, 1] == 0.0).all()
    assert (panel.funding[40:, 1] == 0.0).all()


def test_flat_candles_without_volume_before_the_first_trade_are_dropped_and_counted(make_candles):
    listed = make_candles(("HYPE",), start=MIDNIGHT + timedelta(hours=1000))
    before = _flat_candles(1000).with_columns(coin=pl.lit("HYPE"), volume=0.0, funding=None)
    frame = pl.concat([before, listed, make_candles(("BTC",), hours=1072)], how="vertical_relaxed")
    aligned = align(frame.sort("coin", "ts"))
    assert aligned.pre_listing == {"HYPE": 1000}
    assert coverage(aligned.panel)[1].bars == 72


def test_a_quiet_hour_after_the_first_trade_is_a_bar(make_candles):
    quiet = _flat_candles(72).with_columns(volume=pl.when(pl.int_range(pl.len()) == 0).then(5.0).otherwise(0.0))
    aligned = align(quiet)
    assert aligned.pre_listing == {}
    assert coverage(aligned.panel)[0].zero_volume_bars == 71
