"""One task, wherever it runs: the call, its outcome as something that travels, and what all tasks share.

Every executor goes through :func:`run_task`, the serial one included, so a task meets the same conditions everywhere:
what is shared is read-only, a result is a copy of its own, a failure comes back as text (an exception of an unknown
library need not survive the way between processes), and linear algebra runs on one thread. The last is not about
speed: a matrix product summed by two threads differs from one summed by one in its last bits.
"""

from __future__ import annotations

import io
import os
import pickle
import reprlib
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType, TracebackType
from typing import Any

import numpy as np

from slipstream.errors import SlipstreamError, UsageError

Shared = Mapping[str, object]

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)
"""What libraries of linear algebra look up in the environment when they are loaded."""

_ITEM_TEXT = 80


class TaskError(SlipstreamError):
    """A task failed. The message names the item and ends with the last line of the traceback.

    Attributes:
        index: position of the item among those given.
        trace: the whole traceback, for a log.
    """

    def __init__(self, message: str, index: int, trace: str) -> None:
        super().__init__(message)
        self.index = index
        self.trace = trace


class TaskRequestError(TaskError, UsageError):
    """A task found that what was asked, or the data it was given, cannot be used."""


class WorkerDied(SlipstreamError):
    """A worker process ended in the middle of a task: killed, out of memory, or crashed in compiled code."""


@dataclass(frozen=True)
class Done:
    """A finished task; ``payload`` is its pickled result."""

    payload: bytes

    def value(self) -> Any:
        """The result, a fresh copy with writable arrays."""
        return pickle.loads(self.payload)  # noqa: S301 - written by run_task


@dataclass(frozen=True)
class Failed:
    """A failed task: the last line of its traceback, where it was raised, and the whole of it.

    ``unusable`` is true if the task itself reported a request or data that cannot be used.
    """

    last_line: str
    trace: str
    unusable: bool

    def error(self, index: int, count: int, item: object) -> TaskError:
        """The exception to raise for the item at ``index`` of ``count``."""
        kind = TaskRequestError if self.unusable else TaskError
        return kind(f"task {index + 1} of {count}, {item_text(item)}: {self.last_line}", index, self.trace)


Outcome = Done | Failed


def run_task(function: Callable[..., Any], item: object, shared: Shared | None) -> Outcome:
    """Call ``function(item)``, or ``function(item, shared)`` if anything is shared, and pack what comes of it.

    A keyboard interrupt passes through; any other failure, that of pickling the result included, becomes a
    :class:`Failed`.
    """
    report = _FailureReport()
    with one_thread(), report:
        value = function(item) if shared is None else function(item, shared)
        return Done(pickle.dumps(value, protocol=5))
    return report.failed()


class _FailureReport:
    """Holds the exception that ended its block, so that it can be reported to the process that asked for the task."""

    def __init__(self) -> None:
        self._error: BaseException | None = None

    def __enter__(self) -> None:
        return

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        # A task that calls sys.exit has failed as well: it must not end its worker.
        self._error = error if isinstance(error, Exception | SystemExit) else None
        return self._error is not None

    def failed(self) -> Failed:
        error = self._error
        if error is None:
            raise RuntimeError("no failure was reported")
        where = traceback.extract_tb(error.__traceback__)[-1]
        message = " ".join(str(error).split())
        place = f"{os.path.basename(where.filename)}:{where.lineno} in {where.name}"  # noqa: PTH119 - may be no path
        return Failed(
            last_line=f"{type(error).__name__}: {message} ({place})",
            trace="".join(traceback.format_exception(error)),
            unusable=isinstance(error, UsageError),
        )


def item_text(item: object) -> str:
    """An item as it is shown to a person: its repr on one line, shortened."""
    text = " ".join(reprlib.repr(item).split())
    return text if len(text) <= _ITEM_TEXT else f"{text[: _ITEM_TEXT - 3]}..."


def function_name(function: Callable[..., Any]) -> str:
    """``module:name`` of a function that other processes can import.

    Raises:
        UsageError: it is a lambda, a nested function, a method or a callable object.
    """
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    if module is None or name is None or "<" in name or "." in name:
        raise UsageError(f"{item_text(function)} cannot be called from another process; use a function of a module")
    return f"{module}:{name}"


class _SharedPickler(pickle.Pickler):
    """Sends the data of every array out of band, that of strided views included (pickle would copy those in band)."""

    def reducer_override(self, value: object) -> Any:
        if type(value) is np.ndarray and not (value.flags.c_contiguous or value.flags.f_contiguous):
            return np.ascontiguousarray(value).__reduce_ex__(5)
        return NotImplemented


def pack(shared: Shared) -> list[memoryview]:
    """What is shared as flat read-only byte blocks, without copying arrays: first the frame, then each array's data."""
    frame = io.BytesIO()
    blocks: list[pickle.PickleBuffer] = []
    _SharedPickler(frame, protocol=5, buffer_callback=blocks.append).dump(dict(shared))
    return [frame.getbuffer().toreadonly(), *(block.raw().toreadonly() for block in blocks)]


def unpack(blocks: Sequence[Any]) -> Shared:
    """What :func:`pack` packed; its arrays lie in ``blocks`` and are read-only if those are."""
    return MappingProxyType(pickle.loads(blocks[0], buffers=blocks[1:]))  # noqa: S301 - written by pack


@contextmanager
def one_thread() -> Iterator[None]:
    """Linear algebra inside the block runs on one thread; a third of a millisecond."""
    from threadpoolctl import threadpool_limits

    # The environment is for libraries that the block is the first to load, the limit for those already here.
    with environment(dict.fromkeys(THREAD_VARIABLES, "1")), threadpool_limits(limits=1):
        yield


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """The environment with ``values`` in it for as long as the block lasts; processes started inside keep them."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
