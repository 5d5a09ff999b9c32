"""One strategy on its own capital: a decision is taken at the closes of a panel, traded, and accounted for.

What the federated backtest does for many pods under an allocator, without the allocator: the same ledger, the same
clock (a decision at the close t trades at that close and earns the rows after it) and the same costs. Volumes may be
unknown here, since a file of returns has none; impact is then 0 and the result says so.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from slipstream.core.backtest.ledger import Fills, Ledger
from slipstream.core.backtest.parts import FEES, FUNDING, IMPACT, PRICE
from slipstream.core.decision import Decide, Holdings, NotEnoughHistory, checked_weights
from slipstream.core.metrics import max_drawdown, sharpe_ratio, sharpe_standard_error
from slipstream.core.panel import HOUR_MS, HOURS_PER_YEAR, FloatArray, IntArray, Panel, forward_fill, utc
from slipstream.core.portfolio.costs import MIN_ORDER_USD, MOSTLY_PASSIVE_FEE_BPS, CostAssumptions, impact_rate_usd
from slipstream.core.signals.liquidity import average_daily_volume_usd, daily_volatility
from slipstream.errors import SlipstreamError, UsageError


class NothingTradable(UsageError):
    """No coin may be held at any decision."""


class BookRuined(SlipstreamError):
    """The book's equity fell to zero."""


@dataclass(frozen=True)
class BarBacktestConfig:
    """How one strategy is traded.

    Attributes:
        capital_usd: initial equity.
        fee_bps: exchange fee per unit of notional, basis points.
        half_spread_bps: half the quoted spread, basis points; an assumption, since bars carry no quotes.
        kappa: impact constant.
        min_order_usd: smaller changes are left undone unless they close a position.
        close_delisted_after_bars: a position whose coin has had no bar for this many rows is closed at its last price.
    """

    capital_usd: float = 1e6
    fee_bps: float = MOSTLY_PASSIVE_FEE_BPS
    half_spread_bps: float = 1.0
    kappa: float = 1.0
    min_order_usd: float = MIN_ORDER_USD
    close_delisted_after_bars: int = 6

    def __post_init__(self) -> None:
        if not (np.isfinite(self.capital_usd) and self.capital_usd > 0.0):
            raise UsageError(f"capital_usd is {self.capital_usd}; it must be positive")
        if self.close_delisted_after_bars < 1:
            raise UsageError(f"close_delisted_after_bars is {self.close_delisted_after_bars}; it must be at least 1")
        _ = self.costs

    @property
    def costs(self) -> CostAssumptions:
        return CostAssumptions(self.fee_bps, self.half_spread_bps, self.kappa, self.min_order_usd)


@dataclass(frozen=True)
class BarBacktest:
    """M rows after the first position, K decisions, N coins.

    Attributes:
        bar_hours: length of a bar, hours.
        initial_capital_usd: equity before the first trade.
        known_at_ms: (M,) closes, Unix ms.
        net_return: (M,) simple return of the bar that ends at each row, after funding and costs.
        gross_return: (M,) the same before costs.
        pnl_usd: (M, 4) price, funding, fees, impact; costs are negative.
        gross_exposure: (M,) sum of absolute positions over equity at the row before.
        decision_ms: (K,) decision times from the first that holds anything.
        weights: (K, N) target weights.
        turnover: (M,) notional traded at the open of the bar that ends at each row, over equity.
        funding_missing: settlements due on a held position and not recorded (charged 0).
        unpriced_trades: trades whose impact could not be priced for want of volume or volatility (charged 0).
        accounting_error: equity's change less the sum of the P&L parts, as a fraction of initial capital.
    """

    bar_hours: int
    initial_capital_usd: float
    known_at_ms: IntArray = field(repr=False)
    net_return: FloatArray = field(repr=False)
    gross_return: FloatArray = field(repr=False)
    pnl_usd: FloatArray = field(repr=False)
    gross_exposure: FloatArray = field(repr=False)
    decision_ms: IntArray = field(repr=False)
    weights: FloatArray = field(repr=False)
    turnover: FloatArray = field(repr=False)
    funding_missing: int
    unpriced_trades: int
    accounting_error: float

    @property
    def periods_per_year(self) -> float:
        return HOURS_PER_YEAR / self.bar_hours

    def sharpe(self, *, gross: bool = False) -> float:
        """Annualised Sharpe ratio of the bars' returns; 0.0 if they do not vary."""
        return sharpe_ratio(self.gross_return if gross else self.net_return, self.periods_per_year)

    def sharpe_error(self) -> float:
        """Standard error of :meth:`sharpe` for independent returns."""
        return sharpe_standard_error(self.sharpe(), len(self.net_return), self.periods_per_year)

    def total_return(self) -> float:
        """Compounded net return."""
        return float(np.prod(1.0 + self.net_return)) - 1.0

    def drawdown(self) -> float:
        """Deepest fall from a previous high, at most 0."""
        return max_drawdown(np.concatenate(([1.0], np.cumprod(1.0 + self.net_return))))

    def turnover_per_year(self) -> float:
        """Traded notional over equity, per year."""
        return float(self.turnover.sum()) * self.periods_per_year / len(self.net_return)

    def average_gross(self) -> float:
        """Mean gross exposure, multiples of equity."""
        return float(self.gross_exposure.mean())


def run_bar_backtest(
    panel: Panel, decide: Decide, *, rebalance_hours: float, config: BarBacktestConfig | None = None
) -> BarBacktest:
    """Trade one decision function through a panel.

    The run begins at the first decision that holds anything (what comes before is warm-up) and is marked, not closed,
    at the last row. If no decision does, it begins where one could have, and every return is zero. A decision is sized
    on the equity known at it: the settlement stamped at its own close is published later and is left out.

    Args:
        panel: the market; history before the first decision is warm-up.
        decide: ``decide(view) -> weights (N,)``, fractions of equity; pure. One that decides from holdings
            (:class:`~slipstream.core.decision.DecidesFromHoldings`) is given the book.
        rebalance_hours: hours between decisions, a multiple of the bar, on the grid of the Unix epoch.
        config: defaults to :class:`BarBacktestConfig`.

    Raises:
        UsageError: the period does not fit the bars.
        BadDecision: a decision has the wrong shape, a NaN or a coin outside the universe.
        NotEnoughHistory: a decision after the first position cannot be taken for want of data.
        NothingTradable: no coin may be held at any decision.
        BookRuined: equity fell to zero.
    """
    cfg = config or BarBacktestConfig()
    rows = _decision_rows(panel, rebalance_hours)
    book = _Book(panel, cfg)
    view = panel.view()
    begun: int | None = None
    for k, row in enumerate(rows):
        try:
            weights = checked_weights(decide, view.as_of(row), book.holdings(row))
        except NotEnoughHistory:
            if begun is not None:
                raise
            continue
        if begun is None and not weights.any():
            continue
        begun = row if begun is None else begun
        book.trade(row, weights)
        book.carry(row, rows[k + 1] if k + 1 < len(rows) else panel.rows - 1)
    if begun is None:
        open_rows = [row for row in rows if panel.universe[row].any()]
        if not open_rows:
            raise NothingTradable(
                f"{panel.source}: no coin may be held at any of {len(rows)} decisions; a coin needs 30 days of bars "
                "and enough volume first: give a longer file"
            )
        begun = open_rows[0]
    return book.result(begun)


def _decision_rows(panel: Panel, rebalance_hours: float) -> list[int]:
    step = round(rebalance_hours * HOUR_MS)
    if step <= 0 or step % (panel.bar_hours * HOUR_MS):
        raise UsageError(
            f"rebalancing every {rebalance_hours:g} h does not fit bars of {panel.bar_hours} h; give a multiple of them"
        )
    return [int(row) for row in np.flatnonzero(panel.known_at_ms % step == 0) if row < panel.rows - 1]


class _Book:
    """The mutable state of one run; rows index the panel."""

    def __init__(self, panel: Panel, config: BarBacktestConfig) -> None:
        coins = len(panel.coins)
        self.panel, self.config = panel, config
        view = panel.view()
        sigma, volume = view.feature(daily_volatility), view.feature(average_daily_volume_usd)
        priced = forward_fill(impact_rate_usd(sigma, volume, config.kappa))
        self.unpriced = np.isnan(priced)
        self.impact_rate = np.where(self.unpriced, 0.0, priced)
        self.ledger = Ledger(
            panel,
            np.array([config.capital_usd]),
            np.full(coins, config.costs.linear_rate),
            min_order_usd=config.min_order_usd,
            close_after_bars=config.close_delisted_after_bars,
        )
        self.pnl = np.zeros((panel.rows, 4))
        self.equity = np.full(panel.rows, config.capital_usd)
        self.exposure = np.zeros(panel.rows)
        self.turnover = np.zeros(panel.rows)
        self.decisions: list[tuple[int, FloatArray]] = []
        self.unpriced_trades = 0

    def known_usd(self, row: int) -> float:
        """Equity a decision at the close of ``row`` is sized on.

        Raises:
            BookRuined: there is none left.
        """
        known = float(self.equity[row] - self.pnl[row, FUNDING])
        if known <= 0.0:
            raise BookRuined(f"the book is ruined at {utc(int(self.panel.known_at_ms[row])):%Y-%m-%d %H:%M} UTC")
        return known

    def holdings(self, row: int) -> Holdings:
        """The book as a decision at the close of ``row`` knows it."""
        known = self.known_usd(row)
        return Holdings(self.ledger.positions_usd(row)[0] / known, known)

    def trade(self, row: int, weights: FloatArray) -> None:
        """Move to target weights at the close of ``row``; the costs are booked to the row after it."""
        known_usd = self.known_usd(row)
        fills = self.ledger.trade_to((weights * known_usd)[None, :], row, self.impact_rate[row])
        self._book_costs(fills, row, row + 1)
        self.decisions.append((row, weights))

    def carry(self, row: int, until: int) -> None:
        """Hold over the rows after ``row`` up to and including ``until``."""
        for r in range(row + 1, until + 1):
            self.exposure[r] = np.abs(self.ledger.positions_usd(r - 1)).sum() / self.equity[r - 1]
            self.pnl[r] += self.ledger.hold(r)[0]
            closed = self.ledger.close_delisted(r, self.impact_rate[r])
            if closed is not None:
                self._book_costs(closed, r, r)
            self.equity[r] = self.ledger.equity_usd(r)[0]
            if self.equity[r] <= 0.0:
                raise BookRuined(f"the book is ruined at {utc(int(self.panel.known_at_ms[r])):%Y-%m-%d %H:%M} UTC")

    def _book_costs(self, fills: Fills, row: int, booked: int) -> None:
        """Book turnover, fees and impact of trades at ``row``."""
        fee, impact = fills.cost_parts()
        self.pnl[booked, FEES] -= fee[0]
        self.pnl[booked, IMPACT] -= impact[0]
        self.unpriced_trades += int(((fills.notional_usd[0] != 0.0) & self.unpriced[row]).sum())
        self.turnover[booked] += float(np.abs(fills.notional_usd).sum()) / self.equity[booked - 1]

    def result(self, first: int) -> BarBacktest:
        rows = slice(first + 1, None)
        opening = self.equity[first:-1]
        pnl = self.pnl[rows]
        gap = self.equity[-1] - self.config.capital_usd - pnl.sum()
        return BarBacktest(
            bar_hours=self.panel.bar_hours,
            initial_capital_usd=self.config.capital_usd,
            known_at_ms=self.panel.known_at_ms[rows],
            net_return=pnl.sum(axis=1) / opening,
            gross_return=(pnl[:, PRICE] + pnl[:, FUNDING]) / opening,
            pnl_usd=pnl,
            gross_exposure=self.exposure[rows],
            decision_ms=self.panel.known_at_ms[np.array([row for row, _ in self.decisions], dtype=np.intp)],
            weights=np.array([weights for _, weights in self.decisions]).reshape(-1, len(self.panel.coins)),
            turnover=self.turnover[rows],
            funding_missing=self.ledger.funding_missing,
            unpriced_trades=self.unpriced_trades,
            accounting_error=abs(float(gap)) / self.config.capital_usd,
        )
