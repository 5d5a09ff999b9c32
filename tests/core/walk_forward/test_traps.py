"""Every known trap of a walk-forward backtest has a test with a name; this is the list, and it is checked.

Under each trap stands its test; files are those of ``tests/core``, ``wf`` is ``walk_forward/test_walk_forward``.

the bar that was already known is paid
    wf_causality::test_alpha_equal_to_the_bars_own_return_scores_nothing_on_noise
the future reaches an earlier decision
    wf_causality::test_permuting_the_future_leaves_earlier_decisions_bit_identical
... through costs, prices, late fills or lots
    wf_properties::test_no_input_known_later_reaches_an_earlier_trade
... through the covariance
    wf_causality::test_the_covariance_reads_no_row_after_the_decision
... through the end of the history
    wf_causality::test_cutting_the_history_leaves_earlier_decisions_bit_identical
the Sharpe ratio at H = 8 is that of hours
    wf_causality::test_the_sharpe_ratio_at_eight_hours_is_of_periods_and_not_of_bars
equity is stamped at other times than decisions
    wf_causality::test_dates_are_those_of_the_decisions_after_the_warm_up
a decision is taken without its history
    wf_causality::test_no_decision_is_taken_before_enough_history
a tiny alpha trades against 100 bp
    test_costs::test_a_tiny_alpha_is_not_worth_a_hundred_basis_points
more capital pays no higher fraction
    test_costs::test_impact_as_a_fraction_grows_with_the_square_root_of_capital_and_the_fee_does_not
... or not as the equity moves
    wf_liquidity::test_impact_grows_with_the_equity_of_the_moment
a liquid coin has the larger least trade
    test_costs::test_a_liquid_coin_never_has_a_larger_minimum_trade_than_an_illiquid_one
zero alpha is NaN, or trades
    test_optimizer_edges::test_a_programme_of_zeros_is_answered_with_a_feasible_book
cash moves, or zero weights earn
    wf_accounting::test_zero_weights_leave_the_equity_constant_and_cash_stays_cash
a long earns positive funding, or not rate times notional
    wf_accounting::test_positive_funding_costs_a_long_exactly_the_sum_of_rate_times_notional
funding is paid on the position at the close
    wf_accounting::test_funding_is_paid_on_the_position_at_the_open_of_the_bar
residuals fake neutrality to PC2 and PC3
    wf_inputs::test_betas_may_change_over_time_and_several_factors_are_neutralised_at_once
the first trade is free
    wf_accounting::test_the_first_trade_is_paid
weights are reset to target between decisions
    wf_accounting::test_weights_drift_with_prices_between_decisions
log returns are compounded as simple ones
    wf_accounting::test_a_position_compounds_simple_returns_and_log_returns_are_converted
a coin's end is known beforehand, or costs nothing
    wf_accounting::test_a_delisted_coin_is_closed_at_its_last_price_after_the_agreed_bars_and_at_taker_cost
a missing settlement is a zero nobody hears of
    wf_accounting::test_a_settlement_that_is_due_and_missing_is_charged_nothing_and_counted
a failed decision trades
    wf_accounting::test_an_unsolved_decision_holds_the_book_and_is_counted
a ruined book trades on
    wf_accounting::test_ruin_stops_the_run_and_is_said
forecasts on another clock pass for cash
    wf_inputs::test_forecasts_on_another_clock_than_the_decisions_are_an_error_and_not_a_flat_line
"""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest

from slipstream.portfolio import BacktestConfig, FactorCovariance, run_backtest

CORE = Path(__file__).resolve().parents[1]


def listed() -> list[tuple[str, str, str]]:
    """Trap, file and test of each entry of the list above."""
    lines = [line.strip() for line in (__doc__ or "").splitlines()]
    return [(lines[k - 1], *line.split("::")) for k, line in enumerate(lines) if "::" in line]


@pytest.mark.parametrize(("trap", "file", "test"), listed(), ids=[test for *_, test in listed()])
def test_the_listed_test_exists(trap: str, file: str, test: str) -> None:
    path = CORE / f"{file.replace('wf_', 'walk_forward/test_walk_forward_')}.py"
    functions = {
        node.name for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.FunctionDef)
    }
    assert test in functions, f"{trap}: {path.name} has no {test}"


def test_the_list_covers_the_eleven_traps_of_the_specification_and_more() -> None:
    assert len(listed()) >= 25
    assert len({test for *_, test in listed()}) == len(listed())


def test_residuals_do_not_fake_neutrality_to_the_second_and_third_factor() -> None:
    """Three true factors: neutral to the first alone leaves the others, neutral to all three leaves none."""
    rng = np.random.default_rng(42)
    rows, coins = 60, 12
    B = rng.normal(0.0, 1.0, (coins, 3))
    returns = rng.normal(0.0, 0.01, (rows, 3)) @ B.T + rng.normal(0.0, 0.005, (rows, coins))
    alpha, zero = rng.normal(0.0, 0.004, (rows, coins)), np.zeros((rows, coins))
    S = FactorCovariance(0.01 * B, np.full(coins, 2.5e-5))
    config = BacktestConfig(H=4, min_history_hours=8, use_costs=False)
    one, three = (run_backtest(config, alpha, zero, beta, S, returns, zero).weights for beta in (B[:, :1], B))
    assert np.abs(three @ B).max() < 1e-6
    assert np.abs(one @ B[:, 0]).max() < 1e-6
    assert np.abs(one @ B[:, 1:]).max() > 1e-3
    assert np.abs(three).sum() > 1.0
