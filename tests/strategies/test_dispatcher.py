"""The registry and its commands: every strategy answers, wherever the literal ``--`` stands."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from slipstream.strategies import (
    STRATEGY_REGISTRY,
    UnknownStrategy,
    get_strategy_info,
    iter_strategy_cli,
    list_strategies,
    load_strategy,
)


def launch(repository: Path, *words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    script = repository / "scripts" / "strategies" / "run_backtest.py"
    return subprocess.run(
        [sys.executable, str(script), *words], capture_output=True, text=True, cwd=cwd, timeout=110, check=False
    )


def test_the_registry_lists_and_loads() -> None:
    assert list_strategies() == sorted(STRATEGY_REGISTRY)
    assert {"carry", "gradient", "template"} <= set(list_strategies())
    for slug in list_strategies():
        assert callable(load_strategy(slug).targets)


def test_an_unknown_strategy_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownStrategy, match="did you mean 'carry'"):
        get_strategy_info("cary")


def test_an_unknown_command_lists_those_there_are() -> None:
    with pytest.raises(KeyError, match=r"compute_signals.*run_backtest"):
        get_strategy_info("carry").load_cli_handler("fly")


@pytest.mark.parametrize("command", ["compute_signals", "run_backtest"])
def test_every_handler_answers_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    handlers = list(iter_strategy_cli(command))
    assert [info.key for info, _ in handlers] == list_strategies()
    for _, handler in handlers:
        assert handler(["--help"]) == 0
        assert "--returns-csv" in capsys.readouterr().out


@pytest.mark.parametrize("slug", list_strategies())
def test_returns_csv_after_a_literal_double_dash_parses(
    slug: str, repository: Path, market_csv: dict[str, Path], tmp_path: Path
) -> None:
    returns = ["--returns-csv", str(market_csv["--returns-csv"]), "--json"]
    done = launch(repository, "--strategy", slug, "--", *returns, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["strategy"] == slug
    assert (tmp_path / "data" / slug / "backtests" / "portfolio_returns.csv").is_file()


def test_gradient_is_the_default_and_exit_codes_are_handed_on(repository: Path, tmp_path: Path) -> None:
    done = launch(repository, "--", "--returns-csv", "absent.csv", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: absent.csv: no such file")
    assert done.stdout == ""


def test_the_launcher_lists_strategies_and_refuses_unknown_ones(repository: Path, tmp_path: Path) -> None:
    listed = launch(repository, "--list-strategies", cwd=tmp_path)
    assert [line.split()[0] for line in listed.stdout.splitlines()] == list_strategies()
    unknown = launch(repository, "--strategy", "gradiant", cwd=tmp_path)
    assert unknown.returncode == 2
    assert "did you mean 'gradient'" in unknown.stderr


def test_importing_a_command_loads_no_heavy_library() -> None:
    code = (
        "import sys\n"
        "from slipstream.strategies import iter_strategy_cli\n"
        "list(iter_strategy_cli('run_backtest'))\n"
        "heavy = [name for name in ('numba', 'pandas', 'polars', 'scipy.optimize') if name in sys.modules]\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
