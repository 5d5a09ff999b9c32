"""Where a lake lies: a folder, or a prefix in an S3-compatible store, behind the same few operations.

    data/lake                 a folder
    s3://bucket/prefix        credentials, region and endpoint from the AWS_* environment variables

What is written is durable before the call returns: on a disk the file is synced under a draft name and renamed, in an
object store the put is atomic by itself.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from slipstream.errors import DataError, SlipstreamError

_LOCK = "lock"
_REMOTE = ("s3://", "s3a://")


class LakeBusy(SlipstreamError):
    """Another process is loading into the lake."""


@dataclass(frozen=True)
class Place:
    """A folder or a bucket prefix.

    Attributes:
        url: a path, or ``s3://bucket/prefix`` without a slash at its end.
    """

    url: str

    @classmethod
    def of(cls, place: str | Path) -> Place:
        """The place that a user named.

        Raises:
            DataError: a URL of a kind that is not supported.
        """
        text = str(place)
        if text.startswith(_REMOTE):
            return cls(text.rstrip("/"))
        if "://" in text:
            raise DataError(f"{text}: a lake is a folder or an s3:// URL")
        return cls(str(Path(text).expanduser()))

    @property
    def folder(self) -> Path | None:
        """The folder, or None in an object store."""
        return None if self.url.startswith(_REMOTE) else Path(self.url)

    @property
    def name(self) -> str:
        """Last part of the path, for reports."""
        return self.url.rstrip("/").rsplit("/", 1)[-1] if self.folder is None else Path(self.url).resolve().name

    def below(self, name: str) -> str:
        """URL of something inside."""
        return f"{self.url}/{name}"

    @cached_property
    def _objects(self) -> Any:
        from obstore.store import from_url

        return from_url(self.url)

    def read(self, name: str) -> bytes | None:
        """The whole content, or None if nothing of that name is there."""
        if self.folder is not None:
            try:
                return (self.folder / name).read_bytes()
            except FileNotFoundError:
                return None
        try:
            return bytes(self._objects.get(name).bytes())
        except FileNotFoundError:
            return None

    def write(self, name: str, content: bytes) -> None:
        """Put ``content`` under ``name``, durable and whole or not at all.

        Raises:
            OSError: the disk refused; nothing of that name was changed.
        """
        if self.folder is None:
            self._objects.put(name, content)
            return
        target = self.folder / name
        _make_folders(target.parent)
        draft = target.with_name(f".{target.name}.{os.getpid()}.draft")
        try:
            with draft.open("wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            draft.replace(target)
        except OSError:
            draft.unlink(missing_ok=True)
            raise
        sync(target.parent)

    def copy(self, name: str, to: str) -> None:
        """Keep a second copy of an object under another name; an existing one stays."""
        if self.folder is None:
            self._objects.copy(name, to)
            return
        target = self.folder / to
        _make_folders(target.parent)
        if not target.exists():
            os.link(self.folder / name, target)
            sync(target.parent)

    def remove(self, name: str) -> None:
        """Remove an object if it is there."""
        if self.folder is None:
            self._objects.delete(name)
        else:
            (self.folder / name).unlink(missing_ok=True)

    def names(self, below: str) -> list[str]:
        """Names of all objects under a prefix, sorted, relative to the place."""
        if self.folder is None:
            pages = self._objects.list(f"{below}/")
            return sorted(str(held["path"]) for page in pages for held in page)
        root = self.folder
        return sorted(file.relative_to(root).as_posix() for file in (root / below).rglob("*") if file.is_file())

    def exists(self) -> bool:
        """Whether anything is there."""
        if self.folder is not None:
            return self.folder.exists()
        return any(len(page) for page in self._objects.list(chunk_size=1))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep a second loader out of a lake on a disk; the kernel frees the lock of a process that died.

        In an object store there is no such lock: commits there detect each other, and two loaders only repeat work.

        Raises:
            LakeBusy: another process holds it.
        """
        if self.folder is None:
            yield
            return
        _make_folders(self.folder)
        with (self.folder / _LOCK).open("a+", encoding="utf-8") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as problem:
                raise LakeBusy(
                    f"{self.url}: another process is loading into this lake; try again when it is done"
                ) from problem
            yield


def sync(path: Path) -> None:
    """Force a file, or a directory's entries, to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _make_folders(folder: Path) -> None:
    """Make a folder and its parents, their entries durable."""
    if folder.is_dir():
        return
    _make_folders(folder.parent)
    folder.mkdir(exist_ok=True)
    sync(folder.parent)
