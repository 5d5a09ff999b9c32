"""``slipstream research``: from bars to factors, forecasts and a holding period that can be believed."""

from __future__ import annotations

from cyclopts import App

research = App(
    name="research", help="Research: factors, models, leak check, recorded runs.", suppress_keyboard_interrupt=False
)
research.command(
    "slipstream.cli.research_factors:factors", name="factors", help="Rolling market factor: betas and coefficients."
)
research.command(
    "slipstream.cli.research_models:train", name="train", help="Train models of price and funding into a folder."
)
research.command(
    "slipstream.cli.research_models:predict", name="predict", help="What trained models say of the last closed bar."
)
research.command("slipstream.cli.research_leaks:leak_check", name="leak-check", help="Does a strategy know the future?")
research.command("slipstream.cli.research_runs:runs", name="runs", help="Recorded runs, and how many trials they make.")
research.command(
    "slipstream.cli.research_horizon:horizon", name="horizon", help="Which holding period keeps most after costs."
)
