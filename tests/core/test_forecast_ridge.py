"""Moments and ridge fits against rows written out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.core.forecast.errors import ForecastError, NotEnoughData
from slipstream.core.forecast.moments import Moments, Regression, joint_moments
from slipstream.core.forecast.ridge import (
    fit_ridge,
    refit,
    residual_of,
    share_explained,
    squared_error,
    target_of,
)

BOTH = Regression((0, 1, 2, 3), 0), Regression((2, 3), 1)


def rows_of(seed: int, rows: int = 60, coins: int = 7) -> tuple[np.ndarray, list[np.ndarray]]:
    """Four correlated features of uneven scale and two targets, with gaps in all of them."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, coins, 4)) @ rng.standard_normal((4, 4)) * [1.0, 3.0, 0.2, 1.0] + [
        0.0,
        2.0,
        0.0,
        -1.0,
    ]
    y = [x @ rng.standard_normal(4) + rng.standard_normal((rows, coins)) + 0.7 for _ in range(2)]
    x[rng.random(x.shape) < 0.03] = np.nan
    y[0][rng.random(y[0].shape) < 0.05] = np.nan
    y[1][rng.random(y[1].shape) < 0.05] = np.inf
    x[10] = np.nan
    return x, y


def joint_rows(x: np.ndarray, y: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    here = np.isfinite(x).all(axis=-1) & np.isfinite(y[0]) & np.isfinite(y[1])
    return x[here], np.column_stack([values[here] for values in y])


def test_moments_are_the_products_of_the_joint_rows() -> None:
    x, y = rows_of(0)
    moments = joint_moments(x, y)
    assert moments.count[10] == 0.0
    for start, stop in ((0, 60), (10, 11), (17, 44), (30, 30), (-5, 12), (50, 99)):
        part = slice(max(start, 0), stop)
        features, targets = joint_rows(x[part], [values[part] for values in y])
        z = np.column_stack((np.ones(len(features)), features, targets))
        np.testing.assert_allclose(moments.between(start, stop), z.T @ z, rtol=1e-12, atol=1e-11)


def test_a_coin_with_a_gap_leaves_the_others_of_its_timestamp() -> None:
    x, y = rows_of(0)
    x[3, 2, 0] = np.nan
    without = joint_moments(np.delete(x, 2, axis=1), [np.delete(values, 2, axis=1) for values in y])
    np.testing.assert_allclose(joint_moments(x, y).per_row[3], without.per_row[3], rtol=1e-14)


@given(seed=st.integers(0, 10**6), penalty=st.sampled_from([0.0, 1e-3, 0.1, 1.0, 100.0]))
def test_the_fit_minimises_the_objective_written_down(seed: int, penalty: float) -> None:
    """(1/n) sum (y - a - z b)^2 + lambda |b|^2 has no gradient at the answer, z standardised, a free."""
    x, y = rows_of(seed)
    moments = joint_moments(x, y)
    for regression in BOTH:
        fit = fit_ridge(moments.design(moments.between(0, 60), regression), penalty)
        features, targets = joint_rows(x, y)
        features, target = features[:, regression.columns], targets[:, regression.target]
        z = (features - features.mean(axis=0)) / features.std(axis=0)
        np.testing.assert_allclose(fit.feature_mean, features.mean(axis=0), rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(fit.feature_std, features.std(axis=0), rtol=1e-9)
        error = target - fit.predict(features)
        scale = target.std()
        np.testing.assert_allclose(error.mean(), 0.0, atol=1e-10 * scale)
        np.testing.assert_allclose(-z.T @ error / len(z) + penalty * fit.standardised, 0.0, atol=1e-10 * scale)
        assert fit.observations == len(z)


def test_the_intercept_is_not_penalised_and_the_slopes_are() -> None:
    x, y = rows_of(3)
    shifted = [values + 1000.0 for values in y]
    moments, moved = joint_moments(x, y), joint_moments(x, shifted)
    one, other = (fit_ridge(m.design(m.between(0, 60), BOTH[0]), 5.0) for m in (moments, moved))
    np.testing.assert_allclose(one.coefficients, other.coefficients, rtol=1e-7)
    assert other.intercept == pytest.approx(one.intercept + 1000.0, rel=1e-9)
    stiff = fit_ridge(moments.design(moments.between(0, 60), BOTH[0]), 1e12)
    np.testing.assert_allclose(stiff.standardised, 0.0, atol=1e-10)
    assert stiff.intercept == pytest.approx(joint_rows(x, y)[1][:, 0].mean())


@given(seed=st.integers(0, 10**6), unit=st.floats(1e-3, 1e3))
def test_the_units_of_a_feature_do_not_change_the_forecast(seed: int, unit: float) -> None:
    x, y = rows_of(seed)
    other = x * np.array([unit, 1.0, 1.0, 1.0])
    fits = []
    for features in (x, other):
        moments = joint_moments(features, y)
        fits.append(fit_ridge(moments.design(moments.between(0, 60), BOTH[0]), 0.3))
    np.testing.assert_allclose(fits[0].predict(x), fits[1].predict(other), rtol=1e-7, atol=1e-7)


def test_errors_and_shares_explained_are_those_of_the_rows() -> None:
    x, y = rows_of(4)
    moments = joint_moments(x, y)
    gram = moments.between(0, 60)
    features, targets = joint_rows(x, y)
    errors = []
    for regression in BOTH:
        fit = fit_ridge(moments.design(gram, regression), 0.1)
        error = targets[:, regression.target] - fit.predict(features[:, regression.columns])
        sse = squared_error(moments.design(gram, regression), fit.intercept, fit.coefficients)
        assert float(sse) == pytest.approx(float(error @ error), rel=1e-11)
        vector = residual_of(moments, regression, np.asarray(fit.intercept), fit.coefficients)
        r2 = share_explained(gram, target_of(moments, regression), vector)
        about = targets[:, regression.target] - targets[:, regression.target].mean()
        assert float(r2) == pytest.approx(1.0 - float(error @ error) / float(about @ about), abs=1e-12)
        errors.append((error, vector))
    combined = targets[:, 0] - targets[:, 1]
    about = combined - combined.mean()
    left = errors[0][0] - errors[1][0]
    r2 = share_explained(gram, target_of(moments, BOTH[0]) - target_of(moments, BOTH[1]), errors[0][1] - errors[1][1])
    assert float(r2) == pytest.approx(1.0 - float(left @ left) / float(about @ about), abs=1e-12)


def test_many_sets_are_refitted_at_once_as_one_by_one() -> None:
    x, y = rows_of(5)
    moments = joint_moments(x, y)
    full = fit_ridge(moments.design(moments.between(0, 60), BOTH[0]), 0.1)
    sets = np.stack([moments.design(moments.between(s, s + 25), BOTH[0]) for s in (0, 10, 30)])
    intercepts, coefficients = refit(sets, 0.1, full.feature_std)
    for k, one in enumerate(sets):
        intercept, coefficient = refit(one, 0.1, full.feature_std)
        np.testing.assert_allclose(intercepts[k], intercept, rtol=1e-12)
        np.testing.assert_allclose(coefficients[k], coefficient, rtol=1e-12)


def test_a_forecast_is_missing_where_a_feature_is_and_does_not_depend_on_the_others_asked() -> None:
    x, y = rows_of(6)
    moments = joint_moments(x, y)
    fit = fit_ridge(moments.design(moments.between(0, 60), BOTH[0]), 0.1)
    whole = fit.predict(x)
    np.testing.assert_array_equal(np.isnan(whole), np.isnan(x).any(axis=-1))
    for t, i in ((0, 0), (31, 4), (59, 6)):
        assert fit.predict(x[t, i]) == whole[t, i] or np.isnan(whole[t, i])
    with pytest.raises(ForecastError, match="3 features given to a model of 4"):
        fit.predict(x[..., :3])


def test_what_cannot_be_fitted_is_refused_with_the_reason() -> None:
    x, y = rows_of(7)
    x[..., 1] = 2.5
    moments = joint_moments(x, y)
    with pytest.raises(ForecastError, match="feature 1 does not vary"):
        fit_ridge(moments.design(moments.between(0, 60), BOTH[0]), 0.1)
    with pytest.raises(NotEnoughData, match="0 observations"):
        fit_ridge(moments.design(moments.between(10, 11), BOTH[0]), 0.1)
    with pytest.raises(ForecastError, match="penalty is -1"):
        fit_ridge(moments.design(moments.between(0, 60), BOTH[1]), -1.0)
    with pytest.raises(ForecastError, match="does not fit moments of 4 features"):
        moments.places(Regression((0, 4), 0))
    with pytest.raises(ForecastError, match="do not fit together"):
        joint_moments(x, [y[0][1:]])


def test_a_target_that_does_not_vary_has_no_share_to_explain() -> None:
    x, y = rows_of(8)
    moments = joint_moments(x, [np.ones_like(y[0])])
    assert isinstance(moments, Moments)
    fit = fit_ridge(moments.design(moments.between(0, 60), Regression((0,))), 0.1)
    vector = residual_of(moments, Regression((0,)), np.asarray(fit.intercept), fit.coefficients)
    assert np.isnan(share_explained(moments.between(0, 60), target_of(moments, Regression((0,))), vector))
