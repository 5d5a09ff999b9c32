"""``slipstream research horizon``: which holding period keeps most after costs, and how sure that is."""

from __future__ import annotations

import logging
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from slipstream.cli.bar_strategy import noting_warnings, say
from slipstream.cli.research_data import DataDir, DataPath, Interval, interval_hours, research_panel
from slipstream.cli.research_runs import DEFAULT_REGISTRY

if TYPE_CHECKING:
    from slipstream.core.panel import FloatArray, Panel
    from slipstream.research.executor import Progress
    from slipstream.research.search import SearchRequest, SearchResult

Weights = Literal["none", "sqrt", "log", "dollar", "sqrt_dollar"]
Rule = Literal["net_sharpe", "r2_combined"]
Bins = Literal["pooled", "cross_section"]
HorizonHours = Annotated[tuple[int, ...], Parameter(name="--H", consume_multiple=True, help="Hours: --H 4 8 12.")]
Spans = Annotated[tuple[float, ...], Parameter(consume_multiple=True, help="Spans of the features, hours.")]
HORIZONS = (4, 8, 12, 24, 48)
SPANS = (2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
KIND = "horizon"
"""What a search is called in the registry."""


@Parameter(name="*")
@dataclass(frozen=True)
class SearchFlags:
    """The flags that shape a search, beside its data and its outputs."""

    n_bootstrap: Annotated[int, Parameter(help="Bootstrap draws.")] = 1000
    seed: Annotated[int, Parameter(help="Seed of the draws.")] = 42
    select: Annotated[Rule, Parameter(help="Rule of the choice; r2_combined is the published one.")] = "net_sharpe"
    k: Annotated[int, Parameter(name="--K", help="Bars of H hours per factor window.")] = 30
    pca_method: Annotated[Weights, Parameter(help="What a coin's USD volume becomes as its weight.")] = "sqrt"
    min_assets: Annotated[int, Parameter(help="Coins a factor window needs.")] = 10
    spans: Spans = SPANS
    vol_span: Annotated[float, Parameter(help="Span of the volatilities, hours.")] = 128.0
    quantile_mode: Annotated[Bins, Parameter(help="Bins of all rows together, or of each moment.")] = "pooled"
    capital: Annotated[float, Parameter(help="Equity of each book, USD; more pays more impact.")] = 100_000.0
    leverage: Annotated[float, Parameter(help="Most gross exposure, fraction of equity.")] = 1.0
    risk_aversion: Annotated[float, Parameter(help="Weight of the variance in the optimiser.")] = 1.0
    max_weight: Annotated[float, Parameter(help="Most of one coin, fraction of equity.")] = 0.10
    fee_bps: Annotated[float, Parameter(help="Exchange fee, basis points of notional.")] = 2.0
    half_spread_bps: Annotated[float, Parameter(help="Half-spread, basis points: an assumption.")] = 1.0
    kappa: Annotated[float, Parameter(help="Impact constant.")] = 1.0
    executor: Annotated[str, Parameter(help="serial, local, ray or ray://host:port.")] = "serial"
    workers: Annotated[int | None, Parameter(help="Worker processes; default one per core.")] = None
    registry: Annotated[Path, Parameter(help="Where the run is recorded.")] = DEFAULT_REGISTRY
    as_json: Annotated[bool, Parameter(name="--json", negative="", help="Print optimization_summary.json alone.")] = (
        False
    )

    def request(self, horizons: tuple[int, ...]) -> SearchRequest:
        """The search these flags ask for.

        Raises:
            UsageError: a value is out of range.
        """
        from slipstream.core.portfolio.costs import CostAssumptions
        from slipstream.research.dataset import FeatureSettings
        from slipstream.research.net_edge import BookSettings
        from slipstream.research.search import SearchRequest

        return SearchRequest(
            horizons=tuple(dict.fromkeys(horizons)),
            features=FeatureSettings(
                spans_hours=self.spans,
                vol_span_hours=self.vol_span,
                K=self.k,
                pca_method=self.pca_method,
                min_assets=self.min_assets,
            ),
            books=BookSettings(
                capital_usd=self.capital,
                leverage=self.leverage,
                risk_aversion=self.risk_aversion,
                max_weight=self.max_weight,
                costs=CostAssumptions(self.fee_bps, self.half_spread_bps, self.kappa),
            ),
            n_bootstrap=self.n_bootstrap,
            seed=self.seed,
            select=self.select,
            quantile_mode=self.quantile_mode,
        )


def horizon(
    *,
    h: HorizonHours = HORIZONS,
    data: DataPath = None,
    data_dir: DataDir = Path("data"),
    interval: Interval = "4h",
    pca_dir: Annotated[
        Path | None, Parameter(help="Use the factor files in this folder; default: estimate the factor here.")
    ] = None,
    out: Annotated[Path, Parameter(help="Folder of the files; made if absent.")] = Path("data/features/joint_models"),
    flags: SearchFlags | None = None,
) -> int:
    """Forecast alpha and funding at several holding periods, trade the forecasts, and choose one after costs.

    Writes joint_model_H{H}.json, H_comparison.csv, optimization_summary.json and report.html into --out, all of them
    or none. An H that lacks data is reported and left out, and the exit code is then 1. Interrupted, the same command
    goes on where it stopped.

    Example: slipstream research horizon --data panel.parquet --H 4 8 12 24 48 --out out/horizon
    """
    return run_search(h, data, data_dir, interval, pca_dir, out, flags or SearchFlags())


def find_optimal_h_joint(
    *,
    h: HorizonHours = HORIZONS,
    data: DataPath = None,
    data_dir: DataDir = Path("data"),
    interval: Interval = "4h",
    output_dir: Annotated[Path, Parameter(help="Folder of the files; factor files lie in the one above.")] = Path(
        "data/features/joint_models"
    ),
    flags: SearchFlags | None = None,
) -> int:
    """Choose the holding period H* of the joint alpha and funding model, with the factor files built before.

    The same search as slipstream research horizon, on the factors that build_pca_factor.py wrote into the folder above
    --output-dir. Writes joint_model_H{H}.json, H_comparison.csv, optimization_summary.json and report.html.
    """
    return run_search(h, data, data_dir, interval, output_dir.parent, output_dir, flags or SearchFlags())


def run_search(
    horizons: tuple[int, ...],
    data: Path | None,
    data_dir: Path,
    interval: str,
    pca_dir: Path | None,
    out: Path,
    flags: SearchFlags,
) -> int:
    """Search, record, write and print; 1 if a horizon was left out."""
    from slipstream.cli.clock import wall_clock_ms
    from slipstream.reports.horizon_report import render_horizon_report
    from slipstream.reports.outputs import staged
    from slipstream.research.content import content_hash
    from slipstream.research.registry import Registry
    from slipstream.research.summary_files import file_texts, summary

    request = flags.request(horizons)
    panel = research_panel(data, data_dir, interval)
    exposures = _exposures(request, panel, pca_dir, data, data_dir, interval_hours(interval))
    chosen = {"horizons": sorted(request.horizons), "features": request.features, "walk": request.walk}
    config = {**chosen, "books": request.books, "select": request.select, "factor_files": bool(exposures)}
    data_hash = content_hash(panel)
    with (
        Registry(flags.registry, wall_clock_ms) as registry,
        registry.run(
            KIND, config, data_hash=data_hash, seed=request.seed, alternatives=len(request.horizons)
        ) as record,
    ):
        trials = registry.trials(KIND, data_hash=data_hash)
        journal = out / ".books"
        with noting_warnings() as notes:
            result = _search(panel, request, exposures, trials, journal, flags)
        texts = file_texts(result, panel) | {"report.html": render_horizon_report(result)}
        with staged(out) as stage:
            for name, text in texts.items():
                (stage / name).write_text(text, encoding="utf-8")
        shutil.rmtree(journal, ignore_errors=True)
        record.finish({name: value for name, value in summary(result).items() if name != "per_H"})
    if flags.as_json:
        sys.stdout.write(texts["optimization_summary.json"])
    else:
        _print(result, out, notes)
    return 1 if result.left_out else 0


def _search(
    panel: Panel,
    request: SearchRequest,
    exposures: dict[int, FloatArray],
    trials: int,
    journal: Path,
    flags: SearchFlags,
) -> SearchResult:
    from slipstream.research.executor import executor_from
    from slipstream.research.search import search_horizons

    with executor_from(flags.executor, flags.workers) as executor, _quiet_walks(), _progress(flags.as_json) as advance:
        try:
            return search_horizons(
                panel,
                request,
                executor,
                journal=journal,
                trials=trials,
                exposures=exposures,
                progress=advance,
            )
        except KeyboardInterrupt:
            print(f"finished books are kept in {journal}; the same command goes on from there", file=sys.stderr)  # noqa: T201
            raise


def _exposures(
    request: SearchRequest,
    panel: Panel,
    folder: Path | None,
    data: Path | None,
    data_dir: Path,
    bar_hours: int,
) -> dict[int, FloatArray]:
    if folder is None:
        return {}
    from slipstream.research.pca_files import read_exposures

    source = f"--data {data}" if data is not None else f"--data-dir {data_dir}"
    features = request.features
    found: dict[int, FloatArray] = {}
    for hours in request.horizons:
        build = (
            f"python scripts/build_pca_factor.py --H {hours} --K {features.K} --weight-method {features.pca_method} "
            f"{source} --interval {bar_hours}h --output-dir {folder}"
        )
        found[hours] = read_exposures(folder, features.factor(hours), panel, build)
    return found


@contextmanager
def _quiet_walks() -> Iterator[None]:
    """Notes of single walk-forward runs are not shown: the result counts short and unscored blocks of all of them."""
    logger = logging.getLogger("slipstream.core.forecast.walk_forward")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


@contextmanager
def _progress(quiet: bool) -> Iterator[Progress | None]:
    """A progress bar on standard error when a person is looking, else nothing."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("trading the forecasts, books", total=None)

        def advance(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield advance


def _print(result: SearchResult, out: Path, notes: Sequence[str]) -> None:
    from slipstream.reports.horizon_words import findings, terminal_table

    for line in terminal_table(result):
        say(line)
    say("")
    for sentence in findings(result):
        say(f"- {sentence}")
    for note in notes:
        say(f"note: {note}")
    for why in result.left_out.values():
        say(f"left out: {why}")
    say(f"written to {out}: report.html, optimization_summary.json, H_comparison.csv and {len(result.horizons)} models")
