"""Choose the holding period of the joint model: find_optimal_H_joint.py --H 4 8 12 24 48 --n-bootstrap 1000."""

from __future__ import annotations

import sys

from cyclopts import App

from slipstream.cli.errors import run
from slipstream.cli.research_horizon import find_optimal_h_joint

app = App(name="find_optimal_H_joint.py", version_flags=[], suppress_keyboard_interrupt=False)
app.default(find_optimal_h_joint)

if __name__ == "__main__":
    sys.exit(run(app))
