"""How good one horizon's forecasts were, on the rows all horizons are scored on.

The numbers of section "three numbers" of the research guide, out of sample only: shares explained in deviations (the
diagnostic) and in money, rank correlation with a t that allows for overlap, quantile tables, and the curve of labels
shifted ahead of the forecast, along which a true signal fades and a leak does not.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from slipstream.core.forecast.bootstrap import BlockDraws
from slipstream.core.forecast.errors import ForecastError
from slipstream.core.forecast.hac import MeanWithError
from slipstream.core.forecast.quantiles import QUANTILES, QuantileMode, QuantileRow, quantile_table
from slipstream.core.forecast.scores import R2, JointR2, joint_r2, mean_rank_ic, r2
from slipstream.core.panel import FloatArray, Panel
from slipstream.core.portfolio.costs import impact_rate_usd
from slipstream.core.signals.liquidity import average_daily_volume_usd, daily_volatility
from slipstream.research.horizon_forecasts import HorizonForecast
from slipstream.research.net_edge import BookSettings

TABLES = ("alpha", "funding", "total")
"""What the rows of a quantile table are ranked by."""


@dataclass(frozen=True)
class ShiftedSkill:
    """Rank correlations with labels that begin ``shift_hours`` after the forecast.

    Attributes:
        shift_hours: 0 is the label itself.
        total, price, funding: of what a hedged long earns, of its price part, and of funding.
    """

    shift_hours: int
    total: MeanWithError
    price: MeanWithError
    funding: MeanWithError


@dataclass(frozen=True)
class HorizonSkill:
    """Scores of one horizon out of sample.

    Attributes:
        horizon_hours: H.
        sigma_r2: in deviations, funding unfloored: the published diagnostic.
        money_r2: the same share in money.
        ewma_r2: of funding in money by an EWMA of its past alone.
        ewma_span_hours: the spans chosen, block by block.
        rank_ic, price_ic, funding_ic: mean Spearman correlations across coins.
        sigma_tables, bp_tables: rows ranked by each of :data:`TABLES`; deviations, basis points per H.
        cost_bp: per bin of the "total" table in basis points: a full round trip every H, the most a book could pay.
        shifted: the curve, nearest first.
    """

    horizon_hours: int
    sigma_r2: JointR2
    money_r2: JointR2
    ewma_r2: R2
    ewma_span_hours: tuple[float, ...]
    rank_ic: MeanWithError
    price_ic: MeanWithError
    funding_ic: MeanWithError
    sigma_tables: dict[str, tuple[QuantileRow, ...]] = field(repr=False)
    bp_tables: dict[str, tuple[QuantileRow, ...]] = field(repr=False)
    cost_bp: tuple[float, ...]
    shifted: tuple[ShiftedSkill, ...]

    @property
    def ewma_share(self) -> float:
        """Share of the funding skill in money that an EWMA alone gives; NaN where the model has none."""
        model = self.money_r2.funding.value
        return self.ewma_r2.value / model if model > 0.0 else float("nan")


def score_horizon(
    forecast: HorizonForecast,
    panel: Panel,
    start: int,
    draws: BlockDraws,
    books: BookSettings,
    mode: QuantileMode = "pooled",
) -> HorizonSkill:
    """Scores on the rows from ``start`` on.

    Args:
        forecast: of the horizon.
        panel: the bars, for the cost of a round trip.
        start: first row scored, the same for every horizon.
        draws: of the rows from ``start`` on.
        books: capital and cost assumptions of that round trip.
        mode: of the quantile tables.
    """

    def cut(values: FloatArray) -> FloatArray:
        return values[start:]

    targets, raw = forecast.targets, forecast.raw_targets
    price, paid = cut(targets.price_return), cut(targets.funding_paid)
    price_hat, paid_hat = cut(forecast.alpha_price), cut(forecast.alpha_funding)
    alpha, funding = cut(targets.alpha), cut(targets.funding)
    alpha_hat, funding_hat = cut(forecast.alpha.forecast), cut(forecast.funding.forecast)
    bars = forecast.bars
    sigma_by = {"alpha": alpha_hat, "funding": funding_hat, "total": alpha_hat - funding_hat}
    money_by = {"alpha": price_hat, "funding": paid_hat, "total": price_hat - paid_hat}
    trip = cut(round_trip(panel, books))
    scored = np.isfinite(price_hat) & np.isfinite(paid_hat) & np.isfinite(price)  # the rows the model is scored on
    nothing = np.where(np.isfinite(price), 0.0, np.nan)
    cost = _tables({"total": money_by["total"]}, trip, nothing, draws, mode, 1e4)["total"]
    return HorizonSkill(
        horizon_hours=forecast.horizon_hours,
        sigma_r2=joint_r2(cut(raw.alpha), cut(forecast.raw_alpha), cut(raw.funding), cut(forecast.raw_funding), draws),
        money_r2=joint_r2(price, price_hat, paid, paid_hat, draws),
        ewma_r2=r2(np.where(scored, paid, np.nan), cut(forecast.ewma_funding), draws),
        ewma_span_hours=forecast.ewma_span_hours,
        rank_ic=mean_rank_ic(price_hat - paid_hat, price - paid, bars),
        price_ic=mean_rank_ic(price_hat, price, bars),
        funding_ic=mean_rank_ic(paid_hat, paid, bars),
        sigma_tables=_tables(sigma_by, alpha, funding, draws, mode, 1.0),
        bp_tables=_tables(money_by, price, paid, draws, mode, 1e4),
        cost_bp=tuple(row.alpha_actual for row in cost),
        shifted=shifted_skill(price_hat, paid_hat, price, paid, bars, forecast.bar_hours),
    )


def shifted_skill(
    price_hat: FloatArray,
    paid_hat: FloatArray,
    price: FloatArray,
    paid: FloatArray,
    bars: int,
    bar_hours: int,
) -> tuple[ShiftedSkill, ...]:
    """Rank correlations with labels shifted ahead by 0, 1, 2 bars, H, 2 H and 4 H.

    Args:
        price_hat: forecast of the price part, shape (T, N), money.
        paid_hat: forecast of funding, likewise.
        price: what came of the price over the H after each row, shape (T, N).
        paid: funding paid over them.
        bars: H over the bar.
        bar_hours: length of a bar.
    """
    out = []
    for shift in sorted({0, 1, 2, bars, 2 * bars, 4 * bars}):
        if shift >= len(price):
            break
        later_price, later_paid = (_ahead(values, shift) for values in (price, paid))
        out.append(
            ShiftedSkill(
                shift * bar_hours,
                mean_rank_ic(price_hat - paid_hat, later_price - later_paid, bars),
                mean_rank_ic(price_hat, later_price, bars),
                mean_rank_ic(paid_hat, later_paid, bars),
            )
        )
    return tuple(out)


def round_trip(panel: Panel, books: BookSettings) -> FloatArray:
    """Cost of opening and closing one position of a decile book, shape (T, N), fraction of its notional.

    The position is the capital at full leverage spread evenly over the two outer tenths of the coins that may be held.
    Where a coin's volume or volatility is unknown only fee and half-spread are counted.
    """
    view = panel.view()
    positions = np.maximum(panel.universe.sum(axis=1) * 2.0 / QUANTILES, 1.0)
    size_usd = books.capital_usd * books.leverage / positions
    rate = impact_rate_usd(view.feature(daily_volatility), view.feature(average_daily_volume_usd), books.costs.kappa)
    return np.asarray(2.0 * (books.costs.linear_rate + np.nan_to_num(rate) * np.sqrt(size_usd)[:, None]))


def _tables(
    by: dict[str, FloatArray],
    alpha: FloatArray,
    funding: FloatArray,
    draws: BlockDraws,
    mode: QuantileMode,
    unit: float,
) -> dict[str, tuple[QuantileRow, ...]]:
    if not any(np.isfinite(values).any() for values in by.values()):
        raise ForecastError("there is not one forecast to rank")
    return {name: quantile_table(values, alpha, funding, draws, mode=mode, unit=unit) for name, values in by.items()}


def _ahead(values: FloatArray, shift: int) -> FloatArray:
    """Row t of the result is row t + shift; NaN past the end."""
    out = np.full(values.shape, np.nan)
    out[: len(values) - shift] = values[shift:]
    return out
