"""The content hash: equal content, equal hash, anywhere; different content, different hash."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.core.panel import Panel
from slipstream.lake.synthetic import SyntheticConfig, synthetic_market
from slipstream.research.content import ContentError, content_hash, plain_json, task_generator
from slipstream.research.provenance import code_hash, versions

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)


@dataclass(frozen=True)
class Settings:
    horizon_hours: int
    spans: tuple[float, ...]


@dataclass(frozen=True)
class Other:
    horizon_hours: int
    spans: tuple[float, ...]


@pytest.fixture(scope="module")
def panel() -> Panel:
    return synthetic_market(SyntheticConfig(coins=4, hours=100, seed=2)).panel


def told_apart(value: object) -> object:
    """A value in a form whose equality is that of content: types and bits, not numbers."""
    if isinstance(value, list):
        return ("list", tuple(told_apart(member) for member in value))
    if isinstance(value, dict):
        return ("dict", frozenset((key, told_apart(member)) for key, member in value.items()))
    return (type(value).__name__, value.hex() if isinstance(value, float) else value)


@given(VALUES, VALUES)
def test_two_values_have_one_hash_if_and_only_if_they_are_the_same(one, other) -> None:
    assert (content_hash(one) == content_hash(other)) == (told_apart(one) == told_apart(other))


@given(st.dictionaries(st.text(), st.integers(), min_size=2))
def test_the_order_of_a_mapping_is_no_content(mapping) -> None:
    assert content_hash(dict(reversed(mapping.items()))) == content_hash(mapping)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (["ab", "c"], ["a", "bc"]),
        ([["a"], "b"], [["a", "b"]]),
        ("1", 1),
        (1, 1.0),
        (1, True),
        (0.0, -0.0),
        ("a", b"a"),
        ([], {}),
        (np.zeros(4), np.zeros((2, 2))),
        (np.zeros(2), np.zeros(2, dtype=np.float32)),
        (np.zeros(2), [0.0, 0.0]),
        (np.zeros((0, 3)), np.zeros((3, 0))),
        (np.zeros(1, dtype="M8[s]"), np.zeros(1, dtype="M8[ms]")),
        (Settings(8, (1.0,)), Other(8, (1.0,))),
        (Settings(8, (1.0,)), Settings(8, (2.0,))),
    ],
)
def test_values_that_look_alike_are_told_apart(one, other) -> None:
    assert content_hash(one) != content_hash(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([1, 2], (1, 2)),
        (np.float64(0.5), 0.5),
        (np.int64(3), 3),
        (np.arange(6.0).reshape(2, 3), np.asfortranarray(np.arange(6.0).reshape(2, 3))),
        (np.arange(3.0), np.arange(6.0).reshape(3, 2)[:, 0] / 2.0),
        (np.arange(3.0), np.arange(3.0).astype(">f8")),
        (float("nan"), -float("nan")),
        (np.array([1.0, np.nan]), np.array([1.0, -np.nan])),
    ],
)
def test_what_differs_only_in_how_it_is_held_is_the_same(one, other) -> None:
    assert content_hash(one) == content_hash(other)


def test_a_nan_is_a_nan_whatever_bits_a_library_left_in_it() -> None:
    odd = np.array([0x7FF8_0000_0000_0001, 0xFFF8_0000_0000_0000], dtype=np.uint64).view(np.float64)
    assert content_hash(odd) == content_hash(np.full(2, np.nan))


def test_a_panel_is_its_bars_and_not_the_file_they_came_from(panel) -> None:
    assert content_hash(replace(panel, source="elsewhere.parquet")) == content_hash(panel)
    assert panel.mark is not None  # a cached array is no content either
    assert content_hash(panel) == content_hash(replace(panel))


@pytest.mark.parametrize("name", ["open", "high", "low", "close", "volume_usd", "funding", "universe", "known_at_ms"])
def test_one_changed_number_changes_the_hash_of_a_panel(panel, name) -> None:
    values = getattr(panel, name).copy()
    if name == "known_at_ms":
        values += 1
    elif name == "universe":
        values[50, 2] ^= True
    else:
        row = int(np.flatnonzero(np.isfinite(values[:, 2]))[0])
        values[row, 2] = np.nextafter(values[row, 2], np.inf)
    assert content_hash(replace(panel, **{name: values})) != content_hash(panel)


def test_a_cut_panel_and_one_with_a_renamed_coin_are_others(panel) -> None:
    hashes = {
        content_hash(panel),
        content_hash(panel.until(panel.rows - 2)),
        content_hash(replace(panel, coins=("A", *panel.coins[1:]))),
    }
    assert len(hashes) == 3


def test_the_hash_is_the_same_in_another_process_with_another_hash_seed() -> None:
    program = (
        "import numpy as np; from slipstream.research.content import content_hash;"
        "print(content_hash({'b': [1, None, 'x'], 'a': np.arange(5) / 3}))"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert seen == {content_hash({"a": np.arange(5) / 3, "b": [1, None, "x"]})}


def test_the_hash_is_pinned_so_that_old_journals_and_records_keep_their_meaning() -> None:
    value = {"H": [4, 8], "seed": 7, "x": np.array([0.5, np.nan]), "s": Settings(8, (1.0, 2.0))}
    assert content_hash(value)[:16] == "32e67cd0b0f2837e"


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({"a": [1, {2}]}, r"value\['a'\]\[1\] is a set"),
        (Settings(8, (1.0, object())), r"value\.spans\[1\] is a object"),
        (np.array([1, None]), "an array of object"),
        (Settings, "is a type"),
        (1j, "is a complex"),
    ],
)
def test_what_has_no_hash_is_named_by_its_place(value, place) -> None:
    with pytest.raises(ContentError, match=place) as refusal:
        content_hash(value)
    assert refusal.value.exit_code == 2


def test_json_text_is_one_per_value() -> None:
    one = plain_json({"b": (1, np.float64(2.5)), "a": Settings(8, (float("nan"),)), "c": np.array([[1.0, np.inf]])})
    assert one == '{"a":{"horizon_hours":8,"spans":[null]},"b":[1,2.5],"c":[[1.0,null]]}'
    assert plain_json(dict(reversed(json.loads(one).items()))) == one


@pytest.mark.parametrize(
    ("value", "place"), [({"a": {1: 2}}, "value.a has the key 1"), ({"a": [b""]}, r"value\.a\[0\] is a bytes")]
)
def test_what_has_no_json_form_is_named_by_its_place(value, place) -> None:
    with pytest.raises(ContentError, match=place):
        plain_json(value)


def test_random_numbers_of_a_task_follow_from_the_seed_and_the_item_alone() -> None:
    one = task_generator(7, {"H": 8}).standard_normal(4).tolist()
    np.random.default_rng(1).standard_normal(100)
    assert task_generator(7, {"H": 8}).standard_normal(4).tolist() == one
    others = [task_generator(8, {"H": 8}), task_generator(7, {"H": 12})]
    assert all(other.standard_normal(4).tolist() != one for other in others)


def test_the_versions_name_the_code_and_what_it_computes_with() -> None:
    found = versions()
    assert {"python", "numpy", "slipstream", "slipstream-code"} <= found.keys()
    assert found["slipstream-code"] == code_hash()
    assert found["numpy"] == np.__version__
