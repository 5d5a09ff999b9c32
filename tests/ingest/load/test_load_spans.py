"""What a lake lacks of a range: everything that is missing is asked for, and nothing that is held, in few requests."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from load_runs import NOON

from slipstream.core.panel import HOUR_MS
from slipstream.ingest.load.spans import Span, held_in, missing_bars, missing_settlements, whole_bars
from slipstream.lake.datasets import BARS, FUNDING, INTERVAL_MS, TIME
from slipstream.lake.store import Lake

START = NOON - 400 * HOUR_MS


@st.composite
def masks(draw: st.DrawFn) -> np.ndarray:
    """Which of some hours are held: runs of either kind, so that no hole and many holes both happen."""
    runs = draw(st.lists(st.integers(1, 30), min_size=1, max_size=25))
    first = draw(st.booleans())
    return np.concatenate([np.full(length, first ^ bool(i % 2)) for i, length in enumerate(runs)])


def times(spans: tuple[Span, ...], step: int) -> list[int]:
    return [moment for span in spans for moment in range(span.start_ms, span.end_ms, step)]


def runs_of(mask: np.ndarray) -> int:
    """How many runs of True a mask has."""
    return int(np.count_nonzero(np.diff(np.concatenate([[0], mask.astype(int)])) == 1))


def assert_asks_for_what_is_missing(spans: tuple[Span, ...], held: np.ndarray, start: int, step: int) -> None:
    grid = start + np.arange(len(held)) * step
    asked, lacking = times(spans, step), grid[~held].tolist()
    assert set(lacking) <= set(asked) <= set(grid.tolist())
    assert asked == sorted(set(asked)), "ranges are in order and do not overlap"
    assert len(spans) <= 5
    for span in spans:
        assert {span.start_ms, span.end_ms - step} <= set(lacking), "no range begins or ends with what is held"
    if runs_of(~held) <= 5:
        assert asked == lacking
    else:
        inner = [moment for moment in asked if moment not in set(lacking)]
        assert len(spans) == 3
        assert all(spans[1].start_ms < moment < spans[1].end_ms for moment in inner)


@given(masks(), st.sampled_from(["1m", "15m", "1h", "4h", "1d"]))
def test_missing_bars_are_asked_for_and_held_ones_only_between_many_holes(held, interval):
    step = INTERVAL_MS[interval]
    start = NOON // step * step
    opens = start + np.flatnonzero(held) * step
    around = np.concatenate([[start - 2 * step], opens, [start + len(held) * step]])
    for known in (opens, around):
        spans = missing_bars(known, start, start + len(held) * step, interval)
        assert_asks_for_what_is_missing(spans, held, start, step)


@given(masks())
def test_missing_hourly_settlements_are_asked_for_in_the_same_way(held):
    """Two adjacent stamps show an hourly interval; from then on every hour is due, and what lies outside is asked."""
    held = np.concatenate([[True, True], held])
    stamps = START + np.flatnonzero(held) * HOUR_MS
    spans = missing_settlements(stamps, START, START + (len(held) - 1) * HOUR_MS)
    assert_asks_for_what_is_missing(spans, held, START, HOUR_MS)


@given(masks(), st.integers(0, 40), st.integers(0, 40))
def test_the_time_before_the_first_settlement_and_after_the_last_is_always_asked_for(held, before, after):
    stamps = START + np.flatnonzero(held) * HOUR_MS
    first, last = START - before * HOUR_MS, START + (len(held) - 1 + after) * HOUR_MS
    asked = set(times(missing_settlements(stamps, first, last), HOUR_MS))
    hours = range(first, last + HOUR_MS, HOUR_MS)
    outside = {hour for hour in hours if not len(stamps) or hour < stamps[0] or hour > stamps[-1]}
    assert outside <= asked
    assert not asked & {first - HOUR_MS, last + HOUR_MS}


@given(st.integers(3, 40), st.data())
def test_of_an_8_hourly_history_only_the_settlements_due_are_asked_for(count, data):
    grid = (START // (8 * HOUR_MS) + 1 + np.arange(count)) * 8 * HOUR_MS
    first, last = int(grid[0]), int(grid[-1])
    assert missing_settlements(grid, first, last) == ()
    if count > 4:
        gone = data.draw(st.integers(3, count - 2))
        assert missing_settlements(np.delete(grid, gone), first, last) == (
            Span(int(grid[gone]), int(grid[gone]) + HOUR_MS),
        )
    assert missing_settlements(grid, first, last + 3 * HOUR_MS) == (Span(last + HOUR_MS, last + 4 * HOUR_MS),)


def test_a_history_that_turns_from_8_hourly_to_hourly_is_asked_for_hour_by_hour_from_then_on():
    slow = (START // (8 * HOUR_MS) + np.arange(5)) * 8 * HOUR_MS
    fast = slow[-1] + np.arange(1, 30) * HOUR_MS
    stamps = np.concatenate([slow, np.delete(fast, 20)])
    assert missing_settlements(stamps, int(slow[0]), int(fast[-1])) == (Span(int(fast[20]), int(fast[20]) + HOUR_MS),)


def test_nothing_is_missing_of_a_range_that_holds_nothing():
    assert missing_bars(np.empty(0, dtype=np.int64), NOON, NOON, "1h") == ()
    assert missing_settlements(np.empty(0, dtype=np.int64), NOON, NOON - HOUR_MS) == ()
    assert missing_settlements(np.empty(0, dtype=np.int64), NOON, NOON) == (Span(NOON, NOON + HOUR_MS),)


@given(masks())
def test_a_longer_bar_is_held_as_hours_only_if_every_one_of_them_is(held):
    begin = START // (4 * HOUR_MS) * 4 * HOUR_MS
    opens = begin + np.flatnonzero(held) * HOUR_MS
    expected = [
        begin + 4 * i * HOUR_MS
        for i in range(len(held) // 4 + 1)
        if len(held[4 * i : 4 * i + 4]) == 4 and held[4 * i : 4 * i + 4].all()
    ]
    assert whole_bars(opens, "1h", "4h").tolist() == expected


def bars(coin: str, opens: list[int], interval: str = "1h") -> pl.DataFrame:
    return pl.DataFrame(
        {
            "coin": coin,
            "ts": pl.Series(opens, dtype=pl.Int64).cast(TIME),
            **dict.fromkeys(("open", "high", "low", "close", "volume"), 1.0),
            "base_interval": interval,
        }
    )


def settled(coin: str, hours: list[int]) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "coin": coin,
            "ts": pl.Series(hours, dtype=pl.Int64).cast(TIME),
            "rate": 1e-5,
            "premium": pl.Series([None] * len(hours), dtype=pl.Float64),
            "settled_ms": pl.Series([None] * len(hours), dtype=pl.Int64),
        }
    )


@pytest.fixture
def lake(tmp_path) -> Lake:
    """BTC for four months by the hour; ETH in two lengths, the first month and the last."""
    lake = Lake.open(tmp_path / "lake", create=True)
    long_ago = NOON - 2400 * HOUR_MS
    lake.upsert(
        BARS,
        pl.concat(
            [
                bars("BTC", [long_ago + i * HOUR_MS for i in range(2400)]),
                bars("ETH", [long_ago + i * 4 * HOUR_MS for i in range(6)], "4h"),
                bars("ETH", [NOON - 2 * HOUR_MS, NOON - HOUR_MS]),
            ]
        ),
    )
    lake.upsert(FUNDING, settled("BTC", [NOON - i * HOUR_MS for i in range(2400)]))
    return lake


def test_what_is_held_is_told_by_coin_and_length_within_the_range(lake):
    held = held_in(lake, NOON - 100 * HOUR_MS, NOON)
    assert held.opens("1h", "BTC").tolist() == [NOON - (100 - i) * HOUR_MS for i in range(100)]
    assert held.opens("1h", "ETH").tolist() == [NOON - 2 * HOUR_MS, NOON - HOUR_MS]
    assert held.opens("4h", "ETH").tolist() == []
    assert held.opens("1h", "eth").tolist() == []
    assert held.stamps("BTC").tolist() == [NOON - (100 - i) * HOUR_MS for i in range(101)]
    assert held.stamps("ETH").tolist() == []
    whole = held_in(lake, NOON - 2400 * HOUR_MS, NOON)
    assert len(whole.opens("1h", "BTC")) == 2400
    assert len(whole.opens("4h", "ETH")) == 6


def test_a_coin_is_known_to_trade_from_before_the_range_if_the_month_before_holds_it(lake):
    held = held_in(lake, NOON - HOUR_MS, NOON)
    assert held.since["BTC"] < NOON - 24 * 31 * HOUR_MS
    assert held.since["ETH"] == NOON - 2 * HOUR_MS
    assert "SOL" not in held.since


def test_only_the_months_of_the_range_and_the_one_before_are_read(lake, monkeypatch):
    read = []
    plain = type(lake.place).read
    monkeypatch.setattr(type(lake.place), "read", lambda place, name: read.append(name) or plain(place, name))
    held_in(lake, NOON - 3 * HOUR_MS, NOON)
    months = {name.split("month=")[1][:7] for name in read}
    assert months == {"2025-05", "2025-06"}
    assert len(read) == len(set(read)), "and each once"


def test_a_damaged_part_counts_as_nothing_held(lake):
    part = next(part for part in lake.parts(BARS) if ("month", "2025-05") in part.values)
    (lake.place.folder / "bars" / part.path).write_bytes(b"rust")
    may = 1_746_057_600_000
    held = held_in(lake, NOON - 2400 * HOUR_MS, NOON)
    opens = held.opens("1h", "BTC")
    assert not len(opens[(opens >= may) & (opens < may + 31 * 24 * HOUR_MS)])
    assert len(opens) == 2400 - 31 * 24
    assert missing_bars(opens, may, NOON, "1h") == (Span(may, may + 31 * 24 * HOUR_MS),)


def test_an_empty_lake_holds_nothing(tmp_path):
    held = held_in(Lake.open(tmp_path / "none", create=True), NOON - HOUR_MS, NOON)
    assert (held.bars, held.settlements, held.since) == ({}, {}, {})
