"""A process that is killed at any instant leaves the old lake or the new one, and no obstacle to the next run."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from lake_killer import session
from lake_samples import SPRING, bars_of, contents, file_of, quotes, same

from slipstream.errors import DataError
from slipstream.lake.datasets import BARS, QUOTES
from slipstream.lake.lake_check import check_path
from slipstream.lake.store import Lake

KILLER = Path(__file__).with_name("lake_killer.py")
MOMENTS, ALL_MOMENTS = 10, 200


def killer(*words: object) -> str:
    """Run the killer to its end; what it said."""
    ended = subprocess.run(
        [sys.executable, KILLER, *map(str, words)], capture_output=True, text=True, check=False, timeout=1500
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def errors(root: Path) -> list[str]:
    return [f"{finding.fault}: {finding.what}" for finding in check_path(root) if finding.grade == "error"]


@pytest.fixture
def history(make_candles):
    return bars_of(make_candles(("BTC", "ETH"), hours=96, start=SPRING))


@pytest.fixture
def incoming(tmp_path, history, make_candles):
    """Two months: one correction in the first, another coin in both."""
    other = bars_of(make_candles(("SOL",), hours=60, start=SPRING))
    corrected = pl.when(pl.int_range(pl.len()) == 3).then(7.0).otherwise("volume").alias("volume")
    rows = pl.concat([history.with_columns(corrected), other])
    rows.write_parquet(tmp_path / "bars.parquet")
    return rows


def killed_before_each_line(folder: Path, action: str, scope: str, step: int) -> list[Path]:
    """The lakes of all children, in the order of the line they were killed before; the last came to its end."""
    killer("lines", folder, action, scope, 1, step)
    return sorted(folder.glob("lake*"))


def assert_old_or_new(lakes: list[Path], before: dict[str, pl.DataFrame]) -> dict[str, pl.DataFrame]:
    """Each lake is as it was or as the last one is, in this order, and sound; the new content."""
    new = contents(Lake.open(lakes[-1]))
    outcomes = []
    for root in lakes:
        if not Lake.open(root, create=True).datasets():
            assert not before
            outcomes.append(False)
            continue
        found = errors(root)
        held = contents(Lake.open(root))
        assert found == []
        assert same(held, new) or same(held, before), f"{root.name} is neither old nor new"
        outcomes.append(same(held, new))
    assert outcomes == sorted(outcomes), "once in force, always in force"
    assert outcomes.count(False) > 3
    assert outcomes.count(True) > 1
    return new


DEFAULT_AND_FULL = pytest.mark.parametrize(
    ("scope", "step"), [("writing", 17), pytest.param("all", 3, marks=[pytest.mark.full, pytest.mark.timeout(1500)])]
)


@DEFAULT_AND_FULL
@pytest.mark.parametrize("there_is_a_table", [True, False])
def test_a_refresh_killed_at_any_line_leaves_old_or_new(tmp_path, history, incoming, there_is_a_table, scope, step):
    if there_is_a_table:
        Lake.open(tmp_path / "old", create=True).upsert(BARS, history)
    before = {"bars": history} if there_is_a_table else {}
    lakes = killed_before_each_line(tmp_path, "upsert", scope, step)
    new = assert_old_or_new(lakes, before)
    assert new["bars"].height == 192 + 60
    for root in lakes[:: 1 + len(lakes) // 40]:
        lake = Lake.open(root, create=True)
        lake.upsert(BARS, incoming)
        assert same(contents(lake), new), "what a killed refresh left behind is no obstacle"
        assert errors(root) == []


@DEFAULT_AND_FULL
def test_a_compaction_killed_at_any_line_changes_no_row(tmp_path, scope, step):
    lake = Lake.open(tmp_path / "old", create=True)
    for first in (0, 10, 20):
        lake.append(QUOTES, quotes(first, 10))
    before = contents(lake)
    lakes = killed_before_each_line(tmp_path, "compact", scope, 1 + step // 2)
    counts = []
    for root in lakes:
        killed = Lake.open(root)
        assert same(contents(killed), before)
        assert errors(root) == []
        counts.append(len(killed.parts(QUOTES)))
    assert counts == sorted(counts, reverse=True)
    assert set(counts) == {3, 1}


@DEFAULT_AND_FULL
def test_a_repair_killed_at_any_line_leaves_the_damage_or_its_remedy(tmp_path, history, incoming, scope, step):
    """Both months are damaged, and each is mended by a commit of its own."""
    lake = Lake.open(tmp_path / "old", create=True)
    lake.upsert(BARS, history)
    lake.upsert(BARS, history.with_columns(volume=pl.lit(5.0)))
    for month in (0, 1):
        file_of(lake, BARS, month).write_bytes(b"rust")
    lakes = killed_before_each_line(tmp_path, "mend", scope, step)
    left = [len(errors(root)) for root in lakes]
    assert left == sorted(left, reverse=True)
    assert set(left) == {2, 1, 0}
    assert contents(Lake.open(lakes[-1]))["bars"].equals(history)
    for root, count in zip(lakes, left, strict=True):
        if count == 0:
            assert contents(Lake.open(root))["bars"].equals(history)
        else:
            with pytest.raises(DataError, match="differs from its checksum"):
                Lake.open(root).read(BARS)
        assert len(list((root / "_quarantine").rglob("*.damaged"))) >= 2 - count


@pytest.fixture
def steps(tmp_path, make_candles):
    """Files of a session: imports, refreshes, appends and compactions, as ``NUMBER.KIND.parquet``."""
    folder = tmp_path / "steps"
    folder.mkdir()
    panel = make_candles(("BTC", "ETH"), hours=48, start=SPRING)
    longer = make_candles(("BTC", "ETH"), hours=60, start=SPRING)
    corrected = longer.with_columns(volume=pl.col("volume") * 2.0)
    kinds = [
        ("import", panel),
        ("quotes", quotes(0, 20)),
        ("import", longer),
        ("quotes", quotes(20, 20, "ETH")),
        ("bars", bars_of(corrected)),
        ("compact", None),
        ("bars", bars_of(make_candles(("SOL",), hours=60, start=SPRING))),
    ]
    for number, (kind, rows) in enumerate(kinds):
        file = folder / f"{number:02d}.{kind}.parquet"
        file.touch() if rows is None else rows.write_parquet(file)
    return [kind for kind, _ in kinds]


@pytest.mark.parametrize(
    "count", [MOMENTS, pytest.param(ALL_MOMENTS, marks=[pytest.mark.full, pytest.mark.timeout(1500)])]
)
def test_a_session_killed_at_a_random_moment_leaves_old_or_new_and_can_be_gone_on_with(tmp_path, steps, count):
    states: list[dict[str, pl.DataFrame]] = []
    calm = Lake.open(tmp_path / "calm", create=True)
    for step in range(len(steps)):
        states.append(contents(calm))
        session(tmp_path, calm, step, step + 1)
    states.append(contents(calm))

    rng = random.Random(20_250_330)
    seeds = [rng.randrange(10**6) for _ in range(count)]
    said = [line.split() for line in killer("moments", tmp_path, *seeds).splitlines()]
    assert said[0] == ["-1", "done"]
    assert [int(seed) for seed, _ in said[1:]] == seeds
    reached = set()
    for seed, word in said[1:]:
        root = tmp_path / f"lake{seed}"
        step = len(steps) if word == "done" else int(word)
        reached.add(step)
        lake = Lake.open(root, create=True)
        held = contents(lake)
        if lake.datasets():
            assert errors(root) == []
        old, new = states[step], states[min(step + 1, len(steps))]
        for name in {*old, *new, *held}:  # an import is two commits: bars, then settlements
            rows = held.get(name)
            is_old = name not in old if rows is None else name in old and rows.equals(old[name])
            is_new = name not in new if rows is None else name in new and rows.equals(new[name])
            assert is_old or is_new, f"seed {seed}, step {step} ({steps[step]}): {name} is neither old nor new"
        if step < len(steps):
            session(tmp_path, lake, step)
            assert same(contents(lake), states[-1])
    assert len(reached) >= min(4, count)
