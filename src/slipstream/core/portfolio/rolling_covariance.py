"""The IEWMA covariance as of any row of a history, brought forward from one decision to the next.

A backtest asks for the covariance at every decision. Nothing is fitted again: the weighted sums of the last decision
decay, the new rows come in and the rows that left the lookback go out, O(N^2) each; the K factors are then read from
the N x N correlations. The answer at a row depends on the rows up to it, and on earlier questions only by round-off.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from slipstream.core.panel import BoolArray, FloatArray
from slipstream.core.portfolio.covariance import CovarianceError, FactorCovariance
from slipstream.core.portfolio.iewma import (
    Iewma,
    decay_per_bar,
    factor_loadings,
    forecast_volatility,
    scores,
    weighted_correlation,
)
from slipstream.core.portfolio.net_series import NetSeries, net_series, varies


@dataclass(frozen=True)
class CovarianceAsOf:
    """A covariance of the coins that had enough history at a row.

    Attributes:
        row: the row it is of.
        known: (N,), coins it covers; the others lack history or did not move.
        covariance: of the covered coins, in their order.
    """

    row: int
    known: BoolArray
    covariance: FactorCovariance

    def dense(self) -> FloatArray:
        """The (N, N) matrix of all coins, NaN for those not covered: the form ``run_backtest`` takes with a date."""
        out = np.full((len(self.known), len(self.known)), np.nan)
        out[np.ix_(self.known, self.known)] = self.covariance.dense()
        return out


class RollingCovariance:
    """IEWMA covariances of one history, row after row.

    Args:
        returns: simple returns, time x coin; see :func:`~slipstream.core.portfolio.net_series.net_series`.
        funding: sums of settled rates laid out like ``returns``, or None.
        lookback_hours: rows older than this carry no weight in the correlations.
        min_hours: hours of net returns a coin needs within the lookback to be covered.
        horizon_hours: holding period H; the covariance is scaled by H over the bar. None: per bar.
        bar_hours: length of a bar; inferred from labels, 1 for bare arrays.
        iewma: half-lives and number of factors.

    Raises:
        BacktestInputError: a table that cannot be read.
        CovarianceError: spans that are shorter than a bar, or see :func:`net_series`.
    """

    def __init__(
        self,
        returns: Any,
        funding: Any = None,
        lookback_hours: float = 2880,
        min_hours: float = 720,
        horizon_hours: float | None = None,
        *,
        bar_hours: float | None = None,
        iewma: Iewma | None = None,
    ) -> None:
        settings = iewma or Iewma()
        self.series: NetSeries = net_series(returns, funding, bar_hours)
        hours = self.series.bar_hours
        self._window, self._least_rows = self.series.lookback(lookback_hours, min_hours)
        self._periods = 1.0 if horizon_hours is None else self.series.bars("horizon_hours", horizon_hours)
        self._factors = settings.factors
        self._decay = decay_per_bar(settings.correlation_half_life_hours, hours)
        values = self.series.values
        self._volatility = forecast_volatility(values, settings.volatility_half_life_hours, self._window, hours)
        scored = scores(values, self._volatility)
        self._scored = ~np.isnan(scored)
        self._scores = np.where(self._scored, scored, 0.0)
        self._present = ~np.isnan(values)
        self._moved = self.series.moves()
        self._start_over()

    @property
    def rows(self) -> int:
        return len(self.series.values)

    def at(self, row: int) -> CovarianceAsOf:
        """The covariance known at the close of ``row``.

        Cheapest when rows are asked for in ascending order; any order gives the same answer to round-off.

        Raises:
            CovarianceError: ``row`` is outside the history.
        """
        if not 0 <= row < self.rows:
            raise CovarianceError(f"row {row} is outside the history's {self.rows} rows")
        self._bring_to(row)
        volatility = self._volatility[row]
        known = (self._count >= self._least_rows) & self._varies(row) & (volatility > 0.0)
        which = np.ix_(known, known)
        loadings = factor_loadings(weighted_correlation(self._products[which], self._weight[which]), self._factors)
        variance = volatility[known] ** 2 * self._periods
        own_share = 1.0 - np.einsum("ik,ik->i", loadings, loadings)
        return CovarianceAsOf(row, known, FactorCovariance(loadings * np.sqrt(variance)[:, None], own_share * variance))

    def dated(self, rows: Iterable[int]) -> dict[np.datetime64, FloatArray]:
        """Dense matrices by the time each is known, for ``run_backtest(S=...)``: N^2 numbers per row are kept.

        Raises:
            CovarianceError: see :meth:`at`.
        """
        return {self.series.time_ms[row].astype("datetime64[ms]"): self.at(row).dense() for row in rows}

    def _varies(self, row: int) -> BoolArray:
        """Coins with two different returns in the lookback, shape (N,)."""
        out = self._moves > 1
        # A single move may be the one from before the lookback into it.
        doubtful = np.flatnonzero(self._moves == 1)
        if len(doubtful):
            out[doubtful] = varies(self.series.values[max(0, row + 1 - self._window) : row + 1, doubtful])
        return np.asarray(out)

    def _start_over(self) -> None:
        coins = self.series.values.shape[1]
        self._row = -1
        self._products = np.zeros((coins, coins))
        self._weight = np.zeros((coins, coins))
        self._count = np.zeros(coins, dtype=np.int64)
        self._moves = np.zeros(coins, dtype=np.int64)

    def _bring_to(self, row: int) -> None:
        """Bring the sums to ``row``: decay what is there, add the new rows, take out those that leave the lookback."""
        if row == self._row:
            return
        if row < self._row or row - self._row >= self._window:
            self._start_over()
            self._row = max(-1, row - self._window)
            entered, left = slice(self._row + 1, row + 1), slice(0, 0)
        else:
            entered = slice(self._row + 1, row + 1)
            left = slice(max(0, self._row + 1 - self._window), max(0, row + 1 - self._window))
        fade = self._decay ** (row - self._row)
        self._products *= fade
        self._weight *= fade
        for span, sign in ((entered, 1), (left, -1)):
            if span.stop > span.start:
                self._add(span, row, sign)
        self._row = row

    def _add(self, span: slice, row: int, sign: int) -> None:
        # With the root of the weights on both sides each sum is X'X, which BLAS computes once per pair, symmetric.
        root = self._decay ** (0.5 * (row - np.arange(span.start, span.stop)))[:, None]
        weighted = self._scores[span] * root
        self._products += sign * (weighted.T @ weighted)
        if self._scored[span].all():
            self._weight += sign * float((root**2).sum())
        else:
            presence = self._scored[span] * root
            self._weight += sign * (presence.T @ presence)
        self._count += sign * self._present[span].sum(axis=0)
        self._moves += sign * self._moved[span].sum(axis=0)
