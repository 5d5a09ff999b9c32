"""A result on disk: plain values as JSON, arrays as npz, nothing that runs when it is read.

    slipstream-result 1 <sha256 of the rest>
    npz: "tree" (JSON text), "0", "1", ... (the arrays it names)

Reading back gives what was written, bit for bit and type for type (a tuple stays a tuple, a numpy scalar keeps its
width). The checksum comes first, so a file that was cut, edited or half written is found out before anything in it is
interpreted. A file appears under its name complete and synced, or not at all.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slipstream.errors import UsageError

_MAGIC = b"slipstream-result 1 "
_TREE = "tree"


class ResultError(UsageError):
    """A result that cannot be kept; the message says where in it."""


@dataclass(frozen=True)
class Kept:
    """A result read back, wrapped so that a kept None differs from nothing kept."""

    value: Any


def encode(value: object) -> bytes:
    """The file's bytes of a result.

    Args:
        value: None, bool, int, float, str, numpy arrays and scalars, nested in lists, tuples and mappings.

    Raises:
        ResultError: something inside is of another type; its place is named.
    """
    arrays: dict[str, NDArray[Any]] = {}
    tree = json.dumps(_node(value, arrays, "result"), ensure_ascii=True, allow_nan=False).encode()
    body = io.BytesIO()
    np.savez(body, allow_pickle=False, **{_TREE: np.frombuffer(tree, dtype=np.uint8), **arrays})
    rest = body.getvalue()
    return _MAGIC + hashlib.sha256(rest).hexdigest().encode() + b"\n" + rest


def decode(content: bytes) -> Kept | None:
    """What :func:`encode` was given; None if the bytes are not whole."""
    head, newline, rest = content.partition(b"\n")
    if not newline or head != _MAGIC + hashlib.sha256(rest).hexdigest().encode():
        return None
    with np.load(io.BytesIO(rest), allow_pickle=False) as members:
        tree = json.loads(members[_TREE].tobytes())
        return Kept(_value(tree, members))


def _node(value: object, arrays: dict[str, NDArray[Any]], place: str) -> object:
    """JSON of a value: a scalar as itself, everything else as [kind, ...]."""
    if isinstance(value, np.ndarray | np.generic):
        array = np.asarray(value)
        if array.dtype.hasobject:
            raise ResultError(
                f"{place} is an array of Python objects, which cannot be kept; make it an array of numbers"
            )
        name = str(len(arrays))
        arrays[name] = array
        return ["array" if isinstance(value, np.ndarray) else "scalar", name]
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else ["float", repr(value)]
    if isinstance(value, list | tuple):
        kind = "list" if isinstance(value, list) else "tuple"
        return [kind, [_node(member, arrays, f"{place}[{index}]") for index, member in enumerate(value)]]
    if isinstance(value, dict):
        pairs = [
            [_node(key, arrays, f"a key of {place}"), _node(member, arrays, f"{place}[{key!r}]")]
            for key, member in value.items()
        ]
        return ["dict", pairs]
    raise ResultError(
        f"{place} is a {type(value).__name__}, which cannot be kept; return numbers, text, arrays, lists or dicts"
    )


def _value(node: Any, members: Any) -> Any:
    if not isinstance(node, list):
        return node
    kind, content = node
    if kind == "array":
        return members[content]
    if kind == "scalar":
        return members[content][()]
    if kind == "float":
        return float(content)
    if kind == "dict":
        return {_value(key, members): _value(member, members) for key, member in content}
    sequence = [_value(member, members) for member in content]
    return sequence if kind == "list" else tuple(sequence)
