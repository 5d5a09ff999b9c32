"""Covariance of returns in the form the optimiser likes best: a few factors plus what each coin does alone.

With ``S = F F' + diag(D)`` every product and every solve costs O(N K) instead of O(N^2) or O(N^3), and the rebalance
has only K + 2 unknowns that couple the coins (:mod:`slipstream.core.portfolio.dual_newton`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from slipstream.core.panel import FloatArray
from slipstream.errors import UsageError


class CovarianceError(UsageError, ValueError):
    """Numbers that cannot be a covariance; the message names the coin's position."""


@dataclass(frozen=True, eq=False)
class FactorCovariance:
    """The covariance ``F F' + diag(D)``, per holding period, of simple returns (fractions squared).

    The arrays are copied and made read-only, so that a checked object stays checked.

    Attributes:
        exposures: F, shape (N, K), finite; K may be 0 (a diagonal covariance). A column is a factor's loadings times
            the factor's standard deviation.
        idio_var: D, shape (N,), finite and at least 0.

    Raises:
        CovarianceError: shapes that do not fit, a number that is not finite, or a negative variance.
    """

    exposures: FloatArray = field(repr=False)
    idio_var: FloatArray = field(repr=False)

    def __post_init__(self) -> None:
        exposures = np.array(self.exposures, dtype=np.float64, order="C")
        idio_var = np.array(self.idio_var, dtype=np.float64, order="C")
        if exposures.ndim != 2 or idio_var.ndim != 1 or len(exposures) != len(idio_var):
            raise CovarianceError(
                f"exposures has shape {exposures.shape} and idio_var {idio_var.shape}; expected (N, K) and (N,)"
            )
        usable = np.isfinite(exposures).all(axis=1) & np.isfinite(idio_var) & (idio_var >= 0.0)
        if not usable.all():
            row = int(np.flatnonzero(~usable)[0])
            raise CovarianceError(
                f"coin {row}: exposures or idio_var is not finite, or idio_var is negative ({idio_var[row]}); "
                "leave the coin out or repair its estimate"
            )
        exposures.setflags(write=False)
        idio_var.setflags(write=False)
        object.__setattr__(self, "exposures", exposures)
        object.__setattr__(self, "idio_var", idio_var)

    @property
    def n_assets(self) -> int:
        return len(self.idio_var)

    @property
    def n_factors(self) -> int:
        return int(self.exposures.shape[1])

    def diagonal(self) -> FloatArray:
        """Total variance of each coin, shape (N,)."""
        diagonal: FloatArray = np.einsum("ik,ik->i", self.exposures, self.exposures) + self.idio_var
        return diagonal

    def times(self, w: FloatArray) -> FloatArray:
        """``S w`` for weights of shape (N,), in O(N K)."""
        product: FloatArray = self.exposures @ (self.exposures.T @ w) + self.idio_var * w
        return product

    def dense(self) -> FloatArray:
        """The N x N matrix, exactly symmetric."""
        dense: FloatArray = self.exposures @ self.exposures.T
        dense = 0.5 * (dense + dense.T)
        dense[np.diag_indices_from(dense)] += self.idio_var
        return dense
