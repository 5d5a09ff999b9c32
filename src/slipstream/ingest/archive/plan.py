"""What is still to be fetched, how much that is, and what it will cost: known before the first byte is paid for.

Sizes come from listing the bucket, which also tells what is not there without asking for each object.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter

from slipstream.ingest.archive.bucket import Bucket
from slipstream.ingest.archive.objects import Archive, Slots
from slipstream.ingest.archive.progress import ABSENT, DONE, EMPTY

USD_PER_GB = 0.09
"""Amazon's price for data leaving a region, first 10 TB of a month; checked on 2026-11-22. A GB is 10^9 bytes here,
which overstates a little: Amazon counts 2^30."""
USD_PER_1000_GETS, USD_PER_1000_LISTS = 0.0004, 0.005
_KEYS_PER_LIST = 1000


@dataclass(frozen=True, slots=True)
class Wanted:
    """An object to fetch: ``coin`` is None where it holds all of them; ``size`` in bytes as listed."""

    start_ms: int
    coin: str | None
    size: int


@dataclass(frozen=True)
class Plan:
    """One archive's part of a run.

    Attributes:
        slots: the objects asked about.
        coins: names to keep, or ``*``.
        pending: what to fetch, by time.
        absent: (start, coin) found missing from the bucket just now.
        done: objects dealt with before.
        known_absent: objects found missing before and not looked for again.
        lists: requests it took to find out.
    """

    slots: Slots
    coins: tuple[str, ...]
    pending: tuple[Wanted, ...]
    absent: tuple[tuple[int, str | None], ...]
    done: int
    known_absent: int
    lists: int

    @property
    def archive(self) -> Archive:
        """What kind of objects."""
        return self.slots.archive


@dataclass(frozen=True)
class Cost:
    """What fetching costs the reader; ``usd`` is for the bytes and the requests, before any free tier."""

    objects: int
    bytes: int
    usd: float


def cost_of(plans: Sequence[Plan]) -> Cost:
    """The price of what is pending."""
    objects = sum(len(plan.pending) for plan in plans)
    size = sum(wanted.size for plan in plans for wanted in plan.pending)
    requests = objects * USD_PER_1000_GETS / 1000 + sum(plan.lists for plan in plans) * USD_PER_1000_LISTS / 1000
    return Cost(objects, size, size / 1e9 * USD_PER_GB + requests)


def plan_fetch(
    bucket: Bucket,
    slots: Slots,
    coins: Sequence[str],
    states: Mapping[str, bytearray],
    *,
    recheck_absent: bool = False,
    workers: int = 16,
) -> Plan:
    """Compare what is wanted with what is done and with what the bucket lists.

    Args:
        bucket: where the archive lies.
        slots: the objects asked about.
        coins: names, or ``*`` for all coins of objects that hold all of them.
        states: per coin, one state per object (see :mod:`slipstream.ingest.archive.progress`).
        recheck_absent: look again for what was found missing before.
        workers: listings at a time.

    Raises:
        AccessRefused, StoreFault: the bucket cannot be listed.
    """
    finished = bytes({DONE, EMPTY} if recheck_absent else {DONE, EMPTY, ABSENT})
    archive = slots.archive
    unfinished: list[tuple[int, str | None]] = []
    done = known_absent = 0
    for index, start in enumerate(slots):
        for coin, codes in _objects(archive, coins, states, index):
            if codes.strip(finished):
                unfinished.append((start, coin))
            elif ABSENT in codes:
                known_absent += 1
            else:
                done += 1
    listed, lists = _listed(
        bucket, list(dict.fromkeys(archive.folder_of(start) for start in _starts(unfinished))), workers
    )
    pending: list[Wanted] = []
    absent: list[tuple[int, str | None]] = []
    for start, group in groupby(unfinished, key=itemgetter(0)):
        key_of = archive.keys_at(start)
        for _, coin in group:
            size = listed.get(key_of(coin))
            if size is None:
                absent.append((start, coin))
            else:
                pending.append(Wanted(start, coin, size))
    return Plan(slots, tuple(coins), tuple(pending), tuple(absent), done, known_absent, lists)


def _starts(objects: Sequence[tuple[int, str | None]]) -> Iterator[int]:
    return (start for start, _ in groupby(objects, key=itemgetter(0)))


def _listed(bucket: Bucket, folders: Sequence[str], workers: int) -> tuple[dict[str, int], int]:
    """Bytes by key of everything in some folders, and how many requests that took."""
    found: dict[str, int] = {}
    lists = 0
    with ThreadPoolExecutor(max(1, min(workers, len(folders)))) as pool:
        for sizes in pool.map(bucket.sizes, folders):
            found |= sizes
            lists += max(1, -(-len(sizes) // _KEYS_PER_LIST))
    return found, lists


def _objects(
    archive: Archive, coins: Sequence[str], states: Mapping[str, bytearray], index: int
) -> list[tuple[str | None, bytes]]:
    """The objects of one start, each with the states of the coins wanted from it."""
    if archive.per_coin:
        return [(coin, bytes((states[coin][index],))) for coin in coins]
    return [(None, bytes(states[coin][index] for coin in coins))]
