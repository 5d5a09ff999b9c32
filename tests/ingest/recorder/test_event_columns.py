"""Column buffers give back exactly what was put in, with the lake's columns."""

from __future__ import annotations

from hypothesis import given

from ingest.recorder.recorded_events import book, drawn_events
from slipstream.ingest.recorder.recorder import Buffers
from slipstream.lake.datasets import BOOKS
from slipstream.venues.events import Book, Context, Quote, Trade


@given(drawn_events())
def test_events_become_rows_of_their_dataset_and_every_value_survives(events):
    buffers = Buffers()
    for event in events:
        buffers.of[type(event)].add(event)
    for kind in (Quote, Book, Trade, Context):
        columns = buffers.of[kind]
        frame = columns.frame()
        assert frame.schema == columns.dataset.schema
        rows = [kind(*(tuple(v) if isinstance(v, list) else v for v in row)) for row in frame.iter_rows()]
        assert rows == [event for event in events if type(event) is kind]
        assert len(columns) == len(rows)


def test_a_book_without_a_side_has_empty_lists_and_no_nulls():
    buffers = Buffers()
    for number in range(3):
        buffers.books.add(book(number, bids=((1.0, 2.0),) * (number % 2), asks=()))
    frame = buffers.books.frame()
    assert frame["bid_px"].to_list() == [[], [1.0], []]
    assert frame["ask_n"].to_list() == [[], [], []]
    assert frame.null_count().select(BOOKS.names).row(0) == (0,) * len(BOOKS.names)


def test_the_size_grows_with_rows_and_levels():
    buffers = Buffers()
    assert buffers.size == 0
    buffers.books.add(book(1, bids=((1.0, 2.0),) * 20))
    assert buffers.size > 20 * 24
