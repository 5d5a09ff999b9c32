"""A repair brings back what earlier copies hold, says what is lost, and throws nothing away."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from lake_samples import NOW_MS, SPRING, bars_of, contents, file_of, fingerprint, quotes

from slipstream.cli.errors import run
from slipstream.cli.main import app
from slipstream.errors import DataError, SlipstreamError
from slipstream.lake.datasets import BARS, BOOKS, FUNDING, QUOTES
from slipstream.lake.lake_check import check_path
from slipstream.lake.parts import by_partition, encode
from slipstream.lake.refresh import Refresh
from slipstream.lake.repair import Mend, repair
from slipstream.lake.store import Lake
from slipstream.lake.upkeep import compact, vacuum

MARCH, APRIL = "base_interval=1h/month=2025-03", "base_interval=1h/month=2025-04"


@pytest.fixture
def history(make_candles):
    return bars_of(make_candles(("BTC", "ETH"), hours=96, start=SPRING))


@pytest.fixture
def lake(tmp_path):
    return Lake.open(tmp_path / "lake", create=True)


def volume_is(rows: pl.DataFrame, value: float) -> pl.DataFrame:
    return rows.with_columns(volume=pl.lit(value))


def rust(lake: Lake, dataset=BARS, index: int = 0) -> str:
    """Damage a part; its path."""
    file_of(lake, dataset, index).write_bytes(b"rust")
    return lake.parts(dataset)[index].path


def errors(lake: Lake) -> list[str]:
    return [finding.fault for finding in check_path(lake.place.url) if finding.grade == "error"]


def put(lake: Lake, dataset, rows: pl.DataFrame) -> None:
    """Put rows in force as they are, past every rule, as another program might."""
    new = tuple(encode(dataset, values, group) for values, group in by_partition(dataset, rows).items())
    assert lake.commit(dataset, lake.table(dataset), Refresh(new, (), ())) is not None


def test_what_is_whole_is_left_alone(lake, history):
    lake.upsert(BARS, history)
    before = fingerprint(lake)
    assert repair(lake, BARS, apply=True, now_ms=NOW_MS) == []
    assert fingerprint(lake) == before


def test_a_part_is_brought_back_from_the_version_before(lake, history):
    lake.upsert(BARS, history)
    lake.upsert(BARS, volume_is(history, 2.0))
    path = rust(lake)
    (mend,) = repair(lake, BARS, apply=True, now_ms=NOW_MS)
    assert mend == Mend("bars", MARCH, (path,), recovered=96, outdated=96, lost=0, removed=0)
    held = lake.read(BARS)
    assert held.filter(pl.col("ts").dt.month() == 3).equals(history.filter(pl.col("ts").dt.month() == 3))
    assert set(held.filter(pl.col("ts").dt.month() == 4)["volume"]) == {2.0}, "the other month is not concerned"
    assert (lake.place.folder / "_quarantine" / "bars" / f"{path}.damaged").read_bytes() == b"rust"
    assert errors(lake) == []


def test_rows_that_only_the_damaged_part_held_are_counted_as_lost(lake, history, make_candles):
    lake.upsert(BARS, history)
    lake.upsert(BARS, bars_of(make_candles(("SOL",), hours=30, start=SPRING)))
    rust(lake)
    (mend,) = repair(lake, BARS, apply=True, now_ms=NOW_MS)
    assert (mend.recovered, mend.lost) == (96, 30)
    assert lake.read(BARS).equals(history)


def test_a_dry_run_says_the_same_and_changes_nothing(lake, history):
    lake.upsert(BARS, history)
    lake.upsert(BARS, volume_is(history, 2.0))
    rust(lake, index=0)
    rust(lake, index=1)
    before = fingerprint(lake)
    said = repair(lake, BARS, apply=False, now_ms=NOW_MS)
    assert fingerprint(lake) == before
    assert repair(lake, BARS, apply=True, now_ms=NOW_MS) == said
    assert [mend.partition for mend in said] == [MARCH, APRIL]
    assert lake.read(BARS).equals(history)


def test_several_partitions_are_mended_in_one_run(lake):
    """Each by a commit of its own, planned on the one before."""
    for turn in range(2):
        days = [quotes(10 * turn, 10).with_columns(pl.col("received_ns") + day * 86_400 * 10**9) for day in range(4)]
        lake.append(QUOTES, pl.concat(days))
    whole = contents(lake)["quotes"]
    compact(lake, QUOTES)
    for index in range(4):
        rust(lake, QUOTES, index)
    assert [mend.recovered for mend in repair(lake, QUOTES, apply=True, now_ms=NOW_MS)] == [20] * 4
    assert lake.read(QUOTES).equals(whole)


def test_a_lost_file_is_brought_back_from_the_backups_when_its_versions_are_gone(lake, history):
    """The newest backup wins where several hold a row."""
    for value in (1.0, 2.0, 3.0):
        lake.upsert(BARS, volume_is(history, value))
    vacuum(lake, BARS, now_ms=10 * NOW_MS, retention_hours=0)
    file_of(lake, BARS).unlink()
    (mend,) = repair(lake, BARS, apply=True, now_ms=NOW_MS)
    assert (mend.recovered, mend.lost) == (96, 0)
    march = lake.read(BARS).filter(pl.col("ts").dt.month() == 3)
    assert set(march["volume"]) == {2.0}
    assert march.height == 96
    assert errors(lake) == []


def test_a_part_whose_very_content_is_kept_is_put_back_under_its_name(lake, history):
    """Values went back and forth, so a backup holds just what the damaged part held."""
    lake.upsert(BARS, history)
    lake.upsert(BARS, volume_is(history, 2.0))
    lake.upsert(BARS, history)
    vacuum(lake, BARS, now_ms=10 * NOW_MS, retention_hours=0)
    path = rust(lake)
    for backup in (lake.place.folder / "_backup" / "bars" / MARCH).iterdir():
        if not path.endswith(backup.name):
            backup.unlink()
    version = lake.table(BARS).version()
    (mend,) = repair(lake, BARS, apply=True, now_ms=NOW_MS)
    assert (mend.recovered, mend.lost) == (96, 0)
    assert lake.read(BARS).equals(history)
    assert path in {part.path for part in lake.parts(BARS)}
    assert lake.table(BARS).version() == version + 1
    assert errors(lake) == []


def test_where_no_copy_is_left_the_rows_are_lost_and_the_rest_goes_on(lake, history):
    lake.upsert(BARS, history)
    rust(lake)
    (mend,) = repair(lake, BARS, apply=True, now_ms=NOW_MS)
    assert (mend.recovered, mend.lost) == (0, 96)
    assert lake.read(BARS).equals(history.filter(pl.col("ts").dt.month() == 4))
    lake.upsert(BARS, history)
    assert lake.read(BARS).equals(history), "the months named can be loaded again"


def test_events_in_whole_parts_are_not_doubled_by_the_repair_of_another(lake):
    """An earlier version of the log holds them, too."""
    lake.append(QUOTES, quotes(0, 10))
    lake.append(QUOTES, quotes(10, 10))
    rows = {part.path: part for part in lake.parts(QUOTES)}
    later = next(
        index for index, part in enumerate(lake.parts(QUOTES)) if lake.parts(QUOTES, version=1)[0].path != part.path
    )
    path = rust(lake, QUOTES, later)
    (mend,) = repair(lake, QUOTES, apply=True, now_ms=NOW_MS)
    assert mend == Mend("quotes", "date=2025-09-04", (path,), recovered=0, outdated=0, lost=rows[path].rows, removed=0)
    assert lake.read(QUOTES).equals(quotes(0, 10))


def test_events_are_brought_back_from_before_their_compaction(lake):
    lake.append(QUOTES, quotes(0, 10))
    lake.append(QUOTES, quotes(10, 10))
    compact(lake, QUOTES)
    joined = lake.parts(QUOTES)[0].path
    lake.append(QUOTES, quotes(20, 10))
    rust(lake, QUOTES, [part.path for part in lake.parts(QUOTES)].index(joined))
    (mend,) = repair(lake, QUOTES, apply=True, now_ms=NOW_MS)
    assert (mend.recovered, mend.lost) == (20, 0)
    assert lake.read(QUOTES).equals(quotes(0, 30))


def test_as_much_as_any_copy_holds_is_brought_back(lake):
    """Of the parts before the compaction one is gone, too; the other still counts."""
    lake.append(QUOTES, quotes(0, 10))
    lake.append(QUOTES, quotes(10, 10))
    file_gone = file_of(lake, QUOTES, 0)
    kept = lake.parts(QUOTES)[1]
    expected = pl.concat(lake.decoded(QUOTES, [kept]))
    compact(lake, QUOTES)
    file_gone.unlink()
    rust(lake, QUOTES)
    (mend,) = repair(lake, QUOTES, apply=True, now_ms=NOW_MS)
    assert (mend.recovered, mend.lost) == (10, 10)
    assert lake.read(QUOTES).equals(expected)


def test_rows_that_cannot_be_true_are_taken_out_and_kept_in_quarantine(lake, history):
    wrong = pl.int_range(pl.len()) == 7
    put(lake, BARS, history.with_columns(low=pl.when(wrong).then(1e6).otherwise("low")))
    assert set(errors(lake)) == {"impossible candle"}
    (mend,) = repair(lake, BARS, apply=True, now_ms=NOW_MS)
    assert (mend.damaged, mend.removed, mend.lost) == ((), 1, 0)
    assert errors(lake) == []
    assert lake.read(BARS).equals(history.filter(~wrong))
    (kept,) = (lake.place.folder / "_quarantine").rglob("*.parquet")
    assert pl.read_parquet(kept)["low"].to_list() == [1e6]


def test_of_rows_that_share_a_key_one_stays(lake, history):
    put(lake, FUNDING, rates := settlements(history, 1e-5))
    put(lake, FUNDING, rates)
    put(lake, FUNDING, settlements(history, 2e-5))
    assert "duplicate" in errors(lake)
    with pytest.raises(DataError, match=r"parts of one month repeat rows of each other; see .*data repair"):
        lake.read(FUNDING)
    removed = sum(mend.removed for mend in repair(lake, FUNDING, apply=True, now_ms=NOW_MS))
    assert removed == 192
    assert lake.read(FUNDING).select("coin", "ts").equals(rates.select("coin", "ts"))
    assert errors(lake) == []


def settlements(history: pl.DataFrame, rate: float) -> pl.DataFrame:
    return history.select(
        "coin",
        "ts",
        rate=pl.lit(rate),
        premium=pl.lit(None, pl.Float64),
        settled_ms=pl.lit(None, pl.Int64),
    ).select(FUNDING.names)


def test_crossed_quotes_are_taken_out(lake):
    crossed = pl.col("bid_size") == 3.0
    lake.append(QUOTES, quotes(0, 10).with_columns(bid=pl.when(crossed).then(102.0).otherwise("bid")))
    (mend,) = repair(lake, QUOTES, apply=True, now_ms=NOW_MS)
    assert mend.removed == 1
    assert lake.read(QUOTES).equals(quotes(0, 10).filter(~crossed))
    assert errors(lake) == []


def test_a_table_that_is_not_there_needs_no_repair(lake):
    assert repair(lake, BOOKS, apply=True, now_ms=NOW_MS) == []


def test_another_writer_in_between_stops_the_repair(lake, history):
    lake.upsert(BARS, history)
    lake.upsert(BARS, volume_is(history, 2.0))
    rust(lake)

    class Late(Lake):
        def commit(self, dataset, table, refresh):
            lake.upsert(BARS, volume_is(history.filter(pl.col("ts").dt.month() == 4), 9.0))
            return super().commit(dataset, table, refresh)

    with pytest.raises(SlipstreamError, match="another writer came in between; run the repair again"):
        repair(Late(lake.place), BARS, apply=True, now_ms=NOW_MS)
    assert [mend.recovered for mend in repair(lake, BARS, apply=True, now_ms=NOW_MS)] == [96]


def test_the_command_says_what_it_would_do_and_does_it_when_told(lake, history, capsys):
    """The damaged part was put in force without a backup, as one is that corrects nothing."""
    lake.upsert(BARS, history)
    part = lake.parts(BARS)[0]
    again = encode(BARS, ("1h", "2025-03"), volume_is(history, 9.0).filter(pl.col("ts").dt.month() == 3))
    words = ["data", "repair", "--lake", lake.place.url]
    lake.commit(BARS, lake.table(BARS), Refresh((again,), (part,), ()))
    rust(lake)
    assert run(app, words) == 0
    said = capsys.readouterr().out
    assert f"would: bars/{MARCH}: 1 damaged files; 96 rows recovered, 0 lost" in said
    assert "nothing was changed; do it with --apply" in said
    assert errors(lake) == ["checksum"]
    assert run(app, [*words, "--apply", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["mends"][0]["recovered"] == 96
    assert errors(lake) == []
    assert run(app, words) == 0
    assert "nothing to mend" in capsys.readouterr().out


def test_the_command_names_the_months_to_load_again(lake, history, capsys):
    lake.upsert(BARS, history)
    rust(lake)
    assert run(app, ["data", "repair", "--lake", lake.place.url, "--apply"]) == 1
    assert f"load bars/{MARCH} again" in capsys.readouterr().out
    assert not list(Path(lake.place.url).rglob("*.draft"))


def test_rows_from_before_an_addition_are_up_to_date_and_those_from_before_a_correction_may_not_be(lake, history):
    lake.upsert(BARS, history.filter(pl.col("coin") == "BTC"))
    lake.upsert(BARS, history)
    rust(lake)
    (added,) = repair(lake, BARS, apply=True, now_ms=NOW_MS)
    assert (added.recovered, added.outdated) == (48, 0)
    lake.upsert(BARS, history)
    lake.upsert(BARS, volume_is(history, 2.0))
    rust(lake)
    (corrected,) = repair(lake, BARS, apply=True, now_ms=NOW_MS)
    assert (corrected.recovered, corrected.outdated, corrected.lost) == (96, 96, 0)


def test_a_repair_that_brings_back_old_values_says_so_and_ends_with_one(lake, history, capsys):
    lake.upsert(BARS, history)
    lake.upsert(BARS, volume_is(history, 2.0))
    rust(lake)
    assert run(app, ["data", "repair", "--lake", lake.place.url, "--apply"]) == 1
    printed = capsys.readouterr().out
    assert "from before a correction" in printed
    assert f"load bars/{MARCH} again" in printed
    assert "--refetch" in printed


def test_an_error_that_only_loading_again_can_mend_is_named_and_ends_with_one(lake, history, capsys):
    prices = ("open", "high", "low", "close")
    later = (pl.col("coin") == "BTC") & (pl.col("ts") >= history["ts"][90])
    lake.upsert(BARS, history.with_columns(pl.when(later).then(pl.col(p) * 1000).otherwise(p).alias(p) for p in prices))
    assert run(app, ["data", "repair", "--lake", lake.place.url, "--apply"]) == 1
    assert "not mended: unit change BTC" in capsys.readouterr().out


def test_rows_of_the_future_and_rows_in_the_wrong_month_are_taken_out(lake, history):
    lake.upsert(BARS, history)
    row = history.filter(pl.col("coin") == "ETH").tail(1)
    strayed = row.with_columns(pl.col("ts").dt.offset_by("2mo"))
    ahead = row.with_columns(pl.col("ts").dt.offset_by("10y"))
    new = (
        encode(BARS, ("1h", "2025-04"), strayed),
        *(encode(BARS, values, group) for values, group in by_partition(BARS, ahead).items()),
    )
    lake.commit(BARS, lake.table(BARS), Refresh(new, (), ()))
    faults = {finding.fault for finding in check_path(lake.place.url, now_ms=NOW_MS) if finding.grade == "error"}
    assert faults == {"wrong partition", "in the future"}
    assert [mend.removed for mend in repair(lake, BARS, apply=True, now_ms=NOW_MS)] == [1, 1]
    assert lake.read(BARS).equals(history)
    assert [finding for finding in check_path(lake.place.url, now_ms=NOW_MS) if finding.grade == "error"] == []


def test_a_look_needs_no_lock(lake, history):
    lake.upsert(BARS, history)
    with lake.lock():
        assert run(app, ["data", "repair", "--lake", lake.place.url]) == 0
        assert run(app, ["data", "repair", "--lake", lake.place.url, "--apply"]) == 1
