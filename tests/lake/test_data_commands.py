"""``slipstream data``: what a user types, sees, and gets back as an exit code."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest

from slipstream.cli.errors import run
from slipstream.cli.main import app
from slipstream.core.panel import HOUR_MS, to_ms
from slipstream.lake import load_panel
from slipstream.lake.datasets import BARS, FUNDING, INTERVAL_MS
from slipstream.lake.store import Lake

REAL = "data/hourly/hyperliquid_perps_1h.parquet"
START = datetime.fromisoformat("2025-01-01T00:00:00Z")


@pytest.fixture
def call(capsys):
    """Run a command; returns (exit code, standard output, standard error)."""

    def run_command(*arguments: object) -> tuple[int, str, str]:
        code = run(app, ["data", *(str(argument) for argument in arguments)])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run_command


def test_import_says_what_it_did_and_the_lake_is_used_like_the_file(call, make_candles, write, tmp_path):
    file, lake = write(make_candles()), tmp_path / "lake"
    code, out, _ = call("import", file, "--lake", lake)
    assert code == 0
    assert "bars: 0 -> 216 rows of 3 coins from 2025-01-01 00:00 to 2025-01-03 23:00 UTC, 0 corrected; 1 files" in out
    assert "funding: 0 -> 216 rows of 3 coins" in out
    np.testing.assert_array_equal(load_panel(lake).close, load_panel(file).close)


def test_status_counts_what_is_missing(call, make_candles, write):
    frame = make_candles(("BTC", "ETH"))
    row = pl.int_range(pl.len())
    holed = frame.with_columns(funding=pl.when(row == 30).then(None).otherwise("funding")).filter(row != 100)
    code, out, _ = call("status", "--data", write(holed), "--json")
    assert code == 0
    btc, eth = json.loads(out)["coins"]
    assert (btc["coin"], btc["bars"], btc["gap_hours"]) == ("BTC", {"1h": 72}, 0)
    assert btc["funding_missing"] == 1, "the one at the last close is in no file yet and is not counted"
    assert (eth["coin"], eth["bars"], eth["gap_hours"]) == ("ETH", {"1h": 71}, 1)
    assert eth["gaps"] == [{"first_ms": eth["first_ms"] + 28 * HOUR_MS, "hours": 1}]


def test_status_of_the_real_file_shows_lives_and_the_months_they_cover(call, shared):
    code, out, _ = call("status", "--data", shared / REAL)
    assert code == 0
    assert "60 coins, 278,945 bars of 1h, known" in out
    rows = {
        line.split()[0]: line.split()[1]
        for line in out.splitlines()
        if line.split()[1:] and set(line.split()[1]) <= set("█▓░·")
    }
    assert len(rows) == 60
    assert rows["BTC"] == "▓███████"
    assert rows["LAYER"] == "······░█"
    assert rows["RLB"] == "▓██████░"


def with_older_bars(lake: Lake, interval: str, days: int) -> None:
    """As much of BTC again in longer bars before the hours there are."""
    step = timedelta(milliseconds=INTERVAL_MS[interval])
    opened = pl.datetime_range(
        START - timedelta(days=days), START - step, step, time_zone="UTC", time_unit="ms", eager=True
    )
    numbers = {"open": 100.0, "high": 101.0, "low": 99.0, "close": 100.0, "volume": 5.0}
    rows = (
        opened.alias("ts")
        .to_frame()
        .with_columns(
            coin=pl.lit("BTC"),
            base_interval=pl.lit(interval),
            **{name: pl.lit(value) for name, value in numbers.items()},
        )
    )
    lake.upsert(BARS, rows.select(BARS.names))


@pytest.mark.parametrize(("interval", "count"), [("4h", 60 * 6), ("1d", 60)])
def test_status_begins_with_the_oldest_bars_of_any_length(call, make_candles, lake_of, tmp_path, interval, count):
    lake = lake_of(make_candles(("BTC", "ETH")))
    with_older_bars(lake, interval, 60)
    page = tmp_path / "coverage.html"
    code, out, _ = call("status", "--data", tmp_path / "lake", "--html", page)
    assert code == 0
    assert f"2 coins, 144 bars of 1h and {count} bars of {interval}, known 2024-11-0" in out
    (btc,) = re.findall(r"(?m)^ *BTC +24-11-0\d \d\dh 25-01-04 00h +(\d+) +(\d+) +0 +0 +0 *$", out)
    assert btc == ("72", str(count))
    assert "2024-11 to 2025-01" in out
    assert re.search(r"(?m)^BTC  ▓█░$", out)
    assert re.search(r"(?m)^ETH  ··░$", out)
    assert "BTC 2024-12: 744 of 744 hours" in page.read_text()
    body = json.loads(call("status", "--data", tmp_path / "lake", "--json")[1])
    assert body["begins_ms"] == to_ms(START - timedelta(days=60))
    assert body["lengths"] == ["1h", interval]
    held = body["coins"][0]
    assert (held["bars"], held["hours"]) == ({"1h": 72, interval: count}, 63 * 24)
    assert held["first_ms"] == body["begins_ms"] + INTERVAL_MS[interval]


@pytest.mark.parametrize("dataset", [BARS, FUNDING])
def test_a_damaged_file_is_named_by_status_and_the_rest_is_shown(call, make_candles, lake_of, tmp_path, dataset):
    lake = lake_of(make_candles(("BTC",), hours=48 * 24))
    part = next(part for part in lake.parts(dataset) if ("month", "2025-02") in part.values)
    file = tmp_path / "lake" / dataset.name / part.path
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    code, out, err = call("status", "--data", tmp_path / "lake", "--html", tmp_path / "page.html")
    assert (code, err) == (1, "")
    named = f"{dataset.name}/{part.path}: the file differs from its checksum"
    assert f"damaged, counted as nothing held: {named}\n" in out
    assert named in (tmp_path / "page.html").read_text()
    assert ("BTC  █\n" in out) if dataset == BARS else ("BTC  █▓\n" in out)
    code, out, _ = call("status", "--data", tmp_path / "lake", "--json")
    body = json.loads(out)
    assert code == 1
    assert list(body["damaged"]) == [f"{dataset.name}/{part.path}"]
    assert body["coins"][0]["hours"] == (31 * 24 if dataset == BARS else 48 * 24)
    file.unlink()
    assert "the file is missing" in call("status", "--data", tmp_path / "lake")[1]


def test_a_lake_whose_every_file_is_damaged_still_shows_its_tables(call, make_candles, lake_of, tmp_path):
    lake = lake_of(make_candles(("BTC",)))
    for dataset in (BARS, FUNDING):
        (tmp_path / "lake" / dataset.name / lake.parts(dataset)[0].path).write_bytes(b"?")
    code, out, err = call("status", "--data", tmp_path / "lake", "--html", tmp_path / "page.html")
    assert (code, err) == (1, "")
    assert "funding" in out
    assert out.count("damaged, counted as nothing held") == 2
    assert (tmp_path / "page.html").is_file()


def test_check_returns_one_for_errors_and_zero_for_warnings(call, make_candles, write, with_value):
    bad = write(with_value(make_candles(), 5, "close", -1.0), "bad.parquet")
    code, out, _ = call("check", "--data", bad)
    assert code == 1
    assert "impossible price" in out
    odd = write(make_candles().filter(pl.int_range(pl.len()) != 5), "odd.parquet")
    code, out, _ = call("check", "--data", odd, "--json")
    assert code == 0
    body = json.loads(out)
    assert (body["errors"], body["warnings"]) == (0, len(body["findings"]))
    assert body["findings"][0]["fault"] == "gap"


def test_check_of_a_file_that_cannot_be_read_at_all_ends_with_two(call, tmp_path):
    code, out, err = call("check", "--data", tmp_path / "nothing.parquet")
    assert (code, out) == (2, "")
    assert "no such file" in err


def test_export_writes_wide_files_on_the_utc_grid(call, make_candles, write, tmp_path):
    file = write(make_candles())
    code, _, _ = call("export", "--data", file, "--interval", "4h", "--out", tmp_path / "out")
    assert code == 0
    assert {entry.name for entry in (tmp_path / "out").iterdir() if entry.name != ".lock"} == {
        "4h",
        "funding_sum_4h.csv",
        "log_returns_4h.csv",
        "manifest.json",
        "universe.csv",
        "volume_usd_4h.csv",
    }
    assert {entry.name for entry in (tmp_path / "out" / "4h").iterdir()} == {
        "manifest.json",
        *(f"{coin}_{what}_4h.csv" for coin in ("BTC", "ETH", "kPEPE") for what in ("candles", "funding", "merged")),
    }
    returns = pl.read_csv(tmp_path / "out/log_returns_4h.csv")
    assert returns.columns == ["known_at", "BTC", "ETH", "kPEPE"]
    assert returns["known_at"][:2].to_list() == ["2025-01-01T04:00:00Z", "2025-01-01T08:00:00Z"]
    close = make_candles(("BTC",))["close"]
    assert returns["BTC"][0] is None
    assert returns["BTC"][1] == pytest.approx(np.log(close[7] / close[3]), rel=1e-14)
    funding = pl.read_csv(tmp_path / "out/funding_sum_4h.csv")
    assert funding["BTC"][0] == pytest.approx(5e-5)
    assert funding["BTC"][-1] is None, "the settlement at the last close is in no file yet"


def test_exported_returns_over_a_gap_add_up_to_the_whole_move(call, make_candles, write, tmp_path):
    frame = make_candles(("BTC", "ETH"))
    moment = pl.col("ts").dt.hour().is_between(9, 10) & (pl.col("ts").dt.day() == 2) & (pl.col("coin") == "BTC")
    call("export", "--data", write(frame.filter(~moment)), "--out", tmp_path)
    returns = pl.read_csv(tmp_path / "log_returns_4h.csv")
    absent = returns.filter(pl.col("BTC").is_null())["known_at"].to_list()
    assert absent == ["2025-01-01T04:00:00Z", "2025-01-02T12:00:00Z"]
    close = frame.filter(pl.col("coin") == "BTC")["close"]
    assert returns["BTC"].sum() == pytest.approx(np.log(close[71] / close[3]), rel=1e-12)


def test_exported_cells_are_empty_outside_a_coins_life(call, make_candles, write, tmp_path):
    late = make_candles(("ETH",), hours=24, start=datetime.fromisoformat("2025-01-02T00:00:00Z"))
    call("export", "--data", write(pl.concat([make_candles(("BTC",)), late])), "--interval", "1d", "--out", tmp_path)
    for name in ("funding_sum", "volume_usd"):
        column = pl.read_csv(tmp_path / f"{name}_1d.csv")["ETH"]
        assert [column[0], column[2]] == [None, None]


@pytest.mark.parametrize("interval", ["4", "h", "0h", "90m", "-4h"])
def test_an_interval_that_cannot_be_had_ends_with_two_and_writes_no_file(call, make_candles, write, tmp_path, interval):
    code, _, err = call("export", "--data", write(make_candles()), f"--interval={interval}", "--out", tmp_path / "out")
    assert code == 2
    assert err.count("\n") == 1
    assert not (tmp_path / "out" / "4h").exists()
    assert list((tmp_path / "out").rglob("*.csv")) == []


@pytest.mark.parametrize(
    "command", ["import", "status", "check", "export", "compact", "repair", "pull", "s3", "record", "replay"]
)
def test_every_command_explains_itself_with_an_example(call, command):
    code, out, _ = call(command, "--help")
    assert code == 0
    assert f"slipstream data {command}" in " ".join(out.split())
