"""The info endpoint of the local venue: which answer, which error, and what weight."""

from __future__ import annotations

import json
from dataclasses import dataclass

from venues.local_market import INTERVALS, Bar, Coin, decimal_text

_TEXT, _JSON = "text/plain", "application/json"
_REQUIRED: dict[str, dict[str, type]] = {
    "perpDexs": {},
    "meta": {},
    "metaAndAssetCtxs": {},
    "allMids": {},
    "l2Book": {"coin": str},
    "fundingHistory": {"coin": str, "startTime": int},
    "candleSnapshot": {"req": dict},
}
_REQUIRED_OF_CANDLES: dict[str, type] = {"coin": str, "interval": str, "startTime": int}


@dataclass(frozen=True)
class Reply:
    """Status, body and weight of an answer."""

    status: int
    body: bytes
    content_type: str | None
    weight: int = 20


def _json(value: object, weight: int = 20, status: int = 200) -> Reply:
    return Reply(status, json.dumps(value, separators=(",", ":")).encode(), _JSON, weight)


NOT_KNOWN = _json(None, status=500)
NO_TARGET = Reply(422, b"Failed to deserialize the JSON body into the target type", _TEXT)
NO_JSON = Reply(400, b"Failed to parse the request body as JSON", _TEXT)
NO_CONTENT_TYPE = Reply(415, b"Expected request with `Content-Type: application/json`", _TEXT)


class InfoSide:
    """Answers of the info endpoint about one market."""

    def __init__(self, market: dict[str, list[Coin]], candle_cap: int, funding_cap: int, candle_kept: int) -> None:
        self._market = market
        self._candle_cap = candle_cap
        self._funding_cap = funding_cap
        self._candle_kept = candle_kept

    @staticmethod
    def parse(raw: bytes, content_type: str) -> tuple[dict[str, object] | None, Reply | None]:
        """The request, or the error it deserves."""
        if content_type != _JSON:
            return None, NO_CONTENT_TYPE
        try:
            query = json.loads(raw)
        except ValueError:
            return None, NO_JSON
        if not isinstance(query, dict) or not _complete(query, _REQUIRED.get(str(query.get("type")))):
            return None, NO_TARGET
        inner = query.get("req")
        if query["type"] == "candleSnapshot" and not _complete(inner, _REQUIRED_OF_CANDLES):
            return None, NO_TARGET
        if isinstance(inner, dict) and inner["interval"] not in INTERVALS:
            return None, NO_TARGET
        return query, None

    def answer(self, query: dict[str, object], now_ms: int) -> Reply:
        """What the venue says to a well-formed request."""
        kind = query["type"]
        if kind == "perpDexs":
            return _json([None, *(_dex(name) for name in self._market if name)])
        if kind == "fundingHistory":
            return self._funding(query, now_ms)
        if kind == "candleSnapshot":
            inner = query["req"]
            assert isinstance(inner, dict)
            return self._candles(inner, now_ms)
        if kind == "l2Book":
            return self._book(str(query["coin"]), now_ms)
        coins = self._market.get(str(query.get("dex") or ""))
        if coins is None:
            return NOT_KNOWN
        if kind == "allMids":
            alive = (coin for coin in coins if coin.alive(now_ms))
            return _json({coin.name: _price(coin, now_ms) for coin in alive}, weight=2)
        if kind == "meta":
            return _json(_meta(coins, now_ms))
        return _json([_meta(coins, now_ms), [_context(coin, now_ms) for coin in coins]])

    def _coin(self, name: str) -> Coin | None:
        return next((coin for coins in self._market.values() for coin in coins if coin.name == name), None)

    def _candles(self, query: dict[str, object], now_ms: int) -> Reply:
        coin, interval = self._coin(str(query["coin"])), str(query["interval"])
        if coin is None:
            return NOT_KNOWN
        step = INTERVALS[interval]
        newest = now_ms // step * step
        kept_from = newest - (self._candle_kept - 1) * step
        first = max(int(str(query["startTime"])) // step * step, kept_from, coin.listed_ms - 2000 * INTERVALS["1h"])
        last = min(int(str(query.get("endTime", now_ms))), newest)
        bars = (coin.bar(open_ms, interval, now_ms) for open_ms in range(first, last + 1, step))
        rows = [_candle(coin.name, interval, bar) for bar in bars if bar is not None][: self._candle_cap]
        return _json(rows, weight=20 + len(rows) // 60)

    def _funding(self, query: dict[str, object], now_ms: int) -> Reply:
        coin = self._coin(str(query["coin"]))
        if coin is None:
            return NOT_KNOWN
        until = int(str(query.get("endTime", now_ms)))
        found = coin.settlements(int(str(query["startTime"])), until, now_ms, self._funding_cap)
        rows = [{"coin": coin.name, "fundingRate": s.rate, "premium": s.premium, "time": s.stamp_ms} for s in found]
        return _json(rows, weight=20 + len(rows) // 20)

    def _book(self, name: str, now_ms: int) -> Reply:
        coin = self._coin(name)
        if coin is None:
            return _json(None, weight=2)
        levels: list[list[dict[str, object]]] = [[], []]
        if coin.alive(now_ms):
            price = coin.price_at(now_ms)
            levels = [
                [{"px": decimal_text(price * (1 + side * 1e-4 * (1 + i)), 6), "sz": "10.0", "n": 1} for i in range(5)]
                for side in (-1, 1)
            ]
        return _json({"coin": name, "time": now_ms - 500, "levels": levels}, weight=2)


def _complete(query: object, required: dict[str, type] | None) -> bool:
    if required is None or not isinstance(query, dict):
        return False
    return all(type(query.get(name)) is kind for name, kind in required.items())


def _candle(coin: str, interval: str, bar: Bar) -> dict[str, object]:
    return {
        "t": bar.open_ms,
        "T": bar.open_ms + INTERVALS[interval] - 1,
        "s": coin,
        "i": interval,
        "o": bar.open,
        "c": bar.close,
        "h": bar.high,
        "l": bar.low,
        "v": bar.volume,
        "n": bar.trades,
    }


def _dex(name: str) -> dict[str, object]:
    address = "0x" + "0" * 39 + "1"
    return {
        "name": name,
        "fullName": name.upper(),
        "deployer": address,
        "oracleUpdater": None,
        "feeRecipient": None,
        "assetToStreamingOiCap": [],
        "subDeployers": [],
        "deployerFeeScale": "1.0",
        "lastDeployerFeeScaleChangeTime": "1970-01-01T00:00:00",
        "assetToFundingMultiplier": [],
        "assetToFundingInterestRate": [],
    }


def _delisted(coin: Coin, now_ms: int) -> bool:
    return coin.delisted_ms is not None and now_ms >= coin.delisted_ms


def _meta(coins: list[Coin], now_ms: int) -> dict[str, object]:
    universe: list[dict[str, object]] = []
    for coin in coins:
        entry: dict[str, object] = {
            "szDecimals": coin.sz_decimals,
            "name": coin.name,
            "maxLeverage": coin.max_leverage,
            "marginTableId": coin.max_leverage,
        }
        if coin.only_isolated:  # the venue leaves out what is not set
            entry |= {"onlyIsolated": True, "marginMode": "strictIsolated"}
        if _delisted(coin, now_ms):
            entry["isDelisted"] = True
        universe.append(entry)
    return {"universe": universe, "marginTables": [], "collateralToken": 0}


def _price(coin: Coin, now_ms: int) -> str:
    return coin._text(coin.price_at(now_ms))


def _context(coin: Coin, now_ms: int) -> dict[str, object]:
    price, gone = _price(coin, now_ms), _delisted(coin, now_ms)
    return {
        "funding": "0.0000125",
        "openInterest": "0.0" if gone else "12345.6",
        "prevDayPx": price,
        "dayNtlVlm": "0.0" if gone else "2500000.125",
        "premium": None if gone else "-0.0002",
        "oraclePx": price,
        "markPx": price,
        "midPx": None if gone else price,
        "impactPxs": None if gone else [price, price],
        "dayBaseVlm": "0.0" if gone else "1000.0",
    }
