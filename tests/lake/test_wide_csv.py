"""Reading wide CSV files: what was exported comes back, and what cannot be read is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from slipstream.core.bars import resample
from slipstream.core.frames import panel_from_returns
from slipstream.errors import DataError
from slipstream.lake.synthetic import SyntheticConfig, synthetic_market
from slipstream.lake.wide_csv import read_wide_csv
from wide_files import export_csv

GOOD = "known_at,BTC,kPEPE\n2025-01-01T04:00:00Z,0.01,\n2025-01-01T08:00:00Z,-0.02,0.5\n"


def test_a_panel_survives_export_and_return(tmp_path: Path) -> None:
    panel = resample(synthetic_market(SyntheticConfig(coins=8, hours=1500, seed=3)).panel, 4)
    files = export_csv(panel, tmp_path, "4h")
    back = panel_from_returns(*(read_wide_csv(file) for file in files))
    assert back.coins == panel.coins
    np.testing.assert_array_equal(back.known_at_ms[1:], panel.known_at_ms)
    np.testing.assert_allclose(back.view().log_return[1:], panel.view().log_return, atol=1e-12)
    np.testing.assert_array_equal(back.universe[1:], panel.universe)
    alive = ~np.isnan(panel.close)
    np.testing.assert_array_equal(back.funding[1:][alive], panel.funding[alive])
    np.testing.assert_array_equal(back.volume_usd[1:], panel.volume_usd)


def test_an_empty_cell_is_unknown_and_names_keep_their_case(tmp_path: Path) -> None:
    file = tmp_path / "returns.csv"
    file.write_text(GOOD)
    frame = read_wide_csv(file)
    assert list(frame.columns) == ["BTC", "kPEPE"]
    assert np.isnan(frame.iloc[0, 1])
    assert frame.iloc[1, 1] == 0.5
    assert str(frame.index.tz) == "UTC"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be read as CSV"),
        ("known_at,BTC\n", "0 rows of 1 coins"),
        ("known_at\n2025-01-01T04:00:00Z\n", "of 0 coins"),
        ("known_at,BTC,BTC\n2025-01-01T04:00:00Z,1,2\n", "column BTC is there twice"),
        (GOOD.replace("0.5", "half"), "line 3, column kPEPE: 'half' is not a finite number"),
        (GOOD.replace("0.5", "inf"), "line 3, column kPEPE: 'inf' is not a finite number"),
        (GOOD.replace("2025-01-01T08:00:00Z", "noon"), "line 3, column known_at: 'noon' is not a time"),
        (GOOD.replace("T08", "T04"), "line 3: .* is there twice"),
        (GOOD.replace("T08", "T02"), "line 3: .* comes before the line above it"),
        (GOOD + "2025-01-01T12:00:00Z,1,2,3\n", "cannot be read as CSV"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "returns.csv"
    file.write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        read_wide_csv(file)
    assert "returns.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_absent_file_is_answered_with_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "returns_4h.csv").write_text(GOOD)
    with pytest.raises(DataError, match=r"returns_4h\.csv"):
        read_wide_csv(tmp_path / "return_4h.csv")
