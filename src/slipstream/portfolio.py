"""The portfolio engine under its documented name: optimisers, costs, lots and the walk-forward backtest.

A face only; everything lives in :mod:`slipstream.core`. Importing it loads neither pandas nor a compiler.
"""

from __future__ import annotations

from slipstream.core.backtest.config import BacktestConfig
from slipstream.core.backtest.result import BacktestResult
from slipstream.core.backtest.walk_forward import run_backtest
from slipstream.core.portfolio.costs import TransactionCostModel, compute_transaction_costs
from slipstream.core.portfolio.covariance import FactorCovariance
from slipstream.core.portfolio.lots import round_to_lots
from slipstream.core.portfolio.optimizer import (
    OptimizationError,
    optimize_portfolio,
    optimize_portfolio_with_costs,
)

__all__ = [
    "BacktestConfig",
    "BacktestResult",
    "FactorCovariance",
    "OptimizationError",
    "TransactionCostModel",
    "compute_transaction_costs",
    "optimize_portfolio",
    "optimize_portfolio_with_costs",
    "round_to_lots",
    "run_backtest",
]
