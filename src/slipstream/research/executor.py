"""The executor port: the same research on one core, on all cores, or on a cluster, with the same bits as a result.

    serial            in this process, one item after the other; the reference, and the one to debug with
    local             worker processes on this machine
    ray               a Ray cluster of its own on this machine, for as long as the executor is open
    ray://host:port   a Ray cluster that is already there

A study is a function and a list of items. The function is a module's own (workers import it by name) and takes an item
and, if anything is shared, a read-only mapping of it; whatever is large and the same for all items belongs there, for
it travels once per worker and not once per task. Random numbers must follow from the item
(:func:`~slipstream.research.content.task_generator`). Then the results are equal bit for bit whatever the executor and
the number of workers, on machines whose processors are alike.
"""

from __future__ import annotations

import difflib
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Generator, Hashable, Iterable, Sequence
from contextlib import closing
from types import TracebackType
from typing import Any, Self, TypeVar

from slipstream.errors import UsageError
from slipstream.research.tasks import (
    Failed,
    Outcome,
    Shared,
    function_name,
    pack,
    run_task,
    unpack,
)

Item = TypeVar("Item")
Result = TypeVar("Result")
Handle = TypeVar("Handle", bound=Hashable)

Progress = Callable[[int, int], None]
"""``progress(done, total)``: called once before the first result and after each, in the calling process."""

Outcomes = Generator[tuple[int, Outcome], None, None]

_NAMES = ("local", "serial", "ray", "ray://host:port")


class Executor(ABC):
    """Runs tasks. Use it as a context manager, or call :meth:`close`: workers live until then."""

    def map(
        self,
        function: Callable[..., Result],
        items: Sequence[Item],
        *,
        shared: Shared | None = None,
        progress: Progress | None = None,
    ) -> list[Result]:
        """``[function(item) for item in items]``, in order; ``function(item, shared)`` if anything is shared.

        An interrupt stops the workers at once and leaves none behind. After a failed task no new one is begun; those
        that run are awaited, and the executor can be used again.

        Args:
            function: of a module, importable by name where the workers are.
            items: small and picklable.
            shared: name -> value, large and read-only; numpy arrays in it, at any depth, are not copied per task.
            progress: told how many tasks are done.

        Raises:
            TaskError: a task failed; the first one in order is named (TaskRequestError, exit code 2, if what it
                reported was a UsageError).
            WorkerDied: a worker was killed or crashed.
            UsageError: the function cannot be imported by name.
        """
        results: dict[int, Result] = {}
        if progress is not None:
            progress(0, len(items))
        with closing(self.stream(function, items, shared=shared)) as finished:
            for index, result in finished:
                results[index] = result
                if progress is not None:
                    progress(len(results), len(items))
        return [results[index] for index in range(len(items))]

    def stream(
        self, function: Callable[..., Result], items: Sequence[Item], *, shared: Shared | None = None
    ) -> Generator[tuple[int, Result], None, None]:
        """``(index, result)`` of each item as it is finished, in any order; else as :meth:`map`.

        Close the generator if you stop before its end: tasks that still run are stopped then.
        """
        function_name(function)
        failures: dict[int, Failed] = {}
        with closing(self._outcomes(function, items, shared)) as outcomes:
            for index, outcome in outcomes:
                if isinstance(outcome, Failed):
                    failures[index] = outcome
                else:
                    yield index, outcome.value()
        if failures:
            first = min(failures)
            raise failures[first].error(first, len(items), items[first])

    @abstractmethod
    def _outcomes(self, function: Callable[..., Any], items: Sequence[Any], shared: Shared | None) -> Outcomes:
        """Outcomes as they come. Begins no task after a failed one; stops all of them if it is closed early."""

    def close(self) -> None:
        """End the workers. The executor starts new ones if it is used again."""
        return

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class SerialExecutor(Executor):
    """One item after the other, in this process."""

    def _outcomes(self, function: Callable[..., Any], items: Sequence[Any], shared: Shared | None) -> Outcomes:
        # Through the same packing as elsewhere, so that a task that writes into what is shared fails here as well.
        held = None if shared is None else unpack(pack(shared))
        for index, item in enumerate(items):
            outcome = run_task(function, item, held)
            yield index, outcome
            if isinstance(outcome, Failed):
                return


def executor_from(text: str, workers: int | None = None) -> Executor:
    """The executor a user names by ``--executor``.

    Args:
        text: ``local``, ``serial``, ``ray`` or ``ray://host:port``.
        workers: worker processes of ``local`` and ``ray`` (default: one per core this process may use).

    Raises:
        UsageError: there is no such executor, Ray is not installed, or ``workers`` does not fit.
    """
    if workers is not None and workers < 1:
        raise UsageError(f"--workers {workers}: it takes at least one")
    if text == "serial":
        return SerialExecutor()
    if text == "local":
        from slipstream.research.local_executor import LocalExecutor

        return LocalExecutor(workers)
    if text == "ray" or text.startswith("ray://"):
        from slipstream.research.ray_executor import RayExecutor

        return RayExecutor("local" if text == "ray" else text, workers)
    near = difflib.get_close_matches(text, _NAMES, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(_NAMES)}."
    raise UsageError(f"--executor {text}: no such executor; {hint}")


def usable_cores() -> int:
    """Cores this process may run on, which in a container can be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def in_flight(
    count: int,
    window: int,
    running: dict[Handle, int],
    submit: Callable[[int], Handle],
    wait: Callable[[Collection[Handle]], Iterable[Handle]],
    outcome: Callable[[Handle], Outcome],
) -> Outcomes:
    """Keep up to ``window`` of ``count`` tasks under way and yield each outcome as it comes.

    Tasks are begun in order and none after a failed one, so the first failure in order is always among the outcomes.

    Args:
        count: tasks there are.
        window: tasks handed to the workers at a time, somewhat more than there are workers.
        running: handle -> index of the tasks under way; kept up to date for the caller.
        submit: begins the task of an index.
        wait: those of the handles that are finished, at least one.
        outcome: of a finished handle.
    """
    following = 0
    failed = False
    while True:
        while not failed and following < count and len(running) < window:
            running[submit(following)] = following
            following += 1
        if not running:
            return
        for handle in wait(list(running)):
            result = outcome(handle)
            failed |= isinstance(result, Failed)
            yield running.pop(handle), result
