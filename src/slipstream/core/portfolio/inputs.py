"""What the optimisers accept: arrays copied and checked once, at the door, with messages that name argument and coin.

The copy costs less than a microsecond an array and means that nothing the caller does later changes a result.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from slipstream.core.panel import BoolArray, FloatArray
from slipstream.core.portfolio.covariance import FactorCovariance
from slipstream.core.portfolio.newton_settings import SPAN
from slipstream.errors import UsageError


class PortfolioInputError(UsageError, ValueError):
    """Arrays the optimiser cannot use; the message names the argument and the coin's position."""


def as_vector(name: str, values: ArrayLike, n: int | None = None) -> FloatArray:
    """A fresh float vector of length ``n`` (any length if None), all finite.

    Raises:
        PortfolioInputError: wrong shape, or an entry that is not finite (its position is named).
    """
    vector = np.array(values, dtype=np.float64, order="C")
    if vector.ndim != 1 or (n is not None and len(vector) != n):
        raise PortfolioInputError(f"{name} has shape {vector.shape}; expected ({'N' if n is None else n},)")
    require_finite(name, vector)
    return vector


def as_columns(name: str, values: ArrayLike, n: int) -> FloatArray:
    """Fresh columns of exposures, shape (n, K), from shape (n,) or (n, K), all finite.

    Raises:
        PortfolioInputError: wrong shape, or an entry that is not finite (its position is named).
    """
    columns = np.array(values, dtype=np.float64, order="C")
    if columns.ndim == 1:
        columns = columns.reshape(-1, 1)
    if columns.ndim != 2 or len(columns) != n:
        raise PortfolioInputError(f"{name} has shape {np.shape(values)}; expected ({n},) or ({n}, K)")
    require_finite(name, columns)
    return columns


def as_costs(linear: ArrayLike, impact: ArrayLike, n: int) -> tuple[FloatArray, FloatArray, BoolArray | None]:
    """Linear and impact costs, shape (n,), and the coins where either is infinite (None for nowhere).

    Such a coin cannot be traded; its costs come back as 0, for it will never pay them.

    Raises:
        PortfolioInputError: wrong shape, NaN or a negative cost (its position is named).
    """
    costs = []
    for name, values in (("cost_linear", linear), ("cost_impact", impact)):
        array = np.array(values, dtype=np.float64, order="C")
        if array.shape != (n,):
            raise PortfolioInputError(f"{name} has shape {array.shape}; expected ({n},)")
        if n and not array.min() >= 0.0:
            worst = int(np.flatnonzero(~(array >= 0.0))[0])
            raise PortfolioInputError(f"{name}[{worst}] is {array[worst]}; a cost is at least 0")
        costs.append(array)
    if n == 0 or max(costs[0].max(), costs[1].max()) < np.inf:
        return costs[0], costs[1], None
    untradable = np.isinf(costs[0]) | np.isinf(costs[1])
    return np.where(untradable, 0.0, costs[0]), np.where(untradable, 0.0, costs[1]), untradable


def as_scalar(name: str, value: float, *, allow_zero: bool) -> float:
    """A finite float, positive (or at least 0).

    Raises:
        PortfolioInputError: anything else.
    """
    number = float(value)
    if not (0.0 <= number < np.inf) or (number == 0.0 and not allow_zero):
        raise PortfolioInputError(f"{name} is {value!r}; expected a finite number {'>= 0' if allow_zero else '> 0'}")
    return number


def as_covariance(S: FactorCovariance | ArrayLike, n: int) -> FactorCovariance | FloatArray:
    """The covariance of ``n`` coins, checked; a dense one comes back exactly symmetric.

    Raises:
        PortfolioInputError: wrong size, not square, not finite, or asymmetric beyond 1e-8 of its largest entry.
    """
    if isinstance(S, FactorCovariance):
        if S.n_assets != n:
            raise PortfolioInputError(f"S covers {S.n_assets} coins and alpha {n}")
        return S
    dense = np.array(S, dtype=np.float64, order="C")
    if dense.shape != (n, n):
        raise PortfolioInputError(f"S has shape {dense.shape}; expected ({n}, {n})")
    require_finite("S", dense)
    skew = dense - dense.T
    if not skew.any():
        return dense
    if skew.max() > 1e-8 * np.abs(dense).max():
        i, j = divmod(int(skew.argmax()), n)
        raise PortfolioInputError(f"S is not symmetric: S[{i},{j}] = {dense[i, j]}, S[{j},{i}] = {dense[j, i]}")
    return 0.5 * (dense + dense.T)


def require_finite(name: str, array: FloatArray) -> None:
    """Raise, naming the first offending position, unless every entry is finite."""
    flat = array.ravel()
    # A NaN or an infinity survives the dot product, which is one pass; only an overflow needs the second look.
    if np.isfinite(flat @ flat):
        return
    bad = np.flatnonzero(~np.isfinite(flat))
    if len(bad):
        position = ", ".join(str(int(i)) for i in np.unravel_index(bad[0], array.shape))
        raise PortfolioInputError(f"{name}[{position}] is {flat[bad[0]]}; leave the coin out or supply a number")


def orthonormal_columns(B: FloatArray) -> FloatArray:
    """An orthonormal basis of the columns of ``B``, shape (N, rank), in the order given; dependent ones are dropped.

    Gram-Schmidt applied twice, which is as orthogonal as Householder for a full-rank basis (Giraud et al. 2005).
    """
    n, m = B.shape
    basis = np.empty((n, m))
    rank = 0
    for j in range(m):
        largest = float(np.abs(B[:, j]).max(initial=0.0))
        if largest == 0.0 or rank == n:
            continue
        rest = B[:, j] / largest
        length = math.sqrt(running_sum(rest * rest))
        rest = remove_span(basis[:, :rank], remove_span(basis[:, :rank], rest))
        left = math.sqrt(running_sum(rest * rest))
        if left > SPAN * length:
            basis[:, rank] = rest / left
            rank += 1
    return np.ascontiguousarray(basis[:, :rank])


def remove_span(basis: FloatArray, vector: FloatArray) -> FloatArray:
    """``vector`` less what of it lies along the orthonormal columns of ``basis``, one column after the other."""
    for q in basis.T:
        vector = vector - running_sum(q * vector) * q
    return vector


def running_sum(terms: FloatArray) -> float:
    """Sum from first to last, the order of a plain loop, so that compiled code rounds to the same last bit."""
    return float(np.add.accumulate(terms)[-1]) if len(terms) else 0.0


def running_sum_rows(start: FloatArray, rows: FloatArray) -> FloatArray:
    """``start`` plus each row in turn, as a plain loop would add them."""
    if not len(rows):
        return start
    total: FloatArray = np.add.accumulate(np.concatenate([start[None], rows]), axis=0)[-1]
    return total
