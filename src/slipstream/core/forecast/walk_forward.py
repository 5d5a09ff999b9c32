"""Forecasts made only from what was known: expanding training, purged of whatever overlaps what is scored.

Time is cut into equal blocks; the first only trains. The model of a block is fitted on the rows t before it whose
target had ended, t + H <= test start. Its penalty is chosen inside that training set by contiguous folds: a fold is
scored by a fit on the training rows outside (fold start - H, fold end + H + 128 h), because a target that reaches into
the fold, or a feature that remembers it, would tell the answer. Overlapping targets are kept; inference allows for
them (:mod:`slipstream.core.forecast.bootstrap`).

Source: Lopez de Prado (2018), Advances in Financial Machine Learning, chapter 7 (purging and embargo).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from slipstream.core.forecast.errors import ForecastError, NotEnoughData
from slipstream.core.forecast.moments import Moments, Regression
from slipstream.core.forecast.ridge import PENALTIES, RidgeFit, fit_ridge, squared_error
from slipstream.core.forecast.targets import holding_bars
from slipstream.core.panel import FloatArray

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class WalkForwardSettings:
    """How forecasts are made out of sample.

    Attributes:
        blocks: equal blocks of time; the first is trained on only.
        inner_folds: contiguous folds of a training set that choose its penalty.
        penalties: the grid, ascending.
        feature_memory_hours: how far back a feature reads; embargo after a fold, on top of H.
        min_train_days: a block with less training is not scored.
        short_train_days: a block with less is scored and flagged.
    """

    blocks: int = 10
    inner_folds: int = 10
    penalties: tuple[float, ...] = PENALTIES
    feature_memory_hours: float = 128.0
    min_train_days: float = 30.0
    short_train_days: float = 180.0

    def __post_init__(self) -> None:
        if self.blocks < 2 or self.inner_folds < 2:
            raise ForecastError(f"{self.blocks} blocks and {self.inner_folds} inner folds; it takes two of each")
        if not self.penalties or any(a >= b for a, b in zip((-1e-300, *self.penalties), self.penalties, strict=False)):
            raise ForecastError(f"penalties {self.penalties} must ascend from 0 or more")
        if min(self.feature_memory_hours, self.min_train_days, self.short_train_days) < 0.0:
            raise ForecastError("feature memory and training lengths must be at least 0")


@dataclass(frozen=True)
class PenaltyChoice:
    """A penalty chosen inside one training set.

    Attributes:
        penalty: the one of least pooled squared error.
        validation_mse: shape (penalties,), that error.
        at_edge: it is the first or last of the grid, so the best may lie beyond.
    """

    penalty: float
    validation_mse: FloatArray
    at_edge: bool


@dataclass(frozen=True)
class Block:
    """One block of time and the model that forecasts it.

    Attributes:
        test: rows [start, stop) of the block.
        train: rows [start, stop) trained on, purged.
        train_days: their span from the first joint observation on, days.
        short: trained on less than the flagged length.
        choice, fit: None where the block is not scored.
        why_not: why it is not scored; empty if it is.
    """

    test: tuple[int, int]
    train: tuple[int, int]
    train_days: float
    short: bool
    choice: PenaltyChoice | None
    fit: RidgeFit | None
    why_not: str = ""


@dataclass(frozen=True)
class WalkForward:
    """Out-of-sample forecasts.

    Attributes:
        forecast: shape (T, N), in the target's units; NaN outside scored blocks and where a feature is missing.
        blocks: all blocks after the first.
    """

    forecast: FloatArray = field(repr=False)
    blocks: tuple[Block, ...]

    @property
    def scored(self) -> tuple[Block, ...]:
        return tuple(block for block in self.blocks if block.fit is not None)


def walk_forward(
    features: FloatArray,
    moments: Moments,
    regression: Regression,
    *,
    horizon_hours: int,
    bar_hours: int,
    settings: WalkForwardSettings | None = None,
    span: tuple[int, int] | None = None,
) -> WalkForward:
    """Forecasts of every block after the first, each by a model of what was known at its start.

    Args:
        features: shape (T, N, p), all features of ``moments``; the regression's columns are read.
        moments: of the same rows (:func:`~slipstream.core.forecast.moments.joint_moments`).
        regression: which features explain which target.
        horizon_hours: H.
        bar_hours: length of a row, hours.
        settings: default :class:`WalkForwardSettings`.
        span: rows [start, stop) cut into blocks; default: from the first joint observation to the end. Give the same
            to every horizon that is to be compared.

    Raises:
        NotEnoughData: no block has enough training, or a training set is too short for its own folds.
        ForecastError: arrays, columns, span or horizon do not fit.
    """
    how = settings or WalkForwardSettings()
    bars = holding_bars(horizon_hours, bar_hours)
    if features.shape[0] != moments.rows or features.shape[2] != moments.features:
        raise ForecastError(f"features of shape {features.shape} are not those of {moments}")
    edges = _edges(moments, span, how.blocks)
    chosen = np.ascontiguousarray(features[:, :, list(regression.columns)])
    forecast = np.full(features.shape[:2], np.nan)
    blocks = []
    for begin, end in pairwise(edges[1:]):
        block = _block(moments, regression, (edges[0], begin, end), bars, bar_hours, how)
        if block.fit is not None:
            forecast[begin:end] = block.fit.predict(chosen[begin:end])
        blocks.append(block)
    result = WalkForward(forecast, tuple(blocks))
    if not result.scored:
        raise NotEnoughData(f"H = {horizon_hours} h: no block can be scored; the last one has {blocks[-1].why_not}")
    _log_notes(result, horizon_hours, how)
    return result


def choose_penalty(
    moments: Moments,
    regression: Regression,
    train: tuple[int, int],
    *,
    horizon_hours: int,
    bar_hours: int,
    settings: WalkForwardSettings | None = None,
) -> PenaltyChoice:
    """The penalty of least squared error over contiguous folds inside rows [start, stop), purged and embargoed.

    Folds without observations, or that leave none to train on, say nothing and are left out.

    Raises:
        NotEnoughData: no fold can be scored.
    """
    how = settings or WalkForwardSettings()
    bars = holding_bars(horizon_hours, bar_hours)
    memory = int(np.ceil(how.feature_memory_hours / bar_hours))
    start, stop = train
    edges = np.linspace(start, stop, how.inner_folds + 1).astype(int)
    error, observations = np.zeros(len(how.penalties)), 0.0
    least = len(regression.columns) + 2
    for first, after in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        outside = moments.between(start, first - bars + 1) + moments.between(after - 1 + bars + memory, stop)
        inside = moments.design(moments.between(first, after), regression)
        if inside[0, 0] < 1 or outside[0, 0] < least:
            continue
        observations += inside[0, 0]
        known = moments.design(outside, regression)
        for j, penalty in enumerate(how.penalties):
            fit = fit_ridge(known, penalty)
            error[j] += float(squared_error(inside, fit.intercept, fit.coefficients))
    if observations == 0.0:
        raise NotEnoughData(
            f"H = {horizon_hours} h: {(stop - start) * bar_hours / 24.0:.1f} days of training are too few to choose a "
            f"penalty inside them; train on more"
        )
    best = int(np.argmin(error))
    edge = len(how.penalties) > 1 and best in (0, len(how.penalties) - 1)
    return PenaltyChoice(how.penalties[best], error / observations, edge)


def _edges(moments: Moments, span: tuple[int, int] | None, blocks: int) -> list[int]:
    seen = np.flatnonzero(moments.count > 0)
    if not len(seen):
        raise NotEnoughData("there is not one row at which a coin has all its features and targets")
    start, stop = span or (int(seen[0]), moments.rows)
    if not 0 <= start < stop <= moments.rows or stop - start < blocks:
        raise ForecastError(f"rows {start} to {stop} of {moments.rows} cannot be cut into {blocks} blocks")
    return [int(edge) for edge in np.linspace(start, stop, blocks + 1)]


def _block(
    moments: Moments,
    regression: Regression,
    rows: tuple[int, int, int],
    bars: int,
    bar_hours: int,
    how: WalkForwardSettings,
) -> Block:
    """The block of test rows [begin, end), trained on the purged rows from ``start`` on."""
    start, begin, end = rows
    train = (start, max(start, begin - bars + 1))
    seen = np.flatnonzero(moments.count[train[0] : train[1]] > 0)
    days = (train[1] - start - int(seen[0])) * bar_hours / 24.0 if len(seen) else 0.0
    if days < how.min_train_days or not len(seen):
        why = f"{days:.1f} days of training, fewer than {how.min_train_days:g}"
        return Block((begin, end), train, days, True, None, None, why)
    choice = choose_penalty(
        moments, regression, train, horizon_hours=bars * bar_hours, bar_hours=bar_hours, settings=how
    )
    fit = fit_ridge(moments.design(moments.between(*train), regression), choice.penalty)
    return Block((begin, end), train, days, days < how.short_train_days, choice, fit)


def _log_notes(result: WalkForward, horizon_hours: int, how: WalkForwardSettings) -> None:
    """At most one line per kind of note: whoever retrains every week reads them all."""
    name, blocks = f"H = {horizon_hours} h", len(result.blocks)
    unscored = [block for block in result.blocks if block.why_not]
    if unscored:
        _LOG.warning("%s: %d of %d blocks not scored: %s", name, len(unscored), blocks, unscored[-1].why_not)
    short = sum(block.short for block in result.scored)
    if short:
        _LOG.warning("%s: %d of %d blocks trained on less than %g days", name, short, blocks, how.short_train_days)
    edges = sorted({block.choice.penalty for block in result.blocks if block.choice and block.choice.at_edge})
    if edges:
        _LOG.info("%s: penalties %s lie at the edge of the grid", name, ", ".join(f"{penalty:g}" for penalty in edges))
