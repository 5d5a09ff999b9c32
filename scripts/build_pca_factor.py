"""Build the rolling market factor: build_pca_factor.py --H 4 8 12 24 48 --K 30 --weight-method sqrt."""

from __future__ import annotations

import sys

from cyclopts import App

from slipstream.cli.errors import run
from slipstream.cli.research_factors import factors

app = App(name="build_pca_factor.py", version_flags=[], suppress_keyboard_interrupt=False)
app.default(factors)

if __name__ == "__main__":
    sys.exit(run(app))
