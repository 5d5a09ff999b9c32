"""What a walk-forward backtest of one book needs to know besides its data."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time

import numpy as np

from slipstream.core.panel import to_ms
from slipstream.errors import UsageError

Moment = str | date | datetime | np.datetime64


class BacktestInputError(UsageError, ValueError):
    """A backtest that cannot be run as asked; the message names the argument and, where there is one, row and coin."""


@dataclass(frozen=True)
class BacktestConfig:
    """One run of :func:`slipstream.core.backtest.walk_forward.run_backtest`.

    Attributes:
        H: holding period and time between decisions, hours; a multiple of the bars' length.
        start_date: no decision before this moment; an ISO text, a date or a datetime. Naive ones are UTC and a date
            is its midnight. None: as early as the history allows.
        end_date: no row known after this moment is used; None: all of them.
        initial_capital: USD.
        leverage: most gross exposure, fraction of equity.
        use_costs: False trades free of charge and plans for free trading, so two runs differ by cost alone.
        use_discrete_lots: hold whole lots only (see :func:`slipstream.core.portfolio.lots.round_to_lots`), and leave
            undone what is below the venue's least order unless it closes a position. A book that has drifted past its
            leverage by less than such orders stays there.
        min_history_hours: rows the first decision must have behind it, as hours.
        beta_tolerance: largest exposure that whole lots may leave, fraction of equity.
        returns_kind: whether ``realized_returns`` are ``"simple"`` or ``"log"``.
        risk_aversion: weight of the variance in the optimiser.
        max_weight: most of one coin, long or short, fraction of equity; None is no limit.
        fill_delay_hours: time from a decision to its fill, less than ``H`` and a multiple of the bars' length. Units
            are decided at the decision's price.
        delist_after_bars: a position without a return for so many bars is closed at its last price.
        bar_hours: length of a bar, hours; None infers it from the index (bare arrays without one are hourly).
    """

    H: float
    start_date: Moment | None = None
    end_date: Moment | None = None
    initial_capital: float = 1e6
    leverage: float = 1.0
    use_costs: bool = True
    use_discrete_lots: bool = False
    min_history_hours: float = 720
    beta_tolerance: float = 0.01
    returns_kind: str = "simple"
    risk_aversion: float = 1.0
    max_weight: float | None = None
    fill_delay_hours: float = 0
    delist_after_bars: int = 6
    bar_hours: float | None = None

    def __post_init__(self) -> None:
        positive = {"H": self.H, "initial_capital": self.initial_capital, "risk_aversion": self.risk_aversion}
        optional = {"max_weight": self.max_weight, "bar_hours": self.bar_hours}
        positive |= {name: value for name, value in optional.items() if value is not None}
        for name, value in positive.items():
            if not (np.isfinite(value) and value > 0):
                raise BacktestInputError(f"{name} is {value}; it must be a positive number")
        at_least_zero = ("leverage", "min_history_hours", "beta_tolerance", "fill_delay_hours")
        for name in at_least_zero:
            value = getattr(self, name)
            if not (np.isfinite(value) and value >= 0):
                raise BacktestInputError(f"{name} is {value}; it must be a number of at least 0")
        if self.returns_kind not in ("simple", "log"):
            raise BacktestInputError(f'returns_kind is {self.returns_kind!r}; use "simple" or "log"')
        if self.fill_delay_hours >= self.H:
            raise BacktestInputError(
                f"fill_delay_hours is {self.fill_delay_hours} and H is {self.H}; fill a decision before the next"
            )
        if self.delist_after_bars < 1:
            raise BacktestInputError(f"delist_after_bars is {self.delist_after_bars}; it must be at least 1")
        start, end = moment_ms("start_date", self.start_date), moment_ms("end_date", self.end_date)
        if start is not None and end is not None and end <= start:
            raise BacktestInputError(f"end_date {self.end_date} is not after start_date {self.start_date}")


def moment_ms(name: str, moment: Moment | None) -> int | None:
    """A moment as Unix ms, None as None; naive ones are read as UTC, a date as its midnight.

    Raises:
        BacktestInputError: a text that is not an ISO date or time.
    """
    if moment is None:
        return None
    if isinstance(moment, str):
        try:
            return to_ms(datetime.fromisoformat(moment))
        except ValueError as error:
            raise BacktestInputError(f'{name} is {moment!r}; give an ISO date or time such as "2024-01-31"') from error
    if isinstance(moment, date) and not isinstance(moment, datetime):
        return to_ms(datetime.combine(moment, time(), tzinfo=UTC))
    return to_ms(moment)
