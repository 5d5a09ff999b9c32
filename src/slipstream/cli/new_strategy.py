"""``slipstream new-strategy``: a strategy that passes every check before anything in it has been changed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def new_strategy(
    slug: Annotated[str, Parameter(help="Its name in every command: lower-case words joined by hyphens.")],
    /,
    *,
    title: Annotated[str | None, Parameter(help="A short name for people; default: the slug's words.")] = None,
    description: Annotated[str | None, Parameter(help="One sentence for lists.")] = None,
    root: Annotated[Path, Parameter(help="The checkout to add it to.")] = Path(),
) -> None:
    """Copy the template to a new strategy, register it, and write its configuration, page and tests: all or nothing.

    Example: slipstream new-strategy my-idea --title "My idea"
    """
    from slipstream.strategies.scaffold import NewStrategy, create_strategy

    new = NewStrategy.named(slug, title, description)
    for path in create_strategy(root, new):
        sys.stdout.write(f"{path}\n")
    sys.stdout.write(
        f"{new.slug} is registered. Try it: "
        f"python scripts/strategies/run_backtest.py --strategy {new.slug} -- --returns-csv FILE\n"
        "What makes it worth reading: docs/onboarding.md\n"
    )
