"""Where a lake lies: a folder, or a prefix in an S3-compatible store, behind the same few operations.

    data/lake                 a folder
    s3://bucket/prefix        credentials, region and endpoint from the AWS_* environment variables

What is written is durable before the call returns: on a disk the file is synced under a draft name and renamed, in an
object store the put is atomic by itself.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from slipstream.errors import DataError, SlipstreamError
from slipstream.lake.durable import make_folders, sync, write_whole
from slipstream.lake.locate import as_url

_LOCK = "lock"
_LONGEST_REASON = 240
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_REMOTE = ("s3://", "s3a://")
_DECODED = re.compile("%[0-9A-Fa-f]{2}")
"""What the Delta library takes for an encoded character of a path, so that it would write into another folder."""

_NO_SECOND_NAME = {errno.EPERM, errno.EOPNOTSUPP, errno.EXDEV, errno.EMLINK, errno.ENOSYS}
"""How a file system says that it cannot give a file another name."""


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
            DataError: a URL of a kind that is not supported, or a path that the Delta library would misread.
        """
        text, url = str(place), as_url(place)
        if url is not None and url.startswith(_REMOTE):
            return cls(url.rstrip("/"))
        if url is not None:
            raise DataError(f"{text}: a lake is a folder or an s3:// URL")
        folder = Path(text).expanduser()
        if _DECODED.search(str(folder.resolve())):
            raise DataError(
                f"{text}: a lake's path may not hold a percent sign before two hexadecimal digits; rename the folder"
            )
        return cls(str(folder))

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
        """The whole content, or None if nothing of that name is there.

        Raises:
            OSError: it is there, perhaps, but cannot be read.
        """
        try:
            if self.folder is not None:
                return (self.folder / name).read_bytes()
            with _remote_errors():
                return bytes(self._objects.get(name).bytes())
        except FileNotFoundError:
            return None

    def write(self, name: str, content: bytes) -> None:
        """Put ``content`` under ``name``, durable and whole or not at all.

        Raises:
            OSError: the disk refused; nothing of that name was changed.
        """
        if self.folder is None:
            with _remote_errors():
                self._objects.put(name, content)
            return
        target = self.folder / name
        make_folders(target.parent)
        # threads of a process, and processes of the same number in two containers, may write the same part
        write_whole(target, content, draft=target.with_name(f".{target.name}.{uuid.uuid4().hex}.draft"))

    def copy(self, name: str, to: str) -> None:
        """Keep a second copy of an object under another name; an existing one stays.

        Raises:
            OSError: the disk refused, or there is nothing to copy.
        """
        if self.folder is None:
            with _remote_errors():
                self._objects.copy(name, to)
            return
        target = self.folder / to
        make_folders(target.parent)
        if target.exists():
            return
        try:
            os.link(self.folder / name, target)
        except FileExistsError:
            return  # another writer corrects the same part and was a moment quicker
        except OSError as problem:
            if problem.errno not in _NO_SECOND_NAME:
                raise
            self.write(to, (self.folder / name).read_bytes())
        sync(target.parent)

    def remove(self, name: str) -> None:
        """Remove an object if it is there.

        Raises:
            OSError: it could not be removed.
        """
        if self.folder is None:
            with _remote_errors():
                self._objects.delete(name)
        else:
            (self.folder / name).unlink(missing_ok=True)

    def names(self, below: str) -> list[str]:
        """Names of all objects under a prefix, sorted, relative to the place.

        Raises:
            OSError: they cannot be listed.
        """
        if self.folder is None:
            with _remote_errors():
                return sorted(str(held["path"]) for page in self._objects.list(f"{below}/") for held in page)
        root = self.folder
        return sorted(file.relative_to(root).as_posix() for file in (root / below).rglob("*") if file.is_file())

    def written_ms(self, name: str) -> int | None:
        """When an object was last written, Unix ms; None if nothing of that name is there.

        Raises:
            OSError: its entry cannot be read.
        """
        try:
            if self.folder is not None:
                return (self.folder / name).stat().st_mtime_ns // 1_000_000
            with _remote_errors():
                return int(self._objects.head(name)["last_modified"].timestamp() * 1000)
        except FileNotFoundError:
            return None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep a second loader out of a lake on a disk; the kernel frees the lock of a process that died.

        In an object store there is no such lock: commits there detect each other, and two loaders only repeat work.

        Raises:
            LakeBusy: another process holds it.
            SlipstreamError: the disk refuses a lock.
        """
        if self.folder is None:
            yield
            return
        try:
            make_folders(self.folder)
            lock = (self.folder / _LOCK).open("a+", encoding="utf-8")
        except OSError as problem:
            raise SlipstreamError(
                f"{self.url}: the lake could not be locked ({problem}); nothing was done"
            ) from problem
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as problem:
                raise LakeBusy(
                    f"{self.url}: another process is loading into this lake; try again when it is done"
                ) from problem
            except OSError as problem:
                raise SlipstreamError(f"{self.url}: the lake could not be locked ({problem}); nothing was done") from (
                    problem
                )
            yield


@contextmanager
def _remote_errors() -> Iterator[None]:
    """Turn what an object store answers into the errors a disk would raise."""
    from obstore.exceptions import BaseError

    try:
        yield
    except BaseError as problem:
        raise OSError(one_line(problem)) from problem


def one_line(problem: Exception) -> str:
    """The message of an error of a library, which may run over many lines, in one of reasonable length."""
    text = " ".join(_COLOUR.sub("", str(problem)).split())
    half = _LONGEST_REASON // 2  # the cause may stand at either end
    return text if len(text) <= _LONGEST_REASON else f"{text[:half]} ... {text[-half:]}"
