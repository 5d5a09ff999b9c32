"""Where a parameter comes from: the later layer wins, its origin is known, and a misspelt key stops the run."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from slipstream.strategies import UnknownStrategy, list_strategies
from slipstream.strategies.bar_backtest import BarBacktestConfig
from slipstream.strategies.config_layers import ConfigError, load_layered_config, variable_prefix
from slipstream.strategies.gradient import GradientConfig


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A configuration folder in which every layer sets top_n, and each one thing of its own."""
    place = tmp_path / "config"
    (place / "environments" / "live").mkdir(parents=True)
    (place / "global.yml").write_text("top_n: 1\nbacktest:\n  fee_bps: 1.0\n  kappa: 0.5\n")
    (place / "gradient.yml").write_text("top_n: 2\nlookbacks: [8, 16]\nbacktest: {fee_bps: 2.5}\n")
    (place / "environments" / "live" / "gradient.yml").write_text("top_n: 3\nmax_gross: 1\n")
    return place


def test_the_later_layer_wins(folder: Path) -> None:
    variables = {"SLIPSTREAM_GRADIENT_TOP_N": "4"}
    overrides = {"top_n": 5}
    found = [
        load_layered_config("gradient", environ={}, folder=folder / "none"),
        load_layered_config("gradient", environ={}, folder=folder),
        load_layered_config("gradient", "live", environ={}, folder=folder),
        load_layered_config("gradient", "live", environ=variables, folder=folder),
        load_layered_config("gradient", "live", overrides, environ=variables, folder=folder),
    ]
    assert [config.strategy_config().top_n for config in found] == [5, 2, 3, 4, 5]
    assert [config.origin("top_n").rsplit("/", 2)[-1] for config in found] == [
        "default",
        "gradient.yml",
        "gradient.yml",
        "environment variable SLIPSTREAM_GRADIENT_TOP_N",
        "overrides",
    ]
    assert "live" in found[2].origin("top_n")


def test_sections_merge_and_do_not_replace(folder: Path) -> None:
    config = load_layered_config(
        "gradient",
        overrides={"backtest": {"capital_usd": 5e4}},
        environ={"SLIPSTREAM_GRADIENT_BACKTEST__HALF_SPREAD_BPS": "7"},
        folder=folder,
    )
    assert config.backtest_config() == BarBacktestConfig(capital_usd=5e4, fee_bps=2.5, half_spread_bps=7.0, kappa=0.5)
    assert config.origin("backtest.kappa").endswith("global.yml")
    assert config.origin("backtest.half_spread_bps").endswith("SLIPSTREAM_GRADIENT_BACKTEST__HALF_SPREAD_BPS")
    assert config.strategy_config() == GradientConfig(lookbacks=(8.0, 16.0), top_n=2)


def test_variables_are_read_from_the_process(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIPSTREAM_GRADIENT_LOOKBACKS", "[32, 64]")
    monkeypatch.setenv("SLIPSTREAM_GRADIENT_BOTTOM_N", "null")
    config = load_layered_config("gradient", folder=folder).strategy_config()
    assert config.lookbacks == (32.0, 64.0)
    assert config.bottom_n is None


def test_a_free_mapping_takes_any_key(tmp_path: Path) -> None:
    environ = {"SLIPSTREAM_TEMPLATE_METADATA__AUTHOR": "someone"}
    config = load_layered_config("template", overrides={"metadata": {"note": "x"}}, environ=environ, folder=tmp_path)
    assert config.strategy_config().metadata == {"author": "someone", "note": "x"}


def test_another_strategys_variables_are_left_alone(folder: Path) -> None:
    environ = {"SLIPSTREAM_CARRY_LEVERAGE": "9", "SLIPSTREAM_OTHER": "1", "PATH": "x"}
    assert load_layered_config("gradient", environ=environ, folder=folder).strategy_config().top_n == 2
    assert variable_prefix("my-idea") == "SLIPSTREAM_MY_IDEA_"


def test_a_named_file_is_read_in_place_of_the_strategys(folder: Path, tmp_path: Path) -> None:
    named = tmp_path / "mine.json"
    named.write_text('{"max_gross": 0.7}')
    config = load_layered_config("gradient", environ={}, folder=folder, file=named)
    assert config.strategy_config().max_gross == 0.7
    assert config.strategy_config().top_n == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("top_m: 3", r"gradient\.yml: unknown key 'top_m'; did you mean 'top_n'\?"),
        ("backtest: {fee_bp: 3}", r"unknown key 'backtest\.fee_bp'; did you mean 'backtest\.fee_bps'\?"),
        ("Top_N: 3", "did you mean 'top_n'"),
        ("top_n: many", "top_n is 'many'; expected a whole number"),
        ("top_n: 2.5", "expected a whole number"),
        ("top_n: true", "expected a whole number"),
        ("max_gross: high", "expected a number"),
        ("lookbacks: 8", "expected a list, each a number"),
        ("lookbacks: [8, x]", r"lookbacks\[1\] is 'x'"),
        ("risk_method: hope", "expected 'dollar_vol' or 'var'"),
        ("backtest: 3", "expected keys below it"),
        ("- top_n", "holds a list"),
        ("top_n: [", "cannot be read"),
    ],
)
def test_a_layer_that_cannot_be_used_is_named(folder: Path, text: str, message: str) -> None:
    (folder / "gradient.yml").write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        load_layered_config("gradient", environ={}, folder=folder)
    assert "gradient.yml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_variable_or_override_is_named(folder: Path) -> None:
    with pytest.raises(ConfigError, match="environment variable SLIPSTREAM_GRADIENT_TOPN: unknown key 'topn'"):
        load_layered_config("gradient", environ={"SLIPSTREAM_GRADIENT_TOPN": "3"}, folder=folder)
    with pytest.raises(ConfigError, match="overrides: unknown key 'leverage'"):
        load_layered_config("gradient", overrides={"leverage": 1.0}, environ={}, folder=folder)


def test_a_file_or_environment_that_does_not_exist_is_answered_with_what_does(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"nearest one that exists is .*gradient\.yml"):
        load_layered_config("gradient", environ={}, folder=folder, file=folder / "gradiant.yml")
    with pytest.raises(ConfigError, match="there are: live"):
        load_layered_config("gradient", "prod", environ={}, folder=folder)
    with pytest.raises(UnknownStrategy, match="gradient"):
        load_layered_config("gradiant", environ={}, folder=folder)


def test_two_files_for_one_layer_are_refused(folder: Path) -> None:
    (folder / "gradient.json").write_text("{}")
    with pytest.raises(ConfigError, match="both exist"):
        load_layered_config("gradient", environ={}, folder=folder)


def test_a_value_the_strategy_refuses_is_refused(folder: Path) -> None:
    with pytest.raises(Exception, match="at least one coin"):
        load_layered_config("gradient", overrides={"top_n": 0}, environ={}, folder=folder).strategy_config()


@pytest.mark.parametrize("slug", list_strategies())
def test_the_shipped_files_hold_every_parameter_at_its_default(slug: str, repository: Path) -> None:
    config = load_layered_config(slug, environ={}, folder=repository / "config")
    assert config.strategy_config() == type(config.strategy_config())()
    assert config.backtest_config() == BarBacktestConfig()
    written = yaml.safe_load((repository / "config" / f"{slug}.yml").read_text())
    assert set(written) == {entry.name for entry in fields(config.strategy_config())}
