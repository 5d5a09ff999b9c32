"""``slipstream data s3`` and ``scripts/fetch_s3_historical.py``: history from the venue's archive, paid by the byte."""

from __future__ import annotations

import json as json_format
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from slipstream.errors import SafetyRefusal, UsageError

if TYPE_CHECKING:
    from slipstream.ingest.archive.backfill import Backfill, Finished
    from slipstream.ingest.archive.credentials import Account
    from slipstream.ingest.archive.fetch import FetchReport
    from slipstream.ingest.archive.plan import Cost, Plan
    from slipstream.ingest.archive.progress import Progress
    from slipstream.ingest.archive.validate import Comparison

Datatype = Literal["l2Book", "asset_ctxs", "node_trades", "node_fills", "node_fills_by_block", "both"]
_SHOWN_FAILURES = 10
_FAILED, _INTERRUPTED = 1, 130


def s3(
    *,
    start: Annotated[str | None, Parameter(help="First day (2023-10-01) or hour (2023-10-01T06:00), UTC.")] = None,
    end: Annotated[
        str | None, Parameter(help="Last day, included, or the hour to stop before; default: the last hour that ended.")
    ] = None,
    coins: Annotated[
        tuple[str, ...],
        Parameter(
            consume_multiple=True, negative="", help="Coins, in exact case; default: those with candles from the API."
        ),
    ] = (),
    datatype: Annotated[Datatype, Parameter(help="What to fetch; both is l2Book and asset_ctxs.")] = "l2Book",
    estimate: Annotated[bool, Parameter(negative="", help="Show objects, GB and USD, and stop.")] = False,
    validate: Annotated[
        bool, Parameter(negative="", help="Compare closes with the API's candles; warn above 1 %.")
    ] = False,
    strict: Annotated[bool, Parameter(negative="", help="Exit 1 if validation warns or finds nothing.")] = False,
    resample_only: Annotated[bool, Parameter(negative="", help="Fetch nothing; make the 4h files anew.")] = False,
    recheck_absent: Annotated[
        bool, Parameter(negative="", help="Look again for objects that were not there before.")
    ] = False,
    workers: Annotated[int, Parameter(help="Objects read at a time.")] = 16,
    output_dir: Annotated[Path, Parameter(help="Folder of the CSV files and of the progress file.")] = Path(
        "data/s3_historical"
    ),
    lake: Annotated[str, Parameter(help="The lake: a folder or an s3:// URL; made if absent.")] = "data/lake",
    temp_dir: Annotated[
        Path | None, Parameter(help="Where rows wait to be stored; default: the system's, with hyperliquid_s3.")
    ] = None,
    region: Annotated[str | None, Parameter(help="AWS region of the bucket; default: as configured.")] = None,
    endpoint_url: Annotated[str | None, Parameter(help="An S3-compatible store in place of Amazon's.")] = None,
    json: Annotated[bool, Parameter(name="--json", negative="", help="Print JSON and nothing else.")] = False,
) -> int:
    """Fetch years of history from the venue's S3 archive, which the reader pays for (about 0.09 USD per GB).

    Says what it will cost before the first byte. Can be interrupted and run again at any time: what is done is not
    fetched twice. Writes hourly and four-hour candles of book mids, contexts by the hour, and the lake.

    Example: python scripts/fetch_s3_historical.py --start 2023-10-01 --end 2025-03-27 --coins BTC ETH --estimate
    """
    from slipstream.cli.clock import wall_clock_ms
    from slipstream.ingest.archive.backfill import Backfill, open_progress
    from slipstream.lake.store import Lake

    if workers < 1:
        raise UsageError(f"--workers {workers}: at least one object must be read at a time")
    job = Backfill(output_dir, Lake.open(lake, create=True), wall_clock_ms())
    market_data = (
        Path("data/market_data") if job.lake.place.folder is None else job.lake.place.folder.parent / "market_data"
    )
    run = _Run(job, coins, market_data, Screen(json))
    if not resample_only:
        if start is None:
            raise UsageError("--start is missing: say from which day, such as --start 2023-10-01")
        progress = open_progress(output_dir)
        try:
            run.plan(
                start, end, datatype, progress, region, endpoint_url, recheck_absent=recheck_absent, workers=workers
            )
            if estimate:
                return run.screen.end(0)
            run.fetch(progress, temp_dir or Path(tempfile.gettempdir()) / "hyperliquid_s3", workers)
        finally:
            progress.close()
    run.finish()
    if validate:
        run.validate()
    return run.screen.end(run.code(strict=strict))


def main() -> int:
    """The documented script: this command alone."""
    from cyclopts import App

    from slipstream.cli.errors import run

    app = App(name="fetch_s3_historical.py", version_flags=[], suppress_keyboard_interrupt=False)
    app.default(s3)
    return run(app)


@dataclass
class Screen:
    """What the user sees: lines as they come, or one JSON document at the end."""

    as_json: bool
    body: dict[str, object] = field(default_factory=dict)

    def say(self, line: str) -> None:
        if not self.as_json:
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()

    def end(self, code: int) -> int:
        if self.as_json:
            sys.stdout.write(json_format.dumps({**self.body, "exit_code": code}, indent=2, allow_nan=False) + "\n")
        return code


@dataclass
class _Run:
    """The steps of one command, and what they found."""

    job: Backfill
    coins: tuple[str, ...]
    market_data: Path
    screen: Screen
    plans: list[Plan] = field(default_factory=list)
    reports: list[FetchReport] = field(default_factory=list)
    finished: Finished | None = None
    comparisons: list[Comparison] | None = None
    interrupted: bool = False
    _account: Account | None = None

    def plan(
        self,
        start: str,
        end: str | None,
        datatype: str,
        progress: Progress,
        region: str | None,
        endpoint: str | None,
        *,
        recheck_absent: bool,
        workers: int,
    ) -> None:
        """Find out what is to be fetched, and say what it costs."""
        from slipstream.ingest.archive.backfill import known_coins
        from slipstream.ingest.archive.credentials import account
        from slipstream.ingest.archive.objects import archives_of, span_ms
        from slipstream.ingest.archive.plan import cost_of

        first, last = span_ms(start, end, self.job.now_ms)
        self._account = account(os.environ, Path.home(), region=region, endpoint=endpoint)
        self.plans = self.job.plan(
            archives_of(datatype),
            first,
            last,
            self.coins or None,
            lambda: known_coins(self.job.lake, self.market_data),
            self._account,
            progress,
            recheck_absent=recheck_absent,
            workers=workers,
        )
        for plan in self.plans:
            self.screen.say(_plan_line(plan))
        cost = cost_of(self.plans)
        self.screen.say(_cost_line(cost))
        self.screen.body["estimate"] = {"objects": cost.objects, "bytes": cost.bytes, "usd": cost.usd}

    def fetch(self, progress: Progress, temporary: Path, workers: int) -> None:
        """Fetch every plan; a Ctrl-C stores what has arrived, a second one does not wait."""
        from slipstream.ingest.archive.plan import cost_of

        assert self._account is not None
        cost = cost_of(self.plans)
        with interruptible() as stop, _bar(cost) as advance:
            for plan in self.plans:
                if stop.is_set():
                    break
                self.reports.append(
                    self.job.fetch(
                        plan, self._account, progress, temporary, workers=workers, stop=stop, on_object=advance
                    )
                )
            self.interrupted = stop.is_set()
        for plan, report in zip(self.plans, self.reports, strict=False):
            self._say_report(plan, report)

    def finish(self) -> None:
        """Resample, and bring the lake level with the files."""
        coins = self.coins or None
        if coins is None and self.plans:
            coins = tuple(dict.fromkeys(coin for plan in self.plans if plan.archive.per_coin for coin in plan.coins))
        self.finished = self.job.finish(coins)
        done = self.finished
        if done.coins or not self.reports:
            self.screen.say(
                f"resampled {len(done.coins)} coins to 4h, {done.rewritten} files changed; "
                f"{done.lake_rows_added} hourly rows added to {self.job.lake.place.url} that were only in the files"
            )
        self.screen.body["resampled"] = {
            "coins": list(done.coins),
            "files_changed": done.rewritten,
            "lake_rows_added": done.lake_rows_added,
        }

    def validate(self) -> None:
        """Compare closes with the venue's."""
        from slipstream.ingest.archive.validate import compare

        coins = self.finished.coins if self.finished else ()
        self.comparisons = compare(self.job.out, self.job.lake, self.market_data, coins)
        for comparison in self.comparisons:
            self.screen.say(comparison.describe())
        if not coins:
            self.screen.say("nothing to validate: there is no hourly file")
        self.screen.body["validation"] = [asdict(comparison) for comparison in self.comparisons]

    def code(self, *, strict: bool) -> int:
        """The exit code.

        Raises:
            SafetyRefusal: the lake refused a coin because data would have been lost.
        """
        refused = {coin: why for report in self.reports for coin, why in report.refused.items()}
        refused |= self.finished.refused if self.finished else {}
        if refused:
            coin, why = next(iter(refused.items()))
            raise SafetyRefusal(f"{self.job.lake.place.url}: {coin}: {why} ({len(refused)} coins refused in all)")
        if self.interrupted:
            return _INTERRUPTED
        if any(report.failed for report in self.reports):
            return _FAILED
        if strict and self.comparisons is not None:
            compared = [comparison for comparison in self.comparisons if comparison.n]
            if not compared or any(comparison.above for comparison in compared):
                return _FAILED
        return 0

    def _say_report(self, plan: Plan, report: FetchReport) -> None:
        counts = report.counts
        say = self.screen.say
        ending = "; interrupted, run it again to go on" if report.interrupted else ""
        say(f"{plan.archive.name}: {report.done} objects done, {report.rows} rows, {report.absent} absent{ending}")
        if counts.lines:
            say(
                f"  {counts.lines} snapshots: {counts.used} used, {counts.one_sided} with a side empty, "
                f"{counts.crossed} crossed, {counts.outside} stamped outside their hour"
            )
        if report.absent:
            say("  absent objects are not looked for again; the archive is filled about monthly: --recheck-absent")
        for name, why in list(report.failed.items())[:_SHOWN_FAILURES]:
            sys.stderr.write(f"failed: {why if name in why else f'{name}: {why}'}\n")
        if len(report.failed) > _SHOWN_FAILURES:
            sys.stderr.write(f"failed: {len(report.failed) - _SHOWN_FAILURES} more; the progress file says why\n")
        fetched = self.screen.body.setdefault("fetched", {})
        assert isinstance(fetched, dict)
        fetched[plan.archive.name] = asdict(report)


def _plan_line(plan: Plan) -> str:
    counts = [
        (len(plan.pending), "objects to fetch"),
        (plan.done, "done before"),
        (len(plan.absent), "not in the bucket"),
    ]
    if plan.known_absent:
        counts.append((plan.known_absent, "known to be absent"))
    return f"{plan.archive.name}: {', '.join(f'{count} {what}' for count, what in counts)}"


def _cost_line(cost: Cost) -> str:
    from slipstream.ingest.archive.plan import USD_PER_GB

    return (
        f"to fetch: {cost.objects} objects, {cost.bytes / 1e9:.3f} GB, about {cost.usd:.2f} USD "
        f"({USD_PER_GB} USD per GB and the requests, charged to your AWS account)"
    )


@contextmanager
def interruptible() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C or polite kill sets; the second interrupts at once."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop  # signals reach only the main thread
        return

    def ask(number: int, _frame: object) -> None:
        stop.set()
        signal.signal(number, before[signal.Signals(number)])
        sys.stderr.write("stopping: what has arrived is being stored; once more to stop at once\n")

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in numbers}
    for number in numbers:
        signal.signal(number, ask)
    try:
        yield stop
    finally:
        for number in numbers:
            signal.signal(number, before[number])


@contextmanager
def _bar(cost: Cost) -> Iterator[Callable[[int], None]]:
    """A bar of bytes with the time left, on a terminal; nothing where standard error is a file."""
    if not sys.stderr.isatty() or not cost.objects:
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns: Sequence[TextColumn | BarColumn | DownloadColumn | TransferSpeedColumn | TimeRemainingColumn] = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as shown:
        task = shown.add_task(f"{cost.objects} objects", total=cost.bytes)
        yield lambda size: shown.advance(task, size)
