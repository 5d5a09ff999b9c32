"""The same rebalance by cvxpy, for comparison in one run; an optional environment of its own holds it.

    uv venv ../slipstream-cvxpy
    uv pip install --python ../slipstream-cvxpy/bin/python --editable . cvxpy==1.9.3
    ../slipstream-cvxpy/bin/python benchmarks/rebalance.py --inputs DIR --peer cvxpy

The problem is built and canonicalised once, with alpha and the weights held as parameters, which is how cvxpy is meant
to be used for problems that differ in their numbers only. Clarabel solves it, at cvxpy's settings.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np


def peer_is_here() -> bool:
    """Whether cvxpy can be imported in this environment."""
    return find_spec("cvxpy") is not None


class Peer:
    """One parametrised problem: covariance, costs, box and gross cap are fixed, alpha and held weights are not."""

    def __init__(self, recorded: dict[str, Any]) -> None:
        import cvxpy as cp

        z, coins = recorded, len(recorded["beta"])
        self._solver = cp.CLARABEL
        self._w, self._alpha, self._held = cp.Variable(coins), cp.Parameter(coins), cp.Parameter(coins)
        size = cp.abs(self._w - self._held)
        risk = cp.sum_squares(z["B"].T @ self._w) + cp.sum_squares(cp.multiply(np.sqrt(z["D"]), self._w))
        paid = z["c"] @ size + z["lam"] @ cp.power(size, 1.5)
        limits = [
            z["beta"] @ self._w == 0.0,
            cp.norm1(self._w) <= float(z["L"]),
            self._w >= z["lo"],
            self._w <= z["hi"],
        ]
        self._problem = cp.Problem(cp.Minimize(-self._alpha @ self._w + 0.5 * risk + paid), limits)
        assert self._problem.is_dpp()
        self.solve(z["alpha"][0], z["w0"][0])

    def solve(self, alpha: np.ndarray, held: np.ndarray) -> np.ndarray:
        """Weights, shape (N,)."""
        self._alpha.value, self._held.value = alpha, held
        self._problem.solve(solver=self._solver)
        return np.asarray(self._w.value)
