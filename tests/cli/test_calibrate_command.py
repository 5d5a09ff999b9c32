"""``slipstream calibrate-costs`` as a user meets it: a table, a page, figures, one-line errors."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from slipstream.cli.calibrate import app
from slipstream.cli.errors import run
from synthetic_books import START_MS, Market, write_books

HOUR_MS = 3_600_000


@pytest.fixture(scope="module")
def recording(tmp_path_factory) -> Path:
    """A liquid and a thin coin; the thin one's books often end before 100k."""
    file = tmp_path_factory.mktemp("books") / "books.parquet"
    liquid = Market(half_spread_bps=0.2, k=0.002, reach_bps=4.0, levels=80).history(400, coin="AAA")
    thin = Market(reach_bps=12.0, levels=60).history(400, 8, coin="kBBB")
    return write_books(file, liquid, thin)


@pytest.fixture(scope="module")
def panel_file(tmp_path_factory) -> Path:
    """Fifty days of candles of AAA, the last closing a day before the recording."""
    hours = 24 * 50
    close = 100.0 * np.exp(np.cumsum(0.01 * np.random.default_rng(5).standard_normal(hours)))
    opens = START_MS // HOUR_MS * HOUR_MS - HOUR_MS * np.arange(hours + 24, 24, -1)
    file = tmp_path_factory.mktemp("panel") / "panel.parquet"
    pl.DataFrame(
        {
            "ts": pl.Series(opens).cast(pl.Datetime("ms", "UTC")),
            "coin": ["AAA"] * hours,
            "open": close,
            "high": close,
            "low": close,
            "close": close,
            "volume": np.full(hours, 1e6 / 24.0) / close * 100.0,
            "funding": np.full(hours, 1.25e-5),
        }
    ).write_parquet(file)
    return file


@pytest.fixture(scope="module")
def finished(recording, panel_file, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("run") / "costs"
    assert run(app, ["--books", str(recording), "--data", str(panel_file), "--out", str(out)]) == 0
    return out


def test_a_run_leaves_a_page_and_its_figures_and_nothing_else(finished):
    assert sorted(file.name for file in finished.iterdir()) == ["costs.html", "costs.json"]
    assert [file.name for file in finished.parent.iterdir()] == ["costs"]


def test_the_figures_hold_the_planted_curves_and_the_model_made_of_them(finished):
    figures = json.loads((finished / "costs.json").read_text())
    assert list(figures["coins"]) == ["AAA", "kBBB"]
    liquid, thin = figures["coins"].values()
    assert liquid["k_books"] == pytest.approx(0.002, rel=0.15)
    assert thin["k_books"] == pytest.approx(0.02, rel=0.15)
    assert thin["half_spread_bps"] == pytest.approx(1.0, abs=0.25)
    assert thin["walk"][4]["censored_share"] > 0.15
    for coin in (liquid, thin):
        assert coin["fee_rate"] == pytest.approx(2e-4 + 1e-4 * coin["half_spread_bps"], rel=1e-12)
        assert coin["impact_coef"] == pytest.approx(1e-4 * coin["k_bps_per_sqrt_usd"] * np.sqrt(1e5), rel=1e-12)
        assert coin["k_books_interval"][0] < coin["k_books"] < coin["k_books_interval"][1]


def test_the_prior_is_what_was_known_before_the_recording_and_a_coin_without_bars_has_none(finished, panel_file):
    figures = json.loads((finished / "costs.json").read_text())
    liquid, thin = figures["coins"].values()
    candles = pl.read_parquet(panel_file).tail(720)
    sigma = np.log(candles["close"]).diff().drop_nulls().std() * np.sqrt(24.0)
    volume = (candles["volume"] * candles["close"]).mean() * 24.0
    assert liquid["k_prior"] == pytest.approx(1e4 * sigma / np.sqrt(volume), rel=1e-3)
    assert 0.0 < liquid["books_weight"] < 1.0
    assert thin["k_prior"] is None
    assert thin["books_weight"] == 1.0


def test_the_page_stands_alone_and_draws_every_coin(finished):
    page = (finished / "costs.html").read_text()
    assert page.count("<svg viewBox=") - page.split("<table")[0].count("<svg viewBox=") >= 2
    for coin in ("AAA", "kBBB"):
        assert f"Cost of walking the books of {coin}" in page
    assert not re.search(r"https?://|<script|\bnan\b|\binf\b|n/a", page)
    assert page.count('class="prior"') == 2, "one in the legend, one for the coin that has a prior"
    assert re.search(r'<text class="lost"[^>]*>\d', page), "censored sizes carry their share"


def test_the_table_says_what_was_fitted_in_eighty_columns(recording, tmp_path, capsys):
    assert run(app, ["--books", str(recording), "--out", str(tmp_path / "out"), "--holdout-minutes", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if line.split()[:1] in (["AAA"], ["kBBB"])] == ["AAA", "kBBB"] * 3
    tables = [line for line in lines if not re.match(r"recorded|prior|no prior|page", line)]
    assert max(map(len, tables)) <= 80
    assert not any("…" in line for line in lines)
    assert any(line.startswith("no prior  AAA, kBBB") for line in lines)
    assert any("errors on the last 1.0 min" in line for line in lines)


def test_the_same_run_writes_the_same_bytes_and_json_prints_the_file(recording, panel_file, finished, tmp_path, capsys):
    out = tmp_path / "again"
    assert run(app, ["--books", str(recording), "--data", str(panel_file), "--out", str(out), "--json"]) == 0
    assert capsys.readouterr().out == (out / "costs.json").read_text() == (finished / "costs.json").read_text()
    assert (out / "costs.html").read_bytes() == (finished / "costs.html").read_bytes()


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--capital", "0"], "--capital is 0.0"),
        (["--capital", "nan"], "--capital is nan"),
        (["--fee-bps", "-1"], "--fee-bps is -1.0"),
        (["--holdout-days", "1", "--holdout-minutes", "5"], "say the same"),
        (["--holdout-minutes", "0"], "--holdout-minutes is 0.0"),
        (["--holdout-minutes", "2"], "leaves less than half of AAA's 3.3 min; hold out at most 1.7"),
        (["--data", "nowhere.parquet"], "no such file"),
    ],
)
def test_a_request_that_cannot_be_used_ends_with_one_line_and_code_2(words, complaint, recording, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(app, ["--books", str(recording), "--out", str(out), *words]) == 2
    said = capsys.readouterr().err
    assert complaint in said
    assert said.count("\n") == 1
    assert not out.exists()


def test_a_panel_that_begins_after_the_recording_gives_no_prior_in_silence(recording, panel_file, tmp_path, capsys):
    late = tmp_path / "late.parquet"
    pl.read_parquet(panel_file).with_columns(pl.col("ts").dt.offset_by("90d")).write_parquet(late)
    assert run(app, ["--books", str(recording), "--data", str(late), "--out", str(tmp_path / "out")]) == 2
    assert "begins after the recording" in capsys.readouterr().err


def test_the_launcher_is_the_command(repository):
    done = subprocess.run(
        [sys.executable, repository / "scripts" / "calibrate_costs.py", "--help"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0
    assert "--books" in done.stdout
    assert "--holdout-minutes" in done.stdout


def test_asking_for_help_loads_no_heavy_library():
    code = (
        "import sys\nfrom slipstream.cli.calibrate import app\nfrom slipstream.cli.errors import run\n"
        "run(app, ['--help'])\n"
        "heavy = {'numpy', 'pandas', 'polars', 'numba'} & set(sys.modules)\nassert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
