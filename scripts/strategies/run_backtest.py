"""Run one strategy's backtest: run_backtest.py --strategy SLUG -- FLAGS OF THAT STRATEGY."""

from __future__ import annotations

import argparse
import sys

import slipstream.cli  # noqa: F401 - first, for it asks for one BLAS thread
from slipstream.errors import SlipstreamError
from slipstream.strategies import get_strategy_info, list_strategies


def main() -> int:
    """Read this launcher's own flags, hand on the rest, and return the strategy's exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="-- --help shows the strategy's own flags", allow_abbrev=False
    )
    parser.add_argument("--strategy", default="gradient", metavar="SLUG", help="default: gradient")
    parser.add_argument("--list-strategies", action="store_true", help="print the slugs and what they do")
    own, rest = parser.parse_known_args()
    if own.list_strategies:
        for key in list_strategies():
            print(f"{key:12}  {get_strategy_info(key).description}")
        return 0
    try:
        handler = get_strategy_info(own.strategy).load_cli_handler("run_backtest")
    except SlipstreamError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return handler([word for word in rest if word != "--"])


if __name__ == "__main__":
    sys.exit(main())
