"""The path from a market to scored forecasts, and the artefacts it must not produce."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from slipstream.core.factors.pca import PCASpec, pca_exposures
from slipstream.core.forecast.moments import Regression, joint_moments
from slipstream.core.forecast.scores import JointR2, joint_r2
from slipstream.core.forecast.targets import HoldingTargets, alpha_in_money, funding_in_money, holding_targets
from slipstream.core.forecast.walk_forward import WalkForward, WalkForwardSettings, walk_forward
from slipstream.core.panel import Panel
from slipstream.core.signals.ewm import ewm_std
from slipstream.core.signals.funding import Mode, funding_components, funding_sigma, published_funding
from slipstream.core.signals.momentum import momentum_components, volatility
from slipstream.core.signals.residuals import idiosyncratic_return
from slipstream.lake.synthetic import SyntheticConfig, synthetic_market

SPANS = (4.0, 8.0, 16.0, 32.0, 64.0)
H = 8
QUICK = WalkForwardSettings(inner_folds=4, min_train_days=20.0)


@dataclass(frozen=True)
class Forecasts:
    targets: HoldingTargets
    sigma: np.ndarray
    funding_sigma: np.ndarray
    alpha: WalkForward
    funding: WalkForward


def forecasts_of(panel: Panel, mode: Mode = "excess") -> Forecasts:
    """Both models on a panel of hourly bars, with the factors and features of the house."""
    view, bar, spec = panel.view(), panel.bar_hours, PCASpec(K=30, H_hours=H)
    exposures = view.feature(pca_exposures, spec=spec)
    beta, coef = exposures[:, 0].swapaxes(0, 1), exposures[:, 1].swapaxes(0, 1)
    residual = view.feature(idiosyncratic_return, spec=spec)
    published = view.feature(published_funding)
    sigma = volatility(residual, bar)
    deviation = funding_sigma(published, bar) if mode == "excess" else volatility(published, bar)
    parts = (momentum_components(residual, bar, SPANS), funding_components(published, bar, SPANS, mode=mode))
    x = np.stack([values for part in parts for values in part.values()], axis=-1)
    targets = holding_targets(
        np.expm1(view.log_return), beta, coef, sigma, panel.funding, deviation,
        horizon_hours=H, bar_hours=bar, **({} if mode == "excess" else {"funding_base_per_hour": 0.0}),
    )  # fmt: skip
    moments = joint_moments(x, [targets.alpha, targets.funding])
    runs = [
        walk_forward(x, moments, regression, horizon_hours=H, bar_hours=bar, settings=QUICK)
        for regression in (Regression(tuple(range(10)), 0), Regression(tuple(range(5, 10)), 1))
    ]
    return Forecasts(targets, sigma, deviation, *runs)


def in_deviations(f: Forecasts) -> JointR2:
    return joint_r2(f.targets.alpha, f.alpha.forecast, f.targets.funding, f.funding.forecast)


def in_money(f: Forecasts) -> JointR2:
    price = alpha_in_money(f.alpha.forecast, f.sigma, H)
    paid = funding_in_money(f.funding.forecast, f.funding_sigma, H, 1)
    return joint_r2(f.targets.price_return, price, f.targets.funding_paid, paid)


@pytest.fixture(scope="module")
def sticky() -> Panel:
    """Funding that rests at the base rate most of the time, and prices that promise nothing."""
    config = SyntheticConfig(
        coins=30, hours=3500, seed=5, momentum_strength=0.0, funding_carried_by_price=0.0, late_listings=0.1
    )
    panel = synthetic_market(config).panel
    resting = np.isclose(panel.funding, 1.25e-5, rtol=1e-9)
    assert resting.mean() > 0.3
    return panel


def test_sticky_funding_looks_predictable_in_deviations_and_is_next_to_nothing_in_money(sticky: Panel) -> None:
    raw, honest = in_deviations(forecasts_of(sticky, "raw")), in_money(forecasts_of(sticky))
    assert raw.combined.value > 0.4
    assert raw.funding.value > 0.4
    assert abs(raw.alpha.value) < 0.01
    assert honest.combined.value < 0.01
    assert honest.funding.value > 0.2  # funding itself is foreseen: it is small beside what prices do


def test_what_comes_after_a_moment_changes_no_forecast_made_by_then(sticky: Panel) -> None:
    first = forecasts_of(sticky)
    cut = first.alpha.blocks[5].test[0] + 40
    rng = np.random.default_rng(0)
    future = {}
    for name in ("open", "high", "low", "close", "volume_usd", "funding"):
        values = getattr(sticky, name).copy()
        values[cut + 1 :] = values[cut + 1 :][rng.permutation(len(values) - cut - 1)]
        future[name] = values
    second = forecasts_of(Panel.build(sticky.known_at_ms, sticky.coins, sticky.bar_hours, **future))
    for one, other in ((first.alpha, second.alpha), (first.funding, second.funding)):
        np.testing.assert_array_equal(one.forecast[: cut + 1], other.forecast[: cut + 1])
        assert not np.array_equal(one.forecast[cut + 1 :], other.forecast[cut + 1 :], equal_nan=True)


def martingale_alpha(seed: int, log_targets: bool) -> tuple[float, float]:
    """Mean forecast alpha, money per H, of the top tenth of coins by volatility, and of all; prices are martingales."""
    rng = np.random.default_rng(seed)
    rows, coins = 1800, 40
    vol = np.geomspace(0.005, 0.08, coins)
    log_return = vol * rng.standard_normal((rows, coins)) - 0.5 * vol**2  # E[exp(r)] = 1
    moved = log_return if log_targets else np.expm1(log_return)
    sigma = ewm_std(log_return, 128, 128)
    features = momentum_components(log_return, 1.0, (16.0, 64.0))
    x = np.stack([*features.values(), np.log(sigma)], axis=-1)
    nothing = np.zeros((rows, coins))
    none = holding_targets(
        moved,
        nothing,
        np.full((rows, coins), 1.0),
        sigma,
        nothing,
        np.ones((rows, coins)),
        horizon_hours=H,
        bar_hours=1,
    )
    assert np.isnan(none.alpha).all()  # betas of zero make no factor: targets need one
    hedge, beta = np.zeros((rows, coins)), np.zeros((rows, coins))
    hedge[:, 0], beta[:, 0] = 1.0, 1.0  # the factor is the first coin, and the others have no beta to it
    targets = holding_targets(moved, beta, hedge, sigma, nothing, np.ones((rows, coins)), horizon_hours=H, bar_hours=1)
    moments = joint_moments(x[:, 1:], [targets.alpha[:, 1:]])
    got = walk_forward(x[:, 1:], moments, Regression((0, 1, 2)), horizon_hours=H, bar_hours=1, settings=QUICK)
    money = alpha_in_money(got.forecast, sigma[:, 1:], H)
    return float(np.nanmean(money[:, -4:])), float(np.nanmean(money))


def test_martingales_of_very_different_volatility_promise_nothing() -> None:
    """Log-return targets would short whatever is volatile, for half its variance; simple ones do not."""
    simple = np.array([martingale_alpha(seed, log_targets=False)[0] for seed in range(12)])
    log = np.array([martingale_alpha(seed, log_targets=True)[0] for seed in range(12)])
    error = simple.std(ddof=1) / np.sqrt(len(simple))
    assert abs(simple.mean()) < 2.0 * error
    assert log.mean() < -4.0 * error  # the trap is there to be fallen into
