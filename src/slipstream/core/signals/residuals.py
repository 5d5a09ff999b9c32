"""Returns less what the market explains: the factor's return bar by bar, and each coin's residual.

A bar known at s was opened one bar before, and whoever held it hedged with what was known then. So its factor return is
sum c_i r_i and its residual r - sum_j beta_j f_j with the coefficients c and betas known at the bar's *open*: the
latest row known by then, at most two factor bars old, else NaN. Where coins of the factor portfolio have no return, the
factor is that of the others divided by the share of sum c_i beta_i they hold, and NaN below a share of 0.6.

Source: Avellaneda and Lee (2010), section 2: residuals of regressions on the market's principal components.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from slipstream.core.factors.factor_slopes import LEAST_SHARE
from slipstream.core.factors.pca import as_of_rows, pca_exposures
from slipstream.core.factors.pca_spec import MAX_AGE_BARS, PCASpec
from slipstream.core.frames import FrameError, bar_ms, cells, index_ms
from slipstream.core.panel import FloatArray, IntArray, View

if TYPE_CHECKING:
    import pandas as pd

_NUMBERED = re.compile(r"(.+)_pc([123])")


@njit(cache=True, nogil=True)
def market_factor(returns: FloatArray, coef: FloatArray, exposure: FloatArray, row: IntArray) -> FloatArray:
    """Return of a factor portfolio in every bar, shape (T,).

    Args:
        returns: shape (T, N), log or simple, NaN where missing.
        coef: shape (W, N), coefficients; NaN for a coin outside the portfolio.
        exposure: shape (W, N), c_i beta_i, by which the missing coins' share is judged; NaN with ``coef``.
        row: shape (T,), the row of ``coef`` known at each bar's open, -1 if none.

    Returns:
        NaN where there is no row or the coins present hold less than 0.6 of ``exposure``.
    """
    out = np.full(len(returns), np.nan)
    for t in range(len(returns)):
        w = row[t]
        if w < 0:
            continue
        moved, here, total = 0.0, 0.0, 0.0
        for i in range(returns.shape[1]):
            if np.isnan(coef[w, i]) or np.isnan(exposure[w, i]):
                continue
            total += exposure[w, i]
            if not np.isnan(returns[t, i]):
                here += exposure[w, i]
                moved += coef[w, i] * returns[t, i]
        if total > 0.0 and here >= LEAST_SHARE * total:
            out[t] = moved if here == total else moved * total / here
    return out


def residuals(returns: FloatArray, beta: FloatArray, factor: FloatArray, row: IntArray) -> FloatArray:
    """Residual returns r - sum_j beta_j f_j, shape (T, N).

    Args:
        returns: shape (T, N), log or simple as the factor's.
        beta: shape (C, W, N).
        factor: shape (T, C).
        row: shape (T,), the row of ``beta`` known at each bar's open, -1 if none.

    Returns:
        NaN where a return, a factor or a beta is missing: a coin without a beta has no residual.
    """
    out = returns.copy()
    for j in range(len(beta)):
        out -= beta[j][np.maximum(row, 0)] * factor[:, j, None]
    out[row < 0] = np.nan
    return out


def compute_market_factor(
    returns: pd.DataFrame, coefs: pd.DataFrame, beta: pd.DataFrame | None = None
) -> pd.Series | pd.DataFrame:
    """The factor's return in every bar.

    Args:
        returns: log or simple returns per bar (the factor's are the same kind), index = known-at, one column per coin.
        coefs: coefficients as :func:`~slipstream.core.factors.pca.rolling_pca` gives them, index = known-at.
        beta: betas of the same rows; they weigh the gaps. Without them a coin's share is taken as |c_i|, which is what
            c_i beta_i comes to when betas are all of one size.

    Returns:
        A series ``factor``, or with several components a frame with columns ``pc1`` ...; index that of ``returns``.

    Raises:
        FrameError: an index that cannot be read, ``beta`` with other rows or columns, or no coin in common.
    """
    import pandas as pd

    coins, c = _components(coefs, "coefs")
    exposure = np.abs(c)
    if beta is not None:
        if not (beta.index.equals(coefs.index) and beta.columns.equals(coefs.columns)):
            raise FrameError("beta: other rows or columns than coefs; give both of one factor")
        exposure = c * _components(beta, "beta")[1]
    values, row = _beside(returns, coins, "coefs"), _known_at_open(returns, coefs, "coefs")
    factors = np.column_stack([market_factor(values, c[j], exposure[j], row) for j in range(len(c))])
    if len(c) == 1:
        return pd.Series(factors[:, 0], index=returns.index, name="factor")
    return pd.DataFrame(factors, index=returns.index, columns=[f"pc{j + 1}" for j in range(len(c))])


def compute_idiosyncratic_returns(
    returns: pd.DataFrame, beta: pd.DataFrame, factor: pd.Series | pd.DataFrame
) -> pd.DataFrame:
    """Residual returns of every bar and coin, labelled like ``returns``.

    Args:
        returns: log or simple returns per bar, the factor's kind; index = known-at, one column per coin.
        beta: betas as :func:`~slipstream.core.factors.pca.rolling_pca` gives them; index = known-at.
        factor: from :func:`compute_market_factor`; one series, or one column per component of ``beta``.

    Raises:
        FrameError: an index that cannot be read, no coin in common, or another number of factors than components.
    """
    import pandas as pd

    coins, slope = _components(beta, "beta")
    moves = factor.to_frame() if isinstance(factor, pd.Series) else factor
    if moves.shape[1] != len(slope):
        raise FrameError(f"factor: {moves.shape[1]} series beside betas of {len(slope)} components; give as many")
    aligned = np.asarray(moves.reindex(returns.index).to_numpy(dtype=np.float64))
    values = _beside(returns, coins, "beta")
    found = pd.DataFrame(residuals(values, slope, aligned, _known_at_open(returns, beta, "beta")), columns=coins)
    return found.reindex(columns=returns.columns).set_axis(returns.index)


def idiosyncratic_return(view: View, *, spec: PCASpec, simple: bool = False) -> FloatArray:
    """Residual return of every bar, shape (rows, N), with betas and coefficients known at its open: a feature.

    Args:
        view: the market.
        spec: how the factor is estimated.
        simple: residuals of simple returns, for profit and loss; else of log returns, for signals.
    """
    exposures = view.feature(pca_exposures, spec=spec)
    moved = np.expm1(view.log_return) if simple else view.log_return.copy()
    row = np.arange(view.rows, dtype=np.int64) - 1
    beta, coef = (np.ascontiguousarray(exposures[:, k].swapaxes(0, 1)) for k in (0, 1))
    factor = np.column_stack([market_factor(moved, c, c * b, row) for b, c in zip(beta, coef, strict=True)])
    return residuals(moved, beta, factor, row)


def _known_at_open(returns: pd.DataFrame, rows: pd.DataFrame, name: str) -> IntArray:
    """For every bar the row of ``rows`` known at its open, -1 if there is none or it is too old."""
    bars, known = index_ms(returns, "returns"), index_ms(rows, name)
    return as_of_rows(known, bars - bar_ms(bars, "returns"), MAX_AGE_BARS * bar_ms(known, name))


def _components(frame: pd.DataFrame, name: str) -> tuple[list[str], FloatArray]:
    """The coins of a frame of one or several components, N of them, and its cells, shape (C, W, N)."""
    values = cells(frame, name)
    columns = [str(column) for column in frame.columns]
    found = [match for column in columns if (match := _NUMBERED.fullmatch(column))]
    if len(found) < len(columns):
        return columns, np.ascontiguousarray(values)[None]
    coins = list(dict.fromkeys(match[1] for match in found))
    number = [int(match[2]) - 1 for match in found]
    if len(columns) != len(coins) * (1 + max(number)):
        raise FrameError(f"{name}: {len(columns)} columns of {len(coins)} coins; give every component of every coin")
    out = np.full((1 + max(number), len(frame), len(coins)), np.nan)
    for column, match in enumerate(found):
        out[number[column], :, coins.index(match[1])] = values[:, column]
    return coins, out


def _beside(returns: pd.DataFrame, coins: list[str], name: str) -> FloatArray:
    """Returns of the coins, shape (T, N), NaN for one that is not among them."""
    if not returns.columns.isin(coins).any():
        raise FrameError(f"{name}: no coin in common with returns; names are case-sensitive")
    return np.ascontiguousarray(cells(returns.reindex(columns=coins), "returns"))
