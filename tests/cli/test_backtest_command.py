"""``slipstream backtest`` and ``demo`` as a user meets them: files, figures, one-line errors and exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from slipstream.cli.backtest import cycle_hours
from slipstream.cli.errors import run
from slipstream.cli.main import app
from slipstream.errors import UsageError

OUTPUTS = {"report.html", "summary.json", "equity.parquet", "allocations.parquet", "trades.parquet"}
PARTS = ("price", "funding", "fees", "impact")


def candles(hours: int = 24 * 50, coins: int = 6, seed: int = 3) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    frames = []
    ts = pl.datetime_range(
        pl.datetime(2024, 1, 1, time_zone="UTC"),
        pl.datetime(2024, 1, 1, time_zone="UTC") + pl.duration(hours=hours - 1),
        "1h",
        time_unit="ms",
        eager=True,
    )
    for i in range(coins):
        close = 50.0 * (i + 1) * np.exp(np.cumsum(0.01 * rng.standard_normal(hours)))
        opening = np.concatenate(([50.0 * (i + 1)], close[:-1]))
        frames.append(
            pl.DataFrame(
                {
                    "ts": ts,
                    "coin": [f"COIN{i}"] * hours,
                    "open": opening,
                    "high": np.maximum(opening, close) * 1.001,
                    "low": np.minimum(opening, close) * 0.999,
                    "close": close,
                    "volume": np.full(hours, 1e6) / close,
                    "funding": 1.25e-5 * rng.choice([1.0, 1.0, 3.0, -1.0], hours),
                }
            )
        )
    return pl.concat(frames)


@pytest.fixture(scope="module")
def panel_file(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("candles") / "panel.parquet"
    candles().write_parquet(file)
    return file


@pytest.fixture(scope="module")
def finished(panel_file, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("run") / "out"
    assert run(app, ["backtest", "--data", str(panel_file), "--out", str(out)]) == 0
    return out


def test_a_run_leaves_all_its_files_and_no_others(finished):
    assert {file.name for file in finished.iterdir()} == OUTPUTS
    assert [file.name for file in finished.parent.iterdir()] == ["out"]


def test_the_summary_has_the_promised_shape_and_no_path_in_it(finished, panel_file):
    summary = json.loads((finished / "summary.json").read_text())
    assert set(summary) == {"pods", "total", "netting_saved_usd", "checks", "data", "config"}
    assert list(summary["pods"]) == ["carry", "gradient", "template"]
    for figures in (*summary["pods"].values(), summary["total"]):
        assert {"total_return", "sharpe", "sharpe_se", "max_drawdown", "turnover_per_year"} <= set(figures)
        assert set(figures["pnl_usd"]) == set(PARTS)
        assert set(figures["capital_usd"]) == {"min", "max", "final"}
    assert {"accounting_max_error", "trade_fingerprint"} <= set(summary["checks"])
    assert set(summary["data"]) == {"coins", "first", "last", "rows", "source"}
    assert summary["data"]["coins"] == 6
    assert summary["data"]["rows"] == 6 * 24 * 50
    text = (finished / "summary.json").read_text()
    assert str(panel_file.parent) not in text
    assert str(finished) not in text


def test_files_and_summary_tell_one_story(finished):
    summary = json.loads((finished / "summary.json").read_text())
    equity = pl.read_parquet(finished / "equity.parquet")
    trades = pl.read_parquet(finished / "trades.parquet")
    allocations = pl.read_parquet(finished / "allocations.parquet")
    assert allocations.columns == ["time", "pod", "capital_usd", "weight"]
    assert trades.columns == ["time", "pod", "coin", "notional_usd", "price", "fee_usd", "impact_usd"]
    assert trades.schema["time"] == pl.Datetime("ms", "UTC")
    assert trades.select("time", "pod", "coin").is_unique().all()
    assert (trades["fee_usd"] >= 0).all()
    total = np.zeros(4)
    for pod, figures in summary["pods"].items():
        mine = equity.filter(pl.col("pod") == pod)
        parts = [figures["pnl_usd"][part] for part in PARTS]
        moved = mine["equity_usd"][-1] - mine["equity_usd"][0]
        assert moved == pytest.approx(sum(parts), abs=1e-6)
        assert [mine[f"{part}_usd"][-1] for part in PARTS] == pytest.approx(parts, abs=1e-9)
        paid = trades.filter(pl.col("pod") == pod)
        assert parts[2] == pytest.approx(-paid["fee_usd"].sum(), abs=1e-6)
        assert parts[3] == pytest.approx(-paid["impact_usd"].sum(), abs=1e-6)
        grants = allocations.filter(pl.col("pod") == pod)["capital_usd"]
        assert figures["capital_usd"] == pytest.approx({"min": grants.min(), "max": grants.max(), "final": grants[-1]})
        total += parts
    assert [summary["total"]["pnl_usd"][part] for part in PARTS] == pytest.approx(total.tolist(), abs=1e-6)
    account = equity.filter(pl.col("pod") == "total")
    assert account["equity_usd"][0] == 100_000.0
    assert account["equity_usd"][-1] / 100_000.0 - 1.0 == pytest.approx(summary["total"]["total_return"])
    daily = account["equity_usd"].to_numpy()[::24]
    returns = daily[1:] / daily[:-1] - 1.0
    sharpe = returns.mean() / returns.std(ddof=1) * np.sqrt(365.25)
    assert summary["total"]["sharpe"] == pytest.approx(sharpe)
    error = np.sqrt((1.0 + (sharpe**2 / 365.25) / 2.0) / len(returns)) * np.sqrt(365.25)
    assert summary["total"]["sharpe_se"] == pytest.approx(error)


def test_the_same_run_writes_the_same_bytes_and_json_prints_them_alone(panel_file, finished, tmp_path, capsys):
    code = run(app, ["backtest", "--data", str(panel_file), "--out", str(tmp_path / "again"), "--json"])
    printed = capsys.readouterr()
    assert code == 0
    assert printed.out == (tmp_path / "again" / "summary.json").read_text()
    assert printed.err == ""
    for name in sorted(OUTPUTS):
        assert (tmp_path / "again" / name).read_bytes() == (finished / name).read_bytes(), name


def test_a_lake_and_the_file_it_was_made_from_give_the_same_trades(panel_file, finished, tmp_path, capsys):
    lake = tmp_path / "lake"
    assert run(app, ["data", "import", str(panel_file), "--lake", str(lake)]) == 0
    capsys.readouterr()
    assert run(app, ["backtest", "--data", str(lake), "--out", str(tmp_path / "out"), "--json"]) == 0
    ours = json.loads(capsys.readouterr().out)["checks"]["trade_fingerprint"]
    assert ours == json.loads((finished / "summary.json").read_text())["checks"]["trade_fingerprint"]


def damaged(kind: str) -> pl.DataFrame:
    frame = candles(hours=48, coins=2)
    row = pl.int_range(pl.len()) == 30
    match kind:
        case "column":
            return frame.drop("volume")
        case "percent":
            return frame.with_columns(pl.col("funding") * 100.0)
        case "duplicate":
            return pl.concat((frame, frame[10:11])).sort("coin", "ts")
        case "unsorted":
            return pl.concat((frame[20:], frame[:20]))
        case "empty":
            return frame.clear()
        case "nan":
            return frame.with_columns(pl.when(row).then(float("nan")).otherwise(pl.col("close")).alias("close"))
    raise AssertionError(kind)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("column", ["volume"]),
        ("percent", ["funding", "percent"]),
        ("duplicate", ["row", "COIN0"]),
        ("unsorted", ["row", "COIN0"]),
        ("empty", ["no rows"]),
        ("nan", ["row 30", "close", "COIN0"]),
    ],
)
def test_a_bad_file_is_one_line_with_its_place_and_nothing_is_written(kind, words, tmp_path, capsys):
    file = tmp_path / "bad.parquet"
    damaged(kind).write_parquet(file)
    code = run(app, ["backtest", "--data", str(file), "--out", str(tmp_path / "out")])
    error = capsys.readouterr().err
    assert code == 2
    assert error.count("\n") == 1
    assert "bad.parquet" in error
    for word in words:
        assert word in error
    assert [entry.name for entry in tmp_path.iterdir()] == ["bad.parquet"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--strategies", "carry,gradeint"], ["gradeint", "gradient"]),
        (["--strategies", "carry,carry"], ["twice"]),
        (["--coins", "COIN0,COIN9"], ["COIN9"]),
        (["--cycle", "daily"], ["--cycle", "24h"]),
        (["--cycle", "999999999999999999d"], ["--cycle", "year"]),
        (["--start", "2024-02-10", "--end", "2024-02-01"], ["--start", "--end"]),
        (["--start", "2030-01-01"], ["--start", "last bar"]),
        (["--min-adv", "nan"], ["daily volume"]),
        (["--capital", "1e300"], ["capital", "at most"]),
        (["--capital", "abc"], ["--capital"]),
        (["--cycle", "40d", "--start", "2024-02-10"], ["no decision"]),
        (["--start", "yesterday"], ["--start", "ISO"]),
        (["--capital", "-5"], ["capital", "positive"]),
    ],
)
def test_a_request_that_cannot_be_met_names_what_is_wrong(arguments, words, panel_file, tmp_path, capsys):
    code = run(app, ["backtest", "--data", str(panel_file), "--out", str(tmp_path / "out"), *arguments])
    error = capsys.readouterr().err
    assert code == 2
    assert error.count("\n") == 1
    for word in words:
        assert word in error
    assert not (tmp_path / "out").exists()


def test_bars_from_the_future_are_refused_and_the_one_being_formed_is_left_out(tmp_path, capsys, monkeypatch):
    file = tmp_path / "panel.parquet"
    candles().write_parquet(file)
    last_open_ms = 1_704_067_200_000 + (24 * 50 - 1) * 3_600_000
    monkeypatch.setattr("slipstream.cli.clock.wall_clock_ms", lambda: last_open_ms + 60_000)
    assert run(app, ["backtest", "--data", str(file), "--out", str(tmp_path / "out"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["data"]["rows"] == 6 * (24 * 50 - 1)
    monkeypatch.setattr("slipstream.cli.clock.wall_clock_ms", lambda: last_open_ms - 60_000)
    assert run(app, ["backtest", "--data", str(file), "--out", str(tmp_path / "other")]) == 2
    error = capsys.readouterr().err
    assert "panel.parquet row 1199" in error
    assert "future" in error
    assert not (tmp_path / "other").exists()


def test_an_interrupt_during_the_final_moves_waits_until_all_files_are_in_place(panel_file, tmp_path):
    """A signal sent between two renames is delivered after the last: never a mixture of old and new."""
    code = (
        "import os, signal, sys, pathlib\n"
        "from slipstream.cli.errors import run\n"
        "from slipstream.cli.main import app\n"
        "plain = pathlib.Path.replace\n"
        "def slow(self, target):\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    return plain(self, target)\n"
        "pathlib.Path.replace = slow\n"
        "sys.exit(run(app, sys.argv[1:]))\n"
    )
    out = tmp_path / "out"
    out.mkdir()
    (out / "summary.json").write_text("old")
    done = subprocess.run(
        [sys.executable, "-c", code, "backtest", "--data", str(panel_file), "--out", str(out)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 130
    assert {file.name for file in out.iterdir()} == OUTPUTS
    assert (out / "summary.json").read_text() != "old"


def test_a_reader_that_leaves_early_is_not_an_error(panel_file):
    command = f"{sys.executable} -m slipstream.cli.main data status --data {panel_file} | head -n 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=120, check=False)
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr


def test_a_missing_file_and_an_unknown_flag_end_with_code_two(tmp_path, capsys):
    assert run(app, ["backtest", "--data", str(tmp_path / "none.parquet")]) == 2
    assert "none.parquet" in capsys.readouterr().err
    assert run(app, ["backtest", "--wat"]) == 2


def test_an_out_that_is_a_file_is_refused_and_left_alone(panel_file, tmp_path, capsys):
    out = tmp_path / "notes.txt"
    out.write_text("mine")
    assert run(app, ["backtest", "--data", str(panel_file), "--out", str(out)]) == 1
    assert "is a file" in capsys.readouterr().err
    assert out.read_text() == "mine"


@pytest.mark.parametrize("after_seconds", [0.4, 1.2, 2.0])
def test_an_interrupt_leaves_no_half_written_output(panel_file, tmp_path, after_seconds):
    command = [sys.executable, "-m", "slipstream.cli.main", "backtest", "--data", str(panel_file), "--out"]
    process = subprocess.Popen(
        [*command, str(tmp_path / "out")], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    )
    time.sleep(after_seconds)
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=60)
    left = {file.name for file in (tmp_path / "out").iterdir()} if (tmp_path / "out").exists() else set()
    assert left in (set(), OUTPUTS)
    assert process.returncode in (0, 130, -signal.SIGINT)
    assert [entry.name for entry in tmp_path.iterdir() if entry.name != "out"] == []


def test_the_demo_says_its_market_is_invented_and_prints_what_the_readme_shows(
    tmp_path, capsys, repository, monkeypatch
):
    # a strategy that a user adds trades in the demo too, but not in the README's picture of it
    monkeypatch.setattr("slipstream.strategies.list_strategies", lambda: ["carry", "gradient", "template"])
    assert run(app, ["demo", "--out", str(tmp_path / "demo")]) == 0
    printed = capsys.readouterr().out
    assert "SYNTHETIC" in printed
    assert "Synthetic market." in (tmp_path / "demo" / "report.html").read_text()
    summary = json.loads((tmp_path / "demo" / "summary.json").read_text())
    assert summary["config"]["seed"] == 42
    assert summary["checks"]["accounting_max_error"] < 1e-9
    assert summary["checks"]["causality_max_difference"] == 0.0
    shown = (repository / "README.md").read_text().split("```text\n")[1].split("```")[0]
    # sums may round otherwise on another processor, so the figures printed to the last bit are left out
    exact = ("audit", "trades", "report")
    lines = [
        [line.split() for line in text.splitlines() if line.strip() and not line.startswith(exact)]
        for text in (shown, printed)
    ]
    assert lines[0] == lines[1]


def test_cycles_are_whole_hours_or_days():
    assert (cycle_hours("24h"), cycle_hours("4h"), cycle_hours("2d")) == (24, 4, 48)
    for text in ("0h", "1.5h", "day", ""):
        with pytest.raises(UsageError, match="not a period"):
            cycle_hours(text)
