"""Record quotes, depth and funding for the market maker: record_bbo.py --config config/brawler.yml --duration 3600."""

from __future__ import annotations

import sys

from slipstream.cli.data_record import bbo_app
from slipstream.cli.errors import run

if __name__ == "__main__":
    sys.exit(run(bbo_app))
