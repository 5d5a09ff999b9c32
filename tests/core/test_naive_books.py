"""The plain books whose size anyone can check by hand, on hand-made prices and on the recording."""

from __future__ import annotations

import numpy as np
import pytest

from slipstream.core.backtest.naive import quintile_weights, reference_books, run_naive, trailing_funding
from slipstream.core.panel import HOUR_MS, Panel, UniverseRule
from slipstream.lake import load_panel

START = 1_704_067_200_000


def flat_prices_with_funding(rates: np.ndarray, hours: int) -> Panel:
    ones = np.ones((hours, len(rates)))
    return Panel.build(
        START + HOUR_MS * np.arange(hours, dtype=np.int64),
        tuple(f"C{i}" for i in range(len(rates))),
        1,
        open=ones,
        high=ones,
        low=ones,
        close=ones,
        volume_usd=ones,
        funding=np.tile(rates, (hours, 1)),
        rule=UniverseRule(0.0, 1),
    )


def test_the_ends_of_the_ranking_are_held_at_gross_one():
    score = np.array([5.0, np.nan, 1.0, 4.0, 2.0, 3.0, 0.0, 6.0, 7.0, 8.0, 9.0])
    weights = quintile_weights(score)
    assert np.flatnonzero(weights > 0).tolist() == [9, 10]
    assert np.flatnonzero(weights < 0).tolist() == [2, 6]
    assert np.abs(weights).sum() == pytest.approx(1.0)


def test_the_funding_leg_is_the_sum_of_hourly_settlements_over_the_hours_held():
    """Half the book pays 1e-5 an hour as a long, half receives 5e-5 as a short: known to the cent."""
    rates = np.array([1e-5, 2e-5, 3e-5, 4e-5, 5e-5])
    panel = flat_prices_with_funding(rates, 24 * 30)

    def cheapest(view):
        return -np.asarray(view.feature(trailing_funding, window_hours=48)[-1])

    book = run_naive(panel, "carry", cheapest)
    per_day = 24 * (-0.5 * 1e-5 + 0.5 * 5e-5)
    held_days = (24 * 30 - 1 - 24 * 2) / 24
    assert book.funding * book.days / 365.25 == pytest.approx(per_day * held_days, rel=1e-3)
    assert book.price == 0.0
    assert book.turnover_per_year * book.days / 365.25 == pytest.approx(1.0)


def test_a_plain_seven_day_carry_book_on_the_recording_earns_what_the_venue_pays(shared):
    books = {
        book.name: book for book in reference_books(load_panel(shared / "data/hourly/hyperliquid_perps_1h.parquet"))
    }
    assert 0.20 < books["carry 7 d"].funding < 0.40
    assert 0.20 < books["carry 3 d"].funding < 0.40
    assert books["momentum 14 d"].sharpe == pytest.approx(0.9, abs=0.3)
    assert books["momentum 7 d"].sharpe == pytest.approx(1.5, abs=0.3)
    assert abs(books["momentum 1 d"].sharpe) < 0.6
