"""The experiment registry: nothing lost, nothing changed, and a count of trials that can be believed."""

from __future__ import annotations

import json
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from slipstream.cli.errors import run as run_app
from slipstream.cli.research import research
from slipstream.errors import DataError, UsageError
from slipstream.research.content import ContentError
from slipstream.research.registry import ChainBroken, Registry, RegistryError

STARTED_MS = 1_750_000_000_000

WRITER = """
import sys, time
from itertools import count
from slipstream.research.registry import Registry
path, name, runs = sys.argv[1], sys.argv[2], int(sys.argv[3])
ticks = count(1_750_000_000_000)
with Registry(path, lambda: next(ticks)) as registry:
    for number in range(runs):
        with registry.run("sweep", {"writer": name, "number": number}, data_hash="d", versions={}) as run:
            print(run.id, flush=True)
            run.finish({"sharpe": number / 10})
"""

SLEEPER = """
import sys, time
from slipstream.research.registry import Registry
with Registry(sys.argv[1], lambda: 5) as registry, registry.run("horizon", {"H": 8}, data_hash="d", versions={}) as run:
    print(run.id, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "research" / "runs.sqlite"


@pytest.fixture
def registry(path):
    ticks = count(STARTED_MS, 1000)
    with Registry(path, lambda: next(ticks)) as opened:
        yield opened


def record(registry: Registry, config: dict, kind: str = "horizon", result: object = None, **rest) -> str:
    with registry.run(kind, config, **{"data_hash": "d1", "versions": {}, **rest}) as run:
        run.finish(result)
    return run.id


def program(text: str, *words: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", text, *(str(word) for word in words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_run_is_recorded_with_what_went_in_and_what_came_out(registry) -> None:
    config = {"H": (4, 8), "l2": np.float64(0.5)}
    with registry.run("horizon", config, data_hash="abc", seed=7, alternatives=2, versions={"numpy": "2"}) as run:
        (started,) = registry.runs()
        run.finish({"net_sharpe": [0.5, float("nan")], "r2": np.array([0.1, 0.2])})
    assert (started.status, started.finished_ms, started.result) == ("running", None, None)
    (ended,) = registry.runs()
    assert ended.id == run.id
    assert (ended.kind, ended.status, ended.seed, ended.alternatives) == ("horizon", "finished", 7, 2)
    assert (ended.started_ms, ended.finished_ms) == (STARTED_MS, STARTED_MS + 1000)
    assert ended.config == {"H": [4, 8], "l2": 0.5}
    assert ended.result == {"net_sharpe": [0.5, None], "r2": [0.1, 0.2]}
    assert (ended.data_hash, ended.versions, ended.error) == ("abc", {"numpy": "2"}, None)


def test_versions_are_taken_down_when_none_are_given(registry) -> None:
    with registry.run("horizon", {}, data_hash="d") as run:
        run.finish(None)
    assert registry.runs()[0].versions["numpy"] == np.__version__


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (ValueError("too few\nrows"), "failed", "ValueError: too few rows"),
        (KeyboardInterrupt(), "interrupted", "KeyboardInterrupt"),
        (SystemExit(3), "interrupted", "SystemExit: 3"),
    ],
)
def test_a_run_that_is_left_by_an_exception_says_so_and_lets_it_go_on(registry, error, status, text) -> None:
    with pytest.raises(type(error)), registry.run("horizon", {}, data_hash="d", versions={}):
        raise error
    (run,) = registry.runs()
    assert (run.status, run.error, run.result) == (status, text, None)


def test_an_error_after_the_result_does_not_undo_it(registry) -> None:
    with pytest.raises(ZeroDivisionError), registry.run("horizon", {}, data_hash="d", versions={}) as run:
        print(run.finish({"sharpe": 1}), 1 / 0)
    assert registry.runs()[0].status == "finished"


def test_a_run_without_a_result_is_a_failed_one(registry) -> None:
    with (
        pytest.raises(RegistryError, match="ended without a result; call finish"),
        registry.run("horizon", {}, data_hash="d", versions={}),
    ):
        pass
    assert registry.runs()[0].status == "failed"


def test_a_run_ends_once(registry) -> None:
    with registry.run("horizon", {}, data_hash="d", versions={}) as run:
        run.finish(1)
        with pytest.raises(RegistryError, match="has ended already"):
            run.finish(2)
    assert registry.runs()[0].result == 1


def test_a_result_that_has_no_json_form_fails_the_run_and_not_the_record(registry) -> None:
    with pytest.raises(ContentError, match="set"), registry.run("horizon", {}, data_hash="d", versions={}) as run:
        run.finish({1, 2})
    assert registry.runs()[0].status == "failed"
    assert registry.verify().events == 2


def test_trials_are_the_different_ideas_that_were_looked_at(registry) -> None:
    record(registry, {"l2": 1}, alternatives=5)
    record(registry, {"l2": 1}, alternatives=5, seed=2)  # another seed: the same idea
    record(registry, {"l2": 1}, alternatives=3)  # part of it again
    record(registry, {"l2": 2}, data_hash="d2")
    record(registry, {"l2": 1}, kind="sweep", alternatives=100)
    with pytest.raises(ValueError, match="x"), registry.run("horizon", {"l2": 3}, data_hash="d1", versions={}):
        raise ValueError("x")
    assert registry.trials("horizon") == 6
    assert registry.trials("horizon", data_hash="d2") == 1
    with pytest.raises(KeyboardInterrupt), registry.run("horizon", {"l2": 4}, data_hash="d1", versions={}):
        raise KeyboardInterrupt
    assert registry.trials("horizon") == 7
    assert registry.trials("train") == 0


def test_a_search_over_nothing_is_refused_and_not_recorded(registry) -> None:
    with (
        pytest.raises(UsageError, match="at least one alternative"),
        registry.run("horizon", {}, data_hash="d", alternatives=0),
    ):
        pass
    assert registry.runs() == []


def test_what_is_recorded_is_there_for_the_next_who_opens_the_file(path) -> None:
    with Registry(path, lambda: 1) as first:
        record(first, {"a": 1})
        chain = first.verify()
    with Registry(path, lambda: 2) as second:
        assert [run.config for run in second.runs()] == [{"a": 1}]
        assert second.verify() == chain
    assert list(path.with_name("runs.sqlite.live").iterdir()) == [path.with_name("runs.sqlite.live") / "opening"]


def test_the_record_cannot_be_changed_or_shortened_through_sql(registry, path) -> None:
    record(registry, {"a": 1})
    with sqlite3.connect(path) as outside:
        for statement in ("UPDATE events SET at_ms = 0", "DELETE FROM events"):
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                outside.execute(statement)
    outside.close()


@pytest.mark.parametrize(
    "tampering",
    [
        "UPDATE events SET body = replace(body, '0.3', '3.0') WHERE number = 4",
        "UPDATE events SET at_ms = at_ms + 1 WHERE number = 1",
        "UPDATE events SET event = 'failed' WHERE number = 4",
        "UPDATE events SET previous = hash WHERE number = 3",
        "DELETE FROM events WHERE number = 1",
        "DELETE FROM events WHERE number IN (3, 4)",
    ],
)
def test_a_record_changed_behind_the_registrys_back_is_found(registry, path, tampering) -> None:
    for number in range(3):
        record(registry, {"number": number}, result={"sharpe": 0.3})
    assert registry.verify().events == 6
    with sqlite3.connect(path) as outside:
        outside.execute("DROP TRIGGER events_are_not_changed")
        outside.execute("DROP TRIGGER events_are_not_deleted")
        assert outside.execute(tampering).rowcount > 0
    outside.close()
    with pytest.raises(ChainBroken, match=r"event \d .* is not what was written"):
        registry.verify()


def test_two_processes_that_write_at_once_lose_nothing(path) -> None:
    each = 40
    writers = [program(WRITER, path, name, each) for name in ("one", "two")]  # they make the file at once, too
    done = [writer.communicate(timeout=60) for writer in writers]
    assert [errors for _, errors in done] == ["", ""]
    with Registry(path, lambda: 0) as registry:
        runs = registry.runs()
        assert {run.id for run in runs} == {name for out, _ in done for name in out.split()}
        assert len(runs) == 2 * each
        assert all(run.status == "finished" for run in runs)
        assert registry.verify().events == 4 * each
        for name in ("one", "two"):
            mine = [run.config["number"] for run in runs if run.config["writer"] == name]
            assert mine == list(range(each))


def test_a_run_whose_process_was_killed_is_interrupted_at_the_next_opening(path) -> None:
    with program(SLEEPER, path) as sleeper:
        assert sleeper.stdout is not None
        name = sleeper.stdout.readline().strip()
        with Registry(path, lambda: 6) as meanwhile:
            assert [run.status for run in meanwhile.runs()] == ["running"]
            record(meanwhile, {"H": 12})
        sleeper.send_signal(signal.SIGKILL)
    with Registry(path, lambda: 7) as registry:
        run = registry.runs()[0]
        assert (run.id, run.status, run.finished_ms) == (name, "interrupted", 7)
        assert run.error == "its process ended without a word"
        assert registry.verify().events == 4
    with Registry(path, lambda: 8) as again:
        assert again.verify().events == 4


def test_a_run_in_this_very_process_is_not_taken_for_dead(registry, path) -> None:
    with registry.run("horizon", {}, data_hash="d", versions={}) as run:
        with Registry(path, lambda: 1) as second:
            assert [each.status for each in second.runs()] == ["running"]
        run.finish(1)
    assert [each.status for each in registry.runs()] == ["finished"]


def test_kills_at_any_moment_leave_a_whole_chain_and_lose_no_finished_run(path) -> None:
    moments = random.Random(5)
    told: list[str] = []
    for _ in range(8):
        with program(WRITER, path, "killed", 10_000) as writer:
            assert writer.stdout is not None
            told.append(writer.stdout.readline().strip())
            time.sleep(moments.uniform(0.0, 0.05))
            writer.kill()
            told += writer.stdout.read().split()
    with Registry(path, lambda: 0) as registry:
        runs = registry.runs()
        recorded = {run.id for run in runs}
        assert recorded >= {name for name in told if len(name) == 12}
        assert {run.status for run in runs} <= {"finished", "interrupted"}
        assert sum(run.status == "interrupted" for run in runs) <= 8
        assert registry.verify().events == 2 * len(runs)


def test_a_copy_of_the_file_stands_on_its_own(registry, path, tmp_path) -> None:
    record(registry, {"a": 1})
    registry.close()
    shutil.copy(path, tmp_path / "copy.sqlite")
    with Registry(tmp_path / "copy.sqlite", lambda: 0) as copy:
        assert copy.verify().events == 2


def test_a_file_that_is_no_registry_is_refused_and_left_as_it_is(tmp_path) -> None:
    text, foreign, newer = (tmp_path / name for name in ("notes.txt", "foreign.sqlite", "newer.sqlite"))
    text.write_text("not a database, and long enough to have a header of some sort" * 20)
    for file, statement in ((foreign, "CREATE TABLE a (b)"), (newer, "PRAGMA user_version = 99")):
        with sqlite3.connect(file) as database:
            database.execute(statement)
        database.close()
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    for file, message in ((text, "not a database"), (foreign, "no experiment registry"), (newer, "upgrade slipstream")):
        with pytest.raises(DataError, match=message):
            Registry(file, lambda: 0)
    with pytest.raises(DataError, match="cannot be used as an experiment registry"):
        Registry(tmp_path, lambda: 0)
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before


def listed(capsys, *words: object) -> tuple[int, str, str]:
    code = run_app(research, ["runs", *(str(word) for word in words)])
    out, err = capsys.readouterr()
    return code, out, err


def test_the_command_lists_the_runs_and_counts_the_trials(registry, path, capsys) -> None:
    record(registry, {"l2": 1}, alternatives=5, seed=7)
    with pytest.raises(ValueError, match="few"), registry.run("train", {}, data_hash="d", versions={}):
        raise ValueError("too few rows [a]")
    code, out, err = listed(capsys, "--registry", path)
    assert (code, err) == (0, "")
    assert "horizon: 5 trials" in out
    assert "train: 0 trials" in out
    assert "ValueError: too few rows [a]" in out
    assert "4 events, chain intact" in out


def test_the_command_prints_json_and_nothing_else(registry, path, capsys) -> None:
    record(registry, {"l2": 1}, result={"sharpe": 0.5})
    record(registry, {}, kind="train")
    code, out, _ = listed(capsys, "--registry", path, "--kind", "horizon", "--json")
    told = json.loads(out)
    assert code == 0
    assert [run["result"] for run in told["runs"]] == [{"sharpe": 0.5}]
    assert told["trials"] == {"horizon": 1}
    assert told["chain"] == {"events": 4, "head": registry.verify().head}


def test_the_command_refuses_a_broken_record_and_names_an_absent_one(registry, path, tmp_path, capsys) -> None:
    record(registry, {"l2": 1})
    with sqlite3.connect(path) as outside:
        outside.execute("DROP TRIGGER events_are_not_changed")
        outside.execute("UPDATE events SET body = '{}' WHERE number = 2")
    outside.close()
    code, out, err = listed(capsys, "--registry", path)
    assert (code, out) == (1, "")
    assert "event 2" in err
    code, out, err = listed(capsys, "--registry", tmp_path / "none.sqlite")
    assert (code, out) == (2, "")
    assert "no such file" in err
    assert [entry.name for entry in tmp_path.iterdir()] == ["research"]
