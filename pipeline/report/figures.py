"""The figures that are drawn as SVG: curves, intervals about zero, and the mark of each method.

A method has one colour and dash throughout. No string from the data enters an SVG: names stand in the page's own text.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.figure import Figure

from pipeline.report.comparison import Estimate
from pipeline.report.curves import Curve

# Okabe and Ito (2008) without black and yellow: told apart by readers with any colour vision, on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
# (matplotlib, SVG) dash patterns for the methods after the sixth.
DASHES = (("-", "none"), ((0, (5, 2)), "5 2"), ((0, (1.5, 1.5)), "1.5 1.5"), ((0, (6, 2, 1.5, 2)), "6 2 1.5 2"))

STYLE: Any = {
    "svg.fonttype": "none",  # text stays text, in the page's own typeface
    "svg.hashsalt": "ssig",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.edgecolor": "#8a8a86",
    "axes.labelcolor": "#3d3d3a",
    "xtick.color": "#6b6b67",
    "ytick.color": "#6b6b67",
    "axes.linewidth": 0.8,
}


def style(position: int) -> tuple[str, Any, str]:
    """Colour, matplotlib line style and SVG dash array of the method at `position`, one for all figures."""
    dash, svg_dash = DASHES[position // len(COLOURS) % len(DASHES)]
    return COLOURS[position % len(COLOURS)], dash, svg_dash


def figure(drawn: Sequence[Curve], methods: Sequence[str], label: str, title: str) -> str:
    """An SVG element with the curves of one metric; bands are the pointwise intervals."""
    with mpl.rc_context(STYLE):
        canvas = Figure(figsize=(5.2, 3.5), layout="constrained")
        axes = canvas.add_subplot()
        for curve in drawn:
            colour, dash, _ = style(methods.index(curve.method))
            axes.fill_between(curve.fraction, curve.low, curve.high, color=colour, alpha=0.13, linewidth=0)
            axes.plot(curve.fraction, curve.mean, color=colour, linestyle=dash, linewidth=1.6)
        axes.set_title(title, loc="left", fontsize=11, color="#1f1f1d", parse_math=False)
        axes.set_xlabel("fraction of pixels changed")
        axes.set_ylabel(label, parse_math=False)
        axes.set_xlim(0, 1)
        axes.grid(axis="y", color="#e6e6e2", linewidth=0.7)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        target = io.StringIO()
        canvas.savefig(target, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    text = target.getvalue()
    return text[text.index("<svg") :]


def swatch(position: int) -> Markup:
    """A short line in the style of the method at `position`."""
    colour, _, dash = style(position)
    return Markup(
        '<svg class="swatch" viewBox="0 0 22 6" aria-hidden="true">'
        f'<line x1="1" y1="3" x2="21" y2="3" stroke="{colour}" stroke-width="3" stroke-dasharray="{dash}"/></svg>'
    )


def strip(estimate: Estimate, scale: float, position: int) -> Markup:
    """An interval about zero on an axis from -scale to scale, in the colour of the method at `position`."""
    if estimate.mean is None or estimate.low is None or estimate.high is None or scale <= 0:
        return Markup("")
    colour, _, _ = style(position)
    low, mean, high = (60 + 56 * value / scale for value in (estimate.low, estimate.mean, estimate.high))
    return Markup(
        '<svg class="strip" viewBox="0 0 120 12" aria-hidden="true">'
        '<line x1="60" y1="0" x2="60" y2="12" stroke="#b9b9b3" stroke-width="1"/>'
        f'<line x1="{low:.1f}" y1="6" x2="{high:.1f}" y2="6" stroke="{colour}" stroke-width="2"/>'
        f'<circle cx="{mean:.1f}" cy="6" r="3" fill="{colour}"/></svg>'
    )
