"""The search for the holding period from end to end, on markets whose truth is known and on recorded ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from slipstream.core.backtest.walk_forward import run_backtest
from slipstream.core.bars import resample
from slipstream.core.forecast.errors import ForecastError, NotEnoughData
from slipstream.core.forecast.walk_forward import WalkForwardSettings
from slipstream.core.panel import Panel
from slipstream.core.portfolio.costs import CostAssumptions
from slipstream.errors import DataError
from slipstream.lake import load_panel
from slipstream.lake.synthetic import SyntheticConfig, synthetic_market
from slipstream.reports.horizon_words import findings, survives
from slipstream.research import net_edge
from slipstream.research.dataset import FeatureSettings, horizon_data
from slipstream.research.executor import SerialExecutor
from slipstream.research.horizon_forecasts import forecast_horizon
from slipstream.research.horizon_scores import shifted_skill
from slipstream.research.local_executor import LocalExecutor
from slipstream.research.net_edge import BookSettings, phase_tasks, run_phase, shared_market
from slipstream.research.search import SearchRequest, SearchResult, search_horizons
from slipstream.research.summary_files import edge_claimed, summary

QUICK = WalkForwardSettings(blocks=6, inner_folds=4, min_train_days=20.0)
FEATURES = FeatureSettings(spans_hours=(4.0, 8.0, 16.0, 64.0))


def market(hours: int, seed: int, **settings: float) -> Panel:
    config = SyntheticConfig(hours=hours, seed=seed, **{"coins": 13, "volume_usd_per_hour": 3e6, **settings})
    return resample(synthetic_market(config).panel, 4)


def request(*horizons: int, **changed: object) -> SearchRequest:
    return SearchRequest(horizons, **{"features": FEATURES, "walk": QUICK, "n_bootstrap": 100, **changed})


def search(panel: Panel, *horizons: int, **changed: object) -> SearchResult:
    return search_horizons(panel, request(*horizons, **changed), SerialExecutor())


@pytest.fixture(scope="module")
def panel() -> Panel:
    return market(24 * 130, 8, late_listings=0.2)


@pytest.fixture(scope="module")
def found(panel: Panel) -> SearchResult:
    return search(panel, 4, 12, 960)


def test_all_horizons_are_scored_on_the_same_rows_and_one_that_lacks_data_is_reported(found: SearchResult) -> None:
    assert found.horizons == (4, 12)
    assert set(found.left_out) == {960}
    assert found.left_out[960].startswith("H = 960 h: no coin has all its features and targets in 3120 h of history")
    assert summary(found)["H_left_out"]["960"] == found.left_out[960]
    rows = {hours: edge.parts.shape[1] for hours, edge in found.edges.items()}
    assert len(set(rows.values())) == 1
    for forecast in found.forecasts.values():
        assert forecast.alpha.blocks[0].test[0] == found.forecasts[4].alpha.blocks[0].test[0]
        assert found.start >= forecast.first_scored


def test_there_is_one_book_per_start_phase_and_each_begins_one_row_after_the_other(found: SearchResult) -> None:
    parts = found.edges[12].parts
    assert len(parts) == 3
    assert len(found.edges[4].parts) == 1
    for phase, book in enumerate(parts):
        assert np.isnan(book[: phase + 1]).all()
        assert np.isfinite(book[phase + 1 :]).all()


def test_a_phase_is_the_backtest_of_the_same_forecasts(panel: Panel, found: SearchResult, monkeypatch) -> None:
    kept = []

    def spied(*args: object, **more: object) -> object:
        kept.append(run_backtest(*args, **more))
        return kept[-1]

    monkeypatch.setattr("slipstream.core.backtest.walk_forward.run_backtest", spied)
    own = found.forecasts[12]
    arrays = {12: (own.alpha_price, own.alpha_funding, own.beta)}
    shared = shared_market(panel, arrays, found.start, BookSettings())
    book = run_phase(phase_tasks((12,), 4)[1], shared)
    (result,) = kept
    growth = result.equity_usd[1:] / result.equity_usd[:-1] - 1.0
    parts = book["parts"][2:]
    np.testing.assert_allclose(parts.sum(axis=1), growth, atol=1e-12)
    np.testing.assert_array_equal(book["parts"], found.edges[12].parts[1])
    assert (parts[:, 2] <= 0.0).all()
    assert parts[:, 2].min() < 0.0
    assert np.abs(result.beta_exposure).max() < 1e-9


def test_basis_points_per_h_add_up_to_what_the_books_earned(found: SearchResult) -> None:
    for hours, edge in found.edges.items():
        per_row = np.nanmean(edge.net_return)
        assert found.parts_bp[hours][0].sum() == pytest.approx(1e4 * per_row * hours / 4, rel=1e-9)
        estimate, draws = found.parts_bp[hours]
        assert np.abs(draws.mean(axis=0) - estimate).max() < 3.0 * draws.std(axis=0).max()


def test_the_same_request_gives_the_same_bits(panel: Panel, found: SearchResult) -> None:
    again = search(panel, 960, 12, 4, 12)
    assert again.by_net == found.by_net
    for hours in found.horizons:
        np.testing.assert_array_equal(again.edges[hours].parts, found.edges[hours].parts)
        np.testing.assert_array_equal(again.forecasts[hours].alpha_price, found.forecasts[hours].alpha_price)


def test_the_future_changes_nothing_that_was_forecast_or_earned_before(panel: Panel, found: SearchResult) -> None:
    """Everything after a row is shuffled; forecasts made by then, and books up to then, keep every bit."""
    cut = found.start + 120
    rng = np.random.default_rng(0)
    order = cut + 1 + rng.permutation(panel.rows - cut - 1)
    shuffled = {}
    for name in ("open", "high", "low", "close", "volume_usd", "funding"):
        values = getattr(panel, name).copy()
        values[cut + 1 :] = values[order]
        shuffled[name] = values
    other = search(Panel.build(panel.known_at_ms, panel.coins, panel.bar_hours, **shuffled), 4, 12)
    assert other.start == found.start
    for hours in (4, 12):
        before, after = found.forecasts[hours], other.forecasts[hours]
        for name in ("alpha_price", "alpha_funding", "ewma_funding", "raw_alpha", "raw_funding"):
            one, two = getattr(before, name), getattr(after, name)
            np.testing.assert_array_equal(one[: cut + 1], two[: cut + 1], err_msg=name)
        assert not np.array_equal(before.alpha_price[cut + 1 :], after.alpha_price[cut + 1 :], equal_nan=True)
        held = cut + 1 - found.start
        np.testing.assert_array_equal(found.edges[hours].parts[:, :held], other.edges[hours].parts[:, :held])
        assert not np.array_equal(found.edges[hours].parts, other.edges[hours].parts, equal_nan=True)


def test_an_interrupted_search_goes_on_where_it_stopped(panel: Panel, found: SearchResult, tmp_path: Path) -> None:
    class Pulled(Exception):
        pass

    counted: list[int] = []

    def pull_after_two(done: int, total: int) -> None:
        assert total == 4
        counted.append(done)
        if done == 2:
            raise Pulled

    with pytest.raises(Pulled):
        search_horizons(panel, request(4, 12), SerialExecutor(), journal=tmp_path / "j", progress=pull_after_two)
    counted.clear()
    rest = search_horizons(
        panel, request(4, 12), SerialExecutor(), journal=tmp_path / "j", progress=lambda done, _: counted.append(done)
    )
    assert counted == [2, 3, 4]
    np.testing.assert_array_equal(rest.edges[12].parts, found.edges[12].parts)
    assert rest.by_net == found.by_net


@pytest.mark.full
def test_worker_processes_give_the_same_bits(panel: Panel, found: SearchResult) -> None:
    with LocalExecutor(2) as executor:
        other = search_horizons(panel, request(4, 12), executor)
    assert other.by_net == found.by_net
    for hours in (4, 12):
        np.testing.assert_array_equal(other.edges[hours].parts, found.edges[hours].parts)


def test_every_try_on_record_deflates_the_sharpe_ratio(panel: Panel, found: SearchResult) -> None:
    many = search_horizons(panel, request(4, 12), SerialExecutor(), trials=200)
    assert (found.deflated.trials, many.deflated.trials) == (2, 200)
    assert many.deflated.probability < found.deflated.probability
    assert many.deflated.luck > found.deflated.luck > 0.0


def test_the_rule_decides_what_is_called_optimal_and_both_answers_are_told(panel: Panel, found: SearchResult) -> None:
    published = search(panel, 4, 12, select="r2_combined")
    assert published.chosen == published.by_r2
    assert published.by_net == found.by_net
    told = summary(published)
    assert told["H_optimal"] == told["H_optimal_sigma_r2"] == published.by_r2.best
    assert told["H_optimal_net_sharpe"] == published.by_net.best


def test_history_that_is_too_short_for_any_horizon_says_what_is_missing() -> None:
    with pytest.raises(NotEnoughData, match=r"no horizon can be scored: H = 4 h: \d+ days of training.*; H = 12 h:"):
        search(market(24 * 45, 1), 4, 12)


@pytest.mark.parametrize(
    ("changed", "cause"),
    [({"horizons": ()}, "it takes a horizon"), ({"n_bootstrap": 1}, "1 draws"), ({"seed": -1}, "seed -1")],
)
def test_a_request_that_makes_no_sense_is_refused(changed: dict[str, object], cause: str) -> None:
    with pytest.raises(ForecastError, match=cause):
        SearchRequest(**changed)


def without(panel: Panel, name: str, value: float) -> Panel:
    """The panel with one of its arrays blanked."""
    kept = {key: getattr(panel, key) for key in ("open", "high", "low", "close", "volume_usd", "funding")}
    return Panel.build(
        panel.known_at_ms, panel.coins, panel.bar_hours, **{**kept, name: np.full_like(panel.close, value)}
    )


def test_bars_without_funding_or_without_the_volumes_a_factor_needs_are_refused_with_the_way_out(panel: Panel) -> None:
    with pytest.raises(DataError, match="no funding is recorded"):
        search(without(panel, "funding", 0.0), 12)
    with pytest.raises(DataError, match="--pca-method none"):
        search(without(panel, "volume_usd", np.nan), 12)


def test_without_volumes_every_coin_has_one_impact_cost_and_the_words_say_so(panel: Panel) -> None:
    blind = without(panel, "volume_usd", np.nan)
    result = search(blind, 12, features=FeatureSettings(spans_hours=(4.0, 64.0), pca_method="none"))
    assert "No volume is recorded" in findings(result)[-1]
    assert result.edges[12].turnover.min() > 0.0


FADING = {"momentum_strength": 0.12, "momentum_half_life_hours": 4.0, "funding_carried_by_price": 1.0}
CHEAP = BookSettings(costs=CostAssumptions(2.0, 2.0, 1.0))


@pytest.fixture(scope="module")
def fading() -> SearchResult:
    panel = market(24 * 200, 3, coins=16, volume_usd_per_hour=1e8, late_listings=0.0, **FADING)
    return search(panel, 4, 24, books=CHEAP)


def test_a_drift_that_fades_within_hours_is_found_at_the_short_horizon_and_claimed(fading: SearchResult) -> None:
    """Planted: hourly drift of 0.12 idiosyncratic volatilities, half-life 4 h; net Sharpe apart by more than 3."""
    assert fading.by_net.best == 4
    assert fading.by_net.gap > 3.0
    assert fading.by_net.confident
    assert edge_claimed(fading)
    assert fading.skills[4].price_ic.t > 5.0
    assert fading.skills[4].money_r2.alpha.low > 0.0
    assert fading.deflated.probability > 0.99
    assert survives(fading) == "not tested"
    assert findings(fading)[0].startswith("An edge is claimed at H = 4 h")


def test_a_planted_signal_loses_its_edge_once_labels_are_shifted_past_it(fading: SearchResult) -> None:
    curve = {point.shift_hours: point.total for point in fading.skills[4].shifted}
    assert list(curve) == [0, 4, 8, 16]
    assert curve[0].mean > 2.0 * curve[8].mean
    assert abs(curve[16].t) < 3.0


def claims_where_nothing_is(seeds: range) -> list[bool]:
    """Whether an edge is claimed, seed by seed, in markets whose price takes back what funding pays."""
    panels = (market(24 * 150, seed, momentum_strength=0.0, funding_carried_by_price=1.0) for seed in seeds)
    return [edge_claimed(search(panel, 8, 24)) for panel in panels]


def test_nothing_is_claimed_where_price_takes_back_what_funding_pays() -> None:
    assert sum(claims_where_nothing_is(range(4))) <= 1


@pytest.mark.full
@pytest.mark.timeout(600)
def test_an_edge_is_claimed_in_at_most_a_tenth_of_markets_that_have_none() -> None:
    assert sum(claims_where_nothing_is(range(100, 150))) <= 5


def best_of_planted(seeds: range, days: int) -> tuple[list[int], np.ndarray]:
    """The horizon chosen in each market with a planted drift, and net Sharpe ratios by seed and horizon.

    Planted: hourly drift of 0.1 idiosyncratic volatilities with a half-life of 24 h, nothing from funding; 20 coins,
    162 bp of linear cost. Over 4 h a forecast does not pay for the trade and over 48 h it has faded: 12 h is the true
    best.
    """
    chosen, sharpe = [], []
    planted = {"momentum_strength": 0.1, "momentum_half_life_hours": 24.0, "funding_carried_by_price": 1.0}
    calm = {"coins": 20, "volume_usd_per_hour": 1e8, "late_listings": 0.0, "delistings_per_year": 0.0}
    for seed in seeds:
        panel = market(24 * days, seed, **planted, **calm)
        result = search(panel, 4, 12, 48, books=BookSettings(costs=CostAssumptions(2.0, 160.0, 1.0)))
        chosen.append(result.by_net.best)
        sharpe.append(result.net.estimate)
    return chosen, np.array(sharpe)


def test_a_drift_that_lives_a_day_and_is_dear_to_trade_is_best_held_for_half_a_day() -> None:
    (chosen,), ((quarter, half, two),) = best_of_planted(range(1), 300)
    assert chosen == 12
    assert half - max(quarter, two) > 0.5


@pytest.mark.full
@pytest.mark.timeout(1200)
def test_the_planted_best_horizon_is_chosen_in_nine_of_ten_markets() -> None:
    chosen, sharpe = best_of_planted(range(200, 250), 730)
    ordered = np.sort(sharpe.mean(axis=0))
    assert ordered[-1] - ordered[-2] == pytest.approx(1.2, abs=0.3)
    assert sum(best == 12 for best in chosen) >= 45


def test_funding_is_foreseen_in_money_less_so_further_ahead_and_an_ewma_gives_its_share(found: SearchResult) -> None:
    near, far = (found.skills[hours].money_r2.funding for hours in (4, 12))
    assert near.low > 0.2
    assert near.value > far.value
    assert 0.3 < found.skills[4].ewma_share < 1.3
    assert set(found.forecasts[4].ewma_span_hours) <= set(FEATURES.spans_hours)


def test_labels_shifted_by_one_bar_kill_a_signal_of_one_bar() -> None:
    rng = np.random.default_rng(0)
    label = rng.standard_normal((300, 15))
    forecast = label + rng.standard_normal(label.shape)
    nothing = np.zeros_like(label)
    curve = shifted_skill(forecast, nothing, label, nothing, 1, 4)
    assert curve[0].total.t > 20.0
    assert all(abs(point.total.t) < 3.0 for point in curve[1:])


def test_a_funding_forecast_reads_no_settlement_of_its_own_close(panel: Panel) -> None:
    """The rate stamped at the decision's close is published after it: changing it must not change the decision."""
    row = 400
    other = panel.funding.copy()
    other[row] += 1e-3
    changed = Panel(
        panel.known_at_ms, panel.coins, 4, panel.open, panel.high, panel.low, panel.close, panel.volume_usd, other,
        panel.universe,
    )  # fmt: skip
    one, two = (horizon_data(p, 12, FEATURES) for p in (panel, changed))
    np.testing.assert_array_equal(one.features[: row + 1], two.features[: row + 1])
    assert not np.array_equal(one.features[row + 1], two.features[row + 1], equal_nan=True)
    shared = [shared_market(p, {}, 0, BookSettings())["published"] for p in (panel, changed)]
    np.testing.assert_array_equal(shared[0][: row + 1], shared[1][: row + 1])


def test_eight_hourly_funding_runs_through_the_same_code_and_no_rate_counts_twice(shared: Path) -> None:
    panel = resample(load_panel(shared / "data" / "hourly" / "binance_usdm_1h.parquet"), 4)
    result = search(panel, 8, 24)
    assert result.horizons == (8, 24)
    own = result.forecasts[8]
    coin = panel.coins.index("BTC")
    rows = np.arange(600, 900, 2)
    paid = own.targets.funding_paid[rows, coin]
    assert paid.sum() == pytest.approx(panel.funding[601:901, coin].sum(), rel=1e-12)
    said, came = own.alpha_funding, own.targets.funding_paid
    both = np.isfinite(said) & np.isfinite(came)
    assert said[both].mean() == pytest.approx(came[both].mean(), rel=0.5)


def test_the_whole_search_on_the_recorded_panel_keeps_to_the_published_pattern(shared: Path) -> None:
    """R2 in deviations says 0.5 and more, R2 in money says nothing, and no horizon is claimed to earn."""
    panel = resample(load_panel(shared / "data" / "hourly" / "hyperliquid_perps_1h.parquet"), 4)
    result = search(panel, 8, 24, features=FeatureSettings(spans_hours=(4.0, 8.0, 16.0, 32.0, 64.0)))
    for hours in (8, 24):
        skill = result.skills[hours]
        assert skill.sigma_r2.combined.value > 0.4
        assert skill.money_r2.combined.value < 0.01
        assert skill.money_r2.funding.value > 0.1
    assert not edge_claimed(result)
    assert result.edges[8].failed == 0


def test_the_walk_is_on_the_span_given(panel: Panel) -> None:
    data = horizon_data(panel, 12, FEATURES)
    own = forecast_horizon(panel, data, (300, panel.rows), QUICK, draws=20, seed=1)
    assert np.isnan(own.alpha_price[: own.first_scored]).all()
    assert own.first_scored > 300
    assert len(net_edge.phase_tasks((4, 12, 24), 4)) == 1 + 3 + 6
