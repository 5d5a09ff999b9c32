"""``scripts/merge_history.py``: the API wins, the archive extends backwards, and the output is safe as any export."""

from __future__ import annotations

import subprocess
import sys

import polars as pl
import pytest
from cyclopts import App

from slipstream.cli.errors import run
from slipstream.cli.merge_history import merge

HOUR = 3_600_000


@pytest.fixture
def call(capsys, tmp_path):
    """Run the command on the test's data folder; returns (exit code, standard output, standard error)."""
    app = App(name="merge_history.py", version_flags=[])
    app.default(merge)

    def run_command(*arguments: str) -> tuple[int, str, str]:
        code = run(app, [*arguments, "--data-dir", str(tmp_path), "--output", str(tmp_path / "merged")])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run_command


@pytest.fixture
def archive(tmp_path, start_ms):
    """Write an archive file: bars that open at some hours, with their closes and the hours they cover."""

    def write(name: str, bars: dict[int, float], *, hours: dict[int, int] | None = None):
        folder = tmp_path / "s3_historical/candles"
        folder.mkdir(parents=True, exist_ok=True)
        opened = [start_ms + hour * HOUR for hour in bars]
        frame = pl.DataFrame(
            {
                "datetime": pl.Series(opened).cast(pl.Datetime("ms")).dt.strftime("%Y-%m-%dT%H:%M:%SZ"),
                **{column: list(bars.values()) for column in ("open", "high", "low", "close")},
                "volume": pl.Series([None] * len(bars), dtype=pl.Float64),
                "volume_usd": pl.Series([None] * len(bars), dtype=pl.Float64),
                "known_at_ms": [ms + 4 * HOUR for ms in opened],
                "hours": [(hours or {}).get(hour, 4) for hour in bars],
            }
        )
        file = folder / f"{name}_candles_4h.csv"
        frame.write_csv(file)
        return file

    return write


def test_the_api_wins_on_overlap_and_the_archive_extends_backwards(export, market, archive, call, tmp_path):
    export(*market(("BTC",), 8, 24), 24)
    archive("BTC", {-8: 90.0, -4: 91.0, 4: 93.0, 8: 94.0, 12: 95.0})
    code, out, _ = call()
    assert code == 0
    assert "BTC: 0 -> 7 rows, 4 api + 3 s3, 2024-12-31 16:00 to 2025-01-01 20:00 UTC" in out
    candles = pl.read_csv(tmp_path / "merged/4h/BTC_candles_4h.csv")
    assert candles.columns[-2:] == ["known_at_ms", "source"]
    assert candles["source"].to_list() == ["s3"] * 3 + ["api"] * 4
    assert candles["close"].to_list()[:3] == [90.0, 91.0, 93.0]
    told = pl.read_csv(tmp_path / "market_data/4h/BTC_candles_4h.csv")
    assert candles.filter(pl.col("source") == "api").drop("source").equals(told)
    assert candles["volume_usd"].null_count() == 3
    merged = pl.read_csv(tmp_path / "merged/4h/BTC_merged_4h.csv")
    assert merged.columns[-1] == "source"
    assert merged["gap_bars"].to_list() == [0, 0, 1, 0, 0, 0, 0]
    assert merged["ret"].null_count() == 1
    assert merged["funding_n"].to_list() == [0, 0, 0, 4, 4, 4, 4]
    assert merged["funding_sum"].null_count() == 3, "the archive knows no settled funding"
    wide = pl.read_csv(tmp_path / "merged/funding_sum_4h.csv")
    expected = pl.read_csv(tmp_path / "market_data/funding_sum_4h.csv")
    assert wide.tail(4).equals(expected)
    assert wide["BTC"].null_count() == 4, "three bars of the archive and the hole between them"


def test_eight_hourly_funding_keeps_its_zeros(export, hourly, rates, archive, call, tmp_path):
    export(hourly("BTCUSDT", 0, 240), rates("BTCUSDT", 0, 240, every=8), 240)
    archive("BTCUSDT", {-4: 99.0})
    assert call()[0] == 0
    wide = pl.read_csv(tmp_path / "merged/funding_sum_4h.csv")["BTCUSDT"]
    assert wide.to_list()[1:] == pl.read_csv(tmp_path / "market_data/funding_sum_4h.csv")["BTCUSDT"].to_list()
    assert (wide == 0.0).sum() == 30


def test_bars_of_the_archive_that_lack_hours_are_left_out_and_counted(archive, call, tmp_path):
    archive("kPEPE", {0: 1.0, 4: 1.1, 8: 1.2}, hours={4: 3})
    code, out, _ = call()
    assert code == 0
    assert "kPEPE: 0 -> 2 rows, 0 api + 2 s3" in out
    assert "1 partial archive bars left out" in out
    assert pl.read_csv(tmp_path / "merged/4h/kPEPE_candles_4h.csv")["close"].to_list() == [1.0, 1.2]


def test_a_second_run_writes_nothing_and_a_grown_api_adds_its_rows(export, market, archive, call, tmp_path):
    export(*market(("BTC", "xyz:GOLD"), 8, 24), 24)
    archive("xyz%3AGOLD", {0: 50.0, 4: 51.0})
    assert call()[0] == 0
    code, out, _ = call()
    assert (code, out.splitlines()[-1].endswith("2 coins of 4h, 0 files written")) == (0, True)
    before = (tmp_path / "merged/4h/xyz%3AGOLD_candles_4h.csv").read_text()
    export(*market(("BTC", "xyz:GOLD"), 8, 32), 32)
    assert call()[0] == 0
    assert (tmp_path / "merged/4h/xyz%3AGOLD_candles_4h.csv").read_text().startswith(before)


def test_what_the_api_told_is_never_replaced_by_the_archive(export, market, archive, call, tmp_path):
    export(*market(("BTC",), 8, 24), 24)
    call()
    before = (tmp_path / "merged/4h/BTC_candles_4h.csv").read_text()
    for file in (tmp_path / "market_data").rglob("*.*"):
        if file.is_file():
            file.unlink()
    archive("BTC", {4: 10.0, 8: 11.0, 12: 12.0})
    assert call()[0] == 0
    after = (tmp_path / "merged/4h/BTC_candles_4h.csv").read_text().splitlines()
    assert after[1].endswith(",s3")
    assert after[2:] == before.splitlines()[1:]


def test_a_damaged_input_refuses_its_coin_with_three_and_the_others_are_written(
    export, market, archive, call, tmp_path
):
    export(*market(("BTC", "ETH", "SOL"), 8, 24), 24)
    file = tmp_path / "market_data/4h/BTC_candles_4h.csv"
    file.write_text(file.read_text().replace("1", "2"))
    old = archive("ETH", {0: 1.0, 4: 2.0})
    old.write_text(old.read_text().replace("2.0", "-2.0"))
    code, out, err = call()
    assert code == 3
    assert "BTC, ETH refused" in err
    assert "BTC: refused: " in out
    assert "line 3, column open: '-2.0' cannot be right" in out
    assert [entry.name for entry in sorted((tmp_path / "merged/4h").glob("*_candles_4h.csv"))] == ["SOL_candles_4h.csv"]


def test_damage_of_the_output_refuses_its_coin_and_leaves_the_file(export, market, call, tmp_path):
    export(*market(("BTC", "ETH"), 8, 24), 24)
    call()
    file = tmp_path / "merged/4h/BTC_candles_4h.csv"
    file.write_text("rubbish")
    assert call()[0] == 3
    assert file.read_text() == "rubbish"


def test_nothing_to_merge_and_an_output_upon_the_input_end_with_two(export, market, call, tmp_path, capsys):
    code, _, err = call()
    assert code == 2
    assert "hl-load --all" in err
    assert not (tmp_path / "merged").exists()
    export(*market(("BTC",), 8, 24), 24)
    app = App(name="merge_history.py", version_flags=[])
    app.default(merge)
    assert run(app, ["--data-dir", str(tmp_path), "--output", str(tmp_path / "market_data")]) == 2
    assert "holds the API files" in capsys.readouterr().err
    code, _, err = call("--interval", "4 hours")
    assert code == 2
    assert "such as 15m, 1h, 4h or 1d" in err


def test_a_disk_that_refuses_ends_with_one(export, market, call, tmp_path):
    export(*market(("BTC",), 8, 24), 24)
    (tmp_path / "merged").write_text("a file where the folder should be")
    code, _, err = call()
    assert code == 1
    assert "cannot be written" in err


def test_the_launcher_explains_itself_with_an_example(repository):
    done = subprocess.run(
        [sys.executable, repository / "scripts/merge_history.py", "--help"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert "python scripts/merge_history.py --interval 4h --output data/merged" in " ".join(done.stdout.split())
