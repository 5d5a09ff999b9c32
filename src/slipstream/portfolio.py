"""The portfolio engine under its documented name: optimisers, costs, lots and the walk-forward backtest.

A face only; everything lives in :mod:`slipstream.core`. Importing it loads neither pandas nor a compiler.

It also introduces the one room that writes pages to the result that asks for one: ``result.report("x.html")``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from slipstream.core.backtest.config import BacktestConfig
from slipstream.core.backtest.liquidity_costs import LiquidityCosts
from slipstream.core.backtest.result import BacktestResult
from slipstream.core.backtest.walk_forward import run_backtest
from slipstream.core.portfolio.costs import TransactionCostModel, compute_transaction_costs
from slipstream.core.portfolio.covariance import FactorCovariance
from slipstream.core.portfolio.estimators import estimate_covariance
from slipstream.core.portfolio.lots import round_to_lots
from slipstream.core.portfolio.optimizer import (
    OptimizationError,
    optimize_portfolio,
    optimize_portfolio_with_costs,
)
from slipstream.core.portfolio.risk import decompose_risk
from slipstream.core.portfolio.rolling_covariance import RollingCovariance

if TYPE_CHECKING:
    from _typeshed import StrPath

__all__ = [
    "BacktestConfig",
    "BacktestResult",
    "FactorCovariance",
    "LiquidityCosts",
    "OptimizationError",
    "RollingCovariance",
    "TransactionCostModel",
    "compute_transaction_costs",
    "decompose_risk",
    "estimate_covariance",
    "optimize_portfolio",
    "optimize_portfolio_with_costs",
    "round_to_lots",
    "run_backtest",
]


def _write_report(result: BacktestResult, path: StrPath) -> None:
    # By name and on demand: the face depends on core alone, and who asks for no page loads no templates.
    import_module("slipstream.reports.backtest_report").write_backtest_report(result, path)


BacktestResult.report_writer = _write_report
