"""Every notebook runs from top to bottom, quickly, and shows what it promises."""

from __future__ import annotations

import importlib.util
import re
import time
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.py"))


def shown(notebook: Path) -> list[str]:
    """What each cell shows, as HTML."""
    spec = importlib.util.spec_from_file_location(notebook.stem, notebook)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    outputs, _ = module.app.run()
    return [output.text for output in outputs if output is not None]


def test_there_is_a_notebook() -> None:
    assert [notebook.name for notebook in NOTEBOOKS] == ["from_bars_to_a_holding_period.py"]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_in_less_than_a_minute_and_draws_its_charts(notebook: Path) -> None:
    begun = time.monotonic()
    cells = shown(notebook)
    assert time.monotonic() - begun < 60.0
    text = "\n".join(cells)
    assert text.count("<svg") >= 3
    assert text.count("<polyline") >= 3
    found = re.search(r"<strong>(\d+) h</strong> by net Sharpe", text)
    assert found is not None
    assert int(found[1]) in (4, 8, 24, 48)
    assert not re.search(r"\bnan\b", re.sub(r"<[^>]+>", " ", text))
