"""Random histories, refreshes and damage: what a lake holds is what a dictionary would, less what may not be taken."""

from __future__ import annotations

import math
import shutil
import tempfile
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from lake_samples import NOW_MS, SPRING, bars_of, file_of, panel_rows

from slipstream.errors import DataError
from slipstream.lake.datasets import ASSET_CONTEXTS, BARS, FILLS, FUNDING, INSTRUMENTS, MID_BARS, QUOTES, TIME, Dataset
from slipstream.lake.parts import by_partition
from slipstream.lake.repair import repair
from slipstream.lake.store import CommitReport, Lake
from slipstream.lake.upkeep import compact, vacuum

pytestmark = pytest.mark.timeout(600)  # at the full count of examples

SERIES = (BARS, FUNDING, INSTRUMENTS, ASSET_CONTEXTS, MID_BARS, FILLS)
COINS = ("BTC", "kPEPE", "ab:C")
FEWER = settings(max_examples=settings.default.max_examples // 5)

Row = dict[str, object]
Model = dict[tuple[object, ...], Row]


def value_of(dtype: pl.DataType, name: str, *, required: bool) -> st.SearchStrategy[object]:
    """Few values, so that keys meet and values repeat."""
    if name == "coin":
        return st.sampled_from(COINS)
    if name == "base_interval":
        return st.sampled_from(["1h", "4h"])
    if dtype == TIME:
        return st.integers(0, 95).map(lambda hour: SPRING + timedelta(hours=12 * (hour % 8), minutes=hour // 8 % 2))
    values: st.SearchStrategy[object]
    if dtype == pl.Float64():
        values = st.sampled_from([0.0, -0.0, 1.5, 2.5, 1e-300]) if required else st.sampled_from([1.5, 2.5, math.nan])
    elif dtype == pl.Int64():
        values = st.integers(1, 2)
    elif dtype == pl.Boolean():
        values = st.booleans()
    else:
        values = st.sampled_from(["x", "y"])
    return values if required else st.none() | values


def rows_of(dataset: Dataset, most: int = 12) -> st.SearchStrategy[pl.DataFrame]:
    row = st.fixed_dictionaries(
        {column.name: value_of(column.dtype, column.name, required=column.required) for column in dataset.columns}
    )
    # a fill's key names its time in ns, its partition that time's day: the two must not contradict each other
    same_time = [pl.col("ts").dt.timestamp("ns").alias("time_ns")] if dataset == FILLS else []
    frames = st.lists(row, min_size=1, max_size=most).map(lambda rows: pl.DataFrame(rows, schema=dataset.schema))
    return frames.map(lambda rows: rows.with_columns(same_time))


def partition_of(dataset: Dataset, row: Row) -> tuple[str, ...]:
    ts = row["ts"]
    period = f"{ts:%Y-%m}" if dataset.partition[-1] == "month" else f"{ts:%Y-%m-%d}"  # type: ignore[str-format]
    return ("1h" if row.get("base_interval") == "1h" else "4h", period) if dataset == BARS else (period,)


def clean(rows: pl.DataFrame) -> list[Row]:
    """Rows as dictionaries, in which NaN is nothing."""
    return [
        {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in row.items()}
        for row in rows.iter_rows(named=True)
    ]


def merged(dataset: Dataset, held: Model, rows: pl.DataFrame) -> tuple[Model, set[object]]:
    """What a dictionary holds after a refresh, and the coins whose rows it did not take."""
    taken = dict(held)
    refused = set()
    for row in clean(rows):
        key = tuple(row[name] for name in dataset.key)
        taken[key] = {**row, **{name: held.get(key, row)[name] for name in dataset.unsaid if row[name] is None}}
    for key, row in held.items():
        if any(row[name] is not None and taken[key][name] is None for name in row):
            refused.add(row["coin"])
    return {key: (held.get(key) if row["coin"] in refused else row) for key, row in taken.items()}, refused  # type: ignore[misc]


def as_frame(dataset: Dataset, model: Model) -> pl.DataFrame:
    rows = [row for row in model.values() if row is not None]
    return pl.DataFrame(rows, schema=dataset.schema).sort(dataset.key)


@pytest.fixture(scope="module")
def folder():
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def new_lake(folder: Path) -> Lake:
    return Lake.open(tempfile.mkdtemp(dir=folder), create=True)


@FEWER
@given(data=st.data(), dataset=st.sampled_from(SERIES))
def test_overlapping_refreshes_hold_what_a_dictionary_would(folder, data, dataset):
    lake = new_lake(folder)
    model: Model = {}
    for _ in range(data.draw(st.integers(2, 4))):
        rows = data.draw(rows_of(dataset))
        before = model
        model, refused = merged(dataset, model, rows)
        report = lake.upsert(dataset, rows)
        model = {key: row for key, row in model.items() if row is not None}
        assert set(report.refused) == refused
        held = lake.read(dataset)
        assert held.schema == dataset.schema
        assert held.equals(as_frame(dataset, model))
        assert_nothing_lost(dataset, before, held)
        assert_told_truly(dataset, before, model, report)
    shutil.rmtree(lake.place.url)


def assert_nothing_lost(dataset: Dataset, before: Model, held: pl.DataFrame) -> None:
    """The three rules, held against the rows themselves."""
    now = {tuple(row[name] for name in dataset.key): row for row in held.iter_rows(named=True)}
    for key, row in before.items():
        assert all(now[key][name] is not None for name, value in row.items() if value is not None)
    for coin in COINS:
        old = [row["ts"] for row in before.values() if row["coin"] == coin]
        new = held.filter(pl.col("coin") == coin)["ts"]
        assert new.len() >= len(old)
        assert not old or new.min() <= min(old)  # type: ignore[type-var, operator]


def assert_told_truly(dataset: Dataset, before: Model, after: Model, report: CommitReport) -> None:
    for coin, change in report.coins.items():
        touched = {key for key in after if after[key]["coin"] == coin and after[key] != before.get(key)}
        assert change.changed == sum(key in before for key in touched)
        assert change.rows_after - change.rows_before == sum(key not in before for key in touched)
    assert (report.files_written > 0) == (before != after)


@FEWER
@given(
    data=st.data(),
    kind=st.sampled_from(["flip", "cut", "delete", "garbage", "empty", "another part's content"]),
    month=st.integers(0, 1),
)
def test_a_damaged_part_is_never_replaced_by_new_data_alone(folder, data, kind, month):
    """Coins with rows for the damaged month are refused whole; the others are taken."""
    lake = new_lake(folder)
    model: Model = {}
    first = data.draw(rows_of(FUNDING))
    both = [{"coin": "BTC", "ts": SPRING + timedelta(days=days), "rate": 1e-5} for days in (0, 3)]
    model, _ = merged(FUNDING, model, pl.concat([pl.DataFrame(both, schema=FUNDING.schema), first]))
    lake.upsert(FUNDING, as_frame(FUNDING, model))
    file = file_of(lake, FUNDING, month)
    damage(file, kind, file_of(lake, FUNDING, 1 - month), data)
    remains = file.read_bytes() if file.exists() else None
    parts = lake.parts(FUNDING)

    rows = data.draw(rows_of(FUNDING))
    hurt = dict(parts[month].values)["month"]
    barred = {row["coin"] for row in clean(rows) if partition_of(FUNDING, row) == (hurt,)}
    report = lake.upsert(FUNDING, rows)
    assert barred <= set(report.refused)
    assert (file.read_bytes() if file.exists() else None) == remains
    assert parts[month] in lake.parts(FUNDING)
    with pytest.raises(DataError, match=r"missing|differs from its checksum"):
        lake.read(FUNDING)

    intact = {key: row for key, row in model.items() if partition_of(FUNDING, row) != (hurt,)}
    welcome = rows.filter(~pl.col("coin").is_in(list(barred)))
    expected, refused = merged(FUNDING, intact, welcome)
    assert set(report.refused) == barred | refused
    other = [part for part in lake.parts(FUNDING) if part != parts[month]]
    held = pl.concat([FUNDING.schema.to_frame(), *lake.decoded(FUNDING, other)]).sort(FUNDING.key)
    assert held.equals(as_frame(FUNDING, expected)), "coins that are not concerned are merged as ever"
    shutil.rmtree(lake.place.url)


def damage(file: Path, kind: str, other: Path, data: st.DataObject) -> None:
    body = bytearray(file.read_bytes())
    if kind == "flip":
        place = data.draw(st.integers(0, 8 * len(body) - 1))
        body[place // 8] ^= 1 << place % 8
    elif kind == "cut":
        del body[data.draw(st.integers(0, len(body) - 1)) :]
    elif kind == "garbage":
        body = bytearray(b"rust")
    elif kind == "empty":
        body = bytearray()
    elif kind == "another part's content":
        body = bytearray(other.read_bytes())
    if kind == "delete":
        file.unlink()
    else:
        file.write_bytes(body)


@pytest.fixture(scope="module")
def states(folder):
    """A lake with a checkpoint in its log, and every content it has had."""
    lake = new_lake(folder)
    rows = bars_of(panel_rows(("BTC",), 60))
    states = []
    for number in range(22):
        lake.upsert(BARS, rows.with_columns(volume=pl.lit(float(number))))
        states.append(lake.read(BARS))
    return lake, states


@FEWER
@given(data=st.data(), kind=st.sampled_from(["flip", "flip", "cut", "delete", "empty"]))
def test_a_damaged_log_is_an_error_or_an_earlier_state_and_never_other_rows(states, data, kind):
    """The library keeps no checksum of its log; what it cannot tell, the reader or a missing part does."""
    lake, contents = states
    log = lake.place.folder / "bars" / "_delta_log"
    file = log / data.draw(st.sampled_from(sorted(entry.name for entry in log.iterdir())))
    body = file.read_bytes()
    damage(file, kind, file, data)
    try:
        held = Lake.open(lake.place.url, create=True).read(BARS)
        assert any(held.equals(rows) for rows in contents)
    except DataError as problem:
        assert "\n" not in str(problem)  # noqa: PT017 - either outcome will do
    finally:
        file.write_bytes(body)


class Life(RuleBasedStateMachine):
    """A lake's whole life beside a dictionary's: refreshes, appends, upkeep, damage and repair, and looking back."""

    folder: Path

    @initialize()
    def begin(self) -> None:
        self.lake = new_lake(self.folder)
        self.listed: Model = {}
        self.quotes: Model = {}
        self.past: dict[int, pl.DataFrame] = {}
        self.next_quote = 0

    @rule(rows=rows_of(INSTRUMENTS))
    def refresh(self, rows: pl.DataFrame) -> None:
        after, refused = merged(INSTRUMENTS, self.listed, rows)
        assert set(self.lake.upsert(INSTRUMENTS, rows).refused) == refused
        self.listed = {key: row for key, row in after.items() if row is not None}
        self.remember()

    @rule(count=st.integers(1, 3), again=st.booleans())
    def append(self, count: int, again: bool) -> None:
        from lake_samples import quotes

        rows = quotes(self.next_quote, count, every_ns=3_600_000_000_000)
        for _ in range(1 + again):  # a recorder that does not know whether its append arrived repeats it
            self.lake.append(QUOTES, rows)
        self.next_quote += count
        self.quotes |= {tuple(row[name] for name in QUOTES.key): row for row in clean(rows)}

    @rule()
    def join(self) -> None:
        for dataset in self.lake.datasets():
            compact(self.lake, dataset)
            days = {part.values for part in self.lake.parts(dataset)}
            assert len(self.lake.parts(dataset)) == len(days)
        if self.lake.table(INSTRUMENTS):
            self.remember()

    @rule()
    def tidy(self) -> None:
        """Everything out of force goes at once; earlier versions can then no longer be read."""
        for dataset in self.lake.datasets():
            vacuum(self.lake, dataset, now_ms=10**13, retention_hours=0)
            needed = {part.path for part in self.lake.parts(dataset)}
            root = self.lake.place.folder / dataset.name
            assert {file.relative_to(root).as_posix() for file in root.rglob("*.parquet")} - needed == {
                file.relative_to(root).as_posix() for file in (root / "_delta_log").glob("*.parquet")
            }
        self.past.clear()
        if self.lake.table(INSTRUMENTS):
            self.remember()

    @rule()
    def mend_what_is_whole(self) -> None:
        for dataset in self.lake.datasets():
            assert repair(self.lake, dataset, apply=True, now_ms=NOW_MS) == []

    @precondition(lambda self: self.lake.parts(QUOTES) or self.lake.parts(INSTRUMENTS))
    @rule(data=st.data())
    def damage_and_put_right(self, data: st.DataObject) -> None:
        dataset = data.draw(st.sampled_from([held for held in self.lake.datasets() if self.lake.parts(held)]))
        file = file_of(self.lake, dataset, data.draw(st.integers(0, len(self.lake.parts(dataset)) - 1)))
        body = file.read_bytes()
        file.write_bytes(body[:-1])
        with pytest.raises(DataError):
            self.lake.read(dataset)
        assert [len(mend.damaged) for mend in repair(self.lake, dataset, apply=False, now_ms=NOW_MS)] == [1]
        assert file.read_bytes() == body[:-1]
        file.write_bytes(body)

    @precondition(lambda self: self.past)
    @rule(data=st.data())
    def look_back(self, data: st.DataObject) -> None:
        version = data.draw(st.sampled_from(sorted(self.past)))
        assert self.lake.read(INSTRUMENTS, version=version).equals(self.past[version])

    def remember(self) -> None:
        self.past[self.lake.table(INSTRUMENTS).version()] = self.lake.read(INSTRUMENTS)

    @invariant()
    def the_lake_holds_what_the_dictionary_holds(self) -> None:
        if self.lake.table(INSTRUMENTS):
            assert self.lake.read(INSTRUMENTS).equals(as_frame(INSTRUMENTS, self.listed))
        if self.lake.table(QUOTES):
            assert self.lake.read(QUOTES).equals(as_frame(QUOTES, self.quotes))

    def teardown(self) -> None:
        shutil.rmtree(self.lake.place.url, ignore_errors=True)


def test_a_lake_lives_through_any_history(folder):
    Life.folder = folder
    count = settings.default.max_examples // 6
    run_state_machine_as_test(Life, settings=settings(max_examples=count, stateful_step_count=10))


@given(rows=rows_of(FILLS, most=30))
def test_every_row_lies_in_the_partition_of_its_time_and_in_one_only(rows):
    groups = by_partition(FILLS, rows)
    assert list(groups) == sorted(groups)
    assert sum(group.height for group in groups.values()) == rows.height
    for (date,), group in groups.items():
        assert {f"{ts:%Y-%m-%d}" for ts in group["ts"]} == {date}
