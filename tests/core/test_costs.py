"""Costs of trading: what they add up to, how they scale, and what the optimiser and the ledger make of them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.core.portfolio.costs import CostAssumptions, CostError, impact_rate_usd
from slipstream.portfolio import (
    BacktestConfig,
    FactorCovariance,
    TransactionCostModel,
    compute_transaction_costs,
    optimize_portfolio_with_costs,
    run_backtest,
)

MODEL = TransactionCostModel(np.array([2e-4, 5e-4]), np.array([1e-3, 4e-3]), np.full(2, 10.0), 1e6)

LIQUIDITY = pd.DataFrame(
    {
        "avg_volume_24h": [1e9, 1e6],
        "avg_spread_bps": [1.0, 12.0],
        "volatility_24h": [0.03, 0.06],
    },
    index=["BTC", "kPEPE"],
)


def test_a_cost_is_fee_plus_three_halves_power_impact_and_the_parts_add_up() -> None:
    costs = compute_transaction_costs(np.array([0.3, -0.1]), np.array([0.1, 0.0]), MODEL, 1e6)
    assert costs["fee"] == pytest.approx(0.2 * 2e-4 + 0.1 * 5e-4, rel=1e-12)
    assert costs["impact"] == pytest.approx(1e-3 * 0.2**1.5 + 4e-3 * 0.1**1.5, rel=1e-12)
    assert costs["total"] == pytest.approx(costs["fee"] + costs["impact"], rel=1e-12)
    assert costs["asset_costs"].sum() == pytest.approx(costs["total"], rel=1e-12)
    assert costs["turnover"] == pytest.approx(0.3)
    assert costs["dollar_turnover"] == pytest.approx(0.3e6)
    assert costs["dollar_total"] == pytest.approx(costs["total"] * 1e6)
    assert costs["n_trades"] == 2


def test_not_trading_costs_nothing() -> None:
    w = np.array([0.4, -0.4])
    costs = compute_transaction_costs(w, w, MODEL, 1e6)
    assert costs["total"] == 0.0
    assert costs["n_trades"] == 0


@given(capital=st.floats(1e3, 1e9), factor=st.floats(1.01, 100.0))
def test_impact_as_a_fraction_grows_with_the_square_root_of_capital_and_the_fee_does_not(
    capital: float, factor: float
) -> None:
    w, flat = np.array([0.2, -0.1]), np.zeros(2)
    small = compute_transaction_costs(w, flat, MODEL, capital)
    large = compute_transaction_costs(w, flat, MODEL, capital * factor)
    assert large["impact"] > small["impact"]
    assert large["impact"] == pytest.approx(small["impact"] * np.sqrt(factor), rel=1e-9)
    assert large["fee"] == small["fee"]


@given(size=st.floats(1e-4, 1.0), factor=st.floats(1.01, 50.0))
def test_a_larger_trade_costs_more_per_dollar(size: float, factor: float) -> None:
    def per_dollar(d: float) -> float:
        costs = compute_transaction_costs(np.array([d, 0.0]), np.zeros(2), MODEL, 1e6)
        return float(costs["total"] / d)

    assert per_dollar(size * factor) > per_dollar(size)


def test_the_coefficient_in_weights_is_that_in_dollars() -> None:
    """lambda |d|^1.5 of capital C is k q^1.5 dollars with q = |d| C and k = kappa sigma / sqrt(ADV)."""
    sigma, adv, capital, d = np.array([0.05]), np.array([2e7]), 3e5, 0.25
    k = impact_rate_usd(sigma, adv)
    model = TransactionCostModel(np.zeros(1), k * np.sqrt(1e6), np.full(1, 10.0), 1e6)
    costs = compute_transaction_costs(np.array([d]), np.zeros(1), model, capital)
    by_hand = 0.05 * np.sqrt(d * capital / 2e7) * d * capital
    assert costs["dollar_total"] == pytest.approx(by_hand, rel=1e-12)
    assert float(k[0]) * (d * capital) ** 1.5 == pytest.approx(by_hand, rel=1e-12)


def test_impact_is_unknown_where_volume_or_volatility_is() -> None:
    rate = impact_rate_usd(np.array([0.1, np.nan, 0.1, 0.1]), np.array([1e6, 1e6, np.nan, 0.0]))
    assert np.isfinite(rate).tolist() == [True, False, False, False]


def test_a_model_from_liquidity_takes_half_the_spread_and_the_square_root_law() -> None:
    model = TransactionCostModel.from_liquidity_metrics(["kPEPE", "BTC"], LIQUIDITY)
    np.testing.assert_allclose(model.fee_rate, [2e-4 + 6e-4, 2e-4 + 0.5e-4], rtol=1e-12)
    np.testing.assert_allclose(model.impact_coef, [0.06 * np.sqrt(1e6 / 1e6), 0.03 * np.sqrt(1e6 / 1e9)], rtol=1e-12)


def test_a_liquid_coin_never_has_a_larger_minimum_trade_than_an_illiquid_one() -> None:
    model = TransactionCostModel.from_liquidity_metrics(["BTC", "kPEPE"], LIQUIDITY)
    assert model.min_trade_size[0] <= model.min_trade_size[1]
    assert model.min_trade_size.tolist() == [10.0, 10.0]


def test_a_coin_without_metrics_gets_the_worst_costs_and_a_warning() -> None:
    with pytest.warns(UserWarning, match="no liquidity metrics for NEW: the worst observed costs are used"):
        model = TransactionCostModel.from_liquidity_metrics(["BTC", "NEW", "kPEPE"], LIQUIDITY)
    assert model.fee_rate[1] == model.fee_rate.max()
    assert model.impact_coef[1] == model.impact_coef.max()


def test_the_default_model_is_two_basis_points() -> None:
    model = TransactionCostModel.create_default(3)
    assert model.fee_rate.tolist() == [2e-4] * 3
    assert model.impact_coef.tolist() == [1e-4] * 3
    assert model.min_trade_size.tolist() == [10.0] * 3
    assert model.reference_capital == 1e6


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: TransactionCostModel(np.ones(2), np.ones(3), np.ones(2)), "share one length"),
        (lambda: TransactionCostModel(np.array([-1e-4]), np.zeros(1), np.ones(1)), "fee_rate must be finite and at"),
        (lambda: TransactionCostModel(np.zeros(1), np.array([np.nan]), np.ones(1)), "impact_coef must be finite"),
        (lambda: TransactionCostModel(np.zeros(1), np.zeros(1), np.ones(1), 0.0), r"reference_capital is 0\.0"),
        (lambda: MODEL.impact_at(-1.0), r"capital is -1\.0"),
        (lambda: compute_transaction_costs(np.zeros(3), np.zeros(3), MODEL, 1e6), "the cost model has"),
        (lambda: TransactionCostModel.from_liquidity_metrics(["BTC"], LIQUIDITY[["avg_spread_bps"]]), "lack the col"),
        (lambda: TransactionCostModel.from_liquidity_metrics(["NEW"], LIQUIDITY), "cover none of the assets"),
        (lambda: CostAssumptions(fee_bps=-1.0), r"fee_bps is -1\.0"),
    ],
)
def test_a_cost_that_cannot_be_is_refused(build: object, message: str) -> None:
    with pytest.raises(CostError, match=message):
        build()  # type: ignore[operator]


def test_a_tiny_alpha_is_not_worth_a_hundred_basis_points() -> None:
    S, flat = FactorCovariance(np.zeros((4, 0)), np.full(4, 1e-4)), np.zeros(4)
    alpha = 1e-6 * np.array([1.0, -1.0, 1.0, -1.0])
    w, info = optimize_portfolio_with_costs(alpha, np.ones(4), S, flat, np.full(4, 0.01), flat)
    assert info["success"]
    assert w.tolist() == [0.0] * 4
    model = TransactionCostModel(np.full(4, 0.01), flat, np.full(4, 10.0))
    rows = np.tile(alpha, (30, 1))
    noise = np.random.default_rng(0).normal(0.0, 0.01, (30, 4))
    config = BacktestConfig(H=1, min_history_hours=2)
    result = run_backtest(config, rows, 0.0 * rows, np.ones(4), S, noise, 0.0 * noise, model)
    assert set(result.equity_usd) == {1e6}
    free = run_backtest(
        BacktestConfig(H=1, min_history_hours=2, use_costs=False), rows, 0.0 * rows, np.ones(4), S, noise, 0.0 * noise
    )
    assert free.turnover[0] > 0.0
