"""Which rows a reader may have: bars that have closed, of coins that exist."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from slipstream.core.panel import utc
from slipstream.errors import DataError, UsageError


def closed(frame: pl.DataFrame, now_ms: int, step_ms: int, path: str | Path) -> pl.DataFrame:
    """The rows whose bars have closed by now; only the bar being formed may be missing from the result.

    Args:
        frame: with ``coin`` and ``ts``, the open.
        now_ms: the present, Unix ms.
        step_ms: length of a bar.
        path: what the rows come from, for the message.

    Raises:
        DataError: a bar opens after now (the first is named): the column's unit or time zone is wrong.
    """
    opened = frame["ts"].dt.timestamp("ms")
    ahead = (opened > now_ms).fill_null(value=False)
    if ahead.any():
        row = int(ahead.arg_true()[0])
        raise DataError(
            f"{path} row {row}: ts is {utc(opened[row]):%Y-%m-%d %H:%M} UTC for {frame['coin'][row]}, which is in the "
            f"future ({int(ahead.sum())} rows are). Check the unit and the time zone of ts."
        )
    return frame.filter(opened + step_ms <= now_ms)


def selected(coins: Sequence[str], held: Sequence[str], path: str | Path) -> list[str]:
    """The coins asked for, in alphabetical order, each once.

    Raises:
        UsageError: none is asked for, or one is not held; near names are offered.
    """
    if not coins:
        raise UsageError(f"no coin asked for; {path} holds {len(held)}: leave the choice out to take all")
    folded = {name.casefold(): name for name in held}
    for coin in coins:
        if coin not in held:
            near = [folded[key] for key in difflib.get_close_matches(coin.casefold(), folded, n=3, cutoff=0.6)]
            hint = f"did you mean {' or '.join(near)}?" if near else f"it holds {', '.join(held)}."
            raise UsageError(f"{path} holds no coin {coin}; {hint} Names are case-sensitive.")
    return sorted(set(coins))
