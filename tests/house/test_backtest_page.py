"""The page on the backtest: its example runs as printed, and it names what there is."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import pytest

from slipstream.core.backtest.result import Counts
from slipstream.portfolio import BacktestConfig

PAGE = Path(__file__).resolve().parents[2] / "docs" / "backtest.md"


@pytest.fixture(scope="module")
def page() -> str:
    return PAGE.read_text(encoding="utf-8")


def test_the_example_prints_what_the_page_says_and_leaves_its_report(page: str, tmp_path: Path) -> None:
    code, printed = (
        re.search(rf"^```{kind}\n(.*?)^```", page, re.MULTILINE | re.DOTALL) for kind in ("python", "text")
    )
    assert code is not None
    assert printed is not None
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code.group(1)], cwd=tmp_path, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == printed.group(1)
    assert (tmp_path / "backtest.html").read_text("utf-8").startswith("<!doctype html>")


def test_every_count_and_every_setting_the_page_names_exists(page: str) -> None:
    names = set(re.findall(r"`(n_\w+)`", page))
    assert names <= {field.name for field in dataclasses.fields(Counts)}
    assert {"n_failed", "n_frozen", "n_delisted", "n_funding_missing"} <= names
    settings = {field.name for field in dataclasses.fields(BacktestConfig)}
    assert set(re.findall(r"`(\w+_(?:after_bars|hours|date|lots|weight))`", page)) <= settings
