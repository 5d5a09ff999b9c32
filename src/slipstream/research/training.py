"""Train the joint model of one horizon as of a moment, and again as time goes on.

A model of the close T is taught rows whose holding period had ended *before* T. One bar earlier than the data reach:
the settlement stamped T is published after T, and a decision at T must not have learnt from it. The penalty is chosen
inside that training set by purged and embargoed folds (:mod:`slipstream.core.forecast.walk_forward`).

Features of a row do not depend on later rows, so the data of a whole history are made once and every model of a
retraining schedule reads its own prefix of them: the model is, coefficient for coefficient, the one that a file ending
at T would have given. Retraining moments lie on a grid anchored at the Unix epoch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePath

import numpy as np

from slipstream.core.forecast.bootstrap import (
    DRAWS,
    SEED,
    Inference,
    block_length_hours,
    circular_blocks,
    inferred,
    refit_draws,
)
from slipstream.core.forecast.dated_models import DatedModels
from slipstream.core.forecast.errors import ForecastError, NotEnoughData
from slipstream.core.forecast.model import JointModel, LinearModel, ModelCard
from slipstream.core.forecast.moments import Moments, Regression
from slipstream.core.forecast.quantiles import QuantileRow, quantile_table
from slipstream.core.forecast.ridge import RidgeFit, fit_ridge
from slipstream.core.forecast.scores import joint_r2
from slipstream.core.forecast.targets import TARGET_CLIP, alpha_in_money, funding_in_money
from slipstream.core.forecast.walk_forward import WalkForwardSettings, choose_penalty, walk_forward
from slipstream.core.panel import HOUR_MS, FloatArray, Panel, utc
from slipstream.core.signals.funding import BASE_RATE_PER_HOUR
from slipstream.research.content import content_hash
from slipstream.research.dataset import FUNDING, FeatureSettings, HorizonData, horizon_data
from slipstream.research.executor import Executor, Progress, SerialExecutor
from slipstream.research.provenance import versions

UNIVERSE = "the coins that could be held at each row, judged on bars and volume up to it"
"""The universe of every panel, in the words of a model card."""


@dataclass(frozen=True)
class TrainingSettings:
    """How a model is trained.

    Attributes:
        horizon_hours: H.
        features: spans, deviations and market factor; its ``min_assets`` and ``min_periods`` stay at their defaults,
            because a model's text does not hold them.
        walk: inner folds, penalties, embargo and the least training length; ``blocks`` for the scores.
        n_bootstrap: draws for the standard errors, and the intervals of the scores; 0: none, and neither scores nor
            quantile table.
        seed: of the draws.
    """

    horizon_hours: int = 8
    features: FeatureSettings = field(default_factory=FeatureSettings)
    walk: WalkForwardSettings = field(default_factory=WalkForwardSettings)
    n_bootstrap: int = DRAWS
    seed: int = SEED

    def __post_init__(self) -> None:
        usual = FeatureSettings()
        if (self.features.min_assets, self.features.min_periods) != (usual.min_assets, usual.min_periods):
            raise ForecastError("min_assets and min_periods are not kept in a model; train with their defaults")
        if self.n_bootstrap != 0 and self.n_bootstrap < 2:
            raise ForecastError(f"{self.n_bootstrap} bootstrap draw says nothing of an error; draw more, or 0 for none")


@dataclass(frozen=True)
class TrainingSet:
    """A panel with the arrays all models of one horizon are trained on.

    Attributes:
        panel: the bars.
        data: from :func:`~slipstream.research.dataset.horizon_data`.
        settings: how models are trained.
        funding_known: whether the panel holds any settlement at all. Without one funding features are left out, and
            the model expects none to be paid.
    """

    panel: Panel
    data: HorizonData
    settings: TrainingSettings
    funding_known: bool

    @classmethod
    def of(cls, panel: Panel, settings: TrainingSettings) -> TrainingSet:
        """The training set of a panel.

        Raises:
            UsageError: H is no multiple of the bar, or a setting is out of range.
        """
        data = horizon_data(panel, settings.horizon_hours, settings.features)
        return cls(panel, data, settings, bool(np.nan_to_num(panel.funding).any()))

    def rows_known_at(self, row: int) -> tuple[int, int]:
        """Rows [start, stop) that a model of the close of ``row`` may be taught.

        Raises:
            NotEnoughData: fewer days than the settings ask for.
        """
        data, least = self.data, self.settings.walk.min_train_days
        stop = row - data.bars
        seen = np.flatnonzero(data.moments.count[: max(stop, 0)] > 0)
        days = (stop - int(seen[0])) * data.bar_hours / 24.0 if len(seen) else 0.0
        if not len(seen) or days < least:
            raise NotEnoughData(
                f"{self.panel.source}: {days:.1f} days could be trained on by "
                f"{utc(int(data.known_at_ms[row])):%Y-%m-%d %H:%M} UTC and {least:g} are needed, after about 40 days "
                "in which coins enter the universe and features warm up; load a longer history or train at a later time"
            )
        return int(seen[0]), stop


def train_model(panel: Panel, settings: TrainingSettings | None = None, *, until_ms: int | None = None) -> JointModel:
    """The joint model as of a moment.

    Args:
        panel: bars whose length divides H; rows known after the moment are not read.
        settings: default :class:`TrainingSettings`.
        until_ms: the moment, Unix ms; default: the panel's last close.

    Raises:
        NotEnoughData: too little to train on by then.
        UsageError: H is no multiple of the bar, or the panel begins after the moment.
    """
    row = panel.rows - 1 if until_ms is None else panel.row_at(until_ms)
    if row < 0:
        raise ForecastError(f"{panel.source} begins after {utc(until_ms or 0):%Y-%m-%d %H:%M} UTC; choose a later time")
    return model_as_of(TrainingSet.of(panel.until(row), settings or TrainingSettings()), row)


def model_as_of(training: TrainingSet, row: int) -> JointModel:
    """The joint model that could be trained at the close of ``row`` of a training set.

    Raises:
        NotEnoughData: too little to train on by then.
    """
    data, how = training.data, training.settings
    rows = training.rows_known_at(row)
    alpha, funding, base = _regressions(training, rows)
    r2, table = _scores(data, rows, how) if how.n_bootstrap and training.funding_known else ({}, ())
    start, stop = rows
    taught = np.flatnonzero(np.isfinite(data.features[start:stop]).all(axis=2).any(axis=0))
    last = start + int(np.flatnonzero(data.moments.count[start:stop] > 0)[-1])
    made_by = data.settings
    return JointModel(
        H=data.horizon_hours,
        bar_hours=data.bar_hours,
        K=made_by.K,
        pca_method=made_by.pca_method,
        spans=made_by.spans_hours,
        vol_span=made_by.vol_span_hours,
        clips={"momentum": made_by.momentum_clip, "funding": made_by.funding_clip, "target": TARGET_CLIP},
        alpha=alpha,
        funding=funding,
        # The row that may have been the last, where a gap left it empty: a model is dated by its moment.
        trained_through_ms=int(data.known_at_ms[stop - 1]),
        r2=r2,
        quantile_table=table,
        card=ModelCard(
            data_first_ms=int(data.known_at_ms[start]),
            data_last_ms=int(data.known_at_ms[last + data.bars]),
            data_source=PurePath(training.panel.source).name,
            data_hash=content_hash(training.panel.until(row)),
            coins=tuple(data.coins[i] for i in taught),
            universe=UNIVERSE,
            folds=(how.walk.blocks, how.walk.inner_folds),
            seed=how.seed,
            n_bootstrap=how.n_bootstrap,
            versions=versions(),
        ),
        funding_base_per_hour=base,
    )


def retraining_rows(training: TrainingSet, every_hours: float, first_ms: int | None = None) -> list[int]:
    """Rows at which a model is trained: the first that can be, and then the last close of every period.

    Args:
        training: the data.
        every_hours: period, on a grid anchored at the Unix epoch.
        first_ms: no model before this moment.

    Raises:
        UsageError: the period is shorter than a bar.
        NotEnoughData: no row can be trained at.
    """
    data = training.data
    if not every_hours >= data.bar_hours:
        raise ForecastError(f"retraining every {every_hours:g} h is shorter than a bar of {data.bar_hours} h")
    period = (data.known_at_ms // round(every_hours * HOUR_MS)).astype(np.int64)
    begins = np.flatnonzero(np.diff(period, prepend=period[0]) > 0)
    least = np.ceil(training.settings.walk.min_train_days * 24.0 / data.bar_hours)
    seen = np.flatnonzero(data.moments.count > 0)
    first = int(seen[0] + least) + data.bars if len(seen) else data.rows
    if first_ms is not None:
        first = max(first, int(np.searchsorted(data.known_at_ms, first_ms)))
    if first >= data.rows:
        training.rows_known_at(data.rows - 1)
        raise NotEnoughData(f"{training.panel.source}: ends before the first model is to be trained; train earlier")
    return [first, *(int(row) for row in begins if row > first)]


def walk_forward_models(
    training: TrainingSet,
    every_hours: float,
    *,
    first_ms: int | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> DatedModels:
    """Models trained one after another, each on what was known at its moment.

    Args:
        training: the data.
        every_hours: hours between models.
        first_ms: no model before this moment.
        executor: where they are trained, with the same models as a result; None: here, one by one.
        progress: called with (models done, models to train).

    Raises:
        NotEnoughData: the data are too short for one model.
    """
    rows = retraining_rows(training, every_hours, first_ms)
    return DatedModels((executor or SerialExecutor()).map(_task, rows, shared={"of": training}, progress=progress))


def _task(row: int, shared: Mapping[str, TrainingSet]) -> JointModel:
    return model_as_of(shared["of"], row)


def _regressions(training: TrainingSet, rows: tuple[int, int]) -> tuple[LinearModel, LinearModel, float]:
    """Both regressions, and the funding rate per hour the second counts from."""
    data = training.data
    if training.funding_known:
        alpha = _fitted(training, data.alpha_regression, data.feature_names, rows)
        return alpha, _fitted(training, data.funding_regression, data.funding_names, rows), BASE_RATE_PER_HOUR
    names = data.feature_names[: data.spans]
    alpha = _fitted(training, Regression(tuple(range(data.spans))), names, rows)
    nothing = tuple(0.0 for _ in names)
    unknown = tuple(float("nan") for _ in names)
    none = LinearModel(
        names, alpha.feature_mean, alpha.feature_std, 0.0, nothing, unknown, alpha.penalty, alpha.observations
    )
    return alpha, none, 0.0


def _fitted(
    training: TrainingSet, regression: Regression, names: tuple[str, ...], rows: tuple[int, int]
) -> LinearModel:
    data, how = training.data, training.settings
    choice = choose_penalty(
        data.moments,
        regression,
        rows,
        horizon_hours=data.horizon_hours,
        bar_hours=data.bar_hours,
        settings=how.walk,
    )
    fit = fit_ridge(data.moments.design(data.moments.between(*rows), regression), choice.penalty)
    return LinearModel.of(fit, names, _inference(data, regression, fit, rows, how))


def _inference(
    data: HorizonData, regression: Regression, fit: RidgeFit, rows: tuple[int, int], how: TrainingSettings
) -> Inference | None:
    if not how.n_bootstrap:
        return None
    moments = Moments(data.moments.per_row[slice(*rows)], data.moments.features, data.moments.targets)
    length = block_length_hours(data.horizon_hours) // data.bar_hours
    draws = circular_blocks(moments.rows, length, how.n_bootstrap, how.seed)
    refits = refit_draws(moments, regression, fit, moments.unpacked(draws.totals(moments.per_row)))
    return inferred(fit.coefficients, refits.coefficients)


def _scores(
    data: HorizonData, rows: tuple[int, int], how: TrainingSettings
) -> tuple[dict[str, float], tuple[QuantileRow, ...]]:
    """Scores out of sample inside the training rows, and the quantile table by alpha_total in basis points.

    Nothing where the rows do not make a scored block: a model may be trained before it can be scored.
    """
    start, stop = rows
    span = slice(start, stop)
    moments = Moments(data.moments.per_row[span], data.moments.features, data.moments.targets)
    features = data.features[span]
    forecast: list[FloatArray] = []
    for regression in (data.alpha_regression, data.funding_regression):
        try:
            found = walk_forward(
                features,
                moments,
                regression,
                horizon_hours=data.horizon_hours,
                bar_hours=data.bar_hours,
                settings=how.walk,
            )
        except NotEnoughData:
            return {}, ()
        forecast.append(found.forecast)
    price = alpha_in_money(forecast[0], data.sigma[span], data.bars)
    paid = funding_in_money(forecast[FUNDING], data.funding_sigma[span], data.horizon_hours, data.bar_hours)
    came = data.targets
    draws = circular_blocks(
        stop - start, block_length_hours(data.horizon_hours) // data.bar_hours, how.n_bootstrap, how.seed
    )
    in_sigma = joint_r2(came.alpha[span], forecast[0], came.funding[span], forecast[FUNDING])
    in_money = joint_r2(came.price_return[span], price, came.funding_paid[span], paid)
    r2 = {
        f"{name}_{unit}": getattr(scores, name).value
        for unit, scores in (("sigma", in_sigma), ("money", in_money))
        for name in ("alpha", "funding", "combined")
    }
    table = quantile_table(price - paid, came.price_return[span], came.funding_paid[span], draws, unit=1e4)
    return r2, table
