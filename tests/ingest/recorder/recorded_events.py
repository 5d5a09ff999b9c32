"""Events for tests of the recorder: built by hand, or drawn."""

from __future__ import annotations

import math

from hypothesis import strategies as st

from slipstream.venues.events import BINANCE, HYPERLIQUID, Book, Context, Quote, Trade

T0_NS = 1_757_015_216_000_000_000
SESSION = "20250904-195900"


def quote(number: int, coin: str = "BTC", *, venue: str = HYPERLIQUID, at_ns: int | None = None) -> Quote:
    at_ns = T0_NS + number * 1_000_000 if at_ns is None else at_ns
    return Quote(venue, coin, at_ns // 1_000_000 - 40, at_ns, number, SESSION, 100.0 + number, 1.0, 101.0 + number, 2.0)


def trade(number: int, coin: str = "BTC", *, venue: str = HYPERLIQUID) -> Trade:
    at_ns = T0_NS + number * 1_000_000
    return Trade(venue, coin, at_ns // 1_000_000 - 40, at_ns, number, SESSION, 100.5, 0.25, "B", number)


def book(number: int, coin: str = "BTC", *, bids=((100.0, 1.0), (99.0, 2.0)), asks=((101.0, 3.0),)) -> Book:
    at_ns = T0_NS + number * 1_000_000
    sides = []
    for side in (bids, asks):
        sides += [tuple(px for px, _ in side), tuple(sz for _, sz in side), (1,) * len(side)]
    return Book(HYPERLIQUID, coin, at_ns // 1_000_000, at_ns, number, SESSION, *sides)


def context(number: int, coin: str = "BTC") -> Context:
    at_ns = T0_NS + number * 1_000_000
    return Context(HYPERLIQUID, coin, None, at_ns, number, SESSION, 1.25e-5, 10.0, 100.0, 100.1, None, None, 1e9)


POSITIVE = st.floats(1e-9, 1e9).filter(math.isfinite)
FINITE = st.floats(-1e12, 1e12)
COINS = st.sampled_from(["BTC", "kPEPE", "xyz:SP500", 'odd,"name'])
MAYBE_MS = st.none() | st.integers(0, 2**50)


@st.composite
def drawn_events(draw, most: int = 12) -> list:
    """Events of every kind in order of receipt, all stamps different."""
    events = []
    at_ns, monotonic_ns = T0_NS, 0
    for _ in range(draw(st.integers(1, most))):
        at_ns += draw(st.integers(0, 3_000_000_000))
        monotonic_ns += draw(st.integers(1, 10**9))
        kind = draw(st.sampled_from("qbtc"))
        venue = draw(st.sampled_from([HYPERLIQUID, BINANCE])) if kind in "qt" else HYPERLIQUID
        head = (venue, draw(COINS), draw(MAYBE_MS), at_ns, monotonic_ns, SESSION)
        if kind == "q":
            sides = [draw(st.none() | st.tuples(POSITIVE, POSITIVE)) or (None, None) for _ in range(2)]
            events.append(Quote(*head, *sides[0], *sides[1]))
        elif kind == "b":
            lists = []
            for _ in range(2):
                count = draw(st.integers(0, 4))
                lists += [tuple(draw(st.lists(POSITIVE, min_size=count, max_size=count))) for _ in range(2)]
                lists.append(tuple(draw(st.lists(st.integers(0, 99), min_size=count, max_size=count))))
            events.append(Book(*head, *lists))
        elif kind == "t":
            side, tid = draw(st.sampled_from("AB")), draw(st.integers(0, 2**60))
            events.append(Trade(*head, draw(POSITIVE), draw(POSITIVE), side, tid))
        else:
            events.append(Context(*head, *[draw(st.none() | FINITE) for _ in range(7)]))
    return events
