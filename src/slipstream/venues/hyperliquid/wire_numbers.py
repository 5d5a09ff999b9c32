"""Decimal numbers as the wire writes them, exactly: text to integers of a fixed number of decimals, and back.

The venue sends and expects decimals as text without exponents. What we send has no trailing zeros (``"80000"``,
``"0.1"``), because the venue hashes its own rendering; what the venue answers keeps one zero behind an integer
(``"80000.0"``). No binary float is involved anywhere.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

from slipstream.errors import UsageError

LONGEST = 40
"""Characters of the longest decimal that is read; the venue's have at most 20."""

_DECIMAL: Final = re.compile(r"(-?)([0-9]+)(?:\.([0-9]+))?", re.ASCII)


class BadNumber(UsageError):
    """A text is no plain decimal, or has more decimals than it may."""


def canonical_text(text: str, what: str = "number") -> str:
    """The same decimal without leading or trailing zeros: ``"2000.0"`` is ``"2000"``, ``"-0.0"`` is ``"0"``.

    Raises:
        BadNumber: ``text`` is no plain decimal; ``what`` names where it stood.
    """
    sign, whole, fraction = _parts(text, what)
    whole, fraction = whole.lstrip("0") or "0", fraction.rstrip("0")
    body = f"{whole}.{fraction}" if fraction else whole
    return body if body == "0" else sign + body


def to_units(text: str, decimals: int, what: str = "number") -> int:
    """A decimal as an integer of ``10**-decimals``: ``to_units("0.05", 3)`` is 50.

    Raises:
        BadNumber: ``text`` is no plain decimal or is finer than ``decimals``; nothing is rounded.
    """
    sign, whole, fraction = _parts(text, what)
    fraction = fraction.rstrip("0")
    if len(fraction) > decimals:
        raise BadNumber(f"{what} {text} has {len(fraction)} decimals; at most {decimals} are allowed")
    units = int(whole + fraction.ljust(decimals, "0"))
    return -units if sign else units


def units_text(units: int, decimals: int) -> str:
    """An integer of ``10**-decimals`` as we send it, without trailing zeros: ``units_text(50, 3)`` is ``"0.05"``."""
    if decimals == 0:
        return str(units)
    digits = str(abs(units)).rjust(decimals + 1, "0")
    fraction = digits[-decimals:].rstrip("0")
    body = f"{digits[:-decimals]}.{fraction}" if fraction else digits[:-decimals]
    return f"-{body}" if units < 0 else body


def answer_text(units: int, decimals: int) -> str:
    """An integer of ``10**-decimals`` as the venue answers it: an integer keeps one zero, ``"80000.0"``."""
    text = units_text(units, decimals)
    return text if "." in text else f"{text}.0"


def wire_text(number: Decimal) -> str:
    """A decimal as we send it: no exponent, no trailing zeros, no negative zero.

    Raises:
        BadNumber: the number is not finite.
    """
    if not number.is_finite():
        raise BadNumber(f"{number} cannot be sent; only finite numbers can")
    if not number:
        return "0"
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _parts(text: str, what: str) -> tuple[str, str, str]:
    found = _DECIMAL.fullmatch(text) if len(text) <= LONGEST else None
    if found is None:
        raise BadNumber(f"{what} must be a plain decimal such as 0.05 or 80000; it is {text[:LONGEST]!r}")
    return found[1], found[2], found[3] or ""
