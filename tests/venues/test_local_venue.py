"""The local venue answers as the real one does: recorded errors, forms of numbers, limits, and from another process."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys

import aiohttp
import pytest

from venues.local_faults import now_and_then
from venues.local_market import DAY_MS, HOUR_MS, INTERVALS, small_market
from venues.local_venue import LocalVenue

NOON = 1_748_779_200_000
NOW = NOON + 34 * 60_000
# a decimal of the venue: no exponent, one zero after the point of a whole number, no other trailing zero
DECIMAL = re.compile(r"-?(0|[1-9][0-9]*)\.([0-9]*[1-9]|0)")


def talk(use, **options):
    async def scenario():
        async with LocalVenue(NOW, **options) as venue, aiohttp.ClientSession(venue.url) as session:
            return await use(session, venue)

    return asyncio.run(scenario())


async def post(session, body, content_type="application/json"):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with session.post("/info", data=raw, headers={"Content-Type": content_type}) as answer:
        return answer.status, answer.headers.get("Content-Type"), await answer.read(), answer.headers


def test_errors_have_the_status_type_and_words_recorded_at_the_real_venue(shared):
    recorded = json.loads((shared / "vectors/errors/http_info_errors.json").read_text())["rows"]
    sent = {
        '{"type":"nope"}': lambda s: post(s, {"type": "nope"}),
        "fundingHistory without startTime": lambda s: post(s, {"type": "fundingHistory", "coin": "BTC"}),
        'metaAndAssetCtxs dex "nope"': lambda s: post(s, {"type": "metaAndAssetCtxs", "dex": "nope"}),
        "fundingHistory coin NOPE": lambda s: post(s, {"type": "fundingHistory", "coin": "NOPE", "startTime": 0}),
        "l2Book coin NOPE": lambda s: post(s, {"type": "l2Book", "coin": "NOPE"}),
        'body {"type":': lambda s: post(s, b'{"type":'),
        "content-type text/plain": lambda s: post(s, {"type": "meta"}, "text/plain"),
    }

    async def use(session, _):
        for row in recorded:
            if row["request"] == "GET /info":
                async with session.get("/info") as answer:
                    assert (answer.status, await answer.read()) == (row["status"], b"")
                continue
            status, content_type, body, headers = await sent.pop(row["request"])(session)
            assert (status, body.decode()) == (row["status"], row["body"]), row["request"]
            assert content_type in row["contentType"]
            assert "Retry-After" not in headers
        assert not sent

    talk(use)


def test_every_decimal_is_written_as_the_venue_writes_it():
    async def use(session, venue):
        decimals = []
        for name in ("BTC", "kPEPE", "RLB", "xyz:TSLA"):
            req = {"coin": name, "interval": "4h", "startTime": NOW - 20 * DAY_MS, "endTime": NOW}
            rows = json.loads((await post(session, {"type": "candleSnapshot", "req": req}))[2])
            assert set(rows[0]) == set("tTsiochlvn")
            decimals += [row[key] for row in rows for key in "ohlcv"]
        funding = {"type": "fundingHistory", "coin": "BTC", "startTime": NOW - DAY_MS}
        rows = json.loads((await post(session, funding))[2])
        decimals += [row[key] for row in rows for key in ("fundingRate", "premium")]
        _, contexts = json.loads((await post(session, {"type": "metaAndAssetCtxs"}))[2])
        decimals += [v for context in contexts for v in context.values() if isinstance(v, str)]
        return decimals

    found = talk(use)
    assert len(found) > 1000
    assert [text for text in found if not DECIMAL.fullmatch(text)] == []


def test_a_longer_bar_is_the_sum_of_its_shorter_ones():
    coin = small_market(NOW, 30, 6)[""][1]
    for long, short in (("4h", "1h"), ("1h", "15m"), ("1h", "1m"), ("1d", "4h")):
        start = NOON // INTERVALS[long] * INTERVALS[long] - 5 * INTERVALS[long]
        whole = coin.bar(start, long, NOW)
        parts = [coin.bar(t, short, NOW) for t in range(start, start + INTERVALS[long], INTERVALS[short])]
        assert (whole.open, whole.close) == (parts[0].open, parts[-1].close)
        assert float(whole.high) == max(float(part.high) for part in parts)
        assert float(whole.low) == min(float(part.low) for part in parts)
        assert float(whole.volume) == pytest.approx(sum(float(part.volume) for part in parts))


def test_the_last_candle_is_still_forming_and_changes_as_time_goes_on():
    async def use(session, venue):
        req = {"coin": "BTC", "interval": "1h", "startTime": NOW - 5 * HOUR_MS}
        early = json.loads((await post(session, {"type": "candleSnapshot", "req": req}))[2])
        venue.now_ms = NOON + HOUR_MS + 1
        late = json.loads((await post(session, {"type": "candleSnapshot", "req": req}))[2])
        return early, late

    early, late = talk(use)
    assert early[-1]["t"] == NOON
    assert early[:-1] == late[: len(early) - 1]
    assert late[-2]["t"] == NOON
    assert late[-2] != early[-1]


def test_weight_is_counted_and_the_request_that_would_exceed_it_gets_429():
    async def use(session, venue):
        return [(await post(session, {"type": "meta"}))[0] for _ in range(12)], venue.refused

    assert talk(use, weight_limit=200, monotonic=lambda: 0.0) == ([200] * 10 + [429] * 2, 2)


def test_the_same_seed_is_the_same_market_and_trouble_and_another_is_not():
    def fingerprint(seed):
        coin = small_market(NOW, 30, 8, seed)[""][7]
        faults = list(now_and_then(seed, 0.5))
        return coin.bar(NOON - HOUR_MS, "1h", NOW), [fault.applies(None) for _ in range(20) for fault in faults]

    assert fingerprint(7) == fingerprint(7)
    assert fingerprint(7) != fingerprint(8)


def test_it_runs_as_a_process_of_its_own_and_can_be_moved_in_time(repository):
    command = [sys.executable, str(repository / "tests/venues/local_venue.py"), "--now", "2025-06-01T12:34:00"]
    options = ["--days", "20", "--coins", "3", "--weight-limit", "0"]
    with subprocess.Popen([*command, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        told = json.loads(process.stdout.readline())
        assert told["now_ms"] == NOW

        async def use():
            async with aiohttp.ClientSession(told["url"]) as session:
                universe = json.loads((await post(session, {"type": "meta"}))[2])["universe"]
                async with session.post("/_control", json={"now_ms": NOW + HOUR_MS}) as answer:
                    return universe, await answer.json()

        universe, counted = asyncio.run(use())
        process.stdin.close()
        assert process.wait(10) == 0
    assert [row["name"] for row in universe] == ["BTC", "ETH", "kPEPE"]
    assert counted == {"now_ms": NOW + HOUR_MS, "requests": 1, "refused": 0}
