"""Signatures of Hyperliquid actions, and the signer that makes them.

A signature is deterministic (RFC 6979), so the same action, nonce and key give the same 65 bytes as every other client.
The key enters as bytes and does not come out again: not by printing, logging, copying or pickling a signer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NoReturn

import coincurve

from slipstream.venues.hyperliquid.addresses import address_of_public_key, shown
from slipstream.venues.hyperliquid.canonical_actions import action_hash, type_of
from slipstream.venues.hyperliquid.signing_errors import BadSignature, KeyStaysHere, MalformedAction
from slipstream.venues.hyperliquid.typed_data import USER_SIGNED, Network, l1_digest, user_signed_digest

ORDER_OF_CURVE: Final = (1 << 256) - 0x14551231950B75FC4402DA1732FC9BEBF
"""Number of points of secp256k1: r and s are below it."""

_HEX: Final = re.compile(r"(?:0[xX])?([0-9a-fA-F]{1,64})", re.ASCII)
_PARITIES: Final = {0: 0, 1: 1, 27: 0, 28: 1}


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature from which its signer can be recovered.

    Attributes:
        r: 1 <= r < order of the curve.
        s: 1 <= s < order of the curve.
        v: 27 or 28.

    Raises:
        BadSignature: a number is out of range.
    """

    r: int
    s: int
    v: int

    def __post_init__(self) -> None:
        for name, number in (("r", self.r), ("s", self.s)):
            if not 0 < number < ORDER_OF_CURVE:
                raise BadSignature(f"signature: {name} must be between 1 and the order of secp256k1, exclusive")
        if self.v not in (27, 28):
            raise BadSignature(f"signature: v must be 27 or 28; it is {shown(self.v)}")

    @classmethod
    def read(cls, value: object) -> Signature:
        """The signature of an envelope, ``{"r": ..., "s": ..., "v": ...}``, as any client writes it.

        r and s are hex of one to 64 digits, with or without ``0x`` and leading zeros; v is 0, 1, 27 or 28.

        Raises:
            BadSignature: a part is missing, of another form or out of range.
        """
        if not isinstance(value, Mapping):
            raise BadSignature(f"signature must be an object of r, s and v; it is {shown(value)}")
        parity = value.get("v")
        if not isinstance(parity, int) or isinstance(parity, bool) or parity not in _PARITIES:
            raise BadSignature(f"signature: v must be 27 or 28 (or 0 or 1); it is {shown(parity)}")
        return cls(_hex(value.get("r"), "r"), _hex(value.get("s"), "s"), 27 + _PARITIES[parity])

    def wire(self) -> dict[str, str | int]:
        """As it is posted: r and s in hex of 64 digits with ``0x``."""
        return {"r": f"0x{self.r:064x}", "s": f"0x{self.s:064x}", "v": self.v}

    def signer_of(self, digest: bytes) -> str:
        """Address of whoever signed ``digest`` (32 bytes), lowercase.

        Every digest has some signer under a given signature: an altered action recovers a stranger, not an error.

        Raises:
            BadSignature: r is not the coordinate of a point, so nobody can be recovered.
        """
        packed = self.r.to_bytes(32) + self.s.to_bytes(32) + bytes([self.v - 27])
        try:
            public_key = coincurve.PublicKey.from_signature_and_message(packed, digest, hasher=None)
        except ValueError as problem:
            raise BadSignature("signature: no signer can be recovered from it") from problem
        return address_of_public_key(public_key.format(compressed=False))


class Signer:
    """Signs with one key, which it never shows.

    Args:
        key: the private key, 32 bytes.

    Raises:
        MalformedAction: ``key`` is not 32 bytes of a number between 1 and the order of the curve; it is not repeated.
    """

    __slots__ = ("_address", "_key")

    def __init__(self, key: bytes) -> None:
        self._address = "without a key"  # what a traceback prints of a signer that was refused
        usable = isinstance(key, bytes) and len(key) == 32 and 0 < int.from_bytes(key) < ORDER_OF_CURVE
        secret = coincurve.PrivateKey(key) if usable else None
        del key  # a traceback that prints local variables must not find it
        if secret is None:
            raise MalformedAction("a private key is 32 bytes, above zero and below the order of secp256k1")
        self._key = secret
        self._address = address_of_public_key(secret.public_key.format(compressed=False))

    @property
    def address(self) -> str:
        """Address of the key, lowercase with ``0x``."""
        return self._address

    def sign_l1(
        self,
        action: Mapping[str, object] | list[object],
        nonce: int,
        network: Network,
        *,
        vault_address: str | None = None,
        expires_after: int | None = None,
    ) -> Signature:
        """Sign an action that is hashed as msgpack, exactly as it is given.

        Args:
            action: with its keys in the venue's order (see ``canonical_actions.canonical_action``).
            nonce: of the envelope, Unix ms.
            network: whose ``source`` is signed.
            vault_address: the vault or sub-account it is for.
            expires_after: when the venue must refuse it, Unix ms.

        Raises:
            MalformedAction: the action cannot be hashed.
        """
        return self.sign_digest(l1_digest(action_hash(action, nonce, vault_address, expires_after), network))

    def sign_user(self, action: Mapping[str, object]) -> Signature:
        """Sign an action that is signed field by field, with its ``hyperliquidChain`` and ``signatureChainId``.

        Raises:
            MalformedAction: its ``type`` is not one of ``typed_data.USER_SIGNED``, or a field is missing or wrong.
        """
        kind = USER_SIGNED.get(type_of(action))
        if kind is None:
            raise MalformedAction(f"{type_of(action)} is not signed field by field; sign it as an L1 action")
        return self.sign_digest(user_signed_digest(action, kind))

    def sign_digest(self, digest: bytes) -> Signature:
        """Sign 32 bytes as they are."""
        packed = self._key.sign_recoverable(digest, hasher=None)
        return Signature(int.from_bytes(packed[:32]), int.from_bytes(packed[32:64]), 27 + packed[64])

    def __repr__(self) -> str:
        return f"Signer({self._address})"

    def __reduce__(self) -> NoReturn:
        raise KeyStaysHere("a signer is not pickled or copied: its key would leave the process; make a second one")


def _hex(value: object, name: str) -> int:
    found = _HEX.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise BadSignature(f"signature: {name} must be a hex number of at most 64 digits; it is {shown(value)}")
    return int(found[1], 16)
