"""``scripts/merge_history.py``: the API's candles extended backwards by the archive's, one history per coin."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from slipstream.errors import SafetyRefusal

if TYPE_CHECKING:
    from slipstream.lake.export.merged_history import MergedHistories


def merge(
    *,
    interval: Annotated[str, Parameter(help="Bar length, such as 1h, 4h or 1d.")] = "4h",
    output: Annotated[Path, Parameter(help="Folder to write; laid out like market_data.")] = Path("data/merged"),
    data_dir: Annotated[Path, Parameter(help="Folder that holds market_data and s3_historical.")] = Path("data"),
    trust_files: Annotated[
        bool, Parameter(negative="", help="Take files that differ from their checksum in the manifest for right.")
    ] = False,
) -> None:
    """Merge the API's files with the archive's: the API wins on overlap, the archive extends backwards.

    A column ``source`` (api or s3) says where a bar comes from. Bars of the archive that do not cover all their hours
    are left out. Nothing that is in the output is ever lost: a coin for which it would be is refused (exit 3), and the
    others are written.

    Example: python scripts/merge_history.py --interval 4h --output data/merged
    """
    from slipstream.cli.clock import wall_clock_ms
    from slipstream.lake.export.merged_history import merge_history

    done = merge_history(data_dir, interval, output, now_ms=wall_clock_ms(), trust_files=trust_files)
    _report(done, interval, output)
    refused = done.export.refused
    if refused:
        raise SafetyRefusal(
            f"{', '.join(refused)} refused and left as they were; everything else is written to {output}"
        )


def _report(done: MergedHistories, interval: str, output: Path) -> None:
    from slipstream.core.panel import utc

    for coin in done.export.coins:
        if coin.refused is not None:
            _say(f"{coin.coin}: refused: {coin.refused}")
            continue
        api, archive = done.rows[coin.coin]
        span = "no bars"
        if coin.first_after_ms is not None and coin.last_after_ms is not None:
            span = f"{utc(coin.first_after_ms):%Y-%m-%d %H:%M} to {utc(coin.last_after_ms):%Y-%m-%d %H:%M} UTC"
        partial = done.partial.get(coin.coin, 0)
        left_out = f"; {partial} partial archive bars left out" if partial else ""
        _say(f"{coin.coin}: {coin.rows_before} -> {coin.rows_after} rows, {api} api + {archive} s3, {span}{left_out}")
    for name, reason in done.export.refused_files.items():
        _say(f"{name}: refused: {reason}")
    _say(f"{output}: {len(done.export.coins)} coins of {interval}, {len(done.export.files)} files written")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
