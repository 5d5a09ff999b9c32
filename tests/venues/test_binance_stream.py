"""What Binance's frames become, and by which paths they are asked for."""

from __future__ import annotations

import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.errors import UsageError
from slipstream.venues.binance.stream import BinanceDialect, dialects
from slipstream.venues.stream import Ack, Complaint, Data, Ignored, MalformedMessage, Pong
from venues.local_stream import frame_of

COINS = {"BTCUSDT": "BTC", "1000PEPEUSDT": "kPEPE", "BNBUSDT": "BNB"}
DIALECT = BinanceDialect(COINS, "bookTicker", "s", "ws://x/public/ws")


def read(frame: object) -> object:
    raw = frame if isinstance(frame, bytes) else json.dumps(frame).encode()
    return DIALECT.read(raw, 1_700_000_000_000_000_123, 55)


def test_recorded_samples_parse_and_other_streams_are_ignored(shared):
    samples = json.loads((shared / "vectors/binance/ws_samples.json").read_text())["streams"]
    (quote,) = read(samples["book_ticker_stream"]).events
    assert (quote.coin, quote.bid, quote.bid_size, quote.ask, quote.ask_size) == ("BNB", 25.3519, 31.21, 25.3652, 40.66)
    assert quote.exchange_ms == 1568014460891
    (trade,) = read(samples["agg_trade_stream"]).events
    assert (trade.coin, trade.px, trade.sz, trade.tid, trade.side) == ("BTC", 0.001, 100.0, 5933014, "A")
    for name in samples.keys() - {"book_ticker_stream", "agg_trade_stream"}:
        assert isinstance(read(samples[name]), Ignored), name


def test_every_line_of_a_real_combined_socket_parses(shared):
    """94 000 lines of August 2024: each bookTicker gives the quote an own reading of the line gives."""
    quotes = 0
    with gzip.open(shared / "data/book/binance_usdm_btcusdt_20240808.gz", "rb") as file:
        for line in file:
            raw = line.split(b" ", 1)[1]
            answer = read(raw)
            if isinstance(answer, Data):
                quotes += 1
                if quotes % 50 == 1:
                    said, (quote,) = json.loads(raw)["data"], answer.events
                    expected = tuple(float(said[key]) for key in "bBaA")
                    assert (quote.bid, quote.bid_size, quote.ask, quote.ask_size) == expected
                    assert quote.exchange_ms == said["T"]
            else:
                assert isinstance(answer, Ignored)
    assert quotes > 20_000


def test_the_taker_sold_when_the_buyer_was_the_maker():
    body = frame_of("aggTrade", "BTCUSDT", 1, 5)
    assert read({**body, "m": True}).events[0].side == "A"
    assert read({**body, "m": False}).events[0].side == "B"


def test_a_thousand_pepe_is_recorded_under_the_name_of_the_other_venue():
    assert read(frame_of("bookTicker", "1000PEPEUSDT", 1, 5)).events[0].coin == "kPEPE"
    assert isinstance(read(frame_of("bookTicker", "PEPEUSDT", 1, 5)), Ignored)


def test_an_empty_side_is_sent_as_two_zeros_and_read_as_none():
    body = frame_of("bookTicker", "BTCUSDT", 1, 5)
    (quote,) = read({**body, "b": "0.00", "B": "0.000"}).events
    assert (quote.bid, quote.bid_size, quote.ask) == (None, None, 1.2)
    for broken in ({"b": "0.00"}, {"B": "0"}):
        with pytest.raises(MalformedMessage, match="both or neither"):
            read({**body, **broken})


def test_answers_are_told_apart():
    assert read({"result": None, "id": 1}) == Ack("id:1")
    assert isinstance(read({"result": ["btcusdt@bookTicker"], "id": 0}), Pong)
    complaint = read({"error": {"code": 2, "msg": "Invalid request"}, "id": 1})
    assert isinstance(complaint, Complaint)
    assert (complaint.key, "Invalid request" in complaint.text) == ("id:1", True)


def test_streams_go_by_the_paths_that_deliver():
    made = dialects(COINS, ["bookTicker", "aggTrade"], "s", "wss://host/")
    assert [one.url for one in made] == ["wss://host/public/ws", "wss://host/market/ws"]
    frame = json.loads(made[0].requests[0].frame)
    assert frame["params"] == ["btcusdt@bookTicker", "1000pepeusdt@bookTicker", "bnbusdt@bookTicker"]


def test_no_connection_carries_more_than_two_hundred_streams():
    symbols = {f"C{n}USDT": f"C{n}" for n in range(450)}
    made = dialects(symbols, ["bookTicker"], "s")
    counts = [sum(len(json.loads(request.frame)["params"]) for request in one.requests) for one in made]
    assert counts == [200, 200, 50]
    with pytest.raises(UsageError, match="connections"):
        dialects({f"C{n}USDT": f"C{n}" for n in range(1200)}, ["bookTicker", "aggTrade"], "s")


def test_an_address_with_a_path_is_refused():
    """The old path connects and acknowledges and then delivers nothing: no user should end there."""
    with pytest.raises(UsageError, match="scheme and host only"):
        dialects(COINS, ["bookTicker"], "s", "wss://fstream.binance.com/ws")


GOOD = [json.dumps(frame_of(kind, "BTCUSDT", 7, 1_700_000_000_000)) for kind in ("bookTicker", "aggTrade")]
WRAPPED = [f'{{"stream":"btcusdt@x","data":{frame}}}' for frame in GOOD]


@pytest.mark.parametrize("frame", WRAPPED)
def test_a_wrapped_frame_reads_as_the_bare_one(frame):
    assert read(frame.encode()) == read(json.dumps(json.loads(frame)["data"]).encode())


@given(st.sampled_from(GOOD + WRAPPED), st.data())
def test_a_truncated_frame_never_becomes_a_row(frame, data):
    with pytest.raises(MalformedMessage):
        read(frame[: data.draw(st.integers(0, len(frame) - 1))].encode())


@given(
    st.sampled_from(GOOD),
    st.sampled_from("bBaApqTams"),
    st.none() | st.booleans() | st.integers() | st.text(max_size=6),
)
def test_a_hostile_value_gives_valid_numbers_or_an_error(frame, key, value):
    try:
        answer = read({**json.loads(frame), key: value})
    except MalformedMessage:
        return
    for event in answer.events if isinstance(answer, Data) else ():
        numbers = [getattr(event, name, None) for name in ("bid", "bid_size", "ask", "ask_size", "px", "sz")]
        assert all(0 < number < 1e18 for number in numbers if number is not None)
