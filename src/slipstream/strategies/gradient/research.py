"""Gradient on wide pandas frames: scores, weights and a backtest for research notebooks and studies.

The mathematics is that of ``targets``: the same compiled trend components, the same sides. What differs is the edge: a
frame has no universe rule, so a coin may be held at a row as soon as it has a return there.

The clock of the backtest: weights decided from rows up to t earn the simple returns of the rows after t. Between
rebalances positions drift with their prices. The cost of the trade at t is taken from the return of the next row.

Source: as :mod:`slipstream.core.signals.trend` and :mod:`slipstream.core.portfolio.sides`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

from slipstream.core.decision import NotEnoughHistory
from slipstream.core.frames import FrameError, bar_ms, cells, index_ms, unpadded
from slipstream.core.metrics import sharpe_ratio
from slipstream.core.panel import HOUR_MS, HOURS_PER_YEAR, BoolArray, FloatArray, IntArray
from slipstream.core.portfolio.sides import inverse_volatility_sides
from slipstream.core.signals.ewm import ewm_std
from slipstream.core.signals.spans import LOOKBACKS_HOURS, Normalization, Scale
from slipstream.core.signals.trend import mean_of_available, trend_components
from slipstream.errors import UsageError
from slipstream.strategies.gradient.config import GradientConfig, RiskMethod
from slipstream.strategies.gradient.sizing import (
    DAY_MS,
    MIN_DAYS,
    daily_returns,
    value_at_risk_sides,
)

if TYPE_CHECKING:
    import pandas as pd

    from slipstream.core.portfolio.costs import TransactionCostModel

ReturnsKind = Literal["log", "simple"]


@dataclass(frozen=True)
class _Grid:
    """An even grid of bars and where a frame's rows lie on it."""

    times: IntArray
    rows: IntArray
    bar_hours: float

    def spread(self, values: FloatArray) -> FloatArray:
        """Rows of a frame at their places on the grid, NaN elsewhere."""
        out = np.full((len(self.times), values.shape[1]), np.nan)
        out[self.rows] = values
        return out


def _grid_of(frame: pd.DataFrame, name: str) -> _Grid:
    times = index_ms(frame, name)
    step = bar_ms(times, name)
    return _Grid(np.arange(times[0], times[-1] + step, step), (times - times[0]) // step, step / HOUR_MS)


@overload
def compute_trend_strength(
    log_returns: pd.DataFrame,
    lookbacks: Sequence[float] = ...,
    normalization_method: Normalization = ...,
    return_components: Literal[False] = ...,
    *,
    scale: Scale = ...,
    bar_hours: float | None = ...,
) -> pd.DataFrame: ...
@overload
def compute_trend_strength(
    log_returns: pd.DataFrame,
    lookbacks: Sequence[float] = ...,
    normalization_method: Normalization = ...,
    *,
    return_components: Literal[True],
    scale: Scale = ...,
    bar_hours: float | None = ...,
) -> tuple[pd.DataFrame, dict[float, pd.DataFrame]]: ...
def compute_trend_strength(
    log_returns: pd.DataFrame,
    lookbacks: Sequence[float] = LOOKBACKS_HOURS,
    normalization_method: Normalization = "ewm",
    return_components: bool = False,
    *,
    scale: Scale = "sqrt",
    bar_hours: float | None = None,
) -> pd.DataFrame | tuple[pd.DataFrame, dict[float, pd.DataFrame]]:
    """Multi-horizon trend score of every coin at every row: the mean over lookbacks L of sum(r / sigma_L) / sqrt(n_L).

    Args:
        log_returns: log returns per bar, known-at x coin; NaN is a missing bar and stays missing.
        lookbacks: L, hours; those shorter than one bar are dropped with one warning.
        normalization_method: estimator of sigma_L over max(L, 128 h): "ewm" or "rolling".
        return_components: also return each lookback's own frame.
        scale: "sqrt" as above, "none" without the division by sqrt(n_L).
        bar_hours: length of a bar; default: the least step of the index, on whose grid missing rows count as missing
            bars. When it is given the rows are taken as consecutive bars and the index may hold anything.

    Returns:
        The score, shaped and labelled as ``log_returns``, NaN where fewer than half of the lookbacks are available;
        with ``return_components`` also ``{lookback in hours: frame}``.

    Raises:
        FrameError: an index or a cell that cannot be used.
        UsageError: an unknown option, a lookback that is not positive, or none as long as a bar.
    """
    import pandas as pd

    if normalization_method not in ("ewm", "rolling"):
        raise UsageError(f"normalization_method is {normalization_method!r}; it is 'ewm' or 'rolling'")
    if scale not in ("sqrt", "none"):
        raise UsageError(f"scale is {scale!r}; it is 'sqrt' or 'none'")
    values = unpadded(cells(log_returns, "log_returns"))
    if bar_hours is None:
        grid = _grid_of(log_returns, "log_returns")
    else:
        rows = np.arange(len(log_returns))
        grid = _Grid(rows, rows, _positive_hours("bar_hours", bar_hours))
    spans = [_positive_hours("a lookback", span) for span in lookbacks]
    parts = trend_components(grid.spread(values), grid.bar_hours, spans, normalization_method, scale)

    def frame(array: FloatArray) -> pd.DataFrame:
        return pd.DataFrame(array[grid.rows], index=log_returns.index, columns=log_returns.columns)

    score = frame(mean_of_available(list(parts.values())))
    return (score, {span: frame(part) for span, part in parts.items()}) if return_components else score


def construct_gradient_portfolio(
    trend: pd.DataFrame,
    returns: pd.DataFrame,
    top_n: int = 5,
    bottom_n: int | None = None,
    min_abs_strength: float = 0.0,
    risk_method: RiskMethod = "dollar_vol",
    target_side_var: float = 0.02,
    var_lookback_days: int = 60,
    vol_span: float = 256.0,
    target_side_dollar_vol: float = 1.0,
    max_gross: float = 2.0,
) -> pd.DataFrame:
    """Target weights at every row: the strongest against the weakest, each side at the same risk.

    Args:
        trend: score per known-at and coin; NaN is never held.
        returns: log returns per bar with the same labels; row t sizes with rows up to t.
        top_n: most longs, with scores above 0.
        bottom_n: most shorts, with scores below 0; None means as many as ``top_n``.
        min_abs_strength: scores nearer to zero are not traded.
        risk_method: "dollar_vol": the sum of |w| sigma of a side is ``target_side_dollar_vol``, split equally, both
            sides shrunk by one factor if gross exceeds ``max_gross``. "var": |w| in proportion to |score|, each side
            at ``target_side_var``, the book at no more than 1.5 times that.
        target_side_var: one-day 95 % value at risk of a side, fraction of equity ("var").
        var_lookback_days: whole UTC days of returns behind it ("var").
        vol_span: span of the sizing volatility, hours ("dollar_vol").
        target_side_dollar_vol: volatility of a side, per square-root year ("dollar_vol").
        max_gross: cap on the sum of absolute weights.

    Returns:
        Weights, fractions of equity, shaped and labelled as ``trend``; a row with one side empty is flat. With "var"
        the rows before 30 whole days are flat.

    Raises:
        FrameError: frames that cannot be used or have different labels.
        UsageError: a parameter out of range.
        NotEnoughHistory: "var" and no row has 30 whole days behind it, or a side's risk cannot be estimated.
    """
    import pandas as pd

    config = GradientConfig(
        top_n=top_n,
        bottom_n=bottom_n,
        min_abs_strength=min_abs_strength,
        risk_method=risk_method,
        target_side_var=target_side_var,
        var_lookback_days=var_lookback_days,
        vol_span=vol_span,
        target_side_dollar_vol=target_side_dollar_vol,
        max_gross=max_gross,
    )
    if not (trend.index.equals(returns.index) and trend.columns.equals(returns.columns)):
        raise FrameError("trend and returns have different labels; reindex one to the other")
    grid = _grid_of(returns, "returns")
    score = grid.spread(cells(trend, "trend"))
    past = grid.spread(unpadded(cells(returns, "returns")))
    eligible = ~np.isnan(past)
    decide = _by_value_at_risk if risk_method == "var" else _by_volatility
    weights = decide(score, past, eligible, grid, config)
    return pd.DataFrame(weights[grid.rows], index=trend.index, columns=trend.columns)


def _by_volatility(
    score: FloatArray, past: FloatArray, eligible: BoolArray, grid: _Grid, config: GradientConfig
) -> FloatArray:
    span = max(2, int(config.vol_span // grid.bar_hours))
    sigma = ewm_std(past, span, max(2, span // 2)) * np.sqrt(HOURS_PER_YEAR / grid.bar_hours)
    weights = np.zeros_like(score)
    for t in grid.rows:
        weights[t] = inverse_volatility_sides(
            score[t],
            eligible[t],
            sigma[t],
            top_n=config.top_n,
            bottom_n=config.bottom_n,
            side_volatility=config.target_side_dollar_vol,
            max_gross=config.max_gross,
            min_abs_score=config.min_abs_strength,
        )
    return weights


def _by_value_at_risk(
    score: FloatArray, past: FloatArray, eligible: BoolArray, grid: _Grid, config: GradientConfig
) -> FloatArray:
    if not grid.bar_hours.is_integer():
        raise FrameError(f"returns: value at risk needs bars of whole hours; these are {grid.bar_hours:g} h long")
    bar_hours = int(grid.bar_hours)
    weights = np.zeros_like(score)
    warm = False
    for t in grid.rows:
        reach = (config.var_lookback_days + 1) * 24 // bar_hours
        daily = daily_returns(
            past[max(0, t + 1 - reach) : t + 1], int(grid.times[t]), bar_hours, config.var_lookback_days
        )
        if len(daily) < MIN_DAYS:
            continue
        warm = True
        weights[t] = value_at_risk_sides(score[t], eligible[t], daily, config)
    if not warm:
        days = (grid.times[-1] - grid.times[0]) / DAY_MS
        raise NotEnoughHistory(f"value at risk needs {MIN_DAYS} whole days of returns; the frame spans {days:.1f}")
    return weights


@dataclass(frozen=True)
class GradientBacktest:
    """What a research backtest found.

    Attributes:
        weights: weights held just after each row's trading, known-at x coin.
        trend_strength: the score behind them.
        portfolio_returns: simple return per bar after funding and costs; NaN before the first position.
        portfolio_returns_gross: the same before costs (funding included).
        turnover: traded weight at each row.
        bar_hours: length of a bar, hours.
    """

    weights: pd.DataFrame
    trend_strength: pd.DataFrame
    portfolio_returns: pd.Series[float]
    portfolio_returns_gross: pd.Series[float]
    turnover: pd.Series[float]
    bar_hours: float

    def cumulative_returns(self, *, gross: bool = False) -> pd.Series[float]:
        """Compounded return since the start, per row."""
        returns = self.portfolio_returns_gross if gross else self.portfolio_returns
        return (1.0 + returns.fillna(0.0)).cumprod() - 1.0

    def annualized_sharpe(self, periods_per_year: float | None = None, *, gross: bool = False) -> float:
        """Sharpe ratio of the bars since the first position; 0.0 if they do not vary.

        Args:
            periods_per_year: default 8766 / bar_hours, 2191.5 for four-hour bars.
            gross: of the returns before costs.
        """
        returns = self.portfolio_returns_gross if gross else self.portfolio_returns
        year = HOURS_PER_YEAR / self.bar_hours if periods_per_year is None else periods_per_year
        return sharpe_ratio(np.asarray(returns, dtype=np.float64), year)


def run_gradient_backtest(
    log_returns: pd.DataFrame,
    trend: pd.DataFrame | None = None,
    *,
    funding: pd.DataFrame | None = None,
    cost_model: TransactionCostModel | None = None,
    rebalance_hours: float = 4.0,
    returns_kind: ReturnsKind = "log",
    **weights_args: Any,
) -> GradientBacktest:
    """Trade the gradient portfolio through a frame of returns.

    Args:
        log_returns: returns per bar, known-at x coin, of the kind named by ``returns_kind``; a position in a coin
            without a return stands still.
        trend: the score, labelled as ``log_returns``; default: :func:`compute_trend_strength` of it.
        funding: sum of the rates settled in the bar that ends at each row; longs pay when positive, a missing cell
            pays nothing. None: no funding.
        cost_model: costs of traded weights at its reference capital, its assets in the columns' order. None: free.
        rebalance_hours: hours between trades, a multiple of the bar, on the grid of the Unix epoch.
        returns_kind: "log" or "simple".
        **weights_args: arguments of :func:`construct_gradient_portfolio`.

    Raises:
        FrameError: frames that cannot be used or have different labels.
        UsageError: an option out of range, or a cost model for another number of coins.
        TypeError: a name that :func:`construct_gradient_portfolio` does not take.
    """
    import pandas as pd

    if returns_kind not in ("log", "simple"):
        raise UsageError(f"returns_kind is {returns_kind!r}; it is 'log' or 'simple'")
    given = cells(log_returns, "log_returns")
    logs = (
        log_returns if returns_kind == "log" else pd.DataFrame(np.log1p(given), log_returns.index, log_returns.columns)
    )
    grid = _grid_of(logs, "log_returns")
    score = compute_trend_strength(logs) if trend is None else trend
    wanted = construct_gradient_portfolio(score, logs, **weights_args).to_numpy(dtype=np.float64)
    rates = np.zeros_like(given)
    if funding is not None:
        if not (funding.index.equals(logs.index) and set(logs.columns) <= set(funding.columns)):
            raise FrameError("funding must have the rows of the returns and a column per coin; reindex it")
        rates = np.nan_to_num(cells(funding[list(logs.columns)], "funding"))
    if cost_model is not None and len(cost_model.fee_rate) != given.shape[1]:
        raise UsageError(f"cost_model covers {len(cost_model.fee_rate)} assets and the returns {given.shape[1]}")
    trades = _trade_rows(grid, rebalance_hours)
    moves = np.nan_to_num(np.expm1(cells(logs, "log_returns")))
    held, gross, net, turnover = _drift(wanted, moves, rates, trades, cost_model)
    begun = np.maximum.accumulate(np.concatenate(([False], (held[:-1] != 0.0).any(axis=1))))
    index = logs.index
    return GradientBacktest(
        weights=pd.DataFrame(held, index=index, columns=logs.columns),
        trend_strength=score,
        portfolio_returns=pd.Series(np.where(begun, net, np.nan), index=index, name="portfolio_return"),
        portfolio_returns_gross=pd.Series(np.where(begun, gross, np.nan), index=index, name="portfolio_return_gross"),
        turnover=pd.Series(turnover, index=index, name="turnover"),
        bar_hours=grid.bar_hours,
    )


def _trade_rows(grid: _Grid, rebalance_hours: float) -> BoolArray:
    """Which rows of the frame are rebalances, shape (T,)."""
    step = round(_positive_hours("rebalance_hours", rebalance_hours) * HOUR_MS)
    if step % round(grid.bar_hours * HOUR_MS):
        raise UsageError(
            f"rebalance_hours is {rebalance_hours:g}; it must be a multiple of the {grid.bar_hours:g} h bars"
        )
    return np.asarray(grid.times[grid.rows] % step == 0)


def _drift(
    wanted: FloatArray,
    moves: FloatArray,
    rates: FloatArray,
    trades: BoolArray,
    cost_model: TransactionCostModel | None,
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Weights after trading (T, N), gross and net return and turnover (T,) of a book that drifts between trades."""
    rows, _ = wanted.shape
    held = np.zeros_like(wanted)
    gross, net, turnover = np.zeros(rows), np.zeros(rows), np.zeros(rows)
    cost = 0.0
    for t in range(rows):
        if t:
            before = held[t - 1]
            gross[t] = before @ (moves[t] - rates[t])
            net[t] = gross[t] - cost
            if net[t] <= -1.0:
                raise UsageError(f"the book lost all it had at row {t}; lower max_gross or the side's risk target")
            held[t] = before * (1.0 + moves[t]) / (1.0 + net[t])
        cost = 0.0
        if trades[t]:
            moved = np.abs(wanted[t] - held[t])
            turnover[t] = moved.sum()
            if cost_model is not None:
                cost = float(moved @ cost_model.fee_rate + moved**1.5 @ cost_model.impact_coef)
            held[t] = wanted[t]
    return held, gross, net, turnover


def _positive_hours(name: str, hours: float) -> float:
    if not 0.0 < hours < np.inf:
        raise UsageError(f"{name} is {hours} hours; it must be positive")
    return float(hours)
