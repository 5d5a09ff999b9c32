"""The documented CSV files: their columns, their numbers, their names, and the turn of the day."""

from __future__ import annotations

import csv
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.recorder.recorded_events import T0_NS, book, quote
from slipstream.errors import UsageError
from slipstream.ingest.recorder.batch import Batch
from slipstream.ingest.recorder.csv_files import CsvFiles, Patterns
from slipstream.ingest.recorder.csv_tables import Asset, bbo_rows, depth_rows, path_of
from slipstream.ingest.recorder.recorder import Buffers
from slipstream.lake.datasets import STREAM_GAPS
from slipstream.venues.events import BINANCE

BTC, PEPE = Asset("BTC", "btcusdt"), Asset("kPEPE", "1000pepeusdt")
SESSION = "20250904-195900"
DAY_NS = 86_400_000_000_000


def batch(*events) -> Batch:
    buffers = Buffers()
    for event in events:
        buffers.of[type(event)].add(event)
    gaps = STREAM_GAPS.schema.to_frame()
    return Batch(*(part.frame() for part in (buffers.quotes, buffers.books, buffers.trades, buffers.contexts)), gaps)


def patterns(folder, end: str = "{symbol}_{session}.csv") -> Patterns:
    return Patterns(*(str(folder / kind / end) for kind in ("hl", "cex", "depth", "funding")))


def rows_of(path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_quotes_go_to_the_file_of_their_venue_and_coin_with_the_documented_columns(tmp_path):
    files = CsvFiles([BTC, PEPE], patterns(tmp_path), SESSION, 10.0)
    files.write(batch(quote(1), quote(2, "kPEPE", venue=BINANCE), quote(3)))
    files.close()
    (first, second) = rows_of(tmp_path / "hl" / f"BTC_{SESSION}.csv")
    assert list(first) == [
        "timestamp",
        "timestamp_iso",
        "symbol",
        "bid",
        "ask",
        "mid",
        "spread",
        "bid_size",
        "ask_size",
    ]
    assert first["timestamp"] == "1757015216.001000"
    assert datetime.fromisoformat(first["timestamp_iso"]).timestamp() == pytest.approx(1757015216.001, abs=1e-7)
    assert [float(first[name]) for name in ("bid", "ask", "mid", "spread", "bid_size", "ask_size")] == [
        101.0, 102.0, 101.5, 1.0, 1.0, 2.0,
    ]  # fmt: skip
    assert second["symbol"] == "BTC"
    (pepe,) = rows_of(tmp_path / "cex" / f"kPEPE_{SESSION}.csv")
    assert pepe["symbol"] == "1000PEPEUSDT"
    assert files.rows == {("hl_bbo", "BTC"): 2, ("cex_bbo", "kPEPE"): 1}
    assert rows_of(tmp_path / "depth" / f"BTC_{SESSION}.csv") == []


def test_a_side_without_orders_leaves_its_cells_empty():
    from msgspec.structs import replace

    row = bbo_rows(batch(replace(quote(1), bid=None, bid_size=None)).quotes, {"BTC": "BTC"}).row(0, named=True)
    assert (row["bid"], row["bid_size"], row["mid"], row["spread"], row["ask"]) == (None, None, None, None, 102.0)


def test_spreads_and_mids_of_small_prices_carry_no_noise_of_binary_fractions():
    from msgspec.structs import replace

    small = replace(quote(1), bid=0.004411, ask=0.004413)
    row = bbo_rows(batch(small).quotes, {"BTC": "BTC"}).row(0, named=True)
    assert (row["spread"], row["mid"]) == (2e-06, 0.004412)


LEVELS = st.lists(st.tuples(st.integers(1, 400), st.floats(0.001, 100.0)), max_size=6, unique_by=lambda level: level[0])


@given(LEVELS, LEVELS, st.sampled_from([1.0, 10.0, 55.0]))
def test_depth_is_the_coins_within_the_distance_of_the_mid(bids, asks, bps):
    """Against a plain loop over the levels."""
    below = sorted(((10_000.0 - step, size) for step, size in bids), reverse=True)
    above = sorted((10_000.0 + step, size) for step, size in asks)
    depths = depth_rows(batch(book(1, bids=tuple(below), asks=tuple(above)), book(2)).books, bps)
    row = depths.rows.row(0, named=True)
    if not below or not above:
        assert (row["bid_depth"], row["ask_depth"], row["total_depth"]) == (None, None, None)
        return
    mid = (below[0][0] + above[0][0]) / 2
    near = [sum(s for p, s in side if abs(p / mid - 1) <= bps * 1e-4 * (1 + 1e-12)) for side in (below, above)]
    assert row["bid_depth"] == pytest.approx(near[0])
    assert row["ask_depth"] == pytest.approx(near[1])
    assert row["total_depth"] == pytest.approx(sum(near))


def test_depth_that_the_levels_sent_do_not_reach_is_counted():
    """Five levels of a liquid coin end long before ten basis points: the figure is a lower bound, and that is said."""
    wide, narrow = ((100.0, 1.0), (99.0, 1.0)), ((100.0, 1.0), (99.99, 1.0))
    far = ((100.02, 1.0), (101.0, 1.0))
    depths = depth_rows(
        batch(book(1, bids=wide, asks=far), book(2, bids=narrow, asks=far), book(3, bids=())).books, 10.0
    )
    assert depths.short == 1


def test_a_recording_that_passes_midnight_begins_a_new_session_file(tmp_path):
    files = CsvFiles([BTC], patterns(tmp_path), SESSION, 10.0)
    tomorrow = (T0_NS // DAY_NS + 1) * DAY_NS
    files.write(batch(quote(1), quote(2, at_ns=tomorrow), quote(3, at_ns=tomorrow + 5)))
    files.close()
    assert len(rows_of(tmp_path / "hl" / f"BTC_{SESSION}.csv")) == 1
    later = rows_of(tmp_path / "hl" / "BTC_20250905-000000.csv")
    assert [row["timestamp_iso"][:10] for row in later] == ["2025-09-05"] * 2


def test_a_pattern_without_a_session_appends_to_one_file_for_ever(tmp_path):
    tomorrow = (T0_NS // DAY_NS + 1) * DAY_NS
    for events in ((quote(1), quote(2, at_ns=tomorrow)), (quote(3, at_ns=tomorrow + 9),)):
        files = CsvFiles([BTC], patterns(tmp_path, "{lower}.csv"), SESSION, 10.0)
        files.write(batch(*events))
        files.close()
    assert len(rows_of(tmp_path / "hl" / "btc.csv")) == 3


def test_the_last_settlement_of_an_existing_file_is_remembered(tmp_path):
    hour_ms = datetime(2025, 9, 4, 19, tzinfo=UTC).timestamp() * 1000
    files = CsvFiles([BTC], patterns(tmp_path, "{symbol}.csv"), SESSION, 10.0)
    assert files.last_funding_ms("BTC") is None
    files.write_funding("BTC", [(int(hour_ms), 1.25e-5)])
    files.close()
    again = CsvFiles([BTC], patterns(tmp_path, "{symbol}.csv"), SESSION, 10.0)
    assert again.last_funding_ms("BTC") == hour_ms
    again.close()
    (row,) = rows_of(tmp_path / "funding" / "BTC.csv")
    assert (row["timestamp"], float(row["funding_rate"])) == (f"{hour_ms / 1000:.6f}", 1.25e-5)


def test_patterns_know_their_tokens_and_encode_what_a_file_name_may_not_hold():
    odd = Asset("xyz:SP500", "sp500USDT")
    made = path_of("d/{symbol}-{lower}-{cex_symbol}-{cex_lower}_{session}.csv", odd, SESSION)
    assert str(made) == f"d/xyz%3ASP500-xyz%3Asp500-sp500USDT-sp500usdt_{SESSION}.csv"
    for wrong in ("{coin}.csv", "{symbol!r}.csv", "{symbol:>9}.csv", "{symbol.csv", "{}.csv"):
        with pytest.raises(UsageError, match="tokens"):
            path_of(wrong, BTC, SESSION)


def test_two_coins_that_would_share_a_file_are_refused(tmp_path):
    with pytest.raises(UsageError, match="put a token in the pattern"):
        CsvFiles([BTC, PEPE], patterns(tmp_path, "all.csv"), SESSION, 10.0)
    same = str(tmp_path / "{symbol}.csv")
    with pytest.raises(UsageError, match="both hl_bbo of BTC and cex_bbo of BTC"):
        CsvFiles([BTC], Patterns(same, same, "d/{symbol}", "f/{symbol}"), SESSION, 10.0)
