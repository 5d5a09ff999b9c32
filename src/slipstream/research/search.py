"""The search for the holding period: every horizon forecast, scored and traded on the same rows, and one chosen.

The order is that of the question. Features and targets of each horizon; one span of rows cut into blocks, the same for
all; forecasts out of sample; the window from the first row at which every horizon has one; on it the three numbers of
each, and a costed book per start phase; and a choice by what an account would have kept. A horizon whose data are too
short is left out with the reason. Draws of the bootstrap are of the window's rows, shared by all horizons, so
differences between horizons are paired.

Books are the heavy part and go through an executor, one start phase a task; with a journal an interrupted search goes
on where it stopped. Everything else takes seconds and is done here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np

from slipstream.core.forecast.bootstrap import DRAWS, SEED, block_length_hours, circular_blocks
from slipstream.core.forecast.errors import ForecastError, NotEnoughData
from slipstream.core.forecast.horizon import (
    HorizonChoice,
    HorizonScores,
    choose_horizon,
    net_sharpe,
    net_utility_per_hour,
)
from slipstream.core.forecast.overfitting import (
    CSCV_GROUPS,
    backtest_overfitting,
    expected_best_sharpe,
    sharpe_probability,
)
from slipstream.core.forecast.quantiles import QuantileMode
from slipstream.core.forecast.targets import holding_bars
from slipstream.core.forecast.walk_forward import WalkForwardSettings
from slipstream.core.panel import HOURS_PER_YEAR, FloatArray, Panel
from slipstream.errors import DataError
from slipstream.research.content import content_hash
from slipstream.research.dataset import FeatureSettings, horizon_data
from slipstream.research.executor import Executor, Progress
from slipstream.research.horizon_forecasts import HorizonForecast, first_row, forecast_horizon
from slipstream.research.horizon_scores import HorizonSkill, score_horizon
from slipstream.research.net_edge import BookSettings, NetEdge, net_edges, phase_tasks, run_phase, shared_market
from slipstream.research.provenance import code_hash
from slipstream.research.resumable import resumable_map

Select = Literal["net_sharpe", "r2_combined"]
"""By what H* is chosen: the net Sharpe ratio, or the published rule, the combined R2 in deviations."""


@dataclass(frozen=True)
class SearchRequest:
    """What is searched, and how.

    Attributes:
        horizons: H, hours.
        features: how features are made.
        walk: how forecasts are made out of sample.
        books: how they are traded.
        n_bootstrap: draws, at least 2.
        seed: of the draws.
        select: the rule of the choice.
        quantile_mode: bins of all rows together, or of each timestamp.
    """

    horizons: tuple[int, ...] = (4, 8, 12, 24, 48)
    features: FeatureSettings = field(default_factory=FeatureSettings)
    walk: WalkForwardSettings = field(default_factory=WalkForwardSettings)
    books: BookSettings = field(default_factory=BookSettings)
    n_bootstrap: int = DRAWS
    seed: int = SEED
    select: Select = "net_sharpe"
    quantile_mode: QuantileMode = "pooled"

    def __post_init__(self) -> None:
        if not self.horizons or self.n_bootstrap < 2 or self.seed < 0:
            raise ForecastError(
                f"horizons {list(self.horizons)}, {self.n_bootstrap} draws, seed {self.seed}; it takes a horizon, two "
                "draws and a seed of at least 0"
            )


@dataclass(frozen=True)
class Data:
    """What was searched, in words and numbers that go on record.

    Attributes:
        source: where the bars come from.
        content_hash: of the panel.
        bar_hours: length of a bar.
        coins: all of the panel's.
        first_ms, last_ms: known-at times of the first and last row.
        volume_known: whether any volume is recorded; without one every coin has the same impact cost.
    """

    source: str
    content_hash: str
    bar_hours: int
    coins: tuple[str, ...] = field(repr=False)
    first_ms: int
    last_ms: int
    volume_known: bool


@dataclass(frozen=True)
class Deflated:
    """The best horizon's Sharpe ratio once the tries are counted.

    Attributes:
        trials: configurations tried, earlier runs on record included.
        probability: that the true Sharpe ratio exceeds what luck gives the best of so many tries.
        luck: that Sharpe ratio, annualised.
        overfitting: probability that the best horizon of one half of the window is below the median in the other; NaN
            where there are too few rows or horizons to tell.
    """

    trials: int
    probability: float
    luck: float
    overfitting: float


@dataclass(frozen=True)
class SearchResult:
    """A finished search; mappings by horizon in hours, ascending.

    Attributes:
        request: what was asked, with the spans that were kept.
        data: what was searched.
        left_out: horizons that could not be scored -> why.
        span: rows [start, stop) cut into blocks.
        start: first row scored.
        start_ms: its known-at time.
        forecasts, skills, edges: of each horizon.
        net, utility, r2: the three measures a horizon could be chosen by, with their draws; utility is per hour.
        by_net, by_utility, by_r2: the choices they make.
        deflated: of the choice by net Sharpe.
        parts_bp: horizon -> price, funding and cost per H, basis points of equity: estimate (3,) and draws (D, 3).
    """

    request: SearchRequest
    data: Data
    left_out: dict[int, str]
    span: tuple[int, int]
    start: int
    start_ms: int
    forecasts: dict[int, HorizonForecast] = field(repr=False)
    skills: dict[int, HorizonSkill] = field(repr=False)
    edges: dict[int, NetEdge] = field(repr=False)
    net: HorizonScores = field(repr=False)
    utility: HorizonScores = field(repr=False)
    r2: HorizonScores = field(repr=False)
    by_net: HorizonChoice
    by_utility: HorizonChoice
    by_r2: HorizonChoice
    deflated: Deflated
    parts_bp: dict[int, tuple[FloatArray, FloatArray]] = field(repr=False)

    @property
    def horizons(self) -> tuple[int, ...]:
        """Those scored, ascending."""
        return tuple(self.forecasts)

    @property
    def chosen(self) -> HorizonChoice:
        """The choice by the rule asked for."""
        return self.by_net if self.request.select == "net_sharpe" else self.by_r2


def search_horizons(
    panel: Panel,
    request: SearchRequest,
    executor: Executor,
    *,
    journal: Path | None = None,
    trials: int = 1,
    exposures: Mapping[int, FloatArray] | None = None,
    progress: Progress | None = None,
) -> SearchResult:
    """Forecast, score and trade every horizon, and choose one.

    Args:
        panel: bars whose length divides every H.
        request: what to search.
        executor: runs the books.
        journal: folder in which finished books are kept, so that an interrupted search goes on; None keeps none.
        trials: configurations tried on these data in all, earlier searches and this one; at least the horizons scored
            count.
        exposures: horizon -> betas and coefficients, see :func:`~slipstream.research.dataset.horizon_data`; None
            estimates them from the panel.
        progress: told how many books are done.

    Raises:
        NotEnoughData: no horizon can be scored; each one's reason is in the message.
        DataError: no funding is recorded, or no volume for a factor weighted by it.
        UsageError: an H is no multiple of the bar, or a setting does not fit.
    """
    asked = tuple(sorted(set(request.horizons)))
    for hours in asked:
        holding_bars(hours, panel.bar_hours)
    _require_inputs(panel, request)
    how = _with_kept_spans(request, asked, panel.bar_hours)
    forecasts, span, left_out = _forecast_all(panel, how, exposures or {})
    start = max(forecast.first_scored for forecast in forecasts.values())
    draws = circular_blocks(
        panel.rows - start, block_length_hours(*forecasts) // panel.bar_hours, how.n_bootstrap, how.seed
    )
    edges = _trade_all(panel, how, forecasts, start, executor, journal, progress)
    skills = {
        hours: score_horizon(forecast, panel, start, draws, how.books, how.quantile_mode)
        for hours, forecast in forecasts.items()
    }
    net_returns = {hours: edge.net_return for hours, edge in edges.items()}
    net = net_sharpe(net_returns, draws, panel.bar_hours)
    utility = net_utility_per_hour(net_returns, draws, panel.bar_hours, how.books.risk_aversion)
    combined = _combined_r2(skills)
    by_net = choose_horizon(net)
    return SearchResult(
        request=how,
        data=_data(panel),
        left_out=left_out,
        span=span,
        start=start,
        start_ms=int(panel.known_at_ms[start]),
        forecasts=forecasts,
        skills=skills,
        edges=edges,
        net=net,
        utility=utility,
        r2=combined,
        by_net=by_net,
        by_utility=choose_horizon(utility),
        by_r2=choose_horizon(combined),
        deflated=_deflated(net_returns, net, by_net.best, trials, panel.bar_hours),
        parts_bp={hours: (edge.parts_bp(), edge.parts_bp_draws(draws)) for hours, edge in edges.items()},
    )


def _require_inputs(panel: Panel, request: SearchRequest) -> None:
    """What would otherwise end in features that are missing or do not vary."""
    if not np.nan_to_num(panel.funding).any():
        raise DataError(
            f"{panel.source}: no funding is recorded, and the joint model forecasts it; give bars with funding"
        )
    if request.features.pca_method != "none" and np.isnan(panel.volume_usd).all():
        raise DataError(
            f"{panel.source}: no volume is recorded, and the factor is weighted by it; use the weights none "
            "(--pca-method none)"
        )


def _with_kept_spans(request: SearchRequest, horizons: tuple[int, ...], bar_hours: int) -> SearchRequest:
    return replace(request, horizons=horizons, features=request.features.for_bars(bar_hours))


def _data(panel: Panel) -> Data:
    return Data(
        source=panel.source,
        content_hash=content_hash(panel),
        bar_hours=panel.bar_hours,
        coins=panel.coins,
        first_ms=int(panel.known_at_ms[0]),
        last_ms=int(panel.known_at_ms[-1]),
        volume_known=not bool(np.isnan(panel.volume_usd).all()),
    )


def _forecast_all(
    panel: Panel, request: SearchRequest, exposures: Mapping[int, FloatArray]
) -> tuple[dict[int, HorizonForecast], tuple[int, int], dict[int, str]]:
    """Forecasts of the horizons that can be scored, the span they share, and why the others cannot."""
    left_out: dict[int, str] = {}
    begins: dict[int, int] = {}
    for hours in request.horizons:
        try:
            begins[hours] = first_row(horizon_data(panel, hours, request.features, exposures.get(hours)), request.walk)
        except NotEnoughData as problem:
            left_out[hours] = str(problem)
    forecasts: dict[int, HorizonForecast] = {}
    span = (max(begins.values(), default=0), panel.rows)
    for hours in begins:
        data = horizon_data(panel, hours, request.features, exposures.get(hours))
        try:
            forecasts[hours] = forecast_horizon(
                panel, data, span, request.walk, draws=request.n_bootstrap, seed=request.seed
            )
        except NotEnoughData as problem:
            left_out[hours] = str(problem)
    if not forecasts:
        raise NotEnoughData(f"no horizon can be scored: {'; '.join(left_out.values())}")
    return forecasts, span, left_out


def _trade_all(
    panel: Panel,
    request: SearchRequest,
    forecasts: Mapping[int, HorizonForecast],
    start: int,
    executor: Executor,
    journal: Path | None,
    progress: Progress | None,
) -> dict[int, NetEdge]:
    tasks = phase_tasks(tuple(forecasts), panel.bar_hours)
    arrays = {hours: (own.alpha_price, own.alpha_funding, own.beta) for hours, own in forecasts.items()}
    shared = shared_market(panel, arrays, start, request.books)
    if journal is None:
        books = executor.map(run_phase, tasks, shared=shared, progress=progress)
    else:
        books = resumable_map(executor, run_phase, tasks, journal, code_hash(), shared=shared, progress=progress)
    return net_edges(tasks, books, panel.bar_hours)


def _combined_r2(skills: Mapping[int, HorizonSkill]) -> HorizonScores:
    found = {hours: skill.sigma_r2.combined for hours, skill in skills.items()}
    return HorizonScores(
        tuple(found),
        np.array([score.value for score in found.values()]),
        np.column_stack([score.draws for score in found.values()]),
    )


def _deflated(
    net_returns: Mapping[int, FloatArray], net: HorizonScores, best: int, trials: int, bar_hours: int
) -> Deflated:
    """Per-bar returns hardly depend on each other, so a row is an observation; skewness and tails are of all phases."""
    per_year = HOURS_PER_YEAR / bar_hours
    books = net_returns[best]
    known = books[~np.isnan(books)]
    spread = float(known.std()) if len(known) else 0.0
    if not spread > 0.0:
        raise NotEnoughData(f"the books of H = {best} h never moved; no coin was traded")
    z = (known - known.mean()) / spread
    observations = books.shape[1] - 1
    sharpe = float(net.estimate[net.horizons.index(best)]) / float(np.sqrt(per_year))
    counted = max(trials, len(net_returns))
    luck = expected_best_sharpe(counted, 1.0 / observations)
    tries = np.column_stack([np.nan_to_num(np.nanmean(values[:, 1:], axis=0)) for values in net_returns.values()])
    enough = tries.shape[1] >= 2 and len(tries) >= 2 * CSCV_GROUPS
    return Deflated(
        trials=counted,
        probability=sharpe_probability(sharpe, observations, float((z**3).mean()), float((z**4).mean()), luck),
        luck=luck * float(np.sqrt(per_year)),
        overfitting=backtest_overfitting(tries).probability if enough else float("nan"),
    )
