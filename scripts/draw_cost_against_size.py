"""Draw docs/images/cost_against_size.svg: what a trade of each size costs, and the size the optimiser picks.

    python scripts/draw_cost_against_size.py --out docs/images/cost_against_size.svg

One coin, nothing held: the figures are those of the worked example in docs/portfolio.md. The picture is text and the
same on every machine, so a test can say whether the committed one is current.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np

from slipstream.portfolio import optimize_portfolio_with_costs

ALPHA, VARIANCE, FEE, IMPACT = 3e-3, 0.03, 3e-4, 5e-3
"""The worked example: expected return, variance, linear cost, and impact cost of a whole book, per holding period."""

LARGEST, TOP_BPS = 0.12, 36.0
LEFT, RIGHT, ABOVE, BELOW, WIDTH, HEIGHT = 70, 24, 54, 58, 760, 440
TEXT, FAINT, BLUE, ORANGE, GREEN = "#24292f", "#d0d7de", "#0b62c4", "#b35900", "#1a7f37"


def best_trade() -> float:
    """The optimiser's trade, fraction of equity."""
    one, no_beta = np.ones(1), np.zeros((1, 0))
    w, _ = optimize_portfolio_with_costs(
        ALPHA * one, no_beta, VARIANCE * np.eye(1), 0.0 * one, FEE * one, IMPACT * one, 1.0
    )
    return float(w[0])


def across(size: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * size / LARGEST


def down(bps: float) -> float:
    return HEIGHT - BELOW - (HEIGHT - ABOVE - BELOW) * bps / TOP_BPS


def label(x: float, y: float, text: str, colour: str = TEXT, anchor: str = "start", more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" text-anchor="{anchor}"{more}>{text}</text>'


def line(x1: float, y1: float, x2: float, y2: float, colour: str, more: str = "") -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"{more}/>'


def curve(bps: Callable[[float], float], colour: str, largest: float = LARGEST) -> str:
    """A polyline of ``bps`` over trade sizes; points are dense where a square root bends."""
    sizes = largest * np.linspace(0.0, 1.0, 97) ** 2
    points = " ".join(f"{across(size):.1f},{down(bps(size)):.1f}" for size in sizes)
    return f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2.4"/>'


def axes() -> list[str]:
    parts = []
    for bps in range(0, 36, 5):
        parts += [
            line(LEFT, down(bps), WIDTH - RIGHT, down(bps), FAINT),
            label(LEFT - 10, down(bps) + 4, f"{bps}", TEXT, "end"),
        ]
    for percent in range(0, 13, 2):
        parts.append(label(across(percent / 100), HEIGHT - BELOW + 20, f"{percent} %", TEXT, "middle"))
    turned = f' transform="rotate(-90 20 {HEIGHT / 2:.0f})"'
    parts.append(label(20, HEIGHT / 2, "basis points of the trade", TEXT, "middle", turned))
    parts.append(label(across(LARGEST / 2), HEIGHT - 14, "size of the trade, share of equity", TEXT, "middle"))
    return parts


def picture() -> str:
    """The whole picture, as SVG."""
    best = best_trade()
    meets = 1e4 * (ALPHA - VARIANCE * best)
    paid = 1e4 * (FEE + IMPACT * best**0.5)
    dashed = ' stroke-dasharray="5 4"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="Helvetica, Arial, sans-serif" font-size="13" role="img">',
        "<title>Cost against trade size</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        label(LEFT, 28, "The best trade is where the last unit earns what it costs", TEXT, more=' font-size="16"'),
        *axes(),
        line(across(best), down(0.0), across(best), down(meets), TEXT, dashed),
        curve(lambda x: 1e4 * (ALPHA - VARIANCE * x), GREEN, ALPHA / VARIANCE),
        curve(lambda x: 1e4 * (FEE + 1.5 * IMPACT * x**0.5), ORANGE),
        curve(lambda x: 1e4 * (FEE + IMPACT * x**0.5), BLUE),
        line(LEFT, down(1e4 * FEE), WIDTH - RIGHT, down(1e4 * FEE), BLUE, dashed),
        f'<circle cx="{across(best):.1f}" cy="{down(meets):.1f}" r="5.5" fill="{TEXT}"/>',
        f'<circle cx="{across(best):.1f}" cy="{down(paid):.1f}" r="4" fill="{BLUE}"/>',
        line(across(best), down(meets), across(0.045), down(27.0), TEXT),
        label(across(0.0455), down(27.2), f"optimiser: {best:.2%} of equity, average cost {paid:.0f} bp"),
        label(across(0.003), down(31.4), "what the next unit earns: alpha less its risk", GREEN),
        label(across(0.117), down(31.5), "what the next unit costs", ORANGE, "end"),
        label(across(0.117), down(16.0), "average cost of the trade", BLUE, "end"),
        label(across(0.117), down(1e4 * FEE) - 7, "fee and half-spread", BLUE, "end"),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="the file to write")
    out = parser.parse_args().out
    out.write_text(picture(), encoding="utf-8")
    print(f"{out}: the best trade is {best_trade():.6%} of equity")


if __name__ == "__main__":
    main()
