"""Features as a long frame: one row per time, coin and span, the shape in which research joins them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from slipstream.core.frames import bar_ms, index_ms
from slipstream.core.panel import HOUR_MS, FloatArray

if TYPE_CHECKING:
    import pandas as pd


def bar_length_hours(frame: pd.DataFrame, name: str) -> float:
    """The bar length of a frame labelled by known-at, hours: its least step.

    Raises:
        FrameError: the index cannot be read as times, or a time lies off the grid of that step.
    """
    return bar_ms(index_ms(frame, name), name) / HOUR_MS


def long_frame(like: pd.DataFrame, column: str, components: Mapping[float, FloatArray]) -> pd.DataFrame:
    """The known values of some (T, N) arrays: one column, index (timestamp, asset, span), sorted.

    Args:
        like: the frame the arrays are labelled like.
        column: name of the column.
        components: span in hours -> shape (T, N); NaN is left out.
    """
    import pandas as pd

    spans = sorted(components)
    shape = (len(like.index), len(like.columns), len(spans))
    values = np.stack([components[span] for span in spans], axis=2) if spans else np.empty(shape)
    index = pd.MultiIndex.from_product(
        [like.index, [str(coin) for coin in like.columns], [float(span) for span in spans]],
        names=["timestamp", "asset", "span"],
    )
    return pd.DataFrame({column: values.reshape(-1)}, index=index).dropna().sort_index()
