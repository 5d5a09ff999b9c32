"""The lake: a commit is all or nothing, a refresh never loses data, a damaged part is never read."""

from __future__ import annotations

import fcntl
import hashlib
import json
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipstream.cli.errors import run
from slipstream.cli.main import app
from slipstream.errors import DataError, SafetyRefusal
from slipstream.lake.datasets import BARS, FUNDING, INSTRUMENTS
from slipstream.lake.panel_import import import_frame, import_panel, separated
from slipstream.lake.refresh import losses, merge
from slipstream.lake.store import Lake, LakeBusy

SPRING = datetime(2025, 3, 30, tzinfo=UTC)
NOW_MS = 1_767_225_600_000


@pytest.fixture
def history(make_candles):
    """Four days over the end of March: the lake has two months."""
    return make_candles(("BTC", "ETH"), hours=96, start=SPRING)


@pytest.fixture
def lake(lake_of, history):
    return lake_of(history)


def bars_of(frame: pl.DataFrame) -> pl.DataFrame:
    return separated(frame)[0]


def fingerprint(lake: Lake) -> dict[str, bytes]:
    root = lake.place.folder
    return {
        file.relative_to(root).as_posix(): file.read_bytes()
        for file in sorted(root.rglob("*"))
        if file.is_file() and file.name != "lock"
    }


def file_of(lake: Lake, index: int = 0) -> Path:
    return lake.place.folder / "bars" / lake.parts(BARS)[index].path


def test_what_is_written_is_what_is_read(lake, history):
    bars, settlements = separated(history)
    assert lake.read(BARS).equals(bars)
    assert lake.read(FUNDING).equals(settlements)
    assert [dict(part.values)["month"] for part in lake.parts(BARS)] == ["2025-03", "2025-04"]


def test_a_part_is_named_by_the_sha256_of_its_content(lake):
    file = file_of(lake)
    digest = subprocess.run(["sha256sum", file], capture_output=True, text=True, check=True).stdout.split()[0]
    assert file.stem == digest == lake.parts(BARS)[0].digest


def test_appending_a_day_writes_that_month_only(lake, history, make_candles):
    longer = make_candles(("BTC", "ETH"), hours=120, start=SPRING)
    day = longer.filter(pl.col("ts") >= SPRING + timedelta(hours=96))
    march = lake.parts(BARS)[0]
    report = lake.upsert(BARS, bars_of(day))
    assert (report.files_written, report.changed) == (1, 0)
    assert {coin: (change.rows_before, change.rows_after) for coin, change in report.coins.items()} == {
        "BTC": (48, 72),
        "ETH": (48, 72),
    }
    assert lake.parts(BARS)[0] == march
    assert lake.read(BARS).equals(bars_of(pl.concat([history, day]).sort("coin", "ts")))


def test_a_refresh_reads_only_the_months_it_has_rows_for(lake, make_candles):
    """The part of a month that is not concerned may even be unreadable."""
    file_of(lake, 0).write_bytes(b"rust")
    report = lake.upsert(BARS, bars_of(make_candles(("SOL",), hours=5, start=datetime(2025, 4, 9, tzinfo=UTC))))
    assert report.files_written == 1


def test_importing_the_same_rows_again_changes_not_one_byte(lake, history):
    before = fingerprint(lake)
    reports = import_frame(history, lake)
    assert [report.files_written for report in reports] == [0, 0]
    assert fingerprint(lake) == before


def test_the_newest_value_wins_and_the_corrected_part_is_kept_for_good(lake, history, with_value):
    old = lake.parts(BARS)[0]
    content = file_of(lake).read_bytes()
    report = lake.upsert(BARS, bars_of(with_value(history, 3, "volume", 7.0)))
    assert (report.changed, report.files_written) == (1, 1)
    assert report.coins["BTC"].changed == 1
    assert lake.read(BARS)["volume"][3] == 7.0
    assert (lake.place.folder / "_backup" / "bars" / old.path).read_bytes() == content


def test_rows_added_without_a_correction_need_no_backup(lake, make_candles):
    lake.upsert(BARS, bars_of(make_candles(("SOL",), hours=5, start=SPRING)))
    assert not (lake.place.folder / "_backup").exists()


def test_an_earlier_version_can_still_be_read(lake, history, with_value):
    version = lake.table(BARS).version()
    lake.upsert(BARS, bars_of(with_value(history, 3, "volume", 7.0)))
    assert lake.read(BARS, version=version).equals(bars_of(history))
    assert lake.read(BARS)["volume"][3] == 7.0


def test_a_version_that_does_not_exist_is_an_error(lake):
    for version in (99, -1):
        with pytest.raises(DataError, match=f"version {version} cannot be read"):
            lake.read(BARS, version=version)


@pytest.mark.parametrize("column", ["funding", "volume"])
def test_a_number_may_not_become_nothing(lake, history, with_value, column):
    before = fingerprint(lake)
    with pytest.raises(SafetyRefusal, match=f"{column} (of BTC )?at 2025-03-30 05:00 UTC is .* would become empty"):
        import_frame(with_value(history, 5, column, None), lake)
    assert fingerprint(lake) == before


def test_nothing_may_become_a_number(lake_of, history, with_value):
    lake = lake_of(with_value(history, 5, "funding", None))
    assert lake.read(FUNDING).height == 191
    import_frame(history, lake)
    assert lake.read(FUNDING).height == 192


def test_a_refused_coin_does_not_hold_up_the_others(lake, history, with_value):
    coming = with_value(with_value(history, 5, "volume", None), 100, "volume", 7.0)
    report = lake.upsert(BARS, bars_of(coming))
    assert list(report.refused) == ["BTC"]
    assert "volume at 2025-03-30 05:00 UTC" in report.refused["BTC"]
    assert lake.read(BARS, coins=["BTC"]).equals(bars_of(history).filter(pl.col("coin") == "BTC"))
    assert lake.read(BARS, coins=["ETH"])["volume"][4] == 7.0


def test_a_coin_refused_in_one_month_is_taken_in_none(lake, history, with_value):
    """All or nothing per coin: hour 90 lies in April, the lost number in March."""
    coming = with_value(with_value(history, 5, "volume", None), 90, "volume", 7.0)
    report = lake.upsert(BARS, bars_of(coming))
    assert list(report.refused) == ["BTC"]
    assert lake.read(BARS).equals(bars_of(history))


def test_rows_may_not_fall_and_a_start_may_not_move_forward(history):
    bars = bars_of(history)
    assert "rows would fall from 96 to 95" in losses(BARS, bars, bars[1:])["BTC"]
    assert "rows would fall from 96 to 0" in losses(BARS, bars, bars[:96])["ETH"]
    later = pl.concat([bars[1:96], bars[95:96].with_columns(pl.col("ts").dt.offset_by("1h"))])
    assert "start would move from 2025-03-30 00:00 to 2025-03-30 01:00" in losses(BARS, bars[:96], later)["BTC"]
    assert losses(BARS, bars, bars) == {}


def test_what_a_source_leaves_unsaid_is_kept(lake):
    known = lake.read(FUNDING).with_columns(premium=pl.lit(1e-4), settled_ms=pl.lit(7, pl.Int64))
    lake.upsert(FUNDING, known)
    silent = known.with_columns(premium=pl.lit(None, pl.Float64), settled_ms=pl.lit(None, pl.Int64))
    report = lake.upsert(FUNDING, silent.with_columns(rate=pl.col("rate") * 2))
    assert report.refused == {}
    assert lake.read(FUNDING).equals(known.with_columns(rate=pl.col("rate") * 2))


def test_rows_of_another_type_or_without_a_required_value_are_refused(lake, history):
    bars = bars_of(history)
    with pytest.raises(DataError, match=r"bars\.close holds Float64, the rows to store Int64"):
        lake.upsert(BARS, bars.with_columns(pl.col("close").cast(pl.Int64)))
    with pytest.raises(DataError, match="bars row 2: close is empty"):
        lake.upsert(
            BARS, bars.with_columns(close=pl.when(pl.int_range(pl.len()) == 2).then(float("nan")).otherwise("close"))
        )


def test_a_refusal_ends_the_command_with_three_and_one_line(lake, history, with_value, write, capsys):
    file = write(with_value(history, 5, "funding", None))
    before = fingerprint(lake)
    assert run(app, ["data", "import", str(file), "--lake", lake.place.url]) == 3
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert fingerprint(lake) == before


def test_a_part_that_differs_from_its_checksum_is_refused_and_left_alone(lake, history):
    part = file_of(lake, 1)
    body = bytearray(part.read_bytes())
    body[200] ^= 1
    part.write_bytes(body)
    before = fingerprint(lake)
    with pytest.raises(DataError, match=r"month=2025-04/.*differs from its checksum"):
        lake.read(BARS)
    report = lake.upsert(BARS, bars_of(history))
    assert set(report.refused) == {"BTC", "ETH"}
    assert "differs from its checksum" in report.refused["BTC"]
    assert fingerprint(lake) == before


def test_trusted_files_are_read_past_their_checksum_but_must_still_be_whole(lake, history):
    part = file_of(lake, 1)
    other = bars_of(history).filter(pl.col("ts").dt.month() == 4).with_columns(volume=pl.lit(3.0))
    stored = other.drop("base_interval").with_columns(pl.col("ts").cast(pl.Datetime("us", "UTC")))
    stored.write_parquet(part)
    assert lake.read(BARS, trust_files=True)["volume"].to_list().count(3.0) == 96
    part.write_bytes(part.read_bytes()[:-30])
    with pytest.raises(DataError, match="cannot be decoded"):
        lake.read(BARS, trust_files=True)


def test_a_missing_part_is_named(lake):
    file_of(lake).unlink()
    with pytest.raises(DataError, match=r"month=2025-03/.*the file is missing"):
        lake.read(BARS)


def test_a_damaged_log_is_refused_in_one_line(lake):
    log = sorted((lake.place.folder / "bars" / "_delta_log").glob("*.json"))[-1]
    log.write_text("{")
    with pytest.raises(DataError) as caught:
        lake.read(BARS)
    assert "_delta_log" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_second_loader_is_turned_away_with_a_message(lake, history):
    with (lake.place.folder / "lock").open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(LakeBusy, match="another process is loading"):
            import_frame(history, lake)
    import_frame(history, lake)


def test_a_folder_of_other_things_is_not_made_a_lake(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(DataError, match=r"holds thesis\.tex"):
        Lake.open(tmp_path, create=True)
    with pytest.raises(DataError, match="is a file"):
        Lake.open(tmp_path / "thesis.tex", create=True)
    with pytest.raises(DataError, match="not a lake"):
        Lake.open(tmp_path / "nothing")


def test_a_lake_of_the_first_form_moves_over(tmp_path, history):
    """Monthly parts listed in a manifest with their checksums, as the first release wrote them."""
    old, parts = tmp_path / "old", []
    for month in ("2025-03", "2025-04"):
        file = old / "bars_1h" / month / "000001.parquet"
        file.parent.mkdir(parents=True)
        history.filter(pl.col("ts").dt.strftime("%Y-%m") == month).write_parquet(file)
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        parts.append({"file": file.relative_to(old).as_posix(), "month": month, "sha256": digest, "rows": 96})
    (old / "manifest.json").write_text(json.dumps({"format": 1, "commit": 1, "parts": parts, "retired": []}))

    with pytest.raises(DataError, match="a lake of the first form"):
        Lake.open(old)
    new = Lake.open(tmp_path / "new", create=True)
    import_panel(old, new, now_ms=NOW_MS)
    assert new.read(BARS).equals(bars_of(history))
    assert new.read(FUNDING).height == 192

    (old / parts[1]["file"]).write_bytes(b"rust")
    with pytest.raises(DataError, match=r"000001\.parquet: the part differs from its checksum"):
        import_panel(old, new, now_ms=NOW_MS)


def test_descriptions_of_an_instrument_are_a_history(tmp_path):
    lake = Lake.open(tmp_path / "lake", create=True)
    row = {"coin": "BTC", "dex": "", "asset": 0, "sz_decimals": 5, "max_leverage": 50, "margin_table": 50}
    flags = {"only_isolated": False, "is_delisted": False}
    for ts, leverage in ((SPRING, 50), (SPRING + timedelta(days=40), 40)):
        described = {**row, **flags, "ts": ts, "max_leverage": leverage}
        lake.upsert(INSTRUMENTS, pl.DataFrame([described], schema=INSTRUMENTS.schema))
    assert lake.read(INSTRUMENTS)["max_leverage"].to_list() == [50, 40]


@given(st.sets(st.integers(0, 71)), st.sets(st.integers(0, 71)))
def test_a_merge_holds_every_bar_of_both_once_in_order(old_hours, new_hours):
    times = [SPRING + timedelta(hours=hour) for hour in range(72)]

    def some(hours, value):
        kept = [times[hour] for hour in sorted(hours)]
        numbers = {name: [value] * len(kept) for name in ("open", "high", "low", "close", "volume")}
        columns = {"coin": ["BTC"] * len(kept), "ts": kept, "base_interval": ["1h"] * len(kept)} | numbers
        return pl.DataFrame(columns, schema_overrides=BARS.schema).select(BARS.names)

    both = merge(BARS, some(old_hours, 1.0), some(new_hours, 2.0))
    assert both["ts"].to_list() == [times[hour] for hour in sorted(old_hours | new_hours)]
    assert both["close"].to_list() == [2.0 if hour in new_hours else 1.0 for hour in sorted(old_hours | new_hours)]
