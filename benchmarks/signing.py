"""How long it takes to sign an order, and to find out who signed one.

    python benchmarks/signing.py [--orders 5000]

Signing is measured whole: the action's hash, the agent's digest and the signature; recovery as the venue does it, from
the parsed request. Times are of the processor, so that other work on the machine counts only through its caches and
clock rate; the bare signature of the curve, in the same run, tells how fast the machine is at the moment. The peers are
the official SDK (with eth_account underneath), measured in the same run if it is installed; otherwise the microseconds
stand alone and the output says so.
"""

from __future__ import annotations

import argparse
import importlib.util
import secrets
import statistics
import time
from collections.abc import Callable

from slipstream.venues.hyperliquid.canonical_actions import action_hash, canonical_action
from slipstream.venues.hyperliquid.recovery import candidates, read_request
from slipstream.venues.hyperliquid.signing import Signer
from slipstream.venues.hyperliquid.typed_data import Network, l1_digest

LIMIT_US = 100
ROUNDS = 7
NONCE = 1_790_000_000_000


def order(price: int, count: int = 1) -> dict:
    """An action of ``count`` limit orders with client ids."""
    one = {"a": 0, "b": True, "p": str(price), "s": "0.001", "r": False, "t": {"limit": {"tif": "Alo"}}}
    orders = [{**one, "c": f"0x{price + place:032x}"} for place in range(count)]
    return {"type": "order", "orders": orders, "grouping": "na"}


def microseconds(work: Callable[[int], object], count: int) -> tuple[float, float]:
    """Median over the rounds of one call's processor time and of its time on the wall, microseconds."""
    used, passed = [], []
    for _ in range(ROUNDS):
        cpu, wall = time.process_time(), time.perf_counter()
        for place in range(count):
            work(place)
        used.append((time.process_time() - cpu) / count * 1e6)
        passed.append((time.perf_counter() - wall) / count * 1e6)
    return statistics.median(used), statistics.median(passed)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--orders", type=int, default=2000, help="calls in each of seven rounds")
    count = parser.parse_args().orders
    key = secrets.token_bytes(32)
    signer = Signer(key)
    orders = [order(50_000 + place) for place in range(count)]
    batch = order(50_000, 40)
    bodies = [
        {"action": action, "nonce": NONCE, "signature": signer.sign_l1(action, NONCE, Network.TESTNET).wire()}
        for action in orders
    ]
    digests = [secrets.token_bytes(32) for _ in orders]
    work: dict[str, Callable[[int], object]] = {
        "sign an order": lambda place: signer.sign_l1(orders[place], NONCE + place, Network.TESTNET),
        "  of which hash and digest": lambda place: l1_digest(action_hash(orders[place], NONCE), Network.TESTNET),
        "  of which the curve's signature": lambda place: signer.sign_digest(digests[place]),
        "put an order in canonical form": lambda place: canonical_action(orders[place]),
        "recover the signer of an order": lambda place: next(candidates(read_request(bodies[place]), Network.TESTNET)),
        "sign a batch of 40 orders": lambda place: signer.sign_l1(batch, NONCE + place, Network.TESTNET),
    }
    ours = 0.0
    for what, call in work.items():
        used, passed = microseconds(call, count)
        print(f"{what:34s} {used:8.1f} us ({passed:.1f} on the wall)")
        ours = ours or used  # the first is the order
    print(f"limit of an order: {LIMIT_US} us: {'kept' if ours <= LIMIT_US else 'BROKEN'}")
    if importlib.util.find_spec("hyperliquid") is None or importlib.util.find_spec("eth_account") is None:
        print("peer: the official SDK is not installed in this environment; nothing to compare with")
        return
    from eth_account import Account
    from hyperliquid.utils.signing import sign_l1_action

    wallet = Account.from_key(key)
    few = min(count, 200)
    peer, _ = microseconds(lambda place: sign_l1_action(wallet, orders[place], None, NONCE + place, None, False), few)
    theirs = sign_l1_action(wallet, orders[0], None, NONCE, None, False)
    mine = signer.sign_l1(orders[0], NONCE, Network.TESTNET)
    same = (int(theirs["r"], 16), int(theirs["s"], 16), theirs["v"]) == (mine.r, mine.s, mine.v)
    print(f"{'peer: official SDK signs an order':34s} {peer:8.1f} us; {peer / ours:.1f} times ours; same bytes: {same}")


if __name__ == "__main__":
    main()
