"""What a search leaves behind: texts that say what was found, and models that predict what they predicted."""

from __future__ import annotations

import csv
import io
import json
import math

import numpy as np
import pytest

from slipstream.core.bars import resample
from slipstream.core.forecast.model import JointModel
from slipstream.core.forecast.targets import alpha_in_money, funding_in_money
from slipstream.core.forecast.walk_forward import WalkForwardSettings
from slipstream.core.panel import Panel
from slipstream.lake.synthetic import SyntheticConfig, synthetic_market
from slipstream.research.dataset import FeatureSettings, horizon_data
from slipstream.research.executor import SerialExecutor
from slipstream.research.search import SearchRequest, SearchResult, search_horizons
from slipstream.research.summary_files import absent_as_null, file_texts

FEATURES = FeatureSettings(spans_hours=(4.0, 16.0))


@pytest.fixture(scope="module")
def panel() -> Panel:
    return resample(synthetic_market(SyntheticConfig(coins=13, hours=24 * 110, seed=2, late_listings=0.1)).panel, 4)


@pytest.fixture(scope="module")
def found(panel: Panel) -> SearchResult:
    walk = WalkForwardSettings(blocks=5, inner_folds=4, min_train_days=20.0)
    return search_horizons(panel, SearchRequest((4, 8, 960), FEATURES, walk, n_bootstrap=100, seed=7), SerialExecutor())


@pytest.fixture(scope="module")
def texts(found: SearchResult, panel: Panel) -> dict[str, str]:
    return file_texts(found, panel)


def test_there_is_a_model_per_horizon_a_table_and_a_summary(texts: dict[str, str]) -> None:
    assert set(texts) == {
        "joint_model_H4.json",
        "joint_model_H8.json",
        "H_comparison.csv",
        "optimization_summary.json",
    }


@pytest.mark.parametrize("hours", [4, 8])
def test_a_model_read_back_predicts_what_the_model_in_memory_predicts(
    panel: Panel, found: SearchResult, texts: dict[str, str], hours: int
) -> None:
    model = JointModel.from_json(texts[f"joint_model_H{hours}.json"])
    data = horizon_data(panel, hours, FEATURES)
    forecast = model.predict(data.named_features(), data.sigma, data.funding_sigma)
    fits = found.forecasts[hours].fits
    price = alpha_in_money(fits["alpha"].fit.predict(data.features), data.sigma, data.bars)
    rates = data.features[:, :, list(data.funding_regression.columns)]
    paid = funding_in_money(fits["funding"].fit.predict(rates), data.funding_sigma, hours, 4)
    np.testing.assert_allclose(forecast.alpha_price, price, rtol=1e-12, atol=0.0)
    np.testing.assert_allclose(forecast.funding, paid, rtol=1e-12, atol=0.0)
    assert np.isfinite(forecast.alpha_total).sum() > 500


def test_a_model_says_where_it_comes_from(found: SearchResult, panel: Panel, texts: dict[str, str]) -> None:
    document = json.loads(texts["joint_model_H8.json"])
    assert {"schema_version", "H", "bar_hours", "K", "pca_method", "spans", "vol_span", "clips"} <= set(document)
    for model, names in (("alpha", 4), ("funding", 2)):
        assert len(document[model]["feature_names"]) == len(document[model]["se"]) == names
        assert {"feature_mean", "feature_std", "intercept", "coefficients", "lambda"} <= set(document[model])
        assert all(se > 0.0 for se in document[model]["se"])
    assert document["trained_through_ms"] == panel.known_at_ms[-3]
    assert document["card"]["data_hash"] == found.data.content_hash
    assert document["card"]["seed"] == 7
    assert document["r2_combined"] == found.skills[8].sigma_r2.combined.value
    assert document["r2_combined_money"] == found.skills[8].money_r2.combined.value
    assert len(document["quantile_table"]) == 10


def test_the_table_has_one_row_per_horizon_and_reads_back_as_the_numbers_found(
    found: SearchResult, texts: dict[str, str]
) -> None:
    rows = list(csv.DictReader(io.StringIO(texts["H_comparison.csv"])))
    assert [int(row["H"]) for row in rows] == [4, 8]
    for k, row in enumerate(rows):
        skill = found.skills[int(row["H"])]
        assert float(row["R2_combined"]) == skill.sigma_r2.combined.value
        assert float(row["R2_funding_money_low"]) == skill.money_r2.funding.low
        assert float(row["net_sharpe"]) == found.net.estimate[k]
        assert float(row["rank_ic_t"]) == skill.rank_ic.t
        parts = [float(row[f"{name}_bp"]) for name in ("price", "funding", "cost")]
        assert sum(parts) == pytest.approx(float(row["net_bp"]), rel=1e-12)
        for name in ("R2_combined", "net_sharpe", "net_bp", "utility_per_hour"):
            assert float(row[f"{name}_low"]) <= float(row[f"{name}_high"])
    assert sum(float(row["probability_best"]) for row in rows) == pytest.approx(1.0)


def test_the_summary_holds_what_others_read_from_it(found: SearchResult, texts: dict[str, str]) -> None:
    said = json.loads(texts["optimization_summary.json"])
    best = found.by_net.best
    assert said["H_optimal"] == best
    assert isinstance(said["H_optimal"], int)
    assert said["R2_combined_optimal"] == found.skills[best].sigma_r2.combined.value
    assert said["R2_combined_bp"] == round(1e4 * said["R2_combined_optimal"])
    assert said["H_tested"] == [4, 8]
    assert list(said["H_left_out"]) == ["960"]
    assert said["H_optimal_confident"] is found.by_net.confident
    assert (said["n_bootstrap"], said["selection_rule"], said["pca_method"]) == (100, "net_sharpe", "sqrt")
    assert (said["spans"], said["vol_span"]) == ([4.0, 16.0], 128.0)
    assert said["timestamp"] == "2024-04-20T00:00:00+00:00"
    assert set(said["per_H"]) == {"4", "8"}
    own = said["per_H"]["8"]
    for table in ("quantiles_sigma", "quantiles_bp"):
        assert set(own[table]) == {"alpha", "funding", "total"}
        assert [row["quantile"] for row in own[table]["total"]] == list(range(10))
        assert all({"alpha_t", "alpha_t_naive", "n_eff", "strategy"} <= set(row) for row in own[table]["total"])
    assert list(own["coefficients"]["funding"]["se_by_draws"]) == ["100"]
    assert [point["shift_hours"] for point in own["shifted_labels"]] == [0, 4, 8, 16, 32]
    assert all(cost > 6.0 for cost in own["round_trip_cost_bp"])


def test_what_is_not_finite_becomes_null_at_any_depth() -> None:
    nested = {1: [float("nan"), (np.float64("inf"), np.int64(3))], "x": {"y": -math.inf, "z": np.bool_(True)}}
    assert absent_as_null(nested) == {"1": [None, [None, 3]], "x": {"y": None, "z": True}}
