"""Small hand-made markets for federation tests."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from slipstream.core.panel import HOUR_MS, Panel, UniverseRule, View, to_ms
from slipstream.federation.pods import Pod

OPEN_UNIVERSE = UniverseRule(min_adv_usd=0.0, min_history_hours=96)
START_MS = 1_704_067_200_000  # 2024-01-01 00:00 UTC


def make_panel(
    simple_returns: np.ndarray,
    *,
    funding: np.ndarray | float = 0.0,
    volume_usd: float = 1e9,
    start_ms: int = START_MS,
    rule: UniverseRule = OPEN_UNIVERSE,
) -> Panel:
    """A panel from hourly simple returns, shape (T, N); a NaN return is an absent bar."""
    hours, coins = simple_returns.shape
    close = 100.0 * np.cumprod(1.0 + np.nan_to_num(simple_returns), axis=0)
    close[np.isnan(simple_returns)] = np.nan
    return Panel.build(
        start_ms + HOUR_MS * np.arange(hours, dtype=np.int64),
        tuple(f"C{i:02d}" for i in range(coins)),
        1,
        open=close,
        high=close,
        low=close,
        close=close,
        volume_usd=np.where(np.isnan(close), np.nan, volume_usd / 24.0),
        funding=np.broadcast_to(np.asarray(funding, dtype=np.float64), close.shape).copy(),
        rule=rule,
        source="hand-made",
    )


def noise(seed: int, hours: int, coins: int, sigma: float = 0.01) -> np.ndarray:
    return sigma * np.random.default_rng(seed).standard_normal((hours, coins))


def constant(slug: str, weights: dict[int, float]) -> Pod:
    """A pod that always wants the same weights where they may be held."""

    def decide(view: View) -> np.ndarray:
        out = np.zeros(len(view.coins))
        for column, weight in weights.items():
            out[column] = weight
        return np.where(view.tradable, out, 0.0)

    return Pod(slug, decide)


def momentum(slug: str, hours: int = 24) -> Pod:
    """Holds each coin's own past return, scaled to gross 1."""

    def decide(view: View) -> np.ndarray:
        past = np.nansum(view.log_return[-hours:], axis=0)
        past = np.where(view.tradable, past, 0.0)
        gross = np.abs(past).sum()
        return past / gross if gross > 0.0 else past

    return Pod(slug, decide)


PodMaker = Callable[[str], Pod]
__all__ = ["OPEN_UNIVERSE", "START_MS", "constant", "make_panel", "momentum", "noise", "to_ms"]
