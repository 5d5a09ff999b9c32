"""From bars to a holding period: a walk through the research stack on a market whose truth is known.

Run it as a script (`python notebooks/from_bars_to_a_holding_period.py`), or open it with `marimo edit`. It is executed
by the tests, in well under a minute.
"""

import marimo

app = marimo.App(width="medium")


@app.cell
def _():
    import marimo as mo
    import numpy as np

    mo.md(
        """
        # From bars to a holding period

        Which coins pay funding, for how long, and is it worth holding them? This notebook walks from raw bars to an
        answer with an interval: **lake → panel → factor → features → models → H\\***.

        The market is synthetic, so the truth is known: trends last about two days, and prices give back none of the
        funding. On real data, change one line: `panel = load_panel("data/lake")`.
        """
    )
    return mo, np


@app.cell
def _(np):
    import tempfile
    from pathlib import Path

    import polars as pl

    from slipstream.core.panel import HOUR_MS
    from slipstream.lake.panel_import import import_panel
    from slipstream.lake.store import Lake
    from slipstream.lake.synthetic import synthetic_market
    from slipstream.lake.synthetic_config import SyntheticConfig

    planted = SyntheticConfig(
        coins=24,
        hours=24 * 200,
        seed=3,
        volume_usd_per_hour=2e6,
        momentum_strength=0.02,
        momentum_half_life_hours=48.0,
        funding_carried_by_price=0.0,
    )
    made = synthetic_market(planted).panel
    opened = pl.Series("ts", made.known_at_ms - HOUR_MS).cast(pl.Datetime("ms", "UTC"))
    # A file's row carries the rate stamped at the bar's open: it settles the hour before.
    stamped = np.vstack((np.zeros((1, len(made.coins))), made.funding[:-1]))
    candles = pl.concat(
        pl.DataFrame(
            {
                "ts": opened,
                "coin": [name] * made.rows,
                **{what: getattr(made, what)[:, i] for what in ("open", "high", "low", "close")},
                "volume": made.volume_usd[:, i] * 3.0 / (made.high + made.low + made.close)[:, i],
                "funding": np.nan_to_num(stamped[:, i]),
            }
        ).filter(pl.col("close").is_not_nan())
        for i, name in enumerate(made.coins)
    )
    folder = tempfile.TemporaryDirectory(prefix="slipstream-notebook-")
    candles.write_parquet(Path(folder.name) / "candles.parquet")
    lake = Path(folder.name) / "lake"
    now_ms = int(made.known_at_ms[-1])
    imported, _ = import_panel(Path(folder.name) / "candles.parquet", Lake.open(lake, create=True), now_ms=now_ms)
    return folder, imported, lake


@app.cell
def _(folder, imported, lake, mo):
    from slipstream.core.bars import resample
    from slipstream.lake import load_panel

    panel = resample(load_panel(lake), 4)
    folder.cleanup()
    mo.md(
        f"""
        ## 1. A lake, and a panel of it

        Candles go into a lake with `slipstream data import`, which checks them and refuses to lose what it has:
        {imported.rows_after:,} rows here. The panel read from it has {len(panel.coins)} coins and {panel.rows} bars of
        {panel.bar_hours} hours. Rows are labelled by the moment they are *known*; a decision at a row reads that row
        and earlier ones, and the settlement stamped at its close is not among them yet: it is published after it.
        """
    )
    return (panel,)


@app.cell
def _(mo, np, panel):
    from slipstream.core.factors.pca import pca_exposures
    from slipstream.core.factors.pca_spec import PCASpec

    beta = panel.view().feature(pca_exposures, spec=PCASpec(K=30, H_hours=8))[:, 0, 0]
    low_beta, middle_beta, high_beta = np.nanquantile(beta[-180:], (0.1, 0.5, 0.9))
    mo.md(
        f"""
        ## 2. What the market explains

        Coins move together. The first principal component of 30 eight-hour bars, weighted by USD volume, is the market;
        each coin's slope on it is its beta. Over the last 30 days the middle one was {middle_beta:.2f}, and
        eight in ten lay between {low_beta:.2f} and {high_beta:.2f}.
        What is left after the market is what we try to forecast.
        """
    )
    return (beta,)


@app.cell
def _(mo, np, panel):
    from slipstream.research.dataset import FeatureSettings, horizon_data

    settings = FeatureSettings(spans_hours=(4.0, 8.0, 16.0, 32.0, 64.0))
    data = horizon_data(panel, 8, settings)
    known = int(np.isfinite(data.features).all(axis=2).sum())
    mo.md(
        f"""
        ## 3. Features and targets

        Momentum of residuals and the level of funding, each over {len(settings.spans_hours)} spans, all in their own
        deviations: {known:,} rows of a coin at a time. The targets are what the next eight hours bring, hedged with
        the beta known at the decision: price, and funding paid.
        """
    )
    return data, settings


@app.cell
def _(mo, np):
    def lines(title, unit, xs, series, labels=None):
        """A small line chart as SVG; series: name -> values, with an optional (low, high) band per name."""
        width, height, left, top, bottom = 640, 240, 60, 12, 34
        hues = ("#2166ac", "#b2182b", "#4d9221", "#7b3294")
        ends = [v for values, band in series.values() for row in (values, *(band or ())) for v in row if np.isfinite(v)]
        low, high = min([*ends, 0.0]), max([*ends, 0.0])
        reach = (high - low) or 1.0

        def x(k):
            return left + (width - left - 16) * k / max(len(xs) - 1, 1)

        def y(value):
            return top + (height - top - bottom) * (high - value) / reach

        drawn = [f'<line x1="{left}" x2="{width - 16}" y1="{y(0):.1f}" y2="{y(0):.1f}" stroke="#999"/>']
        drawn += [
            f'<text x="{left - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{value:.3g}</text>' for value in (low, high)
        ]
        for k, label in enumerate(labels or xs):
            if label != "":
                drawn.append(f'<text x="{x(k):.1f}" y="{height - 12}" text-anchor="middle">{label}</text>')
        for (values, band), hue in zip(series.values(), hues, strict=False):
            if band:
                there = [f"{x(k):.1f},{y(v):.1f}" for k, v in enumerate(band[1])]
                back = [f"{x(k):.1f},{y(v):.1f}" for k, v in reversed(list(enumerate(band[0])))]
                drawn.append(f'<polygon points="{" ".join(there + back)}" fill="{hue}" opacity="0.15"/>')
            points = " ".join(f"{x(k):.1f},{y(v):.1f}" for k, v in enumerate(values) if np.isfinite(v))
            drawn.append(f'<polyline points="{points}" fill="none" stroke="{hue}" stroke-width="2"/>')
        key = " ".join(f'<b style="color:{hue}">{name}</b>' for name, hue in zip(series, hues, strict=False))
        style = "font:12px sans-serif"
        return mo.Html(
            f'<figure><figcaption style="{style}">{title}, {unit} {key}</figcaption>'
            f'<svg viewBox="0 0 {width} {height}" style="max-width:40rem;{style}">{"".join(drawn)}</svg></figure>'
        )

    return (lines,)


@app.cell
def _(lines, mo, panel):
    from slipstream.core.factors.pca_spec import PCASpec as Spec
    from slipstream.core.signals.momentum import residual_momentum
    from slipstream.research.leak_check import SHIFTS, shifted_labels

    view = panel.view()
    momentum = view.feature(residual_momentum, spec=Spec(K=30, H_hours=8), span_hours=64.0)
    price_curve, _ = shifted_labels(panel, {"momentum over 64 h": momentum})
    leak_chart = lines(
        "Rank correlation with the return of a bar",
        "by how many rows the bar lies ahead",
        SHIFTS,
        {"momentum over 64 h": ([price_curve.ic[shift] for shift in SHIFTS], None)},
    )
    mo.vstack(
        [
            mo.md(
                f"""
                ## 4. Does a feature know too much?

                Before anything is trained: rank the feature against later bars. Bars −1 and 0 had ended, and momentum
                is made of them. From +1 on it is a forecast: {price_curve.ic[1]:.3f} here, a planted trend. A
                correlation near 1 would mean that the feature *is* the return. `slipstream research leak-check` asks
                this, and more, of a whole strategy.
                """
            ),
            leak_chart,
        ]
    )
    return (leak_chart,)


@app.cell
def _(data, mo, panel, settings):
    from slipstream.core.forecast.dated_models import usable_from_ms
    from slipstream.core.forecast.walk_forward import WalkForwardSettings
    from slipstream.core.panel import utc
    from slipstream.research.training import TrainingSettings, train_model

    # The data are short for a notebook; a real run keeps the default of 180 days without a remark.
    walk = WalkForwardSettings(blocks=6, inner_folds=5, min_train_days=20.0, short_train_days=20.0)
    how = TrainingSettings(data.horizon_hours, settings, walk, n_bootstrap=200)
    model = train_model(panel, how)
    rows = "\n".join(
        f"        | {name} | {coefficient:+.4f} | {se:.4f} |"
        for name, coefficient, se in zip(
            model.alpha.feature_names, model.alpha.coefficients, model.alpha.se, strict=True
        )
    )
    mo.md(
        f"""
        ## 5. A model

        Ridge, its penalty chosen inside the training set. This one may be used from
        {utc(usable_from_ms(model)):%Y-%m-%d %H:%M} UTC: its last target ended one bar before. Out of sample the share
        of variance explained, in money: price {model.r2["alpha_money"]:.4f}, funding {model.r2["funding_money"]:.4f},
        both {model.r2["combined_money"]:.4f}. In deviations the last would read {model.r2["combined_sigma"]:.4f},
        which measures how persistent funding is and not what can be earned.

        | feature of price | coefficient | standard error |
        |---|---|---|
{rows}
        """
    )
    return model, walk


@app.cell
def _(model, mo, panel):
    from slipstream.core.forecast.model_inputs import forecast_as_of

    forecast = forecast_as_of(model, panel.view())
    ranked = sorted(
        (
            (total, price, paid, coin)
            for coin, price, paid, total in zip(
                panel.coins,
                (1e4 * forecast.alpha_price).tolist(),
                (1e4 * forecast.funding).tolist(),
                (1e4 * forecast.alpha_total).tolist(),
                strict=True,
            )
            if total == total
        ),
        reverse=True,
    )
    shown = "\n".join(
        f"        | {coin} | {price:+.1f} | {paid:+.1f} | {total:+.1f} |"
        for total, price, paid, coin in [*ranked[:3], *ranked[-3:]]
    )
    mo.md(
        f"""
        ## 6. A forecast

        What the model says of the last bar, in basis points of notional over eight hours, the best and the
        worst three among {len(ranked)} coins. On the command line: `slipstream research predict`.

        | coin | price | funding a long pays | total |
        |---|---|---|---|
{shown}
        """
    )
    return (forecast,)


@app.cell
def _(panel, settings, walk):
    from slipstream.research.executor import SerialExecutor
    from slipstream.research.search import SearchRequest, search_horizons

    request = SearchRequest(horizons=(4, 8, 24, 48), features=settings, walk=walk, n_bootstrap=300)
    search = search_horizons(panel, request, SerialExecutor())
    return (search,)


@app.cell
def _(lines, mo, search):
    choice = search.by_net
    hours = search.horizons
    sharpe_chart = lines(
        "Net Sharpe ratio a year, with its 95 % interval",
        "by H in hours",
        hours,
        {
            "net of costs": (
                search.net.estimate.tolist(),
                ([choice.low[h] for h in hours], [choice.high[h] for h in hours]),
            )
        },
    )
    parts = "\n".join(
        f"        | {h} | {search.parts_bp[h][0][0]:+.2f} | {search.parts_bp[h][0][1]:+.2f} | "
        f"{search.parts_bp[h][0][2]:+.2f} | {search.skills[h].money_r2.combined.value:.4f} | "
        f"{choice.probability_best[h]:.0%} |"
        for h in hours
    )
    verdict = "is" if choice.confident else "is not"
    mo.vstack(
        [
            mo.md(
                f"""
        ## 7. H\\*

        Every H is forecast out of sample, traded with costs by the same optimiser, and drawn again from the same blocks
        of time. Parts are basis points of equity per H.

        | H | price | funding | costs | R2 in money | best in |
        |---|---|---|---|---|---|
{parts}

        H\\* = **{choice.best} h** by net Sharpe. The lead over the next best {verdict} beyond what chance explains:
        {choice.gap:+.2f}, 90 % interval {choice.gap_low:+.2f} to {choice.gap_high:+.2f}. What may be claimed for it,
        allowing for its having been picked: at least {choice.claim:+.2f}.
        """
            ),
            sharpe_chart,
        ]
    )
    return choice, sharpe_chart


@app.cell
def _(np, panel):
    from slipstream.cli.research_models import walk_forward_in_run
    from slipstream.strategies.bar_backtest import run_bar_backtest
    from slipstream.strategies.carry import decision_with_models

    models = walk_forward_in_run(panel, 8, 720.0)
    book = run_bar_backtest(panel, decision_with_models(models), rebalance_hours=8)
    equity = np.cumprod(1.0 + book.net_return)
    earned = 100.0 * book.pnl_usd.sum(axis=0) / book.initial_capital_usd
    return book, earned, equity, models


@app.cell
def _(book, earned, equity, lines, mo, models):
    step = max(1, len(equity) // 200)
    curve = equity[::step].tolist()
    ticks = ["" if k % max(1, len(curve) // 5) else f"day {k * step * book.bar_hours // 24}" for k in range(len(curve))]
    equity_chart = lines("Equity less 1", "first day 0", curve, {"carry": ([v - 1.0 for v in curve], None)}, ticks)
    mo.vstack(
        [
            mo.md(
                f"""
                ## 8. The strategy that trades it

                `carry` decides with the latest model that existed at each close ({len(models)} models, retrained every
                30 days), weighs costs from what it holds, and stays neutral to the market. Of its capital it earned
                {earned[0]:+.1f} % on prices and {earned[1]:+.1f} % in funding, and paid {-earned[2:].sum():.1f} % in
                costs: Sharpe {book.sharpe():.1f} ± {book.sharpe_error():.1f}.

                The trends and the carry were planted. On real data, read the same figures with the same doubt: the
                interval first.
                """
            ),
            equity_chart,
        ]
    )
    return (equity_chart,)


if __name__ == "__main__":
    app.run()
