"""Training: a model of a moment knows nothing of later ones, and what is saved is what was taught."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from slipstream.core.bars import resample
from slipstream.core.forecast.dated_models import usable_from_ms
from slipstream.core.forecast.errors import ForecastError, NotEnoughData
from slipstream.core.forecast.model import JointModel
from slipstream.core.forecast.model_inputs import forecast_as_of, model_inputs
from slipstream.core.forecast.walk_forward import WalkForwardSettings
from slipstream.core.panel import HOUR_MS, Panel
from slipstream.lake.synthetic import synthetic_market
from slipstream.lake.synthetic_config import SyntheticConfig
from slipstream.research.dataset import FeatureSettings, horizon_data
from slipstream.research.local_executor import LocalExecutor
from slipstream.research.model_store import predict_joint
from slipstream.research.training import (
    TrainingSet,
    TrainingSettings,
    model_as_of,
    retraining_rows,
    train_model,
    walk_forward_models,
)

SPANS = (4.0, 8.0, 16.0, 32.0, 64.0)
QUICK = TrainingSettings(
    8, FeatureSettings(spans_hours=SPANS), WalkForwardSettings(inner_folds=4, min_train_days=10.0), n_bootstrap=0
)
ARRAYS = ("open", "high", "low", "close", "volume_usd", "funding", "universe")


@pytest.fixture(scope="module")
def market() -> Panel:
    """16 coins over 110 days in four-hour bars; carry is a real edge, and one coin has a gap."""
    planted = SyntheticConfig(
        coins=16, hours=110 * 24, seed=5, volume_usd_per_hour=2e6, late_listings=0.1, funding_carried_by_price=0.0
    )
    panel = synthetic_market(planted).panel
    holes = {}
    for name in ("open", "high", "low", "close"):
        values = getattr(panel, name).copy()
        values[1500:1530, 3] = np.nan
        holes[name] = values
    return resample(replace(panel, **holes, universe=panel.universe & ~np.isnan(holes["close"])), 4)


@pytest.fixture(scope="module")
def training(market: Panel) -> TrainingSet:
    return TrainingSet.of(market, QUICK)


def taught(model: JointModel) -> dict[str, Any]:
    """All of a model's text but what says where the data came from."""
    text = json.loads(model.to_json())
    return {name: value for name, value in text.items() if name not in ("card", "content_hash")}


def test_a_model_of_a_moment_is_that_of_a_file_which_ends_there(market: Panel, training: TrainingSet) -> None:
    for row in (420, 517, market.rows - 1):
        assert model_as_of(training, row).to_json() == train_model(market.until(row), QUICK).to_json()
        moment = int(market.known_at_ms[row])
        assert model_as_of(training, row).to_json() == train_model(market, QUICK, until_ms=moment + 1).to_json()


def test_a_model_does_not_change_with_the_future(market: Panel) -> None:
    row = 480
    order = np.arange(market.rows)
    np.random.default_rng(0).shuffle(order[row + 1 :])
    other = replace(market, **{name: np.ascontiguousarray(getattr(market, name)[order]) for name in ARRAYS})
    found = model_as_of(TrainingSet.of(other, QUICK), row)
    assert found.to_json() == train_model(market.until(row), QUICK).to_json()


def test_the_settlement_of_its_own_close_is_not_taught(market: Panel) -> None:
    row = 480
    funding = market.funding.copy()
    funding[row] += 0.01
    other = replace(market, funding=funding)
    assert taught(train_model(other.until(row), QUICK)) == taught(train_model(market.until(row), QUICK))
    funding[row - 1] += 0.01
    assert taught(train_model(other.until(row), QUICK)) != taught(train_model(market.until(row), QUICK))


def test_a_model_may_be_used_at_its_moment_and_its_last_target_ended_one_bar_before(
    market: Panel, training: TrainingSet
) -> None:
    row = 517
    model = model_as_of(training, row)
    moment = int(market.known_at_ms[row])
    assert usable_from_ms(model) == moment
    assert model.trained_through_ms == moment - (8 + 4) * HOUR_MS
    assert model.card.data_last_ms == moment - 4 * HOUR_MS


def test_the_coefficients_are_those_of_a_plain_ridge_on_the_rows_that_had_ended(
    market: Panel, training: TrainingSet
) -> None:
    row = 540
    model = model_as_of(training, row)
    data = horizon_data(market.until(row), 8, QUICK.features)
    rows = slice(0, row - 2)
    joint = np.isfinite(data.features[rows]).all(axis=2)
    joint &= np.isfinite(data.targets.alpha[rows]) & np.isfinite(data.targets.funding[rows])
    for fitted, columns, target in (
        (model.alpha, slice(0, 10), data.targets.alpha),
        (model.funding, slice(5, 10), data.targets.funding),
    ):
        x, y = data.features[rows][joint][:, columns], target[rows][joint]
        z = (x - x.mean(axis=0)) / x.std(axis=0)
        b = np.linalg.solve(z.T @ z / len(z) + fitted.penalty * np.eye(z.shape[1]), z.T @ (y - y.mean()) / len(z))
        np.testing.assert_allclose(fitted.coefficients, b / x.std(axis=0), rtol=1e-9, atol=1e-13)
        assert fitted.observations == int(joint.sum())
        assert fitted.intercept == pytest.approx(y.mean() - x.mean(axis=0) @ (b / x.std(axis=0)), abs=1e-12)


def test_decisions_read_the_features_that_were_trained_on_bit_for_bit(market: Panel, training: TrainingSet) -> None:
    model = model_as_of(training, market.rows - 1)
    inputs = model_inputs(model, market.view())
    assert tuple(inputs.features) == training.data.feature_names
    for name, values in training.data.named_features().items():
        np.testing.assert_array_equal(inputs.features[name], values)
    np.testing.assert_array_equal(inputs.sigma, training.data.sigma)
    np.testing.assert_array_equal(inputs.funding_sigma, training.data.funding_sigma)


def test_a_saved_model_predicts_the_money_of_the_one_in_memory(market: Panel, training: TrainingSet) -> None:
    model = model_as_of(training, 600)
    data = training.data
    expected = model.predict(data.named_features(), data.sigma, data.funding_sigma)
    price, paid = predict_joint(JointModel.from_json(model.to_json()), market)
    assert np.isfinite(price).sum() > 5000
    np.testing.assert_allclose(price, expected.alpha_price, rtol=1e-12, atol=0.0)
    np.testing.assert_allclose(paid, expected.funding, rtol=1e-12, atol=0.0)
    view = market.view()
    for row in (300, 555, market.rows - 1):
        one = forecast_as_of(model, view.as_of(row))
        np.testing.assert_array_equal(one.alpha_total, price[row] - paid[row])


def test_planted_carry_is_found_and_scored_out_of_sample(market: Panel) -> None:
    scored = replace(QUICK, n_bootstrap=50, walk=WalkForwardSettings(blocks=5, inner_folds=4, min_train_days=10.0))
    model = train_model(market, scored)
    assert model.r2["funding_money"] > 0.05
    assert model.r2["combined_money"] < model.r2["combined_sigma"]
    assert len(model.quantile_table) == 10
    assert all(np.isfinite(model.funding.se))


def test_the_card_says_what_the_model_is_made_of_and_names_no_path(market: Panel) -> None:
    card = train_model(replace(market, source="somewhere/deep/bars.parquet"), QUICK).card
    assert card.data_source == "bars.parquet"
    assert set(card.coins) <= set(market.coins)
    assert len(card.coins) > 10
    assert {"numpy", "slipstream", "python"} <= set(card.versions)
    assert card.data_first_ms < card.data_last_ms
    assert card.data_hash != train_model(market.until(market.rows - 2), QUICK).card.data_hash


def test_models_follow_one_another_on_a_grid_of_their_own_and_each_is_the_one_of_its_moment(
    market: Panel, training: TrainingSet
) -> None:
    rows = retraining_rows(training, 240.0)
    models = walk_forward_models(training, 240.0)
    assert len(models) == len(rows) >= 4
    assert list(models.usable_from) == [int(market.known_at_ms[row]) for row in rows]
    assert all(moment % (240 * HOUR_MS) == 0 for moment in models.usable_from[1:])
    assert models.models[2].to_json() == train_model(market.until(rows[2]), QUICK).to_json()
    with pytest.raises(NotEnoughData):
        model_as_of(training, rows[0] - 1)


def test_workers_train_the_same_models(training: TrainingSet) -> None:
    with LocalExecutor(2) as workers:
        elsewhere = walk_forward_models(training, 480.0, executor=workers)
    here = walk_forward_models(training, 480.0)
    assert [model.to_json() for model in elsewhere.models] == [model.to_json() for model in here.models]


def test_without_any_settlement_funding_features_are_off_and_none_is_expected(market: Panel) -> None:
    model = train_model(replace(market, funding=np.zeros_like(market.funding)), QUICK)
    assert all(name.startswith("mom_") for name in model.alpha.feature_names)
    price, paid = predict_joint(model, replace(market, funding=np.zeros_like(market.funding)))
    known = np.isfinite(price)
    assert known.sum() > 5000
    assert not paid[known].any()


def test_too_little_history_is_said_in_days(market: Panel) -> None:
    with pytest.raises(NotEnoughData, match=r"days could be trained on by .* UTC and 10 are needed"):
        train_model(market.until(220), QUICK)
    with pytest.raises(ForecastError, match="begins after"):
        train_model(market, QUICK, until_ms=0)


def test_what_a_model_cannot_hold_cannot_be_set() -> None:
    with pytest.raises(ForecastError, match="not kept in a model"):
        TrainingSettings(features=FeatureSettings(min_assets=5))
    with pytest.raises(ForecastError, match="draw more"):
        TrainingSettings(n_bootstrap=1)
