"""The front doors. Every command imports this package before any numerical library.

The matrices here have at most a few hundred rows, and most work is in compiled loops: a second BLAS thread gains
nothing, and when another job keeps the cores busy its waiting costs several times the work itself.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
