"""``slipstream magnitudes``: what plain books earn on a panel, leg by leg, to check scale and sign of the data."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def magnitudes(
    *,
    data: Annotated[Path, Parameter(help="A panel file or a lake directory.")],
    json_only: Annotated[bool, Parameter(name="--json", negative="", help="Print JSON and nothing else.")] = False,
) -> None:
    """What plain quintile books earn a year, by leg: gross 1, rebalanced daily, 5 bp per unit of turnover.

    A carry book whose funding leg is far from what a venue pays counts a rate in the wrong unit, hour or sign.

    Example: slipstream magnitudes --data panel.parquet
    """
    from rich.console import Console
    from rich.table import Table

    from slipstream.core.backtest.naive import reference_books
    from slipstream.lake import load_panel

    books = reference_books(load_panel(data))
    console = Console()
    if json_only:
        console.print_json(json.dumps([asdict(book) for book in books], allow_nan=False))
        return
    table = Table(title=f"Plain quintile books on {data.name}: per year, gross 1, rebalanced daily at 00:00 UTC")
    for heading in ("book", "funding", "price", "cost", "net Sharpe", "turnover", "days"):
        table.add_column(heading, justify="left" if heading == "book" else "right")
    for book in books:
        table.add_row(
            book.name,
            f"{book.funding:+.1%}",
            f"{book.price:+.1%}",
            f"{book.cost:+.1%}",
            f"{book.sharpe:.2f} ± {book.sharpe_se:.2f}",
            f"{book.turnover_per_year:.0f}x",
            str(book.days),
        )
    console.print(table)
