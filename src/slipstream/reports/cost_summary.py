"""A cost calibration as figures: the JSON that is written and the tables that are printed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from slipstream.core.panel import utc
from slipstream.core.portfolio.book_walk import SIDES
from slipstream.core.portfolio.calibration import QUANTILES, CoinCalibration, cost_model
from slipstream.lake.books import RecordedBook
from slipstream.reports.formatting import number, percent

K_SCALE = 1e3
"""k is printed in thousandths of a basis point per root USD: 1 is 0.1 bp at 10 000 USD and 0.32 bp at 100 000."""

_REASONS = ("stale", "one-sided", "crossed", "repeated")


def calibration_summary(
    found: Sequence[CoinCalibration],
    recorded: dict[str, RecordedBook],
    *,
    capital_usd: float,
    fee_bps: float,
    prior_as_of_ms: int | None,
) -> dict[str, Any]:
    """Every figure of a calibration and the cost model made of it, ready for JSON (None where there is no number).

    Args:
        found: calibrated coins.
        recorded: their recordings, by coin.
        capital_usd: reference capital of the cost model.
        fee_bps: exchange fee in it, basis points.
        prior_as_of_ms: when the prior's volatility and volume were known, Unix ms; None without a prior.
    """
    model = cost_model(found, capital_usd, fee_bps * 1e-4)
    coins = {}
    for i, coin in enumerate(found):
        book = recorded[coin.coin]
        coins[coin.coin] = {
            "half_spread_bps": coin.half_spread_bps,
            "half_spread_interval_bps": list(coin.half_spread_interval_bps),
            "quoted_half_spread_bps": coin.quoted_half_spread_bps,
            "k_bps_per_sqrt_usd": coin.k_bps_per_sqrt_usd,
            "k_books": coin.k_books,
            "k_books_interval": list(coin.k_books_interval),
            "k_prior": coin.k_prior if math.isfinite(coin.k_prior) else None,
            "books_weight": coin.books_weight,
            "fee_rate": float(model.fee_rate[i]),
            "impact_coef": float(model.impact_coef[i]),
            "snapshots": coin.n_snapshots,
            "independent_snapshots": coin.n_effective,
            "blocks": coin.n_blocks,
            "dropped": {name: getattr(book, name) for name in ("stale", "one_sided", "crossed", "repeated")},
            "first": utc(coin.first_ms).isoformat(),
            "last": utc(coin.last_ms).isoformat(),
            "depth": [vars(depth) for depth in coin.depth],
            "holdout": vars(coin.holdout),
            "walk": [
                {
                    "side": side,
                    "size_usd": size,
                    "mean_bps": float(coin.mean_bps[s, j]),
                    "quantiles_bps": coin.quantiles_bps[s, j].tolist(),
                    "censored_share": float(coin.censored_share[s, j]),
                }
                for s, side in enumerate(SIDES)
                for j, size in enumerate(coin.sizes_usd.tolist())
            ],
        }
    return {
        "capital_usd": capital_usd,
        "fee_bps": fee_bps,
        "quantiles": list(QUANTILES),
        "prior_as_of": None if prior_as_of_ms is None else utc(prior_as_of_ms).isoformat(),
        "coins": coins,
    }


def print_calibration(
    found: Sequence[CoinCalibration],
    recorded: dict[str, RecordedBook],
    *,
    prior_as_of_ms: int | None,
    console: Console | None = None,
) -> None:
    """Print the curves, what they charge beside what books charged, and where the numbers come from."""
    screen = console or Console()
    screen.print(_curves(found))
    screen.print(_costs(found))
    screen.print(_errors(found))
    for label, text in provenance(found, recorded, prior_as_of_ms):
        screen.print(f"{label:<10}{text}", soft_wrap=True, highlight=False, markup=False)


def provenance(
    found: Sequence[CoinCalibration], recorded: dict[str, RecordedBook], prior_as_of_ms: int | None
) -> list[tuple[str, str]]:
    """Span, losses and prior of a calibration: a word and what it stands for, each."""
    first, last = min(coin.first_ms for coin in found), max(coin.last_ms for coin in found)
    minutes = (last - first) / 60_000.0
    held = max(coin.holdout.minutes for coin in found)
    spanned = f"{utc(first):%Y-%m-%d %H:%M} to {utc(last):%Y-%m-%d %H:%M} UTC"
    lines = [
        ("recorded", f"{spanned}, {number(minutes)} min; errors on the last {number(held, 1)} min, unseen by the fit")
    ]
    losses: dict[str, list[str]] = {}
    for coin in found:
        book = recorded[coin.coin]
        reasons = zip(_REASONS, (book.stale, book.one_sided, book.crossed, book.repeated), strict=True)
        named = ", ".join(f"{number(count)} {reason}" for reason, count in reasons if count)
        losses.setdefault(named, []).append(coin.coin)
    lines += [("dropped", f"{named} of each of {', '.join(coins)}") for named, coins in losses.items() if named]
    without = [coin.coin for coin in found if not math.isfinite(coin.k_prior)]
    if prior_as_of_ms is not None:
        days = (first - prior_as_of_ms) / 86_400_000
        known = f"30-day volatility and volume as known {utc(prior_as_of_ms):%Y-%m-%d %H:%M} UTC"
        lines.append(("prior", f"{known}, {number(days)} days before the recording"))
    if without:
        lines.append(("no prior", f"{', '.join(without)}: volatility or volume unknown, k is the books' alone"))
    return lines


def _curves(found: Sequence[CoinCalibration]) -> Table:
    table = _table(
        "cost(S) = half-spread + k √S, bp of an order of S USD; k in 1e-3 bp per √USD",
        ("half\nspread", "95 %", "k of\nbooks", "95 %", "k of\nprior", "books'\nweight", "k"),
    )
    for coin in found:
        table.add_row(
            coin.coin,
            number(coin.half_spread_bps, 3),
            span(coin.half_spread_interval_bps, 3),
            number(K_SCALE * coin.k_books, 2),
            span((K_SCALE * coin.k_books_interval[0], K_SCALE * coin.k_books_interval[1]), 2),
            number(K_SCALE * coin.k_prior, 2) if math.isfinite(coin.k_prior) else "none",
            percent(coin.books_weight, 0),
            number(K_SCALE * coin.k_bps_per_sqrt_usd, 2),
        )
    return table


def _costs(found: Sequence[CoinCalibration]) -> Table:
    middle, largest = 1e4, float(found[0].sizes_usd[-1])
    table = _table(
        "what the curve charges, what books charged on average (buy / sell), bp",
        (
            "books",
            "indep.",
            f"cost at\n{number(middle)}",
            f"cost at\n{number(largest)}",
            f"books at\n{number(largest)}",
            f"censored at\n{number(largest)}",
        ),
    )
    for coin in found:
        buy, sell = coin.mean_bps[:, -1].tolist()
        lost_buy, lost_sell = (100.0 * coin.censored_share[:, -1]).tolist()
        table.add_row(
            coin.coin,
            number(coin.n_snapshots),
            number(coin.n_effective),
            *(number(cost, 2) for cost in coin.cost_bps(np.array([middle, largest])).tolist()),
            f"{number(buy, 2)} / {number(sell, 2)}",
            f"{number(lost_buy, 1)} / {number(lost_sell, 1)} %",
        )
    return table


def _errors(found: Sequence[CoinCalibration]) -> Table:
    table = _table(
        "errors of one order on the held-out end, bp",
        ("minutes", "MAE", "MAE,\nbooks alone", "MAE,\nfree levels", "bias"),
    )
    for coin in found:
        held = coin.holdout
        figures = (held.mae_bps, held.books_mae_bps, held.free_mae_bps)
        table.add_row(
            coin.coin,
            number(held.minutes, 1),
            *(number(value, 2) for value in figures),
            number(held.bias_bps, 2, signed=True),
        )
    return table


def _table(title: str, headings: Sequence[str]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, title=title, title_justify="left")
    table.add_column("coin", no_wrap=True)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def span(interval: tuple[float, float], places: int) -> str:
    """An interval of numbers that are not negative: ``1.07-1.29``."""
    return f"{number(interval[0], places)}\N{EN DASH}{number(interval[1], places)}"
