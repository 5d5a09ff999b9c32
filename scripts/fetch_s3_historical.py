"""Fetch history from the venue's S3 archive: fetch_s3_historical.py --start 2023-10-01 --end 2025-03-27."""

from __future__ import annotations

import sys

from slipstream.cli.data_s3 import main

if __name__ == "__main__":
    sys.exit(main())
