"""Files that are there whole and outlast a loss of power, or are not there: the one way files are written here."""

from __future__ import annotations

import os
from pathlib import Path


def write_whole(file: Path, content: bytes, *, draft: Path | None = None) -> None:
    """Put a file in place under its name: written beside it, synced, renamed, and the rename synced.

    Args:
        file: in a folder that is there.
        content: all of it.
        draft: what it is called until then. The default is always the same, so what a killed writer leaves is written
            over by the next; writers that may work on one file at the same time need names of their own.

    Raises:
        OSError: the disk refused; what was there before is untouched.
    """
    draft = file.with_name(f".{file.name}.new") if draft is None else draft
    try:
        write_synced(draft, content)
        draft.replace(file)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    sync(file.parent)


def write_synced(file: Path, content: bytes) -> None:
    """Write a file and force it to disk; one that is cut short is left cut short."""
    with file.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def sync(path: Path) -> None:
    """Force a file, or a directory's entries, to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folders(folder: Path) -> None:
    """Make a folder and its parents, their entries durable."""
    if folder.is_dir():
        return
    make_folders(folder.parent)
    folder.mkdir(exist_ok=True)
    sync(folder.parent)
