"""Every recorded list of instruments, of four sources and two years."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import msgspec
import yaml

from slipstream.venues.hyperliquid.instrument_rules import PerpInstrument
from slipstream.venues.hyperliquid.instruments import read_instruments

SHORT_ANSWERS = ("m2026_meta_first6", "nautilus_meta_perp_sample", "sdk_get_info_0_meta")


@cache  # reading the tapes takes longer than a hypothesis example should
def bodies(shared: Path) -> dict[str, list[bytes]]:
    """The ``meta`` answers of each recording, as sent."""
    found = {
        name: [json.dumps(json.loads((shared / "vectors/info" / f"{name}.json").read_text())["response"]).encode()]
        for name in SHORT_ANSWERS
    }
    every = json.loads((shared / "vectors/info/nautilus_all_perp_metas_non_usdc_collateral.json").read_text())
    found["all dexs"] = [json.dumps(meta).encode() for meta in every["response"]]
    payloads = shared / "data/payloads/hyperliquid"
    found["fixture"] = [(payloads / "fixtures/http_meta_perp_sample.json").read_bytes()]
    for tape in sorted((payloads / "cassettes/info_test").glob("*.yaml")):
        for interaction in yaml.safe_load(tape.read_text())["interactions"]:
            if json.loads(interaction["request"]["body"])["type"] == "meta":
                found.setdefault(tape.stem, []).append(interaction["response"]["body"]["string"].encode())
    return found


@cache
def instruments(shared: Path) -> tuple[PerpInstrument, ...]:
    """Every different instrument of every recording."""
    seen = {
        (one.coin, one.sz_decimals, one.tiers): one
        for answers in bodies(shared).values()
        for index, body in enumerate(answers)
        for one in read_instruments(body, index)
    }
    return tuple(seen.values())


def margin_tables(shared: Path) -> dict[str, list[tuple[int, int]]]:
    """Bounds in dollars and leverages of every known margin table."""
    tables = msgspec.json.decode((shared / "vectors/rules/margin_tables_mainnet.json").read_bytes())["tables"]
    return {name: [(int(bound), leverage) for bound, leverage in tiers] for name, tiers in tables.items()}
