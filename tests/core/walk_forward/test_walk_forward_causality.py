"""A decision knows the past only, and earns the bars after it only."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipstream.portfolio import BacktestConfig, FactorCovariance, run_backtest

FIRST, PERIOD = 8, 4


@settings(max_examples=10)
@given(k=st.integers(1, 26), seed=st.integers(0, 2**32 - 1))
def test_permuting_the_future_leaves_earlier_decisions_bit_identical(k: int, seed: int, market_of: Any) -> None:
    market = market_of()
    row = FIRST + PERIOD * k
    order = np.concatenate([np.arange(row + 1), row + 1 + np.random.default_rng(seed).permutation(120 - row)])
    shuffled = market.but(
        alpha=market.alpha[order], returns=market.returns[order], funding=market.funding[order], S=market.S
    )
    before, after = market.run(), shuffled.run()
    np.testing.assert_array_equal(after.weights[: k + 1], before.weights[: k + 1])
    np.testing.assert_array_equal(after.equity_usd[: row - FIRST + 1], before.equity_usd[: row - FIRST + 1])


@pytest.mark.parametrize("k", [1, 13])
def test_cutting_the_history_leaves_earlier_decisions_bit_identical(k: int, market: Any) -> None:
    rows = FIRST + PERIOD * k + 2
    cut = market.but(alpha=market.alpha[:rows], returns=market.returns[:rows], funding=market.funding[:rows])
    np.testing.assert_array_equal(cut.run().weights, market.run().weights[: k + 1])


@pytest.mark.parametrize("S", ["none", "dated"])
def test_the_covariance_reads_no_row_after_the_decision(S: str, market: Any) -> None:
    stamps = pd.date_range("2024-01-01 01:00", periods=121, freq="h")
    given = (
        None
        if S == "none"
        else {stamps[0]: market.S, stamps[60]: FactorCovariance(market.S.exposures * 2, market.S.idio_var * 9)}
    )

    def run(returns: np.ndarray, covariance: Any) -> Any:
        def frame(values: np.ndarray) -> pd.DataFrame:
            return pd.DataFrame(values, index=stamps)

        config = BacktestConfig(H=PERIOD, min_history_hours=FIRST)
        zero = frame(np.zeros_like(returns))
        return run_backtest(
            config, frame(market.alpha), zero, market.beta, covariance, frame(returns), zero, market.model
        )

    whole = run(market.returns, given)
    changed = market.returns.copy()
    changed[61:] *= 3.0
    np.testing.assert_array_equal(run(changed, given).weights[:14], whole.weights[:14])
    if S == "dated":
        first_only = run(market.returns, {stamps[0]: market.S})
        np.testing.assert_array_equal(first_only.weights[:13], whole.weights[:13])
        assert not np.array_equal(first_only.weights[13], whole.weights[13])


def test_alpha_equal_to_the_bars_own_return_scores_nothing_on_noise() -> None:
    """The fault pays a decision the bar that was already known when it was taken; it scored 140 to 397."""
    rng = np.random.default_rng(42)
    rows, coins = 4001, 8
    noise = rng.normal(0.0, 0.01, (rows, coins))
    config = BacktestConfig(H=1, min_history_hours=24, use_costs=False)
    zero, S = np.zeros_like(noise), FactorCovariance(np.zeros((coins, 0)), np.full(coins, 1e-4))
    result = run_backtest(config, noise, zero, np.ones(coins), S, noise, zero)
    periods = len(result.returns)
    assert abs(result.sharpe_ratio()) < 3.0 * np.sqrt(8766.0 / periods)
    told = run_backtest(config, np.roll(noise, -1, axis=0), zero, np.ones(coins), S, noise, zero)
    assert told.sharpe_ratio() > 100.0


def test_the_sharpe_ratio_at_eight_hours_is_of_periods_and_not_of_bars(market_of: Any) -> None:
    market = market_of(rows=401).but(H=8)
    result = market.run()
    returns = result.returns.to_numpy()
    assert len(returns) == (400 - FIRST) // 8
    by_hand = returns.mean() / returns.std(ddof=1) * np.sqrt(8766.0 / 8.0)
    assert result.sharpe_ratio() == pytest.approx(by_hand, rel=1e-12)
    assert result.sharpe_ratio(1.0) == pytest.approx(by_hand / np.sqrt(8766.0 / 8.0), rel=1e-12)


def test_dates_are_those_of_the_decisions_after_the_warm_up() -> None:
    rng = np.random.default_rng(1)
    index = pd.date_range("2024-01-01 01:00", periods=300, freq="h", tz="UTC")
    coins = ["BTC", "kPEPE", "ETH"]

    def frame(scale: float) -> pd.DataFrame:
        return pd.DataFrame(rng.normal(0.0, scale, (300, 3)), index=index, columns=coins)

    config = BacktestConfig(
        H=8, start_date="2024-01-03", end_date="2024-01-09T12:00", min_history_hours=24, use_costs=False
    )
    result = run_backtest(config, frame(1e-3), frame(1e-5), np.ones(3), np.eye(3) * 1e-4, frame(0.01), frame(1e-5))
    decisions = pd.date_range("2024-01-03", "2024-01-09 08:00", freq="8h", tz="UTC")
    assert list(result.trades["timestamp"]) == list(result.positions.index) == list(decisions)
    assert result.equity_curve.index[0] == decisions[0]
    assert result.equity_curve.iloc[0] == config.initial_capital
    assert result.equity_curve.index[-1] == pd.Timestamp("2024-01-09 12:00", tz="UTC")
    assert list(result.returns.index[:-1]) == list(decisions[1:])
    np.testing.assert_array_equal(result.trades["capital"], result.equity_curve[decisions])
    assert list(result.positions.columns) == coins


def test_no_decision_is_taken_before_enough_history() -> None:
    rng = np.random.default_rng(2)
    values = rng.normal(0.0, 0.01, (800, 2))
    config = BacktestConfig(H=1, use_costs=False)
    result = run_backtest(config, values, values * 0, np.ones(2), np.eye(2) * 1e-4, values, values * 0)
    assert result.time_ms[0] == 720 * 3_600_000
    with pytest.raises(ValueError, match="no decision can be taken: realized_returns has 700 rows"):
        run_backtest(config, values[:700], values[:700], np.ones(2), np.eye(2), values[:700], values[:700])


def test_an_alpha_that_sees_the_future_bounds_any_other(market: Any) -> None:
    seen = np.array([market.returns[t + 1 : t + 1 + PERIOD].sum(axis=0) for t in range(121)])
    oracle = market.but(alpha=seen, use_costs=False).run().total_return()
    rng = np.random.default_rng(3)
    for _ in range(5):
        blind = market.but(alpha=rng.normal(0.0, 0.02, market.alpha.shape), use_costs=False).run()
        assert blind.total_return() < oracle
