"""Finding the file a user meant: a path that does not exist is answered with the nearest one that does."""

from __future__ import annotations

import difflib
import re
from pathlib import Path

from slipstream.errors import DataError


def as_url(path: str | Path) -> str | None:
    """The URL of an object store that ``path`` is, also after a Path has folded its two slashes into one; else None."""
    found = re.fullmatch(r"([a-z][a-z0-9]+):/{1,2}(.+)", str(path))
    return None if found is None else f"{found[1]}://{found[2]}"


def is_url(path: str | Path) -> bool:
    """Whether the path is the URL of an object store."""
    return as_url(path) is not None


def existing(path: str | Path) -> Path:
    """``path`` as a Path.

    Raises:
        DataError: nothing is there; the message names the nearest path that exists.
    """
    wanted = Path(path).expanduser()
    if not wanted.exists():
        raise DataError(f"{wanted}: no such file or folder; the nearest one that exists is {nearest(wanted)}")
    return wanted


def nearest(wanted: Path) -> Path:
    """The existing path most like ``wanted``: each missing part is replaced by its closest sibling, if one is close."""
    here = Path(wanted.anchor or ".")
    for part in wanted.parts[1:] if wanted.anchor else wanted.parts:
        if (here / part).exists():
            here = here / part
            continue
        siblings = sorted(entry.name for entry in here.iterdir()) if here.is_dir() else []
        close = difflib.get_close_matches(part, siblings, n=1, cutoff=0.6)
        if not close:
            break
        here = here / close[0]
    return here
