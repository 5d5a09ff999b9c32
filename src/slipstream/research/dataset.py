"""What the forecast statistics of one holding period read: features, targets, deviations and exposures of a panel.

One door from bars to arrays, used by the horizon search, by training and by whoever predicts. Row t of everything but
the targets depends on the panel's rows up to t only: the features and deviations are those a decision at the close t
can compute (funding as published by then, factor of windows that have ended), and a panel cut after t gives the same
row bit for bit. Targets look ahead by the holding period, as they must; the realised sums they hold are for scoring.

Coins enter while they may be held: outside the point-in-time universe features are NaN, so such rows are neither
trained on, forecast, nor scored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from slipstream.core.factors.pca import pca_exposures
from slipstream.core.factors.pca_spec import PCASpec, WeightMethod
from slipstream.core.forecast.moments import Moments, Regression, joint_moments
from slipstream.core.forecast.targets import HoldingTargets, holding_bars, holding_targets
from slipstream.core.panel import BoolArray, FloatArray, IntArray, Panel, View
from slipstream.core.signals import funding as funding_signals
from slipstream.core.signals import momentum as momentum_signals
from slipstream.core.signals.funding import Mode, funding_components, funding_sigma, published_funding
from slipstream.core.signals.momentum import SPANS_HOURS, VOL_SPAN_HOURS, momentum_components, volatility
from slipstream.core.signals.residuals import idiosyncratic_return, market_factor, residuals
from slipstream.core.signals.spans import span_bars

ALPHA, FUNDING = 0, 1
"""Places of the two targets in the joint moments."""


@dataclass(frozen=True)
class FeatureSettings:
    """How features, deviations and the market factor are made; the same for every horizon.

    Attributes:
        spans_hours: of momentum and funding features; those below one bar are dropped with one warning.
        vol_span_hours: of both deviations.
        momentum_clip, funding_clip: largest size of a feature.
        K: bars of H hours per factor window.
        pca_method: weights of the factor.
        min_assets, min_periods: see :class:`~slipstream.core.factors.pca_spec.PCASpec`.
    """

    spans_hours: tuple[float, ...] = SPANS_HOURS
    vol_span_hours: float = VOL_SPAN_HOURS
    momentum_clip: float = momentum_signals.CLIP
    funding_clip: float = funding_signals.CLIP
    K: int = 30
    pca_method: WeightMethod = "sqrt"
    min_assets: int = 10
    min_periods: int | None = None

    def factor(self, horizon_hours: int) -> PCASpec:
        """The market factor of a horizon.

        Raises:
            UsageError: a setting is out of range.
        """
        return PCASpec(self.K, horizon_hours, self.pca_method, self.min_assets, self.min_periods)

    def for_bars(self, bar_hours: int) -> FeatureSettings:
        """The same without the spans that are shorter than a bar: here they are dropped, with one warning."""
        return replace(self, spans_hours=tuple(span_bars(self.spans_hours, bar_hours)))


@dataclass(frozen=True)
class HorizonData:
    """One horizon's arrays over T rows and N coins; p features, the momentum ones first, then the funding ones.

    Attributes:
        horizon_hours, bar_hours: H and b.
        known_at_ms: (T,) rows, Unix ms.
        coins: N names.
        settings: how it was made, with the spans that were kept.
        feature_names: p names, ``mom_4`` ... and ``funding_4`` ... by span in hours.
        features: (T, N, p), in deviations, NaN where unknown or where the coin may not be held.
        raw_features: the same with funding unfloored and not counted from the base rate: for one diagnostic only.
        targets: alpha and funding of the next H hours, with the money they stand for.
        raw_targets: the diagnostic's: funding from zero over its unfloored deviation.
        sigma: (T, N) deviation of the residual log return per bar.
        funding_sigma: (T, N) deviation of a bar's funding, floored.
        beta, coef: (T, N) slopes on the market factor and its coefficients, as known at each row.
        eligible: (T, N) the coin may be held.
        simple_return: (T, N) of the bar that ends at each row, NaN in a gap.
        funding: (T, N) rates settled in it.
    """

    horizon_hours: int
    bar_hours: int
    known_at_ms: IntArray = field(repr=False)
    coins: tuple[str, ...] = field(repr=False)
    settings: FeatureSettings
    feature_names: tuple[str, ...]
    features: FloatArray = field(repr=False)
    raw_features: FloatArray = field(repr=False)
    targets: HoldingTargets = field(repr=False)
    raw_targets: HoldingTargets = field(repr=False)
    sigma: FloatArray = field(repr=False)
    funding_sigma: FloatArray = field(repr=False)
    beta: FloatArray = field(repr=False)
    coef: FloatArray = field(repr=False)
    eligible: BoolArray = field(repr=False)
    simple_return: FloatArray = field(repr=False)
    funding: FloatArray = field(repr=False)

    @property
    def bars(self) -> int:
        """H / b, bars held."""
        return holding_bars(self.horizon_hours, self.bar_hours)

    @property
    def rows(self) -> int:
        return len(self.known_at_ms)

    @property
    def spans(self) -> int:
        """Spans of each kind of feature."""
        return len(self.settings.spans_hours)

    @property
    def alpha_regression(self) -> Regression:
        """Price alpha on all features."""
        return Regression(tuple(range(len(self.feature_names))), ALPHA)

    @property
    def funding_regression(self) -> Regression:
        """Funding on the funding features."""
        return Regression(tuple(range(self.spans, 2 * self.spans)), FUNDING)

    @property
    def funding_names(self) -> tuple[str, ...]:
        """Names of the funding model's features, in the order of its coefficients."""
        return self.feature_names[self.spans :]

    @cached_property
    def moments(self) -> Moments:
        """Sums of products per row of the coins whose features and both targets are known."""
        return joint_moments(self.features, (self.targets.alpha, self.targets.funding))

    @cached_property
    def raw_moments(self) -> Moments:
        """The same of the diagnostic."""
        return joint_moments(self.raw_features, (self.raw_targets.alpha, self.raw_targets.funding))

    def named_features(self) -> dict[str, FloatArray]:
        """Feature name -> (T, N), the form a saved model takes."""
        return {name: self.features[:, :, k] for k, name in enumerate(self.feature_names)}


def horizon_data(
    panel: Panel,
    horizon_hours: int,
    settings: FeatureSettings | None = None,
    exposures: FloatArray | None = None,
) -> HorizonData:
    """Everything the statistics of one horizon read.

    Args:
        panel: bars whose length divides H; resample first to work on longer ones.
        horizon_hours: H.
        settings: default :class:`FeatureSettings`.
        exposures: betas and coefficients known at each row, shape (T, 2, 1, N), as
            :func:`~slipstream.core.factors.pca.pca_exposures` gives them; None estimates them from the panel.

    Raises:
        UsageError: H is no multiple of the bar, no span holds a bar, or a setting is out of range.
    """
    bar_hours = panel.bar_hours
    holding_bars(horizon_hours, bar_hours)
    how = (settings or FeatureSettings()).for_bars(bar_hours)
    view = panel.view()
    spec = how.factor(horizon_hours)
    known = view.feature(pca_exposures, spec=spec) if exposures is None else exposures
    beta, coef = (np.ascontiguousarray(known[:, k, 0]) for k in (0, 1))
    residual = view.feature(idiosyncratic_return, spec=spec) if exposures is None else _residual(view, beta, coef)
    published = view.feature(published_funding)
    sigma = volatility(residual, bar_hours, how.vol_span_hours)
    floored = funding_sigma(published, bar_hours, how.vol_span_hours)
    unfloored = volatility(published, bar_hours, how.vol_span_hours)
    simple = np.expm1(view.log_return)

    def holding(deviation: FloatArray, **base: float) -> HoldingTargets:
        return holding_targets(
            simple,
            beta,
            coef,
            sigma,
            panel.funding,
            deviation,
            horizon_hours=horizon_hours,
            bar_hours=bar_hours,
            **base,
        )

    momentum = list(
        momentum_components(residual, bar_hours, how.spans_hours, how.vol_span_hours, how.momentum_clip).values()
    )

    def stacked(mode: Mode) -> FloatArray:
        rates = funding_components(published, bar_hours, how.spans_hours, how.vol_span_hours, how.funding_clip, mode)
        out = np.stack([*momentum, *rates.values()], axis=-1)
        out[~panel.universe] = np.nan
        return out

    return HorizonData(
        horizon_hours=horizon_hours,
        bar_hours=bar_hours,
        known_at_ms=panel.known_at_ms,
        coins=panel.coins,
        settings=how,
        feature_names=feature_names(how.spans_hours),
        features=stacked("excess"),
        raw_features=stacked("raw"),
        targets=holding(floored),
        raw_targets=holding(unfloored, funding_base_per_hour=0.0),
        sigma=sigma,
        funding_sigma=floored,
        beta=beta,
        coef=coef,
        eligible=panel.universe,
        simple_return=simple,
        funding=panel.funding,
    )


def _residual(view: View, beta: FloatArray, coef: FloatArray) -> FloatArray:
    """Residual log returns with given exposures, those known at each bar's open."""
    opened = np.arange(view.rows, dtype=np.int64) - 1
    factor = market_factor(view.log_return, coef, coef * beta, opened)
    return residuals(view.log_return, beta[None], factor[:, None], opened)


def feature_names(spans_hours: Sequence[float]) -> tuple[str, ...]:
    """Names of the features of some spans, in the order of the arrays: momentum first, then funding."""
    return (*(f"mom_{span:g}" for span in spans_hours), *(f"funding_{span:g}" for span in spans_hours))
