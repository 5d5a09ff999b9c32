"""Order books in which the cost of an immediate order is known: half_spread + k_t * sqrt(S), to the grid of levels.

The mean cost of S is half_spread + k * sqrt(S) if an order of S pays half_spread + 1.5 * k * sqrt(D) at the margin
after taking D. Levels stand at equal distances and the book ends at a fixed one, as recorded books do: the dearer a
snapshot is, the less notional it shows, so that censoring hits exactly the dear ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from slipstream.core.portfolio.book_walk import BookHistory

START_MS = 1_750_000_000_000
MID = 100.0


@dataclass(frozen=True)
class Market:
    """What is planted.

    Attributes:
        half_spread_bps, k: the mean curve; k in bp per root USD.
        sell_factor: k of sells over k of buys; ``k`` is their mean.
        noise: standard deviation of log k_t around its mean.
        persistence: lag-1 correlation of log k_t.
        reach_bps: distance from the half-spread at which the recorded levels end.
        levels: number of levels.
        step_ms: time between snapshots.
    """

    half_spread_bps: float = 1.0
    k: float = 0.02
    sell_factor: float = 1.0
    noise: float = 0.4
    persistence: float = 0.8
    reach_bps: float = 60.0
    levels: int = 240
    step_ms: int = 500

    def history(self, snapshots: int, seed: int = 7, coin: str = "AAA", dearer_from: int | None = None) -> BookHistory:
        """Snapshots of this market; from row ``dearer_from`` on, k is three times what it was."""
        rng = np.random.default_rng(seed)
        shock = rng.standard_normal((snapshots, 2))
        log_k = shock[:1].copy() if snapshots else shock
        path = np.empty((snapshots, 2))
        for i in range(snapshots):
            log_k = self.persistence * log_k + np.sqrt(1.0 - self.persistence**2) * shock[i]
            path[i] = log_k
        factor = np.exp(self.noise * path - 0.5 * self.noise**2)
        if dearer_from is not None:
            factor[dearer_from:] *= 3.0
        mean_k = 2.0 * self.k / (1.0 + self.sell_factor) * np.array([1.0, self.sell_factor])
        arrays = {}
        for side, (name, sign) in enumerate((("ask", 1.0), ("bid", -1.0))):
            edge = self.reach_bps * np.arange(self.levels + 1) / self.levels
            distance = self.half_spread_bps + 0.5 * (edge[1:] + edge[:-1])
            reached = (edge / (1.5 * (factor[:, side : side + 1] * mean_k[side]))) ** 2
            price = np.broadcast_to(MID * (1.0 + sign * distance * 1e-4), (snapshots, self.levels))
            arrays[f"{name}_price"] = price
            arrays[f"{name}_size"] = np.diff(reached, axis=1) / price
        times = START_MS + self.step_ms * np.arange(snapshots, dtype=np.int64)
        return BookHistory(coin, times, **arrays)


def frame_of(book: BookHistory, latency_ms: int = 400) -> pl.DataFrame:
    """The recording as the rows of a book file."""
    columns: dict[str, object] = {
        "coin": [book.coin] * book.n_snapshots,
        "exchange_timestamp": book.time_ms,
        "recv_ms": book.time_ms + latency_ms,
    }
    for part in ("bid_price", "bid_size", "ask_price", "ask_size"):
        values = getattr(book, part)
        for i in range(values.shape[1]):
            columns[f"{part}_{i}"] = values[:, i]
    return pl.DataFrame(columns)


def write_books(file: Path, *books: BookHistory) -> Path:
    """A book file of several recordings, their rows interleaved by time."""
    pl.concat([frame_of(book) for book in books], how="diagonal").sort(
        "exchange_timestamp", maintain_order=True
    ).write_parquet(file)
    return file
