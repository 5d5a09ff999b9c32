"""CSV files for people and for the documented file-based commands: exports, never the home of any data.

:func:`export_market_data` writes bars and settlements as one set of files per coin and three wide files, by rules that
let nothing be lost.
"""

from __future__ import annotations

from slipstream.lake.export.coin_set import CoinExport
from slipstream.lake.export.market_data import ExportReport, export_market_data

__all__ = ["CoinExport", "ExportReport", "export_market_data"]
