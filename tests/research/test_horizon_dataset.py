"""From bars to the arrays of one horizon."""

from __future__ import annotations

import numpy as np
import pytest

from slipstream.core.bars import resample
from slipstream.core.factors.pca import pca_exposures
from slipstream.core.forecast.errors import ForecastError
from slipstream.core.panel import Panel
from slipstream.core.signals.residuals import idiosyncratic_return
from slipstream.core.signals.spans import SpanDroppedWarning
from slipstream.lake.synthetic import SyntheticConfig, synthetic_market
from slipstream.research.dataset import FeatureSettings, HorizonData, horizon_data

H = 8
SETTINGS = FeatureSettings(spans_hours=(4.0, 16.0))


@pytest.fixture(scope="module")
def panel() -> Panel:
    return resample(synthetic_market(SyntheticConfig(coins=13, hours=24 * 75, seed=4, late_listings=0.2)).panel, 4)


@pytest.fixture(scope="module")
def data(panel: Panel) -> HorizonData:
    return horizon_data(panel, H, SETTINGS)


def test_features_come_momentum_first_and_each_model_reads_its_own(data: HorizonData) -> None:
    assert data.feature_names == ("mom_4", "mom_16", "funding_4", "funding_16")
    assert data.funding_names == ("funding_4", "funding_16")
    assert [data.feature_names[k] for k in data.funding_regression.columns] == list(data.funding_names)
    assert data.alpha_regression.columns == (0, 1, 2, 3)
    assert data.features.shape == (data.rows, len(data.coins), 4)
    assert data.moments.count.sum() > 500


def test_every_row_is_the_last_row_of_the_panel_cut_there(panel: Panel, data: HorizonData) -> None:
    for row in (250, 333, 400):
        cut = horizon_data(panel.until(row), H, SETTINGS)
        for name in ("features", "raw_features", "sigma", "funding_sigma", "beta", "coef", "eligible", "simple_return"):
            np.testing.assert_array_equal(getattr(cut, name), getattr(data, name)[: row + 1], err_msg=name)


def test_a_target_is_the_sum_over_the_bars_after_its_row_hedged_with_what_was_known(
    panel: Panel, data: HorizonData
) -> None:
    row = 300
    coin = int(np.flatnonzero(np.isfinite(data.targets.alpha[row]))[0])
    factor = [float(np.nansum(data.coef[row] * data.simple_return[row + k])) for k in (1, 2)]
    assert np.isfinite(data.simple_return[row + 1 : row + 3][:, np.isfinite(data.coef[row])]).all()
    earned = sum(data.simple_return[row + k, coin] - data.beta[row, coin] * factor[k - 1] for k in (1, 2))
    paid = panel.funding[row + 1, coin] + panel.funding[row + 2, coin]
    assert data.targets.price_return[row, coin] == pytest.approx(earned, rel=1e-9)
    assert data.targets.funding_paid[row, coin] == pytest.approx(paid, rel=1e-9)
    assert data.targets.alpha[row, coin] == pytest.approx(earned / (data.sigma[row, coin] * np.sqrt(2)), rel=1e-9)
    excess = (paid - H * 1.25e-5) / (data.funding_sigma[row, coin] * 2)
    assert data.targets.funding[row, coin] == pytest.approx(np.clip(excess, -10, 10), rel=1e-9)


def test_a_coin_outside_the_universe_has_no_features(data: HorizonData) -> None:
    assert (~data.eligible).any()
    assert np.isnan(data.features[~data.eligible]).all()
    assert np.isnan(data.raw_features[~data.eligible]).all()


def test_given_exposures_take_the_place_of_estimated_ones(panel: Panel, data: HorizonData) -> None:
    known = panel.view().feature(pca_exposures, spec=SETTINGS.factor(H))
    same = horizon_data(panel, H, SETTINGS, known)
    np.testing.assert_array_equal(same.features, data.features)
    np.testing.assert_array_equal(same.targets.alpha, data.targets.alpha)
    steeper = known.copy()
    steeper[:, 0] *= 2.0
    other = horizon_data(panel, H, SETTINGS, steeper)
    residual = panel.view().feature(idiosyncratic_return, spec=SETTINGS.factor(H))
    assert np.isfinite(residual).any()
    assert not np.array_equal(other.targets.price_return, data.targets.price_return, equal_nan=True)


def test_spans_below_a_bar_are_dropped_with_one_warning(panel: Panel) -> None:
    with pytest.warns(SpanDroppedWarning, match="shorter than one bar of 4 h: 2 h") as noted:
        kept = horizon_data(panel, H, FeatureSettings(spans_hours=(2.0, 4.0)))
    assert len(noted) == 1
    assert kept.feature_names == ("mom_4", "funding_4")


def test_a_horizon_that_is_no_multiple_of_the_bar_is_refused(panel: Panel) -> None:
    with pytest.raises(ForecastError, match="a horizon of 6 h does not consist of bars of 4 h"):
        horizon_data(panel, 6, SETTINGS)
