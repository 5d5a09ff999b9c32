"""The quick start from one end to the other: each step reads, by its own defaults, what the step before wrote."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cyclopts import App

from slipstream.cli import load, main
from slipstream.cli.errors import run
from slipstream.cli.research_factors import factors
from slipstream.cli.research_horizon import find_optimal_h_joint
from slipstream.strategies.gradient.cli import compute_signals, run_backtest
from venue_process import venue_process

DAYS = 84
COINS = 15


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with venue_process(now="2025-06-01T12:34:56", days=DAYS + 10, coins=COINS - 2) as venue:
        yield venue.url


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def script(command: Callable[..., int], *words: object) -> int:
    """Run what a file of ``scripts/`` runs."""
    app = App()
    app.default(command)
    return run(app, [str(word) for word in words])


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_each_step_of_the_quick_start_reads_what_the_one_before_wrote(url, folder, capsys):
    words = ["--all", "--days", str(DAYS), "--base-url", url, "--weight-per-minute", "1000000"]
    assert run(load.app, words) == 0
    wide = rows(folder / "data/market_data/log_returns_4h.csv")
    assert len(wide) == DAYS * 6
    assert len(wide[0]) == 1 + COINS - 1, "known_at, and every market but the delisted one"

    horizons = (8, 12)
    assert script(factors, "--H", *horizons, "--K", 30, "--weight-method", "sqrt") == 0
    printed = capsys.readouterr().out
    known = {row["known_at"] for row in wide}
    for hours in horizons:
        factor = rows(folder / f"data/features/pca_factor_H{hours}_K30_sqrt.csv")
        moments = [next(iter(row.values())) for row in factor]
        assert {moment[:13] for moment in moments} <= {moment[:13] for moment in known}
        assert len(moments) > 2 * DAYS * 24 // hours // 3
        assert f"data/features/pca_factor_H{hours}_K30_sqrt.csv" in printed

    assert script(find_optimal_h_joint, "--H", *horizons, "--n-bootstrap", 30, "--spans", 4, 16) == 0
    summary = json.loads((folder / "data/features/joint_models/optimization_summary.json").read_text())
    assert {"H_optimal", "R2_combined_optimal", "R2_combined_bp", "H_tested"} <= set(summary)
    assert summary["H_optimal"] in summary["H_tested"] == list(horizons)
    assert (folder / "data/features/joint_models/report.html").stat().st_size > 10_000

    capsys.readouterr()
    assert run(main.app, ["backtest", "--data", "data/lake", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result == json.loads((folder / "out/backtest/summary.json").read_text())
    assert "BTC" in (folder / "out/backtest/report.html").read_text()

    assert compute_signals([]) == 0
    scores = rows(folder / "data/gradient/signals/trend_strength.csv")
    assert set(scores[0]) == set(wide[0])
    capsys.readouterr()
    assert run_backtest(["--", "--json"]) == 0
    book = json.loads(capsys.readouterr().out)
    assert book["coins"] == COINS - 1
    assert book["decisions"] > 100
    traded = rows(folder / "data/gradient/backtests/portfolio_returns.csv")
    assert traded[-1]["known_at"] == "2025-06-01T12:00:00Z"


LOAD = "hl-load --all --days 180 --interval 4h --out-prefix data"
STEPS = {
    "build_pca_factor.py": (lambda: script(factors, "--H", 8), LOAD),
    "find_optimal_H_joint.py": (lambda: script(find_optimal_h_joint, "--H", 8), LOAD),
    "gradient-signals": (lambda: compute_signals([]), LOAD),
    "gradient-backtest": (lambda: run_backtest([]), LOAD),
}


@pytest.mark.parametrize("step", STEPS)
def test_a_step_taken_too_early_names_the_file_it_lacks_and_the_command_that_writes_it(folder, capsys, step):
    take, remedy = STEPS[step]
    assert take() == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "data/market_data/log_returns_4h.csv: no such file" in line
    assert remedy in line
    assert list(folder.iterdir()) == []


def test_the_backtest_without_a_lake_says_how_to_get_one(folder, capsys):
    assert run(main.app, ["backtest", "--data", "data/lake"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: data/lake: no such file or folder")


def test_the_installed_commands_are_those_that_were_tested_here(repository):
    """The chain above runs in one process; what a user types must lead to the same functions."""
    for command in ("hl-load", "gradient-signals", "gradient-backtest"):
        words = [Path(sys.executable).with_name(command), "--help"]
        assert subprocess.run(words, capture_output=True, timeout=60).returncode == 0, command
    for file, function in (("build_pca_factor.py", "factors"), ("find_optimal_H_joint.py", "find_optimal_h_joint")):
        assert f"app.default({function})" in (repository / "scripts" / file).read_text()
