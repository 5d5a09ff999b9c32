"""Fetching a plan: many objects at a time, each as a stream, and what they hold made safe in batches.

Workers are threads. Unpacking and waiting for the network release the interpreter and decoding is compiled, so one
process parses some 200 MB of text a second, faster than the archive usually delivers, and nothing has to be copied
between processes. The caller's thread stores: rows first, then the lines that say so, so a process killed at any
instant repeats at most the work since the last batch and never doubles a row.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain, islice

from slipstream.errors import SlipstreamError
from slipstream.ingest.archive.book_lines import BookCounts
from slipstream.ingest.archive.bucket import AccessRefused, Bucket, ObjectAbsent, StoreFault
from slipstream.ingest.archive.crew import Crew
from slipstream.ingest.archive.lz4_lines import DamagedObject, unpacked
from slipstream.ingest.archive.plan import Plan, Wanted
from slipstream.ingest.archive.progress import Entry, Progress, State, entry
from slipstream.ingest.archive.sinks import NOTHING, Content, Sink

_ATTEMPTS = 3
_FAULTS_IN_A_ROW = 20
_LOOK_S = 0.25
_GRACE_S = 2.0
"""How long an interrupted run waits for objects under way; a silent network must not hold it up."""


@dataclass(frozen=True)
class Pace:
    """When a batch is stored: after ``seconds``, but at least ``share`` times what the last one took, or when full."""

    seconds: float = 5.0
    share: float = 10.0
    objects: int = 10_000
    rows: int = 1_000_000


@dataclass(frozen=True)
class Outcome:
    """What became of one object; ``store_failed`` where the store, and not the object, is at fault."""

    wanted: Wanted
    state: State
    content: Content = NOTHING
    why: str = ""
    store_failed: bool = False


@dataclass
class FetchReport:
    """What a run did with one archive: counts of objects, rows and bytes; ``failed`` and ``refused`` say why."""

    done: int = 0
    absent: int = 0
    rows: int = 0
    bytes: int = 0
    counts: BookCounts = field(default_factory=BookCounts)
    failed: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    interrupted: bool = False


class _Stopped(SlipstreamError):
    """A worker noticed that the run is to end; its object counts as not begun."""


class Fetch:
    """One archive's run."""

    def __init__(
        self,
        plan: Plan,
        bucket: Bucket,
        sink: Sink,
        progress: Progress,
        *,
        workers: int,
        stop: threading.Event,
        clock: Callable[[], float],
        on_object: Callable[[int], None],
        pace: Pace = Pace(),
        place: str = "",
    ) -> None:
        """A run over ``plan``.

        Args:
            plan: what to fetch.
            bucket: where from.
            sink: where to.
            progress: where to write down what is done.
            workers: objects at a time.
            stop: set by anyone to end early, with what has arrived stored.
            clock: seconds that never run backwards.
            on_object: called with an object's bytes when it has been dealt with.
            pace: how often to store.
            place: the lake, for progress lines of rows that lie nowhere else.
        """
        self._plan, self._bucket, self._sink, self._progress = plan, bucket, sink, progress
        self._workers, self._stop, self._clock, self._on_object = workers, stop, clock, on_object
        self._pace, self._place = pace, place
        self._abort = threading.Event()
        self._batch: list[Outcome] = []
        self._stored_at, self._stored_in = clock(), 0.0
        self._faults = 0
        self.report = FetchReport()

    def run(self) -> FetchReport:
        """Fetch and store until the plan is done or ``stop`` is set.

        Raises:
            AccessRefused: the store refuses this account; what had arrived is stored.
            StoreFault: the store failed many times in a row.
            SlipstreamError: the disk refused; what was stored before is safe.
        """
        self._write_absent()
        pending = iter(self._plan.pending)
        crew: Crew[Wanted, Outcome | SlipstreamError] = Crew(self._fetched, self._workers)
        try:
            while not self._stop.is_set():
                for wanted in islice(pending, 2 * self._workers - crew.outstanding):
                    crew.give(wanted)
                if not crew.outstanding:
                    break
                self._take(crew.take(_LOOK_S))
                if self._due():
                    self._store()
            self._abort.set()
            crew.dismiss()
            leave_at = self._clock() + _GRACE_S
            while crew.outstanding and self._clock() < leave_at:
                self._take(crew.take(_LOOK_S))
        finally:
            self._abort.set()
            crew.dismiss()
        self._store()
        self.report.interrupted = self._stop.is_set()
        return self.report

    def _fetched(self, wanted: Wanted) -> Outcome | SlipstreamError:
        """One object, or why nothing else can go on either; runs in a worker's thread."""
        key = self._plan.archive.key_of(wanted.start_ms, wanted.coin)
        name = self._bucket.url(key)
        fault = ""
        for _ in range(_ATTEMPTS):
            try:
                return Outcome(wanted, "done", self._sink.read(unpacked(self._chunks(key), name), wanted, name))
            except ObjectAbsent:
                return Outcome(wanted, "absent")
            except DamagedObject as problem:
                return Outcome(wanted, "failed", why=str(problem))
            except StoreFault as problem:
                fault = str(problem)
            except (AccessRefused, _Stopped) as problem:
                return problem
            except OSError as problem:
                return SlipstreamError(f"{name}: its rows could not be kept ({problem}); make room, then run again")
        return Outcome(wanted, "failed", why=fault, store_failed=True)

    def _chunks(self, key: str) -> Iterator[bytes]:
        if self._abort.is_set():
            raise _Stopped
        for chunk in self._bucket.chunks(key):
            if self._abort.is_set():
                raise _Stopped
            yield chunk

    def _take(self, result: Outcome | SlipstreamError | None) -> None:
        if result is None or isinstance(result, _Stopped):
            return
        if isinstance(result, SlipstreamError):
            self._store()
            raise result
        self._batch.append(result)
        self._on_object(result.wanted.size)
        self._faults = self._faults + 1 if result.store_failed else 0
        if self._faults >= _FAULTS_IN_A_ROW:
            self._store()
            raise StoreFault(f"{_FAULTS_IN_A_ROW} objects in a row could not be had; the last: {result.why}")

    def _due(self) -> bool:
        if not self._batch:
            return False
        full = len(self._batch) >= self._pace.objects
        full = full or sum(outcome.content.rows for outcome in self._batch) >= self._pace.rows
        passed = self._clock() - self._stored_at
        return full or passed >= max(self._pace.seconds, self._pace.share * self._stored_in)

    def _store(self) -> None:
        """Make the batch safe, then write down that it is."""
        batch, self._batch = self._batch, []
        if not batch:
            return
        began = self._clock()
        done = [(outcome.wanted, outcome.content) for outcome in batch if outcome.state == "done"]
        refused = self._sink.store(done)
        settled = [self._unless_refused(outcome, refused) for outcome in batch]
        self._progress.add(list(chain.from_iterable(self._entries(outcome) for outcome in settled)))
        for outcome in settled:
            self._count(outcome)
        self.report.refused |= refused
        self._stored_at = self._clock()
        self._stored_in = self._stored_at - began

    def _unless_refused(self, outcome: Outcome, refused: Mapping[str, str]) -> Outcome:
        """A coin the lake did not take is not done; nor is an object of all coins of which it did not take one."""
        coin = outcome.wanted.coin
        why = next(iter(refused.values()), "") if coin is None else refused.get(coin, "")
        return replace(outcome, state="failed", why=why) if why and outcome.state == "done" else outcome

    def _entries(self, outcome: Outcome) -> list[Entry]:
        wanted = outcome.wanted
        coins = self._plan.coins if wanted.coin is None else (wanted.coin,)
        rows = outcome.content.rows if outcome.state == "done" else -1
        return [
            entry(self._plan.slots, wanted.start_ms, coin, outcome.state, rows=rows, place=self._place, why=outcome.why)
            for coin in coins
        ]

    def _count(self, outcome: Outcome) -> None:
        report = self.report
        if outcome.state == "done":
            report.done += 1
            report.rows += outcome.content.rows
            report.bytes += outcome.wanted.size
            report.counts += outcome.content.counts
        elif outcome.state == "absent":
            report.absent += 1
        else:
            key = self._plan.archive.key_of(outcome.wanted.start_ms, outcome.wanted.coin)
            report.failed[self._bucket.url(key)] = outcome.why

    def _write_absent(self) -> None:
        """What the listing did not show is absent; nobody asks for it one by one."""
        lines = [
            entry(self._plan.slots, start, name, "absent", place=self._place)
            for start, coin in self._plan.absent
            for name in (self._plan.coins if coin is None else (coin,))
        ]
        if lines:
            self._progress.add(lines)
        self.report.absent += len(self._plan.absent)
