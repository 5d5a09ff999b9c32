"""A disk that is full, limited or read-only: one line that says so, and a lake that is as it was."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from lake_samples import NOW_MS, bars_of, contents, file_of, panel_rows

from slipstream.cli.errors import run
from slipstream.cli.main import app
from slipstream.errors import DataError, SlipstreamError
from slipstream.lake.datasets import BARS
from slipstream.lake.lake_check import check_path
from slipstream.lake.panel_import import import_frame
from slipstream.lake.parts import DamagedPart, UnreadablePart, decode
from slipstream.lake.place import Place
from slipstream.lake.repair import repair
from slipstream.lake.store import Lake

ON_A_DISK = Path(__file__).with_name("lake_on_a_disk.py")


def commands(*words: object, namespace: bool = False) -> list[dict]:
    """What came of each command on such a disk."""
    apart = ["unshare", "--mount", "--propagation", "private"] if namespace else []
    ended = subprocess.run(
        [*apart, sys.executable, ON_A_DISK, *map(str, words)], capture_output=True, text=True, check=False, timeout=100
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return [json.loads(line) for line in ended.stdout.splitlines()]


@pytest.fixture(scope="module")
def mounts(tmp_path_factory):
    """Skip where this user may not mount anything."""
    folder = tmp_path_factory.mktemp("mount")
    try:
        tried = subprocess.run(
            ["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", folder], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        pytest.skip("there is no unshare on this system")
    if tried.returncode != 0:
        pytest.skip(f"mounting is not permitted here: {tried.stderr.strip()}")


def assert_refused_in_one_line(told: dict, reason: str) -> None:
    assert told["code"] == 1, told
    assert told["out"] == ""
    assert told["err"].startswith("error: ")
    assert told["err"].count("\n") == 1
    assert reason in told["err"]
    assert told["same"]


SMALL = (("BTC", "ETH"), 96)
LARGE = (("BTC", "ETH", "SOL", "kPEPE"), 288)


@pytest.fixture
def panel():
    return panel_rows(*SMALL)


@pytest.fixture
def longer():
    return panel_rows(*LARGE)


LIMITS = (0, 700, 2500, 9000)
"""Bytes: the smaller limits stop the table's log, the larger ones a part."""


@pytest.fixture(scope="module")
def limited(tmp_path_factory):
    """A folder of lakes, and what came of an import into each where no file may grow beyond a limit."""
    folder = tmp_path_factory.mktemp("limited")
    panel, longer = panel_rows(*SMALL), panel_rows(*LARGE)
    longer.write_parquet(folder / "longer.parquet")
    names = {f"new{limit}": limit for limit in LIMITS} | {f"old{limit}": limit for limit in LIMITS}
    for limit in LIMITS:
        import_frame(panel, Lake.open(folder / f"old{limit}", create=True))
    nineteen = Lake.open(folder / "nineteen", create=True)
    for number in range(19):
        nineteen.upsert(BARS, bars_of(panel).with_columns(volume=pl.lit(float(number))))
    words = [f"{name}={limit}" for name, limit in names.items()]
    told = commands("limited", folder, folder / "longer.parquet", *words, "nineteen=20000")
    return folder, dict(zip([*names, "nineteen"], told, strict=True)), longer


@pytest.mark.parametrize("name", [f"{kind}{limit}" for kind in ("new", "old") for limit in LIMITS])
def test_a_file_that_may_not_grow_is_one_error_and_no_damage(limited, name):
    folder, told, longer = limited
    assert_refused_in_one_line(told[name], "File too large")
    lake = Lake.open(folder / name, create=True)
    import_frame(longer, lake)
    assert lake.read(BARS).equals(bars_of(longer).sort(BARS.key))
    assert [finding for finding in check_path(folder / name) if finding.grade == "error"] == []


def test_a_log_that_cannot_be_summed_up_leaves_the_commit_in_force_and_says_so(limited):
    """Every twentieth commit writes a checkpoint, which is larger than all else."""
    folder, told, longer = limited
    lake = Lake.open(folder / "nineteen")
    assert told["nineteen"]["code"] == 1
    assert told["nineteen"]["err"].count("\n") == 1
    assert "bars: version 20 is in force, but the disk refused to secure its log" in told["nineteen"]["err"]
    assert lake.read(BARS).equals(bars_of(longer).sort(BARS.key))
    import_frame(longer, lake)
    assert [finding for finding in check_path(folder / "nineteen") if finding.grade == "error"] == []


def test_a_full_disk_is_one_error_and_no_damage(tmp_path, mounts, panel, longer, write):
    """With ever more room the import fails ever later: at a folder, a part, the log. Each table is as it was or new."""
    room = [0, 4, 8, 16, 28, 40, 56]
    first, *rest, last = commands(
        "full", tmp_path / "disk", write(panel, "old.parquet"), write(longer, "new.parquet"), *room, namespace=True
    )
    assert (first["code"], first["rows"]) == (0, {"bars": 192, "funding": 192})
    assert_refused_in_one_line(rest[0], "No space left on device")
    failed = 0
    for told, check in zip(rest[::2], rest[1::2], strict=True):
        assert set(told["rows"].values()) <= {192, 1152}
        if told["code"] != 0:
            failed += 1
            assert told["code"] == 1, told
            assert told["err"].count("\n") == 1
            assert "No space left on device" in told["err"]
        assert check["code"] == 0, check
        assert json.loads(check["out"])["errors"] == 0
    assert failed > 3
    assert (last["code"], last["rows"]) == (0, {"bars": 1152, "funding": 1152})


def test_a_read_only_disk_can_be_read_and_nothing_else(tmp_path, mounts, panel, longer, write):
    lake = Lake.open(tmp_path / "lake", create=True)
    import_frame(panel, lake)
    *refused, check, status, elsewhere = commands(
        "read-only", tmp_path / "lake", write(longer, "new.parquet"), namespace=True
    )
    for told in (*refused, elsewhere):
        assert_refused_in_one_line(told, "Read-only file system")
    assert (check["code"], status["code"]) == (0, 0)
    assert "BTC" in status["out"]


@pytest.fixture
def lake(tmp_path, panel):
    lake = Lake.open(tmp_path / "lake", create=True)
    import_frame(panel, lake)
    return lake


@pytest.fixture
def unreadable(lake, monkeypatch):
    """A part that is there and cannot be read, as on a failing disk or without permission."""
    part = lake.parts(BARS)[0]
    read = Place.read

    def refusing(place: Place, name: str) -> bytes | None:
        if name.endswith(part.path):
            raise OSError(5, "Input/output error", name)
        return read(place, name)

    monkeypatch.setattr(Place, "read", refusing)
    return part


def test_a_part_that_cannot_be_read_is_one_line_to_a_reader(lake, unreadable, capsys):
    with pytest.raises(UnreadablePart):
        decode(BARS, lake.place, unreadable)
    with pytest.raises(DataError, match=r"month=2025-03/.*cannot be read .*Input/output error"):
        lake.read(BARS)
    assert run(app, ["data", "check", "--lake", lake.place.url]) == 1
    assert "cannot be read" in "".join(capsys.readouterr().out.split("\n"))


def test_a_part_that_cannot_be_read_is_not_given_up_by_a_repair(lake, unreadable):
    """It may be whole: a network that is down must not make a repair fall back on older rows."""
    with pytest.raises(SlipstreamError, match=r"cannot be read .*see to it, then repair"):
        repair(lake, BARS, apply=True, now_ms=NOW_MS)
    assert unreadable in lake.parts(BARS)


def test_coins_of_a_part_that_cannot_be_read_are_refused(lake, panel, unreadable):
    report = lake.upsert(BARS, bars_of(panel).with_columns(volume=pl.lit(1.0)))
    assert set(report.refused) == {"BTC", "ETH"}
    assert unreadable in lake.parts(BARS)


def test_a_file_system_without_second_names_gets_a_copy(lake, panel, monkeypatch):
    part = lake.parts(BARS)[0]
    body = file_of(lake, BARS).read_bytes()

    def refused(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", refused)
    lake.upsert(BARS, bars_of(panel).with_columns(volume=pl.lit(1.0)))
    assert (lake.place.folder / "_backup" / "bars" / part.path).read_bytes() == body


def test_parts_whose_log_is_gone_are_not_forgotten(lake, panel):
    """A new log beside them would make the next refresh the whole of the table."""
    before = contents(lake)
    log = lake.place.folder / "bars" / "_delta_log"
    log.rename(log.with_name("elsewhere"))
    with pytest.raises(DataError, match=r"the part lies there, but the table's log is gone; restore bars/_delta_log"):
        lake.upsert(BARS, bars_of(panel)[:5])
    assert not log.exists()
    log.with_name("elsewhere").rename(log)
    assert contents(lake)["bars"].equals(before["bars"])


def test_a_path_that_the_delta_library_would_misread_is_refused(tmp_path):
    with pytest.raises(DataError, match="percent sign"):
        Lake.open(tmp_path / "a%20b" / "lake", create=True)
    assert not (tmp_path / "a b").exists()


@pytest.mark.parametrize("name", ["with space", "100%", "ü#?&", "[1]*"])
def test_any_other_path_will_do(tmp_path, panel, name):
    import_frame(panel, Lake.open(tmp_path / name, create=True))
    assert Lake.open(tmp_path / name).read(BARS).equals(bars_of(panel))
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [name]


def test_a_trusted_file_that_makes_the_reader_give_up_is_still_only_damaged(lake, monkeypatch):
    def panics(*_: object, **__: object) -> None:
        raise pl.exceptions.PanicException("index out of range")

    monkeypatch.setattr(pl, "read_parquet", panics)
    with pytest.raises(DamagedPart, match="cannot be decoded"):
        decode(BARS, lake.place, lake.parts(BARS)[0], trust=True)
