"""A Ray cluster that somebody else has started, and what joining one leaves behind in this process.

Needs the extra ``cluster``; ``.ci/run`` runs it with it. The contract all executors share is in ``test_executors``.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import executor_tasks as tasks
import pytest

from slipstream.errors import SlipstreamError, UsageError
from slipstream.research.executor import SerialExecutor, executor_from

pytest.importorskip(
    "ray", reason="Ray is not installed; the cluster extra brings it, and .ci/run runs this test with it"
)


@pytest.fixture
def standing_cluster(monkeypatch):
    """A Ray cluster of two worker processes that somebody else has started."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # or Ray leaves a key in the home directory
    folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        inner, outer = one.getsockname()[1], two.getsockname()[1]
    words = ["start", "--head", "--block", "--num-cpus=2", "--include-dashboard=false", "--disable-usage-stats"]
    words += ["--min-worker-port=0", "--max-worker-port=0"]  # any free ones: the usual range may hold the ports above
    words += ["--node-ip-address=127.0.0.1", f"--port={inner}", f"--ray-client-server-port={outer}"]
    log = (Path(folder.name) / "log").open("wb")
    process = subprocess.Popen(
        [sys.executable, "-m", "ray.scripts.scripts", *words, f"--temp-dir={folder.name}"],
        stdout=log,
        stderr=subprocess.STDOUT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )

    def ready() -> bool:
        # The port of the door may listen before there is anything behind it, or the other way round.
        with socket.socket() as door:
            listens = door.connect_ex(("127.0.0.1", outer)) == 0
        return listens and "block forever" in Path(log.name).read_text()

    try:
        deadline = time.monotonic() + 60
        while not ready():
            assert process.poll() is None, Path(log.name).read_text()
            assert time.monotonic() < deadline, "the cluster did not start in a minute"
            time.sleep(0.1)
        yield f"127.0.0.1:{outer}", process
    finally:
        process.terminate()
        process.wait(timeout=30)
        log.close()
        folder.cleanup()


def test_a_standing_cluster_gives_the_same_bits_and_is_left_standing(standing_cluster) -> None:
    address, process = standing_cluster
    shared = tasks.large_and_read_only()
    expected = SerialExecutor().map(tasks.study, [4, 8, 12, 24, 48], shared=shared)
    for _ in range(2):
        with executor_from(f"ray://{address}") as cluster:
            got = cluster.map(tasks.study, [4, 8, 12, 24, 48], shared=shared)
            assert tasks.same(got, expected)
    assert process.poll() is None


def test_a_cluster_that_is_not_there_or_not_named_in_full_is_refused_at_once() -> None:
    with pytest.raises(UsageError, match="write it as ray://host:port"):
        executor_from("ray://somewhere").map(tasks.square, [1])
    with pytest.raises(SlipstreamError, match=r"--executor ray://127\.0\.0\.1:1: the Ray cluster cannot be reached"):
        executor_from("ray://127.0.0.1:1").map(tasks.square, [1])


def test_a_cluster_of_our_own_leaves_no_setting_behind_and_no_key_in_the_home_directory(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    before = {name: value for name, value in os.environ.items() if name.startswith("RAY_")}
    with executor_from("ray", 1) as opened:
        assert opened.map(tasks.square, [3]) == [9]
    assert {name: value for name, value in os.environ.items() if name.startswith("RAY_")} == before
    assert list(tmp_path.iterdir()) == []
