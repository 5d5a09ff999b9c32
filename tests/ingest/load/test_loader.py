"""The load: in batches, whatever happens to single coins, and nothing that came is lost or asked for twice."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from functools import partial

import polars as pl
import pytest
from load_runs import NOON, NOW, Watched, bars_in, load_into, settlements_in, the_market, true_bars, true_settlements

from slipstream.core.panel import HOUR_MS
from slipstream.errors import SlipstreamError
from slipstream.ingest.load.loader import load
from slipstream.ingest.load.plan import CoinPlan, plan_coin, wanted
from slipstream.ingest.load.spans import Held, held_in
from slipstream.lake.datasets import BARS, FUNDING, TIME
from slipstream.lake.lake_check import check_path
from slipstream.lake.store import CommitReport, Lake
from slipstream.venues.clock import Clock
from slipstream.venues.errors import BadAnswer, UnknownMarket, VenueRefused, VenueUnavailable
from venues.virtual_clock import VirtualClock

DAY_MS = 24 * HOUR_MS
ASKED = wanted("1h", NOON - 5 * HOUR_MS, NOON, NOW)
NOTHING = Held({}, {}, {})


@pytest.fixture
def lake(tmp_path) -> Lake:
    return Lake.open(tmp_path / "lake", create=True)


class Shelf:
    """A source with an hourly bar and settlement wherever it is asked; some coins are trouble."""

    def __init__(self, clock: Clock, *, seconds_each: float = 0.0, trouble: dict[str, Exception] | None = None) -> None:
        self._clock, self._seconds_each, self._trouble = clock, seconds_each, trouble or {}
        self.asked: list[str] = []
        self.holding: dict[str, asyncio.Event] = {}

    async def candle_pages(
        self, coin: str, interval: str, start_ms: int, end_ms: int, *, traded_before: bool = False
    ) -> AsyncIterator[pl.DataFrame]:
        self.asked.append(coin)
        await self._clock.sleep(self._seconds_each)
        if coin in self.holding:
            await self.holding[coin].wait()
        if coin in self._trouble:
            raise self._trouble[coin]
        opens = pl.Series("ts", range(start_ms, end_ms, HOUR_MS), dtype=pl.Int64).cast(TIME)
        numbers = [
            pl.lit(price).alias(name)
            for name, price in zip(("open", "high", "low", "close"), (1.0, 3.0, 1.0, 2.0), strict=True)
        ]
        yield opens.to_frame().select(
            pl.lit(coin).alias("coin"),
            "ts",
            *numbers,
            pl.lit(5.0).alias("volume"),
            pl.lit(interval).alias("base_interval"),
        )

    async def funding_pages(self, coin: str, start_ms: int, end_ms: int) -> AsyncIterator[pl.DataFrame]:
        hours = pl.Series("settled_ms", range(start_ms, end_ms + 1, HOUR_MS), dtype=pl.Int64)
        yield hours.to_frame().select(
            pl.lit(coin).alias("coin"),
            pl.col("settled_ms").cast(TIME).alias("ts"),
            pl.lit(1e-5).alias("rate"),
            pl.lit(None, dtype=pl.Float64).alias("premium"),
            "settled_ms",
        )


def plans_of(*coins: str) -> list[CoinPlan]:
    return [plan_coin(coin, ASKED, NOTHING) for coin in coins]


def names(count: int) -> list[str]:
    return [f"C{i:02d}" for i in range(count)]


def run(lake: Lake, coins: list[str], **options):
    """A whole load from a shelf; report, shelf and watcher."""
    clock = VirtualClock(NOW)

    async def scenario():
        shelf, watched = Shelf(clock, **options), Watched()
        return await load(shelf, lake, plans_of(*coins), clock=clock, watcher=watched), shelf, watched

    return asyncio.run(scenario())


def versions(lake: Lake) -> int:
    table = lake.table(BARS)
    return 0 if table is None else table.version()


def test_everything_planned_comes_into_the_lake_and_the_watcher_hears_of_every_row(lake):
    report, _, watched = run(lake, names(3))
    assert bars_in(lake).height == 3 * 5
    assert settlements_in(lake).height == 3 * 6
    assert report.fetched_bars == dict.fromkeys(names(3), 5)
    assert report.fetched_settlements == dict.fromkeys(names(3), 6)
    assert (report.failed, report.refused) == ({}, {})
    assert watched.rows == dict.fromkeys(names(3), 11)
    assert sorted(watched.started_coins) == sorted(watched.finished_coins) == names(3)


def test_nothing_to_do_is_nothing_done(lake):
    report, _, _ = run(lake, [])
    assert (report.failed, lake.datasets()) == ({}, ())


def test_coins_are_committed_eight_at_a_time(lake):
    run(lake, names(20))
    assert 2 <= versions(lake) <= 3, "what comes during a commit waits for the next"
    assert bars_in(lake)["coin"].n_unique() == 20


def test_slow_coins_are_committed_before_eight_have_come(lake):
    run(lake, names(8), seconds_each=12.0)
    assert versions(lake) >= 2


@pytest.mark.parametrize(
    "problem",
    [
        VenueRefused("HTTP 403"),
        VenueUnavailable("no usable answer in 8 attempts"),
        BadAnswer("row 3 is {}"),
        UnknownMarket("the venue knows no coin", "C04"),
    ],
)
def test_a_coin_that_fails_does_not_stop_the_others_and_is_named(lake, problem):
    report, _, watched = run(lake, names(12), trouble={"C04": problem})
    assert report.failed == {"C04": str(problem)}
    assert sorted(bars_in(lake)["coin"].unique()) == [name for name in names(12) if name != "C04"]
    assert "C04" not in report.fetched_bars
    assert "C04" in watched.finished_coins


def test_a_venue_that_has_stopped_answering_is_not_asked_for_every_coin(lake):
    gone = {name: VenueUnavailable("gone") for name in names(40)[3:]}
    report, shelf, _ = run(lake, names(40), trouble=gone)
    assert 8 <= len(shelf.asked) - 3 <= 8 + 3, "eight in a row, and those under way"
    assert set(report.failed) == set(gone), "the rest is named, not forgotten"
    assert report.failed["C39"] == "not asked for: the venue left 8 coins in a row unanswered"
    assert bars_in(lake)["coin"].n_unique() == 3


def test_single_coins_without_an_answer_do_not_end_the_load(lake):
    odd = {name: VenueUnavailable("gone") for i, name in enumerate(names(40)) if i % 2}
    report, shelf, _ = run(lake, names(40), trouble=odd)
    assert len(shelf.asked) == 40
    assert set(report.failed) == set(odd)


def interrupted(lake: Lake, shelf_of, *, when) -> None:
    """Start a load, wait for ``when(shelf)``, cancel it as Ctrl-C does."""
    clock = VirtualClock(NOW)

    async def scenario() -> None:
        shelf = shelf_of(clock)
        task = asyncio.ensure_future(load(shelf, lake, plans_of(*names(12)), clock=clock, watcher=Watched()))
        await when(shelf)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scenario())


def test_an_interrupt_commits_what_has_come(lake):
    def shelf_of(clock):
        shelf = Shelf(clock)
        shelf.holding = {name: asyncio.Event() for name in names(12)[5:]}
        return shelf

    async def when(shelf):
        while len(shelf.asked) < 9:  # five have come, four wait for an answer
            await asyncio.sleep(0)

    interrupted(lake, shelf_of, when=when)
    assert sorted(bars_in(lake)["coin"].unique()) == names(5)
    assert settlements_in(lake)["coin"].n_unique() == 5
    report, _, _ = run(lake, names(12))
    assert report.failed == {}
    assert bars_in(lake)["coin"].n_unique() == 12


def test_an_interrupt_waits_for_the_commit_it_falls_into(lake):
    """Otherwise the lock would be given up, and the process end, while a thread still writes."""
    started, go_on = threading.Event(), threading.Event()

    class Slow(Lake):
        def upsert(self, dataset, rows, *, trust_files=False) -> CommitReport:
            started.set()
            assert go_on.wait(30)
            return super().upsert(dataset, rows, trust_files=trust_files)

    clock = VirtualClock(NOW)

    async def scenario() -> None:
        whole_batch = load(Shelf(clock), Slow(lake.place), plans_of(*names(8)), clock=clock, watcher=Watched())
        task = asyncio.ensure_future(whole_batch)
        assert await asyncio.to_thread(started.wait, 30)
        task.cancel()
        await asyncio.sleep(0.1)
        assert not task.done()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert bars_in(lake)["coin"].n_unique() == settlements_in(lake)["coin"].n_unique() == 8

    asyncio.run(scenario())


def test_only_one_batch_is_written_at_a_time(lake):
    """Two would plan on the same version of the table, and one of them twice."""
    at_once: list[int] = []

    class Counting(Lake):
        now = 0

        def upsert(self, dataset, rows, *, trust_files=False) -> CommitReport:
            Counting.now += 1
            at_once.append(Counting.now)
            done = super().upsert(dataset, rows, trust_files=trust_files)
            Counting.now -= 1
            return done

    run(Counting(lake.place), names(33))
    assert set(at_once) == {1}
    assert bars_in(lake)["coin"].n_unique() == 33


def test_a_disk_that_refuses_ends_the_load_with_its_one_line(lake):
    class Full(Lake):
        def upsert(self, dataset, rows, *, trust_files=False) -> CommitReport:
            raise SlipstreamError("the lake could not be written (no space left on device)")

    with pytest.raises(SlipstreamError, match="no space left"):
        run(Full(lake.place), names(20))
    assert lake.datasets() == ()


def damage(lake: Lake, month: str) -> bytes:
    part = next(part for part in lake.parts(BARS) if ("month", month) in part.values)
    file = lake.place.folder / "bars" / part.path
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + b"?")
    return whole


def test_coins_with_rows_in_a_damaged_part_are_refused_and_the_part_is_left_alone(lake):
    """BTC lacks rows of May, whose part is damaged; ETH is whole into June and gets its rows of June."""
    load_into(lake, "BTC", "ETH", days=20, now_ms=NOON - DAY_MS - HOUR_MS)
    load_into(lake, "ETH", days=20, now_ms=NOON - 11 * HOUR_MS)
    before = bars_in(lake)
    damage(lake, "2025-05")
    held = {part.path for part in lake.parts(BARS)}

    clock = VirtualClock(NOW)
    asked = wanted("1h", NOON - 30 * HOUR_MS, NOON, NOW)
    lacking = Held(
        {("1h", coin): before.filter(coin=coin)["ts"].dt.timestamp("ms").to_numpy() for coin in ("BTC", "ETH")}, {}, {}
    )
    plans = [plan_coin(coin, asked, lacking) for coin in ("BTC", "ETH")]
    report = asyncio.run(load(Shelf(clock), lake, plans, clock=clock, watcher=Watched()))
    assert set(report.refused) == {"BTC"}
    assert "differs from its checksum; nothing of this coin was written" in report.refused["BTC"]
    may = {path for path in held if "2025-05" in path}
    assert may <= {part.path for part in lake.parts(BARS)}
    june = next(part for part in lake.parts(BARS) if "2025-06" in part.path)
    rows = next(iter(lake.decoded(BARS, [june])))
    assert rows.filter(coin="ETH")["ts"].max() == pl.Series([NOON - HOUR_MS]).cast(TIME)[0]
    assert rows.filter(coin="BTC").height == 0


def test_a_damaged_part_that_is_trusted_is_merged_into(lake):
    clock = VirtualClock(NOW)
    shelf = Shelf(clock)
    asyncio.run(load(shelf, lake, plans_of("BTC"), clock=clock, watcher=Watched()))
    part = lake.parts(BARS)[0]
    file = lake.place.folder / "bars" / part.path
    plain = pl.read_parquet(file).with_columns(volume=pl.lit(6.0))
    plain.write_parquet(file)
    more = plan_coin("BTC", wanted("1h", NOON - 9 * HOUR_MS, NOON, NOW), held_in(lake, NOON - 9 * HOUR_MS, NOON))
    report = asyncio.run(load(shelf, lake, [more], clock=clock, watcher=Watched(), trust_files=True))
    assert report.refused == {}
    assert bars_in(lake).height == 9
    assert [finding for finding in check_path(lake.place.folder) if finding.grade == "error"] == []


def test_bars_that_were_corrected_are_counted_and_the_old_part_is_kept(lake):
    """Many holes are asked for as one, so bars between them come again."""
    hours = pl.int_range(pl.len())
    btc = the_market()[""][0]
    truth = true_bars(btc, "1h", NOON - 60 * HOUR_MS, NOON)
    wrong = truth.with_columns(volume=pl.when(hours.is_between(20, 22)).then(pl.col("volume") + 1).otherwise("volume"))
    holey = wrong.filter(~hours.is_in([3, 9, 15, 21, 27, 33, 39, 45]))
    lake.upsert(BARS, holey)
    lake.upsert(FUNDING, true_settlements(btc, NOON - 60 * HOUR_MS, NOON))
    old = {part.path for part in lake.parts(BARS)}

    done = load_into(lake, "BTC", days=60 / 24, interval="1h")
    assert len(done.venue.asked("candleSnapshot")) == 3
    assert done.venue.asked("fundingHistory") == []
    assert done.report.corrected == {"BTC": 2}, "the third wrong one was a hole"
    assert bars_in(lake).equals(truth)
    kept = {
        str(file.relative_to(lake.place.folder / "_backup" / "bars"))
        for file in lake.place.folder.glob("_backup/**/*.parquet")
    }
    assert kept
    assert kept <= old


def test_a_refetch_puts_wrong_values_right_and_keeps_the_wrong_ones_in_the_backup(lake):
    """Closed bars a thousand times too high, rates in percent: nothing is missing, so only a refetch asks for them."""
    load_into(lake, "BTC", "ETH", days=20)
    bars, settled = bars_in(lake), settlements_in(lake)
    hours = pl.int_range(pl.len()).over("coin")
    some = hours.is_between(100, 111) & (pl.col("coin") == "BTC")
    prices = [
        pl.when(some).then(pl.col(name) * 1000).otherwise(name).alias(name) for name in ("open", "high", "low", "close")
    ]
    lake.upsert(BARS, bars.with_columns(prices))
    lake.upsert(FUNDING, settled.with_columns(rate=pl.when(some).then(pl.col("rate") * 100).otherwise("rate")))
    wrong = {part.path for part in lake.parts(BARS)}
    unchanged = load_into(lake, "BTC", "ETH", days=20)
    assert unchanged.venue.asked("candleSnapshot") == []
    assert not bars_in(lake).equals(bars)

    done = load_into(lake, "BTC", "ETH", days=20, refetch=True)
    assert done.report.corrected == {"BTC": 24, "ETH": 0}
    assert done.report.fetched_bars == {"BTC": 480, "ETH": 480}
    assert bars_in(lake).equals(bars)
    assert settlements_in(lake).equals(settled)
    backup = lake.place.folder / "_backup" / "bars"
    kept = {file.relative_to(backup).as_posix() for file in backup.rglob("*.parquet")}
    assert wrong & kept, "the wrong values can still be looked at"
    again = load_into(lake, "BTC", "ETH", days=20, refetch=True)
    assert again.report.corrected == {"BTC": 0, "ETH": 0}


def test_a_refetch_loses_no_quiet_bar_at_the_beginning_of_its_range(lake):
    """Flat bars without volume are left out before a coin's first trade; RLB traded before this range began."""
    load_into(lake, "RLB", days=20)
    bars = bars_in(lake)
    quiet = bars.filter(pl.col("volume") == 0.0)["ts"].dt.timestamp("ms")
    begin = int(quiet.filter(quiet > NOON - 3 * DAY_MS)[0])
    wrong = bars.with_columns(high=pl.when(pl.col("ts").dt.timestamp("ms") == begin).then(9.0).otherwise("high"))
    lake.upsert(BARS, wrong)
    done = load_into(lake, "RLB", days=(NOW - begin) / DAY_MS, interval="1h", refetch=True)
    assert done.report.corrected == {"RLB": 1}
    assert bars_in(lake).equals(bars)


def test_a_second_run_fetches_nothing_that_is_held(lake):
    first = load_into(lake, "BTC", "ETH", "kPEPE", days=20)
    assert len(first.venue.asked("candleSnapshot")) == 3
    assert first.report.corrected == {"BTC": 0, "ETH": 0, "kPEPE": 0}
    again = load_into(lake, "BTC", "ETH", "kPEPE", days=20)
    assert [seen.kind for seen in again.venue.requests] == ["meta"]
    tomorrow = load_into(lake, "BTC", "ETH", "kPEPE", days=20, now_ms=NOW + DAY_MS)
    asked = [seen.query["req"] for seen in tomorrow.venue.asked("candleSnapshot")]
    assert {(query["startTime"], query["endTime"]) for query in asked} == {(NOON - HOUR_MS, NOON + DAY_MS - 1)}
    assert len(tomorrow.venue.asked("fundingHistory")) == 3
    coin = the_market()[""][0]
    assert bars_in(lake, "BTC").equals(true_bars(coin, "1h", NOON - 20 * DAY_MS, NOON + DAY_MS))


def test_a_load_that_was_cut_short_goes_on_with_the_coins_it_lacks(lake):
    load_into(lake, "BTC", days=20)
    rest = load_into(lake, "BTC", "ETH", days=20)
    assert {str(seen.query["req"]["coin"]) for seen in rest.venue.asked("candleSnapshot")} == {"ETH"}


def test_loads_in_any_order_of_ranges_end_in_the_same_lake(tmp_path):
    """Short after long, long after short, and one that ends in the middle: the rows are those of one long load."""
    orders = {"a": [(20, NOW)], "b": [(3, NOW), (20, NOW)], "c": [(5, NOW - 9 * DAY_MS), (2, NOW), (20, NOW)]}
    contents = {}
    for name, steps in orders.items():
        lake = Lake.open(tmp_path / name, create=True)
        for days, now_ms in steps:
            load_into(lake, "BTC", "NEWT", "RLB", days=days, now_ms=now_ms)
        load_into(lake, "BTC", "NEWT", "RLB", days=20)
        contents[name] = (bars_in(lake), settlements_in(lake))
    for name in ("b", "c"):
        assert all(map(partial(pl.DataFrame.equals), contents[name], contents["a"])), name
