"""The shrinkage estimators against the formulas of their papers, written out entry by entry."""

from __future__ import annotations

import math

import numpy as np
import pytest

from slipstream.core.portfolio.estimators import estimate_covariance
from slipstream.core.portfolio.shrinkage import quadratic_inverse_shrinkage, shrunk_correlation


def correlated(rows: int, coins: int, seed: int = 42) -> np.ndarray:
    """Heavy-tailed returns with a market and unlike volatilities."""
    rng = np.random.default_rng(seed)
    market = rng.standard_t(5, (rows, 1))
    return (rng.uniform(0.3, 1.5, coins) * market + rng.standard_t(5, (rows, coins))) * rng.uniform(0.003, 0.02, coins)


def slow_constant_correlation(returns: np.ndarray) -> tuple[np.ndarray, float]:
    """Shrunk correlation and intensity of Ledoit and Wolf (2004), from sums over single observations."""
    rows, coins = returns.shape
    y = returns - returns.mean(axis=0)
    y = y / np.sqrt((y**2).mean(axis=0))
    s = [[sum(y[t, i] * y[t, j] for t in range(rows)) / rows for j in range(coins)] for i in range(coins)]
    pairs = [(i, j) for i in range(coins) for j in range(coins) if i != j]
    average = sum(s[i][j] for i, j in pairs) / len(pairs)
    pi = rho = gamma = 0.0
    for i in range(coins):
        pi_ii = sum((y[t, i] ** 2 - s[i][i]) ** 2 for t in range(rows)) / rows
        pi += pi_ii
        rho += pi_ii
    for i, j in pairs:
        pi += sum((y[t, i] * y[t, j] - s[i][j]) ** 2 for t in range(rows)) / rows
        for k in (i, j):
            other = j if k == i else i
            theta = sum((y[t, k] ** 2 - s[k][k]) * (y[t, i] * y[t, j] - s[i][j]) for t in range(rows)) / rows
            rho += 0.5 * average * math.sqrt(s[other][other] / s[k][k]) * theta
        gamma += (average * math.sqrt(s[i][i] * s[j][j]) - s[i][j]) ** 2
    intensity = max(0.0, min((pi - rho) / gamma / rows, 1.0))
    shrunk = np.array([[1.0 if i == j else (1 - intensity) * s[i][j] + intensity * average for j in range(coins)]
                       for i in range(coins)])  # fmt: skip
    return shrunk, intensity


def slow_qis(returns: np.ndarray) -> np.ndarray:
    """Quadratic-inverse shrinkage of Ledoit and Wolf (2022), eigenvalue by eigenvalue."""
    rows, p = returns.shape
    n = rows - 1
    y = returns - returns.mean(axis=0)
    eigenvalues, u = np.linalg.eigh(y.T @ y / n)
    lam = [max(float(value), 0.0) for value in eigenvalues]
    c = p / n
    h = min(c**2, 1 / c**2) ** 0.35 / p**0.35
    inverse = [1.0 / value for value in lam[max(0, p - n) :]]
    delta = []
    for x in inverse:
        theta = sum(v * (v - x) / ((v - x) ** 2 + h**2 * v**2) for v in inverse) / len(inverse)
        conjugate = sum(v * h * v / ((v - x) ** 2 + h**2 * v**2) for v in inverse) / len(inverse)
        squared = theta**2 + conjugate**2
        if p <= n:
            delta.append(1.0 / ((1 - c) ** 2 * x + 2 * c * (1 - c) * x * theta + c**2 * x * squared))
        else:
            delta.append(1.0 / (x * squared))
    if p > n:
        delta = [1.0 / ((c - 1) * sum(inverse) / len(inverse))] * (p - n) + delta
    scale = sum(lam) / sum(delta)
    return sum(scale * d * np.outer(u[:, k], u[:, k]) for k, d in enumerate(delta))


@pytest.mark.parametrize(("rows", "coins"), [(40, 3), (60, 12), (10, 12), (25, 2)])
def test_linear_shrinkage_is_that_of_the_paper(rows: int, coins: int) -> None:
    returns = correlated(rows, coins)
    shrunk, intensity = slow_constant_correlation(returns)
    assert 0.0 < intensity <= 1.0
    sigma = returns.std(axis=0, ddof=1)
    dense = estimate_covariance(returns, min_hours=2, method="lw")
    np.testing.assert_allclose(dense, shrunk * np.outer(sigma, sigma), rtol=1e-10, atol=1e-16)


def test_linear_shrinkage_hardly_touches_a_long_sample_and_does_much_to_a_short_one() -> None:
    def moved(rows: int) -> float:
        returns = correlated(rows, 10)
        sample = np.cov(returns.T)
        dense = estimate_covariance(returns, lookback_hours=rows, min_hours=2, method="lw")
        return float(np.abs(dense - sample).sum() / np.abs(sample - np.diag(np.diag(sample))).sum())

    assert moved(20_000) < 0.02 < 0.1 < moved(25)


@pytest.mark.parametrize(("rows", "coins"), [(200, 10), (40, 30), (21, 20), (15, 30), (61, 60), (8, 1)])
def test_non_linear_shrinkage_is_that_of_the_paper_with_more_rows_than_coins_and_with_fewer(
    rows: int, coins: int
) -> None:
    returns = correlated(rows, coins)
    expected = slow_qis(returns)
    np.testing.assert_allclose(quadratic_inverse_shrinkage(returns), expected, rtol=1e-7, atol=1e-14)
    np.testing.assert_allclose(estimate_covariance(returns, min_hours=2, method="qis"), expected, rtol=1e-7, atol=1e-14)


def test_non_linear_shrinkage_of_fewer_rows_than_coins_is_positive_definite_and_keeps_the_trace() -> None:
    returns = correlated(20, 50)
    dense = estimate_covariance(returns, min_hours=2, method="qis")
    assert np.linalg.eigvalsh(dense)[0] > 1e-8
    assert np.trace(dense) == pytest.approx(returns.var(axis=0, ddof=1).sum(), rel=1e-12)


def test_non_linear_shrinkage_is_nearer_the_truth_than_the_sample_where_rows_are_few() -> None:
    rng = np.random.default_rng(42)
    truth = np.diag(np.repeat([1.0, 3.0, 10.0], 20))
    returns = rng.multivariate_normal(np.zeros(60), truth, 90)
    error = np.linalg.norm(quadratic_inverse_shrinkage(returns) - truth)
    assert error < 0.7 * np.linalg.norm(np.cov(returns.T) - truth)


@pytest.mark.parametrize(("rows", "coins"), [(30, 4), (12, 20)])
def test_shrinkage_to_the_identity_is_that_of_the_paper(rows: int, coins: int) -> None:
    """Intensity: summed error variances of the off-diagonal correlations over their summed squares."""
    returns = correlated(rows, coins)
    z = (returns - returns.mean(axis=0)) / returns.std(axis=0)
    error = distance = 0.0
    for i in range(coins):
        for j in range(coins):
            if i != j:
                products = [z[t, i] * z[t, j] for t in range(rows)]
                mean = sum(products) / rows
                error += sum((x - mean) ** 2 for x in products) / rows**2
                distance += mean**2
    expected = (1.0 - min(1.0, error / distance)) * (z.T @ z / rows)
    expected[np.diag_indices(coins)] = 1.0
    np.testing.assert_allclose(shrunk_correlation(returns), expected, rtol=1e-10, atol=1e-14)
