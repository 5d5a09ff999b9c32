"""The parts an action's form is put together from: each reads one value, and gives it back as the venue writes it.

A form is called with a value and the place it stood at; it returns the value in its one form or raises
:class:`~slipstream.venues.hyperliquid.signing_errors.MalformedAction` naming the place.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from slipstream.venues.hyperliquid.addresses import address_text, shown
from slipstream.venues.hyperliquid.signing_errors import MalformedAction
from slipstream.venues.hyperliquid.wire_numbers import BadNumber, canonical_text

Reader = Callable[[object, str], object]

_CLOID: Final = re.compile(r"0[xX][0-9a-fA-F]{32}", re.ASCII)
_HEX_NUMBER: Final = re.compile(r"(?:0[xX])?([0-9a-fA-F]{1,64})", re.ASCII)
_MOST: Final = 10_000
"""Elements of a list that are read at all; the venue takes 200."""
_REQUIRED: Final = object()
_DROPPED: Final = object()


@dataclass(frozen=True)
class Key:
    """One key of an object, and what becomes of it when it is absent or null."""

    name: str
    read: Reader
    absent: object = _REQUIRED

    @property
    def shown(self) -> str:
        return self.name if self.absent is _REQUIRED else f"{self.name}?"


def need(name: str, read: Reader) -> Key:
    """A key that must be there."""
    return Key(name, read)


def may(name: str, read: Reader) -> Key:
    """A key that is left out of the hash when it is absent or null."""
    return Key(name, read, _DROPPED)


def otherwise(name: str, read: Reader, value: object) -> Key:
    """A key that is hashed as ``value`` when it is absent or null."""
    return Key(name, read, value)


@dataclass(frozen=True)
class Record:
    """An object: the keys it has, in the order they are hashed; others are left out."""

    keys_in_order: tuple[Key, ...]

    @property
    def keys(self) -> tuple[str, ...]:
        """Names in order; optional ones end in ``?``."""
        return tuple(key.shown for key in self.keys_in_order)

    def __call__(self, value: object, where: str) -> dict[str, object]:
        if not isinstance(value, Mapping):
            raise MalformedAction(f"{where} must be an object; it is {shown(value)}")
        found: dict[str, object] = {}
        for key in self.keys_in_order:
            member = value.get(key.name)
            if member is not None:
                found[key.name] = key.read(member, key.name)
            elif key.absent is _REQUIRED:
                raise MalformedAction(f"{where} has no {key.name}; it must have {', '.join(self.keys)}")
            elif key.absent is not _DROPPED:
                found[key.name] = key.absent
        return found


def record(*keys: Key) -> Record:
    """An object with these keys in this order."""
    return Record(keys)


def choice(*keys: Key) -> Reader:
    """An object with exactly one of these keys."""

    def read(value: object, where: str) -> object:
        given = [key for key in keys if isinstance(value, Mapping) and value.get(key.name) is not None]
        if len(given) != 1:
            raise MalformedAction(f"{where} must be an object with one of {', '.join(key.name for key in keys)}")
        return record(given[0])(value, where)

    return read


def either(kind: type, plain: Reader, other: Reader) -> Reader:
    """What ``plain`` reads if the value is a ``kind``, else what ``other`` does."""

    def read(value: object, where: str) -> object:
        return (plain if isinstance(value, kind) else other)(value, where)

    return read


def many(element: Reader, most: int = _MOST) -> Reader:
    """An array of at most ``most`` of ``element``."""

    def read(value: object, where: str) -> object:
        if not isinstance(value, list | tuple) or len(value) > most:
            raise MalformedAction(f"{where} must be a list of at most {most} elements; it is {shown(value)}")
        return [element(member, f"{where}[{index}]") for index, member in enumerate(value)]

    return read


def text(value: object, where: str) -> str:
    """Text, unchanged."""
    if not isinstance(value, str):
        raise MalformedAction(f"{where} must be text; it is {shown(value)}")
    return value


def flag(value: object, where: str) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise MalformedAction(f"{where} must be true or false; it is {shown(value)}")
    return value


def integer(value: object, where: str) -> int:
    """A whole number; one written as 1.0 is none."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise MalformedAction(f"{where} must be a whole number; it is {shown(value)}")
    return value


def decimal(value: object, where: str) -> str:
    """A decimal in text, without trailing zeros."""
    try:
        return canonical_text(text(value, where), where)
    except BadNumber as problem:
        raise MalformedAction(str(problem)) from problem


def address(value: object, where: str) -> str:
    """An address in lower case."""
    return address_text(value, where)


def cloid(value: object, where: str) -> str:
    """A client's order id, 128 bits in hex, in lower case."""
    if not isinstance(value, str) or _CLOID.fullmatch(value) is None:
        raise MalformedAction(f"{where} must be 0x and 32 hex digits; it is {shown(value)}")
    return value.lower()


def hex_number(value: object, where: str) -> str:
    """A number of at most 256 bits in hex, without leading zeros."""
    found = _HEX_NUMBER.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise MalformedAction(f"{where} must be a hex number of at most 64 digits; it is {shown(value)}")
    return hex(int(found[1], 16))


def anything(value: object, _where: str) -> object:
    """A value whose form is not known here, unchanged."""
    return value
