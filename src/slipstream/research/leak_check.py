"""Does a strategy know the future? Two questions that can be asked of any decision without reading its code.

**Decided again.** At many moments the decision is taken from the whole history, and again from data that differ only in
what was not known: cut at the moment; with the later rows shuffled; with another settlement at the close, which is
published after it. Any difference is a leak, and the first is named.

**Too good.** A leak may hide in data that was made before the strategy saw it. So every feature the decision computed,
the decision itself, and scores from files are ranked against what happens next, with labels shifted bar by bar. Real
features of bars reach rank correlations of 0.01 to 0.05 with the next bar's return; one that *is* the next return
reaches 1, and the curve over shifts says which bar it knows. Funding persists for days, so a high correlation with the
next settlement is no fault; knowing it better than the last published one is.

Passing proves neither an edge nor its absence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from slipstream.core.decision import Decide, NotEnoughHistory, checked_weights
from slipstream.core.forecast.hac import hac_mean
from slipstream.core.forecast.scores import rank_ic
from slipstream.core.panel import FloatArray, Panel, View, utc
from slipstream.errors import UsageError

TOLERANCE = 1e-9
"""Difference of a weight from which it counts: sums over arrays of other lengths may differ in their last bits."""
SHIFTS = (-1, 0, 1, 2, 3, 4)
"""Labels: the bar that ends so many rows after the feature's. 0 has just ended, 1 is the next one, a decision's own."""
IMPLAUSIBLE_PRICE_IC = 0.2
IMPLAUSIBLE_FUNDING_IC = 0.95
SIGNIFICANT_T = 4.0
LEAST_COINS = 5
LEAST_ROWS = 12
"""Rows with a rank correlation that a curve needs to be judged."""
MOST_ROWS = 3000
"""Rows a curve is measured on at most, evenly spread."""
ARRAYS = ("open", "high", "low", "close", "volume_usd", "funding", "universe")

Question = Literal["cut", "shuffled", "settlement"]
Target = Literal["price", "funding"]
MEANING: dict[Question, str] = {
    "cut": "the data end at the moment",
    "shuffled": "later rows in another order",
    "settlement": "another settlement at the close, which is published after it",
}


@dataclass(frozen=True)
class Difference:
    """A decision that changed with what it could not know.

    Attributes:
        question: what was changed.
        known_at_ms: the moment of the decision, Unix ms.
        coin: whose weight changed most; empty where one of the two decisions could not be taken at all.
        weight, other: from the whole history, and from the changed data.
    """

    question: Question
    known_at_ms: int
    coin: str
    weight: float
    other: float

    def __str__(self) -> str:
        when = f"{utc(self.known_at_ms):%Y-%m-%d %H:%M} UTC"
        if not self.coin:
            return f"{when}: could be taken from one and not from the other ({MEANING[self.question]})"
        return f"{when}, {self.coin}: {self.weight:.6g} became {self.other:.6g} ({MEANING[self.question]})"


@dataclass(frozen=True)
class ShiftedLabels:
    """Mean rank correlation across coins of one feature with labels shifted bar by bar.

    Attributes:
        feature: name and parameters.
        target: "price", simple returns, or "funding", rates settled.
        ic: shift -> mean rank correlation; NaN where there are too few rows.
        t: shift -> its t statistic, Newey-West over ten rows.
        implausible: it knows what it cannot.
    """

    feature: str
    target: Target
    ic: dict[int, float]
    t: dict[int, float]
    implausible: bool


@dataclass(frozen=True)
class LeakReport:
    """What came out.

    Attributes:
        moments: decisions compared, for each of the questions.
        held: of these, how many held anything; where none did, the first part says nothing.
        differences: in order of time.
        curves: of every feature with a cross-section, both targets.
    """

    moments: int
    held: int
    differences: tuple[Difference, ...]
    curves: tuple[ShiftedLabels, ...] = field(repr=False)

    @property
    def implausible(self) -> tuple[ShiftedLabels, ...]:
        return tuple(curve for curve in self.curves if curve.implausible)

    @property
    def leaks(self) -> bool:
        return bool(self.differences or self.implausible)


def leak_check(
    panel: Panel,
    decide: Decide,
    *,
    moments: int = 20,
    seed: int = 42,
    scores: Mapping[str, FloatArray] | None = None,
) -> LeakReport:
    """Ask both questions of a decision.

    Args:
        panel: the market.
        decide: the decision; where it can weigh holdings, it is asked for its aim.
        moments: how many decisions are taken again, spread evenly over the rows at which a coin may be held.
        seed: of the shuffles.
        scores: further features, name -> (T, N), such as files the strategy reads.

    Raises:
        UsageError: no coin may be held at any row, or fewer than one moment was asked for.
        BadDecision: a decision has the wrong shape, a NaN or a coin outside the universe.
    """
    rows = _moments(panel, moments)
    whole = panel.view()
    decided = {row: _decision(decide, whole.as_of(row)) for row in rows}
    differences = [
        found
        for row in rows
        for question in MEANING
        if (found := _difference(panel, row, question, decided[row], decide, seed)) is not None
    ]
    features = {**_cross_sections(whole), **dict(scores or {})}
    features["the decision"] = _placed(panel, decided)
    curves = shifted_labels(panel, features)
    held = sum(weights is not None and bool(weights.any()) for weights in decided.values())
    return LeakReport(len(rows), held, tuple(differences), curves)


def shifted_labels(panel: Panel, features: Mapping[str, FloatArray]) -> tuple[ShiftedLabels, ...]:
    """The curve of every feature, (T, N) each, against returns and against funding."""
    simple = np.expm1(panel.view().log_return)
    out = []
    for name, values in features.items():
        out.append(_curve(name, "price", values, simple))
        out.append(_curve(name, "funding", values, panel.funding))
    return tuple(out)


def _curve(name: str, target: Target, values: FloatArray, came: FloatArray) -> ShiftedLabels:
    found = {shift: _rank_correlation(values, came, shift) for shift in SHIFTS}
    ic = {shift: mean for shift, (mean, _) in found.items()}
    t = {shift: ratio for shift, (_, ratio) in found.items()}
    judged = _price_implausible(ic, t) if target == "price" else _funding_implausible(ic)
    return ShiftedLabels(name, target, ic, t, judged)


def _price_implausible(ic: Mapping[int, float], t: Mapping[int, float]) -> bool:
    return any(
        shift > 0 and abs(ic[shift]) >= IMPLAUSIBLE_PRICE_IC and not abs(t[shift]) < SIGNIFICANT_T for shift in ic
    )


def _funding_implausible(ic: Mapping[int, float]) -> bool:
    published = abs(ic[-1]) if np.isfinite(ic[-1]) else 0.0
    return any(
        shift >= 0 and abs(ic[shift]) >= IMPLAUSIBLE_FUNDING_IC and abs(ic[shift]) > published + 0.01 for shift in ic
    )


def _moments(panel: Panel, count: int) -> list[int]:
    if count < 1:
        raise UsageError(f"{count} moments; check at least one")
    # The last row has no later data to differ in.
    open_rows = np.flatnonzero(panel.universe[:-1].any(axis=1))
    if not len(open_rows):
        raise UsageError(f"{panel.source}: no coin may be held at any row; give a longer history")
    places = np.linspace(0, len(open_rows) - 1, num=min(count, len(open_rows))).round().astype(np.int64)
    return [int(row) for row in open_rows[places]]


def _decision(decide: Decide, view: View) -> FloatArray | None:
    """Checked weights, None where there is not enough history."""
    try:
        return checked_weights(decide, view)
    except NotEnoughHistory:
        return None


def _difference(
    panel: Panel, row: int, question: Question, weights: FloatArray | None, decide: Decide, seed: int
) -> Difference | None:
    again = _decision(decide, _changed(panel, row, question, seed).view().as_of(row))
    moment = int(panel.known_at_ms[row])
    if weights is None or again is None:
        if weights is None and again is None:
            return None
        return Difference(question, moment, "", float("nan"), float("nan"))
    gap = np.abs(weights - again)
    worst = int(np.argmax(gap))
    if gap[worst] <= TOLERANCE:
        return None
    return Difference(question, moment, panel.coins[worst], float(weights[worst]), float(again[worst]))


def _changed(panel: Panel, row: int, question: Question, seed: int) -> Panel:
    """The panel with what is not known at the close of ``row`` removed, shuffled or replaced."""
    if question == "cut":
        return panel.until(row)
    if question == "shuffled":
        order = np.arange(panel.rows)
        np.random.default_rng([seed, row]).shuffle(order[row + 1 :])
        shuffled: dict[str, Any] = {name: np.ascontiguousarray(getattr(panel, name)[order]) for name in ARRAYS}
        return replace(panel, **shuffled)
    funding = panel.funding.copy()
    funding[row] = np.where(np.isnan(funding[row]), 1e-3, -funding[row] + 1e-3)
    return replace(panel, funding=funding)


def _cross_sections(view: View) -> dict[str, FloatArray]:
    """Every computed feature with one value per coin, (T, N) each; what lies between time and coin is numbered."""
    found: dict[str, FloatArray] = {}
    for name, values in view.computed.items():
        if values.shape[:1] != (view.rows,) or values.ndim < 2 or values.shape[-1] != len(view.coins):
            continue
        layers = values.reshape(view.rows, -1, len(view.coins))
        for k in range(layers.shape[1]):
            found[f"{name}[{k}]" if layers.shape[1] > 1 else name] = layers[:, k]
    return found


def _placed(panel: Panel, decided: Mapping[int, FloatArray | None]) -> FloatArray:
    """Decisions at their rows, NaN elsewhere and where nothing is held, (T, N)."""
    out = np.full(panel.close.shape, np.nan)
    for row, weights in decided.items():
        if weights is not None and weights.any():
            out[row] = np.where(panel.universe[row], weights, np.nan)
    return out


def _rank_correlation(feature: FloatArray, came: FloatArray, shift: int) -> tuple[float, float]:
    """Mean rank correlation of the feature's rows with what came ``shift`` rows on, and its t."""
    rows = np.flatnonzero(np.isfinite(feature).any(axis=1))
    rows = rows[(rows + shift >= 0) & (rows + shift < len(came))]
    rows = rows[:: max(1, -(-len(rows) // MOST_ROWS))]
    if len(rows) < LEAST_ROWS:
        return float("nan"), float("nan")
    ic = rank_ic(feature[rows], came[rows + shift], LEAST_COINS)
    known = ic[np.isfinite(ic)]
    if len(known) < LEAST_ROWS:
        return float("nan"), float("nan")
    found = hac_mean(known, min(10, len(known) // 4))
    return found.mean, found.t


def named_scores(panel: Panel, known_at_ms: Sequence[int], coins: Sequence[str], values: FloatArray) -> FloatArray:
    """Scores of a table at a panel's rows and coins, (T, N); NaN where the table has none.

    Raises:
        UsageError: no time or no coin in common.
    """
    row_of = {int(ms): row for row, ms in enumerate(panel.known_at_ms)}
    column_of = {coin: column for column, coin in enumerate(panel.coins)}
    rows = [(row_of[ms], i) for i, ms in enumerate(known_at_ms) if ms in row_of]
    columns = [(column_of[coin], j) for j, coin in enumerate(coins) if coin in column_of]
    if not rows or not columns:
        raise UsageError(f"scores have no {'coin' if rows else 'time'} in common with {panel.source}")
    out = np.full(panel.close.shape, np.nan)
    into_rows, from_rows = zip(*rows, strict=True)
    into_columns, from_columns = zip(*columns, strict=True)
    out[np.ix_(into_rows, into_columns)] = values[np.ix_(from_rows, from_columns)]
    return out
