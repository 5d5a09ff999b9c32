"""The configuration of a recording: every key used, every other named."""

from __future__ import annotations

import pytest

from slipstream.errors import UsageError
from slipstream.ingest.recorder.config import read_brawler_file
from slipstream.ingest.recorder.csv_tables import Asset

GOOD = "assets:\n  BTC: {symbol: BTC, cex_symbol: btcusdt}\n  kPEPE: {symbol: kPEPE}\n"


def written(tmp_path, text: str, name: str = "b.yml"):
    file = tmp_path / name
    file.write_text(text)
    return file


def test_the_file_of_the_repository_reads(repository):
    file = repository / "config/brawler.yml"
    config = read_brawler_file(file)
    assert config.recorded(None, file) == tuple(Asset(coin, f"{coin.lower()}usdt") for coin in ("BTC", "ETH", "SOL"))
    assert config.binance_ws_url == "wss://fstream.binance.com"


def test_a_missing_cex_symbol_comes_from_the_mapping_of_the_house(tmp_path):
    file = written(tmp_path, GOOD)
    assert read_brawler_file(file).recorded(["kPEPE"], file) == (Asset("kPEPE", "1000pepeusdt"),)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("asset: {}\n", "unknown key 'asset'; did you mean 'assets'"),
        (
            GOOD.replace("cex_symbol", "cexsymbol"),
            "'assets.BTC.cexsymbol'; did you mean 'assets.BTC.cex_symbol'",
        ),
        (GOOD + "binance_url: ws://x\n", "did you mean 'binance_ws_url'"),
        (GOOD.replace("symbol: BTC", "symbol: btc"), "must be 'BTC'"),
        (GOOD.replace("symbol: kPEPE", "symbol: kPEPE, cex_symbol: BTCUSDT"), "share the cex_symbol BTCUSDT"),
        (GOOD.replace("cex_symbol: btcusdt", "cex_symbol: 5"), "Expected `str"),
        ("assets: {BTC: {cex_symbol: btcusdt}}\n", "symbol"),
        ("assets: {}\n", "at least one coin"),
        ("assets: [1, 2]\n", "assets"),
        ("- 1\n", "holds a list"),
        ("a: [\n", "cannot be read"),
    ],
)
def test_a_file_that_cannot_be_used_says_where_and_why(tmp_path, text, says):
    file = written(tmp_path, text)
    with pytest.raises(UsageError) as refused:
        read_brawler_file(file)
    assert says in str(refused.value)
    assert str(file) in str(refused.value)


def test_an_unknown_symbol_and_an_absent_file_name_the_nearest(tmp_path):
    file = written(tmp_path, GOOD, "brawler.yml")
    with pytest.raises(UsageError, match="did you mean BTC"):
        read_brawler_file(file).recorded(["btc"], file)
    with pytest.raises(UsageError, match=r"nearest one that exists is .*brawler\.yml"):
        read_brawler_file(tmp_path / "brawler.yaml")
