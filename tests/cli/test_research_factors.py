"""``slipstream research factors`` and ``scripts/build_pca_factor.py`` as a user meets them."""

from __future__ import annotations

import re
import subprocess
import sys
import xml.etree.ElementTree as ET

import numpy as np
import pandas as pd
import polars as pl
import pytest

from slipstream.cli.errors import run
from slipstream.cli.research import research
from slipstream.core.bars import resample
from slipstream.core.factors.pca import rolling_pca
from slipstream.lake import load_panel
from slipstream.lake.panel_file import read_panel_file
from slipstream.lake.panel_import import import_frame
from slipstream.lake.store import Lake
from slipstream.lake.synthetic import SyntheticConfig, synthetic_market
from slipstream.lake.wide_csv import read_wide_csv
from wide_files import export_csv

HOURS = 24 * 30


@pytest.fixture(scope="module")
def panel_file(tmp_path_factory):
    panel = synthetic_market(SyntheticConfig(coins=14, hours=HOURS, seed=6, late_listings=0.1)).panel
    opened = pl.Series("ts", panel.known_at_ms - 3_600_000).cast(pl.Datetime("ms", "UTC"))
    usd_price = (panel.high + panel.low + panel.close) / 3.0
    frames = [
        pl.DataFrame(
            {
                "ts": opened,
                "coin": [name] * panel.rows,
                "open": panel.open[:, i],
                "high": panel.high[:, i],
                "low": panel.low[:, i],
                "close": panel.close[:, i],
                "volume": panel.volume_usd[:, i] / usd_price[:, i],
                "funding": panel.funding[:, i],
            }
        ).filter(pl.col("close").is_not_nan())
        for i, name in enumerate(("BTC", *panel.coins[1:]))
    ]
    file = tmp_path_factory.mktemp("market") / "panel.parquet"
    pl.concat(frames).write_parquet(file)
    return file


def factors(*words: object) -> int:
    return run(research, ["factors", *(str(word) for word in words)])


@pytest.fixture(scope="module")
def built(panel_file, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "features"
    assert factors("--data", panel_file, "--H", 4, 8, 12, "--output-dir", out, "--compare-all") == 0
    return out


def test_one_file_and_its_coefficients_for_each_h(built) -> None:
    names = {f"pca_factor_H{h}_K30_sqrt{part}.csv" for h in (4, 8, 12) for part in ("", "_coefs")}
    names |= {f"pca_methods_H{h}_K30.html" for h in (4, 8, 12)}
    assert {file.name for file in built.iterdir()} == names
    assert [entry.name for entry in built.parent.iterdir()] == ["features"]


def test_the_files_hold_what_rolling_pca_gives_on_the_resampled_panel(built, panel_file) -> None:
    panel = resample(load_panel(panel_file), 4)
    index = pd.to_datetime(panel.known_at_ms, unit="ms", utc=True)
    coins = list(panel.coins)
    returns = pd.DataFrame(panel.view().log_return, index, coins)
    peer = rolling_pca(returns, pd.DataFrame(panel.volume_usd, index, coins), K=30, H_hours=8)
    beta = read_wide_csv(built / "pca_factor_H8_K30_sqrt.csv")
    coefs = read_wide_csv(built / "pca_factor_H8_K30_sqrt_coefs.csv")
    assert (beta.index == peer.beta.index).all()
    assert list(beta.columns) == [
        *coins,
        "_variance_explained",
        "_pc1_eigenvalue",
        "_condition_number",
        "_n_assets",
    ]
    np.testing.assert_array_equal(beta[coins], peer.beta)
    np.testing.assert_array_equal(beta[peer.stats.columns], peer.stats)
    np.testing.assert_array_equal(coefs, peer.coefs)


def test_the_screen_shows_rows_assets_variance_and_the_largest_betas_with_their_volume(
    panel_file, tmp_path, capsys
) -> None:
    assert factors("--data", panel_file, "--H", 8, "--output-dir", tmp_path) == 0
    text = capsys.readouterr().out
    assert "pca_factor_H8_K30_sqrt.csv" in text
    assert re.search(r"rows +\d+, known 2024-01-1\d \d\d:00 to 2024-01-31 00:00 UTC", text)
    assert re.search(r"assets +\d+ to \d+ per window, 14 in all", text)
    assert re.search(r"variance explained +\d\d\.\d% \(median\)", text)
    betas = [float(line.split()[1]) for line in text.splitlines() if line.endswith("USD a day")]
    assert len(betas) == 5
    assert betas == sorted(betas, reverse=True)
    written = read_wide_csv(tmp_path / "pca_factor_H8_K30_sqrt.csv").filter(regex="^[^_]").iloc[-1]
    assert betas[0] == pytest.approx(written.max(), abs=0.006)


def test_three_components_have_their_own_columns_and_file_name(panel_file, tmp_path, capsys) -> None:
    assert factors("--data", panel_file, "--H", 8, "--n-components", 3, "--output-dir", tmp_path) == 0
    beta = read_wide_csv(tmp_path / "pca_factor_H8_K30_sqrt_3pc.csv")
    assert {"BTC_pc1", "BTC_pc3", "_variance_explained_pc2", "_eigenvalue_pc3", "_n_assets"} <= set(beta.columns)
    assert (tmp_path / "pca_factor_H8_K30_sqrt_3pc_coefs.csv").is_file()
    assert len(re.findall(r"\d\d\.\d%", capsys.readouterr().out)) >= 1


def test_a_lake_an_hourly_file_and_exported_csv_give_one_factor(panel_file, built, tmp_path) -> None:
    import_frame(read_panel_file(panel_file), Lake.open(tmp_path / "lake", create=True))
    assert factors("--data", tmp_path / "lake", "--H", 8, "--output-dir", tmp_path / "a") == 0
    export_csv(resample(load_panel(panel_file), 4), tmp_path / "data" / "market_data", "4h")
    assert factors("--data-dir", tmp_path / "data", "--H", 8, "--output-dir", tmp_path / "b") == 0
    name = "pca_factor_H8_K30_sqrt.csv"
    assert (tmp_path / "a" / name).read_bytes() == (built / name).read_bytes()
    np.testing.assert_allclose(
        read_wide_csv(tmp_path / "b" / name), read_wide_csv(built / name), rtol=1e-9, atol=1e-9, equal_nan=True
    )


def test_an_h_longer_than_the_history_is_reported_and_the_others_are_written(panel_file, tmp_path, capsys) -> None:
    assert factors("--data", panel_file, "--H", 8, 48, "--output-dir", tmp_path) == 1
    text = capsys.readouterr().out
    assert "left out: H = 48 h: the history holds 14 bars of 48 h and one window needs 30" in text
    assert {file.name for file in tmp_path.iterdir()} == {
        "pca_factor_H8_K30_sqrt.csv",
        "pca_factor_H8_K30_sqrt_coefs.csv",
    }


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        (["--H", "6"], "H = 6 h is no multiple of the 4 h bar"),
        (["--H", "8", "--interval", "4hours"], "--interval 4hours"),
        (["--H", "8", "--min-periods", "40"], "min_periods is 40; it must be 3 to 30"),
        (["--H", "0"], "H_hours is 0"),
    ],
)
def test_a_request_that_cannot_be_met_ends_with_2_and_writes_nothing(
    panel_file, tmp_path, capsys, words, cause
) -> None:
    out = tmp_path / "features"
    assert factors("--data", panel_file, "--output-dir", out, *words) == 2
    said = capsys.readouterr()
    assert cause in said.err
    assert len(said.err.strip().splitlines()) == 1
    assert not out.exists()


def test_unknown_methods_and_absent_files_end_with_2_and_say_what_to_do(tmp_path, capsys) -> None:
    assert factors("--weight-method", "volume", "--data", "x.parquet") == 2
    assert factors("--data-dir", tmp_path, "--H", 8) == 2
    assert "slipstream data export --data FILE --interval 4h" in capsys.readouterr().err
    assert factors("--data", tmp_path / "none.parquet") == 2
    assert "no such file or folder" in capsys.readouterr().err


def test_csv_files_without_volumes_need_equal_weights(panel_file, tmp_path, capsys) -> None:
    folder = tmp_path / "market_data"
    export_csv(resample(load_panel(panel_file), 4), folder, "4h")
    (folder / "volume_usd_4h.csv").unlink()
    assert factors("--data-dir", tmp_path, "--output-dir", tmp_path / "out") == 2
    assert 'use the weight method "none"' in capsys.readouterr().err
    words = ("--data-dir", tmp_path, "--output-dir", tmp_path / "out", "--weight-method", "none", "--compare-all")
    assert factors(*words) == 0
    assert (tmp_path / "out" / "pca_methods_H8_K30.html").is_file()


def test_a_window_outside_20_to_60_bars_is_noted(panel_file, tmp_path, capsys) -> None:
    assert factors("--data", panel_file, "--K", 10, "--output-dir", tmp_path) == 0
    assert "note: K = 10 lies outside 20 to 60" in capsys.readouterr().out


def test_the_page_draws_every_method_and_needs_nothing_but_itself(built) -> None:
    page = (built / "pca_methods_H8_K30.html").read_text("utf-8")
    drawings = re.findall(r"<svg class=\"lines\".*?</svg>", page, flags=re.DOTALL)
    assert len(drawings) == 2
    for drawing in drawings:
        svg = ET.fromstring(drawing)
        lines = svg.findall("path")
        assert [line.find("title").text for line in lines] == ["none", "sqrt", "log", "dollar"]
        for line in lines:
            x, y = np.array(re.findall(r"[ML]([\d.]+) ([\d.]+)", line.get("d")), dtype=float).T
            assert len(x) > 30
            assert (np.diff(x) > 0).all()
            assert (y >= 0.0).all()
            assert (y <= 260.0).all()
    assert "Beta of BTC" in page
    assert not re.search(r"(?:src|href)=|url\(|<script|https?:", page)


def test_the_page_is_the_same_bytes_each_time(built, panel_file, tmp_path) -> None:
    assert factors("--data", panel_file, "--H", 8, "--output-dir", tmp_path, "--compare-all") == 0
    for name in ("pca_methods_H8_K30.html", "pca_factor_H8_K30_sqrt.csv"):
        assert (tmp_path / name).read_bytes() == (built / name).read_bytes()


def test_the_documented_script_is_the_same_command(built, panel_file, tmp_path, repository) -> None:
    script = repository / "scripts" / "build_pca_factor.py"
    words = ["--H", "4", "8", "--K", "30", "--weight-method", "sqrt", "--data", panel_file, "--output-dir", tmp_path]
    done = subprocess.run([sys.executable, script, *words], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    name = "pca_factor_H8_K30_sqrt.csv"
    assert (tmp_path / name).read_bytes() == (built / name).read_bytes()


def test_asking_for_help_loads_no_heavy_library() -> None:
    code = (
        "import sys\nfrom slipstream.cli.errors import run\nfrom slipstream.cli.research import research\n"
        "assert run(research, ['factors', '--help']) == 0\n"
        "print('loaded:', *(name for name in ('numpy', 'numba', 'pandas', 'polars', 'scipy') if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].strip() == "loaded:"


def test_real_history_has_a_market_that_bitcoin_is_part_of(shared, tmp_path, capsys) -> None:
    file = shared / "data" / "hourly" / "hyperliquid_perps_1h.parquet"
    if not file.is_file():
        pytest.skip(f"real recordings are absent: expected {file}")
    assert factors("--data", file, "--H", 8, "--output-dir", tmp_path) == 0
    beta = read_wide_csv(tmp_path / "pca_factor_H8_K30_sqrt.csv")
    assert len(beta) > 600
    assert 0.3 < beta["_variance_explained"].median() < 0.8
    assert 0.2 < beta["BTC"].median() < 1.0
    assert beta["BTC"].notna().all()
