"""What a value is, as a SHA-256: the same content gives the same hash in any process, on any machine, on any day.

The value is written out as a sequence of tagged, length-prefixed pieces (so that no two values share a text) and
hashed as it goes; an array costs one pass and no copy. Two rules keep equal content equal: numbers are little-endian,
and every NaN is the same NaN, whatever bits a library left in it. Everything else that differs, differs: 1 is not
1.0, -0.0 is not 0.0, and a float32 is not the float64 of the same value. Lists and tuples are both sequences, since
JSON makes no difference between them. Mappings have no order; a dataclass is its name and its fields.

A panel's ``source`` says where its bars came from, not what they are, so it is left out.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from slipstream.core.panel import Panel
from slipstream.errors import UsageError

if TYPE_CHECKING:
    from hashlib import _Hash

_LABELS: dict[type, frozenset[str]] = {Panel: frozenset({"source"})}
"""Fields that name a value rather than make it up."""

_HASHED_KINDS = "biufSUMm"
"""Kinds of numpy dtypes whose bytes are their content: bool, integers, floats, text, dates and spans."""


class ContentError(UsageError):
    """A value that has no content hash or no JSON form; the message says where in it and what to hand in instead."""


def content_hash(value: object) -> str:
    """SHA-256 of a value's content, 64 hex digits.

    Args:
        value: None, bool, int, float, str, bytes, a numpy array or scalar, a list or tuple, a mapping, a dataclass
            (a :class:`~slipstream.core.panel.Panel` among them), nested as they come.

    Raises:
        ContentError: something inside is of another type; its place is named.
    """
    digest = hashlib.sha256()
    _feed(digest, value, "value")
    return digest.hexdigest()


def task_generator(seed: int, item: object) -> np.random.Generator:
    """The random numbers of one task: they follow from the study's seed and the item, never from the worker.

    Args:
        seed: of the whole study, at least 0.
        item: what the task is about; two tasks with equal items draw equal numbers.

    Raises:
        ContentError: the item has no content hash.
    """
    return np.random.default_rng([seed, int(content_hash(item), 16)])


def plain_json(value: object) -> str:
    """One JSON text of a value: keys sorted, no blanks, arrays as lists, dataclasses as objects.

    A number that is not finite is written null, for JSON has no word for it.

    Raises:
        ContentError: something inside has no JSON form; its place is named.
    """
    return json.dumps(_plain(value, "value"), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _feed(digest: _Hash, value: object, place: str) -> None:
    if isinstance(value, np.generic):
        value = value.item() if value.dtype.kind in "biuf" else np.asarray(value)
    if value is None:
        _piece(digest, b"n", b"")
    elif isinstance(value, bool):
        _piece(digest, b"t" if value else b"f", b"")
    elif isinstance(value, int):
        _piece(digest, b"i", str(int(value)).encode())
    elif isinstance(value, float):
        _piece(digest, b"d", struct.pack("<d", math.nan if math.isnan(value) else value))
    elif isinstance(value, str):
        _piece(digest, b"s", value.encode())
    elif isinstance(value, bytes):
        _piece(digest, b"b", value)
    elif isinstance(value, np.ndarray):
        _feed_array(digest, value, place)
    elif isinstance(value, list | tuple):
        _piece(digest, b"l", str(len(value)).encode())
        for position, member in enumerate(value):
            _feed(digest, member, f"{place}[{position}]")
    elif isinstance(value, Mapping):
        _piece(digest, b"m", str(len(value)).encode())
        for name, key in sorted((content_hash(key), key) for key in value):
            _piece(digest, b"k", name.encode())
            _feed(digest, value[key], f"{place}[{key!r}]")
    elif is_dataclass(value) and not isinstance(value, type):
        _feed_fields(digest, value, place)
    else:
        raise ContentError(
            f"{place} is a {type(value).__name__}, which has no content hash; hand in numbers, text, arrays, lists, "
            "mappings or dataclasses"
        )


def _feed_fields(digest: _Hash, value: Any, place: str) -> None:
    labels = _LABELS.get(type(value), frozenset())
    held = [entry.name for entry in fields(value) if entry.name not in labels]
    _piece(digest, b"o", f"{type(value).__qualname__} {len(held)}".encode())
    for name in held:
        _piece(digest, b"k", name.encode())
        _feed(digest, getattr(value, name), f"{place}.{name}")


def _feed_array(digest: _Hash, array: NDArray[Any], place: str) -> None:
    if array.dtype.kind not in _HASHED_KINDS or array.dtype == np.longdouble:
        raise ContentError(f"{place} is an array of {array.dtype}, which has no content hash; convert it first")
    plain = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    if plain.dtype.kind == "f":
        missing = np.isnan(plain)
        if missing.any():
            plain = np.where(missing, plain.dtype.type(math.nan), plain)
    _piece(digest, b"a", f"{plain.dtype.str} {array.shape}".encode())
    digest.update(plain.reshape(-1).view(np.uint8).data)


def _piece(digest: _Hash, tag: bytes, text: bytes) -> None:
    digest.update(tag + struct.pack("<q", len(text)) + text)


def _plain(value: object, place: str) -> object:
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, list | tuple):
        return [_plain(member, f"{place}[{position}]") for position, member in enumerate(value)]
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise ContentError(f"{place} has the key {key!r}; keys of a JSON object are text, so write str(key)")
        return {key: _plain(member, f"{place}.{key}") for key, member in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return {entry.name: _plain(getattr(value, entry.name), f"{place}.{entry.name}") for entry in fields(value)}
    raise ContentError(f"{place} is a {type(value).__name__}, which has no JSON form; hand in numbers, text or lists")
