"""The series a report draws: thinning that hides no trough, daily returns, rolling Sharpe, exposure after netting."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from slipstream.core.metrics import DAYS_PER_YEAR, sharpe_ratio, sharpe_standard_error
from slipstream.reports.formatting import Dollars, number, percent, price, tiny
from slipstream.reports.lines import drawdown, every, rolling_sharpe, thin
from slipstream.reports.sections import account_waterfall, cost_rows, coverage_section, pod_waterfalls
from slipstream.reports.series import correlations, exposure, record_days


@given(arrays(np.float64, st.tuples(st.integers(1, 400), st.integers(1, 3)), elements=st.floats(-1e6, 1e6)))
def test_thinning_keeps_both_ends_and_every_line_s_extremes(values):
    rows, out = thin(values, limit=50)
    assert len(rows) == len(out) <= max(50, 1)
    assert (np.diff(rows) > 0).all()
    assert (out[0] == values[0]).all()
    assert (out[-1] == values[-1]).all()
    assert (out.min(axis=0) == values.min(axis=0)).all()
    assert (out.max(axis=0) == values.max(axis=0)).all()


def test_a_single_hour_s_trough_survives_three_years_of_hours():
    values = np.zeros((26_304, 2))
    values[12_345, 1] = -0.4
    rows, out = thin(values)
    assert out[:, 1].min() == -0.4
    assert abs(rows[out[:, 1].argmin()] - 12_345) < 40
    assert (out[:, 0] == 0.0).all()


@given(st.integers(1, 5000), st.integers(2, 60))
def test_every_takes_the_ends_and_at_most_the_limit(length, limit):
    rows = every(length, limit)
    assert len(rows) <= limit or length <= limit
    assert rows[0] == 0
    assert rows[-1] == length - 1
    assert len(set(rows.tolist())) == len(rows)


def test_a_pod_is_compared_over_all_days_it_traded_whatever_its_grant(invent_run):
    run = invent_run(idle=(2,))
    days = record_days(run.result)
    assert len(days.close_ms) == 237
    assert days.close_ms[-1] == run.result.time_ms[237 * 24]
    assert np.isnan(days.pods[:, 2]).all()
    assert (run.result.capital_usd[:, 1] == 0.0).mean() > 0.1
    assert not np.isnan(days.pods[:, 1]).any()
    assert np.prod(1.0 + days.total) == pytest.approx(run.result.total_track[237 * 24])


def test_days_before_a_pod_s_first_trade_are_no_part_of_its_record(invent_run):
    run = invent_run(hours=24 * 20)
    late = run.result.shadow_track.copy()
    late[: 24 * 5 + 1] = 1.0
    days = record_days(dataclasses.replace(run.result, shadow_track=late))
    assert np.isnan(days.pods[:5]).all()
    assert not np.isnan(days.pods[5:]).any()


def test_the_rolling_sharpe_is_the_house_s_sharpe_of_each_window():
    returns = np.random.default_rng(3).normal(1e-3, 1e-2, 150)
    sharpe, error = rolling_sharpe(returns, 90, 90)
    assert np.isnan(sharpe[:89]).all()
    assert sharpe[120] == sharpe_ratio(returns[31:121], DAYS_PER_YEAR)
    assert error[120] == sharpe_standard_error(sharpe[120], 90, DAYS_PER_YEAR)


def test_a_window_with_nothing_at_risk_or_too_few_days_has_no_sharpe():
    flat, error = rolling_sharpe(np.zeros(100), 90, 90)
    assert np.isnan(flat).all()
    assert np.isnan(error).all()
    sparse = np.full(100, np.nan)
    sparse[::3] = np.linspace(-0.01, 0.02, 34)
    assert np.isnan(rolling_sharpe(sparse, 90, 60)[0]).all()


def test_correlations_use_shared_days_only():
    rng = np.random.default_rng(5)
    x = rng.normal(size=(200, 3))
    x[:, 1] = -x[:, 0]
    x[:150, 2] = np.nan
    matrix, shared = correlations(x)
    assert matrix[0, 1] == pytest.approx(-1.0)
    assert shared[0, 2] == 50
    assert matrix[0, 2] == pytest.approx(np.corrcoef(x[150:, 0], x[150:, 2])[0, 1])
    silent, _ = correlations(np.zeros((50, 2)))
    assert np.isnan(silent).all()


def test_opposite_pods_cancel_in_the_account_s_gross(invent_run):
    run = invent_run(pods=("long", "short"), coins=("BTC",), hours=24 * 10)
    held = np.ones((10, 2, 1)) * 5_000.0
    held[:, 1] *= -1.0
    view = exposure(dataclasses.replace(run.result, positions_usd=held))
    assert (view.total_gross == 0.0).all()
    assert view.gross[0].tolist() == [0.05, 0.05]
    assert view.net[0].tolist() == [0.05, -0.05]


def test_drawdown_is_measured_from_the_high():
    assert drawdown(np.array([1.0, 2.0, 1.0, 3.0])).tolist() == [0.0, 0.0, -0.5, 0.0]


def test_a_waterfall_ends_where_the_ledger_does(invent_run):
    run = invent_run()
    account, pods = account_waterfall(run.result), pod_waterfalls(run.result)
    assert account.net == pytest.approx(sum(w.net for w in pods))
    assert account.bars[0].text == "100,000"
    assert account.bars[-1].text == number(run.result.total_equity_usd[-1])
    for bars in (account.bars, *(w.bars for w in pods)):
        assert all(0.0 <= bar.left <= 100.0 and bar.left + bar.width <= 100.001 for bar in bars)
    closing = pods[0].bars[-1]
    assert closing.label == "Net"
    assert closing.text == number(run.result.pnl_usd[:, 0].sum(), signed=True)


def test_cost_rows_add_up_to_the_total(invent_run):
    rows = cost_rows(invent_run().result)
    counts = [int(row.trades.replace(",", "")) for row in rows]
    assert counts[-1] == sum(counts[:-1])
    assert rows[-1].fees_bp == "6.00"


def test_the_coverage_axis_spans_all_coins_and_month_marks_lie_inside(invent_run):
    run = invent_run()
    section = coverage_section(run.result, run.coverage)
    assert min(row.left for row in section.rows) == 0.0
    assert all(row.left + row.width <= 100.001 for row in section.rows)
    assert [label for _, label in section.ticks] == ["Oct", "Nov", "Dec", "2025", "Feb", "Mar", "Apr"]
    assert {row.coin for row in section.remarkable} == {"SOL", "DOGE"}


def test_a_decade_of_months_is_marked_by_a_dozen_at_most(invent_run):
    run = invent_run(hours=24 * 30)
    long = dataclasses.replace(run.coverage[1], last_ms=run.coverage[1].first_ms + 10 * 365 * 86_400_000)
    assert 5 <= len(coverage_section(run.result, (long,)).ticks) <= 12


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (number(-1234.5), "−1,234"),
        (number(-0.001, 2), "0.00"),
        (number(0.0, signed=True), "0"),
        (number(12.0, 1, signed=True), "+12.0"),
        (number(float("nan")), "n/a"),
        (percent(-0.0432), "−4.32\u202f%"),
        (percent(float("inf")), "n/a"),
        (price(97250.0), "97,250"),
        (price(0.0000123), "0.000012300"),
        (price(0.0), "0"),
        (tiny(0.0), "0"),
        (tiny(2.2e-15), "2.2\u202f×\u202f10⁻¹⁵"),
        (Dollars.beside(1e5)(999.6), "1,000"),
        (Dollars.beside(500.0)(12.345, signed=True), "+12.35"),
    ],
)
def test_numbers_read_as_a_person_writes_them(text, expected):
    assert text == expected
