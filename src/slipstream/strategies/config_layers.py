"""Where a strategy's parameters come from: layers, merged deeply, the later one wins.

    1. defaults of the strategy's configuration dataclass
    2. config/global.yml
    3. config/<slug>.yml, or the file named in its place
    4. config/environments/<env>/<slug>.yml
    5. environment variables SLIPSTREAM_<STRATEGY>_<NAME>, with __ between the levels of a nested key
    6. what the caller gives (command line flags, keyword arguments)

A key is a field of the dataclass, or ``backtest``, whose keys are the fields of
:class:`~slipstream.strategies.bar_backtest.BarBacktestConfig`. Any other key is an error that names the nearest valid
one: a misspelt parameter that is silently ignored costs more than a run that stops.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType, NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from slipstream.errors import UsageError
from slipstream.strategies import STRATEGY_REGISTRY, get_strategy_info
from slipstream.strategies.bar_backtest import BarBacktestConfig

FOLDER = Path("config")
SUFFIXES = (".yml", ".yaml", ".json")
BACKTEST = "backtest"


class ConfigError(UsageError):
    """A layer that cannot be used; the message names the file, variable or flag, and the key."""


@dataclass(frozen=True)
class LayeredConfig:
    """What the layers say.

    Attributes:
        strategy: the slug.
        values: key -> value, nested, of every key that some layer sets; checked against the dataclasses' types.
        origins: dotted key -> the layer that set it last: a file, a variable, or "overrides".
    """

    strategy: str
    values: Mapping[str, Any]
    origins: Mapping[str, str]
    _config_class: type = field(repr=False)

    def strategy_config(self) -> Any:
        """The strategy's configuration: the layers over its defaults.

        Raises:
            UsageError: values that do not go together.
        """
        return self._config_class(**{key: value for key, value in self.values.items() if key != BACKTEST})

    def backtest_config(self) -> BarBacktestConfig:
        """How it is traded: the layers' ``backtest`` section over its defaults.

        Raises:
            UsageError: a value out of range.
        """
        return BarBacktestConfig(**self.values.get(BACKTEST, {}))

    def origin(self, key: str) -> str:
        """Where a dotted key's value comes from."""
        return self.origins.get(key, "default")


def load_layered_config(
    strategy: str,
    env: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    *,
    folder: Path = FOLDER,
    file: Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> LayeredConfig:
    """The layered configuration of a registered strategy.

    Args:
        strategy: its slug.
        env: name of an environment, a folder under ``environments``; None: that layer is left out.
        overrides: the last layer, nested like the files.
        folder: where the files lie; a layer whose file is absent says nothing.
        file: read in place of ``<slug>.yml``.
        environ: environment variables; default: those of this process.

    Raises:
        UnknownStrategy: the slug is not registered.
        ConfigError: a named file or environment is absent, a file cannot be read, a key is unknown or a value has the
            wrong type.
    """
    schema = _schema_of(strategy)
    layers = [_file_layer(folder, "global")]
    layers.append(_file_layer(folder, strategy) if file is None else _named_file(file))
    if env is not None:
        layers.append(_environment_layer(folder, env, strategy))
    layers += _variables(strategy, os.environ if environ is None else environ)
    layers.append(("overrides", dict(overrides or {})))
    merged: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for origin, values in layers:
        _merge(merged, values, schema, origin, origins)
    return LayeredConfig(strategy, MappingProxyType(merged), MappingProxyType(origins), _config_class(strategy))


def _config_class(strategy: str) -> type:
    """The one dataclass named in the package as <Something>Config."""
    module = get_strategy_info(strategy).load_module()
    found = [value for name, value in vars(module).items() if name.endswith("Config") and is_dataclass(value)]
    if len(found) != 1 or not isinstance(found[0], type):
        raise ConfigError(f"{module.__name__} must export exactly one configuration dataclass named ...Config")
    return found[0]


def _schema_of(strategy: str) -> dict[str, Any]:
    """Key -> type; a dataclass's fields are a nested mapping of the same form."""
    return {**_field_types(_config_class(strategy)), BACKTEST: _field_types(BarBacktestConfig)}


def _field_types(config_class: type) -> dict[str, Any]:
    hints = get_type_hints(config_class)
    return {
        entry.name: _field_types(hints[entry.name]) if is_dataclass(hints[entry.name]) else hints[entry.name]
        for entry in fields(config_class)
    }


def _file_layer(folder: Path, stem: str) -> tuple[str, dict[str, Any]]:
    found = [path for suffix in SUFFIXES if (path := folder / f"{stem}{suffix}").is_file()]
    if len(found) > 1:
        raise ConfigError(f"{found[0]} and {found[1]} both exist; keep one")
    return _read(found[0]) if found else (str(folder / f"{stem}.yml"), {})


def _named_file(file: Path) -> tuple[str, dict[str, Any]]:
    if not file.is_file():
        siblings = [str(path) for path in sorted([*file.parent.glob("*"), *FOLDER.glob("*")]) if path.is_file()]
        near = get_close_matches(str(file), siblings, n=1, cutoff=0.0)
        hint = f"; the nearest one that exists is {near[0]}" if near else ""
        raise ConfigError(f"{file}: no such configuration file{hint}")
    return _read(file)


def _environment_layer(folder: Path, env: str, strategy: str) -> tuple[str, dict[str, Any]]:
    place = folder / "environments"
    if not (place / env).is_dir():
        there = ", ".join(sorted(path.name for path in place.glob("*") if path.is_dir())) or "none"
        raise ConfigError(f"{place / env}: no such environment; there are: {there}")
    return _file_layer(place / env, strategy)


def _read(file: Path) -> tuple[str, dict[str, Any]]:
    import yaml

    try:
        text = file.read_text(encoding="utf-8")
        values = json.loads(text) if file.suffix == ".json" else yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, yaml.YAMLError) as problem:
        reason = " ".join(str(problem).split())
        raise ConfigError(f"{file}: cannot be read ({reason})") from problem
    if values is None:
        return str(file), {}
    if not isinstance(values, dict):
        raise ConfigError(f"{file}: holds a {type(values).__name__}; write one 'key: value' per line")
    return str(file), values


def variable_prefix(strategy: str) -> str:
    """What the names of a strategy's environment variables begin with."""
    return f"SLIPSTREAM_{strategy.upper().replace('-', '_')}_"


def _variables(strategy: str, environ: Mapping[str, str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """One layer per variable of the strategy, in the order of their names."""
    import yaml

    mine = variable_prefix(strategy)
    others = [
        prefix for slug in STRATEGY_REGISTRY if (prefix := variable_prefix(slug)) != mine and prefix.startswith(mine)
    ]
    for name in sorted(environ):
        if not name.startswith(mine) or any(name.startswith(prefix) for prefix in others):
            continue
        try:
            value = yaml.safe_load(environ[name])
        except yaml.YAMLError as problem:
            raise ConfigError(
                f"environment variable {name}: cannot be read ({' '.join(str(problem).split())})"
            ) from problem
        *outer, last = name.removeprefix(mine).lower().split("__")
        layer: dict[str, Any] = {last: value}
        for level in reversed(outer):
            layer = {level: layer}
        yield f"environment variable {name}", layer


def _merge(
    into: dict[str, Any], values: Mapping[Any, Any], schema: Any, origin: str, origins: dict[str, str], path: str = ""
) -> None:
    """Merge a checked layer into ``into``, recording where each key came from."""
    for key, value in values.items():
        here = f"{path}{key}"
        if isinstance(schema, Mapping):
            if key not in schema:
                near = get_close_matches(str(key), list(schema), n=1, cutoff=0.0)
                raise ConfigError(f"{origin}: unknown key {here!r}; did you mean {path + near[0]!r}?")
            expected = schema[key]
        else:
            expected = schema
        nested = _nested(expected)
        if nested is None:
            into[key] = _typed(value, expected, origin, here)
            origins[here] = origin
        elif isinstance(value, Mapping):
            # A fresh mapping per level: a layer's own objects are never written to.
            into[key] = dict(into.get(key, {}))
            _merge(into[key], value, nested, origin, origins, f"{here}.")
        else:
            raise ConfigError(f"{origin}: {here} is {value!r}; expected keys below it")


def _nested(expected: Any) -> Any:
    """The schema below a key, or None for a plain value: keys of a section, or the value type of a free mapping."""
    if isinstance(expected, Mapping):
        return expected
    if get_origin(expected) is Mapping or (
        isinstance(get_origin(expected), type) and issubclass(get_origin(expected), Mapping)
    ):
        return get_args(expected)[1]
    return None


def _typed(value: Any, expected: Any, origin: str, key: str) -> Any:
    """``value`` as the field's type: an integer may stand for a float and a list for a tuple, nothing else is bent."""
    shape, parts = get_origin(expected), get_args(expected)
    if shape in (Union, UnionType):
        if value is None and NoneType in parts:
            return None
        return _typed(value, next(part for part in parts if part is not NoneType), origin, key)
    if shape is Literal:
        if value in parts:
            return value
    elif shape is tuple:
        if isinstance(value, (list, tuple)):
            return tuple(_typed(item, parts[0], origin, f"{key}[{place}]") for place, item in enumerate(value))
    elif expected is float:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
    elif isinstance(value, expected) and not (isinstance(value, bool) and expected is not bool):
        return value
    raise ConfigError(f"{origin}: {key} is {value!r}; expected {_wording(expected)}")


def _wording(expected: Any) -> str:
    if get_origin(expected) is Literal:
        return " or ".join(repr(choice) for choice in get_args(expected))
    if get_origin(expected) is tuple:
        return f"a list, each {_wording(get_args(expected)[0])}"
    return {float: "a number", int: "a whole number", str: "text", bool: "true or false"}.get(expected, str(expected))
