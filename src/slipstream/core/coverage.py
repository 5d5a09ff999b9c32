"""What a panel holds and what it lacks, coin by coin."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from slipstream.core.panel import Panel


@dataclass(frozen=True)
class CoinCoverage:
    """One coin's life in a panel.

    Attributes:
        coin: case-sensitive name.
        first_ms, last_ms: known-at of the first and last bar, Unix ms.
        bars: bars present.
        gap_bars: bars missing between the first and the last.
        zero_volume_bars: bars in which nothing traded.
        funding_missing: settlements due while the coin traded and not recorded. The one at the close of a coin's
            last bar is not counted: it may not have been published when the bar was, and a file holds it only if the
            coin goes on.
        ends_early: the last bar lies before the panel's last row (delisted, or the recording stopped).
    """

    coin: str
    first_ms: int
    last_ms: int
    bars: int
    gap_bars: int
    zero_volume_bars: int
    funding_missing: int
    ends_early: bool


def coverage(panel: Panel) -> tuple[CoinCoverage, ...]:
    """Coverage of every coin that has at least one bar, in the panel's coin order."""
    present = ~np.isnan(panel.close)
    missing = panel.funding_missing & present
    silent = present & (panel.volume_usd == 0.0)
    out = []
    for column, coin in enumerate(panel.coins):
        rows = np.flatnonzero(present[:, column])
        if not len(rows):
            continue
        first, last = int(rows[0]), int(rows[-1])
        missing[last, column] = False
        out.append(
            CoinCoverage(
                coin=coin,
                first_ms=int(panel.known_at_ms[first]),
                last_ms=int(panel.known_at_ms[last]),
                bars=len(rows),
                gap_bars=last - first + 1 - len(rows),
                zero_volume_bars=int(silent[:, column].sum()),
                funding_missing=int(missing[:, column].sum()),
                ends_early=last < panel.rows - 1,
            )
        )
    return tuple(out)
