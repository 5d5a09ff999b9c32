"""How long the synthetic market takes: ``python benchmarks/synthetic.py [coins] [hours]``.

The standing target is 150 coins over three years of hours in under 3 seconds on one core, universe mask included.
"""

from __future__ import annotations

import sys
from time import perf_counter

from slipstream.lake.synthetic import SyntheticConfig, synthetic_market

THREE_YEARS_HOURS = 26_298
RUNS = 3


def main(coins: int = 150, hours: int = THREE_YEARS_HOURS) -> None:
    """Print seconds and rows (coin-hours) per second of the best of three runs, first run beside it."""
    config = SyntheticConfig(coins=coins, hours=hours)
    seconds = []
    for _ in range(RUNS):
        began = perf_counter()
        synthetic_market(config)
        seconds.append(perf_counter() - began)
    best = min(seconds)
    print(f"synthetic market, {coins} coins x {hours} h: best {best:.2f} s, first {seconds[0]:.2f} s")
    print(f"{coins * hours / best:,.0f} rows per second")


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:3]))
