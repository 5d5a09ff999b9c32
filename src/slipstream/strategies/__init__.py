"""The registry of strategies: what each is called, what it is for and where its commands live.

A *bar strategy* decides at a bar's close: its package has a frozen configuration dataclass and a pure function
``targets(view, config) -> weights``. A slug is registered here and nowhere else; ``slipstream new-strategy`` adds to
this table.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from types import MappingProxyType, ModuleType
from typing import TYPE_CHECKING

from slipstream.errors import UsageError

if TYPE_CHECKING:
    from slipstream.core.panel import FloatArray, View

CliHandler = Callable[[list[str]], int]
"""A command of a strategy: takes the arguments after its name, returns the exit code."""


class UnknownStrategy(UsageError):
    """A slug that is not registered."""


@dataclass(frozen=True)
class StrategyInfo:
    """One strategy.

    Attributes:
        key: its slug.
        title: a short name for people.
        module: dotted path of its package.
        description: one sentence.
        cli_entrypoints: command name -> "dotted.module:function" taking the argument list.
    """

    key: str
    title: str
    module: str
    description: str
    cli_entrypoints: Mapping[str, str] = field(default_factory=dict)

    def load_module(self) -> ModuleType:
        """The strategy's package."""
        return importlib.import_module(self.module)

    def load_cli_handler(self, command: str) -> CliHandler:
        """The function behind one of its commands.

        Raises:
            KeyError: there is no such command; the message lists those there are.
        """
        if command not in self.cli_entrypoints:
            raise KeyError(f"{self.key} has no command {command!r}; it has {sorted(self.cli_entrypoints)}")
        module, _, name = self.cli_entrypoints[command].partition(":")
        handler: CliHandler = getattr(importlib.import_module(module), name)
        return handler


def _bar_strategy(key: str, title: str, description: str) -> StrategyInfo:
    module = f"slipstream.strategies.{key.replace('-', '_')}"
    commands = {name: f"{module}.cli:{name}" for name in ("compute_signals", "run_backtest")}
    return StrategyInfo(key, title, module, description, MappingProxyType(commands))


STRATEGY_REGISTRY: Mapping[str, StrategyInfo] = MappingProxyType(
    {
        info.key: info
        for info in (
            _bar_strategy("carry", "Carry", "Collects expected funding in a book that is neutral to the market."),
            _bar_strategy("gradient", "Gradient", "Follows trends over many horizons, long and short at equal risk."),
            _bar_strategy("template", "Momentum", "Volatility-scaled momentum: the scaffold that others copy."),
            # "slipstream new-strategy" registers above this line
        )
    }
)


def list_strategies() -> list[str]:
    """Registered slugs, sorted."""
    return sorted(STRATEGY_REGISTRY)


def get_strategy_info(key: str) -> StrategyInfo:
    """The entry of a slug.

    Raises:
        UnknownStrategy: it is not registered; the message names the nearest slug and lists them all.
    """
    if key not in STRATEGY_REGISTRY:
        near = get_close_matches(key, STRATEGY_REGISTRY, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        raise UnknownStrategy(f"unknown strategy {key!r}{hint} Registered: {', '.join(list_strategies())}.")
    return STRATEGY_REGISTRY[key]


def load_strategy(key: str) -> ModuleType:
    """The package of a slug.

    Raises:
        UnknownStrategy: it is not registered.
    """
    return get_strategy_info(key).load_module()


def iter_strategy_cli(command: str) -> Iterator[tuple[StrategyInfo, CliHandler]]:
    """Every strategy that has a command, with the function behind it, in slug order."""
    for key in list_strategies():
        info = STRATEGY_REGISTRY[key]
        if command in info.cli_entrypoints:
            yield info, info.load_cli_handler(command)


def load_targets(key: str) -> Callable[[View], FloatArray]:
    """A bar strategy's decision at its default configuration: ``targets(view) -> weights (N,)``.

    Raises:
        UnknownStrategy: the slug is not registered.
    """
    decide: Callable[[View], FloatArray] = load_strategy(key).targets
    return decide
