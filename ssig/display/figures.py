"""Figures of pictures in rows, as HTML for a notebook and as one PNG. Every text is escaped in the HTML."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ssig.display.overlays import data_uri
from ssig.display.palettes import DIVERGING, SEQUENTIAL, coloured, gradient
from ssig.errors import UsageError

SMALLEST = 224  # pixels of a picture's shorter side; smaller maps are enlarged without smoothing

_GAP, _MARGIN = 12, 16
_NARROWEST = 150
_TITLE, _NOTE = 14, 12  # sizes of text, in pixels
_LINE = 18
_INK, _FADED = "#1f1f1d", "#5f5f5b"
_LEGENDS = {True: ("against the target", "for it"), False: ("0", "most")}


@dataclass(frozen=True)
class Panel:
    """A picture, with a title below it and perhaps a note."""

    picture: Image.Image
    title: str
    note: str = ""


@dataclass(frozen=True)
class Row:
    """Pictures side by side, with a heading above them and perhaps a note."""

    panels: tuple[Panel, ...]
    heading: str = ""
    note: str = ""


@dataclass(frozen=True)
class Figure:
    """Rows of pictures.

    Attributes:
        rows: at least one.
        palettes: which palettes are in use: True for that of signed maps, False for that of magnitudes.
        note: a line below all.
    """

    rows: tuple[Row, ...]
    palettes: frozenset[bool] = frozenset()
    note: str = ""

    def html(self) -> str:
        """An element without script or network that takes the page's own colours."""
        legends = " &ensp; ".join(_legend(signed) for signed in sorted(self.palettes))
        below = "<br>".join(part for part in (legends, escape(self.note)) if part)
        foot = f'<div style="opacity:.75;font-size:12px">{below}</div>' if below else ""
        rows = "".join(_row(row) for row in self.rows)
        return f'<div style="font:13px/1.45 system-ui,sans-serif;max-width:100%">{rows}{foot}</div>'

    def picture(self) -> Image.Image:
        """The same as one picture on white."""
        widths = [_MARGIN * 2 + sum(panel.picture.width + _GAP for panel in row.panels) - _GAP for row in self.rows]
        width = max(widths)
        heights = [_height(row, width) for row in self.rows]
        foot = (_LINE + 6) * bool(self.palettes) + _LINE * len(_wrapped(self.note, width - 2 * _MARGIN, _NOTE))
        canvas = Image.new("RGB", (width, sum(heights) + foot + _MARGIN), "white")
        top = 0
        for row, height in zip(self.rows, heights, strict=True):
            _draw_row(canvas, row, top)
            top += height
        _draw_foot(canvas, self, top)
        return canvas


class Displayed(Protocol):
    """What has a figure: a notebook shows it."""

    def figure(self) -> Figure: ...


def show(displayed: Displayed) -> None:
    """Shows a figure: below the cell of a notebook, else in the viewer of pictures that Pillow finds."""
    import sys

    notebook = sys.modules.get("IPython")
    if notebook is not None and notebook.get_ipython() is not None:
        notebook.display.display(displayed)
    else:
        displayed.figure().picture().show()


def save_picture(figure: Figure, path: Path) -> None:
    """Writes a figure as PNG.

    Raises:
        UsageError: another suffix.
    """
    if path.suffix.lower() != ".png":
        raise UsageError("path", str(path), "a file name that ends in .png")
    figure.picture().save(path, format="PNG", optimize=True)


def size_for(shape: Sequence[int]) -> tuple[int, int]:
    """(width, height) of the pictures of maps (H, W): a whole multiple, so that pixels stay square."""
    height, width = shape
    factor = -(-SMALLEST // min(height, width))
    return width * factor, height * factor


def _row(row: Row) -> str:
    heading = f'<div style="font-weight:600;margin-top:4px">{escape(row.heading)}</div>' if row.heading else ""
    note = f'<div style="opacity:.75">{escape(row.note)}</div>' if row.note else ""
    panels = "".join(_panel(panel) for panel in row.panels)
    style = "display:flex;flex-wrap:wrap;gap:12px;margin:8px 0 10px"
    return f'{heading}{note}<div style="{style}">{panels}</div>'


def _panel(panel: Panel) -> str:
    width = panel.picture.width
    title, note = escape(panel.title), escape(panel.note)
    below = f'<br><span style="opacity:.75">{note}</span>' if note else ""
    picture = (
        f'<img src="{data_uri(panel.picture, "WEBP")}" alt="{title}" width="{width}" height="{panel.picture.height}" '
        'style="display:block;max-width:100%;height:auto;margin:0 0 4px;image-rendering:auto">'
    )
    # Narrower where a page has no room for a row, as long as a map can be seen.
    style = f"margin:0;flex:1 1 {_NARROWEST}px;max-width:{width}px;font-size:12px"
    return f'<figure style="{style}">{picture}<figcaption>{title}{below}</figcaption></figure>'


def _legend(signed: bool) -> str:
    left, right = _LEGENDS[signed]
    bar = f"background:linear-gradient(to right,{gradient(DIVERGING if signed else SEQUENTIAL)})"
    shape = "display:inline-block;width:96px;height:9px;margin:0 6px;border-radius:2px"
    return f'<span style="white-space:nowrap">{left}<span style="{shape};{bar}"></span>{right}</span>'


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _wrapped(text: str, width: int, size: int) -> list[str]:
    """Lines of a text that fit a width in pixels, by the mean width of a letter."""
    return textwrap.wrap(text, max(8, int(width / (0.53 * size)))) if text else []


def _height(row: Row, width: int) -> int:
    return _above(row, width) + max(panel.picture.height + _below(panel) for panel in row.panels) + _GAP


def _above(row: Row, width: int) -> int:
    lines = len(_wrapped(row.heading, width - 2 * _MARGIN, _TITLE)) + len(
        _wrapped(row.note, width - 2 * _MARGIN, _NOTE)
    )
    return _MARGIN + lines * _LINE + (4 if lines else 0)


def _below(panel: Panel) -> int:
    width = panel.picture.width
    return 4 + _LINE * (len(_wrapped(panel.title, width, _NOTE)) + len(_wrapped(panel.note, width, _NOTE)))


def _draw_row(canvas: Image.Image, row: Row, top: int) -> None:
    across = canvas.width - 2 * _MARGIN
    below = _draw_lines(canvas, _wrapped(row.heading, across, _TITLE), (_MARGIN, top + _MARGIN), _TITLE, _INK)
    _draw_lines(canvas, _wrapped(row.note, across, _NOTE), (_MARGIN, below), _NOTE, _FADED)
    left, start = _MARGIN, top + _above(row, canvas.width)
    for panel in row.panels:
        canvas.paste(panel.picture, (left, start))
        width, under = panel.picture.width, start + panel.picture.height + 4
        under = _draw_lines(canvas, _wrapped(panel.title, width, _NOTE), (left, under), _NOTE, _INK)
        _draw_lines(canvas, _wrapped(panel.note, width, _NOTE), (left, under), _NOTE, _FADED)
        left += width + _GAP


def _draw_foot(canvas: Image.Image, figure: Figure, top: int) -> None:
    left = _MARGIN
    for signed in sorted(figure.palettes):
        left = _draw_legend(canvas, signed, left, top)
    below = top + (_LINE + 6) * bool(figure.palettes)
    lines = _wrapped(figure.note, canvas.width - 2 * _MARGIN, _NOTE)
    _draw_lines(canvas, lines, (_MARGIN, below), _NOTE, _FADED)


def _draw_legend(canvas: Image.Image, signed: bool, left: int, top: int) -> int:
    """Draws a palette with its ends named; gives where the next begins."""
    draw, font = ImageDraw.Draw(canvas), _font(_NOTE)
    first, last = _LEGENDS[signed]
    draw.text((left, top), first, _FADED, font)
    left += round(draw.textlength(first, font)) + 6
    colours = coloured(np.linspace(-1 if signed else 0, 1, 96), signed)
    for offset, colour in enumerate(colours.tolist()):
        red, green, blue = (round(255 * part) for part in colour)
        draw.line((left + offset, top + 3, left + offset, top + 11), (red, green, blue))
    draw.text((left + 102, top), last, _FADED, font)
    return left + 102 + round(draw.textlength(last, font)) + 24


def _draw_lines(canvas: Image.Image, lines: list[str], place: tuple[int, int], size: int, colour: str) -> int:
    """Draws lines from a place down; gives the height below them."""
    left, top = place
    for line in lines:
        ImageDraw.Draw(canvas).text((left, top), line, colour, _font(size))
        top += _LINE
    return top
