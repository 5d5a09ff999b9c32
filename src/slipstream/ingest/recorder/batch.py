"""What is written at one flush: the rows of each dataset, in the order they were received."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import polars as pl

from slipstream.lake.datasets import BOOKS, CONTEXTS, QUOTES, STREAM_GAPS, TRADES, Dataset
from slipstream.lake.store import Lake


@dataclass(frozen=True)
class Batch:
    """Frames with exactly the columns of their datasets; any may be empty."""

    quotes: pl.DataFrame
    books: pl.DataFrame
    trades: pl.DataFrame
    contexts: pl.DataFrame
    gaps: pl.DataFrame

    def by_dataset(self) -> Iterator[tuple[Dataset, pl.DataFrame]]:
        """Every frame with its dataset; gaps last, so that a reader who sees a gap sees what was before it."""
        yield QUOTES, self.quotes
        yield BOOKS, self.books
        yield TRADES, self.trades
        yield CONTEXTS, self.contexts
        yield STREAM_GAPS, self.gaps


class Output(Protocol):
    """Where batches go."""

    def write(self, batch: Batch) -> None:
        """Make a batch durable.

        Raises:
            SlipstreamError: it cannot be; what was written before is whole.
        """

    def close(self) -> None:
        """Let go of what is open."""


class LakeLog:
    """Appends batches to the event logs of a lake, one commit per dataset that has rows."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake

    def write(self, batch: Batch) -> None:
        """See :class:`Output`."""
        for dataset, rows in batch.by_dataset():
            if rows.height:
                self._lake.append(dataset, rows)

    def close(self) -> None:
        """Nothing is open between commits."""
