"""Binance USD-M futures, read only: the reference market that bases and screens are measured against."""
