"""Compaction changes no row; vacuum removes what nobody can need any more, and nothing else."""

from __future__ import annotations

import json
import os
from pathlib import Path

import polars as pl
import pytest
from lake_samples import NOW_MS, SPRING, bars_of, contents, file_of, fingerprint, quotes

from slipstream.cli.errors import run
from slipstream.cli.main import app
from slipstream.core.panel import HOUR_MS
from slipstream.errors import DataError, SlipstreamError
from slipstream.lake.datasets import BARS, FUNDING, QUOTES
from slipstream.lake.place import Place
from slipstream.lake.store import Lake
from slipstream.lake.upkeep import RETENTION_HOURS, compact, vacuum

DAY_NS = 86_400_000_000_000


@pytest.fixture
def history(make_candles):
    return bars_of(make_candles(("BTC", "ETH"), hours=96, start=SPRING))


@pytest.fixture
def lake(tmp_path):
    """Two days of quotes in three parts each."""
    lake = Lake.open(tmp_path / "lake", create=True)
    for first in (0, 20, 10):
        rows = quotes(first, 10)
        next_day = rows.with_columns(pl.col("received_ns") + DAY_NS)
        lake.append(QUOTES, pl.concat([rows, next_day]))
    return lake


def parts_on_disk(lake: Lake, table: str = "quotes") -> set[str]:
    root = lake.place.folder / table
    return {file.relative_to(root).as_posix() for file in root.glob("*=*/**/*.parquet")}


def aged(lake: Lake, hours: float, now_ms: int = NOW_MS) -> None:
    """Let every file of the lake have been written so many hours before now."""
    for file in lake.place.folder.rglob("*"):
        if file.is_file():
            os.utime(file, ns=(0, int(now_ms - hours * HOUR_MS) * 1_000_000))


def test_small_parts_of_a_partition_become_one_in_one_commit(lake):
    before, version = contents(lake), lake.table(QUOTES).version()
    done = compact(lake, QUOTES)
    assert (done.parts_before, done.parts_after) == (6, 2)
    assert done.bytes_after < done.bytes_before
    assert lake.table(QUOTES).version() == version + 1
    assert contents(lake)["quotes"].equals(before["quotes"])
    assert lake.read(QUOTES, version=version).equals(before["quotes"]), "a reader that began before goes on"


def test_a_compaction_says_to_other_engines_that_no_data_changed(lake):
    compact(lake, QUOTES)
    log = sorted((lake.place.folder / "quotes" / "_delta_log").glob("*.json"))[-1]
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    kinds = [
        (kind, body["dataChange"]) for entry in entries for kind, body in entry.items() if kind in ("add", "remove")
    ]
    assert sorted(kinds) == [("add", False)] * 2 + [("remove", False)] * 6


def test_what_is_compact_is_left_alone(lake):
    compact(lake, QUOTES)
    before = fingerprint(lake)
    assert compact(lake, QUOTES).parts_before == compact(lake, QUOTES).parts_after == 2
    assert fingerprint(lake) == before


def test_parts_are_joined_up_to_the_target_and_no_further(lake, monkeypatch):
    largest = max(part.size for part in lake.parts(QUOTES))
    monkeypatch.setattr("slipstream.lake.upkeep.TARGET_BYTES", 2 * largest)
    before = contents(lake)
    assert compact(lake, QUOTES).parts_after == 4
    assert contents(lake)["quotes"].equals(before["quotes"])


def test_a_damaged_part_stops_the_compaction(lake):
    file_of(lake, QUOTES, 4).write_bytes(b"rust")
    before = fingerprint(lake)
    with pytest.raises(SlipstreamError, match=r"quotes has a damaged part .*nothing was compacted.*data repair"):
        compact(lake, QUOTES)
    assert fingerprint(lake) == before


def test_superseded_parts_go_once_they_are_older_than_the_retention(tmp_path, history):
    lake = Lake.open(tmp_path / "lake", create=True)
    for value in (1.0, 2.0, 3.0):
        lake.upsert(BARS, history.with_columns(volume=pl.lit(value)))
    needed = {part.path for part in lake.parts(BARS)}
    written = parts_on_disk(lake, "bars")
    assert len(written) == 6
    now_ms = Place.of(tmp_path).written_ms("lake")
    assert vacuum(lake, BARS, now_ms=now_ms + 10_000) == 0, "superseded a moment ago"
    assert parts_on_disk(lake, "bars") == written
    assert vacuum(lake, BARS, now_ms=now_ms + 10_000, retention_hours=0) == 4
    assert parts_on_disk(lake, "bars") == needed
    assert set(lake.read(BARS)["volume"]) == {3.0}
    with pytest.raises(DataError, match="the file is missing"):
        lake.read(BARS, version=1)
    assert len(list((tmp_path / "lake" / "_backup").rglob("*.parquet"))) == 4, "what was corrected is kept for good"


def test_parts_of_writers_that_died_or_came_second_go_once_they_are_old(lake):
    """They were never in force, so no entry of the log speaks of them."""
    file = file_of(lake, QUOTES)
    orphan = file.with_name("0" * 60 + ".parquet")
    orphan.write_bytes(file.read_bytes())
    aged(lake, RETENTION_HOURS - 1)
    assert vacuum(lake, QUOTES, now_ms=NOW_MS) == 0, "its writer may be about to commit"
    aged(lake, RETENTION_HOURS + 1)
    assert vacuum(lake, QUOTES, now_ms=NOW_MS) == 1
    assert not orphan.exists()
    assert lake.read(QUOTES).height == 60


def test_a_part_that_was_superseded_and_has_just_been_written_again_stays(tmp_path, history):
    """Content names a part: a refresh that goes back to earlier values uses the same name, first the file, then the
    commit. A vacuum in between knows only that the name is out of force."""
    lake = Lake.open(tmp_path / "lake", create=True)
    first, second = history, history.with_columns(volume=pl.lit(2.0))
    lake.upsert(BARS, first)
    again = {part.path for part in lake.parts(BARS)}
    lake.upsert(BARS, second)
    aged(lake, 1000)

    class Vacuuming(Lake):
        def commit(self, dataset, table, refresh):
            for content in refresh.new:
                self.place.write(f"{dataset.name}/{content.path}", content.body)
            for path in again:
                os.utime(self.place.folder / "bars" / path, ns=(0, NOW_MS * 1_000_000))
            assert vacuum(lake, BARS, now_ms=NOW_MS, retention_hours=1) == 0
            return super().commit(dataset, table, refresh)

    Vacuuming(lake.place).upsert(BARS, first)
    assert {part.path for part in lake.parts(BARS)} == again
    assert lake.read(BARS).equals(first)
    assert vacuum(lake, BARS, now_ms=NOW_MS + 2 * HOUR_MS, retention_hours=1) in (0, 2)
    assert lake.read(BARS).equals(first)


def test_a_part_that_came_into_force_again_since_the_log_was_read_stays(tmp_path, history):
    lake = Lake.open(tmp_path / "lake", create=True)
    lake.upsert(BARS, history)
    lake.upsert(BARS, history.with_columns(volume=pl.lit(2.0)))
    handles = [lake.table(BARS)]
    lake.upsert(BARS, history)
    aged(lake, 1000)

    class Behind(Lake):
        def table(self, dataset, version=None):
            return handles.pop() if handles else super().table(dataset, version)

    assert vacuum(Behind(lake.place), BARS, now_ms=NOW_MS, retention_hours=0) == 0
    assert lake.read(BARS).equals(history)


def test_drafts_of_dead_writers_go_after_an_hour(lake):
    draft = file_of(lake, QUOTES).with_name(".abc.parquet.77.draft")
    hidden = lake.place.folder / "_quarantine" / "quotes" / ".abc.draft"
    hidden.parent.mkdir(parents=True)
    for file in (draft, hidden):
        file.write_bytes(b"half a p")
    aged(lake, 0.5)
    assert vacuum(lake, QUOTES, now_ms=NOW_MS) == 0
    aged(lake, 1.5)
    assert vacuum(lake, QUOTES, now_ms=NOW_MS) == 2
    assert not draft.exists()
    assert not hidden.exists()
    assert lake.read(QUOTES).height == 60


def test_vacuum_touches_no_other_file(lake, make_candles):
    foreign = lake.place.folder / "quotes" / "_notes.txt"
    foreign.write_text("mine")
    lake.upsert(BARS, bars_of(make_candles()))
    compact(lake, QUOTES)
    aged(lake, 1000)
    before = set(fingerprint(lake))
    assert vacuum(lake, QUOTES, now_ms=NOW_MS, retention_hours=0) == 6
    gone = before - set(fingerprint(lake))
    assert len(gone) == 6
    assert all(name.startswith("quotes/date=") for name in gone)


def test_a_table_that_is_not_there_has_nothing_to_tidy(lake):
    assert vacuum(lake, FUNDING, now_ms=NOW_MS) == 0
    assert compact(lake, FUNDING).parts_after == 0


def test_a_file_that_cannot_be_removed_is_one_error(lake, monkeypatch):
    compact(lake, QUOTES)
    aged(lake, 1000)

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "unlink", refused)
    with pytest.raises(SlipstreamError, match=r"old files could not be removed .*Permission denied"):
        vacuum(lake, QUOTES, now_ms=NOW_MS, retention_hours=0)


def test_the_command_joins_and_tidies_every_table(lake, history, capsys):
    lake.upsert(BARS, history)
    assert run(app, ["data", "compact", "--lake", lake.place.url, "--json"]) == 0
    done = {row["dataset"]: row for row in json.loads(capsys.readouterr().out)["datasets"]}
    assert done["quotes"]["parts_before"] == 6
    assert done["quotes"]["parts_after"] == 2
    assert done["bars"]["parts_before"] == done["bars"]["parts_after"] == 2
    assert run(app, ["data", "compact", "--lake", lake.place.url, "--retention-hours", "1"]) == 2
    assert "--retention-hours 1" in capsys.readouterr().err


def test_a_reader_that_began_before_compaction_and_vacuum_still_finds_its_parts(lake):
    parts = lake.parts(QUOTES)
    compact(lake, QUOTES)
    vacuum(lake, QUOTES, now_ms=NOW_MS)
    assert pl.concat(lake.decoded(QUOTES, parts)).height == 60
