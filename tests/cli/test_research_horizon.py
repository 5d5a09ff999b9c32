"""``slipstream research horizon`` and ``scripts/find_optimal_H_joint.py`` as a user meets them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from cyclopts import App

from slipstream.cli.clock import wall_clock_ms
from slipstream.cli.errors import run
from slipstream.cli.research import research
from slipstream.cli.research_horizon import find_optimal_h_joint
from slipstream.lake.synthetic import SyntheticConfig, synthetic_market
from slipstream.research.registry import Registry

FILES = {"H_comparison.csv", "joint_model_H12.json", "joint_model_H4.json", "optimization_summary.json", "report.html"}
SMALL = ("--spans", "4", "16", "--n-bootstrap", "60")


@pytest.fixture(scope="module")
def panel_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    panel = synthetic_market(SyntheticConfig(coins=13, hours=24 * 140, seed=6, late_listings=0.1)).panel
    opened = pl.Series("ts", panel.known_at_ms - 3_600_000).cast(pl.Datetime("ms", "UTC"))
    usd_price = (panel.high + panel.low + panel.close) / 3.0
    frames = [
        pl.DataFrame(
            {
                "ts": opened,
                "coin": [name] * panel.rows,
                "open": panel.open[:, i],
                "high": panel.high[:, i],
                "low": panel.low[:, i],
                "close": panel.close[:, i],
                "volume": panel.volume_usd[:, i] / usd_price[:, i],
                "funding": panel.funding[:, i],
            }
        ).filter(pl.col("close").is_not_nan())
        for i, name in enumerate(("BTC", *panel.coins[1:]))
    ]
    file = tmp_path_factory.mktemp("market") / "panel.parquet"
    pl.concat(frames).write_parquet(file)
    return file


def horizon(*words: object) -> int:
    return run(research, ["horizon", *(str(word) for word in words), *SMALL])


def script(*words: object) -> int:
    app = App()
    app.default(find_optimal_h_joint)
    return run(app, [*(str(word) for word in words), *SMALL])


@pytest.fixture(scope="module")
def built(panel_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    code = horizon("--data", panel_file, "--H", 4, 12, "--out", folder / "models", "--registry", folder / "runs.sqlite")
    assert code == 0
    return folder


def test_all_files_are_there_and_nothing_else(built: Path) -> None:
    assert {file.name for file in (built / "models").iterdir()} == FILES
    said = json.loads((built / "models" / "optimization_summary.json").read_text())
    assert said["H_optimal"] in said["H_tested"] == [4, 12]


def test_the_run_is_on_record_with_what_was_chosen_and_what_came_of_it(built: Path) -> None:
    with Registry(built / "runs.sqlite", wall_clock_ms) as registry:
        (entry,) = registry.runs("horizon")
        assert registry.trials("horizon") == 2
    said = json.loads((built / "models" / "optimization_summary.json").read_text())
    assert entry.status == "finished"
    assert entry.alternatives == 2
    assert entry.seed == 42
    assert entry.data_hash == said["data"]["content_hash"]
    assert entry.result["H_optimal"] == said["H_optimal"]
    assert entry.config["horizons"] == [4, 12]
    assert "per_H" not in entry.result


def test_the_screen_says_what_was_found_before_where_it_was_written(
    panel_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = horizon("--data", panel_file, "--H", 4, 960, "--out", tmp_path / "o", "--registry", tmp_path / "r.sqlite")
    text = capsys.readouterr().out
    assert code == 1
    assert "left out: H = 960 h: no coin has all its features and targets" in text
    assert "net Sharpe" in text
    assert "H = 8 h, the published choice, was not among the horizons scored." in text
    assert text.rstrip().endswith("report.html, optimization_summary.json, H_comparison.csv and 1 models")


def test_json_is_the_summary_and_nothing_else(
    panel_file: Path, built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--data", panel_file, "--H", 4, 12, "--out", tmp_path / "o", "--registry", tmp_path / "r.sqlite")
    assert horizon(*words, "--json") == 0
    said = capsys.readouterr().out
    assert said == (tmp_path / "o" / "optimization_summary.json").read_text()
    assert said == (built / "models" / "optimization_summary.json").read_text()


def test_the_script_uses_the_factor_files_and_names_the_command_that_builds_one_that_is_absent(
    panel_file: Path, built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    features = tmp_path / "features"
    words = ("--data", panel_file, "--H", 4, 12, "--output-dir", features / "joint_models")
    words = (*words, "--registry", tmp_path / "r.sqlite")
    assert script(*words) == 2
    told = capsys.readouterr().err
    assert "pca_factor_H4_K30_sqrt.csv: no such file; build it with: python scripts/build_pca_factor.py --H 4" in told
    command = told.split("scripts/build_pca_factor.py ")[1].split()
    command[command.index("--H") + 1 : command.index("--H") + 2] = ["4", "12"]
    assert run(research, ["factors", *command]) == 0
    capsys.readouterr()
    assert script(*words, "--json") == 0
    from_files = json.loads(capsys.readouterr().out)
    estimated = json.loads((built / "models" / "optimization_summary.json").read_text())
    for hours in ("4", "12"):
        for name in ("net_sharpe", "R2_combined", "R2_funding_money", "rank_ic"):
            assert from_files["per_H"][hours][name] == pytest.approx(estimated["per_H"][hours][name], rel=1e-9)


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        (("--H", 6), "a horizon of 6 h does not consist of bars of 4 h"),
        (("--H", 8, "--executor", "locall"), "did you mean local?"),
        (("--H", 8, "--capital", 0), "capital_usd is 0"),
        (("--H", 8, "--interval", "4x"), "--interval 4x"),
    ],
)
def test_a_request_that_cannot_be_met_ends_with_2_and_writes_nothing(
    panel_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[object, ...], cause: str
) -> None:
    out = tmp_path / "o"
    assert horizon("--data", panel_file, *words, "--out", out, "--registry", tmp_path / "r.sqlite") == 2
    assert cause in capsys.readouterr().err
    assert not out.exists()


def test_the_script_answers_help(repository: Path) -> None:
    file = repository / "scripts" / "find_optimal_H_joint.py"
    done = subprocess.run([sys.executable, str(file), "--help"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    for flag in ("--H", "--n-bootstrap", "--pca-method", "--K", "--spans", "--vol-span", "--data-dir", "--output-dir"):
        assert flag in done.stdout
    assert "--select" in done.stdout
