"""What every test shares: the real recordings, the hypothesis profile, the switches of tests that are opted into."""

from __future__ import annotations

import os
from pathlib import Path

# Before anything loads numpy: the matrices are small, and a second BLAS thread on a busy machine only waits.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import pytest
from hypothesis import settings

REPOSITORY = Path(__file__).resolve().parents[1]

OPTED_INTO = {
    "full": "the whole count of a statistical claim: ./run test --full",
    "network": "needs the real venue: ./run test --network",
}
"""Marker of tests that do not run by default -> how to run them; the switch is the marker's name."""

# Failures must repeat on any machine, and a first call may compile: examples are fixed and have no deadline.
settings.register_profile("default-run", deadline=None, derandomize=True, max_examples=50, print_blob=False)
settings.register_profile("full-run", deadline=None, derandomize=True, max_examples=500, print_blob=False)
settings.load_profile("default-run")


def pytest_addoption(parser: pytest.Parser) -> None:
    for marker, how in OPTED_INTO.items():
        parser.addoption(f"--{marker}", action="store_true", help=f"run tests marked {marker}, too ({how})")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--full"):
        settings.load_profile("full-run")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    left_out = {name: why for name, why in OPTED_INTO.items() if not config.getoption(f"--{name}")}
    for item in items:
        for name, why in left_out.items():
            if item.get_closest_marker(name) is not None:
                item.add_marker(pytest.mark.skip(reason=why))


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real recordings, which lies beside the checkout and is never copied into it."""
    folder = REPOSITORY.parent / "shared"
    if not folder.is_dir():
        pytest.skip(f"real recordings are absent: expected the folder {folder}")
    return folder
