"""A stopped study goes on where it stopped, and never with a result of something else."""

from __future__ import annotations

import logging
import math
import subprocess
import sys
from pathlib import Path

import executor_tasks as tasks
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from slipstream.research.executor import SerialExecutor
from slipstream.research.local_executor import LocalExecutor
from slipstream.research.result_file import Kept, ResultError, decode, encode
from slipstream.research.resumable import JournalBusy, resumable_map

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | arrays.arrays(st.sampled_from([np.float64, np.int64, np.bool_, np.float32]), arrays.array_shapes(min_side=0))
    | st.floats().map(np.float64)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=8,
)


@given(VALUES)
def test_a_kept_result_comes_back_with_its_types_and_bits(value) -> None:
    back = decode(encode(value))
    assert back is not None
    assert tasks.same(back.value, value)


@given(st.data())
def test_a_damaged_file_is_never_read_as_a_result(data) -> None:
    content = encode({"values": np.arange(3.0), "n": None})
    place = data.draw(st.integers(0, len(content) - 1))
    flipped = content[:place] + bytes([content[place] ^ data.draw(st.integers(1, 255))]) + content[place + 1 :]
    assert decode(flipped) is None
    assert decode(content[:place]) is None


def test_a_kept_nothing_differs_from_nothing_kept() -> None:
    assert decode(encode(None)) == Kept(None)
    assert decode(b"") is None


@pytest.mark.parametrize(
    ("value", "place"), [({"a": [set()]}, r"result\['a'\]\[0\] is a set"), (np.array([None]), "Python objects")]
)
def test_what_cannot_be_kept_is_named_by_its_place(value, place) -> None:
    with pytest.raises(ResultError, match=place):
        encode(value)


class Study:
    """Five items; the fourth interrupts until the file ``go`` is there. Each call leaves a trace."""

    def __init__(self, folder: Path) -> None:
        self.journal = folder / "journal"
        self.trace = folder / "trace"
        self.trace.mkdir()
        self.progress: list[int] = []

    def run(self, executor=None, items=(0, 1, 2, 3, 4), key="v1", **shared):
        self.progress.clear()
        return resumable_map(
            executor or SerialExecutor(),
            tasks.counted,
            items,
            self.journal,
            key,
            shared={"trace": str(self.trace), "data": np.arange(3.0), **shared},
            progress=lambda done, total: self.progress.append(done),
        )

    def allow(self) -> None:
        (self.trace / "go").touch()

    def calls(self) -> list[int]:
        return sorted(int(file.name.split("-")[0]) for file in self.trace.iterdir() if file.name != "go")


@pytest.fixture
def study(tmp_path) -> Study:
    return Study(tmp_path)


def test_a_second_call_goes_on_where_the_interrupt_fell_and_gives_the_same_bits(study, tmp_path) -> None:
    with pytest.raises(KeyboardInterrupt):
        study.run()
    assert study.calls() == [0, 1, 2, 3]
    study.allow()
    with LocalExecutor(2) as local:
        resumed = study.run(local)
    assert study.progress == [3, 4, 5]
    assert study.calls() == [0, 1, 2, 3, 3, 4]
    other = tmp_path / "uninterrupted"
    other.mkdir()
    unbroken = Study(other)
    unbroken.allow()
    assert tasks.same(resumed, unbroken.run())
    assert [result["item"] for result in resumed] == [0, 1, 2, 3, 4]


def test_a_complete_journal_computes_nothing(study) -> None:
    study.allow()
    first = study.run()
    assert tasks.same(study.run(), first)
    assert study.progress == [5]
    assert len(study.calls()) == 5
    assert math.isnan(first[0]["nan"])


@pytest.mark.parametrize("change", [{"key": "v2"}, {"data": np.arange(3.0) + 1e-12}, {"items": (10, 11, 12, 13, 14)}])
def test_another_version_other_data_or_other_items_are_computed_anew(study, change) -> None:
    study.allow()
    study.run()
    study.run(**change)
    assert len(study.calls()) == 10


def test_items_already_known_are_found_in_a_longer_study(study) -> None:
    study.allow()
    study.run(items=(0, 1))
    assert [result["item"] for result in study.run(items=(2, 1, 0))] == [2, 1, 0]
    assert study.calls() == [0, 1, 2]


@pytest.mark.parametrize("damage", [b"", b"slipstream-result 1 ", b"\x00" * 400])
def test_a_damaged_entry_is_computed_again_and_said_to_be(study, damage, caplog) -> None:
    study.allow()
    first = study.run()
    victim = sorted(study.journal.glob("*.result"))[2]
    victim.write_bytes(damage)
    with caplog.at_level(logging.WARNING):
        assert tasks.same(study.run(), first)
    assert len(study.calls()) == 6
    assert f"{victim} is damaged" in caplog.text


def test_a_half_written_entry_of_a_killed_process_is_swept_away(study) -> None:
    study.allow()
    study.run()
    (study.journal / ".0123.result.new").write_bytes(b"half")
    study.run()
    assert {file.suffix for file in study.journal.iterdir()} == {".result", ""}
    assert list(study.journal.glob(".*")) == []


def test_two_processes_do_not_share_a_journal_at_once(study) -> None:
    study.allow()
    study.journal.mkdir()
    holder = (
        "import fcntl, sys; f = open(sys.argv[1], 'wb'); fcntl.flock(f, fcntl.LOCK_EX); print(1, flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holder, str(study.journal / "lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(JournalBusy, match="another process works with this journal"):
            study.run()
        other.communicate(b"\n")
    assert len(study.run()) == 5
