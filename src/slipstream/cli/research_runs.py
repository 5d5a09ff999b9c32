"""``slipstream research runs``: what has been tried, on which data, and how many trials that makes."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from slipstream.errors import DataError

if TYPE_CHECKING:
    from slipstream.research.registry import Chain, Run

DEFAULT_REGISTRY = Path("data/research/runs.sqlite")
"""Where research commands record their runs unless told otherwise."""

_SHORT = 12
"""Digits of a hash that are shown."""


def runs(
    *,
    registry: Annotated[Path, Parameter(help="The experiment registry.")] = DEFAULT_REGISTRY,
    kind: Annotated[str | None, Parameter(help="Only runs of this kind, such as horizon.")] = None,
    as_json: Annotated[bool, Parameter(name="--json", negative="", help="Print JSON and nothing else.")] = False,
) -> None:
    """List the recorded runs, oldest first, after checking that the record is as it was written.

    The trials of a kind are what a Sharpe ratio chosen among its runs has to be deflated by: equal configurations
    count once, failed runs not at all.

    Example: slipstream research runs --kind horizon
    """
    from slipstream.cli.clock import wall_clock_ms
    from slipstream.research.registry import Registry

    if not registry.is_file():
        raise DataError(f"{registry}: no such file; the first recorded run makes it, or name another with --registry")
    with Registry(registry, wall_clock_ms) as opened:
        chain = opened.verify()
        listed = opened.runs(kind)
        trials = {name: opened.trials(name) for name in sorted({run.kind for run in listed})}
    if as_json:
        everything = {"chain": asdict(chain), "trials": trials, "runs": [asdict(run) for run in listed]}
        print(json.dumps(everything, allow_nan=False, indent=2))  # noqa: T201 - the command's own output
        return
    _print(registry, chain, listed, trials)


def _print(registry: Path, chain: Chain, listed: list[Run], trials: dict[str, int]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from slipstream.core.panel import utc

    console = Console(highlight=False)
    table = Table(title=f"Runs in {escape(registry.name)}")
    for heading in ("run", "kind", "started (UTC)", "took", "status", "seed", "compared", "data", "code"):
        table.add_column(heading, justify="right" if heading in ("took", "seed", "compared") else "left")
    for run in listed:
        table.add_row(
            run.id,
            escape(run.kind),
            f"{utc(run.started_ms):%Y-%m-%d %H:%M}",
            _took(run),
            run.status,
            "-" if run.seed is None else str(run.seed),
            str(run.alternatives),
            escape(run.data_hash[:_SHORT]),
            escape(run.versions.get("slipstream-code", "-")[:_SHORT]),
        )
    console.print(table)
    for run in listed:
        if run.error is not None:
            console.print(f"{run.id}: {escape(run.error)}", soft_wrap=True)
    for name, count in trials.items():
        console.print(f"{escape(name)}: {count} trials")
    console.print(f"{chain.events} events, chain intact, head {chain.head[:_SHORT]}")


def _took(run: Run) -> str:
    if run.finished_ms is None:
        return "-"
    seconds = (run.finished_ms - run.started_ms) / 1000.0
    return f"{seconds:.1f} s" if seconds < 120.0 else f"{seconds / 60.0:.0f} min"
