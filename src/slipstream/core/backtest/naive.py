"""Plain books everyone can check by hand: sort coins into quintiles, hold the ends at gross 1, rebalance daily.

They exist to pin magnitudes. A carry book whose funding leg is far from what these rules earn counts an eight-hour rate
as hourly, averages where it should sum, or has a sign wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from slipstream.core.backtest.ledger import Ledger
from slipstream.core.backtest.parts import FUNDING, PRICE
from slipstream.core.metrics import DAYS_PER_YEAR, sharpe_ratio, sharpe_standard_error
from slipstream.core.panel import HOUR_MS, FloatArray, Panel, PanelError, View

QUANTILE = 0.2
COST_BPS = 5.0
"""All-in cost per unit of turnover of these books, basis points."""


@dataclass(frozen=True)
class NaiveBook:
    """Yearly figures of one rule, fractions of capital per year (sums, not compounded).

    Attributes:
        name: the rule.
        funding, price, cost: legs per year; cost is negative.
        sharpe, sharpe_se: of daily net returns, annualised.
        turnover_per_year: traded notional over capital.
        days: rebalances.
    """

    name: str
    funding: float
    price: float
    cost: float
    sharpe: float
    sharpe_se: float
    turnover_per_year: float
    days: int


def trailing_funding(view: View, *, window_hours: int) -> FloatArray:
    """Sum of the settlements published over the window, shape (rows, N); NaN until the coin has lived through it."""
    window = window_hours // view.bar_hours
    published = view.funding_published
    lived = np.cumsum(~np.isnan(view.close), axis=0) >= window
    total = np.cumsum(np.nan_to_num(published), axis=0)
    total[window:] -= total[:-window].copy()
    return np.where(lived, total, np.nan)


def past_return(view: View, *, window_hours: int) -> FloatArray:
    """Log return over the window, shape (rows, N)."""
    window = window_hours // view.bar_hours
    out = np.full_like(view.close, np.nan)
    out[window:] = np.log(view.close[window:] / view.close[:-window])
    return out


def quintile_weights(score: FloatArray) -> FloatArray:
    """Long the highest fifth of the finite scores, short the lowest, equal weights, gross 1; shape (N,)."""
    known = np.flatnonzero(np.isfinite(score))
    side = int(len(known) * QUANTILE)
    weights = np.zeros(len(score))
    if side:
        order = known[np.argsort(score[known], kind="stable")]
        weights[order[-side:]] = 0.5 / side
        weights[order[:side]] = -0.5 / side
    return weights


def run_naive(panel: Panel, name: str, score: Callable[[View], FloatArray]) -> NaiveBook:
    """Trade one rule daily at 00:00 UTC over a panel, on a constant capital of 1.

    Args:
        panel: the market.
        name: for the result.
        score: ``score(view) -> (N,)``; the highest fifth is bought.

    Raises:
        PanelError: the panel is too short for two rebalances.
    """
    rows = np.flatnonzero(panel.known_at_ms % (24 * HOUR_MS) == 0)
    rows = rows[rows < panel.rows - 1]
    whole = panel.view()
    targets = [(int(row), quintile_weights(score(whole.as_of(int(row))))) for row in rows]
    live = [(row, weights) for row, weights in targets if weights.any()]
    if len(live) < 2:
        raise PanelError(f"{panel.source} is too short for the {name} book: it needs at least two rebalances")
    coins = len(panel.coins)
    ledger = Ledger(panel, np.zeros(1), np.full(coins, COST_BPS * 1e-4), min_order_usd=0.0, close_after_bars=6)
    free = np.zeros(coins)
    daily, costs, legs, turnover = [], 0.0, np.zeros(2), 0.0
    ends = [row for row, _ in live[1:]] + [panel.rows - 1]
    for (row, weights), end in zip(live, ends, strict=True):
        fills = ledger.trade_to(weights[None, :], row, free)
        paid = float(fills.fee_usd.sum())
        turnover += float(np.abs(fills.notional_usd).sum())
        earned = np.zeros(4)
        for r in range(row + 1, end + 1):
            earned += ledger.hold(r)[0]
            closed = ledger.close_delisted(r, free)
            paid += float(closed.fee_usd.sum()) if closed is not None else 0.0
        legs += earned[[PRICE, FUNDING]]
        costs += paid
        daily.append(float(earned.sum()) - paid)
    years = len(daily) / DAYS_PER_YEAR
    ratio = sharpe_ratio(np.array(daily), DAYS_PER_YEAR)
    return NaiveBook(
        name=name,
        funding=float(legs[1]) / years,
        price=float(legs[0]) / years,
        cost=-costs / years,
        sharpe=ratio,
        sharpe_se=sharpe_standard_error(ratio, len(daily), DAYS_PER_YEAR),
        turnover_per_year=turnover / years,
        days=len(daily),
    )


def reference_books(panel: Panel) -> tuple[NaiveBook, ...]:
    """Carry over 7 and 3 days and momentum over 14, 7 and 1 day."""

    def carry(hours: int) -> Callable[[View], FloatArray]:
        return lambda view: -np.asarray(view.feature(trailing_funding, window_hours=hours)[-1])

    def momentum(hours: int) -> Callable[[View], FloatArray]:
        return lambda view: np.asarray(view.feature(past_return, window_hours=hours)[-1])

    return (
        run_naive(panel, "carry 7 d", carry(168)),
        run_naive(panel, "carry 3 d", carry(72)),
        run_naive(panel, "momentum 14 d", momentum(336)),
        run_naive(panel, "momentum 7 d", momentum(168)),
        run_naive(panel, "momentum 1 d", momentum(24)),
    )
