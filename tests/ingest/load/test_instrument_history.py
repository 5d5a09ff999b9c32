"""What decimals, leverage and listing a coin had as of a date; the table grows by changes and not by loads."""

from __future__ import annotations

import tempfile
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from load_runs import NOW

from slipstream.errors import DataError
from slipstream.ingest.load.instruments import as_of, record_descriptions
from slipstream.lake.datasets import INSTRUMENTS
from slipstream.lake.store import Lake
from slipstream.venues.hyperliquid.info_messages import Instrument

DAY_MS = 86_400_000
BTC = Instrument("BTC", "", 0, 5, 40, 56, only_isolated=False, is_delisted=False)
GOLD = Instrument("xyz:GOLD", "xyz", 0, 3, 20, None, only_isolated=False, is_delisted=False)


@pytest.fixture
def lake(tmp_path) -> Lake:
    return Lake.open(tmp_path / "lake", create=True)


def known(lake: Lake, moment_ms: int) -> dict[str, tuple]:
    rows = as_of(lake, moment_ms).select("coin", "sz_decimals", "max_leverage", "margin_table", "is_delisted").rows()
    return {coin: rest for coin, *rest in rows}


def test_only_what_is_new_or_has_changed_is_stored(lake):
    assert record_descriptions(lake, [BTC, GOLD], NOW).rows_after == 2
    for day in (1, 2):
        again = record_descriptions(lake, [BTC, GOLD], NOW + day * DAY_MS)
        assert (again.files_written, again.version) == (0, 1), "no commit without a change"
    record_descriptions(lake, [replace(BTC, max_leverage=50), GOLD], NOW + 3 * DAY_MS)
    assert lake.read(INSTRUMENTS).select("coin", "max_leverage").rows() == [("BTC", 40), ("BTC", 50), ("xyz:GOLD", 20)]


def test_a_question_about_a_date_is_answered_with_what_was_in_force_then(lake):
    record_descriptions(lake, [BTC], NOW)
    record_descriptions(lake, [replace(BTC, max_leverage=50), GOLD], NOW + DAY_MS)
    record_descriptions(lake, [replace(BTC, max_leverage=50, is_delisted=True), GOLD], NOW + 60 * DAY_MS)
    assert known(lake, NOW - 1) == {}
    assert known(lake, NOW) == known(lake, NOW + DAY_MS - 1) == {"BTC": [5, 40, 56, False]}
    assert known(lake, NOW + DAY_MS) == {"BTC": [5, 50, 56, False], "xyz:GOLD": [3, 20, None, False]}
    assert known(lake, NOW + 61 * DAY_MS)["BTC"] == [5, 50, 56, True]


def test_a_description_that_comes_back_is_a_change_too(lake):
    for day, decimals in enumerate((5, 4, 5)):
        record_descriptions(lake, [replace(BTC, sz_decimals=decimals)], NOW + day * DAY_MS)
    assert [known(lake, NOW + day * DAY_MS)["BTC"][0] for day in range(4)] == [5, 4, 5, 5]


def test_a_coin_the_venue_no_longer_names_stays_known_as_it_was(lake):
    record_descriptions(lake, [BTC, GOLD], NOW)
    record_descriptions(lake, [BTC], NOW + DAY_MS)
    assert set(known(lake, NOW + 2 * DAY_MS)) == {"BTC", "xyz:GOLD"}


def test_names_that_differ_by_case_are_different_coins(lake):
    thousand, one = replace(BTC, coin="kPEPE", sz_decimals=0), replace(BTC, coin="KPEPE", sz_decimals=2)
    record_descriptions(lake, [thousand, one], NOW)
    record_descriptions(lake, [replace(thousand, sz_decimals=1), one], NOW + DAY_MS)
    assert {coin: rest[0] for coin, rest in known(lake, NOW + DAY_MS).items()} == {"KPEPE": 2, "kPEPE": 1}


def test_a_damaged_table_is_an_error_that_trust_overrides(lake):
    record_descriptions(lake, [BTC, replace(GOLD, max_leverage=7)], NOW)
    (part,) = lake.parts(INSTRUMENTS)
    file = lake.place.folder / "instruments" / part.path
    record_descriptions(lake, [BTC, GOLD], NOW + 1000)
    (now,) = lake.parts(INSTRUMENTS)
    (lake.place.folder / "instruments" / now.path).write_bytes(file.read_bytes())
    with pytest.raises(DataError, match="differs from its checksum"):
        record_descriptions(lake, [BTC, GOLD], NOW + DAY_MS)
    done = record_descriptions(lake, [BTC, GOLD], NOW + DAY_MS, trust_files=True)
    assert done.refused == {}
    assert known(lake, NOW + DAY_MS)["xyz:GOLD"][1] == 20


leverages = st.dictionaries(st.sampled_from(["BTC", "ETH", "kPEPE"]), st.integers(3, 5), min_size=1)


@settings(max_examples=8)
@given(st.lists(leverages, min_size=1, max_size=6))
def test_the_past_is_what_was_said_last_and_rows_are_changes(days):
    said: dict[str, int] = {}
    changes = 0
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake.open(folder, create=True)
        expected = []
        for day, answer in enumerate(days):
            record_descriptions(
                lake,
                [replace(BTC, coin=coin, max_leverage=value) for coin, value in answer.items()],
                NOW + day * DAY_MS,
            )
            changes += sum(said.get(coin) != value for coin, value in answer.items())
            said |= answer
            expected.append(dict(said))
        assert lake.read(INSTRUMENTS).height == changes
        for day, then in enumerate(expected):
            answer = {coin: rest[1] for coin, rest in known(lake, NOW + day * DAY_MS + 1).items()}
            assert answer == then
