"""The commands as a user runs them, against a venue in a process of its own."""

from __future__ import annotations

import csv
import json
import resource
import signal
import subprocess

import pytest

from ingest.recorder.recorder_process import (
    bbo_arguments,
    bbo_command,
    local_venue,
    record_arguments,
    record_command,
    wait_until,
)
from slipstream.cli.data import data
from slipstream.cli.data_record import bbo_app
from slipstream.cli.errors import run
from slipstream.lake.datasets import QUOTES, TRADES
from slipstream.lake.store import Lake


@pytest.fixture(scope="module")
def address():
    with local_venue(rate=50.0) as there:
        yield there


@pytest.fixture(scope="module")
def quiet():
    with local_venue(rate=0.0) as there:
        yield there


def finished(command: list[str], **more) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=60, **more)


def test_a_recording_into_a_lake_ends_on_a_signal_with_everything_written(address, tmp_path, capfdbinary):
    """TERM after some seconds: exit 0, a report, numbers without a hole, and a replay with as many lines as rows."""
    command = record_command(address, tmp_path, "--coins", "BTC", "ETH", "--flush-seconds", "0.3", "--json")
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: len(list((tmp_path / "lake").rglob("*.parquet"))) > 10)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "error" not in err
    report = json.loads(out)
    assert {feed["feed"] for feed in report["feeds"]} == {
        *("bbo", "l2Book", "trades", "contexts"),
        *("bookTicker", "aggTrade"),
    }
    lake = Lake.open(tmp_path / "lake")
    quotes, trades = lake.read(QUOTES), lake.read(TRADES)
    for (venue, coin), rows in quotes.partition_by("venue", "coin", as_dict=True).items():
        bids = rows.sort("monotonic_ns")["bid"].to_list()
        first = 1.0 if venue == "hyperliquid" else 1.1
        assert bids == [first + n for n in range(len(bids))], (venue, coin)
    totals = {feed["feed"]: feed["total"] for feed in report["feeds"]}
    assert quotes.height == totals["bbo"] + totals["bookTicker"]
    assert trades.height == totals["trades"] + totals["aggTrade"]
    assert (report["rejected"], report["gaps"], report["ignored"]) == (0, 0, {})
    assert run(data, ["replay", "--lake", str(tmp_path / "lake")]) == 0
    lines = [json.loads(line) for line in capfdbinary.readouterr().out.splitlines()]
    assert len(lines) == sum(totals.values())
    assert [line["received_ns"] for line in lines] == sorted(line["received_ns"] for line in lines)


def test_the_makers_recorder_writes_the_documented_files_and_appends_to_them(address, tmp_path, capsys):
    for _ in range(2):
        options = ("--duration", "0.8", "--flush-seconds", "0.3")
        assert run(bbo_app, bbo_arguments(address, tmp_path, *options)) == 0
        assert "hl_bbo of BTC" in capsys.readouterr().out
    headers = {
        "hl/BTC": "timestamp,timestamp_iso,symbol,bid,ask,mid,spread,bid_size,ask_size",
        "cex/btcusdt": "timestamp,timestamp_iso,symbol,bid,ask,mid,spread,bid_size,ask_size",
        "depth/ETH": "timestamp,timestamp_iso,symbol,bid_depth,ask_depth,total_depth",
        "funding/ETH": "timestamp,timestamp_iso,symbol,funding_rate",
    }
    for name, header in headers.items():
        lines = (tmp_path / f"{name}.csv").read_text().splitlines()
        assert lines[0] == header
        assert lines.count(header) == 1
        stamps = [float(row["timestamp"]) for row in csv.DictReader(lines)]
        assert stamps == sorted(stamps)
        if "funding" not in name:
            assert sum(row["bid" if "depth" not in name else "bid_depth"] != "" for row in csv.DictReader(lines)) > 20
    settled = (tmp_path / "funding/ETH.csv").read_text().splitlines()
    assert len(settled) == len(set(settled))


def test_a_feed_that_recorded_nothing_is_named_and_the_exit_code_is_one(quiet, tmp_path, capsys):
    assert run(bbo_app, bbo_arguments(quiet, tmp_path, "--duration", "0.3", "--symbols", "BTC")) == 1
    said = capsys.readouterr().err
    assert "error: cex_bbo of BTC recorded nothing" in said
    assert "funding of BTC recorded nothing" not in said
    options = ("--coins", "BTC", "--duration", "0.3", "--feeds", "trades")
    assert run(data, record_arguments(quiet, tmp_path, *options)) == 1
    assert capsys.readouterr().err == "error: trades recorded nothing\n"


def test_a_coin_in_the_wrong_case_is_refused_with_the_right_one(quiet, tmp_path, capsys):
    assert run(data, record_arguments(quiet, tmp_path, "--coins", "BTC", "eth", "--duration", "5")) == 2
    assert "did you mean ETH?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--coins", "BTC", "--feeds", "bbos"], "no feed 'bbos'"),
        (["--coins", "BTC", "--venues", "hyperliquid", "--feeds", "aggTrade"], "not among the venues"),
        (["--coins", "BTC", "--venues", "bybit"], "no venue 'bybit'"),
        (["--coins", "BTC", "--flush-seconds", "0"], "--flush-seconds"),
        (["--coins", "xyz:SP500", "--feeds", "bookTicker"], "--venues hyperliquid"),
        (["--coins", "BTC", "--log-level", "LOUD"], "--log-level"),
    ],
)
def test_a_request_that_cannot_be_used_is_refused_before_anything_is_opened(tmp_path, capsys, arguments, says):
    assert run(data, ["record", "--lake", str(tmp_path / "lake"), *arguments]) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "lake").exists()


def test_a_full_disk_ends_the_recording_and_leaves_whole_lines(address, tmp_path):
    """The limit on the size of a file stands in for the disk: writes fail half way through a line."""

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (6_000, 6_000))

    command = bbo_command(address, tmp_path, "--duration", "30", "--flush-seconds", "0.2", "--log-level", "ERROR")
    done = finished(command, preexec_fn=limited)
    assert done.returncode == 1
    assert "cannot be written (File too large)" in done.stderr
    for file in tmp_path.rglob("*.csv"):
        assert file.read_bytes().endswith(b"\n")


def test_a_lake_that_cannot_be_written_ends_the_recording_and_stays_readable(address, tmp_path):
    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, 5_000))

    options = ("--coins", "BTC", "--duration", "30", "--flush-seconds", "0.2", "--feeds", "bbo", "trades")
    done = finished(record_command(address, tmp_path, *options), preexec_fn=limited)
    assert done.returncode == 1
    assert "File too large" in done.stderr
    assert "The recording ends" in done.stderr
    lake = Lake.open(tmp_path / "lake", create=True)
    for dataset, column in ((QUOTES, "bid"), (TRADES, "tid")):
        rows = lake.read(dataset).sort("monotonic_ns")
        assert rows[column].to_list() == list(range(1, rows.height + 1))
    assert not list((tmp_path / "lake").rglob("*.draft"))
