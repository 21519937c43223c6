"""matplotlib figures as SVG elements of the page: its colours, its typeface, ids that no other figure has, and a name.

Every text of a figure is escaped, whatever it holds.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from xml.etree import ElementTree

from markupsafe import Markup
from matplotlib.figure import Figure

from pipeline.report.comparison import Estimate
from pipeline.report.drawing import FAINT, INK, RULE, SOFT, STYLE, printable
from pipeline.report.styles import GREY, TONES, LineStyle

# A colour of a figure -> what it is on the page, in either scheme.
PAGE_COLOURS: Mapping[str, str] = {
    **{tone.light: f"var({tone.variable})" for tone in (*TONES, GREY)},
    **{INK: "currentColor", STYLE["axes.edgecolor"]: "var(--soft)"},
    **{SOFT: "var(--soft)", FAINT: "var(--faint)", RULE: "var(--line)", "#ffffff": "var(--paper)"},
}
_COLOUR = re.compile(r"#[0-9a-f]{6}")
_FONT = re.compile(r"font-family:[^;]*; ?")
_NUMBER = re.compile(r"-?\d+\.\d{2,}")
_REFERENCE = re.compile(r"#([\w.-]+)")
_DRAWN = ("d", "x", "y", "transform", "points", "width", "height")


def element(figure: Figure, prefix: str, title: str, description: str) -> Markup:
    """A figure as an SVG element that takes the colours of the page.

    Args:
        figure: drawn and saved within `pipeline.report.drawing.styled`.
        prefix: begins every id; no other figure of the page has it.
        title: what the figure shows.
        description: what can be read from it.
    """
    target = io.StringIO()
    figure.savefig(target, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    text = target.getvalue()
    drawn = ElementTree.fromstring(text[text.index("<svg") :])
    ids = {name: f"{prefix}-{number}" for number, name in enumerate(_targets(drawn))}
    about = {f"{prefix}-title": ("title", title), f"{prefix}-desc": ("desc", description)}
    root = ElementTree.Element("svg", {"class": "figure", "viewBox": drawn.attrib["viewBox"], "role": "img"})
    root.attrib |= {"aria-labelledby": " ".join(about), "stroke-linejoin": "round", "stroke-linecap": "butt"}
    for name, (tag, words) in about.items():
        ElementTree.SubElement(root, tag, {"id": name}).text = printable(words)
    root.extend(_cleaned(drawn, ids))
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _targets(root: ElementTree.Element) -> list[str]:
    """The ids that another element refers to, in order."""
    texts = [value for node in root.iter() for name, value in node.items() if "#" in value and name != "id"]
    used = {name for text in texts for name in _REFERENCE.findall(text)}
    return [node.attrib["id"] for node in root.iter() if node.get("id") in used]


def _cleaned(parent: ElementTree.Element, ids: Mapping[str, str]) -> list[ElementTree.Element]:
    """The children of an element without namespaces, typefaces, groups that say nothing and what is left of white
    space; with the page's colours, and with the ids of `ids` alone."""
    nodes: list[ElementTree.Element] = []
    for child in parent:
        tag = child.tag.rpartition("}")[2]
        attributes = _attributes(child, ids)
        # The style sheet would hold for all of the page; the path is a background.
        if tag in ("metadata", "style") or attributes.get("style") == "fill: none":
            continue
        if tag == "g" and not attributes:
            nodes += _cleaned(child, ids)
            continue
        node = ElementTree.Element(tag, attributes)
        node.text = (child.text or "").strip() or None
        node.extend(_cleaned(child, ids))
        if len(node) or tag not in ("g", "defs"):
            nodes.append(node)
    return nodes


def _attributes(node: ElementTree.Element, ids: Mapping[str, str]) -> dict[str, str]:
    attributes = {}
    for full_name, value in node.items():
        name = full_name.rpartition("}")[2]
        if name == "id":
            if value in ids:
                attributes["id"] = ids[value]
        elif name == "style":
            attributes["style"] = _FONT.sub("", _COLOUR.sub(lambda match: PAGE_COLOURS.get(match[0], match[0]), value))
        elif name in _DRAWN:
            if not value.startswith("rotate(-0 "):
                attributes[name] = " ".join(_NUMBER.sub(lambda match: f"{float(match[0]):.1f}", value).split())
        elif name != "type":
            attributes[name] = _REFERENCE.sub(lambda match: f"#{ids.get(match[1], match[1])}", value)
    return attributes


def strip(estimate: Estimate, scale: float, style: LineStyle) -> Markup:
    """An interval about zero on an axis from -scale to scale, in the colour of a method."""
    if estimate.mean is None or estimate.low is None or estimate.high is None or scale <= 0:
        return Markup("")
    colour = f"var({style.tone.variable})"
    low, mean, high = (60 + 56 * value / scale for value in (estimate.low, estimate.mean, estimate.high))
    return Markup(
        '<svg class="strip" viewBox="0 0 120 12" aria-hidden="true">'
        '<path d="M60 0V12" style="stroke:var(--soft)" stroke-width="1"/>'
        f'<path d="M{low:.1f} 6H{high:.1f}" style="stroke:{colour}" stroke-width="2"/>'
        f'<circle cx="{mean:.1f}" cy="6" r="3" style="fill:{colour}"/></svg>'
    )
