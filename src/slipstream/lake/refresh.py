"""How a refresh becomes a commit: merge what is there with what comes, and refuse whatever would lose data.

The newest value of a key wins. A coin is refused, with none of its rows taken, if its rows would fall, its beginning
would move forward, or a number would turn into nothing; and if a part it lies in is damaged, since replacing that part
by new rows alone would throw the old ones away. Other coins are not held up by it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from slipstream.core.panel import to_ms
from slipstream.errors import DataError
from slipstream.lake.datasets import Dataset
from slipstream.lake.parts import Content, DamagedPart, Part, by_partition, encode


@dataclass(frozen=True)
class CoinChange:
    """One coin in the months a refresh touched; times are the dataset's clock, Unix ms (None: no row)."""

    rows_before: int
    rows_after: int
    first_ms: int | None
    last_ms: int | None
    changed: int


@dataclass(frozen=True)
class Refresh:
    """A planned commit: parts to write, parts they replace, and what it means per coin.

    ``backed_up`` are the parts in which values held before are corrected. ``data_change`` is False where the same rows
    are only laid out anew.
    """

    new: tuple[Content, ...]
    replaced: tuple[Part, ...]
    backed_up: tuple[Part, ...]
    rows_before: int = 0
    rows_after: int = 0
    changed: int = 0
    coins: dict[str, CoinChange] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    data_change: bool = True


def with_schema(dataset: Dataset, rows: pl.DataFrame) -> pl.DataFrame:
    """The rows in the dataset's order of columns, NaN as null.

    Raises:
        DataError: a column is missing or of another type, or a required value is empty; column and row are named.
    """
    for column in dataset.columns:
        held = rows.schema.get(column.name)
        if held != column.dtype:
            raise DataError(f"the lake's {dataset.name}.{column.name} holds {column.dtype}, the rows to store {held}")
    clean = rows.select(dataset.names).with_columns(pl.col(pl.Float64).fill_nan(None))
    for column in dataset.columns:
        if column.required and clean[column.name].null_count():
            row = int(clean[column.name].is_null().arg_true()[0])
            raise DataError(f"{dataset.name} row {row}: {column.name} is empty and may not be")
    return clean


def merge(dataset: Dataset, before: pl.DataFrame, incoming: pl.DataFrame) -> pl.DataFrame:
    """Both sets of rows, one per key, the incoming one where both have it; in the order of the key."""
    both = pl.concat([before, _completed(dataset, before, incoming)])
    return both.unique(list(dataset.key), keep="last", maintain_order=True).sort(dataset.key)


def _completed(dataset: Dataset, before: pl.DataFrame, incoming: pl.DataFrame) -> pl.DataFrame:
    """The incoming rows, with what they leave unsaid taken from the rows of the same key."""
    if not dataset.unsaid or not before.height:
        return incoming
    known = before.select(*dataset.key, *dataset.unsaid)
    joined = incoming.join(known, on=list(dataset.key), how="left", suffix="_known", maintain_order="left")
    return joined.select(
        pl.coalesce(name, f"{name}_known") if name in dataset.unsaid else pl.col(name) for name in dataset.names
    )


def losses(dataset: Dataset, before: pl.DataFrame, after: pl.DataFrame) -> dict[str, str]:
    """Why each coin may not go from ``before`` to ``after``; empty if nothing is lost."""
    why: dict[str, str] = {}
    extent = [pl.len().alias("rows"), pl.col(dataset.clock).min().alias("first")]
    lives = (
        before.group_by("coin").agg(extent).join(after.group_by("coin").agg(extent), "coin", how="left", suffix="_now")
    )
    for coin, rows, first, rows_now, first_now in lives.sort("coin").iter_rows():
        if rows_now is None or rows_now < rows:
            why[coin] = f"its rows would fall from {rows} to {rows_now or 0}"
        elif first_now > first:
            why[coin] = f"its start would move from {first:%Y-%m-%d %H:%M} to {first_now:%Y-%m-%d %H:%M} UTC"
    values = [name for name in dataset.names if name not in dataset.key]
    pairs = before.join(after, on=list(dataset.key), how="left", suffix="_now", nulls_equal=True)
    for name in values:
        lost = pairs.filter(_present(dataset, name) & ~_present(dataset, name, "_now"))
        for row in lost.unique("coin", keep="first", maintain_order=True).iter_rows(named=True):
            count = lost.filter(pl.col("coin") == row["coin"]).height
            moment = row[dataset.clock]
            when = f"{moment:%Y-%m-%d %H:%M} UTC" if hasattr(moment, "year") else moment
            why.setdefault(row["coin"], f"{name} at {when} is {row[name]} and would become empty ({count} values)")
    return why


def _present(dataset: Dataset, name: str, suffix: str = "") -> pl.Expr:
    """Whether a value is there: not null and, for a number, not NaN or infinite."""
    column = pl.col(f"{name}{suffix}")
    if dataset.schema[name] == pl.Float64():
        return column.is_finite().fill_null(value=False)
    return column.is_not_null()


@dataclass(frozen=True)
class Judged:
    """Incoming rows held against what is there, by partition.

    Attributes:
        taken: rows to merge, without those of refused coins.
        before: rows in force, of every partition that could be read.
        refused: per coin, why none of its rows is taken.
    """

    taken: dict[tuple[str, ...], pl.DataFrame]
    before: dict[tuple[str, ...], pl.DataFrame]
    refused: dict[str, str]


def judged(
    dataset: Dataset,
    incoming: pl.DataFrame,
    held: Mapping[tuple[str, ...], Sequence[Part]],
    rows_of: Callable[[Sequence[Part]], pl.DataFrame],
) -> Judged:
    """Which coins may be merged.

    Args:
        dataset: a series.
        incoming: its columns, any order of rows.
        held: parts in force by the values of their partition.
        rows_of: reads parts; raises :class:`~slipstream.lake.parts.DamagedPart`.
    """
    before: dict[tuple[str, ...], pl.DataFrame] = {}
    refused: dict[str, str] = {}
    groups = by_partition(dataset, incoming)
    for values, group in groups.items():
        try:
            before[values] = rows_of(held[values]) if held.get(values) else dataset.schema.to_frame()
        except DamagedPart as problem:
            where = ", ".join(part.path for part in held[values])
            for coin in group["coin"].unique(maintain_order=True).to_list():
                refused.setdefault(coin, f"{dataset.name}/{where}: {problem}; nothing of this coin was written")
    for values, old in before.items():
        if not old.height:
            continue
        for coin, why in losses(dataset, old, merge(dataset, old, groups[values])).items():
            refused.setdefault(coin, f"{why}; nothing of this coin was written")
    welcome = ~pl.col("coin").is_in(list(refused))
    taken = {values: group.filter(welcome) for values, group in groups.items() if values in before}
    return Judged({values: rows for values, rows in taken.items() if rows.height}, before, refused)


def planned(dataset: Dataset, judgement: Judged, held: Mapping[tuple[str, ...], Sequence[Part]]) -> Refresh:
    """The commit that merges what was taken; partitions whose rows stay the same are not in it."""
    new: list[Content] = []
    replaced: list[Part] = []
    backed_up: list[Part] = []
    changes: list[pl.DataFrame] = []
    for values, rows in judgement.taken.items():
        old = judgement.before[values]
        after = merge(dataset, old, rows)
        changed = _changed(dataset, old, _completed(dataset, old, rows))
        concerned = pl.col("coin").is_in(rows["coin"].unique().implode())
        clock = pl.col(dataset.clock)
        changes.append(
            pl.concat(
                [
                    old.filter(concerned).group_by("coin").agg(before=pl.len()),
                    after.filter(concerned).group_by("coin").agg(after=pl.len(), first=clock.min(), last=clock.max()),
                    changed.group_by("coin").agg(changed=pl.len()),
                ],
                how="diagonal",
            )
        )
        if after.height == old.height and not changed.height:
            continue
        parts = held.get(values, ())
        new.append(encode(dataset, values, after))
        replaced.extend(parts)
        if changed.height:
            backed_up.extend(parts)
    coins = _per_coin(changes)
    return Refresh(
        new=tuple(new),
        replaced=tuple(replaced),
        backed_up=tuple(backed_up),
        rows_before=sum(change.rows_before for change in coins.values()),
        rows_after=sum(change.rows_after for change in coins.values()),
        changed=sum(change.changed for change in coins.values()),
        coins=coins,
        refused=judgement.refused,
    )


def _changed(dataset: Dataset, before: pl.DataFrame, incoming: pl.DataFrame) -> pl.DataFrame:
    """Incoming rows whose key was held before with other values."""
    values = [name for name in dataset.names if name not in dataset.key]
    last = incoming.unique(list(dataset.key), keep="last")
    pairs = last.join(before, on=list(dataset.key), how="inner", suffix="_before", nulls_equal=True)
    differs = pl.any_horizontal(pl.col(name).ne_missing(pl.col(f"{name}_before")) for name in values)
    return pairs.filter(differs)


def _per_coin(changes: Sequence[pl.DataFrame]) -> dict[str, CoinChange]:
    if not changes:
        return {}
    table = (
        pl.concat(changes, how="diagonal")
        .group_by("coin")
        .agg(pl.col("before", "after", "changed").sum(), pl.col("first").min(), pl.col("last").max())
    )
    return {
        row["coin"]: CoinChange(
            rows_before=int(row["before"]),
            rows_after=int(row["after"]),
            first_ms=_ms(row["first"]),
            last_ms=_ms(row["last"]),
            changed=int(row["changed"]),
        )
        for row in table.sort("coin").iter_rows(named=True)
    }


def _ms(moment: object) -> int | None:
    if moment is None:
        return None
    if isinstance(moment, int):
        return moment // 1_000_000
    return to_ms(moment)
