"""The coverage page: a cell per coin and month with its figures, every gap, and nothing from outside."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import numpy as np

from slipstream.core.coverage import Gap, coverage, gaps_of
from slipstream.core.panel import HOUR_MS, Panel, to_ms
from slipstream.reports.coverage_page import render_coverage

BEGIN = datetime(2025, 1, 31, tzinfo=UTC)


def panel_with(missing: dict[str, range], hours: int = 48) -> Panel:
    """Two days over the end of January, with some of a coin's hours missing."""
    coins = tuple(sorted(missing))
    close = np.full((hours, len(coins)), 10.0)
    for column, coin in enumerate(coins):
        close[list(missing[coin]), column] = np.nan
    known = to_ms(BEGIN) + (1 + np.arange(hours)) * HOUR_MS
    same = dict.fromkeys(("open", "high", "low", "close"), close)
    return Panel.build(known, coins, 1, **same, volume_usd=close * 100, funding=np.zeros_like(close))


def test_a_gap_is_told_by_its_first_missing_bar_and_a_late_start_is_none() -> None:
    panel = panel_with({"BTC": range(0), "ETH": range(20, 25), "LATE": range(30)})
    assert gaps_of(panel) == (Gap("ETH", to_ms(BEGIN + timedelta(hours=21)), 5),)


def test_every_cell_says_how_many_bars_of_the_month_are_there() -> None:
    panel = panel_with({"BTC": range(0), "ETH": range(20, 25)})
    text = render_coverage("mine", panel, coverage(panel), gaps_of(panel), ())
    hints = re.findall(r"<title>(\S+ \d{4}-\d\d: .*?)</title>", text)
    assert hints == [
        "BTC 2025-01: 24 of 744 bars",
        "BTC 2025-02: 24 of 672 bars",
        "ETH 2025-01: 20 of 744 bars",
        "ETH 2025-02: 23 of 672 bars",
    ]
    assert "<td>ETH</td><td>2025-01-31 21:00</td><td>5</td>" in text


def test_a_lake_without_gaps_says_so_and_the_page_asks_for_nothing_from_outside() -> None:
    panel = panel_with({"BTC": range(0)})
    text = render_coverage("<b>mine</b>", panel, coverage(panel), (), ())
    assert "every coin has every bar" in text
    assert "&lt;b&gt;mine&lt;/b&gt;" in text
    assert not re.search(r"(src|href)=|https?:", text.replace("http://www.w3.org", ""))
