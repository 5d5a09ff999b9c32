"""The portfolio page: its examples give what it prints, and its picture is the one the solver draws."""

from __future__ import annotations

import doctest
import runpy
from pathlib import Path


def test_the_worked_examples_give_the_numbers_the_page_shows(repository: Path) -> None:
    page = repository / "docs" / "portfolio.md"
    blocks = [part.split("```")[0] for part in page.read_text(encoding="utf-8").split("```python\n")[1:]]
    assert len(blocks) >= 5
    examples = doctest.DocTestParser().get_doctest("\n".join(blocks), {}, "portfolio.md", str(page), 0)
    said: list[str] = []
    outcome = doctest.DocTestRunner().run(examples, out=said.append)
    assert outcome.attempted > 8
    assert outcome.failed == 0, "".join(said)


def test_the_picture_is_what_the_script_draws(repository: Path) -> None:
    drawn = runpy.run_path(str(repository / "scripts" / "draw_cost_against_size.py"))["picture"]()
    assert drawn == (repository / "docs" / "images" / "cost_against_size.svg").read_text(encoding="utf-8")


def test_the_picture_and_the_first_example_are_one(repository: Path) -> None:
    """By hand: at the best trade x, alpha - V x = c + 1.5 l sqrt(x)."""
    script = runpy.run_path(str(repository / "scripts" / "draw_cost_against_size.py"))
    best = script["best_trade"]()
    assert abs(script["ALPHA"] - script["VARIANCE"] * best - script["FEE"] - 1.5 * script["IMPACT"] * best**0.5) < 1e-15
    assert abs(best - 0.04) < 1e-12
