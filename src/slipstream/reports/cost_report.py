"""The page of a cost calibration: a table and, per coin, what walking its books cost beside the fitted curve.

One HTML file without scripts or addresses; the pictures are inline SVG in the report's own colours.
"""

from __future__ import annotations

from collections.abc import Sequence

from slipstream.core.portfolio.calibration import CoinCalibration
from slipstream.lake.books import RecordedBook
from slipstream.reports.cost_curves import HEIGHT, WIDTH, curve_picture
from slipstream.reports.cost_summary import K_SCALE, provenance, span
from slipstream.reports.page import stylesheet, template_environment


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
    return (
        template_environment()
        .get_template("costs.html.j2")
        .render(
            css=stylesheet(),
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
    )
