"""Whole lots that keep the hedge: from ideal weights to positions a venue can hold.

Rounding each coin on its own leaves an exposure and can break the gross limit. Both are repaired by moves of one lot in
one coin or in two, each chosen by what it repairs per added tracking variance (w - w*)'S(w - w*); then the tracking is
bettered by the same moves as long as nothing is spoilt. Between zero and the smallest order there is a hole: a position
steps over it as a whole.

The exact problem is an integer quadratic programme; this is a local search (a 2-opt neighbourhood), which the tests
hold against the exhaustive answer on small problems.
"""

from __future__ import annotations

import logging
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike

from slipstream.core.panel import BoolArray, FloatArray, IntArray
from slipstream.core.portfolio.costs import MIN_ORDER_USD
from slipstream.core.portfolio.covariance import FactorCovariance
from slipstream.core.portfolio.inputs import PortfolioInputError, as_columns, as_covariance, as_scalar, as_vector

_LOG = logging.getLogger(__name__)

_WHOLE = 1e-9
"""A number of lots this close, relatively, to a whole one is that one."""

_ROOM = 1.0 + 1e-9
"""A sum of weights at its limit may exceed it by its own rounding."""


@overload
def round_to_lots(
    w_ideal: ArrayLike,
    beta: ArrayLike,
    S: FactorCovariance | ArrayLike,
    capital: float,
    min_trade_size: ArrayLike,
    beta_tolerance: float = 0.01,
    max_iterations: int = 100,
    *,
    prices: ArrayLike | None = None,
    sz_decimals: ArrayLike | None = None,
    min_notional: float = MIN_ORDER_USD,
    leverage: float | None = None,
    max_weight: float | None = None,
    frozen: ArrayLike | None = None,
    return_info: Literal[False] = False,
) -> FloatArray: ...


@overload
def round_to_lots(
    w_ideal: ArrayLike,
    beta: ArrayLike,
    S: FactorCovariance | ArrayLike,
    capital: float,
    min_trade_size: ArrayLike,
    beta_tolerance: float = 0.01,
    max_iterations: int = 100,
    *,
    prices: ArrayLike | None = None,
    sz_decimals: ArrayLike | None = None,
    min_notional: float = MIN_ORDER_USD,
    leverage: float | None = None,
    max_weight: float | None = None,
    frozen: ArrayLike | None = None,
    return_info: Literal[True],
) -> tuple[FloatArray, dict[str, Any]]: ...


def round_to_lots(
    w_ideal: ArrayLike,
    beta: ArrayLike,
    S: FactorCovariance | ArrayLike,
    capital: float,
    min_trade_size: ArrayLike,
    beta_tolerance: float = 0.01,
    max_iterations: int = 100,
    *,
    prices: ArrayLike | None = None,
    sz_decimals: ArrayLike | None = None,
    min_notional: float = MIN_ORDER_USD,
    leverage: float | None = None,
    max_weight: float | None = None,
    frozen: ArrayLike | None = None,
    return_info: bool = False,
) -> FloatArray | tuple[FloatArray, dict[str, Any]]:
    """The nearest book in whole lots that is neutral within a tolerance.

    Args:
        w_ideal: weights wanted, (N,), fractions of capital.
        beta: exposures to keep neutral, (N,) or (N, K).
        S: covariance, (N, N) or a :class:`FactorCovariance`: what a deviation costs.
        capital: USD, positive.
        min_trade_size: value of one lot, USD, (N,) or one number; used where ``prices`` and ``sz_decimals``
            are not given.
        beta_tolerance: largest ``|beta'w|`` left, fraction of capital.
        max_iterations: moves at most, each of one lot in one coin or two.
        prices: USD per unit, (N,); with ``sz_decimals`` a lot is ``10**-sz_decimals`` units.
        sz_decimals: decimals of the venue's size, (N,).
        min_notional: smallest position that may be held, USD.
        leverage: most gross exposure; None is no limit.
        max_weight: most of one coin, long or short; None is no limit.
        frozen: coins that keep ``w_ideal`` as it is, whole or not, (N,) bool; the others are neutral around them.
        return_info: also return what was done.

    Returns:
        w (N,), each a whole number of lots. With ``return_info`` also a dict: ``lots`` (N, whole numbers),
        ``within_tolerance``, ``beta_exposure`` (largest in size), ``tracking_variance`` (w - w*)'S(w - w*),
        ``leverage``, ``iterations``. A tolerance that whole lots do not reach is logged and shown there.

    Raises:
        PortfolioInputError: (a ``ValueError``) shapes that do not fit or numbers that are not finite; a lot that is not
            positive; only one of ``prices`` and ``sz_decimals``.
    """
    ideal = as_vector("w_ideal", w_ideal)
    n = len(ideal)
    B = as_columns("beta", beta, n)
    covariance = as_covariance(S, n)
    equity = as_scalar("capital", capital, allow_zero=False)
    tolerance = as_scalar("beta_tolerance", beta_tolerance, allow_zero=True)
    lot = _lot_usd(n, min_trade_size, prices, sz_decimals) / equity
    cap = np.inf if leverage is None else as_scalar("leverage", leverage, allow_zero=True)
    biggest = np.inf if max_weight is None else as_scalar("max_weight", max_weight, allow_zero=True)
    least, most = _sizes(lot, as_scalar("min_notional", min_notional, allow_zero=True) / equity, biggest)
    movable = np.ones(n, dtype=bool) if frozen is None else ~np.asarray(frozen, dtype=bool)
    # A frozen position is one lot of its own size.
    lot = np.where(movable | (ideal == 0.0), lot, np.abs(ideal))
    dense = covariance.dense() if isinstance(covariance, FactorCovariance) else covariance
    counts, moves = _search(ideal, lot, dense, B, least, most, movable, cap, tolerance, max_iterations)
    w = counts * lot
    exposure = _exposure(B, w)
    within = exposure <= tolerance * _ROOM
    if not within:
        _LOG.warning(
            "whole lots leave an exposure of %.3g, the tolerance is %.3g; a lot is up to %.3g of capital",
            exposure,
            tolerance,
            lot.max(initial=0.0),
        )
    if not return_info:
        return w
    return w, {
        "lots": counts,
        "within_tolerance": within,
        "beta_exposure": float(exposure),
        "tracking_variance": float((w - ideal) @ dense @ (w - ideal)),
        "leverage": float(np.abs(w).sum()),
        "iterations": moves,
    }


def _lot_usd(n: int, min_trade_size: ArrayLike, prices: ArrayLike | None, sz_decimals: ArrayLike | None) -> FloatArray:
    if (prices is None) != (sz_decimals is None):
        raise PortfolioInputError("prices and sz_decimals belong together: give both or neither")
    if prices is not None and sz_decimals is not None:
        name, lot = "prices", 10.0 ** -as_vector("sz_decimals", sz_decimals, n) * as_vector("prices", prices, n)
    else:
        name, lot = "min_trade_size", as_vector("min_trade_size", np.broadcast_to(min_trade_size, (n,)), n)
    if (lot <= 0.0).any():
        raise PortfolioInputError(f"{name}[{int(np.argmax(lot <= 0.0))}] makes a lot that is not positive")
    return lot


def _sizes(lot: FloatArray, min_weight: float, max_weight: float) -> tuple[IntArray, IntArray]:
    """Smallest and largest admissible size of each position, lots."""
    least = np.maximum(np.ceil(min_weight / lot * (1.0 - _WHOLE)), 1.0)
    most = np.minimum(np.floor(max_weight / lot * (1.0 + _WHOLE)), float(np.iinfo(np.int64).max // 4))
    return least.astype(np.int64), np.where(most < least, 0.0, most).astype(np.int64)


def _search(
    ideal: FloatArray,
    lot: FloatArray,
    S: FloatArray,
    B: FloatArray,
    least: IntArray,
    most: IntArray,
    movable: BoolArray,
    cap: float,
    tolerance: float,
    max_moves: int,
) -> tuple[IntArray, int]:
    """Counts and the moves made: the best of the searches from the rounded, the truncated and the empty book.

    Many lots are fine ones, and the rounded book all but always leads to a neutral one; the truncated one is the second
    try. Few lots are coarse: all starts are tried. The empty book is neutral and a search never leaves the tolerance
    once inside, so from there a neutral book is always found.
    """
    from slipstream.core.portfolio.lot_moves import improve

    wanted = ideal / lot
    starts = [np.rint(wanted), np.trunc(wanted), np.zeros(len(lot))]
    few = np.abs(starts[0]).sum() <= max_moves
    best = (np.inf, np.inf, 0, np.zeros(len(lot), dtype=np.int64))
    for start in starts if few else starts[:2]:
        if best[0] == 0.0 and not few:
            break
        clipped = np.clip(start, -most.astype(np.float64), most.astype(np.float64))
        counts = np.where(np.abs(clipped) < least, 0.0, clipped).astype(np.int64)
        counts = np.where(movable, counts, np.sign(ideal).astype(np.int64))
        moves = int(improve(counts, lot, ideal, S, B, least, most, movable, cap, tolerance, max_moves))
        gap = counts * lot - ideal
        excess = max(_exposure(B, counts * lot) - tolerance * _ROOM, 0.0)
        if (excess, float(gap @ S @ gap)) < best[:2]:
            best = (excess, float(gap @ S @ gap), moves, counts)
    return best[3], best[2]


def _exposure(B: FloatArray, w: FloatArray) -> float:
    return float(np.abs(B.T @ w).max(initial=0.0))
