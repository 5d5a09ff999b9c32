"""The federation report: self-contained, faithful to its summary, and whole at the edges."""

from __future__ import annotations

import dataclasses
import json
import re

import numpy as np
import pytest
from report_page import Page, dom_in_a_browser

from slipstream.core.coverage import coverage
from slipstream.federation.backtest import FederationConfig, run_federation
from slipstream.federation.pods import Pod
from slipstream.federation.result import NettingSaving
from slipstream.federation.summary import summarize
from slipstream.lake.synthetic import synthetic_market
from slipstream.lake.synthetic_config import SyntheticConfig
from slipstream.reports.federation_report import ReportError, render_federation_report
from slipstream.reports.formatting import Dollars, counted, number, percent, times, tiny

BANNER = "these figures say nothing about real trading"


def render(run, *, synthetic=False, title="A run"):
    return render_federation_report(run.result, run.summary, run.coverage, synthetic=synthetic, title=title)


def test_nothing_in_the_page_points_outside_it(invent_run):
    html = render(invent_run())
    assert "http://" not in html
    assert "https://" not in html
    assert "url(" not in html
    assert "@import" not in html
    for tag, attributes in Page(html).tags:
        assert tag not in {"link", "img", "iframe", "object", "embed", "base"}
        assert "src" not in attributes
        assert all(value and value.startswith("#") for name, value in attributes.items() if name == "href")


def test_every_link_of_the_contents_leads_to_a_section(invent_run):
    tags = Page(render(invent_run())).tags
    ids = [attributes["id"] for _, attributes in tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {a["href"][1:] for tag, a in tags if tag == "a"} <= set(ids)


def test_every_figure_in_the_pod_table_is_the_summary_s_own(invent_run):
    run = invent_run()
    page = Page(render(run))
    entries = {str(k): run.summary["pods"][pod] for k, pod in enumerate(run.result.pods)}
    entries["total"] = run.summary["total"]
    assert set(page.merits) == set(entries)
    usd = Dollars.beside(run.result.initial_capital_usd)
    for row, entry in entries.items():
        expected = [
            (entry["total_return"], percent(entry["total_return"], signed=True)),
            (entry["sharpe"], number(entry["sharpe"], 2)),
            (entry["sharpe_se"], number(entry["sharpe_se"], 2)),
            (entry["max_drawdown"], percent(entry["max_drawdown"])),
            (entry["turnover_per_year"], times(entry["turnover_per_year"])),
            *[(value, usd(value, signed=True)) for value in entry["pnl_usd"].values()],
            *[(value, usd(value)) for value in entry["capital_usd"].values()],
        ]
        assert page.merits[row] == expected


def test_a_synthetic_market_is_announced_before_anything_else_and_a_real_one_never(invent_run):
    run = invent_run()
    invented, real = Page(render(run, synthetic=True)), Page(render(run))
    assert BANNER in invented.text
    assert invented.text.index(BANNER) < invented.text.index("Return")
    assert BANNER not in real.text
    assert "synthetic" not in real.text.lower()


def test_equal_inputs_give_equal_bytes(invent_run):
    assert render(invent_run()) == render(invent_run())


def test_names_cannot_inject_markup(invent_run):
    evil = "</script><script>alert(1)</script>"
    pods = ("<b>bold</b>", evil)
    html = render(invent_run(pods, (evil, "A&B", '"quoted"'), hours=24 * 100), title=f"<i>{evil}")
    assert evil not in html
    assert "<b>bold" not in html
    page = Page(html)
    assert evil in page.text
    assert "A&B" in page.text
    assert json.loads(page.json)["charts"]["profit"]["lines"][2]["name"] == evil


@pytest.mark.parametrize(
    "shape",
    [
        {"pods": ("solo",)},
        {"pods": ("solo",), "hours": 1},
        {"pods": ("solo",), "hours": 2, "cycle": 2},
        {"hours": 24 * 30, "cycle": 24 * 60},
        {"hours": 24 * 40, "idle": (0, 1, 2)},
        {"pods": tuple(f"pod-{k}" for k in range(12)), "hours": 24 * 200, "idle": (3,)},
    ],
    ids=["one pod", "one row", "one decision", "one decision, long", "all pods idle", "twelve pods"],
)
def test_the_page_is_whole_at_the_edges(invent_run, shape):
    run = invent_run(**shape)
    html = render(run)
    page = Page(html)
    assert set(page.merits) == {"total", *(str(k) for k in range(len(run.result.pods)))}
    data = json.loads(page.json)
    for chart in data["charts"].values():
        grid = data["grids"][chart["grid"]]
        assert grid == sorted(grid)
        assert all(len(line["values"]) == len(grid) for line in chart["lines"])
    assert not re.search(r"\b(nan|inf|None|undefined)\b", page.text)


def test_the_backtest_s_own_result_and_summary_make_a_page():
    market = synthetic_market(SyntheticConfig(coins=8, hours=24 * 75, seed=3)).panel
    config = FederationConfig(capital_usd=50_000.0, causality_checks=2)

    def reversal(view):
        past = np.nan_to_num(np.log(view.close[-1] / view.close[-25])) * view.tradable
        gross = np.abs(past).sum()
        return -past / gross if gross > 0.0 else past

    def cash(view):
        return np.zeros(len(view.coins))

    result = run_federation(market, [Pod("reversal", reversal), Pod("cash", cash)], config)
    summary = json.loads(json.dumps(summarize(result, market, config, {"seed": 3}), allow_nan=False))
    html = render_federation_report(result, summary, coverage(market), synthetic=True, title="Reversal and cash")
    page = Page(html)
    assert [value for value, _ in page.merits["1"][-7:]] == [0.0] * 7
    assert page.merits["total"][0][0] == summary["total"]["total_return"]
    assert page.text.count("holds") >= 2
    assert "costs.half_spread_bps" in page.text
    assert number(result.total_equity_usd[-1]) in page.text


@pytest.mark.parametrize(("impact", "phrase"), [(-30.0, "cost 30 USD more impact"), (30.0, "saved 30 USD of impact")])
def test_netting_that_would_cost_is_not_called_a_saving(invent_run, impact, phrase):
    run = invent_run(hours=24 * 30)
    run.result = dataclasses.replace(run.result, netting=NettingSaving(12.0, impact))
    assert phrase in Page(render(run)).text


def test_a_missing_sharpe_error_is_called_missing_and_not_zero(invent_run):
    run = invent_run(hours=24)
    run.summary["total"]["sharpe_se"] = None
    text = Page(render(run)).text
    assert "too short to say anything about a Sharpe ratio" in text
    assert "n/a" in text


@pytest.mark.parametrize(
    ("sharpe", "error", "phrase"),
    [(0.9, 1.2, "includes 0"), (3.0, 1.0, "lies above 0"), (-3.0, 1.0, "lies below 0"), (0.0, 1.2, "includes 0")],
)
def test_the_verdict_says_whether_the_interval_holds_zero(invent_run, sharpe, error, phrase):
    run = invent_run(hours=24 * 30)
    run.summary["total"].update(sharpe=sharpe, sharpe_se=error)
    assert phrase in Page(render(run)).text


def test_failed_checks_are_shown_as_failed(invent_run):
    run = invent_run(hours=24 * 30)
    assert "fails" not in Page(render(run)).text
    run.result = dataclasses.replace(run.result, accounting_max_error=1e-6)
    assert Page(render(run)).text.count("fails") == 1
    assert f"largest error {tiny(1e-6)}" in Page(render(run)).text


def test_costs_and_trades_are_the_result_s(invent_run):
    run = invent_run()
    text = Page(render(run)).text
    trades, usd = run.result.trades, Dollars.beside(run.result.initial_capital_usd)
    assert usd(trades.fee_usd.sum()) in text
    assert usd(trades.impact_usd.sum()) in text
    traded = np.abs(trades.notional_usd)
    assert number(1e4 * trades.fee_usd.sum() / traded.sum(), 2) in text
    assert usd(trades.notional_usd[traded.argmax()], signed=True) in text
    assert counted(len(traded), "trade") in text
    assert run.result.trade_fingerprint in text


def test_a_coin_that_ended_while_held_is_marked(invent_run):
    text = Page(render(invent_run())).text
    assert "delisted while held" in text
    assert "DOGE in carry" in text


def test_a_run_without_trades_or_coverage_still_renders(invent_run):
    run = invent_run(hours=24 * 30)
    empty = {f.name: getattr(run.result.trades, f.name)[:0] for f in dataclasses.fields(run.result.trades)}
    run.result = dataclasses.replace(run.result, trades=type(run.result.trades)(**empty), delisted=())
    run.coverage = ()
    run.summary["config"] = {}
    text = Page(render(run)).text
    assert "No trade was made." in text
    assert "No configuration was recorded." in text


def test_twelve_pods_over_three_years_stay_below_three_megabytes(invent_run):
    run = invent_run(tuple(f"pod-{k}" for k in range(12)), hours=24 * 1096, cycle=24)
    html = render(run)
    assert len(html.encode()) < 3_000_000
    lines = json.loads(Page(html).json)["charts"]["profit"]["lines"]
    assert len(lines) == 13
    assert all(len(line["values"]) <= 1500 for line in lines)


def test_a_summary_of_another_run_is_refused(invent_run):
    run = invent_run(hours=24 * 30)
    run.summary["checks"]["trade_fingerprint"] = "00" * 32
    with pytest.raises(ReportError, match="fingerprint"):
        render(run)


def test_a_summary_that_lacks_a_figure_is_refused_by_name(invent_run):
    run = invent_run(hours=24 * 30)
    del run.summary["pods"]["gradient"]["pnl_usd"]["funding"]
    with pytest.raises(ReportError, match=r"gradient lacks pnl_usd\.funding"):
        render(run)
    del run.summary["pods"]["carry"]
    with pytest.raises(ReportError, match=r"no pods\.carry"):
        render(run)


def test_a_real_browser_draws_every_chart_without_a_complaint(invent_run, tmp_path):
    html = render(invent_run(), synthetic=True)
    complaints, dom = dom_in_a_browser(html, tmp_path)
    assert "CONSOLE" not in complaints
    assert dom.count("<canvas") == len(json.loads(Page(html).json)["charts"]) == 9
