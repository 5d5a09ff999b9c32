"""One horizon's forecasts out of sample, its models on the whole sample, and the yardsticks beside them.

Three forecasts of funding stand side by side: the model's, the same in the deviations of the published diagnostic, and
an exponentially weighted mean of past funding alone. The last takes no regression: the mean is assumed to go on, and
its span is chosen, like everything else, on the rows that had ended before the block it forecasts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from slipstream.core.forecast.bootstrap import Inference, block_length_hours, circular_blocks, inferred, refit_draws
from slipstream.core.forecast.errors import NotEnoughData
from slipstream.core.forecast.moments import Moments, Regression
from slipstream.core.forecast.ridge import RidgeFit, fit_ridge
from slipstream.core.forecast.targets import HoldingTargets, alpha_in_money, funding_in_money
from slipstream.core.forecast.walk_forward import (
    Block,
    PenaltyChoice,
    WalkForward,
    WalkForwardSettings,
    choose_penalty,
    walk_forward,
)
from slipstream.core.panel import FloatArray, Panel
from slipstream.core.signals.ewm import ewm_mean
from slipstream.core.signals.funding import published_funding
from slipstream.core.signals.spans import span_bars
from slipstream.research.dataset import HorizonData

MODELS = ("alpha", "funding")


@dataclass(frozen=True)
class FullSampleFit:
    """One regression on every row there is: what is saved, and how sure its coefficients are.

    Attributes:
        names: p features, in the order of the coefficients.
        fit: the regression.
        choice: how its penalty was chosen, inside the same rows.
        inference: of the coefficients as they come (not standardised), by block bootstrap.
    """

    names: tuple[str, ...]
    fit: RidgeFit
    choice: PenaltyChoice
    inference: Inference


@dataclass(frozen=True)
class HorizonForecast:
    """Forecasts of one horizon over T rows and N coins, in the units named; NaN outside scored blocks.

    Attributes:
        horizon_hours, bar_hours: H and b.
        alpha, funding: walk-forward forecasts in deviations, with each block's model.
        raw_alpha, raw_funding: (T, N) those of the diagnostic.
        alpha_price, alpha_funding: (T, N) the forecasts in money, fraction of notional per H.
        ewma_funding: (T, N) an EWMA of past funding going on for H hours, money.
        ewma_span_hours: the span chosen for each scored block.
        targets, raw_targets: what came.
        beta: (T, N) known at each row.
        fits: "alpha" and "funding" on the whole sample.
        fit_rows: rows [start, stop) of those fits.
    """

    horizon_hours: int
    bar_hours: int
    alpha: WalkForward
    funding: WalkForward
    raw_alpha: FloatArray = field(repr=False)
    raw_funding: FloatArray = field(repr=False)
    alpha_price: FloatArray = field(repr=False)
    alpha_funding: FloatArray = field(repr=False)
    ewma_funding: FloatArray = field(repr=False)
    ewma_span_hours: tuple[float, ...]
    targets: HoldingTargets = field(repr=False)
    raw_targets: HoldingTargets = field(repr=False)
    beta: FloatArray = field(repr=False)
    fits: dict[str, FullSampleFit] = field(repr=False)
    fit_rows: tuple[int, int]

    @property
    def bars(self) -> int:
        return self.horizon_hours // self.bar_hours

    @property
    def alpha_total(self) -> FloatArray:
        """What a hedged long is forecast to earn before costs, (T, N)."""
        return self.alpha_price - self.alpha_funding

    @property
    def first_scored(self) -> int:
        """First row with forecasts of both models."""
        return max(run.scored[0].test[0] for run in (self.alpha, self.funding))


def first_row(data: HorizonData, walk: WalkForwardSettings) -> int:
    """The first row at which a coin has all features and targets, of data long enough to score a block.

    Raises:
        NotEnoughData: there is none, or the data are too short; the message says what is missing.
    """
    hours = data.rows * data.bar_hours
    seen = np.flatnonzero(data.moments.count > 0)
    if not len(seen):
        window = data.settings.K * data.horizon_hours
        raise NotEnoughData(
            f"H = {data.horizon_hours} h: no coin has all its features and targets in {hours} h of history; the factor "
            f"alone takes {window} h, the deviations {data.settings.vol_span_hours:g} h, and a coin "
            f"{data.settings.min_assets - 1} others"
        )
    least = walk.min_train_days * 24.0
    last_training = (data.rows - int(seen[0])) * data.bar_hours * (1.0 - 1.0 / walk.blocks) - data.horizon_hours
    if last_training < least:
        raise NotEnoughData(
            f"H = {data.horizon_hours} h: {max(last_training, 0.0) / 24.0:.0f} days of training before the last block, "
            f"fewer than {walk.min_train_days:g}; load a longer history"
        )
    return int(seen[0])


def forecast_horizon(
    panel: Panel,
    data: HorizonData,
    span: tuple[int, int],
    walk: WalkForwardSettings,
    *,
    draws: int,
    seed: int,
) -> HorizonForecast:
    """Walk-forward forecasts and whole-sample fits of one horizon.

    Args:
        panel: the bars ``data`` was made of.
        data: from :func:`~slipstream.research.dataset.horizon_data`.
        span: rows [start, stop) cut into blocks, the same for every horizon.
        walk: how.
        draws: of the coefficients' bootstrap.
        seed: of those draws.

    Raises:
        NotEnoughData: no block can be scored.
    """

    def walked(features: FloatArray, moments: Moments, regression: Regression) -> WalkForward:
        return walk_forward(
            features,
            moments,
            regression,
            horizon_hours=data.horizon_hours,
            bar_hours=data.bar_hours,
            settings=walk,
            span=span,
        )

    regressions = (data.alpha_regression, data.funding_regression)
    alpha, funding = (walked(data.features, data.moments, regression) for regression in regressions)
    raw = [walked(data.raw_features, data.raw_moments, regression).forecast for regression in regressions]
    ewma, spans = _ewma_alone(panel, data, funding.blocks, span[0])
    rows = (first_row(data, walk), data.rows)
    return HorizonForecast(
        horizon_hours=data.horizon_hours,
        bar_hours=data.bar_hours,
        alpha=alpha,
        funding=funding,
        raw_alpha=raw[0],
        raw_funding=raw[1],
        alpha_price=alpha_in_money(alpha.forecast, data.sigma, data.bars),
        alpha_funding=funding_in_money(funding.forecast, data.funding_sigma, data.horizon_hours, data.bar_hours),
        ewma_funding=ewma,
        ewma_span_hours=spans,
        targets=data.targets,
        raw_targets=data.raw_targets,
        beta=data.beta,
        fits={
            name: full_sample_fit(data, regression, names, rows, walk, draws=draws, seed=seed)
            for name, regression, names in zip(
                MODELS, regressions, (data.feature_names, data.funding_names), strict=True
            )
        },
        fit_rows=rows,
    )


def full_sample_fit(
    data: HorizonData,
    regression: Regression,
    names: tuple[str, ...],
    rows: tuple[int, int],
    walk: WalkForwardSettings,
    *,
    draws: int,
    seed: int,
) -> FullSampleFit:
    """One regression on rows [start, stop), its penalty chosen among them, with a block bootstrap of its coefficients.

    Args:
        data: of the horizon.
        regression: which of its two.
        names: its features.
        rows: [start, stop); the last H hours of them have no target and add nothing.
        walk: how the penalty is chosen.
        draws: of the bootstrap.
        seed: of those draws.

    Raises:
        NotEnoughData: too few rows.
    """
    moments, hours = data.moments, data.horizon_hours
    choice = choose_penalty(moments, regression, rows, horizon_hours=hours, bar_hours=data.bar_hours, settings=walk)
    fit = fit_ridge(moments.design(moments.between(*rows), regression), choice.penalty)
    per_row = moments.per_row[rows[0] : rows[1]]
    ring = circular_blocks(len(per_row), block_length_hours(hours) // data.bar_hours, draws, seed)
    drawn = refit_draws(moments, regression, fit, moments.unpacked(ring.totals(per_row)))
    return FullSampleFit(names, fit, choice, inferred(fit.coefficients, drawn.coefficients))


def _ewma_alone(
    panel: Panel, data: HorizonData, blocks: Sequence[Block], start: int
) -> tuple[FloatArray, tuple[float, ...]]:
    """Funding forecast by the EWMA of the span that did best on each block's training rows, and those spans."""
    published = panel.view().feature(published_funding)
    spans = span_bars(data.settings.spans_hours, data.bar_hours)
    held = [np.where(data.eligible, data.bars * ewm_mean(published, bars, bars), np.nan) for bars in spans.values()]
    paid = data.targets.funding_paid
    joint = np.isfinite(paid) & np.isfinite(held).all(axis=0)
    error = [np.where(joint, paid - values, 0.0) for values in held]
    squares = np.column_stack([(gap * gap).sum(axis=1) for gap in error])
    out, chosen = np.full(paid.shape, np.nan), []
    for block in blocks:
        if block.fit is None:
            continue
        best = int(np.argmin(squares[start : block.train[1]].sum(axis=0)))
        out[block.test[0] : block.test[1]] = held[best][block.test[0] : block.test[1]]
        chosen.append(list(spans)[best])
    return out, tuple(chosen)
