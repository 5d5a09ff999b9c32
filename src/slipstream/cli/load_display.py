"""What a load shows: its cost beforehand, bars of progress while it runs, a line per coin at the end."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from slipstream.core.panel import IntArray, utc
from slipstream.ingest.load.plan import CoinPlan, Wanted, total

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from slipstream.cli.load_options import Options
    from slipstream.ingest.load.loader import LoadReport
    from slipstream.ingest.load.spans import Held
    from slipstream.venues.clock import Clock
    from slipstream.venues.http import Traffic


class Display:
    """Progress on standard error, if that is a terminal: the whole load, its remaining time, and the coins at work."""

    def __init__(self, plans: Sequence[CoinPlan], clock: Clock, *, quiet: bool) -> None:
        self._clock = clock
        self._weight = total(plans).weight
        self._coins: dict[str, TaskID] = {}
        self._rows = {plan.coin: _rows(plan) for plan in plans}
        self._progress: Progress | None = None
        self._quiet = quiet or not sys.stderr.isatty()

    def __enter__(self) -> Self:
        if not self._quiet:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            self._progress = Progress(
                TextColumn("{task.description:12}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[unit]}"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
            )
            self._whole = self._progress.add_task("all", total=max(1, self._weight), unit="weight")
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def started(self, coin: str) -> None:
        """Show a bar for a coin."""
        if self._progress is not None:
            self._coins[coin] = self._progress.add_task(coin, total=max(1, self._rows[coin]), unit="rows")

    def advanced(self, coin: str, rows: int) -> None:
        """Move it on."""
        if self._progress is not None:
            self._progress.advance(self._coins[coin], rows)

    def finished(self, plan: CoinPlan) -> None:
        """Take it away and move the whole on."""
        if self._progress is not None:
            self._progress.remove_task(self._coins.pop(plan.coin))
            self._progress.advance(self._whole, plan.cost.weight)


def _rows(plan: CoinPlan) -> int:
    from slipstream.core.panel import HOUR_MS
    from slipstream.lake.datasets import INTERVAL_MS

    bars = sum((span.end_ms - span.start_ms) // INTERVAL_MS[interval] for interval, span in plan.bars)
    return bars + sum((span.end_ms - span.start_ms) // HOUR_MS for span in plan.settlements)


def print_plan(
    plans: Sequence[CoinPlan], asked: Wanted, before: Held, pre_flight: Sequence[str], options: Options
) -> None:
    """The range asked for beside what is held, and requests, weight and time."""
    cost, pace = total(plans), options.weight_per_minute
    missing = sum(not plan.empty for plan in plans)
    if options.json:
        if options.dry_run:
            body = {
                "interval": asked.interval,
                "start": f"{utc(asked.start_ms):%Y-%m-%dT%H:%MZ}",
                "end": f"{utc(asked.end_ms):%Y-%m-%dT%H:%MZ}",
                "refetch": options.refetch,
                "coins": {plan.coin: {"requests": plan.cost.count, "weight": plan.cost.weight} for plan in plans},
                "requests": cost.count,
                "weight": cost.weight,
                "minutes": round(cost.minutes(pace), 1),
            }
            _say(json.dumps(body, indent=2))
        return
    _say(f"asked for: bars of {asked.interval} from {_when(asked.start_ms)} to {_when(asked.end_ms)} UTC")
    if asked.start_ms < asked.reach_ms:
        older = "" if asked.interval == asked.base_interval else f"; before that come bars of {asked.interval}"
        _say(f"the venue keeps {asked.base_interval} bars since {_when(asked.reach_ms)} UTC only{older}")
        kept = any((before.opens(asked.base_interval, plan.coin)[:1] < asked.reach_ms).any() for plan in plans)
        if options.refetch and kept:
            _say(f"{asked.base_interval} bars held from before that cannot be asked for again and stay as they are")
    for coin in pre_flight:
        _say(f"{coin}: held {_range(before.opens(asked.base_interval, coin))}")
    work = "are asked for again, whatever is held" if options.refetch else "have something missing"
    _say(
        f"{missing} of {len(plans)} coins {work}: about {cost.count:,} requests, weight {cost.weight:,}, "
        f"{_minutes(cost.minutes(pace))} at {pace:,} a minute"
    )
    if options.dry_run:
        from rich.console import Console
        from rich.table import Table

        table = Table()
        table.add_column("coin")
        table.add_column("requests", justify="right")
        table.add_column("weight", justify="right")
        for plan in plans:
            table.add_row(plan.coin, str(plan.cost.count), str(plan.cost.weight))
        Console().print(table)
        _say("dry run: nothing was fetched")


def print_report(
    plans: Sequence[CoinPlan],
    asked: Wanted,
    before: Held,
    after: Held,
    report: LoadReport,
    not_exported: dict[str, str],
    options: Options,
    traffic: Traffic,
) -> None:
    """Rows and range before and after per coin, and what went wrong."""
    lengths = list(dict.fromkeys((asked.base_interval, asked.interval)))
    if options.json:
        body = {
            "coins": {plan.coin: _entry(plan.coin, lengths, before, after, report) for plan in plans},
            "failed": report.failed,
            "refused": report.refused,
            "not_exported": not_exported,
            "requests": traffic.requests,
            "retries": traffic.retries,
            "weight": traffic.weight,
        }
        _say(json.dumps(body, indent=2))
        return
    for plan in plans:
        coin = plan.coin
        said = []
        for length in lengths:
            was, now = before.opens(length, coin), after.opens(length, coin)
            if len(now) or length == asked.base_interval:
                said.append(f"{length} {len(was)} -> {len(now)} bars, {_range(was)} -> {_range(now)}")
        stamps = f"funding {len(before.stamps(coin))} -> {len(after.stamps(coin))}"
        corrected = f", {report.corrected[coin]} corrected" if report.corrected.get(coin) else ""
        _say(f"{coin}: {'; '.join(said)}; {stamps}{corrected}")
    for title, problems in (("failed", report.failed), ("refused", report.refused), ("not exported", not_exported)):
        for name, why in problems.items():
            _say(f"{title}: {name}: {why}")
    _say(
        f"{options.lake}: {len(plans)} coins, {traffic.requests:,} requests, {traffic.retries} repeated, weight "
        f"{traffic.weight:,.0f}" + (f"; files in {options.market_data}" if options.export else "")
    )
    if report.failed and options.refetch:
        _say("run the same command again with --coin for each that failed: --refetch asks for all that is named")
    elif report.failed:
        _say("run the same command again: only what is missing is asked for")


def _entry(coin: str, lengths: Sequence[str], before: Held, after: Held, report: LoadReport) -> dict[str, object]:
    bars = {
        length: {
            "before": len(before.opens(length, coin)),
            "after": len(after.opens(length, coin)),
            "first_ms": _edge(after.opens(length, coin), 0),
            "last_ms": _edge(after.opens(length, coin), -1),
        }
        for length in lengths
    }
    settlements = {"before": len(before.stamps(coin)), "after": len(after.stamps(coin))}
    return {"bars": bars, "settlements": settlements, "corrected": report.corrected.get(coin, 0)}


def _edge(times: IntArray, index: int) -> int | None:
    return int(times[index]) if len(times) else None


def _range(times: IntArray) -> str:
    return f"{_when(int(times[0]))} to {_when(int(times[-1]))}" if len(times) else "nothing"


def _when(moment_ms: int) -> str:
    return f"{utc(moment_ms):%Y-%m-%d %H:%M}"


def _minutes(minutes: float) -> str:
    return (
        f"{minutes * 60:.0f} s" if minutes < 2 else f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"
    )


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
