"""What a saved model reads of a market, made with the model's own settings, and the forecast it then gives.

The features are those of training (:mod:`slipstream.core.signals.momentum`, :mod:`slipstream.core.signals.funding`) as
one feature of a view, so a backtest computes them once and every decision reads its own row. A test holds them, bit for
bit, to the arrays that research trains on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, get_args

import numpy as np

from slipstream.core.factors.pca import as_of_rows, pca_exposures
from slipstream.core.factors.pca_spec import PCASpec, WeightMethod
from slipstream.core.forecast.errors import ForecastError, ModelError
from slipstream.core.forecast.model import Forecast, JointModel
from slipstream.core.panel import HOUR_MS, FloatArray, View
from slipstream.core.signals import funding as funding_signals
from slipstream.core.signals import momentum as momentum_signals
from slipstream.core.signals.funding import funding_components, funding_sigma, published_funding
from slipstream.core.signals.momentum import VOL_SPAN_HOURS, momentum_components, volatility
from slipstream.core.signals.residuals import idiosyncratic_return, market_factor, residuals

if TYPE_CHECKING:
    from slipstream.core.factors.pca import PCAResult


@dataclass(frozen=True)
class ModelInputs:
    """What :meth:`JointModel.predict` takes.

    Attributes:
        features: name -> (T, N), or (N,) of one moment; NaN where unknown or where the coin may not be held.
        sigma: deviation of the residual log return per bar, same shape.
        funding_sigma: floored deviation of a bar's funding, same shape.
    """

    features: dict[str, FloatArray] = field(repr=False)
    sigma: FloatArray = field(repr=False)
    funding_sigma: FloatArray = field(repr=False)


def joint_features(
    view: View,
    *,
    spec: PCASpec,
    spans_hours: tuple[float, ...],
    vol_span_hours: float = VOL_SPAN_HOURS,
    momentum_clip: float = momentum_signals.CLIP,
    funding_clip: float = funding_signals.CLIP,
) -> FloatArray:
    """Features and deviations of every row, shape (rows, 2 S + 2, N): a feature (see :class:`View`).

    The middle axis holds momentum of each span, funding of each span, the deviation of the residual return and that of
    funding. Features are NaN outside the universe.

    Args:
        view: the market.
        spec: how the market factor is estimated.
        spans_hours: S spans, none shorter than a bar.
        vol_span_hours: of the deviations.
        momentum_clip: largest size of a momentum.
        funding_clip: largest size of a funding feature.
    """
    residual = view.feature(idiosyncratic_return, spec=spec)
    return _stacked(view, residual, spans_hours, vol_span_hours, momentum_clip, funding_clip)


def factor_spec(model: JointModel) -> PCASpec:
    """The market factor a model was trained with.

    Raises:
        ModelError: the model names a weight method there is not.
    """
    known: dict[str, WeightMethod] = {method: method for method in get_args(WeightMethod)}
    if model.pca_method not in known:
        raise ModelError(f"the model's factor has the weight method {model.pca_method!r}; train the model again")
    return PCASpec(K=model.K, H_hours=model.H, weight_method=known[model.pca_method])


def model_inputs(model: JointModel, view: View, pca: PCAResult | None = None) -> ModelInputs:
    """A model's inputs at every row of a view, arrays of shape (rows, N).

    Args:
        model: whose spans, clips and factor are used.
        view: bars of the model's length.
        pca: the factor, already estimated with the model's settings; None: it is estimated from the view.

    Raises:
        ForecastError: the view's bars are not the model's, or ``pca`` is of another factor.
    """
    if view.bar_hours != model.bar_hours:
        raise ForecastError(
            f"the model reads bars of {model.bar_hours} h and the data has bars of {view.bar_hours} h; "
            f"use --interval {model.bar_hours}h, or train on these bars"
        )
    spans = tuple(span for span in model.spans if span >= view.bar_hours)
    clips = (model.clips["momentum"], model.clips["funding"])
    if pca is None:
        stacked = view.feature(
            joint_features,
            spec=factor_spec(model),
            spans_hours=spans,
            vol_span_hours=model.vol_span,
            momentum_clip=clips[0],
            funding_clip=clips[1],
        )
    else:
        stacked = _stacked(view, _residual_on(view, pca, factor_spec(model)), spans, model.vol_span, *clips)
    names = [f"{kind}_{span:g}" for kind in ("mom", "funding") for span in spans]
    features = {name: stacked[:, k] for k, name in enumerate(names)}
    return ModelInputs(features, stacked[:, -2], stacked[:, -1])


def forecast_as_of(model: JointModel, view: View) -> Forecast:
    """A model's forecast at a view's close, arrays of shape (N,), fractions of notional over the holding period.

    NaN for a coin that may not be held, or whose features, beta or deviations are not all known.

    Raises:
        ForecastError: the view's bars are not the model's.
    """
    inputs = model_inputs(model, view)
    latest = {name: values[-1] for name, values in inputs.features.items()}
    return model.predict(latest, inputs.sigma[-1], inputs.funding_sigma[-1])


def betas_as_of(model: JointModel, view: View) -> FloatArray:
    """Slopes on the model's market factor at a view's close, shape (N,); NaN for a coin without one."""
    return np.asarray(view.feature(pca_exposures, spec=factor_spec(model))[-1, 0, 0])


def _stacked(
    view: View,
    residual: FloatArray,
    spans_hours: tuple[float, ...],
    vol_span_hours: float,
    momentum_clip: float,
    funding_clip: float,
) -> FloatArray:
    bar = view.bar_hours
    published = view.feature(published_funding)
    momentum = momentum_components(residual, bar, spans_hours, vol_span_hours, momentum_clip)
    rates = funding_components(published, bar, spans_hours, vol_span_hours, funding_clip)
    features = np.stack([*momentum.values(), *rates.values()], axis=1)
    features[np.broadcast_to(~view.universe[:, None, :], features.shape)] = np.nan
    deviations = (volatility(residual, bar, vol_span_hours), funding_sigma(published, bar, vol_span_hours))
    return np.concatenate((features, np.stack(deviations, axis=1)), axis=1)


def _residual_on(view: View, pca: PCAResult, spec: PCASpec) -> FloatArray:
    """Residual log returns against a factor given with its windows, shape (rows, N)."""
    windows = pca.windows
    if windows.spec != spec:
        raise ForecastError(f"the factor given is {windows.spec}; the model was trained with {spec}")
    if tuple(pca.beta.columns) != view.coins:
        raise ForecastError("the factor given has other coins than the data; estimate it from the same data")
    opens = view.known_at_ms - view.bar_hours * HOUR_MS * np.arange(view.rows, 0, -1, dtype=np.int64)
    row = as_of_rows(windows.known_at_ms, opens, spec.max_age_ms)
    beta, coef = (np.ascontiguousarray(values[:, 0]) for values in (windows.beta, windows.coef))
    factor = market_factor(view.log_return.copy(), coef, coef * beta, row)
    return residuals(view.log_return, beta[None], factor[:, None], row)
