"""The lake: a commit is all or nothing, a refresh never loses data, a damaged part is never read."""

from __future__ import annotations

import fcntl
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.cli.errors import run
from slipstream.cli.main import app
from slipstream.errors import DataError, SafetyRefusal, SlipstreamError
from slipstream.lake.schema import NUMBERS
from slipstream.lake.store import LakeBusy, merge, read, read_manifest, refresh, refuse_loss

SPRING = datetime(2025, 3, 30, tzinfo=UTC)


@pytest.fixture
def history(make_candles):
    """Four days over the end of March: the lake has two months."""
    return make_candles(("BTC", "ETH"), hours=96, start=SPRING)


@pytest.fixture
def lake(tmp_path, history):
    root = tmp_path / "lake"
    refresh(root, history)
    return root


def fingerprint(root: Path) -> dict[str, bytes]:
    return {file.relative_to(root).as_posix(): file.read_bytes() for file in sorted(root.rglob("*")) if file.is_file()}


def test_what_is_written_is_what_is_read(lake, history):
    assert read(lake).equals(history)
    assert [part.month for part in read_manifest(lake).parts] == ["2025-03", "2025-04"]


def test_the_manifest_holds_each_parts_checksum_rows_and_span(lake):
    held = json.loads((lake / "manifest.json").read_text())["parts"][0]
    assert held["rows"] == 96
    assert held["first_ms"] == SPRING.timestamp() * 1000
    assert held["last_ms"] == (SPRING + timedelta(hours=47)).timestamp() * 1000
    digest = subprocess.run(["sha256sum", lake / held["file"]], capture_output=True, text=True, check=True)
    assert digest.stdout.split()[0] == held["sha256"]


def test_appending_a_day_writes_that_month_only(lake, history, make_candles):
    longer = make_candles(("BTC", "ETH"), hours=120, start=SPRING)
    day = longer.filter(pl.col("ts") >= SPRING + timedelta(hours=96))
    march = (lake / "bars_1h/2025-03/000001.parquet").stat()
    report = refresh(lake, day)
    assert report.months_written == ("2025-04",)
    assert (report.rows_before, report.rows_after, report.changed) == (192, 240, 0)
    assert (lake / "bars_1h/2025-03/000001.parquet").stat() == march
    assert read(lake).equals(pl.concat([history, day]).sort("coin", "ts"))


def test_importing_the_same_rows_again_changes_not_one_byte(lake, history):
    before = fingerprint(lake)
    report = refresh(lake, history)
    assert report.months_written == ()
    assert fingerprint(lake) == before


def test_the_newest_value_wins_and_the_corrected_part_is_kept(lake, history, with_value):
    old_part = (lake / "bars_1h/2025-03/000001.parquet").read_bytes()
    report = refresh(lake, with_value(history, 3, "volume", 7.0))
    assert (report.changed, report.months_written) == (1, ("2025-03",))
    assert read(lake)["volume"][3] == 7.0
    assert (lake / "_backup/2025-03.000001.parquet").read_bytes() == old_part


def test_a_reader_of_the_commit_before_still_finds_its_parts_and_older_ones_go(lake, history, with_value):
    first = read_manifest(lake).parts[0].file
    refresh(lake, with_value(history, 3, "volume", 7.0))
    assert (lake / first).exists()
    refresh(lake, with_value(history, 3, "volume", 8.0))
    assert not (lake / first).exists()


@pytest.mark.parametrize("column", ["funding", "volume"])
def test_a_number_may_not_become_nothing(lake, history, with_value, column):
    before = fingerprint(lake)
    with pytest.raises(SafetyRefusal, match=f"{column} of BTC at 2025-03-30 05:00 UTC .* would become empty"):
        refresh(lake, with_value(history, 5, column, None))
    assert fingerprint(lake) == before


def test_nothing_may_become_a_number(tmp_path, history, with_value):
    refresh(tmp_path / "lake", with_value(history, 5, "funding", None))
    refresh(tmp_path / "lake", history)
    assert read(tmp_path / "lake")["funding"][5] == history["funding"][5]


def test_rows_may_not_fall_and_a_start_may_not_move_forward(history, tmp_path):
    with pytest.raises(SafetyRefusal, match="rows of BTC would fall from 96 to 95"):
        refuse_loss(history, history[1:], tmp_path)
    with pytest.raises(SafetyRefusal, match="rows of ETH would fall from 96 to 0"):
        refuse_loss(history, history[:96], tmp_path)
    later = pl.concat([history[1:96], history[95:96].with_columns(pl.col("ts").dt.offset_by("1h"))])
    with pytest.raises(SafetyRefusal, match="start of BTC would move from 2025-03-30 00:00 to 2025-03-30 01:00"):
        refuse_loss(history[:96], later, tmp_path)


def test_a_refusal_ends_the_command_with_three_and_one_line(lake, history, with_value, write, capsys):
    file = write(with_value(history, 5, "funding", None))
    before = fingerprint(lake)
    assert run(app, ["data", "import", str(file), "--lake", str(lake)]) == 3
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1
    assert fingerprint(lake) == before


def test_a_part_that_differs_from_its_checksum_is_refused_and_left_alone(lake, history):
    part = lake / read_manifest(lake).parts[1].file
    body = bytearray(part.read_bytes())
    body[200] ^= 1
    part.write_bytes(body)
    before = fingerprint(lake)
    with pytest.raises(DataError, match=r"2025-04/000001\.parquet: the part differs from its checksum"):
        read(lake)
    with pytest.raises(DataError, match="differs from its checksum"):
        refresh(lake, history)
    assert fingerprint(lake) == before


def test_a_missing_part_is_named(lake):
    (lake / read_manifest(lake).parts[0].file).unlink()
    with pytest.raises(DataError, match=r"2025-03/000001\.parquet: the part is missing"):
        read(lake)


@pytest.mark.parametrize(
    "body", ["", "{", "[]", '{"format": 2}', '{"format": 1, "commit": 1, "retired": [], "parts": [{}]}']
)
def test_a_damaged_manifest_is_refused_in_one_line(lake, body):
    (lake / "manifest.json").write_text(body)
    with pytest.raises(DataError) as caught:
        read(lake)
    assert "manifest.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_second_writer_is_turned_away(lake, history):
    with (lake / "lock").open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(LakeBusy, match="another process is writing"):
            refresh(lake, history)
    refresh(lake, history)


def test_a_folder_of_other_things_is_not_made_a_lake(tmp_path, history):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(DataError, match=r"holds thesis\.tex"):
        refresh(tmp_path, history)
    with pytest.raises(DataError, match="is a file"):
        refresh(tmp_path / "thesis.tex", history)


def test_a_disk_that_refuses_is_one_error_of_the_house(lake, history, make_candles, monkeypatch):
    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    before = read(lake)
    monkeypatch.setattr(pl.DataFrame, "write_parquet", full)
    with pytest.raises(SlipstreamError, match="No space left"):
        refresh(lake, make_candles(("SOL",), start=SPRING))
    monkeypatch.undo()
    assert read(lake).equals(before)


@given(st.sets(st.integers(0, 71)), st.sets(st.integers(0, 71)))
def test_a_merge_holds_every_bar_of_both_once_in_order(old_hours, new_hours):
    times = [SPRING + timedelta(hours=hour) for hour in range(72)]

    def some(hours, value):
        kept = [times[hour] for hour in sorted(hours)]
        columns = {"ts": kept, "coin": ["BTC"] * len(kept)} | {name: [value] * len(kept) for name in NUMBERS}
        types = {"ts": pl.Datetime("ms", "UTC"), "coin": pl.String} | dict.fromkeys(NUMBERS, pl.Float64)
        return pl.DataFrame(columns, schema=types)

    both = merge(some(old_hours, 1.0), some(new_hours, 2.0))
    assert both["ts"].to_list() == [times[hour] for hour in sorted(old_hours | new_hours)]
    assert both["close"].to_list() == [2.0 if hour in new_hours else 1.0 for hour in sorted(old_hours | new_hours)]


# Forks one child per line that the commit runs through. Each child commits to a copy of the lake of its own and kills
# itself just before that line; the last one comes to the end. Polars is first used in the children: its threads would
# not survive a fork.
KILL_AT_EVERY_LINE = """
import os, shutil, signal, sys
from pathlib import Path
import polars as pl
import slipstream.lake.store as store

folder, point = Path(sys.argv[1]), 0
while True:
    point += 1
    root = folder / f"lake{point:04d}"
    if (folder / "old").exists():
        shutil.copytree(folder / "old", root)
    child = os.fork()
    if child == 0:
        incoming = pl.read_parquet(folder / "incoming.parquet")
        lines = 0
        def kill_at_the_line(frame, event, argument):
            global lines
            if frame.f_code.co_filename != store.__file__:
                return None
            if event == "line":
                lines += 1
                if lines == point:
                    os.kill(os.getpid(), signal.SIGKILL)
            return kill_at_the_line
        sys.settrace(kill_at_the_line)
        store.refresh(root, incoming)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status):
        sys.exit(os.waitstatus_to_exitcode(status))
"""


@pytest.mark.parametrize("there_is_a_lake", [True, False])
def test_a_commit_killed_at_any_line_leaves_the_old_lake_or_the_new_one(
    tmp_path, history, make_candles, with_value, there_is_a_lake
):
    incoming = pl.concat([with_value(history, 3, "volume", 7.0), make_candles(("SOL",), hours=30, start=SPRING)])
    incoming.write_parquet(tmp_path / "incoming.parquet")
    if there_is_a_lake:
        refresh(tmp_path / "old", history)
        refresh(tmp_path / "old", with_value(history, 3, "volume", 6.0))
    before = read(tmp_path / "old") if there_is_a_lake else None
    subprocess.run([sys.executable, "-c", KILL_AT_EVERY_LINE, tmp_path], check=True, timeout=100)

    lakes = sorted(tmp_path.glob("lake*"))
    new = read(lakes[-1])
    assert new.height == 192 + 30
    outcomes = []
    for root in lakes:
        if (root / "manifest.json").exists():
            rows = read(root)
            assert rows.equals(new) or rows.equals(before)
            outcomes.append(rows.equals(new))
        else:
            assert before is None
            outcomes.append(False)
    assert outcomes == sorted(outcomes), "once in force, always in force"
    assert outcomes.count(False) > 20
    assert outcomes.count(True) > 5
    for root in lakes[::9]:
        refresh(root, incoming)
        assert read(root).equals(new), "what a killed commit left behind is no obstacle"


def test_half_a_part_left_by_a_killed_commit_is_written_over(lake, make_candles):
    stray = lake / "bars_1h/2025-03/000002.parquet"
    stray.write_bytes(b"PAR1 and then the power went")
    refresh(lake, make_candles(("SOL",), hours=30, start=SPRING))
    assert read(lake)["coin"].unique().sort().to_list() == ["BTC", "ETH", "SOL"]
