"""The rebalance in factor form, compiled: semismooth Newton on the dual.

With the risk aversion folded into F and D, and v the weights held now, the problem is

    minimise    -alpha'w + |F'w|^2 / 2 + sum D_i w_i^2 / 2 + sum c_i |w_i - v_i| + sum l_i |w_i - v_i|^1.5
    subject to  Q'w = 0,   sum |w_i| <= L,   lo <= w <= hi.

Pricing the factor exposures (u), the neutralities (nu) and the gross cap (mu >= 0) leaves one scalar problem per coin,
whose answer has a closed form (:func:`coin`). What remains is to maximise a concave function of K + m + 1 numbers,
however many coins there are. Its gradient is ``(F'w - u, Q'w, |w|_1 - L)`` and its generalised Hessian
``-(diag(I, 0, 0) + sum h_i a_i a_i')`` with ``a_i = (F_i, Q_i, sign w_i)`` and ``h_i = -dw_i/dq_i``: zero for a coin
that does not trade, sits at zero, or sits at its bound. Such coins are exact in the answer, bit for bit.

Where D vanishes, or is nothing beside alpha, and no impact stands in for it, the answer jumps with its price. There the
proximal method of multipliers adds ``rho (w_i - z_i)^2 / 2`` around the last answer z, and rho falls round by round.

Every answer carries the cost of a feasible w and the dual bound of its multipliers, both of the problem as posed.

Sources: Perold (1984), the factor form; Qi and Sun (1993), semismooth Newton; Li, Sun and Toh (2018), the regularised
and line-searched dual step; Rockafellar (1976), the proximal method of multipliers.

:mod:`slipstream.core.portfolio.dual_newton_arrays` is the same method in array code, and its oracle in the tests.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from numba import njit, types

from slipstream.core.panel import FloatArray
from slipstream.core.portfolio import small_cholesky
from slipstream.core.portfolio.newton_settings import (
    ARMIJO,
    CONVERGED,
    DUST,
    FAINT,
    FALL,
    FULL,
    LEAST,
    NEGLIGIBLE,
    RESOLUTION,
    ROUNDS,
    SPAN,
    WEAK,
)

_Function = TypeVar("_Function", bound=Callable[..., Any])


def compiled(function: _Function) -> _Function:
    """``numba.njit`` with the house's options; division by zero gives inf, as in array code."""
    return cast(_Function, njit(cache=True, nogil=True, error_model="numpy")(function))


@compiled
def one_side(reach: float, weight: float, impact: float) -> tuple[float, float]:
    """The distance x with ``weight x + 1.5 impact sqrt(x) = reach`` (reach > 0), and its slope dx/dreach."""
    if impact == 0.0:
        return reach / weight, 1.0 / weight
    k = 1.5 * impact
    root = 2.0 * reach / (k + np.sqrt(k * k + 4.0 * weight * reach))
    return root * root, 1.0 / (weight + 0.5 * k / root) if root > 0.0 else 0.0


@compiled
def coin(
    q: float, mu: float, weight: float, linear: float, impact: float, held: float, lo: float, hi: float
) -> tuple[float, float]:
    """One coin's problem: minimise ``weight w^2/2 + q w + mu |w| + linear |w-held| + impact |w-held|^1.5`` on [lo, hi].

    Returns (w, h): the minimiser, and ``h = -dw/dq``. The held weight, zero and the bounds come back exactly.
    """
    flip = held < 0.0
    if flip:
        q, held, lo, hi = -q, -held, -hi, -lo
    w, h = held, 0.0
    level = weight * held + q
    up = -(level + mu) - linear
    if up > 0.0:
        x, h = one_side(up, weight, impact)
        w = held + x
    else:
        toward_zero = level + mu - linear
        beyond = level - mu - linear
        if held > 0.0 and toward_zero > 0.0:
            x, h = one_side(toward_zero, weight, impact)
            w = held - x
            if w <= 0.0:
                w, h = 0.0, 0.0
        if w == 0.0 and beyond > 0.0:
            x, slope = one_side(beyond, weight, impact)
            if x > held:
                w, h = held - x, slope
    if w <= lo:
        w, h = lo, 0.0
    elif w >= hi:
        w, h = hi, 0.0
    return (0.0 - w if flip else w), h


@compiled
def add_columns(columns: FloatArray, count: int, factors: FloatArray, onto: FloatArray) -> None:
    """Add the first ``count`` rows of ``columns``, each times its factor, to ``onto``, one after the other."""
    for j in range(count):
        factor, column = factors[j], columns[j]
        for i in range(len(onto)):
            onto[i] += column[i] * factor


@compiled
def coins_at(
    q: FloatArray, mu: float, weight: FloatArray, costs: FloatArray, box: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Every coin's (w, h) at slopes q: what array code asks of the compiled side. Costs and box as in :func:`solve`."""
    w, h = np.empty(len(q)), np.empty(len(q))
    for i in range(len(q)):
        w[i], h[i] = coin(q[i], mu, weight[i], costs[0, i], costs[1, i], costs[2, i], box[0, i], box[1, i])
    return w, h


@compiled
def sweep(
    x: FloatArray,
    price: FloatArray,
    A: FloatArray,
    columns: FloatArray,
    K: int,
    weight: FloatArray,
    costs: FloatArray,
    box: FloatArray,
    L: float,
    w: FloatArray,
    h: FloatArray,
    grad: FloatArray,
) -> float:
    """Every coin at the multipliers ``x = (u, nu, mu)``: fills w, h and the dual gradient, returns the dual value.

    ``columns`` is A transposed: with the coins side by side the slopes, put into w first, are vector arithmetic.
    """
    n, k = A.shape
    mu = float(x[k])
    joint, gross = 0.0, 0.0
    grad[:k] = 0.0
    for j in range(K):
        joint += 0.5 * x[j] * x[j]
        grad[j] = -x[j]
    value: float = -mu * L - joint
    for i in range(n):
        w[i] = -price[i]
    add_columns(columns, k, x, w)
    for i in range(n):
        q = w[i]
        w[i], h[i] = coin(q, mu, weight[i], costs[0, i], costs[1, i], costs[2, i], box[0, i], box[1, i])
        wi = w[i]
        if wi != 0.0:
            for j in range(k):
                grad[j] += A[i, j] * wi
            gross += abs(wi)
        d = abs(wi - costs[2, i])
        value += wi * (0.5 * weight[i] * wi + q) + mu * abs(wi) + d * (costs[0, i] + costs[1, i] * np.sqrt(d))
    grad[k] = gross - L
    return value


factorise = compiled(small_cholesky.factorise)
forward = compiled(small_cholesky.forward)
backward = compiled(small_cholesky.backward)


@compiled
def newton_step(
    A: FloatArray,
    K: int,
    w: FloatArray,
    h: FloatArray,
    grad: FloatArray,
    mu: float,
    reg: FloatArray,
    M: FloatArray,
    step: FloatArray,
) -> None:
    """The best step of the local model ``grad's - s'(M + reg)s / 2`` that keeps ``mu + s_mu >= 0``."""
    n, k = A.shape
    M[:] = 0.0
    for j in range(k + 1):
        M[j, j] = 1.0 if j < K else reg[j]
    for i in range(n):
        if h[i] == 0.0:
            continue
        for j in range(k):
            t = h[i] * A[i, j]
            for p in range(j + 1):
                M[j, p] += t * A[i, p]
        t = h[i] if w[i] > 0.0 else -h[i]
        for p in range(k):
            M[k, p] += t * A[i, p]
        M[k, k] += h[i]
    factorise(M, k + 1)
    step[:] = grad
    forward(M, k + 1, step)
    backward(M, k + 1, step, k + 1)
    if step[k] < -mu:
        # The gross cap comes last in the elimination, so holding mu at zero needs no second factorisation.
        step[:] = grad
        forward(M, k, step)
        step[k] = -mu
        backward(M, k + 1, step, k)


@compiled
def regularisation(A: FloatArray, K: int, weight: FloatArray, impact: FloatArray, size: float) -> FloatArray:
    """Curvature of each multiplier if every coin traded: the scale of its regularisation, shape (k + 1,)."""
    n, k = A.shape
    scale = np.zeros(k + 1)
    for i in range(n):
        stiff = 1.0 / (weight[i] + impact[i] / np.sqrt(size) + 1e-300)
        for j in range(K, k):
            scale[j] += A[i, j] * A[i, j] * stiff
        scale[k] += stiff
    return scale


@compiled
def converged(x: FloatArray, grad: FloatArray, K: int, size: float) -> tuple[bool, float]:
    """Whether the gradient is down to rounding, and the largest neutrality or gross miss."""
    k = len(x) - 1
    miss = max(grad[k], 0.0) if x[k] == 0.0 else abs(grad[k])
    for j in range(K, k):
        miss = max(miss, abs(grad[j]))
    slack, level = 0.0, 0.0
    for j in range(K):
        slack, level = slack + grad[j] * grad[j], level + x[j] * x[j]
    return miss <= CONVERGED * size and slack <= CONVERGED * CONVERGED * level, miss


@compiled
def maximise(
    x: FloatArray,
    price: FloatArray,
    A: FloatArray,
    columns: FloatArray,
    K: int,
    weight: FloatArray,
    costs: FloatArray,
    box: FloatArray,
    L: float,
    size: float,
    tiny: float,
    max_iter: int,
    w: FloatArray,
    h: FloatArray,
) -> tuple[int, float]:
    """Newton's method on the dual from x, which it moves; fills w and h, returns steps taken and dual value.

    ``tiny`` is an increase of the dual, in its own units, that is none.
    """
    k = A.shape[1]
    grad, step, reg = np.empty(k + 1), np.empty(k + 1), np.empty(k + 1)
    trial, trial_grad = np.empty(k + 1), np.empty(k + 1)
    M = np.empty((k + 1, k + 1))
    scale = regularisation(A, K, weight, costs[1], size)
    value = sweep(x, price, A, columns, K, weight, costs, box, L, w, h, grad)
    fine = 0
    for iteration in range(max_iter):
        done, miss = converged(x, grad, K, size)
        if done:
            return iteration, value
        # Regularisation in step with the miss: enough where no coin trades, nothing near the answer (Li et al. 2018).
        mu = float(x[k])
        relax = 1e-3 * min(1.0, miss / size) + 1e-13
        for j in range(k + 1):
            reg[j] = relax * scale[j]
        newton_step(A, K, w, h, grad, mu, reg, M, step)
        slope = 0.0
        for j in range(k + 1):
            slope += grad[j] * step[j]
        if not slope > 0.0:
            return iteration, value
        t = 1.0
        while True:
            for j in range(k + 1):
                trial[j] = x[j] + t * step[j]
            trial[k] = max(trial[k], 0.0)
            new = sweep(trial, price, A, columns, K, weight, costs, box, L, w, h, trial_grad)
            if new >= value + ARMIJO * t * slope - 1e-14 * abs(value) or t < 1e-12:
                break
            end = 0.0
            for j in range(k + 1):
                end += trial_grad[j] * step[j]
            t *= min(0.7, max(0.05, slope / (slope - end))) if end < slope else 0.7
        fine = fine + 1 if slope <= 1e-16 * abs(value) + tiny or t < 1e-12 else 0
        value = new
        x[:], grad[:] = trial, trial_grad
        if fine == 2:
            return iteration + 1, value
    return max_iter, value


@compiled
def snap(costs: FloatArray, box: FloatArray, dust: float, w: FloatArray, h: FloatArray) -> None:
    """Make a weight within ``dust`` of the held one, or of zero, exactly that, where the box allows it."""
    for i in range(len(w)):
        held = costs[2, i]
        if abs(w[i] - held) <= dust and box[0, i] <= held <= box[1, i]:
            w[i], h[i] = held, 0.0
        elif abs(w[i]) <= dust and box[0, i] <= 0.0 <= box[1, i]:
            w[i], h[i] = 0.0, 0.0


@compiled
def settle(
    A: FloatArray, K: int, costs: FloatArray, box: FloatArray, L: float, dust: float, w: FloatArray, h: FloatArray
) -> None:
    """Snap dust, then share what is missing from neutrality, and any excess of gross, among the coins that trade.

    The correction is the least in the metric 1/h, so that it changes the objective only to second order.
    """
    n, k = A.shape
    m = k - K
    M, miss, row = np.empty((m + 1, m + 1)), np.empty(m + 1), np.empty(m + 1)
    for _ in range(2):
        snap(costs, box, dust, w, h)
        M[:], miss[:] = 0.0, 0.0
        for i in range(n):
            for a in range(m):
                row[a] = A[i, K + a]
                miss[a] += row[a] * w[i]
            row[m] = np.sign(w[i])
            miss[m] += abs(w[i])
            if h[i] != 0.0:
                for a in range(m + 1):
                    for b in range(a + 1):
                        M[a, b] += h[i] * row[a] * row[b]
        miss[m] -= L
        use = m + 1 if miss[m] > 0.0 else m
        factorise(M, use)
        forward(M, use, miss)
        backward(M, use, miss, use)
        for i in range(n):
            if h[i] != 0.0:
                along = miss[m] * np.sign(w[i]) if use > m else 0.0
                for a in range(m):
                    along += miss[a] * A[i, K + a]
                w[i] = min(box[1, i], max(box[0, i], w[i] - h[i] * along))


@compiled
def held_exposure(A: FloatArray, w: FloatArray) -> FloatArray:
    """``A'w``, shape (k,)."""
    n, k = A.shape
    exposure = np.zeros(k)
    for i in range(n):
        if w[i] != 0.0:
            for j in range(k):
                exposure[j] += A[i, j] * w[i]
    return exposure


@compiled
def primal_value(
    alpha: FloatArray, A: FloatArray, K: int, weight: FloatArray, costs: FloatArray, w: FloatArray
) -> tuple[float, float]:
    """The cost of w (to be minimised), and the sum of the sizes of its terms."""
    earned, earned_size, risk, paid = 0.0, 0.0, 0.0, 0.0
    exposure = held_exposure(A, w)
    for j in range(K):
        risk += 0.5 * exposure[j] * exposure[j]
    for i in range(len(w)):
        earned += alpha[i] * w[i]
        earned_size += abs(alpha[i] * w[i])
        risk += 0.5 * weight[i] * w[i] * w[i]
        d = abs(w[i] - costs[2, i])
        paid += d * (costs[0, i] + costs[1, i] * np.sqrt(d))
    return risk + paid - earned, risk + paid + earned_size


@compiled
def remove(basis: FloatArray, rank: int, vector: FloatArray) -> float:
    """Take out of ``vector``, in place, what lies along the first ``rank`` columns; returns the length left."""
    for p in range(rank):
        along = 0.0
        for i in range(len(vector)):
            along += basis[i, p] * vector[i]
        for i in range(len(vector)):
            vector[i] -= along * basis[i, p]
    length = 0.0
    for i in range(len(vector)):
        length += vector[i] * vector[i]
    left: float = np.sqrt(length)
    return left


@compiled
def orthonormal(B: FloatArray) -> FloatArray:
    """Basis of the columns of B in the order given, dependent ones dropped (Gram-Schmidt, twice)."""
    n, m = B.shape
    basis, rest = np.empty((n, m)), np.empty(n)
    rank = 0
    for j in range(m):
        largest = 0.0
        for i in range(n):
            largest = max(largest, abs(B[i, j]))
        if largest == 0.0 or rank == n:
            continue
        for i in range(n):
            rest[i] = B[i, j] / largest
        length = remove(basis, 0, rest)
        left = length
        for _ in range(2 if rank else 0):
            left = remove(basis, rank, rest)
        if left > SPAN * length:
            for i in range(n):
                basis[i, rank] = rest[i] / left
            rank += 1
    return basis[:, :rank]


@compiled
def scales(
    price: FloatArray,
    full: float,
    columns: FloatArray,
    K: int,
    weight: FloatArray,
    costs: FloatArray,
    box: FloatArray,
    L: float,
    exposure: FloatArray,
    slope: FloatArray,
) -> tuple[float, float, float, float]:
    """The problem's own units: (size, first rho, last rho, resolution).

    size: the largest gross a feasible w can have. rho: the curvature that moves a coin by ``size`` under the steepest
    slope in play (a cost counts when the held weights are not feasible, for then it must be paid). resolution: the
    smallest objective that double precision can tell apart to 1e-10, below which a relative gap means nothing; ``full``
    is the largest alpha before its projection off the neutral span, whose rounding it keeps. ``exposure`` and ``slope``
    are ``A'v`` and ``S v`` of the held weights.
    """
    k, n = columns.shape
    size, gross, dear, uphill, bend, steepest = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    forced = False
    variance = weight.copy()
    for j in range(K):
        column = columns[j]
        for i in range(n):
            variance[i] += column[i] * column[i]
    for i in range(n):
        held = costs[2, i]
        size += max(abs(box[0, i]), abs(box[1, i]))
        gross += abs(held)
        steepest = max(steepest, abs(price[i]))
        forced = forced or held < box[0, i] or held > box[1, i]
    size = min(size, L)
    forced = forced or gross > L * (1.0 + 1e-12)
    for j in range(K, k):
        forced = forced or abs(exposure[j]) > DUST * size
    for i in range(n):
        dear = max(dear, costs[0, i] + 1.5 * costs[1, i] * np.sqrt(size))
        uphill, bend = max(uphill, abs(slope[i])), max(bend, variance[i])
    pull = max(steepest, uphill, dear if forced else 0.0, 1e-6 * dear, 1e-6 * bend * size)
    first = pull / size if pull > 0.0 else 1.0
    last = max(LEAST * (steepest / size if steepest > 0.0 else first), FAINT * first)
    # With nothing to gain, risk or pay every feasible book is best; only the multipliers' own rounding is left.
    worth = RESOLUTION * (full + uphill + dear) * size + DUST * bend * size * size
    return size, first, last, worth if pull > 0.0 else RESOLUTION * size * size


@compiled
def first_gross_price(price: FloatArray, slope: FloatArray, costs: FloatArray, box: FloatArray, L: float) -> float:
    """Where mu starts: 0, or for a book that fills the gross cap what its last unit of gross earns, on average.

    Only coins strictly inside their box count. A book that was optimal a moment ago is told its price within a step or
    two by this, and any start leads to the same answer.
    """
    gross, earned, count = 0.0, 0.0, 0
    for i in range(len(price)):
        held = costs[2, i]
        gross += abs(held)
        if held != 0.0 and box[0, i] < held < box[1, i]:
            earned += price[i] - slope[i] if held > 0.0 else slope[i] - price[i]
            count += 1
    return max(0.0, earned / count) if count > 0 and gross >= FULL * L else 0.0


@compiled
def joint_terms(
    alpha: FloatArray, B: FloatArray, F: FloatArray, D: FloatArray, gamma: float
) -> tuple[FloatArray, FloatArray, FloatArray, float]:
    """What the dual works with: A = (sqrt(gamma) F, Q), gamma D, alpha off the span of B, and the largest |alpha|."""
    n, K = F.shape
    Q = orthonormal(B)
    k = K + Q.shape[1]
    A, weight, price = np.empty((n, k)), np.empty(n), alpha.copy()
    root = np.sqrt(gamma)
    steepest, left = 0.0, 0.0
    # What alpha has in the span of B earns nothing on neutral weights; left in, it would only blur the rest.
    remove(Q, k - K, price)
    remove(Q, k - K, price)
    for i in range(n):
        weight[i] = gamma * D[i]
        for j in range(K):
            A[i, j] = root * F[i, j]
        for j in range(K, k):
            A[i, j] = Q[i, j - K]
        steepest, left = max(steepest, abs(alpha[i])), max(left, abs(price[i]))
    if left <= SPAN * steepest:
        price[:] = 0.0
    return A, weight, price, steepest


@compiled
def solve(
    alpha: FloatArray,
    B: FloatArray,
    F: FloatArray,
    D: FloatArray,
    costs: FloatArray,
    box: FloatArray,
    L: float,
    gamma: float,
    max_iter: int,
    target: float,
) -> tuple[FloatArray, FloatArray, float, float, float, int]:
    """One rebalance in factor form.

    Args:
        alpha: shape (N,).
        B: neutralities, shape (N, m).
        F: exposures, shape (N, K).
        D: own variances, shape (N,).
        costs: rows linear cost, impact cost, held weight, shape (3, N).
        box: rows lo, hi, shape (2, N), finite.
        L: gross cap, > 0.
        gamma: risk aversion, > 0.
        max_iter: Newton steps in all.
        target: relative gap at which the proximal rounds stop.

    Returns:
        w; the multipliers (u, nu, mu), nu on the orthonormal basis of B; the cost of w; the dual bound; the scale a gap
        is relative to; Newton steps taken.
    """
    A, weight, price, steepest = joint_terms(alpha, B, F, D, gamma)
    n, K = F.shape
    k = A.shape[1]
    columns = np.ascontiguousarray(A.T)
    exposure, slope = held_exposure(A, costs[2]), weight * costs[2]
    add_columns(columns, K, exposure, slope)
    size, rho, last, resolution = scales(price, steepest, columns, K, weight, costs, box, L, exposure, slope)
    proximal, tiny = False, NEGLIGIBLE * resolution
    extra, firm, pulled = np.zeros(n), weight.copy(), price.copy()
    for i in range(n):
        # Weak: neither risk nor impact bends the coin's objective within the reach of its box.
        if weight[i] + 0.75 * costs[1, i] / np.sqrt(size) < WEAK * rho:
            proximal, extra[i] = True, 1.0
    x, w, h, grad = np.zeros(k + 1), np.empty(n), np.empty(n), np.empty(k + 1)
    x[:K], x[k] = exposure[:K], first_gross_price(price, slope, costs, box, L)
    centre, best = costs[2].copy(), np.empty(n)
    steps, rounds = 0, 0
    while True:
        if proximal:
            for i in range(n):
                firm[i] = weight[i] + rho * extra[i]
                pulled[i] = price[i] + rho * extra[i] * centre[i]
        taken, dual = maximise(x, pulled, A, columns, K, firm, costs, box, L, size, tiny, max_iter - steps, w, h)
        steps += taken
        settle(A, K, costs, box, L, DUST * size, w, h)
        best[:] = w
        primal, terms = primal_value(price, A, K, weight, costs, best)
        scale = max(terms, resolution)
        if proximal:  # what was maximised had the proximal term; the bound is on the problem as posed
            dual = sweep(x, price, A, columns, K, weight, costs, box, L, w, h, grad)
        rounds += 1
        if not proximal or primal - dual <= target * scale or rounds == ROUNDS or steps >= max_iter:
            return best, x, primal, dual, scale, steps
        centre[:] = best
        rho = max(rho * FALL, last)


_VECTOR = types.Array(types.float64, 1, "C", readonly=True)
_MATRIX = types.Array(types.float64, 2, "C", readonly=True)
SIGNATURE = (
    *(_VECTOR, _MATRIX, _MATRIX, _VECTOR, _MATRIX, _MATRIX),
    *(types.float64, types.float64, types.int64, types.float64),
)
"""Read-only arrays: writeable ones convert to them, so that one compiled version serves every caller."""

COINS_SIGNATURE = (_VECTOR, types.float64, _VECTOR, _MATRIX, _MATRIX)
