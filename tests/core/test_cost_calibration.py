"""Costs from order books: what a walk pays, what a thin book hides, and what a fit makes of both."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipstream.core.portfolio.book_walk import BookError, BookHistory, depth_usd, half_spread_bps, walk_costs
from slipstream.core.portfolio.calibration import CalibrationConfig, calibrate, cost_model, holdout_start_ms
from slipstream.core.portfolio.cost_fit import BlockedCosts, CalibrationError, autocorrelation_time, complete_costs
from slipstream.core.portfolio.costs import CostError, TransactionCostModel, compute_transaction_costs
from slipstream.lake.books import read_books
from synthetic_books import START_MS, Market

SIZES = np.array([1e3, 5e3, 1e4, 5e4, 1e5])
QUICK = CalibrationConfig(replicates=40)
THIN = Market(reach_bps=8.0)
"""A market whose books often end before 50k and mostly before 100k."""


def two_levels(**changed) -> BookHistory:
    """One snapshot: asks 101 and 102, bids 99 and 98, ten coins each."""
    arrays = {
        "bid_price": [[99.0, 98.0]],
        "bid_size": [[10.0, 10.0]],
        "ask_price": [[101.0, 102.0]],
        "ask_size": [[10.0, 10.0]],
        **changed,
    }
    return BookHistory("AAA", np.array([START_MS]), **{name: np.array(rows) for name, rows in arrays.items()})


def test_an_order_within_the_best_level_pays_the_half_spread():
    walk = walk_costs(two_levels(), np.array([500.0]))
    assert walk.cost_bps[0, :, 0] == pytest.approx([100.0, 100.0], rel=1e-12)
    assert half_spread_bps(two_levels()) == pytest.approx([100.0])


def test_an_order_over_two_levels_pays_the_average_price_of_the_coins_it_got():
    bought = 10.0 + (1520.0 - 1010.0) / 102.0
    sold = 10.0 + (1480.0 - 990.0) / 98.0
    walk = walk_costs(two_levels(), np.array([1480.0, 1520.0]))
    assert walk.cost_bps[0, 0, 1] == pytest.approx((1520.0 / bought / 100.0 - 1.0) * 1e4, rel=1e-12)
    assert walk.cost_bps[0, 1, 0] == pytest.approx((1.0 - 1480.0 / sold / 100.0) * 1e4, rel=1e-12)
    assert not walk.censored.any()


def test_an_exhausted_book_gives_a_finite_lower_bound_and_says_so():
    walk = walk_costs(two_levels(), np.array([2030.0, 3050.0]))
    assert walk.censored[0].tolist() == [[False, True], [True, True]]
    assert walk.shown_usd[0].tolist() == [2030.0, 1970.0]
    coins = 20.0 + (3050.0 - 2030.0) / 102.0
    assert walk.cost_bps[0, 0, 1] == pytest.approx((3050.0 / coins / 100.0 - 1.0) * 1e4, rel=1e-12)


@settings(max_examples=30)
@given(cut=st.integers(1, 39), seed=st.integers(0, 50), size=st.floats(100.0, 1e6))
def test_cutting_levels_off_never_raises_a_cost_and_changes_none_that_still_fits(cut, seed, size):
    whole = Market().history(12, seed)
    short = replace(
        whole, **{name: getattr(whole, name)[:, :cut] for name in ("bid_price", "bid_size", "ask_price", "ask_size")}
    )
    full, part = walk_costs(whole, np.array([size])), walk_costs(short, np.array([size]))
    assert (part.cost_bps <= full.cost_bps + 1e-9).all()
    assert (full.censored <= part.censored).all()
    assert part.cost_bps[~part.censored] == pytest.approx(full.cost_bps[~part.censored], rel=1e-9)


@settings(max_examples=30)
@given(sizes=st.lists(st.floats(50.0, 1e6), min_size=2, max_size=6, unique=True), seed=st.integers(0, 50))
def test_larger_orders_pay_more(sizes, seed):
    walk = walk_costs(THIN.history(10, seed), np.sort(sizes))
    assert (np.diff(walk.cost_bps, axis=2) >= -1e-9).all()


def test_levels_that_are_not_shown_are_not_traded():
    padded = two_levels(ask_price=[[101.0, np.nan]], ask_size=[[10.0, 0.0]])
    walk = walk_costs(padded, np.array([1010.0, 1011.0]))
    assert walk.censored[0, 0].tolist() == [False, True]
    assert walk.cost_bps[0, 0] == pytest.approx([100.0, 100.0])


def test_depth_counts_levels_up_to_the_distance_and_says_where_the_book_ends_before_it():
    depth, cut = depth_usd(two_levels(), 100.0)
    assert depth[0].tolist() == [1010.0, 990.0]
    assert not cut.any()
    deeper, ends = depth_usd(two_levels(), 250.0)
    assert deeper[0].tolist() == [2030.0, 1970.0]
    assert ends.all()


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"ask_price": [[99.0, 102.0]]}, "crossed or locked"),
        ({"bid_price": [[np.nan, np.nan]]}, "has no bid"),
        ({"ask_price": [[np.nan, 102.0]]}, "has no ask"),
        ({"bid_price": [[99.0, 99.5]]}, "bid levels that are not in order"),
        ({"ask_size": [[10.0, 0.0]]}, "ask size that is not positive"),
        ({"bid_size": [[10.0, 10.0, 1.0]]}, "shapes do not fit"),
    ],
)
def test_arrays_that_are_no_books_are_refused_by_coin_and_snapshot(changed, complaint):
    with pytest.raises(BookError, match=rf"books of AAA: .*{complaint}"):
        two_levels(**changed)


def test_a_planted_curve_is_recovered_and_lies_in_its_intervals():
    planted = Market()
    found = calibrate(planted.history(2000), config=QUICK)
    assert found.censored_share.max() < 0.05
    assert found.half_spread_bps == pytest.approx(planted.half_spread_bps, abs=0.15)
    assert found.k_books == pytest.approx(planted.k, rel=0.08)
    assert found.k_books_interval[0] < planted.k < found.k_books_interval[1]


def test_a_planted_curve_is_recovered_from_censored_books_better_than_by_dropping_or_believing_them():
    walk = walk_costs(THIN.history(3000), SIZES)
    assert 0.05 < walk.censored[..., 3].mean() < 0.5 < walk.censored[..., 4].mean()
    whole = ~walk.censored.any(axis=(1, 2))
    kept = replace(
        walk,
        cost_bps=walk.cost_bps[whole],
        censored=walk.censored[whole],
        shown_usd=walk.shown_usd[whole],
        shown_cost_bps=walk.shown_cost_bps[whole],
    )
    believed = replace(walk, censored=np.zeros_like(walk.censored))
    errors = {}
    for name, used in (("completed", walk), ("dropped", kept), ("believed", believed)):
        curve = BlockedCosts(used, 60 if used is not kept else 5).fit()
        truth = THIN.half_spread_bps + THIN.k * np.sqrt(SIZES)
        errors[name] = float(np.abs(curve.cost_bps(np.sqrt(SIZES)) / truth - 1.0).max())
    assert errors["completed"] < 0.08
    assert errors["believed"] > 2.0 * errors["completed"]
    assert errors["dropped"] > 2.0 * errors["completed"]


def test_a_completed_cost_is_never_below_its_bound_and_observed_ones_stay():
    walk = walk_costs(THIN.history(400), SIZES)
    completed = complete_costs(walk, BlockedCosts(walk, 20).fit())
    assert (completed >= walk.cost_bps - 1e-12).all()
    assert (completed[~walk.censored] == walk.cost_bps[~walk.censored]).all()


def test_a_few_emptied_books_do_not_set_the_curve():
    calm = Market().history(2000)
    sizes = calm.ask_size.copy()
    sizes[700:715] /= 400.0
    shaken = replace(calm, ask_size=sizes)
    before, after = (calibrate(book, config=QUICK) for book in (calm, shaken))
    assert after.mean_bps[0, -1] > 1.05 * before.mean_bps[0, -1]
    assert after.k_books == pytest.approx(before.k_books, rel=0.03)


def test_the_mean_is_what_is_fitted_and_not_the_median():
    found = calibrate(Market(noise=0.9).history(4000), config=QUICK)
    median = found.quantiles_bps[:, -1, 2].mean()
    assert found.mean_bps[:, -1].mean() > 1.2 * median
    assert found.cost_bps(SIZES[-1:])[0] == pytest.approx(found.mean_bps[:, -1].mean(), rel=0.12)


def test_buys_and_sells_differ_on_a_lopsided_book_and_the_curve_lies_between():
    found = calibrate(Market(sell_factor=3.0, reach_bps=200.0).history(1500), config=QUICK)
    impact = found.mean_bps - 1.0
    assert impact[1] / impact[0] == pytest.approx(np.full(5, 3.0), rel=0.35)
    at_largest = found.cost_bps(SIZES[-1:])[0]
    assert found.mean_bps[0, -1] < at_largest < found.mean_bps[1, -1]


def test_few_snapshots_leave_k_near_the_prior_and_many_near_the_books():
    prior = {"sigma_daily": 0.05, "adv_usd": 1e8}
    few = calibrate(Market().history(8), config=QUICK, **prior)
    many = calibrate(Market(persistence=0.0).history(6000), config=QUICK, **prior)
    assert few.k_prior == pytest.approx(1e4 * 0.05 / np.sqrt(1e8))
    assert few.books_weight < 0.3
    assert abs(few.k_bps_per_sqrt_usd - few.k_prior) < 0.3 * abs(few.k_books - few.k_prior)
    assert many.books_weight > 0.98
    assert many.k_bps_per_sqrt_usd == pytest.approx(many.k_books, rel=0.05)


def test_without_volatility_or_volume_nothing_is_shrunk():
    book = Market().history(200)
    for missing in ({}, {"sigma_daily": 0.05}, {"adv_usd": 1e8}, {"sigma_daily": 0.05, "adv_usd": 0.0}):
        found = calibrate(book, config=QUICK, **missing)
        assert np.isnan(found.k_prior)
        assert found.books_weight == 1.0
        assert found.k_bps_per_sqrt_usd == found.k_books


def test_books_that_stay_alike_count_as_fewer():
    fresh = calibrate(Market(persistence=0.0).history(1500), config=QUICK)
    sticky = calibrate(Market(persistence=0.97).history(1500), config=QUICK)
    assert fresh.n_effective > 1000
    assert sticky.n_effective < 100
    assert sticky.n_snapshots == fresh.n_snapshots == 1500


def test_the_autocorrelation_time_of_a_known_process_is_found():
    rng = np.random.default_rng(3)
    shocks = rng.standard_normal(60_000)
    path = np.empty_like(shocks)
    path[0] = shocks[0]
    for i in range(1, len(shocks)):
        path[i] = 0.9 * path[i - 1] + shocks[i]
    assert autocorrelation_time(path) == pytest.approx(19.0, rel=0.15)
    assert autocorrelation_time(shocks) == pytest.approx(1.0, abs=0.1)
    assert autocorrelation_time(np.full(50, 2.5)) == 50.0


def test_intervals_cover_the_planted_k_about_as_often_as_they_say():
    market = Market(persistence=0.9)
    config = CalibrationConfig(replicates=60, sizes_usd=(1e3, 1e4, 5e4))
    inside = 0
    for seed in range(30):
        low, high = calibrate(market.history(600, seed), config=config).k_books_interval
        inside += low <= market.k <= high
    assert inside >= 24


def test_errors_are_measured_on_an_end_the_judged_curve_has_not_seen():
    steady, changed = Market().history(2000), Market().history(2000, dearer_from=1500)
    held = calibrate(steady, config=QUICK).holdout
    surprised = calibrate(changed, config=QUICK).holdout
    assert held.n_snapshots == 500
    assert held.minutes == pytest.approx(0.25 * 2000 * 0.5 / 60.0, rel=0.01)
    assert abs(held.bias_bps) < 0.4
    assert surprised.bias_bps == pytest.approx(-2.0 * 0.02 * np.sqrt(SIZES).mean(), rel=0.1)
    assert surprised.mae_bps > 3.0 * held.mae_bps


def test_a_long_recording_holds_out_days_and_a_short_one_its_last_quarter():
    hourly = Market(step_ms=3_600_000).history(24 * 4 + 1)
    last = int(hourly.time_ms[-1])
    assert holdout_start_ms(hourly, 1.0) == last - 86_400_000
    assert holdout_start_ms(hourly, 3.0) == last - 86_400_000
    assert holdout_start_ms(hourly, 0.5) == last - 43_200_000
    with pytest.raises(CalibrationError, match="positive"):
        holdout_start_ms(hourly, 0.0)


def test_a_coins_result_repeats_and_does_not_depend_on_its_seeds_neighbours():
    book = Market().history(300)
    once, again = (calibrate(book, config=QUICK) for _ in range(2))
    other = calibrate(book, config=replace(QUICK, seed=1))
    assert once.k_books_interval == again.k_books_interval
    assert once.k_books == other.k_books
    assert once.k_books_interval != other.k_books_interval


@pytest.mark.parametrize(
    ("market", "snapshots", "complaint"),
    [(Market(), 7, "AAA: 7 usable snapshots"), (Market(reach_bps=0.5), 50, "AAA: fewer than two of the sizes fit")],
)
def test_books_from_which_nothing_can_be_learnt_are_refused(market, snapshots, complaint):
    with pytest.raises(CalibrationError, match=complaint):
        calibrate(market.history(snapshots))


@pytest.mark.parametrize(
    "choice", [{"sizes_usd": (1e3,)}, {"sizes_usd": (5e3, 1e3)}, {"prior_snapshots": -1.0}, {"replicates": 5}]
)
def test_choices_that_make_no_sense_are_refused(choice):
    with pytest.raises(CalibrationError):
        CalibrationConfig(**choice)


def test_a_model_from_books_charges_what_the_curve_says_at_any_capital():
    books = [Market(k=0.01).history(200, coin="AAA"), Market(half_spread_bps=3.0).history(200, 8, coin="BBB")]
    model = TransactionCostModel.from_l2(books, 2e5, base_fee_rate=4.5e-4)
    found = [calibrate(book) for book in books]
    assert model.reference_capital == 2e5
    for capital in (2e5, 3e6):
        for i, coin in enumerate(found):
            traded = np.where(np.arange(2) == i, 0.2, 0.0)
            costs = compute_transaction_costs(traded, np.zeros(2), model, capital)
            bps = 1e4 * costs["dollar_total"] / costs["dollar_turnover"]
            assert bps == pytest.approx(4.5 + float(coin.cost_bps(np.array([0.2 * capital]))[0]), rel=1e-12)


def test_a_model_from_books_uses_the_prior_where_it_is_known():
    books = [Market().history(100, coin=coin) for coin in ("AAA", "BBB")]
    prior = {"sigma_daily": np.array([0.9, np.nan]), "adv_usd": np.array([1e8, 1e8])}
    bare, informed = TransactionCostModel.from_l2(books, 1e5), TransactionCostModel.from_l2(books, 1e5, **prior)
    assert informed.impact_coef[0] > 1.2 * bare.impact_coef[0]
    assert informed.impact_coef[1] == bare.impact_coef[1]
    with pytest.raises(CostError, match="books are 2"):
        TransactionCostModel.from_l2(books, 1e5, sigma_daily=np.array([0.1]))


@pytest.mark.parametrize("capital", [0.0, -1.0, np.nan, np.inf])
def test_a_capital_that_is_not_positive_is_refused(capital):
    with pytest.raises(CalibrationError, match="capital"):
        cost_model([calibrate(Market().history(50), config=QUICK)], capital)


@pytest.fixture(scope="module")
def recording(shared: Path):
    return read_books(shared / "data" / "book" / "hyperliquid_20250904_orderbooks.parquet")


def test_a_real_recording_has_the_spreads_it_is_known_for(recording):
    spreads = {coin: 2.0 * np.median(half_spread_bps(entry.book)) for coin, entry in recording.items()}
    assert spreads == pytest.approx({"BTC": 0.09, "ETH": 0.23, "SOL": 0.49, "WLFI": 2.7}, rel=0.02)


def test_real_books_give_finite_errors_no_larger_than_free_levels_would(recording):
    for entry in recording.values():
        found = calibrate(entry.book, config=QUICK)
        held = found.holdout
        assert np.isfinite([held.mae_bps, held.free_mae_bps, held.bias_bps]).all()
        assert held.mae_bps < 1.1 * held.free_mae_bps
        assert found.k_books_interval[0] < found.k_books < found.k_books_interval[1]
        assert 10 < found.n_effective < 0.2 * found.n_snapshots
        assert found.cost_bps(SIZES) == pytest.approx(found.mean_bps.mean(axis=0), rel=0.25, abs=0.05)


@pytest.mark.parametrize(("coin", "levels", "size"), [("WLFI", 12, 5e4), ("WLFI", 7, 5e4), ("ETH", 7, 4e5)])
def test_on_real_books_cut_short_completion_is_nearest_to_what_the_full_book_charges(recording, coin, levels, size):
    """The full book knows the cost that the cut one has to guess."""
    book, sizes = recording[coin].book, np.array([1e3, 5e3, 1e4, size])
    short = replace(
        book,
        **{name: getattr(book, name)[:, :levels] for name in ("bid_price", "bid_size", "ask_price", "ask_size")},
    )
    truth, cut = walk_costs(book, sizes), walk_costs(short, sizes)
    assert truth.censored.mean() < 0.005
    lost = cut.censored[..., -1]
    assert lost.mean() > 0.05
    known = truth.cost_bps[..., -1].mean()
    completed = complete_costs(cut, BlockedCosts(cut, 120).fit())[..., -1].mean()
    bound, dropped = cut.cost_bps[..., -1].mean(), cut.cost_bps[..., -1][~lost].mean()
    assert abs(completed - known) < abs(bound - known) < abs(dropped - known)
