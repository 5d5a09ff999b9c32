"""The inputs of a walk-forward backtest, checked and laid on one clock.

Row t of the returns and of the funding is the bar that *ends* at t; row t of a forecast was made at t for (t, t + H].
Nothing here looks ahead: a row of every array depends on the rows up to it.
"""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from slipstream.core.backtest.config import BacktestConfig, BacktestInputError, moment_ms
from slipstream.core.backtest.frames import Grid, Table, make_grid, place, read_table
from slipstream.core.panel import HOUR_MS, BoolArray, FloatArray, IntArray, utc
from slipstream.core.portfolio.covariance import FactorCovariance
from slipstream.core.settlements import missing_settlements_marked

_LOG = logging.getLogger(__name__)

TRAILING_VARIANCE_HOURS = 2880
"""Window of the variances that stand in when no covariance is given: the covariance estimators' own default."""

Covariance = FactorCovariance | FloatArray


@dataclass(frozen=True)
class Inputs:
    """T rows, N assets, K neutralities.

    Attributes:
        grid: clock and asset labels.
        bars_per_period: H over the bar.
        returns: (T, N) simple returns, NaN where the asset has none.
        funding: (T, N) sums of settled rates: 0 where none was due, NaN where one was and is missing.
        alpha: (T, N) expected net return over the H hours after each row, NaN where unknown.
        beta: (T, N, K) exposures to neutralise.
        covariance: S as of a row.
        prices: (T, N) USD, or None.
        lot_decimals: (N,) decimals of a lot, or None.
    """

    grid: Grid
    bars_per_period: int
    returns: FloatArray = field(repr=False)
    funding: FloatArray = field(repr=False)
    alpha: FloatArray = field(repr=False)
    beta: FloatArray = field(repr=False)
    covariance: CovarianceBook = field(repr=False)
    prices: FloatArray | None = field(repr=False)
    lot_decimals: IntArray | None = field(repr=False)

    @property
    def bar_hours(self) -> float:
        return self.grid.bar_ms / HOUR_MS

    def forecast_at(self, row: int) -> BoolArray:
        """Assets with a forecast and all exposures at ``row``, shape (N,)."""
        return np.asarray(np.isfinite(self.alpha[row]) & self.exposed_at(row))

    def exposed_at(self, row: int) -> BoolArray:
        """Assets all whose exposures are known at ``row``, shape (N,)."""
        return np.asarray(np.isfinite(self.beta[row]).all(axis=1))


def read_inputs(
    config: BacktestConfig,
    alpha_price: Any,
    alpha_funding: Any,
    beta: Any,
    S: Any,
    realized_returns: Any,
    realized_funding: Any,
    vol_scale: Any,
    prices: Any,
    sz_decimals: Any,
) -> Inputs:
    """All inputs of one run on the clock of ``realized_returns``.

    Raises:
        BacktestInputError: a table that cannot be read or does not fit; the message names it, and row and asset.
    """
    returns = read_table("realized_returns", realized_returns)
    tables = {
        "alpha_price": read_table("alpha_price", alpha_price),
        "alpha_funding": read_table("alpha_funding", alpha_funding),
        "realized_funding": read_table("realized_funding", realized_funding),
    }
    over_time = _is_table(beta)
    if over_time:
        tables["beta"] = read_table("beta", beta)
    if prices is not None:
        tables["prices"] = read_table("prices", prices)
    grid = make_grid(returns, list(tables.values()), config.bar_hours)
    if grid.bare and (config.start_date is not None or config.end_date is not None):
        raise BacktestInputError("start_date and end_date need labelled frames; bare arrays have no dates")
    alpha = _forecast(grid, tables["alpha_price"], tables["alpha_funding"], vol_scale)
    simple = _simple_returns(grid, returns, config.returns_kind)
    funding = missing_settlements_marked(grid.lay(tables["realized_funding"]), grid.time_ms, grid.bar_ms)
    period = config.H * HOUR_MS
    if period % grid.bar_ms:
        raise BacktestInputError(f"H is {config.H} h, not a multiple of the {grid.bar_ms / HOUR_MS:g} h bars")
    if config.fill_delay_hours * HOUR_MS % grid.bar_ms:
        raise BacktestInputError(
            f"fill_delay_hours is {config.fill_delay_hours} h, not a multiple of the {grid.bar_ms / HOUR_MS:g} h bars"
        )
    return Inputs(
        grid=grid,
        bars_per_period=round(period / grid.bar_ms),
        returns=simple,
        funding=np.ascontiguousarray(funding),
        alpha=alpha,
        beta=grid.lay(tables["beta"])[:, :, None] if over_time else _constant_exposures(grid, beta),
        covariance=CovarianceBook(S, grid, simple, round(period / grid.bar_ms)),
        prices=None if prices is None else grid.lay(tables["prices"]),
        lot_decimals=None if sz_decimals is None else per_asset("sz_decimals", sz_decimals, grid).astype(np.int64),
    )


def _is_table(beta: Any) -> bool:
    return hasattr(beta, "columns")


def _forecast(grid: Grid, price: Table, funding: Table, vol_scale: Any) -> FloatArray:
    scales = vol_scale if isinstance(vol_scale, Mapping) else {"price": vol_scale, "funding": vol_scale}
    unknown = sorted(set(scales) - {"price", "funding"})
    if unknown:
        raise BacktestInputError(f'vol_scale has the keys {unknown}; use "price" and "funding"')
    parts = []
    for key, table in (("price", price), ("funding", funding)):
        values = grid.lay(table)
        if scales.get(key) is not None:
            values = values * grid.lay(read_table(f"vol_scale[{key}]", scales[key]))
        parts.append(values)
    return np.asarray(parts[0] - parts[1])


def _simple_returns(grid: Grid, table: Table, kind: str) -> FloatArray:
    values = table.values if kind == "simple" else np.expm1(table.values)
    gone = np.argwhere(values <= -1.0)
    if len(gone):
        row, column = (int(i) for i in gone[0])
        raise BacktestInputError(
            f"{place(table, row, column)} is {table.values[row, column]:g}; a simple return is above -1. "
            'Give fractions, or returns_kind="log"'
        )
    return grid.lay(Table(table.name, table.time_ms, table.assets, values))


def _constant_exposures(grid: Grid, beta: Any) -> FloatArray:
    """Exposures that do not change, or bare arrays over time, as a (T, N, K) view."""
    rows, coins = len(grid.time_ms), len(grid.assets)
    values = per_asset("beta", beta, grid) if hasattr(beta, "items") else np.asarray(beta, dtype=np.float64)
    if values.shape == (rows, coins):
        values = values[:, :, None]
    elif values.ndim in (1, 2) and len(values) == coins:
        values = np.broadcast_to(values.reshape(coins, -1), (rows, coins, values.size // coins))
    if values.ndim != 3 or values.shape[:2] != (rows, coins):
        raise BacktestInputError(
            f"beta has shape {np.shape(beta)}; expected ({rows}, {coins}), ({coins},) or ({coins}, K) in the order of "
            "the returns' columns"
        )
    return values


def per_asset(name: str, values: Any, grid: Grid) -> FloatArray:
    """One number per asset from a mapping, a pandas series (both by label) or an array in asset order, shape (N,)."""
    if hasattr(values, "items"):
        by_label = dict(values.items())
        absent = [asset for asset in grid.assets if asset not in by_label]
        if absent:
            raise BacktestInputError(f"{name} lacks {absent[0]!r}; give one number per asset")
        values = [by_label[asset] for asset in grid.assets]
    array = np.asarray(values, dtype=np.float64)
    if array.shape != (len(grid.assets),):
        raise BacktestInputError(f"{name} has shape {array.shape}; expected ({len(grid.assets)},)")
    return array


class CovarianceBook:
    """S as of any row: a constant, the latest of dated ones, or the trailing variances of the returns."""

    def __init__(self, S: Any, grid: Grid, returns: FloatArray, bars_per_period: int) -> None:
        self._grid = grid
        self._variance: FloatArray | None = None
        self._times: list[int] = []
        self._given: list[Any] = []
        self._ready: dict[int, Covariance] = {}
        if S is None:
            from slipstream.core.signals.windows import rolling_std

            window = max(2, round(TRAILING_VARIANCE_HOURS * HOUR_MS / grid.bar_ms))
            _LOG.info("no covariance given: trailing variances of %s h and no correlations", TRAILING_VARIANCE_HOURS)
            self._variance = rolling_std(returns, window, 2) ** 2 * bars_per_period
        elif isinstance(S, Mapping):
            dated = sorted((_stamp_ms(stamp), stamp) for stamp in S)
            if not dated:
                raise BacktestInputError("S is an empty mapping; give one matrix at least, or None")
            self._times, self._given = [ms for ms, _ in dated], [S[stamp] for _, stamp in dated]
        else:
            self._given = [S]
        if self._variance is None and not self._times:
            self._fit(0)

    def for_assets(self, row: int, which: IntArray) -> Covariance:
        """S known at ``row`` per holding period, for some assets, in the form the optimiser takes.

        Raises:
            BacktestInputError: dated matrices begin later than ``row``.
        """
        if self._variance is not None:
            return FactorCovariance(np.zeros((len(which), 0)), self._variance[row, which])
        whole = self._at(row)
        if len(which) == len(self._grid.assets):
            return whole
        if isinstance(whole, FactorCovariance):
            return FactorCovariance(whole.exposures[which], whole.idio_var[which])
        return np.ascontiguousarray(whole[np.ix_(which, which)])

    def known(self, row: int) -> BoolArray:
        """Assets whose variance is known at ``row``, shape (N,)."""
        if self._variance is not None:
            return np.asarray(np.isfinite(self._variance[row]))
        whole = self._at(row)
        if isinstance(whole, FactorCovariance):
            return np.ones(whole.n_assets, dtype=bool)
        return np.asarray(np.isfinite(np.diagonal(whole)))

    def _at(self, row: int) -> Covariance:
        if not self._times:
            return self._fit(0)
        now = int(self._grid.time_ms[row])
        k = bisect_right(self._times, now) - 1
        if k < 0:
            raise BacktestInputError(
                f"S holds no matrix known at the decision of {utc(now):%Y-%m-%d %H:%M} UTC; the first is of "
                f"{utc(self._times[0]):%Y-%m-%d %H:%M}. Set start_date to it or give an earlier one"
            )
        return self._fit(k)

    def _fit(self, k: int) -> Covariance:
        if k not in self._ready:
            # Old matrices are never asked for again; keeping the latest only bounds the memory of a long run.
            self._ready = {k: self._aligned(self._given[k])}
        return self._ready[k]

    def _aligned(self, given: Any) -> Covariance:
        assets = self._grid.assets
        if isinstance(given, FactorCovariance):
            if given.n_assets != len(assets):
                raise BacktestInputError(f"S covers {given.n_assets} assets; expected {len(assets)}: {assets[:3]}...")
            return given
        if hasattr(given, "reindex"):
            given = given.reindex(index=list(assets), columns=list(assets)).to_numpy(dtype="float64")
        dense = np.ascontiguousarray(given, dtype=np.float64)
        if dense.shape != (len(assets), len(assets)):
            raise BacktestInputError(f"S has shape {dense.shape}; expected {(len(assets), len(assets))}")
        return dense


def _stamp_ms(stamp: Any) -> int:
    ms = moment_ms("a key of S", stamp)
    if ms is None:
        raise BacktestInputError("S has the key None; give the time at which each matrix is known")
    return ms
