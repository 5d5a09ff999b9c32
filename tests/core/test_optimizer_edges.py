"""Degenerate programmes have one defined answer, unusable ones a one-line error, infeasible ones a name."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from slipstream.core.portfolio.covariance import CovarianceError, FactorCovariance
from slipstream.core.portfolio.optimizer import (
    OptimizationError,
    PortfolioInputError,
    compile_solver,
    optimize_portfolio,
    optimize_portfolio_with_costs,
)
from slipstream.core.portfolio.programme import Programme, solve

ALPHA = np.array([3e-3, -1e-3, 2e-3, -4e-3])
BETA = np.array([1.0, 0.8, 1.2, 0.9])
S = np.diag([4e-4, 9e-4, 4e-4, 6e-4]) + 1e-4
FLAT, FEE, IMPACT = np.zeros(4), np.full(4, 2e-4), np.full(4, 1e-3)


def costed(alpha=ALPHA, beta=BETA, S=S, held=FLAT, fee=FEE, impact=IMPACT, leverage=1.0, **more):
    return optimize_portfolio_with_costs(alpha, beta, S, held, fee, impact, leverage, **more)


def test_alpha_in_the_span_of_beta_earns_nothing_so_nothing_is_held():
    B = np.column_stack([BETA, BETA**2])
    for alpha in (FLAT, 3e-3 * BETA, B @ [1e-3, -2e-3], 1e-30 * BETA):
        for neutral in (BETA, B) if alpha @ BETA == 0.0 or np.ptp(alpha / BETA) < 1e-12 else (B,):
            assert (optimize_portfolio(alpha, neutral, S) == 0.0).all()
            w, info = costed(alpha=alpha, beta=neutral)
            assert (w == 0.0).all()
            assert info["success"]
            assert info["gap"] == 0.0


def test_as_many_neutralities_as_coins_leave_only_cash():
    B = np.random.default_rng(0).normal(size=(4, 4))
    assert (optimize_portfolio(ALPHA, B, S) == 0.0).all()
    held = np.array([0.1, -0.2, 0.1, 0.0])
    w, info = costed(beta=B, held=held)
    assert (w == 0.0).all()
    assert info["success"]
    assert info["turnover"] == pytest.approx(0.4)


def test_one_asset_with_a_beta_is_cash_and_without_one_is_the_kelly_bet():
    alpha, variance = np.array([2e-3]), np.array([[4e-3]])
    assert optimize_portfolio(alpha, np.ones(1), variance)[0] == 0.0
    w, _ = optimize_portfolio_with_costs(alpha, np.ones(1), variance, np.zeros(1), np.zeros(1), np.zeros(1))
    assert w[0] == 0.0
    none = np.zeros((1, 0))
    w, _ = optimize_portfolio_with_costs(alpha, none, variance, np.zeros(1), np.array([5e-4]), np.zeros(1))
    assert w[0] == pytest.approx((2e-3 - 5e-4) / 4e-3, rel=1e-12)
    w, _ = optimize_portfolio_with_costs(alpha, none, variance, np.zeros(1), np.zeros(1), np.zeros(1), 0.3)
    assert w[0] == 0.3


def test_one_trade_with_impact_solves_its_quadratic_in_the_root():
    """alpha - c - S x = 1.5 lam sqrt(x) for the one coin that may trade."""
    alpha, lam, v = 4e-3, 2e-3, 5e-3
    none, one = np.zeros((1, 0)), np.ones(1)
    w, _ = optimize_portfolio_with_costs(alpha * one, none, v * np.eye(1), 0.0 * one, 2e-4 * one, lam * one, 9.0)
    assert alpha - 2e-4 - v * w[0] == pytest.approx(1.5 * lam * np.sqrt(w[0]), rel=1e-10)


def test_an_empty_universe_is_an_empty_book():
    empty, none = np.zeros(0), np.zeros((0, 0))
    assert optimize_portfolio(empty, empty, none).shape == (0,)
    w, info = optimize_portfolio_with_costs(empty, empty, none, empty, empty, empty)
    assert w.shape == (0,)
    assert info["success"]
    assert info["n_positions"] == 0
    assert info["net_objective"] == 0.0


@pytest.mark.parametrize("more", [{"leverage": 0.0}, {"max_weight": 0.0}])
def test_no_leverage_or_no_weight_means_cash_and_the_cost_of_getting_there(more):
    w, info = costed(held=np.array([0.1, 0.0, -0.1, 0.0]), **more)
    assert (w == 0.0).all()
    assert info["success"]
    assert info["turnover"] == pytest.approx(0.2)
    assert info["transaction_cost"] > 0.0


def test_zero_costs_zero_impact_and_both_are_ordinary():
    kelly = optimize_portfolio(ALPHA, BETA, S, 1e3, scale="kelly")
    w, info = costed(fee=FLAT, impact=FLAT, leverage=1e3)
    np.testing.assert_allclose(w, kelly, rtol=1e-5)
    assert info["success"]
    for fee, impact in ((FEE, FLAT), (FLAT, IMPACT)):
        w, info = costed(fee=fee, impact=impact)
        assert info["success"]
        assert 0.0 < np.abs(w).sum() <= 1.0 + 1e-12


def test_a_singular_covariance_has_a_certified_answer_dense_or_in_factors():
    F = np.array([[0.02], [0.01], [0.03], [0.015]])
    answers = []
    for covariance in (
        F @ F.T,
        FactorCovariance(F, np.zeros(4)),
        np.zeros((4, 4)),
        FactorCovariance(0.0 * F, np.zeros(4)),
    ):
        for fee, impact in ((FEE, IMPACT), (FEE, FLAT), (FLAT, FLAT)):
            w, info = costed(S=covariance, fee=fee, impact=impact, max_weight=0.4)
            assert info["success"], info["message"]
            assert np.abs(w).sum() <= 1.0 + 1e-12
            answers.append(info["net_objective"])
    np.testing.assert_allclose(answers[:3], answers[3:6], rtol=1e-9)
    np.testing.assert_allclose(answers[6:9], answers[9:12], rtol=1e-9)
    assert np.isfinite(optimize_portfolio(ALPHA, BETA, F @ F.T)).all()


@pytest.mark.parametrize("held", [FLAT, np.array([0.3, 0.0, -0.25, 0.1])])
@pytest.mark.parametrize("covariance", [np.zeros((4, 4)), FactorCovariance(np.zeros((4, 2)), np.zeros(4))])
def test_a_programme_of_zeros_is_answered_with_a_feasible_book(held, covariance):
    w, info = costed(alpha=FLAT, S=covariance, fee=FLAT, impact=FLAT, held=held)
    assert info["success"]
    assert info["gap"] <= 1e-10
    assert abs(w @ BETA) <= 1e-9
    assert held.any() or not w.any()


def test_held_weights_that_break_every_bound_are_brought_inside():
    held = np.array([3.0, -0.2, 1.0, 0.5])
    w, info = costed(held=held, leverage=0.7, max_weight=0.25)
    assert info["success"]
    assert np.abs(w).max() == 0.25
    assert np.abs(w).sum() <= 0.7 * (1.0 + 1e-12)


def test_a_coin_that_cannot_be_traded_keeps_its_weight_and_the_rest_hedge_it():
    held = np.array([0.2, 0.0, 0.0, 0.0])
    w, info = costed(held=held, fee=np.array([np.inf, 2e-4, 2e-4, 2e-4]), alpha=FLAT)
    assert w[0] == 0.2
    assert abs(w @ BETA) <= 1e-9
    assert info["success"]
    assert np.isfinite(info["transaction_cost"])


def test_what_cannot_be_met_is_an_error_or_a_hold_never_a_wrong_book():
    held = np.array([0.9, 0.0, 0.0, 0.0])
    stuck = {"held": held, "fee": np.array([np.inf, 2e-4, 2e-4, 2e-4]), "leverage": 1.0}
    with pytest.raises(OptimizationError, match="infeasible") as error:
        costed(**stuck)
    assert error.value.exit_code == 1
    assert "\n" not in str(error.value)
    w, info = costed(**stuck, on_fail="hold")
    assert (w == held).all()
    assert not info["success"]
    assert info["turnover"] == 0.0


def test_too_few_iterations_are_reported_and_not_passed_off_as_an_answer():
    rng = np.random.default_rng(3)
    n = 60
    S = FactorCovariance(0.02 * rng.normal(size=(n, 4)), rng.uniform(0.01, 0.03, n) ** 2)
    arguments = (
        5e-3 * rng.normal(size=n),
        rng.uniform(0.5, 1.5, n),
        S,
        0.1 * rng.normal(size=n),
        *np.full((2, n), 1e-3),
    )
    with pytest.raises(OptimizationError, match="no certified answer"):
        optimize_portfolio_with_costs(*arguments, max_iter=1)
    _, info = optimize_portfolio_with_costs(*arguments, max_iter=1, on_fail="hold")
    assert not info["success"]
    assert optimize_portfolio_with_costs(*arguments)[1]["success"]


def test_more_iterations_than_needed_change_nothing_and_few_are_enough():
    w, info = costed()
    assert info["iterations"] <= 15
    assert (costed(max_iter=5000)[0] == w).all()


NAN = np.array([1.0, np.nan, 1.0, 1.0])


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("alpha", {"alpha": NAN}),
        ("beta", {"beta": NAN}),
        ("w_old", {"held": NAN}),
        ("w_old", {"held": np.array([np.inf, 0.0, 0.0, 0.0])}),
        ("cost_linear", {"fee": NAN}),
        ("cost_impact", {"impact": NAN}),
        ("cost_linear", {"fee": -FEE}),
        ("alpha", {"alpha": ALPHA[:, None]}),
        ("w_old", {"held": np.zeros(3)}),
        ("cost_impact", {"impact": np.zeros(5)}),
        ("beta", {"beta": np.ones(3)}),
        ("S", {"S": np.eye(3)}),
        ("S", {"S": np.ones((4, 3))}),
        ("S", {"S": np.where(np.eye(4) > 0, np.nan, 0.0)}),
        ("S", {"S": FactorCovariance(np.zeros((3, 1)), np.ones(3))}),
        ("not symmetric", {"S": S + np.triu(np.full((4, 4), 1e-9), 1)}),
        ("not positive semidefinite", {"S": S - 1e-3 * np.eye(4)}),
        ("leverage", {"leverage": -1.0}),
        ("leverage", {"leverage": np.inf}),
        ("leverage", {"leverage": np.nan}),
        ("risk_aversion", {"risk_aversion": 0.0}),
        ("max_weight", {"max_weight": -0.1}),
        ("max_iter", {"max_iter": 0}),
        ("ftol", {"ftol": 0.0}),
        ("on_fail", {"on_fail": "ignore"}),
    ],
)
def test_unusable_input_is_named_in_one_line(name, change):
    with pytest.raises(PortfolioInputError, match=name) as error:
        costed(**change)
    assert isinstance(error.value, ValueError)
    assert error.value.exit_code == 2
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "change",
    [
        {"alpha": NAN},
        {"beta": NAN},
        {"S": np.eye(3)},
        {"S": S + np.triu(np.full((4, 4), 1e-9), 1)},
        {"S": S - 1e-3 * np.eye(4)},
        {"S": np.zeros((4, 4))},
        {"S": FactorCovariance(np.zeros((4, 1)), np.zeros(4))},
        {"leverage": -1.0},
        {"scale": "equity"},
        {"scale": "kelly", "risk_aversion": 0.0},
    ],
)
def test_the_closed_form_refuses_the_same_input(change):
    with pytest.raises(PortfolioInputError):
        optimize_portfolio(**({"alpha": ALPHA, "beta": BETA, "S": S} | change))


def test_an_asymmetry_of_rounding_is_accepted_and_does_not_move_the_answer():
    skewed = S + np.triu(np.full((4, 4), 1e-13), 1)
    np.testing.assert_allclose(costed(S=skewed)[0], costed()[0], atol=1e-9)
    np.testing.assert_allclose(optimize_portfolio(ALPHA, BETA, skewed), optimize_portfolio(ALPHA, BETA, S), atol=1e-9)


def test_kelly_scale_keeps_the_size_risk_aversion_asks_for_until_the_cap():
    small = optimize_portfolio(ALPHA, BETA, S, 100.0, scale="kelly", risk_aversion=10.0)
    smaller = optimize_portfolio(ALPHA, BETA, S, 100.0, scale="kelly", risk_aversion=20.0)
    np.testing.assert_allclose(small, 2.0 * smaller, rtol=1e-12)
    capped = optimize_portfolio(ALPHA, BETA, S, 0.1, scale="kelly", risk_aversion=10.0)
    assert np.abs(capped).sum() == pytest.approx(0.1)
    np.testing.assert_allclose(capped / 0.1, optimize_portfolio(ALPHA, BETA, S), rtol=1e-9)


def test_the_arguments_are_never_written_to():
    arrays = [ALPHA.copy(), BETA.copy(), S.copy(), FLAT.copy(), FEE.copy(), IMPACT.copy()]
    for array in arrays:
        array.setflags(write=False)
    w, _ = optimize_portfolio_with_costs(*arrays)
    w[0] = 1.0
    assert (arrays[3] == 0.0).all()


def test_figures_read_late_are_those_of_the_moment_of_the_answer():
    """A backtest overwrites its weights in place; an info read afterwards must not notice."""
    alpha, held, dense = ALPHA.copy(), FLAT.copy(), S.copy()
    w, info = costed(alpha=alpha, held=held, S=dense)
    expected = [alpha @ w, np.abs(w - held).sum(), w @ dense @ w]
    held[:], alpha[:], dense[:] = 9.0, 9.0, 9.0
    w[:] = 9.0
    assert [info["expected_return"], info["turnover"], info["variance"]] == pytest.approx(expected, rel=1e-14)


def test_lists_integers_and_strided_arrays_are_accepted():
    plain, _ = costed()
    strided = np.column_stack([ALPHA, BETA])[:, 0]
    listed, _ = optimize_portfolio_with_costs(
        strided, BETA.tolist(), S.tolist(), [0, 0, 0, 0], FEE.tolist(), IMPACT.tolist()
    )
    assert (listed == plain).all()


def test_info_is_complete_and_its_figures_agree_with_their_definitions():
    held = np.array([0.1, -0.1, 0.05, -0.05])
    w, info = costed(held=held, risk_aversion=2.0)
    keys = "success message iterations expected_return variance transaction_cost net_objective beta_exposure leverage"
    assert set(info) == {*keys.split(), "turnover", "n_positions", "gap", "solver"}
    assert len(info) == len(list(info))
    d = np.abs(w - held)
    assert info["expected_return"] == pytest.approx(ALPHA @ w)
    assert info["variance"] == pytest.approx(w @ S @ w)
    assert info["transaction_cost"] == pytest.approx(FEE @ d + IMPACT @ d**1.5)
    assert info["net_objective"] == pytest.approx(
        info["expected_return"] - 2.0 / 2.0 * info["variance"] - info["transaction_cost"]
    )
    assert info["turnover"] == pytest.approx(d.sum())
    assert info["leverage"] == pytest.approx(np.abs(w).sum())
    assert isinstance(info["beta_exposure"], float)
    assert info["solver"] == "newton"
    with pytest.raises(KeyError):
        info["sharpe"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("alpha", NAN),
        ("held", NAN),
        ("linear", NAN),
        ("linear", -FEE),
        ("impact", -IMPACT),
        ("neutral", NAN[:, None]),
        ("lo", np.array([0.0, 2.0, 0.0, 0.0])),
        ("hi", NAN),
        ("gross_cap", float("nan")),
        ("gross_cap", float("inf")),
        ("gross_cap", -0.5),
        ("risk_aversion", float("nan")),
        ("risk_aversion", -1.0),
        ("risk_aversion", 0.0),
    ],
)
def test_a_programme_built_by_hand_is_not_believed_either(name, value):
    fields = {"alpha": ALPHA, "neutral": BETA[:, None], "covariance": S, "held": FLAT, "linear": FEE, "impact": IMPACT}
    fields |= {"lo": np.full(4, -1.0), "hi": np.ones(4), "gross_cap": 1.0}
    assert solve(Programme(**fields)).certified
    with pytest.raises(PortfolioInputError) as error:
        solve(Programme(**(fields | {name: value})))
    assert "\n" not in str(error.value)


def test_a_programme_takes_strided_and_integer_arrays_from_either_engine():
    wide = np.column_stack([ALPHA, BETA, FEE])
    fields = {
        "alpha": wide[:, 0],
        "neutral": wide[:, 1:2],
        "covariance": FactorCovariance(np.zeros((4, 0)), np.diag(S)),
    }
    fields |= {"held": [0, 0, 0, 0], "linear": wide[:, 2], "impact": IMPACT[::-1], "lo": [-1] * 4, "hi": [1] * 4}
    before = solve(Programme(**fields, gross_cap=1.0))
    compile_solver()
    after = solve(Programme(**fields, gross_cap=1.0))
    assert before.certified
    assert (before.w == after.w).all()


def test_a_factor_covariance_checks_itself_and_stays_as_checked():
    with pytest.raises(CovarianceError, match="coin 1"):
        FactorCovariance(np.array([[0.1], [np.nan]]), np.ones(2))
    with pytest.raises(CovarianceError, match="coin 0"):
        FactorCovariance(np.zeros((2, 1)), np.array([-1.0, 1.0]))
    with pytest.raises(CovarianceError, match="shape"):
        FactorCovariance(np.zeros((2, 1)), np.ones(3))
    mine = np.full((2, 1), 0.1)
    covariance = FactorCovariance(mine, np.ones(2))
    mine[0, 0] = np.nan
    assert np.isfinite(covariance.dense()).all()
    with pytest.raises(ValueError, match="read-only"):
        covariance.idio_var[0] = -1.0
    w = np.array([0.3, -0.7])
    np.testing.assert_allclose(covariance.times(w), covariance.dense() @ w, rtol=1e-14)
    np.testing.assert_allclose(covariance.diagonal(), np.diag(covariance.dense()), rtol=1e-14)


def test_the_first_answers_of_a_process_load_neither_numba_nor_scipy():
    """A one-off rebalance must not wait for a compiler."""
    script = (
        "import sys, numpy as np\n"
        "from slipstream.core.portfolio.optimizer import optimize_portfolio, optimize_portfolio_with_costs as f\n"
        "rng = np.random.default_rng(0)\n"
        "a, b, z = rng.normal(size=9), rng.normal(size=9), np.zeros(9)\n"
        "w, info = f(a, b, np.eye(9), z, z + 0.01, z + 0.01)\n"
        "assert info['success'] and abs(w).sum() > 0\n"
        "assert not {'numba', 'scipy', 'clarabel', 'pandas'} & set(sys.modules), sorted(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
