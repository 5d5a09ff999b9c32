"""What must never be in a tracked file: keys, hosts of package registries, paths of one machine."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest

KEY_LIKE = {
    "a 32-byte hex key": re.compile(r"(?<![0-9a-fA-F])(?:0x)?[0-9a-fA-F]{64}(?![0-9a-fA-F])"),
    "a private key block": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY"),
    "a Telegram bot token": re.compile(r"\b\d{8,10}:[A-Za-z0-9_-]{35}\b"),
    "a cloud access key": re.compile(r"\bAKIA[0-9A-Z]{16}\b"),
    "a code host token": re.compile(r"\bgh[pousr]_[A-Za-z0-9]{36}\b"),
}
STATED_DIGEST = re.compile(r"(?:sha-?256|fingerprint)\W{0,6}$", re.IGNORECASE)
"""What stands before 64 hex digits that are a digest and say so."""

REGISTRY_HOSTS = tuple(".".join(parts) for parts in (("pypi", "org"), ("pythonhosted", "org"), ("npmjs", "org")))


def key_like_strings(text: str) -> list[str]:
    """Kinds of secret that ``text`` seems to hold; digests introduced as such are let through."""
    return [
        kind
        for kind, pattern in KEY_LIKE.items()
        for match in pattern.finditer(text)
        if not STATED_DIGEST.search(text[max(0, match.start() - 24) : match.start()])
    ]


@pytest.fixture(scope="module")
def tracked(repository: Path) -> dict[str, str]:
    """Text of every file that is committed or would be by ``git add``, by its path."""
    if shutil.which("git") is None or not (repository / ".git").exists():
        pytest.skip("not a git checkout: what is tracked cannot be told")
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=repository,
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    files = {}
    for name in filter(None, listing.split("\0")):
        try:
            files[name] = (repository / name).read_text(encoding="utf-8")
        except (UnicodeDecodeError, FileNotFoundError):  # a picture, or deleted and not yet committed so
            continue
    assert len(files) > 10
    return files


def test_no_tracked_file_holds_a_key(tracked: dict[str, str]) -> None:
    assert {name: kinds for name, text in tracked.items() if (kinds := key_like_strings(text))} == {}


@pytest.mark.parametrize(
    "text",
    ["secret: 0x" + "a1" * 32, "b7" * 32, "-----BEGIN EC PRIVATE" + " KEY-----", "AKIA" + "ABCD" * 4],
)
def test_the_scan_finds_a_planted_key(text: str) -> None:
    assert key_like_strings(text)


def test_the_scan_lets_a_stated_digest_through() -> None:
    assert key_like_strings("    --hash=sha256:" + "a1" * 32) == []
    assert key_like_strings('"trade_fingerprint": "' + "a1" * 32 + '"') == []


def test_no_tracked_file_names_a_package_registry(tracked: dict[str, str]) -> None:
    assert [name for name, text in tracked.items() if any(host in text for host in REGISTRY_HOSTS)] == []


def test_no_tracked_file_names_a_path_of_this_machine(tracked: dict[str, str], repository: Path) -> None:
    places = [str(place) for place in (repository, Path.home()) if len(place.parts) > 1]
    pattern = re.compile("|".join(rf"(?<![\w.-]){re.escape(place)}(?![\w-])" for place in places))
    assert [name for name, text in tracked.items() if pattern.search(text)] == []


def test_no_tracked_file_is_a_lock_or_cache_of_one_machine(tracked: dict[str, str]) -> None:
    assert [name for name in tracked if re.search(r"(^|/)(uv\.lock|\.env|__pycache__|\.venv|\.uv)(/|$)", name)] == []


def test_the_example_environment_holds_names_and_no_values(tracked: dict[str, str]) -> None:
    lines = [line for line in tracked[".env.example"].splitlines() if line and not line.startswith("#")]
    assert lines
    assert all(re.fullmatch(r"[A-Z][A-Z0-9_]*=", line) for line in lines)


def test_every_secret_named_is_explained(tracked: dict[str, str]) -> None:
    names = re.findall(r"^([A-Z0-9_]+)=", tracked[".env.example"], re.MULTILINE)
    assert [name for name in names if f"`{name}`" not in tracked["docs/secrets.md"]] == []


def test_no_two_test_or_script_modules_share_a_name(tracked: dict[str, str]) -> None:
    """pytest imports test modules by their bare name, so the second of two would shadow the first."""
    modules = [
        Path(name).name
        for name in tracked
        if name.endswith(".py") and name.split("/")[0] in ("tests", "scripts") and not name.endswith("conftest.py")
    ]
    assert [name for name, count in Counter(modules).items() if count > 1] == []
