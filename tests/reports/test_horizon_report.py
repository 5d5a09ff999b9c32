"""The page and the words of a search for the holding period."""

from __future__ import annotations

import re
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from markupsafe import escape

from slipstream.core.bars import resample
from slipstream.core.forecast.walk_forward import WalkForwardSettings
from slipstream.lake.synthetic import SyntheticConfig, synthetic_market
from slipstream.reports.horizon_report import render_horizon_report
from slipstream.reports.horizon_words import findings, survives, terminal_table
from slipstream.reports.plots import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Plot
from slipstream.research.dataset import FeatureSettings
from slipstream.research.executor import SerialExecutor
from slipstream.research.search import SearchRequest, SearchResult, search_horizons


@pytest.fixture(scope="module")
def found() -> SearchResult:
    panel = resample(synthetic_market(SyntheticConfig(coins=13, hours=24 * 110, seed=2, late_listings=0.0)).panel, 4)
    request = SearchRequest(
        horizons=(4, 8, 960),
        features=FeatureSettings(spans_hours=(4.0, 16.0)),
        walk=WalkForwardSettings(blocks=5, inner_folds=4, min_train_days=20.0),
        n_bootstrap=120,
    )
    return search_horizons(panel, request, SerialExecutor())


@pytest.fixture(scope="module")
def page(found: SearchResult) -> str:
    return render_horizon_report(found)


def test_the_page_needs_nothing_but_itself_and_runs_nothing(page: str) -> None:
    assert "<script" not in page
    assert "://" not in page
    assert "default-src 'none'" in page
    assert "nan" not in re.sub(r"[a-z]*nan[a-z]+|[a-z]+nan[a-z]*", "", page.lower())


def test_equal_results_give_equal_bytes(found: SearchResult, page: str) -> None:
    assert render_horizon_report(found) == page


def test_every_section_and_picture_of_the_page_is_there(page: str) -> None:
    titles = re.findall(r"<figcaption><b>(.*?)</b>", page)
    assert titles == [
        "R2 in deviations", "R2 in money", "Net Sharpe ratio", "Net edge by part", "H = 4 h", "H = 8 h",
        "Cost of a round trip", "H = 4 h", "H = 8 h", "alpha model", "funding model", "Bootstrap plateau",
        "Shifted labels",
    ]  # fmt: skip
    for drawing in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        root = ElementTree.fromstring(drawing)
        assert {child.tag for child in root} >= {"line", "text"}
        assert len({child.tag for child in root} & {"path", "circle", "rect"}) > 0


def test_the_words_are_on_the_page_and_the_horizon_left_out_too(found: SearchResult, page: str) -> None:
    for sentence in findings(found):
        assert str(escape(sentence)) in page
    assert "Left out." in page
    assert "H = 960 h" in page
    assert "Does H = 8 h survive?" in page


def test_the_published_figures_stand_beside_ours(found: SearchResult, page: str) -> None:
    table = page.split('id="published"')[1]
    assert all(figure in table for figure in ("0.667", "0.638", "0.582", "0.356", "0.203"))
    assert f"{found.skills[8].sigma_r2.combined.value:.3f}" in table
    assert table.count("not scored") == 3


def test_a_horizon_survives_only_if_it_is_best_and_claimed(found: SearchResult) -> None:
    best = found.by_net.best
    assert survives(found, 24) == "not tested"
    assert survives(found, 12 - best) == "no"
    assert survives(replace(found, by_net=replace(found.by_net, claim=0.2)), best) == "yes"
    assert survives(replace(found, by_net=replace(found.by_net, claim=-0.2)), best) == "best but unproven"


def test_the_first_sentence_claims_an_edge_only_if_the_lower_end_is_above_zero(found: SearchResult) -> None:
    for claim, words in ((0.3, "An edge is claimed at H = "), (-0.3, "No edge is claimed at any horizon.")):
        assert findings(replace(found, by_net=replace(found.by_net, claim=claim)))[0].startswith(words)


def test_the_terminal_shows_one_line_a_horizon(found: SearchResult) -> None:
    lines = terminal_table(found)
    assert [line.split()[0] for line in lines] == ["H", "4", "8"]
    assert max(len(line) for line in lines) - len(lines[0]) <= 2


def test_a_plot_keeps_its_marks_inside_its_frame_and_breaks_where_a_value_is_missing() -> None:
    rng = np.random.default_rng(0)
    ys = [*rng.standard_normal(9).tolist(), float("nan"), 2.5]
    plot = Plot.of("t", "u", "x", [0.0, 10.0], ys, str)
    plot.line(list(range(11)), ys, 0, "line")
    plot.band([0.0, 5.0, 10.0], [-1.0, float("nan"), 0.0], [1.0, 1.0, 2.0], 1, "band")
    plot.bar(5.0, 1.0, 0.0, 2.0, 2, "bar")
    path = plot.shapes[0].path
    assert path.count("M") == 2
    numbers = [float(word) for shape in plot.shapes for word in re.findall(r"-?\d+\.?\d*", shape.path)]
    assert min(numbers[::2]) >= LEFT - 0.1
    assert max(numbers[::2]) <= WIDTH - RIGHT + 0.1
    assert min(numbers[1::2]) >= TOP - 0.1
    assert max(numbers[1::2]) <= HEIGHT - BOTTOM + 0.1
    assert plot.shapes[2].at[3] == pytest.approx(abs(plot.y(2.0) - plot.y(0.0)), abs=0.2)
    assert all(TOP - 0.1 <= y <= HEIGHT - BOTTOM + 0.1 for y, _ in plot.levels)
