"""The coverage page: a cell per coin and month with its figures, every gap, and nothing from outside."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import polars as pl
import pytest

from slipstream.core.panel import HOUR_MS, to_ms
from slipstream.lake.datasets import BARS, FUNDING
from slipstream.lake.held_hours import Gap, Held, held_hours
from slipstream.reports.coverage_page import CELL, coverage_map, render_coverage

BEGIN = datetime(2025, 1, 31, tzinfo=UTC)
LABEL_PX = 43
"""Width of a month's label, 7 characters of 11 px."""


def bars(coin: str, opened: list[datetime], interval: str = "1h") -> pl.DataFrame:
    """Bars with trades that open at the moments given."""
    rows = [(coin, moment, 10.0, 11.0, 9.0, 10.0, 5.0, interval) for moment in opened]
    return pl.DataFrame(rows, schema=BARS.schema, orient="row")


def hourly(coin: str, missing: range = range(0), *, begin: datetime = BEGIN, hours: int = 48) -> pl.DataFrame:
    """Two days over the end of January, with some of the hours missing."""
    return bars(coin, [begin + timedelta(hours=hour) for hour in range(hours) if hour not in missing])


def held(*pieces: pl.DataFrame) -> Held:
    return held_hours(pieces, [], {})


def hints(text: str) -> list[str]:
    return re.findall(r"<title>(\S+ \d{4}-\d\d: .*?)</title>", text)


def test_a_gap_is_told_by_its_first_missing_hour_and_a_late_start_is_none() -> None:
    _, eth, late = held(hourly("BTC"), hourly("ETH", range(20, 25)), hourly("LATE", range(30))).coins
    assert eth.gaps == (Gap("ETH", to_ms(BEGIN + timedelta(hours=21)), 5),)
    assert (eth.gap_hours, late.gap_hours, late.gaps) == (5, 0, ())


def test_every_cell_says_how_many_hours_of_the_month_are_there() -> None:
    text = render_coverage("mine", held(hourly("BTC"), hourly("ETH", range(20, 25))), ())
    assert hints(text) == [
        "BTC 2025-01: 24 of 744 hours",
        "BTC 2025-02: 24 of 672 hours",
        "ETH 2025-01: 20 of 744 hours",
        "ETH 2025-02: 23 of 672 hours",
    ]
    assert "<td>ETH</td><td>2025-01-31 21:00</td><td>5</td>" in text


def test_hours_are_covered_by_bars_of_any_length_and_counted_once() -> None:
    """A day before the hours, 4 h bars that reach into them, and a quarter of an hour after them."""
    day = bars("BTC", [BEGIN - timedelta(days=1)], "1d")
    four = bars("BTC", [BEGIN + timedelta(hours=hour) for hour in (0, 4, 8)], "4h")
    quarters = bars("BTC", [BEGIN + timedelta(hours=25, minutes=minute) for minute in (15, 30)], "15m")
    found = held(day, four, hourly("BTC", range(10), hours=24), quarters)
    (btc,) = found.coins
    assert found.lengths == ("15m", "1h", "4h", "1d")
    assert btc.bars == {"15m": 2, "1h": 14, "4h": 3, "1d": 1}
    assert len(btc.hours) == 24 + 24 + 1
    assert btc.gaps == (Gap("BTC", to_ms(BEGIN + timedelta(hours=25)), 1),)
    assert (btc.first_ms, btc.last_ms) == (to_ms(BEGIN), to_ms(BEGIN + timedelta(hours=25, minutes=45)))
    text = render_coverage("mine", found, ())
    assert hints(text) == ["BTC 2025-01: 48 of 744 hours", "BTC 2025-02: 1 of 672 hours"]
    assert "2 bars of 15m and 14 bars of 1h and 3 bars of 4h and 1 bar of 1d" in text
    assert "<th>15m bars</th><th>1h bars</th><th>4h bars</th><th>1d bars</th>" in text


def test_the_settlement_at_a_coins_last_close_is_not_missing_and_one_inside_its_life_is() -> None:
    stamps = [BEGIN + timedelta(hours=hour) for hour in range(48) if hour != 30]
    settled = pl.DataFrame({"coin": "BTC", "ts": stamps, "rate": 1e-5}, schema_overrides={"ts": FUNDING.schema["ts"]})
    (btc,) = held_hours([hourly("BTC")], [settled], {}).coins
    assert btc.last_ms == to_ms(stamps[-1]) + HOUR_MS
    assert btc.funding_missing == 1
    (quiet,) = held_hours([hourly("ETH")], [settled], {}).coins
    assert quiet.funding_missing == 0, "no settlement is recorded at all, so none is known to be due"


@pytest.mark.parametrize("first", [datetime(2024, month, 1, tzinfo=UTC) for month in range(1, 13)])
def test_labels_of_months_never_overlap_nor_stick_out(first: datetime) -> None:
    """From December the first month's label would run into January's."""
    for days in (1, 40, 100, 400):
        drawn = coverage_map(held(hourly("BTC", begin=first, hours=24 * days)).coins)
        places = [x for x, _ in drawn.months]
        assert drawn.months[0][1] == f"{first:%Y-%m}", "where the map begins is always said"
        assert all(after - before >= LABEL_PX for before, after in pairwise(places))
        assert drawn.width - places[-1] >= LABEL_PX
        assert drawn.width >= max(cell.x for cell in drawn.cells) + CELL


def test_the_legend_shades_a_share_as_the_map_does() -> None:
    text = render_coverage("mine", held(hourly("BTC", begin=datetime(2025, 3, 1, tzinfo=UTC), hours=744)), ())
    (cell,) = re.findall(r'opacity="([\d.]+)"><title>BTC', text)
    legend = {share: shade for shade, share in re.findall(r'opacity="([\d.]+)"/></svg>(\d+) %</span>', text)}
    assert legend["100"] == cell
    assert list(legend) == ["25", "50", "75", "100"]
    assert sorted(legend.values()) == list(legend.values())


def test_damaged_files_are_named_on_the_page_also_if_nothing_else_is_left() -> None:
    damaged = {"bars/base_interval=1h/month=2025-01/x.parquet": "the file is missing"}
    for pieces in ([hourly("BTC")], []):
        text = render_coverage("mine", held_hours(pieces, [], damaged), ())
        assert "bars/base_interval=1h/month=2025-01/x.parquet: the file is missing" in text
    assert "no bars" in text


def test_a_lake_without_gaps_says_so_and_the_page_asks_for_nothing_from_outside() -> None:
    text = render_coverage("<b>mine</b>", held(hourly("BTC")), ())
    assert "every coin has a bar for every hour" in text
    assert "&lt;b&gt;mine&lt;/b&gt;" in text
    assert not re.search(r"(src|href)=|https?:", text.replace("http://www.w3.org", ""))
