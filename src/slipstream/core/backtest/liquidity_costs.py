"""Costs that change with liquidity: fee, volatility and volume of each row instead of one coefficient for all.

Trading a notional q costs q * kappa * sigma * sqrt(q / ADV) in market impact, so with the traded weight |d| = q / C at
equity C the coefficient of |d|**1.5 is lambda = kappa * sigma * sqrt(C / ADV). A backtest sets it anew at every
decision, from what is known there and from the equity of that moment. A model fitted on the whole history would let
the first decisions know how liquid a coin was to become.

Source: see :mod:`slipstream.core.portfolio.costs`, whose law this is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from slipstream.core.backtest.config import BacktestInputError
from slipstream.core.backtest.frames import Grid, Table, make_grid, place, read_table
from slipstream.core.backtest.inputs import per_asset
from slipstream.core.panel import HOUR_MS, FloatArray, forward_fill
from slipstream.core.portfolio.costs import MIN_ORDER_USD, TAKER_FEE_BPS, CostError, impact_rate_usd

if TYPE_CHECKING:
    from slipstream.core.backtest.one_book import Prices

TRAILING_HOURS = 720
"""Thirty days: the window of volatility and volume in every impact cost of this code base."""


@dataclass(frozen=True)
class LiquidityCosts:
    """What trading costs at each row of a backtest, in place of a ``TransactionCostModel``.

    Tables are time x asset like every other of :func:`slipstream.core.backtest.walk_forward.run_backtest`: row t holds
    what is known at t. Where an entry is missing, or a volume is 0, the last one known stands in. Until a coin's costs
    are known for the first time it cannot be priced and is not traded.

    Attributes:
        fee_rate: fee plus half-spread, fraction of traded notional: one number, one per asset, or a table.
        sigma_daily: table of volatilities per square-root day, fractions.
        adv_usd: table of average daily volumes, USD.
        kappa: impact constant.
        min_trade_size: USD; the size of a lot where whole lots are asked for without prices.
    """

    fee_rate: Any = field(repr=False)
    sigma_daily: Any = field(repr=False)
    adv_usd: Any = field(repr=False)
    kappa: float = 1.0
    min_trade_size: float = MIN_ORDER_USD

    def __post_init__(self) -> None:
        for name in ("kappa", "min_trade_size"):
            value = getattr(self, name)
            if not (np.isfinite(value) and value >= 0.0):
                raise CostError(f"{name} is {value}; it must be finite and at least 0")

    @classmethod
    def trailing(
        cls,
        returns: Any,
        volume_usd: Any,
        fee_rate: Any,
        kappa: float = 1.0,
        *,
        returns_kind: str = "simple",
        bar_hours: float | None = None,
        window_hours: float = TRAILING_HOURS,
    ) -> LiquidityCosts:
        """Costs from the trailing volatility and volume of bars, as known at each row.

        Args:
            returns: table; row t is the return of the bar that ends at t.
            volume_usd: table of the USD traded in each bar; a bar without one counts 0.
            fee_rate: see the class.
            kappa: impact constant.
            returns_kind: ``"simple"`` or ``"log"``.
            bar_hours: length of a bar; None infers it from the index, as the backtest does.
            window_hours: window of both; a volatility needs a tenth of it.

        Raises:
            BacktestInputError: a table that cannot be read or does not fit the other.
        """
        from slipstream.core.signals.liquidity import average_daily_volume_of, daily_volatility_of

        moves, volumes = read_table("returns", returns), read_table("volume_usd", volume_usd)
        grid = make_grid(moves, [volumes], bar_hours)
        hours = grid.bar_ms / HOUR_MS
        logs = grid.lay(moves) if returns_kind == "log" else np.log1p(grid.lay(moves))
        sigma = daily_volatility_of(logs, hours, window_hours)
        adv = average_daily_volume_of(grid.lay(volumes), hours, window_hours)
        stamps, assets = (None, None) if grid.bare else (grid.time_ms, grid.assets)
        return cls(
            fee_rate,
            Table("sigma_daily", stamps, assets, sigma),
            Table("adv_usd", stamps, assets, adv),
            kappa,
        )

    def prices(self, grid: Grid, min_order_usd: float) -> Prices:
        """The rates of every row on a backtest's clock; NaN until a coin's are known.

        Raises:
            BacktestInputError: a table that cannot be read, lacks an asset, or holds a negative number.
        """
        from slipstream.core.backtest.one_book import Prices

        linear = self._fees(grid)
        sigma, adv = _laid(grid, "sigma_daily", self.sigma_daily), _laid(grid, "adv_usd", self.adv_usd)
        return Prices(
            linear_rate=linear,
            closing_rate=np.maximum(linear, TAKER_FEE_BPS * 1e-4),
            impact_rate=forward_fill(impact_rate_usd(sigma, adv, self.kappa)),
            min_order_usd=min_order_usd,
        )

    def _fees(self, grid: Grid) -> FloatArray:
        if np.ndim(self.fee_rate) == 2:
            return forward_fill(_laid(grid, "fee_rate", self.fee_rate))
        if np.ndim(self.fee_rate) == 0 and not hasattr(self.fee_rate, "keys"):
            fees = np.full(len(grid.assets), float(self.fee_rate))
        else:
            fees = per_asset("fee_rate", self.fee_rate, grid)
        wrong = np.flatnonzero(~(np.isfinite(fees) & (fees >= 0.0)))
        if len(wrong):
            asset = grid.assets[int(wrong[0])]
            raise BacktestInputError(f"fee_rate of {asset} is {fees[wrong[0]]}; it must be finite and at least 0")
        return fees[None, :]


def _laid(grid: Grid, name: str, given: Any) -> FloatArray:
    """A table of costs on the clock of the backtest; assets that the backtest does not know are left out."""
    table = given if isinstance(given, Table) else read_table(name, given)
    negative = np.argwhere(table.values < 0.0)
    if len(negative):
        row, column = (int(i) for i in negative[0])
        raise BacktestInputError(f"{place(table, row, column)} is {table.values[row, column]:g}; it is at least 0")
    if table.assets is None:
        return grid.lay(table)
    absent = [asset for asset in grid.assets if asset not in table.assets]
    if absent:
        raise BacktestInputError(f"{name} lacks {absent[0]!r}; give a column per asset, NaN where it is unknown")
    known = set(grid.assets)
    kept = [k for k, asset in enumerate(table.assets) if asset in known]
    if len(kept) < len(table.assets):
        table = Table(name, table.time_ms, tuple(table.assets[k] for k in kept), table.values[:, kept])
    return grid.lay(table)
