"""The report of a federated backtest: one HTML file that needs nothing but itself.

Figures of merit come from the run's summary and are repeated unchanged; everything drawn or listed comes from the
result; no clock is read and no path is written.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from slipstream.core.coverage import CoinCoverage
from slipstream.errors import SlipstreamError
from slipstream.federation.result import PARTS, FederationResult
from slipstream.reports import sections
from slipstream.reports.charts import chart_data, hours_per_point_pair
from slipstream.reports.formatting import Dollars
from slipstream.reports.page import page
from slipstream.reports.series import ROLLING_DAYS, record_days
from slipstream.reports.verdict import Record, capital_at_work, reading, verdict

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
    record = Record("The account", total.total_return, total.sharpe, total.sharpe_se, _span_days(result))
    return page(
        "federation.html.j2",
        usd=Dollars.beside(result.initial_capital_usd),
        data=data,
        title=title,
        synthetic=synthetic,
        result=result,
        total=total,
        pods=pods,
        verdict=f"{verdict(record)} {capital_at_work(result).capitalize()}.",
        reading=reading(record),
        data_facts=_entry(summary, "data"),
        span_days=_span_days(result),
        returns_days=len(days.close_ms),
        rolling_days=ROLLING_DAYS,
        hours_per_pair=hours_per_point_pair(result),
        has_sharpe_chart="sharpe" in data["charts"],
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
    )


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
