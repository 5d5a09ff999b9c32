"""The walk-forward backtest of one book: forecast, optimise, trade, hold, and account for every dollar.

At each decision only rows known by then are read: the forecasts of that row, the latest covariance, and the book as
it has drifted. The optimiser plans with the same costs the book then pays. Its P&L is that of the bars after the
decision; the bar that ended at the decision is history.

A coin whose last return is missing is frozen: it can be neither bought nor sold, and the optimiser hedges the others
around it (where its exposure or variance is unknown, too, it only takes its share of the gross). A coin that can be
traded but has no forecast goes to zero; one whose costs have never been known is not traded at all.

Source: Boyd et al. (2017), single-period optimisation with the accounting of section 2; the costs of
:mod:`slipstream.core.portfolio.costs`.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from slipstream.core.backtest.config import BacktestConfig, BacktestInputError, moment_ms
from slipstream.core.backtest.inputs import Inputs, read_inputs
from slipstream.core.backtest.liquidity_costs import LiquidityCosts
from slipstream.core.backtest.result import BacktestResult, Counts
from slipstream.core.panel import BoolArray, FloatArray, IntArray, utc
from slipstream.core.portfolio.costs import MIN_ORDER_USD, TAKER_FEE_BPS, CostError, TransactionCostModel
from slipstream.core.portfolio.covariance import FactorCovariance

if TYPE_CHECKING:
    from slipstream.core.backtest.one_book import Book, Market, Prices

CostModel = TransactionCostModel | LiquidityCosts


def run_backtest(
    config: BacktestConfig,
    alpha_price: Any,
    alpha_funding: Any,
    beta: Any,
    S: Any,
    realized_returns: Any,
    realized_funding: Any,
    cost_model: TransactionCostModel | LiquidityCosts | None = None,
    vol_scale: Any = None,
    *,
    prices: Any = None,
    sz_decimals: Any = None,
) -> BacktestResult:
    """Trade forecasts through history.

    Tables are time x asset: pandas frames with a time index, polars frames whose first column is the time, or bare
    arrays in the rows and columns of the returns (hourly bars if the returns are bare, too). Assets are the returns'
    columns, then those only other tables have, which are never traded. Where an argument is per asset without labels
    (a vector of betas, S, ``cost_model``) that is its order. Funding is charged on the position at each bar's open.

    Args:
        config: see :class:`BacktestConfig`.
        alpha_price: row t is the forecast, made at t, of the return over (t, t + H], fraction.
        alpha_funding: the same of the sum of the funding rates; alpha is price minus funding. NaN: no forecast.
        beta: table of exposures to neutralise, or constant: (N,), a labelled series, or (N, K); also (T, N, K).
        S: covariance per H hours: (N, N) array or frame, a ``FactorCovariance``, a mapping from the time each is
            known (the latest is used), or None for the trailing 2880 h variances without correlations.
        realized_returns: row t is the return of the bar that ends at t. NaN: the position is frozen.
        realized_funding: row t is the sum of the rates settled in that bar, fraction of notional, paid by longs when
            positive. NaN counts 0; where a settlement was due, by the coin's own past stamps, it is counted, too.
        cost_model: what trading costs: a ``TransactionCostModel``, the same at every row; or ``LiquidityCosts``, as
            known at each row (a delayed fill pays the costs of its own row). Either way impact grows with the equity
            of the moment. None takes ``TransactionCostModel.create_default`` with a warning.
        vol_scale: volatilities by which alphas in units of sigma are multiplied: a table, or ``{"price": table,
            "funding": table}``.
        prices: USD, needed with ``sz_decimals`` for whole lots; NaN: the coin is not traded.
        sz_decimals: decimals of each coin's lot, mapping by asset or (N,).

    Raises:
        BacktestInputError: (a ``ValueError``) an input that cannot be used, or no row to decide at.
        CostError: the cost model is for another number of assets.
    """
    inputs = read_inputs(
        config, alpha_price, alpha_funding, beta, S, realized_returns, realized_funding, vol_scale, prices, sz_decimals
    )
    if config.use_discrete_lots:
        _require_lots(inputs, cost_model)
    first, last = _span(config, inputs)
    return _Run(config, inputs, _cost_model(config, cost_model, len(inputs.grid.assets)), first, last).result()


def _span(config: BacktestConfig, inputs: Inputs) -> tuple[int, int]:
    """Row of the first decision and the last row used."""
    time_ms = inputs.grid.time_ms
    start, end = moment_ms("start_date", config.start_date), moment_ms("end_date", config.end_date)
    first = int(np.ceil(config.min_history_hours / inputs.bar_hours))
    last = len(time_ms) - 1
    if start is not None:
        first = max(first, int(np.searchsorted(time_ms, start)))
    if end is not None:
        last = int(np.searchsorted(time_ms, end, side="right")) - 1
    if first >= last:
        span = f"{utc(int(time_ms[0])):%Y-%m-%d %H:%M} to {utc(int(time_ms[-1])):%Y-%m-%d %H:%M} UTC"
        raise BacktestInputError(
            f"no decision can be taken: realized_returns has {len(time_ms)} rows, {span}; none on or after start_date "
            f"({config.start_date}) with {config.min_history_hours:g} h behind it lies before end_date "
            f"({config.end_date}). Give a longer history or a smaller min_history_hours"
        )
    return first, last


def _require_lots(inputs: Inputs, model: CostModel | None) -> None:
    if (inputs.prices is None) != (inputs.lot_decimals is None):
        raise BacktestInputError("whole lots need prices and sz_decimals together, or neither")
    if inputs.prices is None and model is not None and not np.all(np.asarray(model.min_trade_size) > 0.0):
        asset = inputs.grid.assets[int(np.argmin(model.min_trade_size))]
        raise BacktestInputError(
            f"whole lots of {asset} have no size: give prices and sz_decimals, or a min_trade_size above 0"
        )


def _require_forecasts(inputs: Inputs, rows: IntArray, last: int) -> None:
    """A forecast table on another clock than the decisions must not pass for a strategy that stays in cash."""
    if np.isfinite(inputs.alpha[rows]).any():
        return
    elsewhere = np.flatnonzero(np.isfinite(inputs.alpha[rows[0] : last + 1]).any(axis=1))
    if len(elsewhere):
        stamp = utc(int(inputs.grid.time_ms[rows[0] + elsewhere[0]]))
        raise BacktestInputError(
            f"no forecast falls on a decision: decisions are at {utc(int(inputs.grid.time_ms[rows[0]])):%Y-%m-%d %H:%M}"
            f" UTC and every H hours, alpha_price minus alpha_funding is known at {stamp:%Y-%m-%d %H:%M}. "
            "Move start_date onto the forecasts"
        )


def _cost_model(config: BacktestConfig, model: CostModel | None, n: int) -> CostModel:
    if isinstance(model, LiquidityCosts):
        return model
    if model is not None:
        if len(model.fee_rate) != n:
            raise CostError(f"the cost model is for {len(model.fee_rate)} assets and the tables have {n}")
        return model
    if config.use_costs:
        warnings.warn(
            "no cost_model given: 2 bp and one impact coefficient for every coin, blind to liquidity", stacklevel=3
        )
    return TransactionCostModel.create_default(n)


class _Run:
    """The mutable state of one backtest."""

    def __init__(self, config: BacktestConfig, inputs: Inputs, model: CostModel, first: int, last: int) -> None:
        from slipstream.core.backtest.one_book import Book, Market
        from slipstream.core.portfolio.optimizer import compile_solver

        # One solver from the first decision to the last: the array twin that stands in while the compiled one loads
        # agrees to many digits, but not bit for bit, and a run must not depend on what ran before it.
        compile_solver()
        self.config, self.inputs, self.prices = config, inputs, _prices(config, model, inputs)
        self.first, self.last = first, last
        self.rows = np.arange(first, last, inputs.bars_per_period)
        _require_forecasts(inputs, self.rows, last)
        self.delay = round(config.fill_delay_hours / inputs.bar_hours)
        self.market: Market = Market.of_returns(inputs.returns[: last + 1], inputs.funding[: last + 1])
        self.book: Book = Book(self.market, self.prices, config.initial_capital, first, config.delist_after_bars)
        coins = self.market.coins
        self.lot_usd = np.broadcast_to(np.asarray(model.min_trade_size, dtype=np.float64), coins)
        self.weights = np.zeros((len(self.rows), coins))
        self.notional = np.zeros((len(self.rows), coins))
        self.failed = self.lots_missed = 0

    def result(self) -> BacktestResult:
        done, stop = self._walk()
        book, first, grid = self.book, self.first, self.inputs.grid
        rows = self.rows[:done]
        closed = np.add.reduceat(book.closed_usd[: stop + 1], rows + 1)
        missing, frozen, delisted = (int(count) for count in book.counts)
        market_beta = self.inputs.beta[rows, :, :1].sum(axis=2)
        return BacktestResult(
            config=self.config,
            assets=grid.assets,
            time_ms=grid.time_ms[first : stop + 1],
            equity_usd=book.equity[first : stop + 1],
            pnl_usd=book.pnl[first : stop + 1],
            decision_index=rows - first,
            weights=self.weights[:done],
            notional_usd=self.notional[:done],
            closed_usd=closed,
            beta_exposure=(self.weights[:done] * np.nan_to_num(market_beta)).sum(axis=1),
            counts=Counts(self.failed, missing, frozen, delisted, self.lots_missed),
            ruined=bool(book.equity[stop] <= 0.0),
        )

    def _walk(self) -> tuple[int, int]:
        """Decide and hold until the end or ruin; the number of decisions taken and the last row reached."""
        for k, row in enumerate(self.rows.tolist()):
            until = min(row + self.inputs.bars_per_period, self.last)
            fill = row + self.delay
            target = self._target_units(row)
            stop = self.book.carry(row, min(fill, until)) if self.delay else row
            if self.book.equity[stop] > 0.0 and fill < until:
                self.notional[k] = self.book.trade_to(target, fill).notional_usd
                self.weights[k] = self.book.positions_usd(fill) / self.book.equity[fill]
                stop = self.book.carry(fill, until)
            elif self.book.equity[stop] > 0.0:
                self.weights[k] = self.book.positions_usd(stop) / self.book.equity[stop]
            if self.book.equity[stop] <= 0.0:
                return k + 1, stop
        return len(self.rows), self.last

    def _target_units(self, row: int) -> FloatArray:
        """The decision at ``row`` in units of mark, (N,); what is not to be traded keeps its units bit for bit."""
        equity = float(self.book.equity[row])
        held = self.book.positions_usd(row) / equity
        target = self._decide(row, held, equity)
        return np.where(target == held, self.book.units, target * equity / self.market.mark[row])

    def _decide(self, row: int, held: FloatArray, equity: float) -> FloatArray:
        """Target weights, shape (N,), from what is known at ``row``."""
        from slipstream.core.portfolio.optimizer import optimize_portfolio_with_costs

        config, inputs = self.config, self.inputs
        lots = self._lot_usd(row) if config.use_discrete_lots else None
        tradable = ~np.isnan(self.market.price[row])
        if lots is not None:
            tradable &= np.isfinite(lots)
        fee, impact_rate = self.prices.at(row)
        priced = np.isfinite(fee) & np.isfinite(impact_rate)
        active = tradable & priced & inputs.forecast_at(row) & inputs.covariance.known(row)
        target = np.where(tradable, 0.0, held)
        frozen = ~tradable & (held != 0.0)
        pinned = frozen & inputs.exposed_at(row) & inputs.covariance.known(row)
        which = np.flatnonzero(active | pinned)
        if not active.any():
            return target
        S = inputs.covariance.for_assets(row, which)
        exposures = np.ascontiguousarray(inputs.beta[row, which])
        unseen = float(np.abs(held[frozen & ~pinned]).sum())
        gross = max(config.leverage - unseen, float(np.abs(held[pinned]).sum()))
        wanted, info = optimize_portfolio_with_costs(
            np.where(pinned, 0.0, inputs.alpha[row])[which],
            exposures,
            S,
            held[which],
            np.where(pinned, np.inf, fee)[which],
            impact_rate[which] * np.sqrt(equity),
            gross,
            risk_aversion=config.risk_aversion,
            max_weight=config.max_weight,
            on_fail="hold",
        )
        if not info["success"]:
            self.failed += 1
            return held
        if lots is not None:
            wanted = self._in_lots(wanted, held[which], exposures, S, equity, lots[which], gross, pinned[which])
        target[which] = wanted
        return target

    def _lot_usd(self, row: int) -> FloatArray:
        """USD value of one lot of each coin at ``row``; NaN where its price is unknown."""
        inputs = self.inputs
        if inputs.prices is None or inputs.lot_decimals is None:
            return self.lot_usd
        price = np.where(inputs.prices[row] > 0.0, inputs.prices[row], np.nan)
        return np.asarray(10.0 ** (-inputs.lot_decimals.astype(np.float64)) * price)

    def _in_lots(
        self,
        wanted: FloatArray,
        held: FloatArray,
        beta: FloatArray,
        S: FactorCovariance | FloatArray,
        equity: float,
        lot_usd: FloatArray,
        leverage: float,
        frozen: BoolArray,
    ) -> FloatArray:
        from slipstream.core.portfolio.lots import round_to_lots

        config, still = self.config, frozen.copy()
        while True:
            rounded, info = round_to_lots(
                np.where(still, held, wanted),
                beta,
                S,
                equity,
                np.where(still, 1.0, lot_usd),
                beta_tolerance=config.beta_tolerance,
                min_notional=MIN_ORDER_USD,
                leverage=leverage,
                max_weight=config.max_weight,
                frozen=still,
                return_info=True,
            )
            # A change far below one lot is the rounding of a number, not a trade.
            change = np.abs(rounded - held) * equity
            same = still | (change < 1e-6 * lot_usd)
            too_small = ~same & (change < MIN_ORDER_USD) & (rounded != 0.0)
            if not too_small.any():
                break
            # The venue takes no such order: keep those positions and fit the others around them.
            still |= too_small
        self.lots_missed += not info["within_tolerance"]
        return np.where(same, held, rounded)


def _prices(config: BacktestConfig, model: CostModel, inputs: Inputs) -> Prices:
    from slipstream.core.backtest.one_book import Prices

    least = MIN_ORDER_USD if config.use_discrete_lots else 0.0
    if not config.use_costs:
        free = np.zeros(len(inputs.grid.assets))
        return Prices(free, free, free, least)
    if isinstance(model, LiquidityCosts):
        return model.prices(inputs.grid, least)
    return Prices(
        linear_rate=model.fee_rate,
        closing_rate=np.maximum(model.fee_rate, TAKER_FEE_BPS * 1e-4),
        impact_rate=model.impact_coef / np.sqrt(model.reference_capital),
        min_order_usd=least,
    )
