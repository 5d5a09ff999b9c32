"""Numbers as a reader sees them: true minus signs, thousands separated, units attached, no negative zero.

Every function returns ``n/a`` for a value that is not finite, so that a gap is seen and never mistaken for a zero.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime

from slipstream.core.panel import utc

MINUS = "\N{MINUS SIGN}"
THIN = "\N{NARROW NO-BREAK SPACE}"
MISSING = "n/a"
_SUPERSCRIPTS = str.maketrans(f"{MINUS}0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def number(value: float, places: int = 0, *, signed: bool = False) -> str:
    """``value`` to ``places`` decimals, thousands separated by commas; ``signed`` also marks gains with a plus."""
    if not math.isfinite(value):
        return MISSING
    text = f"{abs(value):,.{places}f}"
    if not text.strip("0.,"):
        return text
    return f"{MINUS if value < 0 else '+' if signed else ''}{text}"


@dataclass(frozen=True)
class Dollars:
    """US dollars, one precision throughout a report so that columns line up: ``Dollars.beside(capital)(amount)``.

    Attributes:
        places: decimals written.
    """

    places: int

    @classmethod
    def beside(cls, capital_usd: float) -> Dollars:
        """Whole dollars beside a capital of 10 000 and more, cents below."""
        return cls(0 if capital_usd >= 10_000.0 else 2)

    def __call__(self, value: float, *, signed: bool = False) -> str:
        return number(value, self.places, signed=signed)


def percent(fraction: float, places: int = 2, *, signed: bool = False) -> str:
    """A fraction as a percentage: 0.0432 reads 4.32 %."""
    text = number(100.0 * fraction, places, signed=signed)
    return text if text == MISSING else f"{text}{THIN}%"


def times(value: float, places: int = 1) -> str:
    """A multiple, such as turnover a year over capital: 45.2 reads 45.2 x (with a multiplication sign)."""
    text = number(value, places)
    return text if text == MISSING else f"{text}\N{MULTIPLICATION SIGN}"


def counted(count: int, noun: str) -> str:
    """A count with its noun: ``1 trade``, ``5,399 trades``."""
    return f"{number(count)} {noun}{'' if count == 1 else 's'}"


def price(value: float) -> str:
    """A price to five significant digits, so that 0.0000123 and 97 250 both read well."""
    if not math.isfinite(value) or value == 0.0:
        return number(value)
    places = min(12, max(0, 4 - math.floor(math.log10(abs(value)))))
    return number(value, places)


def tiny(value: float) -> str:
    """An error or a residue: exactly 0, or two significant digits and a power of ten."""
    if not math.isfinite(value):
        return MISSING
    if value == 0.0:
        return "0"
    digits, power = f"{value:.1e}".replace("-", MINUS).split("e")
    sign, exponent = power[0], power[1:].lstrip("0") or "0"
    raised = f"{sign if sign == MINUS else ''}{exponent}".translate(_SUPERSCRIPTS)
    return f"{digits}{THIN}\N{MULTIPLICATION SIGN}{THIN}10{raised}"


def minute(ms: int) -> str:
    """Unix ms as ``2025-04-02 07:00`` (UTC)."""
    return f"{utc(ms):%Y-%m-%d %H:%M}"


def iso_minute(text: str) -> str:
    """An ISO 8601 moment as ``2025-04-02 07:00 UTC``."""
    return f"{datetime.fromisoformat(text).astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def day(ms: int) -> str:
    """Unix ms as ``2025-04-02`` (UTC)."""
    return f"{utc(ms):%Y-%m-%d}"


def month(moment: datetime) -> str:
    """A month's short label: ``Apr``, or the year in January."""
    return f"{moment:%Y}" if moment.month == 1 else f"{moment:%b}"
