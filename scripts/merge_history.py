"""Extend the API's history backwards by the archive's: merge_history.py --interval 4h --output data/merged."""

from __future__ import annotations

import sys

from cyclopts import App

from slipstream.cli.errors import run
from slipstream.cli.merge_history import merge

app = App(name="merge_history.py", version_flags=[], suppress_keyboard_interrupt=False)
app.default(merge)

if __name__ == "__main__":
    sys.exit(run(app))
