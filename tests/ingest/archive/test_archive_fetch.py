"""The documented script against a local S3 server: what it asks for, what it writes, and what it will not do twice."""

from __future__ import annotations

import json
import os
import queue
from pathlib import Path

import lz4.frame
import polars as pl
import pytest
from archive_server import HOUR_MS

from slipstream.ingest.archive.contexts import HEADER
from slipstream.ingest.archive.files import coins_with, file_stem
from slipstream.lake.datasets import ASSET_CONTEXTS, BARS, FILLS, MID_BARS
from slipstream.lake.store import Lake

OUT = Path("data/s3_historical")
DAY = ("--start", "2024-01-01", "--end", "2024-01-01")
DAY_MS = 1_704_067_200_000
NODE = "hl-mainnet-node-data"
BOOK_9 = "market_data/20240101/9/l2Book/BTC.lz4"


def hourly(coin: str) -> pl.DataFrame:
    return pl.read_csv(OUT / f"candles/hourly/{file_stem(coin)}_candles_1h.csv")


def states() -> list[dict]:
    return [json.loads(line) for line in (OUT / "progress/download_state.jsonl").read_text().splitlines()]


def everything_written() -> dict[str, bytes]:
    return {str(file): file.read_bytes() for file in sorted(OUT.rglob("*.csv"))}


def test_an_hour_of_books_becomes_one_bar_of_mids_in_the_file_and_in_the_lake(store, fetch):
    store.put_book("BTC", "20240101", 9, [100.0, 105.5, 98.25, 101.0])
    assert fetch(*DAY, "--coins", "BTC") == 0
    assert hourly("BTC").row(0, named=True) == {
        **{"datetime": "2024-01-01T09:00:00Z", "open": 100.0, "high": 105.5, "low": 98.25, "close": 101.0},
        **{"volume": None, "volume_usd": None, "known_at_ms": DAY_MS + 10 * HOUR_MS, "n_snapshots": 4},
    }
    kept = Lake.open("data/lake").read(MID_BARS).row(0, named=True)
    assert kept.pop("ts").isoformat() == "2024-01-01T09:00:00+00:00"
    assert kept == {"coin": "BTC", "open": 100.0, "high": 105.5, "low": 98.25, "close": 101.0, "n_snapshots": 4}


def test_hour_nine_is_fetched_and_hour_zero_nine_is_not(store, fetch):
    store.put_book("BTC", "20240101", 9, [100.0])
    store.put("market_data/20240101/09/l2Book/BTC.lz4", b"a trap")
    assert fetch(*DAY, "--coins", "BTC") == 0
    assert store.objects_fetched() == [BOOK_9]
    assert hourly("BTC").height == 1


def test_every_request_says_that_the_reader_pays(store, fetch):
    store.put_book("BTC", "20240101", 9, [100.0])
    fetch(*DAY, "--coins", "BTC")
    assert {payer for _, _, _, payer in store.asked} == {"requester"}


def test_the_estimate_counts_objects_and_bytes_and_fetches_nothing(store, fetch, capsys):
    store.put("market_data/20240101/9/l2Book/BTC.lz4", bytes(2_000_000))
    store.put("market_data/20240101/10/l2Book/BTC.lz4", bytes(1_000_000))
    store.put("market_data/20240101/10/l2Book/ETH.lz4", bytes(5_000_000))
    assert fetch(*DAY, "--coins", "BTC", "--estimate", "--json") == 0
    body = json.loads(capsys.readouterr().out)
    assert (body["estimate"]["objects"], body["estimate"]["bytes"]) == (2, 3_000_000)
    assert body["estimate"]["usd"] == pytest.approx(0.003 * 0.09, rel=0.05)
    assert store.objects_fetched() == []
    assert not list(OUT.rglob("*.csv"))


def test_the_price_is_said_before_the_first_byte_is_asked_for(store, fetch, capsys):
    said = []
    store.faults[BOOK_9] = lambda _: said.append(capsys.readouterr().out)
    store.put_book("BTC", "20240101", 9, [100.0])
    said.clear()
    fetch(*DAY, "--coins", "BTC")
    assert "1 objects" in said[0]
    assert "USD" in said[0]


def test_what_is_done_or_absent_is_not_asked_for_again(store, fetch):
    store.put_book("BTC", "20240101", 9, [100.0])
    fetch(*DAY, "--coins", "BTC")
    before = everything_written()
    store.put_book("BTC", "20240101", 10, [200.0])
    assert fetch(*DAY, "--coins", "BTC") == 0
    assert store.asked == []
    assert everything_written() == before
    assert fetch(*DAY, "--coins", "BTC", "--recheck-absent") == 0
    assert store.objects_fetched() == ["market_data/20240101/10/l2Book/BTC.lz4"]
    assert hourly("BTC")["close"].to_list() == [100.0, 200.0]


def test_an_object_that_vanishes_after_it_was_listed_is_absent(store, fetch):
    store.put_book("BTC", "20240101", 9, [100.0])
    body = b"<Error><Code>NoSuchKey</Code></Error>"
    store.faults[BOOK_9] = ("404 Not Found", body, [("Content-Type", "application/xml")])
    assert fetch(*DAY, "--coins", "BTC") == 0
    assert [line["state"] for line in states() if line["hour"] == 9] == ["absent"]


def test_the_state_file_of_another_hand_is_believed(store, fetch):
    store.put_book("BTC", "20240101", 9, [100.0])
    file = OUT / "progress/download_state.jsonl"
    file.parent.mkdir(parents=True)
    file.write_text('{"date":"20240101","hour":9,"coin":"BTC","state":"done"}\n')
    fetch(*DAY, "--coins", "BTC")
    assert store.objects_fetched() == []


def test_a_torn_last_line_of_the_state_file_is_cut_off_and_a_damaged_one_named(store, fetch, capsys):
    store.put_book("BTC", "20240101", 9, [100.0])
    fetch(*DAY, "--coins", "BTC")
    file = OUT / "progress/download_state.jsonl"
    whole = file.read_bytes()
    file.write_bytes(whole[:-9])
    assert fetch(*DAY, "--coins", "BTC") == 0
    assert sorted(file.read_bytes().splitlines()) == sorted(whole.splitlines())
    file.write_bytes(b"{}\n" + whole)
    assert fetch(*DAY, "--coins", "BTC") == 2
    assert "download_state.jsonl line 1" in capsys.readouterr().err


def test_rows_that_were_lost_are_fetched_again_and_the_lake_is_filled_from_the_files(store, fetch):
    import shutil

    store.put_book("BTC", "20240101", 9, [100.0])
    store.put_book("BTC", "20240101", 10, [101.0])
    fetch(*DAY, "--coins", "BTC")
    before = everything_written()
    file = OUT / "candles/hourly/BTC_candles_1h.csv"
    file.write_text("\n".join(file.read_text().splitlines()[:2]) + "\n")
    assert fetch(*DAY, "--coins", "BTC") == 0
    assert store.objects_fetched() == ["market_data/20240101/10/l2Book/BTC.lz4"]
    assert everything_written() == before
    shutil.rmtree("data/lake")
    assert fetch("--resample-only") == 0
    assert store.asked == []
    assert Lake.open("data/lake").read(MID_BARS)["close"].to_list() == [100.0, 101.0]


def test_refused_access_stops_at_once_and_says_so_without_the_secret(store, fetch, capsys):
    for hour in range(24):
        store.put_book("BTC", "20240101", hour, [100.0])
    body = b"<Error><Code>InvalidAccessKeyId</Code></Error>"
    refusal = ("403 Forbidden", body, [("Content-Type", "application/xml")])
    store.faults["/hyperliquid-archive"] = refusal
    assert fetch(*DAY, "--coins", "BTC") == 2
    said = capsys.readouterr()
    assert "403 InvalidAccessKeyId" in said.err
    assert "very-secret" not in said.err + said.out
    assert len(store.asked) == 1

    store.faults = {BOOK_9: refusal}
    assert fetch(*DAY, "--coins", "BTC", "--workers", "1") == 2
    assert BOOK_9 in capsys.readouterr().err
    assert len(store.objects_fetched()) < 16, "it went on"
    assert 9 not in {line["hour"] for line in states()}
    store.faults = {}
    assert fetch(*DAY, "--coins", "BTC") == 0
    assert hourly("BTC").height == 24


def test_a_bucket_of_another_region_is_named_with_its_region(store, fetch, capsys):
    body = b"<Error><Code>PermanentRedirect</Code><Message>Use the endpoint</Message></Error>"
    headers = [("Content-Type", "application/xml"), ("x-amz-bucket-region", "ap-northeast-1")]
    store.faults["/hyperliquid-archive"] = ("301 Moved Permanently", body, headers)
    assert fetch(*DAY, "--coins", "BTC") == 2
    said = capsys.readouterr().err
    assert "lies in region ap-northeast-1; the requests went to us-east-1" in said
    assert "--region ap-northeast-1" in said
    body = b"<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-west-2</Region></Error>"
    store.faults["/hyperliquid-archive"] = ("400 Bad Request", body, [("Content-Type", "application/xml")])
    assert fetch(*DAY, "--coins", "BTC") == 2
    assert "--region eu-west-2" in capsys.readouterr().err


def test_without_region_or_keys_the_error_says_what_to_do(store, fetch, capsys, monkeypatch):
    monkeypatch.delenv("AWS_REGION")
    assert fetch(*DAY, "--coins", "BTC") == 2
    assert "--region" in capsys.readouterr().err
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert fetch(*DAY, "--coins", "BTC", "--region", "us-east-1") == 2
    assert "aws configure" in capsys.readouterr().err
    assert store.asked == []


def test_what_aws_configure_wrote_is_enough(store, fetch, tmp_path, monkeypatch):
    for name in ("AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    folder = tmp_path / "home" / ".aws"
    folder.mkdir(parents=True)
    (folder / "config").write_text("[default]\nregion = us-east-1\n[profile work]\nregion = us-west-2\n")
    (folder / "credentials").write_text("[default]\naws_access_key_id = a\naws_secret_access_key = b%c\n")
    store.put_book("BTC", "20240101", 9, [100.0])
    assert fetch(*DAY, "--coins", "BTC") == 0
    assert hourly("BTC").height == 1


@pytest.mark.parametrize("damage", ["cut", "flipped", "line", "other-coin"])
def test_a_damaged_object_is_failed_named_and_fetched_again_when_it_is_whole(store, fetch, capsys, damage):
    for hour in (9, 10):
        store.put_book("BTC", "20240101", hour, [100.0 + hour])
    whole = bytes(store.bucket().get(BOOK_9).bytes())
    text = lz4.frame.decompress(whole)
    packed = bytearray(lz4.frame.compress(text, content_checksum=True))
    packed[len(packed) // 2] ^= 1
    store.put(
        BOOK_9,
        {
            "cut": whole[:-6],
            "flipped": bytes(packed),
            "line": lz4.frame.compress(text + text[:50]),
            "other-coin": lz4.frame.compress(text.replace(b"BTC", b"ETH")),
        }[damage],
    )
    assert fetch(*DAY, "--coins", "BTC") == 1
    assert f"s3://hyperliquid-archive/{BOOK_9}" in capsys.readouterr().err
    assert hourly("BTC")["close"].to_list() == [110.0]
    store.put(BOOK_9, whole)
    assert fetch(*DAY, "--coins", "BTC") == 0
    assert store.objects_fetched() == [BOOK_9]
    assert hourly("BTC")["close"].to_list() == [109.0, 110.0]


def test_a_body_torn_on_the_way_is_fetched_again(store, fetch):
    store.put_book("BTC", "20240101", 9, [100.0 + i / 7 for i in range(200)])
    whole = bytes(store.bucket().get(BOOK_9).bytes())
    torn = iter([1])

    def once(environ):
        if environ["REQUEST_METHOD"] == "GET" and next(torn, None):
            length = ("Content-Length", str(len(whole)))
            headers = [
                length,
                ("Last-Modified", "Mon, 01 Jan 2024 00:00:00 GMT"),
                ("ETag", '"x"'),
                ("Connection", "close"),
            ]
            return "200 OK", whole[:100], headers
        return None

    store.faults[BOOK_9] = once
    assert fetch(*DAY, "--coins", "BTC") == 0
    assert len(store.objects_fetched()) > 1
    assert hourly("BTC")["n_snapshots"].to_list() == [200]


def test_four_hour_bars_are_on_the_epoch_grid_and_say_what_they_cover(store, fetch):
    for hour, mids in {0: [1.0, 2.0], 1: [5.0], 3: [3.0, 4.0], 4: [9.0], 8: [7.0]}.items():
        store.put_book("BTC", "20240101", hour, mids)
    fetch(*DAY, "--coins", "BTC")
    bars = pl.read_csv(OUT / "candles/BTC_candles_4h.csv")
    assert bars.select("datetime", "open", "high", "low", "close", "hours").rows() == [
        ("2024-01-01T00:00:00Z", 1.0, 5.0, 1.0, 4.0, 3),
        ("2024-01-01T04:00:00Z", 9.0, 9.0, 9.0, 9.0, 1),
        ("2024-01-01T08:00:00Z", 7.0, 7.0, 7.0, 7.0, 1),
    ]
    assert bars["known_at_ms"].to_list() == [DAY_MS + hours * HOUR_MS for hours in (4, 8, 12)]
    assert bars["volume"].null_count() == 3
    before = everything_written()
    (OUT / "candles/BTC_candles_4h.csv").unlink()
    assert fetch("--resample-only") == 0
    assert everything_written() == before


def test_names_of_coins_keep_their_case_and_survive_file_names(store, fetch):
    for coin in ("kPEPE", "xyz:GOLD"):
        store.put_book(coin, "20240101", 9, [100.0])
    assert fetch(*DAY, "--coins", "kPEPE", "xyz:GOLD") == 0
    folder = OUT / "candles/hourly"
    assert sorted(file.name for file in folder.iterdir()) == ["kPEPE_candles_1h.csv", "xyz%3AGOLD_candles_1h.csv"]
    assert coins_with(folder, "_candles_1h.csv") == ["kPEPE", "xyz:GOLD"]
    assert Lake.open("data/lake").read(MID_BARS)["coin"].to_list() == ["kPEPE", "xyz:GOLD"]


def test_a_file_that_differs_in_case_alone_is_not_written(store, fetch, capsys):
    store.put_book("kPEPE", "20240101", 9, [100.0])
    folder = OUT / "candles/hourly"
    folder.mkdir(parents=True)
    (folder / "KPEPE_candles_1h.csv").write_text("someone else's")
    assert fetch(*DAY, "--coins", "kPEPE") == 3
    assert "differs in case alone" in capsys.readouterr().err


def test_a_damaged_csv_is_left_as_it_is(store, fetch, capsys):
    store.put_book("BTC", "20240101", 9, [100.0])
    file = OUT / "candles/hourly/BTC_candles_1h.csv"
    file.parent.mkdir(parents=True)
    file.write_text("datetime,open\n2024")
    assert fetch(*DAY, "--coins", "BTC") == 2
    assert "BTC_candles_1h.csv" in capsys.readouterr().err
    assert file.read_text() == "datetime,open\n2024"
    assert 9 not in {line["hour"] for line in states()}


def api_bars(coin: str, closes: dict[int, float]) -> None:
    rows = pl.DataFrame(
        {
            "coin": [coin] * len(closes),
            "ts": pl.Series([DAY_MS + hour * HOUR_MS for hour in closes])
            .cast(pl.Datetime("ms"))
            .dt.replace_time_zone("UTC"),
            **{name: list(closes.values()) for name in ("open", "high", "low", "close")},
            "volume": [1.0] * len(closes),
            "base_interval": ["1h"] * len(closes),
        }
    )
    Lake.open("data/lake", create=True).upsert(BARS, rows.select(BARS.names))


def test_coins_default_to_those_the_api_gave_candles_of(store, fetch, capsys):
    for coin in ("BTC", "ETH", "SOL"):
        store.put_book(coin, "20240101", 9, [100.0])
    assert fetch(*DAY) == 2
    assert "--coins" in capsys.readouterr().err
    folder = Path("data/market_data/4h")
    folder.mkdir(parents=True)
    (folder / "SOL_candles_4h.csv").write_text("datetime\n")
    fetch(*DAY, "--estimate")
    assert "1 objects to fetch" in capsys.readouterr().out
    api_bars("ETH", {9: 100.0})
    api_bars("BTC", {9: 100.0})
    assert fetch(*DAY) == 0
    assert coins_with(OUT / "candles/hourly", "_candles_1h.csv") == ["BTC", "ETH"]


def test_validation_measures_the_difference_and_is_strict_on_demand(store, fetch, capsys):
    for hour, mid in {8: 100.0, 9: 100.0, 10: 103.0, 11: 5.0}.items():
        store.put_book("BTC", "20240101", hour, [mid])
    api_bars("BTC", {8: 100.0, 9: 100.1, 10: 100.0})
    assert fetch(*DAY, "--coins", "BTC", "--validate", "--json") == 0
    found = json.loads(capsys.readouterr().out)["validation"][0]
    differs = [0.0, abs(100.0 / 100.1 - 1.0), 0.03]
    assert (found["n"], found["above"], found["worst_ms"]) == (3, 1, DAY_MS + 10 * HOUR_MS)
    assert found["mean"] == pytest.approx(sum(differs) / 3)
    assert found["max"] == pytest.approx(0.03)
    assert differs[1] < found["p99"] < 0.03
    assert fetch("--resample-only", "--validate", "--strict") == 1
    assert "WARNING: 1 above 1%" in capsys.readouterr().out
    api_bars("BTC", {10: 103.0})
    assert fetch("--resample-only", "--validate", "--strict") == 0


def test_contexts_go_to_the_lake_with_their_stamps_and_by_the_hour_to_files(store, fetch):
    rows = [
        f"2024-01-01T{hour:02d}:{minute:02d}:07.5Z,{coin},0.00001{hour},10,100,1000,,101,102,,,"
        for hour in (0, 1)
        for minute in (0, 59)
        for coin in ("BTC", "xyz:GOLD")
    ]
    body = lz4.frame.compress("\n".join([",".join(HEADER), *rows]).encode())
    store.put("asset_ctxs/20240101.csv.lz4", body)
    assert fetch("--start", "2024-01-01", "--end", "2024-01-02", "--datatype", "asset_ctxs") == 0
    assert store.objects_fetched() == ["asset_ctxs/20240101.csv.lz4"]
    held = Lake.open("data/lake").read(ASSET_CONTEXTS)
    assert held.height == 8
    assert held["ts"].dt.timestamp("ms")[0] == DAY_MS + 7500
    assert held["premium"].null_count() == 8
    hours = pl.read_csv(OUT / "asset_ctxs/xyz%3AGOLD_ctx_1h.csv")
    assert hours.select("datetime", "funding_ctx", "ctx_ms", "n_contexts", "known_at_ms").rows() == [
        ("2024-01-01T00:00:00Z", 0.00001, DAY_MS + 59 * 60_000 + 7500, 2, DAY_MS + HOUR_MS),
        ("2024-01-01T01:00:00Z", 0.000011, DAY_MS + HOUR_MS + 59 * 60_000 + 7500, 2, DAY_MS + 2 * HOUR_MS),
    ]
    assert [(line["date"], line["state"]) for line in states()] == [("20240102", "absent"), ("20240101", "done")]
    fetch("--start", "2024-01-01", "--end", "2024-01-02", "--datatype", "asset_ctxs")
    assert store.asked == []
    assert not list(Path("spool").iterdir())


def test_both_fetches_books_and_contexts_and_chosen_coins_alone_are_kept(store, fetch):
    store.put_book("BTC", "20240101", 9, [100.0])
    rows = [f"2024-01-01T00:01:00Z,{coin},0,10,100,1000,,101,102,,," for coin in ("BTC", "ETH")]
    store.put("asset_ctxs/20240101.csv.lz4", lz4.frame.compress("\n".join([",".join(HEADER), *rows]).encode()))
    assert fetch(*DAY, "--datatype", "both", "--coins", "BTC") == 0
    assert hourly("BTC").height == 1
    assert Lake.open("data/lake").read(ASSET_CONTEXTS)["coin"].to_list() == ["BTC"]
    assert fetch(*DAY, "--datatype", "asset_ctxs", "--coins", "ETH") == 0
    assert Lake.open("data/lake").read(ASSET_CONTEXTS)["coin"].to_list() == ["BTC", "ETH"]


OVERLAP_MS = 1_753_603_200_000  # 2025-07-27 08:00
FILL = {
    **{"coin": "ETH", "px": "2500.5", "sz": "0.4", "side": "B", "time": OVERLAP_MS - 5, "startPosition": "-1.0"},
    **{"dir": "Close Short", "closedPnl": "12.5", "hash": "0xab", "oid": 77, "crossed": True, "fee": "0.45", "tid": 99},
}
SOLD = {**FILL, "side": "A", "oid": 78, "crossed": False}


def put_fills(store) -> None:
    lines = [["0xAA", FILL], ["0xBB", SOLD]]
    store.put("node_fills/hourly/20250727/8.lz4", lz4.frame.compress("\n".join(map(json.dumps, lines)).encode()), NODE)
    block = {
        "local_time": "",
        "block_time": "",
        "block_number": 5,
        "events": [["0xaa", {**FILL, "deployerFee": "0.1"}], ["0xbb", SOLD]],
    }
    store.put("node_fills_by_block/hourly/20250727/8.lz4", lz4.frame.compress(json.dumps(block).encode()), NODE)


@pytest.mark.parametrize("order", [("node_fills", "node_fills_by_block"), ("node_fills_by_block", "node_fills")])
def test_fills_that_two_archives_hold_become_one_row_per_wallet(store, fetch, order):
    """The hour asked for is 07; the fills lie in the object of the hour in which they were processed."""
    put_fills(store)
    for datatype in order:
        assert fetch("--start", "2025-07-27T07:00", "--end", "2025-07-27T08:00", "--datatype", datatype) == 0
    rows = Lake.open("data/lake").read(FILLS)
    assert rows.select("user", "side", "block_number", "deployer_fee", "source").rows() == [
        ("0xaa", "B", 5, 0.1, "node_fills_by_block"),
        ("0xbb", "A", 5, None, "node_fills_by_block"),
    ]


def test_a_span_the_archive_does_not_cover_is_an_error_that_names_what_it_covers(store, fetch, capsys):
    assert fetch(*DAY, "--datatype", "node_trades") == 2
    assert "from 2025-03-22T10 to 2025-05-25T13" in capsys.readouterr().err
    assert fetch("--start", "2026-11-01T00:00", "--end", "2026-11-02", "--coins", "BTC") == 2
    assert fetch("--start", "2024-13-01", "--coins", "BTC") == 2
    assert fetch("--start", "2024-01-02", "--end", "2024-01-01", "--coins", "BTC") == 2
    assert fetch("--end", "2024-01-01") == 2


def test_an_output_folder_in_use_is_left_alone(store, fetch, capsys):
    from slipstream.ingest.archive.backfill import open_progress

    held = open_progress(OUT)
    assert fetch(*DAY, "--coins", "BTC") == 1
    assert "another process" in capsys.readouterr().err
    held.close()


def test_a_store_that_is_down_is_said_so_and_leaves_no_damage(store, fetch, capsys, monkeypatch):
    monkeypatch.setattr("slipstream.ingest.archive.backfill.RETRIES", 0)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert fetch(*DAY, "--coins", "BTC") == 1
    assert "http://127.0.0.1:9" in capsys.readouterr().err
    assert states() == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_an_error(store, fetch):
    OUT.mkdir(parents=True)
    OUT.chmod(0o500)
    assert fetch(*DAY, "--coins", "BTC") == 1


def test_what_a_dead_run_left_in_the_temporary_folder_is_cleared_and_a_living_one_is_not(store, fetch):
    from slipstream.ingest.archive.backfill import spool

    store.put_book("BTC", "20240101", 9, [100.0])
    dead = Path("spool/run-dead")
    dead.mkdir(parents=True)
    (dead / "lock").touch()
    (dead / "part.parquet").write_bytes(b"x")
    with spool(Path("spool")) as living:
        (dead / "lock").parent.mkdir(exist_ok=True)
        assert fetch(*DAY, "--coins", "BTC") == 0
        assert not dead.joinpath("part.parquet").exists()
        assert living.is_dir()


def test_hours_that_have_not_ended_are_not_asked_for_and_an_end_day_is_included(store, fetch):
    """The present is 2026-11-01 00:00."""
    for day, hour in (("20261030", 23), ("20261031", 22), ("20261031", 23), ("20261101", 0)):
        store.put_book("BTC", day, hour, [100.0])
    assert fetch("--start", "2026-10-31T22:00", "--end", "2026-11-02", "--coins", "BTC") == 0
    assert sorted(store.objects_fetched()) == [f"market_data/20261031/{hour}/l2Book/BTC.lz4" for hour in (22, 23)]
    assert fetch("--start", "2026-10-30", "--end", "2026-10-30", "--coins", "BTC") == 0
    assert store.objects_fetched() == ["market_data/20261030/23/l2Book/BTC.lz4"]


def test_a_fault_in_a_worker_ends_the_run_and_does_not_hang_it(monkeypatch):
    from slipstream.ingest.archive.crew import Crew

    seen: queue.SimpleQueue[type] = queue.SimpleQueue()
    monkeypatch.setattr("threading.excepthook", lambda fault: seen.put(fault.exc_type))
    crew: Crew[int, int] = Crew(lambda task: 1 // task, 1)
    crew.give(1)
    crew.give(0)
    assert crew.take(5.0) == 1
    with pytest.raises(RuntimeError, match="a worker died"):
        crew.take(5.0)
    assert seen.get(timeout=5.0) is ZeroDivisionError
    crew.dismiss()
    assert crew.take(0.0) is None
