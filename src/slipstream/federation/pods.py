"""A pod as the federation sees it: a slug and a pure decision, and what becomes of a decision that cannot be traded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from slipstream.core.decision import BadDecision, Decide, NotEnoughHistory, checked_weights
from slipstream.core.panel import FloatArray, Panel, View, utc
from slipstream.errors import SlipstreamError, UsageError
from slipstream.federation.result import CausalityCheck
from slipstream.strategies import load_targets


class PodError(SlipstreamError):
    """A pod's decision cannot be traded, or not be taken; the message names the pod and the time."""


@dataclass(frozen=True)
class Pod:
    """One strategy under the allocator.

    Attributes:
        slug: its name in every output.
        decide: ``decide(view) -> weights (N,)``, fractions of granted capital; pure.
    """

    slug: str
    decide: Decide


def registered_pods(slugs: Sequence[str]) -> tuple[Pod, ...]:
    """Pods of registered bar strategies at their default configurations.

    Raises:
        UsageError: no slug, a slug twice, or one that is not registered.
    """
    if not slugs:
        raise UsageError("no strategy named; give at least one slug")
    twice = sorted({slug for slug in slugs if list(slugs).count(slug) > 1})
    if twice:
        raise UsageError(f"strategy named twice: {', '.join(twice)}")
    return tuple(Pod(slug, load_targets(slug)) for slug in slugs)


def decide(pod: Pod, view: View, *, begun: bool = False) -> FloatArray:
    """A pod's checked decision, shape (N,); flat while the pod has not enough history to begin.

    Args:
        pod: who decides.
        view: the market as of the decision.
        begun: whether the pod has held anything yet. Then a want of history is an error: flat would close its book.

    Raises:
        PodError: the answer has the wrong shape, holds a NaN, or asks for a coin outside the universe; or there is not
            enough history though the pod has begun.
    """
    try:
        return checked_weights(pod.decide, view)
    except BadDecision as problem:
        raise PodError(f"{pod.slug} at {problem}") from problem
    except NotEnoughHistory as problem:
        if begun:
            moment = f"{utc(view.known_at_ms):%Y-%m-%d %H:%M} UTC"
            raise PodError(f"{pod.slug} at {moment}: has begun to trade and cannot decide: {problem}") from problem
        return np.zeros(len(view.coins))


def check_causality(
    panel: Panel, pods: Sequence[Pod], rows: Sequence[int], targets: FloatArray, count: int
) -> CausalityCheck:
    """Take some decisions again from data that ends at their own moment, and compare.

    Args:
        panel: the whole panel of the run.
        pods: P pods.
        rows: the run's K decision rows.
        targets: shape (K, P, N), the run's decisions.
        count: how many moments to check, spread evenly over the run, the last one included.
    """
    picks = np.unique(np.linspace(len(rows) - 1, 0, num=min(count, len(rows)), endpoint=False).round().astype(int))
    worst = 0.0
    for k in picks:
        view = panel.until(rows[k]).view()
        for p, pod in enumerate(pods):
            worst = max(worst, float(np.abs(decide(pod, view) - targets[k, p]).max(initial=0.0)))
    return CausalityCheck(decisions=len(picks) * len(pods), max_difference=worst)
