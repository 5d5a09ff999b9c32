"""The files a federated backtest leaves: all of them, or none.

Everything is first written into a hidden folder beside the target and then moved in, so an interrupt or a full disk
leaves what was there before; an interrupt that comes while the files are moved waits until all of them are.
"""

from __future__ import annotations

import json
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from slipstream.errors import SlipstreamError
from slipstream.federation.result import PARTS, FederationResult

if TYPE_CHECKING:
    import polars as pl

    from slipstream.core.panel import IntArray


class OutputError(SlipstreamError):
    """The results could not be written."""


@contextmanager
def staged(out: Path) -> Iterator[Path]:
    """A folder to write into; on a clean exit its files replace their namesakes in ``out``, else nothing changes.

    Raises:
        OutputError: ``out`` is a file, or its parent cannot be written.
    """
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out} is a file; give a folder with --out")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        stage = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    except OSError as error:
        raise OutputError(f"cannot write beside {out}: {error.strerror}; choose another --out") from error
    try:
        yield stage
        with _signals_held():
            out.mkdir(exist_ok=True)
            for file in sorted(stage.iterdir()):
                file.replace(out / file.name)
    finally:
        shutil.rmtree(stage, ignore_errors=True)


@contextmanager
def _signals_held() -> Iterator[None]:
    """Keep Ctrl-C and a polite kill waiting for the few renames between a whole old folder and a whole new one.

    Handlers are swapped and not masked: a masked signal goes to another thread, and reaches this one all the same.
    Outside the main thread nothing is held, since no interrupt is ever delivered there.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    arrived: list[int] = []
    before = {
        number: signal.signal(number, lambda received, _frame: arrived.append(received))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for received in arrived[:1]:
            signal.raise_signal(received)


def summary_text(summary: dict[str, Any]) -> str:
    """``summary.json``'s exact text.

    Raises:
        ValueError: a figure is NaN or infinite, which JSON cannot hold.
    """
    return json.dumps(summary, indent=2, allow_nan=False) + "\n"


def write_outputs(out: Path, result: FederationResult, summary: dict[str, Any], report_html: str) -> None:
    """Write ``report.html``, ``equity.parquet``, ``allocations.parquet``, ``trades.parquet`` and ``summary.json``.

    Raises:
        OutputError: the folder cannot be written.
    """
    with staged(out) as stage:
        equity_frame(result).write_parquet(stage / "equity.parquet")
        allocations_frame(result).write_parquet(stage / "allocations.parquet")
        trades_frame(result).write_parquet(stage / "trades.parquet")
        (stage / "report.html").write_text(report_html, encoding="utf-8")
        (stage / "summary.json").write_text(summary_text(summary), encoding="utf-8")


def _utc_column(time_ms: IntArray) -> pl.Series:
    import polars as pl

    return pl.Series("time", time_ms).cast(pl.Datetime("ms", "UTC"))


def equity_frame(result: FederationResult) -> pl.DataFrame:
    """Hourly ledgers in long form, pods in order and then ``total``, sorted by time.

    Columns: ``time, pod, equity_usd``, cumulative ``price_usd, funding_usd, fees_usd, impact_usd``, ``capital_usd``
    (the grant over the hour ending at ``time``), ``track`` (growth of one unit of granted capital). Equity less its
    first value is the sum of the four parts. A row shows the account before the decision taken at its time is traded.
    """
    import polars as pl

    hours, names = len(result.time_ms), (*result.pods, "total")
    parts = np.cumsum(result.pnl_usd, axis=0)
    parts = np.concatenate((parts, parts.sum(axis=1, keepdims=True)), axis=1)

    def with_total(values: np.ndarray, total: np.ndarray) -> np.ndarray:
        return np.concatenate((values, total[:, None]), axis=1).ravel()

    return pl.DataFrame(
        {
            "time": _utc_column(np.repeat(result.time_ms, len(names))),
            "pod": np.tile(np.array(names), hours),
            "equity_usd": with_total(result.equity_usd, result.total_equity_usd),
            **{f"{name}_usd": parts[:, :, i].ravel() for i, name in enumerate(PARTS)},
            "capital_usd": with_total(result.capital_usd, result.capital_usd.sum(axis=1)),
            "track": with_total(result.track, result.total_track),
        }
    )


def allocations_frame(result: FederationResult) -> pl.DataFrame:
    """Grants, one row per cycle and pod: ``time, pod, capital_usd, weight`` (fraction of account equity)."""
    import polars as pl

    cycles = len(result.decision_ms)
    return pl.DataFrame(
        {
            "time": _utc_column(np.repeat(result.decision_ms, len(result.pods))),
            "pod": np.tile(np.array(result.pods), cycles),
            "capital_usd": result.granted_usd.ravel(),
            "weight": result.weights.ravel(),
        }
    )


def trades_frame(result: FederationResult) -> pl.DataFrame:
    """Every trade: ``time, pod, coin, notional_usd, price, fee_usd, impact_usd``.

    A positive notional buys; ``fee_usd`` holds the half-spread too, and both costs are at least 0.
    """
    import polars as pl

    trades = result.trades
    return pl.DataFrame(
        {
            "time": _utc_column(trades.time_ms),
            "pod": np.array(result.pods)[trades.pod],
            "coin": np.array(result.coins)[trades.coin],
            "notional_usd": trades.notional_usd,
            "price": trades.price,
            "fee_usd": trades.fee_usd,
            "impact_usd": trades.impact_usd,
        }
    )
