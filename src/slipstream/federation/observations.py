"""What the allocator has seen of each pod: one net return per cycle on granted capital, as known at its close.

A cycle's return is everything booked in it, the cost of the trades that opened it included, over the grant in force;
where nothing is granted any more the cost of getting out is over the grant before. The allocator's table differs in one
thing: the settlement stamped at a cycle's close is published after it, so it counts in the next.
"""

from __future__ import annotations

import numpy as np

from slipstream.core.backtest.parts import FUNDING
from slipstream.core.panel import BoolArray, FloatArray

Costs = tuple[FloatArray, FloatArray]


def _per_unit(amount_usd: FloatArray, capital_usd: FloatArray) -> FloatArray:
    """Amount over capital, 0 where there is no capital."""
    funded = capital_usd > 0.0
    return np.where(funded, amount_usd / np.where(funded, capital_usd, 1.0), 0.0)


class _Track:
    """Returns per unit of capital of P books: of the present cycle as published, and the level reached hour by hour."""

    def __init__(self, pods: int) -> None:
        self.late = np.zeros(pods)
        self.level = np.ones(pods)
        self.begin(np.zeros(pods), np.zeros(pods), (np.zeros(pods), np.zeros(pods)))

    def begin(self, grant: FloatArray, before: FloatArray, costs: Costs) -> None:
        opening = _per_unit(costs[0] + costs[1], np.where(grant > 0.0, grant, before))
        self.grant = grant
        self.base, self.growth = self.level, -opening
        self.published = self.late - opening
        self.late = np.zeros_like(grant)

    def add(self, pnl_usd: FloatArray, last: bool) -> None:
        self.growth = self.growth + _per_unit(pnl_usd.sum(axis=1), self.grant)
        self.level = self.base * (1.0 + self.growth)
        seen = pnl_usd
        if last:
            seen = pnl_usd.copy()
            seen[:, FUNDING] = 0.0
            self.late = _per_unit(pnl_usd[:, FUNDING], self.grant)
        self.published = self.published + _per_unit(seen.sum(axis=1), self.grant)


class CycleReturns:
    """The table of past cycles, built as the backtest goes.

    Args:
        pods: P.
    """

    def __init__(self, pods: int) -> None:
        self._real, self._shadow = _Track(pods), _Track(pods)
        self._alive = np.zeros(pods, dtype=bool)
        self._rows: list[FloatArray] = []

    @property
    def levels(self) -> tuple[FloatArray, FloatArray]:
        """Growth of one unit of capital so far in the granted and in the shadow books, each of shape (P,)."""
        return self._real.level, self._shadow.level

    def open_cycle(
        self,
        grant: FloatArray,
        grant_before: FloatArray,
        costs: Costs,
        shadow: FloatArray,
        shadow_before: FloatArray,
        shadow_costs: Costs,
        alive: BoolArray,
    ) -> None:
        """Begin a cycle: grants (P,) in USD now and before, and (fee, impact) of the opening trades, USD."""
        self._real.begin(grant, grant_before, costs)
        self._shadow.begin(shadow, shadow_before, shadow_costs)
        self._alive = alive.copy()

    def add(self, pnl_usd: FloatArray, shadow_pnl_usd: FloatArray, *, last: bool) -> None:
        """Add one row's P&L, shape (P, 4); ``last`` marks the cycle's last row: its settlement is not published."""
        self._real.add(pnl_usd, last)
        self._shadow.add(shadow_pnl_usd, last)

    def close_cycle(self) -> None:
        """End the cycle: the granted book's return, else the shadow's; NaN before a pod's start."""
        seen = np.where(self._real.grant > 0.0, self._real.published, self._shadow.published)
        self._rows.append(np.where(self._alive, seen, np.nan))

    def table(self) -> FloatArray:
        """Shape (cycles so far, P)."""
        return np.array(self._rows) if self._rows else np.empty((0, len(self._alive)))
