"""A new strategy passes every check before anything in it has been changed, or it does not come to be at all."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from slipstream.cli.errors import run
from slipstream.cli.main import app
from slipstream.errors import SlipstreamError
from slipstream.strategies.scaffold import NewStrategy, ScaffoldError, create_strategy

COPIED = ("src", "config", "scripts", "docs/strategies", "tests/strategies", "tests/conftest.py", "tests/wide_files.py")
FILES = ("pyproject.toml", ".env.example")


@pytest.fixture
def checkout(repository: Path, tmp_path: Path) -> Path:
    """A copy of the tree that may be written to."""
    root = tmp_path / "checkout"
    ignored = shutil.ignore_patterns("__pycache__", "*.nbi", "*.nbc")
    for name in COPIED:
        source, target = repository / name, root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=ignored)
        else:
            shutil.copy(source, target)
    for name in FILES:
        shutil.copy(repository / name, root / name)
    return root


def tree(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes() if path.is_file() else b""
        for path in sorted(root.rglob("*"))
        if "__pycache__" not in path.parts
    }


def in_checkout(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A command of this environment run in the copy, importing the copy's package."""
    environment = {**os.environ, "PYTHONPATH": str(root / "src"), "NUMBA_CACHE_DIR": str(root.parent / "numba")}
    return subprocess.run(
        [sys.executable, *words], cwd=root, env=environment, capture_output=True, text=True, timeout=110, check=False
    )


def passes(root: Path, *words: str) -> str:
    done = in_checkout(root, *words)
    assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_a_new_strategy_passes_every_check_at_once(
    checkout: Path, market_csv: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["new-strategy", "cross-idea", "--title", "Cross idea", "--description", "Says what it harvests."]
    assert run(app, [*words, "--root", str(checkout)]) == 0
    assert "cross-idea is registered" in capsys.readouterr().out
    package = "src/slipstream/strategies/cross_idea"
    written = [package, "src/slipstream/strategies/__init__.py", "tests/strategies/test_cross_idea.py"]
    passes(checkout, "-m", "ruff", "check", "--no-cache", *written)
    passes(checkout, "-m", "ruff", "format", "--no-cache", "--check", *written)
    passes(checkout, "-m", "mypy", "--strict", "--follow-imports=silent", package)
    passes(checkout, "-m", "pytest", "-p", "no:cacheprovider", "tests/strategies/test_cross_idea.py")
    listed = passes(checkout, "scripts/strategies/run_backtest.py", "--list-strategies")
    assert "cross-idea    Says what it harvests." in listed
    returns = ["--returns-csv", str(market_csv["--returns-csv"]), "--json"]
    launcher = ["scripts/strategies/run_backtest.py", "--strategy", "cross-idea", "--", *returns]
    assert json.loads(passes(checkout, *launcher))["strategy"] == "cross-idea"
    assert (checkout / "data/cross-idea/backtests/portfolio_returns.csv").is_file()


def test_nothing_of_the_template_is_left_in_it(checkout: Path) -> None:
    before = tree(checkout)
    create_strategy(checkout, NewStrategy.named("cross-idea", "Cross idea"))
    after = tree(checkout)
    created = sorted(set(after) - set(before))
    assert "src/slipstream/strategies/cross_idea/config.py" in created
    assert {"config/cross-idea.yml", "docs/strategies/cross-idea/README.md"} < set(created)
    assert "tests/strategies/test_cross_idea.py" in created
    assert [name for name in created if b"template" in after[name].lower()] == []
    changed = [name for name in before if after[name] != before[name]]
    assert changed == [".env.example", "src/slipstream/strategies/__init__.py"]
    added = after[".env.example"].removeprefix(before[".env.example"]).decode()
    assert "SLIPSTREAM_CROSS_IDEA_TOP_N" in added
    assert all(line.startswith("#") for line in added.split("\n") if line)


@pytest.mark.parametrize(
    ("slug", "title"), [("q", "Q"), ("a" * 20, "A long title of 32 letters, whole"[:32]), ("zz-9-x", None)]
)
def test_the_formatter_has_nothing_to_do_whatever_the_name(checkout: Path, slug: str, title: str | None) -> None:
    new = NewStrategy.named(slug, title, "d" * 90)
    create_strategy(checkout, new)
    written = [
        f"src/slipstream/strategies/{new.package}",
        "src/slipstream/strategies/__init__.py",
        f"tests/strategies/test_{new.package}.py",
    ]
    passes(checkout, "-m", "ruff", "check", "--no-cache", *written)
    passes(checkout, "-m", "ruff", "format", "--no-cache", "--check", *written)


@pytest.mark.parametrize(
    ("slug", "message"),
    [
        ("carry", "has it already"),
        ("bar-backtest", "has it already"),
        ("decisions-are-causal", "has it already"),
        ("My-Idea", "lower-case"),
        ("my_idea", "lower-case"),
        ("9lives", "lower-case"),
        ("idea-", "lower-case"),
        ("../idea", "lower-case"),
        ("a" * 21, "at most 20"),
        ("class", "means something else"),
        ("global", "means something else"),
    ],
)
def test_a_slug_that_cannot_be_used_is_refused(
    checkout: Path, slug: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = tree(checkout)
    assert run(app, ["new-strategy", slug, "--root", str(checkout)]) == 2
    assert message in capsys.readouterr().err
    assert tree(checkout) == before


def test_a_title_that_would_break_the_code_is_refused() -> None:
    for title in ('Say "hi"', "back\\slash", "two\nlines", "{brace}", "", "x" * 33):
        with pytest.raises(ScaffoldError, match="title"):
            NewStrategy.named("idea", title)


def test_a_folder_that_is_no_checkout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ScaffoldError, match="no Slipstream checkout"):
        create_strategy(tmp_path, NewStrategy.named("idea"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("trouble", [KeyboardInterrupt, OSError])
@pytest.mark.parametrize("moment", range(12))
def test_whatever_stops_it_the_tree_is_as_it_was(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, trouble: type[BaseException], moment: int
) -> None:
    """The interrupt falls before or just after each of the renames that bring the new files in."""
    before = tree(checkout)
    steps = 0

    def interrupting(real: object) -> object:
        def step(self: Path, target: Path) -> Path:
            nonlocal steps
            late = moment % 2 == 1
            if steps == moment // 2 and not late:
                steps += 1
                raise trouble("stopped")
            result = real(self, target)  # type: ignore[operator]
            if steps == moment // 2 and late:
                steps += 1
                raise trouble("stopped")
            steps += 1
            return result

        return step

    for name in ("rename", "replace"):
        monkeypatch.setattr(Path, name, interrupting(getattr(Path, name)))
    with pytest.raises((KeyboardInterrupt, SlipstreamError)):
        create_strategy(checkout, NewStrategy.named("cross-idea"))
    assert steps > moment // 2
    monkeypatch.undo()
    assert tree(checkout) == before
