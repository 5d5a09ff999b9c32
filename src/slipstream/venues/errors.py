"""What can go wrong between us and a venue.

VenueError               1  the venue could not be asked
+-- VenueUnavailable     1  it did not answer in all attempts
+-- VenueRefused         1  it answered that the request itself is wrong, or that we may not ask
BadAnswer                2  it answered something that cannot be used: names the request and the excerpt
UnknownMarket            2  it does not know the coin, symbol or dex that was asked for
"""

from __future__ import annotations

from slipstream.errors import DataError, SlipstreamError, UsageError

_EXCERPT = 160


class VenueError(SlipstreamError):
    """The venue could not be asked."""


class VenueUnavailable(VenueError):
    """Every attempt failed in a way that may pass: the same command may work later."""


class VenueRefused(VenueError):
    """The venue refused the request itself: asking again gives the same answer."""


class BadAnswer(DataError):
    """An answer came and cannot be used; nothing of it was taken."""


class UnknownMarket(UsageError):
    """The venue does not know a coin, symbol or dex."""

    def __init__(self, message: str, name: str) -> None:
        super().__init__(message)
        self.name = name


def excerpt(body: bytes, at: int | None = None) -> str:
    """A short printable piece of a body: its beginning, or what lies around byte ``at``."""
    start = 0 if at is None else max(0, at - _EXCERPT // 2)
    piece = body[start : start + _EXCERPT].decode("utf-8", "replace")
    text = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in piece)
    return f"{'...' if start else ''}{text}{'...' if start + _EXCERPT < len(body) else ''}" if body else "(empty)"
