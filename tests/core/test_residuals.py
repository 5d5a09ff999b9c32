"""Residual returns: what was known at the bar's open, and nothing that came after."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from slipstream.core.factors.pca import rolling_pca
from slipstream.core.factors.pca_spec import PCASpec
from slipstream.core.frames import FrameError
from slipstream.core.signals.residuals import (
    compute_idiosyncratic_returns,
    compute_market_factor,
    idiosyncratic_return,
)
from slipstream.lake.synthetic import SyntheticConfig, synthetic_market

HOUR = pd.Timedelta(hours=1)


@pytest.fixture(scope="module")
def market():
    return synthetic_market(SyntheticConfig(coins=16, hours=24 * 25, seed=4, late_listings=0.3)).panel


@pytest.fixture(scope="module")
def frames(market):
    """Hourly log returns with gaps, and the three-component factor of 8-hour bars."""
    index = pd.to_datetime(market.known_at_ms, unit="ms", utc=True).rename("known_at")
    returns = pd.DataFrame(market.view().log_return, index, list(market.coins))
    volume = pd.DataFrame(market.volume_usd, index, list(market.coins))
    holes = np.random.default_rng(1).random(returns.shape) < 0.02
    returns = returns.mask(holes)
    returns.iloc[400, 3:] = np.nan
    return returns, rolling_pca(returns, volume, K=20, H_hours=8, min_assets=5, min_periods=10, n_components=3)


def known_at_open(rows: pd.DataFrame, bar: pd.Timestamp, bar_hours: int, H_hours: int) -> pd.Series | None:
    """The latest row known when a bar opened, unless it is more than two factor bars old."""
    opened = bar - bar_hours * HOUR
    past = rows.loc[:opened]
    if past.empty or opened - past.index[-1] > 2 * H_hours * HOUR:
        return None
    return past.iloc[-1]


def plain_factor(returns, coefs, beta, H_hours=8) -> pd.Series:
    """One bar after the other, in pandas."""
    out = pd.Series(np.nan, returns.index)
    for bar in returns.index:
        c, b = known_at_open(coefs, bar, 1, H_hours), known_at_open(beta, bar, 1, H_hours)
        if c is None or c.isna().all():
            continue
        r = returns.loc[bar].reindex(c.index)
        weight = c.abs() if b is None else c * b
        share = weight[r.notna()].sum() / weight.sum()
        if share >= 0.6:
            out[bar] = (c * r).sum() / share
    return out


def test_factor_and_residuals_are_those_of_a_plain_reference(frames) -> None:
    returns, pca = frames
    factor = compute_market_factor(returns, pca.coefs, pca.beta)
    residual = compute_idiosyncratic_returns(returns, pca.beta, factor)
    expected = returns.loc[returns.index > pca.beta.index[0]].copy()
    for j in (1, 2, 3):
        names = {f"{coin}_pc{j}": coin for coin in returns}
        c, b = (part[list(names)].rename(columns=names) for part in (pca.coefs, pca.beta))
        peer = plain_factor(returns, c, b)
        np.testing.assert_allclose(factor[f"pc{j}"], peer, rtol=0, atol=1e-10)
        held = pd.DataFrame([known_at_open(b, bar, 1, 8) for bar in expected.index]).set_axis(expected.index)
        expected -= held.mul(peer.loc[expected.index], axis=0)
    np.testing.assert_allclose(residual.loc[expected.index], expected, rtol=0, atol=1e-10)
    assert residual.loc[: pca.beta.index[0]].isna().all(axis=None)
    assert expected.notna().to_numpy().mean() > 0.5
    assert np.isnan(factor["pc1"].iloc[400])  # too few coins traded in that hour


def test_one_component_gives_a_series_and_its_gaps_may_be_judged_without_betas(frames) -> None:
    returns, pca = frames
    names = {f"{coin}_pc1": coin for coin in returns}
    coefs = pca.coefs[list(names)].rename(columns=names)
    found = compute_market_factor(returns, coefs)
    assert isinstance(found, pd.Series)
    peer = pd.Series(np.nan, returns.index)
    for bar in returns.index:
        c = known_at_open(coefs, bar, 1, 8)
        if c is not None and c.notna().any():
            share = c.abs()[returns.loc[bar].notna()].sum() / c.abs().sum()
            peer[bar] = (c * returns.loc[bar]).sum() / share if share >= 0.6 else np.nan
    np.testing.assert_allclose(found, peer, rtol=0, atol=1e-10)


def test_a_row_known_at_a_bars_close_does_not_touch_that_bar(frames) -> None:
    returns, pca = frames
    at = pca.coefs.index[25]
    coefs, beta = pca.coefs.copy(), pca.beta.copy()
    coefs.loc[at] *= 3.0
    beta.loc[at] *= 3.0
    before = compute_market_factor(returns, pca.coefs, pca.beta)["pc1"]
    after = compute_market_factor(returns, coefs, beta)["pc1"]
    pd.testing.assert_series_equal(before.loc[:at], after.loc[:at], check_exact=True)
    assert after.loc[at + HOUR] == pytest.approx(3.0 * before.loc[at + HOUR])


def test_a_factor_older_than_two_bars_is_no_factor(frames) -> None:
    returns, pca = frames
    cut = pca.coefs.iloc[:30]
    factor = compute_market_factor(returns, cut)["pc1"]
    last = cut.index[-1]
    assert np.isfinite(factor.loc[last + 17 * HOUR])  # opened 16 h after the row became known
    assert factor.loc[last + 18 * HOUR :].isna().all()


def test_a_coin_without_a_beta_has_no_residual_and_takes_no_beta_of_one(frames) -> None:
    returns, pca = frames
    factor = compute_market_factor(returns, pca.coefs, pca.beta)
    one = pca.beta.copy()
    one[["SYN002_pc1"]] = np.nan
    residual = compute_idiosyncratic_returns(returns, one, factor)
    assert residual["SYN002"].isna().all()
    stranger = returns.assign(NEW=0.01)
    assert compute_idiosyncratic_returns(stranger, pca.beta, factor)["NEW"].isna().all()


def test_residuals_do_not_move_with_the_market_that_betas_were_taken_to(market) -> None:
    spec = PCASpec(K=30, H_hours=8, min_assets=5)
    raw = market.view().log_return
    left = market.view().feature(idiosyncratic_return, spec=spec)
    known = ~np.isnan(left)
    move = np.nanmean(raw[1:], axis=1)
    rows, columns = np.nonzero(known[1:])
    of_raw = np.corrcoef(raw[1:][rows, columns], move[rows])[0, 1]
    of_left = np.corrcoef(left[1:][rows, columns], move[rows])[0, 1]
    assert of_raw > 0.5
    assert abs(of_left) < 0.3 * of_raw


@pytest.mark.parametrize("simple", [False, True])
def test_the_feature_is_the_frames_functions_and_is_causal_bit_for_bit(market, simple: bool) -> None:
    index = pd.to_datetime(market.known_at_ms, unit="ms", utc=True)
    log_return = pd.DataFrame(market.view().log_return, index, list(market.coins))
    volume = pd.DataFrame(market.volume_usd, index, list(market.coins))
    for components in (1, 3):
        spec = PCASpec(K=20, H_hours=8, min_assets=5, n_components=components)
        whole = market.view().feature(idiosyncratic_return, spec=spec, simple=simple)
        pca = rolling_pca(log_return, volume, 20, 8, "sqrt", 5, None, components)
        moved = np.expm1(log_return) if simple else log_return
        factor = compute_market_factor(moved, pca.coefs, pca.beta)
        frame = compute_idiosyncratic_returns(moved, pca.beta, factor)
        np.testing.assert_allclose(whole, frame, rtol=0, atol=1e-12)
        for row in (180, 333, 500):
            cut = market.view(row).feature(idiosyncratic_return, spec=spec, simple=simple)
            np.testing.assert_array_equal(cut, whole[: row + 1])


def test_frames_that_do_not_belong_together_are_refused(frames) -> None:
    returns, pca = frames
    factor = compute_market_factor(returns, pca.coefs, pca.beta)
    with pytest.raises(FrameError, match="no coin in common"):
        compute_market_factor(returns.rename(columns=str.lower), pca.coefs)
    with pytest.raises(FrameError, match="other rows or columns than coefs"):
        compute_market_factor(returns, pca.coefs, pca.beta.iloc[1:])
    with pytest.raises(FrameError, match="1 series beside betas of 3 components"):
        compute_idiosyncratic_returns(returns, pca.beta, factor["pc1"])
    with pytest.raises(FrameError, match="give every component of every coin"):
        compute_market_factor(returns, pca.coefs.drop(columns="SYN001_pc2"))
