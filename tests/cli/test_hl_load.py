"""``hl-load`` as a user meets it: real processes and real sockets, what it prints, what it leaves, how it ends."""

from __future__ import annotations

import asyncio
import csv
import hashlib
import json
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from slipstream.cli.errors import run
from slipstream.cli.load import app
from slipstream.cli.main import app as slipstream
from slipstream.lake.datasets import BARS
from slipstream.lake.lake_check import check_path
from slipstream.lake.store import Lake
from venue_process import VenueProcess, venue_process
from venues.local_faults import Fault, Status, of_kind
from venues.local_market import small_market
from venues.local_venue import LocalVenue

NOW = 1_748_781_296_000  # 2025-06-01 12:34:56 UTC
DAY_MS = 86_400_000
COMMAND = Path(sys.executable).with_name("hl-load")
FAST = ("--weight-per-minute", "1000000")


@pytest.fixture(scope="module")
def venue() -> Iterator[VenueProcess]:
    with venue_process(now="2025-06-01T12:34:56", days=60, coins=6) as started:
        yield started


@pytest.fixture
def load(venue, tmp_path, monkeypatch, capsys):
    """Run hl-load in this process, in a folder of its own: (exit code, standard output, standard error)."""
    monkeypatch.chdir(tmp_path)
    venue.move_to(NOW)

    def call(*words: object, url: str = venue.url) -> tuple[int, str, str]:
        code = run(app, [*map(str, words), "--base-url", url, *FAST])
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return code, said.out, said.err

    return call


def hl_load(venue: VenueProcess, folder: Path, *words: object, **options) -> subprocess.CompletedProcess[str]:
    """The real command in a process of its own."""
    return subprocess.run(
        [COMMAND, *map(str, words), "--base-url", venue.url],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=100,
        **options,
    )


@contextmanager
def venue_with(*faults: Fault) -> Iterator[LocalVenue]:
    """A venue in a thread of this process, to script its faults."""
    started, loop = threading.Event(), asyncio.new_event_loop()
    venue = LocalVenue(NOW, market=small_market(NOW, 60, 3), faults=faults, weight_limit=None)
    stop = asyncio.Event()

    async def serve() -> None:
        async with venue:
            started.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    assert started.wait(30)
    try:
        yield venue
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(30)
        loop.close()


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream))


def contents(folder: Path) -> dict[str, str]:
    files = (file for file in sorted(folder.rglob("*")) if file.is_file())
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def held(folder: Path) -> dict[str, int]:
    lake = Lake.open(folder / "data/lake", create=True)
    return dict(lake.read(BARS).group_by("coin").len().iter_rows())


def no_errors(folder: Path) -> bool:
    return not [finding for finding in check_path(folder / "data/lake") if finding.grade == "error"]


def test_without_a_coin_the_live_markets_are_listed_by_dex(load, tmp_path):
    code, out, _ = load()
    assert code == 0
    assert out.splitlines()[:4] == [
        "(default): 5 markets",
        "  BTC ETH kPEPE NEWT RLB",
        "xyz: 2 markets",
        "  xyz:GOLD xyz:TSLA",
    ]
    assert json.loads(load("--json")[1]) == {
        "(default)": ["BTC", "ETH", "kPEPE", "NEWT", "RLB"],
        "xyz": ["xyz:GOLD", "xyz:TSLA"],
    }
    assert "MATIC" in load("--include-delisted")[1]
    assert load("--dex", "(default)")[1].startswith("(default): 5 markets\n  BTC ETH kPEPE NEWT RLB\nload")
    assert list(tmp_path.iterdir()) == [], "a list leaves no file"


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("KPEPE", "kPEPE"), ("btc", "BTC"), ("PEPE", "kPEPE"), ("XYZ:gold", "xyz:GOLD"), ("gold", "xyz:GOLD")],
)
def test_an_unknown_coin_ends_with_near_names_and_asks_for_no_candle(load, venue, tmp_path, typed, meant):
    before = venue.requests()
    code, out, err = load("--coin", "BTC", "--coin", typed)
    assert (code, out) == (2, "")
    assert f"--coin {typed}: the venue has no such market; did you mean {meant}?" in err
    assert venue.requests() - before == 3
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--all", "--days", "0"), "--days 0: at least 1"),
        (("--all", "--coin", "BTC"), "--coin and --all"),
        (("--all", "--start", "yesterday"), "--start yesterday: write an ISO 8601 time"),
        (("--all", "--start", "2025-05-01", "--end", "2025-04-01"), "nothing to load"),
        (("--all", "--start", "2026-05-01"), "nothing to load"),
        (("--all", "--interval", "2h"), "2h"),
        (("--all", "--dex", "nope"), "--dex nope: the venue has (default), xyz"),
        (("--coin", "SOLANA"), "run hl-load without --coin for a list"),
    ],
)
def test_a_request_that_cannot_be_used_ends_with_one_line_and_code_2(load, tmp_path, words, complaint):
    code, out, err = load(*words)
    assert (code, out) == (2, "")
    assert complaint in err.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("weight", [0, 50, 1201])
def test_no_more_than_the_venues_weight_is_used_and_no_less_than_one_request(monkeypatch, tmp_path, capsys, weight):
    """Nothing is sent: the address would not answer."""
    monkeypatch.chdir(tmp_path)
    assert run(app, ["--all", "--weight-per-minute", str(weight), "--base-url", "http://venue.invalid"]) == 2
    assert (
        f"--weight-per-minute {weight}: from 104, the weight of one request, to the venue's 1200"
        in capsys.readouterr().err
    )


def test_a_dry_run_tells_requests_weight_and_time_and_fetches_no_candle(load, venue, tmp_path):
    before = venue.requests()
    code, out, _ = load("--coin", "BTC", "--coin", "ETH", "--days", "50", "--dry-run")
    assert code == 0
    assert venue.requests() - before == 3, "the dexs and their markets"
    assert "asked for: bars of 4h from 2025-04-12 12:00 to 2025-06-01 12:00 UTC" in out
    assert "BTC: held nothing" in out
    assert "2 of 2 coins have something missing: about 8 requests, weight 322, 0 s at 1,000,000 a minute" in out
    assert re.search(r"BTC\D+4\D+161\D", out)
    assert out.endswith("dry run: nothing was fetched\n")
    told = json.loads(load("--all", "--days", "180", "--dry-run", "--json")[1])
    assert (told["requests"], told["weight"]) == (7 * 10, 7 * 489)
    assert told["coins"]["kPEPE"] == {"requests": 10, "weight": 489}
    assert list(tmp_path.iterdir()) == []


def test_a_load_prints_what_was_held_and_a_line_per_coin_and_writes_lake_and_files(venue, tmp_path):
    venue.move_to(NOW)
    done = hl_load(venue, tmp_path, "--all", "--days", "20", *FAST)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[1:3] == ["BTC: held nothing", "ETH: held nothing"]
    assert "BTC: 1h 0 -> 480 bars, nothing -> 2025-05-12 12:00 to 2025-06-01 11:00; funding 0 -> 481" in lines
    assert any(line.startswith("xyz:GOLD: 1h 0 -> 480 bars") for line in lines)
    assert re.fullmatch(
        r"data/lake: 7 coins, \d+ requests, 0 repeated, weight [\d,]+; files in data/market_data", lines[-1]
    )
    assert len(done.stderr.splitlines()) <= 1, "the clocks' difference is said once"
    folder = tmp_path / "data/market_data"
    names = {file.name for file in (folder / "4h").iterdir()}
    for coin in ("BTC", "kPEPE", "xyz%3AGOLD"):
        assert {f"{coin}_{kind}_4h.csv" for kind in ("candles", "funding", "merged")} <= names
    assert (folder / "4h/manifest.json").is_file()
    wide = rows(folder / "log_returns_4h.csv")
    assert list(wide[0]) == ["known_at", *sorted(["BTC", "ETH", "kPEPE", "NEWT", "RLB", "xyz:GOLD", "xyz:TSLA"])]
    assert wide[-1]["known_at"].startswith("2025-06-01T12:00")
    universe = {row["coin"]: row for row in rows(folder / "universe.csv")}
    assert universe["xyz:GOLD"]["dex"] == "xyz"
    assert (universe["kPEPE"]["sz_decimals"], universe["NEWT"]["only_isolated"]) == ("0", "true")
    assert "MATIC" not in universe
    assert no_errors(tmp_path)


def test_the_forming_bar_is_in_no_file(load, venue, tmp_path):
    venue.move_to(NOW + 20 * 60_000)
    load("--coin", "BTC", "--days", "3", "--interval", "1h")
    last = rows(tmp_path / "data/market_data/1h/BTC_candles_1h.csv")[-1]
    assert last["datetime"].startswith("2025-06-01T11:00")
    venue.move_to(NOW + 26 * 60_000)
    load("--coin", "BTC", "--days", "3", "--interval", "1h")
    last = rows(tmp_path / "data/market_data/1h/BTC_candles_1h.csv")[-1]
    assert last["datetime"].startswith("2025-06-01T12:00")


def test_json_is_one_document_and_nothing_else(load):
    code, out, _ = load("--coin", "BTC", "--coin", "NEWT", "--days", "40", "--json")
    body = json.loads(out)
    assert code == 0
    assert body["coins"]["BTC"]["bars"]["1h"] | {"first_ms": None} == {
        "before": 0,
        "after": 960,
        "first_ms": None,
        "last_ms": NOW - NOW % 3_600_000 - 3_600_000,
    }
    assert body["coins"]["NEWT"]["settlements"] == {"before": 0, "after": 720}
    assert (body["failed"], body["refused"], body["not_exported"], body["retries"]) == ({}, {}, {}, 0)
    again = json.loads(load("--coin", "BTC", "--json", "--days", "40")[1])
    assert again["coins"]["BTC"]["bars"]["1h"]["before"] == 960
    assert again["requests"] == 4, "dexs, two lists of markets, contexts: no candle, no funding"


def test_a_short_refresh_leaves_every_earlier_return_as_it_was(load, venue, tmp_path):
    load("--all", "--days", "30")
    files = sorted((tmp_path / "data/market_data/4h").glob("*_merged_4h.csv"))
    before = {file: rows(file) for file in files}
    wide = rows(tmp_path / "data/market_data/log_returns_4h.csv")
    venue.move_to(NOW + 2 * DAY_MS)
    code, out, _ = load("--all", "--days", "7")
    assert code == 0
    assert "BTC: held 2025-05-27 12:00 to 2025-06-01 11:00" in out
    assert len(files) == 7
    for file in files:
        after = rows(file)
        assert after[: len(before[file])] == before[file], file.name
        assert len(after) == len(before[file]) + 12, file.name
        assert sum(row["ret"] == "" for row in after) == 1, "only the very first bar has no return"
    assert rows(tmp_path / "data/market_data/log_returns_4h.csv")[: len(wide)] == wide
    assert not list((tmp_path / "data/market_data").rglob("_backup/*")), "nothing held was changed"


def test_loading_one_coin_leaves_the_other_columns_and_files_alone(load, venue, tmp_path):
    load("--all", "--days", "10")
    venue.move_to(NOW + DAY_MS)
    before = contents(tmp_path / "data/market_data/4h")
    load("--coin", "kPEPE", "--days", "3")
    after = contents(tmp_path / "data/market_data/4h")
    changed = {name for name in after if after[name] != before.get(name)}
    assert changed == {*(f"kPEPE_{kind}_4h.csv" for kind in ("candles", "funding", "merged")), "manifest.json"}
    wide = rows(tmp_path / "data/market_data/log_returns_4h.csv")
    assert set(wide[-1]) == {"known_at", "BTC", "ETH", "kPEPE", "NEWT", "RLB", "xyz:GOLD", "xyz:TSLA"}
    assert (wide[-1]["BTC"], wide[-1]["kPEPE"] != "") == ("", True)
    assert wide[-7]["BTC"] != ""


def test_a_second_loader_leaves_with_a_message_and_asks_for_nothing(load, venue, tmp_path):
    with Lake.open(tmp_path / "data/lake", create=True).lock():
        before = venue.requests()
        done = hl_load(venue, tmp_path, "--all", "--days", "5", *FAST)
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1] == (
            "error: data/lake: another process is loading into this lake; try again when it is done"
        )
        assert done.stdout == ""
        assert venue.requests() - before == 3
        assert load("--all", "--days", "5", "--dry-run")[0] == 0, "a dry run writes nothing and may look"
    assert load("--coin", "BTC", "--days", "5")[0] == 0


def test_a_start_beyond_the_venues_reach_is_said(load):
    out = load("--coin", "BTC", "--start", "2024-06-01", "--dry-run")[1]
    assert "the venue keeps 1h bars since 2024-11-05 05:00 UTC only; before that come bars of 4h" in out
    out = load("--coin", "BTC", "--start", "2024-06-01", "--interval", "1h", "--dry-run")[1]
    assert "the venue keeps 1h bars since 2024-11-05 05:00 UTC only\n" in out


def test_a_refetch_mends_what_check_names_and_says_how_much_was_corrected(load, tmp_path):
    """A day of prices in another unit: a plain load asks for nothing, a refetch puts them right and keeps a backup."""
    load("--coin", "BTC", "--coin", "ETH", "--days", "10")
    lake = Lake.open(tmp_path / "data/lake")
    right = lake.read(BARS)
    day = (pl.col("coin") == "BTC") & pl.col("ts").dt.day().eq(28)
    prices = ("open", "high", "low", "close")
    lake.upsert(
        BARS, right.with_columns(pl.when(day).then(pl.col(name) * 1000).otherwise(name).alias(name) for name in prices)
    )
    assert not no_errors(tmp_path)
    wrong = {file.read_bytes() for file in (tmp_path / "data/lake/bars").rglob("*.parquet")}
    load("--coin", "BTC", "--days", "10")
    assert not no_errors(tmp_path)

    code, out, _ = load("--coin", "BTC", "--refetch", "--start", "2025-05-25", "--dry-run")
    assert code == 0
    assert "1 of 1 coins are asked for again, whatever is held: about 2 requests, weight 53, " in out
    assert not no_errors(tmp_path), "a dry run mends nothing"
    code, out, _ = load("--coin", "BTC", "--refetch", "--start", "2025-05-25")
    assert code == 0
    (line,) = [line for line in out.splitlines() if line.startswith("BTC: 1h")]
    assert line.startswith("BTC: 1h 180 -> 180 bars")
    assert line.endswith(", 24 corrected")
    assert lake.read(BARS).equals(right)
    assert no_errors(tmp_path)
    assert wrong & {file.read_bytes() for file in (tmp_path / "data/lake/_backup/bars").rglob("*.parquet")}
    body = json.loads(load("--coin", "BTC", "--refetch", "--days", "5", "--json")[1])
    assert body["coins"]["BTC"]["corrected"] == 0


def test_a_refetch_says_that_hours_beyond_the_venues_reach_stay_as_they_are(load, venue, tmp_path):
    load("--coin", "BTC", "--days", "10")
    said = "1h bars held from before that cannot be asked for again and stay as they are"
    assert said not in load("--coin", "BTC", "--refetch", "--days", "300", "--dry-run")[1]
    venue.move_to(NOW + 215 * DAY_MS)
    assert said in load("--coin", "BTC", "--refetch", "--days", "300", "--dry-run")[1]
    assert said not in load("--coin", "BTC", "--days", "300", "--dry-run")[1]


@pytest.mark.parametrize(
    "words",
    [
        ("--days", "1000000000"),
        ("--days", "9" * 40),
        ("--days", "9999999"),
        ("--start", "0001-01-01"),
        ("--start", "0001-01-01T00:00+14:00"),
        ("--start", "2022-12-31T23:59"),
    ],
)
def test_a_start_before_the_venue_began_is_its_beginning_and_said(load, words):
    plain = json.loads(load("--coin", "BTC", "--start", "2023-01-01", "--dry-run", "--json")[1])
    code, out, _ = load("--coin", "BTC", *words, "--dry-run")
    assert code == 0
    assert out.startswith(
        "nothing is older than 2023-01-01 UTC, when the venue began: the load starts there\n"
        "asked for: bars of 4h from 2023-01-01 00:00 to 2025-06-01 12:00 UTC\n"
    )
    assert json.loads(load("--coin", "BTC", *words, "--dry-run", "--json")[1]) == plain
    assert plain["coins"]["BTC"]["requests"] == 2 + 43, "hours, 4 h bars, pages of funding"
    assert "nothing is older" not in load("--coin", "BTC", "--start", "2023-01-01", "--dry-run")[1]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--end", "2022-12-31"), "the end lies before the venue began, 2023-01-01 UTC; nothing to load"),
        (("--end", "0001-01-01", "--start", "0001-01-01"), "the end lies before the venue began, 2023-01-01 UTC; "),
        (("--start", "9999-12-31"), "the start lies at or after the end; nothing to load"),
        (("--days", "0"), "--days 0: at least 1"),
        (("--days", "-1000000000"), "--days -1000000000: at least 1"),
    ],
)
def test_a_range_that_cannot_hold_anything_is_one_line(load, words, why):
    code, out, err = load("--coin", "BTC", *words, "--dry-run")
    assert (code, out) == (2, "")
    assert err.splitlines()[-1].startswith(f"error: {why}")


def test_binance_is_loaded_from_its_beginning_at_the_earliest_and_mended_by_a_refetch(
    venue, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    venue.move_to(NOW)

    def load(*words: str) -> str:
        assert run(slipstream, ["data", "binance", "--coins", "BTC", "--base-url", venue.url, *words]) == 0
        return capsys.readouterr().out

    said = load("--start", "0001-01-01", "--end", "2019-09-02")
    assert said.startswith(
        "nothing is older than 2019-09-01 UTC, when the venue began: the load starts there\nabout 2 requ"
    )
    load("--days", "5")
    lake = Lake.open(tmp_path / "data/binance_lake")
    right = lake.read(BARS)
    lake.upsert(BARS, right.with_columns(pl.col("high") * 1000))
    assert "corrected" not in load("--days", "5")
    assert f"BTC: {right.height} -> {right.height} bars" in (told := load("--days", "5", "--refetch"))
    assert f", {right.height} corrected\n" in told
    assert lake.read(BARS).equals(right)
    assert list((tmp_path / "data/binance_lake/_backup/bars").rglob("*.parquet"))
    assert json.loads(load("--days", "5", "--refetch", "--json"))["coins"]["BTC"]["corrected"] == 0


def test_start_and_end_are_utc_and_name_opens(load, tmp_path):
    load("--coin", "BTC", "--start", "2025-05-20", "--end", "2025-05-21T08:59+01:00", "--interval", "1h")
    candles = rows(tmp_path / "data/market_data/1h/BTC_candles_1h.csv")
    assert candles[0]["datetime"].startswith("2025-05-20T00:00")
    assert candles[-1]["datetime"].startswith("2025-05-21T06:00"), "the end is floored to the hour"
    assert len(candles) == 31


def test_one_dex_can_be_loaded_alone(load, tmp_path):
    assert load("--all", "--dex", "xyz", "--days", "5")[0] == 0
    assert set(held(tmp_path)) == {"xyz:GOLD", "xyz:TSLA"}


def test_delisted_markets_are_loaded_when_asked_for(load, tmp_path):
    assert load("--all", "--days", "50", "--include-delisted", "--no-export")[0] == 0
    assert held(tmp_path)["MATIC"] == 240
    assert not (tmp_path / "data/market_data").exists()
    assert load("--coin", "MATIC", "--days", "50")[0] == 0
    universe = {row["coin"]: row for row in rows(tmp_path / "data/market_data/universe.csv")}
    assert universe["MATIC"]["is_delisted"] == "true"


def test_the_lake_and_the_files_lie_where_a_user_wants_them(load, tmp_path):
    assert load("--coin", "BTC", "--days", "3", "--out-prefix", "here")[0] == 0
    assert (tmp_path / "here/market_data/4h/BTC_merged_4h.csv").is_file()
    assert load("--coin", "ETH", "--days", "3", "--out-prefix", "here", "--lake", "there")[0] == 0
    assert Lake.open(tmp_path / "there").read(BARS)["coin"].unique().to_list() == ["ETH"]
    assert Lake.open(tmp_path / "here/lake").read(BARS)["coin"].unique().to_list() == ["BTC"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here", "there"]


def test_slipstream_data_pull_is_the_same_command(venue, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    venue.move_to(NOW)
    assert run(slipstream, ["data", "pull", "--coin", "ETH", "--days", "3", "--base-url", venue.url, *FAST]) == 0
    assert "ETH: 1h 0 -> 72 bars" in capsys.readouterr().out
    assert run(slipstream, ["data", "export", "--interval", "1h"]) == 0
    assert len(rows(tmp_path / "data/market_data/1h/ETH_candles_1h.csv")) == 72


def test_a_coin_that_fails_is_named_and_the_exit_code_is_1(load, tmp_path):
    with venue_with(Fault(of_kind("candleSnapshot", coin="ETH"), Status(403, b"not today"), times=99)) as here:
        code, out, _ = load("--all", "--dex", "(default)", "--days", "5", url=here.url)
        assert code == 1
        (line,) = [line for line in out.splitlines() if line.startswith("failed")]
        assert line.startswith("failed: ETH: candleSnapshot ETH 1h from 2025-05-27T12:00:00Z")
        assert "HTTP 403: not today" in line
        assert out.endswith("run the same command again: only what is missing is asked for\n")
        assert held(tmp_path) == {"BTC": 120, "kPEPE": 120}
        assert not (tmp_path / "data/market_data/4h/ETH_candles_4h.csv").exists()
        here.faults.clear()
        assert load("--all", "--dex", "(default)", "--days", "5", url=here.url)[0] == 0
    assert held(tmp_path) == {"BTC": 120, "kPEPE": 120, "ETH": 120}


def test_a_load_in_which_every_coin_fails_still_says_so(load, tmp_path):
    with venue_with(Fault(of_kind("candleSnapshot"), Status(403), times=99)) as here:
        code, out, err = load("--all", "--dex", "(default)", "--days", "5", url=here.url)
    assert code == 1
    assert [line.split(":")[1] for line in out.splitlines() if line.startswith("failed")] == [" BTC", " ETH", " kPEPE"]
    assert "error" not in err
    assert not (tmp_path / "data/market_data").exists()


def damage_lake(folder: Path, dataset=BARS) -> Path:
    lake = Lake.open(folder / "data/lake")
    file = lake.place.folder / dataset.name / lake.parts(dataset)[0].path
    body = bytearray(file.read_bytes())
    body[len(body) // 2] ^= 1
    file.write_bytes(body)
    return file


def test_a_damaged_lake_is_left_alone_and_the_coins_are_refused_with_code_3(load, venue, tmp_path):
    """A month that must be merged into cannot be trusted: its coins are refused, and named with the reason."""
    load("--all", "--days", "20")
    file = damage_lake(tmp_path)
    lake = contents(tmp_path / "data/lake/bars")
    csvs = contents(tmp_path / "data/market_data")
    code, out, err = load("--coin", "BTC", "--days", "25")
    assert code == 3
    assert "Traceback" not in err
    (line,) = [line for line in out.splitlines() if line.startswith("refused: BTC")]
    assert f"{file.name}: the file differs from its checksum; nothing of this coin was written" in line
    (line,) = [line for line in out.splitlines() if line.startswith("not exported: data/market_data")]
    assert file.name in line
    assert contents(tmp_path / "data/lake/bars") == lake
    assert contents(tmp_path / "data/market_data") == csvs
    assert any(finding.fault == "checksum" for finding in check_path(tmp_path / "data/lake"))


def test_a_damaged_csv_file_is_left_alone_and_the_lake_is_loaded_all_the_same(load, venue, tmp_path):
    load("--coin", "BTC", "--coin", "ETH", "--days", "10")
    file = tmp_path / "data/market_data/4h/BTC_candles_4h.csv"
    file.write_text(file.read_text().replace("2025-05-25", "2025-05-99", 1))
    broken = file.read_bytes()
    venue.move_to(NOW + DAY_MS)
    code, out, _ = load("--coin", "BTC", "--coin", "ETH", "--days", "3")
    assert code == 3
    (line,) = [line for line in out.splitlines() if line.startswith("not exported")]
    assert line.startswith("not exported: BTC: ")
    assert file.name in line
    assert file.read_bytes() == broken
    assert held(tmp_path) == {"BTC": 264, "ETH": 264}
    assert rows(tmp_path / "data/market_data/4h/ETH_candles_4h.csv")[-1]["datetime"].startswith("2025-06-02T08:00")


def test_a_damaged_table_of_contexts_is_a_refusal_and_not_passed_over(load, venue, tmp_path):
    from slipstream.lake.datasets import ASSET_CONTEXTS

    load("--coin", "BTC", "--days", "3")
    damage_lake(tmp_path, ASSET_CONTEXTS)
    venue.move_to(NOW + 3_600_000)
    code, out, _ = load("--coin", "BTC", "--days", "3")
    assert code == 3
    assert re.search(r"refused: BTC: asset_contexts/date=2025-06-01/.*differs from its checksum", out)
    assert held(tmp_path) == {"BTC": 73}, "its bars are whole and were loaded"


def test_a_folder_that_cannot_be_made_is_one_line(load, tmp_path):
    (tmp_path / "file").touch()
    code, out, err = load("--coin", "BTC", "--days", "3", "--out-prefix", "file/data")
    assert (code, out) == (1, "")
    assert len(err.splitlines()) <= 2
    assert "file/data/lake: the lake could not be locked" in err


def test_a_folder_that_is_no_lake_is_not_written_into(load, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/cat.jpg").touch()
    code, _, err = load("--coin", "BTC", "--days", "3", "--lake", "photos")
    assert code == 2
    assert "photos: is no lake and holds cat.jpg" in err
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["cat.jpg"]


def test_a_disk_that_is_full_is_one_line_and_the_lake_stays_whole(load, venue, tmp_path):
    """No file may grow beyond a few kilobytes, so parts of bars are refused where small ones are not."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (9_000, 9_000))

    done = hl_load(venue, tmp_path, "--coin", "BTC", "--coin", "ETH", "--days", "30", *FAST, preexec_fn=limit)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error")]
    assert line.startswith("error: data/lake: the lake could not be written")
    assert no_errors(tmp_path)
    assert held(tmp_path) == {}
    assert load("--coin", "BTC", "--coin", "ETH", "--days", "30")[0] == 0
    assert held(tmp_path) == {"BTC": 720, "ETH": 720}


def test_ctrl_c_commits_what_has_come_and_the_next_run_goes_on(load, venue, tmp_path):
    """The weight of a minute pays for the lists (80), four pages of bars (88) and two of funding (48)."""
    words = ["--coin", "BTC", "--coin", "ETH", "--coin", "kPEPE", "--coin", "RLB", "--days", "3"]
    before = venue.requests()
    loader = subprocess.Popen(
        [COMMAND, *words, "--base-url", venue.url, "--weight-per-minute", "225"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    until = time.monotonic() + 50
    while venue.requests() - before < 10:
        assert time.monotonic() < until
        assert loader.poll() is None
        time.sleep(0.05)
    time.sleep(0.3)  # for the last answer to be read
    loader.send_signal(signal.SIGINT)
    _, err = loader.communicate(timeout=60)
    assert (loader.returncode, err.splitlines()[-1]) == (130, "interrupted")
    came = held(tmp_path)
    assert list(came.values()) == [72, 72]
    assert no_errors(tmp_path)
    body = json.loads(load(*words, "--json")[1])
    assert {coin for coin, entry in body["coins"].items() if entry["bars"]["1h"]["before"]} == set(came)
    assert held(tmp_path) == dict.fromkeys(("BTC", "ETH", "kPEPE", "RLB"), 72)


def test_on_a_terminal_the_load_its_coins_and_the_time_left_are_shown(load, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    code, out, err = load("--coin", "BTC", "--coin", "RLB", "--days", "12")
    assert code == 0
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", err)
    assert re.search(r"all .*\d+/\d+ +weight +\d+:\d\d:\d\d", shown)
    assert "RLB: 1h 0 -> 288 bars" in out
    assert "weight" not in load("--coin", "BTC", "--days", "20", "--json")[2], "programs are not shown any"


def test_help_names_every_flag_of_the_specification(capsys):
    assert run(app, ["--help"]) == 0
    said = capsys.readouterr().out
    for flag in (
        *("--coin", "--all", "--dex", "--interval", "--days", "--start", "--end", "--out-prefix"),
        *("--include-delisted", "--base-url", "--dry-run", "--trust-files", "--lake", "--json", "--refetch"),
    ):
        assert flag in said


def test_the_printed_moments_are_utc(load, monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        out = load("--coin", "BTC", "--days", "2", "--dry-run")[1]
    finally:
        monkeypatch.delenv("TZ")
        time.tzset()
    moment = datetime.fromtimestamp((NOW - NOW % 3_600_000) / 1000, UTC)
    assert f"to {moment:%Y-%m-%d %H:%M} UTC" in out
