"""Where a book's risk comes from: the parts of its volatility that each coin carries, which sum to the whole.

Volatility is homogeneous of degree one in the weights, so by Euler's theorem ``sigma = sum w_i (S w)_i / sigma``. The
term of a coin is what it adds as held, hedges counted: negative where the position lowers the risk of the others.

Source: Litterman (1996), Hot spots and hedges.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from slipstream.core.panel import FloatArray
from slipstream.core.portfolio.covariance import FactorCovariance
from slipstream.core.portfolio.inputs import PortfolioInputError, as_vector

if TYPE_CHECKING:
    import pandas as pd


def decompose_risk(w: ArrayLike, S: FactorCovariance | ArrayLike, names: Sequence[Hashable]) -> pd.DataFrame:
    """The coins' contributions to a book's volatility.

    Args:
        w: weights, shape (N,), fractions of equity.
        S: covariance per holding period, (N, N) or a :class:`FactorCovariance`. Rows of coins that are not held may be
            NaN (a coin too young to be measured); their marginal contribution is then NaN.
        names: N labels, distinct.

    Returns:
        A frame indexed by name, largest absolute share first (ties keep their order), with the columns
        ``weight``; ``mcr``, the marginal contribution (S w)_i / sigma, volatility per unit of weight;
        ``contribution``, weight x mcr, which sums to sigma, the book's volatility per holding period; and
        ``pct_contribution``, its share of sigma, a fraction that sums to 1. A book without risk has zeros in all three.

    Raises:
        PortfolioInputError: shapes that do not fit, names that repeat, a weight or a covariance of held coins that is
            not finite, or a covariance that gives the book a negative variance.
    """
    import pandas as pd

    weight = as_vector("w", w)
    labels = list(names)
    if len(labels) != len(weight) or len(set(labels)) != len(labels):
        raise PortfolioInputError(f"names are {len(labels)}, {len(set(labels))} distinct; expected {len(weight)}")
    pull = _times(S, weight)
    held = weight != 0.0
    variance = float(weight[held] @ pull[held])
    magnitude = float(np.abs(weight[held]) @ np.abs(pull[held]))
    if variance < -1e-9 * magnitude:
        raise PortfolioInputError(f"S gives the book a variance of {variance:g}; it is not positive semi-definite")
    sigma = float(np.sqrt(max(variance, 0.0)))
    mcr = pull / sigma if sigma > 0.0 else np.zeros_like(weight)
    contribution = np.where(held, weight * mcr, 0.0)
    share = contribution / sigma if sigma > 0.0 else np.zeros_like(weight)
    order = np.argsort(-np.abs(share), kind="stable")
    columns = {"weight": weight, "mcr": mcr, "contribution": contribution, "pct_contribution": share}
    index = pd.Index([labels[i] for i in order], name="name")
    return pd.DataFrame({name: values[order] for name, values in columns.items()}, index=index)


def _times(S: FactorCovariance | ArrayLike, weight: FloatArray) -> FloatArray:
    """``S w``, (N,), reading only the columns of coins that are held."""
    n = len(weight)
    if isinstance(S, FactorCovariance):
        if S.n_assets != n:
            raise PortfolioInputError(f"S covers {S.n_assets} coins and w {n}")
        return S.times(weight)
    dense = np.asarray(S, dtype=np.float64)
    if dense.shape != (n, n):
        raise PortfolioInputError(f"S has shape {dense.shape}; expected ({n}, {n})")
    held = np.flatnonzero(weight)
    block = dense[np.ix_(held, held)]
    unknown = np.argwhere(~np.isfinite(block))
    if len(unknown):
        i, j = held[unknown[0]]
        raise PortfolioInputError(f"S[{i},{j}] is {dense[i, j]} and both coins are held; estimate it or close them")
    if len(held) and np.abs(block - block.T).max() > 1e-8 * np.abs(block).max():
        raise PortfolioInputError("S is not symmetric")
    pull: FloatArray = dense[:, held] @ weight[held]
    return pull
