"""The line style of each method: one colour, dash and marker in every figure and table of a report.

Any two of the first six methods differ in colour, dash and marker alike; tests simulate deuteranopia, protanopia and
greyscale. Each colour is at least 3:1 against the page, in the light and in the dark scheme. Controls are grey, with
markers that no other method has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup


@dataclass(frozen=True)
class Tone:
    """A colour under the two schemes.

    Attributes:
        variable: the CSS custom property that holds it.
        light: on a light page and on paper.
        dark: on a dark page.
    """

    variable: str
    light: str
    dark: str


@dataclass(frozen=True)
class LineStyle:
    """How a method is drawn.

    Attributes:
        tone: its colour.
        dash: matplotlib's line style.
        marker: matplotlib's marker, one of `MARKERS`.
    """

    tone: Tone
    dash: Any
    marker: str

    @property
    def colour(self) -> str:
        """Its colour on paper."""
        return self.tone.light


# Found by a search for six colours of six hues whose least distance is large to readers with any colour vision.
TONES = (
    Tone("--series-1", "#3d6bd8", "#268af4"),
    Tone("--series-2", "#662018", "#d78b5d"),
    Tone("--series-3", "#026f52", "#abf3c1"),
    Tone("--series-4", "#e66491", "#c14171"),
    Tone("--series-5", "#652d77", "#f4b7fa"),
    Tone("--series-6", "#a27c26", "#ceb303"),
)
GREY = Tone("--series-control", "#767672", "#9b9b96")
# In units of the line's width, as matplotlib and the swatches take them; solid first.
DASHES: tuple[Any, ...] = (
    "-",
    (0, (5, 1.6)),
    (0, (1.4, 1.2)),
    (0, (5, 1.4, 1.2, 1.4)),
    (0, (9, 1.8)),
    (0, (5, 1.4, 1.2, 1.4, 1.2, 1.4)),
)
# matplotlib's marker -> the same as an SVG path about the origin, 6 units wide.
MARKERS = {
    "o": "M-3 0a3 3 0 1 0 6 0a3 3 0 1 0 -6 0z",
    "s": "M-2.7 -2.7h5.4v5.4h-5.4z",
    "^": "M0 -3.2L3.2 2.8H-3.2z",
    "D": "M0 -3.7L3.7 0L0 3.7L-3.7 0z",
    "v": "M0 3.2L3.2 -2.8H-3.2z",
    "P": "M-1.1 -3.3h2.2v2.2h2.2v2.2h-2.2v2.2h-2.2v-2.2h-2.2v-2.2h2.2z",
    "*": "M0 -4L1 -1.3L3.8 -1.2L1.6 .5L2.4 3.2L0 1.6L-2.4 3.2L-1.6 .5L-3.8 -1.2L-1 -1.3z",
}
CONTROL_MARKERS = {
    "x": "M-2.6 -2.6L2.6 2.6M-2.6 2.6L2.6 -2.6",
    "+": "M-3.2 0H3.2M0 -3.2V3.2",
    "1": "M0 0V3.4M0 0L-3 -1.8M0 0L3 -1.8",
    "2": "M0 0V-3.4M0 0L-3 1.8M0 0L3 1.8",
}


def line_styles(methods: Sequence[str], controls: Sequence[str] = ()) -> dict[str, LineStyle]:
    """The style of each method, in their order; those of `controls` are grey.

    The first 252 methods, and the first 12 controls, differ from each other.
    """
    others = [method for method in methods if method not in controls]
    return {
        method: _control_style(controls.index(method)) if method in controls else _style(others.index(method))
        for method in methods
    }


def swatch(style: LineStyle) -> Markup:
    """A short line in a style, with its marker, for tables and legends."""
    colour = f"var({style.tone.variable})"
    marker = MARKERS.get(style.marker) or CONTROL_MARKERS[style.marker]
    fill = colour if style.marker in MARKERS else "none"
    return Markup(
        '<svg class="swatch" viewBox="0 0 36 10" aria-hidden="true">'
        f'<path d="M0 5H36" style="stroke:{colour}" stroke-width="2" stroke-dasharray="{_svg_dash(style.dash)}"/>'
        f'<path d="{marker}" transform="translate(18 5)" style="stroke:{colour};fill:{fill}" stroke-width="1"/></svg>'
    )


def custom_properties() -> Markup:
    """The rules of a style sheet that set every colour, for both schemes; paper takes the light ones."""
    light, dark = (
        "; ".join(f"{tone.variable}: {getattr(tone, scheme)}" for tone in (*TONES, GREY))
        for scheme in ("light", "dark")
    )
    return Markup(f":root {{ {light}; }}\n@media screen and (prefers-color-scheme: dark) {{ :root {{ {dark}; }} }}\n")


def _style(position: int) -> LineStyle:
    # Each round of colours shifts the dashes by one, so that colour and dash repeat only after 36 methods.
    colour, turn = position % len(TONES), position // len(TONES)
    return LineStyle(TONES[colour], DASHES[(position + turn) % len(DASHES)], list(MARKERS)[position % len(MARKERS)])


def _control_style(position: int) -> LineStyle:
    dashes = (DASHES[2], DASHES[1], DASHES[3])
    return LineStyle(GREY, dashes[position % len(dashes)], list(CONTROL_MARKERS)[position % len(CONTROL_MARKERS)])


def _svg_dash(dash: Any) -> str:
    """matplotlib's dash as SVG's dash array, for a line 2 wide."""
    return "none" if dash == "-" else " ".join(f"{2 * length:g}" for length in dash[1])
