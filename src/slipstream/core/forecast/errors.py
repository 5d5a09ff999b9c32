"""What can go wrong between features and a forecast."""

from __future__ import annotations

from slipstream.errors import DataError, SlipstreamError, UsageError


class ForecastError(UsageError):
    """Arrays or settings that do not fit together; the message names them."""


class NotEnoughData(SlipstreamError):
    """Too few rows for the estimate asked for; the message says how many there are and how many it takes."""


class ModelError(DataError):
    """A saved model that cannot be used as it stands."""
