"""One action of every type that is signed, for round trips."""

from __future__ import annotations

from slipstream.venues.hyperliquid.canonical_actions import L1_ACTIONS
from slipstream.venues.hyperliquid.typed_data import USER_SIGNED

ACCOUNT = "0x" + "5e" * 20
CLOID = "0x" + "0a" * 16
LIMIT = {"a": 0, "b": True, "p": "50000", "s": "0.1", "r": False, "t": {"limit": {"tif": "Gtc"}}}
TRIGGER = {
    "a": 1,
    "b": False,
    "p": "2000.5",
    "s": "3.5",
    "r": True,
    "t": {"trigger": {"isMarket": True, "triggerPx": "2001", "tpsl": "sl"}},
    "c": CLOID,
}
ORDER = {"type": "order", "orders": [LIMIT], "grouping": "na"}

_BODIES: dict[str, dict] = {
    "activateOutcomeDeployer": {"isDeactivate": False},
    "agentEnableDexAbstraction": {},
    "agentSendAsset": {
        "destination": ACCOUNT,
        "sourceDex": "",
        "destinationDex": "spot",
        "token": "USDC",
        "amount": "0.10",
        "fromSubAccount": "",
        "nonce": 1_700_000_000_000,
    },
    "agentSetAbstraction": {"abstraction": "u"},
    "authorizeAqav2Role": {"token": 1, "role": "x"},
    "batchModify": {"modifies": [{"oid": 7, "order": LIMIT}, {"oid": CLOID, "order": TRIGGER}], "a": True},
    "borrowLend": {"operation": "supply", "token": 0, "amount": "1"},
    "cancel": {"cancels": [{"a": 0, "o": 2**41}], "f": True},
    "cancelByCloid": {"cancels": [{"asset": 110_000, "cloid": CLOID}]},
    "claimRewards": {},
    "createSubAccount": {"name": "one"},
    "createVault": {"name": "v", "description": "d", "initialUsd": 100_000_000, "nonce": 1_700_000_000_000},
    "evmUserModify": {"usingBigBlocks": True},
    "finalizeEvmContract": {"token": 1, "input": {"create": {"nonce": 1}}},
    "gossipPriorityBid": {"slotId": 1, "ip": "10.0.0.1", "maxGas": 10},
    "hip3LiquidatorTransfer": {"dex": "km", "ntl": 1, "isDeposit": True},
    "modify": {"oid": CLOID, "order": TRIGGER},
    "noop": {},
    "order": {"orders": [LIMIT, TRIGGER], "grouping": {"p": 5}, "builder": {"b": ACCOUNT, "f": 10}},
    "registerReferrer": {"code": "A"},
    "reserveRequestWeight": {"weight": 10, "destination": ACCOUNT},
    "scheduleCancel": {"time": 1_700_000_000_000},
    "setDisplayName": {"displayName": "Jos\N{LATIN SMALL LETTER E WITH ACUTE}"},
    "setReferrer": {"code": "A"},
    "spotUser": {"toggleSpotDusting": {"optOut": True}},
    "subAccountModify": {"subAccountUser": ACCOUNT, "name": "two"},
    "subAccountSpotTransfer": {"subAccountUser": ACCOUNT, "isDeposit": True, "token": "USDC", "amount": "1.5"},
    "subAccountTransfer": {"subAccountUser": ACCOUNT, "isDeposit": False, "usd": 1},
    "topUpIsolatedOnlyMargin": {"asset": 0, "leverage": "3.5"},
    "twapCancel": {"a": 0, "t": 1},
    "twapOrder": {"twap": {"a": 0, "b": True, "s": "1", "r": False, "m": 5, "t": True}},
    "updateIsolatedMargin": {"asset": 0, "isBuy": True, "ntli": -1_000_000},
    "updateLeverage": {"asset": 0, "isCross": True, "leverage": 5},
    "validatorL1Stream": {"riskFreeRate": "0.04"},
    "vaultDistribute": {"vaultAddress": ACCOUNT, "usd": 1},
    "vaultModify": {"vaultAddress": ACCOUNT, "allowDeposits": None, "alwaysCloseOnWithdraw": True},
    "vaultTransfer": {"vaultAddress": ACCOUNT, "isDeposit": True, "usd": 1},
}
L1 = {name: {"type": name, **_BODIES[name]} for name in sorted(L1_ACTIONS)}
"""Every L1 action, in the order it is hashed."""

_VALUES = {
    "string": "text",
    "address": ACCOUNT,
    "bool": True,
    "uint32": 998,
    "uint64": 1_700_000_000_000,
    "bytes": "0x01",
}
USER = {
    name: {
        "type": name,
        "hyperliquidChain": "Testnet",
        "signatureChainId": "0x66eee",
        **{field: _VALUES[form] for field, form in kind.fields},
    }
    for name, kind in USER_SIGNED.items()
}
"""Every user-signed action, for the testnet, with nonce 1700000000000."""
