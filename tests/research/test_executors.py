"""One contract for all executors: order, bits, what is shared, failures, interrupts.

The Ray part runs on a real cluster of two worker processes where the extra ``cluster`` is installed, as in ``.ci/run``.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import executor_tasks as tasks
import pytest
from threadpoolctl import threadpool_limits

from slipstream.errors import UsageError
from slipstream.research.executor import SerialExecutor, executor_from
from slipstream.research.local_executor import LocalExecutor
from slipstream.research.tasks import THREAD_VARIABLES, TaskError, TaskRequestError, WorkerDied

RAY = pytest.param(
    "ray",
    marks=pytest.mark.skipif(
        importlib.util.find_spec("ray") is None,
        reason="Ray is not installed; the cluster extra brings it, and .ci/run runs this test with it",
    ),
)
HERE = str(Path(__file__).parent)


@pytest.fixture(scope="module", params=["serial", "local", RAY])
def executor(request):
    """Two worker processes, where there are any."""
    with executor_from(request.param, None if request.param == "serial" else 2) as opened:
        yield opened


@pytest.fixture(scope="module")
def shared():
    return tasks.large_and_read_only()


@pytest.fixture(scope="module")
def expected(shared):
    with SerialExecutor() as serial:
        return serial.map(tasks.study, [4, 8, 12, 24, 48], shared=shared)


def test_results_come_in_the_order_of_the_items(executor) -> None:
    assert executor.map(tasks.later_items_finish_first, [0, 1, 2, 3]) == [0, 1, 2, 3]
    assert executor.map(tasks.square, list(range(50))) == [n * n for n in range(50)]


def test_no_items_give_no_results(executor, shared) -> None:
    assert executor.map(tasks.study, [], shared=shared) == []


def test_results_are_equal_bit_for_bit_to_the_serial_ones(executor, shared, expected) -> None:
    got = executor.map(tasks.study, [4, 8, 12, 24, 48], shared=shared)
    assert tasks.same(got, expected)


def test_results_do_not_depend_on_the_number_of_workers(shared, expected) -> None:
    with LocalExecutor(1) as one_worker:
        got = one_worker.map(tasks.study, [48, 4], shared=shared)
    assert tasks.same(got[0], expected[4])
    assert tasks.same(got[1], expected[0])


def test_results_do_not_depend_on_the_threads_the_caller_allows(shared, expected, monkeypatch) -> None:
    """The sums of two threads differ from those of one, so an executor must not let the caller's setting through."""
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("this machine has one core: its linear algebra runs on one thread anyway")
    for name in THREAD_VARIABLES:
        monkeypatch.setenv(name, "2")
    with threadpool_limits(limits=2), LocalExecutor(1) as local:
        assert not tasks.same(tasks.study(4, shared), expected[0])
        for executor in (SerialExecutor(), local):
            assert tasks.same(executor.map(tasks.study, [4], shared=shared)[0], expected[0])


def test_what_is_shared_is_read_only_at_any_depth(executor, shared) -> None:
    assert executor.map(tasks.is_writeable, [0, 1], shared=shared) == [[False] * 4] * 2
    with pytest.raises(TaskError, match="read-only"):
        executor.map(tasks.write_into, ["strided"], shared=shared)
    with pytest.raises(TaskError, match="does not support item assignment"):
        executor.map(tasks.add_an_entry, ["new"], shared=shared)


def test_what_is_shared_is_laid_out_once_per_worker_and_not_once_per_task(executor, shared) -> None:
    places = executor.map(tasks.where_it_lies, list(range(12)), shared=shared)
    assert len(set(places)) == len({process for process, _ in places}) <= 2


def test_each_call_sees_what_it_shares_and_not_what_the_one_before_did(executor, shared) -> None:
    changed = {**shared, "long": shared["long"] + 1.0}
    before, after = (executor.map(tasks.study, [4], shared=values)[0]["dot"] for values in (shared, changed))
    assert before != after


def test_results_belong_to_the_caller(executor) -> None:
    (values,) = executor.map(tasks.zeros, [3])
    values += 1.0
    assert values.tolist() == [1.0, 1.0, 1.0]


def test_progress_counts_from_nothing_to_all(executor) -> None:
    seen: list[tuple[int, int]] = []
    executor.map(tasks.square, [1, 2, 3], progress=lambda done, total: seen.append((done, total)))
    assert seen == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_a_failure_names_the_item_and_the_last_line_of_its_traceback(executor) -> None:
    with pytest.raises(TaskError) as failure:
        executor.map(tasks.fails, [{"H": 4}, {"H": 8}, {"H": 12}])
    assert str(failure.value).startswith(
        "task 3 of 3, {'H': 12}: ZeroDivisionError: no bars of 12 hours (executor_tasks.py:"
    )
    assert "\n" not in str(failure.value)
    assert 'raise ZeroDivisionError("no bars' in failure.value.trace
    assert failure.value.exit_code == 1
    assert executor.map(tasks.square, [3]) == [9]


def test_the_first_failure_in_order_is_named_whichever_comes_first(executor) -> None:
    with pytest.raises(TaskError, match="task 1 of 2, 0: ValueError: item 0"):
        executor.map(tasks.fails_late_then_early, [0, 1])


def test_after_a_failure_no_new_task_is_begun(executor, tmp_path) -> None:
    with pytest.raises(TaskError, match="the first one fails"):
        executor.map(tasks.marks_its_start, [(number, str(tmp_path)) for number in range(100)])
    assert 1 <= len(list(tmp_path.iterdir())) < 10


def test_bad_data_found_by_a_task_is_a_request_that_cannot_be_used(executor) -> None:
    with pytest.raises(TaskRequestError, match=r"DataError: panel\.parquet: no such file") as failure:
        executor.map(tasks.bad_data, ["panel.parquet"])
    assert failure.value.exit_code == 2


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (tasks.raises_what_cannot_travel, "TwoPartError: BTC at row 1"),
        (tasks.returns_what_cannot_travel, "lambda"),
        (tasks.leaves, "SystemExit: 3"),
    ],
)
def test_what_cannot_travel_between_processes_fails_its_task_and_nothing_else(executor, function, message) -> None:
    with pytest.raises(TaskError, match=message):
        executor.map(function, [1])
    assert executor.map(tasks.square, [2]) == [4]


@pytest.mark.parametrize("function", [lambda item: item, [].append, test_no_items_give_no_results.__call__])
def test_a_function_that_workers_cannot_import_is_refused_everywhere(executor, function) -> None:
    with pytest.raises(UsageError, match="use a function of a module"):
        executor.map(function, [1])


def test_a_worker_that_is_killed_is_reported_and_replaced(executor) -> None:
    if isinstance(executor, SerialExecutor):
        pytest.skip("the serial executor has no workers")
    with pytest.raises(WorkerDied, match=r"tasks .*2.* of 3"):
        executor.map(tasks.dies, ["one", "die", "two"])
    assert executor.map(tasks.dies, ["one", "two"]) == ["one", "two"]


def test_a_stream_that_is_not_read_to_its_end_leaves_no_worker(tmp_path) -> None:
    others = set(multiprocessing.active_children())
    with LocalExecutor(2) as local:
        stream = local.stream(tasks.later_items_finish_first, [3, 0, 0, 0, 0])
        assert next(stream) == (0, 3)
        assert len(set(multiprocessing.active_children()) - others) == 2
        stream.close()
        assert set(multiprocessing.active_children()) <= others
        assert local.map(tasks.square, [5]) == [25]
    assert set(multiprocessing.active_children()) <= others


@pytest.mark.parametrize("name", ["serial", "local"])
def test_an_executor_gives_the_environment_back(name) -> None:
    before = dict(os.environ)
    with executor_from(name) as opened:
        assert opened.map(tasks.square, [1]) == [1]
    assert dict(os.environ) == before


INTERRUPTED = """
import sys
sys.path.insert(0, {here!r})
import executor_tasks
from slipstream.research.executor import executor_from
if __name__ == "__main__":
    try:
        with executor_from({name!r}, {workers}) as executor:
            executor.map(executor_tasks.sleeps, {items!r})
    except KeyboardInterrupt:
        sys.exit(130)
"""


def descendants(root: int) -> set[int]:
    """Processes below ``root``, as the kernel lists them."""
    parents = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
    found, new = set(), {root}
    while new:
        new = {process for process, parent in parents.items() if parent in new}
        found |= new
    return found


def alive(process: int) -> bool:
    try:
        return (Path("/proc") / str(process) / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until(condition, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@pytest.fixture
def temporary():
    """A folder for temporary files with a short name, as Ray needs it; what is still in it is a leftover."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def started(tmp_path: Path, name: str, temporary: Path) -> tuple[subprocess.Popen[str], set[int]]:
    """A program of its own process group, once two of its tasks (one if serial) are under way."""
    workers = 1 if name == "serial" else 2
    items = [str(tmp_path / f"task-{number}") for number in range(workers)]
    program = tmp_path / "program.py"
    program.write_text(INTERRUPTED.format(here=HERE, name=name, workers=None if name == "serial" else 2, items=items))
    process = subprocess.Popen(
        [sys.executable, str(program)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "TMPDIR": str(temporary)},
    )
    assert wait_until(lambda: process.poll() is not None or all(Path(item).exists() for item in items), 60)
    assert process.poll() is None, process.communicate()
    return process, descendants(process.pid)


@pytest.mark.parametrize("name", ["serial", "local", RAY])
def test_an_interrupt_stops_everything_at_once_and_leaves_nothing(name, tmp_path, temporary) -> None:
    process, below = started(tmp_path, name, temporary)
    assert name == "serial" or len(below) >= 2
    begun = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)  # what a terminal does on Ctrl-C: every process of the group gets it
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (130, "", "")
    assert time.monotonic() - begun < (3.0 if name != "ray" else 12.0)
    assert wait_until(lambda: not any(alive(one) for one in below), 5)
    assert list(temporary.iterdir()) == []


def test_workers_do_not_outlive_a_parent_that_was_killed(tmp_path, temporary) -> None:
    process, below = started(tmp_path, "local", temporary)
    process.kill()
    process.communicate(timeout=30)
    assert len(below) >= 2
    assert wait_until(lambda: not any(alive(one) for one in below), 10)
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [("lokal", "did you mean local"), ("dask", "no such executor; there are local, serial, ray")],
)
def test_an_unknown_executor_is_named_with_those_there_are(text, message) -> None:
    with pytest.raises(UsageError, match=message):
        executor_from(text)


def test_workers_must_be_at_least_one() -> None:
    with pytest.raises(UsageError, match="--workers 0"):
        executor_from("local", 0)


@pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="Ray is installed")
def test_without_ray_the_message_says_how_to_get_it() -> None:
    with pytest.raises(UsageError, match=r'pip install "slipstream\[cluster\]"'):
        executor_from("ray")
