"""Slipstream: a factory for algorithmic strategies on Hyperliquid perpetual futures.

Importing this package is cheap on purpose: numerical libraries load with the room that needs them.
"""

from __future__ import annotations

__version__ = "0.1.0"
