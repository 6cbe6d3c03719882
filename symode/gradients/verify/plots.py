"""Remainders as a picture: inline SVG, in both logarithms, nothing loaded from anywhere."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Final

from symode.gradients.verify.report import Curve

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 340, 240, 52, 36, 10, 10
COLOURS: Final = ("#0b6e99", "#b3541e", "#5b7f1d", "#7a4fa3")
DASHES: Final = ("", "6 3", "2 3", "8 3 2 3")


def remainder_plot(curves: Sequence[Curve], title: str) -> str:
    """Return remainders over perturbations, with a line of the slope that theory gives.

    Examples
    --------
    >>> svg = remainder_plot([Curve("a < b", (1e-1, 1e-2), (1e-2, 1e-4))], "order 2")
    >>> svg.startswith("<svg"), "a &lt; b" in svg
    (True, True)
    """
    shown = [c for c in curves if c.epsilon]
    if not shown:
        return ""
    xs = [math.log10(e) for c in shown for e in c.epsilon]
    ys = [math.log10(r) for c in shown for r in c.remainder]
    x0, x1 = math.floor(min(xs)), math.ceil(max(xs))
    y0, y1 = math.floor(min(ys)), math.ceil(max(ys))
    x1, y1 = max(x1, x0 + 1), max(y1, y0 + 1)

    def px(x: float) -> float:
        return LEFT + (x - x0) / (x1 - x0) * (WIDTH - LEFT - RIGHT)

    def py(y: float) -> float:
        return HEIGHT - BOTTOM - (y - y0) / (y1 - y0) * (HEIGHT - BOTTOM - TOP)

    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}" '
        f'xmlns="http://www.w3.org/2000/svg"><title>{escape(title)}</title>'
    ]
    for x in range(x0, x1 + 1, max(1, (x1 - x0) // 5)):
        parts.append(_line(px(x), py(y0), px(x), py(y1), "grid"))
        parts.append(_text(px(x), HEIGHT - BOTTOM + 14, f"1e{x}", "middle"))
    for y in range(y0, y1 + 1, max(1, (y1 - y0) // 5)):
        parts.append(_line(px(x0), py(y), px(x1), py(y), "grid"))
        parts.append(_text(LEFT - 5, py(y) + 3, f"1e{y}", "end"))
    order = shown[0].order
    # The guide goes through the largest perturbation of the first curve.
    e, r = max(zip(shown[0].epsilon, shown[0].remainder, strict=True))
    top, low = math.log10(r), y0
    left = max(x0, math.log10(e) - (top - low) / order)
    bottom = top - order * (math.log10(e) - left)
    parts.append(_line(px(math.log10(e)), py(top), px(left), py(bottom), "guide"))
    for k, curve in enumerate(shown):
        points = " ".join(
            f"{px(math.log10(a)):.1f},{py(math.log10(b)):.1f}"
            for a, b in zip(curve.epsilon, curve.remainder, strict=True)
        )
        colour, dash = COLOURS[k % len(COLOURS)], DASHES[k % len(DASHES)]
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.8" '
            f'stroke-dasharray="{dash}"><title>{escape(curve.label)}</title></polyline>'
        )
    for k, curve in enumerate(shown):
        y = TOP + 12 + 13 * k
        colour, dash = COLOURS[k % len(COLOURS)], DASHES[k % len(DASHES)]
        parts.append(
            f'<line x1="{LEFT + 8}" y1="{y - 4}" x2="{LEFT + 30}" y2="{y - 4}" stroke="{colour}" '
            f'stroke-width="1.8" stroke-dasharray="{dash}"/>'
        )
        parts.append(_text(LEFT + 35, y, curve.label, "start"))
    parts.append(_text((LEFT + WIDTH) / 2, HEIGHT - 4, "ε", "middle"))
    parts.append("</svg>")
    return "".join(parts)


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
