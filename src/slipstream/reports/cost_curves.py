"""Where the marks of a cost-curve drawing go: one picture per coin, cost against the square root of order size.

On that axis the fitted law is a straight line, so a reader sees at once where the books bend away from it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from slipstream.core.portfolio.book_walk import SIDES
from slipstream.core.portfolio.calibration import CoinCalibration
from slipstream.reports.formatting import number, percent

WIDTH, HEIGHT = 520, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 10, 16, 34
_SIDE_OFFSET = 4.0
_HEADROOM = 1.12
_SHOWN_CENSORING = 0.0005


@dataclass(frozen=True)
class Tick:
    place: float
    label: str


@dataclass(frozen=True)
class Mark:
    """Quantiles of one side and size: a whisker from 5 to 95 %, a box from 25 to 75 %, a dot at the mean."""

    side: str
    x: float
    low: float
    box_low: float
    middle: float
    box_high: float
    high: float
    mean: float
    censored: str
    hint: str


@dataclass(frozen=True)
class CurvePicture:
    """One coin's drawing in pixels, the origin at the top left.

    Attributes:
        left, right, top, bottom: the frame.
        x_ticks, y_ticks: where and what.
        marks: the observed costs.
        curve: end points (x, y, x, y) of the final curve.
        books: of the curve from the books alone; None without a prior.
        prior: of the half-spread with the prior's k; None without a prior.
    """

    left: float
    right: float
    top: float
    bottom: float
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    marks: tuple[Mark, ...]
    curve: tuple[float, float, float, float]
    books: tuple[float, float, float, float] | None
    prior: tuple[float, float, float, float] | None


def curve_picture(found: CoinCalibration) -> CurvePicture:
    """The drawing of one coin's calibration."""
    root = np.sqrt(found.sizes_usd)
    end = float(root[-1]) * 1.05
    highest = max(
        float(found.quantiles_bps[..., -1].max()),
        float(found.mean_bps.max()),
        found.half_spread_bps + max(found.k_bps_per_sqrt_usd, found.k_books) * end,
    )
    top_bps = highest * _HEADROOM or 1.0
    right, bottom = float(WIDTH - _RIGHT), float(HEIGHT - _BOTTOM)

    def x(root_size: float) -> float:
        return _LEFT + (right - _LEFT) * root_size / end

    def y(bps: float) -> float:
        return bottom - (bottom - _TOP) * bps / top_bps

    def line(k: float) -> tuple[float, float, float, float]:
        return x(0.0), y(found.half_spread_bps), x(end), y(found.half_spread_bps + k * end)

    marks = []
    for side, name in enumerate(SIDES):
        for j, size in enumerate(found.sizes_usd.tolist()):
            quantiles = found.quantiles_bps[side, j].tolist()
            mean, lost = float(found.mean_bps[side, j]), float(found.censored_share[side, j])
            low, box_low, middle, box_high, high = (y(value) for value in quantiles)
            marks.append(
                Mark(
                    side=name,
                    x=x(math.sqrt(size)) + (_SIDE_OFFSET if side else -_SIDE_OFFSET),
                    low=low,
                    box_low=box_low,
                    middle=middle,
                    box_high=box_high,
                    high=high,
                    mean=y(mean),
                    censored=percent(lost, 1 if lost < 0.0995 else 0) if lost > _SHOWN_CENSORING else "",
                    hint=f"{name} {number(size)} USD: mean {number(mean, 2)} bp, median {number(quantiles[2], 2)} bp, "
                    f"5 to 95 % {number(quantiles[0], 2)} to {number(quantiles[-1], 2)} bp, "
                    f"book too thin in {percent(lost, 1)} of snapshots",
                )
            )
    has_prior = math.isfinite(found.k_prior)
    return CurvePicture(
        left=float(_LEFT),
        right=right,
        top=float(_TOP),
        bottom=bottom,
        x_ticks=tuple(Tick(x(math.sqrt(size)), _short(size)) for size in found.sizes_usd.tolist()),
        y_ticks=tuple(Tick(y(value), label) for value, label in _round_steps(top_bps)),
        marks=tuple(marks),
        curve=line(found.k_bps_per_sqrt_usd),
        books=line(found.k_books) if has_prior else None,
        prior=line(found.k_prior) if has_prior else None,
    )


def _short(size_usd: float) -> str:
    """1000 reads 1k, 2500000 reads 2.5M."""
    for unit, name in ((1e6, "M"), (1e3, "k")):
        if size_usd >= unit:
            return f"{size_usd / unit:g}{name}"
    return f"{size_usd:g}"


def _round_steps(top: float) -> list[tuple[float, str]]:
    """Four to six round values from 0 up to ``top``, and how they are written."""
    power = 10.0 ** math.floor(math.log10(top / 4.0))
    step = next(factor * power for factor in (1.0, 2.0, 2.5, 5.0, 10.0) if top / (factor * power) <= 6.0)
    places = max(0, -math.floor(math.log10(step) + 1e-9)) + (1 if f"{step:e}".startswith("2.5") else 0)
    return [(i * step, number(i * step, places)) for i in range(int(top / step) + 1)]
