"""The page of a search for the holding period: the answer in words, then the numbers and pictures it rests on.

One HTML file that needs nothing but itself: no script, no address, pictures as inline SVG. Equal results give equal
bytes.
"""

from __future__ import annotations

from slipstream.reports import plots
from slipstream.reports.formatting import number, percent
from slipstream.reports.horizon_pictures import (
    calibration_plots,
    coefficient_plots,
    cost_plot,
    edge_plots,
    plateau_plot,
    quantile_plots,
    r2_plots,
    shift_plot,
)
from slipstream.reports.horizon_words import findings, scored_days, survives
from slipstream.reports.page import stylesheet, template_environment
from slipstream.research.search import SearchResult
from slipstream.research.summary_files import comparison, edge_claimed

PUBLISHED = (
    (8, -0.002, 0.776, 0.667),
    (4, -0.001, 0.720, 0.638),
    (12, -0.003, 0.689, 0.582),
    (24, -0.006, 0.449, 0.356),
    (48, -0.009, 0.282, 0.203),
)
"""Published R2 in deviations by H: alpha, funding, combined; best first."""


def render_horizon_report(result: SearchResult) -> str:
    """The page as one HTML document."""
    rows = comparison(result)
    shown = result.chosen.best
    return (
        template_environment()
        .get_template("horizon.html.j2")
        .render(
            css=stylesheet(),
            result=result,
            verdict=findings(result)[0],
            findings=findings(result)[1:],
            survives=survives(result),
            edge=edge_claimed(result),
            days=scored_days(result),
            rows=rows,
            published=PUBLISHED,
            ours={row["H"]: row for row in rows},
            shown=shown,
            key=_key(result),
            r2_plots=r2_plots(result),
            edge_plots=edge_plots(result),
            quantile_plots=[*quantile_plots(result), cost_plot(result)],
            calibration_plots=calibration_plots(result),
            coefficient_plots=coefficient_plots(result, shown),
            diagnostics=[plateau_plot(result, shown), shift_plot(result)],
            tables=[
                (hours, result.skills[hours].bp_tables["total"], result.skills[hours].cost_bp)
                for hours in result.horizons
            ],
            fits=[(name, _coefficients(result, shown, name)) for name in ("alpha", "funding")],
            box={
                "width": plots.WIDTH,
                "height": plots.HEIGHT,
                "left": plots.LEFT,
                "right": plots.RIGHT,
                "top": plots.TOP,
                "bottom": plots.BOTTOM,
            },
        )
    )


def _key(result: SearchResult) -> list[tuple[str, str, str]]:
    """Headline figures: name, value, what it means."""
    best = result.by_net
    estimate = float(result.net.estimate[result.net.horizons.index(best.best)])
    return [
        (
            "H* by net Sharpe",
            f"{best.best} h",
            "told from the runner-up" if best.confident else "not told from the runner-up",
        ),
        (
            "net Sharpe",
            number(estimate, 2),
            f"{number(best.low[best.best], 1)} to {number(best.high[best.best], 1)}, 95 %",
        ),
        ("after the choice", number(best.claim, 2), "one-sided 95 % lower end; an edge is claimed above 0"),
        ("best in", percent(best.probability_best[best.best], 0), "of paired draws"),
        ("beats luck", percent(result.deflated.probability, 0), f"probability, {result.deflated.trials} tries counted"),
    ]


def _coefficients(
    result: SearchResult, hours: int, model: str
) -> list[tuple[str, float, float, float, float, float, str]]:
    """Feature, coefficient, standard error, interval, t and stars."""
    own = result.forecasts[hours].fits[model]
    found = own.inference
    columns = (found.estimate, found.se, found.low, found.high, found.t)
    values = zip(*(column.tolist() for column in columns), strict=True)
    return [(name, *row, stars) for name, row, stars in zip(own.names, values, found.stars, strict=True)]
