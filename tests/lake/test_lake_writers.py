"""Writers at the same time lose no row and double none; whoever comes second is noticed and plans again."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from lake_samples import NOW_MS, SPRING, bars_of, quotes

from slipstream.cli.errors import run
from slipstream.cli.main import app
from slipstream.errors import SlipstreamError
from slipstream.lake.datasets import BARS, FUNDING, QUOTES, Dataset
from slipstream.lake.lake_check import check_path
from slipstream.lake.panel_import import import_frame
from slipstream.lake.place import Place
from slipstream.lake.refresh import Refresh
from slipstream.lake.store import Lake, LakeBusy
from slipstream.lake.upkeep import compact, vacuum

RACERS = Path(__file__).with_name("lake_racers.py")


class Interrupted(Lake):
    """A lake in which something happens just before a commit is written: another writer comes first."""

    def __init__(self, place: Place, *happenings: Callable[[], object]) -> None:
        super().__init__(place)
        self.happenings = list(happenings)
        self.outcomes: list[int | None] = []

    def commit(self, dataset: Dataset, table: object, refresh: Refresh) -> int | None:
        if self.happenings:
            self.happenings.pop(0)()
        self.outcomes.append(super().commit(dataset, table, refresh))  # type: ignore[arg-type]
        return self.outcomes[-1]


@pytest.fixture
def history(make_candles):
    return bars_of(make_candles(("BTC", "ETH"), hours=96, start=SPRING))


@pytest.fixture
def lake(tmp_path, history):
    lake = Lake.open(tmp_path / "lake", create=True)
    lake.upsert(BARS, history)
    return lake


def volume_is(rows: pl.DataFrame, value: float) -> pl.DataFrame:
    return rows.with_columns(volume=pl.lit(value))


def test_a_refresh_planned_on_an_older_version_is_refused_and_planned_again(lake, history):
    btc, eth = (history.filter(pl.col("coin") == coin) for coin in ("BTC", "ETH"))
    second = Interrupted(lake.place, lambda: lake.upsert(BARS, volume_is(btc, 7.0)))
    report = second.upsert(BARS, volume_is(eth, 8.0))
    assert second.outcomes == [None, 3]
    assert report.version == 3
    assert lake.read(BARS)["volume"].to_list() == [7.0] * 96 + [8.0] * 96


def test_of_two_writers_of_the_same_rows_the_later_one_wins(lake, history):
    second = Interrupted(lake.place, lambda: lake.upsert(BARS, volume_is(history, 7.0)))
    report = second.upsert(BARS, volume_is(history, 8.0))
    assert report.changed == 192, "it corrects what the first one wrote"
    assert set(lake.read(BARS)["volume"]) == {8.0}


def test_a_number_that_came_into_force_in_between_is_not_lost(tmp_path, history):
    """The plan saw no volume, so it lost none; by the time of its commit there is one."""
    lake = Lake.open(tmp_path / "lake", create=True)
    silent = history.with_columns(volume=pl.lit(None, pl.Float64))
    lake.upsert(BARS, silent)
    second = Interrupted(lake.place, lambda: lake.upsert(BARS, history))
    report = second.upsert(BARS, silent.with_columns(high=pl.col("high") * 2.0))
    assert set(report.refused) == {"BTC", "ETH"}
    assert lake.read(BARS).equals(history)


def test_two_writers_that_both_found_no_table_make_one(tmp_path, history):
    first = Lake.open(tmp_path / "lake", create=True)
    second = Interrupted(first.place, lambda: first.upsert(BARS, volume_is(history, 7.0)))
    second.upsert(BARS, volume_is(history, 8.0))
    assert second.outcomes == [None, 2]
    assert first.read(BARS).equals(volume_is(history, 8.0)), "each key once"


def test_events_appended_in_between_are_kept(tmp_path):
    first = Lake.open(tmp_path / "lake", create=True)
    first.append(QUOTES, quotes(0, 5))
    second = Interrupted(
        first.place, lambda: first.append(QUOTES, quotes(5, 5)), lambda: first.append(QUOTES, quotes(10, 5))
    )
    second.append(QUOTES, quotes(15, 5))
    assert second.outcomes == [None, None, 4]
    assert first.read(QUOTES)["bid_size"].to_list() == list(range(20))


def test_a_compaction_does_not_swallow_what_was_appended_in_between(tmp_path):
    first = Lake.open(tmp_path / "lake", create=True)
    for number in range(4):
        first.append(QUOTES, quotes(number, 1))
    second = Interrupted(first.place, lambda: first.append(QUOTES, quotes(4, 1)))
    done = compact(second, QUOTES)
    assert second.outcomes == [None, 6]
    assert (done.parts_before, done.parts_after) == (4, 1)
    assert first.read(QUOTES)["bid_size"].to_list() == list(range(5))


def test_an_append_does_not_bring_back_what_was_compacted_in_between(tmp_path):
    first = Lake.open(tmp_path / "lake", create=True)
    for number in range(4):
        first.append(QUOTES, quotes(number, 1))
    second = Interrupted(first.place, lambda: compact(first, QUOTES))
    second.append(QUOTES, quotes(4, 1))
    assert second.outcomes == [None, 6]
    assert first.read(QUOTES)["bid_size"].to_list() == list(range(5))


def test_a_refresh_of_what_was_compacted_in_between_is_whole(lake, history):
    """Compaction of a series has something to join only where another program added parts."""
    part = lake.parts(BARS)[0]
    lone = history.filter(pl.col("ts").dt.month() == 3)
    add_foreign_part(lake, volume_is(lone.with_columns(coin=pl.lit("SOL")).unique(["coin", "ts"]), 3.0))
    assert len(lake.parts(BARS)) == 3
    second = Interrupted(lake.place, lambda: compact(lake, BARS))
    second.upsert(BARS, volume_is(history, 8.0))
    assert second.outcomes == [None, 4]
    assert lake.read(BARS).height == 192 + 48
    assert part not in lake.parts(BARS)


def add_foreign_part(lake: Lake, rows: pl.DataFrame) -> None:
    """Put a part beside those of its month, as another program would."""
    from slipstream.lake.parts import by_partition, encode

    new = tuple(encode(BARS, values, group) for values, group in by_partition(BARS, rows).items())
    assert lake.commit(BARS, lake.table(BARS), Refresh(new, (), ())) is not None


def test_a_writer_that_is_always_too_late_gives_up_and_says_so(lake, history, monkeypatch):
    monkeypatch.setattr("slipstream.lake.store._ATTEMPTS", 3)
    monkeypatch.setattr("slipstream.lake.store._LONGEST_PAUSE_S", 0.0)
    always = [lambda number=number: lake.upsert(BARS, volume_is(history, float(number))) for number in range(3)]
    second = Interrupted(lake.place, *always)
    with pytest.raises(SlipstreamError, match="other writers came first 3 times"):
        second.upsert(BARS, volume_is(history, 9.0))
    assert second.outcomes == [None] * 3
    assert set(lake.read(BARS)["volume"]) == {2.0}


def raced(place: str | Path, *words: str) -> list[tuple[int, int]]:
    """Four processes at once; how many commits each put in force, and how many were refused."""
    ended = subprocess.run(
        [sys.executable, RACERS, words[0], str(place), *words[1:]],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return [(int(done), int(refused)) for done, refused in (line.split() for line in ended.stdout.splitlines())]


def test_four_writers_at_once_lose_no_row_and_double_none(tmp_path):
    """Each has a coin of its own, hours of a common coin of its own, and hours of it that all of them write."""
    from lake_racers import ROUNDS, WRITERS, everything

    outcomes = raced(tmp_path / "lake", "write")
    assert len(outcomes) == WRITERS
    assert sum(refused for _, refused in outcomes) > 0, "they did meet"
    lake = Lake.open(tmp_path / "lake")
    bars, events = everything()
    held = lake.read(BARS)
    assert held.select("coin", "ts").equals(bars.select("coin", "ts"))
    common = pl.col("ts") < SPRING.replace(day=31)
    mine = ~((pl.col("coin") == "ALL") & common)
    assert held.filter(mine).equals(bars.filter(mine))
    assert set(held.filter(~mine)["volume"]) <= {float(ROUNDS * writer + ROUNDS - 1) for writer in range(WRITERS)}
    assert lake.read(QUOTES).equals(events)
    assert lake.table(BARS).version() == sum(done for done, _ in outcomes) - lake.table(QUOTES).version()
    assert [finding for finding in check_path(tmp_path / "lake") if finding.grade == "error"] == []


def test_compaction_and_vacuum_among_three_writers_lose_no_row(tmp_path):
    from lake_racers import everything

    outcomes = raced(tmp_path / "lake", "compact")
    assert sum(refused for _, refused in outcomes) > 0
    lake = Lake.open(tmp_path / "lake")
    assert lake.read(QUOTES).equals(everything(writers=(1, 2, 3))[1])
    assert len(lake.parts(QUOTES)) == 1
    assert vacuum(lake, QUOTES, now_ms=NOW_MS + 10**12, retention_hours=0) >= 18
    assert lake.read(QUOTES).equals(everything(writers=(1, 2, 3))[1])


def test_a_second_loader_leaves_with_one_line(tmp_path, make_candles, write, capsys):
    file = write(make_candles(start=SPRING))
    lake = Lake.open(tmp_path / "lake", create=True)
    with lake.lock():
        assert run(app, ["data", "import", str(file), "--lake", str(tmp_path / "lake")]) == 1
        printed = capsys.readouterr()
        assert printed.out == ""
        assert printed.err.count("\n") == 1
        assert "another process is loading" in printed.err
        assert lake.table(BARS) is None
    assert run(app, ["data", "import", str(file), "--lake", str(tmp_path / "lake")]) == 0


def test_the_lock_of_a_loader_that_was_killed_is_free(tmp_path, make_candles):
    holder = (
        "import sys; from slipstream.lake.place import Place\n"
        "with Place.of(sys.argv[1]).locked(): print('held', flush=True); sys.stdin.read()"
    )
    lake = Lake.open(tmp_path / "lake", create=True)
    with subprocess.Popen(
        [sys.executable, "-c", holder, tmp_path / "lake"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as loader:
        assert loader.stdout.readline() == b"held\n"
        with pytest.raises(LakeBusy), lake.lock():
            pass
        loader.send_signal(signal.SIGKILL)
        loader.wait()
    import_frame(make_candles(), lake)
    assert lake.read(FUNDING).height == 216
