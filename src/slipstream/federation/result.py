"""What a federated backtest leaves behind: ledgers, grants, trades and the checks made on them.

Clock of every hourly array: row ``t`` is the account as it stood at the close ``t``, *before* the decision taken at
``t`` is traded; a trade decided at ``t`` and its costs are booked in the row after. The first row is the first
decision, with the initial capital and nothing traded yet.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from slipstream.core.panel import FloatArray, IntArray

PARTS = ("price", "funding", "fees", "impact")
"""The parts a P&L is split into; ``fees`` holds exchange fee and half-spread, ``impact`` the 3/2-power cost."""


@dataclass(frozen=True)
class Trades:
    """Every trade, one row per time, pod and coin, sorted by them. M rows.

    Attributes:
        time_ms: decision time, Unix ms.
        pod, coin: indices into the result's ``pods`` and ``coins``.
        notional_usd: signed; positive buys.
        price: execution price, USD (the close at ``time_ms``).
        fee_usd: exchange fee plus half-spread, at least 0.
        impact_usd: market impact, at least 0.
    """

    time_ms: IntArray = field(repr=False)
    pod: IntArray = field(repr=False)
    coin: IntArray = field(repr=False)
    notional_usd: FloatArray = field(repr=False)
    price: FloatArray = field(repr=False)
    fee_usd: FloatArray = field(repr=False)
    impact_usd: FloatArray = field(repr=False)


@dataclass(frozen=True)
class NettingSaving:
    """What crossing the pods' orders inside the account would have saved, USD (reported, never credited).

    ``impact_usd`` can be negative: two pods buying the same coin together move it more than either alone.
    """

    fees_usd: float
    impact_usd: float

    @property
    def total_usd(self) -> float:
        return self.fees_usd + self.impact_usd


@dataclass(frozen=True)
class CausalityCheck:
    """Decisions taken again from data cut at their own moment, against the run's.

    Attributes:
        decisions: number of (moment, pod) decisions taken again.
        max_difference: largest absolute difference of a target weight; 0.0 means bit for bit equal.
    """

    decisions: int
    max_difference: float


@dataclass(frozen=True)
class FederationResult:
    """P pods over T hours, K decisions, N coins.

    Attributes:
        pods: slugs.
        coins: names, the column order of positions.
        initial_capital_usd: the account's capital before the first decision.
        time_ms: (T,) hourly closes, Unix ms.
        pnl_usd: (T, P, 4) P&L of the hour that ends at each row, split as ``PARTS``; costs are negative.
        equity_usd: (T, P) each pod's own ledger (cash and marked positions): its first grant plus all it earned.
            A grant is a limit on risk, not a transfer: capital granted later moves no cash between ledgers.
        total_equity_usd: (T,) the account.
        capital_usd: (T, P) the grant in force over the hour that ends at each row (row 0: zero).
        track: (T, P) growth of one unit of granted capital, 1.0 at row 0, flat while a pod has no grant.
        shadow_track: (T, P) the same for each pod's shadow book, which trades an equal share of the account whatever
            the grant: the pod on its own, seen all the way through.
        total_track: (T,) account equity over initial capital.
        decision_ms: (K,) decision times.
        weights: (K, P) granted fraction of account equity.
        granted_usd: (K, P) the same in USD.
        positions_usd: (K, P, N) signed notional just after each decision's trades.
        beta_usd: (K, P) beta-weighted net notional just after trading, against the liquidity-weighted market.
        trades: every trade.
        netting: what crossing inside the account would have saved.
        funding_missing: settlements due on a held position and not recorded (charged 0).
        failed_allocations: cycles in which the programme was not solved and the grants were kept.
        delisted: (time_ms, pod, coin) of positions closed because a coin's data ended.
        accounting_max_error: largest gap, over rows, pods and total, between a ledger's change and the sum of its
            P&L parts, as a fraction of initial capital.
        causality: decisions taken again from truncated data.
        trade_fingerprint: SHA-256 over all trades.
    """

    pods: tuple[str, ...]
    coins: tuple[str, ...]
    initial_capital_usd: float
    time_ms: IntArray = field(repr=False)
    pnl_usd: FloatArray = field(repr=False)
    equity_usd: FloatArray = field(repr=False)
    total_equity_usd: FloatArray = field(repr=False)
    capital_usd: FloatArray = field(repr=False)
    track: FloatArray = field(repr=False)
    shadow_track: FloatArray = field(repr=False)
    total_track: FloatArray = field(repr=False)
    decision_ms: IntArray = field(repr=False)
    weights: FloatArray = field(repr=False)
    granted_usd: FloatArray = field(repr=False)
    positions_usd: FloatArray = field(repr=False)
    beta_usd: FloatArray = field(repr=False)
    trades: Trades = field(repr=False)
    netting: NettingSaving
    funding_missing: int
    failed_allocations: int
    delisted: tuple[tuple[int, int, int], ...]
    accounting_max_error: float
    causality: CausalityCheck
    trade_fingerprint: str
