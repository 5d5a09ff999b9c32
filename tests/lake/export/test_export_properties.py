"""The data-safety rules on random histories, random overlapping refreshes and random damage."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipstream.errors import SafetyRefusal
from slipstream.lake.datasets import BARS, FUNDING, TIME
from slipstream.lake.export import export_market_data
from slipstream.lake.export.file_names import NamesTaken, decoded, encoded
from slipstream.lake.export.folder import FileDamaged
from slipstream.lake.export.safety import changes_values, merged_rows, require_no_loss
from slipstream.lake.export.tables import CANDLES, MERGED, from_csv, to_csv

HOUR = 3_600_000
START = 1_735_689_600_000
BAR = 4 * HOUR


# each example writes files and waits for the disk
fewer = settings(max_examples=settings().max_examples // 3)


def frames(hours: list[int], prices: list[float], stamps: list[int], rates: list[float]):
    bars = pl.DataFrame(
        {
            "coin": ["kPEPE"] * len(hours),
            "ts": pl.Series([START + hour * HOUR for hour in hours], dtype=pl.Int64).cast(TIME),
            **{name: pl.Series(prices, dtype=pl.Float64) for name in ("open", "high", "low", "close")},
            "volume": [2.0] * len(hours),
            "base_interval": ["1h"] * len(hours),
        },
        schema=BARS.schema,
    )
    funding = pl.DataFrame(
        {
            "coin": ["kPEPE"] * len(stamps),
            "ts": pl.Series([START + hour * HOUR for hour in stamps], dtype=pl.Int64).cast(TIME),
            "rate": pl.Series(rates, dtype=pl.Float64),
            "premium": pl.Series([None] * len(stamps), dtype=pl.Float64),
            "settled_ms": pl.Series([None] * len(stamps), dtype=pl.Int64),
        },
        schema=FUNDING.schema,
    )
    return bars, funding


@st.composite
def refreshes(draw):
    """Some refreshes of one coin: spans that overlap, with holes, and values that may correct earlier ones."""
    out = []
    for _ in range(draw(st.integers(1, 4))):
        first = draw(st.integers(0, 60))
        span = range(first, first + draw(st.integers(1, 40)))
        holes = draw(st.sets(st.sampled_from(span), max_size=min(3, len(span) - 1)))
        lost = draw(st.sets(st.sampled_from(span), max_size=6))
        level = draw(st.sampled_from([100.0, 100.0, 101.5]))
        hours = [hour for hour in span if hour not in holes]
        stamps = [hour for hour in span if hour not in lost]
        out.append((hours, [level + hour for hour in hours], stamps, [level * 1e-7 + hour * 1e-6 for hour in stamps]))
    return out


def expected(history) -> tuple[dict[int, float], dict[int, tuple[float, int]]]:
    """Close per bar, and sum and count of settlements per bar, told by a plain loop."""
    closes: dict[int, float] = {}
    funding: dict[int, tuple[float, int]] = {}
    for hours, prices, stamps, rates in history:
        price = dict(zip(hours, prices, strict=True))
        for opened in range(0, 120, 4):
            if all(hour in price for hour in range(opened, opened + 4)):
                closes[opened] = price[opened + 3]
        for opened in range(-4, 120, 4):
            inside = [rate for hour, rate in zip(stamps, rates, strict=True) if opened < hour <= opened + 4]
            if inside and len(inside) >= funding.get(opened, (0.0, 0))[1]:
                total = inside[0]
                for rate in inside[1:]:
                    total += rate
                funding[opened] = (total, len(inside))
    return closes, funding


def put(folder: Path, refresh, now_hour: int = 1000, *, trust: bool = False):
    bars, funding = frames(*refresh)
    return export_market_data(bars, funding, None, "4h", folder, now_ms=START + now_hour * HOUR, trust_files=trust)


@fewer
@given(refreshes())
def test_after_any_refreshes_the_files_hold_the_newest_of_everything_ever_seen(history):
    with tempfile.TemporaryDirectory() as place:
        folder, rows, first = Path(place), 0, None
        for refresh in history:
            report = put(folder, refresh)
            assert report.refused == {}
            (coin,) = report.coins
            assert coin.rows_before == rows
            assert coin.rows_after >= rows
            assert first is None or coin.first_after_ms <= first
            rows, first = coin.rows_after, coin.first_after_ms
        closes, funding = expected(history)
        if not closes:
            assert not list(folder.rglob("*.csv")), "a coin without one whole bar has no files"
            return
        candles = pl.read_csv(folder / "4h/kPEPE_candles_4h.csv")
        merged = pl.read_csv(folder / "4h/kPEPE_merged_4h.csv", schema_overrides={"ret": pl.Float64})
        opened = [(known - START - BAR) // HOUR for known in candles["known_at_ms"].to_list()]
        assert opened == sorted(closes)
        assert candles["close"].to_list() == [closes[hour] for hour in opened]
        moves = np.diff(np.log([closes[hour] for hour in opened]))
        assert merged["ret"].to_list()[1:] == pytest.approx(moves, abs=1e-14)
        assert merged["gap_bars"].to_list()[1:] == [b // 4 - a // 4 - 1 for a, b in itertools.pairwise(opened)]
        assert merged["funding_sum"].to_list() == [funding.get(hour, (None, 0))[0] for hour in opened]
        assert merged["funding_n"].to_list() == [funding.get(hour, (None, 0))[1] for hour in opened]
        kept = pl.read_csv(folder / "4h/kPEPE_funding_4h.csv")
        assert kept["funding_n"].to_list() == [funding[hour][1] for hour in sorted(funding)]


@fewer
@given(refreshes())
def test_the_same_refreshes_again_change_no_byte_that_the_last_one_wrote(history):
    with tempfile.TemporaryDirectory() as place:
        for refresh in history:
            put(Path(place), refresh)
        assert put(Path(place), history[-1]).files == ()


@st.composite
def damages(draw):
    """A change of some bytes of a file: cut, overwritten, doubled, or put in."""
    return draw(
        st.tuples(
            st.sampled_from(["cut", "write", "drop", "insert"]),
            st.floats(0, 1),
            st.binary(min_size=1, max_size=12) | st.sampled_from([b"\n", b",", b"0", b"-", b"NaN", b"1e400", b'"']),
        )
    )


def damaged(content: bytes, damage) -> bytes:
    kind, where, put_in = damage
    at = int(where * (len(content) - 1))
    if kind == "cut":
        return content[:at]
    if kind == "drop":
        return content[:at] + content[at + len(put_in) :]
    return content[:at] + put_in + content[at + (len(put_in) if kind == "write" else 0) :]


@fewer
@given(refreshes(), damages(), st.sampled_from(["candles", "funding", "merged"]))
def test_whatever_happens_to_a_file_its_coin_is_refused_and_the_file_left(history, damage, kind):
    whole = (list(range(48)), [100.0 + hour for hour in range(48)], list(range(1, 49)), [1e-5] * 48)
    with tempfile.TemporaryDirectory() as place:
        put(Path(place), whole)
        file = Path(place) / f"4h/kPEPE_{kind}_4h.csv"
        content = file.read_bytes()
        changed = damaged(content, damage)
        file.write_bytes(changed)
        before = {entry.name: entry.read_bytes() for entry in (Path(place) / "4h").iterdir()}
        report = put(Path(place), history[0])
        if changed == content:
            assert report.refused == {}
        else:
            assert report.refused.keys() == {"kPEPE"}
            assert {entry.name: entry.read_bytes() for entry in (Path(place) / "4h").iterdir()} == before


@fewer
@given(refreshes(), damages())
def test_without_a_checksum_a_damaged_file_is_refused_or_every_row_in_it_is_kept(history, damage):
    whole = (list(range(48)), [100.0 + hour for hour in range(48)], list(range(1, 49)), [1e-5] * 48)
    with tempfile.TemporaryDirectory() as place:
        put(Path(place), whole)
        file = Path(place) / "4h/kPEPE_candles_4h.csv"
        file.write_bytes(damaged(file.read_bytes(), damage))
        held = file.read_bytes()
        report = put(Path(place), history[0], trust=True)
        if report.refused:
            assert file.read_bytes() == held
        else:
            seen, _ = read_or_complain(held)
            now, _ = read_or_complain(file.read_bytes())
            assert set(seen["ts"]) <= set(now["ts"])


def read_or_complain(content: bytes) -> tuple[pl.DataFrame | None, str]:
    """The rows of a candle file, or why there are none."""
    try:
        return from_csv(content, Path("BTC_candles_4h.csv"), CANDLES, BAR, with_source=False), ""
    except FileDamaged as problem:
        return None, str(problem)


@given(st.binary(max_size=400))
def test_bytes_that_are_no_file_are_refused_by_name(content):
    header = b"datetime,open,high,low,close,volume,volume_usd,known_at_ms\n"
    for text in (content, header + content, header + content + b"\n"):
        rows, complaint = read_or_complain(text)
        if rows is None:
            assert "BTC_candles_4h.csv" in complaint
        else:
            assert rows["ts"].is_sorted()
            assert (rows["close"] > 0).all()


finite = st.floats(allow_nan=False, allow_infinity=False)
tables = st.lists(st.tuples(st.integers(0, 12), st.none() | finite), max_size=8, unique_by=lambda row: row[0])


def as_table(rows) -> pl.DataFrame:
    ordered = sorted(rows)
    return pl.DataFrame(
        {
            "ts": pl.Series([START + place * BAR for place, _ in ordered], dtype=pl.Int64),
            "x": pl.Series([value for _, value in ordered], dtype=pl.Float64),
        }
    )


@given(tables, tables)
def test_a_table_may_replace_another_only_if_no_row_no_start_and_no_number_is_lost(held, after):
    before, now = dict(held), dict(after)
    loses = len(now) < len(before)
    loses |= bool(before) and (not now or min(now) > min(before))
    loses |= any(value is not None and now.get(place) is None for place, value in before.items())
    if loses:
        with pytest.raises(SafetyRefusal):
            require_no_loss(as_table(held), as_table(after), "file")
    else:
        require_no_loss(as_table(held), as_table(after), "file")
    changed = any(
        value is not None and now.get(place) is not None and now[place] != value for place, value in before.items()
    )
    assert changes_values(as_table(held), as_table(after)) == changed


@given(tables, tables)
def test_a_merge_has_every_row_once_in_order_and_the_newest_value(held, coming):
    merged = merged_rows(as_table(held), as_table(coming))
    assert merged.rows() == [
        (START + place * BAR, value) for place, value in sorted((dict(held) | dict(coming)).items())
    ]


def test_a_column_may_not_change_its_type():
    held = as_table([(0, 1.0)])
    with pytest.raises(SafetyRefusal, match="columns"):
        require_no_loss(held, held.with_columns(pl.col("x").cast(pl.String)), "file")


@given(st.lists(st.tuples(finite, st.integers(0, 9), finite, st.integers(0, 24), finite | st.none()), max_size=8))
def test_a_table_comes_back_from_its_file_bit_by_bit(rows):
    ts = pl.Series([START + place * BAR for place in range(len(rows))], dtype=pl.Int64)
    names = list(MERGED.columns)
    columns = {name: [row[place] for row in rows] for place, name in enumerate(names)}
    table = pl.DataFrame({"ts": ts, **columns}, schema=MERGED.schema(with_source=False))
    back = from_csv(to_csv(table, MERGED, BAR), Path("file"), MERGED, BAR, with_source=False)
    assert back.equals(table)


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20))
def test_any_name_comes_back_from_its_file_name(coin):
    name = encoded(coin)
    assert decoded(name) == coin
    assert set(name) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-%")


@given(st.lists(st.sampled_from(["BTC", "btc", "kPEPE", "KPEPE", "ETH"]), max_size=6))
def test_no_two_names_that_differ_only_by_case_are_ever_taken(names):
    taken: set[str] = set()
    folder = NamesTaken([])
    for name in names:
        if any(held != name and held.lower() == name.lower() for held in taken):
            with pytest.raises(SafetyRefusal, match="only by case"):
                folder.take(name)
        else:
            folder.take(name)
            taken.add(name)
