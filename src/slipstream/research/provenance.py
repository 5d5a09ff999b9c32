"""Which code produced a result: the hash of this package's source, and the versions of what it computes with."""

from __future__ import annotations

import hashlib
import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import slipstream

_COMPUTES_WITH = ("clarabel", "numba", "numpy", "pandas", "polars", "scipy")


@cache
def code_hash() -> str:
    """SHA-256 over the source files of the package, names and contents, 64 hex digits.

    The version number stands still between releases; this changes with every edited line, so it tells two states of a
    checkout apart and invalidates what an older one left in a journal.
    """
    root = Path(slipstream.__file__).parent
    digest = hashlib.sha256()
    for file in sorted(root.rglob("*.py")):
        text = file.read_bytes()
        digest.update(f"{file.relative_to(root).as_posix()} {len(text)}\n".encode())
        digest.update(text)
    return digest.hexdigest()


def versions() -> dict[str, str]:
    """Name -> version of Python, of this package (and the hash of its code), and of the numerical libraries."""
    found = {
        "python": platform.python_version(),
        "slipstream": slipstream.__version__,
        "slipstream-code": code_hash(),
    }
    for name in _COMPUTES_WITH:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found
