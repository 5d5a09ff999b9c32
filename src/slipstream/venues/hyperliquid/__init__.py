"""The Hyperliquid perpetuals venue, read only: the info endpoint and the market data stream."""
