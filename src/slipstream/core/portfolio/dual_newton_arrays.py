"""The dual Newton method in array code: oracle of the compiled kernel, and the answer while that is not loaded.

The mathematics is that of :mod:`slipstream.core.portfolio.dual_newton`, line by line; only the loops over coins are
array expressions. What couples the coins is a :class:`Coupling`, so that the same method serves a factor covariance
(:class:`FactorCoupling`, here) and a dense one (:mod:`slipstream.core.portfolio.dense_newton`).

Every sum runs in the order of the kernel's loop, never through BLAS: the two give the same answer to the last bit, so
nobody can tell, or need know, which of them gave it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import numpy as np

from slipstream.core.panel import BoolArray, FloatArray
from slipstream.core.portfolio.inputs import orthonormal_columns, remove_span, running_sum, running_sum_rows
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
from slipstream.core.portfolio.small_cholesky import backward, factorise, forward


class Solved(NamedTuple):
    """An answer and its certificate, in costs (to be minimised), as the compiled kernel returns them.

    Attributes:
        w: weights, shape (N,).
        multipliers: of the coupling, the neutralities and the gross cap, in this order.
        primal, dual: cost of w, and the bound the multipliers prove.
        scale: what a gap is relative to.
        steps: Newton steps taken.
    """

    w: FloatArray
    multipliers: FloatArray
    primal: float
    dual: float
    scale: float
    steps: int


def relative_gap(primal: float, dual: float, scale: float) -> float:
    """Distance of the two values over the scale; inf where nothing is proved.

    Beyond rounding, a value below the bound means that a constraint is missed, so the sign is no excuse.
    """
    if primal == dual:
        return 0.0
    return abs(primal - dual) / scale if scale > 0.0 else np.inf


class Coupling(Protocol):
    """The joint half: the covariance beyond its diagonal ``weight``, and the neutral directions Q.

    The multipliers are ``x = (s, nu, mu)``; s prices the coupling and has ``width`` entries.
    """

    @property
    def weight(self) -> FloatArray: ...

    @property
    def neutral(self) -> FloatArray: ...

    @property
    def width(self) -> int: ...

    def start(self, w: FloatArray) -> FloatArray:
        """The s that belongs to the weights w."""

    def slopes(self, onto: FloatArray, s: FloatArray) -> FloatArray:
        """``onto`` plus what s adds to each coin's slope, shape (N,)."""

    def quadratic(self, s: FloatArray) -> float:
        """Half the joint variance that s stands for."""

    def gradient(self, s: FloatArray, w: FloatArray) -> FloatArray:
        """Dual gradient in s."""

    def mismatch(self, grad: FloatArray, s: FloatArray, w: FloatArray) -> float:
        """Joint variance of the distance between w and what s stands for; ``grad`` is the dual gradient in s."""

    def variances(self) -> FloatArray:
        """Total variance of each coin, shape (N,)."""

    def step(self, x: FloatArray, w: FloatArray, h: FloatArray, grad: FloatArray, reg: FloatArray) -> FloatArray:
        """The best Newton step that keeps mu at 0 or above."""


@dataclass(frozen=True, eq=False)
class FactorCoupling:
    """Covariance ``F F' + diag(weight)``: s is the vector u of factor prices."""

    exposures: FloatArray
    weight: FloatArray
    neutral: FloatArray

    @property
    def width(self) -> int:
        return int(self.exposures.shape[1])

    def start(self, w: FloatArray) -> FloatArray:
        return running_sum_rows(np.zeros(self.width), self.exposures * w[:, None])

    def slopes(self, onto: FloatArray, s: FloatArray) -> FloatArray:
        return add_columns(onto, self.exposures, s)

    def quadratic(self, s: FloatArray) -> float:
        return running_sum(0.5 * s * s)

    def gradient(self, s: FloatArray, w: FloatArray) -> FloatArray:
        return running_sum_rows(-s, self.exposures * w[:, None])

    def mismatch(self, grad: FloatArray, s: FloatArray, w: FloatArray) -> float:  # noqa: ARG002 - the protocol's
        return running_sum(grad * grad)

    def variances(self) -> FloatArray:
        variances = self.weight
        for column in self.exposures.T:
            variances = variances + column * column
        return variances

    def step(self, x: FloatArray, w: FloatArray, h: FloatArray, grad: FloatArray, reg: FloatArray) -> FloatArray:
        trades = np.flatnonzero(h)
        rows = np.column_stack([self.exposures[trades], self.neutral[trades], np.where(w[trades] > 0.0, 1.0, -1.0)])
        top = rows.shape[1] - 1
        M = np.diag(np.concatenate([np.ones(self.width), reg]))
        M = running_sum_rows(M, (h[trades, None] * rows)[:, :, None] * rows[:, None, :])
        factorise(M, top + 1)
        step = grad.copy()
        forward(M, top + 1, step)
        backward(M, top + 1, step, top + 1)
        if step[top] < -x[-1]:
            step = grad.copy()
            forward(M, top, step)
            step[top] = -x[-1]
            backward(M, top + 1, step, top)
        return step


def add_columns(onto: FloatArray, columns: FloatArray, factors: FloatArray) -> FloatArray:
    """``onto + columns @ factors``, column by column."""
    for column, factor in zip(columns.T, factors, strict=True):
        onto = onto + column * factor
    return onto


def coins_at(
    q: FloatArray, mu: float, weight: FloatArray, costs: FloatArray, box: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Every coin's minimiser w and ``h = -dw/dq`` at slopes q, as :func:`dual_newton.coin` gives them one by one."""
    linear, impact, held = costs
    sign = np.where(held < 0.0, -1.0, 1.0)
    q, held = sign * q, np.abs(held)
    lo, hi = np.where(sign < 0.0, -box[1], box[0]), np.where(sign < 0.0, -box[0], box[1])
    level = weight * held + q
    up, toward_zero, beyond = -(level + mu) - linear, level + mu - linear, level - mu - linear
    x_up, h_up = _one_side(up, weight, impact)
    x_down, h_down = _one_side(toward_zero, weight, impact)
    x_far, h_far = _one_side(beyond, weight, impact)
    w, h = held.copy(), np.zeros(len(held))
    rise = up > 0.0
    w[rise], h[rise] = (held + x_up)[rise], h_up[rise]
    fall = ~rise & (held > 0.0) & (toward_zero > 0.0)
    short_of_zero = fall & (held - x_down > 0.0)
    w[fall] = 0.0
    w[short_of_zero], h[short_of_zero] = (held - x_down)[short_of_zero], h_down[short_of_zero]
    across = ~rise & (w == 0.0) & (beyond > 0.0) & (x_far > held)
    w[across], h[across] = (held - x_far)[across], h_far[across]
    low, high = w <= lo, (w > lo) & (w >= hi)
    w[low], w[high] = lo[low], hi[high]
    h[low | high] = 0.0
    return np.where(sign < 0.0, 0.0 - w, w), h


def _one_side(reach: FloatArray, weight: FloatArray, impact: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Distance x with ``weight x + 1.5 impact sqrt(x) = reach``, and its slope; zero where reach is not positive."""
    r = np.maximum(reach, 0.0)
    k = 1.5 * impact
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        root = 2.0 * r / (k + np.sqrt(k * k + 4.0 * weight * r))
        free = impact == 0.0
        x = np.where(free, r / weight, root * root)
        slope = np.where(free, 1.0 / weight, 1.0 / (weight + 0.5 * k / root))
    # 0/0 arises only where reach is not positive, and such a coin does not move on this side.
    moves = reach > 0.0
    return np.where(moves, x, 0.0), np.where(moves, slope, 0.0)


CoinAnswers = Callable[[FloatArray, float, FloatArray, FloatArray, FloatArray], tuple[FloatArray, FloatArray]]


@dataclass(frozen=True, eq=False)
class Coins:
    """The separable half of the problem.

    Attributes:
        price: alpha, shape (N,). costs: rows linear, impact, held, shape (3, N). box: rows lo, hi, shape (2, N).
        gross_cap: L.
        answers: :func:`coins_at`, or its compiled equal.
    """

    price: FloatArray
    costs: FloatArray
    box: FloatArray
    gross_cap: float
    answers: CoinAnswers


def sweep(
    coins: Coins, coupling: Coupling, weight: FloatArray, x: FloatArray
) -> tuple[FloatArray, FloatArray, float, FloatArray]:
    """Every coin at the multipliers x: (w, h, dual value, dual gradient)."""
    s, nu, mu = x[: coupling.width], x[coupling.width : -1], float(x[-1])
    linear, impact, held = coins.costs
    q = add_columns(coupling.slopes(-coins.price, s), coupling.neutral, nu)
    w, h = coins.answers(q, mu, weight, coins.costs, coins.box)
    gross, d = np.abs(w), np.abs(w - held)
    terms = w * (0.5 * weight * w + q) + mu * gross + d * (linear + impact * np.sqrt(d))
    value = running_sum(np.append(-mu * coins.gross_cap - coupling.quadratic(s), terms))
    missing = running_sum_rows(np.zeros(len(nu)), coupling.neutral * w[:, None])
    grad = np.concatenate([coupling.gradient(s, w), missing, [running_sum(gross) - coins.gross_cap]])
    return w, h, value, grad


def maximise(
    coins: Coins, coupling: Coupling, weight: FloatArray, x: FloatArray, size: float, tiny: float, max_iter: int
) -> tuple[FloatArray, FloatArray, FloatArray, int]:
    """Newton's method on the dual from x: (x, w, h, steps); an increase of ``tiny`` is none."""
    stiff = 1.0 / (weight + coins.costs[1] / np.sqrt(size) + 1e-300)
    squares = coupling.neutral * coupling.neutral * stiff[:, None]
    scale = np.append(running_sum_rows(np.zeros(squares.shape[1]), squares), running_sum(stiff))
    w, h, value, grad = sweep(coins, coupling, weight, x)
    fine = 0
    for iteration in range(max_iter):
        s = x[: coupling.width]
        gross_miss = max(grad[-1], 0.0) if x[-1] == 0.0 else abs(grad[-1])
        miss = max(float(gross_miss), float(np.abs(grad[coupling.width : -1]).max(initial=0.0)))
        if miss <= CONVERGED * size:
            slack = coupling.mismatch(grad[: coupling.width], s, w)
            if slack <= CONVERGED * CONVERGED * (2.0 * coupling.quadratic(s)):
                return x, w, h, iteration
        step = coupling.step(x, w, h, grad, scale * (1e-3 * min(1.0, miss / size) + 1e-13))
        slope, t = running_sum(grad * step), 1.0
        if not slope > 0.0:
            return x, w, h, iteration
        while True:
            trial = x + t * step
            trial[-1] = max(trial[-1], 0.0)
            w, h, new, trial_grad = sweep(coins, coupling, weight, trial)
            if new >= value + ARMIJO * t * slope - 1e-14 * abs(value) or t < 1e-12:
                break
            end = running_sum(trial_grad * step)
            t *= min(0.7, max(0.05, slope / (slope - end))) if end < slope else 0.7
        fine = fine + 1 if slope <= 1e-16 * abs(value) + tiny or t < 1e-12 else 0
        x, value, grad = trial, new, trial_grad
        if fine == 2:
            return x, w, h, iteration + 1
    return x, w, h, max_iter


def settle(
    neutral: FloatArray, coins: Coins, size: float, w: FloatArray, h: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Snap dust to the held weight or to zero, then share what is missing among the coins that trade: (w, h)."""
    lo, hi = coins.box
    held, w, h = coins.costs[2], w.copy(), h.copy()
    for _ in range(2):
        near_held = (np.abs(w - held) <= DUST * size) & (lo <= held) & (held <= hi)
        near_zero = ~near_held & (np.abs(w) <= DUST * size) & (lo <= 0.0) & (hi >= 0.0)
        h[near_held | near_zero] = 0.0
        w[near_held], w[near_zero] = held[near_held], 0.0
        trades = np.flatnonzero(h)
        rows = np.column_stack([neutral, np.sign(w)])
        m = rows.shape[1] - 1
        miss = running_sum_rows(np.zeros(m + 1), rows * w[:, None])
        miss[m] -= coins.gross_cap
        active = rows[trades]
        M = running_sum_rows(np.zeros((m + 1, m + 1)), (h[trades, None] * active)[:, :, None] * active[:, None, :])
        use = m + 1 if miss[m] > 0.0 else m
        factorise(M, use)
        forward(M, use, miss)
        backward(M, use, miss, use)
        along = active[:, m] * miss[m] if use > m else np.zeros(len(trades))
        along = add_columns(along, active[:, :m], miss[:m])
        w[trades] = np.minimum(hi[trades], np.maximum(lo[trades], w[trades] - h[trades] * along))
    return w, h


def primal_value(coins: Coins, coupling: Coupling, w: FloatArray) -> tuple[float, float]:
    """The cost of w, and the sum of the sizes of its terms."""
    linear, impact, held = coins.costs
    d = np.abs(w - held)
    paid = running_sum(d * (linear + impact * np.sqrt(d)))
    risk = running_sum(np.append(coupling.quadratic(coupling.start(w)), 0.5 * coupling.weight * w * w))
    earned = coins.price * w
    return risk + paid - running_sum(earned), risk + paid + running_sum(np.abs(earned))


def scales(coins: Coins, coupling: Coupling, full: float) -> tuple[float, float, float, float]:
    """The problem's own units (size, first rho, last rho, resolution), as :func:`dual_newton.scales` defines them."""
    linear, impact, held = coins.costs
    lo, hi = coins.box
    size = min(running_sum(np.maximum(np.abs(lo), np.abs(hi))), coins.gross_cap)
    forced = bool(
        ((held < lo) | (held > hi)).any()
        or running_sum(np.abs(held)) > coins.gross_cap * (1.0 + 1e-12)
        or np.abs(running_sum_rows(np.zeros(coupling.neutral.shape[1]), coupling.neutral * held[:, None])).max(
            initial=0.0
        )
        > DUST * size
    )
    steepest = float(np.abs(coins.price).max())
    dear = float((linear + 1.5 * impact * np.sqrt(size)).max())
    uphill = float(np.abs(coupling.slopes(coupling.weight * held, coupling.start(held))).max())
    bend = float(coupling.variances().max())
    pull = max(steepest, uphill, dear if forced else 0.0, 1e-6 * dear, 1e-6 * bend * size)
    first = pull / size if pull > 0.0 else 1.0
    last = max(LEAST * (steepest / size if steepest > 0.0 else first), FAINT * first)
    # With nothing to gain, risk or pay every feasible book is best; only the multipliers' own rounding is left.
    worth = RESOLUTION * (full + uphill + dear) * size + DUST * bend * size * size
    return size, first, last, worth if pull > 0.0 else RESOLUTION * size * size


def first_gross_price(coins: Coins, coupling: Coupling) -> float:
    """Where mu starts: 0, or for a book that fills the gross cap what its last unit of gross earns, on average."""
    held, (lo, hi) = coins.costs[2], coins.box
    slope = coupling.slopes(coupling.weight * held, coupling.start(held))
    free = np.flatnonzero((held != 0.0) & (lo < held) & (held < hi))
    if not len(free) or running_sum(np.abs(held)) < FULL * coins.gross_cap:
        return 0.0
    earned = np.where(held > 0.0, coins.price - slope, slope - coins.price)[free]
    return max(0.0, running_sum(earned) / len(free))


def certificate(
    coins: Coins, coupling: Coupling, resolution: float, w: FloatArray, x: FloatArray, steps: int
) -> Solved:
    """The answer w with the bound that x proves for the problem as posed."""
    primal, terms = primal_value(coins, coupling, w)
    dual = sweep(coins, coupling, coupling.weight, x)[2]
    return Solved(w, x, primal, dual, max(terms, resolution), steps)


def rounds(
    coins: Coins,
    coupling: Coupling,
    full: float,
    max_iter: int,
    target: float,
    start: tuple[FloatArray, FloatArray] | None = None,
) -> Solved:
    """Proximal rounds of Newton's method (one round where every coin has curvature of its own).

    ``full`` is the largest alpha before its projection off the neutral span. ``start`` holds multipliers and weights to
    begin from, with the proximal weight already at its last value.
    """
    size, rho, last, resolution = scales(coins, coupling, full)
    weak: BoolArray = coupling.weight + 0.75 * coins.costs[1] / np.sqrt(size) < WEAK * rho
    if start is None:
        centre = coins.costs[2]
        mu = first_gross_price(coins, coupling)
        x = np.concatenate([coupling.start(centre), np.zeros(coupling.neutral.shape[1]), [mu]])
    else:
        (x, centre), rho = start, last
    steps, best, tiny = 0, None, NEGLIGIBLE * resolution
    for _ in range(ROUNDS if weak.any() else 1):
        extra = rho * weak
        pulled = replace(coins, price=coins.price + extra * centre)
        x, w, h, taken = maximise(pulled, coupling, coupling.weight + extra, x, size, tiny, max_iter - steps)
        steps += taken
        centre, _h = settle(coupling.neutral, coins, size, w, h)
        best = certificate(coins, coupling, resolution, centre, x, steps)
        if best.primal - best.dual <= target * best.scale or steps >= max_iter:
            break
        rho = max(rho * FALL, last)
    assert best is not None
    return best


def off_span(alpha: FloatArray, neutral: FloatArray) -> FloatArray:
    """What of alpha a neutral book can earn: alpha less its part in the span; zeros where only rounding is left."""
    price = remove_span(neutral, remove_span(neutral, alpha))
    if np.abs(price).max() <= SPAN * np.abs(alpha).max():
        return np.zeros(len(alpha))
    return price


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
) -> Solved:
    """One rebalance in factor form; arguments and result as :func:`dual_newton.solve`."""
    neutral = orthonormal_columns(B)
    coupling = FactorCoupling(np.sqrt(gamma) * F, gamma * D, neutral)
    coins = Coins(off_span(alpha, neutral), costs, box, L, coins_at)
    return rounds(coins, coupling, float(np.abs(alpha).max()), max_iter, target)
