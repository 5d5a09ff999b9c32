"""The table a federated backtest prints."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from slipstream.core.coverage import CoinCoverage
from slipstream.core.panel import utc
from slipstream.federation.result import PARTS, FederationResult
from slipstream.reports.verdict import capital_at_work

SYNTHETIC_NOTICE = (
    "SYNTHETIC MARKET: prices are invented and edges are planted; these figures say nothing about real trading."
)


def print_summary(
    result: FederationResult,
    summary: dict[str, Any],
    coverage: Sequence[CoinCoverage],
    *,
    synthetic: bool,
    out: Path,
    console: Console | None = None,
) -> None:
    """Print what was traded, what each pod and the account made, and what was checked.

    Args:
        result: the run.
        summary: its figures.
        coverage: what the data held.
        synthetic: whether the market was invented.
        out: where the files are.
        console: default standard output.
    """
    screen = console or Console()
    if synthetic:
        screen.print(SYNTHETIC_NOTICE, style="bold yellow")
    screen.print(_market_line(result, coverage), soft_wrap=True, highlight=False)
    screen.print(_performance(summary))
    screen.print(_pnl(summary))
    screen.print(f"grants    {capital_at_work(result)}", soft_wrap=True, highlight=False)
    checks, saved = summary["checks"], result.netting
    for label, text in (
        ("audit", f"every ledger equals the sum of its parts to {checks['accounting_max_error']:.0e} of capital"),
        (
            "causality",
            f"{checks['causality_decisions']} decisions taken again from truncated data, "
            f"largest difference {checks['causality_max_difference']:.0e}",
        ),
        ("netting", f"would have saved {_usd(saved.fees_usd)} fees and {_usd(saved.impact_usd)} impact (not credited)"),
        ("trades", f"{len(result.trades.time_ms)}, fingerprint {checks['trade_fingerprint'][:16]}"),
        ("report", str(out / "report.html")),
    ):
        screen.print(f"{label:<10}{text}", soft_wrap=True, highlight=False)


def _market_line(result: FederationResult, coverage: Sequence[CoinCoverage]) -> str:
    first, last = utc(int(result.time_ms[0])), utc(int(result.time_ms[-1]))
    line = (
        f"{len(coverage)} coins, {first:%Y-%m-%d} to {last:%Y-%m-%d} UTC, {len(result.decision_ms)} decisions, "
        f"capital {_usd(result.initial_capital_usd)}"
    )
    gaps = [coin for coin in coverage if coin.gap_bars]
    if gaps:
        named = ", ".join(f"{coin.coin} ({coin.gap_bars} h)" for coin in gaps[:6])
        line += f"\ngaps      {len(gaps)} coins lack bars inside their life: {named}{' ...' if len(gaps) > 6 else ''}"
    missing = sum(coin.funding_missing for coin in coverage)
    if missing:
        line += f"\nfunding   {missing} due settlements are not in the data; {result.funding_missing} on held positions"
    return line


def _performance(summary: dict[str, Any]) -> Table:
    table = _new_table("pod", "return", "Sharpe", "drawdown", "turnover/y", "shadow Sharpe")
    for name, figures in _rows(table, summary):
        shadow = figures.get("shadow")
        table.add_row(
            name,
            f"{figures['total_return']:+.2%}",
            _with_error(figures),
            f"{figures['max_drawdown']:.2%}",
            f"{figures['turnover_per_year']:.0f}x",
            _with_error(shadow) if shadow else "",
        )
    return table


def _pnl(summary: dict[str, Any]) -> Table:
    table = _new_table("pod", *PARTS, "net P&L", "capital range")
    for name, figures in _rows(table, summary):
        parts = [figures["pnl_usd"][part] for part in PARTS]
        capital = figures["capital_usd"]
        span = f"{_usd(capital['min'])} .. {_usd(capital['max'])}"
        table.add_row(name, *(_usd(part) for part in parts), _usd(sum(parts)), span)
    return table


def _new_table(*headings: str) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "pod" else "right", no_wrap=True)
    return table


def _rows(table: Table, summary: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield from summary["pods"].items()
    table.add_section()
    yield "total", summary["total"]


def _with_error(figures: dict[str, Any]) -> str:
    error = figures["sharpe_se"]
    return f"{figures['sharpe']:.2f}" + (f" ± {error:.2f}" if error is not None else "")


def _usd(value: float) -> str:
    return f"{'-' if value < -0.5 else ''}${abs(value):,.0f}"
