"""What is pinned is what is installed, and the pins hold all that pyproject.toml asks for."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


@pytest.fixture(scope="module")
def lock(repository: Path) -> str:
    return (repository / "requirements.lock").read_text()


@pytest.fixture(scope="module")
def pins(lock: str) -> list[Requirement]:
    """Pins that apply to this interpreter and platform."""
    lines = (line.removesuffix(" \\") for line in lock.splitlines() if not line.startswith(" "))
    stated = [Requirement(line) for line in lines]
    return [pin for pin in stated if pin.marker is None or pin.marker.evaluate()]


def test_every_pinned_version_is_the_installed_one(pins: list[Requirement]) -> None:
    wrong = []
    for pin in pins:
        try:
            installed = version(pin.name)
        except PackageNotFoundError:
            installed = "absent"
        if not (installed != "absent" and pin.specifier.contains(installed, prereleases=True)):
            wrong.append(f"{pin.name}: pinned {pin.specifier}, installed {installed}")
    assert wrong == [], "install the pins with ./run, or pin what is meant with ./run upgrade"


def test_everything_pyproject_asks_for_is_pinned_within_its_bounds(repository: Path, pins: list[Requirement]) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text())
    asked = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]
    pinned = {canonicalize_name(pin.name): next(iter(pin.specifier)).version for pin in pins}
    for text in asked:
        requirement = Requirement(text)
        assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)]), text


def test_every_pin_is_exact_and_has_hashes(lock: str) -> None:
    blocks = re.split(r"\n(?=\S)", lock.rstrip("\n"))
    assert len(blocks) > 20
    for block in blocks:
        first, *hashes = block.split(" \\\n")
        assert re.match(r"[a-z0-9-]+==\S+( ; .+)?$", first), first
        assert hashes, f"{first} has no hash"
        assert all(re.fullmatch(r" {4}--hash=sha256:[0-9a-f]{64}", line) for line in hashes), first


def test_versions_are_looked_up_as_of_a_fixed_date(repository: Path) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text())
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT00:00:00Z", project["tool"]["uv"]["exclude-newer"])
