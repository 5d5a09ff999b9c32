"""Costs that change with liquidity: paid as known at each row, planned with, and equal to the constant model's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from slipstream.core.backtest import parts
from slipstream.core.backtest.one_book import Market, Prices, simulate_weights
from slipstream.core.portfolio.costs import CostError
from slipstream.portfolio import BacktestConfig, LiquidityCosts, TransactionCostModel, run_backtest

FIRST, PERIOD = 8, 4


def constant(market: Any) -> tuple[TransactionCostModel, LiquidityCosts]:
    """The same costs as one coefficient per coin and as tables: kappa sigma sqrt(C / ADV) at C = 1e6 is lambda."""
    shape = market.alpha.shape
    sigma, adv = np.linspace(0.02, 0.06, shape[1]), np.geomspace(1e6, 1e9, shape[1])
    model = TransactionCostModel(market.model.fee_rate, 0.7 * sigma * np.sqrt(1e6 / adv), np.full(shape[1], 10.0), 1e6)
    tables = np.broadcast_to(sigma, shape), np.broadcast_to(adv, shape)
    return model, LiquidityCosts(market.model.fee_rate, *tables, kappa=0.7)


@pytest.mark.parametrize(
    "changes",
    [{}, {"fill_delay_hours": 2}, {"use_discrete_lots": True, "initial_capital": 30_000.0}, {"use_costs": False}],
    ids=["plain", "late", "lots", "free"],
)
def test_liquidity_that_does_not_change_is_the_constant_model(changes: dict[str, Any], market: Any) -> None:
    returns = market.returns.copy()
    returns[70:, 1] = np.nan
    gaps = market.but(returns=returns, **changes)
    model, liquid = constant(market)
    one, other = gaps.but(model=model).run(), gaps.but(model=liquid).run()
    np.testing.assert_allclose(other.equity_usd, one.equity_usd, rtol=1e-9)
    np.testing.assert_allclose(other.pnl_usd, one.pnl_usd, rtol=1e-6, atol=1e-3)
    assert one.notional_usd.any()


def test_every_trade_pays_the_rates_of_its_own_row(market: Any) -> None:
    rng = np.random.default_rng(3)
    shape = market.alpha.shape
    fee, sigma, adv = rng.uniform(1e-4, 6e-4, shape), rng.uniform(0.01, 0.08, shape), rng.uniform(1e7, 1e9, shape)
    for delay in (0, 2):
        result = market.but(model=LiquidityCosts(fee, sigma, adv, kappa=0.5), fill_delay_hours=delay).run()
        for k, at in enumerate(result.decision_index):
            row = FIRST + at + delay
            size = np.abs(result.notional_usd[k])
            assert -result.pnl_usd[at + delay + 1, parts.FEES] == pytest.approx(size @ fee[row], rel=1e-12)
            owed = (0.5 * sigma[row] / np.sqrt(adv[row]) * size**1.5).sum()
            assert -result.pnl_usd[at + delay + 1, parts.IMPACT] == pytest.approx(owed, rel=1e-12)
        assert np.abs(result.notional_usd).sum() > 1e6


def test_a_plan_reckons_with_the_costs_known_at_its_decision(market: Any) -> None:
    """A coin that is dear at one decision only is left alone there; a constant model cannot say so."""
    model, liquid = constant(market)
    coin = int(np.argmax(np.abs(market.but(model=model).run().notional_usd[5])))
    fee = np.broadcast_to(liquid.fee_rate, market.alpha.shape).copy()
    fee[FIRST + 5 * PERIOD, coin] = 0.5
    result = market.but(model=LiquidityCosts(fee, liquid.sigma_daily, liquid.adv_usd, 0.7)).run()
    assert result.notional_usd[5, coin] == 0.0
    assert result.notional_usd[:, coin].any()


def test_costs_of_later_rows_leave_earlier_decisions_bit_identical(market: Any) -> None:
    _, liquid = constant(market)
    later = np.array(liquid.adv_usd)
    row = FIRST + 10 * PERIOD
    later[row + 1 :] /= 50.0
    before = market.but(model=liquid).run()
    after = market.but(model=LiquidityCosts(liquid.fee_rate, liquid.sigma_daily, later, 0.7)).run()
    np.testing.assert_array_equal(after.weights[:11], before.weights[:11])
    assert not np.array_equal(after.weights[11], before.weights[11])


def test_impact_grows_with_the_equity_of_the_moment(market: Any) -> None:
    """Four times the capital pays twice the fraction for the same weights: the root of the capital, not of 1e6."""
    _, liquid = constant(market)
    free = LiquidityCosts(0.0, liquid.sigma_daily, liquid.adv_usd, 1e-6)  # too little to change a plan
    flat = market.but(returns=np.zeros_like(market.returns), model=free)
    small, large = flat.run(), flat.but(initial_capital=4e6).run()
    assert small.metrics["impact"] > 0.0
    assert large.metrics["impact"] / 4e6 == pytest.approx(2.0 * small.metrics["impact"] / 1e6, rel=1e-3)


def test_a_coin_is_not_traded_before_its_costs_are_known_and_a_gap_takes_the_last_known(market: Any) -> None:
    _, liquid = constant(market)
    row, coin = FIRST + 6 * PERIOD, 2
    late, gap = np.array(liquid.sigma_daily), np.array(liquid.adv_usd)
    late[:row, coin] = np.nan
    result = market.but(model=LiquidityCosts(liquid.fee_rate, late, liquid.adv_usd, 0.7)).run()
    assert not result.weights[:6, coin].any()
    assert result.weights[6:, coin].any()
    gap[row : row + 9, coin] = [np.nan, 0.0, *[np.nan] * 7]
    whole, filled = (
        market.but(model=LiquidityCosts(liquid.fee_rate, liquid.sigma_daily, volume, 0.7)).run()
        for volume in (liquid.adv_usd, gap)
    )
    np.testing.assert_array_equal(filled.equity_usd, whole.equity_usd)


def test_trailing_costs_are_those_of_pandas_at_every_row() -> None:
    rng = np.random.default_rng(8)
    index = pd.date_range("2024-01-01", periods=900, freq="4h", tz="UTC")
    returns = pd.DataFrame(rng.normal(0.0, 0.02, (900, 2)), index=index, columns=["BTC", "kPEPE"])
    volume = pd.DataFrame(rng.uniform(1e5, 1e6, (900, 2)), index=index, columns=["BTC", "kPEPE"])
    volume.iloc[500:520, 1] = np.nan
    costs = LiquidityCosts.trailing(returns, volume, 3e-4)
    sigma = np.log1p(returns).rolling(180, min_periods=18).std() * np.sqrt(6.0)
    adv = volume.fillna(0.0).rolling(180).mean() * 6.0
    np.testing.assert_allclose(costs.sigma_daily.values, sigma, rtol=1e-9)
    np.testing.assert_allclose(costs.adv_usd.values[179:], adv.iloc[179:], rtol=1e-9)
    cut = LiquidityCosts.trailing(returns.iloc[:400], volume.iloc[:400], 3e-4)
    np.testing.assert_array_equal(cut.sigma_daily.values, costs.sigma_daily.values[:400])


def test_trailing_costs_go_into_a_backtest_as_they_are() -> None:
    rng = np.random.default_rng(8)
    index = pd.date_range("2024-01-01", periods=400, freq="8h", tz="UTC")

    def frame(values: np.ndarray) -> pd.DataFrame:
        return pd.DataFrame(values, index=index, columns=["BTC", "kPEPE", "SOL"])

    returns, volume = frame(rng.normal(0.0, 0.02, (400, 3))), frame(rng.uniform(1e6, 1e7, (400, 3)))
    alpha, zero = frame(rng.normal(0.0, 0.01, (400, 3))), frame(np.zeros((400, 3)))
    costs = LiquidityCosts.trailing(returns, volume.assign(XRP=1e6), {"BTC": 2e-4, "kPEPE": 4e-4, "SOL": 3e-4})
    config = BacktestConfig(H=8)
    result = run_backtest(config, alpha, zero, np.ones(3), np.eye(3) * 1e-3, returns, zero, costs)
    assert result.assets == ("BTC", "kPEPE", "SOL")
    assert result.metrics["impact"] > 0.0
    assert result.metrics["n_failed"] == 0


def test_simulated_weights_pay_the_rates_of_their_rows(market: Any) -> None:
    rng = np.random.default_rng(4)
    shape = market.alpha.shape
    costs = LiquidityCosts(rng.uniform(1e-4, 6e-4, shape), np.full(shape, 0.04), rng.uniform(1e7, 1e9, shape))
    result = market.but(model=costs).run()
    k = 0.04 / np.sqrt(costs.adv_usd)
    prices = Prices(costs.fee_rate, np.maximum(costs.fee_rate, 4.5e-4), k)
    equity, _, _ = simulate_weights(
        Market.of_returns(market.returns, market.funding), prices, result.weights, np.arange(8, 120, 4), 1e6
    )
    np.testing.assert_allclose(equity[8:], result.equity_usd, rtol=1e-9)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda s: LiquidityCosts(3e-4, s, -s), r"adv_usd row 0: the value for 0 is -0\.02; it is at least 0"),
        (lambda s: LiquidityCosts(3e-4, s[:, :5], s), r"sigma_daily has shape \(121, 5\) and no labels"),
        (lambda s: LiquidityCosts([3e-4] * 5, s, s), r"fee_rate has shape \(5,\); expected \(6,\)"),
        (lambda s: LiquidityCosts(-1e-4, s, s), r"fee_rate of 0 is -0\.0001; it must be finite and at least 0"),
        (lambda s: LiquidityCosts(3e-4, s, s, np.nan), "kappa is nan"),
        (lambda s: LiquidityCosts(3e-4, s, s, min_trade_size=-1.0), r"min_trade_size is -1\.0"),
    ],
)
def test_costs_that_cannot_be_are_refused_by_name(build: Any, message: str, market: Any) -> None:
    with pytest.raises((ValueError, CostError), match=message):
        market.but(model=build(np.full(market.alpha.shape, 0.02))).run()


def test_a_coin_without_a_column_of_costs_is_an_error_and_not_a_coin_that_never_trades(market: Any) -> None:
    index = pd.date_range("2024-01-01 01:00", periods=121, freq="h", tz="UTC")

    def frame(values: np.ndarray) -> pd.DataFrame:
        return pd.DataFrame(values, index=index, columns=list("ABCDEF"))

    alpha, level = frame(market.alpha), frame(np.full(market.alpha.shape, 0.02))
    costs = LiquidityCosts(3e-4, level, (level * 1e9).drop(columns="C"))
    with pytest.raises(ValueError, match="adv_usd lacks 'C'; give a column per asset"):
        run_backtest(market.config, alpha, 0 * alpha, market.beta, market.S, frame(market.returns), 0 * alpha, costs)
