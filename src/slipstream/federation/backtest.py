"""The federated backtest: pods decide, the allocator grants, one account trades, and every dollar is accounted for.

Each cycle, at the close of a decision row t: every pod decides from its view as of t; the allocator grants capital from
the pods' returns as known at t; the pods' targets are scaled by their grants and traded at the close; the books are
then carried over the following rows. Settlements stamped t are booked to the bar that closes at t but published after
it, so the allocator sees them one cycle later, as the pods do.

A grant is a limit on risk, not a transfer: each pod's ledger runs on its own from its first grant. Beside the granted
books every pod has a shadow book at an equal share of the account; its returns stand in while a pod has no grant, so
that it can return.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from slipstream.core.backtest.ledger import Fills, Ledger
from slipstream.core.backtest.parts import FEES, FUNDING, IMPACT
from slipstream.core.factors.market import market_model
from slipstream.core.panel import HOUR_MS, FloatArray, Panel, forward_fill, utc
from slipstream.core.portfolio.costs import CostAssumptions, impact_rate_usd
from slipstream.core.signals.liquidity import average_daily_volume_usd, daily_volatility
from slipstream.errors import SlipstreamError, UsageError
from slipstream.federation.allocator import AllocationFailed, AllocatorConfig, PortfolioAllocator
from slipstream.federation.observations import CycleReturns
from slipstream.federation.pods import Pod, check_causality, decide
from slipstream.federation.result import FederationResult, NettingSaving, Trades

Progress = Callable[[int, int], None]
"""Called with (decisions done, decisions in all)."""


MOST_CAPITAL_USD = 1e15
"""Beyond this a cent is lost to rounding."""


class Ruined(SlipstreamError):
    """The account's equity fell to zero."""


@dataclass(frozen=True)
class FederationConfig:
    """One run.

    Attributes:
        capital_usd: the account's initial capital.
        cycle_hours: common rebalance period of the allocator and the pods, on the Unix-epoch grid.
        costs: what trading costs.
        allocator: the programme; its ``cycle_hours`` is replaced by this run's.
        close_delisted_after_bars: a position whose coin has had no bar for this long is closed at its last price.
        causality_checks: moments at which every pod's decision is taken again from truncated data.
    """

    capital_usd: float = 1e5
    cycle_hours: int = 24
    costs: CostAssumptions = field(default_factory=CostAssumptions)
    allocator: AllocatorConfig = field(default_factory=AllocatorConfig)
    close_delisted_after_bars: int = 6
    causality_checks: int = 4

    def __post_init__(self) -> None:
        if not 0.0 < self.capital_usd <= MOST_CAPITAL_USD:
            raise UsageError(
                f"capital is {self.capital_usd:g} USD; it must be positive and at most {MOST_CAPITAL_USD:g}"
            )
        if self.cycle_hours < 1:
            raise UsageError(f"cycle is {self.cycle_hours} h; it must be at least one hour")


def decision_rows(panel: Panel, cycle_hours: int, start_ms: int | None = None) -> list[int]:
    """Rows of a panel at which a cycle begins: on the epoch grid, from the first with a tradable coin, not the last.

    Args:
        panel: bars no longer than the cycle.
        cycle_hours: a multiple of the bar length.
        start_ms: no decision before this, Unix ms.

    Raises:
        UsageError: the cycle does not fit the bars, or no decision is left.
    """
    if cycle_hours % panel.bar_hours:
        raise UsageError(f"cycle of {cycle_hours} h is not a multiple of the {panel.bar_hours} h bars")
    on_grid = panel.known_at_ms % (cycle_hours * HOUR_MS) == 0
    wanted = on_grid & panel.universe.any(axis=1) & (panel.known_at_ms >= (start_ms if start_ms is not None else 0))
    rows = [int(row) for row in np.flatnonzero(wanted) if row < panel.rows - 1]
    if not rows:
        raise UsageError(
            f"no decision can be taken in {panel.source}: no coin meets the universe rule (30 days of bars and enough "
            "volume) at the start of a cycle in the span asked for; give a longer file or an earlier --start"
        )
    first = rows[0]
    return [int(row) for row in np.flatnonzero(on_grid) if first <= row < panel.rows - 1]


def run_federation(
    panel: Panel,
    pods: Sequence[Pod],
    config: FederationConfig | None = None,
    *,
    start_ms: int | None = None,
    progress: Progress | None = None,
) -> FederationResult:
    """Trade pods through a panel under the allocator.

    A coin whose impact cannot be priced yet (too few returns for a volatility, no volume) is outside the universe,
    unless the panel knows no volume at all: then impact is zero, and whoever reports the result must say so. A pod that
    has not enough history yet is flat.

    Args:
        panel: the market; history before the first decision is warm-up.
        pods: P pods; their order is the order of every output.
        config: defaults to :class:`FederationConfig`.
        start_ms: no decision before this, Unix ms.
        progress: called after each decision.

    Raises:
        UsageError: no pod, or no decision can be taken.
        PodError: a pod's decision cannot be traded, or a pod that has begun lacks the history to decide.
        Ruined: the account lost everything.
    """
    if not pods:
        raise UsageError("a federation needs at least one pod")
    settings = config or FederationConfig()
    impact_rate = _impact_rates(panel, settings.costs.kappa)
    priced = replace(panel, universe=panel.universe & np.isfinite(impact_rate))
    rows = decision_rows(priced, settings.cycle_hours, start_ms)
    run = _Run(priced, pods, settings, rows, impact_rate)
    for k, row in enumerate(rows):
        run.decide(k, row)
        run.carry(row, rows[k + 1] if k + 1 < len(rows) else panel.rows - 1)
        if progress is not None:
            progress(k + 1, len(rows))
    return run.result()


class _Run:
    """The mutable state of one backtest; every array is shaped as :class:`FederationResult` documents."""

    def __init__(
        self, panel: Panel, pods: Sequence[Pod], config: FederationConfig, rows: list[int], impact_rate: FloatArray
    ) -> None:
        self.panel, self.pods, self.config, self.rows = panel, pods, config, rows
        count, coins, hours, first = len(pods), len(panel.coins), panel.rows - rows[0], rows[0]
        self.first = first
        self.view = panel.view()
        self.allocator = PortfolioAllocator(replace(config.allocator, cycle_hours=float(config.cycle_hours)))
        self.linear_rate = np.full(coins, config.costs.linear_rate)
        self.impact_rate = impact_rate
        self.real, self.shadow = (
            Ledger(
                panel,
                np.zeros(count),
                self.linear_rate,
                min_order_usd=config.costs.min_order_usd,
                close_after_bars=config.close_delisted_after_bars,
            )
            for _ in range(2)
        )
        self.shadow_weight = min(config.allocator.max_weight, 1.0 / count)
        self.observed = CycleReturns(count)
        self.alive = np.zeros(count, dtype=bool)
        self.grant = np.zeros(count)
        self.shadow_grant = np.zeros(count)
        self.pnl = np.zeros((hours, count, 4))
        self.equity = np.zeros((hours, count))
        self.total = np.full(hours, config.capital_usd)
        self.capital = np.zeros((hours, count))
        self.track, self.shadow_track = np.ones((hours, count)), np.ones((hours, count))
        self.targets = np.zeros((len(rows), count, coins))
        self.weights = np.zeros((len(rows), count))
        self.granted = np.zeros((len(rows), count))
        self.positions = np.zeros((len(rows), count, coins))
        self.trades: list[tuple[int, Fills, FloatArray]] = []
        self.delisted: list[tuple[int, int, int]] = []
        self.saved = np.zeros(2)
        self.failures = 0

    def decide(self, k: int, row: int) -> None:
        """Decisions, grants and trades at the close of ``row``."""
        view = self.view.as_of(row)
        for p, pod in enumerate(self.pods):
            self.targets[k, p] = decide(pod, view, begun=bool(self.alive[p]))
        self.alive |= (self.targets[k] != 0.0).any(axis=1)
        here = row - self.first
        known_usd = self._published_equity_usd(here)
        if known_usd <= 0.0:
            raise Ruined(f"the account is ruined at {utc(int(self.panel.known_at_ms[row])):%Y-%m-%d %H:%M} UTC")
        weights = self._allocate(known_usd)
        granted, shadow = weights * known_usd, np.where(self.alive, self.shadow_weight * known_usd, 0.0)
        if k == 0:
            self.real.cash_usd += granted
            self.equity[0] = granted
        rate = self.impact_rate[row]
        fills = self.real.trade_to(self.targets[k] * granted[:, None], row, rate)
        ghosts = self.shadow.trade_to(self.targets[k] * shadow[:, None], row, rate)
        self._record(row, fills, self.panel.close[row])
        self.observed.open_cycle(
            granted, self.grant, fills.cost_parts(), shadow, self.shadow_grant, ghosts.cost_parts(), self.alive
        )
        self.pnl[here + 1, :, FEES], self.pnl[here + 1, :, IMPACT] = (-part for part in fills.cost_parts())
        self.grant, self.shadow_grant = granted, shadow
        self.weights[k], self.granted[k] = weights, granted
        self.positions[k] = self.real.positions_usd(row)

    def carry(self, row: int, until: int) -> None:
        """Hold the books over the rows after ``row`` up to and including ``until``."""
        unallocated = self.config.capital_usd - float(self.granted[0].sum())
        for r in range(row + 1, until + 1):
            here = r - self.first
            moved, ghost = self.real.hold(r), self.shadow.hold(r)
            self._close_delisted(r, moved, ghost)
            self.pnl[here] += moved
            self.observed.add(moved, ghost, last=r == until)
            self.track[here], self.shadow_track[here] = self.observed.levels
            self.equity[here] = self.real.equity_usd(r)
            self.total[here] = unallocated + float(self.equity[here].sum())
            self.capital[here] = self.grant
        self.observed.close_cycle()

    def _published_equity_usd(self, here: int) -> float:
        """Account equity at a row without the settlements stamped at it; those never enter the sum, to the last bit."""
        if here == 0:
            return self.config.capital_usd
        moved = self.pnl[here].copy()
        moved[:, FUNDING] = 0.0
        return float(self.total[here - 1] + moved.sum())

    def _allocate(self, capital_usd: float) -> FloatArray:
        current = self.grant / capital_usd
        no_limit = np.full(len(self.pods), np.inf)
        try:
            wanted = self.allocator.optimize(
                self.observed.table(), current, no_limit, capital_usd, alive=self.alive
            ).weights
        except AllocationFailed:
            self.failures += 1
            return current
        return self.allocator.held_back(wanted, current)

    def _close_delisted(self, row: int, moved: FloatArray, ghost: FloatArray) -> None:
        rate = self.impact_rate[row]
        for ledger, book in ((self.real, moved), (self.shadow, ghost)):
            fills = ledger.close_delisted(row, rate)
            if fills is None:
                continue
            fee, impact = fills.cost_parts()
            book[:, FEES] -= fee
            book[:, IMPACT] -= impact
            if ledger is self.real:
                self._record(row, fills, self.panel.mark[row])
                when = int(self.panel.known_at_ms[row])
                self.delisted += [(when, int(p), int(i)) for p, i in np.argwhere(fills.notional_usd != 0.0)]

    def _record(self, row: int, fills: Fills, price: FloatArray) -> None:
        self.trades.append((row, fills, price))
        net = np.abs(fills.notional_usd.sum(axis=0))
        traded = net > 0.0
        self.saved[0] += float(fills.fee_usd.sum() - net @ self.linear_rate)
        crossed = np.where(traded, np.nan_to_num(self.impact_rate[row]) * net**1.5, 0.0)
        self.saved[1] += float(fills.impact_usd.sum() - crossed.sum())

    def result(self) -> FederationResult:
        panel, capital = self.panel, self.config.capital_usd
        beta = np.nan_to_num(self.view.feature(market_model)[self.rows, 0])
        trades = _trade_table(panel, self.trades)
        ledger_gap = np.abs(self.equity - self.equity[0] - np.cumsum(self.pnl.sum(axis=2), axis=0)).max()
        total_gap = np.abs(self.total - capital - np.cumsum(self.pnl.sum(axis=(1, 2)))).max()
        slugs = tuple(pod.slug for pod in self.pods)
        return FederationResult(
            pods=slugs,
            coins=panel.coins,
            initial_capital_usd=capital,
            time_ms=panel.known_at_ms[self.first :],
            pnl_usd=self.pnl,
            equity_usd=self.equity,
            total_equity_usd=self.total,
            capital_usd=self.capital,
            track=self.track,
            shadow_track=self.shadow_track,
            total_track=self.total / capital,
            decision_ms=panel.known_at_ms[self.rows],
            weights=self.weights,
            granted_usd=self.granted,
            positions_usd=self.positions,
            beta_usd=np.einsum("kpn,kn->kp", self.positions, beta),
            trades=trades,
            netting=NettingSaving(float(self.saved[0]), float(self.saved[1])),
            funding_missing=self.real.funding_missing,
            delisted=tuple(self.delisted),
            failed_allocations=self.failures,
            accounting_max_error=float(max(ledger_gap, total_gap)) / capital,
            causality=check_causality(panel, self.pods, self.rows, self.targets, self.config.causality_checks),
            trade_fingerprint=fingerprint(trades, slugs, panel.coins),
        )


def _impact_rates(panel: Panel, kappa: float) -> FloatArray:
    """Impact coefficient of every row and coin, (T, N), the last known one carried on; zero if no volume is known."""
    if np.isnan(panel.volume_usd).all():
        return np.zeros_like(panel.close)
    view = panel.view()
    return forward_fill(impact_rate_usd(daily_volatility(view), average_daily_volume_usd(view), kappa))


def _trade_table(panel: Panel, moments: Sequence[tuple[int, Fills, FloatArray]]) -> Trades:
    """All fills as columns, sorted by time, pod and coin."""
    where = [np.nonzero(fills.notional_usd) for _, fills, _ in moments]
    sizes = [len(pods) for pods, _ in where]
    times = np.repeat(panel.known_at_ms[[row for row, _, _ in moments]], sizes)

    def column(values: list[FloatArray]) -> FloatArray:
        return np.concatenate(values) if values else np.empty(0)

    return Trades(
        time_ms=times,
        pod=np.concatenate([pods for pods, _ in where]).astype(np.int64),
        coin=np.concatenate([coins for _, coins in where]).astype(np.int64),
        notional_usd=column([fills.notional_usd[at] for (_, fills, _), at in zip(moments, where, strict=True)]),
        price=column([price[coins] for (_, _, price), (_, coins) in zip(moments, where, strict=True)]),
        fee_usd=column([fills.fee_usd[at] for (_, fills, _), at in zip(moments, where, strict=True)]),
        impact_usd=column([fills.impact_usd[at] for (_, fills, _), at in zip(moments, where, strict=True)]),
    )


def fingerprint(trades: Trades, pods: Sequence[str], coins: Sequence[str]) -> str:
    """SHA-256 over every trade: time, pod and coin by name, and the exact bits of notional, price, fee and impact."""
    digest = hashlib.sha256()
    names = [f"{pods[p]}/{coins[i]}" for p, i in zip(trades.pod.tolist(), trades.coin.tolist(), strict=True)]
    digest.update("\n".join(names).encode())
    digest.update(trades.time_ms.astype("<i8").tobytes())
    for values in (trades.notional_usd, trades.price, trades.fee_usd, trades.impact_usd):
        digest.update(values.astype("<f8").tobytes())
    return digest.hexdigest()
