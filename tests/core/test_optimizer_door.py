"""The compiled way in and out of a rebalance decides as the checks that name a culprit do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipstream.core.portfolio import programme
from slipstream.core.portfolio.covariance import FactorCovariance
from slipstream.core.portfolio.optimizer import PortfolioInputError, compile_solver, optimize_portfolio_with_costs

N, K = 12, 3


@pytest.fixture(scope="module", autouse=True)
def _kernel_is_loaded() -> None:
    compile_solver()


@pytest.fixture
def arrays_only(monkeypatch):
    """Calling it leaves the process as it is before anything is compiled."""

    def forget() -> None:
        monkeypatch.setattr(programme, "_engine", programme._Engine())

    return forget


def rebalance(seed: int = 0, **changed: Any) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    held = 0.1 * rng.normal(size=N)
    return {
        "alpha": 4e-3 * rng.normal(size=N),
        "beta": 1.0 + 0.3 * rng.normal(size=N),
        "S": FactorCovariance(0.02 * rng.normal(size=(N, K)), 1e-3 * rng.uniform(0.5, 2.0, N)),
        "w_old": held,
        "cost_linear": np.full(N, 3e-4),
        "cost_impact": 5e-3 * rng.uniform(0.5, 2.0, N),
        "max_weight": 0.2,
    } | changed


def with_entry(name: str, value: float) -> dict[str, Any]:
    problem = rebalance()
    problem[name] = problem[name].copy()
    problem[name][4] = value
    return problem


FAULTS = [
    *(with_entry(name, bad) for name in ("alpha", "beta", "w_old") for bad in (np.nan, np.inf, -np.inf)),
    *(with_entry(name, bad) for name in ("cost_linear", "cost_impact") for bad in (np.nan, -1e-12, -np.inf)),
    *(rebalance(**{name: np.zeros(N + 1)}) for name in ("beta", "w_old", "cost_linear", "cost_impact")),
    *(rebalance(**{name: np.zeros((N, 1))}) for name in ("alpha", "w_old", "cost_linear", "cost_impact")),
    rebalance(alpha=0.0),
    rebalance(alpha=np.zeros(N - 1)),
    rebalance(beta=1.0),
    rebalance(beta=np.zeros((N, 1, 1))),
    rebalance(beta=np.where(np.arange(2 * N).reshape(N, 2) == 2 * N - 1, np.nan, 1.0)),
    rebalance(S=FactorCovariance(np.zeros((N + 1, 1)), np.ones(N + 1))),
    rebalance(S=np.full((N, N), np.nan)),
]


@pytest.mark.parametrize("problem", FAULTS)
def test_a_fault_is_named_alike_whether_or_not_the_kernel_is_loaded(problem, arrays_only):
    with pytest.raises(PortfolioInputError) as compiled:
        optimize_portfolio_with_costs(**problem)
    arrays_only()
    with pytest.raises(PortfolioInputError) as arrays:
        optimize_portfolio_with_costs(**problem)
    assert str(compiled.value) == str(arrays.value)


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"max_weight": None},
        {"max_weight": 7.0, "leverage": 0.5},
        {"leverage": 0.0},
        {"max_weight": 0.0},
        {"beta": np.zeros((N, 0))},
        {"beta": np.column_stack([np.ones(N), np.arange(N), np.ones(N)])},
        {"cost_linear": np.where(np.arange(N) % 5 == 2, np.inf, 3e-4)},
        {"cost_impact": np.where(np.arange(N) == 3, np.inf, 5e-3), "max_weight": 0.01, "leverage": 3.0},
        {"alpha": np.arange(2 * N)[::-2] * 1e-4},
        {"alpha": np.full(N, 1e100), "w_old": [1] * N},
    ],
)
def test_answers_are_the_same_to_the_last_bit_whether_or_not_the_kernel_is_loaded(changed, arrays_only):
    problem = rebalance(on_fail="hold", **changed)
    w, info = optimize_portfolio_with_costs(**problem)
    arrays_only()
    w_arrays, info_arrays = optimize_portfolio_with_costs(**problem)
    assert w.tobytes() == w_arrays.tobytes()
    assert repr(info) == repr(info_arrays)


def test_nothing_the_caller_does_later_changes_what_is_known_of_an_answer():
    problem, untouched = rebalance(), rebalance()
    w, info = optimize_portfolio_with_costs(**problem)
    for name in ("alpha", "beta", "w_old", "cost_linear", "cost_impact"):
        problem[name][:] = np.nan
    w[:] = np.nan
    assert repr(info) == repr(optimize_portfolio_with_costs(**untouched)[1])


@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    fault=st.sampled_from(["none", "below", "above", "nan", "inf", "gross"]),
    columns=st.integers(0, 2),
)
def test_limits_are_judged_as_array_code_judges_them(seed, fault, columns):
    rng = np.random.default_rng(seed)
    w, neutral = rng.normal(size=N), rng.normal(size=(N, columns))
    lo, hi = np.minimum(w, rng.normal(size=N)), np.maximum(w, rng.normal(size=N))
    cap, i = float(np.abs(w).sum()), int(rng.integers(N))
    if fault == "below":
        lo[i] = np.nextafter(w[i], np.inf)
    elif fault == "above":
        hi[i] = np.nextafter(w[i], -np.inf)
    elif fault in ("nan", "inf"):
        w[i] = hi[i] = float(fault)
    elif fault == "gross":
        cap *= 1.0 - 1e-11
    exposure, kept = programme._engine.limits(w, neutral, lo, hi, cap)
    with np.errstate(invalid="ignore"):
        exposure_arrays, kept_arrays = programme._limits(w, neutral, lo, hi, cap)
    assert kept == kept_arrays == (fault == "none")
    if np.isfinite(w).all():
        assert exposure == pytest.approx(exposure_arrays, rel=1e-12, abs=1e-13)
