"""The store: whole files or none, no model in place of another, and never one that was trained later."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.core.factors.pca import rolling_pca
from slipstream.core.forecast.dated_models import DatedModels, NoModelYet, usable_from_ms
from slipstream.core.forecast.errors import ForecastError, ModelError
from slipstream.core.forecast.model import JointModel, LinearModel, ModelCard
from slipstream.core.panel import HOUR_MS
from slipstream.lake.synthetic import synthetic_market
from slipstream.lake.synthetic_config import SyntheticConfig
from slipstream.research.model_store import (
    StoreError,
    file_stem,
    load_joint_model,
    load_models,
    predict_joint,
    save_models,
)

START = 1_735_689_600_000
"""2025-01-01, Unix ms."""


def model_of(day: float, *, H: int = 8, bar_hours: int = 4) -> JointModel:
    """A model whose last training row is known so many days after the start."""

    def part(names: tuple[str, ...]) -> LinearModel:
        p = len(names)
        ones = (1.0,) * p
        return LinearModel(names, (0.0,) * p, ones, 0.01 * day, tuple(0.1 * k for k in range(p)), ones, 0.1, 1000)

    card = ModelCard(START, START, "made here", "ab" * 32, ("BTC",), "all", (10, 10), 42, 0, {"numpy": "2"})
    return JointModel(
        H=H,
        bar_hours=bar_hours,
        K=30,
        pca_method="sqrt",
        spans=(8.0, 64.0),
        vol_span=128.0,
        clips={"momentum": 2.5, "funding": 5.0, "target": 10.0},
        alpha=part(("mom_8", "mom_64", "funding_8", "funding_64")),
        funding=part(("funding_8", "funding_64")),
        trained_through_ms=START + round(day * 24) * HOUR_MS,
        r2={},
        quantile_table=(),
        card=card,
    )


@given(
    days=st.lists(st.integers(0, 200), min_size=1, max_size=6, unique=True),
    moment=st.integers(-24, 24 * 210),
)
def test_the_model_in_force_is_the_latest_that_was_trained_before(days: list[int], moment: int) -> None:
    models = DatedModels(model_of(day) for day in days)
    now = START + moment * HOUR_MS
    usable = [day for day in days if START + (day * 24 + 8 + 4) * HOUR_MS <= now]
    if not usable:
        with pytest.raises(NoModelYet, match="no model may be used"):
            models.as_of(now)
        return
    found = models.as_of(now)
    assert found.trained_through_ms == START + max(usable) * 24 * HOUR_MS
    assert found.trained_through_ms + found.H * HOUR_MS < now


def test_a_model_whose_last_target_ends_at_the_close_is_not_used_at_it() -> None:
    """The settlement stamped at the close is part of that target and is published after it."""
    model = model_of(10)
    target_ends = model.trained_through_ms + 8 * HOUR_MS
    with pytest.raises(NoModelYet):
        DatedModels([model]).as_of(target_ends)
    assert DatedModels([model]).as_of(target_ends + 4 * HOUR_MS) is model


def test_models_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(ModelError, match="no model"):
        DatedModels([])
    with pytest.raises(ModelError, match="H = 8 h on bars of 4 h, H = 24 h on bars of 4 h"):
        DatedModels([model_of(1), model_of(2, H=24)])
    with pytest.raises(ModelError, match=r"both usable from 2025-01-02 12:00 UTC"):
        DatedModels([model_of(1), replace(model_of(1), K=20)])


def test_what_is_saved_is_loaded_with_its_card_beside_it(tmp_path: Path) -> None:
    files = save_models([model_of(40), model_of(10)], tmp_path / "models")
    assert [file.name for file in files] == [
        "joint_model_H8_20250210T1200Z.json",
        "joint_model_H8_20250111T1200Z.json",
    ]
    loaded = load_models(tmp_path / "models")
    assert [model.to_json() for model in loaded.models] == [model_of(10).to_json(), model_of(40).to_json()]
    card = files[0].with_suffix(".md").read_text()
    assert "2025-02-10 12:00 UTC" in card
    assert model_of(40).content_hash[:16] in card
    assert load_models(files[0]).models == (model_of(40),)


def test_saving_again_changes_nothing_and_another_model_of_the_moment_is_refused(tmp_path: Path) -> None:
    (file,) = save_models([model_of(10)], tmp_path)
    before = file.stat().st_mtime_ns
    assert save_models([model_of(10)], tmp_path) == [file]
    assert file.stat().st_mtime_ns == before
    with pytest.raises(ModelError, match="another model of this moment"):
        save_models([model_of(20), replace(model_of(10), K=20)], tmp_path)
    assert sorted(tmp_path.glob("*.json")) == [file]


def test_a_disk_that_fails_leaves_no_part_of_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("slipstream.research.model_store.os.fsync", full)
    with pytest.raises(StoreError, match="No space left"):
        save_models([model_of(10)], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_edited_a_cut_and_an_absent_model_are_refused_by_name(tmp_path: Path) -> None:
    (file,) = save_models([model_of(10)], tmp_path)
    text = file.read_text()
    file.write_text(text.replace('"K": 30', '"K": 31'))
    with pytest.raises(ModelError, match=rf"{file.name}: the content does not have the hash"):
        load_models(tmp_path)
    file.write_text(text[: len(text) // 2])
    with pytest.raises(ModelError, match=file.name):
        load_joint_model(file)
    with pytest.raises(ModelError, match=r"absent\.json: cannot be read"):
        load_joint_model(tmp_path / "absent.json")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ModelError, match="slipstream research train"):
        load_models(empty)


def test_a_folder_of_several_horizons_is_read_one_horizon_at_a_time(tmp_path: Path) -> None:
    save_models([model_of(10), model_of(10, H=24)], tmp_path)
    assert load_models(tmp_path, 24).H == 24
    with pytest.raises(ModelError, match="keep one folder for each"):
        load_models(tmp_path)
    with pytest.raises(ModelError, match=r"no model of H = 12 h; there are H = 8, 24 h"):
        load_models(tmp_path, 12)


def test_a_factor_estimated_beforehand_gives_the_same_forecast() -> None:
    panel = synthetic_market(SyntheticConfig(coins=14, hours=60 * 24, seed=2, volume_usd_per_hour=2e6)).panel
    model = model_of(10, bar_hours=1)
    index = pd.to_datetime(panel.known_at_ms, unit="ms", utc=True)
    returns, volume = (
        pd.DataFrame(values, index=index, columns=list(panel.coins))
        for values in (panel.view().log_return, panel.volume_usd)
    )
    price, paid = predict_joint(model, panel)
    given_price, given_paid = predict_joint(model, panel, rolling_pca(returns, volume, 30, 8, "sqrt"))
    assert np.isfinite(price).sum() > 1000
    np.testing.assert_allclose(given_price, price, rtol=1e-9)
    np.testing.assert_array_equal(given_paid, paid)
    with pytest.raises(ForecastError, match="trained with"):
        predict_joint(model, panel, rolling_pca(returns, volume, 20, 8, "sqrt"))


def test_bars_of_another_length_are_refused() -> None:
    panel = synthetic_market(SyntheticConfig(coins=4, hours=100, seed=2)).panel
    with pytest.raises(ForecastError, match="the model reads bars of 4 h and the data has bars of 1 h"):
        predict_joint(model_of(10), panel)


def test_the_file_is_named_by_the_first_close_that_may_use_it() -> None:
    assert usable_from_ms(model_of(0)) == START + 12 * HOUR_MS
    assert file_stem(model_of(0)) == "joint_model_H8_20250101T1200Z"
