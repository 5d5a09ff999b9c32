"""Real answers of the venues, 2023 to 2026, served by a local socket and read by the real clients."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from decimal import Decimal

import polars as pl
import pytest
import yaml

from slipstream.venues.binance.rest import BinanceClient
from slipstream.venues.hyperliquid.info import InfoClient
from venues.local_faults import Fault, Replace
from venues.local_venue import LocalVenue
from venues.virtual_clock import VirtualClock

LATE = int(datetime(2026, 11, 22, tzinfo=UTC).timestamp() * 1000)
HOUR_MS = 3_600_000
ALWAYS = 10**6


def reading(bodies, use, *, now_ms=LATE, client=InfoClient):
    """What ``use(client)`` returns when the venue answers each kind of request with a recorded body."""

    def answering(kind, body):
        return Fault(lambda seen: seen.kind == kind, Replace(body), ALWAYS)

    async def scenario():
        clock = VirtualClock(now_ms)
        faults = [answering(kind, body) for kind, body in bodies.items()]
        venue = LocalVenue(now_ms, days=2, monotonic=clock.monotonic, faults=faults)
        async with venue, client(venue.url, clock=clock) as asking:
            return await use(asking)

    return asyncio.run(scenario())


def vector(shared, name):
    """(request, response as sent) of a recorded vector."""
    held = json.loads((shared / "vectors" / "info" / name).read_text())
    return held["request"], held["response"]


def cassette(shared, name):
    """(request, response body) of every exchange on a recorded tape."""
    tape = yaml.safe_load((shared / "data/payloads/hyperliquid/cassettes/info_test" / f"{name}.yaml").read_text())
    return [(json.loads(item["request"]["body"]), item["response"]["body"]["string"]) for item in tape["interactions"]]


def plain_bars(sent):
    """The rows a client should have, read without its parser."""
    return [(row["t"], *(float(Decimal(row[key])) for key in "ohlcv")) for row in sent]


def rows_of(bars):
    return bars.select(pl.col("ts").dt.timestamp("ms"), "open", "high", "low", "close", "volume").rows()


def test_candles_of_2023_are_read_as_they_were_sent(shared):
    request, body = cassette(shared, "test_get_candles_snapshot")[1]
    asked, sent = request["req"], json.loads(body)
    bars = reading(
        {"candleSnapshot": body.encode()},
        lambda client: client.candles(asked["coin"], asked["interval"], sent[0]["t"], sent[-1]["t"] + 1),
    )
    assert rows_of(bars) == plain_bars(sent)
    assert bars.height == len(sent) > 20
    assert bars["coin"][0] == "kPEPE"


def test_the_bar_before_the_start_that_the_venue_sends_along_is_not_taken(shared):
    """Asked from 20:46:47 on, the venue begins with the bar that opened at 20:00."""
    request, body = cassette(shared, "test_get_candles_snapshot")[1]
    asked, sent = request["req"], json.loads(body)
    assert sent[0]["t"] < asked["startTime"]
    bars = reading(
        {"candleSnapshot": body.encode()},
        lambda client: client.candles("kPEPE", "1h", asked["startTime"], asked["endTime"]),
    )
    assert rows_of(bars)[0][0] == sent[1]["t"]


def test_the_last_candle_of_september_2026_was_still_forming_and_is_left_out(shared):
    _, sent = vector(shared, "m2026_candleSnapshot_BTC_1h.json")
    taken_ms = int(datetime(2026, 9, 25, 18, 1, tzinfo=UTC).timestamp() * 1000)
    bars = reading(
        {"candleSnapshot": json.dumps(sent).encode()},
        lambda client: client.candles("BTC", "1h", sent[0]["t"], taken_ms),
        now_ms=taken_ms,
    )
    assert rows_of(bars) == plain_bars(sent[:-1])
    assert bars["open"][3] != bars["close"][2]  # an open is not always the close before


@pytest.mark.parametrize("name", ["test_get_funding_history[None]", "test_get_funding_history[1684811870000]"])
def test_funding_of_2023_every_eight_hours_and_then_every_hour_is_read_as_it_was_sent(shared, name):
    request, body = cassette(shared, name)[1]
    sent = json.loads(body)
    end = sent[-1]["time"] // HOUR_MS * HOUR_MS
    rates = reading({"fundingHistory": body.encode()}, lambda client: client.funding("BTC", request["startTime"], end))
    got = rates.select("settled_ms", "rate", "premium").rows()
    assert got == [(row["time"], float(row["fundingRate"]), float(row["premium"])) for row in sent]
    assert rates["ts"].n_unique() == rates.height  # no two in one hour, whatever the lateness
    hours = rates["ts"].diff().dt.total_hours().drop_nulls().to_list()
    assert set(hours) <= {8, 2, 1}  # every 8 hours, then hourly; one hour of July was never settled
    late = rates.filter(pl.col("settled_ms") - pl.col("ts").dt.timestamp("ms") > 60_000)
    if end > 1_684_900_000_000:
        assert late["ts"].to_list() == [datetime(2023, 5, 23, 8, tzinfo=UTC)]  # stamped 08:23:53


@pytest.mark.parametrize("name", ["m2026_fundingHistory_BTC.json", "nautilus_funding_history.json"])
def test_funding_of_2026_is_read_with_and_without_its_premium(shared, name):
    _, sent = vector(shared, name)
    rates = reading(
        {"fundingHistory": json.dumps(sent).encode()},
        lambda client: client.funding("BTC", sent[0]["time"] // HOUR_MS * HOUR_MS, sent[-1]["time"]),
    )
    assert rates["premium"].to_list() == [float(row["premium"]) if "premium" in row else None for row in sent]
    assert rates["rate"].to_list() == [float(row["fundingRate"]) for row in sent]


@pytest.mark.parametrize(
    ("name", "count"),
    [("m2026_meta_first6.json", 6), ("nautilus_meta_perp_sample.json", 3), ("sdk_get_info_0_meta.json", 28)],
)
def test_universes_of_2023_and_2026_are_read_whatever_keys_they_have(shared, name, count):
    _, sent = vector(shared, name)
    entries = reading({"meta": json.dumps(sent).encode()}, lambda client: client.meta())
    assert len(entries) == count
    for entry, row in zip(entries, sent["universe"], strict=True):
        assert (entry.coin, entry.sz_decimals, entry.max_leverage) == (
            row["name"],
            row["szDecimals"],
            row["maxLeverage"],
        )
        assert entry.is_delisted is bool(row.get("isDelisted"))
        assert entry.margin_table == row.get("marginTableId")
    if count == 6:
        assert entries[3].coin == "MATIC"
        assert entries[3].is_delisted


def test_the_tape_of_the_info_test_is_one_universe(shared):
    [(request, body)] = cassette(shared, "test_get_info")
    assert request["type"] == "meta"
    entries = reading({"meta": body.encode()}, lambda client: client.meta())
    assert "kPEPE" in [entry.coin for entry in entries]


def test_perp_metas_of_other_collateral_are_universes_too(shared):
    path = shared / "data/payloads/hyperliquid/fixtures/http_all_perp_metas_non_usdc_collateral.json"
    for meta in json.loads(path.read_text()):
        names = [row["name"] for row in meta["universe"]]
        dex = names[0].partition(":")[0] if ":" in names[0] else ""
        entries = reading({"meta": json.dumps(meta).encode()}, lambda client, d=dex: client.meta(d))
        assert [entry.coin for entry in entries] == names


def test_answers_of_binance_are_read_as_they_were_sent(shared):
    sent = json.loads((shared / "vectors" / "binance" / "rest_samples.json").read_text())["responses"]
    bodies = {
        "exchangeInfo": json.dumps(sent["exchange_info"]).encode(),
        "ticker/bookTicker": json.dumps(sent["book_ticker"]).encode(),
        "fundingRate": json.dumps(sent["funding_rate"]).encode(),
    }
    start = sent["funding_rate"][0]["fundingTime"]

    async def use(client):
        rates = await client.funding_rates("BTCUSDT", start, start + 24 * HOUR_MS)
        return await client.exchange_info(), await client.book_ticker("BTCUSDT"), rates

    info, quote, rates = reading(bodies, use, client=BinanceClient)
    assert info.weight_per_minute == 6000  # of that day, and so it is read and not assumed
    assert [(c.symbol, c.tick_size, c.step_size, c.min_notional) for c in info.contracts] == [
        ("BTCUSDT", Decimal("0.10"), Decimal("0.001"), Decimal(10)),
        ("ETHUSDT", Decimal("0.01"), Decimal("0.001"), Decimal(10)),
    ]
    assert (quote.bid, quote.bid_size, quote.ask, quote.ask_size) == (4.0, 431.0, 4.000002, 9.0)
    assert rates.select("coin", "rate").rows() == [("BTC", -0.0375), ("BTC", 0.0001)]
    assert rates["ts"].diff().dt.total_hours()[1] == 8
