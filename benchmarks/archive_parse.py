"""How fast an hour of book snapshots becomes a bar of mids: ``python benchmarks/archive_parse.py``.

Real snapshots of twenty levels (`../shared/data/book`), written as the archive writes them and packed with LZ4, are
read by this code with one thread, with sixteen and with two processes, and by three peers in the same run, in turns:
pandas over the whole text (``read_json(lines=True)``), and Python's ``json`` and ``msgspec`` without types line
by line. All start from the packed object and end with the same bar, which is checked. The standing target is 100 MB of
text a second on two cores.
The backfill uses threads: they need no copies between processes, and one process already reads faster than an archive
is usually delivered (packed about five to one, 200 MB of text are 40 MB on the wire).
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter

import lz4.frame
import msgspec
import pandas as pd
import polars as pl

from slipstream.ingest.archive.book_lines import MidBar, mid_bar
from slipstream.ingest.archive.lz4_lines import unpacked

RECORDING = Path(__file__).resolve().parents[2] / "shared" / "data" / "book" / "hyperliquid_20250904_orderbooks.parquet"
COIN, LEVELS, HOUR_MS = "BTC", 20, 3_600_000
SNAPSHOTS = 6_633
"""Lines in an hour's object, as measured by users of the archive."""
OBJECTS, ROUNDS, CHUNK = 16, 3, 256 << 10


def archive_object() -> tuple[bytes, bytes, int]:
    """An hour's object: packed, unpacked, and its hour. The recording's snapshots are spread over the whole hour."""
    book = pl.read_parquet(RECORDING).filter(pl.col("coin") == COIN)
    open_ms = book["exchange_timestamp"][0] // HOUR_MS * HOUR_MS
    lines = []
    for number in range(SNAPSHOTS):
        row = book.row(number % book.height, named=True)
        time_ms = open_ms + number * HOUR_MS // SNAPSHOTS
        levels = [
            [
                {"px": str(row[f"{side}_price_{i}"]), "sz": str(row[f"{side}_size_{i}"]), "n": 1 + i % 7}
                for i in range(LEVELS)
            ]
            for side in ("bid", "ask")
        ]
        stamp = datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f") + "791"
        raw = {"channel": "l2Book", "data": {"coin": COIN, "time": time_ms, "levels": levels}}
        lines.append(json.dumps({"time": stamp, "ver_num": 1, "raw": raw}, separators=(",", ":")))
    text = "\n".join(lines).encode() + b"\n"
    return lz4.frame.compress(text), text, open_ms


def pieces(packed: bytes) -> Iterator[bytes]:
    """The object as the network delivers it."""
    return (packed[i : i + CHUNK] for i in range(0, len(packed), CHUNK))


def ours(packed: bytes, open_ms: int) -> MidBar | None:
    """As a worker of the backfill reads it."""
    return mid_bar(unpacked(pieces(packed), "object"), COIN, open_ms, "object")[0]


def bar(mids: list[float], open_ms: int) -> MidBar:
    """The bar of mids in order of time."""
    return MidBar(COIN, open_ms, mids[0], max(mids), min(mids), mids[-1], len(mids))


def with_pandas(packed: bytes, open_ms: int) -> MidBar:
    """The usual way: the whole text as a frame."""
    frame = pd.read_json(io.BytesIO(lz4.frame.decompress(packed)), lines=True)
    levels = frame["raw"].map(lambda raw: raw["data"]["levels"])
    mids = levels.map(lambda sides: 0.5 * (float(sides[0][0]["px"]) + float(sides[1][0]["px"])))
    return bar(mids.to_list(), open_ms)


def line_by_line(loads: Callable[[bytes], dict]) -> Callable[[bytes, int], MidBar]:
    """A loop over lines with some decoder of JSON."""

    def read(packed: bytes, open_ms: int) -> MidBar:
        sides = (loads(line)["raw"]["data"]["levels"] for line in lz4.frame.decompress(packed).splitlines())
        return bar([0.5 * (float(bids[0]["px"]) + float(asks[0]["px"])) for bids, asks in sides], open_ms)

    return read


def main() -> None:
    """Print MB of text per second, best of some rounds, and ratios to pandas."""
    about = (__doc__ or "").splitlines()[0]
    argparse.ArgumentParser(
        description=about, epilog="archive_parse.py has no flags; it takes half a minute"
    ).parse_args()
    if not RECORDING.is_file():
        sys.exit(f"real recordings are absent: expected {RECORDING}")
    packed, text, open_ms = archive_object()
    megabytes = len(text) / 1e6
    print(
        f"object: {SNAPSHOTS} snapshots of {LEVELS} levels, {megabytes:.1f} MB of text, {len(packed) / 1e6:.1f} packed"
    )
    expected = with_pandas(packed, open_ms)
    single = {
        "this code, one thread": ours,
        "pandas read_json": with_pandas,
        "json line by line": line_by_line(json.loads),
        "msgspec without types": line_by_line(msgspec.json.decode),
    }
    best = dict.fromkeys([*single, "this code, 16 threads", "this code, two processes"], 0.0)
    with ThreadPoolExecutor(16) as threads, ProcessPoolExecutor(2, get_context("spawn")) as processes:
        jobs = ([packed] * OBJECTS, [open_ms] * OBJECTS)
        list(processes.map(ours, *jobs))  # starts them
        for _ in range(ROUNDS):
            for name, read in single.items():
                began = perf_counter()
                found = read(packed, open_ms)
                best[name] = max(best[name], megabytes / (perf_counter() - began))
                assert found == expected, f"{name}: {found} is not {expected}"
            for name, pool in (("this code, 16 threads", threads), ("this code, two processes", processes)):
                began = perf_counter()
                assert set(pool.map(ours, *jobs)) == {expected}
                best[name] = max(best[name], OBJECTS * megabytes / (perf_counter() - began))
    for name, rate in sorted(best.items(), key=lambda item: -item[1]):
        print(f"  {name:26} {rate:6.0f} MB/s   {rate / best['pandas read_json']:5.1f} times pandas")


if __name__ == "__main__":
    main()
