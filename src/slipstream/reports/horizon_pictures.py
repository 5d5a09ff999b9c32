"""The plots of a search for the holding period: each one from the numbers of the result, nothing redone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import numpy as np

from slipstream.core.forecast.scores import R2
from slipstream.reports.formatting import number
from slipstream.reports.plots import Plot
from slipstream.research.net_edge import CHARGES
from slipstream.research.search import SearchResult

PRICE_HUE, FUNDING_HUE, COST_HUE, NET_HUE = 0, 2, 1, 3


def r2_plots(result: SearchResult) -> list[Plot]:
    """R2 against H with 95 % bands: in deviations, and in money."""
    out = []
    for title, unit, units in (
        ("R2 in deviations", "each part in its own deviations: the diagnostic", "sigma_r2"),
        ("R2 in money", "fractions of notional: what counts", "money_r2"),
    ):
        scores = {
            name: [getattr(getattr(result.skills[hours], units), name) for hours in result.horizons]
            for name in ("alpha", "funding", "combined")
        }
        plot = _against_h(result, title, unit, [end for row in scores.values() for s in row for end in _ends(s)], 2)
        for (name, row), hue in zip(scores.items(), (PRICE_HUE, FUNDING_HUE, NET_HUE), strict=True):
            _banded(plot, result, name, hue, [s.value for s in row], [s.low for s in row], [s.high for s in row])
        if units == "money_r2":
            alone = [result.skills[hours].ewma_r2.value for hours in result.horizons]
            plot.line(_places(result), alone, FUNDING_HUE, "funding by an EWMA alone", dashed=True)
        out.append(plot)
    return out


def edge_plots(result: SearchResult) -> list[Plot]:
    """Net Sharpe against H with its band, and price, funding, cost and net in basis points per H."""
    low, high = ([side[hours] for hours in result.horizons] for side in (result.by_net.low, result.by_net.high))
    sharpe = _against_h(result, "Net Sharpe ratio", "a year, mean of all start phases", [*low, *high, 0.0], 1)
    _banded(sharpe, result, "net Sharpe", NET_HUE, result.net.estimate.tolist(), low, high)
    parts = {hours: result.parts_bp[hours] for hours in result.horizons}
    ends = {hours: np.quantile(draws.sum(axis=1), (0.025, 0.975)) for hours, (_, draws) in parts.items()}
    stacked = [float(sum(max(p, 0.0) for p in estimate)) for estimate, _ in parts.values()]
    stacked += [float(sum(min(p, 0.0) for p in estimate)) for estimate, _ in parts.values()]
    extremes = [float(x) for pair in ends.values() for x in pair]
    bars = _against_h(
        result, "Net edge by part", "basis points of equity per H", [*stacked, *extremes, 0.0], 0, pad=0.5
    )
    for name, hue in zip(CHARGES, (PRICE_HUE, FUNDING_HUE, COST_HUE), strict=True):
        bars.name(name, hue)
    bars.name("net, with its 95 % interval", NET_HUE)
    for place, hours in enumerate(result.horizons):
        estimate = parts[hours][0].tolist()
        _stack(bars, place, 0.28, estimate, (PRICE_HUE, FUNDING_HUE, COST_HUE), CHARGES)
        net = float(sum(estimate))
        bars.line([place, place], ends[hours].tolist(), NET_HUE, f"{hours} h: 95 % interval of the net")
        bars.dot(place, net, NET_HUE, f"{hours} h: net {number(net, 1)} bp")
    return [sharpe, bars]


def quantile_plots(result: SearchResult) -> list[Plot]:
    """What the tenths of the forecast brought, split into price and funding, beside the cost of a round trip."""
    out = []
    for hours in result.horizons:
        skill = result.skills[hours]
        rows = skill.bp_tables["total"]
        price, paid = [row.alpha_actual for row in rows], [-row.F_actual for row in rows]
        pairs = list(zip(price, paid, strict=True))
        spread = [sum(max(x, 0.0) for x in pair) for pair in pairs] + [sum(min(x, 0.0) for x in pair) for pair in pairs]
        plot = Plot.of(
            f"H = {hours} h", "basis points per H of a long", "tenth of the forecast, lowest to highest",
            [-0.5, len(rows) - 0.5], [*spread, *(row.Total_actual for row in rows), 0.0], partial(number, places=0),
        )  # fmt: skip
        for name, hue in (("price", PRICE_HUE), ("funding received", FUNDING_HUE), ("total", NET_HUE)):
            plot.name(name, hue)
        for place, (row, pair) in enumerate(zip(rows, pairs, strict=True)):
            plot.tick(place, str(place + 1))
            _stack(plot, place, 0.34, pair, (PRICE_HUE, FUNDING_HUE), ("price", "funding received"))
            said = f"tenth {place + 1}: total {number(row.Total_actual, 1)} bp, t {number(row.Total_t, 1)}; "
            plot.dot(place, row.Total_actual, NET_HUE, said + f"round trip {number(skill.cost_bp[place], 0)} bp")
        out.append(plot)
    return out


def cost_plot(result: SearchResult) -> Plot:
    """What a full round trip costs in each tenth, one line a horizon: on the scale of the bars it would hide them."""
    costs = {hours: result.skills[hours].cost_bp for hours in result.horizons}
    tenths = len(next(iter(costs.values())))
    plot = Plot.of(
        "Cost of a round trip", "basis points, opened and closed every H", "tenth of the forecast, lowest to highest",
        [-0.5, tenths - 0.5], [0.0, *(cost for row in costs.values() for cost in row)], partial(number, places=0),
    )  # fmt: skip
    for place in range(tenths):
        plot.tick(place, str(place + 1))
    for hue, (hours, row) in enumerate(costs.items()):
        plot.line(list(range(tenths)), row, hue % 6, f"H = {hours} h")
        plot.name(f"H = {hours} h", hue % 6)
    return plot


def coefficient_plots(result: SearchResult, hours: int) -> list[Plot]:
    """Coefficients per deviation of the feature, block after block, with the whole sample's at the end."""
    forecast = result.forecasts[hours]
    out = []
    for model, run in (("alpha", forecast.alpha), ("funding", forecast.funding)):
        fit = forecast.fits[model]
        path = np.array([block.fit.standardised for block in run.scored if block.fit] + [fit.fit.standardised])
        xs = list(range(len(path)))
        plot = Plot.of(
            f"{model} model", "change of the forecast per deviation of a feature", "scored block; last: whole sample",
            [-0.3, len(path) - 0.7], [*path.ravel().tolist(), 0.0], partial(number, places=2),
        )  # fmt: skip
        for place in xs:
            plot.tick(place, "all" if place == xs[-1] else str(place + 1))
        for k, name in enumerate(fit.names):
            momentum = name.startswith("mom_")
            plot.line(xs, path[:, k].tolist(), _hue(fit.names, name), name, dashed=momentum and model == "alpha")
            if not momentum or model == "alpha":
                plot.name(name, _hue(fit.names, name))
        out.append(plot)
    return out


def plateau_plot(result: SearchResult, hours: int) -> Plot:
    """Standard errors of all coefficients against the number of draws, over their last value."""
    forecast = result.forecasts[hours]
    lines = [
        (name, [plateau[n][k] / own.inference.se[k] for n in sorted(plateau)])
        for own in forecast.fits.values()
        for plateau in (own.inference.se_plateau,)
        for k, name in enumerate(own.names)
        if own.inference.se[k] > 0.0
    ]
    counts = sorted(forecast.fits["alpha"].inference.se_plateau)
    plot = Plot.of(
        "Bootstrap plateau", "standard error over its value after all draws, one line a coefficient", "draws",
        [-0.3, max(len(counts) - 0.7, 0.3)], [1.0, 0.9, 1.1, *(y for _, ys in lines for y in ys)],
        partial(number, places=2),
    )  # fmt: skip
    for place, count in enumerate(counts):
        plot.tick(place, str(count))
    for name, ys in lines:
        plot.line(list(range(len(ys))), ys, FUNDING_HUE if name.startswith("funding") else PRICE_HUE, name)
    return plot


def calibration_plots(result: SearchResult) -> list[Plot]:
    """Realised against predicted funding by tenths of the forecast, with the line on which both agree."""
    out = []
    for hours in result.horizons:
        rows = result.skills[hours].bp_tables["funding"]
        said, came = [row.pred_mean for row in rows], [row.F_actual for row in rows]
        ends = [min(said + came), max(said + came)]
        if not all(math.isfinite(end) for end in ends):
            continue
        digits = 0 if ends[1] - ends[0] > 20.0 else 1
        plot = Plot.of(
            f"H = {hours} h", "realised, bp per H", "predicted, bp per H", ends, ends, partial(number, places=digits)
        )
        for value in (ends[0], 0.5 * (ends[0] + ends[1]), ends[1]):
            plot.tick(value, number(value, digits))
        plot.line(ends, ends, NET_HUE, "realised as predicted", dashed=True)
        for row in rows:
            title = (
                f"tenth {row.quantile + 1}: predicted {number(row.pred_mean, 2)}, realised {number(row.F_actual, 2)}"
            )
            plot.dot(row.pred_mean, row.F_actual, FUNDING_HUE, title)
        out.append(plot)
    return out


def shift_plot(result: SearchResult) -> Plot:
    """Rank correlation of the total forecast with labels that begin later, one line a horizon."""
    curves = {hours: result.skills[hours].shifted for hours in result.horizons}
    grid = sorted({point.shift_hours for curve in curves.values() for point in curve})
    place = {hours: k for k, hours in enumerate(grid)}
    values = [point.total.mean for curve in curves.values() for point in curve]
    plot = Plot.of(
        "Shifted labels", "rank correlation of the total forecast", "hours between forecast and label",
        [0.0, float(max(len(grid) - 1, 1))], [*values, 0.0], partial(number, places=3),
    )  # fmt: skip
    for shift, x in place.items():
        plot.tick(x, str(shift))
    for hue, (hours, curve) in enumerate(curves.items()):
        xs = [float(place[point.shift_hours]) for point in curve]
        plot.line(xs, [point.total.mean for point in curve], hue % 6, f"H = {hours} h")
        plot.name(f"H = {hours} h", hue % 6)
    return plot


def _places(result: SearchResult) -> list[float]:
    return [float(k) for k in range(len(result.horizons))]


def _against_h(
    result: SearchResult, title: str, unit: str, ys: Sequence[float], digits: int, pad: float = 0.25
) -> Plot:
    """A plot with one place per horizon, evenly spaced: the horizons double, roughly."""
    written = partial(number, places=digits)
    plot = Plot.of(title, unit, "H, hours", [-pad, len(result.horizons) - 1 + pad], ys, written)
    for place, hours in enumerate(result.horizons):
        plot.tick(place, str(hours))
    return plot


def _banded(
    plot: Plot,
    result: SearchResult,
    name: str,
    hue: int,
    values: Sequence[float],
    low: Sequence[float],
    high: Sequence[float],
) -> None:
    places = _places(result)
    plot.band(places, low, high, hue, f"{name}: 95 % interval")
    plot.line(places, values, hue, name)
    for place, hours, value, bottom, top in zip(places, result.horizons, values, low, high, strict=True):
        plot.dot(place, value, hue, f"{name}, {hours} h: {number(value, 3)} ({number(bottom, 3)} to {number(top, 3)})")
    plot.name(name, hue)


def _stack(
    plot: Plot, x: float, half_width: float, parts: Sequence[float], hues: Sequence[int], names: Sequence[str]
) -> None:
    """Bars on top of each other, gains upwards from zero and losses downwards."""
    up = down = 0.0
    for part, hue, name in zip(parts, hues, names, strict=True):
        begin = up if part >= 0.0 else down
        plot.bar(x, half_width, begin, begin + part, hue, f"{name} {number(part, 1, signed=True)} bp")
        if part >= 0.0:
            up += part
        else:
            down += part


def _ends(score: R2) -> tuple[float, float, float]:
    return score.value, score.low, score.high


def _hue(names: Sequence[str], name: str) -> int:
    """Spans keep their hue in both kinds of features."""
    spans = list(dict.fromkeys(other.split("_")[1] for other in names))
    return spans.index(name.split("_")[1]) % 6
