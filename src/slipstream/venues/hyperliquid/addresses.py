"""Addresses of accounts and the hash they are made with.

Everything here works on lowercase ``0x`` text and raw bytes; what clients send (checksummed, without ``0x``) is read
tolerantly and comes out in that one form.
"""

from __future__ import annotations

import re
from typing import Final

from Crypto.Hash import keccak

from slipstream.venues.hyperliquid.signing_errors import MalformedAction

_ADDRESS: Final = re.compile(r"(?:0[xX])?([0-9a-fA-F]{40})", re.ASCII)


def keccak256(data: bytes) -> bytes:
    """Keccak-256 of ``data`` as Ethereum means it (not SHA3-256), 32 bytes."""
    return keccak.new(data=data, digest_bytes=32).digest()


def address_bytes(text: object, what: str = "address") -> bytes:
    """The 20 bytes of an address written with or without ``0x``, in any case.

    Raises:
        MalformedAction: ``text`` is no address; ``what`` names where it stood.
    """
    found = _ADDRESS.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise MalformedAction(f"{what} must be an address, 0x and 40 hex digits; it is {shown(text)}")
    return bytes.fromhex(found[1])


def address_text(text: object, what: str = "address") -> str:
    """The same address as the venue writes it: lowercase with ``0x``.

    Raises:
        MalformedAction: ``text`` is no address; ``what`` names where it stood.
    """
    return "0x" + address_bytes(text, what).hex()


def address_of_public_key(public_key: bytes) -> str:
    """Address of an uncompressed public key (65 bytes, leading 4), lowercase with ``0x``."""
    return "0x" + keccak256(public_key[1:])[12:].hex()


def shown(value: object) -> str:
    """A value as a message may show it: at most 60 characters, and the type alone of anything that is not plain."""
    if isinstance(value, str):
        return repr(value[:60]) + ("..." if len(value) > 60 else "")
    if isinstance(value, bool | float | None):
        return repr(value)
    if isinstance(value, int):
        return str(value) if value.bit_length() <= 128 else f"an integer of {value.bit_length()} bits"
    return f"a {type(value).__name__}"
