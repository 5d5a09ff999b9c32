"""``slipstream calibrate-costs``: half-spread and impact per coin from recorded order books."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from slipstream.errors import UsageError

if TYPE_CHECKING:
    from slipstream.lake.books import RecordedBook

_MINUTES_PER_DAY = 1_440.0

Prior = dict[str, tuple[float, float]]
"""Coin -> volatility per square-root day and average daily volume in USD."""


def calibrate_costs(
    *,
    books: Annotated[
        list[Path], Parameter(consume_multiple=True, negative="", help="Recordings of order books, Parquet.")
    ],
    capital: Annotated[float, Parameter(help="Reference capital of the cost model, USD.")] = 100_000.0,
    holdout_days: Annotated[float | None, Parameter(help="End held out to measure errors on, days; default 1.")] = None,
    holdout_minutes: Annotated[float | None, Parameter(help="The same in minutes.")] = None,
    data: Annotated[Path | None, Parameter(help="Panel file or lake: volatility and volume for the prior.")] = None,
    fee_bps: Annotated[float, Parameter(help="Exchange fee that joins the half-spread, basis points.")] = 2.0,
    seed: Annotated[int, Parameter(help="Seed of the intervals' bootstrap.")] = 42,
    out: Annotated[Path, Parameter(help="Folder for costs.html and costs.json.")] = Path("out/costs"),
    json_only: Annotated[bool, Parameter(name="--json", negative="", help="Print costs.json's text only.")] = False,
) -> None:
    """Walk recorded books with buys and sells of 1k to 100k USD and fit cost(S) = half-spread + k sqrt(S) per coin.

    Sizes that a book cannot fill count as costs known from below. With --data, k is drawn towards the square-root law
    by what the recording is worth. Errors are measured on the end of the recording, which the judged curve has not
    seen; where no length is named and the recording is shorter than two days, on its last quarter.

    Examples:
      slipstream calibrate-costs --books books.parquet
      slipstream calibrate-costs --books day1.parquet day2.parquet --data data/lake --capital 250000 --out out/costs
    """
    from slipstream.core.portfolio.calibration import CalibrationConfig, calibrate
    from slipstream.lake.books import read_books
    from slipstream.reports.cost_report import render_cost_report
    from slipstream.reports.cost_summary import calibration_summary, print_calibration
    from slipstream.reports.outputs import staged, summary_text

    days = _holdout_days(holdout_days, holdout_minutes)
    for flag, value, least in (("--capital", capital, 1e-9), ("--fee-bps", fee_bps, 0.0)):
        if not (math.isfinite(value) and value >= least):
            raise UsageError(f"{flag} is {value}; it must be a finite number, {'positive' if least else 'at least 0'}")
    recorded = read_books(*books)
    if days is not None:
        _require_room(recorded, days)
    prior, as_of_ms = ({}, None) if data is None else _prior(data, recorded)
    config = CalibrationConfig(seed=seed)
    found = []
    for coin, record in recorded.items():
        sigma, volume = prior.get(coin, (math.nan, math.nan))
        found.append(calibrate(record.book, days or 1.0, sigma_daily=sigma, adv_usd=volume, config=config))
    summary = calibration_summary(found, recorded, capital_usd=capital, fee_bps=fee_bps, prior_as_of_ms=as_of_ms)
    page = render_cost_report(found, recorded, capital_usd=capital, fee_bps=fee_bps, prior_as_of_ms=as_of_ms)
    with staged(out) as stage:
        (stage / "costs.html").write_text(page, encoding="utf-8")
        (stage / "costs.json").write_text(summary_text(summary), encoding="utf-8")
    if json_only:
        sys.stdout.write(summary_text(summary))
        return
    print_calibration(found, recorded, prior_as_of_ms=as_of_ms)
    sys.stdout.write(f"page      {out / 'costs.html'}\n")


def _holdout_days(days: float | None, minutes: float | None) -> float | None:
    if days is not None and minutes is not None:
        raise UsageError("--holdout-days and --holdout-minutes say the same; give one of them")
    for flag, value in (("--holdout-days", days), ("--holdout-minutes", minutes)):
        if value is not None and not (math.isfinite(value) and value > 0.0):
            raise UsageError(f"{flag} is {value}; it must be positive")
    return days if minutes is None else minutes / _MINUTES_PER_DAY


def _require_room(recorded: dict[str, RecordedBook], days: float) -> None:
    """A length that was asked for is held out exactly, or not at all."""
    for coin, record in recorded.items():
        times = record.book.time_ms
        minutes = float(times[-1] - times[0]) / 60_000.0
        if 2.0 * days * _MINUTES_PER_DAY > minutes:
            raise UsageError(
                f"holding out {days * _MINUTES_PER_DAY:g} min leaves less than half of {coin}'s {minutes:.1f} min; "
                f"hold out at most {minutes / 2.0:.1f}"
            )


def _prior(data: Path, recorded: dict[str, RecordedBook]) -> tuple[Prior, int]:
    """Volatility and volume of the recorded coins, as known when the recording began, and when that was, Unix ms."""
    from slipstream.core.panel import utc
    from slipstream.core.signals.liquidity import average_daily_volume_usd, daily_volatility
    from slipstream.lake import load_panel

    panel = load_panel(data)
    began = min(int(record.book.time_ms[0]) for record in recorded.values())
    row = panel.row_at(began)
    if row < 0:
        raise UsageError(
            f"{data} begins after the recording ({utc(began):%Y-%m-%d %H:%M} UTC); a prior must be known before it"
        )
    view = panel.view(row)
    sigma, volume = daily_volatility(view)[-1], average_daily_volume_usd(view)[-1]
    known = {coin: (float(sigma[i]), float(volume[i])) for i, coin in enumerate(panel.coins) if coin in recorded}
    return known, view.known_at_ms


app = App(name="calibrate-costs", help="Half-spread and impact per coin from recorded order books.")
app.default(calibrate_costs)
