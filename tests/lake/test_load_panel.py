"""The one reader: a file and a lake say the same, choices are checked, and importing it is cheap."""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
import polars as pl
import pytest

from slipstream.core.panel import UniverseRule
from slipstream.errors import DataError, UsageError
from slipstream.lake import load_panel
from slipstream.lake.panel_import import import_frame
from slipstream.lake.store import Lake

ARRAYS = ("known_at_ms", "open", "high", "low", "close", "volume_usd", "funding", "universe")


def assert_same(one, other):
    assert one.coins == other.coins
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_a_lake_and_the_file_it_was_made_from_are_one_panel(shared, tmp_path):
    file = shared / "data" / "hourly" / "hyperliquid_perps_1h.parquet"
    import_frame(pl.read_parquet(file), Lake.open(tmp_path / "lake", create=True))
    assert_same(load_panel(tmp_path / "lake"), load_panel(file))


def test_known_prices_of_the_real_file_stand_where_they_should(shared):
    panel = load_panel(shared / "data" / "hourly" / "hyperliquid_perps_1h.parquet", coins=["BTC"])
    assert panel.close[_row(panel, "2024-12-05T15:00"), 0] == 103_700
    assert panel.low[_row(panel, "2025-04-07T07:00"), 0] == 74_496


def _row(panel, known_at: str) -> int:
    return panel.row_at(int(np.datetime64(known_at, "ms").astype(np.int64)))


def test_the_real_hourly_file_is_read_in_well_under_a_second(shared):
    file = shared / "data" / "hourly" / "hyperliquid_perps_1h.parquet"
    began = time.process_time()
    panel = load_panel(file)
    assert (panel.rows, len(panel.coins)) == (5741, 60)
    assert int(panel.funding_missing.sum()) == 60, "each coin's last close, and nothing else"
    assert time.process_time() - began < 2.0, "processor time of two threads"


def test_chosen_coins_come_alone_and_sorted(make_candles, write):
    file = write(make_candles())
    panel = load_panel(file, coins=["kPEPE", "BTC", "BTC"])
    assert panel.coins == ("BTC", "kPEPE")


def test_an_unknown_coin_is_answered_with_the_names_near_it(make_candles, write):
    file = write(make_candles())
    with pytest.raises(UsageError, match="holds no coin KPEPE; did you mean kPEPE"):
        load_panel(file, coins=["KPEPE"])
    with pytest.raises(UsageError, match="it holds BTC, ETH, kPEPE"):
        load_panel(file, coins=["XYZQ"])
    with pytest.raises(UsageError, match="no coin asked for"):
        load_panel(file, coins=[])


def test_an_end_cuts_like_a_file_that_ends_there_but_for_the_last_settlement(make_candles, write):
    frame = make_candles()
    end = frame["ts"][40].timestamp() * 1000 + 3_600_000
    cut = load_panel(write(frame), end_ms=int(end))
    short = load_panel(write(frame.filter(pl.col("ts") <= frame["ts"][40]), "short.parquet"))
    for name in ARRAYS[:-2]:
        np.testing.assert_array_equal(getattr(cut, name), getattr(short, name))
    np.testing.assert_array_equal(cut.funding[:-1], short.funding[:-1])
    assert np.isnan(short.funding[-1]).all()
    assert (cut.funding[-1] == 1.25e-5).all(), "the whole file holds the stamp of the last close"


def test_a_start_keeps_what_the_history_before_it_decided(make_candles, write):
    rule = UniverseRule(min_adv_usd=1.0, min_history_hours=24)
    whole = load_panel(write(make_candles()), rule=rule)
    late = load_panel(write(make_candles()), rule=rule, start_ms=int(whole.known_at_ms[30]))
    assert late.known_at_ms[0] == whole.known_at_ms[30]
    assert late.universe.all(), "24 hours of history were seen before the start"
    np.testing.assert_array_equal(late.funding, whole.funding[30:])


def test_a_start_between_rows_begins_at_the_next_row(make_candles, write):
    whole = load_panel(write(make_candles()))
    late = load_panel(write(make_candles()), start_ms=int(whole.known_at_ms[30]) + 1)
    assert late.known_at_ms[0] == whole.known_at_ms[31]


def test_a_span_without_rows_is_refused_with_the_span_there_is(make_candles, write):
    with pytest.raises(UsageError, match="rows are known from 2025-01-01 01:00 to 2025-01-04 00:00 UTC"):
        load_panel(write(make_candles()), start_ms=2_000_000_000_000)


def test_a_file_in_which_nothing_ever_traded_is_refused(make_candles, write):
    dead = make_candles().with_columns(pl.lit(1.0).alias(name) for name in ("open", "high", "low", "close"))
    with pytest.raises(DataError, match="no coin has traded"):
        load_panel(write(dead.with_columns(volume=0.0)))


def test_a_folder_that_is_no_lake_is_refused_with_the_command_that_makes_one(tmp_path):
    with pytest.raises(DataError, match="slipstream data import"):
        load_panel(tmp_path)


def test_importing_the_reader_loads_nothing_heavy():
    code = "import sys, slipstream.lake, slipstream.cli.data; print({'polars', 'pandas', 'numba'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"


def test_reading_a_panel_loads_neither_pandas_nor_numba(make_candles, write):
    code = f"import sys; from slipstream.lake import load_panel; load_panel({str(write(make_candles()))!r}); "
    code += "print({'pandas', 'numba', 'scipy'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"
