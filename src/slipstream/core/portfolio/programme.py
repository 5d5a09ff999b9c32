"""One convex programme for rebalancing a book and for allocating capital, and its certified answer.

    maximise    alpha'w - (g/2) w'Sw - sum c_i |w_i - v_i| - sum l_i |w_i - v_i|^1.5
    subject to  B'w = 0,   sum |w_i| <= L,   lo <= w <= hi            (v: the weights held now)

A rebalance has B = beta and a symmetric box; capital among strategies has no B and a box from zero to each cap. Both
are a :class:`Programme`, and :func:`solve` answers either.

The answer comes from the dual Newton method. Its certificate is checked here, whoever computed it; what does not pass
goes to a conic solver, and its answer passes the same check or the result says that there is none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np

from slipstream.core.panel import FloatArray
from slipstream.core.portfolio import dense_newton, dual_newton_arrays
from slipstream.core.portfolio.covariance import FactorCovariance
from slipstream.core.portfolio.inputs import (
    PortfolioInputError,
    as_columns,
    as_costs,
    as_covariance,
    as_scalar,
    as_vector,
)

GAP_NEWTON = 1e-10
"""Relative duality gap the Newton method must prove."""

GAP_CONIC = 1e-8
"""Relative duality gap that is enough where the Newton method did not converge."""

NEUTRAL = 1e-9
"""Largest ``|B'w|`` of a certified answer."""

_ARRAY_ANSWERS = 100
"""Answers of a process after which loading the compiled kernel has paid for itself."""


@dataclass(frozen=True, eq=False)
class Programme:
    """The programme above; every array is finite, except that the box may be infinite.

    Attributes:
        alpha, held, linear, impact: shape (N,); costs at least 0. ``held`` is v, the weights before trading.
        neutral: B, shape (N, m); columns may depend on one another, m may be 0.
        covariance: a :class:`FactorCovariance`, or a symmetric positive semidefinite matrix of shape (N, N).
        lo, hi: shape (N,), ``lo <= hi``; equal bounds freeze a coin.
        gross_cap: L, finite, at least 0.
        risk_aversion: g, positive.
        posed: what :meth:`costs_and_box` would give, from a caller that has checked every array and whose arrays are
            contiguous float64; None to have it worked out.

    Raises:
        PortfolioInputError: a gross cap or a risk aversion out of its range; the arrays are checked by :meth:`check`.
    """

    alpha: FloatArray
    neutral: FloatArray
    covariance: FactorCovariance | FloatArray = field(repr=False)
    held: FloatArray
    linear: FloatArray
    impact: FloatArray
    lo: FloatArray
    hi: FloatArray
    gross_cap: float
    risk_aversion: float = 1.0
    posed: tuple[FloatArray, FloatArray] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.posed is not None:
            return
        as_scalar("gross_cap", self.gross_cap, allow_zero=True)
        as_scalar("risk_aversion", self.risk_aversion, allow_zero=False)
        for name in ("alpha", "neutral", "held", "linear", "impact", "lo", "hi"):
            # The compiled kernel takes contiguous float64 and nothing else; an array that is so already is not copied.
            object.__setattr__(self, name, np.ascontiguousarray(getattr(self, name), dtype=np.float64))

    def check(self) -> None:
        """Raise what is wrong with the arrays, if anything is.

        Raises:
            PortfolioInputError: shapes that do not fit, a number that is not finite, a negative cost, or lo above hi.
        """
        n = len(self.alpha)
        as_columns("neutral", self.neutral, n)
        as_covariance(self.covariance, n)
        as_costs(self.linear, self.impact, n)
        for name in ("alpha", "held", "linear", "impact"):
            as_vector(name, getattr(self, name), n)
        if self.lo.shape != (n,) or self.hi.shape != (n,):
            raise PortfolioInputError(f"lo and hi have shapes {self.lo.shape} and {self.hi.shape}; expected ({n},)")
        if not (self.lo <= self.hi).all():
            worst = int(np.flatnonzero(~(self.lo <= self.hi))[0])
            raise PortfolioInputError(f"coin {worst}: lo is {self.lo[worst]} and hi {self.hi[worst]}")

    def costs_and_box(self) -> tuple[FloatArray, FloatArray]:
        """The rows the kernels take: (linear, impact, held), and the box cut to what the gross cap allows."""
        if self.posed is not None:
            return self.posed
        n = len(self.alpha)
        costs, box = np.empty((3, n)), np.empty((2, n))
        costs[0], costs[1], costs[2] = self.linear, self.impact, self.held
        # A bound beyond the cap binds nobody; cutting it there keeps every scalar problem bounded. A frozen coin stays.
        np.maximum(self.lo, np.minimum(self.hi, -self.gross_cap), out=box[0])
        np.minimum(self.hi, np.maximum(self.lo, self.gross_cap), out=box[1])
        if n and costs[:2].min() < 0.0:
            # The one fault that could pass for an answer: with it the programme is not convex.
            self.check()
        return costs, box


class Answer(NamedTuple):
    """Weights with their certificate.

    Attributes:
        w: shape (N,). Where ``certified`` is False it is the best found, and may not be feasible.
        gap: relative duality gap: how much better any feasible book could be, at most, over the size of the terms.
        neutrality: largest ``|B'w|``.
        iterations: steps of the method that answered.
        solver: which method that was.
        certified: gap, neutrality, box and gross are all within their bounds.
        message: one line for a person.
    """

    w: FloatArray
    gap: float
    neutrality: float
    iterations: int
    solver: Literal["newton", "conic"]
    certified: bool
    message: str


def _limits(w: FloatArray, neutral: FloatArray, lo: FloatArray, hi: FloatArray, gross_cap: float) -> tuple[float, bool]:
    """Largest ``|B'w|``; and box exactly, gross to rounding, every weight a number."""
    exposure = float(np.abs(w @ neutral).max()) if neutral.shape[1] else 0.0
    inside = (lo <= w).all() and (w <= hi).all()
    return exposure, bool(inside and np.abs(w).sum() <= gross_cap * (1.0 + 1e-12))


class _Engine:
    """Which of the two equal engines answers: arrays at once, the compiled kernel once it has paid for its loading.

    They agree to the last bit, so nothing but speed depends on this count.
    """

    def __init__(self) -> None:
        self.answers = 0
        self.factor: Callable[..., Any] | None = None
        self.coins: Callable[..., Any] | None = None
        self.pose: Callable[..., Any] | None = None
        self.limits: Callable[..., tuple[float, bool]] = _limits

    def load(self) -> None:
        from slipstream.core.portfolio import door, dual_newton

        for function, signature in (
            (dual_newton.solve, dual_newton.SIGNATURE),
            (dual_newton.coins_at, dual_newton.COINS_SIGNATURE),
            (door.pose, door.POSE_SIGNATURE),
            (door.limits, door.LIMITS_SIGNATURE),
        ):
            dispatcher: Any = function
            if not dispatcher.signatures:
                dispatcher.compile(signature)
                dispatcher.disable_compile()
        self.factor, self.coins = dual_newton.solve, dual_newton.coins_at
        self.pose, self.limits = door.pose, door.limits

    def count(self) -> None:
        self.answers += 1
        if self.answers > _ARRAY_ANSWERS and self.factor is None:
            self.load()


_engine = _Engine()


def posed_at_once(
    alpha: FloatArray,
    neutral: FloatArray,
    covariance: FactorCovariance | FloatArray,
    held: FloatArray,
    linear: FloatArray,
    impact: FloatArray,
    largest: float,
    gross_cap: float,
    risk_aversion: float,
) -> Programme | None:
    """A rebalance whose numbers are checked in one compiled pass; None if any fails, or if nothing is compiled yet.

    The arrays are contiguous float64, of shapes that fit, and nobody else's; the scalars and ``covariance`` are checked
    already. A coin with an infinite cost is frozen. ``largest`` bounds ``|w_i|``; the other arguments are those of
    :class:`Programme`.
    """
    if _engine.pose is None:
        return None
    usable, costs, box = _engine.pose(alpha, neutral, held, linear, impact, min(largest, gross_cap))
    if not usable:
        return None
    return Programme(
        alpha, neutral, covariance, held, costs[0], costs[1], box[0], box[1], gross_cap, risk_aversion, (costs, box)
    )


def compile_solver() -> None:
    """Load the compiled kernel now, compiling it if this machine has not yet (seconds, once).

    Never needed for correctness; a job that will solve thousands of programmes calls it first, to pay at the start.
    """
    if _engine.factor is None:
        _engine.load()


def solve(programme: Programme, *, max_iter: int = 1000, target: float = 1e-12) -> Answer:
    """The best weights, certified; see :class:`Programme` for the problem and :class:`Answer` for the result.

    Args:
        programme: what to solve. N may be 0.
        max_iter: Newton steps, and then conic iterations, at most.
        target: relative gap at which to stop where the answer is approached in rounds; the bar for a certificate is
            :data:`GAP_NEWTON` in any case, and ``target`` where that is less.

    Raises:
        PortfolioInputError: arrays that cannot be used (:meth:`Programme.check`), or a dense covariance that is not
            positive semidefinite.
    """
    if programme.gross_cap == 0.0 or not (programme.lo.any() or programme.hi.any()):
        return _only_cash(programme)
    costs, box = programme.costs_and_box()
    _engine.count()
    w, _multipliers, primal, dual, scale, steps = _newton(programme, costs, box, max_iter, target)
    gap = dual_newton_arrays.relative_gap(primal, dual, scale)
    neutrality, feasible = _kept(programme, w)
    if gap <= GAP_NEWTON and neutrality <= NEUTRAL and feasible:
        return Answer(w, gap, neutrality, steps, "newton", True, "optimal")
    # A fault of the arrays shows as a missing certificate; only then is it worth looking for.
    programme.check()
    from slipstream.core.portfolio import conic

    result = conic.solve(programme, costs, box, max_iter, target)
    if result.w is None:
        return Answer(programme.held.copy(), np.inf, np.inf, result.iterations, "conic", False, result.message)
    neutrality, feasible = _kept(programme, result.w)
    certified = result.gap <= GAP_CONIC and neutrality <= NEUTRAL and feasible
    message = "optimal, by the conic fallback" if certified else f"no certified answer ({result.message})"
    return Answer(result.w, result.gap, neutrality, result.iterations, "conic", certified, message)


def _newton(programme: Programme, costs: FloatArray, box: FloatArray, max_iter: int, target: float) -> Any:
    p = programme
    if isinstance(p.covariance, FactorCovariance):
        solve_factor = _engine.factor or dual_newton_arrays.solve
        F, D = p.covariance.exposures, p.covariance.idio_var
        return solve_factor(p.alpha, p.neutral, F, D, costs, box, p.gross_cap, p.risk_aversion, max_iter, target)
    coins = _engine.coins or dual_newton_arrays.coins_at
    S = p.covariance
    return dense_newton.solve(p.alpha, p.neutral, S, costs, box, p.gross_cap, p.risk_aversion, max_iter, target, coins)


def _kept(programme: Programme, w: FloatArray) -> tuple[float, bool]:
    """Largest ``|B'w|``, and whether box and gross cap are kept."""
    return _engine.limits(w, programme.neutral, programme.lo, programme.hi, programme.gross_cap)


def _only_cash(programme: Programme) -> Answer:
    """No coins, no gross, or a box that is the origin: the only candidate is w = 0."""
    w = np.zeros(len(programme.alpha))
    if _kept(programme, w)[1]:
        return Answer(w, 0.0, 0.0, 0, "newton", True, "optimal: only cash is feasible")
    return Answer(w, np.inf, 0.0, 0, "newton", False, "infeasible: gross cap 0, yet a bound keeps a coin off zero")
