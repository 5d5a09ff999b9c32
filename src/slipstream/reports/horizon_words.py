"""What a search for the holding period found, in sentences and in a table for the terminal.

Every sentence is made from the numbers beside it, so the words cannot say more than the result does.
"""

from __future__ import annotations

import math

from slipstream.core.forecast.quantiles import SIGNIFICANT_T
from slipstream.core.panel import HOUR_MS
from slipstream.reports.formatting import number, percent
from slipstream.research.search import SearchResult
from slipstream.research.summary_files import edge_claimed

PUBLISHED_H = 8
"""The holding period that the published figures name as best, hours."""


def findings(result: SearchResult) -> list[str]:
    """What the data support and what they do not, one sentence a finding, the answer first."""
    said = [_edge(result), _charges(result), _choice(result), _published(result), _units(result), _price(result)]
    said += [_funding(result), _ewma(result), _naive(result), _reach(result)]
    return [sentence for sentence in said if sentence]


def survives(result: SearchResult, hours: int = PUBLISHED_H) -> str:
    """Whether a horizon survives as H*: ``yes``, ``best but unproven``, ``no``, or ``not tested``."""
    if hours not in result.horizons:
        return "not tested"
    if result.by_net.best != hours:
        return "no"
    return "yes" if edge_claimed(result) else "best but unproven"


def terminal_table(result: SearchResult) -> list[str]:
    """The comparison, one line per horizon."""
    head = f"{'H':>4}  {'R2 sigma':>9}  {'R2 money':>9}  {'R2 funding':>10}  {'rank IC':>8} {'t':>5}"
    head += f"  {'price bp':>9} {'funding':>8} {'cost':>7} {'net bp':>8}  {'net Sharpe':>10}  {'95 % interval':>16}"
    head += "  P(best)"
    lines = [head]
    for k, hours in enumerate(result.horizons):
        skill, (parts, _) = result.skills[hours], result.parts_bp[hours]
        interval = f"{number(result.by_net.low[hours], 1)} to {number(result.by_net.high[hours], 1)}"
        lines.append(
            f"{hours:>4}  {number(skill.sigma_r2.combined.value, 3):>9}  {number(skill.money_r2.combined.value, 4):>9}"
            f"  {number(skill.money_r2.funding.value, 3):>10}  {number(skill.rank_ic.mean, 3):>8}"
            f" {number(skill.rank_ic.t, 1):>5}  {number(parts[0], 1):>9} {number(parts[1], 1):>8}"
            f" {number(parts[2], 1):>7} {number(parts.sum(), 1):>8}  {number(result.net.estimate[k], 2):>10}"
            f"  {interval:>16}  {percent(result.by_net.probability_best[hours], 0):>7}"
        )
    return lines


def scored_days(result: SearchResult) -> float:
    """Length of the window the numbers are of."""
    return (result.data.last_ms - result.start_ms) / (24 * HOUR_MS)


def _net(result: SearchResult, hours: int) -> float:
    return float(result.net.estimate[result.net.horizons.index(hours)])


def _edge(result: SearchResult) -> str:
    best = result.by_net
    figures = (
        f"{number(_net(result, best.best), 2)} (95 % interval {number(best.low[best.best], 2)} to "
        f"{number(best.high[best.best], 2)})"
    )
    allowing = f"allowing for the choice among {len(result.horizons)}, its lower end is {number(best.claim, 2)}"
    deflated = (
        f"{percent(result.deflated.probability, 0)} is the probability that it beats the luck of "
        f"{result.deflated.trials} tries"
    )
    if edge_claimed(result):
        return f"An edge is claimed at H = {best.best} h: net Sharpe {figures}; {allowing}, and {deflated}."
    return (
        f"No edge is claimed at any horizon. The best net Sharpe ratio is that of H = {best.best} h, {figures}; "
        f"{allowing}, and {deflated}."
    )


def _charges(result: SearchResult) -> str:
    hours = result.by_net.best
    price, funding, cost = result.parts_bp[hours][0].tolist()
    return (
        f"At H = {hours} h the books earned {number(funding, 1, signed=True)} bp of equity per holding period from "
        f"funding, {number(price, 1, signed=True)} bp from price, and paid {number(-cost, 1)} bp in costs."
    )


def _choice(result: SearchResult) -> str:
    best = result.by_net
    if best.runner_up is None:
        return f"H = {best.best} h was the only horizon scored: there was nothing to choose from."
    how = "can" if best.confident else "cannot"
    utility = (
        "" if result.by_utility.best == best.best else f" Expected net utility prefers {result.by_utility.best} h."
    )
    return (
        f"H = {best.best} h {how} be told from the runner-up, {best.runner_up} h: the gap in net Sharpe is "
        f"{number(best.gap, 2)}, 90 % interval {number(best.gap_low, 2)} to {number(best.gap_high, 2)}, and it is the "
        f"best in {percent(best.probability_best[best.best], 0)} of draws.{utility}"
    )


def _published(result: SearchResult) -> str:
    verdict = survives(result)
    if verdict == "not tested":
        return f"H = {PUBLISHED_H} h, the published choice, was not among the horizons scored."
    words = {
        "yes": "survives",
        "best but unproven": "ranks first here, but no edge is claimed for it",
        "no": "does not survive",
    }[verdict]
    ranks = sorted(result.horizons, key=lambda hours: -_net(result, hours))
    return (
        f"H = {PUBLISHED_H} h, the published choice, {words}: net Sharpe {number(_net(result, PUBLISHED_H), 2)}, rank "
        f"{ranks.index(PUBLISHED_H) + 1} of {len(ranks)}, the best in "
        f"{percent(result.by_net.probability_best[PUBLISHED_H], 0)} of draws. The published rule, R2 in deviations, "
        f"picks {result.by_r2.best} h on these data."
    )


def _units(result: SearchResult) -> str:
    hours = result.by_r2.best
    skill = result.skills[hours]
    return (
        f"The units make the difference: at H = {hours} h the combined R2 is "
        f"{number(skill.sigma_r2.combined.value, 3)} in deviations and {number(skill.money_r2.combined.value, 4)} in "
        f"money. The first tells that funding is sticky, the second how much of what is earned was foreseen."
    )


def _price(result: SearchResult) -> str:
    values = [result.skills[hours].money_r2.alpha.value for hours in result.horizons]
    t = [result.skills[hours].price_ic.t for hours in result.horizons]
    foreseen = "foresee a little of" if max(values) > 0.0 else "do not foresee"
    turned = ""
    if min(t) < -SIGNIFICANT_T:
        turned = " Where t is that far below zero, what was learnt from the training rows did not hold in those after."
    return (
        f"Momentum and funding {foreseen} residual prices: R2 in money from {number(min(values), 4)} to "
        f"{number(max(values), 4)}{'' if max(values) > 0.0 else ', worse than forecasting the mean'}, "
        f"rank correlations with t from {number(min(t), 1)} to {number(max(t), 1)}.{turned}"
    )


def _funding(result: SearchResult) -> str:
    skill = ", ".join(
        f"{number(result.skills[hours].money_r2.funding.value, 3)} at {hours} h" for hours in result.horizons
    )
    first, last = (result.skills[hours].money_r2.funding.value for hours in (result.horizons[0], result.horizons[-1]))
    course = "It declines with H" if last < first else "It does not decline with H"
    seen = "is" if result.skills[result.horizons[0]].money_r2.funding.low > 0.0 else "is hardly"
    return f"Funding {seen} foreseen, in money out of sample: R2 {skill}. {course}, as far as these horizons tell."


def _ewma(result: SearchResult) -> str:
    said = []
    for hours in result.horizons:
        skill = result.skills[hours]
        share = f" ({percent(skill.ewma_share, 0)} of the model's)" if math.isfinite(skill.ewma_share) else ""
        said.append(f"{number(skill.ewma_r2.value, 3)} at {hours} h{share}")
    return (
        f"An exponentially weighted mean of past funding alone, without any regression, reaches R2 {', '.join(said)}."
    )


def _naive(result: SearchResult) -> str:
    hours = PUBLISHED_H if PUBLISHED_H in result.horizons else result.horizons[0]
    worst = result.skills[hours].sigma_tables["total"][0]
    if not math.isfinite(worst.Total_t):
        return ""
    return (
        f"In the lowest tenth by forecast at H = {hours} h the naive t of what came is "
        f"{number(worst.Total_t_naive, 0)}; with overlapping periods and coins that move together allowed for it is "
        f"{number(worst.Total_t, 1)}: {number(worst.n)} rows are worth {number(worst.n_eff)} independent ones."
    )


def _reach(result: SearchResult) -> str:
    days = scored_days(result)
    error = 1.0 / math.sqrt(days / 365.25)
    volume = "" if result.data.volume_known else " No volume is recorded, so every coin was given the same impact cost."
    return (
        f"{number(days)} days are scored: a Sharpe ratio measured on them has a standard error of about "
        f"{number(error, 1)}, so differences below {number(2.0 * error, 0)} would need luck to show.{volume}"
    )
