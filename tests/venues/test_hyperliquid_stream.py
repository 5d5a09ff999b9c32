"""What Hyperliquid's frames become: real ones all parse, broken ones are refused with the reason, none turns wrong."""

from __future__ import annotations

import gzip
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.errors import UsageError
from slipstream.venues.events import Book, Context, Quote, Trade
from slipstream.venues.hyperliquid.stream import FEEDS, HyperliquidDialect
from slipstream.venues.stream import Ack, Complaint, Data, Ignored, MalformedMessage, Pong
from venues.local_stream import bbo, frame_of, trade

COINS = ("BTC", "ETH", "kPEPE", "xyz:SP500", "MATIC", "HYPE")
DIALECT = HyperliquidDialect(COINS, FEEDS, "20250101-000000")
DATA_CHANNELS = {"bbo", "l2Book", "trades", "activeAssetCtx"}


def read(frame: object) -> object:
    raw = frame if isinstance(frame, bytes) else json.dumps(frame).encode()
    return DIALECT.read(raw, 1_700_000_000_000_000_123, 55)


def events(frame: object) -> list:
    answer = read(frame)
    assert isinstance(answer, Data)
    return list(answer.events)


def test_every_recorded_frame_of_a_public_channel_parses(shared):
    """The frames captured in September 2026, with the numbers in them and not others."""
    recorded = json.loads((shared / "vectors/ws/frames.json").read_text())["frames"]
    seen = set()
    for one in recorded:
        frame = one["frame"]
        if (
            one["direction"] != "server->client"
            or not isinstance(frame, dict)
            or frame.get("channel") not in DATA_CHANNELS
        ):
            continue
        seen.add(frame["channel"])
        numbers = [float(n) for event in events(frame) for n in _numbers(event)]
        said = set(_texts_as_numbers(frame["data"]))
        assert numbers
        assert set(numbers) <= said
    assert seen == DATA_CHANNELS


def _numbers(event) -> list[float]:
    if isinstance(event, Quote):
        return [x for x in (event.bid, event.bid_size, event.ask, event.ask_size) if x is not None]
    if isinstance(event, Book):
        return [*event.bid_px, *event.bid_sz, *event.bid_n, *event.ask_px, *event.ask_sz, *event.ask_n] or [0.0]
    if isinstance(event, Trade):
        return [event.px, event.sz, event.tid]
    names = ("funding_ctx", "open_interest", "oracle_px", "mark_px", "mid_px", "premium", "day_ntl_vlm")
    return [x for name in names if (x := getattr(event, name)) is not None]


def _texts_as_numbers(value: object):
    yield 0.0
    if isinstance(value, dict):
        for item in value.values():
            yield from _texts_as_numbers(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts_as_numbers(item)
    elif isinstance(value, (int, float)):
        yield float(value)
    elif isinstance(value, str):
        try:
            yield float(value)
        except ValueError:
            return


def test_every_line_of_a_real_socket_parses(shared):
    """26 seconds of a raw socket: whatever came was data or an acknowledgement, and books agree with an own reading."""
    with gzip.open(shared / "data/book/hyperliquid_btcusd_20250126.gz", "rt") as file:
        lines = [line.split(" ", 1)[1].encode() for line in file]
    counts = {"l2Book": 0, "trades": 0}
    for raw in lines:
        answer, said = read(raw), json.loads(raw)
        assert isinstance(answer, (Data, Ack)), raw
        if isinstance(answer, Data):
            counts[answer.feed] += len(answer.events)
        if said["channel"] == "l2Book":
            (book,) = answer.events
            assert [list(book.bid_px), list(book.ask_px)] == [
                [float(x["px"]) for x in s] for s in said["data"]["levels"]
            ]
            assert [list(book.bid_n), list(book.ask_n)] == [[x["n"] for x in s] for s in said["data"]["levels"]]
    assert counts["l2Book"] > 40
    assert counts["trades"] > 0


def test_a_missing_side_is_none_and_never_zero():
    (quote,) = events(bbo("BTC", 5, None, (101.5, 2.0)))
    assert (quote.bid, quote.bid_size, quote.ask, quote.ask_size) == (None, None, 101.5, 2.0)


def test_trades_of_one_frame_keep_their_order_in_their_stamps():
    """Three prints of one frame came at one time, but not in one nanosecond: sorting keeps the frame's order."""
    tids = [7, 3, 9]
    got = events(
        {"channel": "trades", "data": [trade("BTC", 1, tid, side) for tid, side in zip(tids, "BAB", strict=True)]}
    )
    assert [one.tid for one in got] == tids
    assert [one.side for one in got] == ["B", "A", "B"]
    assert [one.monotonic_ns for one in got] == [55, 56, 57]
    assert len({one.received_ns for one in got}) == 1


def test_a_context_without_a_mid_or_premium_is_kept_with_nulls():
    (context,) = events(frame_of("activeAssetCtx", "ETH", 3, 0))
    assert isinstance(context, Context)
    assert (context.exchange_ms, context.mid_px, context.premium, context.open_interest) == (None, None, None, 3.5)


def test_acknowledgements_match_their_request_with_and_without_the_fast_key():
    keys = {request.key for request in DIALECT.requests}
    for more in ({}, {"fast": True}, {"nSigFigs": None, "mantissa": None, "fast": False}):
        sub = {"type": "l2Book", "coin": "BTC", **more}
        ack = read({"channel": "subscriptionResponse", "data": {"method": "subscribe", "subscription": sub}})
        assert isinstance(ack, Ack)
        assert ack.key in keys


def test_a_complaint_names_the_request_whether_it_quotes_the_frame_or_the_subscription():
    frame = DIALECT.requests[0].frame
    whole = read({"channel": "error", "data": f"Error parsing JSON into valid websocket request: {frame}"})
    part = read({"channel": "error", "data": 'Already subscribed: {"type":"bbo","coin":"BTC"}'})
    other = read({"channel": "error", "data": "Cannot track more than 15 total users."})
    assert [one.key for one in (whole, part, other)] == ["bbo:BTC", "bbo:BTC", None]
    assert [one.harmless for one in (whole, part, other)] == [False, True, False]
    assert all(isinstance(one, Complaint) for one in (whole, part, other))


def test_pongs_greetings_and_unknown_channels_are_no_data_and_no_error():
    assert isinstance(read({"channel": "pong"}), Pong)
    assert isinstance(read(b"Websocket connection established."), Ignored)
    assert read({"channel": "fastAssetCtxs", "data": "lX3Z"}) == Ignored("fastAssetCtxs")


def test_unknown_keys_are_ignored():
    frame = bbo("BTC", 5, (1.0, 2.0), (3.0, 4.0))
    frame["data"]["news"] = {"bbo": [1]}
    frame["later"] = True
    assert events(frame)[0].bid == 1.0


@pytest.mark.parametrize(
    ("frame", "says"),
    [
        (bbo("BTC", 5, (0.0, 1.0), None), "> 0"),
        (bbo("BTC", 5, (-1.0, 1.0), None), "> 0"),
        (bbo("BTC", 5, (math.nan, 1.0), None), "bbo"),
        (bbo("BTC", 5, (math.inf, 1.0), None), "bbo"),
        ({"channel": "bbo", "data": {"coin": "BTC", "time": 5, "bbo": [None]}}, "length 2"),
        ({"channel": "bbo", "data": {"coin": "BTC", "bbo": [None, None]}}, "time"),
        ({"channel": "bbo", "data": None}, "object"),
        ({"channel": "trades", "data": [trade("BTC", 5, 1, "X")]}, "side"),
        ({"channel": "trades", "data": [trade("BTC", 5, 1), {"coin": "BTC"}]}, "data"),
        ({"channel": "trades", "data": [{**trade("BTC", 5, 1), "sz": "1_000"}]}, "sz"),
        ({"channel": "trades", "data": [{**trade("BTC", 5, 1), "tid": 2**70}]}, "tid"),
        ({"channel": "l2Book", "data": {"coin": "BTC", "time": 5, "levels": [[]]}}, "length 2"),
        (b'{"channel":"bbo","data":{"coin":"BTC","ti', "truncated"),
        (b"\xff\xfe", "malformed"),
        (b"", "truncated"),
        (b"[]", "object"),
    ],
)
def test_a_frame_that_is_not_what_it_should_be_is_refused_with_an_excerpt(frame, says):
    with pytest.raises(MalformedMessage) as refused:
        read(frame)
    assert says in str(refused.value) or "it begins" in str(refused.value)
    assert "Hyperliquid" in str(refused.value)


def test_a_book_whose_levels_are_out_of_order_is_refused():
    """A frame whose levels were shuffled would give a best price that is none."""
    level = lambda px: {"px": px, "sz": "1.0", "n": 1}  # noqa: E731
    for bids, asks in (([99.0, 100.0], [101.0]), ([100.0], [102.0, 101.0]), ([100.0, 100.0], [])):
        levels = [[level(px) for px in side] for side in (bids, asks)]
        with pytest.raises(MalformedMessage, match="not best first"):
            read({"channel": "l2Book", "data": {"coin": "BTC", "time": 5, "levels": levels}})


def test_a_coin_that_was_not_asked_for_makes_no_row():
    assert isinstance(read(bbo("btc", 5, (1.0, 1.0), None)), Ignored)
    mixed = events({"channel": "trades", "data": [trade("BTC", 5, 1), trade("OTHER", 5, 2)]})
    assert [one.tid for one in mixed] == [1]


def test_requests_ask_for_fast_books_and_have_a_plainer_one_to_fall_back_to():
    books = [json.loads(one.frame)["subscription"] for one in DIALECT.requests if "l2Book" in one.subject]
    assert all(book["fast"] is True for book in books)
    plain = [json.loads(one.fallback.frame)["subscription"] for one in DIALECT.requests if one.fallback]
    assert plain == [{"type": "l2Book", "coin": coin} for coin in COINS]


def test_more_subscriptions_than_the_venue_allows_are_refused_before_connecting():
    with pytest.raises(UsageError, match="1004 subscriptions"):
        HyperliquidDialect([f"C{n}" for n in range(251)], FEEDS, "s")


FRAMES = [
    json.dumps(frame_of(kind, "BTC", 42, 1_700_000_000_000)) for kind in ("bbo", "l2Book", "trades", "activeAssetCtx")
]


@given(st.sampled_from(FRAMES), st.data())
def test_a_truncated_frame_never_becomes_an_event(frame, data):
    cut = data.draw(st.integers(0, len(frame) - 1))
    with pytest.raises(MalformedMessage):
        read(frame[:cut].encode())


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_refused_or_ignored(raw):
    try:
        answer = read(raw)
    except MalformedMessage:
        return
    assert isinstance(answer, Ignored)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["1.5", "-3", "nan", "BTC", "A"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["coin", "px", "sz", "n", "time", "x"]), inner, max_size=4)
    ),
    max_leaves=8,
)


@given(st.sampled_from(FRAMES), st.data())
def test_a_frame_with_a_hostile_value_gives_valid_numbers_or_an_error(frame, data):
    """Replace any one value of a good frame by anything: what comes out is finite and positive, or nothing does."""
    body = json.loads(frame)
    paths = list(_paths(body))
    path = data.draw(st.sampled_from(paths))
    _put(body, path, data.draw(JSON))
    try:
        answer = read(json.dumps(body).encode())
    except MalformedMessage:
        return
    for event in answer.events if isinstance(answer, Data) else ():
        assert event.coin in COINS
        prices = [x for x in _prices(event) if x is not None]
        assert all(math.isfinite(x) and x > 0 for x in prices)
        assert event.exchange_ms is None or event.exchange_ms >= 0


def _prices(event) -> list[float | None]:
    if isinstance(event, Quote):
        return [event.bid, event.bid_size, event.ask, event.ask_size]
    if isinstance(event, Book):
        return [*event.bid_px, *event.bid_sz, *event.ask_px, *event.ask_sz]
    if isinstance(event, Trade):
        return [event.px, event.sz]
    return [event.oracle_px, event.mark_px, event.mid_px]


def _paths(value: object, here: tuple = ()):
    if here:
        yield here
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _paths(item, (*here, key))
    elif isinstance(value, list):
        for place, item in enumerate(value):
            yield from _paths(item, (*here, place))


def _put(body, path: tuple, value: object) -> None:
    for step in path[:-1]:
        body = body[step]
    body[path[-1]] = value
