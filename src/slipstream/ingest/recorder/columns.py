"""Events on their way to disk, as columns: one compact array per field, turned into a frame without a Python loop.

A stream of 20 000 events a second for a five-second flush is 100 000 rows. Kept as objects they would cost several
hundred bytes each; here a quote costs about 70 and a level of a book 24.
"""

from __future__ import annotations

from array import array
from typing import Protocol

import numpy as np
import polars as pl

from slipstream.lake.datasets import BOOKS, CONTEXTS, QUOTES, TRADES, Dataset
from slipstream.venues.events import Book, Context, Event, Quote, Trade

_NO_STAMP = -1
_NAN = float("nan")


class Columns(Protocol):
    """A growing table of one kind of event."""

    @property
    def dataset(self) -> Dataset:
        """Whose rows these are."""

    @property
    def size(self) -> int:
        """Bytes held, about."""

    def add(self, event: Event) -> None:
        """Append one event of this table's kind."""

    def frame(self) -> pl.DataFrame:
        """What was added, in order, with exactly the dataset's columns."""

    def __len__(self) -> int:
        """Rows."""


class _Names:
    """Repeated text as one small number per row."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._rows = array("H")

    def add(self, name: str) -> None:
        number = self._numbers.get(name)
        if number is None:
            number = self._numbers[name] = len(self._numbers)
        self._rows.append(number)

    def series(self) -> pl.Series:
        return pl.Series(list(self._numbers), dtype=pl.String).gather(np.frombuffer(self._rows, np.uint16))


class _Stamps:
    """The columns that every event begins with."""

    def __init__(self) -> None:
        self._venue, self._coin, self._session = _Names(), _Names(), _Names()
        self._exchange_ms, self._received_ns, self._monotonic_ns = array("q"), array("q"), array("q")

    def add(self, event: Event) -> None:
        self._venue.add(event.venue)
        self._coin.add(event.coin)
        self._session.add(event.session)
        stamp = event.exchange_ms
        self._exchange_ms.append(_NO_STAMP if stamp is None else stamp)
        self._received_ns.append(event.received_ns)
        self._monotonic_ns.append(event.monotonic_ns)

    def __len__(self) -> int:
        return len(self._received_ns)

    def columns(self) -> dict[str, pl.Series]:
        if not len(self):
            return {}
        exchange_ms = _whole(self._exchange_ms)
        return {
            "venue": self._venue.series(),
            "coin": self._coin.series(),
            "exchange_ms": exchange_ms.set(exchange_ms == _NO_STAMP, None),
            "received_ns": _whole(self._received_ns),
            "monotonic_ns": _whole(self._monotonic_ns),
            "session": self._session.series(),
        }


class _Flat:
    """Quotes, trades and contexts: the common columns and a few numbers."""

    dataset: Dataset
    row_bytes: int

    def __init__(self) -> None:
        self._stamps = _Stamps()

    @property
    def size(self) -> int:
        return len(self) * self.row_bytes

    def __len__(self) -> int:
        return len(self._stamps)

    def _framed(self, own: dict[str, pl.Series]) -> pl.DataFrame:
        if not len(self):
            return self.dataset.schema.to_frame()
        return pl.DataFrame({**self._stamps.columns(), **own}, schema=self.dataset.schema)


class QuoteColumns(_Flat):
    """Rows of ``quotes``."""

    dataset = QUOTES
    row_bytes = 64

    def __init__(self) -> None:
        super().__init__()
        self._bid, self._bid_size, self._ask, self._ask_size = array("d"), array("d"), array("d"), array("d")

    def add(self, event: Event) -> None:
        assert isinstance(event, Quote)
        self._stamps.add(event)
        bid, ask = event.bid, event.ask
        self._bid.append(_NAN if bid is None else bid)
        self._bid_size.append(_NAN if event.bid_size is None else event.bid_size)
        self._ask.append(_NAN if ask is None else ask)
        self._ask_size.append(_NAN if event.ask_size is None else event.ask_size)

    def frame(self) -> pl.DataFrame:
        return self._framed(
            {
                "bid": _number(self._bid),
                "bid_size": _number(self._bid_size),
                "ask": _number(self._ask),
                "ask_size": _number(self._ask_size),
            }
        )


class TradeColumns(_Flat):
    """Rows of ``trades``."""

    dataset = TRADES
    row_bytes = 58

    def __init__(self) -> None:
        super().__init__()
        self._px, self._sz, self._side, self._tid = array("d"), array("d"), _Names(), array("q")

    def add(self, event: Event) -> None:
        assert isinstance(event, Trade)
        self._stamps.add(event)
        self._px.append(event.px)
        self._sz.append(event.sz)
        self._side.add(event.side)
        self._tid.append(event.tid)

    def frame(self) -> pl.DataFrame:
        if not len(self):
            return self.dataset.schema.to_frame()
        return self._framed(
            {"px": _number(self._px), "sz": _number(self._sz), "side": self._side.series(), "tid": _whole(self._tid)}
        )


class ContextColumns(_Flat):
    """Rows of ``contexts``."""

    dataset = CONTEXTS
    row_bytes = 88
    _names = ("funding_ctx", "open_interest", "oracle_px", "mark_px", "mid_px", "premium", "day_ntl_vlm")

    def __init__(self) -> None:
        super().__init__()
        self._values = {name: array("d") for name in self._names}

    def add(self, event: Event) -> None:
        assert isinstance(event, Context)
        self._stamps.add(event)
        for name, values in self._values.items():
            value = getattr(event, name)
            values.append(_NAN if value is None else value)

    def frame(self) -> pl.DataFrame:
        return self._framed({name: _number(values) for name, values in self._values.items()})


class BookColumns(_Flat):
    """Rows of ``books``: levels of all rows one after the other, and where each row's end."""

    dataset = BOOKS
    row_bytes = 36

    def __init__(self) -> None:
        super().__init__()
        self._sides = (_Side(), _Side())

    @property
    def size(self) -> int:
        return len(self) * (self.row_bytes + 16) + 24 * sum(len(side.px) for side in self._sides)

    def add(self, event: Event) -> None:
        assert isinstance(event, Book)
        self._stamps.add(event)
        bids, asks = self._sides
        bids.add(event.bid_px, event.bid_sz, event.bid_n)
        asks.add(event.ask_px, event.ask_sz, event.ask_n)

    def frame(self) -> pl.DataFrame:
        own = {
            f"{name}_{field}": values
            for name, side in zip(("bid", "ask"), self._sides, strict=True)
            for field, values in side.lists().items()
        }
        return self._framed(own)


class _Side:
    """One side of many books."""

    def __init__(self) -> None:
        self.px, self.sz, self.n = array("d"), array("d"), array("q")
        self.ends = array("q")

    def add(self, px: tuple[float, ...], sz: tuple[float, ...], n: tuple[int, ...]) -> None:
        self.px.extend(px)
        self.sz.extend(sz)
        self.n.extend(n)
        self.ends.append(len(self.px))

    def lists(self) -> dict[str, pl.Series]:
        """px, sz and n as one list per book."""
        ends = np.frombuffer(self.ends, np.int64) if len(self.ends) else np.empty(0, np.int64)
        counts = ends - np.concatenate((np.zeros(min(1, len(ends)), np.int64), ends[:-1]))
        rows = pl.DataFrame({"row": np.arange(len(counts))})
        levels = pl.DataFrame(
            {
                "row": np.repeat(np.arange(len(counts)), counts),
                "px": _number(self.px),
                "sz": _number(self.sz),
                "n": _whole(self.n),
            }
        )
        gathered = rows.join(
            levels.group_by("row", maintain_order=True).agg("px", "sz", "n"),
            on="row",
            how="left",
            maintain_order="left",
        )
        return {
            name: gathered[name].fill_null(pl.Series([[]], dtype=gathered.schema[name])) for name in ("px", "sz", "n")
        }


def _number(values: array[float]) -> pl.Series:
    return pl.Series(np.frombuffer(values, np.float64) if len(values) else [], dtype=pl.Float64).fill_nan(None)


def _whole(values: array[int]) -> pl.Series:
    return pl.Series(np.frombuffer(values, np.int64) if len(values) else [], dtype=pl.Int64)
