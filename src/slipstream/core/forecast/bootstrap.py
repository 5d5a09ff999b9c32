"""How sure an estimate is when its observations overlap in time and move together.

Circular block bootstrap: the time line is closed to a ring, blocks of consecutive timestamps are drawn with
replacement until they make up its length, and all coins of a timestamp go together. A timestamp drawn twice counts
twice: dropping repeats leaves a draw of 63 % of the data and an interval of 0.76 of its width. Whatever is estimated
from sums over timestamps (moments of a regression, squared errors, counts and totals of a quantile) is re-estimated
from weighted sums, and the draws of blocks are data of their own: estimates made from the same draws are paired.

Source: Politis and Romano (1992), A circular block-resampling procedure for stationary data; Kunsch (1989).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numba import njit

from slipstream.core.forecast.errors import ForecastError, NotEnoughData
from slipstream.core.forecast.moments import Moments, Regression
from slipstream.core.forecast.ridge import RidgeFit, refit, residual_of, share_explained, target_of
from slipstream.core.panel import FloatArray, IntArray

LEAST_BLOCK_HOURS = 48
DRAWS = 1000
SEED = 42
PLATEAU = (100, 500, 1000)
"""Numbers of draws at which the standard error is shown: it should have settled by the last."""
STARS = (1.64, 1.96, 2.58)


def block_length_hours(*horizon_hours: int) -> int:
    """max(2 H, 48) for the longest of the horizons drawn together."""
    return max(2 * max(horizon_hours), LEAST_BLOCK_HOURS)


@dataclass(frozen=True)
class BlockDraws:
    """D resamples of a ring of ``rows`` timestamps.

    Attributes:
        starts: shape (D, B), first timestamp of each block.
        length: timestamps per block; the last block of a draw is cut so that a draw has as many as the ring.
        rows: timestamps of the ring.
    """

    starts: IntArray = field(repr=False)
    length: int
    rows: int

    @property
    def draws(self) -> int:
        return len(self.starts)

    def totals(self, per_row: FloatArray) -> FloatArray:
        """Sum of each draw's timestamps, repeats counted, shape (D, m).

        Args:
            per_row: shape (rows, m), finite.

        Raises:
            ForecastError: another number of rows than the ring's.
        """
        if per_row.shape[0] != self.rows:
            raise ForecastError(f"{per_row.shape[0]} rows of sums beside draws of {self.rows} timestamps")
        values = np.ascontiguousarray(per_row, dtype=np.float64)
        last = self.rows - (self.starts.shape[1] - 1) * self.length
        return np.asarray(_draw_totals(values, _block_sums(values, self.length), self.starts, last))

    def multiplicity(self, draw: int) -> IntArray:
        """How often each timestamp is in a draw, shape (rows,)."""
        length = np.full(self.starts.shape[1], self.length)
        length[-1] = self.rows - (self.starts.shape[1] - 1) * self.length
        taken = [np.arange(first, first + n) for first, n in zip(self.starts[draw], length, strict=True)]
        return np.bincount(np.concatenate(taken) % self.rows, minlength=self.rows)


def circular_blocks(rows: int, length: int, draws: int = DRAWS, seed: int = SEED) -> BlockDraws:
    """Resamples of ``rows`` timestamps in blocks of ``length`` of them.

    Raises:
        NotEnoughData: fewer than two blocks fit in.
        ForecastError: a length or number of draws below 1.
    """
    if length < 1 or draws < 1:
        raise ForecastError(f"{draws} draws of blocks of {length} timestamps; both must be at least 1")
    if rows < 2 * length:
        raise NotEnoughData(f"{rows} timestamps hold fewer than two blocks of {length}; a bootstrap takes two")
    blocks = -(-rows // length)
    return BlockDraws(np.random.default_rng(seed).integers(0, rows, (draws, blocks)), length, rows)


@dataclass(frozen=True)
class RidgeDraws:
    """One regression refitted on every draw, with penalty and standardisation of the full sample.

    Attributes:
        intercept: shape (D,).
        coefficients: shape (D, p), un-normalised.
        r2: shape (D,), of each refit on its own draw.
    """

    intercept: FloatArray = field(repr=False)
    coefficients: FloatArray = field(repr=False)
    r2: FloatArray = field(repr=False)


def refit_draws(moments: Moments, regression: Regression, fit: RidgeFit, grams: FloatArray) -> RidgeDraws:
    """The regression on each draw.

    Args:
        moments: the rows' moments.
        regression: which regression of them.
        fit: the full-sample fit, whose penalty and standardisation are kept.
        grams: shape (D, d, d), ``moments.unpacked(draws.totals(moments.per_row))``; compute once, use for all models.

    Raises:
        NotEnoughData: a draw is empty.
    """
    if not (grams[:, 0, 0] > 0).all():
        raise NotEnoughData("a bootstrap draw holds no observation; take longer blocks or a shorter span")
    intercept, coefficients = refit(moments.design(grams, regression), fit.penalty, fit.feature_std)
    error = residual_of(moments, regression, intercept, coefficients)
    return RidgeDraws(intercept, coefficients, share_explained(grams, target_of(moments, regression), error))


def combined_r2_draws(
    moments: Moments, first: tuple[Regression, RidgeDraws], second: tuple[Regression, RidgeDraws], grams: FloatArray
) -> FloatArray:
    """R2 of the difference of two models' forecasts against the difference of their targets, shape (D,)."""
    error = [residual_of(moments, regression, fit.intercept, fit.coefficients) for regression, fit in (first, second)]
    actual = target_of(moments, first[0]) - target_of(moments, second[0])
    return share_explained(grams, actual, error[0] - error[1])


@dataclass(frozen=True)
class Inference:
    """Full-sample estimates with what their bootstrap draws say of them; arrays of k estimates.

    Attributes:
        estimate: of the full sample.
        se: standard deviation of the draws.
        low, high: ends of the percentile interval.
        t: estimate over se.
        se_plateau: number of draws -> standard error from the first so many.
    """

    estimate: FloatArray
    se: FloatArray
    low: FloatArray
    high: FloatArray
    t: FloatArray
    se_plateau: dict[int, FloatArray]

    @property
    def stars(self) -> tuple[str, ...]:
        """One star per threshold of 1.64, 1.96, 2.58 that t passes."""
        return tuple("*" * sum(abs(t) >= bound for bound in STARS) for t in self.t.tolist())


def inferred(estimate: FloatArray | float, draws: FloatArray, level: float = 0.95) -> Inference:
    """Standard errors and percentile intervals.

    Args:
        estimate: shape (k,), or a number.
        draws: shape (D, k), or (D,); at least 2 draws. A column with a NaN gives NaN: it is not dropped unseen.
        level: of the interval.
    """
    columns = draws.reshape(len(draws), -1)
    if len(columns) < 2:
        raise ForecastError(f"{len(columns)} draws say nothing of an error; draw more")
    value = np.atleast_1d(np.asarray(estimate, dtype=np.float64))
    se = columns.std(axis=0, ddof=1)
    low, high = np.quantile(columns, (0.5 - level / 2.0, 0.5 + level / 2.0), axis=0)
    t = np.divide(value, se, out=np.full(value.shape, np.nan), where=se > 0.0)
    plateau = {n: columns[:n].std(axis=0, ddof=1) for n in PLATEAU if n <= len(columns)}
    return Inference(value, se, low, high, t, plateau)


@njit(cache=True, nogil=True)
def _block_sums(per_row: FloatArray, length: int) -> FloatArray:
    """Sum of the block that starts at each row of the ring, shape (rows, m), by additions only.

    The ring is cut into pieces of one block's length. A block is the rest of the piece it starts in and the beginning
    of the next, so sums from each row to its piece's end and from a piece's beginning to each row make up every block
    (van Herk 1992). Differences of running totals would cost digits.
    """
    rows, width = per_row.shape
    out = np.empty((rows, width))
    rest, so_far = np.empty((length, width)), np.empty(width)
    piece = 0
    while piece < rows:
        for j in range(width):
            total = 0.0
            for k in range(length - 1, -1, -1):
                total += per_row[(piece + k) % rows, j]
                rest[k, j] = total
        so_far[:] = 0.0
        for k in range(min(length, rows - piece)):
            if k > 0:
                source = (piece + length + k - 1) % rows
                for j in range(width):
                    so_far[j] += per_row[source, j]
            for j in range(width):
                out[piece + k, j] = rest[k, j] + so_far[j]
        piece += length
    return out


@njit(cache=True, nogil=True)
def _draw_totals(per_row: FloatArray, block: FloatArray, starts: IntArray, last: int) -> FloatArray:
    rows, width = per_row.shape
    draws, blocks = starts.shape
    out = np.zeros((draws, width))
    for d in range(draws):
        for b in range(blocks - 1):
            first = starts[d, b]
            for j in range(width):
                out[d, j] += block[first, j]
        for k in range(last):
            row = (starts[d, blocks - 1] + k) % rows
            for j in range(width):
                out[d, j] += per_row[row, j]
    return out
