"""The parsers alone: what a line must be, and that a wrong one is an error with its number and never a wrong row."""

from __future__ import annotations

import json
import random

import lz4.frame
import polars as pl
import pytest
from archive_server import HOUR_MS, book_line
from hypothesis import given
from hypothesis import strategies as st

from slipstream.ingest.archive.book_lines import BookCounts, mid_bar
from slipstream.ingest.archive.contexts import HEADER, context_frames, hourly_contexts
from slipstream.ingest.archive.lz4_lines import DamagedObject, line_blocks, unpacked
from slipstream.ingest.archive.node_fills import fill_frames
from slipstream.lake.datasets import ASSET_CONTEXTS, FILLS

OPEN = 1_704_099_600_000  # 2024-01-01 09:00 UTC
WALLET = "0xC64cc00b46101bd40aa1c3121195e85c0b0918d8"


def bar_of(*lines, end=b"\n"):
    return mid_bar([b"\n".join(lines) + end], "BTC", OPEN, "obj")


def test_the_documented_line_gives_the_documented_mid(shared):
    rows = json.loads((shared / "vectors/history/archive_lines.json").read_text())["rows"]
    line = json.dumps(rows[0]["line"]).encode()
    bar, counts = mid_bar([line], "SOL", 1_775_001_600_000, "obj")
    assert (bar.open, bar.close, bar.n_snapshots) == (0.5 * (83.141 + 83.158), 0.5 * (83.141 + 83.158), 1)
    assert counts == BookCounts(lines=1, used=1)


def test_one_sided_crossed_and_late_books_are_counted_and_left_out():
    bar, counts = bar_of(
        book_line("BTC", OPEN - 232, ["50"], ["51"]),
        book_line("BTC", OPEN, [], ["101"]),
        book_line("BTC", OPEN + 1, ["100"], []),
        book_line("BTC", OPEN + 2, [], []),
        book_line("BTC", OPEN + 3, ["102"], ["101"]),
        book_line("BTC", OPEN + 4, ["101"], ["101"]),
        book_line("BTC", OPEN + 5, ["100"], ["102"]),
        book_line("BTC", OPEN + HOUR_MS, ["60"], ["61"]),
    )
    assert (bar.open, bar.high, bar.low, bar.close, bar.n_snapshots) == (101.0, 101.0, 101.0, 101.0, 1)
    assert counts == BookCounts(lines=8, used=1, one_sided=3, crossed=2, outside=2)


def test_an_hour_without_a_usable_book_has_no_bar():
    assert bar_of(book_line("BTC", OPEN, [], ["101"]))[0] is None
    assert mid_bar([], "BTC", OPEN, "obj") == (None, BookCounts())


def test_open_and_close_go_by_the_stamp_even_if_lines_are_out_of_order():
    late, early = book_line("BTC", OPEN + 9, ["109"], ["111"]), book_line("BTC", OPEN + 1, ["100"], ["102"])
    bar, _ = bar_of(late, early)
    assert (bar.open, bar.close) == (101.0, 110.0)


@given(st.lists(st.tuples(st.integers(0, HOUR_MS - 1), st.integers(1, 10**7)), min_size=1, max_size=40), st.data())
def test_a_bar_is_what_a_plain_computation_gives(snapshots, data):
    """However the stream is cut into pieces."""
    lines = [book_line("BTC", OPEN + at, [f"{px / 1000}"], [f"{(px + 2) / 1000}"]) for at, px in snapshots]
    text = b"\n".join(lines) + data.draw(st.sampled_from([b"", b"\n"]))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    bar, counts = mid_bar(pieces, "BTC", OPEN, "obj")
    mids = [0.5 * (float(f"{px / 1000}") + float(f"{(px + 2) / 1000}")) for _, px in snapshots]
    first, last = min(at for at, _ in snapshots), max(at for at, _ in snapshots)
    assert bar.open == next(mid for (at, _), mid in zip(snapshots, mids, strict=True) if at == first)
    assert bar.close == [mid for (at, _), mid in zip(snapshots, mids, strict=True) if at == last][-1]
    assert (bar.high, bar.low, bar.n_snapshots) == (max(mids), min(mids), len(mids))
    assert counts.lines == counts.used == len(mids)


GOOD = book_line("BTC", OPEN + 100, ["99.5", "99.0"], ["100.5", "101.0"])


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (GOOD[:-1], "truncated"),
        (GOOD[: len(GOOD) // 2], "truncated"),
        (GOOD + b"}", "trailing"),
        (b"", "truncated"),
        (b"null", "Expected"),
        (GOOD.replace(b'"BTC"', b'"ETH"'), "ETH"),
        (GOOD.replace(b"l2Book", b"trades"), "trades"),
        (GOOD.replace(b'"99.5"', b'"-99.5"'), "-99.5"),
        (GOOD.replace(b'"99.5"', b'"nan"'), "nan"),
        (GOOD.replace(b'"99.5"', b'"inf"'), "inf"),
        (GOOD.replace(b'"99.5"', b'"1e999"'), "1e999"),
        (GOOD.replace(b'"99.5"', b'"0"'), "0"),
        (GOOD.replace(b'"99.5"', b'"9_9"'), "9_9"),
        (GOOD.replace(b'"99.5"', b'" 99"'), " 99"),
        (GOOD.replace(b'"99.5"', b"99.5"), "px"),
        (GOOD.replace(b'"99.0"', b'"99.9"'), "worse than the last"),
        (GOOD.replace(b'"101.0"', b'"100.1"'), "worse than the last"),
        (GOOD.replace(b'"px":"99.0",', b""), "px"),
        (GOOD.replace(str(OPEN + 100).encode(), b"17"), "more than a day"),
        (GOOD.replace(str(OPEN + 100).encode(), b'"soon"'), "time"),
        (GOOD.replace(b"]]}}}", b"],[]]}}}"), "levels"),
        (b"\xff\xfe" + GOOD, "obj line 3"),
    ],
)
def test_a_wrong_line_is_an_error_that_names_object_line_and_reason(line, why):
    with pytest.raises(DamagedObject, match="obj line 3") as caught:
        bar_of(GOOD, GOOD, line, GOOD)
    assert why in str(caught.value)


def test_an_object_of_another_hour_is_an_error():
    with pytest.raises(DamagedObject, match="none of the 2 snapshots is stamped in the hour from 2024-01-01 09:00 UTC"):
        bar_of(*[book_line("BTC", OPEN + HOUR_MS + i, ["99"], ["101"]) for i in range(2)])


@given(st.binary(max_size=8), st.integers(0, len(GOOD)), st.integers(0, 8))
def test_a_hostile_line_gives_an_error_or_a_true_mid(junk, at, cut):
    """Bytes put in or taken out of a line: either it is refused, or it reads as Python's own JSON reads it."""
    line = GOOD[:at] + junk.replace(b"\n", b"") + GOOD[at + cut :]
    try:
        bar, _ = bar_of(line)
    except DamagedObject as problem:
        refusal = str(problem)
    else:
        refusal = ""
    if refusal:
        assert "obj line 1" in refusal
        return
    if bar is not None:
        data = json.loads(line)["raw"]["data"]
        bids, asks = data["levels"]
        assert bar.close == 0.5 * (float(bids[0]["px"]) + float(asks[0]["px"]))
        assert OPEN <= data["time"] < OPEN + HOUR_MS


@given(st.text(max_size=2000), st.integers(1, 700), st.integers(1, 3))
def test_text_survives_packing_in_any_frames_and_pieces(written, size, frames):
    """An archive may hold several frames one after the other, and the network cuts anywhere."""
    text = written.encode("utf-8")
    third = len(text) // frames + 1
    packed = b"".join(lz4.frame.compress(text[i : i + third]) for i in range(0, max(1, len(text)), third))
    pieces = [packed[i : i + size] for i in range(0, len(packed), size)]
    assert b"".join(unpacked(pieces, "obj")) == text
    lines = [line for _, block in line_blocks(unpacked(pieces, "obj"), "obj") for line in block]
    assert lines == (text.split(b"\n")[:-1] if text.endswith(b"\n") else text.split(b"\n") if text else [])


@given(st.integers(0, 10**6))
def test_a_cut_object_is_noticed_wherever_it_is_cut(seed):
    packed = lz4.frame.compress(b"\n".join([GOOD] * 50) + b"\n")
    cut = packed[: seed % len(packed)]
    with pytest.raises(DamagedObject, match="obj: cut short"):
        list(unpacked([cut], "obj"))


def test_bytes_that_are_not_lz4_are_an_error():
    with pytest.raises(DamagedObject, match="obj: cannot be unpacked"):
        list(unpacked([b"this is no frame at all"], "obj"))
    with pytest.raises(DamagedObject, match="obj"):
        list(unpacked([lz4.frame.compress(b"abc") + b"trailing"], "obj"))


def test_a_flipped_bit_is_caught_by_the_checksum():
    packed = bytearray(lz4.frame.compress(b"\n".join([GOOD] * 50), content_checksum=True, block_linked=False))
    packed[len(packed) // 2] ^= 0x40
    with pytest.raises(DamagedObject, match="obj"):
        list(unpacked([bytes(packed)], "obj"))


def test_a_line_without_end_does_not_fill_the_memory(monkeypatch):
    monkeypatch.setattr("slipstream.ingest.archive.lz4_lines.LONGEST_LINE", 1 << 20)
    with pytest.raises(DamagedObject, match="line 2: longer than 1 MiB"):
        list(line_blocks([b"a\n", *[b"x" * 65536] * 40], "obj"))


# contexts

DAY = 1_704_067_200_000  # 2024-01-01
ROW = "2024-01-01T00:01:00Z,BTC,0.0000125,9876.5,42000.1,1234567.8,0.0001,42010.0,42011.0,42010.5,42009.0,42012.0"


CSV_HEADER = ",".join(HEADER)


def contexts(*rows, header=CSV_HEADER, day=DAY):
    return pl.concat(context_frames(["\n".join([header, *rows, ""]).encode()], day, "obj"))


def test_contexts_keep_their_stamps_and_their_estimate_of_funding():
    off_grid = ROW.replace("00:01:00Z", "00:02:13.457812Z")
    frame = contexts(ROW, off_grid)
    assert frame.schema == ASSET_CONTEXTS.schema
    assert frame["ts"].dt.timestamp("ms").to_list() == [DAY + 60_000, DAY + 133_457]
    assert frame.row(0)[2:] == (
        1.25e-5,
        9876.5,
        42000.1,
        1234567.8,
        0.0001,
        42010.0,
        42011.0,
        42010.5,
        42009.0,
        42012.0,
    )


def test_empty_and_null_cells_are_unknown_and_the_order_of_columns_is_the_headers():
    frame = contexts("2024-01-01T00:01:00Z,BTC,0.0000125,1.0,2.0,0.0,,3.0,4.0,null,,")
    assert frame.row(0)[6:] == (None, 3.0, 4.0, None, None, None)
    swapped = ",".join(["coin", "time", *HEADER[2:]])
    assert contexts(ROW.replace("2024-01-01T00:01:00Z,BTC", "BTC,2024-01-01T00:01:00Z"), header=swapped).equals(
        contexts(ROW)
    )


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (ROW.rsplit(",", 1)[0], "plain cells"),
        (ROW + ",1", "plain cells"),
        (ROW.replace("0.0000125", "abc"), "funding is 'abc'"),
        (ROW.replace("42010.0", "nan"), "oracle_px is 'nan'"),
        (ROW.replace("2024-01-01T00:01:00Z", "yesterday"), "time is 'yesterday'"),
        (ROW.replace("2024-01-01T00", "2024-01-04T00"), "time is"),
        (ROW.replace("00:01:00Z", "00:01:00+02:00"), "time is"),
        (ROW.replace("2024-01-01T00:01:00Z", ""), "time is"),
        (ROW.replace("BTC", ""), "coin is"),
        (ROW.replace("BTC", '"BTC"'), "plain cells"),
        ("", "plain cells"),
    ],
)
def test_a_wrong_context_is_an_error_that_names_its_line(row, why):
    with pytest.raises(DamagedObject, match="obj line 3") as caught:
        contexts(ROW, row, ROW)
    assert why in str(caught.value)


def test_a_header_without_a_column_is_an_error():
    with pytest.raises(DamagedObject, match="obj line 1: the header is"):
        contexts(ROW, header=",".join(HEADER[:-1]))
    with pytest.raises(DamagedObject, match="the object is empty"):
        list(context_frames([], DAY, "obj"))


def test_an_hour_shows_its_last_context_and_nothing_stamped_later():
    rows = [
        ROW.replace("00:01:00Z,BTC,0.0000125", f"{stamp}Z,BTC,{rate}")
        for stamp, rate in [("00:58:00", "0.1"), ("00:59:59.999", "0.2"), ("01:00:00", "0.3"), ("00:01:00", "0.4")]
    ]
    other_day = ROW.replace("2024-01-01T00:01:00", "2023-12-31T23:59:59")
    hours = hourly_contexts(contexts(*rows, other_day), DAY)
    assert hours.select("open_ms", "funding_ctx", "ctx_ms", "n_contexts").rows() == [
        (DAY, 0.2, DAY + HOUR_MS - 1, 3),
        (DAY + HOUR_MS, 0.3, DAY + HOUR_MS, 1),
    ]


# fills

TRADE_HOUR = 1_721_980_800_000  # 2024-07-26 08:00


def fill(**changes):
    return {
        **{"coin": "ETH", "px": "2500.5", "sz": "0.4", "side": "B", "time": TRADE_HOUR + 1234, "startPosition": "-1.0"},
        **{"dir": "Close Short", "closedPnl": "12.5", "hash": "0xab", "oid": 77, "crossed": True, "fee": "0.45"},
        **{"tid": 99, "feeToken": "USDC", "twapId": None},
        **changes,
    }


def fills(source, *lines):
    text = "\n".join(json.dumps(line) for line in lines).encode()
    return pl.concat([FILLS.schema.to_frame(), *fill_frames([text], source, TRADE_HOUR, "obj")])


def test_the_documented_trade_becomes_a_buyer_and_a_seller(shared):
    rows = json.loads((shared / "vectors/history/archive_lines.json").read_text())["rows"]
    frame = fills("node_trades", rows[1]["line"])
    assert frame.schema == FILLS.schema
    buyer, seller = frame.rows(named=True)
    assert (buyer["user"], buyer["side"], buyer["start_position"], buyer["oid"]) == (
        *("0xc64cc00b46101bd40aa1c3121195e85c0b0918d8", "B", 996.67, 12212201265),
    )
    assert (seller["side"], seller["start_position"], seller["oid"]) == ("A", -996.7, 12212198275)
    assert (buyer["crossed"], seller["crossed"]) == (True, False)
    assert buyer["time_ns"] == seller["time_ns"] == 1_721_982_385_899_000_000
    assert (buyer["fee"], buyer["tid"], buyer["closed_pnl"], buyer["source"]) == (None, None, None, "node_trades")


def test_nanoseconds_of_a_trade_are_kept(shared):
    line = json.loads((shared / "vectors/history/archive_lines.json").read_text())["rows"][1]["line"]
    frame = fills("node_trades", {**line, "time": "2024-07-26T08:26:25.899721263"})
    assert frame["time_ns"][0] == 1_721_982_385_899_721_263
    assert frame["ts"].dt.timestamp("ms")[0] == 1_721_982_385_899


def test_fills_by_wallet_and_by_block_say_the_same():
    by_wallet = fills("node_fills", [WALLET, fill()], [WALLET, fill(deployerFee="0.1")])
    block = {"local_time": "x", "block_time": "y", "block_number": 5, "events": [[WALLET, fill()]]}
    by_block = fills("node_fills_by_block", block, {**block, "events": []})
    assert by_wallet.row(0)[:-2] == by_block.row(0)[:-2]
    assert by_block.row(0)[-2:] == (5, "node_fills_by_block")
    row = by_wallet.row(1, named=True)
    assert row["user"] == WALLET.lower()
    assert (row["px"], row["sz"], row["start_position"], row["fee"], row["deployer_fee"]) == (
        2500.5,
        0.4,
        -1.0,
        0.45,
        0.1,
    )
    assert (row["time_ns"], row["oid"], row["tid"], row["dir"]) == ((TRADE_HOUR + 1234) * 10**6, 77, 99, "Close Short")


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ([WALLET, fill(px="0")], "px is '0'"),
        ([WALLET, fill(sz="-1")], "sz is '-1'"),
        ([WALLET, fill(px="nan")], "px is 'nan'"),
        ([WALLET, fill(fee="lots")], "fee is 'lots'"),
        ([WALLET, fill(side="buy")], "side"),
        ([WALLET, fill(time=5)], "time is '5'"),
        ([WALLET, fill(oid=2**63)], "oid"),
        ([WALLET, fill(coin="")], "coin is ''"),
        ([WALLET], "no line of node_fills"),
        ([WALLET, {key: value for key, value in fill().items() if key != "crossed"}], "crossed"),
        ({"user": WALLET}, "no line of node_fills"),
    ],
)
def test_a_wrong_fill_is_an_error_that_names_its_line(line, why):
    with pytest.raises(DamagedObject, match="obj line 2") as caught:
        fills("node_fills", [WALLET, fill()], line, [WALLET, fill()])
    assert why in str(caught.value)


@given(st.randoms(use_true_random=False))
def test_cut_fills_are_never_rows(rng: random.Random):
    line = json.dumps({"local_time": "x", "block_time": "y", "block_number": 5, "events": [[WALLET, fill()]]}).encode()
    with pytest.raises(DamagedObject, match="obj line 1"):
        list(fill_frames([line[: rng.randrange(1, len(line))]], "node_fills_by_block", TRADE_HOUR, "obj"))
