"""How large the synthetic market is and how it behaves: one frozen set of numbers, checked when it is made.

The defaults were set beside eight months of Hyperliquid's hourly history (2024-09 to 2025-04, 60 coins): volatility
levels and their dispersion, tails, the share of the first factor, the share of hours at the base funding rate, funding
autocorrelation after one hour and one day, the funding leg of a 7-day carry book and what price took back from it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from datetime import UTC, datetime

from slipstream.core.panel import HOUR_MS, to_ms
from slipstream.errors import UsageError


class SyntheticConfigError(UsageError):
    """A setting of the synthetic market is outside its range; the message names it."""


@dataclass(frozen=True)
class SyntheticConfig:
    """Size and character of a synthetic market.

    Volatilities are standard deviations per hour of log returns; a *spread* is a cross-sectional standard deviation;
    premium figures are fractions of the oracle price, per hour's average, before the venue's rule divides by 8.

    Attributes:
        coins: number of coins, all ever listed, at least 1.
        hours: number of hourly bars, at least 2.
        start: open of the first bar, a whole hour; read as UTC if naive.
        seed: of the one generator, at least 0.
        market_vol: of the market factor.
        beta_spread: of the true betas, whose mean is 1 and least is about 0.1.
        style_factors: number of weak factors beside the market; loadings are standard normal.
        style_vol: of each style factor.
        idio_vol: median coin's own volatility.
        idio_vol_spread: of its logarithm.
        market_tail_df, idio_tail_df: degrees of freedom of the Student shocks, above 2.
        log_vol_spread: standard deviation over time of a log volatility, market's and coin's own.
        market_vol_half_life_hours, idio_vol_half_life_hours: how fast a burst of volatility fades.
        vol_spillover: how much of the market's log volatility each coin's own takes on.
        premium_half_life_hours: how fast a premium reverts, the coin's own and the common one.
        premium_vol: median coin's own reverting premium, standard deviation over time.
        premium_vol_spread: of its logarithm across coins.
        premium_common_vol: of the reverting premium all coins share.
        premium_level_spread: of the coins' lasting premium levels about the middle of the dead band.
        premium_noise: of the part that lasts one hour only.
        premium_tail_df: degrees of freedom of the shocks to a coin's own premium, above 2.
        volume_usd_per_hour: typical (geometric mean) hourly volume of the median coin, about.
        volume_spread: of log volume levels across coins.
        late_listings: share of coins not listed at the start; they come in the first three quarters of the history.
        delistings_per_year: chance per coin and year of life, after a first month, of being delisted.
        momentum_strength: planted hourly drift over idiosyncratic volatility, standard deviation; 0 plants none.
        momentum_half_life_hours: age at which a past shock's effect on the drift has halved.
        funding_carried_by_price: the share ``c`` of each settlement that price gives back. 0: carry is a real edge;
            1: none is left. The default is what 7-day carry on the real history gave up.
    """

    coins: int = 60
    hours: int = 8760
    start: datetime = datetime(2024, 1, 1, tzinfo=UTC)
    seed: int = 42
    market_vol: float = 0.0105
    beta_spread: float = 0.25
    style_factors: int = 2
    style_vol: float = 0.0015
    idio_vol: float = 0.010
    idio_vol_spread: float = 0.45
    market_tail_df: float = 6.0
    idio_tail_df: float = 4.0
    log_vol_spread: float = 0.45
    market_vol_half_life_hours: float = 48.0
    idio_vol_half_life_hours: float = 36.0
    vol_spillover: float = 0.5
    premium_half_life_hours: float = 36.0
    premium_vol: float = 4e-4
    premium_vol_spread: float = 0.6
    premium_common_vol: float = 2e-4
    premium_level_spread: float = 3e-4
    premium_noise: float = 1.5e-4
    premium_tail_df: float = 4.0
    volume_usd_per_hour: float = 7e4
    volume_spread: float = 1.8
    late_listings: float = 0.3
    delistings_per_year: float = 0.08
    momentum_strength: float = 0.003
    momentum_half_life_hours: float = 120.0
    funding_carried_by_price: float = 0.35

    def __post_init__(self) -> None:
        for item in fields(self):
            if item.name != "start":
                _check_number(item.name, getattr(self, item.name))
        if self.late_listings > 1.0:
            raise SyntheticConfigError(f"synthetic market: late_listings is {self.late_listings}; a share is at most 1")
        if to_ms(self.start) % HOUR_MS:
            raise SyntheticConfigError(f"synthetic market: start is {self.start}; bars open on the whole hour")


_WHOLE = {"coins": 1, "hours": 2, "seed": 0, "style_factors": 0}
_POSITIVE = ("market_vol", "idio_vol", "volume_usd_per_hour")


def _check_number(name: str, value: object) -> None:
    """Raise :class:`SyntheticConfigError` unless the setting ``name`` may be ``value``."""
    where = f"synthetic market: {name} is {value!r}"
    if name in _WHOLE:
        if isinstance(value, bool) or not isinstance(value, int) or value < _WHOLE[name]:
            raise SyntheticConfigError(f"{where}; expected a whole number of at least {_WHOLE[name]}")
        return
    if isinstance(value, bool) or not isinstance(value, int | float) or not (math.isfinite(value) and value >= 0.0):
        raise SyntheticConfigError(f"{where}; expected a number of at least 0")
    if value == 0.0 and (name in _POSITIVE or name.endswith("half_life_hours")):
        raise SyntheticConfigError(f"{where}; it must be positive")
    if name.endswith("tail_df") and value <= 2.0:
        raise SyntheticConfigError(f"{where}; a Student t has a variance only above 2")
