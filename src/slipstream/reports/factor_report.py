"""The market factor under each weight method side by side: one HTML file that needs nothing but itself.

Shown are the share of variance the first component explains and one coin's beta to it. Where a method hands the factor
to a handful of coins, the first rises and the second leaves 1: neither alone says which method is right.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from slipstream.core.panel import FloatArray, IntArray
from slipstream.reports import formatting
from slipstream.reports.page import stylesheet, template_environment
from slipstream.reports.time_lines import HEIGHT, LEFT, RIGHT, TOP, WIDTH, time_lines


@dataclass(frozen=True)
class MethodFactor:
    """A factor under one weight method, W rows.

    Attributes:
        variance_explained: (W,) share of the first component.
        beta: (W,) of the coin shown.
        factor_return: (T,) log return of the factor per base bar, of the coefficients known at each bar's open.
        effective_coins: (W,) one over the sum of squared shares |c| / sum |c|: how many coins hold the factor.
    """

    variance_explained: FloatArray = field(repr=False)
    beta: FloatArray = field(repr=False)
    factor_return: FloatArray = field(repr=False)
    effective_coins: FloatArray = field(repr=False)


@dataclass(frozen=True)
class FactorComparison:
    """What the page is about.

    Attributes:
        source: where the bars come from.
        H_hours, K: hours per bar and bars per window.
        n_assets: most coins in one window.
        coin: the coin whose beta is drawn.
        known_at_ms: (W,) rows, Unix ms.
        methods: weight method -> its factor.
    """

    source: str
    H_hours: int
    K: int
    n_assets: int
    coin: str
    known_at_ms: IntArray = field(repr=False)
    methods: Mapping[str, MethodFactor] = field(repr=False)


def effective_number(coefs: FloatArray) -> FloatArray:
    """One over the sum of squared shares |c| / sum |c| in each row, shape (W,); NaN in a row without a factor."""
    size = np.abs(np.nan_to_num(coefs))
    total = size.sum(axis=1)
    held = total > 0.0
    share = size / np.where(held, total, 1.0)[:, None]
    return np.where(held, 1.0 / np.where(held, (share * share).sum(axis=1), 1.0), np.nan)


def render_factor_comparison(comparison: FactorComparison) -> str:
    """The page; equal inputs give equal bytes."""
    times, methods = comparison.known_at_ms, comparison.methods
    share = {name: method.variance_explained for name, method in methods.items()}
    return (
        template_environment()
        .get_template("factor_methods.html.j2")
        .render(
            comparison=comparison,
            rows=[(name, _medians(method)) for name, method in methods.items()],
            correlations=[(name, [_correlation(a, b) for b in methods.values()]) for name, a in methods.items()],
            charts=[
                (
                    "Variance explained",
                    f"share of the weighted variance in a window of {comparison.K} bars",
                    time_lines(times, share, lambda level: formatting.percent(level, 0)),
                ),
                (
                    f"Beta of {comparison.coin}",
                    "slope on the factor, whose weighted mean beta is 1",
                    time_lines(
                        times,
                        {name: method.beta for name, method in methods.items()},
                        lambda level: formatting.number(level, 2),
                    ),
                ),
            ],
            box={"width": WIDTH, "height": HEIGHT, "left": LEFT, "right": RIGHT, "top": TOP},
            css=stylesheet(),
        )
    )


def _medians(method: MethodFactor) -> tuple[float, ...]:
    found = []
    for values in (method.variance_explained, method.beta, method.effective_coins):
        known = values[np.isfinite(values)]
        found.append(float(np.median(known)) if len(known) else float("nan"))
    return tuple(found)


def _correlation(a: MethodFactor, b: MethodFactor) -> float:
    both = np.isfinite(a.factor_return) & np.isfinite(b.factor_return)
    if both.sum() < 3 or np.ptp(a.factor_return[both]) == 0.0 or np.ptp(b.factor_return[both]) == 0.0:
        return float("nan")
    return float(np.corrcoef(a.factor_return[both], b.factor_return[both])[0, 1])
