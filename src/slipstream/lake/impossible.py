"""What cannot be true of a row, dataset by dataset: one list for the check and for the repair."""

from __future__ import annotations

import polars as pl

from slipstream.lake.datasets import BARS, BOOKS, FUNDING, INTERVAL_MS, QUOTES, TRADES, Dataset
from slipstream.lake.parts import period_label
from slipstream.lake.schema import SETTLEMENT_RULES, bar_rules

_OF_ORDER = ("duplicate", "unsorted")


def crossed(dataset: Dataset) -> pl.Expr | None:
    """Where the best bid lies above the best ask; None for a dataset without quotes."""
    sides = _best(dataset)
    return None if sides is None else (sides[0] > sides[1]).fill_null(value=False)


def unpriced(dataset: Dataset) -> pl.Expr | None:
    """Where an event has a price or a size that is not a positive number; None for a dataset that is no such event."""
    if dataset == TRADES:
        return _not_positive(pl.col("px")) | _not_positive(pl.col("sz"))
    sides = _best(dataset)
    return None if sides is None else _not_positive(sides[0]) | _not_positive(sides[1])


def of_the_future(dataset: Dataset, now_ms: int) -> pl.Expr:
    """Where a row's clock lies after now.

    Args:
        dataset: whose rows.
        now_ms: the present, Unix ms.
    """
    clock = pl.col(dataset.clock)
    return (
        clock > now_ms * 1_000_000 if dataset.schema[dataset.clock] == pl.Int64() else clock.dt.timestamp("ms") > now_ms
    )


def misplaced(dataset: Dataset, values: tuple[str, ...]) -> pl.Expr:
    """Where a row belongs to another month or date than its partition, so that readers would not look for it there."""
    return period_label(dataset) != values[-1]


def impossible(dataset: Dataset, values: tuple[str, ...], rows: pl.DataFrame, now_ms: int) -> pl.Series:
    """Where a row of a partition cannot be true for any of these reasons.

    Args:
        dataset: whose rows.
        values: of the partition.
        rows: with the dataset's columns, in the order of its key.
        now_ms: the present, Unix ms.
    """
    false = [of_the_future(dataset, now_ms), misplaced(dataset, values)]
    false += [rule for rule in (crossed(dataset), unpriced(dataset)) if rule is not None]
    out = rows.select(pl.any_horizontal(false).fill_null(value=False).alias("out")).to_series()
    if dataset == BARS and values[0] in INTERVAL_MS:
        rules, named = bar_rules(INTERVAL_MS[values[0]]), rows
    elif dataset == FUNDING:
        rules, named = SETTLEMENT_RULES, rows.rename({"rate": "funding"})
    else:
        return out
    broken = [rule.broken for rule in rules if rule.fault not in _OF_ORDER]
    return out | named.select(pl.any_horizontal(broken).fill_null(value=False).alias("out")).to_series()


def _best(dataset: Dataset) -> tuple[pl.Expr, pl.Expr] | None:
    if dataset == QUOTES:
        return pl.col("bid"), pl.col("ask")
    if dataset == BOOKS:
        return pl.col("bid_px").list.first(), pl.col("ask_px").list.first()
    return None


def _not_positive(price: pl.Expr) -> pl.Expr:
    return ((price <= 0.0) | ~price.is_finite()).fill_null(value=False)
