"""Carry: neutral to the market, paid by those who want leverage, and honest about what was not recorded."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from slipstream.core.bars import resample
from slipstream.core.factors.market import market_model
from slipstream.core.forecast.funding import expected_funding
from slipstream.core.panel import Panel
from slipstream.lake import load_panel
from slipstream.lake.synthetic import SyntheticConfig, synthetic_market
from slipstream.strategies.bar_backtest import run_bar_backtest
from slipstream.strategies.carry import CarryConfig, clipped, targets
from slipstream.strategies.carry.cli import compute_signals, run_backtest
from wide_files import export_csv


@pytest.mark.parametrize("leverage", [0.5, 1.0, 3.0])
def test_the_book_is_neutral_to_its_betas_at_the_leverage_asked_for(market: Panel, leverage: float) -> None:
    for row in (300, 420, market.rows - 1):
        view = market.view(row)
        weights = targets(view, CarryConfig(leverage=leverage))
        beta = np.nan_to_num(view.feature(market_model, window_hours=720)[-1, 0])
        assert abs(weights @ beta) < 1e-6
        assert np.abs(weights).sum() == pytest.approx(leverage, rel=1e-12)


def test_a_coin_that_pays_more_is_held_less(market: Panel) -> None:
    row = 500
    usual = targets(market.view(row))
    coin = int(np.argmax(usual))
    funding = market.funding.copy()
    funding[:, coin] += 2e-4
    assert targets(replace(market, funding=funding).view(row))[coin] < 0.0 < usual[coin]


def test_a_missing_settlement_is_not_read_as_zero(market: Panel) -> None:
    funding = np.full_like(market.funding, 1e-4)
    funding[200, 2] = np.nan
    expected = replace(market, funding=funding).view().feature(expected_funding, span_hours=168.0)
    np.testing.assert_allclose(expected[400], 1e-4, rtol=1e-12)
    zeroed = np.where(np.isnan(funding), 0.0, funding)
    lower = replace(market, funding=zeroed).view().feature(expected_funding, span_hours=168.0)
    assert lower[202, 2] < 0.98e-4


def test_the_settlement_of_the_close_is_expected_only_from_the_next_row_on(market: Panel) -> None:
    funding = np.zeros_like(market.funding)
    funding[300] = 1e-3
    expected = replace(market, funding=funding).view().feature(expected_funding, span_hours=168.0)
    assert not expected[300].any()
    assert (expected[301] > 0.0).all()


def test_without_any_funding_the_book_is_flat(market: Panel) -> None:
    assert not targets(replace(market, funding=np.zeros_like(market.funding)).view()).any()


def test_too_few_coins_leave_the_book_flat(market: Panel) -> None:
    assert not targets(market.view(), CarryConfig(min_coins=1000)).any()


def test_one_squeeze_is_not_the_whole_book() -> None:
    ordinary = np.linspace(-1.0, 1.0, 21)
    squeezed = np.append(ordinary, 400.0)
    assert clipped(squeezed, 5.0).max() < 4.0
    np.testing.assert_array_equal(clipped(squeezed, 5.0)[:-1], ordinary)


def test_the_few_that_left_the_base_rate_are_the_signal_and_not_clipped() -> None:
    rates = np.array([1.25e-5] * 9 + [3e-4])
    np.testing.assert_array_equal(clipped(rates, 5.0), rates)


def test_planted_carry_is_collected() -> None:
    """On a market whose prices give nothing of the funding back, the funding leg is earned and is most of the gain."""
    planted = SyntheticConfig(coins=40, hours=200 * 24, seed=2, funding_carried_by_price=0.0, momentum_strength=0.0)
    result = run_bar_backtest(synthetic_market(planted).panel, targets, rebalance_hours=24)
    years = len(result.net_return) / 8766.0
    assert result.pnl_usd[:, 1].sum() / result.initial_capital_usd / years > 0.05
    assert result.accounting_error < 1e-9


def test_the_command_collects_funding_and_takes_the_holding_period(
    market_csv: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [str(word) for pair in market_csv.items() for word in pair]
    found = {}
    for hours in ("8", "48"):
        output = tmp_path / f"{hours}.csv"
        assert (
            run_backtest(
                ["--", *flags, "--model", "ewma", "--H", hours, "--leverage", "2", "--output", str(output), "--json"]
            )
            == 0
        )
        found[hours] = json.loads(capsys.readouterr().out)
    assert found["8"]["rebalance_hours"] == 8.0
    assert found["8"]["decisions"] == pytest.approx(6 * found["48"]["decisions"], rel=0.05)
    assert found["48"]["pnl_usd"]["funding"] > 0.0
    assert found["48"]["average_gross"] == pytest.approx(2.0, rel=0.05)


def test_without_a_funding_file_the_book_stays_flat_and_the_output_says_why(
    market_csv: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    returns = ["--returns-csv", str(market_csv["--returns-csv"])]
    assert run_backtest([*returns, "--model", "ewma", "--output", str(tmp_path / "a.csv"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["sharpe"] == said["total_return"] == said["turnover_per_year"] == 0.0
    assert "no funding was given: funding P&L is 0" in said["notes"]
    assert "no decision held anything: every return is 0" in said["notes"]
    assert said["bars"] > 400


def test_expected_funding_without_a_funding_file_is_refused(
    market_csv: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--returns-csv", str(market_csv["--returns-csv"]), "--output", str(tmp_path / "b.csv")]
    assert compute_signals(flags) == 2
    assert "--funding-csv" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_signals_command_writes_the_expected_funding(
    market: Panel, market_csv: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [str(word) for name in ("--returns-csv", "--funding-csv") for word in (name, market_csv[name])]
    assert compute_signals([*flags, "--output", str(tmp_path / "funding.csv")]) == 0
    rows = (tmp_path / "funding.csv").read_text().splitlines()
    assert rows[0] == ",".join(["known_at", *market.coins])
    assert len(rows) == market.rows + 1


def test_on_recorded_history_the_funding_leg_is_earned(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Eight months of 60 coins: a wrong sign loses the leg, a wrong unit makes it eight or a hundred times as large."""
    panel = resample(load_panel(shared / "data" / "hourly" / "hyperliquid_perps_1h.parquet"), 4)
    returns, funding, volume = (str(file) for file in export_csv(panel, tmp_path, "4h"))
    flags = ["--returns-csv", returns, "--funding-csv", funding, "--volume-csv", volume, "--capital", "100000"]
    assert run_backtest([*flags, "--model", "ewma", "--output", str(tmp_path / "carry.csv"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    years = said["bars"] * said["bar_hours"] / 8766.0
    assert 0.05 < said["pnl_usd"]["funding"] / 100_000.0 / years < 0.5
    assert said["average_gross"] == pytest.approx(1.0, abs=0.05)
    assert said["accounting_error"] < 1e-9
