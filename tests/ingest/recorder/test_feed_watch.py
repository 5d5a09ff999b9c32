"""Gaps: from the last message before to the first after, written open and closed again."""

from __future__ import annotations

import polars as pl

from slipstream.ingest.recorder.feed_watch import FeedWatch, settled
from slipstream.lake.datasets import STREAM_GAPS

BBO, TRADES = ("hyperliquid", "bbo"), ("hyperliquid", "trades")


def watch() -> FeedWatch:
    return FeedWatch([BBO, TRADES], "s", 1_000)


def test_a_gap_runs_from_the_last_message_before_to_the_first_after():
    feeds = watch()
    feeds.spoke(BBO, 2_000)
    feeds.down(BBO, "cut")
    feeds.spoke(BBO, 5_000)
    feeds.spoke(BBO, 6_000)
    rows = feeds.take_rows()
    assert rows.schema == STREAM_GAPS.schema
    assert rows.rows() == [("hyperliquid", "bbo", "s", 2_000, 5_000, "cut")]
    assert feeds.take_rows().height == 0


def test_an_open_gap_is_written_once_and_again_when_it_ends():
    feeds = watch()
    feeds.down(TRADES, "refused")
    feeds.down(TRADES, "refused again")
    assert feeds.take_rows().rows() == [("hyperliquid", "trades", "s", 1_000, None, "refused")]
    assert feeds.take_rows().height == 0
    feeds.spoke(TRADES, 9_000)
    assert feeds.take_rows().rows() == [("hyperliquid", "trades", "s", 1_000, 9_000, "refused")]
    assert feeds.gaps == 1


def test_of_two_rows_for_one_gap_the_one_that_knows_the_end_is_kept():
    open_row = ("hyperliquid", "bbo", "s", 1_000, None, "cut")
    for rows in ([open_row, (*open_row[:4], 9_000, "cut")], [(*open_row[:4], 9_000, "cut"), open_row], [open_row]):
        frame = pl.DataFrame(rows, schema=STREAM_GAPS.schema, orient="row")
        assert settled(frame)["to_ns"].to_list() == [9_000 if len(rows) == 2 else None]
