"""Worker processes on this machine.

Workers are spawned, not forked: each is a clean interpreter, whatever threads and locks the parent holds. They live as
long as the executor is open. What is shared is written once to a file of flat blocks and mapped into each worker, so
all of them read the same pages.

Three things end a worker at once: the parent kills it (after an interrupt, or when results are no longer wanted), the
parent dies (a thread in the worker watches for that), or the executor is closed. A Ctrl-C on the terminal reaches
only the parent: workers are started with the signal blocked, or each would print a traceback of its own.
"""

from __future__ import annotations

import mmap
import multiprocessing
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor
from concurrent.futures import wait as wait_for
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.context import SpawnContext, SpawnProcess
from pathlib import Path
from typing import Any

from slipstream.research.executor import Executor, Outcomes, in_flight, usable_cores
from slipstream.research.tasks import Outcome, Shared, WorkerDied, pack, run_task, unpack

_ALIGNMENT = 64
"""Bytes; arrays begin on a cache line, as numpy lets them begin."""


@dataclass(frozen=True)
class SharedFile:
    """Where the blocks of what is shared lie: offsets and lengths, bytes."""

    path: str
    spans: tuple[tuple[int, int], ...]


class _RecordingContext(SpawnContext):
    """Spawns processes and remembers them, for a pool does not say which are its own."""

    def __init__(self) -> None:
        super().__init__()
        self.started: list[SpawnProcess] = []

    def Process(self, *args: Any, **kwargs: Any) -> SpawnProcess:  # type: ignore[override]  # noqa: N802
        process = SpawnProcess(*args, **kwargs)
        self.started.append(process)
        return process


class LocalExecutor(Executor):
    """Worker processes on this machine, as many as there are cores by default."""

    def __init__(self, workers: int | None = None) -> None:
        self.workers = workers or usable_cores()
        self._pool: ProcessPoolExecutor | None = None
        self._context = _RecordingContext()
        self._folder: str | None = None
        self._shared_files = 0

    def _outcomes(self, function: Callable[..., Any], items: Sequence[Any], shared: Shared | None) -> Outcomes:
        if not items:
            return
        finished = False
        running: dict[Future[Outcome], int] = {}
        try:
            pool = self._open()
            file = None if shared is None else self._write(pack(shared))

            def submit(index: int) -> Future[Outcome]:
                # The pool spawns its processes here; they inherit what is blocked.
                with _interrupts_held_back():
                    return pool.submit(_in_worker, function, items[index], file)

            def outcome(future: Future[Outcome]) -> Outcome:
                return future.result()

            yield from in_flight(len(items), self.workers + 1, running, submit, _first_done, outcome)
            finished = True
            if file is not None:
                Path(file.path).unlink()
        except BrokenProcessPool as broken:
            numbers = ", ".join(str(index + 1) for index in sorted(running.values()))
            raise WorkerDied(
                f"a worker process died while tasks {numbers} of {len(items)} were under way (killed, or out of "
                "memory?); try fewer --workers"
            ) from broken
        finally:
            if not finished:
                self._stop(at_once=True)

    def close(self) -> None:
        """End the workers and remove what they shared."""
        self._stop(at_once=False)

    def _open(self) -> ProcessPoolExecutor:
        if self._pool is None:
            self._folder = tempfile.mkdtemp(prefix="slipstream-shared-")
            self._pool = ProcessPoolExecutor(
                self.workers, mp_context=self._context, initializer=_begin, initargs=(self._folder,)
            )
        return self._pool

    def _write(self, blocks: Sequence[memoryview]) -> SharedFile:
        self._shared_files += 1
        path = Path(str(self._folder)) / f"{self._shared_files}.blocks"
        spans = []
        with path.open("wb") as stream:
            for block in blocks:
                stream.write(b"\0" * (-stream.tell() % _ALIGNMENT))
                spans.append((stream.tell(), block.nbytes))
                stream.write(block)
        return SharedFile(str(path), tuple(spans))

    def _stop(self, *, at_once: bool) -> None:
        pool, self._pool = self._pool, None
        folder, self._folder = self._folder, None
        if at_once:
            for process in self._context.started:
                if process.pid is not None:
                    process.kill()
        if pool is not None:
            pool.shutdown(wait=True, cancel_futures=True)
        self._context.started.clear()
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def _first_done(futures: Collection[Future[Outcome]]) -> list[Future[Outcome]]:
    done = wait_for(futures, return_when=FIRST_COMPLETED).done
    return [future for future in futures if future in done]


@contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Until the end of the block an interrupt waits; what is started inside never receives one."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_attached: dict[SharedFile, Shared] = {}
"""In a worker: what is shared by the tasks at hand. One entry at most."""


def _begin(folder: str) -> None:
    threading.Thread(target=_end_with_the_parent, args=(folder,), name="end-with-the-parent", daemon=True).start()


def _end_with_the_parent(folder: str) -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)


def _in_worker(function: Callable[..., Any], item: object, file: SharedFile | None) -> Outcome:
    return run_task(function, item, None if file is None else _attach(file))


def _attach(file: SharedFile) -> Shared:
    if file not in _attached:
        _attached.clear()
        with Path(file.path).open("rb") as stream:
            pages = memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
        _attached[file] = unpack([pages[start : start + length] for start, length in file.spans])
    return _attached[file]
