"""What a walk-forward backtest leaves behind: arrays, and tables built from them when they are asked for.

Clock: the equity of a row is the book at that close before the trades made there; the period of a decision at t is
(t, t + H], and holds the costs of its trades. The book at the end is marked, not closed; a last period cut short by
the end of the data counts as one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from slipstream.core.backtest.config import BacktestConfig
from slipstream.core.backtest.frames import Asset
from slipstream.core.backtest.parts import FEES, FUNDING, IMPACT, PRICE
from slipstream.core.metrics import max_drawdown, sharpe_ratio
from slipstream.core.panel import HOURS_PER_YEAR, FloatArray, IntArray
from slipstream.errors import SlipstreamError

if TYPE_CHECKING:
    import pandas as pd
    from _typeshed import StrPath


class NoReportWriter(SlipstreamError):
    """A page was asked for where no room that writes pages has been introduced."""


@dataclass(frozen=True)
class Counts:
    """What did not go by the book.

    Attributes:
        n_failed: decisions the optimiser did not solve; the book was held.
        n_funding_missing: settlements due on a position and not recorded, charged 0.
        n_frozen: coin-bars in which a position stood without a return.
        n_delisted: positions closed because their coin's data ended.
        n_lots_missed: decisions at which whole lots could not bring beta within tolerance.
    """

    n_failed: int
    n_funding_missing: int
    n_frozen: int
    n_delisted: int
    n_lots_missed: int


@dataclass(frozen=True)
class BacktestResult:
    """One run: K decisions, N assets, R rows from the first decision on.

    Attributes:
        config: what was run.
        assets: labels, the column order of positions.
        time_ms: (R,) known-at of each bar from the first decision to the last row (or to ruin), Unix ms.
        equity_usd: (R,) the first is the initial capital.
        pnl_usd: (R, 4) P&L of the bar that ends at each row: price, funding, fees, impact; costs are negative.
        decision_index: (K,) rows of the arrays above at which decisions were taken.
        weights: (K, N) positions just after each decision's trades, fractions of equity just before them.
        notional_usd: (K, N) signed notional traded.
        closed_usd: (K,) notional of forced closes in each decision's period.
        beta_exposure: (K,) exposure to the first column of beta just after trading, fraction of equity.
        counts: what did not go by the book.
        ruined: the equity fell to zero or below and the run stopped.
        report_writer: what :meth:`report` hands the result to. The mathematics writes no files: the face of the
            engine, :mod:`slipstream.portfolio`, sets it.
    """

    report_writer: ClassVar[Callable[[BacktestResult, StrPath], None] | None] = None

    config: BacktestConfig
    assets: tuple[Asset, ...]
    time_ms: IntArray = field(repr=False)
    equity_usd: FloatArray = field(repr=False)
    pnl_usd: FloatArray = field(repr=False)
    decision_index: IntArray = field(repr=False)
    weights: FloatArray = field(repr=False)
    notional_usd: FloatArray = field(repr=False)
    closed_usd: FloatArray = field(repr=False)
    beta_exposure: FloatArray = field(repr=False)
    counts: Counts
    ruined: bool

    @cached_property
    def equity_curve(self) -> pd.Series:
        """Equity at every bar, USD, indexed by UTC time."""
        import pandas as pd

        return pd.Series(self.equity_usd, index=self._utc(self.time_ms), name="equity")

    @cached_property
    def returns(self) -> pd.Series:
        """Net return of each decision's period on the equity it began with, indexed by the period's end."""
        import pandas as pd

        return pd.Series(self.period_returns, index=self._utc(self.time_ms[self._ends]), name="return")

    @cached_property
    def positions(self) -> pd.DataFrame:
        """Weights after each trade, one row per decision."""
        import pandas as pd

        index = self._utc(self.time_ms[self.decision_index])
        return pd.DataFrame(self.weights, index=index, columns=pd.Index(self.assets))

    @cached_property
    def trades(self) -> pd.DataFrame:
        """One row per decision; capital is before trading, P&L and cost (USD) are of the period that follows."""
        import pandas as pd

        parts = self.period_pnl_usd
        capital = self.equity_usd[self.decision_index]
        gross = parts[:, PRICE] + parts[:, FUNDING]
        cost = -(parts[:, FEES] + parts[:, IMPACT])
        return pd.DataFrame(
            {
                "timestamp": self._utc(self.time_ms[self.decision_index]),
                "capital": capital,
                "pnl_gross": gross,
                "pnl_price": parts[:, PRICE],
                "pnl_funding": parts[:, FUNDING],
                "cost": cost,
                "pnl_net": gross - cost,
                "turnover": self.turnover,
                "n_positions": (self.weights != 0.0).sum(axis=1),
                "beta_exposure": self.beta_exposure,
                "leverage": np.abs(self.weights).sum(axis=1),
            }
        )

    @cached_property
    def period_pnl_usd(self) -> FloatArray:
        """(K, 4) P&L of each decision's period, parts as in ``pnl_usd``."""
        return np.add.reduceat(self.pnl_usd, self.decision_index + 1, axis=0)

    @cached_property
    def period_returns(self) -> FloatArray:
        """(K,) the values of ``returns``."""
        return np.asarray(self.period_pnl_usd.sum(axis=1) / self.equity_usd[self.decision_index])

    @cached_property
    def turnover(self) -> FloatArray:
        """(K,) notional traded in each period, forced closes included, over the equity it began with."""
        traded = np.abs(self.notional_usd).sum(axis=1) + self.closed_usd
        return np.asarray(traded / self.equity_usd[self.decision_index])

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """The figures of :meth:`summary`, the P&L by part (USD), the counts, ``ruined`` and the accounting error."""
        price, funding, fees, impact = (float(part) for part in self.pnl_usd.sum(axis=0))
        return {
            **self.summary(),
            "pnl_price": price,
            "pnl_funding": funding,
            "fees": -fees,
            "impact": -impact,
            **vars(self.counts),
            "ruined": self.ruined,
            "accounting_max_error": self.accounting_max_error,
        }

    @property
    def accounting_max_error(self) -> float:
        """Largest gap between a bar's change of equity and the sum of its parts, fraction of initial capital."""
        gap = np.diff(self.equity_usd) - self.pnl_usd[1:].sum(axis=1)
        return float(np.abs(gap).max(initial=0.0)) / self.config.initial_capital

    @property
    def trade_fingerprint(self) -> str:
        """SHA-256 over the time and the exact bits of every trade, by asset."""
        digest = hashlib.sha256("\n".join(map(str, self.assets)).encode())
        digest.update(self.time_ms[self.decision_index].astype("<i8").tobytes())
        digest.update(self.notional_usd.astype("<f8").tobytes())
        return digest.hexdigest()

    def sharpe_ratio(self, annualization_factor: float | None = None) -> float:
        """Annualised Sharpe ratio of the period returns; 0.0 where they do not vary.

        Args:
            annualization_factor: periods in a year; default 8766 / H.
        """
        return sharpe_ratio(
            self.period_returns,
            HOURS_PER_YEAR / self.config.H if annualization_factor is None else annualization_factor,
        )

    def max_drawdown(self) -> float:
        """Deepest fall of the equity from a previous high over all bars, at most 0."""
        return max_drawdown(self.equity_usd)

    def total_return(self) -> float:
        """Final equity over initial capital, minus 1."""
        return float(self.equity_usd[-1] / self.equity_usd[0] - 1.0)

    def summary(self) -> dict[str, float]:
        """The figures one looks at first."""
        return {
            "total_return": self.total_return(),
            "sharpe_ratio": self.sharpe_ratio(),
            "max_drawdown": self.max_drawdown(),
            "final_capital": float(self.equity_usd[-1]),
            "n_rebalances": len(self.decision_index),
            "avg_turnover": float(self.turnover.mean()),
            "total_costs": -float(self.pnl_usd[:, [FEES, IMPACT]].sum()),
            "avg_n_positions": float((self.weights != 0.0).sum(axis=1).mean()),
        }

    def report(self, path: StrPath) -> None:
        """Write the tearsheet: one HTML file that needs nothing but itself, whole or not at all.

        Args:
            path: the file; an existing one is replaced.

        Raises:
            NoReportWriter: :mod:`slipstream.portfolio` was never imported, and nothing else can write pages.
            OutputError: the file cannot be written.
        """
        writer = BacktestResult.report_writer
        if writer is None:
            raise NoReportWriter("no report can be written yet: import slipstream.portfolio, which brings the writer")
        writer(self, path)

    @property
    def _ends(self) -> IntArray:
        return np.append(self.decision_index[1:], len(self.time_ms) - 1)

    @staticmethod
    def _utc(time_ms: IntArray) -> pd.DatetimeIndex:
        import pandas as pd

        return pd.DatetimeIndex(time_ms.astype("datetime64[ms]")).tz_localize("UTC").as_unit("ns")
