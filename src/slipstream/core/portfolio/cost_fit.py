"""A robust, censored fit of cost(S) = half_spread + k * sqrt(S) to the costs of walking recorded books.

**What is fitted.** A trader pays the mean cost, not the median one, so the target is the mean; but a few seconds of an
emptied book must not set it. The costs of each size and side are therefore averaged over blocks of consecutive
snapshots, and the two numbers minimise Huber's loss over the block means, both at least 0, every size weighing the
same in basis points. Averaging first makes the tails light enough for a robust fit to stay close to the mean
(the idea of the median of means; Lugosi and Mendelson, 2019), and blocks longer than the books' memory are nearly
independent, which the bootstrap needs.

**Censoring.** An order larger than the book shown has a cost known only from below. It is completed, not dropped and
not taken at its bound: where its book ends, at notional D and cost w, that book was w / cost(D) times as expensive as
the curve, and it is taken to be so at S, too, never below its bound. The curve is fitted to the completed costs and
the costs are completed by the curve until neither moves (the scheme of Buckley and James, 1979, where the lost part
of a censored observation is its expectation under the present fit; here it is conditioned on the same book instead of
drawn from the pool of all residuals, because a thin book stays thin). On real books cut short on purpose this came
closer to the cost known from the full book than dropping or the bound every time, and than a Gaussian tobit (Tobin,
1958) in most cases, far closer where many are censored: docs/costs.md has the figures.

**Uncertainty.** Snapshots half a second apart are nearly the same book. The number of independent ones follows from
the autocorrelation time (Geyer's initial positive sequence, 1992); intervals come from a bootstrap of whole blocks
(Carlstein, 1986).
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from slipstream.core.panel import FloatArray, IntArray
from slipstream.core.portfolio.book_walk import WalkCosts
from slipstream.core.portfolio.costs import CostError

HUBER_SCALES = 2.5
"""Where Huber's loss turns linear, in robust standard deviations of a size's block means. The usual 1.345 (95 %
efficient for normal errors; Huber, 1964) loses 6 % of k where costs are log-normal with sigma 0.9, this value 2 %."""

_MAD_TO_SIGMA = 1.4826
_MAX_ROUNDS = 2_000
_TOLERANCE = 1e-9
_BOOTSTRAP_TOLERANCE = 1e-4


class CalibrationError(CostError):
    """Books from which no cost curve can be learnt; the message names the coin and the remedy."""


@dataclass(frozen=True)
class CostCurve:
    """cost(S) = half_spread_bps + k_bps_per_sqrt_usd * sqrt(S), basis points of an order of S USD."""

    half_spread_bps: float
    k_bps_per_sqrt_usd: float

    def cost_bps(self, root_size: FloatArray) -> FloatArray:
        """Cost of orders whose sizes are ``root_size**2`` USD, any shape, basis points."""
        return np.asarray(self.half_spread_bps + self.k_bps_per_sqrt_usd * root_size)


class BlockedCosts:
    """Walk costs summed over blocks of consecutive snapshots, their censored part kept apart for completion.

    Args:
        walk: costs of n snapshots.
        snapshots_per_block: at least 1; a shorter remainder joins the last block.
    """

    def __init__(self, walk: WalkCosts, snapshots_per_block: int) -> None:
        n, _, sizes = walk.cost_bps.shape
        self.n_blocks = max(1, n // snapshots_per_block)
        starts = np.arange(self.n_blocks) * snapshots_per_block
        block = np.minimum(np.arange(n) // snapshots_per_block, self.n_blocks - 1)
        self.root_size = np.sqrt(walk.sizes_usd)
        self._shape = (self.n_blocks, 2, sizes)
        self._count = np.bincount(block, minlength=self.n_blocks)[:, None, None]
        self._observed = np.add.reduceat(np.where(walk.censored, 0.0, walk.cost_bps), starts, axis=0)
        row, side, size = np.nonzero(walk.censored)
        self._cell = np.ravel_multi_index((block[row], side, size), self._shape)
        self._bound = walk.cost_bps[row, side, size]
        self._end_cost = walk.shown_cost_bps[row, side]
        self._end_root = np.sqrt(walk.shown_usd[row, side])
        self._censored_root = self.root_size[size]

    def means(self, curve: CostCurve) -> FloatArray:
        """Mean cost by block, side and size, shape (blocks, 2, m), censored costs completed by ``curve``."""
        completed = _complete(curve, self._bound, self._end_cost, self._end_root, self._censored_root)
        lost = np.bincount(self._cell, weights=completed, minlength=self._observed.size)
        return np.asarray((self._observed + lost.reshape(self._shape)) / self._count)

    def fit(self, blocks: IntArray | None = None, start: CostCurve | None = None) -> CostCurve:
        """The curve that fits these blocks (default: each once; a bootstrap names some twice).

        Completion and one reweighted least-squares step alternate until the curve stands still. A bootstrap, which
        starts at the fit to all blocks, stops at 1e-4 of the cost of the largest size, else it stops at 1e-9.

        Raises:
            CalibrationError: it does not settle.
        """
        curve = start or CostCurve(0.0, 0.0)
        tolerance = _TOLERANCE if start is None else _BOOTSTRAP_TOLERANCE
        for _ in range(_MAX_ROUNDS):
            means = self.means(curve)
            sample = means if blocks is None else means[blocks]
            weights = _huber_weights(sample - curve.cost_bps(self.root_size)) if curve != CostCurve(0.0, 0.0) else None
            after = _least_squares(sample, self.root_size, weights)
            moved = abs(after.half_spread_bps - curve.half_spread_bps)
            moved += abs(after.k_bps_per_sqrt_usd - curve.k_bps_per_sqrt_usd) * self.root_size[-1]
            if moved <= tolerance * float(after.cost_bps(self.root_size[-1])):
                return after
            curve = after
        raise CalibrationError("the fit of costs and the completion of censored ones do not settle; use smaller sizes")

    def bootstrap(self, curve: CostCurve, replicates: int, rng: np.random.Generator) -> FloatArray:
        """Fits to blocks drawn with replacement, shape (replicates, 2): half-spread and k."""
        fits = [self.fit(rng.integers(self.n_blocks, size=self.n_blocks), curve) for _ in range(replicates)]
        return np.array([(fit.half_spread_bps, fit.k_bps_per_sqrt_usd) for fit in fits])

    def intervals(self, draws: FloatArray, curve: CostCurve, coverage: float) -> FloatArray:
        """Ends of the intervals of half-spread and k, shape (2, 2), not below 0, from a bootstrap's draws.

        The draws' distances from the fit are widened as Student's t exceeds the normal with this many blocks less one
        degrees of freedom (first term of Fisher's expansion), and by the variance a sample of blocks lacks: with ten
        blocks a plain percentile interval would be a fifth too short.
        """
        tail = 0.5 * (1.0 - coverage)
        z, free = NormalDist().inv_cdf(1.0 - tail), max(1, self.n_blocks - 1)
        wider = (1.0 + (z**2 + 1.0) / (4.0 * free)) * np.sqrt((free + 1.0) / free)
        centre = np.array([curve.half_spread_bps, curve.k_bps_per_sqrt_usd])
        ends = np.quantile(draws, [tail, 1.0 - tail], axis=0)
        return np.asarray(np.maximum(0.0, centre + wider * (ends - centre)))


def complete_costs(walk: WalkCosts, curve: CostCurve) -> FloatArray:
    """All costs, shape (n, 2, m): observed where they are, completed by ``curve`` where the book ends before."""
    costs = walk.cost_bps.copy()
    row, side, size = np.nonzero(walk.censored)
    costs[row, side, size] = _complete(
        curve,
        walk.cost_bps[row, side, size],
        walk.shown_cost_bps[row, side],
        np.sqrt(walk.shown_usd[row, side]),
        np.sqrt(walk.sizes_usd)[size],
    )
    return costs


def _complete(
    curve: CostCurve, bound: FloatArray, end_cost: FloatArray, end_root: FloatArray, root_size: FloatArray
) -> FloatArray:
    at_end = curve.cost_bps(end_root)
    known = at_end > 0.0
    growth = np.where(known, curve.cost_bps(root_size) / np.where(known, at_end, 1.0), 1.0)
    return np.maximum(bound, end_cost * growth)


def _huber_weights(residual: FloatArray) -> FloatArray:
    """Weights of one step of iteratively reweighted least squares, shape of ``residual`` (blocks, 2, m).

    Each size has its own scale, because costs of large orders scatter more; 1 where a size does not scatter.
    """
    size = np.abs(residual)
    threshold = HUBER_SCALES * _MAD_TO_SIGMA * np.median(size, axis=(0, 1))
    return np.where(threshold > 0.0, threshold / np.maximum(size, np.maximum(threshold, 1e-300)), 1.0)


def _least_squares(sample: FloatArray, root_size: FloatArray, weights: FloatArray | None) -> CostCurve:
    """Weighted least squares on two columns, 1 and sqrt(S), with both coefficients at least 0."""
    w = np.ones_like(sample) if weights is None else weights
    by_size, cost = w.sum(axis=(0, 1)), (w * sample).sum(axis=(0, 1))
    n, x, xx = by_size.sum(), by_size @ root_size, by_size @ root_size**2
    y, xy = cost.sum(), cost @ root_size
    spread = n * xx - x * x
    h, k = (xx * y - x * xy) / spread, (n * xy - x * y) / spread
    if h < 0.0:
        return CostCurve(0.0, float(max(0.0, xy / xx)))
    if k < 0.0:
        return CostCurve(float(max(0.0, y / n)), 0.0)
    return CostCurve(float(h), float(k))


def autocorrelation_time(series: FloatArray) -> float:
    """How many consecutive values count as one, between 1 and n: 1 + 2 * (sum of autocorrelations).

    Args:
        series: shape (n,), evenly spaced. A series that does not vary counts as a single observation.

    Source: Geyer (1992), initial positive sequence: pairs of autocorrelations are added while they stay positive.
    """
    n = len(series)
    centred = series - series.mean()
    variance = float(centred @ centred) / n
    if variance <= 1e-24 * float(np.mean(series**2)):
        return float(n)
    spectrum = np.fft.rfft(centred, 2 * n)
    covariance = np.fft.irfft(spectrum * np.conj(spectrum), 2 * n)[:n] / n
    pairs = covariance[: n - n % 2].reshape(-1, 2).sum(axis=1) / variance
    negative = np.flatnonzero(pairs <= 0.0)
    kept = pairs[: negative[0]] if len(negative) else pairs
    return float(np.clip(2.0 * kept.sum() - 1.0, 1.0, n))
