"""Cost curves per coin from recorded order books, drawn towards the square-root law, judged on held-out time.

Each snapshot is walked with buys and sells of several sizes (:mod:`slipstream.core.portfolio.book_walk`), a robust
censored fit gives half-spread and k of cost(S) = half_spread + k * sqrt(S)
(:mod:`slipstream.core.portfolio.cost_fit`), and k is then shrunk towards kappa * sigma / sqrt(ADV), what the
square-root law expects of a coin of that volatility and volume, with weight n / (n + n0) on the books: n is the
number of *independent* snapshots and n0 what the prior is worth, in the same unit (the posterior mean of a normal
mean with a normal prior). The half-spread is seen in every snapshot and is not shrunk.

A book walk prices immediate execution at one moment. The square-root law is about orders worked over hours; the two
agree in form and need not agree in size, which is why both are reported.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from slipstream.core.panel import FloatArray
from slipstream.core.portfolio.book_walk import BPS, BookHistory, WalkCosts, depth_usd, half_spread_bps, walk_costs
from slipstream.core.portfolio.cost_fit import (
    BlockedCosts,
    CalibrationError,
    CostCurve,
    autocorrelation_time,
    complete_costs,
)
from slipstream.core.portfolio.costs import MIN_ORDER_USD, TransactionCostModel, impact_rate_usd

DAY_MS = 86_400_000
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_HOLDOUT_SHARE = 0.25
_FEWEST_SNAPSHOTS = 8
_FEWEST_BLOCKS, _MOST_BLOCKS = 10, 32
"""Long blocks bring their means close to normal; Lugosi and Mendelson (2019) need 8 ln(1 / error probability) of them,
which is 24 at 5 %."""
_TIMES_PER_BLOCK = 4.0
"""Blocks last at least this many autocorrelation times, so that their means are nearly independent: what is left of
their correlation shortens intervals by about a sixteenth."""


@dataclass(frozen=True)
class CalibrationConfig:
    """Choices of a calibration.

    Attributes:
        sizes_usd: orders to walk, ascending, at least two.
        prior_snapshots: independent snapshots the prior is worth; 0 trusts the books alone.
        replicates: bootstrap draws behind the intervals.
        interval: their coverage.
        seed: of the bootstrap; every coin draws its own stream, so a coin's result does not depend on the others.
    """

    sizes_usd: tuple[float, ...] = (1e3, 5e3, 1e4, 5e4, 1e5)
    prior_snapshots: float = 20.0
    replicates: int = 500
    interval: float = 0.95
    seed: int = 42

    def __post_init__(self) -> None:
        sizes = np.asarray(self.sizes_usd, dtype=np.float64)
        if len(sizes) < 2 or not (np.isfinite(sizes).all() and sizes[0] > 0.0 and (np.diff(sizes) > 0.0).all()):
            raise CalibrationError(f"sizes_usd is {self.sizes_usd}; give at least two positive sizes, ascending")
        if not (math.isfinite(self.prior_snapshots) and self.prior_snapshots >= 0.0):
            raise CalibrationError(f"prior_snapshots is {self.prior_snapshots}; it must be finite and at least 0")
        if self.replicates < 20 or not 0.0 < self.interval < 1.0:
            raise CalibrationError(
                f"replicates is {self.replicates} and interval {self.interval}; need at least 20 and a share in (0, 1)"
            )


@dataclass(frozen=True)
class Depth:
    """Median notional shown within a distance of mid, USD; a lower bound where books often end before it.

    Attributes:
        within_bps: distance, basis points.
        buy_usd, sell_usd: what a buy (asks) and a sell (bids) would find.
        cut_share: share of snapshots and sides whose levels end before that distance.
    """

    within_bps: float
    buy_usd: float
    sell_usd: float
    cut_share: float


@dataclass(frozen=True)
class HoldOut:
    """Errors on the last part of the recording of the curve learnt from the part before it, basis points.

    Attributes:
        minutes: length of the held-out part.
        n_snapshots: snapshots in it.
        mae_bps: mean absolute error over snapshots, sides and sizes; a censored cost counts only how far the curve
            lies below its bound, so the figure is a lower bound where books end early.
        books_mae_bps: the same error without the prior's pull on k.
        free_mae_bps: the same error of a free level for every side and size, learnt on the same earlier part: what
            remains is how the books move, not the curve's shape.
        bias_bps: mean of curve less cost, censored costs completed; positive where the curve charges too much.
    """

    minutes: float
    n_snapshots: int
    mae_bps: float
    books_mae_bps: float
    free_mae_bps: float
    bias_bps: float


@dataclass(frozen=True, eq=False)
class CoinCalibration:
    """What one coin's books say about its costs.

    Attributes:
        coin: name.
        half_spread_bps, half_spread_interval_bps: level of the curve at size 0, and its interval.
        k_bps_per_sqrt_usd: slope in the square root of USD, after shrinkage.
        k_books, k_books_interval: the same from the books alone.
        k_prior: 1e4 * kappa * sigma / sqrt(ADV); NaN if sigma or ADV is unknown, and then nothing is shrunk.
        books_weight: weight of the books in k; the prior has the rest.
        n_snapshots, n_effective, n_blocks: recorded, independent, and blocks of the bootstrap.
        first_ms, last_ms: span of the recording, Unix ms.
        quoted_half_spread_bps: median of half the quoted spread.
        depth: within 10 and within 50 bp.
        sizes_usd: shape (m,).
        mean_bps: shape (2, m), mean cost of buys and sells, censored ones completed.
        quantiles_bps: shape (2, m, 5), their quantiles at ``QUANTILES``.
        censored_share: shape (2, m), share of snapshots too thin for the size.
        holdout: out-of-sample errors.
    """

    coin: str
    half_spread_bps: float
    half_spread_interval_bps: tuple[float, float]
    k_bps_per_sqrt_usd: float
    k_books: float
    k_books_interval: tuple[float, float]
    k_prior: float
    books_weight: float
    n_snapshots: int
    n_effective: float
    n_blocks: int
    first_ms: int
    last_ms: int
    quoted_half_spread_bps: float
    depth: tuple[Depth, ...]
    sizes_usd: FloatArray = field(repr=False)
    mean_bps: FloatArray = field(repr=False)
    quantiles_bps: FloatArray = field(repr=False)
    censored_share: FloatArray = field(repr=False)
    holdout: HoldOut

    def cost_bps(self, size_usd: FloatArray) -> FloatArray:
        """Cost of an immediate order by the final curve, basis points, fee not included."""
        return CostCurve(self.half_spread_bps, self.k_bps_per_sqrt_usd).cost_bps(np.sqrt(size_usd))


def calibrate(
    book: BookHistory,
    holdout_days: float = 1.0,
    *,
    sigma_daily: float = math.nan,
    adv_usd: float = math.nan,
    kappa: float = 1.0,
    config: CalibrationConfig | None = None,
) -> CoinCalibration:
    """Learn one coin's cost curve; the errors come from a fit that has not seen the held-out end, the curve from all.

    Args:
        book: the recording, at least 8 snapshots.
        holdout_days: length of the held-out end. A recording shorter than twice that holds out its last quarter.
        sigma_daily: volatility per square-root day, a fraction; with ``adv_usd`` it gives the prior of k.
        adv_usd: average daily volume, USD. NaN in either means that there is no prior.
        kappa: impact constant of the prior.
        config: sizes, strength of the prior, bootstrap.

    Raises:
        CalibrationError: too few snapshots, books too thin for the sizes, or a holdout that is not positive.
    """
    chosen = config or CalibrationConfig()
    walk = _usable_walk(book, chosen)
    tau = max(autocorrelation_time(series) for series in _level_and_slope(walk))
    wanted = max(math.ceil(_TIMES_PER_BLOCK * tau), math.ceil(book.n_snapshots / _MOST_BLOCKS))
    per_block = max(1, min(wanted, book.n_snapshots // _FEWEST_BLOCKS))
    blocked = BlockedCosts(walk, per_block)
    curve = _fit(blocked, book.coin)
    rng = np.random.default_rng((chosen.seed, *book.coin.encode()))
    draws = blocked.bootstrap(curve, chosen.replicates, rng)
    low, high = blocked.intervals(draws, curve, chosen.interval)
    k_prior = BPS * float(impact_rate_usd(np.array([sigma_daily]), np.array([adv_usd]), kappa)[0])
    n_effective = book.n_snapshots / tau
    shrunk, weight = _shrink(curve, k_prior, n_effective, chosen.prior_snapshots)
    completed = complete_costs(walk, curve)
    return CoinCalibration(
        coin=book.coin,
        half_spread_bps=curve.half_spread_bps,
        half_spread_interval_bps=(float(low[0]), float(high[0])),
        k_bps_per_sqrt_usd=shrunk.k_bps_per_sqrt_usd,
        k_books=curve.k_bps_per_sqrt_usd,
        k_books_interval=(float(low[1]), float(high[1])),
        k_prior=k_prior,
        books_weight=weight,
        n_snapshots=book.n_snapshots,
        n_effective=n_effective,
        n_blocks=blocked.n_blocks,
        first_ms=int(book.time_ms[0]),
        last_ms=int(book.time_ms[-1]),
        quoted_half_spread_bps=float(np.median(half_spread_bps(book))),
        depth=tuple(_depth(book, within) for within in (10.0, 50.0)),
        sizes_usd=walk.sizes_usd,
        mean_bps=completed.mean(axis=0),
        quantiles_bps=np.moveaxis(np.quantile(completed, QUANTILES, axis=0), 0, -1),
        censored_share=walk.censored.mean(axis=0),
        holdout=_judge(book, walk, per_block, tau, k_prior, holdout_days, chosen.prior_snapshots),
    )


def cost_model(
    calibrations: Sequence[CoinCalibration], capital_usd: float, base_fee_rate: float = 2e-4
) -> TransactionCostModel:
    """Calibrated curves as the optimiser's cost model, in the order given.

    A trade of weight d costs k * sqrt(|d| * capital) bp, so lambda = 1e-4 * k * sqrt(capital); the half-spread joins
    the fee.

    Args:
        calibrations: N coins.
        capital_usd: the model's reference capital.
        base_fee_rate: exchange fee, fraction of notional.

    Raises:
        CostError: no coin, or a capital or fee that is not usable.
    """
    half_spread = np.array([entry.half_spread_bps for entry in calibrations], dtype=np.float64)
    k = np.array([entry.k_bps_per_sqrt_usd for entry in calibrations], dtype=np.float64)
    if not (math.isfinite(capital_usd) and capital_usd > 0.0 and len(k)):
        raise CalibrationError(f"capital is {capital_usd} and coins are {len(k)}; need a positive capital and a coin")
    return TransactionCostModel(
        base_fee_rate + half_spread / BPS, k / BPS * math.sqrt(capital_usd), np.full(len(k), MIN_ORDER_USD), capital_usd
    )


def _usable_walk(book: BookHistory, config: CalibrationConfig) -> WalkCosts:
    if book.n_snapshots < _FEWEST_SNAPSHOTS:
        raise CalibrationError(
            f"{book.coin}: {book.n_snapshots} usable snapshots; need at least {_FEWEST_SNAPSHOTS}. Record for longer."
        )
    walk = walk_costs(book, np.asarray(config.sizes_usd))
    seen = (walk.censored.mean(axis=(0, 1)) < 0.5).sum()
    if seen < 2:
        shown = float(np.median(walk.shown_usd))
        raise CalibrationError(
            f"{book.coin}: fewer than two of the sizes fit into most books, which show {shown:,.0f} USD a side in the "
            f"median. Choose smaller sizes."
        )
    return walk


def _level_and_slope(walk: WalkCosts) -> tuple[FloatArray, FloatArray]:
    """Level and slope of each snapshot's own costs, shape (n,) each, to see how long books stay alike."""
    both_sides = walk.cost_bps.mean(axis=1)
    lever = np.sqrt(walk.sizes_usd) - np.sqrt(walk.sizes_usd).mean()
    return both_sides.mean(axis=1), both_sides @ lever / float(lever @ lever)


def _fit(blocked: BlockedCosts, coin: str) -> CostCurve:
    try:
        return blocked.fit()
    except CalibrationError as problem:
        raise CalibrationError(f"{coin}: {problem}") from problem


def _shrink(curve: CostCurve, k_prior: float, n_effective: float, n_prior: float) -> tuple[CostCurve, float]:
    """The curve with k drawn towards the prior, and the weight of the books."""
    if not math.isfinite(k_prior):
        return curve, 1.0
    weight = n_effective / (n_effective + n_prior)
    k = weight * curve.k_bps_per_sqrt_usd + (1.0 - weight) * k_prior
    return CostCurve(curve.half_spread_bps, k), weight


def _depth(book: BookHistory, within_bps: float) -> Depth:
    depth, cut = depth_usd(book, within_bps)
    buy, sell = np.median(depth, axis=0)
    return Depth(within_bps, float(buy), float(sell), float(cut.mean()))


def holdout_start_ms(book: BookHistory, holdout_days: float) -> int:
    """First moment of the held-out end, Unix ms; see :func:`calibrate`.

    Raises:
        CalibrationError: ``holdout_days`` is not positive.
    """
    if not (math.isfinite(holdout_days) and holdout_days > 0.0):
        raise CalibrationError(f"holdout is {holdout_days} days; it must be positive")
    span = int(book.time_ms[-1] - book.time_ms[0])
    held = holdout_days * DAY_MS
    return int(book.time_ms[-1] - (held if 2.0 * held <= span else _HOLDOUT_SHARE * span))


def _judge(
    book: BookHistory,
    walk: WalkCosts,
    per_block: int,
    tau: float,
    k_prior: float,
    holdout_days: float,
    n_prior: float,
) -> HoldOut:
    """Learn from the beginning, leave out one block so that the books have moved on, and price the end."""
    first = int(np.searchsorted(book.time_ms, holdout_start_ms(book, holdout_days)))
    seen = first - per_block
    if seen < _FEWEST_SNAPSHOTS // 2 or first >= book.n_snapshots:
        raise CalibrationError(
            f"{book.coin}: {max(seen, 0)} snapshots before the held-out end; hold out less or record for longer"
        )
    early, late = _rows(walk, slice(0, seen)), _rows(walk, slice(first, None))
    curve = _fit(BlockedCosts(early, per_block), book.coin)
    free = complete_costs(early, curve).mean(axis=0)
    shrunk, _ = _shrink(curve, k_prior, seen / tau, n_prior)
    root_size = np.sqrt(walk.sizes_usd)
    priced = shrunk.cost_bps(root_size)
    return HoldOut(
        minutes=float(book.time_ms[-1] - book.time_ms[first]) / 60_000.0,
        n_snapshots=book.n_snapshots - first,
        mae_bps=_mean_absolute_error(priced, late),
        books_mae_bps=_mean_absolute_error(curve.cost_bps(root_size), late),
        free_mae_bps=_mean_absolute_error(free, late),
        bias_bps=float((priced - complete_costs(late, curve)).mean()),
    )


def _rows(walk: WalkCosts, rows: slice) -> WalkCosts:
    return WalkCosts(
        walk.sizes_usd, walk.cost_bps[rows], walk.censored[rows], walk.shown_usd[rows], walk.shown_cost_bps[rows]
    )


def _mean_absolute_error(priced: FloatArray, walk: WalkCosts) -> float:
    short = walk.cost_bps - priced
    return float(np.where(walk.censored, np.maximum(short, 0.0), np.abs(short)).mean())
