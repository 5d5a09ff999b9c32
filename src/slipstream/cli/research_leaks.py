"""``slipstream research leak-check``: does a strategy know what it cannot?"""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from slipstream.cli.bar_strategy import ConfigFile, Environment, load_settings, noting_warnings, say
from slipstream.cli.research_data import DataDir, DataPath, research_panel
from slipstream.errors import UsageError

if TYPE_CHECKING:
    from slipstream.core.decision import Decide
    from slipstream.core.panel import FloatArray, Panel
    from slipstream.research.leak_check import LeakReport, ShiftedLabels

SHOWN = 12


def leak_check(
    *,
    strategy: Annotated[str, Parameter(help="Slug of a registered strategy.")],
    data: DataPath = None,
    data_dir: DataDir = Path("data"),
    interval: Annotated[str, Parameter(help="Bar on which it decides, such as 1h or 4h.")] = "4h",
    moments: Annotated[int, Parameter(help="Decisions taken again, evenly spread.")] = 20,
    seed: Annotated[int, Parameter(help="Seed of the shuffles.")] = 42,
    scores_csv: Annotated[
        tuple[Path, ...], Parameter(consume_multiple=True, help="Wide CSV files the strategy reads, to be checked too.")
    ] = (),
    models: Annotated[Path | None, Parameter(help="Trained models, for a strategy that decides with them.")] = None,
    config: ConfigFile = None,
    env: Environment = None,
    as_json: Annotated[bool, Parameter(name="--json", negative="", help="Print JSON and nothing else.")] = False,
) -> int:
    """Check that a strategy's decisions do not know the future; exit code 1 if they do.

    First, decisions are taken again from data cut at their moment, from data with the later rows shuffled, and with
    another settlement at the close; any difference is a leak. Then every feature the strategy computed, its decisions
    and the files given are ranked against later returns and settlements with labels shifted bar by bar: what correlates
    too well with a bar that is yet to come holds that bar. docs/research_models.md explains how to read the curves.

    Examples:
      slipstream research leak-check --strategy gradient --data panel.parquet
      slipstream research leak-check --strategy mine --data data/lake --interval 1h --scores-csv my_scores.csv
    """
    from slipstream.research import leak_check as check

    decide = _decision(strategy, config, env, models)
    panel = research_panel(data, data_dir, interval)
    with noting_warnings() as notes:
        scores = {str(file): _scores(panel, file) for file in scores_csv}
        report = check.leak_check(panel, decide, moments=moments, seed=seed, scores=scores)
    if not report.held:
        notes.append("no decision held anything: the first check says nothing; give more history")
    if as_json:
        say(json.dumps(_plain(strategy, panel, report, notes), indent=2, allow_nan=False))
    else:
        _print(strategy, panel, report, notes)
    return 1 if report.leaks else 0


def _decision(strategy: str, config: Path | None, env: str | None, models: Path | None) -> Decide:
    from slipstream.strategies import load_strategy

    parameters = load_settings(strategy, {}, config, env).strategy_config()
    module = load_strategy(strategy)
    if models is None:
        return partial(module.targets, config=parameters)
    if not hasattr(module, "decision_with_models"):
        raise UsageError(f"--models: {strategy} decides without models; leave them out")
    from slipstream.research.model_store import load_models

    decide: Decide = module.decision_with_models(load_models(models), parameters)
    return decide


def _scores(panel: Panel, file: Path) -> FloatArray:
    from slipstream.core.frames import cells, index_ms
    from slipstream.lake.wide_csv import read_wide_csv
    from slipstream.research.leak_check import named_scores

    frame = read_wide_csv(file)
    times = index_ms(frame, str(file)).tolist()
    return named_scores(panel, times, [str(name) for name in frame.columns], cells(frame, str(file)))


def _plain(strategy: str, panel: Panel, report: LeakReport, notes: list[str]) -> dict[str, Any]:
    from slipstream.core.panel import utc

    def number(value: float) -> float | None:
        return value if math.isfinite(value) else None

    return {
        "strategy": strategy,
        "source": panel.source,
        "bar_hours": panel.bar_hours,
        "leaks": report.leaks,
        "moments": report.moments,
        "held": report.held,
        "differences": [
            {
                **asdict(found),
                "known_at": utc(found.known_at_ms).isoformat(),
                "weight": number(found.weight),
                "other": number(found.other),
            }
            for found in report.differences
        ],
        "curves": [
            {
                "feature": curve.feature,
                "target": curve.target,
                "implausible": curve.implausible,
                "ic": {str(shift): number(value) for shift, value in curve.ic.items()},
                "t": {str(shift): number(value) for shift, value in curve.t.items()},
            }
            for curve in report.curves
        ],
        "notes": notes,
    }


def _print(strategy: str, panel: Panel, report: LeakReport, notes: list[str]) -> None:
    say(f"{strategy} on {panel.source}: {len(panel.coins)} coins, bars of {panel.bar_hours} h")
    say(f"decided again at {report.moments} moments ({report.held} held something): {len(report.differences)} differ")
    for found in report.differences[:SHOWN]:
        say(f"  LEAK  {found}")
    if len(report.differences) > SHOWN:
        say(f"  and {len(report.differences) - SHOWN} more; --json lists all")
    say(f"rank correlation with what comes later, {len(report.curves)} curves:")
    ordered = sorted(report.curves, key=lambda curve: (not curve.implausible, -_strength(curve)))
    for curve in ordered[: max(SHOWN, len(report.implausible))]:
        shown = "  ".join(f"{shift:+d}: {value:6.3f}" for shift, value in curve.ic.items())
        say(f"  {'LEAK' if curve.implausible else 'ok  '}  {curve.target:7} {shown}  {curve.feature}")
    say("  (-1, 0: bars that had ended; +1: the bar after the close; +2 ...: later ones)")
    for note in notes:
        say(f"note: {note}")
    say("a leak was found" if report.leaks else "no leak was found")


def _strength(curve: ShiftedLabels) -> float:
    """What a curve reaches ahead, prices before funding, which persists."""
    ahead = [abs(value) for shift, value in curve.ic.items() if shift > 0 and math.isfinite(value)]
    return max(ahead, default=0.0) + (10.0 if curve.target == "price" else 0.0)
