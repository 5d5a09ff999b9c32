"""Where every research command gets its bars: a panel file or a lake, or the CSV files exported for people."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from slipstream.errors import DataError, UsageError

if TYPE_CHECKING:
    from slipstream.core.panel import Panel

DataPath = Annotated[
    Path | None, Parameter(name="--data", help="A panel file or a lake. Default: the CSV files under --data-dir.")
]
DataDir = Annotated[Path, Parameter(help="Folder that holds market_data/ with exported CSV files.")]
Interval = Annotated[str, Parameter(help="Base bar, such as 1h, 4h or 1d; hourly data is resampled to it.")]


def research_panel(data: Path | None, data_dir: Path, interval: str) -> Panel:
    """Bars of ``interval`` from a panel file or lake, or else from ``data_dir/market_data/*_<interval>.csv``.

    Raises:
        UsageError: the interval is no number of hours or days, or the bars cannot be brought to it.
        DataError: the data is absent or cannot be used; for absent CSV files the message holds the command that
            writes them.
    """
    hours = interval_hours(interval)
    if data is not None:
        from slipstream.lake import load_panel

        return load_panel(data, bar_hours=hours)
    folder = data_dir / "market_data"
    files = {name: folder / f"{name}_{interval}.csv" for name in ("log_returns", "funding_sum", "volume_usd")}
    if not files["log_returns"].is_file():
        from slipstream.lake.datasets import INTERVAL_MS

        from_file = f"slipstream data export --data FILE --interval {interval} --out {folder}"
        load = f"hl-load --all --days 180 --interval {interval} --out-prefix {data_dir} (or, from a file: {from_file})"
        raise DataError(
            f"{files['log_returns']}: no such file; give --data, or write it with: "
            f"{load if interval in INTERVAL_MS else from_file}"
        )
    from slipstream.core.frames import panel_from_returns
    from slipstream.lake.wide_csv import read_wide_csv

    returns, funding, volume = (read_wide_csv(file) if file.is_file() else None for file in files.values())
    if returns is None:
        raise DataError(f"{files['log_returns']}: the file went away while it was read; try again")
    panel = panel_from_returns(returns, funding, volume, source=str(files["log_returns"]))
    if panel.bar_hours != hours:
        raise DataError(
            f"{files['log_returns']}: its bars are {panel.bar_hours} h long, not {hours} h; export it again with "
            f"--interval {interval}"
        )
    return panel


def interval_hours(interval: str, flag: str = "--interval") -> int:
    """Hours of an interval such as ``4h`` or ``1d``; ``flag`` is what the user wrote it behind.

    Raises:
        UsageError: it is no whole number of hours or days.
    """
    match = re.fullmatch(r"([1-9]\d*)([hd])", interval)
    if match is None:
        raise UsageError(f"{flag} {interval}: write a number of hours or days, such as 1h, 4h or 1d")
    return int(match[1]) * (24 if match[2] == "d" else 1)
