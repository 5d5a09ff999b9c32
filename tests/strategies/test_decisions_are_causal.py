"""No feature and no decision knows what comes after its row."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import slipstream.core
import slipstream.strategies
from slipstream.core.factors.pca import PCASpec
from slipstream.core.panel import FloatArray, Panel, UniverseRule, View, tradable_universe
from slipstream.strategies import list_strategies, load_strategy, load_targets

PARAMETERS: dict[str, Any] = {
    "span_hours": 100.0,
    "window_hours": 168,
    "lookback_hours": 24.0,
    "volatility_span_hours": 64.0,
    "spec": PCASpec(K=20),
    "spans_hours": (8.0, 32.0),
}
ARRAYS = ("open", "high", "low", "close", "volume_usd", "funding")
NOT_FEATURES = ("targets", "scores", "weights_from_scores", "daily_returns_of")
"""Functions of a view that are a decision or a part of one."""


def modules_below(package: Any) -> Iterator[Any]:
    for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if not found.name.endswith((".cli", ".research")):
            yield importlib.import_module(found.name)


def features() -> dict[str, Callable[[View], FloatArray]]:
    """Every function ``feature(view, *, hours...) -> array`` of core and the strategies, at some parameters."""
    found: dict[str, Callable[[View], FloatArray]] = {
        "log_return": lambda view: view.log_return,
        "funding_published": lambda view: view.funding_published,
    }
    for module in (*modules_below(slipstream.core), *modules_below(slipstream.strategies)):
        for name, function in vars(module).items():
            if not inspect.isfunction(function) or function.__module__ != module.__name__ or name in NOT_FEATURES:
                continue
            taken = list(inspect.signature(function).parameters.values())
            if not taken or taken[0].name != "view" or name.startswith("_"):
                continue
            needed = [entry.name for entry in taken[1:] if entry.default is entry.empty]
            given = {name: PARAMETERS[name] for name in needed}
            found[name] = lambda view, function=function, given=given: view.feature(function, **given)
    return found


FEATURES = features()


def with_another_future(panel: Panel, row: int) -> Panel:
    """The panel with the rows after ``row`` shuffled, and the universe of those judged anew."""
    order = np.arange(panel.rows)
    np.random.default_rng(row).shuffle(order[row + 1 :])
    shuffled = replace(panel, **{name: np.ascontiguousarray(getattr(panel, name)[order]) for name in ARRAYS})
    universe = tradable_universe(shuffled.close, shuffled.volume_usd, panel.bar_hours, UniverseRule())
    universe[: row + 1] = panel.universe[: row + 1]  # judged on the hourly bars this panel was made of
    return replace(shuffled, universe=universe)


def test_the_search_for_features_finds_them() -> None:
    expected = {"trend_strength", "momentum_score", "expected_funding", "market_model", "annual_volatility"}
    assert expected <= set(FEATURES)


@pytest.mark.parametrize("name", sorted(FEATURES))
def test_a_feature_cut_is_the_feature_of_the_cut(name: str, market: Panel) -> None:
    whole = FEATURES[name](market.view())
    assert np.isfinite(whole).any()
    for row in (150, 337, market.rows - 2):
        np.testing.assert_array_equal(whole[: row + 1], FEATURES[name](market.until(row).view()))


@pytest.mark.parametrize("name", sorted(FEATURES))
def test_a_feature_does_not_change_with_the_future(name: str, market: Panel) -> None:
    row = 400
    other = FEATURES[name](with_another_future(market, row).view())
    np.testing.assert_array_equal(FEATURES[name](market.view())[: row + 1], other[: row + 1])


def test_the_test_would_see_a_feature_that_looks_ahead(market: Panel) -> None:
    def since_the_end(view: View) -> FloatArray:
        return view.close / view.close[-1]

    with pytest.raises(AssertionError):
        np.testing.assert_array_equal(since_the_end(market.view())[:401], since_the_end(market.until(400).view()))


@pytest.mark.parametrize("slug", list_strategies())
def test_a_decision_does_not_change_with_the_future(slug: str, market: Panel) -> None:
    decide = load_targets(slug)
    held = 0
    for row in (300, 401, 555):
        weights = decide(market.view().as_of(row))
        np.testing.assert_array_equal(weights, decide(with_another_future(market, row).view().as_of(row)))
        np.testing.assert_array_equal(weights, decide(market.until(row).view()))
        held += int(weights.any())
    assert held == 3


@pytest.mark.parametrize("slug", list_strategies())
def test_nothing_outside_the_universe_is_held(slug: str, market: Panel) -> None:
    decide = load_targets(slug)
    row = 500
    usual = decide(market.view().as_of(row))
    barred = market.universe.copy()
    barred[:, usual > 0.0] = False
    weights = decide(replace(market, universe=barred).view().as_of(row))
    assert weights[~barred[row]].tolist() == [0.0] * int((~barred[row]).sum())


@pytest.mark.parametrize("slug", list_strategies())
def test_the_settlement_of_the_close_is_not_known_at_it(slug: str, market: Panel) -> None:
    row = 450
    funding = market.funding.copy()
    funding[row:] = 0.01
    other = replace(market, funding=funding)
    decide = load_targets(slug)
    np.testing.assert_array_equal(decide(market.view(row)), decide(other.view(row)))


@pytest.mark.parametrize("slug", list_strategies())
def test_a_decision_takes_a_view_and_an_optional_configuration(slug: str) -> None:
    module = load_strategy(slug)
    parameters = inspect.signature(module.targets).parameters
    assert list(parameters) == ["view", "config"]
    assert parameters["config"].default is None
