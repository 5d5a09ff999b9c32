"""What exactly is signed: EIP-712 digests of the venue's agents and of actions signed field by field.

Two schemes. An *L1 action* (order, cancel, ...) is hashed as msgpack, and the hash is wrapped in an ``Agent`` whose
``source`` tells the networks apart. A *user-signed action* (transfers, approvals) is signed over its own fields, in a
domain whose chain id the client chooses and states in ``signatureChainId``.

Source: EIP-712; the field lists are those of the official SDK 0.24.0 and nktkas/hyperliquid 0.33.3 (2026-11-22).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Final

from slipstream.venues.hyperliquid.addresses import address_bytes, keccak256, shown
from slipstream.venues.hyperliquid.signing_errors import MalformedAction

Fields = tuple[tuple[str, str], ...]
"""Name and EIP-712 type of each field, in the order they are hashed."""

_CHAIN_ID: Final = re.compile(r"0[xX]([0-9a-fA-F]{1,64})", re.ASCII)
_HEX_BYTES: Final = re.compile(r"0[xX]((?:[0-9a-fA-F]{2})*)", re.ASCII)
_DOMAIN_TYPE: Final = "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
_L1_CHAIN_ID: Final = 1337


class Network(Enum):
    """Which of the venue's networks a signature is for; a signature for one is worthless on the other."""

    MAINNET = "Mainnet"
    TESTNET = "Testnet"

    @property
    def source(self) -> str:
        """The letter an L1 action is signed with."""
        return "a" if self is Network.MAINNET else "b"


@dataclass(frozen=True)
class TypedAction:
    """A user-signed action.

    Attributes:
        name: its EIP-712 name behind ``HyperliquidTransaction:``.
        fields: what is hashed after ``hyperliquidChain``; the last is the nonce and must equal the envelope's.
        absent: values of fields a client may leave out of the posted action although it signs them.
    """

    name: str
    fields: Fields
    absent: tuple[tuple[str, str], ...] = ()

    @property
    def nonce_key(self) -> str:
        """Name of the field that repeats the nonce: ``nonce`` or ``time``."""
        return self.fields[-1][0]


def _typed(name: str, fields: str, *empty: str) -> TypedAction:
    """``fields`` as ``name`` or ``name:type`` (string if no type is given); ``empty`` ones default to ``""``."""
    pairs = tuple((part.partition(":")[0], part.partition(":")[2] or "string") for part in fields.split())
    return TypedAction(name, pairs, tuple((field, "") for field in empty))


USER_SIGNED: Final[Mapping[str, TypedAction]] = {
    "approveAgent": _typed("ApproveAgent", "agentAddress:address agentName nonce:uint64", "agentName"),
    "approveBuilderFee": _typed("ApproveBuilderFee", "maxFeeRate builder:address nonce:uint64"),
    "cDeposit": _typed("CDeposit", "wei:uint64 nonce:uint64"),
    "cWithdraw": _typed("CWithdraw", "wei:uint64 nonce:uint64"),
    "convertToMultiSigUser": _typed("ConvertToMultiSigUser", "signers nonce:uint64"),
    "linkStakingUser": _typed("LinkStakingUser", "user:address isFinalize:bool nonce:uint64"),
    "sendAsset": _typed(
        "SendAsset", "destination sourceDex destinationDex token amount fromSubAccount nonce:uint64", "fromSubAccount"
    ),
    "sendToEvmWithData": _typed(
        "SendToEvmWithData",
        "token amount sourceDex destinationRecipient addressEncoding destinationChainId:uint32 gasLimit:uint64 "
        "data:bytes nonce:uint64",
    ),
    "spotSend": _typed("SpotSend", "destination token amount time:uint64"),
    "stakingLinkDisableTradingUser": _typed("StakingLinkDisableTradingUser", "tradingUser:address nonce:uint64"),
    "tokenDelegate": _typed("TokenDelegate", "validator:address wei:uint64 isUndelegate:bool nonce:uint64"),
    "usdClassTransfer": _typed("UsdClassTransfer", "amount toPerp:bool nonce:uint64"),
    "usdSend": _typed("UsdSend", "destination amount time:uint64"),
    "userDexAbstraction": _typed("UserDexAbstraction", "user:address enabled:bool nonce:uint64"),
    "userPortfolioMargin": _typed("UserPortfolioMargin", "user:address enabled:bool nonce:uint64"),
    "userSetAbstraction": _typed("UserSetAbstraction", "user:address abstraction nonce:uint64"),
    "withdraw3": _typed("Withdraw", "destination amount time:uint64"),
}
"""Every user-signed action by the ``type`` it is posted with."""

SEND_MULTI_SIG: Final = _typed("SendMultiSig", "multiSigActionHash:bytes32 nonce:uint64")
"""The wrapper the outer signer of a multi-signature action signs."""

_MULTI_SIG_FIELDS: Final[Fields] = (("payloadMultiSigUser", "address"), ("outerSigner", "address"))


def l1_digest(connection_id: bytes, network: Network) -> bytes:
    """The 32 bytes signed for an L1 action whose hash is ``connection_id``, on ``network``."""
    return keccak256(b"\x19\x01" + L1_DOMAIN + agent_struct_hash(connection_id, network))


def agent_struct_hash(connection_id: bytes, network: Network) -> bytes:
    """Struct hash of ``Agent{source, connectionId}``, an intermediate that other clients publish."""
    return keccak256(_AGENT_TYPE + _SOURCES[network] + connection_id)


def user_signed_digest(
    action: Mapping[str, object], kind: TypedAction, *, multi_sig: tuple[str, str] | None = None
) -> bytes:
    """The 32 bytes signed for a user-signed action.

    Args:
        action: the action with ``hyperliquidChain`` and ``signatureChainId``; other keys than the fields are ignored.
        kind: its entry of :data:`USER_SIGNED`, or :data:`SEND_MULTI_SIG`.
        multi_sig: for one signature of several, the multi-signature user and the outer signer, addresses.

    Raises:
        MalformedAction: a field is missing or is not of its type; the field is named.
    """
    several = {} if multi_sig is None else {"payloadMultiSigUser": multi_sig[0], "outerSigner": multi_sig[1]}
    given = {**action, **several}
    absent = dict(kind.absent)
    encoded = [_type_hash(kind, multi_sig is not None)]
    for name, form in _fields(kind, multi_sig is not None):
        value = given.get(name)
        if value is None:
            value = absent.get(name)
        if value is None:
            raise MalformedAction(f"action {kind.name} has no {name}; it is part of what is signed")
        encoded.append(_ENCODERS[form](value, name))
    domain = domain_separator("HyperliquidSignTransaction", chain_id(action))
    return keccak256(b"\x19\x01" + domain + keccak256(b"".join(encoded)))


def chain_id(action: Mapping[str, object]) -> int:
    """``signatureChainId`` of a user-signed action; the venue accepts any.

    Raises:
        MalformedAction: it is missing or no hex number.
    """
    text = action.get("signatureChainId")
    found = _CHAIN_ID.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise MalformedAction(f"signatureChainId must be a hex number such as 0x66eee; it is {shown(text)}")
    return int(found[1], 16)


@lru_cache(maxsize=64)  # clients choose the chain id, so the cache has a bound
def domain_separator(name: str, chain: int) -> bytes:
    """Hash of the domain ``name``, version 1, on ``chain``, without a contract."""
    parts = (keccak256(_DOMAIN_TYPE.encode()), keccak256(name.encode()), keccak256(b"1"), chain.to_bytes(32), bytes(32))
    return keccak256(b"".join(parts))


@lru_cache(maxsize=64)
def _type_hash(kind: TypedAction, multi_sig: bool) -> bytes:
    members = ",".join(f"{form} {name}" for name, form in _fields(kind, multi_sig))
    return keccak256(f"HyperliquidTransaction:{kind.name}({members})".encode())


def _fields(kind: TypedAction, multi_sig: bool) -> Fields:
    return (("hyperliquidChain", "string"), *(_MULTI_SIG_FIELDS if multi_sig else ()), *kind.fields)


def _string(value: object, name: str) -> bytes:
    if not isinstance(value, str):
        raise MalformedAction(f"{name} must be text; it is {shown(value)}")
    try:
        return keccak256(value.encode())
    except UnicodeEncodeError as problem:  # half of a surrogate pair, which JSON can carry
        raise MalformedAction(f"{name} holds half a character, which cannot be encoded") from problem


def _bytes(value: object, name: str) -> bytes:
    found = _HEX_BYTES.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise MalformedAction(f"{name} must be bytes in hex, 0x and pairs of digits; it is {shown(value)}")
    return keccak256(bytes.fromhex(found[1]))


def _bytes32(value: object, name: str) -> bytes:
    if not isinstance(value, bytes) or len(value) != 32:
        raise MalformedAction(f"{name} must be 32 bytes; it is {shown(value)}")
    return value


def _address(value: object, name: str) -> bytes:
    return bytes(12) + address_bytes(value, name)


def _bool(value: object, name: str) -> bytes:
    if not isinstance(value, bool):
        raise MalformedAction(f"{name} must be true or false; it is {shown(value)}")
    return int(value).to_bytes(32)


def _uint(bits: int) -> Callable[[object, str], bytes]:
    def encode(value: object, name: str) -> bytes:
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**bits:
            raise MalformedAction(f"{name} must be a whole number of at most {bits} bits; it is {shown(value)}")
        return value.to_bytes(32)

    return encode


_ENCODERS: Final[Mapping[str, Callable[[object, str], bytes]]] = {
    "string": _string,
    "bytes": _bytes,
    "bytes32": _bytes32,
    "address": _address,
    "bool": _bool,
    "uint32": _uint(32),
    "uint64": _uint(64),
}

_AGENT_TYPE: Final = keccak256(b"Agent(string source,bytes32 connectionId)")
_SOURCES: Final = {network: keccak256(network.source.encode()) for network in Network}
L1_DOMAIN: Final = domain_separator("Exchange", _L1_CHAIN_ID)
"""Domain separator of every L1 action, the same on both networks."""
