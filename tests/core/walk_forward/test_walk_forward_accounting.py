"""Every dollar of a walk-forward backtest, against a plain loop and against arithmetic done by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipstream.core.backtest import parts
from slipstream.core.backtest.one_book import Market, Prices, simulate_weights
from slipstream.portfolio import BacktestConfig, FactorCovariance, TransactionCostModel, run_backtest

FREE = TransactionCostModel(np.zeros(2), np.zeros(2), np.full(2, 10.0))
TWO = FactorCovariance(np.zeros((2, 0)), np.array([1e-3, 1e-3]))


def with_gaps(market: Any, seed: int = 7) -> Any:
    """Forecasts that come and go, one coin with a gap, one that ends and one that begins late."""
    rng = np.random.default_rng(seed)
    alpha, returns, funding = market.alpha.copy(), market.returns.copy(), market.funding.copy()
    alpha[rng.random(alpha.shape) < 0.1] = np.nan
    alpha[30:50, 0], alpha[60:, 1] = -0.02, 0.02
    returns[40:44, 0] = np.nan
    returns[70:, 1] = np.nan
    returns[:30, 2] = np.nan
    funding[50:53, 3] = np.nan
    return market.but(alpha=alpha, returns=returns, funding=funding)


def hold_one_coin(returns: np.ndarray, funding: np.ndarray, *, weight: float = 0.5, **settings: Any) -> Any:
    """A book that buys one coin at the first decision and is never told to trade again."""
    rows = len(returns)
    alpha = np.full((rows, 2), 1.0)
    values = {"H": rows, "min_history_hours": 0, "leverage": weight, "use_costs": False, **settings}
    beta = np.array([0.0, 1.0])
    two = np.column_stack([returns, np.zeros(rows)])
    paid = np.column_stack([funding, np.zeros(rows)])
    return run_backtest(BacktestConfig(**values), alpha, np.zeros_like(alpha), beta, TWO, two, paid, FREE)


def test_the_equity_is_that_of_a_plain_loop_at_every_bar(market: Any, plain_backtest: Any) -> None:
    equity, booked = plain_backtest(market)
    result = market.run()
    np.testing.assert_allclose(result.equity_usd, equity, rtol=1e-9)
    np.testing.assert_allclose(result.pnl_usd[:, parts.PRICE], [row["price"] for row in booked], atol=1e-3)
    np.testing.assert_allclose(result.pnl_usd[:, parts.FUNDING], [row["funding"] for row in booked], atol=1e-5)
    costs = -result.pnl_usd[:, [parts.FEES, parts.IMPACT]].sum(axis=1)
    np.testing.assert_allclose(costs, [row["cost"] for row in booked], atol=1e-3)
    assert costs.sum() > 1.0


@pytest.mark.parametrize("delay_hours", [0, 1, 3])
def test_gaps_endings_and_late_fills_are_those_of_the_plain_loop(
    market: Any, plain_backtest: Any, delay_hours: int
) -> None:
    rough = with_gaps(market).but(fill_delay_hours=delay_hours)
    result = rough.run()
    np.testing.assert_allclose(result.equity_usd, plain_backtest(rough)[0], rtol=1e-9)
    assert result.metrics["n_delisted"] == 1
    assert result.metrics["n_frozen"] > 0
    assert result.metrics["n_failed"] == 0


def test_each_bar_moves_the_equity_by_the_sum_of_its_parts(market: Any) -> None:
    result = with_gaps(market).run()
    np.testing.assert_allclose(np.diff(result.equity_usd), result.pnl_usd[1:].sum(axis=1), atol=1e-9 * 1e6)
    assert result.accounting_max_error < 1e-12
    trades = result.trades
    made = result.equity_usd[-1] - result.equity_usd[0]
    assert trades["pnl_net"].sum() == pytest.approx(made, rel=1e-9)
    np.testing.assert_allclose(trades["pnl_price"] + trades["pnl_funding"] - trades["cost"], trades["pnl_net"])
    assert np.prod(1.0 + result.returns) - 1.0 == pytest.approx(result.total_return(), rel=1e-9)


def test_positive_funding_costs_a_long_exactly_the_sum_of_rate_times_notional() -> None:
    rates = np.array([9.0, 1e-4, 2e-4, 0.0, 5e-4])
    result = hold_one_coin(np.zeros(5), rates)
    assert result.equity_usd[-1] - 1e6 == pytest.approx(-(rates[1:].sum()) * 0.5e6, rel=1e-12)
    assert result.trades["pnl_funding"].sum() == pytest.approx(-400.0, rel=1e-12)
    assert result.trades["pnl_price"].sum() == 0.0


def test_funding_is_paid_on_the_position_at_the_open_of_the_bar() -> None:
    result = hold_one_coin(np.array([0.0, 0.10, 0.20]), np.array([0.0, 0.001, 0.002]))
    opened = [500_000.0, 550_000.0]
    assert result.metrics["pnl_funding"] == pytest.approx(-(opened[0] * 0.001 + opened[1] * 0.002), rel=1e-12)
    assert result.metrics["pnl_price"] == pytest.approx(500_000.0 * (1.1 * 1.2 - 1.0), rel=1e-12)


def test_a_position_compounds_simple_returns_and_log_returns_are_converted() -> None:
    simple = np.array([0.0, 0.10, -0.20, 0.05])
    by_simple = hold_one_coin(simple, np.zeros(4))
    by_log = hold_one_coin(np.log1p(simple), np.zeros(4), returns_kind="log")
    assert by_simple.total_return() == pytest.approx(0.5 * (1.1 * 0.8 * 1.05 - 1.0), rel=1e-12)
    np.testing.assert_allclose(by_log.equity_usd, by_simple.equity_usd, rtol=1e-12)


def test_zero_weights_leave_the_equity_constant_and_cash_stays_cash(market: Any) -> None:
    for alpha in (np.zeros_like(market.alpha), np.full_like(market.alpha, np.nan)):
        result = market.but(alpha=alpha).run()
        assert set(result.equity_usd) == {1e6}
        assert result.sharpe_ratio() == 0.0
        assert result.max_drawdown() == 0.0
        assert not result.weights.any()


def test_the_first_trade_is_paid(market: Any) -> None:
    result = market.run()
    first = np.abs(result.notional_usd[0])
    model = market.model
    owed = first @ model.fee_rate + (model.impact_coef / 1e3 * first**1.5).sum()
    assert first.sum() > 1e5
    assert -result.pnl_usd[1, [parts.FEES, parts.IMPACT]].sum() == pytest.approx(owed, rel=1e-12)


def test_a_coin_not_worth_trading_keeps_its_units_and_is_no_dust_order(market_of: Any) -> None:
    market = market_of(rows=2001)
    costly = TransactionCostModel(np.full(6, 2e-3), market.model.impact_coef, market.model.min_trade_size)
    alpha = np.tile(market.alpha[8], (2001, 1))
    steady = market.but(alpha=alpha, model=costly, leverage=3.0, risk_aversion=20.0).run()
    traded = np.abs(steady.notional_usd)
    kept = (traded == 0.0) & (steady.weights != 0.0)
    assert kept.sum() > 500
    assert traded[traded > 0.0].min() > 1e-3


def test_two_runs_that_differ_in_use_costs_differ_by_cost_alone_where_the_plan_is_the_same() -> None:
    """One coin that may only be bought once: both plans are full, so the gap is the cost of that purchase."""
    paid = hold_one_coin(np.array([0.0, 0.0, 0.0]), np.zeros(3), use_costs=True)
    assert paid.equity_usd[-1] == 1e6  # FREE: a model of zero costs is the same as no costs
    dear = TransactionCostModel(np.array([1e-3, 0.0]), np.zeros(2), np.full(2, 10.0))
    alpha, flat = np.full((3, 2), 1.0), np.zeros((3, 2))
    config = BacktestConfig(H=3, min_history_hours=0, leverage=0.5)
    result = run_backtest(config, alpha, flat, np.array([0.0, 1.0]), TWO, flat, flat, dear)
    assert 1e6 - result.equity_usd[-1] == pytest.approx(0.5e6 * 1e-3, rel=1e-12)


def test_weights_drift_with_prices_between_decisions(market: Any) -> None:
    """At prohibitive costs nothing is traded after the first free decision, and the weights move all the same."""
    result = market.but(alpha=np.where(np.arange(121)[:, None] < 9, market.alpha, 0.0), use_costs=False).run()
    assert not result.weights[1:].any()
    held = hold_one_coin(np.array([0.0, 0.5, 0.0]), np.zeros(3), H=1)
    assert held.weights[0, 0] == pytest.approx(0.5)
    # 0.5 grew to 0.75 of an equity of 1.25: above the limit of 0.5 it is cut back, which is turnover.
    assert held.turnover[1] == pytest.approx(0.75 / 1.25 - 0.5, rel=1e-9)


def test_a_delisted_coin_is_closed_at_its_last_price_after_the_agreed_bars_and_at_taker_cost() -> None:
    returns = np.array([0.0, 0.10, np.nan, np.nan, np.nan, np.nan])
    cheap = TransactionCostModel(np.full(2, 1e-4), np.zeros(2), np.full(2, 10.0))
    alpha, two = np.full((6, 2), 1.0), np.column_stack([returns, np.zeros(6)])
    config = BacktestConfig(H=6, min_history_hours=0, leverage=0.5, delist_after_bars=3)
    result = run_backtest(config, alpha, 0.0 * two[:, :2], np.array([0.0, 1.0]), TWO, two, np.zeros((6, 2)), cheap)
    last_value = 0.5e6 * 1.1
    assert result.metrics["n_delisted"] == 1
    np.testing.assert_allclose(result.closed_usd, [last_value])
    assert result.pnl_usd[4, parts.FEES] == pytest.approx(-last_value * 4.5e-4, rel=1e-12)
    assert result.equity_usd[-1] == pytest.approx(1e6 + 0.05e6 - 0.5e6 * 1e-4 - last_value * 4.5e-4, rel=1e-12)
    assert result.metrics["n_frozen"] == 3


def test_a_frozen_position_is_neither_bought_nor_sold_and_the_others_hedge_it(market: Any) -> None:
    returns = market.returns.copy()
    coin = int(np.flatnonzero(market.but(max_weight=0.3).run().weights[0])[0])
    returns[11:15, coin] = np.nan
    result = market.but(returns=returns, max_weight=0.3).run()
    assert result.weights[0, coin] != 0.0
    assert result.notional_usd[1, coin] == 0.0
    assert np.abs(result.notional_usd[1]).sum() > 0.0
    assert abs(result.weights[1] @ market.beta) < 1e-9
    assert np.abs(result.weights[1]).sum() <= 1.0 + 1e-9
    assert result.metrics["n_failed"] == 0
    assert result.metrics["n_frozen"] == 4


def test_ruin_stops_the_run_and_is_said(market: Any) -> None:
    returns = np.where(np.arange(121)[:, None] == 30, -0.9, 0.0) * np.sign(market.alpha[8])[None, :]
    result = market.but(
        returns=np.clip(returns, -0.99, None), leverage=3.0, alpha=np.tile(market.alpha[8], (121, 1))
    ).run()
    assert result.ruined
    assert result.metrics["ruined"]
    assert result.equity_usd[-1] <= 0.0
    assert result.equity_usd[:-1].min() > 0.0
    assert result.total_return() <= -1.0
    assert len(result.equity_usd) == 30 - 8 + 1
    assert result.trades["pnl_net"].sum() == pytest.approx(result.equity_usd[-1] - 1e6, rel=1e-9)


def test_an_unsolved_decision_holds_the_book_and_is_counted(market: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from slipstream.core.portfolio import optimizer

    solve, calls = optimizer.optimize_portfolio_with_costs, []

    def fails_the_second_time(alpha: Any, beta: Any, S: Any, w_old: Any, *rest: Any, **named: Any) -> Any:
        calls.append(named["on_fail"])
        return (w_old, {"success": False}) if len(calls) == 2 else solve(alpha, beta, S, w_old, *rest, **named)

    monkeypatch.setattr(optimizer, "optimize_portfolio_with_costs", fails_the_second_time)
    result = market.run()
    assert set(calls) == {"hold"}
    assert result.metrics["n_failed"] == 1
    assert not result.notional_usd[1].any()
    assert result.notional_usd[2].any()


def test_a_settlement_that_is_due_and_missing_is_charged_nothing_and_counted(market: Any) -> None:
    funding = np.full_like(market.funding, np.nan)
    funding[::8] = 1e-4  # settles every 8 h: the hours between owe nothing
    every = market.but(funding=funding).run()
    assert every.metrics["n_funding_missing"] == 0
    funding[64] = np.nan
    lost = market.but(funding=funding).run()
    held = np.flatnonzero(lost.weights[(63 - 8) // 4])
    assert lost.metrics["n_funding_missing"] == len(held) > 0


def test_the_recorded_market_gives_the_equity_of_the_plain_loop(market: Any, plain_backtest: Any, shared: Path) -> None:
    """Fifty periods of 30 coins; row t of the file is the period that begins at t, so its bar ends at t + 1."""
    with np.load(shared / "bench/portfolio/inputs/backtest_N30.npz") as arrays:
        recorded = {name: arrays[name] for name in ("r", "alpha", "funding", "volume", "beta", "B", "idio")}
    before, S = np.zeros((1, 30)), FactorCovariance(recorded["B"], recorded["idio"] ** 2)
    impact = np.sqrt(S.diagonal() * 1e6 / recorded["volume"].mean(axis=0))
    real = market.but(
        alpha=recorded["alpha"][:51],
        beta=recorded["beta"],
        S=S,
        returns=np.vstack([before, recorded["r"][:50]]),
        funding=np.vstack([before, recorded["funding"][:50]]),
        model=TransactionCostModel(np.full(30, 3e-4), impact, np.full(30, 10.0)),
        H=1,
        min_history_hours=0,
    )
    result = real.run()
    np.testing.assert_allclose(result.equity_usd, plain_backtest(real)[0], rtol=1e-9)
    assert len(result.weights) == 50
    assert np.abs(result.weights @ recorded["beta"]).max() < 1e-9


def test_given_weights_simulated_are_the_backtest_that_found_them(market: Any) -> None:
    result = market.run()
    book = Market.of_returns(market.returns, market.funding)
    model = market.model
    costs = Prices(model.fee_rate, np.full(6, 4.5e-4), model.impact_coef / 1e3)
    equity, pnl, orders = simulate_weights(book, costs, result.weights, np.arange(8, 120, 4), 1e6)
    np.testing.assert_allclose(equity[8:], result.equity_usd, rtol=1e-9)
    np.testing.assert_allclose(pnl[8:].sum(axis=0), result.pnl_usd.sum(axis=0), rtol=1e-6)
    assert orders >= (result.notional_usd != 0.0).sum()


@settings(max_examples=15)
@given(factor=st.floats(1e-2, 1e2))
def test_with_linear_costs_returns_do_not_depend_on_capital(factor: float, market_of: Any) -> None:
    market = market_of(rows=41)
    linear = market.but(model=TransactionCostModel(market.model.fee_rate, np.zeros(6), np.full(6, 10.0)))
    small, large = linear.run(), linear.but(initial_capital=1e6 * factor).run()
    np.testing.assert_allclose(large.period_returns, small.period_returns, rtol=1e-6, atol=1e-12)


@settings(max_examples=15)
@given(order=st.permutations(range(6)))
def test_the_order_of_coins_does_not_matter(order: list[int], market_of: Any) -> None:
    market = market_of(rows=41)
    model = TransactionCostModel(market.model.fee_rate[order], market.model.impact_coef[order], np.full(6, 10.0))
    S = FactorCovariance(market.S.exposures[order], market.S.idio_var[order])
    shuffled = market.but(
        alpha=market.alpha[:, order],
        beta=market.beta[order],
        S=S,
        returns=market.returns[:, order],
        funding=market.funding[:, order],
        model=model,
    )
    np.testing.assert_allclose(shuffled.run().equity_usd, market.run().equity_usd, rtol=1e-8)


@settings(max_examples=10)
@given(capital=st.floats(1e4, 1e7))
def test_more_capital_never_earns_a_higher_return_when_impact_grows_with_it(capital: float, market_of: Any) -> None:
    """The same weights cost more per dollar; on noise the first period's return can only fall."""
    market = market_of(rows=14)
    flat = market.but(returns=np.zeros_like(market.returns), funding=np.zeros_like(market.funding))
    steep = flat.but(model=TransactionCostModel(np.zeros(6), np.full(6, 1e-3), np.full(6, 10.0)))
    small, large = (steep.but(initial_capital=c).run() for c in (capital, 4.0 * capital))
    assert (large.total_return() <= small.total_return() * (1 - 1e-9)) or small.total_return() == 0.0


def test_adding_a_coin_that_never_trades_changes_nothing(market: Any) -> None:
    def with_column(array: np.ndarray, value: float) -> np.ndarray:
        return np.column_stack([array, np.full(len(array), value)])

    model = TransactionCostModel(
        np.append(market.model.fee_rate, 1e-4), np.append(market.model.impact_coef, 1e-4), np.full(7, 10.0)
    )
    wider = market.but(
        alpha=with_column(market.alpha, 0.01),
        beta=np.append(market.beta, 1.0),
        S=FactorCovariance(np.vstack([market.S.exposures, [0.01, 0.0]]), np.append(market.S.idio_var, 1e-4)),
        returns=with_column(market.returns, np.nan),
        funding=with_column(market.funding, 0.0),
        model=model,
    )
    np.testing.assert_array_equal(wider.run().equity_usd, market.run().equity_usd)
