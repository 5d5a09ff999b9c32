"""The tearsheet of a walk-forward backtest: self-contained, faithful to its result, and whole at the edges."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from report_page import Page, dom_in_a_browser

from slipstream.core.backtest.parts import FEES, FUNDING, IMPACT, PRICE
from slipstream.core.backtest.result import BacktestResult, NoReportWriter
from slipstream.core.metrics import sharpe_standard_error
from slipstream.portfolio import BacktestConfig, FactorCovariance, TransactionCostModel, run_backtest
from slipstream.reports.backtest_report import render_backtest_report
from slipstream.reports.backtest_series import monthly_returns, rolling_window
from slipstream.reports.formatting import number, percent, times, tiny
from slipstream.reports.outputs import OutputError

COINS = ("BTC", "ETH", "kPEPE", "SOL", "DOGE", "ARB")


def backtest(
    hours: int = 24 * 130,
    *,
    coins: tuple[str, ...] = COINS,
    bar_hours: int = 1,
    seed: int = 5,
    alpha_scale: float = 3e-3,
    **config,
) -> BacktestResult:
    """A run on noise over bars of some length; ``hours`` of decisions."""
    rng = np.random.default_rng(seed)
    rows, n = hours // bar_hours + 1, len(coins)
    index = pd.date_range("2024-10-17 05:00", periods=rows, freq=f"{bar_hours}h", tz="UTC")

    def frame(mean: float, scale: float) -> pd.DataFrame:
        return pd.DataFrame(rng.normal(mean, scale, (rows, n)), index=index, columns=list(coins))

    model = TransactionCostModel(np.full(n, 3e-4), np.full(n, 4e-4), np.full(n, 10.0))
    settings = {"H": 8, "min_history_hours": 0, **config}
    S = FactorCovariance(np.full((n, 1), 0.01), np.full(n, 3e-4))
    alpha, returns, funding = frame(0.0, alpha_scale), frame(1e-4, 0.006), frame(1e-5, 2e-5)
    return run_backtest(BacktestConfig(**settings), alpha, 0 * alpha, np.ones(n), S, returns, funding, model)


@pytest.fixture(scope="module")
def run() -> BacktestResult:
    return backtest()


def test_the_page_asks_nothing_of_the_network_and_nothing_is_outside_it(run):
    html = render_backtest_report(run)
    page = Page(html)
    policy = next(attrs for tag, attrs in page.tags if tag == "meta" and "http-equiv" in attrs)
    assert policy["content"].startswith("default-src 'none'")
    assert not any(tag in {"link", "img", "iframe"} for tag, _ in page.tags)
    assert not any("src" in attrs or "http" in (attrs.get("href") or "") for _, attrs in page.tags)
    assert "http://" not in html
    assert "https://" not in html
    targets = {attrs["id"] for _, attrs in page.tags if attrs.get("id")}
    links = [attrs["href"] for tag, attrs in page.tags if tag == "a"]
    assert len(links) == 10
    assert all(link.removeprefix("#") in targets for link in links)


def test_the_headline_repeats_the_result_s_own_figures(run):
    sharpe, years = run.sharpe_ratio(), 130 / 365.25
    error = sharpe_standard_error(sharpe, len(run.returns), 8766 / 8)
    turnover = run.trades["turnover"].sum() / years
    assert Page(render_backtest_report(run)).figures == [
        (run.total_return(), percent(run.total_return(), signed=True)),
        (sharpe, number(sharpe, 2)),
        (error, number(error, 2)),
        (run.max_drawdown(), percent(run.max_drawdown())),
        (pytest.approx(turnover, rel=1e-12), times(turnover)),
        (run.summary()["final_capital"], number(run.summary()["final_capital"])),
    ]


def test_the_parts_the_costs_and_the_checks_are_the_result_s(run):
    text = Page(render_backtest_report(run)).text
    price, funding, fees, impact = run.pnl_usd.sum(axis=0)[[PRICE, FUNDING, FEES, IMPACT]]
    for part in (price, funding, fees, impact):
        assert number(part, signed=True) in text
    traded = np.abs(run.notional_usd).sum()
    assert f"On {number(traded)} USD traded" in text
    assert number(-1e4 * (fees + impact) / traded, 2) in text
    assert run.trade_fingerprint in text
    assert f"largest error {tiny(run.accounting_max_error)} of initial capital" in text
    assert text.count("holds") == 3
    assert "fails" not in text


def test_the_lines_end_where_the_result_does(run):
    data = json.loads(Page(render_backtest_report(run)).json)
    assert data["span"] == [int(run.time_ms[0]) // 1000, int(run.time_ms[-1]) // 1000]
    last = {
        name: {line["name"]: line["values"][-1] for line in chart["lines"]} for name, chart in data["charts"].items()
    }
    assert last["equity"]["Equity"] == pytest.approx(run.equity_usd[-1], rel=1e-4)
    assert last["parts"]["Net"] == pytest.approx(run.equity_usd[-1] - 1e6, abs=10)
    assert last["costs"]["All costs"] == pytest.approx(run.summary()["total_costs"], rel=1e-4)
    assert last["leverage"]["Gross"] == pytest.approx(np.abs(run.weights[-1]).sum(), rel=1e-4)
    assert last["positions"]["Positions"] == np.count_nonzero(run.weights[-1])
    assert set(last["beta"].values()) == {0}  # 1e-16 would be drawn as if it were an exposure
    drawdowns = data["charts"]["drawdown"]["lines"][0]["values"]
    assert min(drawdowns) == pytest.approx(run.max_drawdown(), rel=1e-4)
    for chart in data["charts"].values():
        grid = data["grids"][chart["grid"]]
        assert grid == sorted(grid)
        assert all(len(line["values"]) == len(grid) <= 1500 for line in chart["lines"])


def test_months_compound_to_the_whole_and_a_bar_ending_at_midnight_is_of_the_month_before():
    stamps = pd.to_datetime(["2024-12-31 22:00", "2024-12-31 23:00", "2025-01-01 00:00", "2025-01-01 01:00"], utc=True)
    ms = stamps.tz_localize(None).to_numpy().astype("datetime64[ms]").astype(np.int64)
    calendar = monthly_returns(ms, np.array([100.0, 110.0, 121.0, 60.5]))
    assert [year.year for year in calendar.years] == [2024, 2025]
    assert calendar.years[0].months[11] == pytest.approx(0.21)
    assert calendar.years[1].months[0] == pytest.approx(-0.5)
    assert np.isnan(calendar.years[1].months[1])
    assert calendar.partial == {(2024, 11), (2025, 0)}


def test_the_calendar_of_a_run_multiplies_up_to_its_return(run):
    calendar = monthly_returns(run.time_ms, run.equity_usd)
    assert np.prod([1.0 + year.total for year in calendar.years]) - 1.0 == pytest.approx(run.total_return(), rel=1e-9)
    by_pandas = run.equity_curve.copy()
    by_pandas.index = by_pandas.index - pd.Timedelta("1ms")
    ends = by_pandas.resample("ME").last()
    november = ends.iloc[1] / ends.iloc[0] - 1.0
    assert calendar.years[0].months[10] == pytest.approx(november, rel=1e-12)
    first_of_november = int(np.flatnonzero(run.equity_curve.index == pd.Timestamp("2024-11-01", tz="UTC"))[0])
    whole = monthly_returns(run.time_ms[first_of_november:], run.equity_usd[first_of_november:])
    assert whole.partial == {(2025, 1)}


def test_long_holding_periods_widen_the_window_of_the_rolling_sharpe():
    daily, weekly = rolling_window(backtest()), rolling_window(backtest(24 * 7 * 40, H=168, bar_hours=24))
    assert (daily.size, daily.days, daily.periods_per_year) == (90, 90, 365.25)
    assert (weekly.size, weekly.days) == (20, 140)
    assert len(weekly.returns) == 40
    assert weekly.periods_per_year == pytest.approx(8766 / 168)


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ({"hours": 1, "H": 1}, "too short to say anything about a Sharpe ratio"),
        ({"hours": 30}, "A window takes 90 returns"),
        ({"hours": 24 * 40, "alpha_scale": 0.0}, "the book stayed in cash"),
        ({"hours": 24 * 40, "use_costs": False}, "plans for it: an upper bound"),
        ({"hours": 24 * 7 * 30, "H": 168, "bar_hours": 24, "initial_capital": 500.0}, "Sharpe ratio of the last 140"),
        ({"hours": 24 * 40, "use_discrete_lots": True, "fill_delay_hours": 2}, "Hedged in whole lots"),
    ],
    ids=["one bar", "short", "cash", "free", "weeks and cents", "lots"],
)
def test_the_page_is_whole_at_the_edges(shape, said):
    page = Page(render_backtest_report(backtest(**shape)))
    assert said in page.text
    assert not re.search(r"\b(nan|inf|None|undefined)\b", page.text)


def test_ruin_and_unsolved_decisions_are_shown_as_failed(run):
    broken = dataclasses.replace(run, ruined=True, counts=dataclasses.replace(run.counts, n_failed=2))
    text = Page(render_backtest_report(broken)).text
    assert text.count("fails") == 2
    assert "2 decisions not solved" in text


def test_equal_results_give_equal_bytes_and_names_cannot_inject_markup():
    evil = "</script><script>alert(1)</script>"
    html = render_backtest_report(backtest(24 * 20, coins=(evil, "A&B")), title=f"<i>{evil}")
    assert evil not in html
    assert evil in Page(html).text
    assert html == render_backtest_report(backtest(24 * 20, coins=(evil, "A&B")), title=f"<i>{evil}")


def test_report_writes_the_page_and_leaves_nothing_else(run, tmp_path):
    run.report(str(tmp_path / "x.html"))
    assert (tmp_path / "x.html").read_text("utf-8") == render_backtest_report(run)
    (tmp_path / "x.html").write_text("old")
    run.report(tmp_path / "x.html")
    assert (tmp_path / "x.html").stat().st_size > 50_000
    assert [file.name for file in tmp_path.iterdir()] == ["x.html"]


def test_a_page_that_cannot_be_written_is_said_in_one_line(run, tmp_path):
    with pytest.raises(OutputError, match="is a folder; give the name of a file"):
        run.report(tmp_path)
    with pytest.raises(OutputError, match=r"cannot write .*no/x.html: No such file or directory"):
        run.report(tmp_path / "no" / "x.html")


def test_without_the_face_a_result_says_who_brings_the_writer(run, monkeypatch):
    monkeypatch.setattr(BacktestResult, "report_writer", None)
    with pytest.raises(NoReportWriter, match=r"import slipstream\.portfolio"):
        run.report("x.html")


def test_importing_the_face_loads_no_templates():
    code = "import sys, slipstream.portfolio; print([m for m in ('jinja2', 'slipstream.reports') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_a_real_browser_draws_every_chart_without_a_complaint(run, tmp_path):
    html = render_backtest_report(run)
    complaints, dom = dom_in_a_browser(html, tmp_path)
    assert "CONSOLE" not in complaints
    assert dom.count("<canvas") == len(json.loads(Page(html).json)["charts"]) == 9
