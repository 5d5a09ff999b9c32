"""Multi-signature actions: what each of the authorised users signs, and what the outer signer signs over all of it.

Each inner signature is over the action, the multi-signature user and the outer signer together: an L1 action is wrapped
in a list of the three, a user-signed one gets two fields more. The outer signer signs the hash of the whole wrapper.

Source: the official SDK 0.24.0, compared with the vectors of nktkas/hyperliquid.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from slipstream.venues.hyperliquid.addresses import address_text
from slipstream.venues.hyperliquid.canonical_actions import MULTI_SIG, action_hash, type_of
from slipstream.venues.hyperliquid.signing_errors import MalformedAction
from slipstream.venues.hyperliquid.typed_data import (
    SEND_MULTI_SIG,
    USER_SIGNED,
    Network,
    TypedAction,
    l1_digest,
    user_signed_digest,
)

_ABSTRACTIONS: Final = {"i": "disabled", "u": "unifiedAccount", "p": "portfolioMargin"}
"""userSetAbstraction is posted with a letter inside a multi-signature action, and signed with the word."""


def outer_digest(
    action: Mapping[str, object],
    nonce: int,
    network: Network,
    vault_address: str | None = None,
    expires_after: int | None = None,
) -> bytes:
    """The 32 bytes the outer signer signs for a ``multiSig`` action, its keys hashed in their present order.

    Raises:
        MalformedAction: it is no multi-signature action, or cannot be hashed.
    """
    if type_of(action) != MULTI_SIG:
        raise MalformedAction(f"{type_of(action)} is no multi-signature action")
    untagged = {name: value for name, value in action.items() if name != "type"}
    envelope = {
        "hyperliquidChain": network.value,
        "signatureChainId": action.get("signatureChainId"),
        "multiSigActionHash": action_hash(untagged, nonce, vault_address, expires_after),
        "nonce": nonce,
    }
    return user_signed_digest(envelope, SEND_MULTI_SIG)


def inner_digest(
    action: Mapping[str, object],
    nonce: int,
    network: Network,
    *,
    multi_sig_user: str,
    outer_signer: str,
    vault_address: str | None = None,
    expires_after: int | None = None,
    kind: TypedAction | None = None,
) -> bytes:
    """The 32 bytes each authorised user signs for the action inside.

    Args:
        action: the action inside, its keys hashed in their present order.
        nonce: of the envelope, Unix ms.
        network: of L1 actions; a user-signed one names its own.
        multi_sig_user: the account that is acted for.
        outer_signer: who sends the request.
        vault_address: of the envelope.
        expires_after: of the envelope, Unix ms.
        kind: of a user-signed action whose ``type`` was left out; found by its ``type`` otherwise.

    Raises:
        MalformedAction: the action cannot be hashed.
    """
    user, outer = address_text(multi_sig_user, "multiSigUser"), address_text(outer_signer, "outerSigner")
    kind = kind or USER_SIGNED.get(type_of(action))
    if kind is None:
        wrapped = [user, outer, action]
        return l1_digest(action_hash(wrapped, nonce, vault_address, expires_after), network)
    word = _ABSTRACTIONS.get(str(action.get("abstraction")))
    if kind.name == "UserSetAbstraction" and word is not None:
        action = {**action, "abstraction": word}
    return user_signed_digest(action, kind, multi_sig=(user, outer))
