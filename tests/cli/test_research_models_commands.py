"""research train, predict and leak-check as a user types them, on real files."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, ModuleType

import numpy as np
import pandas as pd
import polars as pl
import pytest

import slipstream.strategies
from slipstream.cli.errors import run
from slipstream.cli.main import app
from slipstream.core.bars import resample
from slipstream.core.forecast.model_inputs import forecast_as_of
from slipstream.core.panel import HOUR_MS, FloatArray, Panel, View, to_ms, utc
from slipstream.lake import load_panel
from slipstream.lake.synthetic import synthetic_market
from slipstream.lake.synthetic_config import SyntheticConfig
from slipstream.research.model_store import load_models
from slipstream.research.training import TrainingSettings, train_model
from slipstream.strategies import STRATEGY_REGISTRY, StrategyInfo, list_strategies


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An hourly panel file of 14 coins over 115 days."""
    market = synthetic_market(SyntheticConfig(coins=14, hours=115 * 24, seed=9, volume_usd_per_hour=2e6)).panel
    opened = pl.Series("ts", market.known_at_ms - HOUR_MS).cast(pl.Datetime("ms", "UTC"))
    typical = (market.high + market.low + market.close) / 3.0
    settled = np.vstack((np.zeros((1, len(market.coins))), np.nan_to_num(market.funding[:-1])))
    frames = [
        pl.DataFrame(
            {
                "ts": opened,
                "coin": [name] * market.rows,
                **{what: getattr(market, what)[:, i] for what in ("open", "high", "low", "close")},
                "volume": market.volume_usd[:, i] / typical[:, i],
                "funding": settled[:, i],  # the rate stamped at the bar's open closes the bar before
            }
        ).filter(pl.col("close").is_not_nan())
        for i, name in enumerate(market.coins)
    ]
    path = tmp_path_factory.mktemp("data") / "bars.parquet"
    pl.concat(frames).write_parquet(path)
    return path


@pytest.fixture(scope="module")
def panel(file: Path) -> Panel:
    return resample(load_panel(file), 4)


@pytest.fixture(scope="module")
def models(file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models trained every ten days."""
    folder = tmp_path_factory.mktemp("models")
    words = ["--data", file, "--H", "8", "--out", folder, "--retrain", "10d", "--n-bootstrap", "0"]
    words += ["--registry", tmp_path_factory.mktemp("registry") / "runs.sqlite"]
    assert slipstream_("research", "train", *words) == 0
    return folder


def slipstream_(*words: object) -> int:
    return run(app, [str(word) for word in words])


def test_the_folder_holds_a_model_for_the_end_of_every_period(models: Path, panel: Panel) -> None:
    dated = load_models(models)
    assert len(dated) >= 4
    assert len(list(models.glob("*.md"))) == len(dated)
    assert dated.usable_from[-1] == int(panel.known_at_ms[-1])


def test_a_trained_file_is_the_model_of_the_library(file: Path, panel: Panel, tmp_path: Path) -> None:
    until = utc(int(panel.known_at_ms[600]))
    words = ["--data", file, "--H", "8", "--out", tmp_path, "--until", until.isoformat(), "--n-bootstrap", "20"]
    words += ["--registry", tmp_path / "runs.sqlite"]
    assert slipstream_("research", "train", *words) == 0
    with pytest.warns(UserWarning, match="dropped spans"):
        expected = train_model(panel, TrainingSettings(8, n_bootstrap=20), until_ms=to_ms(until))
    assert load_models(tmp_path).models[0].to_json() == expected.to_json()


def test_training_says_what_it_did(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--data", file, "--H", "12", "--out", tmp_path, "--n-bootstrap", "20", "--json"]
    words += ["--registry", tmp_path / "runs.sqlite"]
    assert slipstream_("research", "train", *words) == 0
    said = json.loads(capsys.readouterr().out)
    assert slipstream_("research", "runs", "--registry", tmp_path / "runs.sqlite", "--json") == 0
    (recorded,) = json.loads(capsys.readouterr().out)["runs"]
    assert (recorded["kind"], recorded["status"]) == ("train", "finished")
    assert recorded["result"]["models"][0]["content_hash"] == said["models"][0]["content_hash"]
    (model,) = said["models"]
    assert Path(model["file"]).is_file()
    assert (model["H"], model["bar_hours"]) == (12, 4)
    assert {"r2_funding_money", "r2_combined_sigma", "content_hash", "usable_from"} <= set(model)
    assert any("2 h" in note for note in said["notes"])


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_predictions_on_file_are_those_in_memory(
    suffix: str, file: Path, models: Path, panel: Panel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / f"f{suffix}"
    assert slipstream_("research", "predict", "--data", file, "--models", models, "--out", out, "--json") == 0
    said = json.loads(capsys.readouterr().out)
    frame = pl.read_csv(out) if suffix == ".csv" else pl.read_parquet(out)
    view = panel.view()
    expected = forecast_as_of(load_models(models).as_of(view.known_at_ms), view)
    place = [panel.coins.index(coin) for coin in frame["coin"]]
    assert len(place) == int(np.isfinite(expected.alpha_total).sum()) == said["coins"] > 8
    for name, values in (
        ("alpha_price", expected.alpha_price),
        ("alpha_funding", expected.funding),
        ("alpha_total", expected.alpha_total),
    ):
        np.testing.assert_allclose(frame[name].to_numpy(), values[place], rtol=1e-12, atol=0.0)
        np.testing.assert_allclose([row[name] for row in said["forecasts"]], values[place], rtol=1e-12, atol=0.0)
    assert pd.Timestamp(str(frame["known_at"][0])).value // 1_000_000 == view.known_at_ms or suffix == ".parquet"
    assert said["known_at"] == utc(view.known_at_ms).isoformat()


def test_an_earlier_moment_uses_the_model_and_the_data_of_then(
    file: Path, models: Path, panel: Panel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dated = load_models(models)
    at = utc(dated.usable_from[1] - 1)
    out = tmp_path / "then.parquet"
    words = ["--data", file, "--models", models, "--out", out, "--at", at.isoformat(), "--json"]
    assert slipstream_("research", "predict", *words) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["model"]["content_hash"] == dated.models[0].content_hash
    row = panel.row_at(to_ms(at))
    expected = forecast_as_of(dated.models[0], panel.until(row).view())
    known = np.isfinite(expected.alpha_total)
    np.testing.assert_array_equal(pl.read_parquet(out)["alpha_total"].to_numpy(), expected.alpha_total[known])


def test_a_model_trained_later_is_refused_and_nothing_is_written(
    file: Path, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = utc(load_models(models).usable_from[0] - 1)
    out = tmp_path / "f.csv"
    words = ["--data", file, "--models", models, "--out", out, "--at", before.isoformat()]
    assert slipstream_("research", "predict", *words) == 1
    assert "no model may be used at" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["predict", "--models", "{models}", "--out", "f.txt"], ".csv or a .parquet"),
        (["predict", "--models", "{models}/none", "--out", "f.csv"], "cannot be read"),
        (["predict", "--models", "{models}", "--out", "f.csv", "--H", "12"], "no model of H = 12 h"),
        (["predict", "--models", "{models}", "--out", "f.csv", "--at", "2001-01-01"], "the data begin later"),
        (["predict", "--models", "{models}", "--out", "f.csv", "--at", "noon"], "--at 'noon'"),
        (["train", "--retrain", "monthly"], "--retrain monthly"),
        (["train", "--H", "7"], "does not consist of bars"),
        (["train", "--until", "2001-01-01"], "begins after"),
        (["leak-check", "--strategy", "template", "--models", "{models}"], "decides without models"),
        (["leak-check", "--strategy", "carri"], "did you mean 'carry'"),
    ],
)
def test_what_cannot_be_answered_is_refused_in_one_line(
    words: list[str],
    said: str,
    file: Path,
    models: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    filled = [word.format(models=models) for word in words]
    assert slipstream_("research", *filled, "--data", file) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not any(tmp_path.rglob("*.json"))


@pytest.mark.parametrize("slug", [*list_strategies(), "carry with models"])
def test_the_registered_strategies_pass_the_leak_check(
    slug: str, file: Path, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    extra = ["--models", models] if slug != slug.split()[0] else []
    words = ["--strategy", slug.split()[0], "--data", file, "--moments", "5", *extra]
    assert slipstream_("research", "leak-check", *words) == 0
    assert capsys.readouterr().out.rstrip().endswith("no leak was found")


@dataclass(frozen=True)
class LeakingConfig:
    """Nothing to set."""


def targets(view: View, config: LeakingConfig | None = None) -> FloatArray:
    """Momentum whose mean is that of the whole history: the fault of many a notebook."""

    def scores(longest: View) -> FloatArray:
        moved = np.nan_to_num(longest.log_return)
        return moved - moved.mean(axis=0)

    today = view.feature(scores)[-1] if view._whole is None else view._whole.feature(scores)[view.rows - 1]
    weights = np.where(view.tradable, today, 0.0)
    return np.asarray(weights / max(float(np.abs(weights).sum()), 1e-12))


def test_a_leaking_strategy_of_a_users_own_is_caught_with_time_and_coin(
    file: Path, panel: Panel, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = ModuleType("leaking_strategy")
    module.LeakingConfig, module.targets = LeakingConfig, targets  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "leaking_strategy", module)
    info = StrategyInfo("leaking", "Leaking", "leaking_strategy", "Knows too much.")
    registry = MappingProxyType({**STRATEGY_REGISTRY, "leaking": info})
    monkeypatch.setattr(slipstream.strategies, "STRATEGY_REGISTRY", registry)
    words = ["research", "leak-check", "--strategy", "leaking", "--data", file, "--moments", "4"]
    assert slipstream_(*words) == 1
    out = capsys.readouterr().out
    assert out.rstrip().endswith("a leak was found")
    assert any(coin in out for coin in panel.coins)
    assert slipstream_(*words, "--json") == 1
    said = json.loads(capsys.readouterr().out)
    assert said["leaks"]
    assert {found["question"] for found in said["differences"]} >= {"cut"}
    assert all(found["coin"] in panel.coins for found in said["differences"])


def test_a_file_of_scores_that_holds_the_next_return_is_caught(
    file: Path, panel: Panel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index = pd.to_datetime(panel.known_at_ms, unit="ms", utc=True).strftime("%Y-%m-%dT%H:%M:%SZ")
    moved = panel.view().log_return
    for name, shift, code in (("ahead", -1, 1), ("behind", 0, 0)):
        values = np.roll(moved, shift, axis=0)
        pd.DataFrame(values, index=pd.Index(index, name="known_at"), columns=list(panel.coins)).to_csv(
            tmp_path / f"{name}.csv"
        )
        words = ["--strategy", "template", "--data", file, "--moments", "2", "--scores-csv", tmp_path / f"{name}.csv"]
        assert slipstream_("research", "leak-check", *words) == code
        assert ("LEAK  price" in capsys.readouterr().out) is bool(code)
