"""A saved model is the model: it predicts the same money, says where it comes from, and cannot be edited unseen."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.core.forecast.bootstrap import circular_blocks, inferred, refit_draws
from slipstream.core.forecast.errors import ForecastError, ModelError
from slipstream.core.forecast.model import Forecast, JointModel, LinearModel, ModelCard
from slipstream.core.forecast.moments import Regression, joint_moments
from slipstream.core.forecast.quantiles import quantile_table
from slipstream.core.forecast.ridge import fit_ridge
from slipstream.core.forecast.targets import alpha_in_money, funding_in_money

NAMES = ("mom_8", "mom_64", "funding_8", "funding_64")
ALPHA, FUNDING = Regression((0, 1, 2, 3), 0), Regression((2, 3), 1)


def trained(seed: int = 0) -> tuple[JointModel, np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """A model, the features it was trained on and its in-memory forecasts in deviations."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((200, 6, 4)) + 0.3
    y = [0.1 * x[..., 0] + rng.standard_normal((200, 6)), 0.5 * x[..., 3] + rng.standard_normal((200, 6))]
    moments, draws = joint_moments(x, y), circular_blocks(200, 12, 40)
    grams = moments.unpacked(draws.totals(moments.per_row))
    parts, forecasts = [], []
    for regression in (ALPHA, FUNDING):
        fit = fit_ridge(moments.design(moments.between(0, 200), regression), 0.1)
        refits = refit_draws(moments, regression, fit, grams)
        names = tuple(NAMES[k] for k in regression.columns)
        parts.append(LinearModel.of(fit, names, inferred(fit.coefficients, refits.coefficients)))
        forecasts.append(fit.predict(x[..., regression.columns]))
    table = quantile_table(forecasts[0] - forecasts[1], y[0], y[1], draws, quantiles=4)
    card = ModelCard(
        0, 199 * 14_400_000, "made here", "ab" * 32, ("BTC", "kPEPE"), "all", (10, 10), 42, 40, {"numpy": "2"}
    )
    model = JointModel(
        H=8,
        bar_hours=4,
        K=30,
        pca_method="sqrt",
        spans=(8, 64),
        vol_span=128,
        clips={"momentum": 2.5, "funding": 5, "target": 10},
        alpha=parts[0],
        funding=parts[1],
        trained_through_ms=1_700_000_000_000,
        r2={"alpha_sigma": 0.1 + 0.2, "alpha_return": -1e-17, "combined_sigma": float("nan")},
        quantile_table=table,
        card=card,
    )
    return model, x, (forecasts[0], forecasts[1])


def named(x: np.ndarray) -> dict[str, np.ndarray]:
    return {name: x[..., k] for k, name in enumerate(NAMES)}


def test_a_loaded_model_predicts_the_money_of_the_one_in_memory() -> None:
    model, x, (alpha, funding) = trained()
    rng = np.random.default_rng(1)
    sigma, funding_sigma = rng.uniform(0.005, 0.03, alpha.shape), rng.uniform(1e-5, 1e-4, alpha.shape)
    got = JointModel.from_json(model.to_json()).predict(named(x), sigma, funding_sigma)
    assert isinstance(got, Forecast)
    np.testing.assert_allclose(got.alpha_price, alpha_in_money(alpha, sigma, 2), rtol=0, atol=1e-12)
    np.testing.assert_allclose(got.funding, funding_in_money(funding, funding_sigma, 8, 4), rtol=0, atol=1e-12)
    np.testing.assert_array_equal(got.alpha_total, got.alpha_price - got.funding)
    np.testing.assert_array_equal(got.alpha_price, model.predict(named(x), sigma, funding_sigma).alpha_price)


def test_forecasts_do_not_depend_on_the_order_in_which_features_are_given() -> None:
    model, x, _ = trained()
    features = named(x)
    backwards = dict(reversed(features.items())) | {"unused": np.full(x.shape[:2], np.nan)}
    one, other = (model.alpha.predict(f) for f in (features, backwards))
    np.testing.assert_array_equal(one, other)


def test_a_coin_without_a_feature_or_a_deviation_has_no_forecast() -> None:
    model, x, _ = trained()
    features, sigma = named(x[50].copy()), np.full(6, 0.01)
    features["mom_8"][2] = np.nan
    sigma[3] = np.nan
    got = model.predict(features, sigma, np.full(6, 1e-5))
    np.testing.assert_array_equal(np.isnan(got.alpha_price), [False, False, True, True, False, False])
    np.testing.assert_array_equal(np.isnan(got.alpha_total), np.isnan(got.alpha_price))
    assert np.isfinite(got.funding).all()
    with pytest.raises(ForecastError, match="the model needs mom_8, funding_64"):
        model.predict({"mom_64": x[0, :, 1], "funding_8": x[0, :, 2]}, sigma, sigma)


def test_the_text_holds_what_the_documented_file_must_hold() -> None:
    model, x, (alpha, _) = trained()
    text = json.loads(model.to_json())
    assert {
        "schema_version", "H", "bar_hours", "K", "pca_method", "spans", "vol_span", "clips", "alpha", "funding",
        "trained_through_ms", "r2_alpha_sigma", "r2_alpha_return", "r2_combined_sigma", "quantile_table", "card",
        "content_hash",
    } <= set(text)  # fmt: skip
    assert set(text["alpha"]) == {
        "feature_names", "feature_mean", "feature_std", "intercept", "coefficients", "se", "lambda", "observations",
    }  # fmt: skip
    by_hand = text["alpha"]["intercept"] + x @ np.array(text["alpha"]["coefficients"])
    np.testing.assert_allclose(by_hand, alpha, atol=1e-13)  # un-normalised: features as they come
    assert text["r2_combined_sigma"] is None
    assert text["quantile_table"][0]["quantile"] == 0


@given(seed=st.integers(0, 10**4), odd=st.floats(allow_nan=True, allow_infinity=False))
def test_saving_and_loading_changes_not_one_bit(seed: int, odd: float) -> None:
    model, *_ = trained(seed % 3)
    model = replace(model, r2={"alpha_sigma": odd, "x": float(seed) / 7.0}, clips={"momentum": 2.5, "target": 1e-300})
    again = JointModel.from_json(model.to_json())
    assert again.to_json() == model.to_json()
    assert again.content_hash == model.content_hash
    assert replace(again, r2={}) == replace(model, r2={})
    np.testing.assert_array_equal(list(again.r2.values()), list(model.r2.values()))


def test_a_text_that_was_edited_cut_or_is_of_another_kind_does_not_load() -> None:
    model, *_ = trained()
    text = model.to_json()
    document = json.loads(text)
    document["alpha"]["coefficients"][0] *= 2
    with pytest.raises(ModelError, match=r"m\.json: the content does not have the hash it names"):
        JointModel.from_json(json.dumps(document), "m.json")
    with pytest.raises(ModelError, match="is not JSON"):
        JointModel.from_json(text[:100])
    with pytest.raises(ModelError, match="schema_version is 99, not 1"):
        JointModel.from_json(json.dumps({"schema_version": 99}))
    with pytest.raises(ModelError, match="schema_version is None"):
        JointModel.from_json("[1]")


def test_a_model_that_could_not_predict_is_refused_when_made() -> None:
    model, *_ = trained()
    with pytest.raises(ModelError, match="entries in coefficients"):
        replace(model.alpha, coefficients=(1.0,))
    with pytest.raises(ModelError, match="a coefficient or the intercept is missing"):
        replace(model.alpha, intercept=float("nan"))
    with pytest.raises(ModelError, match="repeat"):
        replace(model.alpha, feature_names=("a", "a", "b", "c"))
    with pytest.raises(ModelError, match="inf cannot be saved"):
        replace(model, r2={"alpha_sigma": float("inf")}).to_json()
    with pytest.raises(ForecastError, match="does not consist of bars"):
        replace(model, H=6)


def test_a_model_without_standard_errors_says_so_with_nulls() -> None:
    model, x, _ = trained()
    moments = joint_moments(x, [x[..., 0] * 2.0])
    fit = fit_ridge(moments.design(moments.between(0, 200), Regression((0, 1))), 0.1)
    bare = replace(model, alpha=LinearModel.of(fit, NAMES[:2]))
    assert json.loads(bare.to_json())["alpha"]["se"] == [None, None]
    assert np.isnan(JointModel.from_json(bare.to_json()).alpha.se).all()
