"""Whoever signs is recovered, and nothing but what was signed is accepted."""

from __future__ import annotations

import json
import secrets

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from signed_actions import ACCOUNT, L1, LIMIT, ORDER, USER

from slipstream.errors import UsageError
from slipstream.venues.hyperliquid.canonical_actions import (
    action_hash,
    canonical_action,
    key_order,
    takes_vault_address,
)
from slipstream.venues.hyperliquid.multi_signature import inner_digest, outer_digest
from slipstream.venues.hyperliquid.recovery import candidates, multi_signers, read_request
from slipstream.venues.hyperliquid.signing import ORDER_OF_CURVE, Signature, Signer
from slipstream.venues.hyperliquid.signing_errors import BadSignature, MalformedAction
from slipstream.venues.hyperliquid.typed_data import USER_SIGNED, Network

NONCE = 1_700_000_000_000


@pytest.fixture(scope="module")
def signer():
    return Signer(secrets.token_bytes(32))


def posted(action, signature, **more):
    """A request as it arrives: through JSON."""
    wire = signature.wire() if isinstance(signature, Signature) else signature
    return json.loads(json.dumps({"action": action, "nonce": NONCE, "signature": wire, **more}))


def recovered(body, *networks):
    return [(c.address, c.form) for c in candidates(read_request(body), *(networks or (Network.TESTNET,)))]


@pytest.mark.parametrize("name", L1)
def test_the_signer_of_every_l1_action_is_recovered(signer, name):
    signature = signer.sign_l1(L1[name], NONCE, Network.TESTNET)
    assert recovered(posted(L1[name], signature)) == [(signer.address, "canonical")]


@pytest.mark.parametrize("name", USER)
def test_the_signer_of_every_user_signed_action_is_recovered(signer, name):
    assert recovered(posted(USER[name], signer.sign_user(USER[name]))) == [(signer.address, "by fields")]


@pytest.mark.parametrize("name", L1)
def test_the_samples_hold_every_key_in_order(name):
    """So that the round trips above leave no key out; only the optional ones of two actions are missing."""
    assert [key.rstrip("?") for key in key_order(name) if key.rstrip("?") in L1[name]] == list(L1[name])


@pytest.mark.parametrize("name", [name for name in L1 if len(L1[name]) > 1])
def test_an_l1_action_sent_in_another_order_recovers_as_canonical(signer, name):
    """A client may post the keys in any order as long as it signed the venue's."""
    signature = signer.sign_l1(L1[name], NONCE, Network.TESTNET)
    body = posted(dict(reversed(L1[name].items())), signature)
    first, second = recovered(body)
    assert first == (signer.address, "canonical")
    assert second != first


def test_a_client_that_signs_its_own_order_is_found_as_sent_and_told_apart(signer):
    shuffled = {**LIMIT, "t": {"trigger": {"triggerPx": "2001.0", "tpsl": "sl", "isMarket": True}}}
    action = {"type": "order", "orders": [shuffled], "grouping": "na"}
    stranger, own = recovered(posted(action, signer.sign_l1(action, NONCE, Network.TESTNET)))
    assert own == (signer.address, "as sent")
    assert stranger[0] != signer.address


def test_an_action_without_a_known_order_is_hashed_as_sent(signer):
    action = {"type": "perpDeploy", "registerAsset": {"dex": "x"}}
    assert recovered(posted(action, signer.sign_l1(action, NONCE, Network.TESTNET))) == [(signer.address, "as sent")]


def test_a_signature_for_one_network_is_a_strangers_on_the_other(signer):
    body = posted(ORDER, signer.sign_l1(ORDER, NONCE, Network.MAINNET))
    assert recovered(body)[0][0] != signer.address
    both = list(candidates(read_request(body), Network.TESTNET, Network.MAINNET))
    assert [c.network for c in both if c.address == signer.address] == [Network.MAINNET]


def test_a_user_signed_action_for_the_other_network_is_refused(signer):
    action = {**USER["usdSend"], "hyperliquidChain": "Mainnet"}
    with pytest.raises(MalformedAction, match="hyperliquidChain is 'Mainnet'"):
        recovered(posted(action, signer.sign_user(action)))


@pytest.mark.parametrize(
    "change",
    [
        {"action": {**ORDER, "orders": [{**LIMIT, "s": "0.2"}]}},
        {"action": {**ORDER, "orders": [{**LIMIT, "b": False}]}},
        {"action": {**ORDER, "grouping": "normalTpsl"}},
        {"nonce": NONCE + 1},
        {"vaultAddress": ACCOUNT},
        {"expiresAfter": NONCE},
    ],
)
def test_whatever_is_altered_recovers_a_stranger(signer, change):
    body = {**posted(ORDER, signer.sign_l1(ORDER, NONCE, Network.TESTNET)), **change}
    assert signer.address not in [address for address, _ in recovered(body, *Network)]


def test_an_alteration_of_a_user_signed_action_recovers_a_stranger(signer):
    for name, action in USER.items():
        signature = signer.sign_user(action)
        for field, form in USER_SIGNED[name].fields[:-1]:
            other = {"string": "other", "address": "0x" + "11" * 20, "bool": False, "bytes": "0x02"}.get(form, 7)
            assert recovered(posted({**action, field: other}, signature))[0][0] != signer.address, (name, field)


@pytest.mark.parametrize(
    "spelling",
    [ACCOUNT, ACCOUNT[2:], "0x" + ACCOUNT[2:].upper(), ACCOUNT[2:].upper(), "0X" + ACCOUNT[2:]],
)
def test_a_vault_may_be_spelled_as_any_client_spells_it(signer, spelling):
    signature = signer.sign_l1(ORDER, NONCE, Network.TESTNET, vault_address=ACCOUNT, expires_after=NONCE + 1)
    body = posted(ORDER, signature, vaultAddress=spelling, expiresAfter=NONCE + 1)
    assert recovered(body) == [(signer.address, "canonical")]
    assert read_request(body).vault_address == ACCOUNT


def test_null_and_absent_mean_the_same(signer):
    signature = signer.sign_l1(ORDER, NONCE, Network.TESTNET)
    assert recovered(posted(ORDER, signature, vaultAddress=None, expiresAfter=None)) == recovered(
        posted(ORDER, signature)
    )


@given(st.integers(1, ORDER_OF_CURVE - 1), st.integers(1, ORDER_OF_CURVE - 1), st.sampled_from([0, 1, 27, 28]))
@example(1, 0xABC, 0)
def test_a_signature_reads_the_same_in_every_spelling(r, s, v):
    expected = Signature(r, s, v if v > 1 else 27 + v)
    for spelled in (f"{r:#066x}", f"{r:#x}", f"{r:x}", f"{r:064X}"):
        assert Signature.read({"r": spelled, "s": f"{s:#x}", "v": v}) == expected
    assert Signature.read(expected.wire()) == expected


@pytest.mark.parametrize(
    "broken",
    [
        None,
        "0x00",
        {},
        {"r": "0x1", "s": "0x1"},
        {"r": "0x1", "s": "0x1", "v": 29},
        {"r": "0x1", "s": "0x1", "v": True},
        {"r": "0x1", "s": "0x1", "v": 27.0},
        {"r": "0x0", "s": "0x1", "v": 27},
        {"r": "0x1", "s": hex(ORDER_OF_CURVE), "v": 27},
        {"r": "0x" + "1" * 65, "s": "0x1", "v": 27},
        {"r": "0x", "s": "0x1", "v": 27},
        {"r": "-0x1", "s": "0x1", "v": 27},
        {"r": 1, "s": "0x1", "v": 27},
        {"r": "0x1\n", "s": "0x1", "v": 27},
    ],
)
def test_what_is_no_signature_is_refused(broken):
    with pytest.raises(BadSignature, match="signature"):
        Signature.read(broken)


def test_a_signature_off_the_curve_recovers_nobody():
    """Five is no x-coordinate of secp256k1."""
    with pytest.raises(BadSignature, match="no signer"):
        recovered(posted(ORDER, {"r": "0x5", "s": "0x1", "v": 27}))


def test_the_nonce_inside_a_user_signed_action_must_be_the_envelopes(signer):
    body = posted(USER["usdSend"], signer.sign_user(USER["usdSend"]))
    with pytest.raises(MalformedAction, match="time is 1700000000000 and the nonce of the request 5"):
        recovered({**body, "nonce": 5})


@pytest.mark.parametrize("more", [{"vaultAddress": ACCOUNT}, {"expiresAfter": NONCE}])
def test_a_user_signed_action_takes_no_vault_and_no_expiry(signer, more):
    with pytest.raises(MalformedAction, match="must be left out"):
        recovered(posted(USER["usdSend"], signer.sign_user(USER["usdSend"]), **more))


def test_only_trading_actions_act_for_a_vault():
    assert takes_vault_address("order")
    assert takes_vault_address("twapCancel")
    assert not takes_vault_address("createSubAccount")
    assert not takes_vault_address("usdSend")


def test_the_canonical_form_strips_zeros_lowers_addresses_and_drops_what_it_does_not_know():
    action = {
        "grouping": "na",
        "builder": {"f": 1, "b": ACCOUNT[2:].upper()},
        "extra": 1,
        "orders": [{**LIMIT, "p": "2000.0", "s": "00.10", "c": None, "note": "x"}],
        "type": "order",
    }
    assert json.dumps(canonical_action(action)) == json.dumps(
        {
            "type": "order",
            "orders": [{**LIMIT, "p": "2000", "s": "0.1"}],
            "grouping": "na",
            "builder": {"b": ACCOUNT, "f": 1},
        }
    )


@pytest.mark.parametrize(
    ("order", "said"),
    [
        ({**LIMIT, "p": 2000}, "p must be text"),
        ({**LIMIT, "p": "2e3"}, "p must be a plain decimal"),
        ({**LIMIT, "p": "NaN"}, "p must be a plain decimal"),
        ({**LIMIT, "a": True}, "a must be a whole number"),
        ({**LIMIT, "a": 1.0}, "a must be a whole number"),
        ({**LIMIT, "t": {}}, "one of limit, trigger"),
        ({**LIMIT, "t": {"limit": {"tif": "Gtc"}, "trigger": {}}}, "one of limit, trigger"),
        ({**LIMIT, "c": "abc"}, "c must be 0x and 32 hex digits"),
        ({"a": 1}, "has no b"),
        ("order", "must be an object"),
    ],
)
def test_a_malformed_order_is_refused_by_name(order, said):
    with pytest.raises(MalformedAction, match=said):
        canonical_action({"type": "order", "orders": [order], "grouping": "na"})


@pytest.mark.parametrize("value", [1.5, 2**64, -(2**63) - 1, b"x", "\ud800", {1: "x"}, {"a": {2.0}}])
def test_what_has_no_agreed_bytes_is_not_hashed(value):
    with pytest.raises(MalformedAction):
        action_hash({"type": "noop", "x": value}, NONCE)


def test_an_action_nested_without_end_is_refused():
    deep = []
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(MalformedAction, match="nested"):
        action_hash({"type": "noop", "x": deep}, NONCE)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.sampled_from([ACCOUNT, "1.0"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.just("k" * 999), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(st.data())
def test_any_mutation_of_any_request_is_recovered_or_refused_never_a_crash(data):
    """One value anywhere in a signed request is replaced by anything JSON can hold, half characters included."""
    name = data.draw(st.sampled_from(sorted({**L1, **USER, "multiSig": {}})))
    action = {**L1, **USER, "multiSig": MULTI}[name]
    body = json.loads(json.dumps({"action": action, "nonce": NONCE, "signature": {"r": "0x1", "s": "0x1", "v": 27}}))
    spot = body
    while True:
        step = data.draw(st.sampled_from(list(spot) if isinstance(spot, dict) else list(range(len(spot)))))
        if not spot[step] or not isinstance(spot[step], dict | list) or data.draw(st.integers(0, 3)) == 0:
            break
        spot = spot[step]
    spot[step] = data.draw(json_values)
    said = ""
    try:
        request = read_request(body)
        for candidate in candidates(request, *Network):
            assert len(candidate.address) == 42
            if request.action_type == "multiSig":
                multi_signers(request, candidate)
    except UsageError as refused:
        said = str(refused)
    assert len(said) < 400


MULTI = {
    "type": "multiSig",
    "signatureChainId": "0x66eee",
    "signatures": [{"r": "0x1", "s": "0x1", "v": 27}],
    "payload": {"multiSigUser": ACCOUNT, "outerSigner": ACCOUNT, "action": ORDER},
}


@pytest.mark.parametrize("inside", [ORDER, USER["usdSend"]], ids=["L1", "by fields"])
def test_several_signers_and_the_one_who_sends_are_recovered(signer, inside):
    members = [Signer(secrets.token_bytes(32)) for _ in range(3)]
    names = {"multi_sig_user": ACCOUNT, "outer_signer": signer.address}
    digest = inner_digest(inside, NONCE, Network.TESTNET, **names)
    # as the venue hashes them: without leading zeros
    signatures = [{"r": hex(s.r), "s": hex(s.s), "v": s.v} for s in (m.sign_digest(digest) for m in members)]
    action = canonical_action(
        {
            **MULTI,
            "signatures": signatures,
            "payload": {"multiSigUser": ACCOUNT, "outerSigner": signer.address, "action": inside},
        }
    )
    request = read_request(posted(action, signer.sign_digest(outer_digest(action, NONCE, Network.TESTNET))))
    outer = next(candidates(request, Network.TESTNET))
    assert outer.address == signer.address
    assert multi_signers(request, outer) == tuple(member.address for member in members)
    impostor = Signer(secrets.token_bytes(32))
    other = read_request(posted(action, impostor.sign_digest(outer_digest(action, NONCE, Network.TESTNET))))
    with pytest.raises(MalformedAction, match="signed the request"):
        multi_signers(other, next(candidates(other, Network.TESTNET)))


def test_a_multi_signature_action_has_at_most_ten_signatures_and_wraps_no_other():
    with pytest.raises(MalformedAction, match="at most 10"):
        canonical_action({**MULTI, "signatures": MULTI["signatures"] * 11})
    with pytest.raises(MalformedAction, match="wrapped twice"):
        canonical_action({**MULTI, "payload": {**MULTI["payload"], "action": MULTI}})
