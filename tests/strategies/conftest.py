"""Markets the strategies are tried on: small, seeded, with listings, gaps and unrecorded settlements."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from slipstream.core.bars import resample
from slipstream.core.panel import Panel
from slipstream.lake.synthetic import SyntheticConfig, synthetic_market
from wide_files import export_csv


@pytest.fixture(scope="session")
def hourly_market() -> Panel:
    """24 coins over 110 days of hourly bars; a tenth list late, some bars and settlements are missing."""
    panel = synthetic_market(SyntheticConfig(coins=24, hours=110 * 24, seed=7, volume_usd_per_hour=2e6)).panel
    random = np.random.default_rng(7)
    gap = random.random(panel.close.shape) < 0.002
    holes = {name: np.where(gap, np.nan, getattr(panel, name)) for name in ("open", "high", "low", "close")}
    unrecorded = np.where(random.random(panel.funding.shape) < 0.003, np.nan, panel.funding)
    return replace(panel, **holes, funding=unrecorded, universe=panel.universe & ~gap)


@pytest.fixture(scope="session")
def market(hourly_market: Panel) -> Panel:
    """The same in four-hour bars."""
    return resample(hourly_market, 4)


@pytest.fixture(scope="session")
def market_csv(market: Panel, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Wide files of the four-hour market: flag -> path."""
    returns, funding, volume = export_csv(market, tmp_path_factory.mktemp("market"), "4h")
    return {"--returns-csv": returns, "--funding-csv": funding, "--volume-csv": volume}
