"""Tasks for the tests of executors, what they share, and when two results are the same.

A module of its own, because workers import it by name.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from slipstream.errors import DataError
from slipstream.lake.synthetic import SyntheticConfig, synthetic_market
from slipstream.research.content import task_generator


def same(one, other) -> bool:
    """Equal in type and in bits, at any depth."""
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray | np.generic):
        return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    if isinstance(one, float):
        return one.hex() == other.hex()
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    return one == other


def large_and_read_only():
    """Arrays of every kind: flat, strided, and inside a dataclass."""
    rng = np.random.default_rng(3)
    return {
        "returns": rng.standard_normal((600, 400)),
        "long": rng.standard_normal(200_001),
        "strided": rng.standard_normal((600, 800))[:, ::2],
        "panel": synthetic_market(SyntheticConfig(coins=5, hours=200, seed=1)).panel,
    }


class TwoPartError(Exception):
    """Cannot be unpickled: its constructor takes more than its message."""

    def __init__(self, coin: str, row: int) -> None:
        super().__init__(f"{coin} at row {row}")


def square(item):
    return item * item


def later_items_finish_first(item):
    time.sleep(0.05 * (4 - item))
    return item


def study(item, shared):
    """Draws, a product, a factorisation and a sum: what research is made of, and what threads would change."""
    draws = task_generator(7, item).standard_normal((400, 300))
    product = shared["returns"] @ draws
    values, _ = np.linalg.eigh(product.T @ product)
    return {
        "item": item,
        "product": product,
        "values": values,
        "dot": float(np.dot(shared["long"], shared["long"][::-1])),
        "strided": shared["strided"].sum(axis=0),
        "nested": (np.nansum(shared["panel"].close), None),
    }


def where_it_lies(item, shared):
    time.sleep(0.02)
    return os.getpid(), shared["returns"].__array_interface__["data"][0]


def is_writeable(item, shared):
    arrays = (shared["returns"], shared["strided"], shared["panel"].close, shared["panel"].universe)
    return [array.flags.writeable for array in arrays]


def write_into(item, shared):
    shared[item][0] = 0.0


def add_an_entry(item, shared):
    shared[item] = 1


def zeros(item):
    return np.zeros(item)


def fails(item):
    if item["H"] == 12:
        raise ZeroDivisionError("no bars\nof 12 hours")
    return item["H"]


def fails_late_then_early(item):
    """Task 0 fails after task 1 has: the first in order is to be named all the same."""
    time.sleep(0.4 if item == 0 else 0.0)
    raise ValueError(f"item {item}")


def marks_its_start(item):
    number, folder = item
    (Path(folder) / str(number)).touch()
    if number == 0:
        raise ValueError("the first one fails")
    time.sleep(0.05)


def bad_data(item):
    raise DataError(f"{item}: no such file")


def raises_what_cannot_travel(item):
    raise TwoPartError("BTC", item)


def returns_what_cannot_travel(item):
    return lambda: item


def leaves(item):
    sys.exit(3)


def dies(item):
    if item == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def sleeps(item):
    Path(item).touch()
    time.sleep(60)


def counted(item, shared):
    """Leaves a trace of each call; stops at the item that has no permission to pass."""
    (Path(shared["trace"]) / f"{item}-{time.monotonic_ns()}").touch()
    if item == 3 and not (Path(shared["trace"]) / "go").exists():
        raise KeyboardInterrupt
    return {"item": item, "values": task_generator(1, item).standard_normal(5), "nothing": None, "nan": float("nan")}
