"""A whole backfill: plan it, fetch it, resample it, and bring the lake level with the files.

The hourly CSV files are the home of the archive's mids and the lake holds the same rows; what one of them lost is made
good, from the other or from the archive. Contexts and fills live in the lake alone, so what is done counts only for
the lake it was done in.
"""

from __future__ import annotations

import fcntl
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from slipstream.core.panel import HOUR_MS
from slipstream.errors import SlipstreamError, UsageError
from slipstream.ingest.archive import files
from slipstream.ingest.archive.bucket import Bucket
from slipstream.ingest.archive.credentials import Account
from slipstream.ingest.archive.fetch import Fetch, FetchReport, Pace
from slipstream.ingest.archive.objects import L2_BOOK, Archive, Slots, slots
from slipstream.ingest.archive.plan import Plan, plan_fetch
from slipstream.ingest.archive.progress import DONE, EVERY_COIN, FILE, UNKNOWN, Progress
from slipstream.ingest.archive.sinks import BookSink, RowSink, Sink
from slipstream.lake.datasets import ASSET_CONTEXTS, BARS, FILLS, MID_BARS
from slipstream.lake.store import Lake

_HOURLY = "_candles_1h.csv"
RETRIES = 6
"""Of a request that a fault cut short, with growing pauses; an object that stays torn is begun anew besides."""


@dataclass(frozen=True)
class Finished:
    """What resampling did: coins with files, four-hour files written anew, rows the lake was short of."""

    coins: tuple[str, ...]
    rewritten: int
    lake_rows_added: int
    refused: dict[str, str]


class Backfill:
    """One output folder and one lake."""

    def __init__(self, out: Path, lake: Lake, now_ms: int) -> None:
        """``now_ms`` is the present, Unix ms: nothing later is asked for or written."""
        self.out, self.lake, self.now_ms = out, lake, now_ms

    def plan(
        self,
        archives: Sequence[Archive],
        start_ms: int,
        end_ms: int,
        coins: Sequence[str] | None,
        book_coins: Callable[[], Sequence[str]],
        account: Account,
        progress: Progress,
        *,
        recheck_absent: bool = False,
        workers: int = 16,
    ) -> list[Plan]:
        """What is to be fetched.

        Args:
            archives: kinds of objects.
            start_ms: first hour wanted, Unix ms.
            end_ms: end of the last hour wanted, Unix ms.
            coins: names; None: every coin of objects that hold all, and ``book_coins()`` of objects that hold one.
            book_coins: coins of one-coin objects; asked for only if needed.
            account: who pays.
            progress: what is done.
            recheck_absent: look again for what was absent.
            workers: listings at a time.

        Raises:
            UsageError: an archive covers nothing of the span, or the coins are not known.
            AccessRefused, StoreFault: the bucket cannot be listed.
        """
        plans = []
        for archive in archives:
            span = slots(archive, start_ms, end_ms, self.now_ms)
            chosen = list(coins) if coins else list(book_coins()) if archive.per_coin else [EVERY_COIN]
            bucket = Bucket(archive.bucket, account, retries=RETRIES)
            states = self._states(span, chosen, progress)
            plans.append(plan_fetch(bucket, span, chosen, states, recheck_absent=recheck_absent, workers=workers))
        return plans

    def _states(self, span: Slots, coins: Sequence[str], progress: Progress) -> dict[str, bytearray]:
        """States as written down, less what is said to be done and has left no trace."""
        archive = span.archive
        states = progress.states(span, coins, self._place(archive))
        if archive is L2_BOOK:
            for coin, codes in states.items():
                self._forget_lost(span, coin, codes)
        elif self.lake.table(ASSET_CONTEXTS if archive.step_ms > HOUR_MS else FILLS) is None:
            return {coin: bytearray(span.count) for coin in coins}
        return states

    def _forget_lost(self, span: Slots, coin: str, codes: bytearray) -> None:
        if DONE not in codes:
            return
        table = files.read_table(files.hourly_file(self.out, coin), files.HOURLY_BARS)
        held = set(table["known_at_ms"].to_list())
        for index, code in enumerate(codes):
            if code == DONE and span.start_ms(index) + HOUR_MS not in held:
                codes[index] = UNKNOWN

    def _place(self, archive: Archive) -> str:
        """Which lake a progress line speaks of; mids have a home of their own beside the progress file."""
        if archive.per_coin:
            return ""
        folder = self.lake.place.folder
        return self.lake.place.url if folder is None else str(folder.resolve())

    def fetch(
        self,
        plan: Plan,
        account: Account,
        progress: Progress,
        temporary: Path,
        *,
        workers: int,
        stop: threading.Event,
        on_object: Callable[[int], None] = lambda _: None,
        pace: Pace | None = None,
    ) -> FetchReport:
        """Fetch a plan (see :class:`~slipstream.ingest.archive.fetch.Fetch`).

        Args:
            plan: what.
            account: who pays.
            progress: where to write down what is done.
            temporary: folder where rows may wait; made if absent.
            workers: objects at a time.
            stop: set to end early.
            on_object: called with the bytes of each object dealt with.
            pace: how often to store.

        Raises:
            AccessRefused, StoreFault, SlipstreamError: see there.
        """
        archive = plan.archive
        with spool(temporary) as folder:
            sink: Sink = (
                BookSink(self.out, self.lake)
                if archive.per_coin
                else RowSink(archive.name, plan.coins, self.out, self.lake, folder)
            )
            run = Fetch(
                plan,
                Bucket(archive.bucket, account, retries=RETRIES),
                sink,
                progress,
                workers=workers,
                stop=stop,
                clock=time.monotonic,
                on_object=on_object,
                pace=pace or Pace(),
                place=self._place(archive),
            )
            return run.run()

    def finish(self, coins: Sequence[str] | None = None) -> Finished:
        """Resample hourly files to four hours, and give the lake the hourly rows it lacks. Idempotent.

        Args:
            coins: which; None: all that have an hourly file.

        Raises:
            DataError: an hourly file cannot be read.
            SlipstreamError: the disk refused.
        """
        found = files.coins_with(self.out / "candles" / "hourly", _HOURLY)
        chosen = found if coins is None else [coin for coin in coins if coin in set(found)]
        rewritten = 0
        rows = []
        for coin in chosen:
            table = files.read_table(files.hourly_file(self.out, coin), files.HOURLY_BARS)
            rewritten += files.write_table(files.long_file(self.out, coin), files.resampled(table, self.now_ms))
            rows.append(files.lake_rows(table, coin))
        held = pl.concat([MID_BARS.schema.to_frame(), *rows])
        missing = held
        if held.height and self.lake.table(MID_BARS) is not None:
            known = self.lake.read(MID_BARS, coins=chosen).select(MID_BARS.key)
            missing = held.join(known, on=list(MID_BARS.key), how="anti")
        refused: Mapping[str, str] = self.lake.upsert(MID_BARS, missing).refused if missing.height else {}
        return Finished(tuple(chosen), rewritten, missing.height, dict(refused))


def open_progress(out: Path) -> Progress:
    """The progress file of an output folder.

    Raises:
        AlreadyRunning: another process fills the folder.
        SlipstreamError: it cannot be written.
    """
    return Progress(out / FILE)


def known_coins(lake: Lake, market_data: Path) -> list[str]:
    """Coins of which the venue's candles are there: in the lake, else as exported files.

    Raises:
        UsageError: there are none.
    """
    if lake.table(BARS) is not None:
        coins: set[str] = set()
        for part in lake.decoded(BARS, lake.parts(BARS), columns=("coin",)):
            coins.update(part["coin"].unique().to_list())
        if coins:
            return sorted(coins)
    exported = {
        coin
        for folder in sorted(market_data.glob("*"))
        for coin in files.coins_with(folder, f"_candles_{folder.name}.csv")
    }
    if exported:
        return sorted(exported)
    raise UsageError(
        f"--coins is not given, and neither the lake {lake.place.url} nor {market_data} holds candles to take the "
        'coins from; name them (--coins BTC ETH), or run "hl-load --all" first'
    )


@contextmanager
def spool(temporary: Path) -> Iterator[Path]:
    """A folder of this run alone, gone when the block ends; folders of runs that died are cleared away.

    Raises:
        SlipstreamError: the temporary folder cannot be written.
    """
    try:
        temporary.mkdir(parents=True, exist_ok=True)
        _clear_dead(temporary)
        folder = Path(tempfile.mkdtemp(prefix="run-", dir=temporary))
        lock = (folder / "lock").open("w", encoding="utf-8")
    except OSError as problem:
        raise SlipstreamError(f"{temporary}: cannot be written ({problem}); choose another --temp-dir") from problem
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _clear_dead(temporary: Path) -> None:
    """Remove folders whose lock nobody holds: the kernel frees the lock of a process that dies."""
    for lock in temporary.glob("run-*/lock"):
        with lock.open("w", encoding="utf-8") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            shutil.rmtree(lock.parent, ignore_errors=True)
