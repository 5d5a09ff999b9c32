"""Who signed a request: the venue's side of signing.

The venue does not compare a signature with a name in the request, there is none: it recovers the signer, and whoever
that is must be known to it. So an altered action is signed by a stranger. Because the venue hashes its own rendering of
an action, so do we first; a client whose bytes differ from it (another order of keys) can be found by also hashing the
action as it was sent, and the two are told apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from slipstream.venues.hyperliquid.addresses import address_text, shown
from slipstream.venues.hyperliquid.canonical_actions import MULTI_SIG, action_hash, canonical_action, knows, type_of
from slipstream.venues.hyperliquid.multi_signature import inner_digest, outer_digest
from slipstream.venues.hyperliquid.signing import Signature
from slipstream.venues.hyperliquid.signing_errors import MalformedAction
from slipstream.venues.hyperliquid.typed_data import USER_SIGNED, Network, TypedAction, l1_digest, user_signed_digest

Form = Literal["canonical", "as sent", "by fields"]


@dataclass(frozen=True)
class SignedRequest:
    """The envelope of a signed action.

    Attributes:
        action: as it was sent.
        nonce: Unix ms.
        signature: checked to be in range.
        vault_address: whom it acts for, lowercase; None for the signer's own account.
        expires_after: when it must be refused, Unix ms; None for never.
    """

    action: Mapping[str, object]
    nonce: int
    signature: Signature
    vault_address: str | None
    expires_after: int | None

    @property
    def action_type(self) -> str:
        """``type`` of the action."""
        return type_of(self.action)


@dataclass(frozen=True)
class Candidate:
    """An address that signed the request if it was hashed in this form, for this network."""

    address: str
    network: Network
    form: Form


def read_request(body: object) -> SignedRequest:
    """An envelope as any client writes it, its keys in any order, absent and null alike.

    Raises:
        MalformedAction: a part is missing or of another form.
        BadSignature: the signature is.
    """
    if not isinstance(body, Mapping):
        raise MalformedAction(f"a request must be an object with action, nonce and signature; it is {shown(body)}")
    action = body.get("action")
    if not isinstance(action, Mapping):
        raise MalformedAction(f"action must be an object with a type; it is {shown(action)}")
    type_of(action)
    vault = body.get("vaultAddress")
    expires = body.get("expiresAfter")
    return SignedRequest(
        action=action,
        nonce=_moment(body.get("nonce"), "nonce"),
        signature=Signature.read(body.get("signature")),
        vault_address=None if vault is None else address_text(vault, "vaultAddress"),
        expires_after=None if expires is None else _moment(expires, "expiresAfter"),
    )


def candidates(request: SignedRequest, *networks: Network) -> Iterator[Candidate]:
    """Who may have signed a request, the likeliest first; take the first that is known.

    An L1 action is hashed in the venue's rendering and then, if that gives other bytes, as it was sent; each for every
    network in turn. A user-signed action names its network and gives one candidate. Candidates are computed as they
    are asked for; a strict venue takes the first of one network.

    Raises:
        MalformedAction: the action cannot be hashed, is for another network, or repeats another nonce.
        BadSignature: nobody can be recovered.
    """
    kind = USER_SIGNED.get(request.action_type)
    if kind is not None:
        yield _by_fields(request, kind, networks)
        return
    seen: set[bytes] = set()
    for form, action in _renderings(request.action):
        hashed = _digest_part(action, request)
        if hashed in seen:
            continue
        seen.add(hashed)
        for network in networks:
            digest = _digest(request, action, hashed, network)
            yield Candidate(request.signature.signer_of(digest), network, form)


def multi_signers(request: SignedRequest, outer: Candidate) -> tuple[str, ...]:
    """Who signed inside a multi-signature action, in the order of its signatures.

    Args:
        request: with an action of type ``multiSig``.
        outer: the candidate that was accepted as the outer signer; its form and network are used inside, too.

    Raises:
        MalformedAction: the action inside cannot be hashed, repeats another nonce, or names another outer signer.
        BadSignature: one of the signatures recovers nobody.
    """
    wrapper = canonical_action(request.action)
    payload = wrapper["payload"]
    signatures = wrapper["signatures"]
    if not isinstance(payload, dict) or not isinstance(signatures, list):
        raise MalformedAction(f"{request.action_type} has no payload and signatures")
    if payload["outerSigner"] != outer.address:
        raise MalformedAction(f"outerSigner is {payload['outerSigner']}, but {outer.address} signed the request")
    sent = request.action["payload"]
    inside = sent["action"] if outer.form == "as sent" and isinstance(sent, Mapping) else payload["action"]
    kind = USER_SIGNED.get(type_of(inside))
    if kind is not None:
        _require_same_nonce(inside, kind, request.nonce)
        _named_network(inside, (outer.network,))
    digest = inner_digest(
        inside,
        request.nonce,
        outer.network,
        multi_sig_user=payload["multiSigUser"],
        outer_signer=outer.address,
        vault_address=request.vault_address,
        expires_after=request.expires_after,
    )
    return tuple(Signature.read(signature).signer_of(digest) for signature in signatures)


def _renderings(action: Mapping[str, object]) -> Iterator[tuple[Form, Mapping[str, object]]]:
    if knows(type_of(action)):
        yield "canonical", canonical_action(action)
    yield "as sent", action


def _digest_part(action: Mapping[str, object], request: SignedRequest) -> bytes:
    return action_hash(action, request.nonce, request.vault_address, request.expires_after)


def _digest(request: SignedRequest, action: Mapping[str, object], hashed: bytes, network: Network) -> bytes:
    if type_of(action) == MULTI_SIG:
        return outer_digest(action, request.nonce, network, request.vault_address, request.expires_after)
    return l1_digest(hashed, network)


def _by_fields(request: SignedRequest, kind: TypedAction, networks: tuple[Network, ...]) -> Candidate:
    action = request.action
    if request.vault_address is not None or request.expires_after is not None:
        raise MalformedAction(
            f"{request.action_type} is signed by fields: vaultAddress and expiresAfter must be left out"
        )
    _require_same_nonce(action, kind, request.nonce)
    network = _named_network(action, networks)
    return Candidate(request.signature.signer_of(user_signed_digest(action, kind)), network, "by fields")


def _require_same_nonce(action: Mapping[str, object], kind: TypedAction, nonce: int) -> None:
    repeated = action.get(kind.nonce_key)
    if repeated != nonce:
        raise MalformedAction(
            f"{type_of(action)}: {kind.nonce_key} is {shown(repeated)} and the nonce of the request {nonce}; "
            f"they must be equal"
        )


def _named_network(action: Mapping[str, object], networks: tuple[Network, ...]) -> Network:
    named = action.get("hyperliquidChain")
    for network in networks:
        if network.value == named:
            return network
    raise MalformedAction(
        f"{type_of(action)}: hyperliquidChain is {shown(named)}; this venue takes "
        f"{' or '.join(network.value for network in networks)}"
    )


def _moment(value: object, what: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**64:
        raise MalformedAction(f"{what} must be a whole number of at most 64 bits; it is {shown(value)}")
    return value
