"""Carry in full: trained models through the optimiser, neutral, within its limits, aware of what a trade costs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from slipstream.cli.research_models import walk_forward_in_run
from slipstream.core.bars import resample
from slipstream.core.decision import DecidesFromHoldings, Holdings
from slipstream.core.forecast.dated_models import DatedModels, NoModelYet
from slipstream.core.forecast.errors import ForecastError
from slipstream.core.forecast.model_inputs import betas_as_of, forecast_as_of
from slipstream.core.panel import HOUR_MS, FloatArray, Panel, View
from slipstream.core.portfolio.costs import CostAssumptions
from slipstream.errors import UsageError
from slipstream.lake.synthetic import synthetic_market
from slipstream.lake.synthetic_config import SyntheticConfig
from slipstream.research.leak_check import leak_check
from slipstream.research.model_store import save_models
from slipstream.strategies.bar_backtest import BarBacktestConfig, run_bar_backtest
from slipstream.strategies.carry import CarryConfig, decision_with_models, targets
from slipstream.strategies.carry.cli import run_backtest
from slipstream.strategies.carry.joint import FactorBetas, JointCarry, covariance_as_of

H = 8


@pytest.fixture(scope="module")
def models(market: Panel) -> DatedModels:
    """Models of eight hours, trained on the way every ten days."""
    return walk_forward_in_run(market, H, 240.0)


@pytest.fixture(scope="module")
def first_row(market: Panel, models: DatedModels) -> int:
    """The first row with a model."""
    return market.row_at(models.usable_from[0])


def test_the_book_is_neutral_and_within_its_limits_from_any_holdings(market: Panel, models: DatedModels) -> None:
    rng = np.random.default_rng(1)
    for leverage, cap in ((0.5, None), (1.0, 0.1), (2.0, 0.2)):
        decide = JointCarry(models, CarryConfig(leverage=leverage, max_weight=cap))
        for row in (560, market.rows - 1):
            view = market.view(row)
            beta = np.nan_to_num(betas_as_of(models.as_of(view.known_at_ms), view))
            held = Holdings(np.where(view.tradable, 0.05 * rng.standard_normal(len(view.coins)), 0.0), 1e5)
            for weights in (decide(view), decide.from_holdings(view, held)):
                assert weights.any()
                assert abs(weights @ beta) < 1e-9
                assert np.abs(weights).sum() <= leverage + 1e-9
                assert np.abs(weights).max() <= (leverage if cap is None else cap) + 1e-12
                assert not weights[~view.tradable].any()


def test_the_aim_is_the_optimum_of_the_models_alpha(market: Panel, models: DatedModels) -> None:
    """No feasible book nearby is better, and the ranking by alpha shows through."""
    decide = JointCarry(models, CarryConfig(max_weight=None))
    view = market.view(600)
    weights = decide(view)
    forecast = forecast_as_of(models.as_of(view.known_at_ms), view)
    alpha, beta = forecast.alpha_total, betas_as_of(models.as_of(view.known_at_ms), view)
    risk = covariance_as_of(H, 2880.0, view)
    S = np.full((len(alpha), len(alpha)), np.nan)
    S[np.ix_(risk.known, risk.known)] = risk.covariance.dense()
    usable = np.flatnonzero(risk.known & np.isfinite(alpha) & view.tradable)

    def worth(w: FloatArray) -> float:
        held = w[usable]
        return float(alpha[usable] @ held - 0.5 * held @ S[np.ix_(usable, usable)] @ held)

    rng = np.random.default_rng(0)
    best = worth(weights)
    assert best > 0.0
    for _ in range(200):
        step = np.zeros(len(alpha))
        step[usable] = 0.01 * rng.standard_normal(len(usable))
        step[usable] -= beta[usable] * (beta[usable] @ step[usable]) / (beta[usable] @ beta[usable])
        other = weights + step
        other *= min(1.0, 1.0 / np.abs(other).sum())
        assert worth(other) <= best + 1e-12


def test_a_book_at_its_optimum_stays_and_dear_trading_moves_less(market: Panel, models: DatedModels) -> None:
    view = market.view(600)
    flat = Holdings(np.zeros(len(view.coins)), 1e5)
    cheap = JointCarry(models, CarryConfig(), CostAssumptions(fee_bps=0.0, half_spread_bps=0.0, kappa=0.0))
    dear = JointCarry(models, CarryConfig(), CostAssumptions(fee_bps=2.0, half_spread_bps=1.0, kappa=1.0))
    prohibitive = JointCarry(models, CarryConfig(), CostAssumptions(fee_bps=500.0))
    np.testing.assert_allclose(cheap.from_holdings(view, flat), cheap(view), atol=1e-7)
    begun = dear.from_holdings(view, flat)
    assert 0.0 < np.abs(begun).sum() < np.abs(cheap(view)).sum()
    assert not prohibitive.from_holdings(view, flat).any()
    no_impact = JointCarry(models, CarryConfig(), CostAssumptions(fee_bps=2.0, half_spread_bps=1.0, kappa=0.0))
    begun = no_impact.from_holdings(view, flat)
    np.testing.assert_allclose(no_impact.from_holdings(view, Holdings(begun, 1e5)), begun, atol=1e-9)


def test_more_capital_trades_a_smaller_part_of_itself(market: Panel, models: DatedModels) -> None:
    view = market.view(600)
    decide = JointCarry(models)
    moved = [
        float(np.abs(decide.from_holdings(view, Holdings(np.zeros(len(view.coins)), usd))).sum())
        for usd in (1e4, 1e6, 1e9)
    ]
    assert moved[0] > moved[1] > moved[2] > 0.0


def test_a_model_trained_later_never_decides(market: Panel, models: DatedModels, first_row: int) -> None:
    decide = JointCarry(models)
    with pytest.raises(NoModelYet):
        decide(market.view(first_row - 1))
    for k, start in enumerate(models.usable_from[:-1]):
        alone = JointCarry(DatedModels(models.models[: k + 1]))
        row = market.row_at(models.usable_from[k + 1]) - 1
        assert int(market.known_at_ms[row]) >= start
        np.testing.assert_array_equal(decide(market.view(row)), alone(market.view(row)))


def test_it_passes_the_leak_check(market: Panel, models: DatedModels) -> None:
    report = leak_check(market, JointCarry(models), moments=10)
    assert not report.leaks
    assert report.held >= 5


class Watched:
    """A decision that writes down what it is handed."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, Holdings]] = []

    def __call__(self, view: View) -> FloatArray:
        raise AssertionError("the driver keeps a book and must hand it over")

    def from_holdings(self, view: View, held: Holdings) -> FloatArray:
        self.seen.append((view.rows - 1, held))
        weights = np.zeros(len(view.coins))
        usable = np.flatnonzero(view.tradable)[:2]
        weights[usable] = (0.5, -0.5)[: len(usable)]
        return weights


def test_the_driver_hands_over_drifted_weights_and_the_equity_known_at_the_close(market: Panel) -> None:
    watched = Watched()
    config = BarBacktestConfig(capital_usd=1e5, fee_bps=0.0, half_spread_bps=0.0, kappa=0.0, min_order_usd=0.0)
    result = run_bar_backtest(market, watched, rebalance_hours=H, config=config)
    held = [(row, book) for row, book in watched.seen if market.universe[row].any()]
    assert not held[0][1].weights.any()
    assert held[0][1].equity_usd == 1e5
    first = int(np.searchsorted(market.known_at_ms, result.decision_ms[0]))
    row, book = held[1]
    a, b = np.flatnonzero(market.universe[first])[:2]
    mark = market.mark
    grown = 0.5 * mark[row, [a, b]] / mark[first, [a, b]] * np.array([1.0, -1.0])
    funding = np.nan_to_num(market.funding)[first + 1 : row, [a, b]]
    marks_before = mark[first : row - 1, [a, b]] / mark[first, [a, b]] * np.array([0.5, -0.5])
    equity = 1.0 + (grown - np.array([0.5, -0.5])).sum() - (marks_before * funding).sum()
    assert book.equity_usd == pytest.approx(1e5 * equity, rel=1e-12)
    np.testing.assert_allclose(book.weights[[a, b]], grown / equity, rtol=1e-12)


def test_a_decision_from_holdings_is_told_from_a_plain_one(models: DatedModels) -> None:
    assert isinstance(JointCarry(models), DecidesFromHoldings)
    assert not isinstance(targets, DecidesFromHoldings)


def test_planted_trends_and_carry_are_earned_at_a_fraction_of_the_first_forms_turnover() -> None:
    planted = SyntheticConfig(
        coins=30, hours=240 * 24, seed=3, funding_carried_by_price=0.0, momentum_strength=0.015, volume_usd_per_hour=2e6
    )
    panel = resample(synthetic_market(planted).panel, 4)
    full = run_bar_backtest(panel, JointCarry(walk_forward_in_run(panel, H, 720.0)), rebalance_hours=H)
    simple = run_bar_backtest(panel, targets, rebalance_hours=H)
    price, funding = full.pnl_usd[:, :2].sum(axis=0) / full.initial_capital_usd
    assert price > 0.5
    assert funding > 0.05
    assert full.sharpe() > 3.0
    assert full.turnover_per_year() < 0.7 * simple.turnover_per_year()
    assert full.accounting_error < 1e-9


def test_other_bars_than_the_models_are_refused(hourly_market: Panel, models: DatedModels) -> None:
    with pytest.raises(ForecastError, match="bars of 4 h"):
        JointCarry(models)(hourly_market.view())


def test_forms_and_models_that_contradict_each_other_are_refused(market: Panel, models: DatedModels) -> None:
    with pytest.raises(UsageError, match="needs trained models"):
        targets(market.view(), CarryConfig(model="joint"))
    with pytest.raises(UsageError, match="model is ewma and models were given"):
        decision_with_models(models, CarryConfig(model="ewma"))
    with pytest.raises(UsageError, match="max_weight"):
        CarryConfig(max_weight=0.0)


def test_too_few_usable_coins_leave_the_book_flat(market: Panel, models: DatedModels) -> None:
    assert not JointCarry(models, CarryConfig(min_coins=1000))(market.view()).any()


def test_betas_from_a_file_count_as_known_and_while_they_are_fresh() -> None:
    betas = FactorBetas.of(
        np.array([0, 8, 16]) * HOUR_MS, ("A", "B"), np.arange(6, dtype=np.float64).reshape(3, 2, 1) + 1.0
    )
    assert np.isnan(betas.at(-1, ("A",))).all()
    assert betas.at(8 * HOUR_MS, ("B", "C", "A"))[[0, 2], 0].tolist() == [4.0, 3.0]
    assert np.isnan(betas.at(8 * HOUR_MS, ("C",))).all()
    assert betas.at((16 + 16) * HOUR_MS, ("A",))[0, 0] == 5.0
    assert np.isnan(betas.at((16 + 16) * HOUR_MS + 1, ("A",))).all()


def flags(files: dict[str, Path]) -> list[str]:
    return [str(word) for pair in files.items() for word in pair]


def test_without_a_model_the_command_trains_on_the_way(
    market_csv: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], market: Panel
) -> None:
    words = [*flags(market_csv), "--H", "8", "--output", str(tmp_path / "r.csv"), "--json"]
    assert run_backtest(words) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["rebalance_hours"] == 8.0
    assert any("trained on the way every 720 h" in note for note in said["notes"])
    assert said["decisions"] > 50
    assert said["accounting_error"] < 1e-9


def test_the_command_trades_saved_models_and_a_factor_file(
    market_csv: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], models: DatedModels, market: Panel
) -> None:
    from slipstream.cli.bar_strategy import write_wide_csv
    from slipstream.cli.research_factors import Market
    from slipstream.core.factors.pca_spec import PCASpec

    folder = tmp_path / "models"
    save_models(models.models, folder)
    factor = Market.of(market).factor(PCASpec(K=30, H_hours=8))
    write_wide_csv(factor.beta.join(factor.stats), tmp_path / "pca.csv")
    three = Market.of(market).factor(PCASpec(K=30, H_hours=8, n_components=3))
    write_wide_csv(three.beta.join(three.stats), tmp_path / "pca3.csv")
    words = [*flags(market_csv), "--model-json", str(folder), "--output", str(tmp_path / "r.csv"), "--json"]
    found = []
    for extra in ([], ["--pca-csv", str(tmp_path / "pca.csv")], ["--pca-csv", str(tmp_path / "pca3.csv")]):
        assert run_backtest([*words, *extra]) == 0
        found.append(json.loads(capsys.readouterr().out))
    assert found[0]["sharpe"] == pytest.approx(found[1]["sharpe"], rel=1e-6), "the file holds the models' own factor"
    assert found[2]["sharpe"] != pytest.approx(found[0]["sharpe"], rel=1e-3)
    assert run_backtest([*words, "--H", "24"]) == 2
    assert "the models forecast over 8 h" in capsys.readouterr().err
    assert run_backtest([*words, "--model", "ewma"]) == 2
    assert "--model-json is of no use" in capsys.readouterr().err


def test_a_model_trained_after_the_data_is_refused(
    market_csv: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], models: DatedModels, market: Panel
) -> None:
    late = replace(models.models[-1], trained_through_ms=int(market.known_at_ms[-1]))
    (file,) = save_models([late], tmp_path)
    assert run_backtest([*flags(market_csv), "--model-json", str(file), "--output", str(tmp_path / "r.csv")]) == 2
    assert "after the last decision of the data" in capsys.readouterr().err
    assert not (tmp_path / "r.csv").exists()


def test_without_funding_the_models_expect_none_and_the_output_says_so(
    market_csv: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--returns-csv", str(market_csv["--returns-csv"]), "--H", "8", "--output", str(tmp_path / "r.csv")]
    assert run_backtest([*words, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert "no funding was given: funding features are off and no funding is expected" in said["notes"]
    assert "no volume was given: the market factor weighs all coins alike" in said["notes"]
    assert said["pnl_usd"]["funding"] == 0.0


def test_too_short_a_file_says_how_much_it_takes(
    market_csv: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = market_csv["--returns-csv"].read_text().splitlines(keepends=True)
    (tmp_path / "short.csv").write_text("".join(lines[:230]))
    words = ["--returns-csv", str(tmp_path / "short.csv"), "--output", str(tmp_path / "r.csv"), "--H", "8"]
    assert run_backtest(words) == 1
    assert "load a longer history" in capsys.readouterr().err
