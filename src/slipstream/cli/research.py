"""``slipstream research``: from bars to factors, forecasts and a holding period that can be believed."""

from __future__ import annotations

from cyclopts import App

research = App(name="research", help="Research: factors, recorded runs.", suppress_keyboard_interrupt=False)
research.command(
    "slipstream.cli.research_factors:factors", name="factors", help="Rolling market factor: betas and coefficients."
)
research.command("slipstream.cli.research_runs:runs", name="runs", help="Recorded runs, and how many trials they make.")
