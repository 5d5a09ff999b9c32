"""One window of returns -> its weighted principal components, as a portfolio and as betas to it. Compiled.

Over the coins with enough returns in the window, with weights ``q`` (mean 1) and ``X`` the returns less each coin's
mean (a missing one is 0, and the column grows by sqrt(K / n_i) so that its variance keeps its size), the components
are the right singular vectors ``u`` of ``X diag(sqrt q)``: the eigenvectors of Q^1/2 Sigma Q^1/2. The factor is the
return of the portfolio ``c`` = a sqrt(q) u, and a beta is the plain regression slope of a coin's return on it; without
gaps that is u / (a sqrt(q)). The loadings u themselves are no betas: they belong to weighted returns.

A row in which coins are missing holds the factor of those that are there, divided by the share of ``sum c_i beta_i``
they make up. As betas are slopes on the factor and the factor needs the betas, the two are iterated until they agree.

The decomposition is that of the smaller Gram matrix, by time or by coin. The first vector comes from power iteration
started at the weighted mean return, held to a proven angle (see :mod:`~slipstream.core.factors.spectrum`); where no
first eigenvalue dominates, and for further components, LAPACK decomposes the matrix. Every window stands alone: no
state is carried over but the sign of components 2 and 3.

Source: Avellaneda and Lee (2010), liquidity-weighted components and betas by regression on them.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from slipstream.core.factors.factor_slopes import LEAST_SHARE as LEAST_SHARE  # read here by targets, too
from slipstream.core.factors.factor_slopes import agreed_slopes, slopes
from slipstream.core.factors.spectrum import SMALLEST, leading_eigenpair
from slipstream.core.panel import FloatArray, IntArray

OK, FEW_COINS, NO_VOLUME, NO_VARIANCE, NO_DIRECTION, GAPS = range(6)
"""What became of a window: its row is NaN unless it is ``OK``."""

WEIGHT_NONE, WEIGHT_SQRT, WEIGHT_LOG, WEIGHT_DOLLAR = range(4)

_STILL = 1e-24
"""Variance below this share of the squared mean is the rounding of returns that never change."""


@njit(cache=True, nogil=True)
def rolling_components(
    returns: FloatArray,
    volume_usd: FloatArray,
    window: int,
    weighting: int,
    min_coins: int,
    min_periods: int,
    components: int,
    reference: int,
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray, IntArray, IntArray]:
    """Components of every window of ``window`` bars.

    Args:
        returns: shape (M, N), log returns per bar, NaN where missing.
        volume_usd: shape (M, N), USD per bar, NaN where unknown.
        window: bars per window, K.
        weighting: one of the ``WEIGHT_`` codes.
        min_coins: coins a window needs.
        min_periods: returns a coin needs in the window, at least 3.
        components: how many, C.
        reference: column whose correlation with components 2 and 3 is positive at first; -1 where there is none, and
            then the coin with the largest weight in that window.

    Returns:
        beta (W, C, N), coefficients c (W, C, N), eigenvalues (W, C), total variance (W,), coins (W,) and outcome (W,),
        with W = M - K + 1; row w belongs to the window that ends at bar w + K - 1.
    """
    coins = returns.shape[1]
    rows = max(returns.shape[0] - window + 1, 0)
    beta = np.full((rows, components, coins), np.nan)
    coef = np.full((rows, components, coins), np.nan)
    eigenvalue = np.full((rows, components), np.nan)
    total = np.full(rows, np.nan)
    used = np.zeros(rows, dtype=np.int64)
    outcome = np.zeros(rows, dtype=np.int64)
    last = np.zeros((components, coins))
    for w in range(rows):
        block = slice(w, w + window)
        outcome[w], chosen, q, sample = _sampled(returns[block], volume_usd[block], weighting, min_coins, min_periods)
        used[w] = len(chosen)
        if outcome[w] != OK:
            continue
        count, mean = _means(sample)
        root = np.sqrt(q)
        gram, weighted, still = _gram(sample, count, mean, root)
        vectors, values, variance = _directions(gram, weighted, root, still, components)
        if len(values) == 0:
            outcome[w] = NO_VARIANCE
            continue
        outcome[w] = _fill_row(beta[w], coef[w], last, sample, count, mean, q, vectors, chosen, min_periods, reference)
        if outcome[w] == OK:
            eigenvalue[w, : len(values)] = values / (window - 1.0)
            total[w] = variance / (window - 1.0)
    return beta, coef, eigenvalue, total, used, outcome


@njit(cache=True, nogil=True)
def condition_numbers(
    returns: FloatArray, volume_usd: FloatArray, window: int, weighting: int, min_coins: int, min_periods: int
) -> FloatArray:
    """Largest eigenvalue of every window over the smallest one that it can determine, shape (W,); NaN where that is 0.

    A window determines one eigenvalue fewer than its bars with a return, or as many as it has coins. Arguments are
    those of :func:`rolling_components`; it costs more than the first component, hence a function of its own.
    """
    rows = max(returns.shape[0] - window + 1, 0)
    out = np.full(rows, np.nan)
    for w in range(rows):
        block = slice(w, w + window)
        outcome, _, q, sample = _sampled(returns[block], volume_usd[block], weighting, min_coins, min_periods)
        if outcome != OK:
            continue
        count, mean = _means(sample)
        gram, weighted, still = _gram(sample, count, mean, np.sqrt(q))
        if not np.trace(gram) > still:
            continue
        spectrum = np.linalg.eigvalsh(gram)
        seen = 0
        for t in range(window):
            seen += 1 if np.any(weighted[t] != 0.0) else 0
        place = len(spectrum) - min(seen - 1, weighted.shape[1])
        if place < len(spectrum) and spectrum[place] > SMALLEST * spectrum[-1]:
            out[w] = spectrum[-1] / spectrum[place]
    return out


@njit(cache=True, nogil=True)
def _sampled(
    returns: FloatArray, volume_usd: FloatArray, weighting: int, min_coins: int, min_periods: int
) -> tuple[int, IntArray, FloatArray, FloatArray]:
    """Outcome so far of a window, its coins, their weights and their returns (K, n)."""
    chosen = np.flatnonzero(_count(returns) >= min_periods)
    sample = _columns(returns, chosen)
    if len(chosen) < min_coins:
        return FEW_COINS, chosen, np.empty(0), sample
    q = _weights(_columns(volume_usd, chosen), weighting)
    return (OK if len(q) else NO_VOLUME), chosen, q, sample


@njit(cache=True, nogil=True)
def _columns(block: FloatArray, chosen: IntArray) -> FloatArray:
    """The chosen columns; without a copy if they are all there are."""
    if len(chosen) == block.shape[1]:
        return block
    out = np.empty((block.shape[0], len(chosen)))
    for t in range(block.shape[0]):
        for k in range(len(chosen)):
            out[t, k] = block[t, chosen[k]]
    return out


@njit(cache=True, nogil=True)
def _count(block: FloatArray) -> FloatArray:
    """Numbers in each column."""
    count = np.zeros(block.shape[1])
    for t in range(block.shape[0]):
        for i in range(block.shape[1]):
            count[i] += 0.0 if np.isnan(block[t, i]) else 1.0
    return count


@njit(cache=True, nogil=True)
def _means(block: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Numbers in each column and their mean (0 of none)."""
    count = _count(block)
    total = np.zeros(block.shape[1])
    for t in range(block.shape[0]):
        for i in range(block.shape[1]):
            total[i] += 0.0 if np.isnan(block[t, i]) else block[t, i]
    return count, total / np.maximum(count, 1.0)


@njit(cache=True, nogil=True)
def _weights(volume_usd: FloatArray, weighting: int) -> FloatArray:
    """Weights with mean 1 from the window's mean volumes; none at all where no coin has a volume."""
    bars, size = volume_usd.shape
    if weighting == WEIGHT_NONE:
        return np.ones(size)
    count, mean = _means(volume_usd)
    usable = (2.0 * count >= bars) & (mean > 0.0)
    if not usable.any():
        return np.empty(0)
    if not usable.all():
        mean = np.where(usable, mean, np.median(mean[usable]))
    if weighting == WEIGHT_SQRT:
        mean = np.sqrt(mean)
    elif weighting == WEIGHT_LOG:
        mean = np.log1p(mean)
    return np.asarray(mean / mean.mean())


@njit(cache=True, nogil=True)
def _weighted(sample: FloatArray, mean: FloatArray, scale: FloatArray) -> FloatArray:
    """Deviations from each coin's mean, scaled; 0 where there is no return; shape (K, n)."""
    out = np.empty(sample.shape)
    for t in range(sample.shape[0]):
        for k in range(sample.shape[1]):
            gap = (sample[t, k] - mean[k]) * scale[k]
            out[t, k] = 0.0 if np.isnan(gap) else gap
    return out


@njit(cache=True, nogil=True)
def _gram(
    sample: FloatArray, count: FloatArray, mean: FloatArray, root: FloatArray
) -> tuple[FloatArray, FloatArray, float]:
    """The smaller Gram matrix of X diag(sqrt q), that matrix itself (K, n), and how much variance is but rounding."""
    scale = root * np.sqrt(len(sample) / count)
    weighted = _weighted(sample, mean, scale)
    by_time = len(sample) <= len(root)
    gram = np.dot(weighted, weighted.T) if by_time else np.dot(weighted.T, weighted)
    return gram, weighted, _STILL * len(sample) * np.dot(scale * mean, scale * mean)


@njit(cache=True, nogil=True)
def _directions(
    gram: FloatArray, weighted: FloatArray, root: FloatArray, still: float, components: int
) -> tuple[FloatArray, FloatArray, float]:
    """Right singular vectors (J, n) of ``weighted``, squared singular values (J,), and the total of all of them.

    J is ``components`` or, where the window has fewer directions, their number; 0 if the total is no more than
    ``still``.
    """
    bars, size = weighted.shape
    by_time = bars <= size
    total = np.trace(gram)
    if not total > still:
        return np.empty((0, size)), np.empty(0), 0.0
    left = np.empty((components, len(gram)))
    values = np.full(components, np.nan)
    if components == 1:
        start = np.dot(weighted, root) if by_time else root.copy()
        values[0] = leading_eigenpair(gram, start, left[0])
    if np.isnan(values[0]):
        spectrum, basis = np.linalg.eigh(gram)
        for j in range(components):
            at = len(gram) - 1 - j
            values[j] = spectrum[at] if at >= 0 else 0.0
            left[j] = basis[:, max(at, 0)]
    found = 0
    while found < components and values[found] > SMALLEST * values[0]:
        found += 1
    vectors = np.empty((found, size))
    for j in range(found):
        side = np.dot(left[j], weighted) if by_time else left[j].copy()
        vectors[j] = side / np.sqrt(np.dot(side, side))
    return vectors, values[:found], total


@njit(cache=True, nogil=True)
def _fill_row(
    beta: FloatArray,
    coef: FloatArray,
    last: FloatArray,
    sample: FloatArray,
    count: FloatArray,
    mean: FloatArray,
    q: FloatArray,
    vectors: FloatArray,
    chosen: IntArray,
    min_periods: int,
    reference: int,
) -> int:
    """Write betas and coefficients (C, N) of one window, scaled and signed; its outcome.

    A window without a first component has no row. One that lacks a further component has NaN there.
    """
    root = np.sqrt(q)
    ones = np.ones(len(q))
    centred = _weighted(sample, mean, ones)
    whole = count.min() == len(sample)
    raw = sample if whole else _weighted(sample, np.zeros(len(q)), ones)
    for j in range(len(vectors)):
        portfolio = root * vectors[j]
        if whole:
            slope = slopes(portfolio, raw, centred)
        else:
            guess = vectors[j] / root * np.sqrt(len(sample) / count)
            slope = agreed_slopes(guess, portfolio, raw, centred, ~np.isnan(sample), min_periods)
        if len(slope) == 0:
            if j == 0:
                return GAPS
            continue
        if j == 0:
            scale = np.dot(q, slope) / q.sum()
            if abs(scale) <= np.sqrt(SMALLEST * np.dot(q, slope * slope) / q.sum()):
                return NO_DIRECTION
        else:
            scale = 1.0 / np.abs(portfolio).sum()
            if _sign(portfolio, slope, last[j], q, chosen, reference) < 0.0:
                scale = -scale
            last[j] = 0.0
        for k in range(len(chosen)):
            coef[j, chosen[k]] = scale * portfolio[k]
            beta[j, chosen[k]] = slope[k] / scale
            last[j, chosen[k]] = scale * portfolio[k]
    return OK


@njit(cache=True, nogil=True)
def _sign(
    portfolio: FloatArray, slope: FloatArray, last: FloatArray, q: FloatArray, chosen: IntArray, reference: int
) -> float:
    """Positive if the component points as it did before or, the first time, as the reference coin moves."""
    along = 0.0
    for k in range(len(chosen)):
        along += last[chosen[k]] * portfolio[k]
    if along != 0.0:
        return along
    for k in range(len(chosen)):
        if chosen[k] == reference:
            return float(slope[k])
    return float(slope[np.argmax(q)])
