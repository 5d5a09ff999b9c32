"""A Ray cluster, of its own on this machine or one that is already there.

Ray is the extra ``cluster`` and is imported only here, on first use. What is shared is put once into the cluster's
object store; each node fetches it once and its workers map it. A task whose worker or node is lost is run again by Ray
(three times); the result is the same, since it follows from the item.

The nodes of a standing cluster need this package in the version of the caller; a cluster of its own has it by
construction.
"""

from __future__ import annotations

import importlib.util
import os
import re
import secrets
import socket
import sys
import tempfile
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from slipstream.errors import SlipstreamError, UsageError
from slipstream.research.executor import Executor, Outcomes, in_flight, usable_cores
from slipstream.research.tasks import Outcome, Shared, WorkerDied, environment, pack, run_task, unpack

_LOCAL = "local"
_SHOWN = 200
"""Characters shown of a message of Ray's."""
_LONGEST_PLACE = 32
"""Characters of a folder under which Ray's sockets still have names the kernel allows (107 bytes)."""

_KNOCK_S = 10.0

_KEYS = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
_KEY = secrets.token_hex(32)
"""Proves to a cluster of our own that it is us; one per process, since Ray remembers the first it reads."""

_QUIET = {
    # No figures about this run are sent to anyone.
    "RAY_USAGE_STATS_ENABLED": "0",
    # Workers are this interpreter's own, however it was started; Ray would build each an environment under `uv run`.
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
}


class RayExecutor(Executor):
    """Tasks on a Ray cluster, started or joined at the first call.

    Args:
        address: ``local`` for a cluster of its own, or ``ray://host:port``.
        workers: worker processes of a cluster of its own (default: one per core).

    Raises:
        UsageError: Ray is not installed, or a number of workers was given for a standing cluster.
    """

    def __init__(self, address: str = _LOCAL, workers: int | None = None) -> None:
        if importlib.util.find_spec("ray") is None:
            raise UsageError('--executor ray: Ray is not installed; get it with: pip install "slipstream[cluster]"')
        if workers is not None and address != _LOCAL:
            raise UsageError(f"--workers: the cluster at {address} has the workers it has; leave the flag out")
        self.address = address
        self.workers = workers or usable_cores()
        self._connected = False
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._settings_before: dict[str, str] = {}

    def _outcomes(self, function: Callable[..., Any], items: Sequence[Any], shared: Shared | None) -> Outcomes:
        if not items:
            return
        import ray
        from ray.exceptions import RayError

        finished = False
        running: dict[Any, int] = {}
        try:
            self._connect()
            task = ray.remote(num_cpus=1)(_in_worker)
            # In a list, a reference is handed over as it is: the worker decides whether it has to fetch it.
            handed = None if shared is None else [ray.put(_blocks(shared))]
            token = secrets.token_hex(8)

            def submit(index: int) -> Any:
                return task.remote(function, items[index], handed, token)

            def wait(handles: Collection[Any]) -> list[Any]:
                done, _ = ray.wait(list(handles), num_returns=1)
                return list(done)

            def outcome(handle: Any) -> Outcome:
                result: Outcome = ray.get(handle)
                return result

            window = 2 * max(1, int(ray.cluster_resources().get("CPU", 1)))
            yield from in_flight(len(items), window, running, submit, wait, outcome)
            finished = True
        except RayError as lost:
            numbers = ", ".join(str(index + 1) for index in sorted(running.values()))
            raise WorkerDied(f"Ray did not finish tasks {numbers} of {len(items)}: {_one_line(lost)}") from lost
        finally:
            if not finished:
                self._abandon(list(running))

    def close(self) -> None:
        """Leave the cluster; end it if it is our own."""
        if self._connected:
            import ray

            self._connected = False
            ray.shutdown()
            # Ray leaves settings of this cluster in the environment, where they would spoil the next one.
            for name in [name for name in os.environ if name.startswith("RAY_")]:
                del os.environ[name]
            os.environ.update(self._settings_before)
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def _abandon(self, handles: Sequence[Any]) -> None:
        import ray

        if self._connected:
            # By force, or the cluster would wait for what they are doing.
            for handle in handles:
                ray.cancel(handle, force=True)
        self.close()

    def _connect(self) -> None:
        if self._connected:
            return
        own = self.address == _LOCAL
        settings: dict[str, Any] = {}
        variables = dict(_QUIET)
        self._settings_before = {name: value for name, value in os.environ.items() if name.startswith("RAY_")}
        if own:
            usual = tempfile.gettempdir()
            place = usual if len(usual) <= _LONGEST_PLACE else "/tmp"  # noqa: S108 - a fresh folder is made in it
            self._folder = tempfile.TemporaryDirectory(prefix="ray-", dir=place, ignore_cleanup_errors=True)
            settings = {"num_cpus": self.workers, "include_dashboard": False, "_temp_dir": self._folder.name}
            # Whatever this process can import, its workers can. (Not by Ray's runtime_env: the agent behind it does
            # not start from a path with a space.)
            variables["PYTHONPATH"] = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
            if not any(name in os.environ for name in _KEYS):
                # A key of our own: Ray would otherwise leave one in the home directory.
                os.environ[_KEYS[0]] = _KEY
        else:
            self._knock()
        with environment(variables):
            import ray

            if ray.is_initialized():
                raise UsageError("this process is connected to a Ray cluster already; close that executor first")
            # Set before the attempt: an interrupt in the middle must still take down what has been started.
            self._connected = True
            try:
                ray.init(address=self.address, logging_level="ERROR", log_to_driver=False, **settings)
            except (ConnectionError, RuntimeError) as problem:
                raise SlipstreamError(
                    f"--executor {self.address}: the Ray cluster cannot be reached: {_one_line(problem)}"
                ) from problem

    def _knock(self) -> None:
        """Ray tries for half a minute to reach a cluster that is not there."""
        host, _, port = self.address.removeprefix("ray://").rpartition(":")
        if not host or not port.isdecimal():
            raise UsageError(f"--executor {self.address}: write it as ray://host:port")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK_S).close()
        except OSError as problem:
            raise SlipstreamError(
                f"--executor {self.address}: the Ray cluster cannot be reached: {problem}"
            ) from problem


_attached: dict[str, Shared] = {}
"""In a worker: what is shared by the tasks at hand. One entry at most."""


def _in_worker(function: Callable[..., Any], item: object, handed: list[Any] | None, token: str) -> Outcome:
    if handed is None:
        return run_task(function, item, None)
    if token not in _attached:
        import ray

        _attached.clear()
        _attached[token] = unpack(ray.get(handed[0]))
    return run_task(function, item, _attached[token])


def _blocks(shared: Shared) -> list[Any]:
    import numpy as np

    # As arrays of bytes, which Ray keeps outside its own frame: read by mapping, and read-only.
    return [np.frombuffer(block, dtype=np.uint8) for block in pack(shared)]


def _one_line(error: BaseException) -> str:
    plain = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    return " ".join(plain.split())[:_SHOWN]
