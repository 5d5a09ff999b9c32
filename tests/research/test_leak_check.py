"""The leak check catches each way of knowing the future, and lets honest strategies pass."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from slipstream.core.bars import resample
from slipstream.core.decision import Decide
from slipstream.core.panel import FloatArray, Panel, View, forward_fill
from slipstream.core.signals.ewm import ewm_mean
from slipstream.errors import UsageError
from slipstream.lake.synthetic import synthetic_market
from slipstream.lake.synthetic_config import SyntheticConfig
from slipstream.research.leak_check import MEANING, leak_check, named_scores, shifted_labels
from slipstream.strategies import list_strategies, load_targets


@pytest.fixture(scope="module")
def market() -> Panel:
    """Strong planted trends and sticky funding: honest features that are as good as they get."""
    planted = SyntheticConfig(
        coins=24, hours=100 * 24, seed=11, volume_usd_per_hour=2e6, late_listings=0.0, momentum_strength=0.02
    )
    return resample(synthetic_market(planted).panel, 4)


def long_short(scores: FloatArray, view: View) -> FloatArray:
    """The third of best scores long, the third of worst short."""
    usable = view.tradable & np.isfinite(scores)
    weights = np.zeros(len(scores))
    ranked = np.flatnonzero(usable)[np.argsort(scores[usable], kind="stable")]
    third = len(ranked) // 3
    if third:
        weights[ranked[:third]], weights[ranked[-third:]] = -0.5 / third, 0.5 / third
    return weights


def next_return(view: View) -> FloatArray:
    """The classic: a feature whose last row is right and whose earlier rows hold the bar after."""
    out = np.full(view.close.shape, 0.0)
    out[:-1] = np.nan_to_num(view.log_return[1:])
    return out


def of_the_whole_sample(view: View) -> FloatArray:
    """Scores by mean and deviation of the whole history."""
    close = forward_fill(view.close)
    moved = np.zeros_like(close)
    moved[24:] = np.log(close[24:] / close[:-24])
    known = np.nan_to_num(moved)
    return (known - known.mean(axis=0)) / known.std(axis=0)


@pytest.mark.parametrize("feature", [next_return, of_the_whole_sample])
def test_a_feature_that_looks_ahead_is_caught_with_time_and_coin(feature: object, market: Panel) -> None:
    def decide(view: View) -> FloatArray:
        return long_short(view.feature(feature)[-1], view)  # type: ignore[arg-type]

    report = leak_check(market, decide, moments=8)
    assert report.leaks
    first = report.differences[0]
    assert first.known_at_ms in market.known_at_ms
    assert first.coin in market.coins
    assert {found.question for found in report.differences} >= {"cut"}
    assert first.coin in str(first)


def test_reading_the_settlement_of_the_close_is_caught(market: Panel) -> None:
    def decide(view: View) -> FloatArray:
        return long_short(-view._panel.funding[-1], view)

    report = leak_check(market, decide, moments=6)
    assert {found.question for found in report.differences} == {"settlement"}


def test_scores_made_elsewhere_from_the_future_are_caught_by_the_decision_itself(market: Panel) -> None:
    """Deciding again cannot see this one: the file is the same whatever the data end with."""
    ahead = np.zeros_like(market.close)
    ahead[:-1] = np.nan_to_num(market.view().log_return[1:])
    row_of = {int(ms): row for row, ms in enumerate(market.known_at_ms)}

    def decide(view: View) -> FloatArray:
        return long_short(ahead[row_of[view.known_at_ms]], view)

    report = leak_check(market, decide, moments=30)
    assert report.differences == ()
    assert [(curve.feature, curve.target) for curve in report.implausible] == [("the decision", "price")]
    named = leak_check(market, load_targets("template"), moments=2, scores={"mine.csv": ahead})
    (curve,) = named.implausible
    assert curve.feature == "mine.csv"
    assert curve.ic[1] == pytest.approx(1.0)


def test_a_feature_equal_to_its_target_is_flagged_at_the_bar_it_knows(market: Panel) -> None:
    simple = np.expm1(market.view().log_return)
    for bars in (1, 3):
        ahead = np.full_like(simple, np.nan)
        ahead[:-bars] = simple[bars:]
        price, _ = shifted_labels(market, {"target": ahead})
        assert price.implausible
        assert price.ic[bars] == pytest.approx(1.0)
        assert all(abs(value) < 0.2 for shift, value in price.ic.items() if shift != bars)


def test_a_signal_that_lives_one_bar_loses_its_edge_when_labels_are_shifted_past_it() -> None:
    rng = np.random.default_rng(4)
    base = synthetic_market(SyntheticConfig(coins=40, hours=1500, seed=4, late_listings=0.0)).panel
    noise = 0.01 * rng.standard_normal((1500, 40))
    signal = rng.standard_normal((1500, 40))
    noise[1:] += 0.0008 * signal[:-1]
    close = 100.0 * np.exp(np.cumsum(noise, axis=0))
    panel = replace(base, open=close, high=close, low=close, close=close)
    price, _ = shifted_labels(panel, {"one bar": signal})
    assert price.ic[1] == pytest.approx(0.08, abs=0.02)
    assert price.t[1] > 8.0
    assert all(abs(price.t[shift]) < 4.0 for shift in (0, 2, 3, 4))
    assert not price.implausible


def test_persistent_funding_passes_and_knowing_the_next_settlement_does_not(market: Panel) -> None:
    view = market.view()
    published = view.funding_published
    for honest in (published, ewm_mean(published, 12, 6)):
        curves = shifted_labels(market, {"funding": honest})
        assert not any(curve.implausible for curve in curves)
        assert curves[1].ic[1] > 0.5
    for bars in (0, 1, 2):
        ahead = np.full_like(published, np.nan)
        ahead[: market.rows - bars] = market.funding[bars:]
        _, funding = shifted_labels(market, {"funding": ahead})
        assert funding.implausible


@pytest.mark.parametrize("slug", list_strategies())
def test_the_registered_strategies_pass(slug: str, market: Panel) -> None:
    report = leak_check(market, load_targets(slug), moments=6)
    assert not report.leaks
    assert report.held >= 4
    assert any(curve.feature != "the decision" for curve in report.curves)


def test_a_strategy_that_can_decide_only_from_longer_data_is_caught(market: Panel) -> None:
    from slipstream.core.decision import NotEnoughHistory

    last = int(market.known_at_ms[-1])

    def decide(view: View) -> FloatArray:
        if int(view._whole._panel.known_at_ms[-1] if view._whole else view.known_at_ms) < last:
            raise NotEnoughHistory("too short")
        return long_short(view.log_return[-1], view)

    report = leak_check(market, decide, moments=3)
    assert report.differences
    assert all(found.question == "cut" and not found.coin for found in report.differences)
    assert MEANING["cut"] in str(report.differences[0])


def test_a_book_that_is_never_held_is_counted_and_nothing_is_claimed(market: Panel) -> None:
    flat: Decide = lambda view: np.zeros(len(view.coins))  # noqa: E731
    report = leak_check(market, flat, moments=3)
    assert (report.held, report.leaks) == (0, False)


def test_requests_without_an_answer_are_refused(market: Panel) -> None:
    with pytest.raises(UsageError, match="at least one"):
        leak_check(market, load_targets("template"), moments=0)
    closed = replace(market, universe=np.zeros_like(market.universe))
    with pytest.raises(UsageError, match="no coin may be held"):
        leak_check(closed, load_targets("template"))
    with pytest.raises(UsageError, match="no coin in common"):
        named_scores(market, market.known_at_ms.tolist(), ["NOPE"], np.zeros((market.rows, 1)))
