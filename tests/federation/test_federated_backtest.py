"""The federated backtest: causality, accounting, clocks and costs, on hand-made and on recorded markets."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from markets import START_MS, constant, make_panel, momentum, noise

from slipstream.core.decision import NotEnoughHistory
from slipstream.core.metrics import sharpe_ratio
from slipstream.core.panel import HOUR_MS
from slipstream.core.portfolio.costs import CostAssumptions
from slipstream.errors import UsageError
from slipstream.federation.allocator import AllocatorConfig
from slipstream.federation.backtest import FederationConfig, Ruined, decision_rows, run_federation
from slipstream.federation.pods import Pod, PodError, registered_pods
from slipstream.lake import load_panel
from slipstream.lake.synthetic import synthetic_market
from slipstream.lake.synthetic_config import SyntheticConfig

FREE = CostAssumptions(fee_bps=0.0, half_spread_bps=0.0, kappa=0.0, min_order_usd=0.0)
ALWAYS_EQUAL = AllocatorConfig(min_observations=10**9, drawdown_limit=1e9)
"""Never optimises nor throttles, so that grants stay at the equal share and a pod can be followed by hand."""
EVERY_BAR_STRATEGY = ("carry", "gradient", "template")


@pytest.fixture(scope="module")
def market():
    return synthetic_market(SyntheticConfig(coins=14, hours=24 * 90, seed=5)).panel


@pytest.fixture(scope="module")
def finished(market):
    return run_federation(market, registered_pods(EVERY_BAR_STRATEGY), FederationConfig(causality_checks=1))


def shuffled_after(panel, row, seed=0):
    """The same panel with all rows after ``row`` replaced by a permutation of themselves, scaled so that all change."""
    rng = np.random.default_rng(seed)
    order = np.concatenate((np.arange(row + 1), row + 1 + rng.permutation(panel.rows - row - 1)))
    fields = {name: getattr(panel, name)[order].copy() for name in ("open", "high", "low", "close", "volume_usd")}
    fields = {
        name: np.where(np.arange(panel.rows)[:, None] > row, 1.7 * value, value) for name, value in fields.items()
    }
    # the settlement at the close of `row` is published after it, so it belongs to the future of a decision there
    funding = panel.funding.copy()
    funding[row:] = rng.permutation(funding[row:]) * -3.0
    universe = panel.universe.copy()
    universe[row + 1 :] = rng.permutation(universe[row + 1 :])
    return replace(panel, **fields, funding=funding, universe=universe)


def decisions_until(result, ms):
    count = int((result.decision_ms <= ms).sum())
    trades = result.trades.time_ms <= ms
    return result.weights[:count], result.granted_usd[:count], result.trades.notional_usd[trades]


def test_permuting_everything_after_a_decision_leaves_every_decision_up_to_it_bit_identical(market, finished):
    for k in (10, 35, len(finished.decision_ms) - 2):
        row = market.row_at(int(finished.decision_ms[k]))
        other = run_federation(
            shuffled_after(market, row), registered_pods(EVERY_BAR_STRATEGY), FederationConfig(causality_checks=1)
        )
        for before, after in zip(
            decisions_until(finished, market.known_at_ms[row]),
            decisions_until(other, market.known_at_ms[row]),
            strict=True,
        ):
            assert before.tobytes() == after.tobytes()


def test_the_permutation_test_would_see_a_pod_that_peeks(market):
    """A pod that reads one row ahead changes its decision when the future is permuted."""

    def peeking(panel):
        def decide(view):
            ahead = min(view.rows, panel.rows - 1)
            gain = np.nan_to_num(panel.close[ahead] / panel.close[ahead - 1] - 1.0)
            return np.where(view.tradable, gain, 0.0)

        return Pod("peek", decide)

    honest = run_federation(market, [peeking(market)], FederationConfig(causality_checks=0))
    row = market.row_at(int(honest.decision_ms[20]))
    changed = shuffled_after(market, row)
    other = run_federation(changed, [peeking(changed)], FederationConfig(causality_checks=0))
    ms = market.known_at_ms[row]
    assert decisions_until(honest, ms)[2].tobytes() != decisions_until(other, ms)[2].tobytes()


def test_the_built_in_check_sees_a_pod_that_remembers_the_future(market):
    calls = []

    def forgetful(view):
        calls.append(view.rows)
        weights = np.zeros(len(view.coins))
        weights[int(np.argmax(view.tradable))] = 1.0 if len(calls) < 40 else 0.5
        return weights

    result = run_federation(market, [Pod("forgetful", forgetful)], FederationConfig(causality_checks=3))
    assert result.causality.max_difference > 0.0


@pytest.mark.parametrize("cut_at", ["2025-01-15", "2025-03-02"])
def test_cutting_the_recorded_file_at_a_moment_leaves_the_decisions_up_to_it(shared, tmp_path, cut_at):
    file = shared / "data" / "hourly" / "hyperliquid_perps_1h.parquet"
    frame = pl.read_parquet(file)
    moment = pl.lit(cut_at).str.to_datetime(time_unit="ms", time_zone="UTC")
    cut = tmp_path / "cut.parquet"
    frame.filter(pl.col("ts") < moment).write_parquet(cut)
    config = FederationConfig(causality_checks=1)
    pods = registered_pods(EVERY_BAR_STRATEGY)
    whole = run_federation(load_panel(file), pods, config)
    short = run_federation(load_panel(cut), pods, config)
    count = len(short.decision_ms)
    assert count > 60
    assert (short.decision_ms == whole.decision_ms[:count]).all()
    assert short.weights == pytest.approx(whole.weights[:count], abs=1e-9)
    assert short.granted_usd == pytest.approx(whole.granted_usd[:count], rel=1e-9)
    known = [whole.coins.index(coin) for coin in short.coins]
    assert short.positions_usd == pytest.approx(whole.positions_usd[:count][:, :, known], rel=1e-9, abs=1e-4)


def test_every_hour_every_ledger_moves_by_the_sum_of_its_parts(finished):
    capital = finished.initial_capital_usd
    pods = finished.equity_usd - finished.equity_usd[0] - np.cumsum(finished.pnl_usd.sum(axis=2), axis=0)
    total = finished.total_equity_usd - capital - np.cumsum(finished.pnl_usd.sum(axis=(1, 2)))
    assert np.abs(pods).max() / capital < 1e-9
    assert np.abs(total).max() / capital < 1e-9
    assert finished.accounting_max_error == pytest.approx(max(np.abs(pods).max(), np.abs(total).max()) / capital)
    assert finished.total_equity_usd[0] == capital


def replay_by_hand(panel, result):
    """P&L parts of every pod recomputed from the trade list alone, with plain loops over coins and hours."""
    parts = np.zeros((len(result.pods), 4))
    for p in range(len(result.pods)):
        for i in range(len(result.coins)):
            mine = (result.trades.pod == p) & (result.trades.coin == i)
            if not mine.any():
                continue
            orders = dict(zip(result.trades.time_ms[mine].tolist(), np.flatnonzero(mine).tolist(), strict=True))
            units = 0.0
            for t in range(1, panel.rows):
                before = panel.mark[t - 1, i]
                if int(panel.known_at_ms[t - 1]) in orders:
                    j = orders[int(panel.known_at_ms[t - 1])]
                    units += result.trades.notional_usd[j] / result.trades.price[j]
                    parts[p, 2] -= result.trades.fee_usd[j]
                    parts[p, 3] -= result.trades.impact_usd[j]
                if units:
                    parts[p, 0] += units * (panel.mark[t, i] - before)
                    parts[p, 1] -= units * before * np.nan_to_num(panel.funding[t, i])
    return parts


def test_profit_recomputed_from_the_trade_list_equals_the_ledger(market, finished):
    got = replay_by_hand(market, finished)
    assert got == pytest.approx(finished.pnl_usd.sum(axis=0), abs=1e-6 * finished.initial_capital_usd * 1e-3)


def test_a_position_taken_at_a_close_earns_the_second_settlement_after_it_opened():
    """Entry at the close of row ts (known ts + 1 h) pays the stamp ts + 2 h and not the one at its own entry."""
    hours = 24 * 9
    funding = np.zeros((hours, 1))
    entry = 24 * 7
    funding[entry] = 0.01
    funding[entry + 1] = 0.02
    panel = make_panel(np.zeros((hours, 1)), funding=funding)
    config = FederationConfig(costs=FREE, allocator=ALWAYS_EQUAL, capital_usd=1000.0)
    result = run_federation(panel, [constant("long", {0: 1.0})], config, start_ms=int(panel.known_at_ms[entry]))
    assert result.decision_ms[0] == START_MS + entry * HOUR_MS
    held = result.granted_usd[0, 0]
    assert result.pnl_usd[:, 0, 1].sum() == pytest.approx(-0.02 * held)
    assert result.pnl_usd[1, 0, 1] == pytest.approx(-0.02 * held)


def test_a_decision_earns_the_rows_after_it_and_none_before():
    returns = np.zeros((24 * 9, 1))
    entry = 24 * 7
    returns[entry] = 0.5
    returns[entry + 1] = 0.1
    panel = make_panel(returns)
    config = FederationConfig(costs=FREE, allocator=ALWAYS_EQUAL, capital_usd=1000.0)
    result = run_federation(panel, [constant("long", {0: 1.0})], config, start_ms=int(panel.known_at_ms[entry]))
    assert result.pnl_usd[:, 0, 0].sum() == pytest.approx(0.1 * result.granted_usd[0, 0])


def test_alpha_equal_to_the_past_return_on_iid_noise_scores_zero_within_three_standard_errors():
    """The classic fault, paying the bar that was already known, scores above 100 here."""
    panel = make_panel(noise(4, 24 * 700, 8))
    result = run_federation(
        panel, [momentum("past", 24)], FederationConfig(costs=FREE, allocator=ALWAYS_EQUAL, causality_checks=1)
    )
    daily = result.track[24::24, 0] / result.track[:-24:24, 0] - 1.0
    assert abs(sharpe_ratio(daily, 365.25)) < 3.0 * np.sqrt(365.25 / len(daily))


def test_cost_of_a_trade_is_fee_half_spread_and_three_halves_impact_of_the_notional_traded():
    panel = make_panel(noise(2, 24 * 40, 1), volume_usd=5e6)
    costs = CostAssumptions(fee_bps=2.0, half_spread_bps=1.0, kappa=0.7)
    config = FederationConfig(costs=costs, allocator=ALWAYS_EQUAL, capital_usd=1e5)
    result = run_federation(panel, [constant("long", {0: 1.0})], config, start_ms=int(panel.known_at_ms[24 * 30]))
    row, size = 24 * 30, abs(result.trades.notional_usd[0])
    sigma = np.std(panel.view(row).log_return[-720:, 0], ddof=1) * np.sqrt(24.0)
    assert size == pytest.approx(30_000.0)
    assert result.trades.fee_usd[0] == pytest.approx(size * 3e-4)
    assert result.trades.impact_usd[0] == pytest.approx(0.7 * sigma * np.sqrt(size / 5e6) * size, rel=1e-9)


def test_four_times_the_capital_costs_eight_times_the_impact():
    panel = make_panel(noise(2, 24 * 40, 1), volume_usd=5e6)
    impact = [
        run_federation(
            panel, [constant("long", {0: 1.0})], FederationConfig(capital_usd=usd, allocator=ALWAYS_EQUAL)
        ).trades.impact_usd[0]
        for usd in (1e5, 4e5)
    ]
    assert impact[1] == pytest.approx(8.0 * impact[0], rel=1e-9)


def test_moving_capital_costs_turnover():
    """Constant targets trade only because their grants move; with costs that is not free."""
    panel = make_panel(noise(8, 24 * 200, 2))
    pods = [constant("a", {0: 1.0}), constant("b", {1: -1.0})]
    result = run_federation(panel, pods, FederationConfig(capital_usd=1e5))
    moved = np.abs(np.diff(result.weights[:, 0])) > 0.05
    assert moved.any()
    at = result.decision_ms[1:][moved][0]
    trade = (result.trades.time_ms == at) & (result.trades.pod == 0)
    assert result.trades.fee_usd[trade].sum() > 0.0


def test_opposite_pods_net_to_nothing_and_the_saving_is_every_cost():
    panel = make_panel(np.zeros((24 * 40, 1)) + noise(3, 24 * 40, 1))
    pods = [constant("long", {0: 1.0}), constant("short", {0: -1.0})]
    result = run_federation(panel, pods, FederationConfig(allocator=ALWAYS_EQUAL))
    first = result.trades.time_ms == result.trades.time_ms[0]
    assert result.trades.notional_usd[first].sum() == pytest.approx(0.0)
    assert result.netting.fees_usd > 0.9 * result.trades.fee_usd.sum()


def test_twins_save_no_fee_and_their_joint_impact_is_worse_than_either_alone():
    panel = make_panel(noise(3, 24 * 40, 1), volume_usd=1e6)
    pods = [constant("one", {0: 1.0}), constant("two", {0: 1.0})]
    result = run_federation(panel, pods, FederationConfig(allocator=ALWAYS_EQUAL))
    assert result.netting.fees_usd == pytest.approx(0.0, abs=1e-9)
    assert result.netting.impact_usd < 0.0


def test_a_coin_that_stops_is_carried_frozen_and_closed_after_six_silent_bars():
    returns = noise(6, 24 * 60, 2)
    stop = 24 * 50 + 7
    returns[stop:, 0] = np.nan
    panel = make_panel(returns)
    config = FederationConfig(allocator=ALWAYS_EQUAL)
    result = run_federation(panel, [constant("both", {0: 0.5, 1: 0.5})], config)
    closed_at = START_MS + (stop + 5) * HOUR_MS
    assert result.delisted == ((closed_at, 0, 0),)
    last = (result.trades.time_ms == closed_at) & (result.trades.coin == 0)
    assert result.trades.price[last][0] == panel.mark[stop - 1, 0]
    assert result.trades.fee_usd[last][0] > 0.0
    assert not (result.trades.time_ms[result.trades.coin == 0] > closed_at).any()
    assert result.accounting_max_error < 1e-12


def test_a_missing_settlement_on_a_held_position_is_charged_nothing_and_counted():
    hours = 24 * 40
    funding = np.full((hours, 1), 1e-4)
    funding[24 * 35 + 3] = np.nan
    result = run_federation(
        make_panel(noise(1, hours, 1), funding=funding),
        [constant("long", {0: 1.0})],
        FederationConfig(allocator=ALWAYS_EQUAL),
    )
    assert result.funding_missing == 1
    assert np.isfinite(result.total_equity_usd).all()


def test_a_pod_at_zero_keeps_a_shadow_track_and_returns():
    """A pod that loses, is cut to nothing and then earns steadily is granted capital again."""
    hours = 24 * 300
    returns = noise(12, hours, 1, sigma=0.002)
    returns[: 24 * 60] -= 0.0006
    returns[24 * 60 :] += 0.0009
    result = run_federation(
        make_panel(returns), [constant("late bloomer", {0: 1.0})], FederationConfig(costs=FREE, causality_checks=1)
    )
    weights = result.weights[:, 0]
    assert weights[40:60].max() == 0.0
    assert weights[-1] > 0.05
    idle = np.flatnonzero(weights[40:60] == 0.0) + 40
    rows = idle * 24
    assert (result.shadow_track[rows + 24, 0] != result.shadow_track[rows, 0]).all()
    assert (result.track[rows + 24, 0] == result.track[rows, 0])[1:].all()


def test_the_same_input_gives_the_same_fingerprint_and_another_gives_another(market, finished):
    pods = registered_pods(EVERY_BAR_STRATEGY)
    again = run_federation(market, pods, FederationConfig(causality_checks=1))
    assert again.trade_fingerprint == finished.trade_fingerprint
    dearer = run_federation(market, pods, FederationConfig(costs=CostAssumptions(fee_bps=2.1), causality_checks=1))
    assert dearer.trade_fingerprint != finished.trade_fingerprint


def test_decisions_fall_on_the_epoch_grid_and_need_bars_after_them(market):
    rows = decision_rows(market, 24)
    assert (market.known_at_ms[rows] % (24 * HOUR_MS) == 0).all()
    assert rows[-1] < market.rows - 1
    assert market.universe[rows[0]].any()
    assert decision_rows(market, 4)[0] >= 720 - 24


def test_a_cycle_that_does_not_fit_the_bars_and_a_start_after_the_end_are_refused(market):
    with pytest.raises(UsageError, match="no decision can be taken"):
        decision_rows(market, 24, start_ms=int(market.known_at_ms[-1]))
    four_hourly = replace(market.until(-1 + market.rows), bar_hours=1)
    with pytest.raises(UsageError, match="at least one hour"):
        FederationConfig(cycle_hours=0)
    assert decision_rows(four_hourly, 24)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda view: np.full(len(view.coins), np.nan), "is not a number"),
        (lambda view: np.ones(len(view.coins)), "outside the universe"),
        (lambda view: np.ones(len(view.coins) + 1), "weights have shape"),
    ],
)
def test_an_untradable_decision_stops_the_run_and_names_pod_and_coin(answer, words):
    returns = noise(1, 24 * 10, 2)
    returns[: 24 * 9, 1] = np.nan
    with pytest.raises(PodError, match=words) as caught:
        run_federation(make_panel(returns), [Pod("wild", answer)])
    assert "wild at 2024-" in str(caught.value)


def late(slug, rows):
    """A pod that has not enough history before it has seen this many rows."""
    held = constant(slug, {0: 1.0})

    def decide(view):
        if view.rows < rows:
            raise NotEnoughHistory(f"needs {rows} bars; there are {view.rows}")
        return held.decide(view)

    return Pod(slug, decide)


def test_a_pod_without_enough_history_is_flat_until_it_has_it_and_leaves_the_others_alone():
    panel = make_panel(noise(9, 24 * 40, 1))
    config = FederationConfig(allocator=ALWAYS_EQUAL)
    result = run_federation(panel, [constant("early", {0: 1.0}), late("late", 24 * 20)], config)
    known_rows = (result.decision_ms - START_MS) // HOUR_MS + 1
    assert (known_rows[0], known_rows[-1]) == (24 * 4 + 1, 24 * 39 + 1)
    begins = known_rows >= 24 * 20
    assert (result.granted_usd[:, 0] > 0.0).all()
    assert not result.positions_usd[~begins, 1].any()
    assert (result.positions_usd[begins, 1, 0] > 0.0).all()
    assert result.causality.max_difference == 0.0


def test_a_pod_that_lacks_history_once_it_holds_positions_stops_the_run_and_is_named():
    def lapsing(view):
        if view.rows > 24 * 20:
            raise NotEnoughHistory("the coins share too few days")
        return constant("any", {0: 1.0}).decide(view)

    with pytest.raises(PodError, match=r"^lapsing at 2024-01-21 00:00 UTC: .*the coins share too few days"):
        run_federation(make_panel(noise(9, 24 * 40, 1)), [Pod("lapsing", lapsing)])


def test_an_account_that_loses_everything_stops():
    returns = np.zeros((24 * 40, 1))
    returns[24 * 33 + 5] = -0.9
    with pytest.raises(Ruined, match="ruined"):
        run_federation(
            make_panel(returns), [constant("reckless", {0: 20.0})], FederationConfig(costs=FREE, allocator=ALWAYS_EQUAL)
        )


def test_the_recorded_market_runs_whole_and_its_accounts_balance(shared):
    for name in ("hyperliquid_perps_1h.parquet", "binance_usdm_1h.parquet"):
        panel = load_panel(shared / "data" / "hourly" / name)
        result = run_federation(panel, registered_pods(EVERY_BAR_STRATEGY))
        assert result.accounting_max_error < 1e-9
        assert result.causality.max_difference == 0.0
        assert len(result.trades.time_ms) > 300
        held = np.abs(result.positions_usd).sum(axis=2)
        least_orders = 10.0 * len(panel.coins)  # drift below the least order is left undone
        assert (held <= 2.0 * result.granted_usd + least_orders).all()
