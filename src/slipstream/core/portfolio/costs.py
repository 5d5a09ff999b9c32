"""What a trade costs: a linear part (exchange fee and half the spread) and market impact growing as size to the 3/2.

Trading a notional q in a coin with daily volatility sigma and average daily volume ADV moves its price by about
kappa * sigma * sqrt(q / ADV) on average over the trade, so it costs q * kappa * sigma * sqrt(q / ADV) in money. Per
unit of capital C, with the traded weight |d| = q / C, that is lambda * |d|**1.5 with lambda = kappa * sigma *
sqrt(C / ADV): more capital pays a higher fraction.

Source: square-root impact, Donier and Bonart (2015), Sato and Kanazawa (2024); Almgren et al. (2005) for its use.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from slipstream.core.panel import FloatArray
from slipstream.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

    from slipstream.core.portfolio.book_walk import BookHistory

MAKER_FEE_BPS = 1.5
TAKER_FEE_BPS = 4.5
"""The venue's base tier; checked on 2026-11-22, confirm before live use."""
MOSTLY_PASSIVE_FEE_BPS = 2.0
MIN_ORDER_USD = 10.0


class CostError(UsageError):
    """A cost model that cannot be built or does not fit the portfolio."""


@dataclass(frozen=True)
class CostAssumptions:
    """The costs of a backtest on bars, which carry neither quotes nor depth.

    Attributes:
        fee_bps: exchange fee per unit of notional, basis points.
        half_spread_bps: half the quoted spread, basis points; an assumption, since bars carry no quotes.
        kappa: impact constant (1 is the square-root law's usual order of magnitude).
        min_order_usd: the venue's smallest order; smaller changes are left undone unless they close a position.
    """

    fee_bps: float = MOSTLY_PASSIVE_FEE_BPS
    half_spread_bps: float = 1.0
    kappa: float = 1.0
    min_order_usd: float = MIN_ORDER_USD

    def __post_init__(self) -> None:
        for name in ("fee_bps", "half_spread_bps", "kappa", "min_order_usd"):
            value = getattr(self, name)
            if not (np.isfinite(value) and value >= 0.0):
                raise CostError(f"cost assumption {name} is {value}; it must be finite and at least 0")

    @property
    def linear_rate(self) -> float:
        """Fee and half-spread as a fraction of notional."""
        return (self.fee_bps + self.half_spread_bps) * 1e-4


def impact_rate_usd(sigma_daily: FloatArray, adv_usd: FloatArray, kappa: float = 1.0) -> FloatArray:
    """Coefficient k of the impact cost k * notional**1.5, USD**-0.5, elementwise: kappa * sigma / sqrt(ADV).

    Args:
        sigma_daily: volatility per square-root day, a fraction.
        adv_usd: average daily volume, USD; NaN where either is unknown or ADV is zero: impact cannot be priced there.
        kappa: impact constant.
    """
    known = np.isfinite(sigma_daily) & np.isfinite(adv_usd) & (np.nan_to_num(adv_usd) > 0.0)
    return np.where(known, kappa * sigma_daily / np.sqrt(np.where(known, adv_usd, 1.0)), np.nan)


@dataclass(frozen=True)
class TransactionCostModel:
    """Cost of moving weights: C(d) = sum |d_i| fee_rate_i + sum lambda_i |d_i|**1.5, fractions of capital.

    Attributes:
        fee_rate: shape (N,), fee plus half-spread, fraction of traded notional.
        impact_coef: shape (N,), lambda at ``reference_capital``.
        min_trade_size: shape (N,), USD.
        reference_capital: USD at which ``impact_coef`` holds.
    """

    fee_rate: FloatArray
    impact_coef: FloatArray
    min_trade_size: FloatArray
    reference_capital: float = 1e6

    def __post_init__(self) -> None:
        shapes = {np.shape(self.fee_rate), np.shape(self.impact_coef), np.shape(self.min_trade_size)}
        if len(shapes) != 1 or len(next(iter(shapes))) != 1:
            raise CostError(f"cost model arrays must share one length; got shapes {sorted(shapes)}")
        for name in ("fee_rate", "impact_coef", "min_trade_size"):
            values = np.asarray(getattr(self, name), dtype=np.float64)
            if not (np.isfinite(values).all() and (values >= 0.0).all()):
                raise CostError(f"cost model {name} must be finite and at least 0")
            object.__setattr__(self, name, values)
        if not self.reference_capital > 0.0:
            raise CostError(f"reference_capital is {self.reference_capital}; it must be positive")

    @classmethod
    def create_default(cls, n: int) -> TransactionCostModel:
        """2 bp linear, lambda 1e-4 at 1e6 USD, 10 USD least trade, for ``n`` assets: blind to liquidity."""
        return cls(np.full(n, MOSTLY_PASSIVE_FEE_BPS * 1e-4), np.full(n, 1e-4), np.full(n, MIN_ORDER_USD))

    @classmethod
    def from_liquidity_metrics(
        cls,
        assets: Sequence[str],
        df: pd.DataFrame,
        base_fee_rate: float = 2e-4,
        kappa: float = 1.0,
        reference_capital: float = 1e6,
    ) -> TransactionCostModel:
        """A model from measured liquidity: fee plus *half* the spread, lambda from volatility and ADV.

        Args:
            assets: N names, the order of the result.
            df: indexed by asset, columns ``avg_volume_24h`` (USD), ``avg_spread_bps``, ``volatility_24h`` (fraction
                per square-root day). Assets that are missing get the worst costs observed, with a warning.
            base_fee_rate: exchange fee, fraction.
            kappa: impact constant.
            reference_capital: USD.

        Raises:
            CostError: a column is missing, or no asset is in ``df``.
        """
        needed = ("avg_volume_24h", "avg_spread_bps", "volatility_24h")
        absent = [name for name in needed if name not in df.columns]
        if absent:
            raise CostError(f"liquidity metrics lack the columns {absent}; needed are {list(needed)}")
        frame: Any = df.reindex(list(assets))
        volume, spread, sigma = (frame[name].to_numpy(dtype=np.float64) for name in needed)
        fee = base_fee_rate + 0.5e-4 * spread
        impact = impact_rate_usd(sigma, volume, kappa) * np.sqrt(reference_capital)
        unknown = ~(np.isfinite(fee) & np.isfinite(impact))
        if unknown.all():
            raise CostError("liquidity metrics cover none of the assets")
        if unknown.any():
            names = ", ".join(name for name, missing in zip(assets, unknown, strict=True) if missing)
            warnings.warn(f"no liquidity metrics for {names}: the worst observed costs are used", stacklevel=2)
            fee[unknown] = fee[~unknown].max()
            impact[unknown] = impact[~unknown].max()
        return cls(fee, impact, np.full(len(assets), MIN_ORDER_USD), reference_capital)

    @classmethod
    def from_l2(
        cls,
        books: Sequence[BookHistory],
        capital: float,
        holdout_days: float = 1.0,
        *,
        base_fee_rate: float = 2e-4,
        sigma_daily: FloatArray | None = None,
        adv_usd: FloatArray | None = None,
        kappa: float = 1.0,
    ) -> TransactionCostModel:
        """A model calibrated on recorded order books: see :mod:`slipstream.core.portfolio.calibration`.

        The mathematics reads no files, so this takes recordings as arrays; ``slipstream.lake.books.read_books`` makes
        them from files, and ``slipstream calibrate-costs`` wires both and shows errors and intervals.

        Args:
            books: recordings of N coins, the order of the result.
            capital: USD, the model's reference capital; lambda = 1e-4 * k * sqrt(capital), k in bp per root USD.
            holdout_days: end of each recording on which out-of-sample errors are measured; a recording shorter than
                twice that holds out its last quarter.
            base_fee_rate: exchange fee, fraction; the calibrated half-spread is added to it.
            sigma_daily: shape (N,), volatility per square-root day, a fraction; with ``adv_usd`` it gives the prior
                of k. None, or NaN where unknown: then k is the books' alone.
            adv_usd: shape (N,), average daily volume, USD.
            kappa: impact constant of the prior.

        Raises:
            CostError: no coin, a length that differs, a recording too short or too thin, or an unusable capital.
        """
        from slipstream.core.portfolio.calibration import calibrate, cost_model

        unknown = np.full(len(books), np.nan)
        sigma = unknown if sigma_daily is None else np.asarray(sigma_daily, dtype=np.float64)
        volume = unknown if adv_usd is None else np.asarray(adv_usd, dtype=np.float64)
        if sigma.shape != unknown.shape or volume.shape != unknown.shape:
            raise CostError(f"sigma_daily has shape {sigma.shape}, adv_usd {volume.shape}; books are {len(books)}")
        fitted = [
            calibrate(book, holdout_days, sigma_daily=float(sigma[i]), adv_usd=float(volume[i]), kappa=kappa)
            for i, book in enumerate(books)
        ]
        return cost_model(fitted, capital, base_fee_rate)

    def impact_at(self, capital: float) -> FloatArray:
        """The impact coefficient at another capital, shape (N,): it grows with its square root.

        Raises:
            CostError: ``capital`` is not positive.
        """
        if not capital > 0.0:
            raise CostError(f"capital is {capital}; it must be positive")
        return np.asarray(self.impact_coef * np.sqrt(capital / self.reference_capital))


def compute_transaction_costs(
    w_new: FloatArray, w_old: FloatArray, model: TransactionCostModel, capital: float
) -> dict[str, Any]:
    """Cost of going from one set of weights to another at a given capital.

    Args:
        w_new: shape (N,), fractions of capital.
        w_old: shape (N,).
        model: costs per asset.
        capital: USD.

    Returns:
        ``total``, ``fee``, ``impact``, ``turnover`` (fractions of capital), ``dollar_total``, ``dollar_turnover``
        (USD), ``n_trades``, ``asset_costs`` (N,).

    Raises:
        CostError: lengths differ from the model's.
    """
    moved = np.abs(np.asarray(w_new, dtype=np.float64) - np.asarray(w_old, dtype=np.float64))
    if moved.shape != model.fee_rate.shape:
        raise CostError(f"weights have shape {moved.shape}; the cost model has {model.fee_rate.shape}")
    fee = moved * model.fee_rate
    impact = model.impact_at(capital) * moved**1.5
    total, turnover = float((fee + impact).sum()), float(moved.sum())
    return {
        "total": total,
        "fee": float(fee.sum()),
        "impact": float(impact.sum()),
        "turnover": turnover,
        "dollar_total": total * capital,
        "dollar_turnover": turnover * capital,
        "n_trades": int((moved > 0.0).sum()),
        "asset_costs": fee + impact,
    }
