"""Template: the strongest against the weakest, causal, and with commands that run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from slipstream.core.panel import Panel
from slipstream.errors import UsageError
from slipstream.strategies import get_strategy_info, list_strategies
from slipstream.strategies.template import TemplateConfig, scores, targets


def test_it_is_registered() -> None:
    assert "template" in list_strategies()


def test_the_longs_score_above_the_shorts(market: Panel) -> None:
    view = market.view()
    weights, score = targets(view), scores(view)[-1]
    assert score[weights > 0.0].min() > 0.0 > score[weights < 0.0].max()
    assert (weights > 0.0).sum() == (weights < 0.0).sum() == TemplateConfig().top_n


def test_what_may_not_be_held_has_no_weight(market: Panel) -> None:
    barred = replace(market, universe=np.zeros_like(market.universe))
    assert not targets(barred.view()).any()


def test_a_decision_is_the_same_when_the_file_ends_there(market: Panel) -> None:
    view = market.view()
    for row in (200, 333, market.rows - 2):
        np.testing.assert_array_equal(targets(view.as_of(row)), targets(market.until(row).view()))


def test_a_lookback_shorter_than_a_bar_is_refused(market: Panel) -> None:
    with pytest.raises(UsageError, match="shorter than one bar"):
        targets(market.view(), TemplateConfig(lookback=1.0))


def test_its_backtest_command_writes_returns(
    market_csv: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    handler = get_strategy_info("template").load_cli_handler("run_backtest")
    output = tmp_path / "returns.csv"
    words = [str(word) for pair in market_csv.items() for word in pair]
    assert handler(["--", *words, "--output", str(output), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["strategy"] == "template"
    assert output.read_text().splitlines()[0] == "known_at,portfolio_return,portfolio_return_gross"
    assert len(output.read_text().splitlines()) == said["bars"] + 1
