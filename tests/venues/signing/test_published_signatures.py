"""Byte for byte what other clients sign, and recovery of whoever signed real requests."""

from __future__ import annotations

import json

import pytest
from published_vectors import L1_FILES, client_requests, key, l1_vectors, vectors

from slipstream.venues.hyperliquid.canonical_actions import action_hash, canonical_action, key_order
from slipstream.venues.hyperliquid.multi_signature import inner_digest, outer_digest
from slipstream.venues.hyperliquid.recovery import candidates, multi_signers, read_request
from slipstream.venues.hyperliquid.signing import Signature, Signer
from slipstream.venues.hyperliquid.typed_data import (
    L1_DOMAIN,
    USER_SIGNED,
    Network,
    agent_struct_hash,
    l1_digest,
    user_signed_digest,
)

NETWORKS = {"a": Network.MAINNET, "b": Network.TESTNET}


def signature_bytes(signature):
    return signature.r.to_bytes(32) + signature.s.to_bytes(32) + bytes([signature.v])


@pytest.mark.parametrize("name", L1_FILES)
def test_every_published_action_hash_is_ours(shared, name):
    entries = vectors(shared, name)
    ours = {
        e["id"]: "0x" + action_hash(e["action"], e["nonce"], e["vaultAddress"], e["expiresAfter"]).hex()
        for e in entries
    }
    assert ours == {entry["id"]: entry["connectionId"] for entry in entries}


def test_every_published_l1_signature_is_ours_to_the_byte(shared):
    entries = l1_vectors(shared)
    assert len(entries) == 38
    for entry in entries:
        signer = Signer(key(entry))
        assert signer.address == entry["signer"]
        signature = signer.sign_l1(
            entry["action"],
            entry["nonce"],
            NETWORKS[entry["source"]],
            vault_address=entry["vaultAddress"],
            expires_after=entry["expiresAfter"],
        )
        assert signature_bytes(signature) == signature_bytes(Signature.read(entry["signature"])), entry["id"]


def test_the_agents_intermediate_hashes_are_the_published_ones(shared):
    entry = vectors(shared, "l1_nautilus")[0]
    connection = bytes.fromhex(entry["connectionId"][2:])
    assert "0x" + L1_DOMAIN.hex() == entry["domainSeparator"]
    assert "0x" + agent_struct_hash(connection, Network.TESTNET).hex() == entry["structHash"]
    assert "0x" + l1_digest(connection, Network.TESTNET).hex() == entry["signingHash"]


def test_an_agent_alone_is_signed_as_the_rust_client_does(shared):
    for entry in vectors(shared, "l1_rust_sdk", "agentOnly"):
        network = Network.MAINNET if entry["network"] == "mainnet" else Network.TESTNET
        digest = l1_digest(bytes.fromhex(entry["connectionId"][2:]), network)
        assert Signer(key(entry)).sign_digest(digest) == Signature.read(entry["signature"])


def test_every_published_user_signature_is_ours_to_the_byte(shared):
    entries = vectors(shared, "user_signed")
    assert len(entries) == 14
    by_name = {f"HyperliquidTransaction:{kind.name}": (posted, kind) for posted, kind in USER_SIGNED.items()}
    for entry in entries:
        posted, kind = by_name[entry["primaryType"]]
        assert [["hyperliquidChain", "string"], *map(list, kind.fields)] == [
            [t["name"], t["type"]] for t in entry["types"]
        ]
        signature = Signer(key(entry)).sign_user({"type": posted, **entry["message"]})
        assert signature_bytes(signature) == signature_bytes(Signature.read(entry["signature"])), entry["id"]


def test_every_request_the_testnet_answered_recovers_its_signer(shared):
    captures = vectors(shared, "live_testnet_captures")
    assert len(captures) == 25
    for capture in captures:
        found = list(candidates(read_request(capture["request"]), Network.TESTNET))
        assert [c.address for c in found] == [capture["recoveredSigner"]], capture["id"]


def test_a_stranger_is_named_as_the_venue_named_it(shared):
    """The venue's refusals say whom it recovered: our recovery must find the same stranger, not just fail."""
    named = {
        capture["id"]: str(capture["response"]["response"]).rpartition("User: ")[2]
        for capture in vectors(shared, "live_testnet_captures")
        if "Must deposit" in str(capture["response"])
    }
    assert len(named) == 2
    for capture in vectors(shared, "live_testnet_captures"):
        if capture["id"] in named:
            (found,) = candidates(read_request(capture["request"]), Network.TESTNET)
            assert found.address == named[capture["id"]]


def test_every_request_of_every_recorded_client_recovers_in_the_venues_own_rendering(shared):
    requests = client_requests(shared)
    assert len(requests) == 105
    assert len({client for client, _, _ in requests}) == 8
    for client, address, body in requests:
        found = next(candidates(read_request(body), Network.TESTNET))
        assert (found.address, found.form != "as sent") == (address, True), (client, body["action"])


def test_clients_do_send_the_forms_that_are_tolerated(shared):
    """Otherwise the test above proves less than it says."""
    bodies = [body for _, _, body in client_requests(shared)]
    assert any(len(body["signature"]["s"]) % 2 for body in bodies)
    assert any(not (body.get("vaultAddress") or "0x").startswith("0x") for body in bodies)
    assert any("vaultAddress" in body and body["vaultAddress"] is None for body in bodies)
    assert any(body["action"]["type"] == "approveAgent" and "agentName" not in body["action"] for body in bodies)


def test_the_multi_signature_vectors_are_ours_inside_and_outside(shared):
    for entry in vectors(shared, "l1_nktkas", "multiSig"):
        action = entry["action"]
        payload = action["payload"]
        inside = payload["action"]
        nonce = entry.get("nonce") or inside.get("time") or inside["nonce"]
        network = Network(inside.get("hyperliquidChain", "Mainnet"))
        signer = Signer(key(entry))
        digest = inner_digest(
            inside,
            nonce,
            network,
            multi_sig_user=payload["multiSigUser"],
            outer_signer=payload["outerSigner"],
            kind=None if "type" in inside else USER_SIGNED["usdSend"],
        )
        assert signer.sign_digest(digest) == Signature.read(action["signatures"][0]), entry["id"]
        assert signer.sign_digest(outer_digest(action, nonce, network)) == Signature.read(entry["signature"])


def test_a_multi_signature_request_recovers_both_levels(shared):
    for entry in vectors(shared, "l1_nktkas", "multiSig"):
        inside = entry["action"]["payload"]["action"]
        if "type" not in inside:  # a request that is posted always says what it is
            continue
        nonce = entry.get("nonce") or inside["nonce"]
        request = read_request({"action": entry["action"], "nonce": nonce, "signature": entry["signature"]})
        outer = next(candidates(request, Network(inside.get("hyperliquidChain", "Mainnet"))))
        assert outer.address == Signer(key(entry)).address
        assert (outer.form, multi_signers(request, outer)) == ("canonical", (outer.address,))


def test_our_table_of_keys_is_the_recorded_one(shared):
    recorded = json.loads((shared / "vectors/exchange/action_key_order.json").read_text())
    for name, entry in recorded["actions"].items():
        keys = tuple(key + ("?" if note == "optional" else "") for key, note in entry["keys"])
        assert key_order(name) == keys, name
        if entry["scheme"] != "L1":
            assert name in USER_SIGNED
            assert entry["eip712"]["primaryType"] == f"HyperliquidTransaction:{USER_SIGNED[name].name}"
            assert entry["eip712"]["fields"][1:] == [list(field) for field in USER_SIGNED[name].fields]
    assert {name for name, entry in recorded["actions"].items() if entry["scheme"] != "L1"} == set(USER_SIGNED)


def test_what_the_venue_accepted_is_already_canonical(shared):
    for capture in vectors(shared, "live_testnet_captures"):
        action = capture["request"]["action"]
        if capture["kind"] == "l1":
            assert json.dumps(canonical_action(action)) == json.dumps(action), capture["id"]


def test_a_digest_needs_every_field_but_the_ones_clients_leave_out(shared):
    unnamed = next(e for e in vectors(shared, "user_signed") if e["id"] == "calc.approveAgent.unnamed")
    kind = USER_SIGNED["approveAgent"]
    left_out = {name: value for name, value in unnamed["message"].items() if name != "agentName"}
    assert user_signed_digest(left_out, kind) == user_signed_digest(unnamed["message"], kind)
