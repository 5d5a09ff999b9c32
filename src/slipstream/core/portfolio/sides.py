"""Long and short sides of equal risk from a cross-section of scores."""

from __future__ import annotations

import numpy as np

from slipstream.core.panel import BoolArray, FloatArray


def pick_sides(
    score: FloatArray, eligible: BoolArray, top_n: int, bottom_n: int | None, min_abs_score: float = 0.0
) -> tuple[FloatArray, FloatArray]:
    """Columns of the strongest positive and the strongest negative scores.

    Args:
        score: shape (N,), NaN is never picked.
        eligible: shape (N,), coins that may be held.
        top_n: most longs.
        bottom_n: most shorts; None means as many as ``top_n``.
        min_abs_score: scores closer to zero than this are not picked; zero itself never is.

    Returns:
        column indices of longs and shorts, strongest first; ties resolve by column order.
    """
    usable = eligible & np.isfinite(score) & (score != 0.0) & (np.abs(np.nan_to_num(score)) >= min_abs_score)
    order = np.argsort(-np.where(usable, score, 0.0), kind="stable")
    longs = [i for i in order[:top_n] if usable[i] and score[i] > 0.0]
    short_count = top_n if bottom_n is None else bottom_n
    order = np.argsort(np.where(usable, score, 0.0), kind="stable")
    shorts = [i for i in order[:short_count] if usable[i] and score[i] < 0.0]
    return np.array(longs, dtype=np.intp), np.array(shorts, dtype=np.intp)


def inverse_volatility_sides(
    score: FloatArray,
    eligible: BoolArray,
    sigma_annual: FloatArray,
    *,
    top_n: int,
    bottom_n: int | None,
    side_volatility: float,
    max_gross: float,
    min_abs_score: float = 0.0,
) -> FloatArray:
    """Weights, shape (N,): each side's sum of |w| sigma is ``side_volatility``, split equally among its coins.

    If the gross would exceed ``max_gross`` both sides shrink by one factor, which keeps their balance. If either side
    is empty the book is flat: half a long/short book is a bet on the market.

    Args:
        score: shape (N,), dimensionless; NaN where unknown.
        eligible: shape (N,).
        sigma_annual: shape (N,), per square-root year; a coin without one is not eligible.
        top_n: most longs.
        bottom_n: most shorts; None means as many as ``top_n``.
        side_volatility: dollar volatility of a side, per square-root year, as a fraction of capital.
        max_gross: cap on the sum of |w|.
        min_abs_score: least |score|.
    """
    usable = eligible & np.isfinite(sigma_annual) & (np.nan_to_num(sigma_annual) > 0.0)
    longs, shorts = pick_sides(score, usable, top_n, bottom_n, min_abs_score)
    weights = np.zeros(len(score))
    if not len(longs) or not len(shorts):
        return weights
    weights[longs] = side_volatility / (len(longs) * sigma_annual[longs])
    weights[shorts] = -side_volatility / (len(shorts) * sigma_annual[shorts])
    gross = float(np.abs(weights).sum())
    if gross > max_gross:
        weights *= max_gross / gross
    return weights
