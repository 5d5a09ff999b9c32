"""The README names only what exists: every path, link, command and flag in it is tried."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

LAUNCHER_WORDS = ("test", "check", "upgrade")
"""Words the launcher handles itself; every other word is a slipstream command."""
WRITTEN_BY_COMMANDS = ("out/", "data/", "logs/", ".venv", ".uv")
REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    *sorted(str(page.relative_to(REPOSITORY)) for page in REPOSITORY.glob("docs/**/*.md")),
]


def text_of(page: str) -> str:
    return (REPOSITORY / page).read_text(encoding="utf-8")


def commands_in(page: str) -> list[list[str]]:
    """The commands a page tells its reader to type, as words, without prompts and comments."""
    text = text_of(page)
    blocks = re.findall(r"^```(?:sh|console)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [line.removeprefix("$ ") for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))
    starts = ("./run ", "slipstream ", "uv run ", "gradient-", "hl-load", "python ")
    return [shlex.split(line, comments=True) for line in [*lines, *spans] if line.startswith(starts)]


@cache
def help_of(program: str, *words: str) -> str:
    """What ``program words --help`` prints; a program is a script of this environment or of the repository."""
    start = [sys.executable, program] if program.endswith(".py") else [str(Path(sys.executable).parent / program)]
    done = subprocess.run([*start, *words, "--help"], cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{program} {' '.join(words)} --help: {done.stderr.strip().splitlines()[-1:]}"
    return done.stdout


def programs_of(commands: list[list[str]]) -> list[tuple[str, list[str]]]:
    """(program, its words) of each command; what the launcher handles itself is left out."""
    found = []
    for command in commands:
        words = command[2:] if command[:2] == ["uv", "run"] else command
        if words[0] == "./run":
            if words[1] in LAUNCHER_WORDS or words[1].isupper():
                continue
            words = ["slipstream", *words[1:]]
        if words[0] == "python" and words[1].endswith(".py"):
            words = words[1:]
        if words[0] == "slipstream" or words[0].startswith(("gradient-", "hl-load")) or words[0].endswith(".py"):
            found.append((words[0], words[1:]))
    return found


def test_the_readme_opens_with_the_two_commands() -> None:
    first = re.search(r"^```sh\n(.*?)^```", text_of("README.md"), re.MULTILINE | re.DOTALL)
    assert first is not None
    assert [line.split("#")[0].strip() for line in first[1].splitlines()] == ["./run demo", "./run test"]


def test_the_readme_stays_short() -> None:
    assert len(text_of("README.md").splitlines()) < 200


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", text_of(page))
    local = [target for target in targets if "://" not in target]
    assert [target for target in local if not (REPOSITORY / page).parent.joinpath(target).exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_path_named_exists(page: str) -> None:
    spans = re.findall(r"`([\w.*-]+(?:/[\w.*-]+)*/?)`", text_of(page))
    paths = [span for span in spans if "/" in span and not span.startswith(WRITTEN_BY_COMMANDS)]
    places = [REPOSITORY, REPOSITORY / "src" / "slipstream"]
    assert [path for path in paths if not any(list(place.glob(path.rstrip("/"))) for place in places)] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_command_and_flag_named_exists(page: str) -> None:
    for program, words in programs_of(commands_in(page)):
        named = []
        for word in words:
            if not re.fullmatch(r"[a-z][a-z-]*", word):
                break
            named.append(word)
        subcommand = named[: 2 if named[:1] in (["data"], ["research"]) else 1]
        text = help_of(program, *subcommand)
        usage = " ".join([Path(program).name, *subcommand])
        assert usage in text, f"{usage} is not a command"
        own = words[: words.index("--")] if "--" in words else words
        flags = [word.split("=")[0] for word in own if word.startswith("--")]
        assert [flag for flag in flags if flag not in text and flag != "--help"] == [], usage


@pytest.mark.parametrize("word", LAUNCHER_WORDS)
def test_the_launcher_handles_its_own_words(word: str) -> None:
    assert re.search(rf"^{word}\)", text_of("run"), re.MULTILINE)
