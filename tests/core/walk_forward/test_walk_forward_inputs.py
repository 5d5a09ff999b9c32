"""What a walk-forward backtest accepts, what it refuses and how it says so, and whole lots."""

from __future__ import annotations

import logging
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from slipstream.core.backtest.frames import read_table
from slipstream.errors import UsageError
from slipstream.portfolio import BacktestConfig, FactorCovariance, TransactionCostModel, run_backtest

COINS = ["BTC", "ETH", "kPEPE", "SOL", "DOGE", "ARB"]
STAMPS = pd.date_range("2024-01-01 01:00", periods=121, freq="h", tz="UTC")
S6 = np.diag(np.full(6, 3e-4))


def frames(market: Any, make: Any) -> dict[str, Any]:
    return {
        "alpha_price": make(market.alpha),
        "alpha_funding": make(np.zeros_like(market.alpha)),
        "realized_returns": make(market.returns),
        "realized_funding": make(market.funding),
    }


def as_pandas(values: np.ndarray, *, naive: bool = False) -> pd.DataFrame:
    index = STAMPS.tz_localize(None) if naive else STAMPS
    return pd.DataFrame(values, index=index[: len(values)], columns=COINS)


def as_polars(values: np.ndarray) -> pl.DataFrame:
    stamps = pl.Series("known_at", STAMPS.tz_localize(None).to_numpy().astype("datetime64[ms]"))
    return pl.DataFrame({"known_at": stamps, **{coin: values[:, k] for k, coin in enumerate(COINS)}})


def test_pandas_polars_and_bare_arrays_give_the_same_book(market: Any) -> None:
    bare = market.run()

    def as_text(values: np.ndarray) -> pd.DataFrame:
        return as_pandas(values).set_axis([f"{stamp:%Y-%m-%dT%H:%M:%SZ}" for stamp in STAMPS], axis=0)

    for make in (as_pandas, as_polars, as_text, lambda values: as_pandas(values, naive=True)):
        other = run_backtest(
            market.config, beta=market.beta, S=market.S, cost_model=market.model, **frames(market, make)
        )
        np.testing.assert_array_equal(other.equity_usd, bare.equity_usd)
        np.testing.assert_array_equal(other.weights, bare.weights)
        assert list(other.positions.columns) == COINS
        assert other.time_ms[0] == STAMPS[8].value // 10**6


def test_columns_are_matched_by_name_and_a_coin_without_returns_is_never_traded(market: Any) -> None:
    given = frames(market, as_pandas)
    straight = run_backtest(market.config, beta=market.beta, S=market.S, cost_model=market.model, **given)
    given["alpha_price"] = given["alpha_price"][COINS[::-1]].assign(ZZZ=9.0)
    given["alpha_funding"] = given["alpha_funding"].assign(ZZZ=0.0)
    beta = pd.Series(dict(zip(COINS, market.beta, strict=True)) | {"ZZZ": 1.0})
    S = FactorCovariance(np.vstack([market.S.exposures, [0.0, 0.0]]), np.append(market.S.idio_var, 1e-4))
    model = TransactionCostModel(
        np.append(market.model.fee_rate, 0.0), np.append(market.model.impact_coef, 0.0), np.zeros(7)
    )
    shuffled = run_backtest(market.config, beta=beta, S=S, cost_model=model, **given)
    assert shuffled.assets == (*COINS, "ZZZ")
    assert not shuffled.weights[:, 6].any()
    np.testing.assert_array_equal(shuffled.equity_usd, straight.equity_usd)


def test_a_text_a_date_and_a_datetime_name_the_same_moment(market: Any) -> None:
    given = frames(market, as_pandas)
    starts = (
        "2024-01-02",
        date(2024, 1, 2),
        datetime(2024, 1, 2),
        datetime(2024, 1, 2, tzinfo=UTC),
        np.datetime64("2024-01-02"),
        pd.Timestamp("2024-01-02T01:00+01:00"),
    )
    firsts = {
        int(
            run_backtest(
                BacktestConfig(H=4, start_date=start, min_history_hours=0, use_costs=False),
                beta=market.beta,
                S=market.S,
                **given,
            ).time_ms[0]
        )
        for start in starts
    }
    assert firsts == {int(datetime(2024, 1, 2, tzinfo=UTC).timestamp() * 1000)}


def test_a_row_left_out_of_the_returns_is_a_row_without_returns(market: Any) -> None:
    given = frames(market, as_pandas)
    whole = market.returns.copy()
    whole[50] = np.nan
    blank = run_backtest(
        market.config,
        beta=market.beta,
        S=market.S,
        cost_model=market.model,
        **{**given, "realized_returns": as_pandas(whole)},
    )
    given["realized_returns"] = given["realized_returns"].drop(STAMPS[50])
    left_out = run_backtest(market.config, beta=market.beta, S=market.S, cost_model=market.model, **given)
    np.testing.assert_array_equal(left_out.equity_usd, blank.equity_usd)
    assert left_out.metrics["n_frozen"] > 0


def test_alphas_in_units_of_sigma_are_multiplied_by_it(market: Any) -> None:
    sigma = np.full_like(market.alpha, 0.02) * np.arange(1, 7)
    scaled = market.but(alpha=market.alpha / sigma).run(vol_scale={"price": sigma})
    np.testing.assert_allclose(scaled.equity_usd, market.run().equity_usd, rtol=1e-8)
    by_both = market.but(alpha=market.alpha / sigma).run(vol_scale=sigma)
    np.testing.assert_array_equal(by_both.equity_usd, scaled.equity_usd)


def test_plain_lists_are_read_like_arrays(market: Any) -> None:
    prices, lots = np.full_like(market.alpha, 20.0), market.but(use_discrete_lots=True)
    listed = lots.but(beta=market.beta.tolist()).run(prices=prices, sz_decimals=[1] * 6)
    np.testing.assert_array_equal(listed.equity_usd, lots.run(prices=prices, sz_decimals=np.full(6, 1)).equity_usd)


def test_alpha_is_the_price_forecast_minus_the_funding_forecast(market: Any) -> None:
    split = run_backtest(
        market.config,
        market.alpha + 0.001,
        np.full_like(market.alpha, 0.001),
        market.beta,
        market.S,
        market.returns,
        market.funding,
        market.model,
    )
    np.testing.assert_allclose(split.equity_usd, market.run().equity_usd, rtol=1e-8)


def test_betas_may_change_over_time_and_several_factors_are_neutralised_at_once(market: Any) -> None:
    rng = np.random.default_rng(5)
    over_time = rng.uniform(0.5, 1.5, market.alpha.shape)
    result = market.but(beta=over_time).run()
    exposure = (result.weights * over_time[8:-1:4]).sum(axis=1)
    assert np.abs(exposure).max() < 1e-6
    np.testing.assert_allclose(result.trades["beta_exposure"], exposure, atol=1e-12)
    three = rng.normal(0.0, 1.0, (6, 3))
    assert np.abs(market.but(beta=three).run().weights @ three).max() < 1e-6


def test_limits_hold_just_after_every_trade(market: Any) -> None:
    result = market.but(leverage=0.8, max_weight=0.3).run()
    assert result.trades["leverage"].max() <= 0.8 + 1e-9
    assert np.abs(result.weights).max() <= 0.3 + 1e-12
    assert result.trades["leverage"].max() > 0.5


def test_whole_lots_are_whole_and_keep_the_hedge(market: Any) -> None:
    prices = 20.0 * np.cumprod(1.0 + market.returns, axis=0)
    decimals = np.array([0, 1, 2, 0, 1, 3])
    small = market.but(initial_capital=20_000.0, use_discrete_lots=True, use_costs=False)
    result = small.run(prices=prices, sz_decimals=decimals)
    rows = np.arange(8, 120, 4)
    units = result.weights * result.equity_usd[result.decision_index][:, None] / prices[rows]
    lots = units * 10.0**decimals
    np.testing.assert_allclose(lots, np.rint(lots), atol=1e-6)
    assert result.metrics["n_lots_missed"] == 0
    assert result.trades["beta_exposure"].abs().max() <= 0.01 + 1e-6
    assert result.trades["leverage"].max() <= 1.0 + 10.0 / 20_000.0
    traded = np.abs(result.notional_usd)
    closing = (result.weights == 0.0) & (traded > 0.0)
    assert traded[(traded > 0.0) & ~closing].min() >= 10.0
    assert result.trades["leverage"].mean() > 0.5


def test_whole_lots_hedge_a_frozen_position(market: Any) -> None:
    coin = int(np.flatnonzero(market.but(max_weight=0.3).run().weights[0])[0])
    returns = market.returns.copy()
    returns[11:14, coin] = np.nan
    prices = 20.0 * np.cumprod(1.0 + np.nan_to_num(returns), axis=0)
    lots = market.but(returns=returns, initial_capital=20_000.0, use_discrete_lots=True, max_weight=0.3)
    result = lots.run(prices=prices, sz_decimals=np.full(6, 1))
    assert result.metrics["n_frozen"] == 3
    assert result.weights[1, coin] != 0.0 == result.notional_usd[1, coin]
    assert abs(result.weights[1] @ market.beta) <= 0.01 + 1e-6
    assert result.metrics["n_lots_missed"] == result.metrics["n_failed"] == 0


def test_a_coin_without_a_price_is_not_traded_in_lots_and_stays_as_it_is(market: Any) -> None:
    lots = market.but(initial_capital=20_000.0, use_discrete_lots=True, max_weight=0.3)
    prices = 20.0 * np.cumprod(1.0 + market.returns, axis=0)
    held = int(np.flatnonzero(lots.run(prices=prices, sz_decimals=[1] * 6).weights[4])[0])
    prices[8 + 5 * 4, held] = np.nan
    result = lots.run(prices=prices, sz_decimals=[1] * 6)
    assert result.weights[4, held] != 0.0 == result.notional_usd[5, held]
    assert result.weights[5, held] != 0.0
    assert np.abs(result.notional_usd[5]).sum() > 0.0
    assert abs(result.weights[5] @ market.beta) <= 0.01 + 1e-6


def test_lots_need_a_size(market: Any) -> None:
    lots = market.but(use_discrete_lots=True)
    with pytest.raises(UsageError, match="prices and sz_decimals together"):
        lots.run(prices=np.ones_like(market.alpha))
    model = TransactionCostModel(np.zeros(6), np.zeros(6), np.array([10.0, 10.0, 0.0, 10.0, 10.0, 10.0]))
    with pytest.raises(UsageError, match="whole lots of 2 have no size"):
        lots.but(model=model).run()


def test_no_covariance_uses_trailing_variances_and_says_so(market: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="slipstream"):
        result = market.but(S=None).run()
    assert "trailing variances" in caplog.text
    variances = np.nanvar(market.returns[:9], axis=0, ddof=1) * 4
    first = market.but(S=np.diag(variances)).run()
    np.testing.assert_allclose(result.weights[0], first.weights[0], atol=1e-8)


def test_no_cost_model_is_warned_about_and_no_costs_are_not(market: Any) -> None:
    with pytest.warns(UserWarning, match="no cost_model given: 2 bp"):
        market.but(model=None).run()
    market.but(model=None, use_costs=False).run()


BAD = {
    "a column twice": (lambda f: f.set_axis([*COINS[:5], "BTC"], axis=1), "alpha_price has the column 'BTC' twice"),
    "a time twice": (
        lambda f: f.set_axis(STAMPS[:3].append(STAMPS[2:120]), axis=0),
        r"alpha_price row 3 \(2024-01-01 03:00 UTC\) repeats a time",
    ),
    "unsorted": (lambda f: f.iloc[::-1], "alpha_price row 1 .* is earlier than the row before; sort the rows"),
    "between the rows": (
        lambda f: f.shift(freq="30min"),
        r"alpha_price row 0 \(2024-01-01 01:30 UTC\) lies between two rows",
    ),
    "numbers for times": (lambda f: f.reset_index(drop=True), "alpha_price: its index holds numbers"),
    "infinite": (
        lambda f: f.replace(f.iloc[3, 1], np.inf),
        r"alpha_price row 3 \(2024-01-01 04:00 UTC\): the value for ETH is infinite",
    ),
    "text": (lambda f: f.astype(object).assign(BTC="much"), "alpha_price holds something that is not a number"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_table_that_cannot_be_used_is_refused_with_its_name_row_and_coin(what: str, market: Any) -> None:
    spoil, message = BAD[what]
    given = frames(market, as_pandas)
    given["alpha_price"] = spoil(given["alpha_price"])
    with pytest.raises(ValueError, match=message) as caught:
        run_backtest(market.config, beta=market.beta, S=market.S, cost_model=market.model, **given)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, UsageError)


def test_returns_that_cannot_be_are_refused(market: Any) -> None:
    given = frames(market, as_pandas)
    given["realized_returns"] = as_pandas(np.where(np.arange(121)[:, None] == 7, -1.5, market.returns))
    with pytest.raises(
        ValueError, match=r"realized_returns row 7 .* the value for BTC is -1.5; a simple return is above -1"
    ):
        run_backtest(market.config, beta=market.beta, S=market.S, cost_model=market.model, **given)


def test_forecasts_on_another_clock_than_the_decisions_are_an_error_and_not_a_flat_line(market: Any) -> None:
    given = frames(market, as_pandas)
    given["alpha_price"] = given["alpha_price"].iloc[1::4]
    with pytest.raises(ValueError, match="no forecast falls on a decision: decisions are at 2024-01-01 09:00 UTC"):
        run_backtest(market.config, beta=market.beta, S=market.S, cost_model=market.model, **given)


def test_a_covariance_that_begins_too_late_is_an_error(market: Any) -> None:
    late = {STAMPS[30]: S6}
    with pytest.raises(ValueError, match="S holds no matrix known at the decision of 2024-01-01 09:00 UTC"):
        run_backtest(market.config, beta=market.beta, S=late, cost_model=market.model, **frames(market, as_pandas))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"H": 0}, "H is 0; it must be a positive number"),
        ({"H": 8, "initial_capital": -1.0}, "initial_capital is -1.0"),
        ({"H": 8, "returns_kind": "percent"}, 'use "simple" or "log"'),
        ({"H": 8, "fill_delay_hours": 8}, "fill a decision before the next"),
        ({"H": 8, "start_date": "soon"}, "give an ISO date or time"),
        ({"H": 8, "start_date": "2024-02-01", "end_date": "2024-01-01"}, "end_date 2024-01-01 is not after"),
        ({"H": 8, "delist_after_bars": 0}, "delist_after_bars is 0"),
    ],
)
def test_a_config_that_makes_no_sense_is_refused_at_once(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        BacktestConfig(**changes)


def test_shapes_and_steps_that_do_not_fit_are_refused(market: Any) -> None:
    with pytest.raises(ValueError, match=r"beta has shape \(5,\)"):
        market.but(beta=np.ones(5)).run()
    with pytest.raises(ValueError, match=r"S has shape \(5, 5\)"):
        market.but(S=np.eye(5)).run()
    with pytest.raises(UsageError, match="the cost model is for 5 assets and the tables have 6"):
        market.but(model=TransactionCostModel.create_default(5)).run()
    with pytest.raises(ValueError, match=r"H is 2\.5 h, not a multiple of the 1 h bars"):
        market.but(H=2.5).run()
    with pytest.raises(ValueError, match="start_date and end_date need labelled frames"):
        market.but(start_date="2024-01-01").run()
    with pytest.raises(ValueError, match="expected time x asset"):
        read_table("alpha_price", np.ones(3))
