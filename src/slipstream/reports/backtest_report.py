"""The tearsheet of one walk-forward backtest: one HTML file that needs nothing but itself.

Figures are the result's own; no clock is read and no path is written, so equal results give equal bytes.
:meth:`slipstream.core.backtest.result.BacktestResult.report` ends here.
"""

from __future__ import annotations

import tempfile
from os import PathLike
from pathlib import Path

from slipstream.core.backtest.result import BacktestResult
from slipstream.reports import backtest_sections as sections
from slipstream.reports.backtest_series import chart_data, monthly_returns, rolling_window
from slipstream.reports.formatting import Dollars
from slipstream.reports.lines import thin
from slipstream.reports.outputs import OutputError
from slipstream.reports.page import page
from slipstream.reports.sections import capital_waterfall
from slipstream.reports.verdict import Record, reading, verdict

TITLE = "Walk-forward backtest"
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def render_backtest_report(result: BacktestResult, *, title: str = TITLE) -> str:
    """The tearsheet as one HTML document.

    Args:
        result: the run.
        title: headline of the page, plain text.
    """
    config = result.config
    head, window = sections.figures(result), rolling_window(result)
    days = float(result.time_ms[-1] - result.time_ms[0]) / 86_400_000
    record = Record("The book", head.total_return, head.sharpe, head.sharpe_se, days, "holding periods")
    data = chart_data(result, window)
    traded, costs = sections.cost_lines(result, head.years)
    calendar = monthly_returns(result.time_ms, result.equity_usd)
    return page(
        "backtest.html.j2",
        usd=Dollars.beside(config.initial_capital),
        data=data,
        title=title,
        result=result,
        config=config,
        head=head,
        verdict=verdict(record),
        reading=reading(record),
        further=sections.further_figures(result),
        bars_per_pair=_bars_per_pair(result),
        account=capital_waterfall(result.pnl_usd.sum(axis=0), config.initial_capital, head.final_usd),
        months=MONTHS,
        calendar=sections.calendar_rows(calendar),
        window=window,
        has_sharpe_chart="sharpe" in data["charts"],
        traded=traded,
        costs=costs,
        holdings=sections.holdings(result),
        checks=sections.checks(result),
        settings=sections.settings(result),
    )


def write_backtest_report(result: BacktestResult, path: str | PathLike[str], *, title: str = TITLE) -> None:
    """Write the tearsheet to a file: whole, or not at all.

    Args:
        result: the run.
        path: the file; an existing one is replaced.
        title: headline of the page, plain text.

    Raises:
        OutputError: ``path`` is a folder, or its folder does not exist or cannot be written.
    """
    target, html = Path(path), render_backtest_report(result, title=title)
    if target.is_dir():
        raise OutputError(f"{target} is a folder; give the name of a file")
    try:
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as stage:
            written = Path(stage) / target.name
            written.write_text(html, encoding="utf-8")
            written.replace(target)
    except OSError as error:
        raise OutputError(f"cannot write {target}: {error.strerror}; choose another file") from error


def _bars_per_pair(result: BacktestResult) -> int:
    """Bars each pair of points of a line by bar stands for; 1 if nothing was thinned."""
    rows, _ = thin(result.equity_usd[:, None])
    return 1 if len(rows) == len(result.time_ms) else -(-2 * len(result.time_ms) // len(rows))
