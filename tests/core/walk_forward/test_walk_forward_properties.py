"""Laws a walk-forward backtest obeys whatever the market: accounts, units, costs, hindsight and the unknown future."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from slipstream.core.backtest.one_book import Market, Prices, simulate_weights
from slipstream.portfolio import FactorCovariance, LiquidityCosts, TransactionCostModel

FIRST, PERIOD = 8, 4
SEEDS = st.integers(0, 2**32 - 1)


def rough(market: Any, seed: int) -> Any:
    """The market with forecasts that come and go, coins that pause, end and begin late, and lost settlements."""
    rng = np.random.default_rng(seed)
    alpha, returns, funding = market.alpha.copy(), market.returns.copy(), market.funding.copy()
    alpha[rng.random(alpha.shape) < 0.15] = np.nan
    returns[rng.random(returns.shape) < 0.03] = np.nan
    funding[rng.random(funding.shape) < 0.05] = np.nan
    rows, coins = returns.shape
    returns[rng.integers(rows // 2, rows) :, rng.integers(coins)] = np.nan
    returns[: rng.integers(rows // 2), rng.integers(coins)] = np.nan
    shape = returns.shape
    costs = LiquidityCosts(rng.uniform(1e-4, 5e-4, shape), rng.uniform(0.0, 0.1, shape), rng.uniform(1e6, 1e9, shape))
    return market.but(alpha=alpha, returns=returns, funding=funding, model=costs)


@settings(max_examples=25)
@given(
    seed=SEEDS, delay=st.integers(0, 3), leverage=st.floats(0.2, 4.0), patience=st.integers(1, 9), lots=st.booleans()
)
def test_in_every_bar_the_equity_moves_by_the_sum_of_its_parts(
    seed: int, delay: int, leverage: float, patience: int, lots: bool, market_of: Any
) -> None:
    market = rough(market_of(rows=81, seed=seed % 1000), seed).but(
        fill_delay_hours=delay, leverage=leverage, delist_after_bars=patience, use_discrete_lots=lots
    )
    result = market.run()
    assert result.accounting_max_error < 1e-12
    parts = result.pnl_usd.sum(axis=1)
    np.testing.assert_allclose(result.equity_usd, 1e6 + np.cumsum(parts), rtol=1e-12)
    assert (result.pnl_usd[:, 2:] <= 0.0).all()  # costs are never income
    assert np.isfinite(result.equity_usd).all()
    assert np.isfinite(result.weights).all()


@settings(max_examples=12)
@given(seed=SEEDS, k=st.integers(1, 16), delay=st.integers(0, 3), lots=st.booleans())
def test_no_input_known_later_reaches_an_earlier_trade(
    seed: int, k: int, delay: int, lots: bool, market_of: Any
) -> None:
    """All tables are permuted after a decision at once: forecasts, returns, funding, costs and prices."""
    market = rough(market_of(rows=81, seed=seed % 1000), seed).but(fill_delay_hours=delay, use_discrete_lots=lots)
    row = FIRST + PERIOD * k
    order = np.concatenate([np.arange(row + 1), row + 1 + np.random.default_rng(seed).permutation(80 - row)])
    prices = 20.0 * np.cumprod(1.0 + np.nan_to_num(market.returns), axis=0)
    costs = market.model
    shuffled = market.but(
        alpha=market.alpha[order],
        returns=market.returns[order],
        funding=market.funding[order],
        model=LiquidityCosts(costs.fee_rate[order], costs.sigma_daily[order], costs.adv_usd[order]),
    )
    before = market.run(prices=prices, sz_decimals=[1] * 6)
    after = shuffled.run(prices=prices[order], sz_decimals=[1] * 6)
    filled = k if delay else k + 1  # a late fill of decision k is made after its row
    np.testing.assert_array_equal(after.weights[:filled], before.weights[:filled])
    np.testing.assert_array_equal(after.equity_usd[: row - FIRST + 1], before.equity_usd[: row - FIRST + 1])


@settings(max_examples=12)
@given(seed=SEEDS, unit=st.floats(1e-3, 1e3))
def test_the_unit_of_money_does_not_matter(seed: int, unit: float, market_of: Any) -> None:
    """Capital and volumes in another currency: the same fractions are held and the same returns made."""
    market = rough(market_of(rows=61, seed=seed % 1000), seed)
    costs = market.model
    other = market.but(
        initial_capital=1e6 * unit,
        model=LiquidityCosts(costs.fee_rate, costs.sigma_daily, costs.adv_usd * unit),
    )
    np.testing.assert_allclose(other.run().equity_usd / unit, market.run().equity_usd, rtol=1e-8)


@settings(max_examples=15)
@given(scale=st.floats(1e-2, 1e2))
def test_the_unit_of_the_objective_does_not_matter(scale: float, market_of: Any) -> None:
    """Forecast, variance and costs in percent or in fractions: the first book bought is the same."""
    market = market_of(rows=14)
    model = market.model
    scaled = market.but(
        alpha=market.alpha * scale,
        S=FactorCovariance(market.S.exposures * np.sqrt(scale), market.S.idio_var * scale),
        model=TransactionCostModel(model.fee_rate * scale, model.impact_coef * scale, model.min_trade_size),
    )
    np.testing.assert_allclose(scaled.run().weights[0], market.run().weights[0], atol=1e-8)


@settings(max_examples=15)
@given(seed=SEEDS)
def test_a_coin_that_no_forecast_names_changes_nothing(seed: int, market_of: Any) -> None:
    """It has prices, funding, costs and correlations, and is not for this book."""
    market = market_of(rows=41, seed=seed % 1000)
    rng = np.random.default_rng(seed)

    def wider(table: np.ndarray, column: np.ndarray | float) -> np.ndarray:
        return np.column_stack([table, np.broadcast_to(column, len(table))])

    model = market.model
    other = market.but(
        alpha=wider(market.alpha, np.nan),
        beta=np.append(market.beta, 2.0),
        S=FactorCovariance(
            np.vstack([market.S.exposures, rng.normal(0.0, 0.05, 2)]), np.append(market.S.idio_var, 1e-3)
        ),
        returns=wider(market.returns, rng.normal(0.0, 0.05, 41)),
        funding=wider(market.funding, 1e-3),
        model=TransactionCostModel(np.append(model.fee_rate, 0.0), np.append(model.impact_coef, 0.0), np.full(7, 10.0)),
    )
    result = other.run()
    assert not result.weights[:, 6].any()
    np.testing.assert_array_equal(result.equity_usd, market.run().equity_usd)


@settings(max_examples=20)
@given(seed=SEEDS, dearer=st.floats(1.05, 20.0))
def test_dearer_trading_never_buys_more_of_cost_and_never_leaves_more_value(
    seed: int, dearer: float, market_of: Any
) -> None:
    """Of the first book: what it would cost at the old rates, and what the optimiser expects of it, can only fall."""
    market = market_of(rows=14, seed=seed % 1000)
    model = market.model
    costly = TransactionCostModel(model.fee_rate * dearer, model.impact_coef * dearer, model.min_trade_size)
    S = market.S.dense()

    def spent(weights: np.ndarray) -> float:
        size = np.abs(weights)
        return float(size @ model.fee_rate + (model.impact_coef * size**1.5).sum())

    def worth(weights: np.ndarray, factor: float) -> float:
        return float(weights @ market.alpha[FIRST] - 0.5 * weights @ S @ weights - factor * spent(weights))

    cheap, dear = market.run().weights[0], market.but(model=costly).run().weights[0]
    assert spent(dear) <= spent(cheap) + 1e-12
    assert worth(dear, dearer) <= worth(cheap, 1.0) + 1e-12


@settings(max_examples=20)
@given(seed=SEEDS, dearer=st.floats(1.1, 10.0))
def test_the_same_trades_at_dearer_rates_leave_less_at_every_row(seed: int, dearer: float, market_of: Any) -> None:
    market = market_of(rows=61, seed=seed % 1000)
    weights = np.random.default_rng(seed).normal(0.0, 0.2, (13, 6))
    book = Market.of_returns(market.returns, market.funding)

    def equity(factor: float) -> np.ndarray:
        fee, steep = market.model.fee_rate * factor, market.model.impact_coef * factor / 1e3
        return simulate_weights(book, Prices(fee, fee, steep), weights, np.arange(8, 60, 4), 1e6)[0][8:]

    cheap, dear = equity(1.0), equity(dearer)
    assert (dear[1:] < cheap[1:]).all()
    assert dear[0] == cheap[0] == 1e6


@settings(max_examples=25)
@given(seed=SEEDS, blur=st.floats(0.0, 5.0))
def test_hindsight_bounds_any_other_forecast(seed: int, blur: float, market_of: Any) -> None:
    """Net of costs, funding and the charge for variance: told the very returns to come, no other alpha does better."""
    market = market_of(rows=FIRST + 2, seed=seed % 1000).but(H=1)
    to_come = market.returns[FIRST + 1] - market.funding[FIRST + 1]
    S = market.S.dense()

    def net_objective(alpha: np.ndarray) -> float:
        result = market.but(alpha=np.tile(alpha, (FIRST + 2, 1))).run()
        w = result.weights[0]
        return result.total_return() - 0.5 * float(w @ S @ w)

    other = to_come + blur * np.random.default_rng(seed).normal(0.0, 0.01, 6)
    assert net_objective(other) <= net_objective(to_come) + 1e-12
