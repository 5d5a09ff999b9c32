"""Which keys an action has and in which order, and the hash its signature is taken over.

The venue hashes msgpack bytes of an action, and msgpack keeps the order of keys, so the order is part of what is
signed. The venue rebuilds the bytes from its own parse: keys in its order, decimals without trailing zeros, addresses
in lower case, unknown keys left out. :func:`canonical_action` does the same; :func:`action_hash` hashes what it gets.

Sources: the official Python SDK's signing rules; key order of nktkas/hyperliquid 0.33.3, checked on 2026-11-22 against
requests of six clients and captures the venue accepted. Actions with variants (deploying coins, validators) are not in
the table: no order is known here for them, and they can only be hashed as they were sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from slipstream.venues.hyperliquid.action_forms import (
    Reader,
    Record,
    address,
    anything,
    choice,
    cloid,
    decimal,
    either,
    flag,
    hex_number,
    integer,
    many,
    may,
    need,
    otherwise,
    record,
    text,
)
from slipstream.venues.hyperliquid.addresses import address_bytes, keccak256, shown
from slipstream.venues.hyperliquid.signing_errors import MalformedAction
from slipstream.venues.hyperliquid.typed_data import USER_SIGNED, TypedAction

MULTI_SIG: Final = "multiSig"
MOST_SIGNATURES: Final = 10
"""Signatures inside a multi-signature action: the venue lets ten users be authorised, and each costs a recovery."""
_UINT64: Final = 2**64
_DEEPEST: Final = 12
"""Levels of nesting; the deepest action, a multi-signature order, has nine."""

_ORDER: Final = record(
    need("a", integer),
    need("b", flag),
    need("p", decimal),
    need("s", decimal),
    need("r", flag),
    need(
        "t",
        choice(
            need("limit", record(need("tif", text))),
            need("trigger", record(need("isMarket", flag), need("triggerPx", decimal), need("tpsl", text))),
        ),
    ),
    may("c", cloid),
)
_OID: Final = either(int, integer, cloid)
_TWAP: Final = record(
    need("a", integer), need("b", flag), need("s", decimal), need("r", flag), need("m", integer), need("t", flag)
)
_CANCEL: Final = record(need("a", integer), need("o", integer))
_CANCEL_BY_CLOID: Final = record(need("asset", integer), need("cloid", cloid))
_MODIFY: Final = record(need("oid", _OID), need("order", _ORDER))
_BUILDER: Final = record(need("b", address), need("f", integer))

# Behind each action: may it name a vault or sub-account to act for? agentSendAsset keeps its texts as they were sent,
# like the user-signed action it mirrors: the venue recovered the right signer over a checksummed destination.
_L1: Final[Mapping[str, tuple[Record, bool]]] = {
    "activateOutcomeDeployer": (record(need("isDeactivate", flag)), False),
    "agentEnableDexAbstraction": (record(), False),
    "agentSendAsset": (
        record(
            *(need(name, text) for name in ("destination", "sourceDex", "destinationDex", "token", "amount")),
            otherwise("fromSubAccount", text, ""),
            need("nonce", integer),
        ),
        False,
    ),
    "agentSetAbstraction": (record(need("abstraction", text)), False),
    "authorizeAqav2Role": (record(need("token", anything), need("role", anything)), False),
    "batchModify": (record(need("modifies", many(_MODIFY)), may("a", flag)), True),
    "borrowLend": (record(need("operation", anything), need("token", anything), need("amount", anything)), True),
    "cancel": (record(need("cancels", many(_CANCEL)), may("f", flag)), True),
    "cancelByCloid": (record(need("cancels", many(_CANCEL_BY_CLOID)), may("f", flag)), True),
    "claimRewards": (record(), False),
    "createSubAccount": (record(need("name", text)), False),
    "createVault": (
        record(need("name", text), need("description", text), need("initialUsd", integer), need("nonce", integer)),
        False,
    ),
    "evmUserModify": (record(need("usingBigBlocks", flag)), False),
    "finalizeEvmContract": (record(need("token", anything), need("input", anything)), False),
    "gossipPriorityBid": (record(need("slotId", integer), need("ip", text), need("maxGas", anything)), False),
    "hip3LiquidatorTransfer": (record(need("dex", text), need("ntl", integer), need("isDeposit", flag)), False),
    "modify": (record(need("oid", _OID), need("order", _ORDER), may("a", flag)), True),
    "noop": (record(), False),
    "order": (
        record(
            need("orders", many(_ORDER)),
            may("grouping", either(str, text, record(need("p", integer)))),
            may("builder", _BUILDER),
        ),
        True,
    ),
    "registerReferrer": (record(need("code", text)), False),
    "reserveRequestWeight": (record(need("weight", integer), may("destination", address)), False),
    "scheduleCancel": (record(may("time", integer)), True),
    "setDisplayName": (record(need("displayName", text)), False),
    "setReferrer": (record(need("code", text)), False),
    "spotUser": (record(need("toggleSpotDusting", anything)), False),
    "subAccountModify": (record(need("subAccountUser", address), need("name", text)), False),
    "subAccountSpotTransfer": (
        record(need("subAccountUser", address), need("isDeposit", flag), need("token", text), need("amount", decimal)),
        False,
    ),
    "subAccountTransfer": (
        record(need("subAccountUser", address), need("isDeposit", flag), need("usd", integer)),
        False,
    ),
    "topUpIsolatedOnlyMargin": (record(need("asset", integer), need("leverage", decimal)), True),
    "twapCancel": (record(need("a", integer), need("t", integer)), True),
    "twapOrder": (record(need("twap", _TWAP), may("details", anything)), True),
    "updateIsolatedMargin": (record(need("asset", integer), need("isBuy", flag), need("ntli", integer)), True),
    "updateLeverage": (record(need("asset", integer), need("isCross", flag), need("leverage", integer)), True),
    "validatorL1Stream": (record(need("riskFreeRate", decimal)), False),
    "vaultDistribute": (record(need("vaultAddress", address), need("usd", integer)), False),
    # left out means null here, and null is hashed
    "vaultModify": (
        record(
            need("vaultAddress", address),
            otherwise("allowDeposits", flag, None),
            otherwise("alwaysCloseOnWithdraw", flag, None),
        ),
        False,
    ),
    "vaultTransfer": (record(need("vaultAddress", address), need("isDeposit", flag), need("usd", integer)), False),
}

L1_ACTIONS: Final = frozenset(_L1)
"""The ``type`` of every L1 action whose canonical order is known."""


def knows(action_type: str) -> bool:
    """Whether the canonical order of an action is known."""
    return action_type in _L1 or action_type in _USER_SIGNED or action_type == MULTI_SIG


def takes_vault_address(action_type: str) -> bool:
    """Whether an action may act for a vault or sub-account named in the envelope."""
    return action_type in _L1 and _L1[action_type][1]


def key_order(action_type: str) -> tuple[str, ...]:
    """Keys of an action in the order they are hashed, ``type`` first; optional ones end in ``?``.

    Raises:
        MalformedAction: no order is known for ``action_type``.
    """
    return ("type", *_form(action_type).keys)


def canonical_action(action: object) -> dict[str, object]:
    """An action as the venue hashes it: its keys in order, its numbers and addresses in their one form.

    Raises:
        MalformedAction: a key is missing or of a wrong type (named), or no order is known for its ``type``.
    """
    action_type = type_of(action)
    return {"type": action_type, **_form(action_type)(action, action_type)}


def type_of(action: object) -> str:
    """The ``type`` of an action.

    Raises:
        MalformedAction: it is not an object with a ``type``.
    """
    named = action.get("type") if isinstance(action, Mapping) else None
    if not isinstance(named, str):
        raise MalformedAction(f"an action must be an object with a type; it is {shown(action)}")
    return named


def action_hash(
    action: object, nonce: int, vault_address: str | None = None, expires_after: int | None = None
) -> bytes:
    """The 32-byte hash of an action exactly as it is given, keys in their present order; the connection id of L1.

    Args:
        action: text, whole numbers, booleans, nulls, objects and arrays; anything else has no agreed bytes.
        nonce: of the envelope, Unix ms.
        vault_address: whom the action is for, if not for the signer's own account.
        expires_after: when the venue must refuse it, Unix ms.

    Raises:
        MalformedAction: a value cannot be hashed, or a number is out of range.
    """
    _refuse_unhashable(action, "action", 0)
    try:
        packed = msgspec.msgpack.encode(action)
    except (OverflowError, UnicodeEncodeError) as problem:
        raise MalformedAction("action holds a number beyond 64 bits or half a character") from problem
    account = b"\x00" if vault_address is None else b"\x01" + address_bytes(vault_address, "vaultAddress")
    expiry = b"" if expires_after is None else b"\x00" + _uint64(expires_after, "expiresAfter")
    return keccak256(b"".join((packed, _uint64(nonce, "nonce"), account, expiry)))


def _form(action_type: str) -> Record:
    if action_type in _L1:
        return _L1[action_type][0]
    if action_type in _USER_SIGNED:
        return _USER_SIGNED[action_type]
    if action_type == MULTI_SIG:
        return _MULTI_SIG_FORM
    raise MalformedAction(f"the order of keys of action {shown(action_type)} is not known")


def _user_signed(kind: TypedAction) -> Record:
    absent = dict(kind.absent)
    forms: dict[str, Reader] = {"string": text, "bytes": text, "address": address, "bool": flag}
    readers = ((name, forms.get(form, integer)) for name, form in kind.fields)
    fields = (otherwise(name, read, absent[name]) if name in absent else need(name, read) for name, read in readers)
    return record(need("signatureChainId", text), need("hyperliquidChain", text), *fields)


def _wrapped(action: object, where: str) -> object:
    if type_of(action) == MULTI_SIG:
        raise MalformedAction(f"{where} is a multi-signature action itself; it cannot be wrapped twice")
    return canonical_action(action)


# their order matters only inside a multi-signature action, which is hashed as msgpack
_USER_SIGNED: Final[Mapping[str, Record]] = {name: _user_signed(kind) for name, kind in USER_SIGNED.items()}
_MULTI_SIG_FORM: Final = record(
    need("signatureChainId", text),
    need("signatures", many(record(need("r", hex_number), need("s", hex_number), need("v", integer)), MOST_SIGNATURES)),
    need("payload", record(need("multiSigUser", address), need("outerSigner", address), need("action", _wrapped))),
)


def _uint64(value: int, what: str) -> bytes:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < _UINT64:
        raise MalformedAction(f"{what} must be a whole number of at most 64 bits; it is {shown(value)}")
    return value.to_bytes(8)


def _refuse_unhashable(value: object, where: str, depth: int) -> None:
    kind = type(value)
    if kind is str or kind is int or kind is bool or value is None:
        return
    if depth >= _DEEPEST:
        raise MalformedAction(f"{where} is nested more than {_DEEPEST} levels deep")
    if isinstance(value, dict):
        for key, member in value.items():
            if type(key) is not str:
                raise MalformedAction(f"{where} has the key {shown(key)}; keys must be text")
            _refuse_unhashable(member, key if key.isidentifier() and len(key) <= 40 else where, depth + 1)
    elif isinstance(value, list | tuple):
        for member in value:
            _refuse_unhashable(member, where, depth + 1)
    else:
        raise MalformedAction(
            f"{where} is {shown(value)}, a {kind.__name__}; only text, whole numbers and booleans are signed"
        )
