"""``slipstream.portfolio``: the documented names, the documented snippet, and what importing them costs."""

from __future__ import annotations

import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest

DOCUMENTED = {
    "run_backtest",
    "BacktestConfig",
    "optimize_portfolio",
    "optimize_portfolio_with_costs",
    "round_to_lots",
    "TransactionCostModel",
    "compute_transaction_costs",
    "decompose_risk",
    "estimate_covariance",
    "RollingCovariance",
    "BacktestResult",
    "FactorCovariance",
    "LiquidityCosts",
    "OptimizationError",
}


def test_the_documented_names_are_there_and_no_others() -> None:
    import slipstream.portfolio as face

    assert set(face.__all__) == DOCUMENTED
    assert all(hasattr(face, name) for name in DOCUMENTED)


def test_importing_the_face_loads_neither_tables_nor_a_compiler() -> None:
    code = (
        "import sys; from slipstream.portfolio import run_backtest, BacktestConfig, optimize_portfolio; "
        "print([m for m in ('pandas', 'polars', 'scipy.optimize', 'numba', 'clarabel') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_the_quick_start_runs_unchanged(capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(42)
    index = pd.date_range("2023-11-25", "2025-01-05", freq="8h", tz="UTC")
    coins = ["BTC", "ETH", "SOL", "kPEPE", "DOGE"]

    def frame(mean: float, scale: float) -> pd.DataFrame:
        return pd.DataFrame(rng.normal(mean, scale, (len(index), len(coins))), index=index, columns=coins)

    α_price, F_hat = frame(0.0, 2e-3), frame(1e-4, 5e-5)
    β_frame = pd.DataFrame(1.0, index=index, columns=coins) + frame(0.0, 0.2)
    S_matrix = np.full((5, 5), 2e-4) + np.diag(np.full(5, 5e-4))
    price_returns, funding_rates = frame(0.0, 0.02), frame(1e-4, 5e-5)

    from slipstream.portfolio import BacktestConfig, optimize_portfolio, run_backtest

    α, β, S = (α_price - F_hat).iloc[-1].to_numpy(), β_frame.iloc[-1].to_numpy(), S_matrix
    w = optimize_portfolio(alpha=α, beta=β, S=S, leverage=1.0)
    assert abs(w @ β) < 1e-6
    assert abs(np.abs(w).sum() - 1.0) < 1e-3

    config = BacktestConfig(
        H=8,
        start_date="2024-01-01",
        end_date="2024-12-31",
        initial_capital=1_000_000,
        leverage=1.0,
        use_costs=True,
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="no cost_model given")
        result = run_backtest(
            config=config,
            alpha_price=α_price,
            alpha_funding=F_hat,
            beta=β_frame,
            S=S_matrix,
            realized_returns=price_returns,
            realized_funding=funding_rates,
        )
    print(f"Sharpe: {result.sharpe_ratio():.2f}")
    print(f"Max drawdown: {result.max_drawdown():.2%}")
    sharpe, drawdown = capsys.readouterr().out.splitlines()
    assert sharpe == f"Sharpe: {result.sharpe_ratio():.2f}"
    assert drawdown.endswith("%")
    assert result.max_drawdown() < 0.0
    assert result.equity_curve.index[0] == pd.Timestamp("2024-01-01", tz="UTC")
    assert result.equity_curve.index[-1] == pd.Timestamp("2024-12-31", tz="UTC")
    assert result.summary()["n_rebalances"] == 365 * 3
    assert set(result.summary()) == {
        "total_return",
        "sharpe_ratio",
        "max_drawdown",
        "final_capital",
        "n_rebalances",
        "avg_turnover",
        "total_costs",
        "avg_n_positions",
    }
    assert list(result.trades.columns) == [
        "timestamp",
        "capital",
        "pnl_gross",
        "pnl_price",
        "pnl_funding",
        "cost",
        "pnl_net",
        "turnover",
        "n_positions",
        "beta_exposure",
        "leverage",
    ]
