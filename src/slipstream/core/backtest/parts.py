"""The parts a P&L is split into: columns of the last axis of every P&L array of a book.

Kept apart from the compiled ledger, so that reading a result needs no compiler.
"""

from __future__ import annotations

PRICE, FUNDING, FEES, IMPACT = 0, 1, 2, 3
"""``FEES`` holds exchange fee and half-spread, ``IMPACT`` the 3/2-power cost; both are negative P&L."""
