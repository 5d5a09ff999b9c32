"""Constants of the dual Newton method, one home for the compiled kernel and its array twin.

All are ratios to the problem's own units (gross, steepest slope), so rescaling a problem changes nothing.

numba's cache watches only the kernel's own file: after a change here, or in ``small_cholesky``, save ``dual_newton``
anew, or the compiled kernel keeps the old values (the test that compares both engines would say so).
"""

from __future__ import annotations

ARMIJO = 1e-4
"""Least share of the promised increase a line search accepts."""

CONVERGED = 1e-13
"""Gradient, relative to the gross and to the factor exposures, at which Newton stops."""

SPAN = 1e-11
"""A direction smaller than this fraction of its own length, after projection, lies in the span."""

DUST = 1e-12
"""A trade or a position smaller than this fraction of the gross is none."""

WEAK = 1e-3
"""A coin whose curvature is below this fraction of the first proximal weight needs the proximal term."""

FULL = 0.9
"""A held book with at least this fraction of the gross cap is taken to be limited by it, when Newton starts."""

FALL = 0.1
"""By how much the proximal weight falls from one round to the next."""

LEAST = 1e-5
"""Where the proximal weight stops falling, relative to slope of alpha over gross."""

FAINT = 1e-11
"""Where it stops in any case, relative to its first value: below, the rounding of prices would move weights."""

ROUNDS = 100
"""Proximal rounds at most; each starts from the multipliers of the last."""

RESOLUTION = 1e-5
"""Double precision over the certified gap of 1e-10, with room for a few roundings."""

NEGLIGIBLE = 1e-14
"""An increase of the dual below this fraction of the resolution is none: the last rounding of the last digit."""
