"""The one error tree of the house, and the exit code each branch ends a command with.

    SlipstreamError          1  a step failed at run time
    +-- UsageError           2  the request or its configuration cannot be used as given
    |   +-- DataError        2  an input file cannot be used: names file, row, column or coin, and the remedy
    +-- SafetyRefusal        3  going on would lose data or leave an unsafe state

Rooms derive their own names from these; a command catches only ``SlipstreamError`` and prints one line.
"""

from __future__ import annotations

from typing import ClassVar


class SlipstreamError(Exception):
    """A step failed and said why; the message is one line a user can act on."""

    exit_code: ClassVar[int] = 1


class UsageError(SlipstreamError):
    """A flag, a name or a configuration value cannot be used."""

    exit_code: ClassVar[int] = 2


class DataError(UsageError):
    """An input cannot be used; the message names the file, where in it, and the remedy."""


class SafetyRefusal(SlipstreamError):
    """Going on would lose data or leave an unsafe state."""

    exit_code: ClassVar[int] = 3
