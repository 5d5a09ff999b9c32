"""``slipstream demo`` and ``slipstream backtest``: pods trade under the allocator, and a report is written."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from slipstream.errors import UsageError

if TYPE_CHECKING:
    from slipstream.core.panel import Panel
    from slipstream.federation.backtest import FederationConfig, Progress

AsJson = Annotated[bool, Parameter(name="--json", negative="", help="Print summary.json's text and nothing else.")]
LONGEST_CYCLE_HOURS = 8784
DEMO_MARKET: dict[str, Any] = {
    "coins": 60,
    "hours": 24 * 500,
    "momentum_strength": 0.010,
    "funding_carried_by_price": 0.0,
    "volume_usd_per_hour": 1e6,
}
"""A liquid market with planted trends and a carry that price does not take back, so that there is an edge to find."""


@dataclass(frozen=True)
class Job:
    """What a run needs beside its market.

    Attributes:
        strategies: slugs, in the order of every output.
        config: the federation's configuration.
        start_ms: no decision before this, Unix ms.
        out: folder of the outputs.
        title: headline of the report.
        synthetic: whether the market was invented.
        json_only: print JSON alone.
        extra: entries added to the summary's configuration.
    """

    strategies: tuple[str, ...]
    config: FederationConfig
    start_ms: int | None
    out: Path
    title: str
    synthetic: bool
    json_only: bool
    extra: dict[str, Any]


def demo(
    *,
    out: Annotated[Path, Parameter(help="Folder for the report and the tables.")] = Path("out/demo"),
    seed: Annotated[int, Parameter(help="Seed of the synthetic market.")] = 42,
    json_only: AsJson = False,
) -> None:
    """Build a synthetic market, trade every registered strategy through it under the allocator, and write the report.

    The market is invented, with trends and carry planted in it, and says so on the screen and in the report: its
    figures say nothing about real trading.

    Example: slipstream demo --out out/demo --seed 7
    """
    from slipstream.federation.backtest import FederationConfig
    from slipstream.lake.synthetic import synthetic_market
    from slipstream.lake.synthetic_config import SyntheticConfig
    from slipstream.strategies import list_strategies

    market = SyntheticConfig(seed=seed, **DEMO_MARKET)
    job = Job(
        strategies=tuple(list_strategies()),
        config=FederationConfig(),
        start_ms=None,
        out=out,
        title="Demo on a synthetic market",
        synthetic=True,
        json_only=json_only,
        extra={"seed": seed, "market": DEMO_MARKET},
    )
    execute(synthetic_market(market).panel, job)


def backtest(
    *,
    data: Annotated[Path, Parameter(help="A panel file (.parquet, .csv) or a lake directory.")],
    strategies: Annotated[str, Parameter(help="Slugs, comma-separated.")] = "carry,gradient,template",
    coins: Annotated[str | None, Parameter(help="Keep only these coins, comma-separated, case-sensitive.")] = None,
    start: Annotated[str | None, Parameter(help="First decision, ISO date or time, UTC; before it is warm-up.")] = None,
    end: Annotated[str | None, Parameter(help="Last close used, ISO date or time, UTC.")] = None,
    capital: Annotated[float, Parameter(help="Initial capital, USD.")] = 100_000.0,
    cycle: Annotated[str, Parameter(help="Rebalance period of allocator and pods: 24h, 4h, 2d.")] = "24h",
    fee_bps: Annotated[float, Parameter(help="Exchange fee, basis points of notional.")] = 2.0,
    half_spread_bps: Annotated[float, Parameter(help="Half-spread, basis points: an assumption, bars lack it.")] = 1.0,
    min_adv: Annotated[float, Parameter(help="Least trailing 30-day daily volume of a tradable coin, USD.")] = 1e5,
    out: Annotated[Path, Parameter(help="Folder for the report and the tables.")] = Path("out/backtest"),
    json_only: AsJson = False,
) -> None:
    """Trade recorded history under the allocator: pods decide, capital moves between them, every dollar is audited.

    Writes report.html, summary.json, equity.parquet, allocations.parquet and trades.parquet into --out.

    Examples:
      slipstream backtest --data panel.parquet
      slipstream backtest --data data/lake --strategies carry,gradient --start 2025-01-01 --capital 250000 --json
    """
    from slipstream.cli.clock import wall_clock_ms
    from slipstream.core.panel import UniverseRule, to_ms, utc
    from slipstream.core.portfolio.costs import CostAssumptions
    from slipstream.federation.backtest import FederationConfig
    from slipstream.federation.pods import registered_pods
    from slipstream.lake import load_panel

    slugs = tuple(_names(strategies))
    registered_pods(slugs)
    first, last = moment(start, "--start"), moment(end, "--end")
    if first is not None and last is not None and first >= last:
        raise UsageError(f"--start {start} is not before --end {end}; no decision lies between them")
    config = FederationConfig(
        capital_usd=capital,
        cycle_hours=cycle_hours(cycle),
        costs=CostAssumptions(fee_bps=fee_bps, half_spread_bps=half_spread_bps),
    )
    rule = UniverseRule(min_adv_usd=min_adv)
    panel = load_panel(
        data,
        coins=None if coins is None else _names(coins),
        end_ms=None if last is None else to_ms(last),
        rule=rule,
        now_ms=wall_clock_ms(),
    )
    if first is not None and to_ms(first) >= int(panel.known_at_ms[-1]):
        ends = utc(int(panel.known_at_ms[-1]))
        raise UsageError(f"--start {start} is not before the last bar of {panel.source}, {ends:%Y-%m-%d %H:%M} UTC")
    job = Job(
        strategies=slugs,
        config=config,
        start_ms=None if first is None else to_ms(first),
        out=out,
        title=f"Backtest of {', '.join(slugs)}",
        synthetic=False,
        json_only=json_only,
        extra={
            "start": None if first is None else first.isoformat(),
            "end": None if last is None else last.isoformat(),
            "min_adv_usd": rule.min_adv_usd,
            "min_history_hours": rule.min_history_hours,
        },
    )
    execute(panel, job)


def execute(panel: Panel, job: Job) -> None:
    """Run, write and print one job."""
    from slipstream.core.coverage import coverage
    from slipstream.federation.backtest import run_federation
    from slipstream.federation.pods import registered_pods
    from slipstream.federation.summary import summarize
    from slipstream.reports.federation_report import render_federation_report
    from slipstream.reports.outputs import summary_text, write_outputs
    from slipstream.reports.terminal import print_summary

    with _progress(len(job.strategies), quiet=job.json_only) as advance:
        result = run_federation(
            panel, registered_pods(job.strategies), job.config, start_ms=job.start_ms, progress=advance
        )
    summary = summarize(result, panel, job.config, job.extra)
    held = coverage(panel)
    html = render_federation_report(result, summary, held, synthetic=job.synthetic, title=job.title)
    write_outputs(job.out, result, summary, html)
    if job.json_only:
        sys.stdout.write(summary_text(summary))
        return
    print_summary(result, summary, held, synthetic=job.synthetic, out=job.out)


def cycle_hours(text: str) -> int:
    """Hours in a period such as ``24h`` or ``2d``.

    Raises:
        UsageError: it is not a positive whole number followed by h or d.
    """
    match = re.fullmatch(r"([1-9]\d*)([hd])", text.strip())
    if match is None:
        raise UsageError(f"--cycle {text!r} is not a period; write a whole number of hours or days, e.g. 24h, 4h, 2d")
    hours = int(match[1]) * (24 if match[2] == "d" else 1)
    if hours > LONGEST_CYCLE_HOURS:
        raise UsageError(f"--cycle {text!r} is longer than a year; write at most {LONGEST_CYCLE_HOURS}h")
    return hours


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise UsageError(f"no name in {text!r}; give names separated by commas")
    return names


def moment(text: str | None, flag: str) -> datetime | None:
    """An ISO date or time as an aware UTC datetime; a naive one is read as UTC.

    Raises:
        UsageError: it is neither; the message names ``flag``.
    """
    if text is None:
        return None
    from slipstream.core.panel import to_ms, utc

    try:
        return utc(to_ms(datetime.fromisoformat(text)))
    except ValueError as error:
        raise UsageError(f"{flag} {text!r} is not an ISO date or time, e.g. 2025-01-31 or 2025-01-31T08:00") from error


@contextmanager
def _progress(pods: int, *, quiet: bool) -> Iterator[Progress | None]:
    """A progress bar on standard error when a person is looking, else nothing."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(f"trading {pods} pods, decisions", total=None)

        def advance(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield advance
