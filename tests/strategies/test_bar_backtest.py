"""One strategy's backtest: a decision at t earns the rows after t, and every dollar is accounted for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from slipstream.core.backtest.parts import FEES, FUNDING, IMPACT
from slipstream.core.decision import BadDecision, NotEnoughHistory
from slipstream.core.panel import HOUR_MS, FloatArray, Panel, UniverseRule, View
from slipstream.errors import UsageError
from slipstream.strategies import list_strategies, load_targets
from slipstream.strategies.bar_backtest import (
    BarBacktestConfig,
    BookRuined,
    NothingTradable,
    run_bar_backtest,
)

FREE = BarBacktestConfig(fee_bps=0.0, half_spread_bps=0.0, kappa=0.0, min_order_usd=0.0)


def panel_of(
    returns: np.ndarray, *, funding: np.ndarray | None = None, volume: float = np.nan, hours: int = 4
) -> Panel:
    close = np.exp(np.vstack((np.zeros((1, returns.shape[1])), np.cumsum(returns, axis=0))))
    rates = np.zeros_like(close) if funding is None else funding
    return Panel.build(
        1_735_689_600_000 + hours * HOUR_MS * np.arange(len(close), dtype=np.int64),
        tuple(f"C{i:02}" for i in range(close.shape[1])),
        hours,
        open=close,
        high=close,
        low=close,
        close=close,
        volume_usd=np.full_like(close, volume),
        funding=rates,
        rule=UniverseRule(0.0, hours),
        source="noise",
    )


def noise(rows: int = 2000, columns: int = 20, seed: int = 0) -> np.ndarray:
    return 0.012 * np.random.default_rng(seed).standard_normal((rows, columns))


def own_past_return(view: View) -> FloatArray:
    """The bar just closed, long what rose: worth hundreds of Sharpe to whoever is paid that bar."""
    last = np.nan_to_num(view.log_return[-1])
    size = np.abs(last).sum()
    return last / size if size > 0.0 else last


def long_first(view: View) -> FloatArray:
    return np.eye(len(view.coins))[0]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_chasing_the_last_bar_of_independent_noise_earns_nothing(seed: int) -> None:
    result = run_bar_backtest(panel_of(noise(seed=seed)), own_past_return, rebalance_hours=4, config=FREE)
    assert abs(result.sharpe()) < 3.0 * result.sharpe_error()


def test_a_decision_earns_the_row_after_its_close() -> None:
    returns = np.zeros((10, 1))
    returns[5] = np.log(1.1)
    panel = panel_of(returns)

    def only_at(row: int) -> float:
        result = run_bar_backtest(
            panel,
            lambda view: np.array([float(view.rows == row + 1)]),
            rebalance_hours=4,
            config=FREE,
        )
        return result.total_return()

    assert [round(only_at(row), 12) for row in (4, 5, 6)] == [0.0, 0.1, 0.0]


def test_a_settlement_is_paid_from_the_row_after_the_trade_on() -> None:
    funding = np.zeros((11, 1))
    funding[5] = 0.01
    panel = panel_of(np.zeros((10, 1)), funding=funding)
    paid = []
    for row in (3, 4, 5):
        result = run_bar_backtest(
            panel, lambda view, row=row: np.array([float(view.rows == row + 1)]), rebalance_hours=4, config=FREE
        )
        paid.append(result.pnl_usd[:, FUNDING].sum() / FREE.capital_usd)
    np.testing.assert_allclose(paid, [0.0, -0.01, 0.0], atol=1e-15)


def test_costs_are_the_whole_difference_between_net_and_gross() -> None:
    panel = panel_of(noise(rows=300), volume=1e7)
    result = run_bar_backtest(panel, own_past_return, rebalance_hours=4)
    equity = 1e6 * np.cumprod(np.concatenate(([1.0], 1.0 + result.net_return[:-1])))
    costs = -result.pnl_usd[:, FEES : IMPACT + 1].sum(axis=1)
    np.testing.assert_allclose((result.gross_return - result.net_return) * equity, costs, rtol=1e-9)
    np.testing.assert_allclose(-result.pnl_usd[:, FEES], 3e-4 * result.turnover * equity, rtol=1e-9)
    assert (result.pnl_usd[:, IMPACT] < 0.0).sum() > 200


@pytest.mark.parametrize("slug", list_strategies())
def test_equity_moves_by_the_sum_of_the_parts(slug: str, market: Panel) -> None:
    result = run_bar_backtest(market, load_targets(slug), rebalance_hours=24)
    assert result.accounting_error < 1e-9
    final = result.initial_capital_usd + result.pnl_usd.sum()
    assert result.total_return() == pytest.approx(final / result.initial_capital_usd - 1.0, abs=1e-9)
    assert result.drawdown() <= min(0.0, result.total_return())


def test_unknown_volume_is_counted_and_free_of_impact() -> None:
    result = run_bar_backtest(panel_of(noise(rows=100)), own_past_return, rebalance_hours=4)
    assert not result.pnl_usd[:, IMPACT].any()
    assert result.unpriced_trades > 1000


def test_sharpe_is_annualised_by_the_bar() -> None:
    result = run_bar_backtest(panel_of(noise(rows=500, columns=1)), long_first, rebalance_hours=4, config=FREE)
    hand = result.net_return.mean() / result.net_return.std(ddof=1) * np.sqrt(8766 / 4)
    assert result.sharpe() == pytest.approx(hand, rel=1e-12)


def test_decisions_lie_on_the_grid_of_the_epoch() -> None:
    result = run_bar_backtest(panel_of(noise(rows=100)), long_first, rebalance_hours=12, config=FREE)
    assert (result.decision_ms % (12 * HOUR_MS) == 0).all()
    assert (np.diff(result.decision_ms) == 12 * HOUR_MS).all()


def test_warm_up_without_history_is_flat_but_a_later_lack_of_it_is_an_error() -> None:
    panel = panel_of(noise(rows=100))

    def late(view: View) -> FloatArray:
        if view.rows < 50:
            raise NotEnoughHistory("too early")
        return long_first(view)

    result = run_bar_backtest(panel, late, rebalance_hours=4, config=FREE)
    assert len(result.decision_ms) == 51

    def lapsing(view: View) -> FloatArray:
        if view.rows > 50:
            raise NotEnoughHistory("gone")
        return long_first(view)

    with pytest.raises(NotEnoughHistory, match="gone"):
        run_bar_backtest(panel, lapsing, rebalance_hours=4, config=FREE)


def test_a_strategy_that_never_trades_has_a_flat_record() -> None:
    result = run_bar_backtest(panel_of(noise(rows=50)), lambda view: np.zeros(len(view.coins)), rebalance_hours=4)
    assert result.sharpe() == result.drawdown() == result.turnover_per_year() == result.average_gross() == 0.0
    assert not result.net_return.any()
    assert result.weights.shape == (0, 20)


@pytest.mark.parametrize(
    ("answer", "message"),
    [([1.0], "shape"), ([np.nan, 0.0], "not a number"), ([0.0, 0.5], "0.5 for C01 is outside the universe")],
)
def test_a_decision_that_cannot_be_traded_stops_the_run(answer: list[float], message: str) -> None:
    panel = panel_of(noise(rows=20, columns=2))
    universe = panel.universe.copy()
    universe[:, 1] = False
    with pytest.raises(BadDecision, match=message):
        run_bar_backtest(replace(panel, universe=universe), lambda view: np.array(answer), rebalance_hours=4)


def test_ruin_stops_the_run() -> None:
    returns = np.zeros((20, 1))
    returns[10] = np.log(0.4)
    with pytest.raises(BookRuined):
        run_bar_backtest(panel_of(returns), lambda view: np.array([2.0]), rebalance_hours=4, config=FREE)


def test_a_period_or_a_file_that_does_not_fit_is_refused() -> None:
    panel = panel_of(noise(rows=20))
    with pytest.raises(UsageError, match="does not fit bars of 4 h"):
        run_bar_backtest(panel, long_first, rebalance_hours=6)
    with pytest.raises(NothingTradable, match="longer file"):
        run_bar_backtest(
            replace(panel, universe=np.zeros_like(panel.universe)),
            lambda view: np.zeros(len(view.coins)),
            rebalance_hours=4,
        )


@pytest.mark.parametrize("bad", [{"capital_usd": 0.0}, {"fee_bps": -1.0}, {"close_delisted_after_bars": 0}])
def test_numbers_out_of_range_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        BarBacktestConfig(**bad)  # type: ignore[arg-type]
