"""What the optimisers accept: arrays checked once, at the door, with messages that name the argument and the coin."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from slipstream.core.panel import FloatArray
from slipstream.core.portfolio.covariance import FactorCovariance
from slipstream.core.portfolio.newton_settings import SPAN
from slipstream.errors import UsageError


class PortfolioInputError(UsageError, ValueError):
    """Arrays the optimiser cannot use; the message names the argument and the coin's position."""


def as_vector(name: str, values: ArrayLike, n: int | None = None) -> FloatArray:
    """A contiguous float vector of length ``n`` (any length if None), all finite.

    Raises:
        PortfolioInputError: wrong shape, or an entry that is not finite (its position is named).
    """
    vector = np.ascontiguousarray(values, dtype=np.float64)
    if vector.ndim != 1 or (n is not None and len(vector) != n):
        raise PortfolioInputError(f"{name} has shape {vector.shape}; expected ({'N' if n is None else n},)")
    require_finite(name, vector)
    return vector


def as_columns(name: str, values: ArrayLike, n: int) -> FloatArray:
    """Columns of exposures, shape (n, K), from shape (n,) or (n, K), all finite.

    Raises:
        PortfolioInputError: wrong shape, or an entry that is not finite (its position is named).
    """
    columns = np.ascontiguousarray(values, dtype=np.float64)
    if columns.ndim == 1:
        columns = columns.reshape(-1, 1)
    if columns.ndim != 2 or len(columns) != n:
        raise PortfolioInputError(f"{name} has shape {np.shape(values)}; expected ({n},) or ({n}, K)")
    require_finite(name, columns)
    return columns


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
    dense = np.ascontiguousarray(S, dtype=np.float64)
    if dense.shape != (n, n):
        raise PortfolioInputError(f"S has shape {dense.shape}; expected ({n}, {n})")
    require_finite("S", dense)
    skew = np.abs(dense - dense.T)
    if n and skew.max() > 1e-8 * np.abs(dense).max():
        i, j = divmod(int(skew.argmax()), n)
        raise PortfolioInputError(f"S is not symmetric: S[{i},{j}] = {dense[i, j]!r}, S[{j},{i}] = {dense[j, i]!r}")
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
    kept: list[FloatArray] = []
    for column in B.T:
        size = float(np.abs(column).max(initial=0.0))
        if size == 0.0:
            continue
        unit = column / size
        unit /= np.linalg.norm(unit)
        rest = unit.copy()
        for _ in range(2):
            for q in kept:
                rest -= q * (q @ rest)
        length = float(np.linalg.norm(rest))
        if length > SPAN and len(kept) < len(B):
            kept.append(rest / length)
    return np.column_stack(kept) if kept else np.zeros((len(B), 0))
