"""The report of a federated backtest: one HTML file that needs nothing but itself.

Figures of merit come from the run's summary and are repeated unchanged; everything drawn or listed comes from the
result. Styles, script and the charting library are inlined, the page forbids every outside request by a content
policy, and equal inputs give equal bytes: no clock is read and no path is written.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from slipstream.core.coverage import CoinCoverage
from slipstream.core.metrics import DAYS_PER_YEAR
from slipstream.errors import SlipstreamError
from slipstream.federation.result import PARTS, FederationResult
from slipstream.reports import formatting, sections
from slipstream.reports.charts import Z_95, chart_data, hours_per_point_pair, script_json
from slipstream.reports.series import ROLLING_DAYS, record_days

_SCALARS = ("total_return", "sharpe", "sharpe_se", "max_drawdown", "turnover_per_year")
_SHADOW = ("total_return", "sharpe", "sharpe_se", "max_drawdown")
_CAPITAL = ("min", "max", "final")
_HOUR_MS = 3_600_000


class ReportError(SlipstreamError):
    """A summary that lacks a figure, or does not belong to the result it came with."""


@dataclass(frozen=True)
class Merit:
    """The summary's figures of one pod or the total: fractions, ratios and USD as the summary's keys say.

    ``shadow`` holds those of the pod on its own, at an equal share of the account; None if the summary has none.
    """

    name: str
    pod: int | None
    total_return: float
    sharpe: float
    sharpe_se: float
    max_drawdown: float
    turnover_per_year: float
    pnl_usd: dict[str, float]
    capital_usd: dict[str, float]
    shadow: dict[str, float] | None

    @property
    def net_usd(self) -> float:
        return math.fsum(self.pnl_usd.values())

    @property
    def sharpe_interval(self) -> tuple[float, float]:
        """The 95 % interval of the true Sharpe ratio, normal approximation."""
        return self.sharpe - Z_95 * self.sharpe_se, self.sharpe + Z_95 * self.sharpe_se


def render_federation_report(
    result: FederationResult,
    summary: Mapping[str, Any],
    coverage: tuple[CoinCoverage, ...],
    *,
    synthetic: bool,
    title: str,
) -> str:
    """The report as one HTML document.

    Args:
        result: the run.
        summary: the run's figures, as written to ``summary.json`` (keys ``pods``, ``total``, ``checks``, ``data``,
            ``config``).
        coverage: what the data held, coin by coin.
        synthetic: whether the market was invented; the page then says so before anything else.
        title: headline of the page, plain text.

    Raises:
        ReportError: the summary lacks a figure, or names other pods or other trades than the result.
    """
    pods = [_merit(name, k, _entry(summary, "pods", name)) for k, name in enumerate(result.pods)]
    total = _merit("Total", None, _entry(summary, "total"))
    _check_belongs(result, summary)
    days = record_days(result)
    data = chart_data(result, days)
    account = sections.account_waterfall(result)
    environment = _environment(formatting.Dollars.beside(result.initial_capital_usd))
    return environment.get_template("federation.html.j2").render(
        title=title,
        synthetic=synthetic,
        result=result,
        total=total,
        pods=pods,
        verdict=_verdict(total, _span_days(result)),
        reading=_reading(total, _span_days(result)),
        data_facts=_entry(summary, "data"),
        span_days=_span_days(result),
        returns_days=len(days.close_ms),
        rolling_days=ROLLING_DAYS,
        hours_per_pair=hours_per_point_pair(result),
        has_sharpe_chart="sharpe" in data["charts"],
        chart_json=script_json(data),
        account=account,
        waterfalls=sections.pod_waterfalls(result),
        costs=sections.cost_rows(result),
        correlation=sections.correlation_cells(days),
        largest=sections.largest_trades(result),
        latest=sections.latest_trades(result),
        coverage=sections.coverage_section(result, coverage),
        checks=sections.checks(result),
        delisted=sections.delisted_lines(result),
        config=sections.config_rows(_entry(summary, "config")),
        parts=[(key, sections.PART_NAMES[key]) for key in PARTS],
        vendor_licence=_asset("vendor/uplot/LICENSE"),
        vendor_css=_asset("vendor/uplot/uPlot.min.css"),
        vendor_js=_vendor_script(),
        css=_asset("templates/report.css"),
        js=_asset("templates/report.js"),
    )


def _environment(usd: formatting.Dollars) -> Environment:
    environment = Environment(
        loader=PackageLoader("slipstream.reports", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in ("number", "percent", "times", "minute", "counted", "iso_minute"):
        environment.filters[name] = getattr(formatting, name)
    environment.filters["usd"] = usd
    return environment


def _asset(name: str) -> str:
    """The text of a file that ships with this package; the template puts it in the page as it is."""
    return resources.files("slipstream.reports").joinpath(name).read_text("utf-8")


def _vendor_script() -> str:
    """The charting library without its first comment, which holds only an address; the licence is written beside it."""
    script = _asset("vendor/uplot/uPlot.iife.min.js")
    start = script.index("*/") + 2 if script.startswith("/*!") else 0
    return script[start:].strip()


def _entry(summary: Mapping[str, Any], *path: str) -> Mapping[str, Any]:
    found: Any = summary
    for k, key in enumerate(path):
        if not isinstance(found, Mapping) or key not in found:
            raise ReportError(f"summary has no {'.'.join(path[: k + 1])}; build it with the backtest's own summary")
        found = found[key]
    if not isinstance(found, Mapping):
        raise ReportError(f"summary {'.'.join(path)} is {type(found).__name__}; expected a mapping")
    return found


def _merit(name: str, pod: int | None, figures: Mapping[str, Any]) -> Merit:
    pnl, capital = _entry(figures, "pnl_usd"), _entry(figures, "capital_usd")
    missing = [key for key in _SCALARS if key not in figures]
    missing += [f"pnl_usd.{key}" for key in PARTS if key not in pnl]
    missing += [f"capital_usd.{key}" for key in _CAPITAL if key not in capital]
    if missing:
        raise ReportError(f"summary of {name} lacks {', '.join(missing)}; build it with the backtest's own summary")
    return Merit(
        name=name,
        pod=pod,
        pnl_usd={key: _figure(pnl[key]) for key in PARTS},
        capital_usd={key: _figure(capital[key]) for key in _CAPITAL},
        shadow=_shadow(name, _entry(figures, "shadow")) if "shadow" in figures else None,
        **{key: _figure(figures[key]) for key in _SCALARS},
    )


def _shadow(name: str, figures: Mapping[str, Any]) -> dict[str, float]:
    missing = [key for key in _SHADOW if key not in figures]
    if missing:
        raise ReportError(f"summary's shadow of {name} lacks {', '.join(missing)}; use the backtest's own summary")
    return {key: _figure(figures[key]) for key in _SHADOW}


def _figure(value: float | None) -> float:
    """A summary's figure; JSON has no NaN and writes null where there is nothing to compute."""
    return math.nan if value is None else float(value)


def _check_belongs(result: FederationResult, summary: Mapping[str, Any]) -> None:
    """A page must not show one run's figures beside another run's curves."""
    named = set(_entry(summary, "pods"))
    if named != set(result.pods):
        raise ReportError(f"summary is of pods {sorted(named)}, result of {sorted(result.pods)}; pass one run's pair")
    fingerprint = _entry(summary, "checks").get("trade_fingerprint")
    if fingerprint != result.trade_fingerprint:
        raise ReportError(
            f"summary has trade fingerprint {fingerprint}, result {result.trade_fingerprint}; pass one run's pair"
        )


def _span_days(result: FederationResult) -> float:
    return float(result.time_ms[-1] - result.time_ms[0]) / (24 * _HOUR_MS)


def _verdict(total: Merit, span_days: float) -> str:
    """One sentence: what happened, and whether the record is long enough to mean anything."""
    moved = formatting.percent(abs(total.total_return))
    what = f"gained {moved}" if total.total_return > 0 else f"lost {moved}" if total.total_return < 0 else "stood still"
    span = f"{formatting.number(span_days)} days" if span_days >= 2 else f"{formatting.number(24 * span_days)} hours"
    opening = f"The account {what} in {span}, after costs."
    low, high = total.sharpe_interval
    if not math.isfinite(low + high) or total.sharpe_se <= 0:
        return f"{opening} The record is too short to say anything about a Sharpe ratio."
    interval = f"{formatting.number(low, 1)} to {formatting.number(high, 1)}"
    if low > 0:
        return f"{opening} The 95{formatting.THIN}% interval of its Sharpe ratio, {interval}, lies above 0."
    if high < 0:
        return f"{opening} The 95{formatting.THIN}% interval of its Sharpe ratio, {interval}, lies below 0."
    return (
        f"{opening} The 95{formatting.THIN}% interval of its Sharpe ratio, {interval}, includes 0: "
        "this record alone cannot tell skill from luck."
    )


def _reading(total: Merit, span_days: float) -> list[str]:
    """What the standard error of the Sharpe ratio implies, in plain words."""
    low, high = total.sharpe_interval
    if not math.isfinite(low + high) or total.sharpe_se <= 0:
        return ["There are too few days here for a Sharpe ratio; read the curves as an illustration only."]
    sharpe, error = formatting.number(total.sharpe, 2), formatting.number(total.sharpe_se, 2)
    verdict = (
        "The interval includes 0, so a strategy without any edge could have produced this record."
        if low <= 0 <= high
        else "The interval leaves out 0. That is evidence, not proof: it assumes independent days and says nothing of "
        "how many variants were tried before this one."
    )
    return [
        f"The account's Sharpe ratio is {sharpe} with a standard error of {error}. Records of this length scatter by "
        f"that much around the true value, so the true value plausibly lies between {formatting.number(low, 2)} and "
        f"{formatting.number(high, 2)} (95{formatting.THIN}%). {verdict}",
        f"The standard error shrinks only with the square root of time. This run covers "
        f"{formatting.number(span_days / DAYS_PER_YEAR, 2)} years; to tell a true Sharpe ratio of 1 from 0 takes about "
        "four years of daily returns, one of 2 about one year.",
    ]
