"""A map that can be stopped at any moment and taken up again: each finished result is kept in a journal.

The journal is a folder with one file per result, named by a hash of all the result follows from: the function's name,
the caller's key (what version of the code), the item, and what is shared. So it never serves a result of other data or
other settings, several studies can share one, and it can be deleted at any time for the price of computing again.
"""

from __future__ import annotations

import fcntl
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TypeVar

from slipstream.errors import SlipstreamError
from slipstream.lake.durable import write_whole
from slipstream.research.content import content_hash
from slipstream.research.executor import Executor, Progress
from slipstream.research.result_file import Kept, decode, encode
from slipstream.research.tasks import Shared, function_name

Item = TypeVar("Item")
Result = TypeVar("Result")

_LOCK = "lock"
_log = logging.getLogger(__name__)


class JournalBusy(SlipstreamError):
    """Another process works with the journal."""


def resumable_map(
    executor: Executor,
    function: Callable[..., Result],
    items: Sequence[Item],
    journal: Path,
    key: str,
    *,
    shared: Shared | None = None,
    progress: Progress | None = None,
) -> list[Result]:
    """As :meth:`Executor.map`, but results in the journal are read, and each new one is kept the moment it is there.

    After an interrupt or a crash the same call goes on where the first one stopped, on any executor, and returns the
    same bits. A file that is damaged counts as absent.

    Args:
        executor: where the missing results are computed.
        function: of a module; its results may hold what :func:`~slipstream.research.result_file.encode` takes.
        items: what :func:`~slipstream.research.content.content_hash` takes, as must be what is shared.
        journal: a folder, made if absent.
        key: what the results depend on besides, above all the version of the code
            (:func:`~slipstream.research.provenance.code_hash` if in doubt).
        shared: as for :meth:`Executor.map`.
        progress: told how many results there are, those found in the journal included.

    Raises:
        ContentError: an item, or what is shared, has no content hash.
        ResultError: a result cannot be kept.
        JournalBusy: another process holds the journal.
        SlipstreamError: as :meth:`Executor.map`.
    """
    study = content_hash({"function": function_name(function), "key": key, "shared": shared})
    files = [journal / f"{content_hash([study, item])}.result" for item in items]
    with _held(journal):
        found = {index: kept for index, file in enumerate(files) if (kept := _read(file)) is not None}
        missing = [index for index in range(len(items)) if index not in found]
        if progress is not None:
            progress(len(found), len(items))
        with closing(executor.stream(function, [items[index] for index in missing], shared=shared)) as finished:
            for position, result in finished:
                index = missing[position]
                content = encode(result)
                write_whole(files[index], content)
                # What comes back is what a later call will read.
                found[index] = _whole(content)
                if progress is not None:
                    progress(len(found), len(items))
    return [found[index].value for index in range(len(items))]


def _read(file: Path) -> Kept | None:
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        return None
    kept = decode(content)
    if kept is None:
        _log.warning("%s is damaged; its result is computed again", file)
    return kept


def _whole(content: bytes) -> Kept:
    kept = decode(content)
    if kept is None:
        raise SlipstreamError("a result changed while it was written; the machine's memory may be faulty")
    return kept


@contextmanager
def _held(journal: Path) -> Iterator[None]:
    journal.mkdir(parents=True, exist_ok=True)
    with (journal / _LOCK).open("wb") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise JournalBusy(
                f"{journal}: another process works with this journal; wait for it or name another"
            ) from None
        # The lock is the kernel's, so whatever draft lies here belongs to a process that is gone.
        for draft in journal.glob(".*.new"):
            draft.unlink()
        yield
