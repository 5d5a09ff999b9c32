"""A trained alpha and funding model of one horizon, and the text it is kept in.

The text is JSON with every number written so that it reads back as the same float64, an absent one as null, keys
sorted: one model has one text. It holds all that a forecast takes (names, un-normalised coefficients, intercepts, spans
and clips of the features, the funding base) and all that says where the model comes from (its card). The content hash
covers the rest of the text, so a file that was edited or cut does not load.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from slipstream.core.forecast.bootstrap import Inference
from slipstream.core.forecast.errors import ForecastError, ModelError
from slipstream.core.forecast.quantiles import QuantileRow
from slipstream.core.forecast.ridge import RidgeFit
from slipstream.core.forecast.targets import alpha_in_money, funding_in_money, holding_bars
from slipstream.core.panel import FloatArray
from slipstream.core.signals.funding import BASE_RATE_PER_HOUR

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class LinearModel:
    """One of the two regressions, as saved.

    Attributes:
        feature_names: p names, the order of the rest.
        feature_mean, feature_std: of the training rows, for reading coefficients; a forecast does not use them.
        intercept, coefficients: un-normalised: forecast = intercept + sum coefficient * feature as it comes.
        se: bootstrap standard errors of the coefficients.
        penalty: ridge penalty (``lambda`` in the text).
        observations: training observations.
    """

    feature_names: tuple[str, ...]
    feature_mean: tuple[float, ...]
    feature_std: tuple[float, ...]
    intercept: float
    coefficients: tuple[float, ...]
    se: tuple[float, ...]
    penalty: float
    observations: int

    def __post_init__(self) -> None:
        p = len(self.feature_names)
        for name in ("feature_mean", "feature_std", "coefficients", "se"):
            if len(getattr(self, name)) != p:
                raise ModelError(f"a model of {p} features has {len(getattr(self, name))} entries in {name}")
        if p == 0 or len(set(self.feature_names)) < p:
            raise ModelError(f"feature names {list(self.feature_names)} are empty or repeat")
        if not all(math.isfinite(x) for x in (self.intercept, *self.coefficients)):
            raise ModelError("a coefficient or the intercept is missing; train the model again")

    @classmethod
    def of(cls, fit: RidgeFit, feature_names: tuple[str, ...], inference: Inference | None = None) -> LinearModel:
        """A fit with its names and the standard errors of its coefficients (NaN without them)."""
        se = np.full(len(fit.coefficients), np.nan) if inference is None else inference.se
        arrays = (fit.feature_mean, fit.feature_std, fit.coefficients, se)
        mean, std, coefficients, errors = (tuple(values.tolist()) for values in arrays)
        return cls(feature_names, mean, std, fit.intercept, coefficients, errors, fit.penalty, fit.observations)

    def predict(self, features: Mapping[str, FloatArray]) -> FloatArray:
        """Forecasts in the target's deviations, in the features' shape; NaN where one is missing.

        Raises:
            ForecastError: a feature is not given; it is named.
        """
        absent = [name for name in self.feature_names if name not in features]
        if absent:
            raise ForecastError(f"the model needs {', '.join(absent)}; compute the features with the model's own spans")
        stacked = np.stack([np.asarray(features[name], dtype=np.float64) for name in self.feature_names], axis=-1)
        mean, std, coefficients = (np.array(x) for x in (self.feature_mean, self.feature_std, self.coefficients))
        fit = RidgeFit(self.intercept, coefficients, mean, std, self.penalty, self.observations)
        return fit.predict(stacked)


@dataclass(frozen=True)
class ModelCard:
    """Where a model comes from.

    Attributes:
        data_first_ms, data_last_ms: known-at times of the first and last row of the data.
        data_source: what the data were; no path of a machine.
        data_hash: of the data trained on.
        coins: the coins trained on.
        universe: the rule that let them in, in words.
        folds: blocks of the walk-forward and inner folds, in that order.
        seed, n_bootstrap: of the draws.
        versions: package -> version.
    """

    data_first_ms: int
    data_last_ms: int
    data_source: str
    data_hash: str
    coins: tuple[str, ...]
    universe: str
    folds: tuple[int, int]
    seed: int
    n_bootstrap: int
    versions: dict[str, str]


@dataclass(frozen=True)
class Forecast:
    """Forecasts in money, fractions of notional over the holding period, shape (T, N) or (N,).

    Attributes:
        alpha_price: residual price return.
        funding: F, what a long pays.
    """

    alpha_price: FloatArray
    funding: FloatArray

    @property
    def alpha_total(self) -> FloatArray:
        """What a hedged long is expected to earn before costs."""
        return self.alpha_price - self.funding


@dataclass(frozen=True)
class JointModel:
    """Both models of one horizon with the settings of their features, their scores and their card.

    Attributes:
        H, bar_hours: holding period and bar, hours.
        K: bars of H hours per factor window.
        pca_method: weights of the factor.
        spans: of the features, hours.
        vol_span: of the deviations, hours.
        clips: "momentum", "funding" and "target".
        alpha, funding: the regressions.
        trained_through_ms: known-at time of the last training row whose target had ended.
        r2: scores out of sample, name -> value; each becomes ``r2_<name>`` in the text.
        quantile_table: by alpha_total, out of sample.
        card: provenance.
        funding_base_per_hour: the level F counts from.
    """

    H: int
    bar_hours: int
    K: int
    pca_method: str
    spans: tuple[float, ...]
    vol_span: float
    clips: dict[str, float]
    alpha: LinearModel
    funding: LinearModel
    trained_through_ms: int
    r2: dict[str, float]
    quantile_table: tuple[QuantileRow, ...]
    card: ModelCard
    funding_base_per_hour: float = field(default=BASE_RATE_PER_HOUR)

    def __post_init__(self) -> None:
        holding_bars(self.H, self.bar_hours)

    def predict(self, features: Mapping[str, FloatArray], sigma: FloatArray, funding_sigma: FloatArray) -> Forecast:
        """Forecasts in money.

        Args:
            features: name -> values, all of one shape (T, N) or (N,), NaN where unknown.
            sigma: deviation of the residual return per bar, same shape; NaN for a coin without a beta.
            funding_sigma: floored deviation of a bar's funding, same shape.

        Returns:
            NaN where a feature or a deviation is missing.

        Raises:
            ForecastError: a feature is not given.
        """
        price = alpha_in_money(self.alpha.predict(features), sigma, holding_bars(self.H, self.bar_hours))
        paid = funding_in_money(
            self.funding.predict(features), funding_sigma, self.H, self.bar_hours, self.funding_base_per_hour
        )
        return Forecast(price, paid)

    @property
    def content_hash(self) -> str:
        """SHA-256 of the model's text without the hash."""
        return _hash(_document(self))

    def to_json(self) -> str:
        """The model's text: the same for the same model, on every machine."""
        document = _document(self)
        return json.dumps({**document, "content_hash": _hash(document)}, indent=1, sort_keys=True, allow_nan=False)

    @classmethod
    def from_json(cls, text: str, name: str = "model") -> JointModel:
        """The model of a text, equal to the one that was saved.

        Args:
            text: from :meth:`to_json`.
            name: what to call it in an error, such as its file.

        Raises:
            ModelError: not JSON, another schema version, a key missing or of the wrong kind, or another content than
                its hash says.
        """
        try:
            document = json.loads(text)
        except json.JSONDecodeError as error:
            raise ModelError(f"{name}: line {error.lineno} is not JSON ({error.msg}); save the model again") from None
        if not isinstance(document, dict) or document.get("schema_version") != SCHEMA_VERSION:
            found = document.get("schema_version") if isinstance(document, dict) else None
            raise ModelError(f"{name}: schema_version is {found}, not {SCHEMA_VERSION}; train the model again")
        said = document.pop("content_hash", None)
        if said != _hash(document):
            raise ModelError(f"{name}: the content does not have the hash it names; it was edited or cut, train again")
        try:
            return _model(document)
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"{name}: {type(error).__name__} {error}; train the model again") from None


def _hash(document: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True, allow_nan=False).encode()).hexdigest()


def _document(model: JointModel) -> dict[str, Any]:
    scores = {f"r2_{name}": value for name, value in model.r2.items()}
    plain = {
        "schema_version": SCHEMA_VERSION,
        "H": model.H,
        "bar_hours": model.bar_hours,
        "K": model.K,
        "pca_method": model.pca_method,
        "spans": [float(span) for span in model.spans],
        "vol_span": float(model.vol_span),
        "clips": {name: float(value) for name, value in model.clips.items()},
        "funding_base_per_hour": model.funding_base_per_hour,
        "alpha": _regression(model.alpha),
        "funding": _regression(model.funding),
        "trained_through_ms": model.trained_through_ms,
        "quantile_table": [asdict(row) for row in model.quantile_table],
        "card": asdict(model.card),
        **scores,
    }
    document = _absent_as_null(plain)
    assert isinstance(document, dict)
    return document


def _regression(model: LinearModel) -> dict[str, Any]:
    document = asdict(model)
    document["lambda"] = document.pop("penalty")
    return document


def _absent_as_null(value: Any) -> Any:
    """The same value of plain types with NaN as null.

    Raises:
        ModelError: an infinity: nothing in a model is infinite.
    """
    if isinstance(value, dict):
        return {key: _absent_as_null(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_absent_as_null(inner) for inner in value]
    if isinstance(value, float):
        if math.isinf(value):
            raise ModelError(f"{value} cannot be saved in a model")
        return None if math.isnan(value) else float(value)
    return value


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def _model(document: Mapping[str, Any]) -> JointModel:
    return JointModel(
        H=int(document["H"]),
        bar_hours=int(document["bar_hours"]),
        K=int(document["K"]),
        pca_method=str(document["pca_method"]),
        spans=tuple(float(span) for span in document["spans"]),
        vol_span=float(document["vol_span"]),
        clips={name: float(value) for name, value in document["clips"].items()},
        alpha=_linear_model(document["alpha"]),
        funding=_linear_model(document["funding"]),
        trained_through_ms=int(document["trained_through_ms"]),
        r2={name[3:]: _number(value) for name, value in document.items() if name.startswith("r2_")},
        quantile_table=tuple(_quantile_row(row) for row in document["quantile_table"]),
        card=_card(document["card"]),
        funding_base_per_hour=float(document["funding_base_per_hour"]),
    )


def _linear_model(document: Mapping[str, Any]) -> LinearModel:
    return LinearModel(
        feature_names=tuple(str(name) for name in document["feature_names"]),
        feature_mean=tuple(_number(x) for x in document["feature_mean"]),
        feature_std=tuple(_number(x) for x in document["feature_std"]),
        intercept=_number(document["intercept"]),
        coefficients=tuple(_number(x) for x in document["coefficients"]),
        se=tuple(_number(x) for x in document["se"]),
        penalty=float(document["lambda"]),
        observations=int(document["observations"]),
    )


def _quantile_row(document: Mapping[str, Any]) -> QuantileRow:
    kept = ("quantile", "n", "strategy")
    read: dict[str, Any] = {name: value if name in kept else _number(value) for name, value in document.items()}
    return QuantileRow(**read)


def _card(document: Mapping[str, Any]) -> ModelCard:
    blocks, inner = document["folds"]
    plain = {name: value for name, value in document.items() if name not in ("coins", "folds")}
    return ModelCard(coins=tuple(document["coins"]), folds=(blocks, inner), **plain)
