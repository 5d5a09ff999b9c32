"""The ``slipstream`` command. Each verb loads its own room when it is called, so ``--help`` is quick."""

from __future__ import annotations

import sys

from cyclopts import App

from slipstream import __version__
from slipstream.cli.errors import run

app = App(
    name="slipstream",
    help="Allocate capital among algorithmic strategies on Hyperliquid perpetual futures.",
    version=__version__,
    suppress_keyboard_interrupt=False,
    help_epilogue="Start with `slipstream demo`; then `slipstream backtest --data panel.parquet`.",
)
app.command("slipstream.cli.backtest:demo", name="demo", help="Trade a synthetic market and write the report.")
app.command("slipstream.cli.backtest:backtest", name="backtest", help="Trade recorded data under the allocator.")
app.command("slipstream.cli.magnitudes:magnitudes", name="magnitudes", help="Plain books that pin the data's scale.")
app.command(
    "slipstream.cli.calibrate:calibrate_costs",
    name="calibrate-costs",
    help="Half-spread and impact per coin from recorded books.",
)
app.command("slipstream.cli.data:data", name="data", help="Market data: load, record, check, mend, hand on.")
app.command("slipstream.cli.research:research", name="research", help="From bars to factors and models.")
app.command("slipstream.cli.new_strategy:new_strategy", name="new-strategy", help="Scaffold a strategy that passes.")


def main() -> None:
    """Entry point of the console script."""
    sys.exit(run(app))


if __name__ == "__main__":
    main()
