"""Merging what is held with what comes, and the rules a merge must keep before it may replace a file.

Newest wins, row by row. Never may rows fall, the start move forward, a number become empty, or a column change its
type. Whatever breaks a rule is refused, and the file stays as it is.

Source: the specification's data-safety rules (2.1, Storage).
"""

from __future__ import annotations

import polars as pl

from slipstream.core.panel import utc
from slipstream.errors import SafetyRefusal


def merged_rows(held: pl.DataFrame, coming: pl.DataFrame) -> pl.DataFrame:
    """Both sets of rows, ascending, one per ``ts``; where both have one, the coming one."""
    if not coming.height:
        return held
    both = pl.concat([held, coming.select(held.columns)])
    return both.unique("ts", keep="last", maintain_order=True).sort("ts")


def merged_settlements(held: pl.DataFrame, coming: pl.DataFrame) -> pl.DataFrame:
    """The same for funding: a sum of fewer settlements never replaces a sum of more.

    A refresh seldom begins where a bar does; the settlements it saw of its first bar are a part of those held.
    """
    if not coming.height:
        return held
    both = pl.concat([held, coming.select(held.columns)])
    # the sort keeps the order of equals, so among as many settlements the coming sum is the last
    return both.sort("ts", "funding_n", maintain_order=True).unique("ts", keep="last", maintain_order=True)


def merged_by_source(held: pl.DataFrame, coming: pl.DataFrame) -> pl.DataFrame:
    """The same for candles of two sources: the archive never replaces what the venue's API told."""
    told = held.filter(pl.col("source") == "api")["ts"]
    fetched = (pl.col("source") != "api") & pl.col("ts").is_in(told.implode())
    return merged_rows(held, coming.filter(~fetched))


def require_no_loss(held: pl.DataFrame, after: pl.DataFrame, what: str) -> None:
    """Refuse to replace ``held`` by ``after`` if anything would be lost.

    Args:
        held: rows of the file, ascending, column ``ts`` and numbers.
        after: rows that would replace them.
        what: the file, for messages.

    Raises:
        SafetyRefusal: rows fall, the start moves forward, a number becomes empty, or a type changes.
    """
    if held.schema != after.schema:
        raise SafetyRefusal(f"{what}: columns {held.schema} would become {after.schema}; nothing was written")
    if not held.height:
        return
    require_span(what, held.height, int(held["ts"][0]), after)
    pair = held.join(after, on="ts", how="left", suffix="_after", maintain_order="left")
    floats = pair.with_columns(pl.col(pl.Float64).fill_nan(None))
    names = [name for name in held.columns if name != "ts"]
    losses = floats.select(
        (pl.col(name).is_not_null() & pl.col(f"{name}_after").is_null()).alias(name) for name in names
    )
    for name, any_lost in zip(names, losses.select(pl.all().any()).row(0), strict=True):
        if any_lost:
            lost, before = losses[name], floats[name]
            row = int(lost.arg_true()[0])
            raise SafetyRefusal(
                f"{what}: {name} at {utc(int(pair['ts'][row])):%Y-%m-%d %H:%M} UTC is {before[row]} and would become "
                f"empty ({int(lost.sum())} values in all); nothing was written"
            )


def require_span(what: str, rows: int, first_ms: int, after: pl.DataFrame) -> None:
    """Refuse a table with fewer rows, or a later start, than was known to be held.

    Raises:
        SafetyRefusal: naming both.
    """
    if after.height < rows:
        raise SafetyRefusal(f"{what}: rows would fall from {rows} to {after.height}; nothing was written")
    if rows and int(after["ts"][0]) > first_ms:
        moved = f"{utc(first_ms):%Y-%m-%d %H:%M} to {utc(int(after['ts'][0])):%Y-%m-%d %H:%M} UTC"
        raise SafetyRefusal(f"{what}: the start would move from {moved}; nothing was written")


def changes_values(held: pl.DataFrame, after: pl.DataFrame) -> bool:
    """Whether a value that is held would become another; an empty cell that is filled is no change."""
    pair = held.join(after, on="ts", how="inner", suffix="_after")
    names = [name for name in held.columns if name != "ts"]
    differs = [(pl.col(name) != pl.col(f"{name}_after")).fill_null(value=False) for name in names]
    return bool(pair.select(pl.any_horizontal(differs).any()).item()) if names and pair.height else False
