"""A folder of export files that can be cut short at any instant, and that notices when somebody else changed one.

    FOLDER/manifest.json        per file: SHA-256, rows, first and last row
    FOLDER/BTC_candles_4h.csv   ...
    FOLDER/_backup/BTC_candles_4h.csv.20250131T080000Z   what later values replaced: kept for good

Files are written beside their places and synced. Then the manifest is renamed into place naming, next to what is there,
what is *coming*; then each file is renamed; then the manifest that names only the new state. A process killed at any
instant leaves every file old or new, whole, and its digest among those the manifest names: an interrupted export is
never taken for a damaged file, and a damaged file never for an interrupted export.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from slipstream.core.panel import utc
from slipstream.errors import DataError, SlipstreamError
from slipstream.lake.durable import sync, write_synced, write_whole
from slipstream.lake.export.file_names import NamesTaken

MANIFEST = "manifest.json"
BACKUP = "_backup"
_LOCK = ".lock"
_FORMAT = 1


class FileDamaged(DataError):
    """A file that is there cannot be trusted: it is left as it is."""


class ExportBusy(SlipstreamError):
    """Another process is writing the exports."""


@dataclass(frozen=True)
class FileEntry:
    """What the manifest says of a file; ``first`` and ``last`` are its first and last time, ISO 8601, UTC."""

    sha256: str
    rows: int
    first: str
    last: str


@dataclass(frozen=True)
class _Staged:
    draft: Path
    entry: FileEntry
    keep_old: bool


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Make the folder, and keep other writers out of it; the lock is the kernel's and dies with its holder.

    Raises:
        ExportBusy: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _LOCK).open("a+", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as problem:
            raise ExportBusy(
                f"{folder}: another process is writing exports here; try again when it is done"
            ) from problem
        yield


class ExportFolder:
    """Reads checked files, gathers new ones, and puts all of them into force at once.

    Args:
        place: the folder; made by the first commit.
        trust_files: take files, and a manifest that cannot be read, as they are. Files must still be readable.
    """

    def __init__(self, place: Path, *, trust_files: bool = False) -> None:
        self.place = place
        self._trust = trust_files
        self._staged: dict[str, _Staged] = {}
        self._problem: str | None = None
        self._entries: dict[str, FileEntry] = {}
        self._unfinished = False
        self._seen: dict[str, str] = {}
        self._load()
        self._names: NamesTaken | None = None

    @property
    def trusted(self) -> bool:
        """Whether files are taken as they are."""
        return self._trust

    def read(self, name: str) -> bytes | None:
        """The file's content, checked against the manifest; None if there is no such file.

        Raises:
            FileDamaged: it cannot be read, or is not what was written.
        """
        self._require_manifest()
        content = self._content(name)
        if content is None or self._matches(name, content) or self._trust:
            return content
        self._load()  # a writer may have come between the manifest and the file
        content = self._content(name)
        if content is None or self._matches(name, content):
            return content
        raise FileDamaged(
            f"{self.place / name}: the file differs from its checksum in {MANIFEST}: somebody changed it, or the disk "
            "damaged it. It is left as it is. Restore it, or pass --trust-files if its values are right"
        )

    def entry(self, name: str) -> FileEntry | None:
        """What the manifest says of a file.

        Raises:
            FileDamaged: the manifest cannot be read.
        """
        self._require_manifest()
        return self._entries.get(name)

    def agrees(self, name: str) -> bool:
        """Whether the file that was read is the one the manifest names."""
        entry = self._entries.get(name)
        return entry is not None and self._seen.get(name) == entry.sha256

    def reserve(self, name: str) -> None:
        """Make sure that a file of this name may be staged.

        Raises:
            SafetyRefusal: the name differs only by case from one that is there.
        """
        if self._names is None:
            self._names = self._begin()
        self._names.take(name)

    def stage(self, name: str, content: bytes, rows: int, first: str, last: str, *, keep_old: bool) -> None:
        """Write a file beside its place, for the next commit to put into force.

        Args:
            name: of the file.
            content: its bytes.
            rows: below the header.
            first: its first time.
            last: its last time.
            keep_old: whether the file it replaces is kept in ``_backup``.

        Raises:
            SafetyRefusal: the name differs only by case from one that is there.
            OSError: the disk refused.
        """
        self.reserve(name)
        draft = self.place / f".{name}.new"
        write_synced(draft, content)
        self._staged[name] = _Staged(draft, FileEntry(_digest(content), rows, first, last), keep_old)

    def commit(self, now_ms: int) -> tuple[Path, ...]:
        """Put all staged files into force; returns their paths in order of names.

        Args:
            now_ms: the present, Unix ms, for the names of backups.

        Raises:
            OSError: the disk refused; files are old or new, each whole, and the next commit goes on from there.
        """
        if not self._staged:
            if self._unfinished:
                self._write_manifest({})
                self._unfinished = False
            return ()
        for name, staged in self._staged.items():
            if staged.keep_old:
                self._keep(name, now_ms)
        coming = {name: staged.entry for name, staged in self._staged.items()}
        for name, digest in self._seen.items():
            if name in coming and (name not in self._entries or self._entries[name].sha256 != digest):
                # not in the manifest, or taken on trust: what is there must be known again if this is cut short
                self._entries[name] = FileEntry(digest, 0, "", "")
        self._write_manifest(coming)
        for name, staged in self._staged.items():
            staged.draft.replace(self.place / name)
        sync(self.place)
        self._entries |= coming
        self._write_manifest({})
        self._unfinished = False
        written = tuple(self.place / name for name in sorted(coming))
        self._staged.clear()
        return written

    def drop(self, name: str) -> None:
        """Take back a staged file."""
        staged = self._staged.pop(name, None)
        if staged is not None:
            staged.draft.unlink(missing_ok=True)

    def abandon(self) -> None:
        """Take back whatever is staged."""
        for name in list(self._staged):
            self.drop(name)

    def _load(self) -> None:
        """Read the manifest, and settle what an interrupted commit left open by looking at the files themselves."""
        self._problem, self._entries, self._unfinished = None, {}, False
        file = self.place / MANIFEST
        if not file.exists():
            return
        try:
            held = json.loads(file.read_bytes())
            if held["format"] != _FORMAT:
                raise ValueError(f"format {held['format']} is not {_FORMAT}")
            self._entries = {name: FileEntry(**entry) for name, entry in held["files"].items()}
            coming = {name: FileEntry(**entry) for name, entry in held["coming"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as problem:
            self._entries = {}
            self._problem = f"{file}: the manifest cannot be read ({problem}); restore it, or pass --trust-files"
            return
        for name, entry in coming.items():
            self._unfinished = True
            if self._arrived(name, entry):
                self._entries[name] = entry

    def _arrived(self, name: str, entry: FileEntry) -> bool:
        """Whether a file named as coming is in place; one that is neither old nor new differs from both digests."""
        try:
            content = self._content(name)
        except FileDamaged:
            return False  # whoever reads it is told
        return content is not None and (name not in self._entries or _digest(content) == entry.sha256)

    def _require_manifest(self) -> None:
        if self._problem is not None and not self._trust:
            raise FileDamaged(self._problem)

    def _content(self, name: str) -> bytes | None:
        try:
            return (self.place / name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as problem:
            raise FileDamaged(f"{self.place / name}: cannot be read ({problem}); it is left as it is") from problem

    def _matches(self, name: str, content: bytes) -> bool:
        self._seen[name] = _digest(content)
        entry = self._entries.get(name)
        return entry is None or self._seen[name] == entry.sha256

    def _begin(self) -> NamesTaken:
        """Before the first file is staged: the folder, what an interrupted export left in it, the names it holds."""
        self.place.mkdir(parents=True, exist_ok=True)
        held = [entry.name for entry in self.place.iterdir()]
        for name in held:
            if name.startswith(".") and name.endswith(".new"):
                (self.place / name).unlink(missing_ok=True)
        return NamesTaken(name for name in held if not name.startswith("."))

    def _keep(self, name: str, now_ms: int) -> None:
        """Put a file that will be replaced into ``_backup``; never over another."""
        content = (self.place / name).read_bytes()
        folder = self.place / BACKUP
        folder.mkdir(exist_ok=True)
        stamp = f"{utc(now_ms):%Y%m%dT%H%M%SZ}"
        target, again = folder / f"{name}.{stamp}", 1
        while target.exists():
            if target.read_bytes() == content:
                return
            again += 1
            target = folder / f"{name}.{stamp}.{again}"
        write_whole(target, content)

    def _write_manifest(self, coming: dict[str, FileEntry]) -> None:
        body = {
            "format": _FORMAT,
            "files": {name: asdict(self._entries[name]) for name in sorted(self._entries)},
            "coming": {name: asdict(coming[name]) for name in sorted(coming)},
        }
        write_whole(self.place / MANIFEST, (json.dumps(body, indent=1) + "\n").encode())


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
