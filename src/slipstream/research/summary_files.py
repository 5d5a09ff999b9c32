"""What a search leaves behind, as the exact text of each file: models, a comparison table, and a summary.

Texts, not files: whoever calls decides where they go and that they arrive together or not at all. A number that cannot
be told is an empty cell in the table and null in JSON.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from slipstream.core.forecast.model import JointModel, LinearModel, ModelCard
from slipstream.core.forecast.quantiles import QuantileRow
from slipstream.core.forecast.scores import R2
from slipstream.core.forecast.targets import TARGET_CLIP
from slipstream.core.panel import Panel, UniverseRule, utc
from slipstream.research.net_edge import CHARGES
from slipstream.research.provenance import versions
from slipstream.research.search import SearchResult


def file_texts(result: SearchResult, panel: Panel) -> dict[str, str]:
    """File name -> text of ``joint_model_H{H}.json``, ``H_comparison.csv`` and ``optimization_summary.json``.

    Args:
        result: of a search.
        panel: what was searched.
    """
    models = {hours: joint_model(result, panel, hours) for hours in result.horizons}
    return {
        **{f"joint_model_H{hours}.json": model.to_json() + "\n" for hours, model in models.items()},
        "H_comparison.csv": comparison_csv(result),
        "optimization_summary.json": json.dumps(summary(result), indent=2, allow_nan=False) + "\n",
    }


def joint_model(result: SearchResult, panel: Panel, hours: int) -> JointModel:
    """The trained model of one horizon with its scores and its card."""
    request, forecast, skill = result.request, result.forecasts[hours], result.skills[hours]
    features = request.features
    linear = {name: LinearModel.of(own.fit, own.names, own.inference) for name, own in forecast.fits.items()}
    rule = UniverseRule()
    return JointModel(
        H=hours,
        bar_hours=forecast.bar_hours,
        K=features.K,
        pca_method=features.pca_method,
        spans=tuple(float(span) for span in features.spans_hours),
        vol_span=float(features.vol_span_hours),
        clips={"momentum": features.momentum_clip, "funding": features.funding_clip, "target": TARGET_CLIP},
        alpha=linear["alpha"],
        funding=linear["funding"],
        trained_through_ms=int(panel.known_at_ms[panel.rows - 1 - forecast.bars]),
        r2={
            f"{name}{unit}": getattr(score, name).value
            for unit, score in (("", skill.sigma_r2), ("_money", skill.money_r2))
            for name in ("alpha", "funding", "combined")
        },
        quantile_table=skill.bp_tables["total"],
        card=ModelCard(
            data_first_ms=result.data.first_ms,
            data_last_ms=result.data.last_ms,
            data_source=result.data.source,
            data_hash=result.data.content_hash,
            coins=result.data.coins,
            universe=f"trailing {rule.min_history_hours} h of history and {rule.min_adv_usd:g} USD a day by default",
            folds=(request.walk.blocks, request.walk.inner_folds),
            seed=request.seed,
            n_bootstrap=request.n_bootstrap,
            versions=versions(),
        ),
    )


def comparison(result: SearchResult) -> list[dict[str, Any]]:
    """One row per horizon scored: every number of the comparison with its interval, NaN where it cannot be told."""
    return [_row(result, hours) for hours in result.horizons]


def comparison_csv(result: SearchResult) -> str:
    """``H_comparison.csv``: :func:`comparison` as text, numbers so that they read back as they are."""
    rows = comparison(result)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
    return text.getvalue()


def summary(result: SearchResult) -> dict[str, Any]:
    """``optimization_summary.json``: the choice, what it rests on, and all of each horizon."""
    chosen, request = result.chosen, result.request
    combined = result.skills[chosen.best].sigma_r2.combined.value
    document = {
        "H_optimal": chosen.best,
        "R2_combined_optimal": combined,
        "R2_combined_bp": round(1e4 * combined) if math.isfinite(combined) else None,
        "H_tested": list(result.horizons),
        "H_left_out": {str(hours): why for hours, why in sorted(result.left_out.items())},
        "selection_rule": request.select,
        "H_optimal_confident": chosen.confident,
        "H_optimal_net_sharpe": result.by_net.best,
        "H_optimal_utility": result.by_utility.best,
        "H_optimal_sigma_r2": result.by_r2.best,
        "edge_claimed": edge_claimed(result),
        "net_sharpe_claim": result.by_net.claim,
        "net_sharpe_gap": {
            "runner_up": result.by_net.runner_up,
            "gap": result.by_net.gap,
            "low_90": result.by_net.gap_low,
            "high_90": result.by_net.gap_high,
        },
        "deflated_sharpe": asdict(result.deflated),
        "timestamp": _iso(result.data.last_ms),
        "scored_from": _iso(result.start_ms),
        "data": {
            "source": result.data.source,
            "content_hash": result.data.content_hash,
            "first": _iso(result.data.first_ms),
            "last": _iso(result.data.last_ms),
            "bar_hours": result.data.bar_hours,
            "coins": len(result.data.coins),
            "volume_known": result.data.volume_known,
        },
        "pca_method": request.features.pca_method,
        "K": request.features.K,
        "n_bootstrap": request.n_bootstrap,
        "seed": request.seed,
        "spans": list(request.features.spans_hours),
        "vol_span": request.features.vol_span_hours,
        "walk_forward": asdict(request.walk),
        "books": asdict(request.books),
        "per_H": {str(row["H"]): {**row, **_detail(result, row["H"])} for row in comparison(result)},
    }
    plain = absent_as_null(document)
    assert isinstance(plain, dict)
    return plain


def edge_claimed(result: SearchResult) -> bool:
    """Whether the best horizon's net Sharpe ratio is above 0 after allowing for its having been picked."""
    return bool(result.by_net.claim > 0.0)


def absent_as_null(value: Any) -> Any:
    """The same of plain types, what is not finite as None."""
    if isinstance(value, Mapping):
        return {str(key): absent_as_null(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [absent_as_null(inner) for inner in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _row(result: SearchResult, hours: int) -> dict[str, Any]:
    skill, edge, forecast = result.skills[hours], result.edges[hours], result.forecasts[hours]
    place = result.net.horizons.index(hours)
    row: dict[str, Any] = {"H": hours, "n": skill.money_r2.combined.observations}
    for unit, score in (("", skill.sigma_r2), ("_money", skill.money_r2)):
        for name in ("alpha", "funding", "combined"):
            row |= _with_interval(f"R2_{name}{unit}", getattr(score, name))
    row["R2_combined_bp"] = 1e4 * skill.sigma_r2.combined.value
    row |= _with_interval("R2_funding_money_ewma", skill.ewma_r2)
    row["ewma_share"] = skill.ewma_share
    for name, ic in (("rank_ic", skill.rank_ic), ("price_ic", skill.price_ic), ("funding_ic", skill.funding_ic)):
        row |= {name: ic.mean, f"{name}_t": ic.t}
    estimate, draws = result.parts_bp[hours]
    ends = np.quantile(draws, (0.025, 0.975), axis=0)
    for k, part in enumerate(CHARGES):
        row |= {f"{part}_bp": estimate[k], f"{part}_bp_low": ends[0, k], f"{part}_bp_high": ends[1, k]}
    net_low, net_high = np.quantile(draws.sum(axis=1), (0.025, 0.975))
    return row | {
        "net_bp": estimate.sum(),
        "net_bp_low": net_low,
        "net_bp_high": net_high,
        "net_sharpe": result.net.estimate[place],
        "net_sharpe_low": result.by_net.low[hours],
        "net_sharpe_high": result.by_net.high[hours],
        "probability_best": result.by_net.probability_best[hours],
        "utility_per_hour": result.utility.estimate[place],
        "utility_per_hour_low": result.by_utility.low[hours],
        "utility_per_hour_high": result.by_utility.high[hours],
        "turnover": edge.turnover.mean(),
        "gross": edge.gross.mean(),
        "positions": edge.coins_held.mean(),
        "phases": len(edge.parts),
        "blocks_scored": len(forecast.alpha.scored),
        "blocks_short": sum(block.short for block in forecast.alpha.scored),
        "lambda_alpha": forecast.fits["alpha"].fit.penalty,
        "lambda_funding": forecast.fits["funding"].fit.penalty,
    }


def _detail(result: SearchResult, hours: int) -> dict[str, Any]:
    """What has no place in a table of one row per horizon."""
    skill, edge, forecast = result.skills[hours], result.edges[hours], result.forecasts[hours]
    return {
        "quantiles_sigma": {name: _rows(table) for name, table in skill.sigma_tables.items()},
        "quantiles_bp": {name: _rows(table) for name, table in skill.bp_tables.items()},
        "round_trip_cost_bp": list(skill.cost_bp),
        "shifted_labels": [asdict(point) for point in skill.shifted],
        "ewma_span_hours": list(skill.ewma_span_hours),
        "coefficients": {
            name: {
                "feature": list(own.names),
                "coefficient": own.inference.estimate.tolist(),
                "se": own.inference.se.tolist(),
                "low": own.inference.low.tolist(),
                "high": own.inference.high.tolist(),
                "t": own.inference.t.tolist(),
                "stars": list(own.inference.stars),
                "se_by_draws": {str(n): values.tolist() for n, values in own.inference.se_plateau.items()},
                "lambda_at_edge": own.choice.at_edge,
            }
            for name, own in forecast.fits.items()
        },
        "books": {
            "failed": edge.failed,
            "funding_missing": edge.funding_missing,
            "delisted": edge.delisted,
            "ruined": edge.ruined,
        },
    }


def _rows(table: tuple[QuantileRow, ...]) -> list[dict[str, Any]]:
    return [asdict(row) for row in table]


def _with_interval(name: str, score: R2) -> dict[str, float]:
    return {name: score.value, f"{name}_low": score.low, f"{name}_high": score.high}


def _cell(value: Any) -> str:
    if isinstance(value, float | np.floating):
        return repr(float(value)) if math.isfinite(value) else ""
    return str(value)


def _iso(ms: int) -> str:
    return utc(ms).isoformat()
