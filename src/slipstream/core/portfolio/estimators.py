"""The covariance of net returns over a holding period, by the estimator of choice.

| method | form | when |
|---|---|---|
| ``iewma`` | factors plus diagonal | the default: quick volatilities, slow correlations, cheap to optimise with |
| ``lw`` | dense | linear shrinkage to the constant correlation, where T > 2 N |
| ``qis`` | dense | analytical non-linear shrinkage, where T is short against N: value at risk of 60 days |
| ``diag`` | diagonal | sample variances alone |

All of them keep the trace of the variances they start from (``qis`` the trace only, the others each variance), are
symmetric and positive semi-definite whatever the gaps, and scale with the holding period, S H / b for bars of b hours:
net returns are taken as uncorrelated in time.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np

from slipstream.core.panel import BoolArray, FloatArray
from slipstream.core.portfolio.covariance import CovarianceError, FactorCovariance
from slipstream.core.portfolio.iewma import Iewma
from slipstream.core.portfolio.net_series import NetSeries, net_series, varies
from slipstream.core.portfolio.pairwise import (
    PairwiseSample,
    correlation,
    own_variance,
    pairwise_sample,
    positive_definite,
)
from slipstream.core.portfolio.rolling_covariance import RollingCovariance
from slipstream.core.portfolio.shrinkage import constant_correlation_intensity, quadratic_inverse_spectrum

Method = Literal["iewma", "lw", "qis", "diag"]
METHODS: tuple[Method, ...] = get_args(Method)

_NAMED = 5


class ShortHistory(CovarianceError):
    """Coins whose covariance cannot be estimated; the message names them."""


def estimate_covariance(
    returns: Any,
    funding: Any = None,
    lookback_hours: float = 2880,
    min_hours: float = 720,
    method: Method = "iewma",
    horizon_hours: float | None = None,
    *,
    bar_hours: float | None = None,
    iewma: Iewma | None = None,
) -> FactorCovariance | FloatArray:
    """Covariance of net returns r - f over ``horizon_hours``, as known at the last row.

    Every coin given is in the answer, in the order given: leaving one out in silence would shift the others against the
    weights. Coins without enough history are an error that names them; :func:`has_history` tells them beforehand.

    Args:
        returns: simple returns per bar, time x coin (pandas, polars or array); row t is the bar that ends at t, NaN
            where missing. See :func:`~slipstream.core.portfolio.net_series.net_series`.
        funding: sums of settled rates laid out like ``returns``; None leaves funding out.
        lookback_hours: what is used: the last rows. (``iewma`` warms its volatilities up on earlier ones as well.)
        min_hours: hours of net returns each coin needs within the lookback.
        method: see the table above.
        horizon_hours: holding period H; None: one bar.
        bar_hours: length of a bar; inferred from labels, 1 for bare arrays.
        iewma: half-lives and number of factors of that method.

    Returns:
        Fractions squared per holding period: a :class:`FactorCovariance` for ``iewma`` and ``diag``, an (N, N) array
        for ``lw`` and ``qis``.

    Raises:
        ShortHistory: coins with fewer than ``min_hours`` hours, or that did not move in the lookback.
        BacktestInputError: a table that cannot be read; the message names the argument, and row and coin.
        CovarianceError: an unknown method, or spans shorter than a bar.
    """
    if method not in METHODS:
        raise CovarianceError(f"method is {method!r}; use one of {', '.join(METHODS)}")
    if method != "iewma" and iewma is not None:
        raise CovarianceError(f"iewma settings were given and the method is {method!r}; drop one of them")
    if method == "iewma":
        rolling = RollingCovariance(
            returns, funding, lookback_hours, min_hours, horizon_hours, bar_hours=bar_hours, iewma=iewma
        )
        newest = rolling.at(rolling.rows - 1)
        if not newest.known.all():
            _require_history(rolling.series, lookback_hours, min_hours)
            coin = rolling.series.coins[int(np.flatnonzero(~newest.known)[0])]
            raise ShortHistory(f"{coin} has too few returns for a volatility; raise min_hours or leave it out")
        return newest.covariance
    series = net_series(returns, funding, bar_hours)
    _require_history(series, lookback_hours, min_hours)
    periods = 1.0 if horizon_hours is None else series.bars("horizon_hours", horizon_hours)
    values = _window(series, lookback_hours)
    if method == "diag":
        variance = own_variance(values) * periods
        return FactorCovariance(np.zeros((len(variance), 0)), variance)
    sample = pairwise_sample(values)
    dense = linear_shrinkage(sample) if method == "lw" else nonlinear_shrinkage(sample)
    return dense * periods


def has_history(
    returns: Any,
    funding: Any = None,
    lookback_hours: float = 2880,
    min_hours: float = 720,
    *,
    bar_hours: float | None = None,
) -> BoolArray:
    """Coins :func:`estimate_covariance` covers, shape (N,): enough net returns within the lookback, and some movement.

    Raises:
        BacktestInputError, CovarianceError: as there.
    """
    return _has_history(net_series(returns, funding, bar_hours), lookback_hours, min_hours)


def linear_shrinkage(sample: PairwiseSample) -> FloatArray:
    """The sample covariance with its correlations shrunk towards their average, (N, N); variances are kept.

    Without gaps the result is positive semi-definite by construction; with gaps it is repaired.

    Source: Ledoit and Wolf (2004), Honey, I shrunk the sample covariance matrix.
    """
    correlations = correlation(sample.covariance)
    coins = len(correlations)
    own = np.diagonal(sample.common)
    scale = np.sqrt(np.einsum("ti,ti->i", sample.deviations, sample.deviations) / own)
    intensity = constant_correlation_intensity(sample.deviations / scale, correlations, sample.common)
    average = (float(correlations.sum()) - coins) / max(coins * (coins - 1), 1)
    shrunk = (1.0 - intensity) * correlations + intensity * average
    shrunk[np.diag_indices(coins)] = 1.0
    variance = np.diagonal(sample.covariance)
    sigma = np.sqrt(variance)
    dense: FloatArray = shrunk * np.outer(sigma, sigma)
    dense[np.diag_indices(coins)] = variance
    return positive_definite(dense) if sample.gaps else dense


def nonlinear_shrinkage(sample: PairwiseSample) -> FloatArray:
    """The sample covariance with its eigenvalues shrunk analytically, (N, N); its trace is kept.

    With gaps the repaired matrix is shrunk as if it came from the harmonic mean of the pairs' common rows, because an
    entry's error variance goes as one over its rows.

    Raises:
        ShortHistory: fewer than three rows.

    Source: Ledoit and Wolf (2022), Quadratic shrinkage for large covariance matrices.
    """
    matrix = positive_definite(sample.covariance) if sample.gaps else sample.covariance
    rows = 1.0 / float((1.0 / np.maximum(sample.common, 1.0)).mean())
    # The mean of equal reciprocals may miss the whole number they come from by a rounding error.
    free = int(rows + 1e-9) - 1
    if free < 2:
        raise ShortHistory(f"the coins share {free + 1} rows on average; non-linear shrinkage needs three")
    return quadratic_inverse_spectrum(matrix, free)


def _window(series: NetSeries, lookback_hours: float) -> FloatArray:
    return series.values[-series.bars("lookback_hours", lookback_hours) :]


def _has_history(series: NetSeries, lookback_hours: float, min_hours: float) -> BoolArray:
    window, least_rows = series.lookback(lookback_hours, min_hours)
    values = series.values[-window:]
    return np.asarray(((~np.isnan(values)).sum(axis=0) >= least_rows) & varies(values))


def _require_history(series: NetSeries, lookback_hours: float, min_hours: float) -> None:
    fit = _has_history(series, lookback_hours, min_hours)
    if fit.all():
        return
    hours = (~np.isnan(_window(series, lookback_hours))).sum(axis=0) * series.bar_hours
    short = np.flatnonzero(~fit)
    told = ", ".join(f"{series.coins[i]} ({hours[i]:g} h)" for i in short[:_NAMED])
    more = f" and {len(short) - _NAMED} more" if len(short) > _NAMED else ""
    raise ShortHistory(
        f"too little history or no movement in the last {lookback_hours:g} h, of which {min_hours:g} h are needed: "
        f"{told}{more}; keep the columns of has_history(...), or lower min_hours"
    )
