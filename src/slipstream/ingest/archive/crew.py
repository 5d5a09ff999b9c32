"""A fixed number of threads that work through tasks, and that nobody has to wait for.

The standard pool waits for its threads at the end of a process, and a thread that waits for a silent network may take
minutes. These are daemons: who is interrupted takes what is finished and leaves.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")


class Crew(Generic[Task, Result]):
    """Threads that apply one function to tasks.

    Attributes:
        outstanding: tasks given whose results have not been taken.
    """

    def __init__(self, work: Callable[[Task], Result], size: int) -> None:
        """``work`` returns what went wrong as a result; an exception that leaves it is a fault of the program."""
        self._work = work
        self._tasks: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[Result | None] = queue.SimpleQueue()
        self._size = size
        self.outstanding = 0
        for number in range(size):
            threading.Thread(target=self._run, name=f"archive-{number}", daemon=True).start()

    def give(self, task: Task) -> None:
        """Add a task."""
        self.outstanding += 1
        self._tasks.put(task)

    def take(self, timeout_s: float) -> Result | None:
        """The next result; None if there is none in time.

        Raises:
            RuntimeError: a thread died of a fault of the program; its traceback is on standard error.
        """
        try:
            result = self._results.get(timeout=timeout_s)
        except queue.Empty:
            return None
        self.outstanding -= 1
        if result is None:
            raise RuntimeError("a worker died; see the traceback above")
        return result

    def dismiss(self) -> None:
        """Forget the tasks not begun and let every thread end after the one it is at."""
        try:
            while True:
                self._tasks.get_nowait()
                self.outstanding -= 1
        except queue.Empty:
            pass  # that is what was wanted: none is left
        for _ in range(self._size):
            self._tasks.put(None)

    def _run(self) -> None:
        while (task := self._tasks.get()) is not None:
            result: Result | None = None
            try:
                result = self._work(task)
            finally:
                self._results.put(result)
