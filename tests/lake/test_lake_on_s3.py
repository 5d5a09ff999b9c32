"""The same lake in an object store: a local S3-compatible server, spoken to by the same code through ``s3://`` URLs."""

from __future__ import annotations

import json
import logging
import os
import urllib.request
from collections.abc import Iterator

import numpy as np
import polars as pl
import pytest
from lake_samples import NOW_MS, SPRING, bars_of, contents, quotes
from moto.server import ThreadedMotoServer
from test_lake_writers import Interrupted, raced, volume_is

from slipstream.cli.errors import run
from slipstream.cli.main import app
from slipstream.errors import DataError, SlipstreamError
from slipstream.lake import load_panel
from slipstream.lake.datasets import BARS, FUNDING, QUOTES
from slipstream.lake.lake_check import check_path
from slipstream.lake.panel_import import import_frame
from slipstream.lake.repair import repair
from slipstream.lake.store import Lake
from slipstream.lake.upkeep import compact, vacuum


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of a server on this machine that begins empty."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # it would log every request to standard error
    moto = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    yield f"http://{host}:{port}"
    moto.stop()


@pytest.fixture
def bucket(server, monkeypatch) -> str:
    """The URL of a prefix in a new bucket; credentials and address stand in the environment, as a user's would."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    asked(f"{server}/moto-api/reset", "POST")
    asked(f"{server}/market", "PUT")
    return "s3://market/deep/lake"


def asked(url: str, method: str, body: bytes | None = None) -> bytes:
    with urllib.request.urlopen(urllib.request.Request(url, data=body, method=method)) as answer:
        return answer.read()


@pytest.fixture
def panel(make_candles):
    return make_candles(("BTC", "ETH"), hours=96, start=SPRING)


@pytest.fixture
def lake(bucket, panel):
    lake = Lake.open(bucket, create=True)
    import_frame(panel, lake)
    return lake


def test_what_is_written_there_is_what_is_read(lake, panel):
    assert lake.read(BARS).equals(bars_of(panel))
    assert lake.read(FUNDING).height == 192
    held = lake.place.names("bars")
    assert sum(name.endswith(".parquet") for name in held) == 2
    assert "bars/_delta_log/00000000000000000001.json" in held


def test_a_panel_there_is_the_panel_of_the_same_rows_here(lake, panel, lake_of):
    here, there = load_panel(lake_of(panel).place.url), load_panel(lake.place.url)
    assert there.coins == here.coins
    for name in ("known_at_ms", "open", "high", "low", "close", "volume_usd", "funding", "universe"):
        np.testing.assert_array_equal(getattr(there, name), getattr(here, name))


def test_a_refresh_keeps_what_it_corrects_and_its_versions(lake, panel):
    report = lake.upsert(BARS, volume_is(bars_of(panel)[:5], 7.0))
    assert (report.version, report.changed, report.files_written) == (2, 5, 1)
    assert lake.read(BARS)["volume"][:5].to_list() == [7.0] * 5
    assert lake.read(BARS, version=1).equals(bars_of(panel))
    assert len(lake.place.names("_backup/bars")) == 1
    assert lake.upsert(BARS, bars_of(panel)[5:]).files_written == 0


def test_a_writer_that_planned_on_an_older_version_is_refused_there_too(lake, panel):
    btc, eth = (bars_of(panel).filter(pl.col("coin") == coin) for coin in ("BTC", "ETH"))
    second = Interrupted(lake.place, lambda: lake.upsert(BARS, volume_is(btc, 7.0)))
    second.upsert(BARS, volume_is(eth, 8.0))
    assert second.outcomes == [None, 3]
    assert lake.read(BARS)["volume"].to_list() == [7.0] * 96 + [8.0] * 96


def test_two_writers_that_both_found_no_table_there_make_one(bucket, panel):
    first = Lake.open(bucket, create=True)
    second = Interrupted(first.place, lambda: first.upsert(BARS, volume_is(bars_of(panel), 7.0)))
    second.upsert(BARS, volume_is(bars_of(panel), 8.0))
    assert second.outcomes == [None, 2]
    assert first.read(BARS).equals(volume_is(bars_of(panel), 8.0))


def test_an_entry_of_the_log_that_exists_cannot_be_written_again(lake, server):
    """What detection rests on: the store takes a name once only, if asked to."""
    from obstore.exceptions import AlreadyExistsError
    from obstore.store import from_url

    name = "bars/_delta_log/00000000000000000001.json"
    before = lake.place.read(name)
    with pytest.raises(AlreadyExistsError):
        from_url(lake.place.url).put(name, b"other", mode="create")
    assert lake.place.read(name) == before


def test_four_writers_there_lose_no_row_and_double_none(bucket):
    from lake_racers import everything

    outcomes = raced(bucket, "write", "1")
    assert sum(refused for _, refused in outcomes) > 0, "they did meet"
    lake = Lake.open(bucket)
    bars, events = everything(rounds=1)
    assert lake.read(BARS).select("coin", "ts").equals(bars.select("coin", "ts"))
    assert lake.read(QUOTES).equals(events)
    assert [finding for finding in check_path(bucket) if finding.grade == "error"] == []


def test_compaction_and_vacuum_work_there(bucket):
    lake = Lake.open(bucket, create=True)
    for first in (0, 10, 20):
        lake.append(QUOTES, quotes(first, 10))
    assert compact(lake, QUOTES).parts_after == 1
    assert vacuum(lake, QUOTES, now_ms=10**13) == 0, "superseded a moment ago"
    assert vacuum(lake, QUOTES, now_ms=10**13, retention_hours=0) == 3
    assert sum(name.endswith(".parquet") for name in lake.place.names("quotes")) == 1
    assert lake.read(QUOTES).equals(quotes(0, 30))


def test_a_damaged_object_is_found_and_mended(lake, panel):
    lake.upsert(BARS, volume_is(bars_of(panel), 7.0))
    part = lake.parts(BARS)[0]
    lake.place.write(f"bars/{part.path}", b"rust")
    with pytest.raises(DataError, match=r"s3://market/deep/lake/bars/.*differs from its checksum"):
        lake.read(BARS)
    assert [finding.fault for finding in check_path(lake.place.url)] == ["checksum"]
    (mend,) = repair(lake, BARS, apply=True, now_ms=NOW_MS)
    assert (mend.recovered, mend.lost) == (96, 0)
    assert lake.place.read(f"_quarantine/bars/{part.path}.damaged") == b"rust"
    lake.place.remove(f"bars/{lake.parts(BARS)[1].path}")
    (mend,) = repair(lake, BARS, apply=True, now_ms=NOW_MS)
    assert (mend.recovered, mend.lost) == (96, 0)
    assert contents(lake)["bars"].equals(bars_of(panel))


def test_every_command_takes_the_url(bucket, panel, write, capsys):
    file = str(write(panel))
    assert run(app, ["data", "import", file, "--lake", bucket]) == 0
    for words in (["check"], ["status"], ["compact"]):
        assert run(app, ["data", *words, "--lake", bucket, "--json"]) == 0, words
        json.loads(capsys.readouterr().out.split("version 1\n")[-1])


def test_polars_reads_the_table_there_without_this_code(lake, server):
    rows = pl.scan_delta(lake.place.below("bars")).collect()
    assert rows.height == 192
    assert rows["close"].sum() == pytest.approx(lake.read(BARS)["close"].sum(), rel=1e-12)


@pytest.mark.parametrize("words", [["import", "FILE"], ["check"], ["status"], ["compact"], ["repair"]])
def test_a_bucket_that_is_not_there_is_one_line(bucket, panel, write, capsys, words):
    named = [str(write(panel)) if word == "FILE" else word for word in words]
    assert run(app, ["data", *named, "--lake", "s3://nowhere/lake"]) in (1, 2)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1


def test_a_prefix_without_a_lake_is_said_to_be_none(bucket):
    with pytest.raises(DataError, match="not a lake"):
        Lake.open(bucket)
    with pytest.raises(SlipstreamError, match="a lake is a folder or an s3:// URL"):
        Lake.open("ftp://market/lake")
