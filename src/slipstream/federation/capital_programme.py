"""Capital among pods as a convex programme, solved by the portfolio's own solver and certified as a whole.

    minimise   (g/2) w'Sw - mu'w + k sqrt(w'Ow) + c |w - v|_1
    subject to 0 <= w_i <= u_i,  sum w <= b            (O diagonal; v: the weights in force)

Without the third term this is a :class:`slipstream.core.portfolio.programme.Programme` whose box starts at zero, so
that the gross cap is the budget. The third term joins by ``sqrt(x) = min over t > 0 of (x/t + t)/2``: at a fixed t it
is a variance ``k O/(g t)`` that each pod has to itself. Among the answers w(t) there is one with ``sqrt(w'Ow) = t``,
and it is the optimum. In z = 1/t the equation ``1/sqrt(w'Ow) = z`` is nearly straight, and exactly so for one pod, so
Newton's method finds it in a few solves. Where no pod earns its uncertainty t would be zero; that is recognised
beforehand, in closed form.

The certificate knows nothing of the search. By convexity any w, with any y of length at most k, gives the bound

    -(g/2) w'Sw + min over feasible x of  (g Sw - mu + O^(1/2) y)'x + c |x - v|_1

on every feasible book, and the minimum over x is a sort: the budget goes to the steepest slopes first.

Sources: the variational form of a norm, as in iteratively reweighted least squares; More and Sorensen (1983) for the
reciprocal form of the equation; Frank and Wolfe (1956) for the bound.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from slipstream.core.panel import FloatArray
from slipstream.core.portfolio.covariance import FactorCovariance
from slipstream.core.portfolio.dense_newton import as_factors
from slipstream.core.portfolio.programme import GAP_CONIC, GAP_NEWTON, Programme
from slipstream.core.portfolio.programme import solve as solve_programme

_MATCHED = 1e-12
"""Relative distance of sqrt(w'Ow) from t, or of a length from k, at which they are the same number."""

_SOLVES = 60
"""Programmes solved at most in one search; Newton's method takes about four."""

_STRAIGHTEST = 1e-9
"""Least difference of the two slopes in Newton's step; below it there is nothing left to tell them apart."""

_TARGET = 1e-14
"""Gap asked of each solve: the bound on the whole is of first order in w, so w must have more digits than its cost."""

_DUST = 1e-9
"""A weight nearer than this to zero, to its cap or to the one in force is tried there."""

_FLOOR = 1e-5
"""Gaps are relative to the sizes of the terms, or to this fraction of the largest slope over the whole budget."""


@dataclass(frozen=True, eq=False)
class CapitalProgramme:
    """The programme above for P pods; moments are annual.

    Attributes:
        mean: mu, shape (P,).
        covariance: S, shape (P, P), symmetric positive semidefinite.
        mean_variance: the diagonal of O, the variance of each mean, shape (P,), at least 0.
        held: v, shape (P,), at least 0, possibly above the cap.
        upper: u, shape (P,), finite, at least 0.
        budget: b; at most 0 leaves only cash.
        risk_aversion: g, positive.
        uncertainty_aversion: k, at least 0.
        move_cost: c, annual, at least 0.
    """

    mean: FloatArray
    covariance: FloatArray
    mean_variance: FloatArray
    held: FloatArray
    upper: FloatArray
    budget: float
    risk_aversion: float
    uncertainty_aversion: float
    move_cost: float

    def uncertainty(self, w: FloatArray) -> float:
        """``sqrt(w'Ow)``: the standard error of the book's mean."""
        return float(np.sqrt(self.mean_variance @ (w * w)))

    def cost(self, w: FloatArray) -> tuple[float, float]:
        """The objective at w, and the sum of the sizes of its terms."""
        earned = self.mean * w
        risk = 0.5 * self.risk_aversion * float(w @ self.covariance @ w)
        paid = self.move_cost * float(np.abs(w - self.held).sum()) + self.uncertainty_aversion * self.uncertainty(w)
        return risk + paid - float(earned.sum()), risk + paid + float(np.abs(earned).sum())

    def bound(self, w: FloatArray, uncertainty_slope: FloatArray) -> float:
        """What no feasible book can undercut; ``uncertainty_slope`` is the O^(1/2) y of the module's text."""
        pull = self.risk_aversion * (self.covariance @ w)
        slope = pull - self.mean + uncertainty_slope
        knee = np.minimum(self.held, self.upper)
        slopes = np.concatenate([slope - self.move_cost, slope + self.move_cost])
        lengths = np.concatenate([knee, self.upper - knee])
        steepest = np.argsort(slopes)
        taken = np.minimum(np.cumsum(lengths[steepest]), max(self.budget, 0.0))
        gained = np.minimum(slopes[steepest], 0.0) @ np.diff(taken, prepend=0.0)
        return float(gained + self.move_cost * self.held.sum() - 0.5 * (w @ pull))

    def relative_gap(self, w: FloatArray, bound: float) -> float:
        """Distance of the cost of w from a bound on all books, relative to the sizes of the terms."""
        value, terms = self.cost(w)
        steepest = float(np.abs(self.mean).max(initial=0.0)) + self.move_cost
        scale = max(terms, _FLOOR * steepest * min(self.budget, float(self.upper.sum())))
        return abs(value - bound) / scale if scale > 0.0 else float(value != bound)

    def feasible(self, w: FloatArray) -> bool:
        """Box exactly, budget to rounding."""
        inside = (w >= 0.0) & (w <= self.upper)
        return bool(inside.all()) and float(w.sum()) <= max(self.budget, 0.0) * (1.0 + 1e-12)


@dataclass(frozen=True, eq=False)
class CapitalAnswer:
    """Weights with their certificate.

    Attributes:
        w: shape (P,); where ``certified`` is False, not to be used.
        gap: relative duality gap of the whole programme.
        solver: the method that answered.
        certified: gap, box and budget are within their bounds.
        solves: programmes solved on the way.
        message: one line for a person.
    """

    w: FloatArray
    gap: float
    solver: Literal["newton", "conic"]
    certified: bool
    solves: int
    message: str


def solve(p: CapitalProgramme) -> CapitalAnswer:
    """The best weights, certified; a conic solver answers where the search does not, and the result says so.

    Raises:
        PortfolioInputError: a covariance that is not positive semidefinite.
    """
    if len(p.mean) == 0 or min(p.budget, float(p.upper.max())) <= 0.0:
        return CapitalAnswer(np.zeros(len(p.mean)), 0.0, "newton", True, 0, "optimal: only cash is feasible")
    search = _Search(p)
    w, slope = search.certain() or search.uncertain() or (None, None)
    if w is not None and slope is not None:
        bound = p.bound(w, slope)
        for book in (_without_dust(p, w), w):
            gap = p.relative_gap(book, bound)
            if gap <= GAP_NEWTON and p.feasible(book):
                return CapitalAnswer(book, gap, "newton", True, search.solves, "optimal")
    return _by_cones(p, search)


def _without_dust(p: CapitalProgramme, w: FloatArray) -> FloatArray:
    """Weights a hair from a kink on it; only pods without risk of their own leave any."""
    w = np.where(np.abs(w - p.held) < _DUST, np.minimum(p.held, p.upper), w)
    w = np.where(np.abs(w - p.upper) < _DUST, p.upper, w)
    return np.where(w < _DUST, 0.0, w)


class _Search:
    """The one-dimensional search for t; counts the programmes it solves."""

    def __init__(self, p: CapitalProgramme) -> None:
        pods, nothing = len(p.mean), np.zeros(len(p.mean))
        self.p, self.solves = p, 0
        self._joint = as_factors(p.covariance)
        self._posed = (p.mean, np.zeros((pods, 0))), (p.held, np.full(pods, p.move_cost), nothing, nothing)

    def at(self, t: float, upper: FloatArray) -> FloatArray | None:
        """w(t) under these caps; None where no certified answer was found. At t = inf the uncertainty is free."""
        p, (first, rest) = self.p, self._posed
        own = self._joint.idio_var + p.uncertainty_aversion / (p.risk_aversion * t) * p.mean_variance
        S = FactorCovariance(self._joint.exposures, own)
        answer = solve_programme(Programme(*first, S, *rest, upper, p.budget, p.risk_aversion), target=_TARGET)
        self.solves += 1
        return answer.w if answer.certified else None

    def certain(self) -> tuple[FloatArray, FloatArray] | None:
        """The optimum and its uncertainty slope, if it holds only pods of certain mean, or none at all; else None.

        It does if what the other pods would earn at the margin has length at most k in the metric of O.
        """
        p = self.p
        doubtful = (p.mean_variance > 0.0) & (p.uncertainty_aversion > 0.0)
        upper = np.where(doubtful, 0.0, p.upper)
        w = self.at(np.inf, upper) if upper.any() else np.zeros(len(upper))
        if w is None:
            return None
        slope = p.risk_aversion * (p.covariance @ w) - p.mean
        holds = w > 0.0
        price = 0.0  # what a unit of a spent budget is worth
        if holds.any() and float(w.sum()) >= p.budget * (1.0 - 1e-12):
            falling = np.where(w <= p.held, p.move_cost, -p.move_cost)
            price = max(0.0, float((falling - slope)[holds].min()))
        rising = np.where(w < p.held, -p.move_cost, p.move_cost)
        wanted = np.where(doubtful & (p.upper > 0.0), np.maximum(-slope - rising - price, 0.0), 0.0)
        length = float(np.sqrt((wanted[doubtful] ** 2 / p.mean_variance[doubtful]).sum()))
        if length > p.uncertainty_aversion * (1.0 + _MATCHED):
            return None
        return w, wanted

    def uncertain(self, t: float | None = None) -> tuple[FloatArray, FloatArray] | None:
        """The optimum, if it holds a pod of uncertain mean, and its uncertainty slope; None where the search fails.

        It starts from t, by default from that of the weights in force.
        """
        p = self.p
        largest = p.uncertainty(p.upper)
        if p.uncertainty_aversion * largest == 0.0:
            return None
        steeper, flatter = 1.0 / largest, np.inf
        z = 1.0 / (t or p.uncertainty(np.minimum(p.held, p.upper)) or largest)
        for _ in range(_SOLVES):
            w = self.at(1.0 / z, p.upper)
            if w is None:
                return None
            reached = p.uncertainty(w)
            nearer = 0.0
            if reached > 0.0:
                matched = abs(reached * z - 1.0) <= _MATCHED
                if not matched:
                    nearer = z + (1.0 / reached - z) / max(1.0 - self._bend(w, z, reached), _STRAIGHTEST)
                if matched or nearer == z:
                    return w, p.uncertainty_aversion / reached * p.mean_variance * w
            # Far below the optimum's t all weights are dust: to have reached nothing is to have gone too far.
            past = reached * z > 1.0 or reached == 0.0
            steeper, flatter = (steeper, z) if past else (z, flatter)
            if not steeper <= nearer <= flatter:
                nearer = np.sqrt(steeper * flatter) if flatter < np.inf else 10.0 * z
            z = nearer
        return None

    def _bend(self, w: FloatArray, z: float, reached: float) -> float:
        """Slope of ``1/sqrt(w'Ow)`` in z, from the pods that are free to move."""
        p = self.p
        free = ((w > 0.0) & (w < p.upper) & (w != p.held)).nonzero()[0]
        size, doubt = len(free), p.mean_variance[free]
        pull = doubt * w[free]
        if not pull.any():
            return 0.0
        spent = float(w.sum()) >= p.budget * (1.0 - 1e-12)
        system, side = np.zeros((size + spent, size + spent)), np.zeros(size + spent)
        system[:size, :size] = p.risk_aversion * p.covariance[free[:, None], free]
        system.flat[: size * len(side) : len(side) + 1] += p.uncertainty_aversion * z * doubt
        if spent:
            system[size, :size] = system[:size, size] = 1.0
        side[:size] = pull
        try:
            moves = np.linalg.solve(system, side)[:size]
        except np.linalg.LinAlgError:
            # A pod without any risk is free to be anywhere: the least move will do.
            moves = np.linalg.lstsq(system, side, rcond=None)[0][:size]
        return float(p.uncertainty_aversion / reached**3 * (pull @ moves))


def _by_cones(p: CapitalProgramme, search: _Search) -> CapitalAnswer:
    """The conic solver's weights, or those of a search from there, whichever cost less, against their best bound."""
    from slipstream.federation import capital_cones

    found, word = capital_cones.solve(p)
    if found is None:
        return CapitalAnswer(p.held.copy(), np.inf, "conic", False, search.solves, f"the conic solver says {word}")
    t = p.uncertainty(found)
    slope = p.uncertainty_aversion * p.mean_variance * found / (t if t > 0.0 else 1.0)
    candidates = [(found, slope), search.certain(), search.uncertain(t) if t > 0.0 else None]
    usable = [candidate for candidate in candidates if candidate is not None and p.feasible(candidate[0])]
    if not usable:
        return CapitalAnswer(p.held.copy(), np.inf, "conic", False, search.solves, f"infeasible by rounding ({word})")
    w = min(usable, key=lambda candidate: p.cost(candidate[0])[0])[0]
    gap = p.relative_gap(w, max(p.bound(*candidate) for candidate in usable))
    return CapitalAnswer(
        w, gap, "conic", gap <= GAP_CONIC, search.solves, f"the conic solver says {word}, gap {gap:.2g}"
    )
