"""Coins in file names: ``dex:COIN`` is ``dex%3ACOIN``, and two names that differ only by case are never both written.

Names are case-sensitive and some file systems are not: there, ``KPEPE_candles_4h.csv`` would silently replace
``kPEPE_candles_4h.csv``. So the second of the two is refused everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import quote, unquote

from slipstream.errors import SafetyRefusal


def encoded(coin: str) -> str:
    """The coin with all but ``[A-Za-z0-9._-]`` percent-encoded (UTF-8, capital hex digits)."""
    return quote(coin, safe="").replace("~", "%7E")


def decoded(name: str) -> str:
    """The coin that :func:`encoded` gave this name."""
    return unquote(name, errors="strict")


class NamesTaken:
    """The file names of a folder, to tell a new name that differs from one of them only by case."""

    def __init__(self, names: Iterable[str]) -> None:
        self._by_folded = {name.casefold(): name for name in names}

    def take(self, name: str) -> None:
        """Reserve a name.

        Raises:
            SafetyRefusal: one that differs only by case is there already.
        """
        held = self._by_folded.setdefault(name.casefold(), name)
        if held != name:
            raise SafetyRefusal(
                f"{name} differs from the existing {held} only by case, and on some disks would replace it; "
                "names are case-sensitive: export it into another folder, or move the existing file away"
            )
