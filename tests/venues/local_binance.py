"""The futures REST of the local venue, as Binance answers it."""

from __future__ import annotations

import json

from venues.local_hyperliquid import Reply
from venues.local_market import DAY_MS, HOUR_MS, INTERVALS, Coin

_LIMITS = {"klines": (500, 1500), "fundingRate": (100, 1000)}


def _json(value: object, weight: int = 1, status: int = 200) -> Reply:
    return Reply(status, json.dumps(value, separators=(",", ":")).encode(), "application/json", weight)


def _error(code: int, text: str) -> Reply:
    return _json({"code": code, "msg": text}, status=400)


def kline_weight(limit: int) -> int:
    return 1 if limit < 100 else 2 if limit < 500 else 5 if limit <= 1000 else 10


class BinanceSide:
    """Answers about the first dex's coins, named as Binance names them, at the same prices.

    Funding settles every 8 hours, and every 4 hours in the last thirty days of ETH: intervals change on Binance.
    """

    def __init__(self, market: dict[str, list[Coin]]) -> None:
        self._coins = {
            (f"1000{coin.name[1:]}USDT" if coin.name.startswith("k") else f"{coin.name}USDT"): coin
            for coin in market.get("", [])
        }

    def answer(self, kind: str, query: dict[str, str], now_ms: int) -> Reply:
        """What Binance says to a GET of ``/fapi/v1/{kind}``."""
        if kind == "exchangeInfo":
            return self._info(now_ms)
        if kind == "ticker/bookTicker" and "symbol" not in query:
            alive = (symbol for symbol, coin in self._coins.items() if coin.alive(now_ms))
            return _json([self._ticker(symbol, now_ms) for symbol in alive], weight=5)
        if kind not in {"klines", "fundingRate", "ticker/bookTicker"}:
            return Reply(404, b"<html><body>404</body></html>", "text/html")
        if "symbol" not in query:
            return _error(-1102, "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed.")
        if query["symbol"] not in self._coins:
            return _error(-1121, "Invalid symbol.")
        if kind == "ticker/bookTicker":
            return _json(self._ticker(query["symbol"], now_ms), weight=2)
        usual, most = _LIMITS[kind]
        limit = int(query.get("limit", usual))
        if limit > most:
            return _error(-1130, "Data sent for parameter 'limit' is not valid.")
        return self._klines(query, limit, now_ms) if kind == "klines" else self._funding(query, limit, now_ms)

    def _klines(self, query: dict[str, str], limit: int, now_ms: int) -> Reply:
        coin, step = self._coins[query["symbol"]], INTERVALS.get(query.get("interval", ""))
        if step is None:
            return _error(-1120, "Invalid interval.")
        end = min(int(query.get("endTime", now_ms)), now_ms)
        newest = end // step * step
        start = int(query.get("startTime", newest - (limit - 1) * step))
        first = max(-(-start // step) * step, coin.listed_ms // step * step)
        rows: list[list[object]] = []
        for open_ms in range(first, newest + 1, step):
            bar = coin.bar(open_ms, query["interval"], now_ms)
            if bar is None or len(rows) == limit:
                break
            prices = (bar.open, bar.high, bar.low, bar.close, bar.volume)
            rows.append([open_ms, *prices, open_ms + step - 1, "1.0", bar.trades, "0.5", "0.5", "0"])
        return _json(rows, weight=kline_weight(limit))

    def _funding(self, query: dict[str, str], limit: int, now_ms: int) -> Reply:
        coin = self._coins[query["symbol"]]
        end = min(int(query.get("endTime", now_ms)), now_ms)
        start = max(int(query.get("startTime", end - 100 * 8 * HOUR_MS)), coin.listed_ms + HOUR_MS)
        quick_from = now_ms - 30 * DAY_MS
        rows: list[dict[str, object]] = []
        for hour in range(start // HOUR_MS * HOUR_MS, end + 1, HOUR_MS):
            every = 4 if coin.name == "ETH" and hour >= quick_from else 8
            stamp = hour + hour // HOUR_MS % 3  # up to 2 ms late
            if hour // HOUR_MS % every or not start <= stamp <= end or not coin.alive(hour):
                continue
            row = {"symbol": query["symbol"], "fundingTime": stamp, "fundingRate": "0.00010000", "markPrice": ""}
            rows.append(row)
            if len(rows) == limit:
                break
        return _json(rows, weight=0)

    def _ticker(self, symbol: str, now_ms: int) -> dict[str, object]:
        coin = self._coins[symbol]
        price = coin.price_at(now_ms)
        bid, ask = f"{price * 0.9999:.8f}", f"{price * 1.0001:.8f}"
        return {
            "symbol": symbol,
            "bidPrice": bid,
            "bidQty": "3.10000000",
            "askPrice": ask,
            "askQty": "2.00000000",
            "time": now_ms - 3,
            "lastUpdateId": 1,
        }

    def _info(self, now_ms: int) -> Reply:
        limits = [{"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 2400}]
        symbols = [
            {
                "symbol": symbol,
                "pair": symbol,
                "contractType": "PERPETUAL",
                "onboardDate": coin.listed_ms,
                "status": "TRADING" if coin.alive(now_ms) else "SETTLING",
                "baseAsset": symbol.removesuffix("USDT"),
                "quoteAsset": "USDT",
                "filters": [
                    {"filterType": "PRICE_FILTER", "tickSize": "0.10", "minPrice": "1", "maxPrice": "1000000"},
                    {"filterType": "LOT_SIZE", "stepSize": "0.001", "minQty": "0.001", "maxQty": "1000"},
                    {"filterType": "MIN_NOTIONAL", "notional": "5"},
                ],
            }
            for symbol, coin in self._coins.items()
        ]
        return _json({"timezone": "UTC", "serverTime": now_ms, "rateLimits": limits, "symbols": symbols})
