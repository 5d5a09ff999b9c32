"""Gradient: its sides carry equal risk, young coins are not punished, and research and commands do what they say."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from slipstream.core.decision import NotEnoughHistory
from slipstream.core.frames import FrameError, panel_from_returns
from slipstream.core.panel import Panel, UniverseRule
from slipstream.core.portfolio.costs import TransactionCostModel
from slipstream.core.signals.liquidity import annual_volatility
from slipstream.errors import UsageError
from slipstream.strategies.gradient import (
    GradientConfig,
    compute_trend_strength,
    construct_gradient_portfolio,
    run_gradient_backtest,
    scores,
    targets,
    weights_from_scores,
)
from slipstream.strategies.gradient.cli import compute_signals, run_backtest
from slipstream.strategies.gradient.sizing import daily_returns, value_at_risk_sides

DAY_MS = 86_400_000


def frame_of(values: np.ndarray, hours: int = 4) -> pd.DataFrame:
    index = pd.date_range("2025-01-01", periods=len(values), freq=f"{hours}h", tz="UTC")
    return pd.DataFrame(values, index=index, columns=[f"C{i:02}" for i in range(values.shape[1])])


def walk(rows: int = 900, columns: int = 12, annual_volatility: float = 0.8, seed: int = 1) -> pd.DataFrame:
    """Log returns of independent four-hour random walks."""
    sigma = annual_volatility / np.sqrt(2191.5)
    return frame_of(sigma * np.random.default_rng(seed).standard_normal((rows, columns)))


# ---- weights ----


def test_both_sides_carry_the_same_risk_under_the_cap(market: Panel) -> None:
    for row in (350, 480, market.rows - 1):
        view = market.view(row)
        weights = targets(view)
        sigma = view.feature(annual_volatility, span_hours=GradientConfig().vol_span)[-1]
        risk = np.abs(weights) * np.nan_to_num(sigma)
        assert risk[weights > 0.0].sum() == pytest.approx(risk[weights < 0.0].sum(), rel=1e-12)
        assert 0.0 < np.abs(weights).sum() <= 2.0 + 1e-12


def test_gross_stays_under_the_cap_on_coins_of_80_percent_volatility() -> None:
    returns = walk()
    weights = construct_gradient_portfolio(compute_trend_strength(returns), returns)
    gross = weights.abs().sum(axis=1)
    assert gross.iloc[-300:].max() <= 2.0 + 1e-12
    # A side of volatility 1.0 a year on such coins needs gross 1.25 a side: the cap binds, and both sides give way.
    assert gross.iloc[-300:].mean() > 1.9
    side_risk = 0.8 * weights.iloc[-300:].clip(lower=0.0).sum(axis=1)
    assert side_risk.mean() == pytest.approx(0.8, rel=0.1)


def test_a_target_under_the_cap_is_met_in_annual_units() -> None:
    returns = walk()
    weights = construct_gradient_portfolio(compute_trend_strength(returns), returns, target_side_dollar_vol=0.2)
    late = weights.iloc[-300:]
    for side in (late.clip(lower=0.0), -late.clip(upper=0.0)):
        assert 0.8 * side.sum(axis=1).mean() == pytest.approx(0.2, rel=0.05)


def test_the_book_is_flat_when_one_side_is_empty() -> None:
    returns = walk()
    trend = compute_trend_strength(returns).abs()
    assert not construct_gradient_portfolio(trend, returns).to_numpy().any()


def test_a_young_coin_is_judged_by_the_horizons_it_has_lived_through() -> None:
    returns = walk(rows=1400, columns=2)
    returns["young"] = returns["C00"]
    returns.loc[returns.index[:1100], "young"] = np.nan
    score, parts = compute_trend_strength(returns, return_components=True)
    lived = [part["young"].iloc[-1] for part in parts.values() if np.isfinite(part["young"].iloc[-1])]
    # 1200 hours of life: horizons up to 512 h are whole, each after half as long again for its volatility.
    assert len(lived) == 7
    assert score["young"].iloc[-1] == pytest.approx(np.mean(lived), rel=1e-12)


def test_a_zero_filled_listing_gets_no_weight() -> None:
    returns = walk()
    padded = returns.copy()
    padded.iloc[:-12, 3] = 0.0
    padded.iloc[-12:, 3] = 0.05
    weights = construct_gradient_portfolio(compute_trend_strength(padded), padded)
    assert not weights["C03"].to_numpy().any()
    never = returns.assign(C03=0.0)
    assert not construct_gradient_portfolio(compute_trend_strength(never), never)["C03"].to_numpy().any()
    view = panel_from_returns(padded, rule=UniverseRule(0.0, 24)).view()
    assert targets(view)[3] == 0.0
    assert targets(view).any()


def test_the_frames_and_the_decision_agree_where_the_universe_is_open() -> None:
    returns = walk(seed=4)
    weights = construct_gradient_portfolio(compute_trend_strength(returns), returns)
    panel = panel_from_returns(returns, rule=UniverseRule(0.0, 4))
    for row in (400, 899):
        np.testing.assert_allclose(targets(panel.view(row + 1)), weights.iloc[row], atol=1e-12)


# ---- value at risk ----


def book_of_two_sides(random: np.random.Generator, days: int, coins: int) -> np.ndarray:
    """Daily returns with one strong common factor, shape (days, coins)."""
    market = 0.03 * random.standard_normal((days, 1))
    beta = 1.0 + 0.4 * random.standard_normal((1, coins))
    return market * beta + 0.03 * random.standard_normal((days, coins))


def test_five_percent_of_days_breach_the_value_at_risk_of_a_side() -> None:
    random = np.random.default_rng(12)
    config = GradientConfig(risk_method="var", max_gross=1e9)
    daily = book_of_two_sides(random, 60 + 2500, 20)
    breaches = []
    for day in range(60, len(daily)):
        score = random.standard_normal(20)
        weights = value_at_risk_sides(score, np.ones(20, dtype=bool), daily[day - 60 : day], config)
        sides = (weights > 0.0, weights < 0.0)
        breaches += [weights[side] @ daily[day, side] < -config.target_side_var for side in sides]
    assert 0.03 < np.mean(breaches) < 0.075


def test_the_sides_have_equal_value_at_risk_and_the_book_is_capped() -> None:
    random = np.random.default_rng(3)
    config = GradientConfig(risk_method="var", max_gross=1e9)
    daily = random.standard_normal((60, 20)) * 0.04
    # Longs and shorts that move against each other add up: the book would carry twice a side's risk.
    common = 0.04 * random.standard_normal((60, 1))
    daily = daily * 0.1 + common * np.where(np.arange(20) < 10, 1.0, -1.0)
    score = np.where(np.arange(20) < 10, 1.0, -1.0) * np.linspace(1.0, 2.0, 20)
    weights = value_at_risk_sides(score, np.ones(20, dtype=bool), daily, config)
    risk = [1.645 * (daily[:, side] @ weights[side]).std(ddof=1) for side in (weights > 0.0, weights < 0.0)]
    assert risk[0] == pytest.approx(risk[1], rel=0.2)
    assert 1.645 * (daily @ weights).std(ddof=1) == pytest.approx(1.5 * config.target_side_var, rel=0.1)


def test_sixty_days_are_sixty_different_whole_days() -> None:
    hours = np.arange(1, 24 * 70 + 6)
    log_return = np.log1p(hours[:, None] * 1e-6)
    found = daily_returns(log_return, int(hours[-1]) * 3_600_000, 1, 60)
    assert found.shape == (60, 1)
    whole_days = np.expm1(log_return[: 24 * 70].reshape(70, 24).sum(axis=1))
    np.testing.assert_allclose(found[:, 0], whole_days[10:], rtol=1e-12)


def test_value_at_risk_without_enough_days_is_an_error_and_not_a_guess() -> None:
    short = walk(rows=150)
    with pytest.raises(NotEnoughHistory, match="30 whole days"):
        construct_gradient_portfolio(compute_trend_strength(short), short, risk_method="var")
    with pytest.raises(NotEnoughHistory, match="there are 20"):
        value_at_risk_sides(np.ones(4), np.ones(4, dtype=bool), np.ones((20, 4)), GradientConfig(risk_method="var"))


def test_research_by_value_at_risk_is_the_decision_row_by_row() -> None:
    returns = walk(rows=600)
    config = GradientConfig(risk_method="var")
    weights = construct_gradient_portfolio(compute_trend_strength(returns), returns, risk_method="var")
    panel = panel_from_returns(returns, rule=UniverseRule(0.0, 4))
    assert not weights.iloc[:170].to_numpy().any()
    for row in (300, 599):
        view = panel.view(row + 1)
        np.testing.assert_allclose(weights_from_scores(scores(view)[-1], view, config), weights.iloc[row], atol=1e-12)
        assert weights.iloc[row].any()


# ---- research backtest ----


def plain_backtest(
    returns: pd.DataFrame, weights: pd.DataFrame, funding: pd.DataFrame, fee: float, impact: float, every: int
) -> tuple[pd.Series, pd.Series]:
    """Net and gross simple returns of a book, one bar at a time."""
    held = pd.Series(0.0, index=returns.columns)
    cost = 0.0
    net, gross = {}, {}
    for moment in returns.index:
        move = np.expm1(returns.loc[moment]).fillna(0.0)
        gross[moment] = float((held * move).sum() - (held * funding.loc[moment].fillna(0.0)).sum())
        net[moment] = gross[moment] - cost
        held = held * (1.0 + move) / (1.0 + net[moment])
        cost = 0.0
        if (moment.value // 10**6) % (every * 3_600_000) == 0:
            traded = (weights.loc[moment] - held).abs()
            cost = float(fee * traded.sum() + impact * (traded**1.5).sum())
            held = weights.loc[moment]
    return pd.Series(net), pd.Series(gross)


@pytest.mark.parametrize("every", [4, 12])
def test_the_research_backtest_is_that_of_a_plain_reference(every: int) -> None:
    returns = walk(rows=500, columns=8, seed=6)
    random = np.random.default_rng(6)
    returns = returns.mask(random.random(returns.shape) < 0.02)
    funding = frame_of(1e-4 * random.standard_normal(returns.shape)).mask(random.random(returns.shape) < 0.02)
    trend = compute_trend_strength(returns)
    weights = construct_gradient_portfolio(trend, returns, top_n=3)
    costs = TransactionCostModel(np.full(8, 3e-4), np.full(8, 1e-3), np.zeros(8))
    result = run_gradient_backtest(returns, trend, funding=funding, cost_model=costs, rebalance_hours=every, top_n=3)
    net, gross = plain_backtest(returns, weights, funding, 3e-4, 1e-3, every)
    begun = result.portfolio_returns.notna()
    assert begun.sum() > 400
    np.testing.assert_allclose(result.portfolio_returns[begun], net[begun], rtol=0, atol=1e-12)
    np.testing.assert_allclose(result.portfolio_returns_gross[begun], gross[begun], rtol=0, atol=1e-12)
    assert not net[~begun].any()
    assert result.cumulative_returns().iloc[-1] == pytest.approx((1.0 + net).prod() - 1.0, rel=1e-10)


def test_a_row_of_returns_is_earned_by_the_weights_of_the_row_before() -> None:
    """Weights equal to the bar's own return would score a Sharpe of hundreds if they earned that bar."""
    returns = walk(rows=2000, columns=20, seed=8)
    result = run_gradient_backtest(returns, trend=returns)
    years = result.portfolio_returns.notna().sum() / 2191.5
    assert abs(result.annualized_sharpe()) < 3.0 / np.sqrt(years)


def test_sharpe_is_annualised_by_the_bar() -> None:
    returns = walk(seed=9)
    result = run_gradient_backtest(returns)
    net = result.portfolio_returns.dropna()
    assert result.annualized_sharpe() == pytest.approx(net.mean() / net.std() * np.sqrt(2191.5), rel=1e-12)
    assert result.annualized_sharpe(365.25) == pytest.approx(net.mean() / net.std() * np.sqrt(365.25), rel=1e-12)


def test_simple_returns_are_taken_as_such() -> None:
    logs = walk(rows=400)
    from_logs = run_gradient_backtest(logs)
    from_simple = run_gradient_backtest(np.expm1(logs), returns_kind="simple")
    pd.testing.assert_series_equal(from_logs.portfolio_returns, from_simple.portfolio_returns, atol=1e-12)


def test_positive_funding_is_paid_by_longs() -> None:
    returns = walk(rows=400)
    free = run_gradient_backtest(returns)
    paying = run_gradient_backtest(returns, funding=returns * 0.0 + 1e-5)
    net_long = free.weights.shift(1).sum(axis=1)
    paid = (free.portfolio_returns - paying.portfolio_returns).dropna()
    np.testing.assert_allclose(paid, 1e-5 * net_long[paid.index], atol=1e-15)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"returns_kind": "percent"}, UsageError),
        ({"rebalance_hours": 6}, UsageError),
        ({"top_n": 0}, UsageError),
        ({"risk_method": "hope"}, UsageError),
        ({"cost_model": TransactionCostModel.create_default(3)}, UsageError),
        ({"funding": frame_of(np.zeros((10, 12)))}, FrameError),
        ({"trend": frame_of(np.zeros((10, 12)))}, FrameError),
        ({"top": 3}, TypeError),
    ],
)
def test_what_cannot_be_run_is_refused(arguments: dict[str, object], error: type[Exception]) -> None:
    with pytest.raises(error):
        run_gradient_backtest(walk(rows=300), **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("option", [{"normalization_method": "garch"}, {"scale": "log"}, {"lookbacks": (0,)}])
def test_an_unknown_option_of_the_score_is_refused(option: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        compute_trend_strength(walk(rows=100), **option)  # type: ignore[call-overload]


def test_missing_rows_of_a_frame_are_missing_bars() -> None:
    whole = walk(rows=400)
    holes = whole.copy()
    holes.iloc[[150, 151, 290]] = np.nan
    dropped = holes.drop(index=whole.index[[150, 151, 290]])
    pd.testing.assert_frame_equal(
        compute_trend_strength(dropped), compute_trend_strength(holes).loc[dropped.index], check_freq=False
    )


# ---- commands ----


def words_of(market_csv: dict[str, Path], *flags: str) -> list[str]:
    return [str(word) for flag in flags for word in (flag, market_csv[flag])]


def test_the_command_annualises_by_the_bar(
    market_csv: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The classic fault: hourly or daily periods on four-hour returns, a Sharpe ratio of twice the true one."""
    output = tmp_path / "returns.csv"
    assert run_backtest([*words_of(market_csv, "--returns-csv"), "--returns-output", str(output), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    written = pd.read_csv(output, index_col="known_at", parse_dates=True)
    for column, key in (("portfolio_return", "sharpe"), ("portfolio_return_gross", "sharpe_gross")):
        expected = written[column].mean() / written[column].std() * np.sqrt(2191.5)
        assert said[key] == pytest.approx(expected, rel=1e-9)
    assert said["sharpe_se"] == pytest.approx(np.sqrt(2191.5 / len(written)), rel=0.01)
    assert said["total_return"] == pytest.approx((1.0 + written["portfolio_return"]).prod() - 1.0, rel=1e-9)


def test_the_command_says_what_it_was_not_given(
    market_csv: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = words_of(market_csv, "--returns-csv")
    assert run_backtest([*flags, "--returns-output", str(tmp_path / "a.csv")]) == 0
    said = capsys.readouterr().out
    assert "no funding was given: funding P&L is 0" in said
    assert "no volume was given: impact is 0" in said
    assert "Sharpe (net)" in said
    assert "+-" in said
    assert (
        run_backtest([*words_of(market_csv, *market_csv), "--returns-output", str(tmp_path / "b.csv"), "--json"]) == 0
    )
    figures = json.loads(capsys.readouterr().out)
    assert figures["pnl_usd"]["funding"] != 0.0
    assert figures["pnl_usd"]["impact"] < 0.0
    assert not any("was given" in note for note in figures["notes"])


def test_trading_the_written_scores_is_trading_the_strategy(
    market_csv: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = words_of(market_csv, "--returns-csv")
    trend, first, second = (tmp_path / name for name in ("trend.csv", "first.csv", "second.csv"))
    assert compute_signals([*flags, "--output", str(trend)]) == 0
    assert run_backtest([*flags, "--returns-output", str(first)]) == 0
    assert run_backtest([*flags, "--signals-csv", str(trend), "--returns-output", str(second)]) == 0
    assert first.read_bytes() == second.read_bytes()


def test_flags_reach_the_decision(
    market_csv: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [*words_of(market_csv, "--returns-csv"), "--returns-output", str(tmp_path / "a.csv"), "--json"]
    found = {}
    for name, extra in {
        "plain": [],
        "gross": ["--max-gross", "0.5"],
        "fee": ["--fee-bps", "20"],
        "lookbacks": ["--lookbacks", "8", "16"],
        "var": ["--risk-method", "var"],
    }.items():
        assert run_backtest([*flags, *extra]) == 0
        found[name] = json.loads(capsys.readouterr().out)
    assert found["gross"]["config"]["max_gross"] == 0.5
    assert found["fee"]["config"]["backtest"]["fee_bps"] == 20.0
    assert found["gross"]["average_gross"] < 0.51 < found["plain"]["average_gross"]
    assert found["fee"]["pnl_usd"]["fees"] < 4.0 * found["plain"]["pnl_usd"]["fees"]
    assert found["lookbacks"]["turnover_per_year"] > 1.5 * found["plain"]["turnover_per_year"]
    assert found["var"]["average_gross"] != found["plain"]["average_gross"]


def test_a_lookback_shorter_than_a_bar_is_left_out_and_noted(
    market_csv: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [*words_of(market_csv, "--returns-csv"), "--output", str(tmp_path / "trend.csv")]
    assert compute_signals([*flags, "--lookbacks", "2", "8", "16"]) == 0
    assert capsys.readouterr().out.count("note: dropped spans shorter than one bar of 4 h: 2 h") == 1


def test_without_a_file_the_command_names_the_one_that_makes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for command in (compute_signals, run_backtest):
        assert command([]) == 2
        assert "slipstream data export --data FILE --interval 4h" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--top-n", "0"], "at least one coin a side"),
        (["--rebalance-hours", "6"], "does not fit bars of 4 h"),
        (["--lookbacks", "8", "--signals-csv", "x.csv"], "brings its own scores"),
        (["--funding-csv", "absent.csv"], "no such file"),
        (["--config", "absent.yml"], "no such configuration file"),
        (["--nonsense", "1"], "nonsense"),
    ],
)
def test_a_request_that_cannot_be_met_ends_with_code_2_and_writes_nothing(
    market_csv: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    extra: list[str],
    message: str,
) -> None:
    flags = [*words_of(market_csv, "--returns-csv"), "--returns-output", str(tmp_path / "out" / "a.csv")]
    assert run_backtest([*flags, *extra]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_funding_in_percent_is_refused(
    market_csv: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    funding = pd.read_csv(market_csv["--funding-csv"], index_col=0)
    (100.0 * funding).to_csv(tmp_path / "percent.csv")
    flags = [*words_of(market_csv, "--returns-csv"), "--funding-csv", str(tmp_path / "percent.csv")]
    assert run_backtest([*flags, "--returns-output", str(tmp_path / "a.csv")]) == 2
    assert "not percent" in capsys.readouterr().err


def test_an_interrupt_leaves_the_old_output(
    market_csv: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "returns.csv"
    output.write_text("old")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", interrupted)
    assert run_backtest([*words_of(market_csv, "--returns-csv"), "--returns-output", str(output)]) == 130
    assert [path.name for path in tmp_path.iterdir()] == ["returns.csv"]
    assert output.read_text() == "old"


def test_the_universe_rule_holds_for_files_too(market: Panel) -> None:
    view = replace(market, universe=np.zeros_like(market.universe)).view()
    assert not targets(view).any()
