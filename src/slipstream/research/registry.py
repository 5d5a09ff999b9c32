"""The experiment registry: every research run with what went in and what came out, in one SQLite file.

It exists so that the number of trials behind a result is known: a Sharpe ratio picked as the best of two hundred must
be deflated by two hundred (Bailey and Lopez de Prado 2014), and only a record kept at the time knows the count. It is
therefore append-only. A run is two events, its start and its end, in a table whose rows may be neither changed nor
deleted (triggers) and are chained: the hash of each covers its content and the hash before it, so a row edited from
outside is found by :meth:`Registry.verify`. What a chain cannot show by itself is a tail cut off: note the head that
``verify`` returns where it matters.

An event is on disk before the call that appends it returns (WAL, synchronous=FULL); writers queue at SQLite's lock.
A run holds a kernel lock (flock) on a file of its own for as long as its process lives. Whoever opens the registry
next and finds a run that has started, has not ended, and can be locked, knows its process is gone and appends
``interrupted``. Process numbers, which are reused, play no part in it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import secrets
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal, Self

from slipstream.errors import DataError, SlipstreamError, UsageError
from slipstream.research.content import plain_json
from slipstream.research.provenance import versions as versions_in_use

Status = Literal["running", "finished", "interrupted", "failed"]

_FORMAT = 1
_GENESIS = "0" * 64
_BUSY_S = 60.0
_SCHEMA = """
CREATE TABLE events (
    number INTEGER PRIMARY KEY,
    at_ms INTEGER NOT NULL,
    run TEXT NOT NULL,
    event TEXT NOT NULL CHECK (event IN ('started', 'finished', 'interrupted', 'failed')),
    body TEXT NOT NULL,
    previous TEXT NOT NULL,
    hash TEXT NOT NULL UNIQUE,
    UNIQUE (run, event)
) STRICT;
CREATE TRIGGER events_are_not_changed BEFORE UPDATE ON events
    BEGIN SELECT RAISE(ABORT, 'the registry is append-only'); END;
CREATE TRIGGER events_are_not_deleted BEFORE DELETE ON events
    BEGIN SELECT RAISE(ABORT, 'the registry is append-only'); END;
CREATE UNIQUE INDEX a_run_ends_once ON events (run) WHERE event <> 'started';
"""


class RegistryError(SlipstreamError):
    """The registry refuses what was asked of it."""


class ChainBroken(RegistryError):
    """An event is not what was written, or one is missing; the message gives its number."""


@dataclass(frozen=True)
class Run:
    """One recorded run.

    Attributes:
        id: of this run, 12 hex digits.
        kind: what was done, such as ``horizon``; trials are counted per kind.
        status: ``running``, ``finished``, ``interrupted`` (by the user, or its process is gone) or ``failed``.
        started_ms, finished_ms: Unix ms; the latter None while it runs. For a process that is gone it is the moment
            that was noticed.
        config: as given; numbers that are not finite are None.
        result: as given to :meth:`RunInProgress.finish`; None without one.
        error: why it failed or was interrupted; None otherwise.
        data_hash: content hash of the data.
        seed: of the random numbers; None if there were none.
        alternatives: how many alternatives the run compared (a search over five horizons compares five).
        versions: of Python, this package, its code, and the numerical libraries.
    """

    id: str
    kind: str
    status: Status
    started_ms: int
    finished_ms: int | None
    config: dict[str, Any]
    result: Any
    error: str | None
    data_hash: str
    seed: int | None
    alternatives: int
    versions: dict[str, str]


@dataclass(frozen=True)
class Chain:
    """The state of an intact chain: how many events, and the hash of the last."""

    events: int
    head: str


class RunInProgress:
    """A run between its start and its end; :meth:`Registry.run` hands it out."""

    def __init__(self, registry: Registry, run: str) -> None:
        self._registry = registry
        self.id = run
        self.ended = False

    def finish(self, result: object) -> None:
        """Record the result (numbers, text, arrays, lists, mappings, dataclasses) and end the run.

        Raises:
            RegistryError: the run has ended.
            ContentError: the result has no JSON form.
        """
        self._end("finished", {"result": result})

    def _end(self, event: str, body: Mapping[str, object]) -> None:
        if self.ended:
            raise RegistryError(f"run {self.id} has ended already; start another")
        self._registry._append(self.id, event, plain_json(body))
        self.ended = True


class Registry:
    """An open registry. A context manager; any number of processes may have the same file open.

    Args:
        path: the SQLite file; made, with its folder, if absent.
        clock: gives the present moment, Unix ms.

    Raises:
        DataError: the file is no registry, or of a newer format.
    """

    def __init__(self, path: str | Path, clock: Callable[[], int]) -> None:
        self.path = Path(path)
        self._clock = clock
        self._live = self.path.with_name(f"{self.path.name}.live")
        with self._unusable_file_named(), ExitStack() as undo:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(self.path, timeout=_BUSY_S, isolation_level=None)
            undo.callback(self._database.close)
            self._recognise()
            self._live.mkdir(exist_ok=True)
            # One at a time: turning the log on, making the tables and looking after the dead must not meet.
            with (self._live / "opening").open("wb") as gate:
                fcntl.flock(gate, fcntl.LOCK_EX)
                self._set_up()
                self._mark_the_dead()
            undo.pop_all()

    def close(self) -> None:
        """Close the file; runs in progress stay so."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def run(
        self,
        kind: str,
        config: Mapping[str, object],
        *,
        data_hash: str,
        seed: int | None = None,
        alternatives: int = 1,
        versions: Mapping[str, str] | None = None,
    ) -> Iterator[RunInProgress]:
        """Record a run: its start on entry, its end when ``finish`` is called or the block is left.

        A block left by an exception ends the run as ``failed``, by an interrupt or an exit as ``interrupted``; the
        exception goes on. Numbers that are not finite are written as null.

        Args:
            kind: what is done, such as ``horizon``.
            config: everything that was chosen. No paths, no clock times, no seed: two runs with equal configurations
                count as one trial.
            data_hash: :func:`~slipstream.research.content.content_hash` of the data.
            seed: of the random numbers.
            alternatives: how many alternatives the run compares, at least 1.
            versions: default :func:`~slipstream.research.provenance.versions`.

        Raises:
            RegistryError: the block ended without a result.
            UsageError: ``alternatives`` is less than 1, or the configuration has no JSON form.
        """
        if alternatives < 1:
            raise UsageError(f"a run compares at least one alternative, not {alternatives}")
        body = {
            "kind": kind,
            "config": dict(config),
            "data_hash": data_hash,
            "seed": seed,
            "alternatives": alternatives,
            "versions": dict(versions_in_use() if versions is None else versions),
        }
        run = secrets.token_hex(6)
        with self._alive(run):
            self._append(run, "started", plain_json(body))
            progress = RunInProgress(self, run)
            try:
                yield progress
            except BaseException as error:
                if not progress.ended:
                    event = "failed" if isinstance(error, Exception) else "interrupted"
                    text = " ".join(str(error).split())
                    progress._end(event, {"error": f"{type(error).__name__}: {text}" if text else type(error).__name__})
                raise
            if not progress.ended:
                progress._end("failed", {"error": "it ended without a result"})
                raise RegistryError(f"run {run} ({kind}) ended without a result; call finish(result) at its end")

    def runs(self, kind: str | None = None) -> list[Run]:
        """All runs, or those of a kind, in the order of their starts."""
        rows = self._rows(
            "SELECT s.run, s.at_ms, s.body, e.at_ms, e.event, e.body FROM events s "
            "LEFT JOIN events e ON e.run = s.run AND e.event <> 'started' WHERE s.event = 'started' ORDER BY s.number"
        )
        everything = [_as_run(*row) for row in rows]
        return [run for run in everything if kind in (None, run.kind)]

    def trials(self, kind: str, *, data_hash: str | None = None) -> int:
        """How many alternatives have been tried: the N of the deflated Sharpe ratio and of the PBO.

        Runs with the same configuration count once, with the most alternatives any of them compared: a repetition, a
        resumption or another seed is no new idea. Failed runs showed nothing and do not count. Interrupted and
        running ones do: who stops a run has seen something of it.

        Args:
            kind: of the runs.
            data_hash: count only runs on these data (default: on any).
        """
        most: dict[str, int] = {}
        for run in self.runs(kind):
            if run.status != "failed" and data_hash in (None, run.data_hash):
                config = plain_json(run.config)
                most[config] = max(run.alternatives, most.get(config, 0))
        return sum(most.values())

    def verify(self) -> Chain:
        """Go through the chain from its beginning.

        Returns:
            Its length and the hash of its last event.

        Raises:
            ChainBroken: an event was changed, is missing, or does not follow the one before.
        """
        head, count = _GENESIS, 0
        rows = self._rows("SELECT number, at_ms, run, event, body, previous, hash FROM events ORDER BY number")
        for number, at_ms, run, event, body, previous, stated in rows:
            count += 1
            if number != count or previous != head or stated != _link(number, at_ms, run, event, body, previous):
                raise ChainBroken(
                    f"{self.path}: event {count} (run {run}) is not what was written, or one before it is missing; "
                    "restore the file from a backup"
                )
            head = stated
        return Chain(count, head)

    def _recognise(self) -> int:
        """The file's format, 0 if it is empty. Refuses a foreign file before anything is written."""
        ((form, tables),) = self._rows(
            "SELECT user_version, (SELECT count(*) FROM sqlite_master) FROM pragma_user_version"
        )
        if form > _FORMAT:
            raise DataError(f"{self.path}: its format is {form}, this version reads {_FORMAT}; upgrade slipstream")
        if form == 0 and tables:
            raise DataError(f"{self.path}: a database, but no experiment registry; name another file")
        return int(form)

    def _set_up(self) -> None:
        if self._recognise() == 0:
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {_FORMAT}; COMMIT;")
        self._database.execute("PRAGMA synchronous = FULL")

    def _rows(self, query: str, *values: str) -> list[Any]:
        with self._unusable_file_named():
            return self._database.execute(query, values).fetchall()

    @contextmanager
    def _unusable_file_named(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as problem:
            raise DataError(f"{self.path}: cannot be used as an experiment registry ({problem})") from problem

    def _append(self, run: str, event: str, body: str) -> None:
        """One event at the end of the chain, durable on return."""
        try:
            with self._transaction():
                last = self._database.execute("SELECT number, hash FROM events ORDER BY number DESC LIMIT 1").fetchone()
                number, previous = (last[0] + 1, last[1]) if last else (1, _GENESIS)
                at_ms = self._clock()
                row = (number, at_ms, run, event, body, previous, _link(number, at_ms, run, event, body, previous))
                self._database.execute("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        except sqlite3.Error as problem:
            raise RegistryError(f"{self.path}: run {run} could not be recorded as {event} ({problem})") from problem

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._database.execute("COMMIT")
        finally:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")

    @contextmanager
    def _alive(self, run: str) -> Iterator[None]:
        """Holds the run's lock, which tells others that its process is there."""
        file = self._live / run
        with file.open("wb") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            try:
                yield
            finally:
                file.unlink(missing_ok=True)

    def _mark_the_dead(self) -> None:
        begun = "SELECT run FROM events GROUP BY run HAVING count(*) = 1"
        for (run,) in self._rows(begun):
            file = self._live / run
            with file.open("ab") as stream:
                if not _try_lock(stream):
                    continue
                # Nobody else writes about this run now. It may have ended in good order since it was read.
                if self._rows("SELECT count(*) FROM events WHERE run = ?", run) == [(1,)]:
                    self._append(run, "interrupted", plain_json({"error": "its process ended without a word"}))
                file.unlink(missing_ok=True)


def _try_lock(stream: IO[bytes]) -> bool:
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _link(number: int, at_ms: int, run: str, event: str, body: str, previous: str) -> str:
    text = json.dumps([number, at_ms, run, event, body, previous], separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _as_run(
    run: str, started_ms: int, body: str, finished_ms: int | None, event: Status | None, end: str | None
) -> Run:
    start = json.loads(body)
    outcome = json.loads(end) if end is not None else {}
    return Run(
        id=run,
        kind=start["kind"],
        status=event or "running",
        started_ms=started_ms,
        finished_ms=finished_ms,
        config=start["config"],
        result=outcome.get("result"),
        error=outcome.get("error"),
        data_hash=start["data_hash"],
        seed=start["seed"],
        alternatives=start["alternatives"],
        versions=start["versions"],
    )
