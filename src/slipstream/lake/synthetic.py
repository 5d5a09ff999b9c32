"""A market made to measure: hourly perps whose betas, premia and decay are known, to hold estimators against.

The log return of coin i over hour t is

    beta_i m_t + sum_k L_ik s_kt + sigma_it e_it  -  v_it / 2  +  momentum_it  +  c F_it

a market factor ``m`` and idiosyncratic shocks ``e`` with Student tails and autoregressive log volatility, a few weak
style factors ``s``, a correction by half the conditional variance ``v`` so that *simple* returns have no drift of their
own, and two planted premia. So with both premia at zero the expected profit from price of any causal strategy is zero,
and with them it is what ``truth`` shows for the positions held.

* Momentum: ``momentum_it`` = strength x sigma_i x (unit-variance exponential average of past ``e_i``), known at t - 1.
* Funding: the share ``c`` of the hour's own settlement ``F`` that price gives back to whoever pays it. At 0 a sticky
  premium is a real edge for a carry book; at 1 price takes away all that funding pays.

Funding follows from a mean-reverting premium through the venue's own rule, so it rests at exactly 1.25e-5 most of the
time. Left out: the pattern of the day, volatility that lasts for months, hours without a trade, prices rounded to a
tick, any answer of the premium to returns.

Everything random comes from one generator in a fixed order that does not depend on the size of any effect: two markets
of one seed that differ in a premium differ in that premium alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from slipstream.core.panel import HOUR_MS, HOURS_PER_YEAR, FloatArray, IntArray, Panel, to_ms
from slipstream.lake.synthetic_config import SyntheticConfig, SyntheticConfigError
from slipstream.lake.synthetic_processes import bar_extremes, stationary_ar1, unit_student_t, venue_funding

__all__ = ["SyntheticConfig", "SyntheticConfigError", "SyntheticMarket", "SyntheticTruth", "synthetic_market"]

_LEAST_BETA = 0.1
_LEAST_LIFE_HOURS = 720
_LISTING_SPAN = 0.75
"""Late listings fall into this first part of the history, so that each leaves something to trade."""
_PREMIUM_CENTRE = 1e-4
"""Middle of the venue's dead band."""
_FIRST_PRICE_SPREAD = 2.5
"""Standard deviation of log first prices: coins cost from hundredths of a cent to tens of thousands of dollars."""
_VOLUME_PER_RANGE = 1.2
_VOLUME_TIDE = 0.8
_VOLUME_TIDE_HALF_LIFE_HOURS = 72.0
_VOLUME_NOISE = 0.55
_VOLUME_PER_IDIO_VOL = -1.0
"""Elasticities and standard deviations of log USD volume; coins that move more on their own trade less."""


@dataclass(frozen=True)
class SyntheticTruth:
    """What the market was made from. T hours, N coins, K style factors; row t belongs to the panel's row t.

    Latent series run over the whole history, before a listing and after a delisting, too.

    Attributes:
        beta: (N,) slopes of log returns on ``market_return``, mean 1.
        market_return: (T,) market factor, log, per hour; its mean is zero.
        market_vol: (T,) its conditional standard deviation.
        style_loading: (N, K) slopes on ``style_return``.
        style_return: (T, K) style factors, log, per hour.
        idio_vol: (T, N) conditional standard deviation of the coin's own shock, per hour.
        mean_idio_vol: (N,) the same over all time (root mean square).
        premium_level: (N,) lasting premium of each coin, fraction of the oracle price.
        premium: (T, N) premium of each hour, which the venue's rule turned into funding.
        premium_half_life_hours: of the reverting part of ``premium``.
        momentum_drift: (T, N) planted expected return of the bar, known one bar before.
        funding_drift: (T, N) planted return that offsets funding, ``funding_carried_by_price`` x the rate settled.
        listing_row: (N,) row of the coin's first bar.
        delisting_row: (N,) first row without a bar again; T for a coin that lives on.
    """

    beta: FloatArray = field(repr=False)
    market_return: FloatArray = field(repr=False)
    market_vol: FloatArray = field(repr=False)
    style_loading: FloatArray = field(repr=False)
    style_return: FloatArray = field(repr=False)
    idio_vol: FloatArray = field(repr=False)
    mean_idio_vol: FloatArray = field(repr=False)
    premium_level: FloatArray = field(repr=False)
    premium: FloatArray = field(repr=False)
    premium_half_life_hours: float
    momentum_drift: FloatArray = field(repr=False)
    funding_drift: FloatArray = field(repr=False)
    listing_row: IntArray = field(repr=False)
    delisting_row: IntArray = field(repr=False)

    @property
    def planted_drift(self) -> FloatArray:
        """Expected simple return of each bar from price alone, both premia together, shape (T, N)."""
        return self.momentum_drift + self.funding_drift


@dataclass(frozen=True)
class SyntheticMarket:
    """A panel and the truth it was made from."""

    panel: Panel
    truth: SyntheticTruth


def synthetic_market(config: SyntheticConfig | None = None) -> SyntheticMarket:
    """A market of ``config.coins`` coins over ``config.hours`` hourly bars; same configuration, same bytes.

    Coins are named SYN001, SYN002, ... Every array is NaN outside a coin's life. Each bar opens at the close before it
    (the first at a price of its own) and ``funding[t]`` is the rate settled at the close of row t.

    Args:
        config: default :class:`SyntheticConfig`.
    """
    config = config or SyntheticConfig()
    rng = np.random.default_rng(config.seed)
    listing_row, delisting_row = _lives(rng, config)
    market_vol, market_return = _market(rng, config)
    beta, style_loading, style_return = _exposures(rng, config)
    mean_idio_vol, idio_vol, shock = _idiosyncratic(rng, config, market_vol)
    premium_level, premium = _premium(rng, config)

    funding = venue_funding(premium)
    momentum_drift = _momentum(config, shock, mean_idio_vol)
    funding_drift = config.funding_carried_by_price * funding
    variance = np.square(idio_vol)
    variance += np.square(market_vol)[:, None] * beta**2
    variance += config.style_vol**2 * np.square(style_loading).sum(axis=1)
    log_return = idio_vol * shock
    log_return += market_return[:, None] * beta
    for loading, factor in zip(style_loading.T, style_return.T, strict=True):
        log_return += factor[:, None] * loading
    log_return += momentum_drift
    log_return += funding_drift
    log_return -= 0.5 * variance

    truth = SyntheticTruth(
        beta=beta,
        market_return=market_return,
        market_vol=market_vol,
        style_loading=style_loading,
        style_return=style_return,
        idio_vol=idio_vol,
        mean_idio_vol=mean_idio_vol,
        premium_level=premium_level,
        premium=premium,
        premium_half_life_hours=config.premium_half_life_hours,
        momentum_drift=momentum_drift,
        funding_drift=funding_drift,
        listing_row=listing_row,
        delisting_row=delisting_row,
    )
    return SyntheticMarket(_panel(rng, config, truth, log_return, variance, funding), truth)


def _lives(rng: np.random.Generator, config: SyntheticConfig) -> tuple[IntArray, IntArray]:
    """First row with a bar and first row without one again, each (N,)."""
    late = rng.permutation(config.coins) < round(config.late_listings * config.coins)
    last_listing = max(1, int(_LISTING_SPAN * config.hours))
    listing = np.where(late, rng.integers(1, last_listing, config.coins, endpoint=True), 0)
    life_after_first_month = rng.standard_exponential(config.coins)
    if config.delistings_per_year == 0.0:
        return listing, np.full(config.coins, config.hours, dtype=np.int64)
    life = _LEAST_LIFE_HOURS + life_after_first_month * HOURS_PER_YEAR / config.delistings_per_year
    return listing, np.minimum(listing + np.ceil(life), config.hours).astype(np.int64)


def _market(rng: np.random.Generator, config: SyntheticConfig) -> tuple[FloatArray, FloatArray]:
    """Conditional volatility and return of the market factor, each (T,)."""
    log_vol = config.log_vol_spread * stationary_ar1(
        rng.standard_normal((config.hours, 1)), config.market_vol_half_life_hours
    )
    vol = config.market_vol * np.exp(log_vol[:, 0] - config.log_vol_spread**2)
    return vol, vol * unit_student_t(rng, config.market_tail_df, (config.hours,))


def _exposures(rng: np.random.Generator, config: SyntheticConfig) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Betas (N,), style loadings (N, K) and style returns (T, K)."""
    beta = np.maximum(1.0 + config.beta_spread * rng.standard_normal(config.coins), _LEAST_BETA)
    loading = rng.standard_normal((config.coins, config.style_factors))
    style = config.style_vol * unit_student_t(rng, config.market_tail_df, (config.hours, config.style_factors))
    return beta / beta.mean(), loading, style


def _idiosyncratic(
    rng: np.random.Generator, config: SyntheticConfig, market_vol: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Mean volatility (N,), conditional volatility (T, N) and unit-variance shocks (T, N) of the coins' own moves."""
    shape = (config.hours, config.coins)
    mean_vol = config.idio_vol * np.exp(config.idio_vol_spread * rng.standard_normal(config.coins))
    spread = config.log_vol_spread
    log_vol = stationary_ar1(rng.standard_normal(shape), config.idio_vol_half_life_hours)
    log_vol *= spread
    log_vol += (config.vol_spillover * (np.log(market_vol / config.market_vol) + spread**2))[:, None]
    # E exp(2h) = exp(2 Var h): with this shift the root mean square over time is mean_vol itself.
    log_vol -= spread**2 * (1.0 + config.vol_spillover**2)
    vol = np.exp(log_vol, out=log_vol)
    vol *= mean_vol
    return mean_vol, vol, unit_student_t(rng, config.idio_tail_df, shape)


def _premium(rng: np.random.Generator, config: SyntheticConfig) -> tuple[FloatArray, FloatArray]:
    """Lasting level (N,) and hourly value (T, N) of each coin's premium over the oracle."""
    shape = (config.hours, config.coins)
    level = _PREMIUM_CENTRE + config.premium_level_spread * rng.standard_normal(config.coins)
    own_vol = config.premium_vol * np.exp(config.premium_vol_spread * rng.standard_normal(config.coins))
    common = stationary_ar1(rng.standard_normal((config.hours, 1)), config.premium_half_life_hours)
    premium = stationary_ar1(unit_student_t(rng, config.premium_tail_df, shape), config.premium_half_life_hours)
    premium *= own_vol
    premium += config.premium_common_vol * common
    premium += level
    premium += config.premium_noise * rng.standard_normal(shape)
    return level, premium


def _momentum(config: SyntheticConfig, shock: FloatArray, mean_idio_vol: FloatArray) -> FloatArray:
    """Planted drift of each bar from the shocks of the bars before it, (T, N)."""
    drift = np.zeros_like(shock)
    if config.momentum_strength > 0.0:
        drift[1:] = stationary_ar1(shock[:-1], config.momentum_half_life_hours)
        drift *= config.momentum_strength * mean_idio_vol
    return drift


def _panel(
    rng: np.random.Generator,
    config: SyntheticConfig,
    truth: SyntheticTruth,
    log_return: FloatArray,
    variance: FloatArray,
    funding: FloatArray,
) -> Panel:
    """Bars around the path of closes; outside a coin's life there is no bar and no funding is due.

    Works in ``log_return`` and ``funding``.
    """
    above, below = bar_extremes(rng, log_return, variance)
    volume_usd = _volume(rng, config, truth, above - below, variance)
    first_open = np.exp(_FIRST_PRICE_SPREAD * rng.standard_normal(config.coins))
    path = np.cumsum(log_return, axis=0, out=log_return)
    before_listing = np.where(truth.listing_row > 0, path[truth.listing_row - 1, np.arange(config.coins)], 0.0)
    path += np.log(first_open) - before_listing
    close = np.exp(path, out=path)
    open_ = np.empty_like(close)
    open_[1:] = close[:-1]
    open_[truth.listing_row, np.arange(config.coins)] = first_open
    # The maximum with the ends repeats what the path says already; it only takes back the rounding of exp.
    high = np.exp(above, out=above)
    high *= open_
    np.maximum(high, np.maximum(open_, close), out=high)
    low = np.exp(below, out=below)
    low *= open_
    np.minimum(low, np.minimum(open_, close), out=low)
    bars = (open_, high, low, close, volume_usd)
    for values, absent in (*((array, np.nan) for array in bars), (funding, 0.0)):
        for coin, (listed, delisted) in enumerate(zip(truth.listing_row, truth.delisting_row, strict=True)):
            values[:listed, coin] = absent
            values[delisted:, coin] = absent
    width = max(3, len(str(config.coins)))
    return Panel.build(
        to_ms(config.start) + HOUR_MS * np.arange(1, config.hours + 1, dtype=np.int64),
        tuple(f"SYN{number:0{width}d}" for number in range(1, config.coins + 1)),
        1,
        open=open_,
        high=high,
        low=low,
        close=close,
        volume_usd=volume_usd,
        funding=funding,
        source=f"synthetic market, seed {config.seed}",
    )


def _volume(
    rng: np.random.Generator,
    config: SyntheticConfig,
    truth: SyntheticTruth,
    log_range: FloatArray,
    variance: FloatArray,
) -> FloatArray:
    """USD volume of each bar, (T, N): lognormal about a slow tide, larger in bars that range further."""
    level = math.log(config.volume_usd_per_hour) + config.volume_spread * rng.standard_normal(config.coins)
    level += _VOLUME_PER_IDIO_VOL * np.log(truth.mean_idio_vol / config.idio_vol)
    usual_range = np.sqrt(variance.mean(axis=0))
    log_volume = np.log(log_range / usual_range)
    log_volume *= _VOLUME_PER_RANGE
    tide = stationary_ar1(rng.standard_normal(variance.shape), _VOLUME_TIDE_HALF_LIFE_HOURS)
    log_volume += _VOLUME_TIDE * tide
    log_volume += _VOLUME_NOISE * rng.standard_normal(variance.shape)
    log_volume += level
    volume_usd: FloatArray = np.exp(log_volume, out=log_volume)
    return volume_usd
