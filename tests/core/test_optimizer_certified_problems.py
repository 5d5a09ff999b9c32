"""Recorded rebalances with a known optimum: 40 consecutive ones at each of four sizes."""

from __future__ import annotations

import numpy as np
import pytest

from slipstream.core.portfolio.covariance import FactorCovariance
from slipstream.core.portfolio.optimizer import compile_solver, optimize_portfolio_with_costs
from slipstream.core.portfolio.programme import Programme, solve

SIZES = (30, 100, 200, 500)


@pytest.fixture(scope="module", params=SIZES)
def recorded(request, shared):
    compile_solver()
    with np.load(shared / "bench" / "portfolio" / "inputs" / f"rebalance_N{request.param}.npz") as file:
        return dict(file)


def programme(z, t, covariance) -> Programme:
    return Programme(
        z["alpha"][t],
        z["beta"][:, None].copy(),
        covariance,
        z["w0"][t],
        z["c"],
        z["lam"],
        z["lo"],
        z["hi"],
        float(z["L"]),
    )


def cost(z, t, w) -> float:
    d, y = np.abs(w - z["w0"][t]), z["B"].T @ w
    return float(-z["alpha"][t] @ w + 0.5 * (y @ y + w @ (z["D"] * w)) + z["c"] @ d + z["lam"] @ d**1.5)


def check(z, t, w):
    miss = (cost(z, t, w) - z["p_star"][t]) / abs(z["p_star"][t])
    assert miss <= 1e-10
    assert abs(w @ z["beta"]) <= 1e-10
    assert np.abs(w).sum() - z["L"] <= 1e-10
    assert ((z["lo"] <= w) & (w <= z["hi"])).all()
    np.testing.assert_allclose(w, z["w_star"][t], rtol=0.0, atol=1e-10)
    for kink in (z["w0"][t], np.zeros(len(w)), z["lo"], z["hi"]):
        near = np.abs(w - kink) < 1e-9
        assert (w[near] == kink[near]).all(), "a weight a hair from a kink is dust"
    return miss


def test_all_recorded_optima_are_met_in_factor_form(recorded):
    S = FactorCovariance(recorded["B"], recorded["D"])
    misses = []
    for t in range(40):
        answer = solve(programme(recorded, t, S))
        assert answer.certified
        assert answer.solver == "newton"
        assert answer.gap <= 1e-12
        misses.append(check(recorded, t, answer.w))
    print(f"{len(recorded['beta'])} coins, 40 rebalances: worst relative sub-optimality {max(misses):.1e}")


@pytest.mark.parametrize("every", [14, pytest.param(1, marks=pytest.mark.full)])
def test_recorded_optima_are_met_from_a_dense_covariance(recorded, every):
    S = FactorCovariance(recorded["B"], recorded["D"]).dense()
    for t in range(0, 40, every):
        answer = solve(programme(recorded, t, S))
        assert answer.certified
        assert answer.solver == "newton"
        check(recorded, t, answer.w)


def test_the_documented_function_meets_them_too(recorded):
    S = FactorCovariance(recorded["B"], recorded["D"])
    caps = np.unique(np.concatenate([recorded["hi"], -recorded["lo"]]))
    assert len(caps) == 1
    for t in range(0, 40, 5):
        w, info = optimize_portfolio_with_costs(
            recorded["alpha"][t],
            recorded["beta"],
            S,
            recorded["w0"][t],
            recorded["c"],
            recorded["lam"],
            leverage=float(recorded["L"]),
            max_weight=float(caps[0]),
        )
        assert info["success"]
        assert -info["net_objective"] == pytest.approx(recorded["p_star"][t], rel=1e-10)
        check(recorded, t, w)


def test_the_multipliers_prove_that_nothing_better_exists(recorded):
    """The certificate, checked from outside: no random feasible book near or far beats the answer."""
    S = FactorCovariance(recorded["B"], recorded["D"])
    rng = np.random.default_rng(9)
    beta = recorded["beta"]
    answer = solve(programme(recorded, 7, S)).w
    for size in (1e-6, 1e-4, 1e-2, 1.0):
        for _ in range(20):
            move = size * rng.normal(size=len(beta)) * np.abs(answer).mean()
            other = np.clip(answer + move - beta * (beta @ move) / (beta @ beta), recorded["lo"], recorded["hi"])
            other *= min(1.0, recorded["L"] / np.abs(other).sum())
            exposure = float(other @ beta)
            # The clip may have cost neutrality; shrink the side that is too long, which keeps box and gross.
            long_side = np.where(other * beta * np.sign(exposure) > 0.0, other, 0.0)
            other = other - long_side * exposure / float(long_side @ beta)
            assert abs(other @ beta) < 1e-9
            assert cost(recorded, 7, other) >= cost(recorded, 7, answer) - 1e-13
