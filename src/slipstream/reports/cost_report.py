"""The page of a cost calibration: a table and, per coin, what walking its books cost beside the fitted curve.

One HTML file without scripts or addresses; the pictures are inline SVG in the report's own colours.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined

from slipstream.core.portfolio.calibration import CoinCalibration
from slipstream.lake.books import RecordedBook
from slipstream.reports import formatting
from slipstream.reports.cost_curves import HEIGHT, WIDTH, curve_picture
from slipstream.reports.cost_summary import K_SCALE, provenance, span


def render_cost_report(
    found: Sequence[CoinCalibration],
    recorded: dict[str, RecordedBook],
    *,
    capital_usd: float,
    fee_bps: float,
    prior_as_of_ms: int | None,
) -> str:
    """The page as one HTML document.

    Args:
        found: calibrated coins, in the order of the page.
        recorded: their recordings, by coin.
        capital_usd: the trade size at which the table states the cost of a whole book, USD.
        fee_bps: exchange fee, basis points.
        prior_as_of_ms: when the prior's volatility and volume were known, Unix ms; None without a prior.
    """
    environment = Environment(
        loader=PackageLoader("slipstream.reports", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = formatting.number
    environment.filters["percent"] = formatting.percent
    css = resources.files("slipstream.reports").joinpath("templates/report.css").read_text("utf-8")
    return environment.get_template("costs.html.j2").render(
        css=css,
        coins=[(coin, curve_picture(coin)) for coin in found],
        has_prior=any(picture.prior is not None for picture in (curve_picture(coin) for coin in found)),
        provenance=provenance(found, recorded, prior_as_of_ms),
        capital_usd=capital_usd,
        fee_bps=fee_bps,
        k_scale=K_SCALE,
        span=span,
        width=WIDTH,
        height=HEIGHT,
    )
