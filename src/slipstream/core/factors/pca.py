"""The rolling market factor: liquidity-weighted principal components of H-hour returns over the last K bars.

Returns are summed to bars of H hours on the epoch grid, the time-scale at which positions will be held; a row known at
t comes from the K bars that end at t. Weights are USD volumes averaged inside the window: volume in coins would hand
the factor to whatever costs least per unit. See :mod:`slipstream.core.factors.pca_window` for the mathematics.

Three doors to one kernel: :func:`rolling_pca` for frames, :func:`pca_windows` for arrays, and :func:`pca_exposures` as
a feature of a view. Whoever uses a factor at time t takes the latest row known by then, if it is at most two bars old.

Source: Avellaneda and Lee (2010), Statistical arbitrage in the US equities market, section 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from slipstream.core.factors.pca_spec import HistoryTooShort, PCASpec, WeightMethod
from slipstream.core.factors.pca_window import (
    FEW_COINS,
    GAPS,
    NO_DIRECTION,
    NO_VARIANCE,
    NO_VOLUME,
    OK,
    WEIGHT_DOLLAR,
    WEIGHT_LOG,
    WEIGHT_NONE,
    WEIGHT_SQRT,
    condition_numbers,
    rolling_components,
)
from slipstream.core.frames import FrameError, bar_ms, cells, index_ms
from slipstream.core.panel import HOUR_MS, FloatArray, IntArray, View, utc
from slipstream.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

REFERENCE_COIN = "BTC"
"""Components 2 and 3 point, at first, the way this coin moves."""
_WEIGHTING = {
    "none": WEIGHT_NONE,
    "sqrt": WEIGHT_SQRT,
    "log": WEIGHT_LOG,
    "dollar": WEIGHT_DOLLAR,
    "sqrt_dollar": WEIGHT_SQRT,
}
_BLANK = {
    FEW_COINS: "too few coins",
    NO_VOLUME: "no coin with a volume",
    NO_VARIANCE: "no variance",
    NO_DIRECTION: "no common direction",
    GAPS: "too many gaps",
}


@dataclass(frozen=True)
class PCAWindows:
    """Factors of W windows, C components, N coins.

    Attributes:
        known_at_ms: (W,) close of each window, Unix ms, stepping by H hours.
        beta: (W, C, N) slopes of log returns on the factor; those of component 1 average 1 under the window's weights.
        coef: (W, C, N) coefficients c of the factor portfolio; for components 2 and 3, sum |c| = 1.
        eigenvalue: (W, C) of the weighted covariance per H-bar.
        variance_explained: (W, C) the same as a share of the total.
        n_assets: (W,) coins with enough returns.
        blank: why rows are NaN -> how many.
        bar_return, bar_volume_usd: (W + K - 1, N) what they were estimated from.
        spec: how.
    """

    known_at_ms: IntArray = field(repr=False)
    beta: FloatArray = field(repr=False)
    coef: FloatArray = field(repr=False)
    eigenvalue: FloatArray = field(repr=False)
    variance_explained: FloatArray = field(repr=False)
    n_assets: IntArray = field(repr=False)
    blank: Mapping[str, int]
    bar_return: FloatArray = field(repr=False)
    bar_volume_usd: FloatArray = field(repr=False)
    spec: PCASpec

    @cached_property
    def condition_number(self) -> FloatArray:
        """(W,) the largest eigenvalue over the smallest one a window can determine; NaN in a row without a factor.

        Computed when first asked for: it costs more than the factor.
        """
        spec = self.spec
        found = condition_numbers(
            self.bar_return,
            self.bar_volume_usd,
            spec.K,
            _WEIGHTING[spec.weight_method],
            spec.min_assets,
            spec.least_periods,
        )
        return np.where(np.isnan(self.eigenvalue[:, 0]), np.nan, found)


@dataclass(frozen=True)
class PCAResult:
    """Factors as frames, rows labelled by known-at (UTC).

    Attributes:
        beta: one column per coin, or ``<coin>_pc1`` ... where there is more than one component.
        coefs: the same columns, coefficients of the factor portfolios.
        windows: the arrays behind them.
    """

    beta: pd.DataFrame
    coefs: pd.DataFrame
    windows: PCAWindows

    @property
    def blank(self) -> Mapping[str, int]:
        """Why rows are NaN -> how many."""
        return self.windows.blank

    @cached_property
    def stats(self) -> pd.DataFrame:
        """Statistics of each row.

        Columns ``_variance_explained``, ``_pc1_eigenvalue`` (with several components ``_variance_explained_pcN`` and
        ``_eigenvalue_pcN``), ``_condition_number``, ``_n_assets``.
        """
        import pandas as pd

        found = self.windows
        share, value = (_stat_names(what, found.spec) for what in ("variance_explained", "eigenvalue"))
        columns = {
            **dict(zip(share, found.variance_explained.T, strict=True)),
            **dict(zip(value, found.eigenvalue.T, strict=True)),
            "_condition_number": found.condition_number,
            "_n_assets": found.n_assets,
        }
        return pd.DataFrame(columns, index=self.beta.index)


def rolling_pca(
    returns: pd.DataFrame,
    volume_usd: pd.DataFrame | None,
    K: int = 30,
    H_hours: int = 8,
    weight_method: WeightMethod = "sqrt",
    min_assets: int = 10,
    min_periods: int | None = None,
    n_components: int = 1,
) -> PCAResult:
    """Rolling weighted principal components of frames, one row per H-hour bar from the first full window on.

    Args:
        returns: log returns per bar, index = known-at, one column per coin, NaN where missing. A return over a gap is
            none: leave it NaN. The bar length is the least step of the index.
        volume_usd: the same labels, USD per bar; None or a missing coin: unknown. Read unless the method is "none".
        K: bars per window.
        H_hours: hours per bar, a multiple of the frame's.
        weight_method: see :data:`WeightMethod`.
        min_assets: coins a window needs.
        min_periods: returns a coin needs in a window; None: 80 % of K, rounded up.
        n_components: 1 to 3.

    Raises:
        UsageError: a parameter is out of range, H is no multiple of the bar, or a frame cannot be read (FrameError).
        HistoryTooShort: less than K bars of H hours.
    """
    import pandas as pd

    spec = PCASpec(K, H_hours, weight_method, min_assets, min_periods, n_components)
    times = index_ms(returns, "returns")
    step = bar_ms(times, "returns")
    grid = np.arange(times[0], times[-1] + step, step)
    dense = _on_grid(cells(returns, "returns"), times, grid)
    volume = _volume_beside(volume_usd, returns, grid) if weight_method != "none" else np.full_like(dense, np.nan)
    coins = tuple(str(coin) for coin in returns.columns)
    found = pca_windows(dense, volume, grid, step // HOUR_MS, coins, spec)
    index = pd.DatetimeIndex(pd.to_datetime(found.known_at_ms, unit="ms", utc=True), name="known_at")
    numbers = range(1, n_components + 1)
    names = list(coins) if n_components == 1 else [f"{coin}_pc{j}" for j in numbers for coin in coins]
    return PCAResult(
        beta=pd.DataFrame(found.beta.reshape(len(index), -1), index=index, columns=names),
        coefs=pd.DataFrame(found.coef.reshape(len(index), -1), index=index, columns=names),
        windows=found,
    )


def pca_windows(
    log_return: FloatArray,
    volume_usd: FloatArray,
    known_at_ms: IntArray,
    bar_hours: int,
    coins: tuple[str, ...],
    spec: PCASpec,
) -> PCAWindows:
    """Factors of every full window of a grid of base bars.

    Args:
        log_return: shape (T, N), NaN where missing.
        volume_usd: shape (T, N), USD per base bar, NaN where unknown.
        known_at_ms: shape (T,), Unix ms, stepping by ``bar_hours``.
        bar_hours: length of a base bar, hours.
        coins: N names.
        spec: how.

    Raises:
        UsageError: H is no multiple of the base bar, or the bars do not lie on the epoch grid of theirs.
        HistoryTooShort: less than K bars of H hours.
    """
    first, per_bar, bars = _whole_bars(known_at_ms, bar_hours, spec)
    if bars < spec.K:
        raise HistoryTooShort(
            f"H = {spec.H_hours} h: the history holds {bars} bars of {spec.H_hours} h and one window needs {spec.K}; "
            "load a longer history, or lower K"
        )
    reference = coins.index(REFERENCE_COIN) if REFERENCE_COIN in coins else -1
    bar_return, bar_volume = (_bar_sums(values, first, per_bar, bars) for values in (log_return, volume_usd))
    beta, coef, eigenvalue, total, used, outcome = rolling_components(
        bar_return,
        bar_volume,
        spec.K,
        _WEIGHTING[spec.weight_method],
        spec.min_assets,
        spec.least_periods,
        spec.n_components,
        reference,
    )
    return PCAWindows(
        known_at_ms=known_at_ms[first + per_bar * np.arange(spec.K, bars + 1) - 1],
        beta=beta,
        coef=coef,
        eigenvalue=eigenvalue,
        variance_explained=eigenvalue / total[:, None],
        n_assets=used,
        blank={_BLANK[code]: int((outcome == code).sum()) for code in np.unique(outcome[outcome != OK]).tolist()},
        bar_return=bar_return,
        bar_volume_usd=bar_volume,
        spec=spec,
    )


def pca_exposures(view: View, *, spec: PCASpec) -> FloatArray:
    """Betas and coefficients known at each row of a view, shape (rows, 2, C, N): a feature (see :class:`View`).

    Index 0 of the second axis holds betas, index 1 coefficients. NaN before the first window, where a window has no
    factor, and where the latest row is more than two bars of H hours old.

    Raises:
        UsageError: H is no multiple of the view's bar.
    """
    out = np.full((view.rows, 2, spec.n_components, len(view.coins)), np.nan)
    times = view.known_at_ms - view.bar_hours * HOUR_MS * np.arange(view.rows - 1, -1, -1, dtype=np.int64)
    if _whole_bars(times, view.bar_hours, spec)[2] < spec.K:
        return out
    found = pca_windows(view.log_return, view.volume_usd, times, view.bar_hours, view.coins, spec)
    latest = as_of_rows(found.known_at_ms, times, spec.max_age_ms)
    held = latest >= 0
    out[held, 0] = found.beta[latest[held]]
    out[held, 1] = found.coef[latest[held]]
    return out


def as_of_rows(known_at_ms: IntArray, at_ms: IntArray, max_age_ms: int) -> IntArray:
    """The latest row known at or before each moment, shape of ``at_ms``; -1 if there is none or it is too old.

    Args:
        known_at_ms: shape (W,), increasing, Unix ms.
        at_ms: moments, Unix ms.
        max_age_ms: greatest age at which a row still counts.
    """
    if not len(known_at_ms):
        return np.full(np.shape(at_ms), -1, dtype=np.int64)
    row = np.searchsorted(known_at_ms, at_ms, side="right") - 1
    age = at_ms - known_at_ms[np.maximum(row, 0)]
    return np.asarray(np.where((row >= 0) & (age <= max_age_ms), row, -1))


def _stat_names(what: str, spec: PCASpec) -> list[str]:
    if spec.n_components == 1:
        return ["_pc1_eigenvalue" if what == "eigenvalue" else f"_{what}"]
    return [f"_{what}_pc{j}" for j in range(1, spec.n_components + 1)]


def _whole_bars(known_at_ms: IntArray, bar_hours: int, spec: PCASpec) -> tuple[int, int, int]:
    """First base row of the first whole bar of H hours, base rows per bar, and whole bars."""
    base_ms, bar = bar_hours * HOUR_MS, spec.H_hours * HOUR_MS
    if bar % base_ms:
        raise UsageError(f"H = {spec.H_hours} h is no multiple of the {bar_hours} h bar; use a multiple of {bar_hours}")
    if known_at_ms[0] % base_ms:
        raise FrameError(
            f"returns: the first row, {utc(int(known_at_ms[0])):%Y-%m-%d %H:%M} UTC, lies off the UTC grid of "
            f"{bar_hours} h bars; label rows by known-at"
        )
    per_bar = int(bar // base_ms)
    opened = int(known_at_ms[0]) - base_ms
    first = int((-opened % bar) // base_ms)
    return first, per_bar, max(len(known_at_ms) - first, 0) // per_bar


def _bar_sums(values: FloatArray, first: int, per_bar: int, bars: int) -> FloatArray:
    """Sums over bars, shape (bars, N), an array of its own; NaN where a base bar is missing."""
    whole = values[first : first + bars * per_bar]
    return np.array(whole.reshape(bars, per_bar, values.shape[1]).sum(axis=1), order="C")


def _volume_beside(volume_usd: pd.DataFrame | None, returns: pd.DataFrame, grid: IntArray) -> FloatArray:
    """USD volume at the grid's times and the returns' coins, NaN where unknown."""
    if volume_usd is None:
        raise UsageError('PCA factor: no volume was given; give volume_usd, or use the weight method "none"')
    times = index_ms(volume_usd, "volume_usd")
    values = cells(volume_usd, "volume_usd")
    if (values < 0.0).any():
        row, column = np.argwhere(values < 0.0)[0]
        raise FrameError(f"volume_usd: row {row} of {volume_usd.columns[column]} is negative; volumes are at least 0")
    if volume_usd.columns.equals(returns.columns) and np.array_equal(times, grid):
        return values
    for what, mine, theirs in (("time", grid, times), ("coin", returns.columns, volume_usd.columns)):
        if not np.isin(mine, theirs).any():
            raise FrameError(f"volume_usd: no {what} in common with returns; coins are case-sensitive, rows known-at")
    beside = volume_usd.set_axis(times).reindex(index=grid, columns=returns.columns)
    return np.asarray(beside.to_numpy(dtype=np.float64, na_value=np.nan))


def _on_grid(values: FloatArray, times: IntArray, grid: IntArray) -> FloatArray:
    """Rows at the grid's times, NaN where there is none."""
    if len(times) == len(grid):
        return values
    out = np.full((len(grid), values.shape[1]), np.nan)
    out[np.searchsorted(grid, times)] = values
    return out
