"""Calibrate trading costs on recorded order books: the same as ``slipstream calibrate-costs``."""

from __future__ import annotations

import sys

from slipstream.cli.calibrate import app
from slipstream.cli.errors import run

if __name__ == "__main__":
    sys.exit(run(app))
