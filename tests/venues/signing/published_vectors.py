"""Signing vectors other clients publish, and signed requests that clients made or the venue answered."""

from __future__ import annotations

import json
from pathlib import Path

L1_FILES = ("l1_official_sdk_tests", "l1_nautilus", "l1_nktkas", "l1_rust_sdk")


def vectors(shared: Path, name: str, section: str = "vectors") -> list[dict]:
    """Entries of a file of signing vectors."""
    return json.loads((shared / "vectors/signing" / f"{name}.json").read_text())[section]


def l1_vectors(shared: Path) -> list[dict]:
    """Every published L1 vector that has a signature."""
    return [entry for name in L1_FILES for entry in vectors(shared, name) if entry["kind"] == "l1"]


def client_requests(shared: Path) -> list[tuple[str, str, dict]]:
    """Every signed request of every recorded client: the client, its address, the request."""
    found = []
    for file in sorted((shared / "vectors/traces").glob("*.json")):
        trace = json.loads(file.read_text())
        for event in trace["events"]:
            body = event.get("body")
            if isinstance(body, dict) and body.get("method") == "post":
                body = body["request"]["payload"]
            if isinstance(body, dict) and "signature" in body:
                found.append((file.stem, trace["testAddress"], body))
    return found


def key(entry: dict) -> bytes:
    """The published test key of a vector."""
    return bytes.fromhex(entry["privateKey"][2:])
