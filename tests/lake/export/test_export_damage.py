"""Files that somebody or something changed are left as they are; an export cut short is not taken for damage."""

from __future__ import annotations

import fcntl
import json
import re

import pytest

from slipstream.errors import SlipstreamError
from slipstream.lake.export.folder import ExportFolder


@pytest.fixture
def held(export, market, out):
    """Exports of two coins over two days."""
    export(*market(("BTC", "ETH"), 0, 48), 48)
    return out


@pytest.fixture
def newer(market):
    return market(("BTC", "ETH"), 40, 60)


def test_a_file_that_differs_from_its_checksum_is_left_and_its_coin_refused(held, export, newer, contents):
    file = held / "4h/BTC_candles_4h.csv"
    file.write_bytes(file.read_bytes().replace(b"2025-01-01T04:00:00Z,1", b"2025-01-01T04:00:00Z,2", 1))
    before = contents(held)
    report = export(*newer, 60)
    assert report.refused.keys() == {"BTC"}
    assert "differs from its checksum" in report.refused["BTC"]
    assert "--trust-files" in report.refused["BTC"]
    after = contents(held)
    assert {name for name in before if "BTC" in name and before[name] != after[name]} == set()
    assert after["4h/ETH_candles_4h.csv"] != before["4h/ETH_candles_4h.csv"]


def test_trust_overrides_the_checksum_and_the_next_export_needs_it_no_more(held, export, newer):
    file = held / "4h/BTC_candles_4h.csv"
    file.write_bytes(file.read_bytes().replace(b"2025-01-01T04:00:00Z,1", b"2025-01-01T04:00:00Z,2", 1))
    assert export(*newer, 60, trust_files=True).refused == {}
    assert "2025-01-01T04:00:00Z,2" in file.read_text()
    assert export(*newer, 60).refused == {}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text[: len(text) // 2], "cut short"),
        (lambda text: text.rsplit("\n", 2)[0] + "\n2025-01-03T00:00:00Z,1.0,2.0\n", "datetime|known_at_ms"),
        (lambda text: "", "line 1"),
        (lambda text: text.replace("close", "last", 1), "line 1: the header"),
        (lambda text: text.replace("2025-01-01T08:00:00Z,", "2025-01-01T08:00:00Z,x", 1), "cannot be read as CSV"),
        (lambda text: text.replace("2025-01-01T08:00:00Z,", "2025-01-01T08:00:00Z,-", 1), "line 4, column open"),
        (lambda text: text.replace("2025-01-01T08:00:00Z,", "2025-01-01T08:00:00Z,inf,", 1), "cannot be read|known_at"),
        (lambda text: text.replace("2025-01-01T08", "2025-01-01T04", 1), "line 4, column known_at_ms"),
        (lambda text: "\n".join([*text.split("\n")[:3], *text.split("\n")[2:]]), "line 4: .* does not come after"),
    ],
)
def test_a_file_that_cannot_be_read_is_never_replaced_not_even_on_trust(held, export, newer, damage, message):
    file = held / "4h/BTC_candles_4h.csv"
    file.write_text(damage(file.read_text()))
    before = file.read_bytes()
    assert export(*newer, 60).refused.keys() == {"BTC"}
    assert file.read_bytes() == before
    report = export(*newer, 60, trust_files=True)
    assert re.search(message, report.refused["BTC"])
    assert file.read_bytes() == before


def test_a_damaged_file_is_not_replaced_by_the_whole_lake_either(held, export, market):
    file = held / "4h/BTC_funding_4h.csv"
    file.write_text("rubbish")
    assert export(*market(("BTC", "ETH"), 0, 60), 60).refused.keys() == {"BTC"}
    assert file.read_text() == "rubbish"


def test_a_file_that_is_gone_is_not_replaced_by_less(held, export, market, newer):
    file = held / "4h/BTC_candles_4h.csv"
    whole = file.read_text()
    file.unlink()
    report = export(*newer, 60)
    assert "rows would fall from 12 to 5" in report.refused["BTC"]
    assert not file.exists()
    assert export(*market(("BTC",), 0, 60), 60).refused == {}
    assert file.read_text().startswith(whole)


def test_files_that_are_all_gone_are_not_replaced_by_less_unless_that_is_trusted(held, export, newer):
    for file in (held / "4h").glob("BTC*"):
        file.unlink()
    report = export(*newer, 60)
    assert "is gone, but is in the manifest" in report.refused["BTC"]
    assert not list((held / "4h").glob("BTC*"))
    wide = (held / "volume_usd_4h.csv").read_text()
    report = export(*newer, 60, trust_files=True)
    assert len(list((held / "4h").glob("BTC*"))) == 3
    assert "column BTC would lose 10 numbers" in report.refused["volume_usd_4h.csv"]
    assert [line.split(",")[1] for line in (held / "volume_usd_4h.csv").read_text().splitlines()] == [
        line.split(",")[1] for line in wide.splitlines()
    ]


def test_a_damaged_wide_file_is_left_and_the_others_are_written(held, export, newer):
    file = held / "log_returns_4h.csv"
    file.write_text("rubbish\n")
    before = (held / "volume_usd_4h.csv").read_bytes()
    report = export(*newer, 60)
    assert report.refused.keys() == {"log_returns_4h.csv"}
    assert file.read_text() == "rubbish\n"
    assert (held / "volume_usd_4h.csv").read_bytes() != before


def test_a_manifest_that_cannot_be_read_refuses_every_coin_until_it_is_trusted(held, export, newer, contents):
    (held / "4h/manifest.json").write_text('{"format": 1, "fil')
    before = contents(held / "4h")
    report = export(*newer, 60)
    assert {"BTC", "ETH"} <= report.refused.keys()
    assert contents(held / "4h") == before
    assert export(*newer, 60, trust_files=True).refused == {}
    assert export(*newer, 60).refused == {}


def test_files_of_a_time_without_manifest_are_taken_in(held, export, newer):
    whole = (held / "4h/BTC_candles_4h.csv").read_text()
    for folder in (held, held / "4h"):
        (folder / "manifest.json").unlink()
    assert export(*newer, 60).refused == {}
    assert (held / "4h/BTC_candles_4h.csv").read_text().startswith(whole)
    assert "BTC_candles_4h.csv" in json.loads((held / "4h/manifest.json").read_text())["files"]


def test_a_name_that_differs_only_by_case_is_refused(held, export, market, contents):
    before = contents(held)
    report = export(*market(("btc", "SOL"), 0, 48), 48)
    assert report.refused.keys() == {"btc"}
    assert "differs from the existing BTC_candles_4h.csv only by case" in report.refused["btc"]
    after = contents(held)
    assert all(after[name] == before[name] for name in before if "BTC" in name)
    assert "SOL" in (held / "log_returns_4h.csv").read_text().split("\n")[0]


def test_a_name_that_clashes_in_one_of_its_files_gets_none_of_them(held, export, market):
    for name in ("BTC_candles_4h.csv", "BTC_funding_4h.csv"):
        (held / "4h" / name).unlink()
    assert export(*market(("btc",), 0, 48), 48).refused.keys() == {"btc"}
    assert not list((held / "4h").glob("btc*"))


def test_of_two_new_names_that_differ_only_by_case_one_is_written(export, market, out):
    report = export(*market(("KPEPE", "kPEPE"), 0, 24), 24)
    assert report.refused.keys() == {"kPEPE"}
    assert (out / "4h/KPEPE_candles_4h.csv").is_file()


def test_a_second_writer_leaves_with_a_message(held, export, newer):
    with (held / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(SlipstreamError, match="another process is writing exports here"):
            export(*newer, 60)
    assert export(*newer, 60).refused == {}


class _Cut(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("with_manifest", [True, False])
@pytest.mark.parametrize("after", range(8))
def test_an_export_cut_at_any_rename_is_not_taken_for_damage(
    held, export, newer, monkeypatch, contents, after, with_manifest
):
    if not with_manifest:
        (held / "4h/manifest.json").unlink()
    old = contents(held / "4h")
    left = [after]
    real = type(held).replace

    def replace(self, target):
        if left[0] == 0:
            raise _Cut
        left[0] -= 1
        return real(self, target)

    monkeypatch.setattr(type(held), "replace", replace)
    with pytest.raises(_Cut):
        export(*newer, 60)
    monkeypatch.undo()
    mixed = contents(held / "4h")
    assert export(*newer, 60).refused == {}
    new = contents(held / "4h")
    for name in new.keys() - {"manifest.json"}:
        assert mixed[name] in (old[name], new[name]), name
    assert json.loads(new["manifest.json"])["coming"] == {}
    assert not [name for name in new if name.endswith(".new")]


def test_damage_between_an_interrupted_export_and_the_next_is_seen(held, export, newer, monkeypatch):
    real = type(held).replace
    left = [3]

    def replace(self, target):
        if left[0] == 0:
            raise _Cut
        left[0] -= 1
        return real(self, target)

    monkeypatch.setattr(type(held), "replace", replace)
    with pytest.raises(_Cut):
        export(*newer, 60)
    monkeypatch.undo()
    file = held / "4h/BTC_candles_4h.csv"
    file.write_bytes(file.read_bytes() + b"2025-01-09T00:00:00Z,1.0,1.0,1.0,1.0,1.0,1.0,1736395200000\n")
    assert export(*newer, 60).refused.keys() == {"BTC"}


def test_a_full_disk_leaves_everything_as_it_was(held, export, newer, monkeypatch, contents):
    before = contents(held)
    real = ExportFolder.stage

    def full(self, name, *rest, **options):
        if name == "ETH_merged_4h.csv":
            raise OSError(28, "No space left on device")
        return real(self, name, *rest, **options)

    monkeypatch.setattr(ExportFolder, "stage", full)
    with pytest.raises(SlipstreamError, match="No space left on device"):
        export(*newer, 60)
    assert contents(held) == before
