"""What every page is built from: the template environment, shipped assets, JSON a script element may hold.

A page is one HTML file: styles, script and the charting library are inlined, a content policy forbids every outside
request, and equal inputs give equal bytes.
"""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from slipstream.reports import formatting


def page(template: str, *, usd: formatting.Dollars, data: dict[str, Any], **content: Any) -> str:
    """A page laid out by one of the templates that extend ``page.html.j2``.

    Args:
        template: file name of the template.
        usd: how dollars are written throughout the page.
        data: what the page's script draws (see :mod:`slipstream.reports.charts`).
        content: whatever the template names besides; a name it lacks is an error.
    """
    environment = template_environment()
    environment.filters["usd"] = usd
    return environment.get_template(template).render(
        chart_json=script_json(data),
        vendor_licence=_asset("vendor/uplot/LICENSE"),
        vendor_css=_asset("vendor/uplot/uPlot.min.css"),
        vendor_js=_vendor_script(),
        css=stylesheet(),
        js=_asset("templates/report.js"),
        **content,
    )


def template_environment() -> Environment:
    """The templates of this package, with the filters of :mod:`slipstream.reports.formatting`; missing names raise."""
    environment = Environment(
        loader=PackageLoader("slipstream.reports", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in ("number", "percent", "times", "minute", "counted", "iso_minute"):
        environment.filters[name] = getattr(formatting, name)
    return environment


def stylesheet() -> str:
    """The one look of every page."""
    return _asset("templates/report.css")


def script_json(data: dict[str, Any]) -> str:
    """JSON that may stand inside a script element: nothing in it can close the element or open a comment."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False, ensure_ascii=True)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _asset(name: str) -> str:
    """The text of a file that ships with this package; the template puts it in the page as it is."""
    return resources.files("slipstream.reports").joinpath(name).read_text("utf-8")


def _vendor_script() -> str:
    """The charting library without its first comment, which holds only an address; the licence is written beside it."""
    script = _asset("vendor/uplot/uPlot.iife.min.js")
    start = script.index("*/") + 2 if script.startswith("/*!") else 0
    return script[start:].strip()
