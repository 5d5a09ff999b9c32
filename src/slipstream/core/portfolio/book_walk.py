"""What an order would have paid against a recorded book: spread, depth, and the price of walking the levels.

A recorded book shows its best levels only. An order larger than what is shown has no known cost; it has a *least* one,
because everything beyond the last level is at that level's price or worse. Such an observation is censored: its value
here is the lower bound and ``censored`` says so. What to make of it is decided where the costs are fitted
(:mod:`slipstream.core.portfolio.calibration`).

All costs are against the mid price of the same snapshot, in basis points, positive when they hurt.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from slipstream.core.panel import BoolArray, FloatArray, IntArray, utc
from slipstream.core.portfolio.costs import CostError

SIDES = ("buy", "sell")
"""The order of every axis of sides: a buy takes asks, a sell hits bids."""

BPS = 1e4
_ROUNDING_BPS = 1e-9


class BookError(CostError):
    """Arrays that cannot be a recording of order books; the message names the coin and the snapshot."""


@dataclass(frozen=True, eq=False)
class BookHistory:
    """Order-book snapshots of one coin, best level first. Arrays are copied and made read-only.

    Attributes:
        coin: case-sensitive name.
        time_ms: shape (n,), Unix ms of the venue, non-decreasing.
        bid_price, ask_price: shape (n, L), USD; NaN beyond the last level shown. The best level is always there.
        bid_size, ask_size: shape (n, L), coins; positive wherever there is a price.

    Raises:
        BookError: shapes differ, there is no snapshot, time runs backwards, a side is empty, a book is crossed, a
            level is not worse than the one before it, or a size is not positive.
    """

    coin: str
    time_ms: IntArray = field(repr=False)
    bid_price: FloatArray = field(repr=False)
    bid_size: FloatArray = field(repr=False)
    ask_price: FloatArray = field(repr=False)
    ask_size: FloatArray = field(repr=False)

    def __post_init__(self) -> None:
        times = np.array(self.time_ms, dtype=np.int64)
        levels = {
            name: np.array(getattr(self, name), dtype=np.float64)
            for name in ("bid_price", "bid_size", "ask_price", "ask_size")
        }
        shape = levels["bid_price"].shape
        if times.ndim != 1 or len(shape) != 2 or any(part.shape != shape for part in levels.values()):
            shapes = ", ".join(f"{name} {part.shape}" for name, part in levels.items())
            raise BookError(f"books of {self.coin}: shapes do not fit together: time {times.shape}, {shapes}")
        if shape[0] != len(times) or 0 in shape:
            raise BookError(f"books of {self.coin}: {len(times)} times and levels of shape {shape}; need at least one")
        self._require(np.diff(times, prepend=times[0]) >= 0, "comes before the snapshot above it; sort by time")
        self._require(levels["bid_price"][:, 0] > 0.0, "has no bid; drop one-sided books")
        self._require(levels["ask_price"][:, 0] > 0.0, "has no ask; drop one-sided books")
        self._require(levels["ask_price"][:, 0] > levels["bid_price"][:, 0], "is crossed or locked; drop such books")
        for side, outward in (("bid", -1.0), ("ask", 1.0)):
            price, size = levels[f"{side}_price"], levels[f"{side}_size"]
            shown = np.isfinite(price)
            worse = outward * np.diff(price, axis=1) > 0.0
            ordered = (worse | ~shown[:, 1:]) & (shown[:, 1:] <= shown[:, :-1])
            sized = (np.isfinite(size) & (size > 0.0)) | ~shown
            self._require(np.all(ordered, axis=1), f"has {side} levels that are not in order, best first")
            self._require(np.all(sized, axis=1), f"has a {side} size that is not positive")
            levels[f"{side}_size"] = np.where(shown, size, 0.0)
        for name, array in {"time_ms": times, **levels}.items():
            array.setflags(write=False)
            object.__setattr__(self, name, array)

    def _require(self, holds: BoolArray | np.bool_, complaint: str) -> None:
        if not holds.all():
            row = int(np.argmin(holds))
            when = f"{utc(int(self.time_ms[row])):%Y-%m-%d %H:%M:%S} UTC"
            raise BookError(f"books of {self.coin}: snapshot {row} at {when} {complaint}")

    @property
    def n_snapshots(self) -> int:
        return len(self.time_ms)

    @property
    def mid(self) -> FloatArray:
        """Half-way between best bid and best ask, shape (n,), USD."""
        return np.asarray(0.5 * (self.bid_price[:, 0] + self.ask_price[:, 0]))

    def taken(self, side: int) -> tuple[FloatArray, FloatArray, float]:
        """Prices and sizes an order of ``SIDES[side]`` takes, each (n, L), and the sign that makes costs positive."""
        return (self.ask_price, self.ask_size, 1.0) if side == 0 else (self.bid_price, self.bid_size, -1.0)


@dataclass(frozen=True, eq=False)
class WalkCosts:
    """The cost of immediate orders of m sizes against n snapshots, buys and sells (axis 1, see ``SIDES``).

    Attributes:
        sizes_usd: shape (m,), notional of the orders.
        cost_bps: shape (n, 2, m), average price paid against mid; where ``censored``, the least it can have been.
        censored: shape (n, 2, m), True where the book shown is smaller than the order.
        shown_usd: shape (n, 2), notional of all levels shown.
        shown_cost_bps: shape (n, 2), cost of taking all of them.
    """

    sizes_usd: FloatArray
    cost_bps: FloatArray
    censored: BoolArray
    shown_usd: FloatArray
    shown_cost_bps: FloatArray


def walk_costs(book: BookHistory, sizes_usd: FloatArray) -> WalkCosts:
    """Walk every snapshot with a buy and a sell of every size.

    An order of S takes levels until their notional at their own prices is S; its average price is S over the coins it
    got. If the levels end at D < S, the rest is put at the last level's price, which gives the lower bound.

    Args:
        book: n snapshots.
        sizes_usd: shape (m,), positive.

    Raises:
        BookError: a size is not positive.
    """
    sizes = np.asarray(sizes_usd, dtype=np.float64)
    if sizes.ndim != 1 or not (np.isfinite(sizes) & (sizes > 0.0)).all():
        raise BookError(f"order sizes must be positive amounts of USD; got {sizes.tolist()}")
    n, mid = book.n_snapshots, book.mid
    cost = np.empty((n, 2, len(sizes)))
    shown_usd, shown_cost = np.empty((n, 2)), np.empty((n, 2))
    for side in range(2):
        price, coins, sign = book.taken(side)
        price = _last_price_carried(price)
        notional = price * coins
        reached = np.cumsum(notional, axis=1)
        shown_usd[:, side] = reached[:, -1]
        shown_cost[:, side] = sign * (reached[:, -1] / coins.sum(axis=1) / mid - 1.0) * BPS
        for j, size in enumerate(sizes):
            part = np.clip(size - (reached - notional), 0.0, notional)
            beyond = np.maximum(size - reached[:, -1], 0.0)
            bought = (part / price).sum(axis=1) + beyond / price[:, -1]
            cost[:, side, j] = sign * (size / bought / mid - 1.0) * BPS
    censored = shown_usd[:, :, None] < sizes
    return WalkCosts(sizes, cost, censored, shown_usd, shown_cost)


def half_spread_bps(book: BookHistory) -> FloatArray:
    """Half the quoted spread over mid, shape (n,), basis points."""
    return np.asarray(0.5 * (book.ask_price[:, 0] - book.bid_price[:, 0]) / book.mid * BPS)


def depth_usd(book: BookHistory, within_bps: float) -> tuple[FloatArray, BoolArray]:
    """Notional shown within ``within_bps`` of mid on the side that buys and that sells take.

    Returns:
        depth: shape (n, 2), USD.
        cut: shape (n, 2), True where the levels shown end before that distance, so the depth is a lower bound.
    """
    depth = np.empty((book.n_snapshots, 2))
    cut = np.empty((book.n_snapshots, 2), dtype=bool)
    for side in range(2):
        price, coins, sign = book.taken(side)
        price = _last_price_carried(price)
        distance = sign * (price / book.mid[:, None] - 1.0) * BPS
        depth[:, side] = np.where(distance <= within_bps + _ROUNDING_BPS, price * coins, 0.0).sum(axis=1)
        cut[:, side] = distance[:, -1] < within_bps - _ROUNDING_BPS
    return depth, cut


def _last_price_carried(price: FloatArray) -> FloatArray:
    """Levels that are not shown get the last shown price (their size is 0), so that nothing is NaN."""
    last = np.maximum(np.isfinite(price).sum(axis=1) - 1, 0)
    return np.where(np.isfinite(price), price, price[np.arange(len(price)), last][:, None])
