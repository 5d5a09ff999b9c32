"""``slipstream research factors``: the rolling market factor of a panel, one file per holding period H."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from slipstream.cli.bar_strategy import say, write_wide_csv
from slipstream.cli.research_data import DataDir, DataPath, Interval, research_panel

if TYPE_CHECKING:
    import pandas as pd

    from slipstream.core.factors.pca import PCAResult
    from slipstream.core.factors.pca_spec import PCASpec
    from slipstream.core.panel import Panel

Weights = Literal["none", "sqrt", "log", "dollar", "sqrt_dollar"]
COMPARED: tuple[Weights, ...] = ("none", "sqrt", "log", "dollar")
SENSIBLE_K = (20, 60)
SHOWN_BETAS = 5


def factors(
    *,
    h: Annotated[tuple[int, ...], Parameter(name="--H", consume_multiple=True, help="Hours per bar: --H 4 8 12.")] = (
        8,
    ),
    k: Annotated[int, Parameter(name="--K", help="Bars of H hours per window.")] = 30,
    weight_method: Annotated[Weights, Parameter(help="What a coin's USD volume becomes as its weight.")] = "sqrt",
    data: DataPath = None,
    data_dir: DataDir = Path("data"),
    interval: Interval = "4h",
    min_assets: Annotated[int, Parameter(help="Coins a window needs.")] = 10,
    min_periods: Annotated[int | None, Parameter(help="Returns a coin needs in it; default 80 % of K.")] = None,
    n_components: Annotated[Literal[1, 2, 3], Parameter(help="Components: 1, 2 or 3.")] = 1,
    compare_all: Annotated[
        bool, Parameter(negative="", help="Also write a page that compares all weight methods.")
    ] = False,
    output_dir: Annotated[Path, Parameter(help="Folder of the files; made if absent.")] = Path("data/features"),
) -> int:
    """Estimate the rolling liquidity-weighted market factor: betas, and the portfolio whose return it is.

    Writes pca_factor_H{H}_K{K}_{method}.csv and its ..._coefs.csv for each H into --output-dir, all of them or none.
    An H whose windows are longer than the history is reported and left out, and the exit code is then 1.

    Example: slipstream research factors --data panel.parquet --H 4 8 24 --compare-all
    """
    from slipstream.core.factors.pca_spec import HistoryTooShort, PCASpec
    from slipstream.reports.outputs import staged

    specs = [PCASpec(k, hours, weight_method, min_assets, min_periods, n_components) for hours in dict.fromkeys(h)]
    market = Market.of(research_panel(data, data_dir, interval))
    found: list[tuple[PCASpec, PCAResult]] = []
    too_short: list[str] = []
    pages: dict[str, str] = {}
    for spec in specs:
        try:
            found.append((spec, market.factor(spec)))
        except HistoryTooShort as problem:
            too_short.append(str(problem))
            continue
        if compare_all:
            pages[f"pca_methods_H{spec.H_hours}_K{k}.html"] = _comparison_page(market, spec)
    if found:
        with staged(output_dir) as stage:
            for spec, result in found:
                write_wide_csv(result.beta.join(result.stats), stage / f"{_stem(spec)}.csv")
                write_wide_csv(result.coefs, stage / f"{_stem(spec)}_coefs.csv")
            for name, page in pages.items():
                (stage / name).write_text(page, encoding="utf-8")
    for spec, result in found:
        _print_factor(market, spec, result, output_dir / f"{_stem(spec)}.csv")
    for name in pages:
        say(f"weight methods side by side: {output_dir / name}")
    if not SENSIBLE_K[0] <= k <= SENSIBLE_K[1]:
        say(f"note: K = {k} lies outside {SENSIBLE_K[0]} to {SENSIBLE_K[1]}; fewer bars are noise, more are history")
    for line in too_short:
        say(f"left out: {line}")
    return 1 if too_short else 0


@dataclass(frozen=True)
class Market:
    """Log returns and USD volumes as frames, index = known-at.

    Attributes:
        returns: per bar; NaN in a gap and just after one.
        volume_usd: per bar; None where no volume is known at all.
        source: where they come from.
    """

    returns: pd.DataFrame
    volume_usd: pd.DataFrame | None
    source: str

    @classmethod
    def of(cls, panel: Panel) -> Market:
        """The market of a panel."""
        import numpy as np
        import pandas as pd

        index = pd.to_datetime(panel.known_at_ms, unit="ms", utc=True)
        coins = list(panel.coins)
        returns = pd.DataFrame(panel.view().log_return, index=index, columns=coins)
        known = not np.isnan(panel.volume_usd).all()
        volume = pd.DataFrame(panel.volume_usd, index=index, columns=coins) if known else None
        return cls(returns, volume, panel.source)

    def factor(self, spec: PCASpec) -> PCAResult:
        """The factor of this market.

        Raises:
            UsageError: H is no multiple of the bar, or the method needs volumes and there are none.
            HistoryTooShort: less than one window.
        """
        from slipstream.core.factors.pca import rolling_pca

        return rolling_pca(
            self.returns,
            self.volume_usd,
            spec.K,
            spec.H_hours,
            spec.weight_method,
            spec.min_assets,
            spec.min_periods,
            spec.n_components,
        )

    def daily_volume_usd(self, hours: int) -> Mapping[str, float]:
        """Average USD volume per day of every coin over the last ``hours``; NaN where unknown."""
        if self.volume_usd is None:
            return dict.fromkeys(self.returns.columns, float("nan"))
        rows = self.volume_usd.loc[self.volume_usd.index[-1] - _hours(hours) :].iloc[1:]
        bar = (self.volume_usd.index[1] - self.volume_usd.index[0]) / _hours(1)
        return dict((rows.mean() * 24.0 / bar).items())


def _comparison_page(market: Market, spec: PCASpec) -> str:
    import numpy as np

    from slipstream.core.factors.pca import REFERENCE_COIN
    from slipstream.core.signals.residuals import compute_market_factor
    from slipstream.reports.factor_report import (
        FactorComparison,
        MethodFactor,
        effective_number,
        render_factor_comparison,
    )

    volume = market.daily_volume_usd(spec.K * spec.H_hours)
    coin = REFERENCE_COIN if REFERENCE_COIN in volume else max(volume, key=lambda name: np.nan_to_num(volume[name]))
    methods: dict[str, MethodFactor] = {}
    for method in COMPARED if market.volume_usd is not None else ("none",):
        result = market.factor(replace(spec, weight_method=method, n_components=1))
        methods[method] = MethodFactor(
            variance_explained=result.stats["_variance_explained"].to_numpy(),
            beta=result.beta[coin].to_numpy(),
            factor_return=np.asarray(compute_market_factor(market.returns, result.coefs, result.beta)),
            effective_coins=effective_number(result.coefs.to_numpy()),
        )
    return render_factor_comparison(
        FactorComparison(
            source=market.source,
            H_hours=spec.H_hours,
            K=spec.K,
            n_assets=int(result.stats["_n_assets"].max()),
            coin=coin,
            known_at_ms=result.windows.known_at_ms,
            methods=methods,
        )
    )


def _print_factor(market: Market, spec: PCASpec, result: PCAResult, file: Path) -> None:
    share = result.stats.filter(like="_variance_explained").median()
    used = result.stats["_n_assets"]
    first, last = result.beta.index[0], result.beta.index[-1]
    say(f"H = {spec.H_hours} h, K = {spec.K}, weights {spec.weight_method}: {file}")
    say(f"  rows                {len(result.beta)}, known {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC")
    for why, count in result.blank.items():
        say(f"  rows without factor {count}: {why}")
    say(f"  assets              {used.min()} to {used.max()} per window, {len(market.returns.columns)} in all")
    say(f"  variance explained  {', '.join(f'{value:.1%}' for value in share)} (median)")
    known = _first_component(result).dropna(how="all")
    if known.empty:
        return
    volume = market.daily_volume_usd(spec.K * spec.H_hours)
    say(f"  largest betas, {known.index[-1]:%Y-%m-%d %H:%M} UTC")
    for coin, value in known.iloc[-1].nlargest(SHOWN_BETAS).items():
        traded = volume[str(coin)]
        say(f"    {coin:12} {value:6.2f}   {f'{traded:,.0f} USD a day' if traded == traded else 'volume unknown'}")


def _first_component(result: PCAResult) -> pd.DataFrame:
    """Betas of component 1, columns named by the coin."""
    if "_pc1_eigenvalue" in result.stats:
        return result.beta
    return result.beta.filter(regex="_pc1$").rename(columns=lambda name: name.removesuffix("_pc1"))


def _stem(spec: PCASpec) -> str:
    suffix = "" if spec.n_components == 1 else f"_{spec.n_components}pc"
    return f"pca_factor_H{spec.H_hours}_K{spec.K}_{spec.weight_method}{suffix}"


def _hours(count: int) -> pd.Timedelta:
    import pandas as pd

    return pd.Timedelta(hours=count)
